"""Operations that hold more than values: lists of levels, edges, patterns, formats. Each is made from what it holds.

In an expression the first argument is the value, the others are plain
constants; a form turns these into an Operation like those of operations.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from underhood.ground.errors import ProjectError
from underhood.plan.kinds import ANY, FLAG, NUMBER, SAME, TEXT, TIME, Operation
from underhood.plan.literals import DUCKDB, SPARK, sql_value

Pair = tuple[Any, Any]


def isin(values: Sequence[Any]) -> Operation:
    """Whether the value is one of these; a null among them is nobody's."""
    listed = [v for v in values if v is not None]

    def sql(engine: str) -> str:
        if not listed:
            return "(case when {0} is not null then false end)"
        return f"({_plain_zero(listed, engine)} in ({', '.join(_fixed(v, engine) for v in listed)}))"

    python = "({0} in {1})"
    return Operation((ANY,), FLAG, sql(DUCKDB), sql(SPARK), python, "{0} in {1}", held=(frozenset(listed),))


def mapped(levels: Sequence[Pair]) -> Operation:
    """What stands beside this value; null where nothing does."""
    known = [(k, v) for k, v in levels if k is not None]

    def sql(engine: str) -> str:
        cases = " ".join(f"when {{0}} = {_fixed(k, engine)} then {_fixed(v, engine)}" for k, v in known)
        return f"(case {cases} end)" if cases else "NULL"

    return Operation((ANY,), ANY, sql(DUCKDB), sql(SPARK), "{1}.get({0})", "{0} mapped by {1}", held=(dict(known),))


def grouped(levels: Sequence[Any], other: Any) -> Operation:
    """The value if it is one of these levels, else `other`."""

    def sql(engine: str) -> str:
        listed = ", ".join(_fixed(v, engine) for v in levels)
        kept = f"when {_plain_zero(levels, engine)} in ({listed}) then {{0}} " if listed else ""
        return f"(case {kept}when {{0}} is not null then {_fixed(other, engine)} end)"

    python = "({0} if {0} in {1} else {2})"
    shown = "{0} if in {1}, else {2}"
    return Operation((SAME,), SAME, sql(DUCKDB), sql(SPARK), python, shown, held=(frozenset(levels), other))


def bucket(edges: Sequence[float]) -> Operation:
    """How many of the edges are at or below the value: 0 below the first."""

    def sql(engine: str) -> str:
        cases = [f"when {{0}} < {_fixed(e, engine)} then {_fixed(n, engine)}" for n, e in enumerate(edges)]
        return f"(case {' '.join(cases)} when {{0}} is not null then {_fixed(len(edges), engine)} end)"

    python = "float(bisect_right({1}, {0}))"
    return Operation((NUMBER,), NUMBER, sql(DUCKDB), sql(SPARK), python, "bucket({0}, {1})", held=(tuple(edges),))


def matches(pattern: str) -> Operation:
    """Whether the whole text is like a pattern, where * is any text and ? is one code point."""
    like = re.sub(r"([!%_])", r"!\1", pattern).replace("*", "%").replace("?", "_")
    parts = {"*": ".*", "?": "."}
    found = re.compile("".join(parts.get(c, re.escape(c)) for c in pattern), re.DOTALL).fullmatch

    def sql(engine: str) -> str:
        return f"({{0}} like {_fixed(like, engine)} escape '!')"

    python = "({1}({0}) is not None)"
    return Operation((TEXT,), FLAG, sql(DUCKDB), sql(SPARK), python, "{0} like {1}", held=(found,))


_DECIMALS, _GROUPS = (".", ","), ("", ".", ",", " ", "'", "’", "_", "\u00a0", "\u202f")


def parse_number(decimal: str, thousands: str) -> Operation:
    """The number that a text writes: digits, or groups of three with `thousands` between them, and `decimal`."""
    if decimal not in _DECIMALS or thousands not in _GROUPS or decimal == thousands:
        hint = 'decimal is "." or ",", thousands one of . , \' ’ _, a space or nothing, and not the same'
        raise ProjectError(f"cannot tell numbers apart with {decimal!r} and {thousands!r}", "parse_number", hint)
    groups = f"|[0-9]{{1,3}}([{thousands}][0-9]{{3}})+" if thousands else ""
    pattern = f"[+-]?([0-9]+{groups})([{decimal}][0-9]+)?"

    def bare(engine: str) -> str:
        text = f"replace({{0}}, {_fixed(thousands, engine)}, '')" if thousands else "{0}"
        return f"replace({text}, ',', '.')" if decimal == "," else text

    duckdb = f"(case when regexp_full_match({{0}}, {_fixed(pattern)}) then try_cast({bare(DUCKDB)} as DOUBLE) end)"
    spark = f"(case when {_spark_full(pattern)} then try_cast({bare(SPARK)} as double) end)"
    held = (re.compile(pattern).fullmatch, decimal, thousands)
    return Operation(
        (TEXT,), NUMBER, duckdb, spark, "parse_number({0}, {1}, {2}, {3})", "number({0}, {1}, {2})", "", True, held
    )


