"""Any table as a view of the engine: CSV, Parquet, Arrow, pandas, Polars, a database's table, a URL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from underhood.ground.errors import SourceError, UnderhoodError, nearest, raise_all
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.tables.databases import is_database, read_table, table_names
from underhood.tables.downloads import downloaded
from underhood.tables.json_lines import read_json
from underhood.tables.local import Engine
from underhood.tables.text_files import TABLES, read_csv, unpacked

OTHER = "other"  # lists, structs, bytes: counted, never looked into
LARGE = 256 << 20  # bytes: from there a CSV is kept as Parquet, not in memory
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_PACKED = (".zip", ".gz")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Table:
    """A table that the engine can read by `name`, a view. `columns` maps a column to DuckDB's type.

    `kinds` maps it to number, flag, text, time or other; `origin` says where
    the table came from. Lines that could not be read are counted in `rejected` and kept, with
    their number and the reason, in the view "<name> rejected". `notes` say what was taken for granted.
    """

    name: str
    columns: Mapping[str, str]
    kinds: Mapping[str, str]
    rows: int
    origin: str
    rejected: int = 0
    notes: tuple[str, ...] = ()


def kind_of(sql_type: str) -> str:
    """The kind of a DuckDB type: number, flag, text, time or other."""
    if sql_type == "BOOLEAN":
        return FLAG
    if sql_type in ("VARCHAR", "UUID") or (sql_type.startswith("ENUM") and not sql_type.endswith("]")):
        return TEXT
    if sql_type.endswith("]"):
        return OTHER
    if sql_type == "DATE" or sql_type.startswith("TIMESTAMP"):
        return TIME
    is_number = sql_type in ("DOUBLE", "FLOAT") or sql_type.startswith("DECIMAL")
    return NUMBER if is_number or sql_type.removeprefix("U") in _WHOLE else OTHER


def open_table(engine: Engine, what: Any, name: str = "") -> Table:
    """Names a table as a view, without copying it where that can be helped.

    `what` is the path of a file (CSV, Parquet, JSON lines, Arrow; also packed by zip or gz), a folder or
    a pattern of Parquet files of the same columns, a table of a database (`sqlite:///file.db#table`,
    `duckdb:///file.db#table`, `postgresql://…#table`), a URL, or a frame with an Arrow stream (Arrow, pandas, Polars).
    Whole numbers stay exact, times without zone are taken for UTC, texts in a format of their own stay texts.
    Raises SourceError if it cannot be read.
    """
    if not isinstance(what, (str, Path)):
        return _adopted(engine, what, name or "table")
    text = str(what)
    if text.startswith(("http://", "https://")):
        return replace(_of_file(engine, downloaded(text, engine.scratch), name, text), origin=text)
    if is_database(text):
        return _of_database(engine, text, name)
    path = Path(text)
    if path.is_dir() or any(c in path.name for c in "*?["):
        return _of_many(engine, path, name)
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError("there is no such file", text, nearest(path.name, there))
    return _of_file(engine, path, name, text)


def open_folder(engine: Engine, path: str | Path, say: Say = lambda line: None) -> list[Table]:
    """Every table in a folder or a database, in order of their names; a folder of Parquet parts in it is one table.

    Raises SourceError, with all that cannot be read, if any of them cannot, or if there is none.
    """
    made, errors = open_readable(engine, path, say)
    raise_all(errors)
    return made


def open_readable(
    engine: Engine, path: str | Path, say: Say = lambda line: None
) -> tuple[list[Table], list[UnderhoodError]]:
    """The same, with what cannot be read as errors beside them. Raises SourceError if there is nothing to read."""
    made: list[Table] = []
    errors: list[UnderhoodError] = []
    taken: set[str] = set()
    for part in _parts(str(path)):
        say(f"reading {part}")
        name = _name_of(Path(part.rpartition("#")[2] or part))
        if name.casefold() in taken:
            name = Path(part).name
        taken.add(name.casefold())
        try:
            made.append(open_table(engine, part, name))
        except SourceError as error:
            errors.append(error)
    if not made and not errors:
        raise SourceError("there is no table in it", str(path), f"tables end in {', '.join((*TABLES, *_PACKED))}")
    return made, errors


def described(engine: Engine, name: str, origin: str = "") -> Table:
    """The table that a view of the engine shows."""
    columns = {row[0]: row[1] for row in engine.rows(f"describe {quoted(name)}")}
    rows = engine.rows(f"select count(*) from {quoted(name)}")[0][0]
    return Table(name, columns, {c: kind_of(t) for c, t in columns.items()}, rows, origin or name)


def see_time(table: Table, column: str) -> None:
    """Raises SourceError unless the table has that column and it is of dates or times."""
    if column not in table.columns:
        raise SourceError(f"has no column {column!r}", table.name, nearest(column, table.columns))
    if table.kinds[column] != TIME:
        times = ", ".join(c for c, kind in table.kinds.items() if kind == TIME)
        hint = f"its times are: {times}" if times else "none of its columns is read as a time"
        raise SourceError(f"{column} is {table.kinds[column]}, not a time", f"{table.name}.{column}", hint)


def _parts(path: str) -> Iterator[str]:
    if is_database(path):
        yield from (f"{path}#{table}" for table in table_names(path))
        return
    folder = Path(path)
    if not folder.is_dir():
        raise SourceError("there is no such folder", path, "name a folder with tables")
    for each in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        is_table = each.suffix.lower() in (*TABLES, *_PACKED) and each.is_file()
        if is_table or (each.is_dir() and next(each.rglob("*.parquet"), None)):
            yield str(each)


def _name_of(path: Path) -> str:
    name = path.name
    for suffix in (*_PACKED, *TABLES, ".txt", ".db", ".sqlite"):
        name = name.removesuffix(suffix)
    return name or path.name


def _of_file(engine: Engine, path: Path, name: str, shown: str) -> Table:
    named = name or _name_of(Path(shown.partition("?")[0]))
    with tempfile.TemporaryDirectory(dir=engine.scratch) as folder:
        try:
            plain = unpacked(path, Path(folder))
            with plain.open("rb") as file:
                start = file.read(16)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", shown, "see who may read it") from error
        if start.startswith(b"PAR1"):
            return _of_parquet(engine, _kept(engine, plain, path), named, shown)
        if start.startswith(b"ARROW1") or plain.suffix.lower() in (".arrow", ".feather"):
            return _adopted(engine, _kept(engine, plain, path), named, shown)
        if start.startswith((b"%PDF", b"\xd0\xcf\x11\xe0", b"\x89PNG")):
            raise SourceError("is no table", shown, "save it as CSV (UTF-8) or Parquet")
        if start.startswith(b"SQLite format 3") or start[8:12] == b"DUCK":
            return _of_database(engine, str(path), name)
        is_object = start.lstrip().startswith((b'{"', b"[{")) and plain.suffix.lower() not in (".csv", ".tsv", ".txt")
        if is_object or plain.suffix.lower() in (".json", ".jsonl", ".ndjson"):
            rejected = read_json(engine, f"{named} as read", f"{named} rejected", plain, Path(folder), shown)
            return _named(engine, named, shown, rejected)
        read = read_csv(engine, f"{named} as read", f"{named} rejected", plain, Path(folder), shown=shown)
        return _named(engine, named, shown, read.rejected, read.notes, is_large=plain.stat().st_size > LARGE)


def _kept(engine: Engine, plain: Path, path: Path) -> Path:
    """A file that outlives the folder it was unpacked into: what is read as a view is read again."""
    return (
        plain
        if plain == path
        else plain.rename(Path(engine.scratch) / f"{len(list(engine.scratch.iterdir()))}-{plain.name}")
    )


def _named(
    engine: Engine, name: str, origin: str, rejected: int = 0, notes: tuple[str, ...] = (), is_large: bool = False
) -> Table:
    """The view of a table that was read; one that is large goes to Parquet beside the engine."""
    inner = quoted(f"{name} as read")
    source = f"select * from {inner}"
    if is_large:
        file = sql_value(str(engine.scratch / f"{len(list(engine.scratch.iterdir()))}.parquet"))
        engine.run(f"copy {inner} to {file} (format parquet)")
        engine.run(f"drop table {inner}")
        source = f"select * from read_parquet({file})"
    engine.view(name, source)
    return replace(described(engine, name, origin), rejected=rejected, notes=notes)


def _of_parquet(engine: Engine, path: Path, name: str, shown: str, pattern: str = "") -> Table:
    files = sql_value(pattern or str(path))
    options = ", union_by_name = true" if pattern else ""
    complaint = engine.attempt(f"create or replace view {quoted(name)} as select * from read_parquet({files}{options})")
    if complaint:
        raise SourceError(f"is no Parquet file, or is damaged: {complaint}", shown, "fetch or write it again")
    return described(engine, name, shown)


def _of_many(engine: Engine, path: Path, name: str) -> Table:
    """Parquet files of a folder or a pattern as one table, matched by the names of their columns."""
    is_folder = path.is_dir()
    files = sorted(path.rglob("*.parquet")) if is_folder else sorted(path.parent.glob(path.name))
    if not files or any(f.suffix.lower() != ".parquet" for f in files):
        hint = "name a file in it, or look at the whole folder: underhood look FOLDER" if is_folder else ""
        raise SourceError("holds no Parquet files", str(path), hint or "only Parquet files are read by a pattern")
    pattern = str(path / "**" / "*.parquet") if is_folder else str(path)
    return _of_parquet(engine, path, name or (path.name if is_folder else path.parent.name), str(path), pattern)


def _of_database(engine: Engine, text: str, name: str) -> Table:
    tables = table_names(text)
    base, _, table = text.partition("#")
    if not table and len(tables) != 1:
        raise SourceError(f"holds {len(tables)} tables", base, f"name one: {base}#{tables[0] if tables else 'table'}")
    table = table or tables[0]
    if table not in tables:
        raise SourceError(f"has no table {table!r}", base, nearest(table, tables))
    named = name or table
    read_table(engine, f"{named} as read", base, table)
    return _named(engine, named, f"{base}#{table}")


def _adopted(engine: Engine, what: Any, name: str, origin: str = "") -> Table:
    engine.adopt(f"{name} as given", what, origin or name)
    engine.view(name, f"select * from {quoted(f'{name} as given')}")
    return described(engine, name, origin or f"a {type(what).__name__}")
