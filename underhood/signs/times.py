"""Which columns tell a time, also in parts or as text; which is when it happened, which when it was known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.signs.profile import Profile
from underhood.signs.time_texts import PARTS, WITHIN, first_month, is_period, month_number, text_form
from underhood.tables.frames import Table
from underhood.tables.local import Engine

MOST_DAYS = 3000  # that a number of days counts before or after a moment
_KNOWN = re.compile(
    r"load|receiv|ingest|record|publish|updat|insert|availab|known|process|sync|entered|reported|posted|import", re.I
)
_BORN = re.compile(r"birth|dob\b|expir|valid_(to|until)", re.I)
_MOMENT = re.compile(r"time|date|epoch|_at$|(^|_)ts$|stamp|moment", re.I)


@dataclass(frozen=True)
class Clock:
    """A time that each row of a table has: its name, the columns it is made of, and how.

    `sql` is its value as a timestamp (UTC is assumed), `body` the same as the
    body of a function of a project file, empty for a time column as it stands.
    `least` and `most` are its ends, `filled` the share of rows that have it. `way` is
    column, text, parts, finer, period, number, offset or lead; `base` names the
    clock that an offset or a lead is counted from.
    """

    name: str
    columns: tuple[str, ...]
    sql: str
    body: str
    way: str
    says: str
    least: datetime | None = None
    most: datetime | None = None
    filled: float = 0.0
    base: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """What the function of a project file takes: columns, or the clock that it counts from and a column."""
        return (self.base, self.columns[-1]) if self.base else self.columns


@dataclass(frozen=True)
class Clocks:
    """The times of one table: when a row's event happened, when it was known, and those that come later."""

    table: str
    happened: Clock | None
    known: Clock | None
    later: tuple[Clock, ...]
    all: tuple[Clock, ...]


def find_clocks(engine: Engine, table: Table, profile: Profile) -> Clocks:
    """All times that the rows of a table tell, and their order. Reads the table a few times."""
    found = [*_columns(table), *_texts(engine, table), *_numbers(table, profile)]
    parts = _part_columns(engine, table, profile)
    if TIME not in table.kinds.values():
        found = [*_parts(engine, table, parts), *found]
    found = list(_finer(engine, table, parts, found))
    found += _periods(engine, table, profile) if not found else []
    found += _offsets(profile, found)
    return _ordered(engine, table, _measured(engine, table, found))


def _columns(table: Table) -> Iterator[Clock]:
    for name, kind in table.kinds.items():
        if kind == TIME:
            yield Clock(name, (name,), f"{quoted(name)}::TIMESTAMP", "", "column", f"{name} is a {table.columns[name]}")


def _texts(engine: Engine, table: Table) -> Iterator[Clock]:
    """Text columns that are days, alone or followed by a time of day."""
    for name, kind in table.kinds.items():
        form = text_form(_some(engine, table, name, 300)) if kind == TEXT and name.isidentifier() else None
        if form:
            says = f"{name} is text such as {form.example!r}, read as {form.format}"
            yield Clock(f"{name}_time", (name,), form.sql(name), form.body(name), "text", says)


def _some(engine: Engine, table: Table, name: str, most: int) -> list[str]:
    column = quoted(name)
    some = f"select {column} from {quoted(table.name)} where {column} is not null limit 5000"
    return [row[0] for row in engine.rows(f"select distinct {column} from ({some}) order by 1 limit {most}")]


def _levels(engine: Engine, table: Table, name: str) -> list[str]:
    column = quoted(name)
    sql = f"select distinct {column} from {quoted(table.name)} where {column} is not null order by 1 limit 400"
    return [row[0] for row in engine.rows(sql)]


def _numbers(table: Table, profile: Profile) -> Iterator[Clock]:
    """Numbers that are moments: seconds or milliseconds since 1970, or 20240131."""
    for name, column in profile.columns.items():
        if column.kind != NUMBER or column.least is None or column.distinct < 3 or not _MOMENT.search(name):
            continue
        least, most, q = float(column.least), float(column.most), quoted(name)
        for unit, per_second in (("seconds", 1), ("milliseconds", 1000)):
            if 3e8 * per_second <= least and most <= 4.2e9 * per_second:
                sql = f"make_timestamp(({q}::DOUBLE / {per_second} * 1e6)::BIGINT)"
                body = f"uh.date(1970, 1, 1) + uh.days({name} / {86400 * per_second})"
                yield Clock(f"{name}_time", (name,), sql, body, "number", f"{name} is {unit} since 1970")
        if least >= 18000101 and most <= 22001231 and least == int(least):
            sql = f"try_strptime({q}::BIGINT::VARCHAR, '%Y%m%d')"
            body = f"uh.date(({name} / 10000).floor(), ({name} / 100).floor() % 100, {name} % 100)"
            yield Clock(f"{name}_time", (name,), sql, body, "number", f"{name} is a day written as 20240131")


