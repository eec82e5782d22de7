"""A plan carried out on this machine: DuckDB in memory over Parquet.

The only file that names duckdb. What is computed here is kept in the record's
`cache/`, named by the digest of what it was made from, and can be deleted.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from underhood.ground.errors import SourceError, UnderhoodError, nearest, raise_all
from underhood.plan.exprs import digest
from underhood.plan.joins import Plan, Schema, asks_sql, settle, source_sql
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.plan.steps import Source, System, plain, sources_of

Frame = Mapping[str, np.ndarray[Any, Any]]

AT_ONCE = 4096  # rows
EXACT = 2**53  # above it a float no longer tells two whole numbers apart
_TYPES = {"DOUBLE": NUMBER, "BOOLEAN": FLAG, "VARCHAR": TEXT, "TIMESTAMP": TIME}
_WHOLE = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
_CACHE_VERSION = 2


class Engine:
    """An in-memory DuckDB: UTC, an honest memory limit, no access to the network.

    Use as a context manager. `memory_mb` bounds DuckDB's own memory; larger work
    spills into a temporary folder that goes with the engine.
    """

    def __init__(self, memory_mb: int = 1200, threads: int | None = None) -> None:
        self._spill = tempfile.mkdtemp(prefix="underhood-")
        self._con = duckdb.connect(
            config={
                "memory_limit": f"{memory_mb}MB",
                "threads": threads or min(os.cpu_count() or 1, 8),
                "temp_directory": self._spill,
                "autoinstall_known_extensions": False,
            }
        )
        self.run("set TimeZone = 'UTC'")
        self.run("set enable_progress_bar = false")  # it would write into --json

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the memory and the spill folder."""
        self._con.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def run(self, sql: str) -> None:
        """Runs a statement that returns nothing."""
        self._con.execute(sql).fetchall()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A second connection to the same tables and views, for reading a stream while the engine does other work."""
        return self._con.cursor()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        found: list[tuple[Any, ...]] = self._con.execute(sql).fetchall()
        return found

    def table(self, sql: str) -> pa.Table:
        """A query's result as an Arrow table."""
        return self._con.sql(sql).to_arrow_table()

    def frame(self, sql: str) -> Frame:
        """A query's result by column: numbers and flags as floats (null is NaN), texts and times as objects."""
        table = self.table(sql)
        return {name: _array(table.column(name)) for name in table.column_names}

    def dicts(self, sql: str) -> list[dict[str, Any]]:
        """A query's rows as dictionaries of Python values."""
        found: list[dict[str, Any]] = self.table(sql).to_pylist()
        return found

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query that a person wrote. Raises SourceError if it is not one SELECT, or cannot run."""
        try:
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise SourceError("is not one SELECT", "query", "the record is read, never written, by a query")
            return self.dicts(sql)
        except duckdb.Error as error:
            first = str(error).strip().splitlines()[0]
            raise SourceError(first, "query", "list columns: select * from decisions limit 1") from error

    def view(self, name: str, sql: str) -> None:
        """Names a query; an existing view of that name is replaced."""
        self.run(f"create or replace view {quoted(name)} as {sql}")

    def register(self, name: str, table: pa.Table) -> None:
        """Names an Arrow table."""
        self._con.register(name, table)

    def texts(self, name: str, column: str, values: Sequence[str]) -> None:
        """Names a table of one column of texts and their `rank`, from 0, in the order given."""
        made = {column: pa.array(list(values), pa.string()), "rank": pa.array(range(len(values)), pa.int64())}
        self.register(name, pa.table(made))

    def schema(self, sql: str) -> Schema:
        """Column names and kernel types of a query over cached tables; hidden columns are left out."""
        described = self.rows(f"describe {sql}")
        return {row[0]: _TYPES[row[1]] for row in described if not row[0].startswith("__") and row[1] in _TYPES}


def _array(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_integer(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        made: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
        return made
    if pa.types.is_string(column.type):
        coded = column.combine_chunks().dictionary_encode()
        levels = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
        return np.asarray(levels[coded.indices.fill_null(len(levels) - 1).to_numpy(zero_copy_only=False)])
    return np.array(column.to_pylist(), dtype=object)


def read_plan(engine: Engine, system: System, folder: Path, record: Path) -> Plan:
    """Reads the sources' types, settles the plan, and names each cleaned source as a view.

    `folder` is where relative paths start. Raises SourceError or ProjectError
    with all breakages at once.
    """
    raw: dict[str, Schema] = {}
    errors: list[UnderhoodError] = []
    for name, source in sources_of(system.asks).items():
        try:
            raw[name] = _import(engine, source, folder, record)
        except SourceError as error:
            errors.append(error)
    raise_all(errors)
    plan = settle(system, raw)
    for name, each in plan.sources.items():
        engine.view(name, source_sql(each, quoted(f"raw {name}")))
    return plan


def _import(engine: Engine, source: Source, folder: Path, record: Path) -> Schema:
    path = (folder / source.path).resolve()
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError("there is no such file", str(path), nearest(path.name, there))
    with path.open("rb") as file:
        content = file_digest(file, "sha256").hexdigest()
    cache = record / "cache" / f"{source.name}-{digest([content, source.nulls, source.key, _CACHE_VERSION])}.parquet"
    if not cache.exists():
        _convert(engine, source, path, cache)
    sql = f"select * from read_parquet({sql_value(str(cache))})"
    engine.view(f"raw {source.name}", sql)
    return engine.schema(sql)


def _convert(engine: Engine, source: Source, path: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
        reader = '"as read"'
        try:
            table = _unzipped(path, Path(scratch))
            columns = _read(engine, reader, source, table)
            if table.suffix != ".parquet":
                _check_text(engine, reader, table, path, [name for name, _ in columns])
            taken = [name for name, _ in columns if name.casefold() in ("__row", "__key")]
            if taken:
                raise SourceError("the name is taken", f"{source.name}.{taken[0]}", "rename it in the file")
            missing = [k for k in source.key if k not in dict(columns)]
            if missing:
                raise SourceError(f"has no key column {missing[0]!r}", source.name, nearest(missing[0], dict(columns)))
            casts = ", ".join(_cast(engine, reader, name, kind) for name, kind in columns)
            parts = ", ".join(f"coalesce({quoted(k)}::VARCHAR, '')" for k in source.key)
            key = f"concat_ws('|', {parts})" if source.key else "__row::VARCHAR"
            numbered = f"select row_number() over () as __row, * from {reader}"
            made = Path(scratch) / "made.parquet"
            engine.run(
                f"copy (select __row, {key} as __key, {casts} from ({numbered})) to {sql_value(str(made))} "
                "(format parquet)"
            )
        except duckdb.Error as error:
            first = str(error).strip().splitlines()[0]
            raise SourceError(
                f"cannot be read: {first}",
                str(path),
                "open it with a text editor at the row named, or give nulls=[...]",
            ) from error
        finally:
            engine.run(f"drop table if exists {reader}")
        _unique(engine, source, made)
        os.replace(made, cache)


def _read(engine: Engine, reader: str, source: Source, table: Path) -> list[tuple[str, str]]:
    """Reads a file into the temporary table `reader`; its columns with DuckDB's types."""

    def read(as_text: Sequence[str]) -> list[tuple[str, str]]:
        engine.run(f"create or replace temp table {reader} as select * from {_reader(source, table, as_text)}")
        return [(row[0], row[1]) for row in engine.rows(f"describe {reader}")]

    columns = read([])
    if table.suffix == ".parquet":
        return columns
    # DuckDB before 2.0 reads whole numbers of 19 digits and more as floats, which makes different ids one.
    rounded = [
        name
        for name, kind in columns
        if kind == "DOUBLE"
        and engine.rows(f"select max(abs({quoted(name)})) > {EXACT} from {reader} where isfinite({quoted(name)})")[0][0]
    ]
    if not rounded:
        return columns
    read(rounded)
    whole = [
        name
        for name in rounded
        if engine.rows(f"select bool_and(regexp_full_match({quoted(name)}, '[+-]?[0-9]+')) from {reader}")[0][0]
    ]
    return read(whole)


