"""The shape of texts: upper case A, lower case a, digit 9, a run of letters as one; "AB-1024" is "A-9999"."""

from __future__ import annotations

import re

LONGEST = 48  # characters; a longer text ends in …


def shape_sql(text: str) -> str:
    """A SQL expression as the shape of its text."""
    short = f"left({text}, {LONGEST})"
    upper = f"regexp_replace({short}, '\\p{{Lu}}+', 'A', 'g')"
    lower = f"regexp_replace({upper}, '\\p{{Ll}}+', 'a', 'g')"
    tail = f"case when length({text}) > {LONGEST} then '…' else '' end"
    return f"regexp_replace({lower}, '[0-9]', '9', 'g') || {tail}"


def shape(text: str) -> str:
    """The same for one text of the ASCII letters and whatever else Python calls upper and lower case."""
    made = re.sub(r"[0-9]", "9", "".join(_letter(c) for c in text[:LONGEST]))
    made = re.sub(r"\x00+", "A", made)
    return re.sub(r"\x01+", "a", made) + ("…" if len(text) > LONGEST else "")


def _letter(character: str) -> str:
    if character.isupper():
        return "\x00"
    return "\x01" if character.islower() else character
