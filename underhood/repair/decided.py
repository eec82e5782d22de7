"""The record's decisions with their latest outcomes, laid out as one table that everything in this floor reads.

Laying out is done once: while nothing is added to the record, the table is a file of
its cache, and every query reads only the columns that it needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
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
        held, known = (set(log.column_names) for log in logs.values())
        sql = _laid_out(plan, '"decision log"', '"outcome log"', held, known)
        engine.run(f"create or replace table decided_now as {sql}")
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
    sides = [_sealed(record, kind) for kind in ("decision", "outcome")]
    if not all(sides) or any(len(types) > 1 for side in sides for types in column_types(side).values()):
        return
    files = [f"read_parquet([{', '.join(sql_value(str(f)) for f in side)}], union_by_name = true)" for side in sides]
    once = [f"(select * from {f} {_once(engine, f)})" for f in files]
    sql = _laid_out(plan, once[0], once[1], set(column_types(sides[0])), set(column_types(sides[1])))
    cache.parent.mkdir(parents=True, exist_ok=True)
    n = engine.rows(f"select count(*) from {files[0]}")[0][0]
    often = halvings_of(n, SHARED)
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


def _sealed(record: Path, kind: str) -> list[Path]:
    """The Parquet files of one kind of entry, each read once to verify it. Raises CorruptError."""
    found = []
    for manifest in manifests(record):
        for path, rows in segments_of(record, manifest).items():
            if path.parent.parent.name == f"kind={kind}" and rows:
                read_segment(path, rows)
                found.append(path)
    return found


def _once(engine: Engine, files: str) -> str:
    """What keeps an id that was sent twice from appearing twice; empty if none was."""
    n, distinct = engine.rows(f"select count(*), count(distinct id) from {files}")[0]
    return "" if n == distinct else 'qualify row_number() over (partition by id order by "at") = 1'


def _happened(plan: Plan) -> Expr:
    asked = plan.sources[plan.system.asks.source.name]
    return substitute(asked.happened, {c: col(f"row.{c}") for c in plan.inputs})


def _laid_out(plan: Plan, decisions: str, outcomes: str, held: set[str], known: set[str]) -> str:
    """SQL of all decisions with their latest outcomes; what nobody captured is null.

    `place` is the place in order of id, `again` says whether its question was decided more than once,
    `halvings` in which shares of all keys it is (`halvings_sql`).
    """
    parts = [_cast(held, "d", name, kind) for name, kind in _COLUMNS.items()]
    parts += [_cast(held, "d", f"row.{n}", _SQL_TYPE[t]) for n, t in plan.inputs.items()]
    parts += [_cast(held, "d", f"features.{n}", _SQL_TYPE[t]) for n, t in plan.feature_types.items()]
    parts += [_cast(known, "o", "known_at", "TIMESTAMP"), _cast(known, "o", "label", "BOOLEAN")]
    parts += [_cast(known, "o", f"facts.{n}", _SQL_TYPE[t]) for n, t in plan.facts.items()]
    latest = f"select * from {outcomes} qualify row_number() over (partition by key order by known_at desc, id) = 1"
    if "key" not in known:
        latest = "select NULL as key where false"
    zone, source = sql_value(plan.system.zone), decisions
    if "key" not in held:
        source = "(select NULL as id, NULL as key where false)"
    numbered = "select id, row_number() over (order by id) as place, count(*) over (partition by key) > 1 as again"
    return (
        f"select *, strftime(local, '%Y-%m-%d') as day, {halvings_sql()} as halvings from (select *, "
        f"timezone({zone}, timezone('UTC', happened)) as local from (select *, {to_sql(_happened(plan))} as happened "
        f"from (select {', '.join(parts)}, n.place, n.again from {source} d left join ({latest}) o on d.key = o.key "
        f"left join ({numbered} from {source}) n on d.id = n.id)))"
    )


def _cast(held: set[str], side: str, name: str, kind: str) -> str:
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
