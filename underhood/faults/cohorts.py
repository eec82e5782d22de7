"""Whom a fault touches: since when, until when, and which level of which column they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

from underhood.faults.kinds import Scene
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted, sql_value

PURE = 0.9  # share of a cohort that shows the fault
BY_CHANCE = log(1e-8)  # with some hundred levels looked at


@dataclass(frozen=True)
class Cohort:
    """The decisions that show a fault: a predicate over the view `decisions`, the first moment, how many.

    `share` of the decisions that the predicate selects show it; `says` is the
    predicate in words, beginning with a comma or empty.
    """

    where: Expr | None
    since: str
    n: int
    share: float
    says: str


def cohort_of(scene: Scene, flag: str, can: str = "true", struck: Sequence[str] = ()) -> Cohort:
    """The narrowest description of the decisions for which `flag` holds, among those that `can` show it.

    Both are SQL over decisions `d` and questions `a`. First the span of time, then
    the one level of one column in which it holds nearly everywhere in that span and
    nowhere else; a part of all decisions (a canary) has no such level. Inputs in `struck` came
    wrong: a decision has the level that was served, so where history's is all that they share, no predicate
    names them, but the one value served in its place does.
    """
    engine = scene.engine
    joined = f"(select * from decisions) d join asks a on d.key = a.key and ({can})"
    n, since, until = engine.rows(
        f"select count(*), min(d.asked_at), max(d.asked_at) from {joined} where {flag} and d.status = 'ok'"
    )[0]
    first, last, everyone = engine.rows("select min(asked_at), max(asked_at), count(*) from decisions")[0]
    if not n:
        return Cohort(None, "", 0, 0.0, "")
    span, says = _span(since, until, first, last)
    inside = f"d.asked_at between TIMESTAMP '{since}' and TIMESTAMP '{until}'"
    within = engine.rows(f"select count(*) from {joined} where {inside}")[0][0]
    if n >= PURE * within or everyone < 2:
        return Cohort(span, str(since), n, n / max(1, within), says)
    level = _level(scene, flag, f"{joined} where {inside}", n, struck)
    if level is None:
        return Cohort(span, str(since), n, n / max(1, within), f"{says}, for {n / within:.0%} of them")
    name, value, share = level
    where = col(f"row.{name}") == value
    some = "" if share >= PURE else f", for {share:.0%} of them"
    says = f"{says} where {name} = {value!r}{some}"
    return Cohort(where if span is None else span & where, str(since), n, share, says)


def _span(since: Any, until: Any, first: Any, last: Any) -> tuple[Expr | None, str]:
    at = col("asked_at")
    begins, ends = since > first, until < last
    if begins and ends:
        return (at >= since) & (at <= until), f" from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
    if begins:
        return at >= since, f" since {since:%Y-%m-%d %H:%M} UTC"
    return (at <= until, f" until {until:%Y-%m-%d %H:%M} UTC") if ends else (None, "")


def _level(scene: Scene, flag: str, rows: str, n: int, struck: Sequence[str]) -> tuple[str, Any, float] | None:
    """The level that nearly all that show the fault share, and nearly all of whose decisions show it.

    Or so few of all decisions have the level that it is no chance that all who show the fault do. Only the commonest
    level of those that show it can be that: it is found first, then counted in one more pass. Of a column that came
    wrong it is the level served, and only if no other column has one: one value for all tells itself, not whom.
    """
    # where a number came wrong, one value for all may be a cap: those beyond it are not whom it touches
    kinds = scene.plan.inputs.items()
    names = [c for c, kind in kinds if kind == TEXT or (kind in (FLAG, NUMBER) and c not in struck)]
    columns = [f"d.{quoted('row.' + c)}" if c in struck else f"a.{quoted(c)}" for c in names]
    common = scene.engine.rows(f"select {', '.join(f'mode({c})' for c in columns)} from {rows} and {flag}")[0]
    tried = [(c, column, v) for c, column, v in zip(names, columns, common, strict=True) if _names(v)]
    if not tried:
        return None
    counts = ", ".join(
        f"count(*) filter (where {flag} and {is_it}), count(*) filter (where {is_it})"
        for is_it in (f"{column} = {sql_value(v)}" for _, column, v in tried)
    )
    within, *found = scene.engine.rows(f"select count(*), {counts} from {rows}")[0]
    best: tuple[str, Any, float] | None = None
    for (name, _, value), hit, of in zip(tried, found[::2], found[1::2], strict=True):
        is_all = hit == n and n * log(of / within) < BY_CHANCE and name not in struck
        if hit < PURE * n or not (hit >= PURE * of or is_all):
            continue
        worth = (name not in struck, hit / of)
        if best is None or worth > (best[0] not in struck, best[2]):
            best = (name, value, hit / of)
    return best


def _names(level: Any) -> bool:
    """Whether a level names a cohort: no null, no number without end."""
    return level is not None and not (isinstance(level, float) and not isfinite(level))
