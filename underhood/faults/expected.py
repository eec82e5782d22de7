"""What each number of a row should be, as the other columns of its row say: learned from the past, none of it from now.

A season, another mix of customers or a busy day moves a number together with the others of
its row. What moves it against them does not: a factor hides in the year's course, but not in the gap
between what a number is and what it should be. Rows that should have the same are compared
(Hansen 2008, matching on the prognostic score).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from underhood.build.boosted import foretold
from underhood.build.scorer import Array
from underhood.faults.sides import Column, Sides
from underhood.plan.operations import FLAG, NUMBER, TEXT

LEARNS = 0.6  # of the past is learned from; the rest of it tells how far what is expected can be trusted
TRUSTED = 0.3  # share of variance of the ranks that must be explained, in the past that was not learned from
MOST = 8000  # rows that are learned from
WIDTHS = (0.0005, 0.005, 0.02, *(k / 16 for k in range(1, 16)), 0.98, 0.995, 0.9995)
NEIGHBOURS = 3  # rows expected to be alike from which each partner is taken in turn
LEAST = 400  # rows of the past that were not learned from
HOUR_S, DAY_H, WEEK_D = 3600.0, 24, 7


@dataclass(frozen=True)
class Expected:
    """What a number should be in every row, as a rank (0 to 1) among what was learned; and how far it is from that.

    `gap` is a column of rank less expected rank, null in the rows that were learned from, all before block `begin`.
    """

    rank: Array
    gap: Column
    begin: int


def expected_of(sides: Sides, name: str, without: Sequence[str] = ()) -> Expected | None:
    """What one number should be, by all other columns; null if they tell too little, or if it is hardly a number."""
    column = sides.columns[name]
    past = np.flatnonzero(~sides.decided & ~np.isnan(column.values))
    begin = int(len(past) * LEARNS)
    if column.kind != NUMBER or len(past) - begin < LEAST:
        return None
    learned, held = past[:begin], past[begin:]
    learned = learned[np.linspace(0, len(learned) - 1, min(len(learned), MOST)).astype(int)]
    rank = ranks(column.values, column.values[learned])
    if len(np.unique(rank[held])) < NEIGHBOURS:
        return None
    expected = _predicted(sides, {name, *without}, learned, held, rank)
    if expected is None:
        return None
    gap = rank - expected
    first = int(past[begin])
    gap[:first] = np.nan
    return Expected(expected, _binned(name, gap, held), int(sides.block[first]) + 1)


def ranks(values: Array, among: Array) -> Array:
    """The middle rank of each value among others, 0 to 1; NaN stays NaN."""
    held = np.sort(among)
    rank = (np.searchsorted(held, values, "left") + np.searchsorted(held, values, "right")) / (2 * len(held))
    made: Array = np.where(np.isnan(values), np.nan, rank)
    return made


def _predicted(sides: Sides, without: set[str], learned: Array, held: Array, rank: Array) -> Array | None:
    others = [c for c in sides.columns.values() if c.name not in without]
    hours = sides.at / HOUR_S
    clock = [np.floor(hours % DAY_H), np.floor(hours / DAY_H) % WEEK_D]
    texts = [n for n, c in enumerate(others) if c.kind in (TEXT, FLAG)]
    return foretold([*(c.values for c in others), *clock], texts, learned, held, rank, TRUSTED)


def _binned(name: str, gap: Array, held: Array) -> Column:
    """A gap in bins of the past that was not learned from; the last one is null."""
    ok = ~np.isnan(gap)
    edges = np.unique(np.quantile(gap[held], WIDTHS, method="higher"))
    codes = np.where(ok, np.searchsorted(edges, np.where(ok, gap, 0.0), side="left"), len(edges) + 2)
    return Column(name, NUMBER, gap, codes, len(edges) + 3)


def alike(expected: Expected, pool: Array, rows: Array) -> Array:
    """For each of `rows` one of `pool` that should have the same: numbers of rows, some of them several times."""
    order = pool[np.argsort(expected.rank[pool], kind="stable")]
    at = np.searchsorted(expected.rank[order], expected.rank[rows])
    step = np.arange(len(rows)) % NEIGHBOURS - NEIGHBOURS // 2
    made: Array = order[np.clip(at + step, 0, len(order) - 1)]
    return made


def each_expected(sides: Sides) -> Iterator[tuple[str, Expected]]:
    """The numbers that the others of their row tell enough of."""
    for name in sides.columns:
        found = expected_of(sides, name)
        if found is not None:
            yield name, found
