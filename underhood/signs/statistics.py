"""A column in numbers: its counts, extremes, quantiles, histogram and top values; two parts make a whole."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

import numpy as np

from underhood.ground.errors import SourceError, raise_all
from underhood.plan.operations import NUMBER, TIME
from underhood.tables.frames import OTHER

BINS = 256
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
ALL_VALUES = 1000  # up to so many distinct values all are counted
TOP, MOST_PATTERNS = 20, 40
HASHES = 2**64
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Histogram:
    """Counts of finite values: `counts[i]` lie above `edges[i]` and at or below `edges[i + 1]`.

    Edges are floats, for times seconds since 1970 (UTC). They lie at quantiles, so that one
    value far away blinds no bin; a frequent value has a narrow bin of its own.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many values are in it."""
        return sum(self.counts)

    def below(self, edges: Sequence[float] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """How many values lie at or below each of the edges, as if values lay evenly within their bin."""
        return np.asarray(np.interp(edges, self.edges, [0, *accumulate(self.counts)]))

    def quantile(self, share: float) -> float:
        """The value that `share` of the values do not exceed, within the width of one bin."""
        wanted, sums = share * self.total, list(accumulate(self.counts))
        place = next((i for i, n in enumerate(sums) if n >= wanted and n), len(sums) - 1)
        low, high = self.edges[place], self.edges[place + 1]
        within = (wanted - (sums[place] - self.counts[place])) / max(1, self.counts[place])
        return low + (high - low) * within if high > low else high


@dataclass(frozen=True)
class Sketch:
    """The hashes below `below`, of 2**64: how many there are tells how many distinct values there are."""

    below: int
    hashes: frozenset[int]

    @property
    def distinct(self) -> int:
        """The number of distinct values, within about 2 % (one standard deviation); exact if no hash was left out."""
        return round(len(self.hashes) * HASHES / self.below)


@dataclass(frozen=True)
class Column:
    """One column's statistics.

    `kind` is number, flag, text, time or other (of which only rows and nulls are known). `nulls`
    counts nulls only; `not_finite` NaN and infinite values, which every other figure leaves out.
    `distinct` is exact if `is_exact`, else within about 3 %. `least`, `most` and `quantiles` are
    of the column's own type (times as UTC datetimes without zone), null where there is no value or no
    order worth telling; texts have no quantiles. `mean` and `sd` of a flag count true as 1; of
    times they are seconds since 1970. `top` has the most frequent values with exact counts: every value
    if `has_all`, else up to 20, among them (almost surely) all that more than one row in 500 has. `patterns`
    are text shapes with their counts among `shaped` rows (all of them, or an even draw). Lengths are in characters.
    """

    name: str
    sql_type: str
    kind: str
    rows: int
    nulls: int
    distinct: int
    is_exact: bool
    least: Any = None
    most: Any = None
    mean: float | None = None
    sd: float | None = None
    quantiles: Mapping[float, Any] = field(default_factory=dict)
    histogram: Histogram | None = None
    top: tuple[tuple[Any, int], ...] = ()
    patterns: tuple[tuple[str, int], ...] = ()
    shortest: int | None = None
    longest: int | None = None
    unit: str = ""
    unit_why: str = ""
    not_finite: int = 0
    shaped: int = 0
    sketch: Sketch | None = None

    @property
    def filled(self) -> int:
        """Rows with a finite value."""
        return self.rows - self.nulls - self.not_finite

    @property
    def has_all(self) -> bool:
        """Whether `top` holds every value of the column."""
        return self.is_exact and len(self.top) == self.distinct


@dataclass(frozen=True)
class Profile:
    """A table's statistics, by column."""

    table: str
    rows: int
    columns: Mapping[str, Column]


def profile_json(profile: Profile) -> dict[str, Any]:
    """A profile as `--json` has it: times as ISO text, sketches left out."""
    columns = []
    for column in profile.columns.values():
        body = {k: v for k, v in asdict(replace(column, sketch=None)).items() if k != "sketch"}
        body["quantiles"] = {f"{q:g}": _json_value(v) for q, v in column.quantiles.items()}
        body["top"] = [[_json_value(v), n] for v, n in column.top[:TOP]]
        body["least"], body["most"] = _json_value(column.least), _json_value(column.most)
        columns.append(body)
    return {"table": profile.table, "rows": profile.rows, "columns": columns}


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def counted(column: Column, counts: Mapping[Any, int]) -> Column:
    """The column with all that the counts of all its values tell."""
    top = tuple(sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))))
    made = replace(column, distinct=len(counts), is_exact=True, top=top)
    if column.kind not in (NUMBER, TIME):
        return made
    values = sorted(counts.items(), key=lambda item: as_number(item[0]))
    sums = list(accumulate(n for _, n in values))
    quantiles = {q: values[int(np.searchsorted(sums, q * sums[-1]))][0] for q in QUANTILES}
    places = [as_number(v) for v, _ in values]
    edges = (math.nextafter(places[0], -math.inf), *places)
    return replace(made, quantiles=quantiles, histogram=thinned(edges, [n for _, n in values]))


