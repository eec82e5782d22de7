"""A table's columns as counts in fixed bins: quantile bins, heavy values on their own, levels; counts that merge.

Bins are cut once, on the reference, and laid over any other table, day or
cohort; counts over the same bins are sums and merge without a rescan. Edges
are quantiles: one absurd value moves none of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.tables.frames import Table
from underhood.tables.local import Engine, Frame

Values = np.ndarray[Any, Any]

SAMPLED = 32_768  # rows: a share of 1 % is known to within 0.06 %
COUNTED = 131_072  # rows: a share of 0.3 % is known to within 0.015 %; twice as many cost a third more (bench/compare)
AT_ONCE = 200  # columns in one pass
LEVELS = "levels"  # few texts, flags: counted by value
BINS = "bins"  # numbers and times: counted between edges
FREE = "free"  # ids, free text: only whether there is one
_MOST_LEVELS = 2000  # distinct texts in a sample; above it a text is free
_FEW = 64  # distinct numbers in a sample; up to it each has a bin of its own
_HEAVY = 0.002  # of a sample: a number that frequent has a bin of its own
_CUTS = (0.0025, 0.005, 0.01, 0.02, *(k / 20 for k in range(1, 20)), 0.98, 0.99, 0.995, 0.9975)


@dataclass(frozen=True)
class Bins:
    """How one column is counted, in at most 255 bins, so that a value's bin is one byte.

    `edges` are the upper ends of the bins of numbers, inclusive; a last bin
    holds what is above. Times are seconds since 1970, UTC. `alone` are the
    values that have a bin to themselves. NaN and infinity count as missing.
    """

    column: str
    how: str
    kind: str
    edges: tuple[float, ...] = ()
    alone: tuple[float, ...] = ()


@dataclass(frozen=True)
class Counts:
    """Rows of a column by bin: `missing` have no value; `bins` goes by the number of the bin or by the level."""

    rows: int
    missing: int
    bins: Mapping[Any, int]


def merged(one: Counts, other: Counts) -> Counts:
    """The counts of both: over the same bins they simply add up."""
    added = Counter(one.bins)
    added.update(other.bins)
    return Counts(one.rows + other.rows, one.missing + other.missing, dict(added))


def value_sql(column: str, kind: str) -> str:
    """A column as it is binned: numbers and times as finite doubles (times: seconds), all else as text."""
    name = quoted(column)
    if kind == NUMBER:
        return f"case when isfinite({name}::double) then {name}::double end"
    if kind == TIME:
        return f"case when isfinite({name}) then epoch({name})::double end"
    return f"{name}::varchar"


def sampled(engine: Engine, table: Table, columns: Sequence[str], n_rows: int = SAMPLED) -> Frame:
    """About `n_rows` rows of a table, the same ones each time: numbers and times as floats, texts as objects.

    All rows of a table up to twice that. Nulls are NaN or None.
    """
    listed = ", ".join(f"{value_sql(c, table.kinds[c])} as {quoted(c)}" for c in columns)
    return engine.arrays(f"select {listed} from {_some(table, n_rows)}")


@contextmanager
def drawn(engine: Engine, table: Table, name: str, n_rows: int = COUNTED) -> Iterator[Table]:
    """About `n_rows` rows of a table as a table of their own, for as long as it is used; the table itself if small."""
    if table.rows <= 2 * n_rows:
        yield table
        return
    listed = ", ".join(quoted(c) for c in table.columns)
    engine.run(f"create or replace temp table {quoted(name)} as select {listed} from {_some(table, n_rows)}")
    try:
        rows = engine.rows(f"select count(*) from {quoted(name)}")[0][0]
        yield replace(table, name=name, rows=rows)
    finally:
        engine.run(f"drop table if exists {quoted(name)}")


def _some(table: Table, n_rows: int) -> str:
    if table.rows <= 2 * n_rows:
        return quoted(table.name)
    numbered = f"select *, row_number() over () as __nth from {quoted(table.name)}"
    return f"({numbered}) where hash(__nth) % {table.rows // n_rows} = 0"


def cut(column: str, kind: str, one: Values, other: Values) -> Bins:
    """Bins for a column from a sample of the reference; heavy values of either sample get their own."""
    if kind in (NUMBER, TIME):
        return _cut_numbers(column, kind, one[~np.isnan(one)], other[~np.isnan(other)])
    n_levels = len({*one, *other} - {None})
    is_free = kind not in (TEXT, FLAG) or n_levels > min(_MOST_LEVELS, max(len(one), len(other)) / 2 + 10)
    return Bins(column, FREE if is_free else LEVELS, kind)


def _cut_numbers(column: str, kind: str, one: Values, other: Values) -> Bins:
    if not len(one) and not len(other):
        return Bins(column, BINS, kind)
    counted = [np.unique(side, return_counts=True) for side in (one, other)]
    distinct = np.union1d(counted[0][0], counted[1][0])
    if len(distinct) <= _FEW:
        whole = tuple(float(v) for v in distinct)
        return Bins(column, BINS, kind, whole, whole)
    alone = _heaviest(counted[0], counted[1])
    reference = one if len(one) else other
    edges = {float(v) for v in np.quantile(reference, _CUTS, method="higher")} | alone
    edges |= {float(np.nextafter(v, -np.inf)) for v in alone}
    return Bins(column, BINS, kind, tuple(sorted(edges)), tuple(sorted(alone)))


def _heaviest(one: tuple[Values, Values], other: tuple[Values, Values]) -> set[float]:
    """The values most in need of a bin of their own: those whose share differs most, and the most frequent ones."""
    shares: dict[float, list[float]] = {}
    for side, (values, counts) in enumerate((one, other)):
        n = max(int(counts.sum()), 1)
        for value, many in zip(values[counts > max(4, _HEAVY * n)], counts[counts > max(4, _HEAVY * n)], strict=True):
            shares.setdefault(float(value), [0.0, 0.0])[side] = many / n
    by_change = sorted(shares, key=lambda v: (-abs(shares[v][0] - shares[v][1]), v))[:16]
    by_share = sorted(shares, key=lambda v: (-max(shares[v]), v))[:24]
    return {*by_change, *by_share}


def code_sql(bins: Bins) -> str:
    """A number's bin as one byte, 255 for missing: a DuckDB expression over the table."""
    value = value_sql(bins.column, bins.kind)
    steps = " ".join(f"when __v <= '{edge!r}'::double then {n}" for n, edge in enumerate(bins.edges))
    return (
        f"(select case when __v is null then 255 {steps} else {len(bins.edges)} end::utinyint "
        f"from (select {value} as __v))"
    )


