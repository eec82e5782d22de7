"""The operations: each with one pinned meaning and one template an engine.

Five types: number (a float), flag, text, time (UTC, microseconds) and span
(seconds). What holds for every operation: null in, null out (except where an
operation is about nulls); outside its domain, or not finite: null. Nothing
raises on data, so a definition gives the same value on history and on one row.
Zero has no sign: nothing tells -0 from 0.

An operation is one entry of OPERATIONS: what it takes, what it gives, its
templates and what it means. What needs more than its arguments (a list of
levels, a format) stands in forms.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from underhood.plan.kinds import ANY as ANY
from underhood.plan.kinds import FLAG as FLAG
from underhood.plan.kinds import NUMBER as NUMBER
from underhood.plan.kinds import SAME as SAME
from underhood.plan.kinds import SPAN as SPAN
from underhood.plan.kinds import TEXT as TEXT
from underhood.plan.kinds import TIME as TIME
from underhood.plan.kinds import TYPES as TYPES
from underhood.plan.kinds import Operation as Operation
from underhood.plan.kinds import alike, binary
from underhood.plan.moments import TIMES

UPPER, LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_SPARK_TEXT = "cast(cast({0} as bigint) as string)"
_NUMERAL = "[+-]?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?"

ARITHMETIC: Mapping[str, Operation] = {
    # on numbers; spans add, subtract and scale in the same way
    "add": binary("+", NUMBER, NUMBER, "the sum", finite=True),
    "sub": binary("-", NUMBER, NUMBER, "the difference", finite=True),
    "mul": binary("*", NUMBER, NUMBER, "the product", finite=True),
    "div": Operation(
        (NUMBER, NUMBER),
        NUMBER,
        "(case when {1} <> 0 then {0} / {1} end)",
        "(case when {1} <> 0 then {0} / {1} end)",
        "({0} / {1} if {1} != 0 else None)",
        "{0} / {1}",
        "the quotient; null if divided by zero",
        True,
    ),
    "mod": alike(
        (NUMBER, NUMBER),
        NUMBER,
        "(case when {1} <> 0 then {0} % {1} end)",
        "(fmod({0}, {1}) if {1} != 0 else None)",
        "{0} % {1}",
        "the rest of a division, with the sign of what is divided",
    ),
    "neg": alike((NUMBER,), NUMBER, "(-{0})", "(-{0})", "-{0}", "with the other sign"),
    "abs": alike((NUMBER,), NUMBER, "abs({0})", "abs({0})", "abs({0})", "without its sign"),
    "sign": Operation(
        (NUMBER,),
        NUMBER,
        "sign({0})::DOUBLE",
        "sign({0})",
        "(({0} > 0.0) - ({0} < 0.0) + 0.0)",
        "sign({0})",
        "-1, 0 or 1",
    ),
    "ln": alike(
        (NUMBER,),
        NUMBER,
        "(case when {0} > 0 then ln({0}) end)",
        "(log({0}) if {0} > 0 else None)",
        "ln({0})",
        "the natural logarithm; null unless above 0",
    ),
    "log10": alike(
        (NUMBER,),
        NUMBER,
        "(case when {0} > 0 then log10({0}) end)",
        "(log10({0}) if {0} > 0 else None)",
        "log10({0})",
        "the logarithm to base 10; null unless above 0",
    ),
    "exp": alike(
        (NUMBER,),
        NUMBER,
        "(case when {0} <= 709.78 then exp({0}) end)",
        "(exp({0}) if {0} <= 709.78 else None)",
        "exp({0})",
        "e to this power; null where that is not finite",
    ),
    "sqrt": alike(
        (NUMBER,),
        NUMBER,
        "(case when {0} >= 0 then sqrt({0}) end)",
        "(sqrt({0}) if {0} >= 0 else None)",
        "sqrt({0})",
        "the square root; null below 0",
    ),
    "power": Operation(
        (NUMBER, NUMBER),
        NUMBER,
        "(case when {0} > 0 or ({0} = 0 and {1} > 0) or ({0} < 0 and {1} = floor({1})) then pow({0}, {1}) end)",
        "(case when {0} > 0 or ({0} = 0 and {1} > 0) or ({0} < 0 and {1} % 2D in (-1D, 0D, 1D)) "
        "then power({0}, {1}) end)",
        "power({0}, {1})",
        "{0} ** {1}",
        "to this power; null for a root of a negative number, for 0 to 0 or less, and where not finite",
        True,
    ),
    "sin": alike((NUMBER,), NUMBER, "sin({0})", "sin({0})", "sin({0})", "the sine of an angle in radians"),
    "cos": alike((NUMBER,), NUMBER, "cos({0})", "cos({0})", "cos({0})", "the cosine of an angle in radians"),
    "atan2": alike(
        (NUMBER, NUMBER),
        NUMBER,
        "atan2({0} + 0.0, {1} + 0.0)",
        "atan2({0} + 0.0, {1} + 0.0)",
        "atan2({0}, {1})",
        "the angle of the point (second, first), in radians",
    ),
    "floor": Operation(
        (NUMBER,),
        NUMBER,
        "floor({0})",
        "(case when abs({0}) < 4503599627370496D then cast(floor({0}) as double) else {0} end)",
        "float(floor({0}))",
        "floor({0})",
        "the whole number at or below",
    ),
    "ceil": Operation(
        (NUMBER,),
        NUMBER,
        "ceil({0})",
        "(case when abs({0}) < 4503599627370496D then cast(ceil({0}) as double) else {0} end)",
        "float(ceil({0}))",
        "ceil({0})",
        "the whole number at or above",
    ),
    "round": alike(
        (NUMBER,), NUMBER, "round({0})", "half_away({0})", "round({0})", "the nearest whole number, halves away from 0"
    ),
    "least": alike(
        (SAME, SAME),
        SAME,
        "(case when {0} <= {1} then {0} when {1} < {0} then {1} end)",
        "({0} if {0} <= {1} else {1})",
        "least({0}, {1})",
        "the smaller of two",
    ),
    "greatest": alike(
        (SAME, SAME),
        SAME,
        "(case when {0} >= {1} then {0} when {1} > {0} then {1} end)",
        "({0} if {0} >= {1} else {1})",
        "greatest({0}, {1})",
        "the larger of two",
    ),
}

COMPARISONS: Mapping[str, Operation] = {
    # text compares by code point
    "lt": binary("<", SAME, FLAG, "whether below"),
    "le": binary("<=", SAME, FLAG, "whether at or below"),
    "gt": binary(">", SAME, FLAG, "whether above"),
    "ge": binary(">=", SAME, FLAG, "whether at or above"),
    "eq": binary("=", SAME, FLAG, "whether equal", python="=="),
    "ne": binary("<>", SAME, FLAG, "whether different", python="!="),
    "not": alike((FLAG,), FLAG, "(not {0})", "(not {0})", "not {0}", "whether it does not hold"),
    "within": alike(
        (SAME, SAME, SAME),
        FLAG,
        "(case when {1} is not null and {2} is not null then {0} >= {1} and {0} <= {2} end)",
        "({1} <= {0} <= {2})",
        "{1} <= {0} <= {2}",
        "whether between two values or equal to one of them",
    ),
    "null_if": alike(
        (SAME, SAME),
        SAME,
        "(case when {0} <> {1} then {0} end)",
        "({0} if {0} != {1} else None)",
        "null_if({0}, {1})",
        "the value, or null where it is this one",
    ),
    "as_number": Operation(
        (FLAG,), NUMBER, "{0}::DOUBLE", "cast({0} as double)", "float({0})", "number({0})", "1 where it holds, else 0"
    ),
}

TEXTS: Mapping[str, Operation] = {
    # lower and upper change A-Z only, strip and collapse know spaces only, letters are code points
    "lower": alike(
        (TEXT,),
        TEXT,
        f"translate({{0}}, '{UPPER}', '{LOWER}')",
        "{0}.translate(TO_LOWER)",
        "lower({0})",
        "with a-z for A-Z; other letters stay",
    ),
    "upper": alike(
        (TEXT,),
        TEXT,
        f"translate({{0}}, '{LOWER}', '{UPPER}')",
        "{0}.translate(TO_UPPER)",
        "upper({0})",
        "with A-Z for a-z; other letters stay",
    ),
    "strip": Operation(
        (TEXT,),
        TEXT,
        "trim({0}, ' ')",
        "trim(both ' ' from {0})",
        "{0}.strip(' ')",
        "strip({0})",
        "without spaces at both ends",
    ),
    "collapse": Operation(
        (TEXT,),
        TEXT,
        "regexp_replace({0}, ' +', ' ', 'g')",
        "regexp_replace({0}, ' +', ' ')",
        "collapse(' ', {0})",
        "collapse({0})",
        "with one space for each run of spaces",
    ),
    "length": Operation(
        (TEXT,),
        NUMBER,
        "length({0})::DOUBLE",
        "cast(length({0}) as double)",
        "float(len({0}))",
        "length({0})",
        "how many code points",
    ),
    "contains": alike(
        (TEXT, TEXT), FLAG, "contains({0}, {1})", "({1} in {0})", "contains({0}, {1})", "whether a text occurs in it"
    ),
    "starts_with": Operation(
        (TEXT, TEXT),
        FLAG,
        "starts_with({0}, {1})",
        "startswith({0}, {1})",
        "{0}.startswith({1})",
        "starts_with({0}, {1})",
        "whether it begins with a text",
    ),
    "ends_with": Operation(
        (TEXT, TEXT),
        FLAG,
        "ends_with({0}, {1})",
        "endswith({0}, {1})",
        "{0}.endswith({1})",
        "ends_with({0}, {1})",
        "whether it ends with a text",
    ),
    "concat": alike((TEXT, TEXT), TEXT, "({0} || {1})", "({0} + {1})", "{0} + {1}", "one after the other"),
    "part": Operation(
        (TEXT, TEXT, NUMBER),
        TEXT,
        "string_split({0}, {1})[{2}::BIGINT + 1]",
        "(case when length({0}) - length(replace({0}, {1}, '')) >= length({1}) * {2} "
        "then split_part({0}, {1}, cast({2} as int) + 1) end)",
        "nth({0}.split({1}), {2})",
        "part({0}, {1}, {2})",
        "the piece of this number, from 0, between separators; null if there are fewer",
    ),
    "replace": alike(
        (TEXT, TEXT, TEXT),
        TEXT,
        "replace({0}, {1}, {2})",
        "{0}.replace({1}, {2})",
        "replace({0}, {1}, {2})",
        "with one text for each occurrence of another",
    ),
    "slice": Operation(
        (TEXT, NUMBER, NUMBER),
        TEXT,
        "substring({0}, {1}::INT + 1, {2}::INT)",
        "substring({0}, cast({1} as int) + 1, cast({2} as int))",
        "{0}[int({1}) : int({1}) + int({2})]",
        "slice({0}, {1}, {2})",
        "so many code points from a place on, which counts from 0; fewer at the end",
    ),
    "right": Operation(
        (TEXT, NUMBER),
        TEXT,
        "right({0}, {1}::INT)",
        "substring({0}, -cast({1} as int))",
        "{0}[-int({1}):]",
        "right({0}, {1})",
        "the last so many code points, or all if there are fewer",
    ),
    "pad": Operation(
        (TEXT, NUMBER, TEXT),
        TEXT,
        "(case when length({0}) < {1} then lpad({0}, {1}::INT, {2}) else {0} end)",
        "(case when length({0}) < {1} then lpad({0}, cast({1} as int), {2}) else {0} end)",
        "{0}.rjust(int({1}), {2})",
        "pad({0}, {1}, {2})",
        "filled up on the left to this length; never cut",
    ),
    "position": Operation(
        (TEXT, TEXT),
        NUMBER,
        "(case when contains({0}, {1}) then instr({0}, {1}) - 1.0 end)::DOUBLE",
        "(case when contains({0}, {1}) then cast(instr({0}, {1}) - 1 as double) end)",
        "position({0}, {1})",
        "position({0}, {1})",
        "where a text first occurs, from 0; null if it does not",
    ),
    "count_of": Operation(
        (TEXT, TEXT),
        NUMBER,
        "((length({0}) - length(replace({0}, {1}, ''))) / length({1}))::DOUBLE",
        "cast((length({0}) - length(replace({0}, {1}, ''))) / length({1}) as double)",
        "float({0}.count({1}))",
        "count_of({0}, {1})",
        "how often a text occurs, without overlaps",
    ),
    "is_digits": Operation(
        (TEXT,),
        FLAG,
        "regexp_full_match({0}, '[0-9]+')",
        "(translate({0}, '0123456789', '') = '' and {0} <> '')",
        "is_digits({0})",
        "is_digits({0})",
        "whether it is one or more of 0-9 and nothing else",
    ),
    "to_number": Operation(
        (TEXT,),
        NUMBER,
        f"(case when regexp_full_match({{0}}, '{_NUMERAL}') then try_cast({{0}} as DOUBLE) end)",
        f"(case when concat({{0}}, ';') rlike '^{_NUMERAL};$' then try_cast({{0}} as double) end)",
        "to_number({0})",
        "to_number({0})",
        "the number that it writes with a decimal point; null if it is none",
        True,
    ),
    "to_text": Operation(
        (NUMBER,),
        TEXT,
        "(case when abs({0}) < 9007199254740992 and {0} = floor({0}) then {0}::BIGINT::VARCHAR end)",
        f"(case when abs({{0}}) < 9007199254740992D and {{0}} % 1D = 0D then {_SPARK_TEXT} end)",
        "to_text({0})",
        "to_text({0})",
        "a whole number's digits; null for any other, whose digits no two engines write alike",
    ),
}

OPERATIONS: dict[str, Operation] = {**ARITHMETIC, **COMPARISONS, **TEXTS, **TIMES}
