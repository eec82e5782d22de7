"""What changes: which bundle is deployed, builds, cases, patches, pins; one small SQLite file.

Times (`at`, `since`, `expires`) are UTC text that the caller gives; nothing here
reads the clock. Each method is one transaction, on the disk when it returns.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from underhood.ground.errors import NotFoundError, RecordError, nearest
from underhood.record.objects import make_folder
from underhood.record.sqlite import connect, failure, leave_to_parent, watch_forks

Body = Mapping[str, Any]
Line = Sequence[Any]

FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS deployed(
    number INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT, bundle TEXT, since TEXT, by TEXT);
CREATE TABLE IF NOT EXISTS builds(
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, at TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS cases(number INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT, state TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS patches(name TEXT PRIMARY KEY, at TEXT, expires TEXT, state TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS pins(name TEXT PRIMARY KEY, at TEXT, number INTEGER, body TEXT);
"""


@dataclass(frozen=True, slots=True)
class DeployedRow:
    """Bundle `bundle` answers for `project` since that time; `by` says who decided so."""

    project: str
    bundle: str
    since: str
    by: str


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One build, made at `at`."""

    id: str
    at: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One case, opened at `at`."""

    number: int
    at: str
    state: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PatchRow:
    """One patch, made at `at`; `expires` is null if it never does."""

    name: str
    at: str
    expires: str | None
    state: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PinRow:
    """One pinned case, pinned at `at`; `number` is the case's."""

    name: str
    at: str
    number: int
    body: dict[str, Any]