def _check_text(engine: Engine, reader: str, table: Path, path: Path, columns: Sequence[str]) -> None:
    """Raises SourceError if a CSV has no rows, or if its rows do not have the columns of its header."""
    if not engine.rows(f"select count(*) from {reader}")[0][0]:
        raise SourceError("has no rows", str(path), "see whether whoever writes it had ended")
    separator = next((s for s in ",;\t|" if s in columns[0]), "")
    if len(columns) > 1 or not separator:
        return
    with table.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(file, delimiter=separator)
        n = len(next(lines))
        odd = next(((lines.line_num, len(values)) for values in lines if len(values) not in (0, n)), None)
    if odd:
        raise SourceError(
            f"line {odd[0]} has {odd[1]} values, the header names {n} columns",
            str(path),
            "correct that line: a text that holds the separator needs quotes",
        )


def _unzipped(path: Path, scratch: Path) -> Path:
    if path.suffix != ".zip":
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            # macOS adds a shadow "__MACOSX/._name" to each file
            members = [
                m for m in archive.namelist() if m.endswith((".csv", ".parquet")) and not m.startswith("__MACOSX/")
            ]
            if len(members) != 1:
                raise SourceError(f"holds {len(members)} tables, not one", str(path), "unzip it and name the file")
            # extract by our own name: a member's name may point outside the folder
            target = scratch / f"member{Path(members[0]).suffix}"
            with archive.open(members[0]) as packed, target.open("wb") as plain_file:
                shutil.copyfileobj(packed, plain_file)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError("is not a zip file, or is damaged", str(path), "fetch it again") from error
    except (RuntimeError, NotImplementedError) as error:
        raise SourceError(f"cannot be unzipped: {error}", str(path), "unzip it and name the file") from error
    return target


