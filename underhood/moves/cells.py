"""Two versions of one table, cell by cell: which rows are the same row, which cells differ, and in what way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from underhood.moves.bins import Values, value_sql
from underhood.moves.moves import Move, number, percent, severity_of, text
from underhood.moves.shifts import known_unit
from underhood.moves.sides import Sides
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.tables.frames import Table
from underhood.tables.local import Engine

MOST_PARTS = 5  # columns of a key
MOST_ROWS = 1_000_000  # above it only single columns are tried as a key
LEAST_OVERLAP = 0.5  # of the smaller table's rows that must have a partner
LEAST_AGREEMENT = 0.15  # above chance, of the cells beside the key: else the key joins strangers
_ALIGNED = '"__aligned"'
MOSTLY = 0.8  # of the changed cells that one rule must explain


@dataclass(frozen=True)
class Key:
    """The columns that name a row in both tables; `rows` of them have a partner.

    `repeats`: whether it names several rows somewhere; those are left out.
    """

    columns: tuple[str, ...]
    rows: int
    repeats: bool = False


def shared_key(sides: Sides, given: Sequence[str] = ()) -> Key | None:
    """The columns that align the two tables; `given` ones are taken as they are. None if there are none.

    A key is unique in at least one table, is found in at least half of the
    smaller one, and its partners agree in more cells than strangers would.
    """
    columns = tuple(given) or _unique_columns(sides)
    if not columns or not sides.one.rows or not sides.other.rows:
        return None
    repeats = not all(_is_unique(sides.engine, table, columns) for table in (sides.one, sides.other))
    key = Key(columns, 0, repeats)
    key = replace(key, rows=sides.engine.rows(f"select count(*) from {joined(sides, key)}")[0][0])
    if given:
        return key
    is_enough = key.rows >= max(10, LEAST_OVERLAP * min(sides.one.rows, sides.other.rows))
    return key if is_enough and _agree(sides, key) else None


def _unique_columns(sides: Sides) -> tuple[str, ...]:
    able = {c: n for c in sides.columns if (n := _distinct_share(sides, c)) and _may_name(sides, c)}
    singles = [c for c in sorted(able, key=lambda c: -able[c]) if able[c] > 0.995]
    for column in singles:
        if _is_unique(sides.engine, sides.one, [column]) or _is_unique(sides.engine, sides.other, [column]):
            return (column,)
    if max(sides.one.rows, sides.other.rows) > MOST_ROWS or not able:
        return ()
    made = _unique_in_sample(sides, able)
    if made and any(_is_unique(sides.engine, table, made) for table in (sides.one, sides.other)):
        return tuple(made)
    return ()


def _unique_in_sample(sides: Sides, able: Mapping[str, float]) -> list[str]:
    """At most MOST_PARTS columns that together are unique in the sample, the most telling first, or none.

    What is not unique in a part of the rows is not unique in all of them.
    """
    codes = {c: _numbered(sides.at_one[c]) for c in able}
    n = len(next(iter(codes.values())))
    made: list[str] = []
    joint, n_joint = np.zeros(n, np.int64), 1
    while codes and len(made) < MOST_PARTS and n_joint < n:
        joined_up = {c: joint * (int(code.max()) + 1) + code for c, code in codes.items()}
        counts = {c: len(np.unique(each)) for c, each in joined_up.items()}
        best = max(sorted(counts), key=lambda c: counts[c])
        if counts[best] <= n_joint:
            break
        joint, n_joint = np.unique(joined_up[best], return_inverse=True)[1].astype(np.int64), counts[best]
        made.append(best)
        del codes[best]
    return made if n_joint == n else []


def _numbered(values: Values) -> Values:
    """Each distinct value as a whole number from 0."""
    place: dict[object, int] = {}
    return np.array([place.setdefault(v, len(place)) for v in values.tolist()], np.int64)


def _may_name(sides: Sides, column: str) -> bool:
    """Texts, times and whole numbers without gaps in them may be part of a key; measured values may not."""
    kind = sides.kinds[column]
    if sides.from_one[column].missing or sides.from_other[column].missing:
        return False
    if kind == NUMBER:
        return all(bool(np.all(side == np.floor(side))) for side in (sides.at_one[column], sides.at_other[column]))
    return kind in (TEXT, TIME)


def _distinct_share(sides: Sides, column: str) -> float:
    values = sides.at_one[column]
    if not len(values):
        return 0.0
    return len(set(values.tolist())) / len(values)


def _is_unique(engine: Engine, table: Table, columns: Sequence[str]) -> bool:
    listed = ", ".join(quoted(c) for c in columns)
    found = engine.rows(f"select count(*), count(distinct ({listed})) from {quoted(table.name)}")[0]
    return bool(found[0] == found[1])


def joined(sides: Sides, key: Key, columns: Sequence[str] = ()) -> str:
    """Aligned rows side by side, as `a` and `b`: a FROM clause. Rows whose key repeats are left out."""
    listed = ", ".join(quoted(c) for c in key.columns)
    if not key.repeats:
        return f"{quoted(sides.one.name)} a join {quoted(sides.other.name)} b using ({listed})"
    taken = ", ".join([listed, *(f"any_value({quoted(c)}) as {quoted(c)}" for c in columns)])
    parts = [
        f"(select {taken} from {quoted(table.name)} group by {listed} having count(*) = 1) {alias}"
        for table, alias in ((sides.one, "a"), (sides.other, "b"))
    ]
    return f"{parts[0]} join {parts[1]} using ({listed})"


def _agree(sides: Sides, key: Key) -> bool:
    """Whether aligned rows agree more than strangers would, over the columns beside the key."""
    beside_key = [c for c in sides.columns if c not in key.columns]
    if not beside_key or not key.rows:
        return bool(key.rows)
    asked = ", ".join(f"count(*) filter (a.{quoted(c)} is not distinct from b.{quoted(c)})" for c in beside_key)
    same = sides.engine.rows(f"select {asked} from {joined(sides, key, beside_key)}")[0]
    found = []
    for column, n in zip(beside_key, same, strict=True):
        a = sides.codes[column][0]
        shares = np.bincount(a) / max(len(a), 1)
        chance = float((shares**2).sum())
        if chance < 0.95:
            found.append((n / key.rows - chance) / (1 - chance))
    return not found or float(np.mean(found)) >= LEAST_AGREEMENT or max(found) >= 0.9


# --- cells ---


def cell_moves(sides: Sides, key: Key) -> Iterator[Move]:
    """How the cells of aligned rows differ, column by column."""
    beside_key = [c for c in sides.columns if c not in key.columns]
    if not beside_key or not key.rows:
        return
    listed = ", ".join(f"{_value(sides, c, s)} as {quoted(f'{s} {c}')}" for c in beside_key for s in "ab")
    try:
        sides.engine.run(
            f"create or replace temp table {_ALIGNED} as select {listed} from {joined(sides, key, beside_key)}"
        )
        asked = []
        for column in beside_key:
            a, b = (quoted(f"{side} {column}") for side in "ab")
            asked += [f"count(*) filter ({a} <> {b})", f"count({b}) - count(case when {a} is not null then {b} end)"]
            asked += [f"count({a}) - count(case when {b} is not null then {a} end)"]
        found = iter(sides.engine.rows(f"select {', '.join(asked)} from {_ALIGNED}")[0])
        for column, changed, filled, emptied in zip(beside_key, found, found, found, strict=True):
            yield from _column_cells(sides, key, column, changed, filled, emptied)
    finally:
        sides.engine.run(f"drop table if exists {_ALIGNED}")


def _value(sides: Sides, column: str, side: str) -> str:
    return value_sql(column, sides.kinds[column]).replace(quoted(column), f"{side}.{quoted(column)}")


def _column_cells(sides: Sides, key: Key, column: str, changed: int, filled: int, emptied: int) -> Iterator[Move]:
    a, b = (quoted(f"{side} {column}") for side in "ab")
    for kind, n, here, gone in (("filled", filled, b, a), ("emptied", emptied, a, b)):
        if n:
            yield _null_cells(sides, key, column, kind, n, here, f"{gone} is null and {here} is not null")
    if not changed:
        return
    both = f"from {_ALIGNED} where {a} <> {b}"
    rule = None
    if sides.kinds[column] in (NUMBER, TIME):
        rule = _number_rule(sides, column, changed, key.rows, a, b, both)
    elif sides.kinds[column] == TEXT:
        rule = _text_rule(sides, changed, a, b, both)
    yield rule_move(sides, key, column, changed, rule or Rule("cells", {}, f"{_n_cells(changed, key.rows)} differ"))


@dataclass(frozen=True)
class Rule:
    """What turns the old cells of a column into the new ones; `severity` where the kind's own will not do."""

    kind: str
    amount: Mapping[str, float | str]
    says: str
    severity: float | None = None


