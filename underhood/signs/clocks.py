"""The clock of a table: which column, or which columns together, say when a row was, and how regularly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from underhood.plan.operations import FLAG
from underhood.plan.render import quoted, sql_value
from underhood.signs.seen import Array, Seen

MOST_ROWS = 600_000  # of the series that is looked at value by value
MONTHS = frozenset(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
REGULAR = 0.8  # of the steps between rows are the same: the table is a series


@dataclass(frozen=True)
class Series:
    """A table in the order of its clock. `time` is in seconds since 1970 (UTC), rising within each group.

    `sql` gives the row's time, `columns` are those that it is made of. `step` is in
    seconds, 0 for a table of events. `frame` has the numbers in the same order (null is NaN).
    """

    name: str
    columns: tuple[str, ...]
    sql: str
    time: Array
    step: float
    group: str
    groups: Array
    frame: Mapping[str, Array]

    @property
    def is_same_group(self) -> Array:
        """Whether a row belongs to the group of the row before it."""
        made = np.ones(len(self.time), bool)
        made[0] = False
        if self.group:
            made[1:] = self.groups[1:] == self.groups[:-1]
        return made

    def group_is(self, place: int) -> str:
        """A predicate that selects the group of a row."""
        return f"{quoted(self.group)}::VARCHAR = {sql_value(str(self.groups[place]))}"


def series_of(seen: Seen) -> Series | None:
    """The table in the order of its main clock; null if it has none."""
    found = _clock(seen)
    if found is None:
        return None
    columns, sql = found
    n_times, n = seen.rows(f"select count(distinct {sql}), count({sql}) from {seen.copy}")[0]
    if n_times < 12 or n < 0.9 * seen.held:
        return None
    group = "" if n_times >= 0.98 * n else _group(seen, sql, columns, n)
    is_series = bool(group) or n_times >= 0.98 * n
    numbers = [f"{x.sql} as {quoted(c)}" for c, x in seen.numbers.items()] if is_series and not seen.is_draw else []
    by = f"{quoted(group)}::VARCHAR" if group else "''"
    listed = ", ".join([f"epoch({sql}) as __time", f"{by} as __group", *numbers])
    frame = dict(
        seen.engine.frame(
            f"select {listed} from {seen.copy} where {sql} is not null order by __group, __time limit {MOST_ROWS}"
        )
    )
    time, groups = frame.pop("__time"), frame.pop("__group")
    frame = {c: np.where(np.isfinite(x), x, np.nan) for c, x in frame.items()}
    step = _step(time, groups) if is_series and not seen.is_draw else 0.0
    if step and sum(np.isclose(np.diff(time), step)) < 0.5 * len(time):
        step = 0.0
    return Series(" + ".join(columns), columns, sql, time if step else np.sort(time), step, group, groups, frame)


def _step(time: Array, groups: Array) -> float:
    """The usual time between two rows, 0 if there is none."""
    steps = np.diff(time)[groups[1:] == groups[:-1]]
    steps = steps[steps > 0]
    if len(steps) < 10:
        return 0.0
    values, counts = np.unique(steps, return_counts=True)
    most = float(values[np.argmax(counts)])
    if counts.max() >= REGULAR * len(steps):
        return most
    is_business = most == 86400 and counts[np.isin(values, [86400.0, 3 * 86400.0])].sum() >= 0.9 * len(steps)
    is_monthly = bool(np.mean((steps >= 28 * 86400) & (steps <= 31 * 86400)) >= 0.9)
    return 86400.0 if is_business else 30.4375 * 86400 if is_monthly else 0.0


def _group(seen: Seen, sql: str, columns: tuple[str, ...], n: int) -> str:
    """A column whose values have each a series of their own."""
    tried = [c for c, levels in seen.levels.items() if 2 <= len(levels.counts) <= 2000 and c not in columns]
    tried += [
        c
        for c, x in seen.numbers.items()
        if x.is_whole and 2 <= len(x.values) <= 2000 and c not in columns and not x.is_text
    ]
    if not tried:
        return ""
    listed = ", ".join(f"count(distinct ({sql}, {quoted(c)}))" for c in tried[:12])
    found = seen.rows(f"select {listed} from {seen.copy}")[0]
    return next((c for c, pairs in zip(tried, found, strict=False) if pairs >= 0.99 * n), "")


def _clock(seen: Seen) -> tuple[tuple[str, ...], str] | None:
    """The columns of the clock, and SQL for the moment."""
    for column, sql in seen.clocks.items():
        n, days, hours, n_times = seen.rows(
            f"select count({sql}), count(distinct date_trunc('day', {sql})), "
            f"count(*) filter (where {sql} <> date_trunc('day', {sql})), count(distinct {sql}) from {seen.copy}"
        )[0]
        if n < 0.9 * seen.held or n_times < 12:
            continue
        if not hours and days < 0.5 * n:
            hour = _hour(seen, sql, n)
            if hour:
                return (column, hour), f"({sql} + to_hours({quoted(hour)}::INTEGER))"
        return (column,), sql
    return _from_parts(seen)


def _hour(seen: Seen, sql: str, n: int) -> str:
    """A column that says the hour of the day."""
    for column, x in seen.numbers.items():
        within = x.is_whole and not x.is_text and 20 <= len(x.values) <= 24 and x.values[0] >= 0 and x.values[-1] <= 23
        if within and re.search(r"(^|[^a-z])(hr|hour|hours)([^a-z]|$)", column.lower()):
            pairs = seen.rows(f"select count(distinct ({sql}, {quoted(column)})) from {seen.copy}")[0][0]
            if pairs > 2 * seen.rows(f"select count(distinct {sql}) from {seen.copy}")[0][0] or pairs >= 0.9 * n:
                return column
    return ""


def calendar_parts(seen: Seen) -> dict[str, str]:
    """Columns that are parts of a date, by part: year, month, day, hour. By their names and by their values."""
    bounds = {"year": (1800, 2200), "month": (1, 12), "day": (1, 31), "hour": (0, 24)}
    words = {
        "year": {"year", "yr", "yyyy"},
        "month": {"month", "mon", "mnth"},
        "day": {"day", "dd"},
        "hour": {"hour", "hr"},
    }
    found: dict[str, str] = {}
    for part, (low, high) in bounds.items():
        for column, x in seen.numbers.items():
            named = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()))
            if named & words[part] and x.is_whole and low <= x.values[0] and x.values[-1] <= high and part not in found:
                is_part = len(named) == 1 or (part != "hour" and not named & {"week", "of", "per"}) or "of" in named
                if is_part and seen.table.kinds[column] != FLAG:
                    found[part] = column
    return found


def _from_parts(seen: Seen) -> tuple[tuple[str, ...], str] | None:
    parts = calendar_parts(seen)
    names = _month_names(seen)
    if "year" not in parts or ("month" not in parts and not names[0]):
        return None
    month = f"{quoted(parts['month'])}::BIGINT" if "month" in parts else names[1]
    day = f"{quoted(parts['day'])}::BIGINT" if "day" in parts else "1"
    columns = [parts["year"], parts.get("month") or names[0], *([parts["day"]] if "day" in parts else [])]
    made = f"try_cast(concat_ws('-', {quoted(parts['year'])}::BIGINT, {month}, {day}) as TIMESTAMP)"
    if "hour" in parts and "day" in parts:
        made = f"({made} + to_hours({quoted(parts['hour'])}::INTEGER))"
        columns.append(parts["hour"])
    return tuple(columns), made


def _month_names(seen: Seen) -> tuple[str, str]:
    """A text column of English month names, and SQL for the month's number; empty texts if there is none."""
    for column, levels in seen.levels.items():
        short = {v.strip().lower()[:3] for v in levels.counts}
        if short and short <= MONTHS and len(short) >= 3:
            text = f"lower(left(trim({quoted(column)}), 3))"
            return column, f"((instr('janfebmaraprmayjunjulaugsepoctnovdec', {text}) + 2) // 3)"
    return ("", "")
