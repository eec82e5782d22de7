"""Any table as a view of the engine: CSV, Parquet, Arrow, pandas, Polars, a database's table, a URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underhood.ground.errors import SourceError, nearest
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.tables.local import Engine

OTHER = "other"  # lists, structs, bytes: counted, never looked into


@dataclass(frozen=True)
class Table:
    """A table that the engine can read by `name`, a view. `columns` maps a column to DuckDB's type.

    `kinds` maps it to number, flag, text, time or other; `origin` says where
    the table came from.
    """

    name: str
    columns: Mapping[str, str]
    kinds: Mapping[str, str]
    rows: int
    origin: str


def kind_of(sql_type: str) -> str:
    """The kind of a DuckDB type: number, flag, text, time or other."""
    if sql_type == "BOOLEAN":
        return FLAG
    if sql_type == "VARCHAR" or sql_type == "UUID" or sql_type.startswith("ENUM"):
        return TEXT
    if sql_type == "DATE" or sql_type.startswith("TIMESTAMP"):
        return TIME
    whole = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
    is_number = sql_type in ("DOUBLE", "FLOAT") or sql_type.startswith("DECIMAL")
    return NUMBER if is_number or sql_type.removeprefix("U") in whole else OTHER


def open_table(engine: Engine, what: Any, name: str = "") -> Table:
    """Names a table as a view, without copying it where that can be helped.

    `what` is a path (CSV, Parquet). Raises SourceError if it cannot be read.
    """
    path = Path(str(what))
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError("there is no such file", str(path), nearest(path.name, there))
    named = name or path.name.removesuffix(path.suffix)
    reader = "read_parquet" if path.suffix == ".parquet" else "read_csv"
    options = "" if path.suffix == ".parquet" else ", sample_size = -1"
    engine.view(named, f"select * from {reader}({sql_value(str(path))}{options})")
    return described(engine, named, str(path))


def described(engine: Engine, name: str, origin: str = "") -> Table:
    """The table that a view of the engine shows."""
    columns = {row[0]: row[1] for row in engine.rows(f"describe {quoted(name)}")}
    rows = engine.rows(f"select count(*) from {quoted(name)}")[0][0]
    return Table(name, columns, {c: kind_of(t) for c, t in columns.items()}, rows, origin or name)
