"""The record's decisions with their latest outcomes, laid out as one table that everything in this floor reads.

Laying out is done once: while nothing is added to the record, the table is a file of
its cache, and every query reads only the columns that it needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from math import log2
from pathlib import Path

from underhood.build.bundle import Bundle
from underhood.build.trainset import relabelled_sql
from underhood.plan.changes import LABEL, change_from
from underhood.plan.exprs import Expr, col, digest, substitute
from underhood.plan.joins import Plan
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.record.hot import hot_files
from underhood.record.seal import column_types, manifests, read_segment, segments_of, table
from underhood.tables.local import Engine

LAID_OUT = "laid out"  # what the view `decided` shows
SHARE = "share of asks"
KEPT = 2  # laid out files that stay: another process may still read the one before
VERSION = 3
MOST_HALVINGS = 24
SHARED = 50_000  # decisions: of more than twice as many, shares down to about so many lie once more by themselves

_COLUMNS: Mapping[str, str] = {
    "id": "VARCHAR",
    "key": "VARCHAR",
    "asked_at": "TIMESTAMP",
    "decided_at": "TIMESTAMP",
    "bundle": "VARCHAR",
    "score": "DOUBLE",
    "action": "VARCHAR",
    "reason": "VARCHAR",
    "status": "VARCHAR",
    "flags": "VARCHAR[]",
    "patches": "VARCHAR[]",
}
_SQL_TYPE = {"number": "DOUBLE", "flag": "BOOLEAN", "text": "VARCHAR", "time": "TIMESTAMP"}


def lay_out(engine: Engine, plan: Plan, record: Path, newest_first: Sequence[str] = ()) -> int:
    """Makes the view `decided` of all decisions with their latest outcomes, and `decisions`; returns how many.

    Nothing is meant by a complaint yet: `bad` is false everywhere until `mean`. Of a
    question that several bundles decided, the view shows the decision of the bundle
    that comes first in `newest_first`. Raises CorruptError if something cannot be read.
    """
    cache = _cache(engine, plan, record)
    if cache is not None and not cache.exists():
        _write(engine, plan, record, cache)
    if cache is not None and cache.exists():
        engine.view(LAID_OUT, _cached(engine, cache))
    else:
        logs = {kind: table(record, kind) for kind in ("decision", "outcome")}
        for kind, log in logs.items():
            engine.register(f"{kind} log", log)
        sides = [_Log(quoted(f"{kind} log"), frozenset(log.column_names)) for kind, log in logs.items()]
        engine.run(f"create or replace table decided_now as {_laid_out(plan, *sides)}")
        engine.view(LAID_OUT, "select * from decided_now")
    engine.view("decided", f"select * from {quoted(LAID_OUT)}")
    engine.texts("bundle ranks", "bundle", newest_first)
    mean(engine, ())
    return int(engine.rows("select count(*) from decided")[0][0])


def _cache(engine: Engine, plan: Plan, record: Path) -> Path | None:
    """Where the table lies once it is laid out: its name says what it is made of. Null while the log is written.

    The engine's version is part of it: another one may draw other shares, as it hashes keys otherwise.
    """
    if any(hot_files(record)) or not manifests(record):
        return None
    made_of = [
        VERSION,
        engine.rows("select version()")[0][0],
        [(m.name, m.stat().st_size) for m in manifests(record)],
        *(dict(d) for d in (plan.inputs, plan.feature_types, plan.facts)),
        [to_sql(_happened(plan)), plan.system.zone],
    ]
    return record / "cache" / f"decided-{digest(made_of)}.parquet"


def halvings_sql(key: str = "key") -> str:
    """SQL: how often a coin that is a key's own falls on its first side in a row; every 2ⁿ-th key has n or more."""
    coins = f"(hash({key}, 'coin') | {1 << MOST_HALVINGS})"
    return f"(bit_count(xor({coins}, {coins} - 1)) - 1)::UTINYINT"


def halvings_of(n: int, kept: int) -> int:
    """How often `n` is halved until about `kept` are left."""
    return min(MOST_HALVINGS, max(0, round(log2(max(1, n) / max(1, kept)))))