# --- moments in several columns ---


def _part_columns(engine: Engine, table: Table, profile: Profile) -> dict[str, dict[str, str]]:
    """Columns that are parts of a moment, by what is left of their names: {"arrival date": {"year": …}}."""
    found: dict[str, dict[str, str]] = {}
    for name, column in profile.columns.items():
        words = name.replace("_", " ").replace(".", " ").replace("day of month", "dayofmonth")
        part = next((p for p, pattern in PARTS.items() if pattern.search(words)), None)
        if part is None or not name.isidentifier():
            continue
        rest = PARTS[part].sub("", words).strip()
        low, high = WITHIN[part]
        is_number = column.kind == NUMBER and column.least is not None
        if (is_number and low <= float(column.least) and float(column.most) <= high) or (
            part == "month" and column.kind == TEXT and _are_months(engine, table, name)
        ):
            found.setdefault(rest, {})[part] = name
    return found


def _are_months(engine: Engine, table: Table, name: str) -> bool:
    levels = _levels(engine, table, name)
    return 1 < len(levels) <= 12 and all(month_number(v) for v in levels)


def _parts(engine: Engine, table: Table, found: Mapping[str, Mapping[str, str]]) -> Iterator[Clock]:
    """Moments in two or three columns; the month may be its name."""
    for rest, parts in found.items():
        if "year" not in parts or "month" not in parts:
            continue
        month, month_sql = parts["month"], quoted(parts["month"])
        if table.kinds[month] == TEXT:
            numbers = {v: month_number(v) for v in _levels(engine, table, month)}
            cases = " ".join(f"when {sql_value(v)} then {n}" for v, n in numbers.items())
            month_sql = f"(case {month_sql} {cases} end)"
            month = f"{month}.map({dict(sorted(numbers.items(), key=lambda item: item[1]))})"
        day = parts.get("day")
        year_sql, day_sql = quoted(parts["year"]), quoted(day) if day else "1"
        numbers_sql = f"{year_sql}::BIGINT, {month_sql}::BIGINT, {day_sql}::BIGINT"
        sql = f"try_strptime(printf('%04d-%02d-%02d', {numbers_sql}), '%Y-%m-%d')"
        used = [parts[p] for p in ("year", "month", "day") if p in parts]
        name = "_".join(rest.split()) or "moment"
        name = f"{name}_moment" if name in table.columns else name
        body = f"uh.date({parts['year']}, {month}, {day or 1})"
        yield Clock(name, tuple(used), sql, body, "parts", f"made of {', '.join(used)}")


def _finer(
    engine: Engine, table: Table, parts: Mapping[str, Mapping[str, str]], found: Sequence[Clock]
) -> Iterator[Clock]:
    """The same clocks; the first with the hour or minute added that stands in a column of its own."""
    for n, clock in enumerate(found):
        more = parts.get(clock.name.replace("_", " "), {}) if clock.way == "parts" else {}
        more = {**parts.get("", {}), **more}
        hour, minute = more.get("hour"), more.get("minute")
        if n or not (hour or minute):
            yield clock
            continue
        is_day, is_hour = engine.rows(
            f"select bool_and(hour(t) = 0 and minute(t) = 0), bool_and(minute(t) = 0) from "
            f"(select {clock.sql} as t from {quoted(table.name)})"
        )[0]
        wanted = [hour, minute] if is_day and hour else [minute] if is_hour and not is_day else []
        used = [u for u in wanted if u]
        if not used:
            yield clock
            continue
        each = [f"{u} * 60" if u == hour else u for u in used]
        each_sql = [f"{quoted(u)} * 60" if u == hour else quoted(u) for u in used]
        name = clock.name if clock.way == "parts" else f"{clock.name}_{used[-1]}"
        yield replace(
            clock,
            name=name,
            columns=(*clock.columns, *used),
            body=f"{clock.body or clock.name} + uh.minutes({' + '.join(each)})",
            sql=f"({clock.sql} + to_minutes(({' + '.join(each_sql)})::BIGINT))",
            way="finer",
            says=f"{clock.says}, with {' and '.join(used)}",
        )


# --- periods, and numbers of days ---


