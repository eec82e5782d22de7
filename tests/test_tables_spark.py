"""Spark gives the values of DuckDB and Python, whatever the session is set to; run by `make test-spark`."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest

import underhood as uh
from tests.edge_rows import ARROW, CASES, KINDS
from tests.random_trees import INPUTS, VALUES, chain, tree
from underhood.ground.errors import SourceError
from underhood.plan.exprs import col, typed
from underhood.plan.fitted import levels_expr, mean_expr, scaled_expr
from underhood.plan.opaque import opaque
from underhood.plan.render import to_python
from underhood.plan.sqlsteps import sql
from underhood.tables.parity import same
from underhood.tables.spark import features_on_spark, local_session, values_on_spark

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pyspark has words about the version of pandas
    pytest.importorskip("pyspark", reason="pyspark is not installed; make test-spark installs it")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java"),
    pytest.mark.filterwarnings("ignore"),  # pyspark leaves sockets open and is told so
]
BERLIN = "Europe/Berlin"  # where an hour of October is there twice
X, Y = col("x"), col("y")


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = local_session()
        made.sparkContext.setLogLevel("OFF")
        made.conf.set("spark.sql.session.timeZone", BERLIN)
        yield made
        made.stop()


@pytest.fixture(params=["true", "false"], ids=["ANSI on", "ANSI off"])
def spark(session: Any, request: pytest.FixtureRequest) -> Any:
    session.conf.set("spark.sql.ansi.enabled", request.param)
    return session


def arrow(rows: list[dict[str, Any]], kinds: dict[str, str]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, ARROW[kind]) for name, kind in kinds.items()]))


def by_letters() -> dict[str, list[str]]:
    """The table of edge rows by the types of their columns: a job for each, not one for each operation."""
    made: dict[str, list[str]] = {}
    for name, (_, letters, _) in CASES.items():
        made.setdefault(letters, []).append(name)
    return made


def test_every_operation_gives_its_pinned_value_on_every_edge_row(spark: Any) -> None:
    differing = []
    for letters, names in by_letters().items():
        kinds = {column: KINDS[letter] for column, letter in zip("xyz", letters, strict=False)}
        rows = [dict(zip(kinds, row, strict=False)) for name in names for row in CASES[name][2]]
        rows += [dict.fromkeys(kinds)]
        outputs = {name: typed(CASES[name][0], kinds)[0] for name in names}
        numbers = {column: "number" if kind == "span" else kind for column, kind in kinds.items()}
        made = values_on_spark(spark, outputs, numbers, arrow(rows, kinds))
        pinned = [(name, row) for name in names for row in CASES[name][2]]
        for n, (name, row) in enumerate(pinned):
            value = made.column(name)[n].as_py()
            if type(value) is not type(row[-1]) or not same(value, row[-1]):
                differing.append((name, row, value))

    assert differing == []


@pytest.mark.parametrize("seed", range(3))
def test_any_expressions_on_any_rows_have_the_values_of_the_python_function(spark: Any, seed: int) -> None:
    random = Random(seed)
    made = {f"e{n}": typed(tree(random, random.choice(list(VALUES)), 4), INPUTS)[0] for n in range(60)}
    rows = [{name: random.choice(VALUES[kind]) for name, kind in INPUTS.items()} for _ in range(400)]
    table = arrow(rows, INPUTS)

    by_spark = values_on_spark(spark, made, INPUTS, table)

    compiled = to_python(made)
    by_python = [compiled(row) for row in table.to_pylist()]
    differing = [
        (str(made[name]), rows[n], value, by_python[n][name])
        for name in made
        for n, value in enumerate(by_spark.column(name).to_pylist())
        if not same(value, by_python[n][name])
    ]
    assert differing[:1] == []


def test_a_long_chain_of_operations_is_planned_and_has_the_values_of_the_python_function(spark: Any) -> None:
    settled = {"chain": typed(chain(60), {"x": "number", "y": "number"})[0]}
    rows = [{"x": 0.1 * n - 5, "y": 3.0} for n in range(100)]

    made = values_on_spark(spark, settled, {"x": "number", "y": "number"}, arrow(rows, {"x": "number", "y": "number"}))

    compiled = to_python(settled)
    assert all(same(made.column("chain")[n].as_py(), compiled(row)["chain"]) for n, row in enumerate(rows))


def test_a_moment_of_the_hour_that_is_there_twice_is_read_as_the_moment_that_it_is(spark: Any) -> None:
    first = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)  # half past two in Berlin, as is an hour later
    moments = [first, first + timedelta(hours=1), datetime(1900, 1, 1, tzinfo=UTC)]
    frame = spark.sql(
        "select timestamp_micros(us) as t, n from values "
        + ", ".join(f"({round(m.timestamp()) * 1_000_000}, {n})" for n, m in enumerate(moments))
        + " as rows(us, n)"
    )
    outputs = {"t": typed(col("t"), {"t": "time"})[0], "hour": typed(col("t").hour(), {"t": "time"})[0]}

    made = sorted(features_on_spark(frame, outputs, {"t": "time"}, ("n",)).collect())

    assert [(n, m.replace(tzinfo=None), float(m.hour)) for n, m in enumerate(moments)] == [tuple(r) for r in made]


def test_columns_are_read_from_the_types_that_frames_have(spark: Any) -> None:
    frame = spark.createDataFrame(
        [(7, Decimal("1.50"), float("nan"), date(2024, 2, 29), "a`b", 3)],
        "`whole one` bigint, exact decimal(9,2), odd double, day date, `te``xt` string, n int",
    )
    kinds = {"whole one": "number", "exact": "number", "odd": "number", "day": "time", "te`xt": "text"}
    outputs = {
        "sum": typed(col("whole one") + col("exact"), kinds)[0],
        "odd": typed(col("odd").is_null(), kinds)[0],
        "day": typed(col("day").weekday(), kinds)[0],
        "it's": typed(col("te`xt") + "'\\${x}", kinds)[0],
    }

    made = features_on_spark(frame, outputs, kinds, ("n", "whole one"))

    assert [tuple(row) for row in made.collect()] == [(3, 7, 8.5, True, 3.0, "a`b'\\${x}")]
    assert made.columns == ["n", "whole one", "sum", "odd", "day", "it's"]


def test_every_column_that_is_missing_or_of_another_kind_is_told_at_once(spark: Any) -> None:
    frame = spark.createDataFrame([("a", 1)], "name string, amount int")

    with pytest.raises(SourceError) as found:
        features_on_spark(frame, {}, {"name": "number", "amont": "number"})

    told = [(e.where, e.what, e.hint) for e in (found.value, *found.value.also)]
    assert told == [
        ("questions.name", "is a string, wanted a number", "cast it to double before"),
        ("questions.amont", "there is no such column", "did you mean amount?"),
    ]


def test_nothing_of_the_session_is_changed(spark: Any) -> None:
    before = dict(spark.conf.getAll if not callable(spark.conf.getAll) else spark.conf.getAll())
    kinds = {"x": "number"}

    values_on_spark(spark, {"v": typed(uh.when(X > 0, X.ln()), kinds)[0]}, kinds, arrow([{"x": 1.0}], kinds))

    assert before == dict(spark.conf.getAll if not callable(spark.conf.getAll) else spark.conf.getAll())
    assert spark.conf.get("spark.sql.session.timeZone") == BERLIN


def test_opaque_steps_run_in_arrow_batches_and_have_the_values_of_the_python_function(spark: Any) -> None:
    kinds = {"s": "text", "x": "number", "t": "time"}
    vowels = opaque(gives="number")(count_vowels)
    outputs = {
        "vowels": typed(vowels(col("s")) / col("x"), kinds)[0],
        "plain": typed(X + 1, kinds)[0],
        "early": typed(vowels(col("s")) > col("t").hour(), kinds)[0],
    }
    rows = [{"s": s, "x": x, "t": datetime(2024, 3, 31, 2, 30)} for s in ("aé𝒳u", "", None) for x in (2.0, 0.0, None)]

    made = values_on_spark(spark, outputs, kinds, arrow(rows, kinds))

    compiled = to_python(outputs)
    assert [compiled(row) for row in rows] == made.to_pylist()


def test_a_sql_step_runs_as_its_own_text_for_spark_and_fitted_parts_as_operations(spark: Any) -> None:
    kinds = {"s": "text", "x": "number"}
    text = "array_to_string(list_reverse(string_split({s}, '')), '')"
    backwards = sql(text, gives="text", spark="reverse({s})", python=turned)
    share = sql("{x} / nullif({n}, 0)", gives="number", reads=("x", "n"), python=shared)
    outputs = {
        "backwards": typed(backwards(col("s")), kinds)[0],
        "share": typed(share(col("x"), col("s").length()) + 1, kinds)[0],
        "mean": mean_expr(col("s"), {"a": 0.25, "aé𝒳u": 0.5}, 0.3),
        "levels": levels_expr(col("s"), ["a", "O'Hare"], "other"),
        "scaled": scaled_expr(col("x"), 1.5, 0.3),
    }
    rows = [{"s": s, "x": x} for s in ("aé𝒳u", "a", "O'Hare", "", None) for x in (2.0, 0.0, -1e308, None)]

    made = values_on_spark(spark, outputs, kinds, arrow(rows, kinds))

    compiled = to_python(outputs)
    assert [compiled(row) for row in rows] == made.to_pylist()


def turned(s: Any) -> Any:
    return s[::-1]


def shared(x: Any, n: Any) -> Any:
    return x / n


def count_vowels(s: Any) -> Any:
    return sum(s.count(v) for v in "aeiou")
