"""Cleaning: named steps that mend a source's values or set rows aside, each of which can be undone.

    flights.clean(uh.clean.null_above("wind_speed", 120), uh.clean.dedupe("id", keep="last"))

Steps act in the order in which they are given, each on what the one before it left. A step of
values never takes a row away; a row that is taken away stands in the view "removed <source>"
with the step that did it. Nothing is written to the source's file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from underhood.ground.errors import ProjectError, nearest
from underhood.plan.exprs import Expr, col, define, lit, shown_value, when
from underhood.plan.formats import time_of

Predicate = Callable[..., Any] | Expr

FIRST, LAST = "first", "last"
# What people and programs write for "no value", lower case.
NO_VALUE = ("", "-", "--", ".", "?", "n/a", "na", "nan", "nil", "none", "null", "unknown", "#n/a", "#value!", "(null)")


@dataclass(frozen=True)
class Cleaning:
    """A step of values: `value` is what stands in the column afterwards, perhaps of another type."""

    name: str
    column: str
    value: Expr


@dataclass(frozen=True)
class Dropping:
    """A step of rows: those where `where` holds are set aside; `why` is for whoever reads them there."""

    name: str
    where: Expr
    why: str = ""


@dataclass(frozen=True)
class Deduping:
    """A step of rows: of those with the same `by` (all columns if empty) one is kept, the others set aside.

    Kept is the first or last by `order`, then by place in the file. A row with
    a null among its `by` is nobody's duplicate.
    """

    name: str
    by: tuple[str, ...]
    keep: str
    order: Expr | None


@dataclass(frozen=True)
class Filling:
    """A step of values from a reference source: `take` of the row there whose columns are equal to ours.

    `by` maps our columns to the reference's. Where rows of the reference with
    the same `by` disagree, nothing is taken. `overwrites`: a value found there
    wins over ours, otherwise it only fills nulls. `reference` is a Source.
    """

    name: str
    column: str
    reference: Any
    by: Mapping[str, str]
    take: str
    overwrites: bool
    is_matched: bool = field(default=False, kw_only=True)


Step = Cleaning | Dropping | Deduping | Filling


def title(step: Step) -> str:
    """The step by its full name, unique in its source: "wind_speed: null above 120"."""
    return f"{step.column}: {step.name}" if isinstance(step, Cleaning | Filling) else step.name


def find_step(steps: Sequence[Step], wanted: str, where: str) -> Step:
    """The one step of that name or full name. Raises ProjectError if there is none, or more than one."""
    found = [s for s in steps if wanted == title(s)] or [s for s in steps if wanted == s.name]
    if not found:
        known = [title(s) for s in steps]
        hint = nearest(wanted, known) if known else "it has none: source.clean(uh.clean....)"
        raise ProjectError(f"there is no cleaning step {wanted!r}", where, hint)
    if len(found) > 1:
        listed = " or ".join(repr(title(s)) for s in found)
        raise ProjectError(f"{len(found)} cleaning steps are called {wanted!r}", where, f"say {listed}")
    return found[0]


# --- values that are not values ---


def null_above(column: str, most: float, *, name: str = "") -> Cleaning:
    """A number above `most` is an error of measurement and becomes null."""
    _see_number(most, f"null_above {column}", "120")
    return _changed(column, name or f"null above {most:g}", when(col(column) > most, None, col(column)))


def null_below(column: str, least: float, *, name: str = "") -> Cleaning:
    """A number below `least` becomes null."""
    _see_number(least, f"null_below {column}", "0")
    return _changed(column, name or f"null below {least:g}", when(col(column) < least, None, col(column)))


def null_value(column: str, value: Any, *, name: str = "") -> Cleaning:
    """One value that stands for "missing" becomes null."""
    return _changed(column, name or f"null where {value!r}", when(col(column) == value, None, col(column)))


def null_values(column: str, values: Sequence[Any], *, name: str = "") -> Cleaning:
    """Each of these values stands for "missing" and becomes null."""
    listed = ", ".join(shown_value(v) for v in values)
    return _changed(column, name or f"null where {listed}", when(col(column).isin(values), None, col(column)))


def null_where(column: str, where: Predicate, *, name: str = "") -> Cleaning:
    """The value becomes null in the rows where the predicate holds: what one column says about another."""
    holds = _predicate(where)
    return _changed(column, name or f"null where {holds}", when(holds, None, col(column)))


def null_sentinels(column: str, *, also: Sequence[str] = (), name: str = "") -> Cleaning:
    """A text that people or programs write for "no value" becomes null: "", "?", "N/A", "-", "unknown" and so on.

    Spaces around it and capitals do not matter. `also` names more, in lower case.
    """
    plain = col(column).then("strip").then("lower")
    return _changed(column, name or "null sentinels", when(plain.isin([*NO_VALUE, *also]), None, col(column)))


# --- values in other words, units and types ---


def map_levels(column: str, levels: Mapping[Any, Any], *, name: str = "") -> Cleaning:
    """Each value that `levels` lists becomes what it says; others stay. None as a new value makes null."""
    if not isinstance(levels, Mapping):
        raise ProjectError(f"{levels!r} is not a mapping", f"map_levels {column}", 'write it as {"old": "new"}')
    to_null = [old for old, new in levels.items() if new is None]
    renamed = {old: new for old, new in levels.items() if new is not None}
    value = col(column).map(renamed).fill(col(column)) if renamed else col(column)
    value = when(col(column).isin(to_null), None, value) if to_null else value
    return _changed(column, name or f"map {len(levels)} level{'s' * (len(levels) != 1)}", value)


def fix_units(
    column: str, factor: float, *, plus: float = 0.0, where: Predicate | None = None, name: str = ""
) -> Cleaning:
    """The number times `factor` plus `plus`, in the rows where the predicate holds (all rows without one).

    fix_units("temp", 1.8, plus=32, where=in_celsius) makes Fahrenheit of Celsius.
    """
    for number, example in ((factor, "0.4536"), (plus, "plus=32")):
        _see_number(number, f"fix_units {column}", example)
    made = col(column) * factor + plus if plus else col(column) * factor
    holds = None if where is None else _predicate(where)
    said = f"times {factor:g}" + (f" plus {plus:g}" if plus else "") + (f" where {holds}" if holds is not None else "")
    return _changed(column, name or said, made if holds is None else when(holds, made, col(column)))


def tidy(column: str, *, case: str = "", name: str = "") -> Cleaning:
    """A text without spaces around it and with one space where there were several; `case` "lower" or "upper" too.

    Capitals are those from A to Z only, as everywhere.
    """
    if case not in ("", "lower", "upper"):
        raise ProjectError(f"case is {case!r}", f"tidy {column}", 'case="lower" or case="upper"')
    made = col(column).then("strip").then("collapse")
    return _changed(column, name or f"tidy{' ' * bool(case)}{case}", Expr(case, (made,)) if case else made)


def parse_date(column: str, *forms: str, language: str = "en", name: str = "") -> Cleaning:
    """A text becomes the moment (UTC) that it writes in the first form that fits, such as "%d.%m.%Y %H:%M".

    What fits none becomes null. %Y %m %d %H %M %S, %y a year of two digits, %b a month's
    name or its beginning in `language` (en de fr es it nl pt fi).
    """
    if not forms:
        raise ProjectError("no form is given", f"parse_date {column}", 'write it as in "%d.%m.%Y"')
    made = [time_of(col(column), form, language) for form in forms]
    value = made[0]
    for each in made[1:]:
        value = value.fill(each)
    return _changed(column, name or f"date as {' or '.join(forms)}", value)


def parse_number(
    column: str, *, decimal: str = ".", thousands: str = "", drop: Sequence[str] = (), name: str = ""
) -> Cleaning:
    """A text becomes the number that it writes: parse_number("price", decimal=",", thousands=".", drop=["€"]).

    What is not exactly of that form becomes null: with "." for thousands, "12.5"
    is no number. `drop` lists texts that may stand around it.
    """
    text = col(column)
    for each in drop:
        text = text.replace(each, "")
    value = text.then("strip").parse_number(decimal, thousands)
    return _changed(column, name or f"number as 1{thousands}234{decimal}5", value)


def replace_value(column: str, value: Any, *, name: str = "") -> Cleaning:
    """The column becomes what a function of the row's columns says, or a constant: the way out for everything else."""
    made = value if isinstance(value, Expr) else _value(value) if callable(value) else lit(value)
    return _changed(column, name or f"becomes {made}", made)


