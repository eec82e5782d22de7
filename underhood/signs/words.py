"""The words that people and programs write where nothing is known."""

from __future__ import annotations

# What people and programs write where nothing is known; compared without blanks and case.
SURE = frozenset(
    [
        "?",
        "??",
        "???",
        "-",
        "--",
        "---",
        ".",
        "..",
        "na",
        "n/a",
        "n.a.",
        "n.a",
        "#n/a",
        "#na",
        "nan",
        "null",
        "(null)",
        "<null>",
        "nil",
        "<na>",
        "undefined",
        "missing",
        "unspecified",
        "#value!",
        "#ref!",
        "#div/0!",
        "tbd",
        "unk",
        "1/1/1900",
        "01/01/1900",
        "1900-01-01",
        "9999-12-31",
        "0000-00-00",
    ]
) | {"", "not available", "not provided", "not specified", "no data", "not reported", "not applicable", "not known"}
LIKELY = frozenset({"unknown", "none", "no value", "to be determined", "xx", "xxx", "xxxx", "test", "dummy", "blank"})


def says_nothing(text: str) -> bool:
    """Whether a text is one of these words, blanks and case aside."""
    return text.strip().casefold() in SURE | LIKELY