def _write(engine: Engine, plan: Plan, record: Path, cache: Path) -> None:
    """Lays out what is sealed, its pages verified first; nothing if a column is of several types."""
    decisions, outcomes = (_sealed(record, kind) for kind in ("decision", "outcome"))
    if not (decisions and outcomes):
        return
    if any(len(types) > 1 for files in (decisions, outcomes) for types in column_types(files).values()):
        return
    often = halvings_of(sum(decisions.values()), SHARED)
    sql = _laid_out(plan, _log(engine, decisions, often > 0), _log(engine, outcomes))
    cache.parent.mkdir(parents=True, exist_ok=True)
    # a wide table is sorted only where that is cheap: many rows stay in the order of the log
    _copy(engine, sql if often else f"{sql} order by place", part := cache.with_suffix(f".{os.getpid()}.made"))
    try:
        if often:
            some = f"select * from read_parquet({sql_value(str(part))}) where halvings >= {_kept(often)}"
            _copy(engine, f"{some} order by least(halvings, {often}) desc, place", _share_of(cache))
        os.replace(part, cache)
    finally:
        part.unlink(missing_ok=True)
    older = sorted(cache.parent.glob("decided-*.parquet"), key=lambda p: p.stat().st_mtime)
    for path in older[:-KEPT]:
        path.unlink(missing_ok=True)
        _share_of(path).unlink(missing_ok=True)


def _copy(engine: Engine, sql: str, to: Path) -> None:
    part = to.with_suffix(f".{os.getpid()}.part")
    try:
        engine.run(f"copy ({sql}) to {sql_value(str(part))} (format parquet)")
        os.replace(part, to)
    finally:
        part.unlink(missing_ok=True)


def _share_of(cache: Path) -> Path:
    """Where a share of a large record lies once more, so that it is read without the rest."""
    return cache.with_name(f"share-of-{cache.name}")


def share_asks(engine: Engine, cache: Path) -> None:
    """Keeps a share of a large table of questions by itself, as the view `SHARE`; `cache` is where all of it lies."""
    whole = f"read_parquet({sql_value(str(cache))})"
    often = halvings_of(engine.rows(f"select count(*) from {whole}")[0][0], SHARED)
    if not often:
        return
    if not _share_of(cache).exists():
        some = f"select * from (select *, {halvings_sql()} as halvings from {whole}) where halvings >= {_kept(often)}"
        _copy(engine, f"{some} order by least(halvings, {often}) desc, asked_at", _share_of(cache))
    engine.view(SHARE, f"select * from read_parquet({sql_value(str(_share_of(cache)))})")


def asks_in_share(engine: Engine, often: int) -> bool:
    """Whether every 2ⁿ-th question (n is `often`) is in the view `SHARE`, of the very table that is the view `asks`."""
    share = view_sql(engine, SHARE)
    of = re.search(r"share-of-(asks-\w+\.parquet)", share)
    if of is None or of[1] not in view_sql(engine, "asks"):
        return False
    return bool(engine.rows(f"select min(halvings) from {quoted(SHARE)}")[0][0] <= often)


def _kept(often: int) -> int:
    """The least halvings of what is kept by itself: four times what is mostly asked for."""
    return max(1, often - 2)


def _cached(engine: Engine, cache: Path) -> str:
    """SQL of what is laid out: of a large record first its share, so that `halvings >= n` is read from there alone."""
    whole = f"select * from read_parquet({sql_value(str(cache))})"
    if not _share_of(cache).exists():
        return whole
    share = f"select * from read_parquet({sql_value(str(_share_of(cache)))})"
    least = engine.rows(f"select min(halvings) from ({share})")[0][0]
    return f"{share} union all {whole} where halvings < {least}"


@dataclass(frozen=True)
class _Log:
    """One kind of entry as SQL to select from, and its columns. `is_single`: no id and no key comes twice.

    `is_placed`: it has `place` already.
    """

    sql: str
    columns: frozenset[str]
    is_single: bool = False
    is_placed: bool = False


def _sealed(record: Path, kind: str) -> dict[Path, int]:
    """The Parquet files of one kind of entry with their rows, each read once to verify it. Raises CorruptError."""
    files = {
        path: rows
        for manifest in manifests(record)
        for path, rows in segments_of(record, manifest).items()
        if path.parent.parent.name == f"kind={kind}" and rows
    }
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(read_segment, files, files.values()):
            pass
    return files


def _log(engine: Engine, files: Mapping[Path, int], places: bool = False) -> _Log:
    """Sealed files as one log. If it `places` and nothing comes twice, rows are numbered as they are read.

    Of many rows, numbering them by id would cost a sort and a join of all of them.
    """
    named = f"[{', '.join(sql_value(str(f)) for f in files)}], union_by_name = true"
    sql, columns = f"read_parquet({named})", frozenset(column_types(files))
    # two keys with one hash only look like one that comes twice, which costs time, and nothing else
    hashes = "count(distinct hash(id)), count(distinct hash(key))" if "key" in columns else "0, 0"
    n, ids, keys = engine.rows(f"select count(*), {hashes} from {sql}")[0]
    if places and n == ids == keys:
        engine.adopt("first places", {"file": [str(f) for f in files], "first": [0, *accumulate(files.values())][:-1]})
        numbered = f"read_parquet({named}, filename = true, file_row_number = true)"
        sql = (
            f'(select l.*, f."first" + l.file_row_number + 1 as place from {numbered} l '
            'join "first places" f on l.filename = f.file)'
        )
        return _Log(sql, columns, True, True)
    once = "" if n == ids else 'qualify row_number() over (partition by id order by "at") = 1'
    return _Log(f"(select * from {sql} {once})", columns, n == ids == keys)


