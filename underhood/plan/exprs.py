"""Expressions: a small tree of operations over columns, written as plain Python, read back as text or JSON.

The functions of a project file are called once with columns in place of values;
what they return is the tree that every engine renders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from hashlib import sha256
from inspect import signature
from math import pi
from typing import Any

from underhood.ground.errors import ProjectError, nearest
from underhood.plan.forms import FORMS
from underhood.plan.operations import ANY, FLAG, NUMBER, OPERATIONS, SAME, SPAN, TEXT, TIME, Operation
from underhood.plan.verbs import Verbs

MOST = 1.7976931348623157e308  # the largest number there is
# These read their arguments' nulls themselves; render.py knows each by name.
SPECIAL = ("col", "lit", "and", "or", "is_null", "fill", "when")
HELD = ("opaque", "fitted")  # parts of their own: the first argument holds (name, gives, what it is), then kinds


@dataclass(frozen=True, slots=True, eq=False)
class Expr(Verbs):
    """A node: an operation and its arguments, which are expressions or, for some, plain values."""

    op: str
    args: tuple[Any, ...]

    def then(self, op: str, *others: Any) -> Expr:
        """The operation `op` on this and on others, which may be plain values."""
        return Expr(op, (self, *[wrap(other) for other in others]))

    def form(self, op: str, *held: Any) -> Expr:
        """The form `op` on this, with plain constants, each one that a row can hold."""
        return Expr(op, (self, *[_held(value) for value in held]))

    def key(self) -> str:
        """Text that is equal exactly when two expressions are."""
        return json.dumps(as_json(self), separators=(",", ":"))

    def __bool__(self) -> bool:
        raise ProjectError(
            "an expression has no truth value until it meets a row", str(self), "use & | ~ and uh.when(...)"
        )

    def __str__(self) -> str:
        return shown(self)

    def __repr__(self) -> str:
        return f"<{shown(self)}>"

    def __hash__(self) -> int:
        return hash(self.key())

    # operators
    def __add__(self, other: Any) -> Expr:
        return Expr("plus", (self, wrap(other)))

    def __radd__(self, other: Any) -> Expr:
        return Expr("plus", (wrap(other), self))

    def __sub__(self, other: Any) -> Expr:
        return Expr("minus", (self, wrap(other)))

    def __rsub__(self, other: Any) -> Expr:
        return Expr("minus", (wrap(other), self))

    def __mul__(self, other: Any) -> Expr:
        return Expr("mul", (self, wrap(other)))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Expr:
        return Expr("div", (self, wrap(other)))

    def __rtruediv__(self, other: Any) -> Expr:
        return Expr("div", (wrap(other), self))

    def __mod__(self, other: Any) -> Expr:
        return Expr("mod", (self, wrap(other)))

    def __pow__(self, other: Any) -> Expr:
        return Expr("power", (self, wrap(other)))

    def __neg__(self) -> Expr:
        return Expr("neg", (self,))

    def __lt__(self, other: Any) -> Expr:
        return Expr("lt", (self, wrap(other)))

    def __le__(self, other: Any) -> Expr:
        return Expr("le", (self, wrap(other)))

    def __gt__(self, other: Any) -> Expr:
        return Expr("gt", (self, wrap(other)))

    def __ge__(self, other: Any) -> Expr:
        return Expr("ge", (self, wrap(other)))

    def __eq__(self, other: Any) -> Expr:  # type: ignore[override]
        return Expr("eq", (self, wrap(other)))

    def __ne__(self, other: Any) -> Expr:  # type: ignore[override]
        return Expr("ne", (self, wrap(other)))

    def __and__(self, other: Any) -> Expr:
        return Expr("and", (self, wrap(other)))

    def __or__(self, other: Any) -> Expr:
        return Expr("or", (self, wrap(other)))

    def __invert__(self) -> Expr:
        return Expr("not", (self,))


def col(name: str) -> Expr:
    """A column."""
    return Expr("col", (name,))


def lit(value: Any) -> Expr:
    """A constant: a number, a flag, a text, a time (UTC if it has no zone) or null."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    if value is None or isinstance(value, (bool, str, datetime)):
        return Expr("lit", (value,))
    if isinstance(value, (int, float)) and abs(value) <= MOST:
        return Expr("lit", (float(value),))
    raise ProjectError(f"{value!r} cannot stand in an expression", "", "use numbers, texts, flags, times or None")


def wrap(value: Any) -> Expr:
    """The expression itself, or a constant made of a plain value."""
    return value if isinstance(value, Expr) else lit(value)


