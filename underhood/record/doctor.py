"""What is wrong with a record, if anything: every object, entry and segment read and compared.

Changes nothing. While other processes write or seal, their unfinished files may
show up as findings; those are gone when one looks again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from underhood.ground.errors import CorruptError, NotFoundError, UnderhoodError
from underhood.record.hot import hot_files, read_file
from underhood.record.objects import TEMPORARY, folder, path
from underhood.record.seal import manifests, read_segment, segments_of
from underhood.record.sqlite import failure, reading

_SIDES = (".lock", ".sqlite-wal", ".sqlite-shm")


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong: what, where, what to try."""

    what: str
    where: str
    hint: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\ntry: {self.hint}"


def audit(record: Path) -> list[Damage]:
    """All findings, none if the record is what was written. Reads everything once."""
    rounds = (_objects, _unfinished, _hot, _sealed, _database)
    return [finding for look in rounds for finding in look(record)]


def _objects(record: Path) -> Iterator[Damage]:
    for found in sorted(folder(record).glob("*")):
        if found.name.startswith(TEMPORARY):
            continue
        try:
            path(record, found.name, verify=True)
        except CorruptError as error:
            yield _damage(error)
        except NotFoundError:
            yield Damage("is not an object: its name is not a content name", str(found), "move it elsewhere")


def _unfinished(record: Path) -> Iterator[Damage]:
    for found in sorted(record.glob(f"**/{TEMPORARY}*")):
        yield Damage("was left unfinished by a writer that was stopped", str(found), f"rm {found}")


def _hot(record: Path) -> Iterator[Damage]:
    for hot in hot_files(record, sealed=True):
        yield Damage("is sealed already and only takes space", str(hot), "underhood seal")
    for hot in hot_files(record):
        bad: list[UnderhoodError] = []
        for _ in read_file(hot, None, bad):
            pass
        yield from map(_damage, bad)
        yield from _checked(hot)
    for side in sorted(p for p in (record / "log").glob("*") if p.name.endswith(_SIDES)):
        stem = side.name.partition(".")[0]
        if not side.with_name(f"{stem}.sqlite").exists():
            hint = f"restore {stem}.sqlite, or if it was meant to go: rm {side}"
            yield Damage("belongs to a file that is not there", str(side), hint)


def _sealed(record: Path) -> Iterator[Damage]:
    named: set[Path] = set()
    for manifest in manifests(record):
        try:
            segments = segments_of(record, manifest)
        except CorruptError as error:
            yield _damage(error)
            continue
        named |= segments.keys()
        for segment, rows in segments.items():
            try:
                read_segment(segment, rows)
            except CorruptError as error:
                yield _damage(error)
    for segment in sorted((record / "sealed").glob("*/*/*.parquet")):
        if segment not in named:
            hint = f"underhood seal, and if it is still named here: rm {segment}"
            yield Damage("no manifest names it, so no reader takes it", str(segment), hint)


def _database(record: Path) -> Iterator[Damage]:
    if (record / "underhood.db").exists():
        yield from _checked(record / "underhood.db")


def _checked(file: Path) -> Iterator[Damage]:
    try:
        with reading(file) as db:
            said = [row[0] for row in db.execute("PRAGMA quick_check(3)").fetchall()]
    except sqlite3.Error as error:
        yield _damage(failure("cannot be checked", file, error))
        return
    if said != ["ok"]:
        yield Damage("is damaged: " + "; ".join(said), str(file), "restore it from a copy of the record")


def _damage(error: UnderhoodError) -> Damage:
    hint = error.hint.removeprefix("underhood doctor; ")
    return Damage(error.what, error.where, "restore it from a copy" if hint == "underhood doctor" else hint)
