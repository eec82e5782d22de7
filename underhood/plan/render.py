"""A definition as text that runs: as SQL of each engine, and as one Python function.

Every rendering is made of the templates in operations.py and forms.py, and
parity.py compares their values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from underhood.plan.exprs import Expr, operation_of
from underhood.plan.fitted import unfitted
from underhood.plan.literals import DUCKDB as DUCKDB
from underhood.plan.literals import SPARK as SPARK
from underhood.plan.literals import quoted as quoted
from underhood.plan.literals import sql_value as sql_value
from underhood.plan.meanings import SCOPE
from underhood.plan.opaque import callable_of, is_sql, sql_name
from underhood.plan.operations import NUMBER, Operation
from underhood.plan.sqlsteps import sql_template

Compiled = Callable[[Mapping[str, Any]], dict[str, Any]]

# What is not finite stays so through these (in so many first arguments): one guard around a chain of
# them is enough. A guard at each step doubles the text: a sum of 20 columns made 28 MB of SQL.
_CARRY = {"add": 2, "sub": 2, "mul": 2, "div": 1, "neg": 1, "abs": 1}
# A template may name an argument more than once. Written out each time, a chain of 30 logarithms would be
# gigabytes of SQL; so a long argument is computed once and named. Short ones are cheaper written out
# (naming costs about 20 ns a row).
_LONG = 200  # characters
_DEEP = 2000  # characters that a select of its own is worth: Spark's parser goes down some hundred brackets
_GUARD = {
    DUCKDB: "(case when isfinite({0}) then {0} end)",
    SPARK: "(case when abs({0}) <= 1.7976931348623157E308D then {0} end)",
}


def to_sql(expr: Expr, engine: str = DUCKDB) -> str:
    """A typed expression as one SQL expression of an engine: "duckdb" or "spark".

    An opaque step becomes a call of `sql_name`: teach the engine that function
    first. A node "sql" holds text that a join has put there. Times are UTC: TIMESTAMP
    on DuckDB, TIMESTAMP_NTZ on Spark. The text grows with the expression, never
    faster.
    """
    return _sql(expr, engine, False, None)


def to_stages(outputs: Mapping[str, Expr], engine: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Typed expressions as selects one above the other, for parsers that do not go deep.

    First what each select adds to the columns below it (name → SQL), then the
    outputs over all of these. Mostly nothing is added.
    """
    stages = _Stages()
    made = {name: _sql(expr, engine, False, stages) for name, expr in outputs.items()}
    added: list[dict[str, str]] = [{} for _ in range(max(stages.levels.values(), default=0))]
    for text, name in stages.names.items():
        added[stages.levels[name] - 1][name] = text
    return added, made


