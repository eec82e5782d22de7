"""One SQLite file, opened so that its promises hold: durable as said, safe over forks, errors for people."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote

from underhood.ground.errors import CorruptError, RecordError

Durability = Literal["disk", "process"]

_SYNCHRONOUS = {"disk": "FULL", "process": "NORMAL"}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_ADVICE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free space there, then send it again"),
    sqlite3.SQLITE_READONLY: ("the file cannot be written", "allow writing there, then send it again"),
    sqlite3.SQLITE_CANTOPEN: ("the file cannot be opened", "make the folder, or allow writing there"),
    sqlite3.SQLITE_IOERR: ("the disk reports an error", "look at the disk (dmesg), then send it again"),
    sqlite3.SQLITE_BUSY: ("another process has locked the file", "end that process, then send it again"),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", "underhood doctor"),
    sqlite3.SQLITE_NOTADB: ("the file is not a record's file", "underhood doctor"),
}


def connect(path: Path, durability: Durability) -> sqlite3.Connection:
    """Opens or makes a WAL file; "disk": a commit survives a power cut, "process": it survives `kill -9`.

    The caller begins and commits by hand. Raises sqlite3.Error.
    """
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL").fetchone()
        db.execute(f"PRAGMA synchronous={_SYNCHRONOUS[durability]}")
    except sqlite3.Error:
        db.close()
        raise
    return db


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, also to a file that another process is writing or has left torn."""
    place = f"file:{quote(str(path.absolute()))}?mode=ro"
    db = sqlite3.connect(place, uri=True, timeout=5.0, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


def code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 if it has none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def failure(act: str, path: Path, error: sqlite3.Error) -> RecordError:
    """The same failure for a person; a CorruptError if the file itself is damaged."""
    what, hint = _ADVICE.get(code(error), (str(error), "underhood doctor"))
    kind = CorruptError if code(error) in _DAMAGED else RecordError
    return kind(f"{act}: {what} ({error})", str(path), hint)


class Forkable(Protocol):
    """What must start over in a forked child."""

    def after_fork(self) -> None:
        """Runs in the child, before anything else does; nobody else is running."""


_open: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch_forks(owner: Forkable) -> None:
    """From now on `owner.after_fork` runs in every forked child."""
    _open.add(owner)


def leave_to_parent(db: sqlite3.Connection) -> None:
    """Makes a connection immortal in a forked child.

    SQLite forbids even closing it there, and dropping the last reference closes it.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))


def _start_over() -> None:
    for owner in list(_open):
        owner.after_fork()


os.register_at_fork(after_in_child=_start_over)
