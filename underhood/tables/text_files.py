"""CSV as it comes: packed, in any encoding, ragged, with enormous cells; no line is lost, at worst it is set aside."""

from __future__ import annotations

import codecs
import csv
import gzip
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from underhood.ground.errors import SourceError
from underhood.plan.render import quoted, sql_value

TABLES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson", ".arrow", ".feather")
EXACT = 2**53  # above it a float no longer tells two whole numbers apart
AT_ONCE = 4 << 20  # bytes
WIDEST = 256 << 20  # bytes of a line: beyond that it is set aside
HEAD = 200  # lines that tell the separator
_ERRORS, _SCANS = "underhood_csv_errors", "underhood_csv_scans"
_NOT_CP1252 = {0x81, 0x8D, 0x8F, 0x90, 0x9D}


class Reads(Protocol):
    """What reads a file: the engine."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    def attempt(self, sql: str) -> str:
        """Runs a statement; what went wrong in one line, or an empty text."""


@dataclass(frozen=True)
class ReadText:
    """A CSV in a table of the engine. `columns` have DuckDB's types; `rejected` lines are in the other table."""

    shown: str
    columns: tuple[tuple[str, str], ...]
    separator: str
    rejected: int
    notes: tuple[str, ...] = ()

    def complaint(self, line: int, text: str, why: str) -> str:
        """What is wrong with a line that does not fit."""
        n = len(next(iter(_rows([text], self.separator or ",")), []))
        if "columns" in why:
            return f"line {line} has {n} values, the header names {len(self.columns)} columns"
        return f"line {line} cannot be read: {why} ({text[:60]})"


def unpacked(path: Path, scratch: Path) -> Path:
    """The one table in a zip or gz file, in the folder `scratch`; any other file as it is."""
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"\x1f\x8b"):
        return _ungzipped(path, scratch)
    if path.suffix.lower() == ".gz":
        raise SourceError("is not a gz file", str(path), "fetch it again")
    return _unzipped(path, scratch) if start == b"PK\x03\x04" or path.suffix.lower() == ".zip" else path


def _ungzipped(path: Path, scratch: Path) -> Path:
    inner = Path(path.name.removesuffix(".gz"))
    target = scratch / f"member{inner.suffix or '.csv'}"
    try:
        with gzip.open(path) as packed, target.open("wb") as plain_file:
            shutil.copyfileobj(packed, plain_file)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise SourceError("is not a whole gz file", str(path), "fetch it again") from error
    return target


def _unzipped(path: Path, scratch: Path) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "xl/workbook.xml" in names:
                raise SourceError("is an Excel workbook", str(path), "save the sheet as CSV (UTF-8)")
            # macOS adds a shadow "__MACOSX/._name" to each file
            members = [m for m in names if m.lower().endswith(TABLES) and not m.startswith("__MACOSX/")]
            if len(members) != 1:
                raise SourceError(f"holds {len(members)} tables, not one", str(path), "unzip it and name the file")
            # extract by our own name: a member's name may point outside the folder
            target = scratch / f"member{Path(members[0]).suffix.lower()}"
            with archive.open(members[0]) as packed, target.open("wb") as plain_file:
                shutil.copyfileobj(packed, plain_file)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError("is not a zip file, or is damaged", str(path), "fetch it again") from error
    except (RuntimeError, NotImplementedError) as error:
        raise SourceError(f"cannot be unzipped: {error}", str(path), "unzip it and name the file") from error
    return target


