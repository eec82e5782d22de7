"""Rules that tie columns and rows to each other, as a table's rows support them: keys, steps, order, sums, nulls.

Candidates come from an even draw of rows; whoever asks holds them against all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from underhood.contract.rhythm import NeverFalls, Rows, Steps
from underhood.contract.rules import Holds, Key, Nulls, Order, Rule, Sum, figure
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.signs.statistics import Column, Profile
from underhood.tables.frames import Table
from underhood.tables.local import Engine

DRAWN = 50_000  # rows that candidates come from
MOST_KEY_PARTS, MOST_TESTS, CHANCE = 6, 80, 3
MOST_NUMBERS = 60  # columns: above it no pair is looked at
ENOUGH_NULLS = 20
FEW = 0.001
SPANS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
PERIODS = ("hour", "day", "week", "month")

Array = np.ndarray[Any, Any]


def tied_rules(engine: Engine, table: Table, profile: Profile, clock: str) -> list[Rule]:
    """Candidates of every kind; `clock` is the table's time column, or ""."""
    if table.rows < 20:
        return []
    keys = list(_keys(engine, table, profile))
    rules: list[Rule] = [Key(key) for key in keys]
    with_clock = [k for k in keys if clock in k]
    by = tuple(c for c in with_clock[0] if c != clock) if with_clock else ()
    if clock:
        rules += _rows(engine, table, clock)
    if with_clock:
        rules += _steps(engine, table, clock, by)
        rules += _never_falls(engine, table, profile, clock, by)
    rules += _pairs(engine, table, profile)
    rules += _nulls(engine, table, profile)
    rules += _signs(engine, table, profile)
    return rules