class Database:
    """The open database of a record, for many threads and processes; a forked child connects anew."""

    def __init__(self, record: Path) -> None:
        """Makes the file if missing. Raises RecordError if that fails, or a newer Underhood made it."""
        self.path = record / "underhood.db"
        self._closed = False
        self._db: sqlite3.Connection | None = None
        self._busy = threading.Lock()
        watch_forks(self)
        with self._connected("the database cannot be opened"):
            pass

    def close(self) -> None:
        """Closes it. Closing twice is fine."""
        with self._busy:
            self._closed, db, self._db = True, self._db, None
            if db:
                db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Starts over in a forked child, where neither connection nor lock may be used."""
        if self._db is not None:
            leave_to_parent(self._db)
        self._db, self._busy = None, threading.Lock()

    def deploy(self, project: str, bundle: str, since: str, by: str) -> None:
        """From now on `bundle` is the one deployed; what was before stays in the history."""
        sql = "INSERT INTO deployed(project, bundle, since, by) VALUES (?, ?, ?, ?)"
        self._write(f"{bundle} was not deployed", sql, (project, bundle, since, by))

    def deployed(self, project: str) -> DeployedRow:
        """The bundle that is deployed now. Raises NotFoundError if none ever was."""
        history = self.deployments(project)
        if not history:
            known = [row[0] for row in self._read("SELECT DISTINCT project FROM deployed")]
            raise NotFoundError(f"nothing is deployed for {project!r}", str(self.path), nearest(project, known))
        return history[0]

    def deployments(self, project: str) -> list[DeployedRow]:
        """All that were ever deployed, in order of deploying, newest first."""
        sql = "SELECT project, bundle, since, by FROM deployed WHERE project = ? ORDER BY number DESC"
        return [DeployedRow(*row) for row in self._read(sql, (project,))]

    def add_build(self, id: str, at: str, body: Body) -> None:
        """Keeps a build. The same build again is fine; raises RecordError if the id names another one."""
        text = self._json(f"build {id}", body)
        sql = "INSERT INTO builds(id, at, body) VALUES (?, ?, ?) ON CONFLICT(id) DO NOTHING"
        self._write(f"build {id} was not kept", sql, (id, at, text))
        if self.build(id).body != json.loads(text):
            raise RecordError(f"build {id} is there already and differs", str(self.path), "give it another id")

    def builds(self) -> list[BuildRow]:
        """All builds, newest first."""
        rows = self._read("SELECT id, at, body FROM builds ORDER BY number DESC")
        return [BuildRow(*_unpacked(row)) for row in rows]

    def build(self, id: str) -> BuildRow:
        """One build. Raises NotFoundError."""
        return BuildRow(*_unpacked(self._one("build", "builds", "id", id, "id, at, body")))

    def add_case(self, at: str, state: str, body: Body) -> int:
        """Opens a case and returns its number, which is never given again."""
        line = (at, state, self._json("the case", body))
        sql = "INSERT INTO cases(at, state, body) VALUES (?, ?, ?)"
        return self._write("the case was not kept", sql, line)[0]

    def save_case(self, number: int, state: str, body: Body) -> None:
        """Replaces state and body of a case. Raises NotFoundError."""
        line = (state, self._json(f"case {number}", body), number)
        sql = "UPDATE cases SET state = ?, body = ? WHERE number = ?"
        if not self._write(f"case {number} was not kept", sql, line)[1]:
            self.case(number)

    def case(self, number: int) -> CaseRow:
        """One case. Raises NotFoundError."""
        return CaseRow(*_unpacked(self._one("case", "cases", "number", number, "number, at, state, body")))

    def cases(self, state: str | None = None) -> list[CaseRow]:
        """All cases, or those in one state, newest first."""
        sql = "SELECT number, at, state, body FROM cases WHERE state = coalesce(?, state) ORDER BY number DESC"
        return [CaseRow(*_unpacked(row)) for row in self._read(sql, (state,))]

    def save_patch(self, name: str, at: str, expires: str | None, state: str, body: Body) -> None:
        """Keeps a patch, or replaces the one of that name."""
        line = (name, at, expires, state, self._json(f"patch {name}", body))
        sql = "INSERT OR REPLACE INTO patches VALUES (?, ?, ?, ?, ?)"
        self._write(f"patch {name} was not kept", sql, line)

    def patch(self, name: str) -> PatchRow:
        """One patch. Raises NotFoundError."""
        return PatchRow(*_unpacked(self._one("patch", "patches", "name", name, "name, at, expires, state, body")))

    def patches(self, state: str | None = None) -> list[PatchRow]:
        """All patches, or those in one state, by `at` then name."""
        sql = "SELECT name, at, expires, state, body FROM patches WHERE state = coalesce(?, state)"
        return [PatchRow(*_unpacked(row)) for row in self._read(f"{sql} ORDER BY at, name", (state,))]

    def save_pin(self, name: str, at: str, number: int, body: Body) -> None:
        """Keeps the pin of case `number`, or replaces the pin of that name."""
        line = (name, at, number, self._json(f"pin {name}", body))
        self._write(f"pin {name} was not kept", "INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)", line)

    def pin(self, name: str) -> PinRow:
        """One pin. Raises NotFoundError."""
        return PinRow(*_unpacked(self._one("pin", "pins", "name", name, "name, at, number, body")))

    def pins(self) -> list[PinRow]:
        """All pins, by `at` then name."""
        rows = self._read("SELECT name, at, number, body FROM pins ORDER BY at, name")
        return [PinRow(*_unpacked(row)) for row in rows]

    def _one(self, noun: str, table: str, column: str, key: str | int, columns: str) -> Line:
        rows = self._read(f"SELECT {columns} FROM {table} WHERE {column} = ?", (key,))
        if not rows:
            known = self._read(f"SELECT {column} FROM {table} ORDER BY rowid DESC LIMIT 1000")
            hint = nearest(str(key), [str(row[0]) for row in known])
            raise NotFoundError(f"there is no {noun} {key}", str(self.path), hint)
        return rows[0]

    def _json(self, what: str, body: Body) -> str:
        try:
            return json.dumps(body, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            hint = "text, finite numbers, true, false, null, and lists and dicts of them"
            raise RecordError(f"{what} cannot be written as JSON: {error}", str(self.path), hint) from error

    def _read(self, sql: str, values: Line = ()) -> list[tuple[Any, ...]]:
        with self._connected("the database cannot be read") as db:
            return db.execute(sql, values).fetchall()

    def _write(self, act: str, sql: str, values: Line) -> tuple[int, int]:
        """The number that the new row got, and how many rows were changed."""
        with self._connected(act) as db:
            done = db.execute(sql, values)
            return done.lastrowid or 0, done.rowcount

    @contextlib.contextmanager
    def _connected(self, act: str) -> Iterator[sqlite3.Connection]:
        with self._busy:
            if self._closed:
                raise RecordError(f"{act}: it is closed", str(self.path), "open it again: Database(record)")
            try:
                if self._db is None:
                    self._db = _opened(self.path)
                yield self._db
            except sqlite3.Error as error:
                raise failure(act, self.path, error) from error


def _unpacked(row: Line) -> tuple[Any, ...]:
    *head, body = row
    return (*head, json.loads(body))


def _opened(path: Path) -> sqlite3.Connection:
    try:
        make_folder(path.parent)
    except OSError as error:
        why = f"the record's folder cannot be made: {error.strerror}"
        raise RecordError(why, str(path.parent), "allow writing there, or name another folder") from error
    db = connect(path, "disk")
    made_by = db.execute("PRAGMA user_version").fetchone()[0]
    if made_by > FORMAT:
        db.close()
        why = f"has format {made_by}, this Underhood reads {FORMAT}"
        raise RecordError(why, str(path), "install the Underhood that made it, or a newer one")
    db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT")
    return db
