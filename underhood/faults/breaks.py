"""Where the distribution of an input turned more sharply than it ever did, for all or for one level of a group.

What changes by itself (seasons, new customers) has changed before as well: a break is one that is sharper
than all of history's, and lies before what is in question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.sides import LEVELS, Column, Sides
from underhood.plan.operations import TEXT

SPANS = (1, 3, 8, 24)  # blocks on either side of a break
CERTAIN = 6.0  # standard errors: one in a billion, for some ten thousand looks
SHARPER = 2.0  # times the sharpest break of history, in share of variance explained
LATE = 0.6  # share of the decisions in question that lie behind a break
MANY = 8  # breaks of one column
NEW = 0.1  # of a cohort's share of all rows, that it must have of those before the decisions
AWAY = 2  # levels of a text that have stopped coming


@dataclass(frozen=True)
class Break:
    """A column's distribution breaks at the beginning of block `at` for one level of a group (`level` < 0: for all).

    `strength` is chi-squared above what chance gives, `effect` the share of variance explained,
    `usual` the most that history shows of it. `row`: the first row behind it, where that is known.
    """

    column: str
    group: str
    level: int
    at: int
    span: int
    strength: float
    effect: float
    usual: float
    row: int | None = None


def breaks(sides: Sides, spans: Sequence[int] = SPANS) -> tuple[Break, ...]:
    """The breaks of each column that are certain, sharper than history's, and before what is in question; strong first.

    Of one moment at most two groups, of one column at most MANY breaks. `spans`: blocks on either side.
    """
    found: list[Break] = []
    crowds = [_crowd(sides, group) for group in (None, *sides.groups.values())]
    for column in sides.columns.values():
        kept: list[Break] = []
        for each in sorted(_breaks(sides, column, crowds, spans), key=lambda b: -b.strength):
            near = [k for k in kept if abs(k.at - each.at) <= 1]
            if len(near) < 2 and not any((k.group, k.level) == (each.group, each.level) for k in near):
                kept.append(each)
            if len(kept) == MANY:
                break
        found += [*kept, *_gone(sides, column)]
    return tuple(sorted(found, key=lambda b: -b.strength))


@dataclass(frozen=True)
class _Crowd:
    """The `n` levels of a group: the `rows` that are in one (null: all of them), and of each its place by level, block.

    `bad`: of each level the blocks of its decisions in question, sorted.
    """

    group: str
    n: int
    rows: Array | None
    place: Array
    bad: tuple[Array, ...]


def _gone(sides: Sides, column: Column) -> Iterator[Break]:
    """Where a level of a text came for the last time, if it has never stayed away for half as long: the surest two.

    Beside others that come and go with the seasons, one that stops shows in no sum of all levels.
    """
    if column.kind != TEXT:
        return
    n = len(sides.at)
    last = np.full(column.n, -1)
    last[column.codes] = np.arange(n)
    came = np.bincount(column.codes, minlength=column.n)
    after = n - 1 - last
    share = came / np.maximum(1, last + 1)
    sure = 2 * share * after  # likelihood ratio of staying away, as a chi-squared
    decided, bad = int(np.argmax(sides.decided)), np.flatnonzero(sides.bad)
    told = 0
    for code in np.argsort(-sure, kind="stable"):
        if sure[code] < CERTAIN**2 or told == AWAY:
            return
        if code >= LEVELS or last[code] < decided or (bad > last[code]).sum() < LATE * len(bad):
            continue
        away = np.diff(np.flatnonzero(column.codes == code)).max(initial=0)
        if after[code] > SHARPER * away:
            told += 1
            row = int(last[code]) + 1
            at = int(sides.block[row])
            yield Break(column.name, "", 0, at, SPANS[-1], float(sure[code]), float(share[code]), 0.0, row)


def _crowd(sides: Sides, group: Column | None) -> _Crowd:
    """A group's levels as crowds; null is everyone as one."""
    asked = np.flatnonzero(sides.bad)
    if group is None:
        return _Crowd("", 1, None, sides.block, (np.sort(sides.block[asked]),))
    rows = np.flatnonzero(group.codes >= 0)
    place = group.codes[rows] * sides.n_blocks + sides.block[rows]
    bad = tuple(np.sort(sides.block[asked[group.codes[asked] == level]]) for level in range(group.n))
    return _Crowd(group.name, group.n, rows, place, bad)


def _breaks(sides: Sides, column: Column, crowds: Sequence[_Crowd], spans: Sequence[int]) -> Iterator[Break]:
    for crowd in crowds:
        if crowd.group != column.name:
            yield from _crowd_breaks(sides, column, crowd, spans)


