"""Days, months and periods as people write them: which way a text is written, and how a project reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from underhood.plan.render import quoted, sql_value

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Names of columns that are one part of a moment, and what such a part can be.
PARTS = {
    "year": re.compile(r"(?<![a-z])(year|yr|yyyy)(?![a-z])", re.I),
    "day": re.compile(r"(?<![a-z])(dayofmonth|day|dd)(?![a-z])", re.I),
    "month": re.compile(r"(?<![a-z])(month|mnth|mon|mm)(?![a-z])", re.I),
    "hour": re.compile(r"(?<![a-z])(hour|hr|hh)(?![a-z])", re.I),
    "minute": re.compile(r"(?<![a-z])(minute|min)(?![a-z])", re.I),
}
WITHIN = {"year": (1800, 2200), "month": (1, 12), "day": (1, 31), "hour": (0, 24), "minute": (0, 59)}
# How a text tells a day: what is between its parts, where year, month and day stand, DuckDB's format.
_DAYS = (
    ("-", (0, 1, 2), "%Y-%m-%d"),
    ("/", (0, 1, 2), "%Y/%m/%d"),
    (".", (2, 1, 0), "%d.%m.%Y"),
    ("/", (2, 1, 0), "%d/%m/%Y"),
    ("/", (2, 0, 1), "%m/%d/%Y"),
    ("-", (2, 1, 0), "%d-%m-%Y"),
)
_MOMENT = re.compile(
    r"(?P<day>\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4})"
    r"((?P<between>[T ])\d{1,2}:\d\d(?P<seconds>:\d\d)?(?P<tail>(\.\d+)?(Z|\+\d\d(:?\d\d)?)?))?"
)
_PERIOD = re.compile(r"((?:19|20)\d\d)[-_ /]?([A-L]|[QHSqhs][1-4]|0[1-9]|1[0-2])")


@dataclass(frozen=True)
class TextForm:
    """How texts tell a moment: DuckDB's and the kernel's format, and the mark that a fraction or a zone begins with."""

    format: str
    tail: str
    example: str

    def sql(self, column: str) -> str:
        """The moment as SQL; null for a text that tells none."""
        text = f"string_split({quoted(column)}, {sql_value(self.tail)})[1]" if self.tail else quoted(column)
        return f"try_strptime({text}, {sql_value(self.format)})"

    def body(self, column: str) -> str:
        """The moment as the body of a function of a project file."""
        return f"{column}{f'.part({self.tail!r}, 0)' if self.tail else ''}.parse_time({self.format!r})"


def text_form(values: Sequence[str]) -> TextForm | None:
    """How these texts tell a moment; null if they do not, or not all in one way. Day first if both ways would do."""
    matched = [_MOMENT.fullmatch(v) for v in values]
    if len(values) < 2 or not all(matched):
        return None
    found = [m.groupdict() for m in matched if m]
    between = {m["between"] for m in found}
    seconds = {m["seconds"] is not None for m in found}
    tails = {(m["tail"] or "")[:1] for m in found}
    if len(between) > 1 or len(seconds) > 1 or len(tails) > 1:
        return None
    has_hours, tail = between != {None}, tails.pop()
    hours = f"{between.pop()}%H:%M{':%S' if seconds.pop() else ''}" if has_hours else ""
    for separator, places, day in _DAYS:
        if all(_is_day(m["day"], separator, places) for m in found):
            return TextForm(day + hours, tail, values[0])
    return None


def _is_day(text: str, separator: str, places: tuple[int, int, int]) -> bool:
    parts = text.split(separator)
    if len(parts) != 3 or not all(p.isdigit() for p in parts):
        return False
    year, month, day = (int(parts[i]) for i in places)
    return 1800 <= year <= 2200 and 1 <= month <= 12 and 1 <= day <= 31


def month_number(name: str) -> int:
    """1 for January, jan, JANUARY; 0 if it is no month."""
    short = name.strip().casefold()[:3]
    return MONTHS.index(short) + 1 if short in MONTHS else 0


def is_period(text: str) -> bool:
    """Whether a text is a year and a part of it: 2013J, 2014-Q1, 2014H2, 2014-07."""
    return _PERIOD.fullmatch(text) is not None


def first_month(period: str) -> tuple[int, int]:
    """Year and month in which a period starts; a letter is read as a month, A is January."""
    matched = _PERIOD.fullmatch(period)
    if matched is None:
        return 1970, 1
    year, part = int(matched[1]), matched[2].upper()
    if part.isdigit():
        return year, int(part)
    if len(part) == 1:
        return year, ord(part) - ord("A") + 1
    return year, (int(part[1]) - 1) * {"Q": 3, "H": 6, "S": 6}[part[0]] % 12 + 1
