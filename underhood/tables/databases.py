"""A table of a database, read once: SQLite by Python's own library, DuckDB by itself, PostgreSQL by an extra."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from underhood.ground.errors import SourceError
from underhood.plan.render import quoted, sql_value
from underhood.tables.local import Engine

AT_ONCE = 10_000  # rows
_SCHEMES = ("sqlite", "duckdb", "postgresql", "postgres")


def is_database(text: str) -> bool:
    """Whether a text names a database, or a table in one: by its scheme, or by the first bytes of the file."""
    if "://" in text:
        return text.partition("://")[0] in _SCHEMES
    path = Path(text.partition("#")[0])
    return path.is_file() and _kind(path) != ""


def table_names(text: str) -> list[str]:
    """The tables and views of a database. Raises SourceError if it cannot be opened."""
    scheme, place = _placed(text)
    if scheme == "sqlite":
        sql = "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%' order by 1"
        with closing(_sqlite(place)) as connection:
            return [row[0] for row in _asked(connection, sql, place)]
    if scheme == "duckdb":
        with Engine() as engine:
            _attach(engine, place)
            found = engine.rows("select table_name from duckdb_tables() where database_name = 'other' order by 1")
            views = engine.rows(
                "select view_name from duckdb_views() where database_name = 'other' and not internal order by 1"
            )
            return [row[0] for row in [*found, *views]]
    with closing(_postgres(place)) as connection:
        sql = (
            "select case when table_schema = 'public' then table_name else table_schema || '.' || table_name end "
            "from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') order by 1"
        )
        return [row[0] for row in connection.execute(sql).fetchall()]


def read_table(engine: Engine, into: str, text: str, table: str) -> None:
    """Copies a database's table into the engine's table `into`, column by column of one type.

    SQLite has a type a value: a column of whole numbers and others becomes floats, one of numbers and
    texts becomes texts; a column declared as a date or time is one if all its values are. Raises SourceError.
    """
    scheme, place = _placed(text)
    if scheme == "duckdb":
        _attach(engine, place)
        try:
            engine.run(f"create or replace table {quoted(into)} as select * from other.{quoted(table)}")
        finally:
            engine.run("detach other")
        return
    if scheme == "sqlite":
        with closing(_sqlite(place)) as connection:
            _copy_sqlite(engine, into, connection, table, place)
        return
    with closing(_postgres(place)) as connection:
        parts = ".".join(quoted(part) for part in table.split("."))
        cursor = connection.execute(f"select * from {parts}")
        names = [column.name for column in cursor.description]
        types = [_POSTGRES.get(column.type_code, "VARCHAR") for column in cursor.description]
        _fill(engine, into, names, types, cursor)


def _placed(text: str) -> tuple[str, str]:
    """The kind of database and where it is: a path, or for PostgreSQL the whole URL."""
    base = text.partition("#")[0]
    scheme, separator, _ = base.partition("://")
    if not separator:
        return _kind(Path(base)), base
    if scheme.startswith("postgres"):
        return "postgresql", base
    parts = urlsplit(base)
    place = unquote(parts.netloc + parts.path)
    place = place[1:] if place.startswith("/") and not base.startswith(f"{scheme}:////") else place
    path = Path(place if Path(place).exists() or not Path("/" + place).exists() else "/" + place)
    if not path.is_file():
        raise SourceError("there is no such file", str(path), f"{scheme}:///folder/file.db#table, from this folder")
    return scheme, str(path)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return "sqlite" if start.startswith(b"SQLite format 3") else "duckdb" if start[8:12] == b"DUCK" else ""


def _attach(engine: Engine, place: str) -> None:
    complaint = engine.attempt(f"attach {sql_value(place)} as other (read_only)")
    if complaint:
        raise SourceError(f"cannot be opened: {complaint}", place, "close what writes it, or export it to Parquet")


# --- SQLite ---


def _sqlite(place: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(place).resolve().as_uri()}?mode=ro", uri=True)


def _asked(connection: sqlite3.Connection, sql: str, place: str) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.Error as error:
        raise SourceError(
            f"cannot be read: {error}", place, "is it a sound SQLite file? see: pragma integrity_check"
        ) from error


def _copy_sqlite(engine: Engine, into: str, connection: sqlite3.Connection, table: str, place: str) -> None:
    declared = {row[1]: row[2].upper() for row in _asked(connection, f"pragma table_info({quoted(table)})", place)}
    names = list(declared)
    flags = ", ".join(
        f"max(typeof({c}) = 'text'), max(typeof({c}) = 'real'), max(typeof({c}) = 'integer'), max(typeof({c}) = 'blob')"
        for c in map(quoted, names)
    )
    seen = _asked(connection, f"select {flags} from {quoted(table)}", place)[0]
    types = [_sqlite_type(seen[4 * n : 4 * n + 4]) for n in range(len(names))]
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    rows = _asked_all(connection, f"select {', '.join(map(quoted, names))} from {quoted(table)}", place)
    _fill(engine, into, names, types, rows)
    for name, kind in declared.items():
        if ("DATE" in kind or "TIME" in kind) and types[names.index(name)] == "VARCHAR":
            to = "DATE" if kind == "DATE" else "TIMESTAMP"
            engine.attempt(f"alter table {quoted(into)} alter {quoted(name)} type {to}")


def _sqlite_type(seen: Sequence[int | None]) -> str:
    has_text, has_real, has_whole, has_bytes = (bool(flag) for flag in seen)
    if has_bytes:
        return "BLOB"
    if has_text or not (has_real or has_whole):
        return "VARCHAR"
    return "DOUBLE" if has_real else "BIGINT"


def _asked_all(connection: sqlite3.Connection, sql: str, place: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from connection.execute(sql)
    except sqlite3.Error as error:
        raise SourceError(f"cannot be read to its end: {error}", place, "see: pragma integrity_check") from error


# --- PostgreSQL ---

# object ids of its built-in types (pg_type.dat)
_POSTGRES = {16: "BOOLEAN", 20: "BIGINT", 21: "BIGINT", 23: "BIGINT", 700: "DOUBLE", 701: "DOUBLE", 1082: "DATE"}
_POSTGRES |= {1114: "TIMESTAMP", 1184: "TIMESTAMPTZ", 1700: "DOUBLE"}


def _postgres(url: str) -> Any:
    try:
        import psycopg
    except ModuleNotFoundError as error:
        hint = "pip install 'underhood[postgres]', or export the table: \\copy t to 't.csv' csv header"
        raise SourceError("PostgreSQL is read by psycopg, which is not installed", url, hint) from error
    try:
        return psycopg.connect(url)
    except psycopg.Error as error:
        raise SourceError(
            f"cannot be opened: {str(error).strip()}", urlsplit(url).hostname or url, "see psql"
        ) from error


# --- into the engine ---


def _fill(engine: Engine, into: str, names: Sequence[str], types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    listed = ", ".join(f"{quoted(name)} {kind}" for name, kind in zip(names, types, strict=True))
    engine.run(f"create or replace table {quoted(into)} ({listed})")
    for chunk in _chunks(rows):
        columns = {
            str(n): [_as(kind, value) for value in values]
            for n, (kind, values) in enumerate(zip(types, zip(*chunk, strict=True), strict=True))
        }
        engine.adopt("rows of a database", columns)
        engine.run(f'insert into {quoted(into)} select * from "rows of a database"')


def _chunks(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    chunk: list[Sequence[Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _as(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "VARCHAR":
        return value if isinstance(value, str) else str(value)
    if kind == "BLOB":
        return value if isinstance(value, bytes) else str(value).encode()
    return float(value) if kind == "DOUBLE" else value
