"""The operations: each with one pinned meaning and one template an engine.

Five types: number (a float), flag, text, time (UTC, microseconds) and span
(seconds). What holds for every operation: null in, null out (except where an
operation is about nulls); outside its domain, or not finite: null. Nothing
raises on data, so a definition gives the same value on history and on one row.

An operation is one line of OPERATIONS: what it takes, what it gives, and its
templates. A new engine is a new column of templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NUMBER, FLAG, TEXT, TIME, SPAN, ANY, SAME = "number", "flag", "text", "time", "span", "any", "same"
TYPES = (NUMBER, FLAG, TEXT, TIME, SPAN)

UPPER, LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: argument types, result type, a template for each engine, and how it reads.

    `python` templates see arguments that are not null. `finite` results that
    overflow become null. Templates of a new engine are added by name.
    """

    takes: tuple[str, ...]
    gives: str
    duckdb: str
    python: str
    shown: str
    finite: bool = False


def _binary(symbol: str, takes: str, gives: str, python: str = "", finite: bool = False) -> Operation:
    return Operation(
        (takes, takes),
        gives,
        f"({{0}} {symbol} {{1}})",
        f"({{0}} {python or symbol} {{1}})",
        f"{{0}} {symbol} {{1}}",
        finite,
    )


_EPOCH_US = "epoch_us({0})"