def _reader(source: Source, path: Path, as_text: Sequence[str]) -> str:
    if path.suffix == ".parquet":
        return f"read_parquet({sql_value(str(path))})"
    nulls = ", ".join(sql_value(n) for n in ("", *source.nulls))
    types = "".join(f", {sql_value(c)}: 'VARCHAR'" for c in as_text)
    typed = f", types = {{{types[2:]}}}" if types else ""
    return f"read_csv({sql_value(str(path))}, nullstr = [{nulls}], sample_size = -1{typed})"


def _cast(engine: Engine, reader: str, name: str, kind: str) -> str:
    column = quoted(name)
    if kind in _WHOLE or kind.endswith(",0)"):
        widest = (
            engine.rows(f"select max(abs({column}::HUGEINT)) from {reader}")[0][0]
            if "BIG" in kind or "HUGE" in kind or "DECIMAL" in kind
            else 0
        )
        return f"{column}::VARCHAR as {column}" if (widest or 0) > EXACT else f"{column}::DOUBLE as {column}"
    if kind in ("DOUBLE", "FLOAT"):
        return f"case when isfinite({column}) then {column}::DOUBLE end as {column}"
    if kind.startswith("DECIMAL"):
        return f"{column}::DOUBLE as {column}"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"case when isfinite({column}) then timezone('UTC', {column}) end as {column}"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return f"case when isfinite({column}) then {column}::TIMESTAMP end as {column}"
    return column if kind == "BOOLEAN" else f"{column}::VARCHAR as {column}"


def _unique(engine: Engine, source: Source, made: Path) -> None:
    if not source.key:
        return
    table = f"read_parquet({sql_value(str(made))})"
    twice = engine.rows(f"select __key, count(*) n from {table} group by 1 having n > 1 order by n desc, 1")
    if twice:
        raise SourceError(
            f"{sum(row[1] for row in twice):,} rows share their key with another (first: {twice[0][0]})",
            f"{source.name}.{'+'.join(source.key)}",
            "add a column to key=, remove the duplicates, or leave key= out to number the rows",
        )


def read_asks(engine: Engine, plan: Plan, record: Path) -> Path:
    """The table of questions with joins, facts and label, as a cached Parquet file and as the view `asks`.

    One row for each row of the asked source, in order of asked_at. Raises
    SourceError if a join lost or added a row.
    """
    asked = plan.system.asks.source.name
    files = [row[0] for row in engine.rows("select sql from duckdb_views() where view_name like 'raw %' order by 1")]
    made_of = [plain(plan.system.asks), plain(plan.system.label), files, asks_sql(plan), _CACHE_VERSION]
    cache = record / "cache" / f"asks-{digest(made_of)}.parquet"
    if not cache.exists():
        part = cache.with_suffix(f".{os.getpid()}.part")
        try:
            engine.run(f"copy ({asks_sql(plan)}) to {sql_value(str(part))} (format parquet)")
            before = engine.rows(f"select count(*) from {quoted(asked)}")[0][0]
            after = engine.rows(f"select count(*) from read_parquet({sql_value(str(part))})")[0][0]
            if before != after:
                raise SourceError(f"{before:,} rows went in, {after:,} came out of the joins", asked)
            os.replace(part, cache)
        finally:
            part.unlink(missing_ok=True)
    engine.view("asks", f"select * from read_parquet({sql_value(str(cache))})")
    return cache


def stream_rows(
    engine: Engine, sql: str, columns: Sequence[str], times: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of a query one by one, as dictionaries of the named columns; those in `times` as ISO text.

    A stream of its own: the engine can do other work meanwhile.
    """
    listed = ", ".join(
        f"strftime({quoted(c)}, '%Y-%m-%dT%H:%M:%S.%f') as {quoted(c)}" if c in times else quoted(c) for c in columns
    )
    cursor = engine.cursor()
    cursor.execute(f"select {listed} from ({sql})")
    try:
        while rows := cursor.fetchmany(AT_ONCE):
            for row in rows:
                yield dict(zip(columns, row, strict=True))
    finally:
        cursor.close()
