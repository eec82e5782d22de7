"""A table within reach: a copy in memory, its numbers as arrays, the levels of its texts, its clocks.

What the finders of signs*.py and relations.py look at, made once a table.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.signs.words import says_nothing
from underhood.tables.frames import Table
from underhood.tables.local import Engine

HELD_CELLS = 60_000_000  # more than that is looked at in an even draw of rows
HELD_ROWS = 2_000_000
ARRAY_ROWS = 250_000  # rows of the arrays, evenly drawn from the copy
MOST_LEVELS = 20_000
MOST_COLUMNS = 400
MOSTLY = 0.8  # of the texts can be read as numbers or moments: the column holds numbers or moments

FORMATS = (
    "%Y-%m-%d",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%m/%d/%y",
    "%Y/%m/%d",
    "%Y%m%d",
    "%d-%m-%Y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%b %d, %Y",
)
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", " %I:%M %p", " %H.%M.%S")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Numbers:
    """A column's numbers. `all` has one value a drawn row (null is NaN), `values` each distinct one, rising.

    `sql` gives them as DOUBLE; it differs from the column when that holds numbers as text (`is_text`).
    """

    column: str
    sql: str
    all: Array
    values: Array
    counts: Array
    is_text: bool = False

    @cached_property
    def n(self) -> int:
        """Drawn rows with a number."""
        return int(self.counts.sum())

    @cached_property
    def is_whole(self) -> bool:
        """Whether all numbers are whole."""
        return bool(np.all(self.values == np.floor(self.values)))

    @cached_property
    def filled(self) -> Array:
        """The numbers that are there, rising."""
        return np.repeat(self.values, self.counts)

    def quantile(self, q: float) -> float:
        """The value below which a share of `q` lies."""
        return float(self.filled[min(int(q * self.n), self.n - 1)])


@dataclass(frozen=True)
class Levels:
    """A column's texts with their counts in the copy, the most frequent first; all of them if `is_all`."""

    column: str
    counts: Mapping[str, int]
    n: int
    is_all: bool


@dataclass(frozen=True)
class Seen:
    """A table within reach. `copy` names the table in memory, with the row's place in `__row`.

    `columns` are those that can be looked into: no lists, structs or bytes, 400 at
    most. `held` counts its rows: as many as the table has, or an even draw of them.
    """

    engine: Engine
    table: Table
    columns: tuple[str, ...]
    copy: str
    held: int
    numbers: Mapping[str, Numbers]
    levels: Mapping[str, Levels]
    clocks: Mapping[str, str]

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def is_draw(self) -> bool:
        """Whether the copy holds some of the rows only."""
        return self.held < self.table.rows

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.engine.rows(sql)

    def count(self, where: str) -> int:
        """How many rows of the copy a predicate selects."""
        return int(self.rows(f"select count(*) from {self.copy} where {where}")[0][0])


def see(engine: Engine, table: Table) -> Seen:
    """Copies a table into memory, or an even draw of its rows, and reads what the finders need."""
    names = [c for c, kind in table.kinds.items() if kind in (NUMBER, TEXT, TIME, FLAG)][:MOST_COLUMNS]
    copy = quoted(f"seen {table.name}")
    every = _every(table.rows, len(names))
    listed = "".join(f", {quoted(c)}" for c in names)
    numbered = f"select row_number() over () - 1 as __row{listed} from {quoted(table.name)}"
    # by a hash, not every nth: what repeats with a period would be seen always or never
    picked = f"select * from ({numbered}) where hash(__row) % {every} = 0" if every > 1 else numbered
    engine.run(f"create or replace temp table {copy} as {picked}")
    held = int(engine.rows(f"select count(*) from {copy}")[0][0])
    levels = {c: _levels(engine, copy, c) for c in names if table.kinds[c] == TEXT}
    clocks = {c: f"{quoted(c)}::TIMESTAMP" for c in names if table.kinds[c] == TIME}
    clocks |= {c: sql for c in levels if (sql := _moments(engine, copy, c))}
    as_text = [c for c in levels if c not in clocks and _holds_numbers(levels[c])]
    read = {c: f"{quoted(c)}::DOUBLE" for c in names if table.kinds[c] == NUMBER}
    read |= {c: f"try_cast(trim({quoted(c)}) as DOUBLE)" for c in as_text}
    numbers = _numbers(engine, table, copy, held, read, as_text)
    return Seen(engine, table, tuple(names), copy, held, numbers, levels, clocks)


def forget(seen: Seen) -> None:
    """Frees the copy."""
    seen.engine.run(f"drop table if exists {seen.copy}")


