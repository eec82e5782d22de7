"""A plan as text that runs: expressions and joins as DuckDB SQL, expressions as one Python function.

Both renderings come from the templates in exprs.py, and parity.py compares
their values. A third engine adds its templates there and its joins here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from underhood.plan.exprs import MOST, Expr, wrap
from underhood.plan.operations import LOWER, OPERATIONS, UPPER

Compiled = Callable[[Mapping[str, Any]], dict[str, Any]]


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def sql_value(value: Any) -> str:
    """A constant as SQL writes it."""
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return f"({float(value)!r}::DOUBLE)"  # in parentheses: --1 would be a comment
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    return "'" + str(value).replace("'", "''") + "'"


# What is not finite stays so through these (in so many first arguments): one guard around a chain of
# them is enough. A guard at each step doubles the text: a sum of 20 columns made 28 MB of SQL.
_CARRY = {"add": 2, "sub": 2, "mul": 2, "div": 1, "neg": 1, "abs": 1}


def to_sql(expr: Expr, is_guarded: bool = False) -> str:
    """A typed expression as one DuckDB SQL expression. A node "sql" holds text that a join has put there.

    `is_guarded`: whoever asks makes null of what is not finite.
    """
    if expr.op == "col":
        return quoted(expr.args[0])
    if expr.op == "sql":
        return str(expr.args[0])
    if expr.op == "lit":
        return sql_value(expr.args[0])
    guards = is_guarded or (expr.op in OPERATIONS and OPERATIONS[expr.op].finite)
    carried = _CARRY.get(expr.op, 0) if guards else 0
    parts = [to_sql(a, n < carried) if isinstance(a, Expr) else a for n, a in enumerate(expr.args)]
    if expr.op in ("and", "or"):
        return f"({parts[0]} {expr.op} {parts[1]})"
    if expr.op == "is_null":
        return f"({parts[0]} is null)"
    if expr.op == "fill":
        return f"coalesce({parts[0]}, {parts[1]})"
    if expr.op == "when":
        return f"(case when {parts[0]} then {parts[1]} else {parts[2]} end)"
    if expr.op == "isin":
        listed = ", ".join(sql_value(v) for v in parts[1] if v is not None)
        return f"({parts[0]} in ({listed}))" if listed else f"(case when {parts[0]} is not null then false end)"
    if expr.op == "map":
        cases = " ".join(f"when {sql_value(k)} then {sql_value(v)}" for k, v in expr.args[1] if k is not None)
        return f"(case {parts[0]} {cases} end)" if cases else "NULL"
    operation = OPERATIONS[expr.op]
    text = operation.duckdb.format(*parts)
    return f"(case when isfinite({text}) then {text} end)" if operation.finite and not is_guarded else text


def to_python(outputs: Mapping[str, Expr]) -> Compiled:
    """Typed expressions as one function from a row to their values, each shared step done once.

    The row holds floats, flags, texts and times (naive UTC) by column name, null as None.
    """
    writer = _Writer()
    names = {name: writer.write(expr) for name, expr in outputs.items()}
    returned = ", ".join(f"{name!r}: {variable}" for name, variable in names.items())
    source = "\n".join(["def compiled(row):", *writer.lines, f" return {{{returned}}}"])
    scope = {**_SCOPE, **writer.constants}
    exec(compile(source, "<definitions>", "exec"), scope)
    made: Compiled = scope["compiled"]
    return made


class _Writer:
    """Lines of one Python function, one variable for each distinct expression."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.known: dict[str, str] = {}

    def constant(self, value: Any) -> str:
        name = f"K{len(self.constants)}"
        self.constants[name] = value
        return name

    def write(self, expr: Expr) -> str:
        key = expr.key()
        if key not in self.known:
            self.known[key] = self._write(expr)
        return self.known[key]

    def _write(self, expr: Expr) -> str:
        if expr.op == "lit":
            return "None" if expr.args[0] is None else self.constant(expr.args[0])
        args = [self.write(a) if isinstance(a, Expr) else a for a in expr.args]
        variable = f"v{len(self.known)}_{len(self.lines)}"
        self.lines.append(f" {variable} = {self._code(expr, args)}")
        if expr.op in OPERATIONS and OPERATIONS[expr.op].finite:
            self.lines.append(f" if {variable} is not None and not -MOST <= {variable} <= MOST: {variable} = None")
        return variable

    def _code(self, expr: Expr, args: list[Any]) -> str:
        if expr.op == "col":
            return f"row[{args[0]!r}]"
        if expr.op in ("and", "or"):
            decided = "False" if expr.op == "and" else "True"
            other = "True" if expr.op == "and" else "False"
            first, second = args
            return (
                f"{decided} if {first} is {decided} or {second} is {decided} "
                f"else (None if {first} is None or {second} is None else {other})"
            )
        if expr.op == "is_null":
            return f"{args[0]} is None"
        if expr.op == "fill":
            return f"{args[0]} if {args[0]} is not None else {args[1]}"
        if expr.op == "when":
            return f"{args[1]} if {args[0]} else {args[2]}"
        if expr.op == "isin":
            levels = self.constant(frozenset(wrap(v).args[0] for v in args[1]))
            return f"None if {args[0]} is None else {args[0]} in {levels}"
        if expr.op == "map":
            levels = self.constant({wrap(k).args[0]: wrap(v).args[0] for k, v in args[1] if k is not None})
            return f"{levels}.get({args[0]})"
        body = OPERATIONS[expr.op].python.format(*args)
        nullable = [a for a in dict.fromkeys(args) if a.startswith("v") or a == "None"]
        return f"None if {' or '.join(f'{a} is None' for a in nullable)} else {body}" if nullable else body


_NUMERAL = re.compile(r"[+-]?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?")


def _half_away(value: float) -> float:
    whole = math.floor(abs(value))
    return math.copysign(whole + (abs(value) - whole >= 0.5), value)


def _nth(parts: Sequence[str], index: float) -> str | None:
    return parts[int(index)] if index < len(parts) else None


def _to_number(text: str) -> float | None:
    return float(text) if _NUMERAL.fullmatch(text) else None


def _date(year: float, month: float, day: float) -> datetime | None:
    try:
        made = datetime(int(year), int(month), int(day))
    except (ValueError, OverflowError):
        return None
    return made if (made.year, made.month, made.day) == (year, month, day) else None


def _later(time: datetime, span: float) -> datetime | None:
    try:
        return time + timedelta(microseconds=_half_away(span * 1e6))
    except OverflowError:
        return None


_SCOPE: Mapping[str, Any] = {
    **{name: getattr(math, name) for name in ("floor", "fmod", "log", "exp", "sqrt")},
    "half_away": _half_away,
    "nth": _nth,
    "to_number": _to_number,
    "date": _date,
    "later": _later,
    "MICROSECOND": timedelta(microseconds=1),
    "MOST": MOST,
    "TO_LOWER": str.maketrans(UPPER, LOWER),
    "TO_UPPER": str.maketrans(LOWER, UPPER),
}