def rule_move(sides: Sides, key: Key, column: str, changed: int, rule: Rule) -> Move:
    """A rule for the changed cells of one column as a move."""
    share = changed / key.rows
    listed = ", ".join(quoted(c) for c in key.columns)
    differ = f"a.{quoted(column)} is distinct from b.{quoted(column)}"
    query = (
        f"select {listed}, a.{quoted(column)} as before, b.{quoted(column)} as now "
        f"from {joined(sides, key, [column])} where {differ}"
    )
    return Move(
        (column,),
        rule.kind,
        f"{column}: {rule.says}",
        {**rule.amount, "cells": changed},
        share,
        _cells_where(sides, key, changed, query),
        changed,
        0.0,
        share,
        rule.severity if rule.severity is not None else severity_of(rule.kind, share),
        query,
    )


def _cells_where(sides: Sides, key: Key, changed: int, query: str) -> str | None:
    """The rows of the changed cells: their keys by name if they are few, else all."""
    if changed > 20:
        listed = ", ".join(quoted(c) for c in key.columns)
        return f"({listed}) in (select ({listed}) from ({query}))" if changed < 0.9 * key.rows else None
    found = sides.engine.rows(query)
    named = [
        " and ".join(f"{quoted(c)} = {_literal(v, sides.kinds[c])}" for c, v in zip(key.columns, row, strict=False))
        for row in sorted(found, key=str)
    ]
    return " or ".join(f"({each})" for each in named) if len(key.columns) > 1 else " or ".join(named)


