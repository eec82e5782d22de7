"""The past that requests need, in one SQLite file: rows of each joined source, appended as they become known.

A row may come again, by its key, when its late columns are known. Each row is cleaned
and derived as in history. What a window sums is kept beside its row, ready to sum, for
each moment at which a late column changes it (plan/windows.py).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from underhood.ground.errors import ProjectError, RecordError, SourceError
from underhood.ground.records import Row, as_time
from underhood.plan.cleaning import Cleaning, Dropping
from underhood.plan.exprs import as_json, columns_of
from underhood.plan.joins import Plan
from underhood.plan.literals import quoted
from underhood.plan.operations import TIME
from underhood.plan.render import to_python
from underhood.plan.sources import Typed, row_cleaner, row_told
from underhood.plan.steps import ASKED_AT, Asof, Recent
from underhood.plan.windows import figure, in_parts, is_swept
from underhood.record.sqlite import connect, failure

if TYPE_CHECKING:
    from underhood.tables.local import Engine

EPOCH, MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)
Values = Mapping[str, Any]


class Events:
    """The file, open for appending. Makes it for `plan` if it is not there.

    Raises RecordError if it was made for other joins or cannot be written. Use as
    a context manager; questions are answered by `State` meanwhile.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self._path, self._plan = path, plan
        self._tables = {name: _Table(plan, name) for name in _joined(plan)}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = connect(path, "process")
        try:
            self._make(json.dumps(layout(plan)))
        except sqlite3.Error as error:
            self._db.close()
            raise failure("the past cannot be kept", path, error) from error

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _make(self, made_for: str) -> None:
        self._db.execute("begin immediate")
        self._db.execute("create table if not exists __layout (body text)")
        there = self._db.execute("select body from __layout").fetchall()
        if not there:
            self._db.execute("insert into __layout values (?)", (made_for,))
            for table in self._tables.values():
                for statement in table.made_by():
                    self._db.execute(statement)
        self._db.execute("commit")
        if there and there[0][0] != made_for:
            self._db.close()
            raise RecordError(
                "was made for other joins", str(self._path), "delete it and append the rows again: history has them"
            )

    def append(self, source: str, rows: Iterable[Row], are_clean: bool = False) -> int:
        """Keeps raw rows of a source, all or none; a row with a key that is there replaces it. How many were kept.

        Numbers, flags, texts, times as ISO 8601 text or datetimes (UTC), null as
        None, by column name; "__key" may say the key. Rows that a cleaning step sets
        aside are not kept. `are_clean`: the rows hold the source's columns after
        cleaning, which steps that look at other rows need. Raises SourceError for a
        time that is none.
        """
        table = self._tables.get(source)
        if table is None:
            raise ProjectError("is joined to no question", source, f"there are {', '.join(self._tables) or 'none'}")
        if not are_clean and not table.typed.is_plain and not table.is_by_row:
            hint = "clean the rows first, then append(..., are_clean=True)"
            raise ProjectError("has cleaning steps that need other rows", source, hint)
        n = 0
        try:
            self._db.execute("begin immediate")
            for row in rows:
                kept = table.kept(row, are_clean)
                if kept is not None:
                    self._db.execute(table.insert, kept)
                    n += 1
            self._db.execute("commit")
        except sqlite3.Error as error:
            raise failure("rows could not be kept", self._path, error) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("rollback")
        return n

    def append_history(self, engine: Engine) -> dict[str, int]:
        """Keeps all rows of history, as cleaning left them, and tells how many of each source.

        `engine` has read the plan: `open_workbench` does that.
        """
        from underhood.tables.local import stream_rows  # appending row by row needs no engine

        kept = {}
        for name, table in self._tables.items():
            schema = table.typed.schema
            times = [c for c, kind in schema.items() if kind == TIME]
            sql = f"select * from {quoted(name)} order by __row"
            rows = stream_rows(engine, sql, ["__key", *schema], times)
            kept[name] = self.append(name, rows, are_clean=True)
        return kept