# --- a reference ---


def fill_from(
    column: str,
    reference: Any,
    *,
    by: str | Sequence[str] | Mapping[str, str],
    take: str = "",
    overwrite: bool = False,
    name: str = "",
) -> Filling:
    """Nulls of a column (with `overwrite`: all values) repaired from a reference source by key.

    `by` names the columns that are equal, or maps ours to the reference's;
    `take` is the reference's column, the same name if not given. A column that we
    do not have is added. A reference holds at all times: what changes in time is
    joined with `asof`, not filled in here.
    """
    pairs = by if isinstance(by, Mapping) else {b: b for b in ([by] if isinstance(by, str) else by)}
    if not pairs:
        raise ProjectError("no column to look it up by", f"fill_from {column}", 'say by="code"')
    if not hasattr(reference, "cleaning"):
        raise ProjectError("the reference is not a source", f"fill_from {column}", "give what uh.source(...) made")
    said = "from" if overwrite else "filled from"
    return Filling(name or f"{said} {reference.name}", column, reference, dict(pairs), take or column, overwrite)


def match(column: str, matches: Any, *, name: str = "") -> Filling:
    """A messy value becomes the clean one that a table of matches gives it; values not listed there stay.

    `matches` is a source with the columns `value` and `means`: written by
    `underhood match`, read and corrected by a person, frozen as a file of the
    project. A row whose `means` is empty matches nothing.
    """
    if not hasattr(matches, "cleaning"):
        raise ProjectError("the matches are not a source", f"match {column}", 'uh.source("matches.csv", key="value")')
    return Filling(
        name or f"matched by {matches.name}", column, matches, {column: "value"}, "means", True, is_matched=True
    )


