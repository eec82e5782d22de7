"""The whole log as columns: hot and sealed together; and the sealing of closed hot files into Parquet by day.

A hot file is sealed when its manifest `sealed/<hot name>.json` stands: until then
readers take the hot file and ignore its Parquet, from then on the other way
round. So wherever a seal is killed, nothing is lost and nothing doubled.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from underhood.ground.errors import CorruptError, RecordError, UnderhoodError, raise_all
from underhood.ground.records import Entry
from underhood.record.hot import HOT, claimed, hot_files, manifest_of, read_file, remove_hot
from underhood.record.objects import TEMPORARY, make_folder, sync_folder, write_durably

FORMAT = 1
_LIST = pa.list_(pa.string())
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SEGMENT = re.compile(rf"kind=([a-z][a-z_]*)/day=(?:{_DAY.pattern}|unknown)/{HOT}\.parquet")
_SHARE = 2000


def table(record: Path, kind: str, bad: list[UnderhoodError] | None = None) -> pa.Table:
    """One row per entry of that kind, hot and sealed, by `at` then `id`; an id sent twice appears once.

    Columns `id`, `at`, then the body's: scalars as they are, nested mappings dotted
    (`row.origin`), lists as lists of text. Where a column's type differs: whole and
    broken numbers become double, any other mix text, as do whole numbers beyond 64 bits;
    a column without any value has type null. Raises CorruptError if something cannot
    be read, or adds it to `bad` and leaves it out.
    """
    errors: list[UnderhoodError] = []
    # Hot first: a file that is sealed and removed meanwhile is then found among the sealed, at worst twice.
    parts = [part for path in hot_files(record) for part in _read_hot(path, kind, errors)]
    parts += _read_segments(record, kind, errors)
    if bad is None:
        raise_all(errors)
    else:
        bad += errors
    return _once(_merged([part for part in parts if part.num_rows]))


def seal(record: Path, *, keep_open: frozenset[Path] = frozenset()) -> list[Path]:
    """Turns each closed hot file into Parquet by kind and day of `at`; returns the new manifests.

    Files that a living process writes and those in `keep_open` are left alone; empty
    ones are removed. Raises CorruptError for files that cannot be read in full,
    which stay as they are, after sealing the others; RecordError if the disk refuses.
    """
    made: list[Path] = []
    errors: list[UnderhoodError] = []
    try:
        for path in [*hot_files(record, sealed=True), *hot_files(record)]:
            if path not in keep_open:
                with claimed(path) as mine:
                    if mine:
                        made += _seal_one(record, path, errors)
        for manifest in manifests(record):  # what a killed seal left beside a file that it had removed
            hot = record / "log" / f"{manifest.stem}.sqlite"
            if not hot.exists():
                remove_hot(hot)
    except OSError as error:
        why = f"sealing stopped: {error.strerror or error}; nothing is lost"
        hint = "free space or allow writing there, then seal again"
        raise RecordError(why, str(error.filename or record), hint) from error
    raise_all(errors)
    return made


def manifests(record: Path) -> list[Path]:
    """The manifests, oldest first."""
    return sorted(p for p in (record / "sealed").glob("*.json") if re.fullmatch(HOT, p.stem))


def segments_of(record: Path, manifest: Path) -> dict[Path, int]:
    """The Parquet files that a manifest names, with their numbers of rows. Raises CorruptError."""
    try:
        said = msgspec.json.decode(manifest.read_bytes(), type=_Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise _damaged(manifest, f"is not a manifest: {error}") from error
    if said.format != FORMAT or not all(_SEGMENT.fullmatch(name) for name in said.files):
        raise _damaged(manifest, f"is not a manifest of format {FORMAT}")
    return {record / "sealed" / name: rows for name, rows in said.files.items()}


def read_segment(path: Path, rows: int) -> pa.Table:
    """A Parquet file of the log, its pages verified. Raises CorruptError if it is not what was sealed."""
    try:
        # Whole columns of small files: a thread per column costs more than it brings.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            read = file.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    if read.num_rows != rows:
        raise _damaged(path, f"has {read.num_rows} rows, its manifest says {rows}")
    return read


def column_types(files: Iterable[Path]) -> dict[str, set[str]]:
    """The types of each column over all files: whole and broken numbers are one, no value at all is none."""
    found: dict[str, set[str]] = {}
    for path in files:
        for column in pq.read_schema(path):
            kinds = found.setdefault(column.name, set())
            if not pa.types.is_null(column.type):
                is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
                kinds.add("number" if is_number else str(column.type))
    return found


class _Manifest(msgspec.Struct, frozen=True):
    """What was sealed: format, rows in the hot file, rows by Parquet file."""

    format: int
    rows: int
    files: dict[str, int]


def _read_hot(path: Path, kind: str, errors: list[UnderhoodError]) -> Iterator[pa.Table]:
    entries = read_file(path, {kind}, errors)
    # In small shares: else the garbage collector walks all bodies again and again (0.4 of 1.1 s).
    while share := list(islice(entries, _SHARE)):
        yield _columns(share)


def _read_segments(record: Path, kind: str, errors: list[UnderhoodError]) -> Iterator[pa.Table]:
    for manifest in manifests(record):
        try:
            segments = segments_of(record, manifest)
        except CorruptError as error:
            errors.append(error)
            continue
        for path, rows in segments.items():
            if path.parent.parent.name == f"kind={kind}":
                try:
                    yield read_segment(path, rows)
                except CorruptError as error:
                    errors.append(error)


def _seal_one(record: Path, hot: Path, errors: list[UnderhoodError]) -> list[Path]:
    manifest, n_errors = manifest_of(hot), len(errors)
    if manifest.exists():
        remove_hot(hot)
        return []
    entries = list(read_file(hot, None, errors))
    if len(errors) > n_errors:
        return []
    if entries:
        seal_columns(record, hot.stem, {where: _columns(share) for where, share in _shares(entries).items()})
    remove_hot(hot)
    return [manifest] if entries else []


def _shares(entries: list[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Entries by kind and day of `at`."""
    shares: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        day = entry.at[:10] if _DAY.fullmatch(entry.at[:10]) else "unknown"
        shares.setdefault((entry.kind, day), []).append(entry)
    return shares