def _literal(value: object, kind: str) -> str:
    return str(value) if kind in (NUMBER, FLAG) else text(str(value))


def _n_cells(changed: int, rows: int) -> str:
    cells = "1 cell" if changed == 1 else f"{changed:,} cells"
    return f"{cells} of {rows:,}" if changed < 0.1 * rows else f"{percent(changed / rows)} of the cells"


def _null_cells(sides: Sides, key: Key, column: str, kind: str, n: int, here: str, only: str) -> Move:
    value, most = sides.engine.rows(
        f"select {here}, count(*) from {_ALIGNED} where {only} group by 1 order by 2 desc, 1"
    )[0]
    share = n / key.rows
    is_one = most >= 2 and most >= 0.6 * n
    shown = number(value) if isinstance(value, float) else repr(value)
    if kind == "filled":
        says = f"{_n_cells(n, key.rows)} that had no value have one now" + (f", mostly {shown}" if is_one else "")
    else:
        says = f"{_n_cells(n, key.rows)} have no value any more" + (f"; most were {shown}" if is_one else "")
    listed = ", ".join(quoted(c) for c in key.columns)
    a, b = f"a.{quoted(column)}", f"b.{quoted(column)}"
    condition = f"{a} is null and {b} is not null" if kind == "filled" else f"{a} is not null and {b} is null"
    query = f"select {listed}, {a} as before, {b} as now from {joined(sides, key, [column])} where {condition}"
    return Move(
        (column,),
        kind,
        f"{column}: {says}",
        {"cells": n, **({"value": value, "with_value": most} if is_one else {})},
        share,
        _cells_where(sides, key, n, query),
        n,
        0.0,
        share,
        severity_of(kind, share) if is_one else round(0.45 + 0.3 * share, 3),
        query,
    )