def _crowd_breaks(sides: Sides, column: Column, crowd: _Crowd, spans: Sequence[int]) -> Iterator[Break]:
    codes = column.codes if crowd.rows is None else column.codes[crowd.rows]
    table = tally(crowd.place, codes, (crowd.n, sides.n_blocks, column.n))
    summed = np.concatenate([np.zeros((crowd.n, 1, column.n)), np.cumsum(table, axis=1)], axis=1)
    bad, ends = crowd.bad, [int(b[int((1 - LATE) * len(b))]) if len(b) else -1 for b in crowd.bad]
    n_blocks, first, n_bad = sides.n_blocks, sides.first, int(sides.bad.sum())
    held = summed[:, first].sum(axis=1), table.sum(axis=(1, 2))
    # who never asked before has no history that a break could be sharper than
    is_new = (held[0] < NEW * held[0].sum() * held[1] / max(1.0, held[1].sum())) & (held[0].sum() > 0)
    for span in spans:
        at = np.arange(1, n_blocks)
        before = summed[:, at] - summed[:, np.maximum(at - span, 0)]
        after = summed[:, np.minimum(at + span, n_blocks)] - summed[:, at]
        chi, effect, each = apart(before, after)
        past = (at >= span + sides.begin) & (at + span <= first)
        for g in range(crowd.n):
            if len(bad[g]) < LATE * n_bad or is_new[g]:
                continue
            late = (at >= max(first, 1)) & (at <= ends[g])
            if not late.any():
                continue
            usual = float(effect[g, past].max()) if past.any() else 0.0
            usual_each = each[g, past].max(axis=0) if past.any() else np.zeros(column.n)
            yield from _sharp(
                column,
                crowd.group,
                g,
                span,
                at,
                late,
                (chi[g], effect[g], usual),
                (each[g], usual_each, before[g].sum(axis=1), after[g].sum(axis=1)),
            )


def _sharp(
    column: Column,
    group: str,
    level: int,
    span: int,
    at: Array,
    late: Array,
    whole: tuple[Array, Array, float],
    parts: tuple[Array, Array, Array, Array],
) -> Iterator[Break]:
    """The best break by all bins together, and the best by one bin alone."""
    chi, effect, usual = whole
    each, usual_each, n_before, n_after = parts
    least = max(SHARPER * usual, 0.02) if usual < 0.5 else 1 - 0.5 * (1 - usual)
    good = late & (chi >= CERTAIN**2 * 2) & (effect >= min(least, 1 - 0.5 * (1 - usual)))
    if good.any():
        t = int(np.argmax(np.where(good, chi, -1)))
        yield Break(column.name, group, level, int(at[t]), span, float(chi[t]), float(effect[t]), usual)
    weight = (n_before * n_after / np.maximum(1.0, n_before + n_after))[:, None]
    square = each * weight
    sharp = late[:, None] & (square >= CERTAIN**2) & (each >= np.maximum(4 * usual_each, 8.0 / np.maximum(weight, 1)))
    if sharp.any():
        square = np.where(sharp, square, -1)
        t, k = divmod(int(np.argmax(square)), square.shape[1])
        yield Break(
            column.name,
            group,
            level,
            int(at[t]),
            span,
            float(square[t, k]),
            float(each[t, k]),
            float(usual_each[k]),
        )


def tally(place: Array, codes: Array, shape: tuple[int, int, int]) -> Array:
    """Rows by level, block and bin: `place` numbers each row's level and block, `codes` are bins."""
    made: Array = np.bincount(place * shape[2] + codes, minlength=shape[0] * shape[1] * shape[2])
    return made.reshape(shape).astype(float)


def apart(before: Array, after: Array) -> tuple[Array, Array, Array]:
    """How far counts over the last axis are apart: chi-squared above its expectation, effect (0 to 1), effect by bin.

    The effect of one bin is the squared difference of its shares over the variance of
    one row; chi-squared is that of Pearson (1900), pooled, with 0.5 added to no cell.
    """
    n, m = before.sum(axis=-1), after.sum(axis=-1)
    both = np.maximum(1.0, n + m)
    share = (before + after) / both[..., None]
    gap = (before / np.maximum(1.0, n)[..., None] - after / np.maximum(1.0, m)[..., None]) ** 2
    weight = n * m / both
    enough = share * np.minimum(n, m)[..., None] >= 1  # thinner bins say nothing by themselves
    held = np.where((share > 0) & enough, gap / np.maximum(share, 1e-12), 0.0)
    freedom = np.maximum(0, enough.sum(axis=-1) - 1)
    chi = held.sum(axis=-1) * weight - freedom - 3 * np.sqrt(2 * np.maximum(1, freedom))
    chi = np.where((n >= 20) & (m >= 20), chi, 0.0)
    effect = np.clip(chi / both, 0.0, 1.0)
    each = np.where(
        ((n >= 20) & (m >= 20))[..., None], gap / np.maximum(share * (1 - share), 0.5 / both[..., None]), 0.0
    )
    return chi, effect, each
