"""What a request needs of the past: as-of rows and window figures out of one SQLite file.

A question is answered as of its own moment, by both clocks, from the rows that `Events`
keeps: the same values as in the table of questions, to the last bit. Imports nothing heavy.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from underhood.ground.errors import NotFoundError, RequestError
from underhood.ground.records import Row, as_time, time_text
from underhood.plan.exprs import from_json
from underhood.plan.literals import quoted
from underhood.plan.operations import FLAG, NUMBER, TIME
from underhood.plan.render import to_python
from underhood.plan.sources import told_cleaner
from underhood.plan.steps import ASKED_AT
from underhood.plan.windows import in_parts, of_parts
from underhood.record.sqlite import failure

EPOCH, MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)
Told = Mapping[str, Any]
Answer = Callable[[Mapping[str, Any], int, int], dict[str, Any]]  # inputs, µs of asking, row that must not answer

_HALF = 30  # bits: SQLite's sums end at 2^63, so whole numbers are summed in two halves


class State:
    """The past as `Events` keeps it, open for answering. Use as a context manager, one for each thread.

    Raises NotFoundError if there is no such file, CorruptError if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NotFoundError("no rows have been kept", str(path), "append them: underhood.run.events")
        place = f"file:{quote(str(path.absolute()))}?mode=ro"
        self._db = sqlite3.connect(place, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            told = json.loads(self._db.execute("select body from __layout").fetchone()[0])
        except sqlite3.Error as error:
            self._db.close()
            raise failure("the past cannot be read", path, error) from error
        joins, self._request = told["joins"], told["request"]
        self._answers = [(j["source"], (_asof if "take" in j else _recent)(self._db, j)) for j in joins]
        self._own = {join["source"]: join["is_keyed"] for join in joins if join["is_own"]}

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def row(self, given: Row, asked_at: str | datetime, key: str = "") -> dict[str, Any]:
        """What the joins add to a question asked at `asked_at` (UTC): inputs by name, times as ISO text, null as None.

        `given` holds the columns that are joined by. `key` is the question's own: its
        row, if it is kept already, does not answer it.
        """
        inputs = dict(given)
        asked = (as_time(asked_at) - EPOCH) // MICROSECOND
        added: dict[str, Any] = {}
        own = self._own_rows(key)
        for source, answer in self._answers:
            made = answer(inputs, asked, own.get(source, -1))
            inputs.update(made)
            added.update(made)
        return added

    def complete(
        self, given: Row, asked_at: str | datetime, key: str = "", *, is_clean: bool = False
    ) -> dict[str, Any]:
        """The request as `decide` takes it: its raw row, cleaned and derived as in history, with what the joins add.

        `given` is a row of the asked source as its file has it: times as ISO text
        (UTC), null as None. Columns known only later may be left out, and are not
        looked at. Raises RequestError naming every missing, mistyped and unknown raw
        column at once, or the step that sets the row aside. Deduping sets aside no
        request. `is_clean`: the row holds the source's columns after cleaning.
        """
        if is_clean:
            return {**given, **self.row(given, asked_at, key)}
        values = self.cleaned(given)
        added = self.row(values, asked_at, key)
        return {**{c: time_text(v) if isinstance(v, datetime) else v for c, v in values.items()}, **added}

    def cleaned(self, given: Row) -> dict[str, Any]:
        """A request's own inputs of its raw row, times as naive UTC. Raises RequestError as `complete` does."""
        from underhood.run.decide import check_fields  # whoever only asks `row` does not load it

        needs, unused = self._request["needs"], self._request["unused"]
        raw: dict[str, Any] = {c: v for c, v in given.items() if c not in unused}
        check_fields(needs, raw)
        for name, kind in needs.items():
            if raw[name] is not None and kind in (NUMBER, TIME):
                raw[name] = as_time(raw[name]) if kind == TIME else float(raw[name])
        values, refused = self._clean(raw)
        if refused:
            why = next(s["why"] for s in self._request["steps"] if s.get("drop") == refused)
            told = f"is set aside by the cleaning step {refused!r}" + (f": {why}" if why else "")
            raise RequestError(told, self._request["source"], "history holds no such row, so nothing was learned of it")
        return values

    @cached_property
    def _clean(self) -> Callable[[Mapping[str, Any]], tuple[dict[str, Any], str]]:
        fills = {s["fill"]: _filled(self._db, s) for s in self._request["steps"] if "fill" in s}
        return told_cleaner(self._request, fills)

    def _own_rows(self, key: str) -> dict[str, int]:
        """The number of the question's own row in each source that may hold it, if it is kept."""
        rows: dict[str, int] = {}
        for source, is_keyed in self._own.items() if key else ():
            sql, place = f"select __row from {quoted(source)} where __key = ?1", -1
            if not is_keyed and key.isdecimal() and len(key) < 19:
                sql, place = f"{sql} or (__row = ?2 and __key is null)", int(key)
            found = self._db.execute(sql, (key, place) if place >= 0 else (key,)).fetchone()
            rows[source] = found[0] if found else -1
        return rows


def _filled(db: sqlite3.Connection, step: Told) -> Callable[[Mapping[str, Any]], Any]:
    """What a reference has for a row; null if its rows disagree. Raises RequestError if no row of it was kept."""
    take, table = quoted(step["take"]), quoted(step["source"])
    by = " and ".join(f"{quoted(theirs)} = ?" for theirs in step["by"].values())
    sql, ours = f"select min({take}), max({take}) from {table} where {by}", tuple(step["by"])
    read = _READ_AS.get(step["type"])
    is_there = False

    def look(row: Mapping[str, Any]) -> Any:
        nonlocal is_there
        is_there = is_there or db.execute(f"select 1 from {table} limit 1").fetchone() is not None
        if not is_there:
            hint = f"append the rows of {step['source']}, or give the row after cleaning: complete(..., is_clean=True)"
            raise RequestError(f"no row of {step['source']} is kept to fill it from", step["column"], hint)
        least, most = db.execute(sql, [_plain(row[c]) for c in ours]).fetchone()
        return (least if read is None or least is None else read(least)) if least == most else None

    return look


def _matching(join: Told, asked: str) -> str:
    """The condition on a row: ?1 is the moment of asking, ?2 the row that must not answer, ?3 and on are joined by."""
    by = [f"{quoted(b)} = ?{n}" for n, b in enumerate(join["by"], 3)]
    return " and ".join([*by, asked, "__row <> ?2"])


def _parameters(join: Told) -> Callable[[Mapping[str, Any], int, int], tuple[Any, ...]]:
    by = tuple(join["by"])
    if len(by) == 1:
        only = by[0]
        return lambda inputs, asked, own: (asked, own, _plain(inputs.get(only)))
    return lambda inputs, asked, own: (asked, own, *[_plain(inputs.get(b)) for b in by])


def _plain(value: Any) -> Any:
    """A value as the file holds it; null for what no column can hold."""
    if type(value) in (str, float) or value is None:
        return value
    if isinstance(value, datetime):
        return (as_time(value) - EPOCH) // MICROSECOND
    return value if isinstance(value, (int, float, str)) else None


def _asof(db: sqlite3.Connection, join: Told) -> Answer:
    before = "<" if join["is_strict"] else "<="
    columns, late = list(join["types"]), join["late"]
    listed = ", ".join(quoted(c) for c in ("__happened", *columns, *(f"__late_{c}" for c in late)))
    tie = f"{quoted(join['tie'])} desc, " if join["tie"] else ""
    where = _matching(join, f"__happened {before} ?1 and __known {before} ?1")
    sql = (
        f"select {listed} from {quoted(join['source'])} where {where} "
        f"order by __happened desc, {tie}__known desc, __row desc limit 1"
    )
    parameters, max_age = _parameters(join), join["max_age_us"]
    none = dict.fromkeys(join["take"])
    place = {c: n for n, c in enumerate(columns, 1)}
    clock = {c: n for n, c in enumerate(late, 1 + len(columns))}
    taken = [(to, place[c], clock.get(c), _READ.get(join["types"][c])) for to, c in join["take"].items()]

    def answer(inputs: Mapping[str, Any], asked: int, own: int) -> dict[str, Any]:
        found = db.execute(sql, parameters(inputs, asked, own)).fetchone()
        if found is None or (max_age is not None and asked - found[0] > max_age):
            return dict(none)
        made: dict[str, Any] = {}
        for to, n, known, read in taken:
            value = found[n]
            if known is not None and (found[known] is None or found[known] > asked):
                value = None
            made[to] = value if read is None or value is None else read(value)
        return made

    return answer


def _moment(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


_READ_AS: Mapping[str, Callable[[Any], Any]] = {FLAG: bool, TIME: _moment}
_READ: Mapping[str, Callable[[Any], Any]] = {FLAG: bool, TIME: lambda value: time_text(_moment(value))}


def _recent(db: sqlite3.Connection, join: Told) -> Answer:
    where = _matching(join, f"__happened >= ?1 - {join['over_us']} and __happened < ?1 and __known <= ?1")
    source = f"{quoted(join['source'])} where {where}"
    parameters = _parameters(join)
    summed = [f for f in join["figures"] if "value" not in f]
    looked = [(f["name"], _looked(db, f, source)) for f in join["figures"] if "value" in f]
    order = [f["name"] for f in join["figures"]]
    sums = [_sums(f) for f in summed]
    sql = f"select {', '.join(text for texts, _ in sums for text in texts)} from {source}"

    def answer(inputs: Mapping[str, Any], asked: int, own: int) -> dict[str, Any]:
        given = parameters(inputs, asked, own)
        made: dict[str, Any] = dict.fromkeys(order)
        if summed:
            found, place = db.execute(sql, given).fetchone(), 0
            for figure, (texts, finished) in zip(summed, sums, strict=True):
                made[figure["name"]] = finished(found[place : place + len(texts)])
                place += len(texts)
        for name, look in looked:
            made[name] = look(given, asked)
        return made

    return answer


def _sums(figure: Told) -> tuple[list[str], Callable[[tuple[Any, ...]], float | None]]:
    """What to sum over a window's rows for a figure that is kept beside them, and what the sums become."""
    if figure["kind"] == "count":
        return ["count(*)"], lambda sums: float(sums[0])

    def now(part: str) -> str:
        """The part as it is at the moment of asking: of the last change that has become known."""
        stem = figure["stem"]
        cases = " ".join(
            f"when {quoted(f'{stem} {change} at')} <= ?1 then {quoted(f'{stem} {change} {part}')}"
            for change in range(figure["changes"], 0, -1)
        )
        first = quoted(f"{stem} 0 {part}")
        return f"(case {cases} else {first} end)" if cases else first

    if figure["kind"] == "share":
        return [f"sum({now('n')})", f"sum({now('whole')})"], lambda sums: sums[1] / sums[0] if sums[0] else None
    halves = [f"sum({now(p)} {half})" for p in ("whole", "parts") for half in (f">> {_HALF}", f"& {2**_HALF - 1}")]

    def finished(sums: tuple[Any, ...]) -> float | None:
        n, high, low, high_parts, low_parts = sums
        return of_parts(figure["kind"], n, (high << _HALF) + low, (high_parts << _HALF) + low_parts) if n else None

    return [f"sum({now('n')})", *halves], finished


def _looked(db: sqlite3.Connection, figure: Told, source: str) -> Callable[[tuple[Any, ...], int], float | None]:
    """A figure that depends on the moment of asking, from the rows of its window."""
    columns, late = list(figure["columns"]), figure["late"]
    listed = ", ".join(quoted(c) for c in (*columns, *(f"__late_{c}" for c in late)))
    sql = f"select {listed or '1'} from {source}"
    compiled = to_python({"": from_json(figure["value"])})
    clock = {n: len(columns) + late.index(c) for n, c in enumerate(columns) if c in late}
    read = {n: _READ_AS[t] for n, t in enumerate(figure["columns"].values()) if t in _READ_AS}
    kind = figure["kind"]

    def look(given: tuple[Any, ...], asked: int) -> float | None:
        moment = {ASKED_AT: _moment(asked)}
        values = []
        for found in db.execute(sql, given).fetchall():
            row = dict(zip(columns, found, strict=False))
            for n, c in enumerate(columns):
                if n in clock and (found[clock[n]] is None or found[clock[n]] > asked):
                    row[c] = None
                elif n in read and found[n] is not None:
                    row[c] = read[n](found[n])
            value = compiled({**row, **moment})[""]
            if value is not None:
                values.append(value)
        if not values:
            return None
        if kind == "share":
            return sum(values) / len(values)
        if kind in ("smallest", "largest"):
            return float(min(values) if kind == "smallest" else max(values))
        counts, wholes, parts = zip(*map(in_parts, values), strict=True)
        return of_parts(kind, sum(counts), sum(wholes), sum(parts))

    return look
