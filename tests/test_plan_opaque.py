"""An opaque step is a Python function with a version: the same on history and on one row, and kept as its own text."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from underhood.ground.errors import ParityError, ProjectError
from underhood.plan.exprs import as_json, col, columns_of, define, from_json, shown, typed
from underhood.plan.opaque import opaque, opaque_steps, sql_name
from underhood.plan.render import SPARK, to_python, to_sql
from underhood.plan.sqlsteps import check_python, sql, sql_steps
from underhood.tables.local import Engine
from underhood.tables.parity import compare_renderings, require

KINDS = {"text": "text", "x": "number", "t": "time"}
SAMPLED = [{"text": "Aardvark", "x": 2.0, "t": datetime(2024, 2, 29, 12)}]
FACTOR = 2


@opaque(gives="number")
def vowels(text: Any) -> Any:
    return sum(text.lower().count(v) for v in "aeiou")


@opaque(gives="number")
def inverse(x: Any) -> Any:
    import math

    return 1 / math.floor(x)


@opaque(gives="text")
def written(t: Any, x: Any) -> Any:
    return f"{t:%Y}/{x:g}" if x > 0 else None


def settled(expr: Any) -> Any:
    return typed(expr, KINDS)[0]


def test_an_opaque_step_has_the_same_values_on_history_and_on_one_row() -> None:
    outputs = {
        "vowels": settled(vowels(col("text"))),
        "share": settled(vowels(col("text").strip()) / col("text").length()),
        "inverse": settled(inverse(col("x")).fill(-1)),
        "written": settled(written(col("t"), col("x"))),
        "nested": settled(inverse(vowels(col("text")) - 1)),
    }
    with Engine(threads=1) as engine:
        parity = compare_renderings(engine, outputs, KINDS, SAMPLED)

    require(parity)
    made = to_python(outputs)(SAMPLED[0])
    assert made == {"vowels": 3.0, "share": 0.375, "inverse": 0.5, "written": "2024/2", "nested": 0.5}
    assert set(to_python(outputs)(dict.fromkeys(KINDS)).values()) == {None, -1.0}


def test_it_is_used_as_a_feature_and_lineage_sees_what_it_reads() -> None:
    made = define([vowels, written], "features")

    assert {"text"} == columns_of(made["vowels"])
    assert {"t", "x"} == columns_of(made["written"])
    assert shown(made["written"]) == "written(t, x)"
    assert typed(made["written"], KINDS)[1] == "text"


def test_it_comes_back_from_json_without_its_module() -> None:
    expr = settled(vowels(col("text")) + 1)

    again = from_json(json.loads(json.dumps(as_json(expr))))

    assert expr.key() == again.key()
    assert to_sql(expr) == to_sql(again)
    assert to_python({"v": again})({"text": "aeb"}) == {"v": 3.0}


def test_its_version_changes_with_what_it_does_and_not_with_its_layout() -> None:
    first = settled(vowels(col("text")))

    @opaque(gives="number")
    def vowels_(text: Any) -> Any:
        return sum(text.lower().count(v) for v in "aeiou")  # a comment

    @opaque(gives="number")
    def other(text: Any) -> Any:
        return sum(text.lower().count(v) for v in "aeiouy")

    same, unlike = (settled(f(col("text"))).args[0][2].partition("(")[2] for f in (vowels_, other))

    assert first.args[0][2].partition("(")[2] == same != unlike
    assert list(opaque_steps([first])) == [sql_name(first)]


def test_a_function_that_reads_from_outside_of_itself_is_refused() -> None:
    def scaled(x: Any) -> Any:
        return x * FACTOR

    with pytest.raises(ProjectError) as found:
        opaque(gives="number")(scaled)

    assert "opaque scaled: reads FACTOR from outside" in str(found.value)


def test_a_mistake_in_the_function_is_found_by_the_check() -> None:
    @opaque(gives="number")
    def wrong(text: Any) -> Any:
        return text.no_such_method()

    with Engine(threads=1) as engine, pytest.raises(ParityError, match="no_such_method"):
        compare_renderings(engine, {"wrong": settled(wrong(col("text")))}, KINDS, SAMPLED)


def test_only_kinds_that_a_model_reads_can_be_given() -> None:
    with pytest.raises(ProjectError, match="cannot give 'time'"):
        opaque(gives="time")


# --- written in SQL ---


def ratio(a: Any, b: Any) -> Any:
    return a / (b + 1)


def logarithm(x: Any) -> Any:
    import math

    return math.log(x)


def backwards(text: Any) -> Any:
    return text[::-1]


def is_leap(t: Any) -> Any:
    return t.year % 4 == 0 and (t.year % 100 != 0 or t.year % 400 == 0)


RATIO = sql("{a} / nullif({b} + 1, 0)", gives="number", reads=("a", "b"), python=ratio)
LOGARITHM = sql("ln({x})", gives="number", python=logarithm)
LEAP = sql(
    "year({t}) % 4 = 0 and (year({t}) % 100 <> 0 or year({t}) % 400 = 0)", gives="flag", python=is_leap, name="leap"
)
BACKWARDS = sql(
    "array_to_string(list_reverse(string_split({text}, '')), {'s': ''}.s)",
    gives="text",
    python=backwards,
    spark="reverse({text})",
)


def test_a_sql_step_has_the_same_values_on_history_and_on_one_row() -> None:
    outputs = {
        "ratio": settled(RATIO(col("x") * 2, col("text").length())),
        "logarithm": settled(LOGARITHM(col("x")).fill(-1)),
        "backwards": settled(BACKWARDS(col("text"))),
        "leap": settled(LEAP(col("t"))),
        "inside": settled(vowels(BACKWARDS(col("text").strip())) + RATIO(col("x"), 3)),
        "often": settled(RATIO(RATIO(RATIO(col("x") / 3, col("x")), 2) + col("x"), RATIO(col("x"), col("x")))),
    }
    with Engine(threads=1) as engine:
        parity = compare_renderings(engine, outputs, KINDS, SAMPLED)

    require(parity)
    made = to_python(outputs)(SAMPLED[0])
    assert (made["ratio"], made["backwards"], made["leap"]) == (4 / 9, "kravdraA", True)
    assert to_python(outputs)({"text": None, "x": -1.0, "t": None})["logarithm"] == -1


def test_a_changed_text_is_a_new_version_and_goes_with_the_definition() -> None:
    other = sql("{a} / nullif({b} + 2, 0)", gives="number", reads=("a", "b"), python=ratio)
    on_spark = sql("{a} / nullif({b} + 1, 0)", gives="number", reads=("a", "b"), python=ratio, spark="{a} - {b}")
    first, second, third = (settled(s(col("x"), col("x"))) for s in (RATIO, other, on_spark))
    again = from_json(json.loads(json.dumps(as_json(third))))

    assert len({first.key(), second.key(), third.key()}) == 3
    assert again.key() == third.key()
    assert to_sql(again, SPARK) == to_sql(third, SPARK) != to_sql(first, SPARK)
    assert to_sql(again) == to_sql(third) == to_sql(first)
    assert to_python({"r": again})({"x": 1.0}) == {"r": 0.5}
    assert (opaque_steps([again]), len(sql_steps([again]))) == ({}, 1)


def test_a_sql_step_without_python_may_not_be_asked_for_one_request() -> None:
    step = settled(sql("{x} + 1", gives="number", name="more")(col("x")))

    for refused in (lambda: to_python({"more": step}), lambda: check_python([step * 2])):
        with pytest.raises(ProjectError) as found:
            refused()
        assert "sql more: has no Python function" in str(found.value)
        assert "give python=" in str(found.value)
    assert "+ 1" in to_sql(step)


def test_a_sql_step_that_differs_from_its_python_is_found_by_the_check() -> None:
    step = settled(sql("{a} - {b}", gives="number", reads=("a", "b"), python=ratio)(col("x"), col("x")))

    with Engine(threads=1) as engine, pytest.raises(ParityError, match="values differ"):
        require(compare_renderings(engine, {"ratio": step}, KINDS, SAMPLED))


def test_wrong_sql_is_told_with_the_name_of_its_step_before_anything_runs() -> None:
    steps = [
        sql("no_such_function({x})", gives="number", name="first")(col("x")),
        sql("({x}", gives="number", name="second")(col("x")),
        sql("{x} + {text}", gives="number", name="third")(col("x"), col("t")),
    ]

    with Engine(threads=1) as engine, pytest.raises(ProjectError) as found:
        engine.learn([settled(step) for step in steps])

    for name in ("sql first", "sql second", "sql third"):
        assert f"{name}: DuckDB cannot run it" in str(found.value)


def test_a_sql_step_is_a_feature_by_its_own_name_and_reads_well() -> None:
    made = define([sql("{x} / {t}", gives="number", name="pace")], "features")

    assert shown(made["pace"]) == "pace(x, t)"
    assert {"x", "t"} == columns_of(made["pace"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: sql("{a} + {c}", gives="number", reads=("a", "b")), "the text reads {c}"),
        (lambda: sql("{a}", gives="number", reads=("a", "b")), "the text never reads {b}"),
        (lambda: sql("{a}", gives="time"), "cannot give 'time'"),
        (lambda: sql("{a}", gives="number", python=lambda a: a), "is not written as a function"),
        (lambda: sql("{a}", gives="number", python=len), "its text cannot be read"),
        (lambda: RATIO(col("x")), "got 1 arguments"),
    ],
)
def test_what_a_sql_step_cannot_be_is_said_when_it_is_written(wrong: Any, says: str) -> None:
    with pytest.raises(ProjectError) as found:
        wrong()

    assert says in str(found.value)
