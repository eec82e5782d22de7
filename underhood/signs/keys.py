"""Keys and rows that repeat: what names a row, what almost does, equal rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.signs.clocks import calendar_parts
from underhood.signs.seen import Array, Numbers, Seen

MOST_COLUMNS = 120
ALMOST = 0.01  # share of rows that may repeat an almost-key
WIDEST = 3  # columns of an identity beside the time


def key_findings(seen: Seen) -> Iterator[Finding]:
    """Supposed keys that repeat, and equal rows."""
    if seen.held < 20:
        return
    filled = _filled(seen)
    distinct = _distinct(seen, list(filled))
    unique = [c for c, n in distinct.items() if n == seen.held]
    yield from _equal_rows(seen, unique)
    if not seen.is_draw:
        yield from _repeated_ids(seen, distinct, filled, unique)
        yield from _almost_keys(seen, distinct)


def _filled(seen: Seen) -> dict[str, int]:
    """Rows with a value, by column that can be part of a key."""
    names = [c for c, kind in seen.table.kinds.items() if kind in (NUMBER, TEXT, TIME)][:MOST_COLUMNS]
    listed = ", ".join(f"count({quoted(c)})" for c in names)
    return dict(zip(names, seen.rows(f"select {listed} from {seen.copy}")[0], strict=True)) if names else {}


def _distinct(seen: Seen, names: Sequence[str]) -> dict[str, int]:
    """Distinct values, by column: exact for small tables and for what may be a key."""
    exact = seen.held <= 300_000
    listed = ", ".join(
        f"count(distinct {quoted(c)})" if exact or _may_be_key(seen, c) else f"approx_count_distinct({quoted(c)})"
        for c in names
    )
    return dict(zip(names, seen.rows(f"select {listed} from {seen.copy}")[0], strict=True)) if names else {}


def _may_be_key(seen: Seen, column: str) -> bool:
    numbers = seen.numbers.get(column)
    if numbers is not None:
        return numbers.is_whole and len(numbers.values) > 0.9 * numbers.n
    levels = seen.levels.get(column)
    return levels is not None and not levels.is_all


def _equal_rows(seen: Seen, unique: Sequence[str]) -> Iterator[Finding]:
    """Rows that are equal in every column, or in every column but the number of the row."""
    names = seen.columns
    if unique:
        return
    hashed = f"hash({', '.join(map(quoted, names))})"
    extra, most = seen.rows(
        f"select coalesce(sum(n - 1), 0), coalesce(max(n), 0) from (select count(*) as n from {seen.copy} "
        f"group by {hashed} having count(*) > 1)"
    )[0]
    if not extra:
        return
    bits, needed = _bits(seen), 2 * math.log2(seen.held)
    share = extra / seen.held
    is_surprise = bits > 1.5 * needed
    severity = 0.85 if share >= 0.05 else 0.74 if share >= 0.005 else 0.55
    if not is_surprise:
        severity = 0.4 if bits > 0.8 * needed else 0.15
    where = f"{hashed} in (select {hashed} from {quoted(seen.name)} group by 1 having count(*) > 1)"
    yield Finding(
        seen.name,
        (),
        "duplicate_rows",
        severity,
        f"{extra:,} rows ({share:.1%}) repeat another row in all {len(names)} columns, one row occurs {most:,} times, "
        "and no column names the rows: copies cannot be told from real repeats",
        where,
        None,
        f"select *, count(*) as n from {quoted(seen.name)} group by all having n > 1 order by n desc limit 20",
        "ask for a key; until then keep equal rows in the same fold, or remove the copies",
    )


def _bits(seen: Seen) -> float:
    """How many bits the columns hold together at most, were they independent."""
    total = 0.0
    for numbers in seen.numbers.values():
        total += _entropy(np.asarray(numbers.counts, float))
    for levels in seen.levels.values():
        total += _entropy(np.array(list(levels.counts.values()), float))
    return total


def _entropy(counts: Array) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


_KEY_WORDS = re.compile(
    r"(^|_|\s|[a-z](?=[A-Z]))(id|key|code|no|number|nr|num|uuid|guid|ref|faa|iata|icao|sku|ean|isbn)s?$", re.I
)


def _repeated_ids(
    seen: Seen, distinct: Mapping[str, int], fills: Mapping[str, int], unique: Sequence[str]
) -> Iterator[Finding]:
    """One column that is named and built like a key, and repeats in few rows."""
    for place, (column, n) in enumerate(distinct.items()):
        filled = fills[column]
        if column in seen.clocks or not filled or n == filled:
            continue
        if column in seen.numbers and not seen.numbers[column].is_whole:
            continue
        named = bool(_KEY_WORDS.search(column))
        share = 1 - n / filled
        if share > 0.05 or filled < 0.95 * seen.held or (unique and place) or not (named or place == 0):
            continue
        name = quoted(column)
        where = f"{name} in (select {name} from {quoted(seen.name)} group by 1 having count(*) > 1)"
        yield Finding(
            seen.name,
            (column,),
            "key_violation",
            (0.86 if share <= 0.01 else 0.72) if named else 0.45,
            f"{column} looks like the key, but {filled - n:,} of {filled:,} rows repeat one "
            "({rows} rows share theirs)",
            where,
            None,
            f"select {name}, count(*) as n from {quoted(seen.name)} group by 1 having n > 1 order by n desc",
            "a join by it multiplies rows: find the column that the key lacks, or the rows that are there twice",
        )


def _almost_keys(seen: Seen, distinct: Mapping[str, int]) -> Iterator[Finding]:
    """The time together with one or two names for a thing: a row per thing and time, but for few repeats.

    Many columns together are nearly unique by chance. An almost-key repeats far
    more seldom than its parts would if they were independent.
    """
    times = _times(seen)
    names = _identities(seen, distinct)[:8]
    alike = {(c,): _alike_of(seen, c) for c in names} | {t: _alike(seen, t)[0] for t in times}
    sizes = {(c,): distinct.get(c, 2) for c in names} | {t: _groups(seen, t) for t in times}
    draws: dict[tuple[str, ...], str] = {}
    tried = (
        (time, others)
        for width in range(WIDEST + 1)
        for others in combinations(names, width)
        for time in [*times, ()]
        if others and (time or width > 1)
    )
    for time, others in tried:
        columns = (*time, *others)
        parts = [part for part in (time, *((o,) for o in others)) if part]
        by_chance = math.prod(alike[part] for part in parts)
        enough = math.prod(float(sizes[part]) for part in parts) >= 0.8 * seen.held  # the sizes are about right
        if not enough or by_chance * seen.held**2 / 2 < 20:
            continue
        finest = max(parts, key=lambda part: sizes[part])
        if finest not in draws:
            draws[finest] = _draw_by(seen, finest, sizes[finest])
        if draws[finest] != seen.copy and _repeats(seen, draws[finest], columns) > 2 * ALMOST:
            continue
        pairs, repeats = _alike(seen, columns)
        if 0 < repeats <= max(3, ALMOST * seen.held) and pairs <= 0.1 * by_chance:
            yield _almost_key(seen, columns, repeats)
            break
    for table in set(draws.values()) - {seen.copy}:
        seen.engine.run(f"drop table if exists {table}")


def _groups(seen: Seen, columns: Sequence[str]) -> int:
    return int(seen.rows(f"select approx_count_distinct(({', '.join(map(quoted, columns))})) from {seen.copy}")[0][0])


def _draw_by(seen: Seen, part: tuple[str, ...], distinct: int) -> str:
    """A table with all rows of some values of `part`: what repeats there repeats as often in the whole."""
    every = min(seen.held // 20_000, distinct // 50)
    if every < 2:
        return seen.copy
    name = quoted(f"draw by {' '.join(part)}")
    listed = ", ".join(map(quoted, part))
    seen.engine.run(
        f"create or replace temp table {name} as select * from {seen.copy} where hash({listed}) % {every} = 0"
    )
    return name


def _repeats(seen: Seen, table: str, columns: Sequence[str]) -> float:
    """The share of rows of a draw that repeat another in these columns."""
    listed = ", ".join(map(quoted, columns))
    n, groups = seen.rows(
        f"select coalesce(sum(n), 0), count(*) from (select count(*) as n from {table} group by {listed})"
    )[0]
    return float(1 - groups / n) if n else 0.0


def _alike_of(seen: Seen, column: str) -> float:
    """The share of pairs of rows that are equal in one column, from its counted values."""
    if column in seen.levels and seen.levels[column].is_all:
        counts = np.array(list(seen.levels[column].counts.values()), float)
    elif column in seen.numbers:
        counts = seen.numbers[column].counts.astype(float)
    else:
        return _alike(seen, (column,))[0]
    return float((counts * (counts - 1)).sum() / (counts.sum() * max(counts.sum() - 1, 1)))


def _alike(seen: Seen, columns: Sequence[str]) -> tuple[float, int]:
    """The share of pairs of rows that are equal in these columns, and how many rows repeat another."""
    listed = ", ".join(map(quoted, columns))
    pairs, n = seen.rows(
        f"select coalesce(sum(n * (n - 1)), 0), count(*) from (select count(*) as n from {seen.copy} group by {listed})"
    )[0]
    return float(pairs) / (seen.held * (seen.held - 1.0)), seen.held - int(n)


def _almost_key(seen: Seen, columns: Sequence[str], repeats: int) -> Finding:
    listed = ", ".join(map(quoted, columns))
    where = f"({listed}) in (select ({listed}) from {quoted(seen.name)} group by {listed} having count(*) > 1)"
    return Finding(
        seen.name,
        tuple(columns),
        "key_violation",
        0.74,
        f"({', '.join(columns)}) names all rows but few: {repeats:,} of {seen.held:,} repeat one "
        "({rows} rows share theirs)",
        where,
        None,
        f"select {listed}, count(*) as n from {quoted(seen.name)} group by all having n > 1 order by n desc",
        "do not join by it: find the column that tells these rows apart, or remove the copies",
    )


def _times(seen: Seen) -> list[tuple[str, ...]]:
    """The ways in which the table says when: a column, or the parts of a date."""
    parts = calendar_parts(seen)
    changing = {p: c for p, c in parts.items() if len(seen.numbers[c].values) > 1}
    made: list[tuple[str, ...]] = []
    if "month" in changing and "day" in changing:
        days = tuple(changing[p] for p in ("year", "month", "day") if p in changing)
        made.append(days)
        if "hour" in changing:
            made.append((*days, changing["hour"]))
    made += [(c,) for c in seen.clocks]
    return made[:4]


def _identities(seen: Seen, distinct: Mapping[str, int]) -> list[str]:
    """Columns that name things, the most name-like first: texts and whole numbers without nulls."""
    parts = set(calendar_parts(seen).values())
    found = []
    for place, (column, n) in enumerate(distinct.items()):
        if column in parts or column in seen.clocks or not 2 <= n <= 0.9 * seen.held:
            continue
        if column in seen.levels:
            levels = seen.levels[column]
            is_short = np.mean([len(t) for t in list(levels.counts)[:200]]) <= 30
            if levels.n == seen.held and is_short and n <= 0.5 * seen.held:
                found.append((0 if _KEY_WORDS.search(column) else 1, place, column))
        elif column in seen.numbers and _names_things(seen.numbers[column], column, seen.held):
            found.append((0 if _KEY_WORDS.search(column) else 2, place, column))
    return [column for _, _, column in sorted(found)]


def _names_things(numbers: Numbers, column: str, held: int) -> bool:
    """Whether whole numbers are names: many, positive, none missing, not hours and minutes, none far more often."""
    if not numbers.is_whole or numbers.values[0] < 0 or np.isnan(numbers.all).any():
        return False
    if _KEY_WORDS.search(column):
        return True
    minutes = numbers.values % 100
    is_time_of_day = numbers.values[-1] <= 2400 and bool(np.all(minutes < 60)) and numbers.values[-1] > 1000
    return not is_time_of_day and len(numbers.values) >= 100 and held >= 2 * len(numbers.values)