# --- rows ---


def drop_rows(where: Predicate, *, why: str = "", name: str = "") -> Dropping:
    """Rows where the predicate holds are set aside, in the view "removed <source>"; `why` is kept with them."""
    holds = _predicate(where)
    called = "" if isinstance(where, Expr) else where.__name__.replace("_", " ")
    return Dropping(name or f"drop {called or holds}", holds, why)


def dedupe(by: str | Sequence[str] = (), *, keep: str = LAST, order: str | Predicate = "", name: str = "") -> Deduping:
    """Of rows with the same `by` (all columns if none is named) one is kept, the others are set aside.

    `keep` is "first" or "last" by `order` (a column or a function), then by place in the file.
    """
    if keep not in (FIRST, LAST):
        raise ProjectError(f"keep is {keep!r}", "dedupe", 'keep="first" or keep="last"')
    columns = (by,) if isinstance(by, str) else tuple(by)
    sorted_by = None if not isinstance(order, Expr) and not order else _value(order)
    said = f"one row per {', '.join(columns)}" if columns else "one of equal rows"
    return Deduping(name or said, columns, keep, sorted_by)


def _changed(column: str, name: str, value: Expr) -> Cleaning:
    return Cleaning(re.sub(r"\s+", " ", name), column, value)


def _see_number(value: Any, where: str, example: str) -> None:
    if not isinstance(value, (int, float)):
        raise ProjectError(f"{value!r} is not a number", where, f"write a number: {example}")


def _predicate(where: Predicate) -> Expr:
    return _value(where)


def _value(of: str | Predicate) -> Expr:
    if isinstance(of, Expr):
        return of
    return col(of) if isinstance(of, str) else define([of], "clean")[of.__name__]
