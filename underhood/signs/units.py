"""The unit that a column's numbers seem to be in, and why: from the words of its name, then from its values."""

from __future__ import annotations

import re

# Words of a name (whole words, lower case) → unit. The last word that says something wins: "weight_kg" is kg.
_WORDS = {
    "s": ("sec", "secs", "second", "seconds"),
    "min": ("min", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "days": ("day", "days"),
    "weeks": ("week", "weeks"),
    "months": ("month", "months"),
    "years": ("year", "years", "yr", "yrs", "age"),
    "ms": ("ms", "msec", "millis", "milliseconds"),
    "km": ("km", "kms", "kilometer", "kilometers", "kilometre", "kilometres"),
    "m": ("meter", "meters", "metre", "metres"),
    "cm": ("cm", "centimeters"),
    "mm": ("mm", "millimeters"),
    "miles": ("mi", "mile", "miles"),
    "ft": ("ft", "feet", "foot"),
    "inches": ("inch", "inches"),
    "kg": ("kg", "kgs", "kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "lb": ("lb", "lbs", "pound", "pounds"),
    "°C": ("celsius", "degc"),
    "°F": ("fahrenheit", "degf"),
    "km/h": ("kmh", "kph"),
    "mph": ("mph",),
    "%": ("pct", "percent", "percentage"),
    "EUR": ("eur", "euro", "euros"),
    "USD": ("usd", "dollar", "dollars"),
    "GBP": ("gbp",),
    "bytes": ("byte", "bytes"),
}
_UNIT_OF = {word: unit for unit, words in _WORDS.items() for word in words}
_MONTHS_OR_SO = {"months": (1, 12), "days": (1, 31), "h": (0, 24), "min": (0, 60), "s": (0, 60)}
_SHARES = ("share", "ratio", "rate", "fraction", "probability", "prob", "score")


def unit_of(name: str, least: float | None, most: float | None, is_whole: bool) -> tuple[str, str]:
    """A unit and the reason for it; two empty texts when nothing says one.

    `least` and `most` are the column's finite extremes, `is_whole` whether it has whole numbers only.
    """
    words = re.findall(r"[a-z]+|%", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    # "delay_minutes", "days_in_waiting_list"; but neither "day_of_month" nor "week_number"
    said = [w for w in (*words[-1:], *words[:1]) if w in _UNIT_OF]
    said = said if words[-1:] == said[:1] or (said and said[0].endswith("s")) else []
    if said and "of" not in words:
        return _from_word(said[0], name, least, most, is_whole)
    if "%" in words:
        return "%", f"{name!r} says %"
    if least is None or most is None:
        return "", ""
    if any(w in _SHARES for w in words) and least >= 0 and most <= 1:
        return "share 0–1", f"{name!r}, all values between 0 and 1"
    if any(w.startswith(("lat", "lon", "lng")) for w in words) and least >= -180 and most <= 180 and not is_whole:
        return "°", f"{name!r}, all values between -180 and 180"
    return _epoch(least, most) if is_whole else ("", "")


def _from_word(word: str, name: str, least: float | None, most: float | None, is_whole: bool) -> tuple[str, str]:
    unit = _UNIT_OF[word]
    if least is None or most is None:
        return unit, f"{name!r} says {word}"
    if is_whole and word in ("year", "yr") and least >= 1500 and most <= 2200:
        return "calendar year", f"{name!r}, whole numbers from {least:.0f} to {most:.0f}"
    if is_whole and word == "age" and (most > 130 or least < 0):
        return "", ""
    if is_whole and word in ("year", "yr") and most - least <= 1:
        return "", ""
    if is_whole and unit in _MONTHS_OR_SO and word.rstrip("s") == word:
        low, high = _MONTHS_OR_SO[unit]
        if low <= least and most <= high and most > low:
            return "calendar", f"{name!r}, whole numbers within {low}–{high}: a part of a date or a time"
    return unit, f"{name!r} says {word}"


def _epoch(least: float, most: float) -> tuple[str, str]:
    for unit, factor in (("s since 1970", 1.0), ("ms since 1970", 1e3), ("µs since 1970", 1e6)):
        if 946_684_800 * factor <= least and most <= 4_102_444_800 * factor and most > least:
            return unit, "whole numbers that are moments between 2000 and 2100"
    return "", ""
