"""Two tables, or two periods of one: what moved, how, by how much, for whom, and is it a move at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

import numpy as np

from underhood.ground.errors import SourceError, nearest, raise_all
from underhood.moves.bins import Values, distance, shares_p
from underhood.moves.cells import Key, cell_moves, shared_key
from underhood.moves.column_moves import LEAST_DRIFT, column_moves
from underhood.moves.lags import lag_moves, time_of
from underhood.moves.moves import Comparison, Move, beside, percent, severity_of
from underhood.moves.pairs import in_cohort, missing_in_cohort, relations, renamed_columns, swapped
from underhood.moves.sides import Sides, duplicates, shared_columns, side_by_side
from underhood.plan.operations import NUMBER, TIME
from underhood.plan.render import quoted
from underhood.tables.frames import Table, described, see_time
from underhood.tables.local import Engine

LEAST_DUPLICATES = 0.005  # of the rows, more than before
# What a rule for the cells says better than the two populations do.
SAID_BY_CELLS = {
    *("drift", "missing", "filled", "emptied", "value", "constant"),
    *("factor", "shift", "clock", "rounded", "renamed"),
}


def quietly(_: str) -> None:
    """Says nothing."""


def compare(
    engine: Engine,
    one: Table,
    other: Table,
    *,
    by: Sequence[str] = (),
    time: str | None = None,
    say: Callable[[str], None] = quietly,
) -> Comparison:
    """What moved from `one`, the reference, to `other`: versions, train and test, periods, a copy and its source.

    Silent on two draws of one population: at most ALPHA of such pairs tell
    anything (Bonferroni over columns and tests, and a least size of effect besides).
    `by`: the columns that name the same row in both; found where there are any.
    `time`: the column of time, so that what only follows it is not told as
    drift. `say` is told what is being done.

    Tables may have any rows in common, or none. Above 262,144 rows numbers are
    judged by a draw of about 131,072, the same each time; levels, cells and
    repeated rows by all. Raises SourceError for a column
    that either does not have.
    """
    _check(one, other, [*by, *([time] if time else [])])
    shared, retyped = shared_columns(one, other)
    sides = side_by_side(engine, one, other, shared, say)
    key = shared_key(sides, by) if shared else None
    moves = [move for column in sides.columns for move in _column(sides, column, time)]
    say("looking for swaps, cohorts and broken ties")
    moves = _without_swapped(moves, list(swapped(sides, _moved(moves))))
    moves = [_in_cohort(sides, move) for move in moves]
    if key:
        say(f"comparing the cells of {key.rows:,} rows by {', '.join(key.columns)}")
        moves = _with_cells(moves, list(cell_moves(sides, key)))
        moves += _rows_gone(sides, key)
    moves = _late(sides, moves, list(_lags(sides, time, key)))
    moves += renamed_columns(sides)
    moves += _retyped(sides, retyped)
    moves += _duplicates(sides)
    touched = {column for move in moves for column in move.columns}
    moves += relations(sides, [c for c in sides.columns if c not in touched])
    return _comparison(sides, moves, retyped, key)


def compare_periods(
    engine: Engine, table: Table, time: str, at: str, *, say: Callable[[str], None] = quietly
) -> Comparison:
    """What moved in a table at a moment: its rows before `at` (a date or time, UTC) beside those from then on.

    Raises SourceError if `time` is no column of times, or `at` no moment.
    """
    see_time(table, time)
    try:
        datetime.fromisoformat(at)
    except ValueError as error:
        hint = "write it as 2024-03-01 or 2024-03-01T06:00"
        raise SourceError(f"{at!r} is not a moment", table.name, hint) from error
    moment = f"{quoted(time)} >= '{at}'"
    return compare_parts(engine, table, moment, names=(f"before {at}", f"from {at}"), time=time, say=say)


def compare_parts(
    engine: Engine,
    table: Table,
    where: str,
    *,
    names: tuple[str, str] | None = None,
    time: str | None = None,
    say: Callable[[str], None] = quietly,
) -> Comparison:
    """The rows of a table for which a DuckDB predicate does not hold (or is null), beside those for which it does."""
    rest, chosen = names or (f"{table.name} without", f"{table.name} with")
    engine.view(rest, f"select * from {quoted(table.name)} where ({where}) is not true")
    engine.view(chosen, f"select * from {quoted(table.name)} where {where}")
    parts = [
        replace(described(engine, name), columns=table.columns, kinds=table.kinds, origin=table.origin)
        for name in (rest, chosen)
    ]
    return compare(engine, parts[0], parts[1], time=time, say=say)


def _check(one: Table, other: Table, columns: Sequence[str]) -> None:
    raise_all(
        [
            SourceError(f"has no column {column!r}", table.name, nearest(column, table.columns))
            for table in (one, other)
            for column in columns
            if column not in table.columns
        ]
    )


# --- one column ---


def _column(sides: Sides, column: str, time: str | None) -> Iterator[Move]:
    span = _span(sides, column, time)
    if span is None:
        yield from column_moves(sides, column)
    elif span:
        yield span


def _span(sides: Sides, column: str, time: str | None) -> Move | Literal[False] | None:
    """A move of a column that only says when or who: times, ids, what follows the time. False if it did not move.

    None for a column that says something else.
    """
    if not _only_names_rows(sides, column, time):
        return None
    found = distance(sides.from_one[column].bins, sides.from_other[column].bins)
    if found.p >= sides.told_below or found.effect < LEAST_DRIFT:
        return False
    name = quoted(column)
    return Move(
        (column,),
        "span",
        f"{column}: the rows are of other times or ids",
        {},
        p=found.p,
        effect=found.effect,
        severity=severity_of("span", found.effect),
        query=beside(sides.one.name, sides.other.name, f"min({name}) as least, max({name}) as most"),
    )


def _only_names_rows(sides: Sides, column: str, time: str | None) -> bool:
    if not sides.is_number(column):
        return False
    if column == time or sides.kinds[column] == TIME:
        return True
    a = sides.at_one[column]
    seen = a[~np.isnan(a)]
    if len(seen) < 30:
        return False
    if _is_running(seen) or _is_constant(sides, column):
        return True
    if time is None or not sides.is_number(time):
        return False
    return _follows(sides, column, time)


def _is_running(values: Values) -> bool:
    """Whole numbers that hardly repeat: running without gaps, in the order of the rows, or too many for a measure."""
    n, n_distinct = len(values), len(np.unique(values))
    if np.any(values != np.floor(values)) or n_distinct < 0.8 * n:
        return False
    is_sorted = bool(np.all(np.diff(values) >= 0))
    return is_sorted or float(np.ptp(values)) < 1.5 * n or (n >= 5000 and float(np.ptp(values)) > 2 * n)


def _is_constant(sides: Sides, column: str) -> bool:
    """Whether either table has one value only, and not the same: it says which table the row is in."""
    return all(len(side[column].bins) == 1 for side in (sides.from_one, sides.from_other))


def _follows(sides: Sides, column: str, time: str) -> bool:
    """Whether a column is a function of the time that never falls: a year, a running number."""
    moments = np.concatenate([sides.at_one[time], sides.at_other[time]])
    values = np.concatenate([sides.at_one[column], sides.at_other[column]])
    steps = np.diff(values[np.argsort(moments, kind="stable")])
    return bool(np.all(steps[~np.isnan(steps)] >= 0))


def _in_cohort(sides: Sides, move: Move) -> Move:
    """A move of numbers or of missing values as that of a cohort, where it is one."""
    column = move.columns[0]
    if move.kind == "missing":
        return missing_in_cohort(sides, move)
    is_open = len(move.columns) == 1 and move.where is None and move.kind != "span"
    return in_cohort(sides, move) if is_open and sides.kinds[column] == NUMBER else move


def _moved(moves: Sequence[Move]) -> list[str]:
    kinds = ("drift", "factor", "shift", "unit", "value", "clipped", "cut", "renamed", "new_level", "vanished_level")
    return list(dict.fromkeys(m.columns[0] for m in moves if m.kind in kinds))


def _without_swapped(moves: Sequence[Move], found: Sequence[Move]) -> list[Move]:
    gone = {column for move in found for column in move.columns}
    return [*found, *(m for m in moves if m.columns[0] not in gone)]


# --- rows and cells ---


def _with_cells(moves: Sequence[Move], found: Sequence[Move]) -> list[Move]:
    """Where a rule is known for the cells it replaces what the populations say; bare cells do not."""
    cells = _carried(found)
    known = {m.columns[0] for m in cells if m.kind != "cells"}
    told = {m.columns[0] for m in moves if m.kind not in ("drift", "span")}
    kept = [m for m in moves if m.columns[0] not in known or m.kind not in SAID_BY_CELLS]
    return kept + _together([m for m in cells if m.kind != "cells" or m.columns[0] not in told - known])


def _carried(cells: Sequence[Move]) -> list[Move]:
    """Days and months that changed by one where the clock was turned follow from the clock."""
    clocks = [m.columns[0] for m in cells if m.kind == "clock"]

    def follows(move: Move) -> bool:
        return bool(clocks) and move.kind == "shift" and abs(move.amount["shift"]) == 1 and move.share < 0.5

    says = f" (carried over from {clocks[0]})" if clocks else ""
    return [replace(m, severity=0.3, says=m.says + says) if follows(m) else m for m in cells]


def _together(cells: Sequence[Move]) -> list[Move]:
    """Cells that no rule explains are told in one move, if they are in three columns or more."""
    bare = [m for m in cells if m.kind == "cells" or (m.kind in ("filled", "emptied") and "value" not in m.amount)]
    small = [m for m in bare if m.kind == "cells" or m.share < 0.05]
    columns = tuple(dict.fromkeys(m.columns[0] for m in sorted(small, key=lambda m: -m.share)))
    if len(columns) < 3:
        return list(cells)
    n = sum(m.rows or 0 for m in small)
    listed = ", ".join(f"{m.columns[0]} {percent(m.share)}" for m in sorted(small, key=lambda m: -m.share)[:4])
    one = Move(
        columns,
        "cells",
        f"{n:,} cells of {len(columns)} columns differ: {listed}" + (" …" if len(columns) > 4 else ""),
        {"cells": n},
        max(m.share for m in small),
        effect=max(m.effect for m in small),
        severity=max(m.severity for m in small),
        query=max(small, key=lambda m: m.share).query,
    )
    return [one, *(m for m in cells if m not in small)]


def _rows_gone(sides: Sides, key: Key) -> list[Move]:
    """Rows of one table without a partner in the other."""
    lost, new = sides.one.rows - key.rows, sides.other.rows - key.rows
    share = lost / sides.one.rows
    if share < 0.001 and lost < 10:
        return []
    listed = ", ".join(quoted(c) for c in key.columns)
    anti = f"select {listed} from {quoted(sides.one.name)} except select {listed} from {quoted(sides.other.name)}"
    return [
        Move(
            (),
            "lost_rows",
            f"{lost:,} of {sides.one.rows:,} rows ({percent(share)}) of {sides.one.name} are not in "
            f"{sides.other.name}" + (f", which has {new:,} of its own" if new else ""),
            {"lost": lost, "new": new},
            share,
            effect=share,
            severity=severity_of("lost_rows", share),
            query=anti,
        )
    ]


def _lags(sides: Sides, time: str | None, key: Key | None) -> Iterator[Move]:
    column = time_of(sides, time) if sides.columns else None
    if column:
        yield from lag_moves(sides, column, key.columns if key else ())


def _late(sides: Sides, moves: Sequence[Move], lags: Sequence[Move]) -> list[Move]:
    """Cells that differ because a feed is late are the lag."""
    late = {m.columns[0] for m in lags}
    return [m for m in moves if (m.columns[:1] and m.columns[0] not in late) or m.kind != "cells"] + list(lags)


def _duplicates(sides: Sides) -> list[Move]:
    """Rows that repeat others in every column, more often than before."""
    columns = [c for c in sides.one.columns if c in sides.other.columns]
    if not columns or not sides.one.rows or not sides.other.rows:
        return []
    now = duplicates(sides.engine, sides.other, columns, LEAST_DUPLICATES)
    if not now:
        return []
    before = duplicates(sides.engine, sides.one, columns)
    share_before, share_now = before / sides.one.rows, now / sides.other.rows
    p = shares_p(before, sides.one.rows, now, sides.other.rows)
    # a larger table repeats itself more often by chance alone
    expected = share_before * max(1.0, sides.other.rows / sides.one.rows)
    if p >= sides.told_below or share_now - expected < LEAST_DUPLICATES:
        return []
    listed = ", ".join(quoted(c) for c in columns)
    return [
        Move(
            (),
            "duplicates",
            f"{now:,} rows ({percent(share_now)}) repeat another one; it was {percent(share_before)}",
            {"before": share_before, "now": share_now},
            share_now,
            rows=now,
            p=p,
            effect=share_now - share_before,
            severity=severity_of("duplicates", share_now - share_before),
            query=f"select {listed}, count(*) as n from {quoted(sides.other.name)} group by all having count(*) > 1",
        )
    ]


def _retyped(sides: Sides, retyped: Sequence[tuple[str, str, str]]) -> Iterator[Move]:
    for column, before, now in retyped:
        name = quoted(column)
        is_text = sides.other.kinds[column] == "text"
        query = f"select {name}, count(*) as n from {quoted(sides.other.name)}"
        where = f"{name} is not null and try_cast({name} as {before}) is null" if is_text else None
        if where:
            query += f" where {where}"
            rows = sides.engine.rows(f"select count(*) from {quoted(sides.other.name)} where {where}")[0][0]
        yield Move(
            (column,),
            "retyped",
            f"{column}: was {before}, is {now}" + (f"; {rows:,} values do not parse" if where else ""),
            {"before": before, "now": now},
            where=where,
            rows=rows if where else None,
            severity=severity_of("retyped", 1.0),
            query=f"{query} group by 1 order by 2 desc",
        )


def _comparison(
    sides: Sides, moves: Sequence[Move], retyped: Sequence[tuple[str, str, str]], key: Key | None
) -> Comparison:
    touched = {column for move in moves for column in move.columns}
    return Comparison(
        sides.one.name,
        sides.other.name,
        sides.one.rows,
        sides.other.rows,
        tuple(c for c in sides.other.columns if c not in sides.one.columns),
        tuple(c for c in sides.one.columns if c not in sides.other.columns),
        tuple(retyped),
        tuple(sorted(moves, key=lambda m: (-m.severity, m.columns, m.kind))),
        tuple(c for c in sides.columns if c not in touched),
        key.columns if key else (),
        key.rows if key else 0,
        sides.told_below,
    )