def _held(value: Any) -> Any:
    return tuple(_held(v) for v in value) if isinstance(value, tuple) else lit(value).args[0]


def operation_of(expr: Expr) -> Operation:
    """The operation of a node, whether it stands in OPERATIONS or is made of what the node holds."""
    return OPERATIONS[expr.op] if expr.op in OPERATIONS else FORMS[expr.op](*expr.args[1:])


def when(condition: Expr, then: Any, otherwise: Any = None) -> Expr:
    """`then` where the condition holds, else `otherwise` (also where the condition is null)."""
    return Expr("when", (condition, wrap(then), wrap(otherwise)))


def cases(*pairs: tuple[Expr, Any], otherwise: Any = None) -> Expr:
    """The value beside the first condition that holds, else `otherwise`."""
    made = wrap(otherwise)
    for condition, then in reversed(pairs):
        made = when(condition, then, made)
    return made


def least(first: Any, *others: Any) -> Expr:
    """The smallest of several; null if any is."""
    return reduce(lambda a, b: Expr("least", (a, wrap(b))), others, wrap(first))


def greatest(first: Any, *others: Any) -> Expr:
    """The largest of several; null if any is."""
    return reduce(lambda a, b: Expr("greatest", (a, wrap(b))), others, wrap(first))


def distance_km(latitude: Any, longitude: Any, to_latitude: Any, to_longitude: Any) -> Expr:
    """The way over the globe (a sphere of 6,371 km) between two places in degrees; null outside of ±90 and ±180.

    Haversine with both halves as sums of squares, so that no digits are lost for
    near places or for opposite ones (R. Sinnott, Sky and Telescope 68, 1984, 159).
    """
    places = [wrap(p) for p in (latitude, longitude, to_latitude, to_longitude)]
    inside = [p.within(-most, most) for p, most in zip(places, (90, 180, 90, 180), strict=True)]
    here, east, there, to_east = [p * (pi / 180) for p in places]
    apart, middle, aside = ((here - there) / 2, (here + there) / 2, (east - to_east) / 2)
    near = _square(aside.then("cos") * apart.then("sin")) + _square(aside.then("sin") * middle.then("cos"))
    far = _square(aside.then("cos") * apart.then("cos")) + _square(aside.then("sin") * middle.then("sin"))
    return when(reduce(lambda a, b: a & b, inside), near.then("sqrt").then("atan2", far.then("sqrt")) * 12742)


def _square(expr: Expr) -> Expr:
    return expr * expr


def minutes(number: Any) -> Expr:
    """A span of so many minutes."""
    return Expr("seconds", (wrap(number) * 60,))


def hours(number: Any) -> Expr:
    """A span of so many hours."""
    return Expr("seconds", (wrap(number) * 3600,))


def days(number: Any) -> Expr:
    """A span of so many days."""
    return Expr("seconds", (wrap(number) * 86400,))


def date(year: Any, month: Any, day: Any) -> Expr:
    """Midnight UTC of a day given as three numbers; null if there is no such day."""
    return Expr("date", (wrap(year), wrap(month), wrap(day)))


def columns_of(expr: Expr) -> set[str]:
    """The names of all columns that an expression reads."""
    if expr.op == "col":
        return {expr.args[0]}
    return set().union(*[columns_of(arg) for arg in expr.args if isinstance(arg, Expr)], set())


def is_denial(expr: Expr) -> bool:
    """Whether a predicate says that something did not happen: not a, a <> b."""
    return expr.op in ("not", "ne")


def substitute(expr: Expr, by: Mapping[str, Expr]) -> Expr:
    """The expression with columns replaced by other expressions."""
    if expr.op == "col":
        return by.get(expr.args[0], expr)
    return Expr(expr.op, tuple(substitute(a, by) if isinstance(a, Expr) else a for a in expr.args))


def define(functions: Sequence[Callable[..., Any]], where: str) -> dict[str, Expr]:
    """Functions turned to expressions over columns: the name is what it makes, the arguments what it needs.

    A function may need what another one makes, in any order. Raises ProjectError
    for a circle or a function that returns no expression.
    """
    by_name = {function.__name__: function for function in functions}
    made: dict[str, Expr] = {}

    def make(name: str, path: tuple[str, ...]) -> Expr:
        if name in path:
            circle = " → ".join([*path[path.index(name) :], name])
            raise ProjectError(f"{circle}: these need one another", where, "break the circle")
        if name not in made:
            needs = signature(by_name[name]).parameters
            arguments = [make(n, (*path, name)) if n in by_name and n != name else col(n) for n in needs]
            result = by_name[name](*arguments)
            if result is None:
                raise ProjectError("returns nothing", f"{where}.{name}", "end it with `return`")
            made[name] = wrap(result)
        return made[name]

    return {name: make(name, ()) for name in by_name}


