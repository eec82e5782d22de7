"""Expressions: a small tree of operations over columns, written as plain Python, read back as text or JSON.

The functions of a project file are called once with columns in place of values;
what they return is the tree that every engine renders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from inspect import signature
from typing import Any

from underhood.ground.errors import ProjectError, nearest
from underhood.plan.operations import ANY, FLAG, NUMBER, OPERATIONS, SAME, SPAN, TEXT, TIME

MOST = 1.7976931348623157e308  # the largest number there is
# These read their arguments' nulls themselves, or hold literal lists; render.py knows each by name.
SPECIAL = ("col", "lit", "and", "or", "is_null", "fill", "when", "isin", "map")


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """A node: an operation and its arguments, which are expressions or, for some, plain values."""

    op: str
    args: tuple[Any, ...]

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

    # nulls, levels
    def is_null(self) -> Expr:
        """True where there is no value; never null itself."""
        return Expr("is_null", (self,))

    def fill(self, other: Any) -> Expr:
        """The value, or `other` where there is none."""
        return Expr("fill", (self, wrap(other)))

    def isin(self, values: Iterable[Any]) -> Expr:
        """Whether the value is one of `values`; null stays null."""
        return Expr("isin", (self, tuple(lit(v).args[0] for v in values)))

    def map(self, levels: Mapping[Any, Any]) -> Expr:
        """The value that `levels` gives for this one; null where it gives none."""
        return Expr("map", (self, tuple((lit(k).args[0], lit(v).args[0]) for k, v in levels.items())))

    def clip(self, low: float, high: float) -> Expr:
        """The nearest value from `low` to `high`."""
        return least(greatest(self, low), high)

    # text
    def contains(self, text: str) -> Expr:
        """Whether `text` occurs in it."""
        return Expr("contains", (self, wrap(text)))

    def starts_with(self, text: str) -> Expr:
        """Whether it begins with `text`."""
        return Expr("starts_with", (self, wrap(text)))

    def part(self, separator: str, index: int) -> Expr:
        """The piece number `index`, from 0, between separators; null if there are fewer."""
        if not separator or index < 0 or index != int(index):
            raise ProjectError("part needs a separator and a whole index of 0 or more", str(self))
        return Expr("part", (self, wrap(separator), wrap(index)))

    # spans
    def minutes(self) -> Expr:
        """A span in minutes."""
        return Expr("in_seconds", (self,)) / 60

    def hours(self) -> Expr:
        """A span in hours."""
        return Expr("in_seconds", (self,)) / 3600

    def days(self) -> Expr:
        """A span in days."""
        return Expr("in_seconds", (self,)) / 86400


def _unary(name: str) -> Callable[[Expr], Expr]:
    def method(self: Expr) -> Expr:
        return Expr(name, (self,))

    method.__name__, method.__doc__ = name, f"The operation `{name}`; see OPERATIONS."
    return method


for _name in ["ln", "exp", "sqrt", "floor", "round", "abs", "lower", "upper", "strip", "length", "to_number"]:
    setattr(Expr, _name, _unary(_name))
for _name in ["hour", "minute", "weekday", "day", "month", "year"]:
    setattr(Expr, _name, _unary(_name))


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


def when(condition: Expr, then: Any, otherwise: Any = None) -> Expr:
    """`then` where the condition holds, else `otherwise` (also where the condition is null)."""
    return Expr("when", (condition, wrap(then), wrap(otherwise)))


def least(first: Any, second: Any) -> Expr:
    """The smaller of two; null if either is."""
    return Expr("least", (wrap(first), wrap(second)))


def greatest(first: Any, second: Any) -> Expr:
    """The larger of two; null if either is."""
    return Expr("greatest", (wrap(first), wrap(second)))


def minutes(number: Any) -> Expr:
    """A span of so many minutes."""
    return Expr("seconds", (wrap(number) * 60,))


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
    settled = [typed(a, columns, where) if isinstance(a, Expr) else (a, "") for a in expr.args]
    args, types = tuple(a for a, _ in settled), [t for _, t in settled]
    if expr.op in ("plus", "minus"):
        return _plus_minus(expr, args, types, where)
    if expr.op in OPERATIONS:
        return Expr(expr.op, args), _result(expr, types, where)
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


def _same(types: Iterable[str], expr: Expr, where: str) -> str:
    kinds = {t for t in types if t != ANY}
    if len(kinds) > 1:
        raise ProjectError(f"`{expr}` mixes {' and '.join(sorted(kinds))}", where, "convert one of them")
    return kinds.pop() if kinds else ANY


def _result(expr: Expr, types: list[str], where: str) -> str:
    operation = OPERATIONS[expr.op]
    same = _same([t for t, need in zip(types, operation.takes, strict=True) if need == SAME], expr, where)
    for got, need in zip(types, operation.takes, strict=True):
        scales = got == SPAN and expr.op in _SCALES
        if need not in (SAME, got) and got != ANY and not scales:
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
    if expr.op == "map":
        _same([types[0], *[_type_of_literal(wrap(k).args[0]) for k, _ in args[1]]], expr, where)
        return _same([_type_of_literal(wrap(v).args[0]) for _, v in args[1]], expr, where)
    return FLAG


_SHOWN = {"and": "{0} and {1}", "or": "{0} or {1}", "is_null": "{0} is null", "fill": "fill({0}, {1})"}
_SHOWN |= {"when": "when({0}, {1}, {2})", "plus": "{0} + {1}", "minus": "{0} - {1}"}
_LOOSE = {"plus", "minus", "add", "sub", "mul", "div", "lt", "le", "gt", "ge", "eq", "ne", "and", "or"}
_LOOSE |= {"is_null", "later", "between", "concat", "mod"}


def shown(expr: Expr) -> str:
    """The expression as a person reads it."""
    if expr.op == "col":
        return str(expr.args[0])
    if expr.op == "lit":
        return shown_value(expr.args[0])
    if expr.op == "seconds" and expr.args[0].op == "lit":
        return shown_span(expr.args[0].args[0])
    parts = [
        (f"({shown(a)})" if a.op in _LOOSE and expr.op in _LOOSE else shown(a))
        if isinstance(a, Expr)
        else "[" + ", ".join(shown_value(v) for v in a[:6]) + (", …" if len(a) > 6 else "") + "]"
        for a in expr.args
    ]
    if expr.op in ("isin", "map"):
        return f"{parts[0]} {'in' if expr.op == 'isin' else 'mapped by'} {parts[1]}"
    return (_SHOWN.get(expr.op) or OPERATIONS[expr.op].shown).format(*parts)


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
    if op in ("isin", "map"):
        return Expr(op, (from_json(args[0]), _value(args[1])))
    if op not in OPERATIONS and op not in (*SPECIAL, "plus", "minus"):
        raise ProjectError(f"there is no operation {op!r}", "", nearest(op, OPERATIONS))
    return Expr(op, tuple(from_json(a) for a in args))


def digest(tree: Any) -> str:
    """Twelve hexadecimal digits that name a plain JSON value."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()[:12]
