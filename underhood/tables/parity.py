"""Equal everywhere, or refused: every definition on sampled and on edge rows, on each engine and in Python.

The edge rows are made from the inputs' types: each input takes each edge value of
its type in some sampled row, and more rows mix several. Compared with 1e-12
relative, since `ln` and `exp` may differ in the last bit between libraries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

import pyarrow as pa

from underhood.ground.errors import ParityError
from underhood.plan.exprs import Expr, columns_of
from underhood.plan.joins import Plan
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import DUCKDB, SPARK, Compiled, quoted, to_python, to_sql
from underhood.plan.steps import ASKED_AT
from underhood.tables.local import Engine
from underhood.tables.spark import values_on_spark

RELATIVE = 1e-12

EDGES: Mapping[str, Sequence[Any]] = {
    NUMBER: (
        None,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.5,
        -2.5,
        1e-300,
        1e300,
        -1e300,
        2.0**53,
        59.999999,
        29.0,
        13.0,
        0.49999999999999994,
        1.7976931348623157e308,
        5e-324,
    ),
    FLAG: (None, True, False),
    TEXT: (
        None,
        "",
        " ",
        " a ",
        "A",
        "\ta\n",
        "a-b",
        "a-b-c",
        "-",
        "İ",
        "ß",
        "𝒳",
        "'",
        "\\",
        "%",
        "NULL",
        "1e5",
        "+1",
        "1_0",
        "12,5",
        "x" * 300,
    ),
    TIME: (
        None,
        datetime(1970, 1, 1),
        datetime(1900, 2, 28, 23, 59, 59, 999999),
        datetime(2000, 2, 29),
        datetime(2024, 12, 31, 23, 59, 59, 999999),
        datetime(9999, 12, 31),
        datetime(9999, 12, 31, 23, 59, 59, 999999),
        datetime(1, 1, 1),
    ),
}
_ARROW = {NUMBER: pa.float64(), FLAG: pa.bool_(), TEXT: pa.string(), TIME: pa.timestamp("us")}


@dataclass(frozen=True)
class Parity:
    """How many rows and definitions were compared with Python, on which engines, and the rows that differ."""

    n_rows: int
    n_definitions: int
    differing: tuple[Mapping[str, Any], ...]
    engines: tuple[str, ...] = (DUCKDB,)


def compare_renderings(
    engine: Engine,
    outputs: Mapping[str, Expr],
    inputs: Mapping[str, str],
    sampled: Sequence[Mapping[str, Any]],
    *,
    seed: int = 1,
    n_mixed: int = 500,
    spark: Any = None,
) -> Parity:
    """Values of `outputs` on sampled rows and on edge rows: each engine's with Python's.

    `spark` is a Spark session, if Spark is to be asked too. `n_mixed` edge rows mix
    several edge values. A differing row tells the definition, the engine, the row,
    what of it was read, and both values.
    """
    rows = [*sampled, *edge_rows(inputs, sampled, seed, n_mixed)]
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in inputs.items()])
    table = pa.Table.from_pylist([dict(r) for r in rows], schema=schema)
    compiled = to_python(outputs)
    rows = table.to_pylist()
    by_python = [_computed(compiled, row) for row in rows]
    made = {DUCKDB: _by_duckdb(engine, outputs, table)}
    if spark is not None:
        made[SPARK] = values_on_spark(spark, outputs, inputs, table)
    differing = []
    for name in outputs:
        ours = [values[name] for values in by_python]
        for which, values in made.items():
            theirs = values.column(name).to_pylist()
            if theirs != ours:
                unlike = [n for n in range(len(rows)) if not same(theirs[n], ours[n])]
                differing += [_difference(name, which, theirs[n], ours[n], rows[n], outputs[name]) for n in unlike]
    return Parity(len(rows), len(outputs), tuple(differing), tuple(made))


def compare_plan(engine: Engine, plan: Plan, *, n_sampled: int = 1000, n_mixed: int = 500, spark: Any = None) -> Parity:
    """The features of a plan on `n_sampled` rows of its questions and on edge rows. Needs the view `asks`."""
    inputs = {**plan.inputs, ASKED_AT: TIME}
    every = max(1, engine.rows("select count(*) from asks")[0][0] // n_sampled)
    columns = ", ".join(quoted(c) for c in inputs)
    sampled = engine.dicts(f"select {columns} from asks where __row % {every} = 0 limit {n_sampled}")
    return compare_renderings(engine, plan.features, inputs, sampled, n_mixed=n_mixed, spark=spark)


def _difference(name: str, engine: str, sql: Any, python: Any, row: Mapping[str, Any], expr: Expr) -> Mapping[str, Any]:
    reads = {column: row[column] for column in sorted(columns_of(expr))}
    return {"definition": name, "engine": engine, "sql": sql, "python": python, "row": row, "reads": reads}


def _by_duckdb(engine: Engine, outputs: Mapping[str, Expr], table: pa.Table) -> pa.Table:
    engine.register("parity rows", table.append_column("__n", pa.array(range(table.num_rows), pa.int64())))
    engine.learn(outputs.values())
    columns = ", ".join(f"{to_sql(expr)} as {quoted(name)}" for name, expr in outputs.items())
    return engine.table(f'select {columns} from "parity rows" order by __n')


def _computed(compiled: Compiled, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return compiled(row)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        hint = "nothing may raise on data: mend the opaque step, or report the operation"
        raise ParityError(f"Python raises {error!r} for {_short(row)}", "definitions", hint) from error


_NAMES = {DUCKDB: "SQL", SPARK: "Spark"}


def require(parity: Parity) -> None:
    """Raises ParityError that shows the first differing rows; nothing if there is none."""
    if parity.differing:
        shown = [
            f"{d['definition']}: {d['sql']!r} in {_NAMES[d['engine']]}, {d['python']!r} in Python, "
            f"for {_short(d['row'])}"
            for d in parity.differing[:3]
        ]
        raise ParityError(
            f"{len(parity.differing):,} values differ between renderings: " + "; ".join(shown),
            str(parity.differing[0]["definition"]),
            "guard the operation's domain, or report the operation: its meaning is pinned in docs/definitions.md",
        )


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same: both null, or equal within 1e-12 relative."""
    if first is None or second is None or isinstance(first, (str, bool, datetime)):
        return bool(first is second or first == second)
    return bool(first == second or abs(first - second) <= RELATIVE * max(abs(first), abs(second)))


def edge_rows(
    inputs: Mapping[str, str], sampled: Sequence[Mapping[str, Any]], seed: int, n_mixed: int = 500
) -> list[dict[str, Any]]:
    """Rows that hold every edge value of every input, and `n_mixed` mixtures of them."""
    random = Random(seed)
    empty: dict[str, Any] = dict.fromkeys(inputs)
    base = [{n: row[n] for n in inputs} for row in sampled] or [empty]
    rows = [empty]
    for name, kind in inputs.items():
        rows += [{**random.choice(base), name: edge} for edge in EDGES[kind]]
    for _ in range(n_mixed):
        row = dict(random.choice(base))
        for name in random.sample(list(inputs), k=max(1, len(inputs) // 3)):
            row[name] = random.choice(EDGES[inputs[name]])
        rows.append(row)
    return rows


def _short(row: Mapping[str, Any]) -> str:
    text = ", ".join(f"{n}={v!r}" for n, v in row.items())
    return text if len(text) <= 120 else text[:117] + "..."