def read_csv(
    engine: Reads,
    into: str,
    rejects: str,
    path: Path,
    scratch: Path,
    *,
    nulls: Sequence[str] = (),
    shown: str = "",
    as_text: Sequence[str] = (),
) -> ReadText:
    """Reads a CSV into the table `into`, and the lines that do not fit into the table `rejects` (line, text, why).

    The encoding, separator, quotes and types are found from the whole file. Columns of whole numbers stay
    exact; one that a number type cannot hold is text, as are numbers and dates in a format of their own.
    Raises SourceError if it is no table at all. `shown` is what errors call the file.
    """
    shown = shown or str(path)
    text, encoding, longest = _as_utf8(path, scratch, shown)
    head = _head(text)
    separator = separator_of(head)
    wide = [0, min(WIDEST, text.stat().st_size * 2)] if longest < 1 << 20 else [min(WIDEST, longest * 2)]
    for size in wide:
        reader = _Reader(engine, into, rejects, text, tuple(nulls), separator, size)
        complaint = reader.read(as_text)
        n_rejected = 0 if complaint else reader.n_rejected()
        n_lines = 0 if complaint else n_rejected + engine.rows(f"select count(*) from {quoted(into)}")[0][0]
        if not complaint and n_rejected * 100 <= n_lines:
            break  # otherwise a cell of many lines may be wider than a line is allowed to be
    if complaint:
        complaint = complaint.replace(f' "{text}"', "")
        raise SourceError(
            f"cannot be read: {complaint}", shown, "open it with a text editor at the line named; is it a table?"
        )
    columns = reader.columns()
    whole, notes = _whole_numbers(reader, columns), list(_notes(encoding, head, separator, columns))
    if whole:
        reader.read([*as_text, *whole])
    elif separator not in (",", "") and _has_decimal_commas(reader, columns):
        reader.decimal = ","
        reader.read(as_text)
        notes.append("numbers with a decimal comma")
    return ReadText(shown, tuple(reader.columns()), separator, reader.n_rejected(), tuple(notes))


class _Reader:
    """One way to read a file, which may have to be read again in another."""

    def __init__(
        self, engine: Reads, into: str, rejects: str, path: Path, nulls: tuple[str, ...], separator: str, widest: int
    ) -> None:
        self.engine, self.into, self.rejects, self.path = engine, into, rejects, path
        self.nulls, self.separator, self.widest, self.decimal = nulls, separator, widest, "."

    def read(self, as_text: Sequence[str] = ()) -> str:
        """Reads the file; what went wrong, or an empty text."""
        nulls = ", ".join(sql_value(n) for n in ("", *self.nulls))
        options = [f"nullstr = [{nulls}]", "sample_size = -1", "store_rejects = true"]
        options += [f"rejects_table = '{_ERRORS}'", f"rejects_scan = '{_SCANS}'"]
        if self.separator:
            options.append(f"delim = {sql_value(self.separator)}")
        if self.decimal != ".":
            options.append(f"decimal_separator = {sql_value(self.decimal)}")
        if self.widest:
            options += [f"max_line_size = {self.widest}", f"buffer_size = {self.widest * 2}", "parallel = false"]
            options += ["quote = '\"'", "escape = '\"'"]
        if as_text:
            options.append("types = {" + ", ".join(f"{sql_value(c)}: 'VARCHAR'" for c in as_text) + "}")
        for table in (_ERRORS, _SCANS):
            self.engine.attempt(f"drop table if exists {table}")
        source = f"read_csv({sql_value(str(self.path))}, {', '.join(options)})"
        return self.engine.attempt(f"create or replace table {quoted(self.into)} as select * from {source}") or (
            self.engine.attempt(
                f"create or replace table {quoted(self.rejects)} as select line, any_value(csv_line) as text, "
                "string_agg(distinct lower(error_type), ', ') as why "
                f"from {_ERRORS} group by line order by line"
            )
        )

    def n_rejected(self) -> int:
        return int(self.engine.rows(f"select count(*) from {quoted(self.rejects)}")[0][0])

    def columns(self) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self.engine.rows(f"describe {quoted(self.into)}")]

    def ask(self, columns: Sequence[str], template: str) -> list[str]:
        """The columns for which an aggregate is true."""
        if not columns:
            return []
        listed = ", ".join(template.format(quoted(c)) for c in columns)
        found = self.engine.rows(f"select {listed} from {quoted(self.into)}")[0]
        return [c for c, is_true in zip(columns, found, strict=True) if is_true]


