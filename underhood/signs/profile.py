"""What is in a table, column by column, in two passes over its columns, however many there are."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.signs.patterns import shape, shape_sql
from underhood.signs.spread import edges_at, steps_for
from underhood.signs.statistics import (
    ALL_VALUES,
    BINS,
    HASHES,
    MOST_PATTERNS,
    QUANTILES,
    TOP,
    Column,
    Histogram,
    Profile,
    Sketch,
    as_number,
    as_value,
    counted,
    merged,
    moment,
    profile_json,
)
from underhood.signs.units import unit_of
from underhood.tables.frames import OTHER, Table
from underhood.tables.local import Engine

__all__ = ["Column", "Histogram", "Profile", "Sketch", "merged", "profile_json", "profile_table"]

SMALL = 200_000  # rows: up to here nothing is drawn, all figures are exact
PICKED = 50_000  # rows that place the edges of larger tables
OFTEN = 50  # of the rows picked: from there a value is counted in all rows
SKETCH = 2048  # hashes: the error of a merged distinct count is about 2 %
CELLS_AT_ONCE = 5_000_000  # of the rows picked, in memory
MIXED, NARROW = 16, 4  # columns whose values tell rows apart, if there are more than the latter
LONG = 300  # characters: longer texts are cut in `top`, `least` and `most`
WIDE = 1e150  # the square of anything beyond overflows

Say = Callable[[str], None]
Found = dict[str, Any]
_SHARES = sorted({i / BINS for i in range(BINS + 1)} | set(QUANTILES))


@dataclass(frozen=True)
class _Asked:
    """A column as the passes ask for it. `is_guarded`: NaN, infinite and enormous values are kept out."""

    name: str
    sql_type: str
    kind: str
    rows: int
    is_guarded: bool = False

    @property
    def is_drawn(self) -> bool:
        return self.rows > SMALL

    @property
    def value(self) -> str:
        """The column's values, null where they are not finite."""
        column = quoted(self.name)
        if self.is_guarded or self.kind == TIME:
            return f"case when isfinite({column}) then {column} end"
        return f"{column}::VARCHAR" if self.kind == TEXT and self.sql_type != "VARCHAR" else column

    @property
    def key(self) -> str:
        """The values as `top` counts them: texts cut, times as microseconds since 1970."""
        if self.kind == TIME:
            return f"epoch_us({quoted(self.name)})"  # null where it is not finite
        return f"left({self.value}, {LONG})" if self.kind == TEXT else self.value

    @property
    def number(self) -> str:
        """The values as floats: what histograms and moments are of."""
        return f"epoch({quoted(self.name)})" if self.kind == TIME else f"({self.value})::DOUBLE"

    @property
    def modest(self) -> str:
        """Numbers whose squares do not overflow."""
        return f"case when abs({self.number}) < {WIDE} then {self.number} end" if self.is_guarded else self.number


def profile_table(engine: Engine, table: Table, say: Say = lambda line: None) -> Profile:
    """The statistics of every column, in two passes.

    Tables of more than 200,000 rows have their histogram's edges, patterns and candidates for `top` drawn
    from about 50,000 rows; all counts but those of patterns are of all rows.
    """
    columns: dict[str, Column] = {}
    for names in _portions(table):
        asked = [_Asked(name, table.columns[name], table.kinds[name], table.rows) for name in names]
        so_far = f"{len(columns) + len(names):,} of {len(table.columns):,} columns"
        say(f"{table.name}: first pass, {so_far}")
        first = _pass(engine, table, {a: _first(a) for a in asked})
        odd = [a for a in asked if a.sql_type in ("DOUBLE", "FLOAT") and _is_odd(first[a.name])]
        guarded = {a.name: replace(a, is_guarded=True) for a in odd}
        first |= _pass(engine, table, {a: _first(a) for a in guarded.values()}) if odd else {}
        asked = [guarded.get(a.name, a) for a in asked]
        for a in asked:
            _counted_up(a, first[a.name])
        say(f"{table.name}: second pass, {so_far}")
        second = _pass(engine, table, {a: _second(a, first[a.name]) for a in asked})
        columns |= {a.name: _column(a, first[a.name], second[a.name]) for a in asked}
    return Profile(table.name, table.rows, columns)


