"""Opaque steps: a Python function on values as one step of a definition, where the operations do not reach.

    @opaque(gives="number")
    def vowels(text):
        return sum(text.count(v) for v in "aeiou")

Used in features and derived columns like any function. It is marked in the
definition with its own source text, which is its version: the bundle carries
the text and needs no module. It runs as a Python function everywhere (in batches
on history, one call for one request), so it is slow on history and the same
everywhere; what it needs, it imports itself. Steps written in SQL are of the same
family: sqlsteps.py.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import symtable
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from underhood.ground.errors import ProjectError
from underhood.plan.exprs import Expr, digest, wrap
from underhood.plan.kinds import FLAG, NUMBER, TEXT

GIVES = (NUMBER, FLAG, TEXT)
# raised on a value, these say that it is outside the domain; anything else is a mistake in the function
OUTSIDE = (ArithmeticError, LookupError, ValueError)


def opaque(*, gives: str) -> Callable[[Callable[..., Any]], Callable[..., Expr]]:
    """Makes a function on values a step of definitions; `gives` is "number", "flag" or "text".

    The function gets floats, flags, texts and naive UTC times, never a null:
    null in, null out. What it returns is null too where it is None, not finite,
    or where it raises an ArithmeticError, LookupError or ValueError. Raises
    ProjectError if it reads names from outside of itself.
    """
    check_gives(gives, "opaque")

    def made(function: Callable[..., Any]) -> Callable[..., Expr]:
        source = source_of(function, f"opaque {function.__name__}")

        def step(*arguments: Any) -> Expr:
            return Expr("opaque", ((function.__name__, gives, source), *[wrap(a) for a in arguments]))

        step.__name__, step.__doc__ = function.__name__, function.__doc__
        step.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return step

    return made


def check_gives(gives: str, where: str) -> None:
    """Raises ProjectError unless an opaque step can give values of this kind."""
    if gives not in GIVES:
        raise ProjectError(f"an opaque step cannot give {gives!r}", where, f"one of {', '.join(GIVES)}")


def source_of(function: Callable[..., Any], where: str) -> str:
    """The function's text without decorators and comments: layout is no new version.

    Raises ProjectError if it is no `def` in a file, or reads names from outside of itself.
    """
    is_lambda = function.__name__ == "<lambda>"  # its text may begin in the middle of a line
    try:
        tree = ast.parse("0" if is_lambda else textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError) as error:
        raise ProjectError("its text cannot be read", where, "write it with def in the project file") from error
    defined = tree.body[0]
    if not isinstance(defined, ast.FunctionDef):
        raise ProjectError("is not written as a function", where, "write it with def")
    defined.decorator_list = []
    source = ast.unparse(defined)
    outside: set[str] = set()
    scopes = symtable.symtable(source, "<opaque>", "exec").get_children()
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        outside |= {s.get_name() for s in scope.get_symbols() if s.is_global() and not hasattr(builtins, s.get_name())}
    if outside:
        hint = "import or define them inside of it: the bundle carries the function's own text"
        raise ProjectError(f"reads {', '.join(sorted(outside))} from outside", where, hint)
    return source


def opaque_steps(exprs: Iterable[Expr]) -> dict[str, Expr]:
    """The distinct steps in Python in expressions, by the name that they have in SQL."""
    found: dict[str, Expr] = {}
    for expr in exprs:
        if expr.op == "opaque" and not is_sql(expr):
            found[sql_name(expr)] = expr
        found |= opaque_steps(a for a in expr.args if isinstance(a, Expr))
    return found


def is_sql(expr: Expr) -> bool:
    """Whether it is a step that is written in SQL."""
    return expr.op == "opaque" and isinstance(expr.args[0][2], tuple)


def no_python(step: Expr) -> ProjectError:
    """The error of a SQL step that is to be computed for one request and has no Python function."""
    hint = "one request is decided without SQL: give python=, a function that computes the same"
    return ProjectError("has no Python function", f"sql {step.args[0][0]}", hint)


def sql_name(expr: Expr) -> str:
    """The name of an opaque step's function in SQL: it changes with the function's text."""
    return f"opaque_{expr.args[0][0]}_{digest(list(expr.args[0]))}"


def callable_of(expr: Expr) -> Callable[..., Any]:
    """The function of an opaque step: values in, a float, flag, text or null out.

    Raises ProjectError for a SQL step without one.
    """
    name, gives, source = expr.args[0][:3]
    if is_sql(expr):
        name, source = source[3:]
        if not source:
            raise no_python(expr)
    scope: dict[str, Any] = {}
    exec(compile(source, f"<opaque {name}>", "exec"), scope)
    function = scope[name]
    settlers: dict[str, Callable[[Any], Any]] = {NUMBER: _number, FLAG: bool, TEXT: str}
    settle = settlers[gives]

    def called(*values: Any) -> Any:
        try:
            value = None if None in values else function(*values)
        except OUTSIDE:
            return None
        return None if value is None else settle(value)

    return called


def _number(value: Any) -> float | None:
    made = float(value)
    return made if math.isfinite(made) else None
