"""For whom a column breaks and since when: the likeliest stretch of rows, its sharpest moment, who carries it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.breaks import Break, apart
from underhood.faults.sides import Column, Sides, within
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import NUMBER, TEXT

MEANT = 0.6  # share of the decisions in question that must show a move
NEAR = 1.0  # times as many rows before a break as behind it are compared: nearer ones differ less by season
FEW, MANY = 300, 12_000  # rows compared on either side
QUIET = 0.34  # of the effect inside a cohort, what may be left outside
PURE = 0.9  # share of the rows that show something which a cohort must hold
OWN = 1.5  # times as much as in a cohort must show in one level, so that it is that level's
EARLY = 0.05  # of a stretch: by so much two beginnings differ
STEPS, TIMES, OUTSIDE = 8, 3, 2.0  # steps that make a sample; times before, as long; times the past's width
TOLD = 60  # rows of a level that would have come, had it not stopped
EDGE = 10  # a tenth of the rows behind a break is left out: where it begins is not known to the row


@dataclass(frozen=True)
class Whom:
    """Whom a move touches: rows (`mask`, over all rows of the sides) and the same in words."""

    mask: Array
    where: Expr | None
    says: str
    levels: int = 0


@dataclass(frozen=True)
class Stretch:
    """Rows behind a break (`inside`, of rows `start` to `stop`) and before it, of those whom it touches.

    `by`: the gap that shows it, if it does not show in the column by itself; then `before` holds rows that
    should have the same values as those inside, one for each, and not in order of time.
    """

    column: Column
    found: Break
    whom: Whom
    start: int
    stop: int
    before: Array
    inside: Array
    by: Column | None = None


def is_next_step(sides: Sides, s: Stretch) -> bool:
    """Whether a number is a figure of the time, not of the row, and has come to its next ones.

    Many rows of a time have one value of it, those of another time another one (a month's mean of all
    customers, an hour's weather): however many rows show the new value, it was drawn only a few times, and says
    nothing unless it lies far outside of all that was, or was never so frequent in as many rows before. Where most
    rows have no value, that is the news.
    """
    values = s.column.values[s.inside]
    values = values[~np.isnan(values)] if s.column.kind == NUMBER else values[:0]
    n, counts = len(values), np.sort(np.unique(values, return_counts=True)[1])[::-1]
    if 2 * n < len(s.inside) or np.searchsorted(np.cumsum(counts), 0.5 * n) + 1 >= STEPS:
        return False
    was = s.column.values[~sides.decided & ~np.isnan(s.column.values) & s.whom.mask]
    usual = [_heaviest(was[at : at + n]) for at in range(0, len(was) - n + 1, n)]
    if len(usual) < TIMES or not 2 * _heaviest(was) <= counts[0] / n <= 2 * np.median(usual):
        return False
    margin = OUTSIDE * np.ptp(was)
    return bool(was.min() - margin <= np.median(values) <= was.max() + margin)


def _heaviest(values: Array) -> float:
    """The share of the most frequent value."""
    return float(np.unique(values, return_counts=True)[1].max() / len(values))


def stretches_of(sides: Sides, column: Column, found: Break) -> Iterator[Stretch]:
    """The rows behind a break and as many before it, of those whom it touches, if the bad are among them.

    Where benign drift leads up to a break, its likeliest beginning lies too early: the
    sharpest moment is looked at as well.
    """
    whom = whom_of(sides, found)
    if found.row is not None:
        # as near as tells what came for it: farther off the others have moved by themselves
        near = max(FEW, int(TOLD / found.effect))
        for s in stretch_of(sides, column, found, whom, found.row, len(sides.at)):
            yield replace(s, before=s.before[-near:])
        return
    span = _span(sides, column, whom.mask, found)
    if span is None:
        return
    carrier = _carrier(sides, column, *span, found)
    if carrier is not None and not list(stretch_of(sides, column, found, carrier, *span)):
        carrier = None  # the bad are not among those
    if carrier is not None:
        whom = carrier
        span = _span(sides, column, whom.mask, found) or span
    start, stop = span
    sharp = _sharpest(sides, column, whom.mask, found, stop)
    if sharp is not None and carrier is None and abs(sharp - start) > EARLY * (stop - start):
        nearer = _carrier(sides, column, sharp, stop, found)
        if nearer is not None:
            yield from stretch_of(sides, column, found, nearer, sharp, stop)
    yield from stretch_of(sides, column, found, whom, start, stop)
    if sharp is not None and abs(sharp - start) > 2:
        yield from stretch_of(sides, column, found, whom, sharp, stop)


def stretch_of(sides: Sides, column: Column, found: Break, whom: Whom, start: int, stop: int) -> Iterator[Stretch]:
    """The rows of a cohort from `start` to before `stop` with those before; none if the bad are not among them."""
    inside = np.flatnonzero(whom.mask[start:stop]) + start
    if len(inside) < 20 or (sides.bad & between(sides, inside)).sum() < MEANT * sides.bad.sum():
        return
    before = np.flatnonzero(whom.mask[:start])[-int(np.clip(NEAR * len(inside), FEW, MANY)) :]
    if len(before) >= 20:
        yield Stretch(column, found, whom, start, stop, before, inside)


def whom_of(sides: Sides, found: Break) -> Whom:
    """The rows in which a break was found: one level of a group, or all."""
    if not found.group:
        return Whom(np.ones(len(sides.at), bool), None, "")
    group = sides.groups[found.group]
    level = group.levels[found.level]
    return Whom(
        within(sides, found.group, [found.level]),
        col(f"row.{group.name}") == level,
        f" where {group.name} = {level!r}",
        1,
    )


def _span(sides: Sides, column: Column, mask: Array, found: Break) -> tuple[int, int] | None:
    """The rows between which the column is as behind the break: the stretch of highest likelihood ratio.

    Kadane's (1984) best stretch over the rows of a cohort; it may begin in the past's last block.
    """
    blocks = sides.block
    near_before = mask & (blocks >= found.at - max(found.span, 3)) & (blocks < found.at)
    near_after = mask & (blocks >= found.at) & (blocks < found.at + max(found.span, 3))
    was, now = (np.bincount(column.codes[m], minlength=column.n) + 0.5 for m in (near_before, near_after))
    ratio = np.clip(np.log(now / now.sum()) - np.log(was / was.sum()), -4, 4)
    start = int(np.searchsorted(blocks, max(0, found.at - max(2, found.span))))
    rows = np.flatnonzero(mask[start:]) + start
    if len(rows) < 40:
        return None
    gain = ratio[column.codes[rows]]
    summed = np.concatenate([[0.0], np.cumsum(gain)])
    lowest = np.minimum.accumulate(summed)
    end = int(np.argmax(summed - lowest))
    begin = int(np.argmin(summed[: end + 1])) if end else 0
    if end - begin < 10:
        return None
    last = len(sides.at) if end >= len(rows) - max(3, 0.03 * len(rows)) else int(rows[end - 1]) + 1
    return int(rows[begin]), last


def _sharpest(sides: Sides, column: Column, mask: Array, found: Break, stop: int) -> int | None:
    """The row at which the rows just behind differ most from those just before."""
    lower = int(np.searchsorted(sides.block, max(0, found.at - max(3, found.span // 2))))
    upper = int(np.searchsorted(sides.block, found.at + max(3, found.span // 2)))
    rows = np.flatnonzero(mask[lower:stop]) + lower
    n = int(np.clip(len(rows) // 6, 20, 250))
    at = np.arange(n, len(rows) - n, max(1, len(rows) // 2000))
    at = at[rows[at] <= upper] if len(at) else at
    if len(at) < 3:
        return None
    held, codes = np.unique(column.codes[rows], return_inverse=True)
    summed = np.zeros((len(rows) + 1, len(held)), np.int32)
    summed[np.arange(1, len(rows) + 1), codes] = 1
    np.cumsum(summed, axis=0, out=summed)
    before, after = summed[at] - summed[at - n], summed[at + n] - summed[at]
    chi, _, each = apart(before, after)
    place = int(at[int(np.argmax(chi + 1e-6 * each.max(axis=1)))])
    was, now = (summed[place] - summed[place - n] + 0.5), (summed[place + n] - summed[place] + 0.5)
    gain = (np.log(now / now.sum()) - np.log(was / was.sum()))[codes[place - n : place + n]]
    behind = np.concatenate([np.cumsum(gain[::-1])[::-1], [0.0]])
    return int(rows[place - n + int(np.argmax(behind[: 2 * n]))])


def _carrier(sides: Sides, column: Column, start: int, stop: int, found: Break) -> Whom | None:
    """The levels of one other column that carry the move, if all of it is in them; null if every level shows it.

    Of several columns, the one whose weakest level shows most: a wider cohort only thins it. Null too if the
    level in which the break was found shows it far more, whatever drift is left outside.
    """
    size = stop - start
    lower = max(0, start - max(size, FEW))
    stretch = np.full(len(sides.at), -1)
    stretch[lower:start], stretch[start:stop] = 0, 1
    best: tuple[float, Whom] | None = None
    own = 0.0
    for group in sides.groups.values():
        if group.name == column.name:
            continue
        inside = (stretch >= 0) & (group.codes >= 0)
        place = (group.codes[inside] * 2 + stretch[inside]) * column.n + column.codes[inside]
        table = np.bincount(place, minlength=group.n * 2 * column.n).reshape(group.n, 2, column.n).astype(float)
        whole = np.bincount(stretch[stretch >= 0] * column.n + column.codes[stretch >= 0], minlength=2 * column.n)
        chi, _, _ = apart(table[:, 0], table[:, 1])
        n = table.sum(axis=2).min(axis=1)
        effect = np.maximum(chi, 0) / np.maximum(1, n)
        own = float(effect[found.level]) if group.name == found.group else own
        if (n >= 20).sum() < 2 or effect.max() <= 0:
            continue
        carry = (n >= 20) & (effect >= 0.5 * effect.max()) & (chi > 30)
        if not carry.any():
            continue
        rest = whole.reshape(2, column.n) - table[carry].sum(axis=0)
        left, freedom, n_rest = _left(rest)
        if n_rest < 20 or (left + 3 * np.sqrt(2 * freedom)) / n_rest > QUIET * effect[carry].min():
            continue
        if chi[carry].sum() <= 2 * max(0.0, left):
            continue
        purest = float(effect[carry].min())
        if best is None or purest > best[0]:
            best = purest, _named(sides, group, np.flatnonzero(carry))
    return best[1] if best and own < OWN * best[0] else None


def _left(rest: Array) -> tuple[float, int, float]:
    """Chi-squared less its expectation, degrees of freedom and rows of what is left outside a cohort."""
    n, m = rest.sum(axis=1)
    if min(n, m) < 20:
        return 0.0, 1, 0.0
    held = rest.sum(axis=0) * min(n, m) / (n + m) >= 1
    share = rest.sum(axis=0)[held] / (n + m)
    gap = (rest[0, held] / n - rest[1, held] / m) ** 2
    freedom = max(1, int(held.sum()) - 1)
    return float((gap / share).sum() * n * m / (n + m)) - freedom, freedom, float(min(n, m))


def whose(sides: Sides, column: Column, inside: Array, shows: Array) -> Whom | None:
    """The levels of one other column to which nearly all rows belong that show something, and few that do not."""
    best: tuple[float, Whom] | None = None
    some = shows[inside]
    for group in sides.groups.values():
        if group.name == column.name:
            continue
        codes = group.codes[inside]
        n = np.bincount(codes[codes >= 0], minlength=group.n)
        k = np.bincount(codes[(codes >= 0) & some], minlength=group.n)
        rate = k / np.maximum(1, n)
        carry = (n >= 10) & (rate >= 0.5 * rate[n >= 10].max(initial=0.0)) & (k > 0)
        if not carry.any() or k[carry].sum() < PURE * some.sum() or n[carry].sum() > 0.9 * len(inside):
            continue
        outside = (some.sum() - k[carry].sum()) / max(1, len(inside) - n[carry].sum())
        inner = k[carry].sum() / n[carry].sum()
        if inner >= 4 * outside and (best is None or inner > best[0]):
            best = inner, _named(sides, group, np.flatnonzero(carry))
    return best[1] if best else None


def _named(sides: Sides, group: Column, levels: Array) -> Whom:
    row = col(f"row.{group.name}")
    values = [group.levels[n] for n in levels]
    where = row == values[0] if len(values) == 1 else row.isin(values)
    says = f" where {group.name} is {', '.join(repr(v) for v in values)}"
    return Whom(within(sides, group.name, levels.tolist()), where, says, len(values))


def between(sides: Sides, rows: Array) -> Array:
    """Rows by number as flags over all rows."""
    made = np.zeros(len(sides.at), bool)
    made[rows] = True
    return made


def shown_values(column: Column, rows: Array) -> Array:
    """A column's values in some rows: numbers (NaN null), or texts (None null)."""
    if column.kind != TEXT:
        return column.values[rows]
    levels = np.array([*column.levels, None], dtype=object)
    values = column.values[rows]
    shown: Array = levels[np.where(np.isnan(values), len(column.levels), values).astype(int)]
    return shown