def _number_rule(sides: Sides, column: str, rest: int, rows: int, a: str, b: str, both: str) -> Rule | None:
    """One factor, one difference, or a few differences of a clock, for most of the changed cells."""
    ask = sides.engine.rows
    turned = _clock_rule(sides, column, rest, rows, a, b, both)
    if turned:
        return turned
    ratio = f"case when {a} <> 0 then round({b} / {a}, 6 - floor(log10(greatest(abs({b} / {a}), 1e-6)))::int) end"
    factor, n = ask(f"select {ratio} as r, count(*) as n {both} group by 1 order by 2 desc, 1")[0]
    if factor and n >= MOSTLY * rest:
        known = known_unit(factor, 1e-4)
        if known or n >= 10:
            meaning = f" ({known[1]})" if known else ""
            is_few = rest < 0.1 * rows
            whom = _n_cells(rest, rows)
            return Rule(
                "factor",
                {"factor": known[0] if known else factor},
                f"{whom} multiplied by {number(known[0] if known else factor)}{meaning}",
                0.85 if is_few else None,
            )
    step, n = ask(f"select round({b} - {a}, 6) as d, count(*) as n {both} group by 1 order by 2 desc, 1")[0]
    if step and n >= max(3, MOSTLY * rest):
        return Rule("shift", {"shift": step}, f"{_n_cells(rest, rows)} shifted by {number(step)}")
    if sides.kinds[column] == NUMBER:
        signs = ask(f"select count(*) filter ({a} = -{b}) {both}")[0][0]
        if signs >= max(1, MOSTLY * rest):
            return Rule("sign", {"factor": -1.0}, f"{_n_cells(rest, rows)} with the other sign")
        rounded = _rounding_rule(sides, rest, rows, a, b, both)
        if rounded:
            return rounded
    return None


def _clock_rule(sides: Sides, column: str, rest: int, rows: int, a: str, b: str, both: str) -> Rule | None:
    """Hours (or minutes) that differ by one or two steps all round the clock."""
    if sides.kinds[column] == TIME:
        found = sides.engine.rows(f"select {b} - {a} as d, count(*) as n {both} group by 1 order by 2 desc, 1 limit 2")
        covered = sum(n for _, n in found)
        if covered >= 0.9 * rest and all(step % 900 == 0 and abs(step) <= 86_400 for step, _ in found) and rest > 10:
            told = " or ".join(f"{number(step / 3600)} h" for step, _ in found)
            return Rule("clock", {"shift": found[0][0]}, f"{_n_cells(rest, rows)} {told} apart")
        return None
    values = np.concatenate([sides.at_one[column], sides.at_other[column]])
    values = values[~np.isnan(values)]
    if not len(values) or values.min() != 0 or values.max() not in (23, 59) or rest < 0.2 * rows:
        return None
    modulo = int(values.max()) + 1
    # to the range -modulo/2 … modulo/2
    step = f"(({b} - {a} + {modulo * 3 // 2})::bigint % {modulo}) - {modulo // 2}"
    found = sides.engine.rows(f"select {step} as d, count(*) as n {both} group by 1 order by 2 desc, 1 limit 2")
    if sum(n for _, n in found) < 0.9 * rest:
        return None
    told = " or ".join(f"{int(d):+d} in {percent(n / rows)}" for d, n in found)
    return Rule("clock", {"shift": float(found[0][0]), "modulo": float(modulo)}, f"turned by {told} of the rows")


def _rounding_rule(sides: Sides, rest: int, rows: int, a: str, b: str, both: str) -> Rule | None:
    for digits in (6, 5, 4, 3, 2, 1, 0, -1, -2, -3):
        asked = (
            f"count(*) filter (abs(round({a}, {digits}) - {b}) < 1e-9), count(*) filter (round({b}, {digits}) = {b})"
        )
        equal, on_it = sides.engine.rows(f"select {asked} {both}")[0]
        if equal >= 0.95 * rest and on_it >= 0.95 * rest and rest >= 10:
            return Rule("rounded", {"digits": float(digits)}, f"{_n_cells(rest, rows)} rounded to {digits} digits")
    return None


def _text_rule(sides: Sides, rest: int, a: str, b: str, both: str) -> Rule | None:
    """Spelled another way, or one level for another."""
    plain = r"regexp_replace(lower({}), '[\s[:punct:]]+', '', 'g')"
    alike = sides.engine.rows(f"select count(*) filter ({plain.format(a)} = {plain.format(b)}) {both}")[0][0]
    if alike >= MOSTLY * rest:
        return Rule("variant", {}, f"{rest:,} cells spelled another way")
    found = sides.engine.rows(f"select {a}, {b}, count(*) as n {both} group by 1, 2 order by 3 desc, 1, 2 limit 3")
    if rest >= 10 and sum(n for *_, n in found) >= MOSTLY * rest and len(found) <= 3:
        told = ", ".join(f"{before!r} became {now!r} ({n:,})" for before, now, n in found)
        return Rule("renamed", {before: now for before, now, _ in found}, told)
    return None