OPERATIONS: Mapping[str, Operation] = {
    # arithmetic on numbers; spans add, subtract and scale in the same way
    "add": _binary("+", NUMBER, NUMBER, finite=True),
    "sub": _binary("-", NUMBER, NUMBER, finite=True),
    "mul": _binary("*", NUMBER, NUMBER, finite=True),
    "div": Operation(
        (NUMBER, NUMBER),
        NUMBER,
        "({0} / nullif({1}, 0))",
        "({0} / {1} if {1} != 0 else None)",
        "{0} / {1}",
        True,
    ),
    "mod": Operation(
        (NUMBER, NUMBER),
        NUMBER,
        "(case when {1} <> 0 then {0} % {1} end)",
        "(fmod({0}, {1}) if {1} != 0 else None)",
        "{0} % {1}",
    ),
    "neg": Operation((NUMBER,), NUMBER, "(-{0})", "(-{0})", "-{0}"),
    "abs": Operation((NUMBER,), NUMBER, "abs({0})", "abs({0})", "abs({0})"),
    "ln": Operation(
        (NUMBER,),
        NUMBER,
        "(case when {0} > 0 then ln({0}) end)",
        "(log({0}) if {0} > 0 else None)",
        "ln({0})",
    ),
    "exp": Operation(
        (NUMBER,),
        NUMBER,
        "(case when {0} <= 709.78 then exp({0}) end)",
        "(exp({0}) if {0} <= 709.78 else None)",
        "exp({0})",
    ),
    "sqrt": Operation(
        (NUMBER,),
        NUMBER,
        "(case when {0} >= 0 then sqrt({0}) end)",
        "(sqrt({0}) if {0} >= 0 else None)",
        "sqrt({0})",
    ),
    "floor": Operation((NUMBER,), NUMBER, "floor({0})", "float(floor({0}))", "floor({0})"),
    "round": Operation((NUMBER,), NUMBER, "round({0})", "half_away({0})", "round({0})"),
    "least": Operation(
        (SAME, SAME),
        SAME,
        "(case when {0} <= {1} then {0} when {1} < {0} then {1} end)",
        "({0} if {0} <= {1} else {1})",
        "least({0}, {1})",
    ),
    "greatest": Operation(
        (SAME, SAME),
        SAME,
        "(case when {0} >= {1} then {0} when {1} > {0} then {1} end)",
        "({0} if {0} >= {1} else {1})",
        "greatest({0}, {1})",
    ),
    # comparisons; text compares by code point
    "lt": _binary("<", SAME, FLAG),
    "le": _binary("<=", SAME, FLAG),
    "gt": _binary(">", SAME, FLAG),
    "ge": _binary(">=", SAME, FLAG),
    "eq": _binary("=", SAME, FLAG, python="=="),
    "ne": _binary("<>", SAME, FLAG, python="!="),
    "not": Operation((FLAG,), FLAG, "(not {0})", "(not {0})", "not {0}"),
    # text: lower and upper change A-Z only, strip removes spaces only, length counts code points
    "lower": Operation(
        (TEXT,), TEXT, f"translate({{0}}, '{UPPER}', '{LOWER}')", "{0}.translate(TO_LOWER)", "lower({0})"
    ),
    "upper": Operation(
        (TEXT,), TEXT, f"translate({{0}}, '{LOWER}', '{UPPER}')", "{0}.translate(TO_UPPER)", "upper({0})"
    ),
    "strip": Operation((TEXT,), TEXT, "trim({0}, ' ')", "{0}.strip(' ')", "strip({0})"),
    "length": Operation((TEXT,), NUMBER, "length({0})::DOUBLE", "float(len({0}))", "length({0})"),
    "contains": Operation((TEXT, TEXT), FLAG, "contains({0}, {1})", "({1} in {0})", "contains({0}, {1})"),
    "starts_with": Operation(
        (TEXT, TEXT), FLAG, "starts_with({0}, {1})", "{0}.startswith({1})", "starts_with({0}, {1})"
    ),
    "concat": Operation((TEXT, TEXT), TEXT, "({0} || {1})", "({0} + {1})", "{0} + {1}"),
    "part": Operation(
        (TEXT, TEXT, NUMBER),
        TEXT,
        "string_split({0}, {1})[{2}::BIGINT + 1]",
        "nth({0}.split({1}), {2})",
        "part({0}, {1}, {2})",
    ),
    "to_number": Operation(
        (TEXT,),
        NUMBER,
        "(case when regexp_full_match({0}, '[+-]?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?') "
        "then try_cast({0} as DOUBLE) end)",
        "to_number({0})",
        "to_number({0})",
        True,
    ),
    # times are UTC; the day of the week counts from Monday = 0
    "hour": Operation((TIME,), NUMBER, "hour({0})::DOUBLE", "float({0}.hour)", "hour({0})"),
    "minute": Operation((TIME,), NUMBER, "minute({0})::DOUBLE", "float({0}.minute)", "minute({0})"),
    "weekday": Operation((TIME,), NUMBER, "(isodow({0}) - 1)::DOUBLE", "float({0}.weekday())", "weekday({0})"),
    "day": Operation((TIME,), NUMBER, "day({0})::DOUBLE", "float({0}.day)", "day({0})"),
    "month": Operation((TIME,), NUMBER, "month({0})::DOUBLE", "float({0}.month)", "month({0})"),
    "year": Operation((TIME,), NUMBER, "year({0})::DOUBLE", "float({0}.year)", "year({0})"),
    "date": Operation(
        (NUMBER, NUMBER, NUMBER),
        TIME,
        "(case when {0} between 1 and 9999 and {1} between 1 and 12 and {2} between 1 and 31 "
        "and floor({0}) = {0} and floor({1}) = {1} and floor({2}) = {2} then try_cast("
        "printf('%04d-%02d-%02d', {0}::BIGINT, {1}::BIGINT, {2}::BIGINT) as TIMESTAMP) end)",
        "date({0}, {1}, {2})",
        "date({0}, {1}, {2})",
    ),
    "later": Operation(
        (TIME, SPAN),
        TIME,
        "(case when abs({1}) < 4e11 and " + _EPOCH_US + " + round({1} * 1e6)::BIGINT "
        "between -62135596800000000 and 253402300799999999 "
        "then make_timestamp(" + _EPOCH_US + " + round({1} * 1e6)::BIGINT) end)",
        "later({0}, {1})",
        "{0} + {1}",
    ),
    "between": Operation(
        (TIME, TIME),
        SPAN,
        "((epoch_us({0}) - epoch_us({1})) / 1e6)",
        "(({0} - {1}) // MICROSECOND / 1e6)",
        "{0} - {1}",
    ),
    "seconds": Operation((NUMBER,), SPAN, "{0}", "{0}", "seconds({0})"),
    "in_seconds": Operation((SPAN,), NUMBER, "{0}", "{0}", "seconds({0})"),
}