def _whole_numbers(reader: _Reader, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Columns of whole numbers that floats would round, making different ids one (DuckDB before 2.0)."""
    floats = [name for name, kind in columns if kind == "DOUBLE"]
    rounded = reader.ask(floats, f"coalesce(max(abs({{0}})) filter (isfinite({{0}})) > {EXACT}, false)")
    if not rounded:
        return []
    reader.read(rounded)
    whole = reader.ask(rounded, "bool_and(regexp_full_match({0}, '[+-]?[0-9]+'))")
    reader.read()
    return whole


def _has_decimal_commas(reader: _Reader, columns: Sequence[tuple[str, str]]) -> bool:
    texts = [name for name, kind in columns if kind == "VARCHAR"]
    if any(kind == "DOUBLE" for _, kind in columns):
        return False  # numbers with a point: the commas are something else, or an error to be told
    return bool(
        reader.ask(texts, "bool_and(regexp_full_match({0}, '[+-]?[0-9]+(,[0-9]+)?')) and bool_or(contains({0}, ','))")
    )


def _notes(encoding: str, head: Sequence[str], separator: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    notes = (
        [f"read as {encoding}: see whether names with accents look right"] if encoding in ("cp1252", "latin_1") else []
    )
    if encoding.startswith("utf_16"):
        notes.append("read as UTF-16")
    names = [name for name, _ in columns]
    rows = _rows(head, separator or ",")
    start = next((n for n, row in enumerate(rows) if len(row) == len(names)), 0)
    if 0 < start < 50 and names[0] == rows[start][0].strip():
        notes.append(f"{start} {'line' if start == 1 else 'lines'} before the header left out")
    header = [name.strip().casefold() for name in rows[start]] if rows else []
    twice = sorted(name for name, n in Counter(header).items() if n > 1 and name)
    if twice and len(header) == len(names) and names[header.index(twice[0])].casefold() == twice[0]:
        notes.append(f"columns of the same name: {', '.join(twice[:5])}; the later ones end in _1, _2 …")
    return notes


def separator_of(head: Sequence[str]) -> str:
    """What separates the values of these lines; empty if nothing does so evenly."""
    best, found = (0.0, 0), ""
    for separator in ",;\t|":
        counts = Counter(len(row) for row in _rows(head, separator) if row)
        (width, lines), *_ = counts.most_common(1) or [(0, 0)]
        evenness = (lines / max(1, sum(counts.values())), width)
        if width > 1 and evenness > best:
            best, found = evenness, separator
    return found


def _rows(head: Sequence[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(head, delimiter=separator))
    except csv.Error:  # a cell of more than 131,072 characters
        return []


def _head(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return [
            line for line, _ in zip((file.readline(1 << 16) for _ in range(HEAD)), range(HEAD), strict=True) if line
        ]


def _as_utf8(path: Path, scratch: Path, shown: str) -> tuple[Path, str, int]:
    """The file as UTF-8, the encoding that it had, and how many bytes its longest line has."""
    if not path.stat().st_size:
        raise SourceError("has no rows", shown, "see whether whoever writes it had ended")
    encoding, longest = _encoding(path)
    with path.open("rb") as file:
        has_zeros = b"\0" in file.read(1 << 16)  # a name with one cannot be written in SQL
    if encoding == "utf_8" and not has_zeros:
        return path, encoding, longest
    target = scratch / f"utf8-{path.name}"
    with path.open("rb") as file, target.open("w", encoding="utf-8", newline="") as out:
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        while chunk := file.read(AT_ONCE):
            out.write(decoder.decode(chunk).replace("\0", "␀"))
        out.write(decoder.decode(b"", True))
    return target, encoding, longest


def _encoding(path: Path) -> tuple[str, int]:
    """UTF-8 unless more lines speak against it than for it; UTF-16 by its mark or its zeros; else Windows-1252."""
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf_16", 0
        if start[1::2].count(0) > len(start) // 4:
            return "utf_16_le", 0
        if start[::2].count(0) > len(start) // 4:
            return "utf_16_be", 0
        file.seek(0)
        longest, n_good, n_bad, eight_bit = 0, 0, 0, "cp1252"
        for line in file:
            longest = max(longest, len(line))
            if not line.isascii():
                try:
                    line.decode()
                    n_good += 1
                except UnicodeDecodeError:
                    n_bad += 1
                    eight_bit = "latin_1" if set(line) & _NOT_CP1252 else eight_bit
    return ("utf_8" if n_bad <= n_good else eight_bit), longest
