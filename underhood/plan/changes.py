"""One change to one part of a system: what a suspect undoes, what the bench swaps, what a patch keeps.

Parts on the training side (a new bundle is needed): `label` sets the label of
the rows where the predicate holds, `training rows` leaves them out. Parts of a
decision (applied by `decide`): `input` sets a column to a value or to what an
expression makes of the row, `route` gives an action, `threshold` moves a cut. `bundle` swaps the whole artefact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from underhood.ground.errors import ProjectError, nearest
from underhood.plan.exprs import Expr, as_json, from_json, shown, shown_value

LABEL, ROWS, INPUT, ROUTE, THRESHOLD, BUNDLE = (
    "label",
    "training rows",
    "input",
    "route",
    "threshold",
    "bundle",
)
TRAINING_PARTS = (LABEL, ROWS)
RECOMPUTED = "@recomputed"  # an input's new value that is what history, as known when asked, gives
PARTS = (LABEL, ROWS, INPUT, ROUTE, THRESHOLD, BUNDLE)


@dataclass(frozen=True)
class Change:
    """`part` is changed where `where` holds (everywhere if null) to the value `to`; `name` says which one.

    `where` reads the columns of the view that the part belongs to: `row.…`,
    `features.…` and, for the training side only, `facts.…`. `to` may be an
    expression over `row.…`, settled by type, where the part is an input.
    """

    part: str
    name: str
    to: Any
    where: Expr | None = None

    def __str__(self) -> str:
        return described(self)


def is_recomputed(change: Change) -> bool:
    """Whether an input's new value is what history, as known when asked, gives."""
    return change.part == INPUT and isinstance(change.to, str) and change.to == RECOMPUTED


def described(change: Change) -> str:
    """The change in one line."""
    where = f" where {shown(change.where)}" if change.where is not None else ""
    if change.part == LABEL:
        return f"label {change.name} = {shown_value(change.to)}{where}"
    if change.part == ROWS:
        return f"leave out training rows{where}"
    if change.part == ROUTE:
        return f"action {change.to}{where}"
    if change.part == THRESHOLD:
        return f"{change.name} from {change.to:.3g} on"
    if is_recomputed(change):
        return f"{change.name} as history gives it{where}"
    if change.part == INPUT:
        value = shown(change.to) if isinstance(change.to, Expr) else shown_value(change.to)
        return f"{change.name} = {value}{where}"
    return f"bundle {change.to}"


def change_json(change: Change) -> dict[str, Any]:
    """The change as a readable file keeps it; `reads` is for people only."""
    where = None if change.where is None else as_json(change.where)
    return {
        "part": change.part,
        "name": change.name,
        "to": {"expr": as_json(change.to)} if isinstance(change.to, Expr) else change.to,
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
    return Change(body["part"], str(body.get("name", "")), to, where)