def _happened(plan: Plan) -> Expr:
    asked = plan.sources[plan.system.asks.source.name]
    return substitute(asked.happened, {c: col(f"row.{c}") for c in plan.inputs})


def _laid_out(plan: Plan, decisions: _Log, outcomes: _Log) -> str:
    """SQL of all decisions with their latest outcomes; what nobody captured is null.

    `place` is the place in order of id (of a large record: in the order of the log), `again` says whether its question
    was decided more than once, `halvings` in which shares of all keys it is (`halvings_sql`).
    """
    held, known = decisions.columns, outcomes.columns
    parts = [_cast(held, "d", name, kind) for name, kind in _COLUMNS.items()]
    parts += [_cast(held, "d", f"row.{n}", _SQL_TYPE[t]) for n, t in plan.inputs.items()]
    parts += [_cast(held, "d", f"features.{n}", _SQL_TYPE[t]) for n, t in plan.feature_types.items()]
    parts += [_cast(known, "o", "known_at", "TIMESTAMP"), _cast(known, "o", "label", "BOOLEAN")]
    parts += [_cast(known, "o", f"facts.{n}", _SQL_TYPE[t]) for n, t in plan.facts.items()]
    one = "" if outcomes.is_single else "qualify row_number() over (partition by key order by known_at desc, id) = 1"
    latest = f"select * from {outcomes.sql} {one}" if "key" in known else "select NULL as key where false"
    source = decisions.sql if "key" in held else "(select NULL as id, NULL as key where false)"
    numbered = "select id, row_number() over (order by id) as place, count(*) over (partition by key) > 1 as again"
    places = "" if decisions.is_placed else f"left join ({numbered} from {source}) n on d.id = n.id"
    parts += ["d.place", "false as again"] if decisions.is_placed else ["n.place", "n.again"]
    return (
        f"select *, strftime(local, '%Y-%m-%d') as day, {halvings_sql()} as halvings from (select *, "
        f"timezone({sql_value(plan.system.zone)}, timezone('UTC', happened)) as local "
        f"from (select *, {to_sql(_happened(plan))} as happened "
        f"from (select {', '.join(parts)} from {source} d left join ({latest}) o on d.key = o.key {places})))"
    )


def _cast(held: AbstractSet[str], side: str, name: str, kind: str) -> str:
    value = f"{side}.{quoted(name)}" if name in held else "NULL"
    return f"{value}::{kind} as {quoted(name)}"


def mean(
    engine: Engine,
    ids: Sequence[str],
    bundle: str = "",
    where: str = "",
    seen: str = "true",
    labels: Sequence[str] = (),
) -> None:
    """Marks the decisions that a complaint means, and keeps to one bundle's decisions if it is named.

    They are named by id, or, as a whole window is, by `where`: SQL over the columns of
    `decided`. Those for which `seen` does not hold are left out. `labels`: what the label
    is to be, one SQL expression after the other, as `corrected_labels` gives them.
    """
    engine.texts("meant", "id", ids)
    rows = (
        f"select * from decided where bundle = {sql_value(bundle)}"
        if bundle
        else "select * from decided where not again union all by name "
        '(select * exclude (rank) from (select * from decided where again) left join "bundle ranks" using (bundle) '
        "qualify row_number() over (partition by key order by rank nulls last, id) = 1)"
    )
    bad = f"coalesce({where}, false)" if where else "id in (select id from meant)"
    for label in labels:
        rows = f"select * replace ({label} as label) from ({rows})"
    engine.view("decisions", f"select *, {bad} as bad from ({rows}) where {seen}")


def corrected_labels(plan: Plan, bundle: Bundle) -> tuple[str, ...]:
    """What outcomes count as since the labels that the bundle learned from were patched: SQL over `decided`."""
    changes = (change_from(c) for c in bundle.made_from.get("changes", ()))
    return tuple(relabelled_sql(plan, c) for c in changes if c.part == LABEL)


def view_sql(engine: Engine, name: str) -> str:
    """The statement that makes a view again as it is now; empty if there is none of that name."""
    rows = engine.rows(f"select sql from duckdb_views() where view_name = {sql_value(name)}")
    return str(rows[0][0]).replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1) if rows else ""