_DIRECTIVES = {
    "Y": "([1-9][0-9]{3})",
    "m": "(0?[1-9]|1[0-2])",
    "d": "(0?[1-9]|[12][0-9]|3[01])",
    "H": "([01]?[0-9]|2[0-3])",
    "M": "([0-5]?[0-9])",
    "S": "([0-5]?[0-9])",
}
_BETWEEN = re.compile(r"[A-Za-z /.,:_-]")


def parse_time(form: str) -> Operation:
    """The time that a text writes in a format of %Y %m %d %H %M %S; null if it is another or no such day.

    Years have four digits, the others one or two; two where no mark stands after
    them. Raises ProjectError for any other directive.
    """
    pattern, order = _time_pattern(form)
    mark = {DUCKDB: "\\", SPARK: "$"}

    def sql(engine: str) -> str:
        numbers = [f"{mark[engine]}{order.index(c) + 1}" if c in order else "0" for c in "YmdHMS"]
        iso = "{}-{}-{} {}:{}:{}".format(*[("1" if i == 2 and n == "0" else n) for i, n in enumerate(numbers)])
        made = f"regexp_replace({{0}}, {_fixed(f'^{pattern}$', engine)}, {_fixed(iso, engine)})"
        if engine == SPARK:
            return f"(case when {_spark_full(pattern)} then try_cast({made} as timestamp_ntz) end)"
        return f"(case when regexp_full_match({{0}}, {_fixed(pattern)}) then try_cast({made} as TIMESTAMP) end)"

    held = (re.compile(pattern).fullmatch, tuple(order.index(c) if c in order else None for c in "YmdHMS"))
    return Operation((TEXT,), TIME, sql(DUCKDB), sql(SPARK), "parse_time({0}, {1}, {2})", "time({0}, {1})", held=held)


def _time_pattern(form: str) -> tuple[str, str]:
    pattern, order, at = "", "", 0
    while at < len(form):
        letter = form[at + 1 : at + 2] if form[at] == "%" else ""
        if letter in _DIRECTIVES and letter not in order:
            follows = form[at + 2 : at + 3]
            piece = _DIRECTIVES[letter]
            pattern += piece.replace("?", "") if follows == "%" or (form[max(at - 2, 0)] == "%" and at >= 2) else piece
            order += letter
            at += 2
        elif _BETWEEN.fullmatch(form[at]):
            pattern += f"[{form[at]}]" if form[at] != "-" else "-"
            at += 1
        else:
            hint = "write %Y %m %d %H %M %S, each once, with marks such as . - / : or spaces between them"
            raise ProjectError(f"{form!r} is not a format that every engine reads alike", "parse_time", hint)
    if not {"Y", "m"} <= set(order):
        raise ProjectError(f"{form!r} has no year and month", "parse_time", "write %Y and %m into it")
    return pattern, order


def hashed(buckets: int) -> Operation:
    """A number from 0 to `buckets` - 1 made of the text's MD5: the same on every engine, for levels without end."""
    eight = "substring(md5({0}), 1, 8)"
    spark = "substring(md5(cast({0} as binary)), 1, 8)"
    return Operation(
        (TEXT,),
        NUMBER,
        f"(('0x' || {eight})::BIGINT % {int(buckets)})::DOUBLE",
        f"cast(cast(conv({spark}, 16, 10) as bigint) % {int(buckets)} as double)",
        "hashed({0}, {1})",
        "hashed({0}, {1})",
        held=(int(buckets),),
    )


def _fixed(value: Any, engine: str = DUCKDB) -> str:
    """A constant inside a template."""
    return sql_value(value, engine).replace("{", "{{").replace("}", "}}")


def _plain_zero(values: Sequence[Any], engine: str) -> str:
    """The value, without the sign of zero where Spark's lists see it."""
    has_numbers = any(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return "({0} + 0D)" if engine == SPARK and has_numbers else "{0}"


def _spark_full(pattern: str) -> str:
    # a dollar alone also matches before a last line break
    return f"concat({{0}}, ';') rlike {_fixed(f'^{pattern};$', SPARK)}"


FORMS: Mapping[str, Callable[..., Operation]] = {
    "isin": isin,
    "map": mapped,
    "group": grouped,
    "bucket": bucket,
    "matches": matches,
    "parse_number": parse_number,
    "parse_time": parse_time,
    "hashed": hashed,
}
