"""A decision made again from the row that was captured, compared layer by layer with what was served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from underhood.ground.errors import NotCapturedError, NotFoundError
from underhood.ground.records import Decision, time_text
from underhood.plan.joins import Plan
from underhood.plan.render import quoted, sql_value
from underhood.run.decide import Decide
from underhood.tables.local import Engine

LAYERS = ("input", "features", "score", "action")


@dataclass(frozen=True)
class Difference:
    """One value that came out otherwise when decided again."""

    layer: str
    name: str
    served: Any
    again: Any


@dataclass(frozen=True)
class Replay:
    """The outcome of a replay: identical, or the first layer that differs and how.

    `digits` are the decimals at which scores were compared, those that a log made elsewhere
    was written with; null: all of them, to the last bit.
    """

    id: str
    first: str
    differences: tuple[Difference, ...]
    digits: int | None = None

    @property
    def is_identical(self) -> bool:
        """Whether every layer came out the same, as far as was compared."""
        return not self.first

    @property
    def compared(self) -> str:
        """How far scores were compared, in words."""
        return "to the last bit" if self.digits is None else f"to {self.digits} decimals, as logged"


def replay(decision: Decision, decide: Decide, digits: int | None = None) -> Replay:
    """The same decision, made again from the row that was captured, by `decide` = decider(bundle, patches).

    Compares layer by layer and stops naming at the first difference: later ones
    are usually its children. `digits` is what the bundle's scores are rounded to, if they are
    (`digits_of`). Raises NotCapturedError if the decision was logged without its row.
    """
    if not decision.row:
        raise NotCapturedError(
            "was logged without its row", decision.id, "replay needs the row: capture it from now on"
        )
    if decision.status != "ok":
        return Replay(decision.id, "", (), digits)
    again = decide(
        decision.row,
        key=decision.key,
        asked_at=decision.asked_at,
        now=datetime.fromisoformat(decision.decided_at),
    )
    for layer, served, made in (
        ("features", decision.features, again.features),
        ("score", {"score": decision.score}, {"score": again.score}),
        ("action", {"action": decision.action}, {"action": again.action}),
    ):
        found = [
            Difference(layer, name, served.get(name), value)
            for name, value in made.items()
            if served.get(name) != value
        ]
        if found:
            return Replay(decision.id, layer, tuple(found), digits)
    return Replay(decision.id, "", (), digits)


def recompute(engine: Engine, plan: Plan, decision: Decision) -> tuple[Difference, ...] | None:
    """Inputs that history, as known then, gives otherwise than captured; null if the question is not in the sources.

    Numbers are equal within 1e-9. Needs the view `asks`.
    """
    columns = ", ".join(quoted(c) for c in plan.inputs)
    rows = engine.dicts(f"select {columns} from asks where key = {sql_value(decision.key)}")
    if not rows:
        return None
    found = []
    for name in plan.inputs:
        served, again = decision.row.get(name), rows[0][name]
        again = time_text(again) if isinstance(again, datetime) else again
        if not _close(served, again):
            found.append(Difference("input", name, served, again))
    return tuple(found)


def _close(first: Any, second: Any) -> bool:
    if isinstance(first, (int, float)) and isinstance(second, (int, float)):
        return abs(first - second) <= 1e-9 * max(1.0, abs(second))
    return bool(first == second)


def read_decision(engine: Engine, plan: Plan, wanted: str) -> Decision:
    """The decision with this id, the beginning of an id, or this key (by the newest bundle).

    Raises NotFoundError if there is none, or several begin so.
    """
    text = sql_value(wanted)
    rows = engine.dicts(
        f'select d.* from decided d left join "bundle ranks" r using (bundle) '
        f"where id = {text} or (starts_with(id, {text}) and {text} <> '') or key = {text} "
        f"order by id = {text} desc, rank nulls last, decided_at desc limit 1"
    )
    if not rows:
        raise NotFoundError(
            "there is no such decision", wanted, 'list some: underhood query "select id, key from decisions"'
        )
    if wanted not in (rows[0]["id"], rows[0]["key"]):
        n = engine.rows(f"select count(distinct id) from decided where starts_with(id, {text})")[0][0]
        if n > 1:
            raise NotFoundError(f"{n:,} decisions begin with it", wanted, "give more digits of the id, or the key")
    return decision_from(rows[0], plan)


def decision_from(row: Mapping[str, Any], plan: Plan) -> Decision:
    """A row of the view `decisions` as a decision."""
    times = {n for n, t in plan.inputs.items() if t == "time"}

    def value(name: str) -> Any:
        found = row[f"row.{name}"]
        return time_text(found) if name in times and found is not None else found

    captured = {n: value(n) for n in plan.inputs}
    return Decision(
        id=row["id"],
        key=row["key"],
        asked_at=time_text(row["asked_at"]),
        decided_at=time_text(row["decided_at"]),
        bundle=row["bundle"],
        row=captured if any(v is not None for v in captured.values()) else {},
        features={n: row[f"features.{n}"] for n in plan.features},
        score=row["score"],
        action=row["action"],
        reason=row["reason"],
        status=row["status"],
        flags=tuple(row["flags"] or ()),
        patches=tuple(row["patches"] or ()),
    )