def _joined(plan: Plan) -> list[str]:
    """The sources that are kept: the joined ones, and the references that a request is filled from."""
    filled = [step["source"] for step in _request(plan)["steps"] if "fill" in step]
    return list(dict.fromkeys([*(join.source.name for join in plan.system.asks.joins), *filled]))


def _request(plan: Plan) -> dict[str, Any]:
    """What makes a request's own inputs of its raw row, as plain JSON."""
    asked = plan.sources[plan.system.asks.source.name]
    told = row_told(asked, [c for c in asked.schema if c not in asked.late])
    return {**told, "source": asked.source.name, "unused": [c for c in asked.raw if c not in told["needs"]]}


def layout(plan: Plan) -> dict[str, Any]:
    """All that answering a question needs to know, as plain JSON."""
    base = plan.system.asks
    joins = []
    for n, join in enumerate(base.joins, 1):
        other = plan.sources[join.source.name]
        told: dict[str, Any] = {
            "source": other.source.name,
            "by": list(join.by),
            "is_own": join.source.path == base.source.path,
            "is_keyed": bool(other.source.key),
        }
        if isinstance(join, Asof):
            told |= {
                "take": dict(join.take),
                "types": {c: other.schema[c] for c in join.take.values()},
                "late": [c for c in sorted(set(join.take.values())) if c in other.late],
                "max_age_us": None if join.max_age_s is None else round(join.max_age_s * 1e6),
                "is_strict": join.is_strict,
                "tie": join.tie,
            }
        else:
            told["over_us"] = round(join.over_s * 1e6)
            told["figures"] = [Figure(n, name, join, other).told for name in join.figures]
        joins.append(told)
    return {"version": 2, "joins": joins, "request": _request(plan)}


class Figure:
    """One figure of a window: what is kept for it beside each row, or what its value is made of."""

    def __init__(self, n: int, name: str, join: Recent, other: Typed) -> None:
        self.kind = join.figures[name].kind
        value = figure(join.figures[name], other, name)
        self.columns = sorted(columns_of(value) - {ASKED_AT}) if value is not None else []
        self.late = [c for c in self.columns if c in other.late]
        self.told: dict[str, Any] = {"name": name, "kind": self.kind, "stem": f"__{n} {name}"}
        self.names: list[str] = []
        if value is None:
            return
        if is_swept(join, {name: value}):
            self._compiled = to_python({"": value})
            self._changes = len({other.late[c].key() for c in self.late})
            parts = [
                f"{change} {part}" for change in range(self._changes + 1) for part in ("at", "n", "whole", "parts")
            ]
            self.names = [f"__{n} {name} {part}" for part in parts]
            self.told["changes"] = self._changes
        else:
            self.told |= {"value": as_json(value), "late": self.late}
            self.told["columns"] = {c: other.schema[c] for c in self.columns}

    def cells(self, row: Values) -> list[int | None]:
        """What is kept beside a row: for each change its moment, and the value from then on as it is summed."""
        made: list[int | None] = []
        if not self.names:
            return made
        moments = sorted({row[f"__late_{c}"] for c in self.late} - {None})
        for at in [None, *moments]:
            seen = {c: row[c] for c in self.columns}
            for c in self.late:
                known = row[f"__late_{c}"]
                if at is None or known is None or known > at:
                    seen[c] = None
            value = self._compiled(seen)[""]
            if value is None:
                made += [at, 0, 0, 0]
            else:
                made += [at, *((1, int(value), 0) if self.kind == "share" else in_parts(value))]
        return made + [None] * (len(self.names) - len(made))