def typed(expr: Expr, columns: Mapping[str, str], where: str = "") -> tuple[Expr, str]:
    """The expression with `+` and `-` settled by type, and its type.

    Raises ProjectError that names the operation and the types it met.
    """
    if expr.op == "col":
        if expr.args[0] not in columns:
            raise ProjectError(f"there is no column {expr.args[0]!r}", where, nearest(expr.args[0], columns))
        return expr, columns[expr.args[0]]
    if expr.op == "lit":
        return expr, _type_of_literal(expr.args[0])
    if expr.op in HELD:
        found = [typed(a, columns, where) for a in expr.args[1:]]
        held = (*expr.args[0][:3], tuple(kind for _, kind in found))
        return Expr(expr.op, (held, *[a for a, _ in found])), held[1]
    settled = [typed(a, columns, where) if isinstance(a, Expr) else (a, "") for a in expr.args]
    args, types = tuple(a for a, _ in settled), [t for _, t in settled]
    if expr.op in ("plus", "minus"):
        return _plus_minus(expr, args, types, where)
    if expr.op in OPERATIONS or (expr.op in FORMS and expr.op not in _LEVELS):
        return Expr(expr.op, args), _result(expr, types[: 1 if expr.op in FORMS else None], where)
    return Expr(expr.op, args), _special_result(expr, args, types, where)


def _type_of_literal(value: Any) -> str:
    if value is None:
        return ANY
    return {bool: FLAG, float: NUMBER, str: TEXT, datetime: TIME}[type(value)]


def _plus_minus(expr: Expr, args: tuple[Expr, ...], types: list[str], where: str) -> tuple[Expr, str]:
    pair = (types[0], types[1])
    if expr.op == "plus":
        forms = {
            (NUMBER, NUMBER): ("add", args, NUMBER),
            (SPAN, SPAN): ("add", args, SPAN),
            (TEXT, TEXT): ("concat", args, TEXT),
            (TIME, SPAN): ("later", args, TIME),
            (SPAN, TIME): ("later", args[::-1], TIME),
        }
    else:
        forms = {
            (NUMBER, NUMBER): ("sub", args, NUMBER),
            (SPAN, SPAN): ("sub", args, SPAN),
            (TIME, TIME): ("between", args, SPAN),
            (TIME, SPAN): ("later", (args[0], Expr("neg", (args[1],))), TIME),
        }
    if pair not in forms:
        sign = "+" if expr.op == "plus" else "-"
        hint = "a number of minutes becomes a span with uh.minutes(...)" if TIME in pair else ""
        raise ProjectError(f"cannot do {pair[0]} {sign} {pair[1]} in `{expr}`", where, hint)
    op, settled, gives = forms[pair]
    return Expr(op, settled), gives


_SCALES = ("mul", "div", "neg", "abs")
_LEVELS = ("isin", "map", "group")


def _same(types: Iterable[str], expr: Expr, where: str) -> str:
    kinds = {t for t in types if t != ANY}
    if len(kinds) > 1:
        raise ProjectError(f"`{expr}` mixes {' and '.join(sorted(kinds))}", where, "convert one of them")
    return kinds.pop() if kinds else ANY


def _result(expr: Expr, types: list[str], where: str) -> str:
    operation = operation_of(expr)
    same = _same([t for t, need in zip(types, operation.takes, strict=True) if need == SAME], expr, where)
    for got, need in zip(types, operation.takes, strict=True):
        scales = got == SPAN and expr.op in _SCALES
        if need not in (SAME, ANY, got) and got != ANY and not scales:
            raise ProjectError(f"`{expr}` needs a {need}, got a {got}", where, "convert it first")
    if operation.gives == SAME:
        return same
    if SPAN in types and expr.op in _SCALES and not (expr.op == "div" and types[1] == SPAN):
        return SPAN
    return operation.gives


