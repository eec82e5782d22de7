"""A plan's features on the user's Spark: from a frame of questions to their features, by emitted SQL text.

The only file that names pyspark. Nothing of the session's settings is changed
or relied on: not its time zone, not whether ANSI is on, not how it reads texts.
Runs on Spark 3.4 and later; tested with 4.0 and the newest.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from underhood.ground.errors import SourceError, UnderhoodError, nearest, raise_all
from underhood.plan.exprs import Expr, as_json, substitute, typed
from underhood.plan.moments import SPARK_TICK, SPARK_ZERO
from underhood.plan.opaque import opaque_steps
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import SPARK, quoted, to_stages
from underhood.tables.batches import over_batches

# what each kind of value is on Spark, and what it may be read from
TYPES: Mapping[str, str] = {NUMBER: "double", FLAG: "boolean", TEXT: "string", TIME: "timestamp_ntz"}
_WHOLE = ("tinyint", "smallint", "int", "bigint")
_PLACE = "questions"


def features_on_spark(
    frame: Any, outputs: Mapping[str, Expr], inputs: Mapping[str, str], keep: tuple[str, ...] = ()
) -> Any:
    """A Spark frame with `outputs` of each row of `frame`, after the columns named in `keep`; as many rows.

    `frame` is a pyspark.sql.DataFrame that holds `inputs` (column → kind).
    Whole numbers, floats and decimals are read as numbers, dates and both kinds
    of timestamps as times in UTC; NaN and infinite numbers as null. Raises
    SourceError with all columns that are missing or of another kind.
    """
    read = _readers(frame, inputs)
    kept = [f"{quoted(name, SPARK)} as k{n}" for n, name in enumerate(keep)]
    named = {name: f"i{n}" for n, name in enumerate(inputs)}
    first = frame.selectExpr(*kept, *[f"{read[name]} as {named[name]}" for name in inputs])
    in_python = {name: expr for name, expr in outputs.items() if opaque_steps([expr])}
    if in_python:
        first = _with_opaque(first, in_python, named, inputs)
    renamed = {name: Expr("sql", (column,)) for name, column in named.items()}
    in_sql = {name: substitute(expr, renamed) for name, expr in outputs.items() if name not in in_python}
    added, made = to_stages(in_sql, SPARK)
    for columns in added:
        first = first.selectExpr("*", *[f"{text} as {name}" for name, text in columns.items()])
    made |= {name: f"p{n}" for n, name in enumerate(in_python)}
    back = [f"k{n} as {quoted(name, SPARK)}" for n, name in enumerate(keep)]
    return first.selectExpr(*back, *[f"{made[name]} as {quoted(name, SPARK)}" for name in outputs])


def _with_opaque(frame: Any, outputs: Mapping[str, Expr], named: Mapping[str, str], inputs: Mapping[str, str]) -> Any:
    """The frame with a column p0, p1 … for each output that holds an opaque step, made by Python in Arrow batches."""
    kinds = {name: typed(expr, inputs)[1] for name, expr in outputs.items()}
    added = over_batches({name: as_json(expr) for name, expr in outputs.items()}, named, kinds)
    columns = [f"{f.name} {f.dataType.simpleString()}" for f in frame.schema.fields]
    columns += [f"p{n} {TYPES[kind]}" for n, kind in enumerate(kinds.values())]
    return frame.mapInArrow(added, ", ".join(columns))


def _readers(frame: Any, inputs: Mapping[str, str]) -> dict[str, str]:
    found = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
    errors: list[UnderhoodError] = []
    made: dict[str, str] = {}
    for name, kind in inputs.items():
        if name not in found:
            errors.append(SourceError("there is no such column", f"{_PLACE}.{name}", nearest(name, found)))
            continue
        text = _reader(quoted(name, SPARK), found[name], kind)
        if text:
            made[name] = text
        else:
            hint = f"cast it to {TYPES[kind]} before"
            errors.append(SourceError(f"is a {found[name]}, wanted a {kind}", f"{_PLACE}.{name}", hint))
    raise_all(errors)
    return made


def _reader(column: str, given: str, kind: str) -> str:
    if kind == NUMBER and (given in ("float", "double") or given in _WHOLE or given.startswith("decimal")):
        number = f"cast({column} as double)"
        return f"(case when abs({number}) <= 1.7976931348623157E308D then {number} end)"
    if kind == TIME and given == "timestamp":
        # by way of microseconds: a cast would go through the session's zone, where an hour may be there twice
        return f"({SPARK_ZERO} + unix_micros({column}) * {SPARK_TICK})"
    if kind == TIME and given == "date":
        return f"cast({column} as timestamp_ntz)"
    is_text = kind == TEXT and (given.startswith(("varchar", "char", "string")))
    return column if given == TYPES[kind] or is_text else ""


def values_on_spark(session: Any, outputs: Mapping[str, Expr], inputs: Mapping[str, str], table: pa.Table) -> pa.Table:
    """The values of `outputs` on the rows of an Arrow table, in its order, computed by a Spark session.

    The rows travel as Parquet in a temporary folder that the session must see.
    """
    names = {name: f"o{n}" for n, name in enumerate(outputs)}
    with tempfile.TemporaryDirectory(prefix="underhood-spark-") as scratch:
        rows, made = Path(scratch) / "rows.parquet", Path(scratch) / "made"
        table = table.select(list(inputs)).append_column("__n", pa.array(range(table.num_rows), pa.int64()))
        pq.write_table(table, rows, coerce_timestamps="us")
        columns = ", ".join(f"{quoted(name, SPARK)} {TYPES[kind]}" for name, kind in inputs.items())
        frame = session.read.schema(f"{columns}, `__n` bigint").parquet(str(rows))
        numbered = {names[name]: expr for name, expr in outputs.items()}
        features_on_spark(frame, numbered, inputs, ("__n",)).write.parquet(str(made))
        read = pq.read_table(made).sort_by("__n")
    return pa.table({name: read.column(short) for name, short in names.items()})


def is_installed() -> bool:
    """Whether pyspark can be imported, and Java be run."""
    return find_spec("pyspark") is not None and shutil.which("java") is not None


def local_session(threads: int = 2) -> Any:
    """A small Spark session on this machine, loopback only, without its web page, for checks.

    Raises SourceError if pyspark or Java is not there.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        hint = "pip install 'underhood[spark]', or give engines without spark"
        raise SourceError("pyspark is not installed", "spark", hint) from error
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3, which may be another
    builder = SparkSession.builder.master(f"local[{threads}]").appName("underhood")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": str(threads),
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise SourceError(
            "Spark does not start", "spark", "it needs Java 17: apt-get install openjdk-17-jre"
        ) from error
