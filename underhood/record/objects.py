"""Content-named files that never change: bundles, training sets, complaints, reports.

A name is `<kind>-<first 20 hex digits of the SHA-256><suffix>`: whoever holds a
name can tell whether the bytes are the ones that were meant. (80 bits guard against
damage and accident, not against someone who searches for a collision.)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from underhood.ground.errors import CorruptError, NotFoundError, RecordError, nearest

TEMPORARY = ".tmp-"
_DIGITS = 20
_CHUNK = 1 << 20
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SUFFIX = re.compile(r"(?:\.[a-z0-9]{1,12}){0,2}")
_NAME = re.compile(rf"{_KIND.pattern}-([0-9a-f]{{{_DIGITS}}}){_SUFFIX.pattern}")


def put(record: Path, kind: str, data: bytes, suffix: str = "") -> str:
    """Keeps `data` and returns its name; the same bytes again are the same name, and heal a damaged file.

    On return the file survives a power cut. Raises RecordError if `kind` or
    `suffix` cannot be part of a name, or if the disk refuses.
    """
    return _keep(record, kind, suffix, hashlib.sha256(data).hexdigest(), (data,))


def put_file(record: Path, kind: str, path: Path, suffix: str = "") -> str:
    """As `put`, with the bytes of the file at `path`, which is read twice, in pieces of 1 MiB."""
    try:
        return _keep(record, kind, suffix, _digest(path), _pieces(path))
    except OSError as error:
        raise RecordError(f"cannot be read: {error.strerror}", str(path), "is the file there?") from error


def get(record: Path, name: str) -> bytes:
    """The bytes of that name, verified.

    Raises CorruptError if they are not the bytes that were put, NotFoundError if there are none.
    """
    where = path(record, name)
    data = _read(where)
    if hashlib.sha256(data).hexdigest()[:_DIGITS] != _digits(name):
        raise _corrupt(where)
    return data


def path(record: Path, name: str, verify: bool = False) -> Path:
    """Where the file of that name lies; `verify` reads it through and compares the digest.

    Raises NotFoundError if there is none, CorruptError if it does not verify.
    """
    _digits(name)
    where = folder(record) / name
    if not where.is_file():
        raise NotFoundError(f"there is no object {name}", str(folder(record)), nearest(name, names(record)))
    if verify and _digest(where)[:_DIGITS] != _digits(name):
        raise _corrupt(where)
    return where


def find(record: Path, prefix: str) -> str:
    """The one name that begins with `prefix`. Raises NotFoundError if none does, or several."""
    known = names(record)
    found = [name for name in known if name.startswith(prefix)]
    if prefix in found or len(found) == 1:
        return prefix if prefix in found else found[0]
    if found:
        hint = "one of " + ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise NotFoundError(f"{len(found)} objects begin with {prefix!r}", str(folder(record)), hint)
    raise NotFoundError(f"no object begins with {prefix!r}", str(folder(record)), nearest(prefix, known))


def names(record: Path, kind: str = "") -> list[str]:
    """All names, sorted; of one kind if given. Strange and temporary files are left out."""
    try:
        found = sorted(entry.name for entry in os.scandir(folder(record)) if _NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []
    return [name for name in found if name.startswith(f"{kind}-")] if kind else found


def folder(record: Path) -> Path:
    """The folder of the objects."""
    return record / "objects"


def write_durably(target: Path, pieces: Iterable[bytes], mode: int = 0o644) -> None:
    """Makes the file `target` of `pieces`, whole or not at all, so that it survives a power cut.

    Missing folders are made. Raises OSError, and then leaves no temporary file.
    """
    make_folder(target.parent)
    draft = target.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}")
    try:
        # buffering=0 would make short writes our business; the buffered writer loops until all is written.
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    sync_folder(target.parent)


def make_folder(where: Path) -> None:
    """Makes a folder and those above it, each name fsynced into its parent. Raises OSError."""
    if where.is_dir():
        return
    make_folder(where.parent)
    where.mkdir(exist_ok=True)
    sync_folder(where.parent)


def sync_folder(where: Path) -> None:
    """Makes the names in a folder survive a power cut: a renamed file is not durable before that."""
    handle = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _keep(record: Path, kind: str, suffix: str, digest: str, pieces: Iterable[bytes]) -> str:
    if not _KIND.fullmatch(kind) or not _SUFFIX.fullmatch(suffix):
        raise RecordError(
            f"{kind!r} with suffix {suffix!r} cannot be part of a name",
            str(folder(record)),
            "lower case letters, digits and _, up to 32; a suffix like .json",
        )
    name = f"{kind}-{digest[:_DIGITS]}{suffix}"
    target = folder(record) / name
    try:
        if not target.is_file() or _digest(target) != digest:
            write_durably(target, _same(pieces, digest), 0o444)
    except OSError as error:
        raise RecordError(
            f"the {kind} could not be kept: {error.strerror or error}",
            str(target),
            "free space or allow writing there, then repeat: nothing was kept",
        ) from error
    return name


def _same(pieces: Iterable[bytes], digest: str) -> Iterator[bytes]:
    """The pieces, refused at the end if the file changed between its two readings."""
    seen = hashlib.sha256()
    for piece in pieces:
        seen.update(piece)
        yield piece
    if seen.hexdigest() != digest:
        raise OSError("the file changed while it was read")


def _pieces(where: Path) -> Iterator[bytes]:
    with where.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _digest(where: Path) -> str:
    with where.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digits(name: str) -> str:
    match = _NAME.fullmatch(name)
    if not match:
        hint = "a name looks like bundle-0123456789abcdef0123.json"
        raise NotFoundError(f"{name!r} is not the name of an object", "objects", hint)
    return match[1]


def _read(where: Path) -> bytes:
    try:
        return where.read_bytes()
    except OSError as error:
        raise RecordError(f"cannot be read: {error.strerror}", str(where), "underhood doctor") from error


def _corrupt(where: Path) -> CorruptError:
    return CorruptError(
        "the bytes are not the ones that were put: the digest differs from the name",
        str(where),
        "restore it from a copy or make it again: what is made again has the same name and heals it",
    )