def _every(rows: int, n_columns: int) -> int:
    most = min(HELD_ROWS, max(HELD_CELLS // max(n_columns, 1), 10_000))
    return max(1, math.ceil(rows / most))


def _levels(engine: Engine, copy: str, column: str) -> Levels:
    name = quoted(column)
    found = engine.rows(
        f"select left({name}::VARCHAR, 300), count(*) from {copy} where {name} is not null "
        f"group by 1 order by 2 desc, 1 limit {MOST_LEVELS + 1}"
    )
    counts = dict(found[:MOST_LEVELS])
    n = int(engine.rows(f"select count({name}) from {copy}")[0][0])
    return Levels(column, counts, n, len(found) <= MOST_LEVELS)


def _holds_numbers(levels: Levels) -> bool:
    """Whether most of a column's texts are plain numbers: not codes such as 007."""
    if len(levels.counts) < 10:
        return False
    told = sum(n for text, n in levels.counts.items() if not says_nothing(text))
    reads = sum(n for text, n in levels.counts.items() if as_number(text) is not None)
    padded = sum(n for text, n in levels.counts.items() if text.strip()[:1] == "0" and text.strip()[1:2].isdigit())
    lengths = Counter(len(text.strip()) for text in levels.counts if text.strip().isdigit())
    is_code = bool(lengths) and lengths.most_common(1)[0][0] >= 5 and max(lengths.values()) >= 0.95 * lengths.total()
    return told > 0 and reads >= MOSTLY * told and padded <= 0.01 * reads and not is_code


def as_number(text: str) -> float | None:
    """The number that a text holds, or null."""
    try:
        value = float(text.strip().replace("_", "x"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _moments(engine: Engine, copy: str, column: str) -> str:
    """SQL that reads a text column's moments; empty if it holds none."""
    name = quoted(column)
    drawn = f"(select {name} as v from {copy} where {name} is not null limit 2000)"
    first = engine.rows(f"select v from {drawn} limit 1")
    if not first or not any(c.isdigit() for c in str(first[0][0])) or len(str(first[0][0])) < 8:
        return ""
    tries = [f"try_strptime(trim({name}), {sql_value(d + t)})" for d in FORMATS for t in TIMES]
    tries = [f"try_cast({name} as TIMESTAMP)", *tries]
    reads = ", ".join(f"count({t.replace(name, 'v')})" for t in tries)
    n, *found = engine.rows(f"select count(*), {reads} from {drawn}")[0]
    best = max(range(len(tries)), key=lambda i: (found[i], -i))
    return tries[best] if found[best] >= MOSTLY * n else ""


def _numbers(
    engine: Engine, table: Table, copy: str, held: int, read: Mapping[str, str], as_text: Sequence[str]
) -> dict[str, Numbers]:
    if not read:
        return {}
    every = max(1, math.ceil(held / ARRAY_ROWS))
    picked = f"where hash(__row + 1) % {every} = 0 " if every > 1 else ""
    listed = ", ".join(f"{sql} as {quoted(c)}" for c, sql in read.items())
    frame = engine.frame(f"select {listed} from {copy} {picked}order by __row")
    frame = {c: np.where(np.isfinite(x), x, np.nan) for c, x in frame.items()}
    ends = _ends(engine, table, read) if len(next(iter(frame.values()))) < table.rows else {}
    made = {}
    for column, sql in read.items():
        values, counts = np.unique(_with_ends(frame[column], ends.get(column)), return_counts=True)
        if len(values):
            made[column] = Numbers(column, sql, frame[column], values, counts, column in as_text)
    return made


def _ends(engine: Engine, table: Table, read: Mapping[str, str]) -> dict[str, tuple[Array, Array]]:
    """The 64 least and the 64 greatest values of each column of the whole table, which a draw would miss."""
    listed = ", ".join(f"min({finite}, 64), max({finite}, 64)" for finite in map(_finite, read.values()))
    found = engine.rows(f"select {listed} from {quoted(table.name)}")[0]
    ends = {c: (found[2 * i], found[2 * i + 1]) for i, c in enumerate(read)}
    return {c: (np.array(low, float), np.array(high, float)) for c, (low, high) in ends.items() if low and high}


def _finite(sql: str) -> str:
    return f"case when isfinite({sql}) then {sql} end"


def _with_ends(drawn: Array, ends: tuple[Array, Array] | None) -> Array:
    """The drawn numbers, with the table's true ends in the place of the drawn ones."""
    filled = drawn[np.isfinite(drawn)]
    if ends is None or len(ends[0]) < 64:
        return filled
    low, high = ends
    if low[0] != low[-1]:
        filled = np.concatenate([low[low < low[-1]], filled[filled >= low[-1]]])
    if high[0] != high[-1]:
        filled = np.concatenate([high[high > high[-1]], filled[filled <= high[-1]]])
    return filled


def shown(value: float) -> str:
    """A number as a person writes it."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.6g}"


def literal(value: float) -> str:
    """A number as a predicate has it."""
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def one_of(sql: str, values: Sequence[Any]) -> str:
    """A predicate: the expression is one of these texts or numbers."""
    parts = [literal(v) if isinstance(v, int | float) else sql_value(str(v)) for v in values]
    return f"{sql} = {parts[0]}" if len(parts) == 1 else f"{sql} in ({', '.join(parts)})"