def seal_columns(record: Path, hot_name: str, shares: Mapping[tuple[str, str], pa.Table]) -> Path:
    """Writes what stood in one hot file, as columns by kind and day (`table` tells which), and then its manifest."""
    files = {f"kind={kind}/day={day}/{hot_name}.parquet": share for (kind, day), share in shares.items()}
    for name, share in files.items():
        _write_segment(record / "sealed" / name, share)
    said = _Manifest(FORMAT, sum(s.num_rows for s in files.values()), {n: s.num_rows for n, s in files.items()})
    manifest = record / "sealed" / f"{hot_name}.json"
    write_durably(manifest, [msgspec.json.format(msgspec.json.encode(said))])
    return manifest


def _write_segment(path: Path, columns: pa.Table) -> None:
    make_folder(path.parent)
    draft = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}")
    try:
        with draft.open("xb") as file:
            pq.write_table(columns, file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    sync_folder(path.parent)


def _columns(entries: list[Entry]) -> pa.Table:
    """Entries as flat typed columns, in the order in which they were written."""
    flat = _flat([entry.body for entry in entries])
    flat.update(id=[entry.id for entry in entries], at=[entry.at for entry in entries])
    names = ["id", "at", *(name for name in flat if name not in ("id", "at"))]
    return pa.table({name: _array(flat[name]) for name in names})


def _flat(rows: list[Mapping[str, object]]) -> dict[str, list[object]]:
    """Rows as lists by dotted name."""
    made: dict[str, list[object]] = {}
    for name, values in _turned(rows):
        if dict in set(map(type, values)):
            nested = _flat([value if isinstance(value, dict) else {} for value in values])
            made |= {f"{name}.{inner}": column for inner, column in nested.items()}
            values = [None if isinstance(value, dict) else value for value in values]
            if not any(value is not None for value in values):
                continue
        made[name] = values
    return made


def _turned(rows: list[Mapping[str, object]]) -> Iterator[tuple[str, list[object]]]:
    """Rows as columns; rows of one shape, which is nearly always, in one stroke: a third of the time."""
    shapes = set(map(tuple, rows))
    if len(shapes) == 1:
        columns = zip(*(row.values() for row in rows), strict=True)
        yield from zip(shapes.pop(), map(list, columns), strict=True)
        return
    for name in dict.fromkeys(chain.from_iterable(rows)):
        yield name, [row.get(name) for row in rows]


def _array(values: list[object]) -> pa.Array:
    types = set(map(type, values)) - {type(None)}
    try:
        if types == {list}:
            return pa.array([None if v is None else [_text(x) for x in v] for v in values], _LIST)  # type: ignore[attr-defined]
        if types == {int, float}:
            return pa.array([None if v is None else float(v) for v in values])  # type: ignore[arg-type]
        if len(types) <= 1:
            return pa.array(values)
    except (OverflowError, pa.ArrowInvalid):
        pass  # a whole number beyond 64 bits has no other column
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: object) -> str | None:
    """A value as text; 3.0 as "3", so that it does not matter whether its column once held broken numbers."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        value = [_text(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return msgspec.json.encode(value).decode()


def _merged(parts: list[pa.Table]) -> pa.Table:
    if not parts:
        return pa.table({"id": pa.array([], pa.string()), "at": pa.array([], pa.string())})
    types: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for column in part.schema:
            types.setdefault(column.name, set()).add(_LIST if pa.types.is_list(column.type) else column.type)
    schema = pa.schema([(name, _common(seen)) for name, seen in types.items()])
    return pa.concat_tables([_shaped(part, schema) for part in parts])


def _common(types: set[pa.DataType]) -> pa.DataType:
    seen = types - {pa.null()}
    if len(seen) <= 1:
        return next(iter(seen), pa.null())
    return pa.float64() if seen == {pa.int64(), pa.float64()} else pa.string()


def _shaped(part: pa.Table, schema: pa.Schema) -> pa.Table:
    if part.schema.equals(schema):
        return part
    known = dict(zip(part.column_names, part.columns, strict=True))
    missing = part.num_rows
    columns = [_cast(known[f.name], f.type) if f.name in known else pa.nulls(missing, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    if column.type == to:
        return column
    if to == pa.string() and column.type != pa.null():
        return pa.chunked_array([pa.array([_text(value) for value in column.to_pylist()], to)])
    return column.cast(to, safe=False)


def _once(rows: pa.Table) -> pa.Table:
    rows = rows.sort_by([("at", "ascending"), ("id", "ascending")])
    if len(rows["id"].unique()) == rows.num_rows:
        return rows
    numbered = rows.select(["id"]).append_column("n", pa.array(range(rows.num_rows)))
    first = numbered.group_by("id").aggregate([("n", "min")])["n_min"]
    return rows.take(first.sort())


def _damaged(path: Path, what: str) -> CorruptError:
    return CorruptError(what, str(path), "underhood doctor; restore it from a copy of the record")