def as_number(value: Any) -> float:
    """A number or a time as histograms have it: times are seconds since 1970."""
    if isinstance(value, datetime):
        return (value - _EPOCH) / timedelta(seconds=1)
    if isinstance(value, str):  # a time beyond the years that Python knows
        return math.inf if not value.startswith("-") else -math.inf
    return float(value)


def as_value(number: float, column: Column) -> Any:
    """A place in the histogram as a value of the column: whole numbers whole, times as datetimes."""
    if column.kind == TIME:
        return moment(number * 1e6)
    return round(number) if _is_whole(column) else number


def moment(microseconds: float) -> datetime | str:
    """A moment as a datetime, or as text if it lies beyond the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return f"{1970 + microseconds / 31_556_952e6:+.0f}"


def merged(one: Profile, other: Profile) -> Profile:
    """The profile of the rows of both, without reading them again.

    Counts, extremes, lengths, mean and sd are exact; so is all of a column with at most 1,000 distinct values in both
    together. Otherwise the share of values at or below any point is off by no more than the share of one bin of
    each (about 1/256); distinct counts by about 2 %; `top` keeps only values whose count is known in both.
    A column that one of them lacks is null there. Raises SourceError if a column is of two kinds.
    """
    names = list(dict.fromkeys([*one.columns, *other.columns]))
    pairs = [
        (one.columns.get(n) or _absent(other.columns[n], one), other.columns.get(n) or _absent(one.columns[n], other))
        for n in names
    ]
    raise_all(
        [
            SourceError(f"is {a.kind} in one and {b.kind} in the other", f"{one.table}.{a.name}", "cast one of them")
            for a, b in pairs
            if a.kind != b.kind and a.filled and b.filled
        ]
    )
    return Profile(one.table, one.rows + other.rows, {a.name: _merged(a, b) for a, b in pairs})


def _absent(like: Column, profile: Profile) -> Column:
    return Column(like.name, like.sql_type, like.kind, profile.rows, profile.rows, 0, like.kind != OTHER)


def _merged(one: Column, other: Column) -> Column:
    empty = one if not one.filled else other if not other.filled else None
    rows, nulls = one.rows + other.rows, one.nulls + other.nulls
    not_finite = one.not_finite + other.not_finite
    if empty is not None:
        full = other if empty is one else one
        return replace(full, rows=rows, nulls=nulls, not_finite=not_finite)
    base = replace(
        one,
        rows=rows,
        nulls=nulls,
        not_finite=not_finite,
        sql_type=one.sql_type if one.sql_type == other.sql_type else f"{one.sql_type} or {other.sql_type}",
        **_extremes(one, other),
        **_moments(one, other),
        patterns=_patterns(one, other),
        shaped=one.shaped + other.shaped,
        sketch=_sketch(one, other),
        unit=one.unit if one.unit == other.unit else "",
        unit_why=one.unit_why if one.unit == other.unit else "",
    )
    if base.kind == OTHER:
        return base
    counts = _counts(one, other)
    if one.has_all and other.has_all and len(counts) <= ALL_VALUES:
        return counted(base, counts)
    top = tuple(sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:TOP])
    base = replace(base, top=top, distinct=_distinct(one, other, base.sketch), is_exact=False, quantiles={})
    if one.histogram is None or other.histogram is None:
        return replace(base, histogram=None)
    histogram = _joined(one.histogram, other.histogram)
    return replace(base, histogram=histogram, quantiles={q: as_value(histogram.quantile(q), base) for q in QUANTILES})


def _extremes(one: Column, other: Column) -> dict[str, Any]:
    def outer(choose: Any, a: Any, b: Any, key: Any = None) -> Any:
        values = [v for v in (a, b) if v is not None]
        return choose(values, key=key) if values else None

    key = as_number if one.kind == TIME else None
    return {
        "least": outer(min, one.least, other.least, key),
        "most": outer(max, one.most, other.most, key),
        "shortest": outer(min, one.shortest, other.shortest),
        "longest": outer(max, one.longest, other.longest),
    }


def _moments(one: Column, other: Column) -> dict[str, Any]:
    """Mean and sample sd of both (Chan, Golub, LeVeque 1983)."""
    if one.mean is None or other.mean is None:
        return {"mean": None, "sd": None}
    n, m = one.filled, other.filled
    apart = other.mean - one.mean
    squares = sum((c.sd or 0.0) ** 2 * (c.filled - 1) for c in (one, other)) + apart**2 * n * m / (n + m)
    mean = one.mean + apart * m / (n + m)
    return {"mean": mean, "sd": math.sqrt(squares / (n + m - 1))}


def _counts(one: Column, other: Column) -> dict[Any, int]:
    """The values whose count is known in both, with the sum."""
    a, b = dict(one.top), dict(other.top)
    known = [v for v in {**a, **b} if (v in a or one.has_all) and (v in b or other.has_all)]
    return {v: a.get(v, 0) + b.get(v, 0) for v in known}


def _patterns(one: Column, other: Column) -> tuple[tuple[str, int], ...]:
    sums = dict(one.patterns)
    for pattern, n in other.patterns:
        sums[pattern] = sums.get(pattern, 0) + n
    return tuple(sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:MOST_PATTERNS])


def _sketch(one: Column, other: Column) -> Sketch | None:
    if one.sketch is None or other.sketch is None or one.sql_type != other.sql_type:
        return None  # the hash of 1 differs between types
    below = min(one.sketch.below, other.sketch.below)
    return Sketch(below, frozenset(h for h in one.sketch.hashes | other.sketch.hashes if h < below))


def _distinct(one: Column, other: Column, sketch: Sketch | None) -> int:
    least, most = max(one.distinct, other.distinct), one.distinct + other.distinct
    return least if sketch is None else min(most, max(least, sketch.distinct))


def _joined(one: Histogram, other: Histogram) -> Histogram:
    edges = sorted({*one.edges, *other.edges})
    sums = np.rint(one.below(edges) + other.below(edges)).astype(int)
    return thinned(edges, [int(n) for n in np.diff(sums)])


def bars(column: Column, n: int) -> tuple[list[float], float, float]:
    """The column's values in `n` bins of even width, and the places where the first begins and the last ends.

    What lies far out goes into the outermost bins: they reach from the 1st to the 99th percentile,
    or to the extremes where these are near. Empty without a histogram.
    """
    if column.histogram is None:
        return [], 0.0, 0.0
    histogram = column.histogram
    least, most = histogram.edges[0], histogram.edges[-1]
    low, high = histogram.quantile(0.01), histogram.quantile(0.99)
    reach = high - low
    low, high = (least if low - least <= reach / 2 else low), (most if most - high <= reach / 2 else high)
    if high <= low:
        low, high = least, most
    places = np.linspace(low, high, n + 1)
    if column.kind == NUMBER and _is_whole(column):  # as many whole numbers in each bin
        start, n_whole = math.ceil(low) - 1, math.floor(high) - math.ceil(low) + 1
        n_whole = max(n_whole, min(n, math.floor(most) - start))
        step = max(1, math.ceil(n_whole / n))
        places = start + step * np.arange(math.ceil(n_whole / step) + 1, dtype=float)
        low, high = float(places[0]), float(places[-1])
    sums = histogram.below(places)
    sums[0], sums[-1] = 0, histogram.total
    return [float(count) for count in np.diff(sums)], low, high


def _is_whole(column: Column) -> bool:
    return "INT" in column.sql_type or column.sql_type.endswith(",0)")


def bars_between(column: Column, low: float, high: float, n: int) -> list[float]:
    """The column's values in at most `n` bins of even width from `low` to `high`; the outermost hold the rest."""
    if column.histogram is None:
        return []
    places = np.linspace(low, high, n + 1)
    if column.kind == NUMBER and _is_whole(column):
        step = max(1, math.ceil((math.floor(high) - math.floor(low)) / n))
        places = np.arange(math.floor(low), math.floor(high) + step, step, dtype=float)
    sums = column.histogram.below(places)
    sums[0], sums[-1] = 0, column.histogram.total
    return [float(count) for count in np.diff(sums)]