class _Stages:
    """Columns of inner selects by their text, each above those that it reads."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.levels: dict[str, int] = {}

    def named(self, text: str) -> str:
        if text not in self.names:
            self.names[text] = f"__s{len(self.names)}"
            below = [self.levels[name] for name in re.findall(r"__s[0-9]+", text) if name in self.levels]
            self.levels[self.names[text]] = 1 + max(below, default=0)
        return self.names[text]


def _sql(expr: Expr, engine: str, is_guarded: bool, stages: _Stages | None) -> str:
    """`is_guarded`: whoever asks makes null of what is not finite."""
    if expr.op == "col":
        return quoted(expr.args[0], engine)
    if expr.op == "sql":
        return str(expr.args[0])
    if expr.op == "lit":
        return sql_value(expr.args[0], engine)
    if expr.op == "fitted":
        raise unfitted(expr)
    if is_sql(expr):
        parts = [_sql(a, engine, False, stages) for a in expr.args[1:]]
        text = _filled(sql_template(expr, engine), parts, engine, stages)
        return _filled(_GUARD[engine], [text], engine, stages) if expr.args[0][1] == NUMBER else text
    if expr.op == "opaque":
        return f"{sql_name(expr)}({', '.join(_sql(a, engine, False, stages) for a in expr.args[1:])})"
    special = _SPECIAL.get(expr.op)
    operation = None if special else operation_of(expr)
    is_finite = operation is not None and operation.finite
    carried = _CARRY.get(expr.op, 0) if is_guarded or is_finite else 0
    parts = [_sql(a, engine, n < carried, stages) for n, a in enumerate(expr.args) if isinstance(a, Expr)]
    if special or operation is None:
        return _filled(_SPECIAL[expr.op], parts, engine, stages)
    text = _filled(operation.spark if engine == SPARK else operation.duckdb, parts, engine, stages)
    return _filled(_GUARD[engine], [text], engine, stages) if is_finite and not is_guarded else text


_SPECIAL = {
    "and": "({0} and {1})",
    "or": "({0} or {1})",
    "is_null": "({0} is null)",
    "fill": "coalesce({0}, {1})",
    "when": "(case when {0} then {1} else {2} end)",
}


def _filled(template: str, parts: Sequence[str], engine: str, stages: _Stages | None) -> str:
    """The template with its arguments; those that are long and would be written more than once are named."""
    long = [n for n, part in enumerate(parts) if len(part) > _LONG]
    if stages is not None:
        again = [n for n in long if template.count(f"{{{n}}}") > 1 or len(parts[n]) > _DEEP]
        return template.format(*[stages.named(part) if n in again else part for n, part in enumerate(parts)])
    if all(template.count(f"{{{n}}}") < 2 for n in long):
        return template.format(*parts)
    # all long ones, so that a name is never used inside of what it names
    named = [f"__long.a{n}" if n in long else part for n, part in enumerate(parts)]
    body = template.format(*named)
    if engine == SPARK:
        fields = ", ".join(f"'a{n}', {parts[n]}" for n in long)
        return f"transform(array(named_struct({fields})), __long -> {body})[0]"
    fields = ", ".join(f"a{n}: {parts[n]}" for n in long)
    return f"list_transform([{{{fields}}}], lambda __long: {body})[1]"


def to_python(outputs: Mapping[str, Expr]) -> Compiled:
    """Typed expressions as one function from a row to their values, each shared step done once.

    The row holds floats, flags, texts and times (naive UTC) by column name, null as None.
    """
    writer = _Writer()
    names = {name: writer.write(expr) for name, expr in outputs.items()}
    returned = ", ".join(f"{name!r}: {variable}" for name, variable in names.items())
    source = "\n".join(["def compiled(row):", *writer.lines, f" return {{{returned}}}"])
    scope = {**SCOPE, **writer.constants}
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
        args = [self.write(a) for a in expr.args if isinstance(a, Expr)]
        variable = f"v{len(self.known)}_{len(self.lines)}"
        special = self._special(expr, args)
        if special:
            self.lines.append(f" {variable} = {special}")
            return variable
        operation = operation_of(expr)
        self.lines.append(f" {variable} = {self._code(operation, args)}")
        if operation.finite:
            self.lines.append(f" if {variable} is not None and not -MOST <= {variable} <= MOST: {variable} = None")
        return variable

    def _special(self, expr: Expr, args: list[str]) -> str:
        if expr.op == "col":
            return f"row[{expr.args[0]!r}]"
        if expr.op == "fitted":
            raise unfitted(expr)
        if expr.op == "opaque":
            return f"{self.constant(callable_of(expr))}({', '.join(args)})"
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
        return f"{args[1]} if {args[0]} else {args[2]}" if expr.op == "when" else ""

    def _code(self, operation: Operation, args: list[str]) -> str:
        held = [self.constant(value) for value in operation.held]
        body = operation.python.format(*args, *held)
        nullable = [a for a in dict.fromkeys(args) if a.startswith("v") or a == "None"]
        return f"None if {' or '.join(f'{a} is None' for a in nullable)} else {body}" if nullable else body
