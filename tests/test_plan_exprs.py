"""Expressions are kept as JSON, shown to people, typed before they run, and their mistakes are told in words."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

import underhood as uh
from underhood.ground.errors import ProjectError
from underhood.plan.exprs import (
    Expr,
    as_json,
    cases,
    col,
    columns_of,
    define,
    digest,
    distance_km,
    from_json,
    greatest,
    least,
    lit,
    shown,
    substitute,
    typed,
)

A, B, T, U = col("a"), col("b"), col("t"), col("u")
COLUMNS = {"a": "number", "b": "number", "f": "flag", "s": "text", "t": "time", "u": "time"}
NOON = datetime(2013, 3, 8, 12, 0, 0, 5)
EVERY = [
    A + B * 2 - 1 / A,
    -A % 7,
    (A > 1) & ~(B <= 2) | A.is_null(),
    uh.when(col("f"), A, None),
    col("s").isin(["EWR", "it's", None]),
    T.isin([NOON]),
    A.isin([]),
    col("s").map({"a": True, None: False}),
    T.map({NOON: 1}),
    T - NOON + uh.days(1),
    uh.date(A, 2, 29).weekday(),
    col("s").part("-", 1).strip().to_number().fill(-0.0),
    least(A, greatest(B, 1)).clip(0, 5),
]


def problem(expr: Any) -> str:
    """The words of the type error of an expression."""
    with pytest.raises(ProjectError) as found:
        typed(expr, COLUMNS, "features.x")
    return str(found.value)


@pytest.mark.parametrize("expr", EVERY, ids=shown)
def test_an_expression_comes_back_from_json_as_it_was(expr: Expr) -> None:
    text = json.dumps(as_json(expr))

    again = from_json(json.loads(text))

    assert (expr.key(), shown(expr)) == (again.key(), shown(again))
    assert hash(expr) == hash(again)


def test_a_settled_expression_comes_back_from_json_as_it_was() -> None:
    settled, kind = typed(T - uh.minutes(60) - U, COLUMNS)

    again = from_json(json.loads(json.dumps(as_json(settled))))

    assert (settled.key(), "span") == (again.key(), kind)


def test_two_expressions_share_a_key_only_if_they_are_the_same() -> None:
    different = [A, lit("a"), lit(1), lit(True), lit("1"), lit(None), A + B, B + A, A == 1, A.isin([1]), lit(NOON)]

    assert len(different) == len({e.key() for e in different}) == len({digest(as_json(e)) for e in different})
    assert (A + 1).key() == (col("a") + 1.0).key()


def test_json_with_an_operation_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(ProjectError) as found:
        from_json(["weekdy", ["col", "a"]])

    assert str(found.value) == "there is no operation 'weekdy'\ntry: did you mean weekday or week?"


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (A + B * 2, "a + (b * 2)"),
        ((A > 30).fill(False), "fill(a > 30, false)"),
        (uh.when(A.is_null(), None, "x"), "when(a is null, null, 'x')"),
        (~(A == 1) & col("f"), "not a = 1 and f"),
        (col("s").isin(list("abcdefgh")), "s in ['a', 'b', 'c', 'd', 'e', 'f', …]"),
        (col("s").map({"a": 1.5, "b": None}), "s mapped by ['a': 1.5, 'b': null]"),
        (T - uh.minutes(60), "t - seconds(60 * 60)"),
        (lit(NOON), "'2013-03-08 12:00:00.000005'"),
        (lit(1234567.0), "1.23457e+06"),
    ],
)
def test_an_expression_is_shown_as_a_person_reads_it(expr: Expr, expected: str) -> None:
    assert expected == shown(expr) == str(expr) == repr(expr)[1:-1]


def test_columns_are_found_and_replaced_at_any_depth() -> None:
    expr = uh.when(A > B, col("s").isin(["b"]), T.is_null())

    replaced = substitute(expr, {"b": A + 1, "nowhere": B})

    assert {"a", "b", "s", "t"} == columns_of(expr)
    assert shown(replaced) == "when(a > (a + 1), s in ['b'], t is null)"


# --- types ---


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (A + B, "number"),
        (T - U, "span"),
        (T - (T - U), "time"),
        (uh.days(1) + T, "time"),
        ((T - U) * 2, "span"),
        (-(T - U).abs(), "span"),
        ((T - U) / (U - T), "number"),
        ((T - U).minutes(), "number"),
        (col("s") + "x", "text"),
        (least(T, U), "time"),
        (uh.when(A > 1, None, T), "time"),
        (lit(None), "any"),
        (col("s").map({"a": True}), "flag"),
        (lit(None).fill(A), "number"),
        (T.isin([NOON]), "flag"),
    ],
)
def test_the_type_of_an_expression_follows_from_its_columns(expr: Expr, expected: str) -> None:
    assert expected == typed(expr, COLUMNS)[1]


def test_an_unknown_column_is_named_with_the_nearest_known_one() -> None:
    assert problem(col("ab") + 1) == "features.x: there is no column 'ab'\ntry: did you mean b or a?"


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (A == "x", "`a = 'x'` mixes number and text"),
        (A.fill("x"), "`fill(a, 'x')` mixes number and text"),
        (uh.when(A > 1, "x", 2), "`when(a > 1, 'x', 2)` mixes number and text"),
        (uh.when(A, 1, 2), "`when(a, 1, 2)` mixes flag and number"),
        (A.isin(["x"]), "`a in ['x']` mixes number and text"),
        (col("s").map({"a": 1, "b": "x"}), "mixes number and text"),
        (least(A, T), "`least(a, t)` mixes number and time"),
        (A + "x", "cannot do number + text in `a + 'x'`"),
        (T + 60, "cannot do time + number in `t + 60`"),
        (T + U, "cannot do time + time in `t + u`"),
        (T + 60, "try: a number of minutes becomes a span with uh.minutes(...)"),
        (col("s").hour(), "`hour(s)` needs a time, got a text"),
        (A.lower(), "`lower(a)` needs a text, got a number"),
        (col("f") * 2, "`f * 2` needs a number, got a flag"),
        (~A, "`not a` needs a flag, got a number"),
        (A & B, "`a and b` needs flags, got number"),
        (A & B, "try: compare first: (a > 0) & (b > 0)"),
        (A.minutes(), "`seconds(a)` needs a span, got a number"),
        ((T - U).ln(), "needs a number, got a span"),
    ],
)
def test_a_type_error_says_which_types_met_where(expr: Expr, expected: str) -> None:
    assert expected in problem(expr)
    assert problem(expr).startswith("features.x: ")


def test_an_expression_has_no_truth_value() -> None:
    with pytest.raises(ProjectError) as found:
        _ = A if A > 1 else B

    assert "a > 1: an expression has no truth value until it meets a row" in str(found.value)
    assert "try: use & | ~ and uh.when(...)" in str(found.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, object(), [1]])
def test_a_value_that_no_row_can_hold_is_refused_as_a_constant(value: Any) -> None:
    with pytest.raises(ProjectError, match="cannot stand in an expression"):
        lit(value)


def test_a_level_that_no_row_can_hold_is_refused_at_once() -> None:
    with pytest.raises(ProjectError, match="nan cannot stand in an expression"):
        A.isin([1, float("nan")])


# --- define ---


def test_functions_may_need_one_another_in_any_order() -> None:
    def far(distance: Any) -> Any:
        return distance > 2 * usual

    def distance(a: Any, b: Any) -> Any:
        return (a - b).abs()

    usual = 3
    made = define([far, distance], "features")

    assert {name: shown(e) for name, e in made.items()} == {"far": "abs(a - b) > 6", "distance": "abs(a - b)"}


def test_a_function_named_like_its_argument_reads_the_column() -> None:
    def a(a: Any) -> Any:
        return a.fill(0)

    def b(a: Any) -> Any:
        return a + 1

    assert {n: shown(e) for n, e in define([a, b], "features").items()} == {"a": "fill(a, 0)", "b": "fill(a, 0) + 1"}


def test_a_circle_of_functions_is_told_as_a_circle() -> None:
    def first(third: Any) -> Any:
        return third

    def second(first: Any) -> Any:
        return first

    def third(second: Any) -> Any:
        return second

    with pytest.raises(ProjectError) as found:
        define([first, second, third], "features")

    assert str(found.value) == "features: first → third → second → first: these need one another\ntry: break the circle"


def test_a_function_without_return_is_named() -> None:
    def speed(a: Any) -> Any:
        a + 1

    with pytest.raises(ProjectError) as found:
        define([speed], "features")

    assert str(found.value) == "features.speed: returns nothing\ntry: end it with `return`"


# --- methods that refuse ---


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: A.bucket([1, 1]), "bucket needs edges that ascend"),
        (lambda: A.bucket([]), "bucket needs edges that ascend"),
        (lambda: A.round(16), "cannot round to 16 digits"),
        (lambda: col("s").pad(3, "ab"), "'ab' is not one letter"),
        (lambda: col("s").replace("", "x"), "replace needs a text of one letter or more"),
        (lambda: col("s").slice(-1, 2), "slice needs whole numbers"),
        (lambda: col("s").right(0), "right needs a length of 1 or more"),
        (lambda: col("s").parse_number(",", ","), "cannot tell numbers apart with ',' and ','"),
        (lambda: col("s").parse_time("%b %Y"), "'%b %Y' is not a format that every engine reads alike"),
        (lambda: col("s").parse_time("%d %d %Y %m"), "is not a format that every engine reads alike"),
        (lambda: col("s").parse_time("%d."), "'%d.' has no year and month"),
        (lambda: col("s").hashed(0), "cannot make 0 buckets"),
        (lambda: T.start_of("decade"), "there is no start of 'decade'"),
    ],
)
def test_a_method_refuses_what_it_cannot_mean(make: Any, expected: str) -> None:
    with pytest.raises(ProjectError) as found:
        make()

    assert expected in str(found.value)


@pytest.mark.parametrize(
    ("expr", "kind"),
    [
        (A**2, "number"),
        (A.within(0, B), "flag"),
        (col("s").parse_time("%Y-%m"), "time"),
        (col("s").parse_number(), "number"),
        (T.add_months(1).start_of("week"), "time"),
        (T.days_since(U), "number"),
        (col("f").as_number(), "number"),
        (col("s").group(["a"], "other"), "text"),
        (A.to_text(), "text"),
        (distance_km(A, B, 0, 0), "number"),
        (cases((A > 1, "a"), (B > 1, "b"), otherwise="c"), "text"),
    ],
    ids=str,
)
def test_newer_operations_have_types_and_come_back_from_json(expr: Expr, kind: str) -> None:
    settled, made = typed(expr, COLUMNS)

    assert kind == made
    assert settled.key() == from_json(json.loads(json.dumps(as_json(settled)))).key()
    assert shown(settled)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (col("s").ln(), "`ln(s)` needs a number, got a text"),
        (A.parse_number(), "needs a text, got a number"),
        (A.group(["a"], "b"), "mixes number and text"),
        (A.within(0, "x"), "mixes number and text"),
        (T.bucket([1]), "needs a number, got a time"),
    ],
)
def test_newer_operations_refuse_other_types(expr: Expr, expected: str) -> None:
    assert expected in problem(expr)
