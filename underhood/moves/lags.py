"""A feed that comes too early or too late: the steps by which one table's values must be moved to fit the other's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from underhood.moves.bins import Values
from underhood.moves.moves import Move, severity_of, text
from underhood.moves.sides import Sides
from underhood.plan.operations import NUMBER, TIME
from underhood.plan.render import quoted

FARTHEST = 72  # steps to either side
LEAST_STEPS = 100  # that both tables must have in common
MOST_STEPS = 20_000
MOST_COLUMNS = 12
SPANS = 24  # parts of the time in which a lag is looked for that does not hold throughout
SAME = 0.9  # share of a span's values that are another moment's exactly
FITS, BETTER = 0.5, 0.3  # correlation of changes at the lag, and how much better than without
_WIDTHS = (1, 60, 900, 3600, 86_400, 604_800)  # seconds


@dataclass(frozen=True)
class Lag:
    """`other` shows what `one` showed `steps` earlier; how well step-to-step changes correlate there and unmoved."""

    steps: int
    fits: float
    unmoved: float


def time_of(sides: Sides, given: str | None) -> str | None:
    """The column of time whose span the two tables share for the most part; None without one."""
    for column in [given] if given else [c for c in sides.columns if sides.kinds[c] == TIME]:
        if sides.kinds.get(column) != TIME:
            continue
        seen = [side[column][~np.isnan(side[column])] for side in (sides.at_one, sides.at_other)]
        if all(len(side) for side in seen):
            (low_a, high_a), (low_b, high_b) = ((float(s.min()), float(s.max())) for s in seen)
            overlap = min(high_a, high_b) - max(low_a, low_b)
            if overlap > 0 and overlap >= 0.5 * min(high_a - low_a, high_b - low_b):
                return column
    return None


def lag_moves(sides: Sides, time: str, key: Sequence[str] = ()) -> Iterator[Move]:
    """Columns, or the time itself, that are some steps late or early in the other table."""
    columns = [c for c in sides.columns if sides.kinds[c] == NUMBER and c not in key][:MOST_COLUMNS]
    width = _width(sides, time)
    if not columns or width is None:
        return
    one, other = (_series(sides, table, time, width, columns) for table in (sides.one.name, sides.other.name))
    found = {c: lag for c in columns if (lag := best_lag(one[c], other[c]))}
    if not found:
        yield from _late_for_a_while(sides, time, width, one, other)
        return
    steps = {lag.steps for lag in found.values()}
    unit = _unit(width)
    if len(steps) == 1 and len(found) >= max(2, 0.6 * len(columns)):
        step = steps.pop()
        says = f"{time}: all of {sides.other.name} is {abs(step)} {unit} {'late' if step > 0 else 'early'}"
        yield _move(sides, time, width, (time,), says, step, max(found.values(), key=lambda lag: lag.fits), columns[0])
        return
    for column, lag in found.items():
        late = "late" if lag.steps > 0 else "early"
        says = f"{column}: {abs(lag.steps)} {unit} {late}: at each moment it has the value of another"
        yield _move(sides, time, width, (column,), says, lag.steps, lag, column)


def _late_for_a_while(
    sides: Sides, time: str, width: int, one: Mapping[str, Values], other: Mapping[str, Values]
) -> Iterator[Move]:
    """Columns that are late or early in one span of time, and equal outside it."""
    start = int(np.nanmin(sides.at_one[time]) // width) * width
    for column in one:
        span = late_span(one[column], other[column])
        if span is None:
            continue
        lag, first, last = span
        low, high = start + first * width, start + last * width
        says = (
            f"{column}: {abs(lag.steps)} {_unit(width)} {'late' if lag.steps > 0 else 'early'} from about "
            f"{np.datetime64(low, 's')} to {np.datetime64(high, 's')}, as it is before or after"
        )
        move = _move(sides, time, width, (column,), says, lag.steps, lag, column)
        equal = f"{lag.fits:.0%} of its values equal those of that moment, {lag.unmoved:.0%} their own"
        yield replace(move, says=f"{says}; {equal}", where=f"epoch({quoted(time)}) between {low} and {high}")


def late_span(one: Values, other: Values) -> tuple[Lag, int, int] | None:
    """The lag at which `other` repeats `one` exactly in one span, its first and last step; None without one.

    Outside the span, but for the parts of time that its ends fall into, the two must be equal as they are.
    """
    edges = np.linspace(0, len(one), SPANS + 1).astype(int)
    if edges[1] < LEAST_STEPS // 4:
        return None
    equal = {k: _equal(one, other, k, edges) for k in range(-FARTHEST, FARTHEST + 1)}
    late = {k: (share >= SAME) & (equal[0] < FITS) for k, share in equal.items()}
    best = max(late, key=lambda k: (int(late[k].sum()), -abs(k)))
    places = np.flatnonzero(late[best])
    if not len(places) or np.any(np.diff(places) > 1):
        return None
    outside = np.delete(equal[0], places)
    if not (outside >= SAME).any() or (outside < SAME).sum() > 2:
        return None
    lag = Lag(best, float(equal[best][places].mean()), float(equal[0][places].mean()))
    return lag, int(edges[places[0]]), int(edges[places[-1] + 1] - 1)


def _equal(one: Values, other: Values, k: int, edges: Values) -> Values:
    """The share of equal values in each part of the time when `other` is taken to be `k` steps late."""
    moved = np.full(len(one), np.nan)
    moved[max(k, 0) : len(one) + min(k, 0)] = one[max(-k, 0) : len(one) - max(k, 0)]
    there = np.add.reduceat(~np.isnan(moved) & ~np.isnan(other), edges[:-1], dtype=float)
    same = np.add.reduceat(moved == other, edges[:-1], dtype=float)
    return np.asarray(np.where(there > 0, same / np.maximum(there, 1), 0.0))


def _move(
    sides: Sides, time: str, width: int, columns: tuple[str, ...], says: str, step: int, lag: Lag, shown: str
) -> Move:
    bucket = f"(epoch({quoted(time)}) // {width})::bigint"
    parts = [
        f"(select {bucket} as step, median({quoted(shown)}) as value from {quoted(name)} group by 1) {alias}"
        for name, alias in ((sides.one.name, "a"), (sides.other.name, "b"))
    ]
    query = (
        f"select corr(a.value, b.value) as at_the_lag, count(*) as n from {parts[0]} "
        f"join {parts[1]} on b.step = a.step + {step}"
    )
    fits = f"; changes fit to {lag.fits:.2f} there, to {lag.unmoved:.2f} unmoved"
    return Move(
        columns,
        "lag",
        says + fits,
        {"steps": step, "seconds": step * width, "column": text(shown)[1:-1]},
        effect=lag.fits,
        severity=severity_of("lag", lag.fits),
        query=query,
    )


def _unit(width: int) -> str:
    return {1: "seconds", 60: "minutes", 3600: "hours", 86_400: "days", 604_800: "weeks"}.get(
        width, f"steps of {width // 60} minutes"
    )


def _width(sides: Sides, time: str) -> int | None:
    """Seconds of a step: the feed's own, or wider so that there are at most MOST_STEPS."""
    moments = np.unique(sides.at_one[time][~np.isnan(sides.at_one[time])])
    if len(moments) < LEAST_STEPS:
        return None
    own, span = float(np.median(np.diff(moments))), float(moments[-1] - moments[0])
    for width in _WIDTHS:
        if width >= 0.99 * own and span / width <= MOST_STEPS:
            return width if span / width >= LEAST_STEPS else None
    return None