def _special_result(expr: Expr, args: tuple[Any, ...], types: list[str], where: str) -> str:
    if expr.op in ("and", "or"):
        if _same(types, expr, where) not in (FLAG, ANY):
            raise ProjectError(f"`{expr}` needs flags, got {types[0]}", where, "compare first: (a > 0) & (b > 0)")
        return FLAG
    if expr.op == "fill":
        return _same(types, expr, where)
    if expr.op == "when":
        _same([types[0], FLAG], expr, where)
        return _same(types[1:], expr, where)
    if expr.op == "isin":
        _same([types[0], *[_type_of_literal(wrap(v).args[0]) for v in args[1]]], expr, where)
    if expr.op == "group":
        levels = [_type_of_literal(wrap(v).args[0]) for v in (*args[1], args[2])]
        return _same([types[0], *levels], expr, where)
    if expr.op == "map":
        _same([types[0], *[_type_of_literal(wrap(k).args[0]) for k, _ in args[1]]], expr, where)
        return _same([_type_of_literal(wrap(v).args[0]) for _, v in args[1]], expr, where)
    return FLAG


_SHOWN = {"and": "{0} and {1}", "or": "{0} or {1}", "is_null": "{0} is null", "fill": "fill({0}, {1})"}
_SHOWN |= {"when": "when({0}, {1}, {2})", "plus": "{0} + {1}", "minus": "{0} - {1}"}
_LOOSE = {"plus", "minus", "add", "sub", "mul", "div", "lt", "le", "gt", "ge", "eq", "ne", "and", "or"}
_LOOSE |= {"is_null", "later", "between", "concat", "mod", "power", "within"}


def shown(expr: Expr) -> str:
    """The expression as a person reads it."""
    if expr.op == "col":
        return str(expr.args[0])
    if expr.op == "lit":
        return shown_value(expr.args[0])
    if expr.op in HELD:
        options = [f"{n}={shown_value(v)}" for n, v in expr.args[0][2]] if expr.op == "fitted" else []
        return f"{expr.args[0][0]}({', '.join([*[shown(a) for a in expr.args[1:]], *options])})"
    if expr.op == "seconds" and expr.args[0].op == "lit":
        return shown_span(expr.args[0].args[0])
    parts = [
        (f"({shown(a)})" if a.op in _LOOSE and expr.op in _LOOSE else shown(a))
        if isinstance(a, Expr)
        else _shown_held(a)
        for a in expr.args
    ]
    return (_SHOWN.get(expr.op) or operation_of(expr).shown).format(*parts)


def _shown_held(held: Any) -> str:
    if not isinstance(held, tuple):
        return shown_value(held)
    return "[" + ", ".join(shown_value(v) for v in held[:6]) + (", …" if len(held) > 6 else "") + "]"


def shown_value(value: Any) -> str:
    """A constant as a person reads it: 3 and not 3.0, 'EWR', true, null."""
    if isinstance(value, tuple):
        return f"{shown_value(value[0])}: {shown_value(value[1])}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, (int, float)) else repr(str(value))


def shown_span(seconds: float) -> str:
    """A span as people write it: 60min, 36h, 14d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0 and (unit != "h" or seconds >= 7200):
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def as_json(expr: Expr) -> Any:
    """Plain lists that from_json turns back into the same expression."""
    if expr.op == "lit" and isinstance(expr.args[0], datetime):
        return ["time", expr.args[0].isoformat()]
    return [expr.op, *[as_json(a) if isinstance(a, Expr) else _plain(a) for a in expr.args]]


def _plain(value: Any) -> Any:
    """A constant, or a list of them, as JSON: a time becomes {"time": "2013-03-08T19:00:00"}."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return {"time": value.isoformat()} if isinstance(value, datetime) else value


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_value(v) for v in plain)
    return datetime.fromisoformat(plain["time"]) if isinstance(plain, dict) else plain


def from_json(tree: Any) -> Expr:
    """The expression that as_json wrote. Raises ProjectError on an operation that does not exist."""
    op, *args = tree
    if op == "time":
        return lit(datetime.fromisoformat(args[0]))
    if op in ("col", "lit"):
        return Expr(op, tuple(args))
    if op in HELD:
        return Expr(op, (_value(args[0]), *[from_json(a) for a in args[1:]]))
    if op in FORMS:
        return Expr(op, (from_json(args[0]), *[_value(a) for a in args[1:]]))
    if op not in OPERATIONS and op not in (*SPECIAL, "plus", "minus"):
        raise ProjectError(f"there is no operation {op!r}", "", nearest(op, OPERATIONS))
    return Expr(op, tuple(from_json(a) for a in args))


def digest(tree: Any) -> str:
    """Twelve hexadecimal digits that name a plain JSON value."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()[:12]
