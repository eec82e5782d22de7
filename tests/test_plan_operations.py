"""Each operation means one thing: pinned on edge rows, the same in DuckDB's SQL and in the Python function."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge_rows import ARROW, CASES, KINDS, LEAP, TABLE, X
from tests.random_trees import INPUTS, VALUES, chain, tree
from underhood.ground.errors import ProjectError
from underhood.plan.exprs import SPECIAL, Expr, col, columns_of, lit, typed
from underhood.plan.forms import FORMS
from underhood.plan.operations import NUMBER, OPERATIONS, TIME
from underhood.plan.render import quoted, to_python, to_sql
from underhood.tables.local import Engine
from underhood.tables.parity import same


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        yield opened


def both(engine: Engine, expr: Any, kinds: dict[str, str], rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """The values of an expression on rows, by SQL and by the Python function."""
    by_sql, by_python = all_of(engine, {"v": typed(expr, kinds)[0]}, kinds, rows)
    return [row["v"] for row in by_sql], [row["v"] for row in by_python]


def all_of(engine: Engine, settled: dict[str, Expr], kinds: dict[str, str], rows: Any) -> tuple[list[Any], list[Any]]:
    """The values of several settled expressions, row by row, by SQL and by the Python function."""
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, ARROW[kind]) for name, kind in kinds.items()]))
    engine.register("rows", table.append_column("__n", pa.array(range(len(rows)), pa.int64())))
    columns = ", ".join(f"{to_sql(expr)} as {quoted(name)}" for name, expr in settled.items())
    by_sql = engine.dicts(f"select {columns} from rows order by __n")
    compiled = to_python(settled)
    return by_sql, [compiled(row) for row in table.select(list(kinds)).to_pylist()]


def alike(first: list[Any], second: list[Any]) -> bool:
    return all(type(a) is type(b) and same(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_its_pinned_value_on_every_edge_row_in_both_renderings(engine: Engine, name: str) -> None:
    expr, letters, pinned = CASES[name]
    kinds = {column: KINDS[letter] for column, letter in zip("xyz", letters, strict=False)}
    expected = [row[-1] for row in pinned]

    by_sql, by_python = both(engine, expr, kinds, [dict(zip(kinds, row, strict=False)) for row in pinned])

    assert alike(expected, by_sql), (expected, by_sql)
    assert alike(expected, by_python), (expected, by_python)


@pytest.mark.parametrize("name", TABLE)
def test_a_null_in_any_argument_makes_a_null(engine: Engine, name: str) -> None:
    expr, letters, pinned = TABLE[name]
    kinds = {column: KINDS[letter] for column, letter in zip("xyz", letters, strict=False)}
    rows = [{**dict(zip(kinds, pinned[0], strict=False)), column: None} for column in sorted(columns_of(expr))]

    by_sql, by_python = both(engine, expr, kinds, rows)

    assert [None] * len(rows) == by_sql == by_python


def test_every_operation_has_rows_in_the_table() -> None:
    expected = {*OPERATIONS, *FORMS, *SPECIAL, "plus", "minus"}

    assert set() == expected - set(CASES)
    assert all(len(rows) > 0 for _, _, rows in CASES.values())


# --- what once went wrong ---


def test_a_negative_constant_that_is_negated_does_not_become_a_comment(engine: Engine) -> None:
    by_sql, by_python = both(engine, -lit(-5) + X, {"x": NUMBER}, [{"x": 1.0}])

    assert [6.0] == by_sql == by_python


def test_the_text_of_a_long_sum_grows_no_faster_than_the_sum() -> None:
    summed: Any = lit(0)
    for n in range(40):
        summed = -summed + col(f"c{n}") * 2 if n % 2 else summed / 3 - col(f"c{n}")
    settled, _ = typed(summed, {f"c{n}": NUMBER for n in range(40)})

    assert len(to_sql(settled)) < 10_000


@pytest.mark.parametrize("target", ["duckdb", "spark"])
def test_the_text_of_a_chain_of_operations_grows_as_the_chain_does(target: str) -> None:
    lengths = [len(to_sql(typed(chain(n), {"x": NUMBER, "y": NUMBER})[0], target)) for n in (30, 60, 120)]

    assert lengths[1] < 30_000
    assert lengths[2] - lengths[1] < 2.2 * (lengths[1] - lengths[0])


@pytest.mark.slow
def test_a_chain_of_sixty_operations_has_the_same_values_in_both_renderings(engine: Engine) -> None:
    rows = [{"x": 0.1 * n - 5, "y": 3.0 if n % 7 else None} for n in range(100)]

    by_sql, by_python = both(engine, chain(60), {"x": NUMBER, "y": NUMBER}, rows)

    assert alike(by_sql, by_python)
    assert len(set(by_python)) > 20


def test_an_overflow_inside_a_sum_is_null_even_if_a_later_step_would_hide_it(engine: Engine) -> None:
    expr = (X * X) * 0 + 1
    hidden = lit(1) / (X * X)

    assert both(engine, expr, {"x": NUMBER}, [{"x": 1e300}]) == ([None], [None])
    assert both(engine, hidden, {"x": NUMBER}, [{"x": 1e300}]) == ([None], [None])


def test_a_constant_time_with_a_zone_is_its_moment_in_utc(engine: Engine) -> None:
    constant = lit(datetime.fromisoformat("2024-02-29T14:30:00+02:00"))

    assert both(engine, (X - constant).minutes(), {"x": TIME}, [{"x": LEAP}]) == ([0.0], [0.0])


def test_an_index_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(ProjectError, match="whole index"):
        X.part("-", 0.5)  # type: ignore[arg-type]


# --- any tree on any row ---


@pytest.mark.slow
@settings(max_examples=15, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_any_expressions_on_any_rows_have_the_same_values_in_both_renderings(engine: Engine, seed: int) -> None:
    random = Random(seed)
    made = {f"e{n}": typed(tree(random, random.choice(list(VALUES)), 4), INPUTS)[0] for n in range(12)}
    rows = [{name: random.choice(VALUES[kind]) for name, kind in INPUTS.items()} for _ in range(40)]

    by_sql, by_python = all_of(engine, made, INPUTS, rows)

    differing = [
        (str(made[name]), row, sql[name], python[name])
        for row, sql, python in zip(rows, by_sql, by_python, strict=True)
        for name in made
        if not alike([sql[name]], [python[name]])
    ]
    assert differing[:1] == []
