"""The writing end of the log: append-only, one file per process, committed before `append` returns.

A decision that was acknowledged is found again after `kill -9`, and with
durability "disk" after a power cut. An entry that was refused may still be found
(the disk failed after writing): send it again under the same id, readers show an id once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from underhood.ground.errors import RecordError
from underhood.ground.records import Entry
from underhood.record.hot import INSERT, HotFile, Line, create, line_of
from underhood.record.sqlite import Durability, code, failure, leave_to_parent, watch_forks

_FATAL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY)


@dataclass
class _Batch:
    """What shares one commit; nobody is told that it is kept before `failure` is None."""

    lines: list[Line] = field(default_factory=list)
    settled: threading.Event = field(default_factory=threading.Event)
    failure: RecordError | None = field(default_factory=lambda: RecordError("the commit was interrupted"))


class Log:
    """The writing end. Many threads may append at once; whatever arrives during one commit shares the next.

    `commits` counts commits, `path` is the file being written. A forked child
    writes a file of its own, from its first append on.
    """

    def __init__(
        self,
        record: Path,
        durability: Durability = "disk",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Makes the folder if missing; `now` only names the file. Raises RecordError if it cannot."""
        self.record, self.durability, self.commits, self._now = record, durability, 0, now
        self._closed = False
        self._file: HotFile | None = None
        self.after_fork()
        watch_forks(self)
        self._opened()

    @property
    def path(self) -> Path | None:
        """The file being written; null after an I/O error, a fork and `close`, until the next append."""
        return self._file.path if self._file else None

    def append(self, entries: Sequence[Entry]) -> None:
        """Returns when all entries are committed. NaN and infinity are written as null.

        Raises RecordError, with none of the entries acknowledged, if one cannot be
        written as JSON, has a malformed kind or time, or if the disk refuses. The
        next append tries anew.
        """
        lines = [line_of(entry) for entry in entries]
        if not lines:
            return
        with self._gate:
            batch = self._forming
            leads = not batch.lines
            batch.lines += lines
        if leads:
            self._lead(batch)
        else:
            batch.settled.wait()
        if batch.failure is not None:
            why = batch.failure
            raise type(why)(why.what, why.where, why.hint) from why.__cause__

    def rotate(self) -> Path | None:
        """Goes on in a new file and returns the one that may now be sealed, null if there was none."""
        with self._writing:
            left = self.path
            self._drop()
            self._opened()
        return left

    def close(self) -> None:
        """Ends writing and lets the file be sealed. Closing twice is fine."""
        with self._writing:
            self._closed = True
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Starts over: in a child, the locks may be held by threads that do not exist there."""
        inherited, self._file = self._file, None
        if inherited:
            leave_to_parent(inherited.db)
            os.close(inherited.lock)
        self._gate, self._writing, self._forming = threading.Lock(), threading.Lock(), _Batch()

    def _lead(self, batch: _Batch) -> None:
        """Commits for all who join until the commit before this one has ended."""
        try:
            with self._writing:
                self._part_from(batch)
                batch.failure = self._commit(batch.lines)
        finally:
            # An interrupted leader must neither be joined nor leave its followers waiting.
            self._part_from(batch)
            batch.settled.set()

    def _part_from(self, batch: _Batch) -> None:
        with self._gate:
            if self._forming is batch:
                self._forming = _Batch()

    def _commit(self, lines: list[Line]) -> RecordError | None:
        try:
            file = self._opened()
        except RecordError as error:
            return error
        db = file.db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, lines)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            why = failure(f"{len(lines)} entries were not recorded", file.path, error)
            why.__cause__ = error
            # After a failed fsync nobody knows what the disk holds, so that file is never written again.
            self._settle(drop=code(error) in _FATAL)
            return why
        finally:
            if self._file and db.in_transaction:
                self._settle(drop=False)
        self.commits += 1
        return None

    def _settle(self, drop: bool) -> None:
        try:
            if self._file and self._file.db.in_transaction:
                self._file.db.execute("ROLLBACK")
        except sqlite3.Error:
            drop = True
        if drop:
            self._drop()

    def _opened(self) -> HotFile:
        if self._closed:
            raise RecordError("the log is closed", str(self.record / "log"), "open it again: Log(record)")
        if self._file is None:
            self._file = create(self.record, self.durability, self._now())
        return self._file

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file:
            with contextlib.suppress(sqlite3.Error):
                file.db.close()
            os.close(file.lock)