def _periods(engine: Engine, table: Table, profile: Profile) -> Iterator[Clock]:
    """Texts such as 2013J, 2014-Q1: a year and a part of it. A letter is read as a month, A is January."""
    for name, column in profile.columns.items():
        if not name.isidentifier():
            continue
        is_year = column.kind == NUMBER and PARTS["year"].search(name.replace("_", " ")) and column.least is not None
        if is_year and float(column.least) >= 1900 and float(column.most) <= 2100 and column.distinct > 1:
            sql = f"make_timestamp({quoted(name)}::BIGINT, 1, 1, 0, 0, 0)"
            yield Clock(f"{name}_start", (name,), sql, f"uh.date({name}, 1, 1)", "period", f"{name} is a year")
        if column.kind != TEXT or not 2 <= column.distinct <= 300:
            continue
        levels = _levels(engine, table, name)
        if not all(is_period(v) for v in levels):
            continue
        first = {v: first_month(v) for v in levels}
        cases = " ".join(f"when {sql_value(v)} then DATE '{y:04d}-{m:02d}-01'" for v, (y, m) in first.items())
        years, months = {v: y for v, (y, _) in first.items()}, {v: m for v, (_, m) in first.items()}
        body = f"uh.date({name}.map({years}), {name}.map({months}), 1)"
        shown = ", ".join(f"{v} on {y}-{m:02d}-01" for v, (y, m) in list(first.items())[:2])
        says = f"{name} names a period; assumed: {shown} …, a letter being a month"
        yield Clock(f"{name}_start", (name,), f"(case {quoted(name)} {cases} end)::TIMESTAMP", body, "period", says)


def _offsets(profile: Profile, found: Sequence[Clock]) -> Iterator[Clock]:
    """Whole numbers of days before or after a clock of the row."""
    if not found:
        return
    start = found[0]
    for name, column in profile.columns.items():
        if column.kind != NUMBER or column.least is None or name in start.columns or not name.isidentifier():
            continue
        least, most = float(column.least), float(column.most)
        ends = [least, most, *[float(v) for v in column.quantiles.values()]]
        if any(v != int(v) for v in ends) or least < -MOST_DAYS or most > MOST_DAYS or most - least < 20:
            continue
        words = set(re.split(r"[^a-z]+", name.casefold()))
        is_lead = bool(words & {"lead", "advance", "ahead"}) and least >= 0
        if is_lead or (start.way == "period" and words & {"date", "day", "days"}):
            sign, word = ("-", "before") if is_lead else ("+", "after")
            yield Clock(
                f"{start.name}_less_{name}" if is_lead else f"{name}_moment",
                (*start.columns, name),
                f"({start.sql} {sign} to_days({quoted(name)}::INTEGER))",
                f"{start.name} {sign} uh.days({name})",
                "lead" if is_lead else "offset",
                f"{name} ({least:g} … {most:g}) counts days {word} {start.name}",
                base=start.name,
            )


# --- their order ---


def _measured(engine: Engine, table: Table, found: Sequence[Clock]) -> list[Clock]:
    """The clocks with their ends; those that no row has, or all rows alike, are left out."""
    if not found:
        return []
    wanted = ", ".join(f"min({c.sql}), max({c.sql}), count({c.sql}) / greatest(count(*), 1)" for c in found)
    row: Sequence[Any] = engine.rows(f"select {wanted} from {quoted(table.name)}")[0]
    made = [replace(c, least=row[3 * n], most=row[3 * n + 1], filled=row[3 * n + 2]) for n, c in enumerate(found)]
    return [c for c in made if c.filled > 0 and c.least != c.most]


def _ordered(engine: Engine, table: Table, found: Sequence[Clock]) -> Clocks:
    """Which clock comes first in nearly every row, which says when it was known, and which come later."""
    lives = [c for c in found if not _BORN.search(c.name)]
    usual = [c for c in lives if c.filled >= 0.95] or [c for c in lives if c.filled >= 0.5]
    if not usual:
        return Clocks(table.name, None, None, (), tuple(found))
    after = _share_after(engine, table, found)

    def wins(clock: Clock) -> int:
        return sum(after[clock.name, o.name] >= 0.99 for o in usual if o is not clock)

    happened = max(usual, key=lambda c: (wins(c), not _KNOWN.search(c.name), c.way != "lead", -usual.index(c)))
    later = [c for c in found if c is not happened and after[happened.name, c.name] >= 0.95]
    known = next(
        (c for c in later if _KNOWN.search(c.name) and c.filled >= 0.95 and after[happened.name, c.name] >= 0.99), None
    )
    return Clocks(table.name, happened, known, tuple(c for c in later if c is not known), tuple(found))


def _share_after(engine: Engine, table: Table, found: Sequence[Clock]) -> dict[tuple[str, str], float]:
    """The share of rows where the second clock is not before the first, for every pair."""
    pairs = [(a, b) for a in found for b in found if a is not b]
    if not pairs:
        return {}
    wanted = ", ".join(f"avg(({a.sql} <= {b.sql})::INT)" for a, b in pairs)
    row = engine.rows(f"select {wanted} from {quoted(table.name)}")[0]
    return {(a.name, b.name): (share if share is not None else 0.0) for (a, b), share in zip(pairs, row, strict=True)}