def _series(sides: Sides, table: str, time: str, width: int, columns: Sequence[str]) -> dict[str, Values]:
    """The median of each column by step, on the span of the first table; NaN where there is none."""
    moments = sides.at_one[time]
    first, last = int(np.nanmin(moments) // width), int(np.nanmax(moments) // width)
    asked = ", ".join(f"median({quoted(c)})::double as {quoted(c)}" for c in columns)
    step = f"(epoch({quoted(time)}) // {width})::bigint"
    found = sides.engine.arrays(
        f"select {step}::double as __step, {asked} from {quoted(table)} "
        f"where {step} between {first} and {last} group by 1"
    )
    places = (found["__step"] - first).astype(int)
    made = {}
    for column in columns:
        series = np.full(last - first + 1, np.nan)
        series[places] = found[column]
        made[column] = series
    return made


def best_lag(one: Values, other: Values) -> Lag | None:
    """The steps by which `other` is late (negative: early), or None if it fits as it is or fits nowhere.

    Correlates ranks of the changes from step to step, so that a common trend or
    an absurd value does not speak.
    """
    a, b = _changes(one), _changes(other)
    fits = {k: _fit(a, b, k) for k in range(-FARTHEST, FARTHEST + 1)}
    best = max(fits, key=lambda k: (fits[k], -abs(k)))
    if best == 0 or fits[best] < FITS or fits[best] < fits[0] + BETTER:
        return None
    return Lag(best, fits[best], fits[0])


def _changes(series: Values) -> Values:
    steps = np.diff(series)
    seen = ~np.isnan(steps)
    ranks = np.full(len(steps), np.nan)
    if seen.any():
        _, places, counts = np.unique(steps[seen], return_inverse=True, return_counts=True)
        ranks[seen] = (np.cumsum(counts) - counts / 2)[places] / seen.sum() - 0.5
    return ranks


def _fit(a: Values, b: Values, k: int) -> float:
    n = len(a)
    x, y = (a[: n - k], b[k:]) if k >= 0 else (a[-k:], b[: n + k])
    both = ~(np.isnan(x) | np.isnan(y))
    if both.sum() < LEAST_STEPS or x[both].std() == 0 or y[both].std() == 0:
        return 0.0
    return float(np.corrcoef(x[both], y[both])[0, 1])
