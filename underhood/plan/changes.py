"""One change to one part of a system: what a suspect undoes, what the bench swaps, what a patch keeps.

Parts on the training side (a new bundle is needed): `label` sets the label of
the rows where the predicate holds, `training rows` leaves them out, `training weights`
counts each `to` times, `training feature` is computed but not learned from.

Parts of a decision (applied by `decide`): `input` sets a column to a value or to what an
expression makes of the row, `route` gives an action, `threshold` moves a cut, `calibration`
(intercept and slope in log-odds) maps the score before the cuts, `collect` only names the
decisions whose outcome is wanted, `to` of them.

Deployed, not patched: `bundle` swaps the whole artefact, `training until` is one that
learned from what was known by another moment, and decides what was asked from then on.

Drills know more parts, in a masked clone of the record only: `source` sets an input in history
too, `feature` one after it was made, `score` the score or the order of the vector, `outcome` what became known,
`traffic` drops or repeats questions, `taught` sets what the training set holds where history has it
otherwise (its label, an input, or with the name "rows" how often a row is drawn).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from underhood.ground.errors import ProjectError, nearest
from underhood.plan.exprs import Expr, as_json, from_json, shown, shown_value, wrap

LABEL, ROWS, INPUT, ROUTE, THRESHOLD, BUNDLE = (
    "label",
    "training rows",
    "input",
    "route",
    "threshold",
    "bundle",
)
WEIGHTS, WITHOUT, UNTIL, CALIBRATION, COLLECT = (
    "training weights",
    "training feature",
    "training until",
    "calibration",
    "collect",
)
SOURCE, FEATURE, SCORE, OUTCOME, TRAFFIC, TAUGHT = "source", "feature", "score", "outcome", "traffic", "taught"
TRAINING_PARTS = (LABEL, ROWS, WEIGHTS, WITHOUT)
DECISION_PARTS = (INPUT, ROUTE, THRESHOLD, CALIBRATION, COLLECT)
DRILL_PARTS = (SOURCE, FEATURE, SCORE, OUTCOME, TRAFFIC, TAUGHT)
RECOMPUTED = "@recomputed"  # an input's new value that is what history, as known when asked, gives; so for training
PARTS = (*TRAINING_PARTS, UNTIL, *DECISION_PARTS, BUNDLE, *DRILL_PARTS)


@dataclass(frozen=True)
class Change:
    """`part` is changed where `where` holds (everywhere if null) to the value `to`; `name` says which one.

    `where` reads the columns of the view that the part belongs to: `row.…`,
    `features.…` and, for the training side only, `facts.…` and `label`. `to` may be an
    expression over the same columns, settled by type, where the part is an input or the label.
    """

    part: str
    name: str
    to: Any
    where: Expr | None = None

    def __str__(self) -> str:
        return described(self)


def is_recomputed(change: Change) -> bool:
    """Whether an input's new value is what history, as known when asked, gives; a feature's, what its row gives."""
    return change.part in (INPUT, FEATURE) and isinstance(change.to, str) and change.to == RECOMPUTED


def is_redrawn(change: Change) -> bool:
    """Whether the training rows are those that history gives, each question once, whatever was drawn before."""
    return change.part == ROWS and isinstance(change.to, str) and change.to == RECOMPUTED


def described(change: Change) -> str:
    """The change in one line."""
    where = f" where {shown(change.where)}" if change.where is not None else ""
    if change.part == LABEL:
        to = shown(change.to) if isinstance(change.to, Expr) else shown_value(change.to)
        return f"label {change.name} = {to}{where}"
    if is_redrawn(change):
        return "training rows as history gives them, each once"
    if change.part == ROWS:
        return f"leave out training rows{where}"
    if change.part in _SAID:
        return _SAID[change.part](change) + where
    if change.part == ROUTE:
        return f"action {change.to}{where}"
    if change.part == THRESHOLD:
        return f"{change.name} from {change.to:.3g} on"
    if is_recomputed(change):
        return f"{change.name} as {'history' if change.part == INPUT else 'its definition'} gives it{where}"
    if change.part in (INPUT, *DRILL_PARTS):
        value = shown(change.to) if isinstance(change.to, Expr) else shown_value(change.to)
        said = f"{change.name} = {value}" if change.part == INPUT else f"{change.part} {change.name} = {value}"
        return f"{said}{where}"
    return f"bundle {change.to}"


_SAID: Mapping[str, Callable[[Change], str]] = {
    WEIGHTS: lambda c: f"count training rows {c.to:.3g} times",
    WITHOUT: lambda c: f"learn without {c.name}",
    UNTIL: lambda c: f"learn from what was known by {c.to[:16]} UTC",
    CALIBRATION: lambda c: f"log-odds of the score × {c.to[1]:.3g} {c.to[0]:+.3g}",
    COLLECT: lambda c: f"collect outcomes of {c.to:,.0f}",
}


def in_words(reads: Sequence[str]) -> str:
    """Changes that belong together, as they read: the first, and how many more there are."""
    more = len(reads) - 1
    return reads[0] + (f", and {more} more like it" if more else "")


def change_json(change: Change) -> dict[str, Any]:
    """The change as a readable file keeps it; `reads` is for people only."""
    where = None if change.where is None else as_json(change.where)
    return {
        "part": change.part,
        "name": change.name,
        "to": {"expr": as_json(wrap(change.to))} if isinstance(change.to, (Expr, datetime)) else change.to,
        "where": where,
        "reads": described(change),
    }


def change_from(body: Mapping[str, Any]) -> Change:
    """The change that change_json wrote. Raises ProjectError on a part that does not exist."""
    if body.get("part") not in PARTS:
        raise ProjectError(
            f"there is no part {body.get('part')!r}", "patch.part", nearest(str(body.get("part")), PARTS)
        )
    where = None if body.get("where") is None else from_json(body["where"])
    to = body.get("to")
    if isinstance(to, Mapping) and "expr" in to:
        to = from_json(to["expr"])
    if body["part"] == CALIBRATION and isinstance(to, list):
        to = (float(to[0]), float(to[1]))
    return Change(body["part"], str(body.get("name", "")), to, where)
