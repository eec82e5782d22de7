"""A plan carried out on this machine: DuckDB in memory over Parquet.

The only file that names duckdb. What is computed here is kept in the record's
`cache/`, named by the digest of what it was made from, and can be deleted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from underhood.ground.errors import ContractError, SourceError, UnderhoodError, nearest, raise_all
from underhood.plan.exprs import Expr, digest
from underhood.plan.joins import Plan, asks_sql, join_definition, join_sql, most_sql, settle, ways_of
from underhood.plan.literals import DUCKDB
from underhood.plan.opaque import opaque_steps
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.plan.sources import Schema, Typed, is_rekeyed, key_sql, removed_sql, source_sql
from underhood.plan.steps import Source, System, plain, sources_of
from underhood.tables.batches import SQL_TYPES, batched, check_sql
from underhood.tables.columns import arrow_of, numpy_of
from underhood.tables.mistyped import mistyped
from underhood.tables.quarantine import hold
from underhood.tables.text_files import EXACT, read_csv, unpacked

Frame = Mapping[str, np.ndarray[Any, Any]]

AT_ONCE = 4096  # rows
REJECTED = "lines that do not fit"
_TYPES = {"DOUBLE": NUMBER, "BOOLEAN": FLAG, "VARCHAR": TEXT, "TIMESTAMP": TIME}
_IN_BATCHES: Any = {"type": "arrow", "null_handling": "special"}
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_CACHE_VERSION = 3


class Engine:
    """An in-memory DuckDB: UTC, an honest memory limit, no access to the network.

    Use as a context manager. `memory_mb` bounds DuckDB's own memory; larger work
    spills into a temporary folder that goes with the engine.
    """

    def __init__(self, memory_mb: int = 1200, threads: int | None = None) -> None:
        self._spill = tempfile.mkdtemp(prefix="underhood-")
        self._learned: set[str] = set()
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

    @property
    def scratch(self) -> Path:
        """A folder of its own, which goes with the engine."""
        return Path(self._spill)

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
        """Runs a statement that returns nothing. Raises SourceError if a file that it reads is gone or damaged."""
        self.rows(sql)

    def attempt(self, sql: str) -> str:
        """Runs a statement; what went wrong in one line, or an empty text. For files, which may be anything."""
        try:
            self.run(sql)
        except duckdb.Error as error:
            lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
            told = lines[0].partition("Error: ")[2] or lines[0]
            why = next(
                (line for line in lines[1:] if not line.startswith(("Original Line", "Possible", "*", "LINE"))), ""
            )
            return " ".join(f"{told} {why}".split())[:300]
        return ""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A second connection to the same tables and views, for reading a stream while the engine does other work."""
        return self._con.cursor()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises SourceError if a file that it reads is gone or damaged."""
        try:
            found: list[tuple[Any, ...]] = self._con.execute(sql).fetchall()
        except duckdb.IOException as error:
            first = str(error).strip().splitlines()[0]
            raise SourceError(f"cannot be read any more: {first}", "", "see whether the file is still there") from error
        except (duckdb.InvalidInputException, ImportError) as error:
            if "pytz" not in str(error):
                raise
            # moments with a time zone need a package that Arrow does without
            if hasattr(self._con, "abort"):
                self._con.abort()
            columns = [column.to_pylist() for column in self.table(sql).columns]
            return list(zip(*columns, strict=True))
        return found

    def table(self, sql: str) -> pa.Table:
        """A query's result as an Arrow table."""
        return self._con.sql(sql).to_arrow_table()

    def frame(self, sql: str) -> Frame:
        """A query's result by column: numbers and flags as floats (null is NaN), texts and times as objects."""
        table = self.table(sql)
        return {name: numpy_of(table.column(name)) for name in table.column_names}

    def arrays(self, sql: str) -> Frame:
        """A query's columns of doubles (null is NaN) and texts (null is None), without pyarrow, which loads pandas."""
        found = self._con.execute(sql).fetchnumpy()
        return {
            name: np.ma.filled(values, None if values.dtype == object else np.nan) for name, values in found.items()
        }

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
            raise mistyped(str(error), sql, self.rows) from error

    def view(self, name: str, sql: str) -> None:
        """Names a query; an existing view of that name is replaced."""
        self.run(f"create or replace view {quoted(name)} as {sql}")

    def register(self, name: str, table: pa.Table) -> None:
        """Names an Arrow table."""
        self._con.register(name, table)

    def adopt(self, name: str, what: Any, shown: str = "") -> None:
        """Names a frame of another library (by its Arrow stream), a mapping of columns, rows, or an Arrow file's path.

        `shown` is what errors call it.

        Raises SourceError if it has no such form.
        """
        try:
            if isinstance(what, Path):
                table = pa.ipc.open_file(what).read_all() if _is_arrow(what) else pa.ipc.open_stream(what).read_all()
            elif isinstance(what, Mapping):
                table = pa.table({column: arrow_of(values) for column, values in what.items()})
            else:
                table = pa.Table.from_pylist(what) if isinstance(what, list) else pa.table(what)
            index = [n for n in table.column_names if n.startswith("__index_level_")]  # pandas' row numbers
            table = table.drop_columns(index)
            taken: Counter[str] = Counter()
            names = []
            for each in table.column_names:
                names.append(f"{each}_{taken[each.casefold()]}" if taken[each.casefold()] else each)
                taken[each.casefold()] += 1
            self.register(name, table.rename_columns(names))
            self.rows(f"select * from {quoted(name)} limit 0")
        except (pa.ArrowException, duckdb.Error, TypeError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            hint = "give each column one type and one name"
            raise SourceError(f"is no table: {first}", shown or name, hint) from error

    def learn(self, exprs: Iterable[Expr]) -> None:
        """Makes the opaque steps of settled expressions callable, in batches. Raises ProjectError for wrong SQL."""
        exprs = check_sql(exprs, self.attempt)
        for name, step in opaque_steps(exprs).items():
            if name not in self._learned:
                self._learned.add(name)
                takes, gives = [SQL_TYPES[k] for k in step.args[0][3]], SQL_TYPES[step.args[0][1]]
                self._con.create_function(name, batched(step), takes, gives, **_IN_BATCHES)

    def texts(self, name: str, column: str, values: Sequence[str]) -> None:
        """Names a table of one column of texts and their `rank`, from 0, in the order given."""
        # as a list, not by Arrow, which loads pandas for its first array: that costs a small case a tenth of its time
        ranked = f"select unnest($1::VARCHAR[]) as {quoted(column)}, generate_subscripts($1::VARCHAR[], 1) - 1 as rank"
        self._con.execute(f"create or replace temp table {quoted(name)} as {ranked}", [list(values)])

    def schema(self, sql: str) -> Schema:
        """Column names and kernel types of a query over cached tables; hidden columns are left out."""
        described = self.rows(f"describe {sql}")
        return {row[0]: _TYPES[row[1]] for row in described if not row[0].startswith("__") and row[1] in _TYPES}


def _is_arrow(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"ARROW1"


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
    for name, source in sources_of(system.asks).items():
        try:
            hold(engine, source, raw[name], folder, record)
        except ContractError as error:
            errors.append(error)
    raise_all(errors)
    plan = settle(system, raw)
    derived = [expr for each in plan.sources.values() for expr in each.columns.values()]
    engine.learn([*derived, *plan.features.values(), plan.label])
    for each in plan.sources.values():
        _clean(engine, each, record)
    return plan


def _clean(engine: Engine, source: Typed, record: Path) -> None:
    """Names the cleaned source as a view, and what cleaning set aside as the view "removed <source>"."""
    name, raw = source.source.name, quoted(f"raw {source.source.name}")
    sql = source_sql(source, raw)
    if source.is_plain:
        engine.view(name, sql)
        return
    made_of = [sql, *engine.rows("select sql from duckdb_views() where view_name like 'raw %' order by 1")]
    cache = record / "cache" / f"{name}-cleaned-{digest(made_of)}.parquet"
    if not cache.exists():
        part = cache.with_suffix(f".{os.getpid()}.part")
        try:
            engine.run(f"copy ({sql}) to {sql_value(str(part))} (format parquet)")
            _unique(engine, source.source, part)
            os.replace(part, cache)
        finally:
            part.unlink(missing_ok=True)
    engine.view(name, f"select * from read_parquet({sql_value(str(cache))})")
    if source.has_row_steps:
        engine.view(f"removed {name}", removed_sql(source, raw))


def _import(engine: Engine, source: Source, folder: Path, record: Path) -> Schema:
    path = (folder / source.path).resolve()
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError("there is no such file", str(path), nearest(path.name, there))
    with path.open("rb") as file:
        content = file_digest(file, "sha256").hexdigest()
    made_of = [content, source.nulls, source.key, _CACHE_VERSION, *(["keys later"] if is_rekeyed(source) else [])]
    cache = record / "cache" / f"{source.name}-{digest(made_of)}.parquet"
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
            columns = _read(engine, "as read", source, path, Path(scratch))
            taken = [name for name, _ in columns if name.casefold() in ("__row", "__key")]
            if taken:
                raise SourceError("the name is taken", f"{source.name}.{taken[0]}", "rename it in the file")
            missing = [k for k in source.key if k not in dict(columns)]
            if missing:
                raise SourceError(f"has no key column {missing[0]!r}", source.name, nearest(missing[0], dict(columns)))
            casts = ", ".join(_cast(engine, reader, name, kind) for name, kind in columns)
            parts = [f"coalesce({quoted(k)}::VARCHAR, '')" for k in source.key]
            key = key_sql(parts) if parts else "__row::VARCHAR"
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
        if not is_rekeyed(source):
            _unique(engine, source, made)
        os.replace(made, cache)


def _read(engine: Engine, reader: str, source: Source, path: Path, scratch: Path) -> list[tuple[str, str]]:
    """Reads a file into the table `reader`; its columns with DuckDB's types. Raises SourceError if a line is odd."""
    table = unpacked(path, scratch)
    if table.suffix == ".parquet":
        engine.run(f"create or replace table {quoted(reader)} as select * from read_parquet({sql_value(str(table))})")
        return [(row[0], row[1]) for row in engine.rows(f"describe {quoted(reader)}")]
    read = read_csv(engine, reader, REJECTED, table, scratch, nulls=source.nulls, shown=str(path))
    if read.rejected:
        line, text, why = engine.rows(f"select line, text, why from {quoted(REJECTED)} order by line limit 1")[0]
        hint = "correct that line: a text that holds the separator needs quotes"
        raise SourceError(read.complaint(line, text, why), str(path), hint)
    if not engine.rows(f"select count(*) from {quoted(reader)}")[0][0]:
        raise SourceError("has no rows", str(path), "see whether whoever writes it had ended")
    return list(read.columns)


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

    One row for each row of the asked source, in order of asked_at. What each join
    adds is cached by itself: a changed definition makes only what it changes anew.
    Raises SourceError if a join lost or added a row.
    """
    n_rows = engine.rows(f"select count(*) from {quoted(plan.system.asks.source.name)}")[0][0]
    views = dict(engine.rows("select view_name, sql from duckdb_views() where view_name like 'raw %' order by 1"))
    made_of = [plain(plan.system.asks), plain(plan.system.label), [*views.values()], asks_sql(plan), _CACHE_VERSION]
    cache = record / "cache" / f"asks-{digest(made_of)}.parquet"
    if not cache.exists():
        made: dict[int, str] = {}
        ways = ways_of(plan, DUCKDB, rows_per_key(engine, plan))
        for n, join in enumerate(plan.system.asks.joins, 1):
            sql = join_sql(plan, n, made, ways)
            files = _files_of(plan, [plan.system.asks.source.name, join.source.name], views)
            added = record / "cache" / f"join-{digest([join_definition(plan, n), files, sql, _CACHE_VERSION])}.parquet"
            _keep(engine, sql, added, n_rows, join.source.name)
            made[n] = f"read_parquet({sql_value(str(added))})"
        _keep(engine, asks_sql(plan, made=made), cache, n_rows, plan.system.asks.source.name)
    engine.view("asks", f"select * from read_parquet({sql_value(str(cache))})")
    return cache


def rows_per_key(engine: Engine, plan: Plan) -> dict[int, int]:
    """How many rows the most frequent key of each join has, by the join's place from 1: it decides how to join."""
    joins = range(1, len(plan.system.asks.joins) + 1)
    return {n: engine.rows(most_sql(plan, n))[0][0] or 0 for n in joins}


def _files_of(plan: Plan, names: Sequence[str], views: Mapping[str, str]) -> list[str]:
    """What was read for these sources; a source that is cleaned by looking at others counts as made of all."""
    if all(plan.sources[name].is_plain for name in names):
        return [views[f"raw {name}"] for name in names]
    return [*views.values()]


def _keep(engine: Engine, sql: str, cache: Path, n_rows: int, where: str) -> None:
    """Writes a query's result if it is not there yet. Raises SourceError if it has not the rows that it must have."""
    if cache.exists():
        return
    part = cache.with_suffix(f".{os.getpid()}.part")
    try:
        engine.run(f"copy ({sql}) to {sql_value(str(part))} (format parquet)")
        after = engine.rows(f"select count(*) from read_parquet({sql_value(str(part))})")[0][0]
        if n_rows != after:
            raise SourceError(f"{n_rows:,} rows went in, {after:,} came out of the joins", where)
        os.replace(part, cache)
    finally:
        part.unlink(missing_ok=True)


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
