"""Python functions over Arrow columns: how an opaque step runs on history, on DuckDB and on Spark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any

import pyarrow as pa

from underhood.ground.errors import ProjectError, raise_all
from underhood.plan.exprs import Expr, from_json
from underhood.plan.opaque import callable_of
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import to_python
from underhood.plan.sqlsteps import sql_steps, sql_template

ARROW: Mapping[str, Any] = {
    NUMBER: pa.float64(),
    FLAG: pa.bool_(),
    TEXT: pa.string(),
    TIME: pa.timestamp("us"),
}


SQL_TYPES: Mapping[str, Any] = {NUMBER: "DOUBLE", FLAG: "BOOLEAN", TEXT: "VARCHAR", TIME: "TIMESTAMP"}


def check_sql(exprs: Iterable[Expr], attempt: Callable[[str], str]) -> list[Expr]:
    """The expressions, if `attempt` (which tells what went wrong) can prepare every SQL step in them.

    Raises ProjectError for those that it cannot.
    """
    listed, errors = list(exprs), []
    for step in sql_steps(listed):
        values = [f"NULL::{SQL_TYPES[kind]}" for kind in step.args[0][3]]
        wrong = attempt(f"explain select {sql_template(step).format(*values)}")
        if wrong:
            errors.append(ProjectError(f"DuckDB cannot run it: {wrong}", f"sql {step.args[0][0]}", "correct its text"))
    raise_all(errors)
    return listed


def batched(step: Expr) -> Callable[..., pa.Array]:
    """An opaque step as a function from Arrow arrays, one for each argument, to one as long."""
    function, gives = callable_of(step), ARROW[step.args[0][1]]

    def over(*columns: Any) -> pa.Array:
        return pa.array(list(map(function, *[column.to_pylist() for column in columns])), gives)

    # DuckDB counts the arguments by the signature
    taken = [Parameter(f"a{n}", Parameter.POSITIONAL_ONLY) for n in range(len(step.args) - 1)]
    over.__signature__ = Signature(taken)  # type: ignore[attr-defined]
    return over


def over_batches(
    outputs: Mapping[str, Any], inputs: Mapping[str, str], kinds: Mapping[str, str]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function that adds a column for each output to Arrow batches, computed row by row.

    `outputs` are expressions as JSON, `inputs` tells which column holds which
    input, `kinds` the outputs' types. It can be sent to other processes, which
    need Underhood too.
    """

    def over(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        compiled = to_python({name: from_json(tree) for name, tree in outputs.items()})
        for batch in batches:
            columns = {name: batch.column(held).to_pylist() for name, held in inputs.items()}
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            made = [compiled(row) for row in rows]
            arrays = [pa.array([row[name] for row in made], ARROW[kind]) for name, kind in kinds.items()]
            yield pa.RecordBatch.from_arrays(
                [*batch.columns, *arrays], names=[*batch.schema.names, *[f"p{n}" for n in range(len(arrays))]]
            )

    return over