def names_rows(profile: Profile) -> tuple[str, ...]:
    """Columns that name the rows: a value in each, no value twice.

    Numbers count only if they number the rows without a gap or are named as ids are: measurements may differ by
    chance. Nothing is told of tables of which rows were drawn.
    """
    return tuple(c.name for c in profile.columns.values() if c.is_exact and c.rows > 1 and _names_rows(c))


def _names_rows(column: Column) -> bool:
    if column.distinct != column.rows or column.sql_type in ("DOUBLE", "FLOAT"):
        return False
    if column.kind != NUMBER or re.search(r"(^|[^a-z])(id|key|code|nr|no|number)($|[^a-z])", _spaced(column.name)):
        return True
    return bool(column.most - column.least + 1 == column.rows)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").lower()


def thinned(edges: Sequence[float], counts: Sequence[int], keep: Collection[float] = ()) -> Histogram:
    """The same with about `BINS` bins: neighbours that together hold less than an even share become one.

    The bins that end at a value of `keep` stay as they are.
    """
    share = sum(counts) / BINS
    kept, sums, held, is_full = [edges[0]], [], 0, False
    for i, n in enumerate(counts):
        if i and held and (is_full or held + n > share or edges[i + 1] in keep):
            kept.append(edges[i])
            sums.append(held)
            held = 0
        held += n
        is_full = edges[i + 1] in keep
    return Histogram((*kept, edges[-1]), (*sums, held))
