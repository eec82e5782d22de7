"""What the Python templates of the operations call: one small function for each meaning that Python has not."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import md5
from typing import Any

from underhood.plan.exprs import MOST
from underhood.plan.operations import LOWER, UPPER

MICROSECOND = timedelta(microseconds=1)

_NUMERAL = re.compile(r"[+-]?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?")
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def half_away(value: float) -> float:
    """The nearest whole number, halves away from zero."""
    whole = math.floor(abs(value))
    return math.copysign(whole + (abs(value) - whole >= 0.5), value)


def power(base: float, exponent: float) -> float | None:
    """`base` to `exponent`; null outside the domain and where it is not finite."""
    if not (base > 0 or (base == 0 and exponent > 0) or (base < 0 and exponent == math.floor(exponent))):
        return None
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return None


def atan2(y: float, x: float) -> float:
    """The angle of the point (x, y) in radians; zero has no sign."""
    return math.atan2(y + 0.0, x + 0.0)


def nth(parts: Sequence[str], index: float) -> str | None:
    """The part number `index`, from 0; null if there are fewer."""
    return parts[int(index)] if index < len(parts) else None


def position(text: str, sought: str) -> float | None:
    """Where `sought` first occurs, from 0; null if it does not."""
    found = text.find(sought)
    return float(found) if found >= 0 else None


def collapse(mark: str, text: str) -> str:
    """The text with one `mark` for each run of it."""
    while mark + mark in text:
        text = text.replace(mark + mark, mark)
    return text


def is_digits(text: str) -> bool:
    """Whether the text is one or more of 0-9."""
    return text.isascii() and text.isdigit()


def to_number(text: str) -> float | None:
    """The number that a text writes with a decimal point; null if it is none."""
    return float(text) if _NUMERAL.fullmatch(text) else None


def parse_number(text: str, is_number: Callable[[str], Any], decimal: str, thousands: str) -> float | None:
    """The number that a text writes with these separators; null if it is none."""
    if is_number(text) is None:
        return None
    return float(text.replace(thousands, "").replace(decimal, "."))


def parse_time(text: str, is_time: Callable[[str], Any], order: Sequence[int | None]) -> datetime | None:
    """The time that a text writes; `order` says which group holds year, month, day, hour, minute, second."""
    found = is_time(text)
    if found is None:
        return None
    groups = found.groups()
    year, month, day, hour, minute, second = [int(groups[n]) if n is not None else 0 for n in order]
    try:
        return datetime(year, month, day if order[2] is not None else 1, hour, minute, second)
    except ValueError:
        return None


def hashed(text: str, buckets: int) -> float:
    """A number from 0 to `buckets` - 1 made of the first eight digits of the text's MD5."""
    return float(int(md5(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:8], 16) % buckets)


def to_text(value: float) -> str | None:
    """A whole number's digits; null for any other number."""
    return str(int(value)) if abs(value) < 2.0**53 and value == math.floor(value) else None


def date(year: float, month: float, day: float) -> datetime | None:
    """Midnight of a day; null if there is no such day."""
    try:
        made = datetime(int(year), int(month), int(day))
    except (ValueError, OverflowError):
        return None
    return made if (made.year, made.month, made.day) == (year, month, day) else None


def later(time: datetime, span: float) -> datetime | None:
    """A time and a span in seconds; null outside the years 1 to 9999."""
    try:
        return time + timedelta(microseconds=half_away(span * 1e6))
    except OverflowError:
        return None


def start_of_day(time: datetime) -> datetime:
    """Midnight of the day of a time."""
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def start_of_week(time: datetime) -> datetime:
    """Midnight of the Monday at or before a time."""
    return start_of_day(time) - timedelta(days=time.weekday())


def add_months(time: datetime, months: float) -> datetime | None:
    """So many whole months later, at the last day of a shorter month; null outside the years 1 to 9999."""
    if not abs(months) < 120_000 or months != math.floor(months):
        return None
    year, month = divmod(time.year * 12 + time.month - 1 + int(months), 12)
    if not 1 <= year <= 9999:
        return None
    is_leap = month == 1 and (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))
    return time.replace(year=year, month=month + 1, day=min(time.day, _MONTH_DAYS[month] + is_leap))


SCOPE: Mapping[str, Any] = {
    **{name: getattr(math, name) for name in ("floor", "ceil", "fmod", "log", "log10", "exp", "sqrt", "sin", "cos")},
    **{f.__name__: f for f in (half_away, power, atan2, nth, position, collapse, is_digits, to_number, to_text)},
    **{f.__name__: f for f in (date, later, start_of_day, start_of_week, add_months)},
    **{f.__name__: f for f in (parse_number, parse_time, hashed, bisect_right)},
    "MICROSECOND": MICROSECOND,
    "MOST": MOST,
    "TO_LOWER": str.maketrans(UPPER, LOWER),
    "TO_UPPER": str.maketrans(LOWER, UPPER),
}