def count(engine: Engine, table: Table, many: Sequence[Bins], where: str = "") -> dict[str, Counts]:
    """The exact counts of a table over bins, in one pass for each 200 columns. `where` keeps a part of the rows."""
    made: dict[str, Counts] = {}
    for start in range(0, len(many), AT_ONCE):
        part = many[start : start + AT_ONCE]
        asked = ", ".join(_histogram(bins) for bins in part)
        kept = f" where {where}" if where else ""
        rows, *found = engine.rows(f"select count(*), {asked} from {quoted(table.name)}{kept}")[0]
        for bins, counted in zip(part, found, strict=True):
            made[bins.column] = _counts(bins, rows, counted)
    return made


def _histogram(bins: Bins) -> str:
    value = value_sql(bins.column, bins.kind)
    if bins.how == LEVELS:
        return f"histogram({value})"
    return f"histogram({value}, {_doubles(bins.edges)})" if bins.edges else f"count({value})"


def _doubles(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"'{v!r}'" for v in values) + "]::double[]"  # texts: a literal would pass through a decimal


def _counts(bins: Bins, rows: int, counted: Mapping[Any, int] | int | None) -> Counts:
    if not isinstance(counted, Mapping):
        return Counts(rows, rows - (counted or 0), {})
    place = {edge: n for n, edge in enumerate(bins.edges)}
    by_bin = {place.get(v, len(bins.edges)) if bins.edges else v: n for v, n in counted.items() if n}
    return Counts(rows, rows - sum(by_bin.values()), by_bin)


def coded(bins: Bins, values: Values) -> Values:
    """The bins of a sample's numbers, as `count` numbers them; nulls are left out."""
    return np.searchsorted(np.array(bins.edges), values[~np.isnan(values)], side="left")


