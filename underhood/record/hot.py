"""The hot files of the log: which there are, who writes them, what they hold.

One SQLite file per writing process and, beside it, a file that the writer keeps
locked: what is not locked is closed, however its writer ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from underhood.ground.errors import CorruptError, RecordError, UnderhoodError
from underhood.ground.records import Entry
from underhood.record.objects import make_folder, sync_folder
from underhood.record.sqlite import Durability, connect, failure, reading

Line = tuple[str, str, str, bytes, int]

INSERT = "INSERT INTO entries(kind, id, at, body, crc) VALUES (?, ?, ?, ?, ?)"
HOT = r"hot-[0-9]{8}T[0-9]{6}-[0-9]+-[0-9a-f]+"
_TABLE = "CREATE TABLE entries(seq INTEGER PRIMARY KEY, kind TEXT, id TEXT, at TEXT, body BLOB, crc INTEGER)"
_KIND = re.compile(r"[a-z][a-z_]{0,31}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")
_SELECT = "SELECT seq, kind, id, at, body, crc FROM entries WHERE seq > ? ORDER BY seq LIMIT ?"
# Short reads, because a reader inside a file keeps SQLite from starting its WAL over.
_PAGE = 4096


@dataclass(frozen=True)
class HotFile:
    """A hot file that this process writes; the lock on the file beside it says so to others."""

    path: Path
    db: sqlite3.Connection
    lock: int


def create(record: Path, durability: Durability, now: datetime) -> HotFile:
    """A new file to write, locked. Raises RecordError, and then leaves nothing behind."""
    folder = record / "log"
    path = folder / f"{hot_name(now)}.sqlite"
    lock = db = None
    try:
        make_folder(folder)
        lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        db = connect(path, durability)
        db.execute(_TABLE)
        sync_folder(folder)
        return HotFile(path, db, lock)
    except (OSError, sqlite3.Error) as error:
        if db is not None:
            db.close()
        if lock is not None:
            remove_hot(path)
            os.close(lock)
        if isinstance(error, sqlite3.Error):
            raise failure("the log cannot be opened for writing", path, error) from error
        why = f"the log cannot be opened for writing: {error.strerror}"
        raise RecordError(why, str(folder), "allow writing there; it must be a local disk") from error


def hot_name(now: datetime) -> str:
    """A name that no other hot file has, without its suffix."""
    return f"hot-{now:%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}"


def line_of(entry: Entry) -> Line:
    """One entry as it is stored. Raises RecordError here, before it can spoil the commit of others."""
    where = f"{entry.kind} {entry.id}"
    if not _KIND.fullmatch(entry.kind):
        raise RecordError(f"{entry.kind!r} cannot be a kind", where, "lower case letters and _, up to 32")
    if not _MOMENT.fullmatch(entry.at):
        raise RecordError(f"{entry.at!r} is not a time", where, "UTC like 2013-03-08T19:00:00.000000")
    try:
        body = _encoder.encode(entry.body)
        return entry.kind, entry.id, entry.at, body, _crc(entry.kind, entry.id, entry.at, body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        hint = "text, numbers, true, false, null, and lists and mappings of them"
        raise RecordError(f"the body cannot be written as JSON: {error}", ascii(where), hint) from error


def read_hot(
    record: Path, kinds: Collection[str] | None = None, bad: list[UnderhoodError] | None = None
) -> Iterator[Entry]:
    """The entries of all files not sealed yet, also of those being written, file by file as written.

    A file that is sealed meanwhile is left out: `seal.table` is the view of all.
    Unreadable entries and files raise CorruptError, or are added to `bad` and passed over.
    """
    for path in hot_files(record):
        yield from read_file(path, kinds, bad)


def hot_files(record: Path, sealed: bool = False) -> list[Path]:
    """The hot files, oldest first: those not sealed yet, or with `sealed` those sealed but still there."""
    found = sorted(p for p in (record / "log").glob("hot-*.sqlite") if re.fullmatch(HOT, p.stem))
    return [path for path in found if manifest_of(path).exists() == sealed]


def manifest_of(hot: Path) -> Path:
    """Where the file lies that says that a hot file is sealed."""
    return hot.parent.parent / "sealed" / f"{hot.stem}.json"


def read_file(
    path: Path, kinds: Collection[str] | None = None, bad: list[UnderhoodError] | None = None
) -> Iterator[Entry]:
    """The entries of one hot file; as `read_hot`. A file that has just been made or removed has none."""
    last = 0
    try:
        with reading(path) as db:
            while page := db.execute(_SELECT, (last, _PAGE)).fetchall():
                last = page[-1][0]
                for seq, *line in page:
                    if kinds is None or line[0] in kinds:
                        yield from _entry(path, seq, line, bad)
    except sqlite3.Error as error:
        if "no such table" in str(error) or not path.exists():
            return
        damage = failure(f"entries after {last} cannot be read", path, error)
        if bad is None:
            raise damage from error
        bad.append(damage)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether nobody writes this hot file, and then nobody else seals it inside the `with`.

    The kernel drops a writer's lock when it ends in whatever way, so neither pids
    nor ages are guessed at. Raises OSError if locks cannot be had there.
    """
    lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = True
    except BlockingIOError:
        mine = False
    try:
        if not path.exists():  # sealed by another process while we waited for nothing
            mine = False
        yield mine
    finally:
        os.close(lock)


def remove_hot(path: Path) -> None:
    """Removes a hot file and what lies beside it; the file itself first. Raises OSError.

    First, because a reader that still finds it may trust that its WAL was there too.
    """
    for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm")), _lock_of(path)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(each)


def _lock_of(path: Path) -> Path:
    # Beside the file: closing any handle on the file itself would drop SQLite's own POSIX locks on it.
    return path.with_suffix(".lock")


def _entry(path: Path, seq: int, line: list[object], bad: list[UnderhoodError] | None) -> Iterator[Entry]:
    match line:
        case [str(kind), str(id), str(at), bytes(body), crc] if crc == _crc(kind, id, at, body):
            yield Entry(kind, id, at, msgspec.json.decode(body))
            return
    damage = CorruptError(f"entry {seq} is not what was written", str(path), "underhood doctor")
    if bad is None:
        raise damage
    bad.append(damage)


def _crc(kind: str, id: str, at: str, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{kind}\0{id}\0{at}".encode()))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
