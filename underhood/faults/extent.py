"""How far a contradiction reaches: since when, until when, and which predicate its rows share.

Not every row that a fault touches can show it: a cut that was moved shows only
between the old and the new one. So each look here is among the rows that could
show the fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log, log10
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Scene
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted, to_sql

PURE, COVERS = 0.9, 0.97  # share of the rows of a predicate that show it; share of those that show it in the predicate
LEVELS, MOST = 400, 5  # of a column that are looked at; that one predicate may name
ENOUGH = 10  # rows that show it; fewer have no predicate in common but by chance
BY_CHANCE = log(1e-4)
NEXT_TO_NOTHING = 0.25  # of the rate at which rows show something, the rate before


@dataclass(frozen=True)
class Extent:
    """Rows that show a fault: a predicate over the view `decisions`, its first moment (UTC text), how many.

    `cohort` is the predicate without its span of time. `share` of the rows that could
    show it there do; below PURE it is a part of all (a canary). `says` is the predicate
    in words, beginning with a space or empty.
    """

    where: Expr | None
    cohort: Expr | None
    since: str
    n: int
    share: float
    says: str

    @property
    def is_whole(self) -> bool:
        """Whether nearly all rows of the predicate that could show the fault do."""
        return self.share >= PURE


def extent_of(
    scene: Scene, ids: Array, shows: Array, can: Array, table: str = "decisions", skip: Sequence[str] = ()
) -> Extent:
    """The narrowest description of the rows that show a fault among those that could.

    `ids` names the rows, `shows` and `can` are flags of each. `table` is `decisions` (by id)
    or `asks` (by key). Inputs in `skip` are no part of a predicate: they are what the fault changed.
    """
    can = can | shows
    scene.engine.adopt("extent", {"id": ids[can], "shows": shows[can]})
    key = "id" if table == "decisions" else "key"
    rows = f"{quoted(table)} d join extent e on d.{key} = e.id"
    n, since, until = scene.engine.rows(f"select count(*), min(d.asked_at), max(d.asked_at) from {rows} where shows")[0]
    if not n:
        return Extent(None, None, "", 0, 0.0, "")
    inside = f"d.asked_at between TIMESTAMP '{since}' and TIMESTAMP '{until}'"
    within, before, after = scene.engine.rows(
        f"select count(*) filter (where {inside}), count(*) filter (where d.asked_at < TIMESTAMP '{since}'), "
        f"count(*) filter (where d.asked_at > TIMESTAMP '{until}') from {rows}"
    )[0]
    found = None if n >= PURE * within or n < ENOUGH else _predicate(scene, f"{rows} where {inside}", n, table, skip)
    span, says = _span(since, until, n / within, before, after) if found is None else (None, "")
    if found is None:
        told = says if n >= PURE * within else f"{says}, for {n / within:.1%} of them"
        return Extent(span, None, str(since), n, n / within, told)
    cohort, share, words = found
    test = to_sql(settle_predicate(scene.plan, cohort)) if table == "decisions" else "true"
    before, after = scene.engine.rows(
        f"select count(*) filter (where d.asked_at < TIMESTAMP '{since}'), count(*) filter (where d.asked_at > "
        f"TIMESTAMP '{until}') from {rows} where {test}"
    )[0]
    span, says = _span(since, until, share, before, after)
    where = cohort if span is None else span & cohort
    return Extent(where, cohort, str(since), n, share, f"{says} where {words}")


def holds(scene: Scene, where: Expr | None) -> Array:
    """Whether the predicate holds for each decision that was not refused, in order of id; null does not."""
    test = "true" if where is None else to_sql(settle_predicate(scene.plan, where))
    rows = scene.engine.frame(f"select coalesce({test}, false) as h from decisions where status = 'ok' order by id")
    found: Array = rows["h"] > 0
    return found


def rises(shows: Array) -> tuple[int, float]:
    """How many of some rows in order of time come before they begin to show something, and how surely (nats).

    Of the rows that show it the likeliest first one, if the rate before is next to nothing of that behind: the
    log-likelihood ratio of two rates against one; 0 if there is none.
    """
    n, at = len(shows), np.flatnonzero(shows)
    at = at[at > 0]
    if not len(at):
        return 0, 0.0
    total = np.concatenate([[0], np.cumsum(shows)]).astype(float)
    before, behind = total[at], total[-1] - total[at]
    worth = _log_likelihood(before, at) + _log_likelihood(behind, n - at) - _log_likelihood(total[-1:], np.array([n]))
    is_new = before / at < NEXT_TO_NOTHING * behind / (n - at)
    best = int(np.argmax(np.where(is_new, worth, -np.inf)))
    return int(at[best]), float(worth[best]) if is_new[best] else 0.0


def _log_likelihood(k: Array, n: Array) -> Array:
    """Of `k` in `n` rows that show something, at the rate at which they do: an array of nats."""
    rate = np.clip(k / np.maximum(1, n), 1e-12, 1 - 1e-12)
    made: Array = k * np.log(rate) + (n - k) * np.log1p(-rate)
    return made


def roundest(low: float, high: float, near_low: bool = False) -> float:
    """The number of fewest digits above `low` and not above `high`: people choose numbers, and choose them round.

    Of several with as few digits, the nearest to `high`, or to `low`.
    """
    if not high > low:
        return high
    for digits in range(2 - floor(log10(high - low)) + 2):
        cut: float = (floor(low * 10**digits + 1e-9) + 1 if near_low else floor(high * 10**digits + 1e-9)) / 10**digits
        if low < cut <= high:
            return cut
    return high


def _span(since: Any, until: Any, rate: float, before: int, after: int) -> tuple[Expr | None, str]:
    """The span of time outside of which rows could have shown it, so many that it is no chance that none did."""
    missed = log(max(1e-12, 1 - min(rate, 1 - 1e-12)))
    at, begins, ends = col("asked_at"), before * missed < BY_CHANCE, after * missed < BY_CHANCE
    if begins and ends:
        return at.within(since, until), f" from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
    if begins:
        return at >= since, f" since {since:%Y-%m-%d %H:%M} UTC"
    return (at <= until, f" until {until:%Y-%m-%d %H:%M} UTC") if ends else (None, "")


def _predicate(scene: Scene, rows: str, n: int, table: str, skip: Sequence[str]) -> tuple[Expr, float, str] | None:
    """The levels of one column, or the span of one number, that nearly all that show it share.

    Nearly all rows of it show it too; or so few of all rows are in it that it is no chance that
    those that show it are.
    """
    within = scene.engine.rows(f"select count(*) from {rows}")[0][0]
    best: tuple[float, Expr, float, str] | None = None
    for name, kind in scene.plan.inputs.items():
        for found in _of_column(scene, name, kind, rows, n, table) if name not in skip else ():
            where, share, covers, words = found
            chance = n * log(max(1e-12, min(1.0, n * covers / share / within)))
            if covers < COVERS or (share < PURE and chance > 2 * BY_CHANCE):
                continue
            # a pure predicate beats any other
            worth = share * covers + (share >= PURE)
            if best is None or worth > best[0] + 1e-9:
                best = (worth, where, share, words)
    return None if best is None else best[1:]


def _of_column(
    scene: Scene, name: str, kind: str, rows: str, n: int, table: str
) -> list[tuple[Expr, float, float, str]]:
    column, row = quoted(f"row.{name}" if table == "decisions" else name), col(f"row.{name}")
    made: list[tuple[Expr, float, float, str]] = []
    if kind in (TEXT, FLAG, NUMBER):
        levels = scene.engine.rows(
            f"select d.{column} as level, count(*) filter (where shows) as k, count(*) from {rows} "
            f"group by 1 having k >= 5 order by k desc limit {LEVELS}"
        )
        # a null is a level too
        pure = [(level, k, of) for level, k, of in levels if k >= PURE * of][:MOST] or levels[:1]
        hit, of = sum(k for _, k, _ in pure), sum(of for _, _, of in pure)
        if len(pure) == 1:
            level = pure[0][0]
            where = row.is_null() if level is None else row == level
            made.append((where, hit / of, hit / n, f"{name} = {level!r}" if level is not None else f"{name} is null"))
        elif pure and kind == TEXT and all(level is not None for level, _, _ in pure):
            named = sorted(level for level, _, _ in pure)
            made.append((row.isin(named), hit / of, hit / n, f"{name} in {', '.join(map(repr, named))}"))
    if kind == NUMBER:
        made += _interval(scene, name, column, rows, n)
    return made


def _interval(scene: Scene, name: str, column: str, rows: str, n: int) -> list[tuple[Expr, float, float, str]]:
    """The numbers from the smallest on that shows it, up to the largest, and between the two."""
    value, row = f"d.{column}", col(f"row.{name}")
    k, low, high = scene.engine.rows(
        f"select count({value}) filter (where shows), min({value}) filter (where shows), max({value}) filter "
        f"(where shows) from {rows}"
    )[0]
    if k < n or low == high:
        return []
    above, up_to, between, under, over = scene.engine.rows(
        f"select count(*) filter (where {value} >= {low!r}), count(*) filter (where {value} <= {high!r}), "
        f"count(*) filter (where {value} between {low!r} and {high!r}), "
        f"max({value}) filter (where {value} < {low!r}), min({value}) filter (where {value} > {high!r}) from {rows}"
    )[0]
    made: list[tuple[Expr, float, float, str]] = []
    first = low if under is None else roundest(float(under), float(low))
    # from above: the roundest number from the last that shows it on, before the first that does not
    last = high if over is None else -roundest(-float(over), -float(high))
    if under is not None:
        made.append((row >= first, k / above, 1.0, f"{name} ≥ {first:g}"))
    if over is not None:
        made.append((row <= last, k / up_to, 1.0, f"{name} ≤ {last:g}"))
    if under is not None and over is not None and k >= PURE * between:
        made.append((row.within(first, last), k / between, 1.0, f"{name} from {first:g} to {last:g}"))
    return made