@dataclass(frozen=True)
class Distance:
    """How far two counted columns are apart.

    `p`: chance of as much between two draws of one population (chi-squared on
    pooled bins, Pearson 1900). `apart`: total variation, the share of rows that
    would have to move, between 0 and 1; `noise`: what it is on average between two
    such draws. `effect`: what of it is not noise.
    """

    p: float
    apart: float
    noise: float

    @property
    def effect(self) -> float:
        """Total variation above the noise."""
        return max(0.0, math.sqrt(max(0.0, self.apart**2 - self.noise**2)))


def distance(one: Mapping[Any, int], other: Mapping[Any, int]) -> Distance:
    """How far two counts over the same bins are apart, missing left out."""
    keys = one.keys() | other.keys()
    a = np.array([one.get(k, 0) for k in keys], float)
    b = np.array([other.get(k, 0) for k in keys], float)
    return vector_distance(a, b)


def vector_distance(a: Values, b: Values) -> Distance:
    """The same for two vectors of counts."""
    n_a, n_b = a.sum(), b.sum()
    if not n_a or not n_b:
        return Distance(1.0, 0.0, 0.0)
    apart, noise = float(np.abs(a / n_a - b / n_b).sum() / 2), expected_noise(a, b)
    a, b = _pooled(a, b)
    share = (a + b) / (n_a + n_b)
    statistic = float(((a - n_a * share) ** 2 / (n_a * share)).sum() + ((b - n_b * share) ** 2 / (n_b * share)).sum())
    return Distance(chi2_tail(statistic, len(a) - 1), apart, noise)


def expected_noise(a: Values, b: Values) -> float:
    """The total variation that two draws of one population would show on average."""
    n_a, n_b = max(a.sum(), 1.0), max(b.sum(), 1.0)
    share = (a + b) / (n_a + n_b)
    spread: float = float(np.sqrt(2 / math.pi * share * (1 - share) * (1 / n_a + 1 / n_b)).sum() / 2)
    return spread


def _pooled(a: Values, b: Values) -> tuple[Values, Values]:
    """Bins too thin for the chi-squared approximation become one: below 5 expected rows on either side."""
    share = (a + b) / (a.sum() + b.sum())
    thin = share * min(a.sum(), b.sum()) < 5
    if not thin.any():
        return a, b
    a, b = (np.append(side[~thin], side[thin].sum()) for side in (a, b))
    keep = (a + b) > 0
    return a[keep], b[keep]


def chi2_tail(statistic: float, freedom: int) -> float:
    """P(chi-squared with `freedom` degrees > statistic); exact up to 1,400, by Wilson and Hilferty (1931) beyond."""
    if freedom < 1 or statistic <= 0:
        return 1.0
    if statistic > 1400:
        z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
        return math.erfc(z / math.sqrt(2)) / 2
    half = statistic / 2
    is_odd = freedom % 2
    term = math.exp(-half) * (math.sqrt(4 * half / math.pi) if is_odd else 1.0)
    total = math.erfc(math.sqrt(half)) if is_odd else 0.0
    for k in range(is_odd, freedom - 1 + is_odd, 2):
        total += term
        term *= statistic / (k + 2)
    return min(1.0, total)


def shares_p(n_one: int, of_one: int, n_other: int, of_other: int) -> float:
    """Chance of two shares so different (two-sided, pooled; exact to the sign of a 1-row continuity correction)."""
    if not of_one or not of_other:
        return 1.0
    pooled = (n_one + n_other) / (of_one + of_other)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / of_one + 1 / of_other))
    gap = abs(n_one / of_one - n_other / of_other) - 0.5 * (1 / of_one + 1 / of_other)
    return math.erfc(gap / spread / math.sqrt(2)) if spread and gap > 0 else 1.0


def same_levels(counts: Counts, levels: Mapping[str, str]) -> Counts:
    """Counts with levels renamed: those that become one are added up."""
    made: Counter[str] = Counter()
    for level, n in counts.bins.items():
        made[levels.get(level, level)] += n
    return replace(counts, bins=dict(made))