def _keys(engine: Engine, table: Table, profile: Profile) -> Iterator[tuple[str, ...]]:
    """The smallest sets of columns without nulls that have a row each; first one column, then more."""
    able = [c for c in profile.columns.values() if not c.nulls and c.distinct > 1 and not _is_measure(c)]
    single = [c.name for c in able if c.distinct >= 0.97 * c.rows and _is_unique(engine, table, (c.name,))]
    if single:
        yield (single[0],)
        return
    able = sorted(able, key=_keyness)[:14]
    tried = 0
    for size in range(2, MOST_KEY_PARTS + 1):
        sets = [(math.prod(c.distinct for c in s), s) for s in combinations(able, size)]
        # with more values than that, rows would differ by chance: fewer than CHANCE repeats in so many rows
        most = max(table.rows**2 / (2 * CHANCE), 2 * table.rows)
        fit = [(math.log10(n) + sum(_keyness(c)[0] for c in s), s) for n, s in sets if table.rows <= n <= most]
        for _, each in sorted(fit, key=lambda item: item[0])[: MOST_TESTS // 4]:
            names = tuple(c.name for c in profile.columns.values() if c in each)
            if _is_unique(engine, table, names):
                yield names
                return
            tried += 1
            if tried >= MOST_TESTS:
                return


def _is_measure(column: Column) -> bool:
    """Numbers with fractions are measured: they tell rows apart by chance."""
    if column.kind != NUMBER:
        return column.kind not in (TEXT, TIME)
    return any(float(v) != int(v) for v in (*column.quantiles.values(), column.least, column.most))


def _keyness(column: Column) -> tuple[float, int]:
    """Smaller for what is more likely a part of a key: a text or a moment, a name that says so."""
    last = column.name.lower().replace("-", "_").split("_")[-1]
    said = 1.0 if last.endswith(("id", "key", "code", "number", "no", "num")) else 0.0
    kind = {TIME: 0.0, TEXT: 0.5}.get(column.kind, 1.0)
    long = 3.0 if (column.longest or 0) > 40 else 0.0
    return kind - said + long, -column.distinct


def _is_unique(engine: Engine, table: Table, names: Sequence[str]) -> bool:
    listed = ", ".join(quoted(n) for n in names)
    few = f"select {listed} from {quoted(table.name)} limit {DRAWN}"  # a repeat is seen early, mostly
    sql = "select 1 from ({0}) group by {1} having count(*) > 1 limit 1"
    if engine.rows(sql.format(few, listed)):
        return False
    return not engine.rows(sql.format(f"select {listed} from {quoted(table.name)}", listed))


def _window(clock: str, by: Sequence[str]) -> str:
    part = f"partition by {', '.join(map(quoted, by))} " if by else ""
    return f"over ({part}order by {quoted(clock)})"


def _steps(engine: Engine, table: Table, clock: str, by: Sequence[str]) -> Iterator[Rule]:
    at = f"epoch({quoted(clock)})"
    diff = f"select {at} - lag({at}) {_window(clock, by)} as gap from {quoted(table.name)}"
    found = engine.rows(f"select gap, count(*) from ({diff}) where gap > 0 group by 1 order by 2 desc, 1 limit 1")
    if not found:
        return
    step, n = found[0]
    total, missing = engine.rows(
        f"select count(*), sum(greatest(floor(gap / {step!r}) - 1, 0)) from ({diff}) where gap > 0"
    )[0]
    unit = next(((u, s) for u, s in SPANS if step % s == 0), None)
    if n < 0.9 * total or unit is None:
        return
    every = f"{step / unit[1]:g}{unit[0]}"
    share = missing / (missing + total)
    allowed = 0.0 if not missing else float(f"{min(1, 3 * share + 0.0005):.2g}")
    said = f"{n:,} of {total:,} steps are {every}; {int(missing):,} steps are missing"
    yield Steps(clock, every, tuple(by), share=allowed, evidence=said)


def _rows(engine: Engine, table: Table, clock: str) -> Iterator[Rule]:
    """How many rows a period has: the shortest period that there are 12 of, with 20 rows or more as a rule."""
    for period in PERIODS:
        counts = period_counts(engine, table.name, clock, period)[1:-1]
        if len(counts) < 12:
            return
        middle = float(np.median([n for _, n in counts]))
        if middle >= 20:
            break
    else:
        return
    ns = [n for _, n in counts]
    logs = np.log(np.array(ns, float))
    # beyond three times what nine of ten periods keep to is not the weekday's doing
    width = 3.0 * float(np.quantile(np.abs(logs - math.log(middle)), 0.9)) + 0.15
    least, most = math.floor(middle * math.exp(-width)), math.ceil(middle * math.exp(width))
    odd = sum(n < least or n > most for n in ns) / len(ns)
    if odd > 0.05:
        return
    said = f"{len(ns):,} {period}s have {figure(min(ns))} to {figure(max(ns))} rows, in the middle {figure(middle)}"
    yield Rows(clock, period, least, most, share=float(f"{odd * 2 + 0.01:.2g}"), evidence=said)


def period_counts(engine: Engine, table: str, clock: str, period: str) -> list[tuple[Any, int]]:
    """(period, rows) in order of time, for the periods that have rows."""
    return [
        (at, n)
        for at, n in engine.rows(
            f"select date_trunc('{period}', {quoted(clock)})::timestamp as p, count(*) from {quoted(table)} "
            f"where {quoted(clock)} is not null group by 1 order by 1"
        )
    ]


def _never_falls(engine: Engine, table: Table, profile: Profile, clock: str, by: Sequence[str]) -> Iterator[Rule]:
    numbers = [c for c in profile.columns.values() if c.kind == NUMBER and c.distinct >= 20 and c.name not in by]
    if not numbers:
        return
    window = _window(clock, by)
    gaps = ", ".join(f"{quoted(c.name)} - lag({quoted(c.name)}) {window} as {quoted(c.name)}" for c in numbers)
    sums = ", ".join(
        f"count(*) filter (where {q} < 0), count(*) filter (where {q} > 0)" for q in (quoted(c.name) for c in numbers)
    )
    row = engine.rows(f"select {sums} from (select {gaps} from {quoted(table.name)})")[0]
    for i, column in enumerate(numbers):
        falls, rises = row[2 * i], row[2 * i + 1]
        if rises >= 0.3 * table.rows and falls <= max(3, 0.02 * rises):
            yield NeverFalls(column.name, clock, tuple(by), evidence=f"it rises {rises:,} times and falls {falls:,}")


def _pairs(engine: Engine, table: Table, profile: Profile) -> Iterator[Rule]:
    """Pairs and triples of numbers: one at most the other, two that add up to a third."""
    names = [c.name for c in profile.columns.values() if c.kind == NUMBER and c.distinct >= 8 and c.filled > 100]
    times = [c.name for c in profile.columns.values() if c.kind == TIME and c.distinct >= 8]
    if len(names) + len(times) > MOST_NUMBERS or len(names) + len(times) < 2:
        return
    frame = _drawn(engine, table, [*names, *times], profile)
    for kind in (names, times):
        for low, high in combinations(kind, 2):
            yield from _order(frame, low, high)
            yield from _order(frame, high, low)
    yield from _sums(frame, names)


def _drawn(engine: Engine, table: Table, names: Sequence[str], profile: Profile) -> Mapping[str, Array]:
    listed = ", ".join(
        f"epoch({quoted(n)}) as {quoted(n)}"
        if profile.columns[n].kind == TIME
        else f"{quoted(n)}::double as {quoted(n)}"
        for n in names
    )
    every = max(1, table.rows // DRAWN)
    numbered = f"select *, row_number() over () as __n from {quoted(table.name)}"
    return engine.frame(f"select {listed} from ({numbered}) where __n % {every} = 0")


def _order(frame: Mapping[str, Array], low: str, high: str) -> Iterator[Rule]:
    """low ≤ high where both are there, and where chance would break it: in rows shifted against each other."""
    both = np.isfinite(frame[low]) & np.isfinite(frame[high])
    if both.sum() < 100:
        return
    a, b = frame[low][both], frame[high][both]
    shifted = float(np.mean(a > np.roll(b, len(b) // 2)))
    if shifted < 0.05 or np.mean(a > b) > FEW / 2 or np.mean(a == b) > 0.98:
        return
    yield Order(low, high, evidence=f"in rows put together at random {shifted:.0%} would break it")


def _sums(frame: Mapping[str, Array], names: Sequence[str]) -> Iterator[Rule]:
    if len(names) < 3 or len(names) > 25:
        return
    full = np.column_stack([frame[n] for n in names])
    full = full[np.isfinite(full).all(axis=1)][:400]
    if len(full) < 50:
        return
    often = [bool(np.mean(full[:, i] != 0) > 0.2) for i in range(len(names))]
    found: dict[int, Rule] = {}
    for i, j in combinations([n for n, is_often in enumerate(often) if is_often], 2):
        added = full[:, i] + full[:, j]
        same = np.abs(added[:, None] - full) <= 1e-6 * np.maximum(1, np.abs(added))[:, None]
        for k in np.flatnonzero(same.mean(axis=0) > 0.995):
            if k not in (i, j):
                found.setdefault(int(k), Sum((names[i], names[j]), names[int(k)]))
    yield from found.values()


def _nulls(engine: Engine, table: Table, profile: Profile) -> Iterator[Rule]:
    """Columns that are null together, or one whenever another is: counted in one pass over which are null."""
    able = [c for c in profile.columns.values() if ENOUGH_NULLS <= c.nulls <= c.rows - ENOUGH_NULLS][:40]
    if len(able) < 2:
        return
    pairs = list(combinations(able, 2))
    sums = ", ".join(f"count(*) filter (where {quoted(a.name)} is null and {quoted(b.name)} is null)" for a, b in pairs)
    counts = engine.rows(f"select {sums} from {quoted(table.name)}")[0]
    same: set[str] = set()
    for (a, b), both in zip(pairs, counts, strict=True):
        if {a.name, b.name} & same:
            continue
        if both == a.nulls == b.nulls:
            same.add(b.name)
            yield Nulls(b.name, a.name, exactly=True)
        elif both == min(a.nulls, b.nulls) and max(a.nulls, b.nulls) < 0.5 * a.rows:
            column, other = (a, b) if a.nulls > b.nulls else (b, a)
            yield Nulls(column.name, other.name)


def _signs(engine: Engine, table: Table, profile: Profile) -> Iterator[Rule]:
    """Numbers that are negative in a few rows, nearly always where a text begins with one letter: reversals."""
    able = [c for c in profile.columns.values() if c.kind == NUMBER and c.least is not None and float(c.least) < 0]
    texts = [c for c in profile.columns.values() if c.kind == TEXT and c.longest and c.longest <= 20 and not c.nulls]
    for number in able:
        few = f"{quoted(number.name)} < 0"
        n = engine.rows(f"select count(*) from {quoted(table.name)} where {few}")[0][0]
        if not 0 < n <= 0.05 * table.rows:
            continue
        for text in texts:
            rows = engine.rows(
                f"select left({quoted(text.name)}, 1), count(*), count(*) filter (where {few}) "
                f"from {quoted(table.name)} group by 1"
            )
            for letter, there, negative in rows:
                if letter and there >= 20 and negative >= 0.99 * there and negative >= 0.3 * n:
                    condition = f"({few}) = ({quoted(text.name)} like {sql_value(letter + '%')})"
                    said = (
                        f"{negative:,} of the {there:,} rows whose {text.name} begins with {letter!r} are negative, "
                        f"of {n:,} in all"
                    )
                    share = float(f"{2 * (n - negative + there - negative) / table.rows + FEW:.2g}")
                    yield Holds(condition, (text.name, number.name), share=share, evidence=said)