class _Table:
    """One source's rows in the file: its columns, and how they are made of a row."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.name, self.typed = name, plan.sources[name]
        self.joins = [(n, j) for n, j in enumerate(plan.system.asks.joins, 1) if j.source.name == name]
        self.figures = [
            Figure(n, f, join, self.typed) for n, join in self.joins if isinstance(join, Recent) for f in join.figures
        ]
        used = {c for f in self.figures if not f.names for c in f.columns}
        for _, join in self.joins:
            used |= {*join.by, *((*join.take.values(), join.tie) if isinstance(join, Asof) else ())} - {""}
        self.fills = [s for s in _request(plan)["steps"] if "fill" in s and s["source"] == name]
        for step in self.fills:
            used |= {*step["by"].values(), step["take"]}
        self.columns = sorted(used)
        self.late = sorted((used | {c for f in self.figures for c in f.columns}) & set(self.typed.late))
        self._clean = row_cleaner(self.typed)
        self._clocks = to_python(
            {
                "__happened": self.typed.happened,
                "__known": self.typed.known,
                **{f"__late_{c}": self.typed.late[c] for c in self.late},
            }
        )
        self.names = ["__happened", "__known", *(f"__late_{c}" for c in self.late), *self.columns]
        self.names += [n for f in self.figures for n in f.names]
        listed = ", ".join(quoted(n) for n in ("__key", *self.names))
        replaced = ", ".join(f"{quoted(n)} = excluded.{quoted(n)}" for n in self.names)
        self.insert = (
            f"insert into {quoted(name)} ({listed}) values ({', '.join('?' * (len(self.names) + 1))}) "
            f"on conflict (__key) do update set {replaced}"
        )

    @property
    def is_by_row(self) -> bool:
        """Whether every cleaning step can be made on a row alone."""
        return all(isinstance(stage.step, Cleaning | Dropping) for stage in self.typed.stages)

    def made_by(self) -> list[str]:
        """The statements that make the table and its indexes."""
        listed = ", ".join(quoted(n) for n in self.names)
        made = [f"create table {quoted(self.name)} (__row integer primary key, __key text unique, {listed})"]
        for n, join in self.joins:
            tie = [join.tie] if isinstance(join, Asof) and join.tie else []
            ordered = ", ".join(quoted(c) for c in (*join.by, "__happened", *tie, "__known"))
            made.append(f"create index {quoted(f'{self.name} {n}')} on {quoted(self.name)} ({ordered})")
        for n, step in enumerate(self.fills, 1):
            ordered = ", ".join(quoted(c) for c in step["by"].values())
            made.append(f"create index {quoted(f'{self.name} fill {n}')} on {quoted(self.name)} ({ordered})")
        return made

    def kept(self, row: Row, is_clean: bool) -> list[Any] | None:
        """What the file holds of a row; null if cleaning sets it aside."""
        values: dict[str, Any] = {name: as_value(v) for name, v in row.items()}
        schema = self.typed.schema if is_clean else self.typed.raw
        for name, kind in schema.items():
            if kind == TIME and values.get(name) is not None:
                values[name] = self._time(name, values[name])
        key = values.pop("__key", None) or (key_of(values, self.typed.source.key) if self.typed.source.key else None)
        if not is_clean:
            values, refused = self._clean(values)
            if refused:
                return None
        values |= self._clocks(values)
        made = {c: micros(v) if isinstance(v, datetime) else v for c, v in values.items()}
        cells = [made[name] for name in self.names if name in made]
        return [key, *cells, *(cell for f in self.figures for cell in f.cells({**values, **_clock_cells(made)}))]

    def _time(self, name: str, value: Any) -> datetime:
        try:
            return as_time(value)
        except (ValueError, TypeError) as error:
            raise SourceError(f"is {value!r}, not a time", f"{self.name}.{name}", "write ISO 8601 in UTC") from error


def _clock_cells(made: Values) -> dict[str, Any]:
    return {name: v for name, v in made.items() if name.startswith("__late_")}


def as_value(value: Any) -> Any:
    """A number as the definitions read it: a float."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a naive UTC time."""
    return (moment - EPOCH) // MICROSECOND


def key_of(row: Values, key: Iterable[str]) -> str:
    """A row's key as history writes it: whole numbers without a point, times to the second or microsecond."""
    parts = [_text(row[c]) for c in key]
    if len(parts) == 1:
        return parts[0]
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime):
        text = value.isoformat(sep=" ")
        return text.rstrip("0") if value.microsecond else text
    return str(value)