def _portions(table: Table) -> Iterator[Sequence[str]]:
    names = list(table.columns)
    at_once = max(4, min(100, CELLS_AT_ONCE // max(1, table.rows if table.rows <= SMALL else PICKED)))
    for start in range(0, len(names), at_once):
        yield names[start : start + at_once]


def _pass(engine: Engine, table: Table, wanted: Mapping[_Asked, Mapping[str, str]]) -> dict[str, Found]:
    """One scan: the aggregates of each column, by column and by what they are called there."""
    listed = [(asked.name, key, sql) for asked, sqls in wanted.items() for key, sql in sqls.items()]
    found: dict[str, Found] = {asked.name: {} for asked in wanted}
    if not listed:
        return found
    # a row is picked by its content, so that the same table always gives the same profile; where many rows
    # may be equal, by its number, which costs a thread
    mixing = list(table.columns)[:MIXED] if table.rows > SMALL else []
    mixed = ", ".join(map(quoted, mixing)) if len(mixing) > NARROW else "row_number() over ()"
    needed = dict.fromkeys([*mixing, *(asked.name for asked in wanted)])
    picked = f", (hash({mixed}) < {int(HASHES * min(1.0, PICKED / max(1, table.rows)))}::UBIGINT) as __picked_here"
    read = ", ".join(map(quoted, needed))
    source = f"(select {read}{picked if table.rows > SMALL else ''} from {quoted(table.name)})"
    values = engine.rows(f"select {', '.join(sql for _, _, sql in listed)} from {source}")[0]
    for (name, key, _), value in zip(listed, values, strict=True):
        found[name][key] = value
    return found


def _first(asked: _Asked) -> dict[str, str]:
    """What the first pass asks of a column: counts, extremes, mean, and what the second pass needs."""
    made = {"filled": f"count({quoted(asked.name)})"}
    if asked.kind == OTHER:
        return made
    only = f"__picked_here and {asked.value} is not null" if asked.is_drawn else f"{asked.value} is not null"
    made["drawn"] = f"list({asked.key}) filter (where {only})"
    if asked.is_drawn:
        made["distinct"] = f"approx_count_distinct({asked.value})"
    if asked.is_guarded or asked.kind == TIME:
        made["finite"] = f"count({asked.value})"
    if asked.kind == TEXT:
        made["longest"] = f"max(length({asked.value}))"
    if asked.kind in (NUMBER, TIME):
        made |= {"least": f"min({asked.key})", "most": f"max({asked.key})", "mean": f"avg({asked.modest})"}
    return made


def _is_odd(first: Found) -> bool:
    ends = [first[side] for side in ("least", "most") if first[side] is not None]
    return any(not math.isfinite(v) or abs(v) >= WIDE for v in ends)


def _counted_up(asked: _Asked, first: Found) -> None:
    """Counts the drawn values: all of them when they are few, else the frequent ones, and where the quantiles lie."""
    if asked.kind == OTHER:
        return
    first.setdefault("finite", first["filled"])
    drawn = first.pop("drawn") or []
    counts = Counter(drawn)
    if asked.is_drawn:
        first["often"] = [(v, n) for v, n in counts.items() if n >= OFTEN]
    else:
        first["often"] = [(v, n) for v, n in counts.most_common(TOP) if n > 1]
        first["distinct"] = len(counts)
        if len(counts) <= ALL_VALUES and not _is_long(first):
            first["values"] = counts
    if asked.kind in (NUMBER, TIME) and drawn:
        unit = 1e6 if asked.kind == TIME else 1
        values = np.sort(np.array(drawn, dtype=float)) / unit
        first["sorted"] = values
        first["marks"] = [_mark(values, q) for q in _SHARES]
        is_many = asked.is_drawn and len(counts) > ALL_VALUES
        first["steps"] = steps_for(values, [float(v) / unit for v, _ in first["often"]]) if is_many else None


def _mark(values: np.ndarray[Any, Any], share: float) -> float:
    return float(values[max(0, math.ceil(share * len(values)) - 1)])


def _is_long(first: Found) -> bool:
    return (first.get("longest") or 0) > LONG


def _second(asked: _Asked, first: Found) -> dict[str, str]:
    """What the second pass asks of a column: all values when they are few, else histogram, top values, patterns."""
    if asked.kind == OTHER or not first["finite"]:
        return {}
    made = {"hashes": _hashes(asked, first)}
    if first.get("mean") is not None:
        apart = f"({asked.modest} - ({first['mean']!r})::DOUBLE)"
        made["squares"] = f"sum({apart} * {apart})"
    key = asked.key if _is_long(first) or asked.kind != TEXT else asked.value
    if "values" in first:
        return made
    if first["distinct"] <= ALL_VALUES and not _is_long(first):
        return made | {"counts": f"histogram({key})"}
    if asked.is_drawn and first["often"]:
        made["some"] = f"histogram_exact({key}, {_list_sql(asked, [v for v, _ in first['often']])})"
    if asked.kind == TEXT:
        drawn = f"case when __picked_here then {asked.value} end" if asked.is_drawn else asked.value
        made |= {"least": f"min({key})", "most": f"max({key})", "shortest": f"min(length({asked.value}))"}
        return made | {"shapes": f"histogram({shape_sql(drawn)})"}
    if first.get("steps"):
        return made | {"steps": f"histogram({first['steps'].sql(asked.number)})"}
    edges = ", ".join(f"{edge!r}::DOUBLE" for edge in edges_at(first.get("marks", []), *_ends(asked, first))[1:])
    return made | {"bins": f"histogram({asked.number}, [{edges}])"}


def _hashes(asked: _Asked, first: Found) -> str:
    """The hashes below a bound that leaves about `SKETCH` distinct ones."""
    hashed, below = f"hash({asked.value})", f"{_below(first)}::UBIGINT"
    if first["distinct"] * 50 > asked.rows:  # few rows pass: cheaper than telling them apart (bench/profile)
        return f"list({hashed}) filter (where {hashed} < {below} and {asked.value} is not null)"
    return f"list(distinct case when {hashed} < {below} and {asked.value} is not null then {hashed} end)"


def _below(first: Found) -> int:
    return min(HASHES - 1, int(HASHES * (SKETCH / max(first["distinct"], SKETCH))))


def _list_sql(asked: _Asked, values: Sequence[Any]) -> str:
    texts = [repr(v) if isinstance(v, float) else str(v) for v in values]
    listed = ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
    sql_type = "VARCHAR" if asked.kind == TEXT else "BIGINT" if asked.kind == TIME else asked.sql_type
    return f"[{listed}]::{sql_type}[]"


def _ends(asked: _Asked, first: Found) -> tuple[float, float]:
    unit = 1e6 if asked.kind == TIME else 1
    return float(first["least"]) / unit, float(first["most"]) / unit


def _column(asked: _Asked, first: Found, second: Found) -> Column:
    """The column from what the two passes have found."""
    kind, name = asked.kind, asked.name
    column = Column(name, asked.sql_type, kind, asked.rows, asked.rows - first["filled"], 0, kind != OTHER)
    if kind == OTHER:
        return column
    column = replace(column, not_finite=first["filled"] - first["finite"])
    if not first["finite"]:
        return column
    squares, n = second.get("squares"), first["finite"]
    column = replace(
        column,
        distinct=min(first["distinct"], n),
        is_exact=not asked.is_drawn and not _is_long(first),
        least=_plain(first.get("least"), kind),
        most=_plain(first.get("most"), kind),
        mean=first.get("mean"),
        sd=math.sqrt(squares / (n - 1)) if squares is not None and n > 1 else None,
        longest=first.get("longest"),
        sketch=Sketch(_below(first), frozenset(second["hashes"] or []) - {None}),
    )
    if asked.is_drawn and column.sketch is not None:  # DuckDB's own estimate is off by up to 25 %
        column = replace(column, distinct=min(n, column.sketch.distinct))
    values = first.get("values") or second.get("counts")
    if values:
        column = _from_values(column, {_plain(v, kind): n for v, n in values.items()})
    else:
        column = _from_histogram(asked, column, first, second)
    if kind != NUMBER:
        return column
    unit, why = unit_of(name, as_number(column.least), as_number(column.most), "INT" in column.sql_type)
    return replace(column, unit=unit, unit_why=why)


def _from_values(column: Column, counts: Mapping[Any, int]) -> Column:
    """A column whose values have all been counted."""
    column = counted(column, counts)
    if column.kind == FLAG:
        share, n = counts.get(True, 0) / column.filled, column.filled
        sd = math.sqrt(share * (1 - share) * n / (n - 1)) if n > 1 else None
        return replace(column, least=min(counts), most=max(counts), mean=share, sd=sd)
    if column.kind != TEXT:
        return column
    shapes: Counter[str] = Counter()
    for value, n in counts.items():
        shapes[shape(value)] += n
    lengths = [len(value) for value in counts]
    column = replace(column, least=min(counts), most=max(counts), shortest=min(lengths), longest=max(lengths))
    return _patterned(column, shapes)


def _from_histogram(asked: _Asked, column: Column, first: Found, second: Found) -> Column:
    """A column of too many values to tell each: the frequent ones, histogram, quantiles, patterns."""
    counts = dict(first["often"])
    if asked.is_drawn:
        counts = {v: n for v, n in (second.get("some") or {}).items() if v in counts}
    often = sorted(((_plain(v, asked.kind), n) for v, n in counts.items()), key=lambda item: (-item[1], str(item[0])))
    column = replace(column, top=tuple(often[:TOP]))
    if asked.kind == TEXT:
        column = replace(column, least=second["least"], most=second["most"], shortest=second["shortest"])
        return _patterned(column, second["shapes"] or {})
    histogram = _histogram(asked, column, first, second)
    values = first.get("sorted", ())
    if asked.is_drawn:
        places = {q: _nearest(values, histogram.quantile(q)) for q in QUANTILES}
    else:
        places = {q: _mark(values, q) for q in QUANTILES}
    return replace(column, histogram=histogram, quantiles={q: as_value(v, column) for q, v in places.items()})


def _nearest(values: Sequence[float], place: float) -> float:
    """The drawn value nearest to a place: a value that the column has."""
    if not len(values):
        return place
    after = bisect_left(values, place)
    return float(min(values[max(0, after - 1) : after + 1], key=lambda v: abs(v - place)))


def _histogram(asked: _Asked, column: Column, first: Found, second: Found) -> Histogram:
    if "steps" in second:
        made: Histogram = first["steps"].histogram(
            second["steps"], _ends(asked, first), {as_number(v): n for v, n in column.top}
        )
        return made
    edges = edges_at(first.get("marks", []), *_ends(asked, first))
    sums = [n for _, n in sorted(second["bins"].items())]
    if len(sums) == len(edges):  # what the last edge just misses, because casts round
        sums = [*sums[:-2], sums[-2] + sums[-1]]
    return Histogram(tuple(edges), tuple(sums))


def _patterned(column: Column, shapes: Mapping[str, int]) -> Column:
    often = sorted(shapes.items(), key=lambda item: (-item[1], item[0]))
    return replace(column, patterns=tuple(often[:MOST_PATTERNS]), shaped=sum(shapes.values()))


def _plain(value: Any, kind: str) -> Any:
    """A value as Python has it: decimals as whole numbers or floats, microseconds as moments."""
    if kind == TIME:
        return None if value is None else moment(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
