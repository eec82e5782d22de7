"""JSON lines as a table: a record a line; a line that is none is set aside with its number and the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from underhood.ground.errors import SourceError
from underhood.plan.render import quoted, sql_value
from underhood.tables.text_files import Reads

WIDEST = 256 << 20  # bytes of one record


def read_json(engine: Reads, into: str, rejects: str, path: Path, scratch: Path, shown: str) -> int:
    """Reads JSON lines, or one list of records, into the table `into`; how many lines are in `rejects` instead.

    One object of nothing but objects is read as records with their names in the column `key`.
    Raises SourceError if nothing in it is a record.
    """
    engine.attempt(f"drop table if exists {quoted(rejects)}")
    good, bad = scratch / "good.jsonl", scratch / "bad.jsonl"
    complaint = _read(engine, good if _named_records(path, good) else path, into)
    if not complaint:
        return 0
    n_good, n_bad = _parted(path, good, bad)
    if not n_good:
        raise SourceError(f"cannot be read: {complaint}", shown, "give one JSON object a line, or a list of objects")
    complaint = _read(engine, good, into) or _read(engine, bad if n_bad else good, rejects)
    if complaint:
        raise SourceError(f"cannot be read: {complaint}", shown, "give one JSON object a line, with the same types")
    return n_bad


def _read(engine: Reads, path: Path, into: str) -> str:
    widest = min(WIDEST, max(16 << 20, path.stat().st_size))
    options = f"sample_size = -1, maximum_object_size = {widest}, convert_strings_to_integers = false"
    source = f"read_json({sql_value(str(path))}, {options})"
    complaint = engine.attempt(f"create or replace table {quoted(into)} as select * from {source}")
    if complaint:
        return complaint
    columns = [row[0] for row in engine.rows(f"describe {quoted(into)}")]
    return "" if columns != ["json"] else "its lines are values, not objects"


def _named_records(path: Path, made: Path) -> bool:
    """Writes an object of objects as records; whether it was one."""
    if path.stat().st_size > WIDEST:
        return False
    with path.open("rb") as file:
        if not file.readline().lstrip().startswith(b"{"):
            return False
        file.seek(0)
        try:
            whole = json.load(file)
        except ValueError:
            return False  # more than one record, or none
    if not isinstance(whole, dict) or len(whole) < 2 or not all(isinstance(v, dict) for v in whole.values()):
        return False
    lines = (json.dumps({"key": key, **record}) for key, record in whole.items())
    made.write_text("\n".join(lines), encoding="utf-8")
    return True


def _parted(path: Path, good: Path, bad: Path) -> tuple[int, int]:
    """The lines that are objects, and the others with number and reason, as two files; how many of each."""
    n_good = n_bad = 0
    with path.open("rb") as lines, good.open("wb") as records, bad.open("w", encoding="utf-8") as others:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            why = _why_not(line)
            if why:
                n_bad += 1
                told: dict[str, Any] = {"line": number, "text": line.decode("utf-8", "replace").strip(), "why": why}
                others.write(json.dumps(told) + "\n")
            else:
                n_good += 1
                records.write(line if line.endswith(b"\n") else line + b"\n")
    return n_good, n_bad


def _why_not(line: bytes) -> str:
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        return "not UTF-8"
    except ValueError as error:
        return f"not JSON: {error}"
    return "" if isinstance(value, dict) else "not an object"
