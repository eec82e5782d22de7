"""Two tables side by side: their shared columns sampled, binned alike and counted, ready for any question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from underhood.moves.bins import BINS, Bins, Counts, Values, count, cut, drawn, expected_noise, sampled
from underhood.moves.moves import ALPHA
from underhood.plan.operations import NUMBER, TIME
from underhood.plan.render import quoted
from underhood.tables.frames import OTHER, Table
from underhood.tables.local import Engine, Frame

Say = Callable[[str], None]
TESTS_A_COLUMN = 6  # distribution, missing, heavy values, shape or precision, levels, cohorts
MOST_CODES = 6


@dataclass(frozen=True)
class Sides:
    """`one` is the reference, `other` what is held against it; samples, bins and exact counts by column."""

    engine: Engine
    one: Table
    other: Table
    columns: tuple[str, ...]
    kinds: Mapping[str, str]
    at_one: Frame
    at_other: Frame
    bins: Mapping[str, Bins]
    from_one: Mapping[str, Counts]
    from_other: Mapping[str, Counts]

    @property
    def told_below(self) -> float:
        """The p below which one test tells a move, so that ALPHA holds for all tests together (Bonferroni)."""
        return ALPHA / max(1, TESTS_A_COLUMN * len(self.columns))

    @cached_property
    def codes(self) -> dict[str, tuple[Values, Values, int]]:
        """Each column's sample in a few codes: fifths of the reference, or the most frequent levels; missing is one."""
        return {c: _coded(self.kinds[c], self.at_one[c], self.at_other[c]) for c in self.columns}

    def rows_where(self, where: str) -> int:
        """How many rows of the other table a predicate selects."""
        return int(self.engine.rows(f"select count(*) from {quoted(self.other.name)} where {where}")[0][0])

    def is_number(self, column: str) -> bool:
        """Whether a column is counted between edges: numbers and times."""
        return self.kinds[column] in (NUMBER, TIME)


def side_by_side(engine: Engine, one: Table, other: Table, columns: Sequence[str], say: Say) -> Sides:
    """Draws from both tables, cuts bins on the first, counts both.

    Levels are counted in all rows, numbers in all of up to twice COUNTED, above it
    in COUNTED rows drawn the same way each time: a larger count says no more.
    """
    kinds = {c: one.kinds[c] for c in columns}
    if not columns:
        return Sides(engine, one, other, (), {}, {}, {}, {}, {}, {})
    with drawn(engine, one, "__one") as from_one, drawn(engine, other, "__other") as from_other:
        say(f"sampling {one.name} and {other.name}")
        at_one, at_other = (sampled(engine, table, columns) for table in (from_one, from_other))
        bins = {c: cut(c, kinds[c], at_one[c], at_other[c]) for c in columns}
        numbers = [b for b in bins.values() if b.how == BINS]
        rest = [b for b in bins.values() if b.how != BINS]
        counts = []
        for table, part in ((one, from_one), (other, from_other)):
            say(f"counting {table.name}, {table.rows:,} rows")
            counts.append({**count(engine, part, numbers), **count(engine, table, rest)})
    return Sides(engine, one, other, tuple(columns), kinds, at_one, at_other, bins, counts[0], counts[1])


def shared_columns(one: Table, other: Table) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Columns that both have in one kind, and (column, type, type) of those whose kind differs."""
    both = [c for c in one.columns if c in other.columns]
    retyped = [(c, one.columns[c], other.columns[c]) for c in both if one.kinds[c] != other.kinds[c]]
    odd = {c for c, _, _ in retyped}
    return [c for c in both if c not in odd and one.kinds[c] != OTHER], retyped


def _coded(kind: str, one: Values, other: Values) -> tuple[Values, Values, int]:
    if kind in (NUMBER, TIME):
        seen = one[~np.isnan(one)]
        cuts = np.unique(np.quantile(seen, [0.2, 0.4, 0.6, 0.8])) if len(seen) else np.array([])
        made = [np.where(np.isnan(s), len(cuts) + 1, np.searchsorted(cuts, s, side="left")) for s in (one, other)]
        return made[0].astype(int), made[1].astype(int), len(cuts) + 2
    levels = Counter(one.tolist()) + Counter(other.tolist())
    levels.pop(None, None)
    place = {v: n for n, (v, _) in enumerate(sorted(levels.items(), key=lambda e: (-e[1], e[0]))[: MOST_CODES - 2])}
    rest = len(place)
    coded = [np.array([rest + 1 if v is None else place.get(v, rest) for v in s.tolist()], int) for s in (one, other)]
    return coded[0], coded[1], rest + 2


def apart(a: Values, b: Values) -> float:
    """Total variation between two vectors of counts, less what noise makes of it; 0 if either is thin."""
    if min(a.sum(), b.sum()) < 20:
        return 0.0
    return max(0.0, float(np.abs(a / a.sum() - b / b.sum()).sum() / 2) - expected_noise(a, b))


def rest_of_row(sides: Sides, column: str, before: str, now: str) -> float:
    """How far apart the rest of the row is with level `before` in one table and level `now` in the other.

    The mean over all other columns of the total variation of their codes, above
    noise; 1 if the sample has too few rows of either to tell.
    """
    mine, theirs = sides.at_one[column] == before, sides.at_other[column] == now
    if min(mine.sum(), theirs.sum()) < 20:
        return 0.05
    found = []
    for name, (a, b, n) in sides.codes.items():
        if name != column:
            found.append(apart(np.bincount(a[mine], minlength=n), np.bincount(b[theirs], minlength=n)))
    return float(np.mean(found)) if found else 0.05


def duplicates(engine: Engine, table: Table, columns: Sequence[str], least: float = 0.0) -> int:
    """Rows of a table that repeat an earlier one in all of the columns; 0 if they are fewer than a share `least`.

    Equal rows have equal hashes, so an eighth of the hashes tells whether it is worth counting all.
    """
    listed = ", ".join(quoted(c) for c in columns)
    hashed = f"from (select hash({listed}) as __h from {quoted(table.name)})"
    if least and table.rows > 100_000:
        few, distinct = engine.rows(f"select count(*), count(distinct __h) {hashed} where __h % 8 = 0")[0]
        if few - distinct < 0.7 * least * few:
            return 0
    found = int(engine.rows(f"select count(*) - count(distinct __h) {hashed}")[0][0])
    return found if found >= least * table.rows else 0
