"""The record's decisions with their latest outcomes, laid out as one table that everything in this floor reads.

Laying out is done once: while nothing is added to the record, the table is a file of
its cache, and every query reads only the columns that it needs.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
VERSION = 4
MOST_HALVINGS = 24
PART = 500_000  # rows laid out at a time: all columns of so many fit into memory
SHARED = 50_000  # decisions: of more than twice as many, shares down to about so many lie once more by themselves

Say = Callable[[str], None]

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


def lay_out(
    engine: Engine, plan: Plan, record: Path, newest_first: Sequence[str] = (), say: Say = lambda line: None
) -> int:
    """Makes the view `decided` of all decisions with their latest outcomes, and `decisions`; returns how many.

    Nothing is meant by a complaint yet: `bad` is false everywhere until `mean`. Of a
    question that several bundles decided, the view shows the decision of the bundle
    that comes first in `newest_first`. Raises CorruptError if something cannot be read.
    """
    cache = _cache(engine, plan, record)
    if cache is not None and not cache.exists():
        _write(engine, plan, record, cache, say)
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


def _write(engine: Engine, plan: Plan, record: Path, cache: Path, say: Say) -> None:
    """Lays out what is sealed, its pages verified first; nothing if a column is of several types."""
    decisions, outcomes = (_sealed(record, kind) for kind in ("decision", "outcome"))
    if not (decisions and outcomes):
        return
    if any(len(types) > 1 for files in (decisions, outcomes) for types in column_types(files).values()):
        return
    often = halvings_of(sum(decisions.values()), SHARED)
    made = cache.with_suffix(f".{os.getpid()}.made")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        if often and _comes_once(engine, decisions) and _comes_once(engine, outcomes):
            # a wide table is sorted only where that is cheap: many rows stay in the order of the log
            for n, (part, sql) in enumerate(_parts(engine, plan, decisions, outcomes)):
                say(f"laying out decisions for later: {part:.0%}")
                _copy(engine, sql, made / f"{n:06}.parquet")
        else:
            sides = (_Log(_single(engine, files), frozenset(column_types(files))) for files in (decisions, outcomes))
            _copy(engine, f"{_laid_out(plan, *sides)} order by place", made / "000000.parquet")
        if often:
            some = f"select * from {_parquet(sorted(made.iterdir()))} where halvings >= {_kept(often)}"
            _copy(engine, f"{some} order by least(halvings, {often}) desc, place", _share_of(cache))
        try:
            os.replace(made, cache)
        except OSError:
            if not cache.exists():  # another process was quicker
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    older = sorted(cache.parent.glob("decided-*.parquet"), key=lambda p: p.stat().st_mtime)
    for path in older[:-KEPT]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        _share_of(path).unlink(missing_ok=True)


def _parts(
    engine: Engine, plan: Plan, decisions: Mapping[Path, int], outcomes: Mapping[Path, int]
) -> Iterator[tuple[float, str]]:
    """SQL that lays out some files of decisions after the other, with the share of all rows that was laid out before.

    Nothing comes twice. Outcomes are held by what is read of them; what a part joins with them fits into memory.
    """
    known = frozenset(column_types(outcomes))
    kept = ["key", *(c for c in ("known_at", "label", *(f"facts.{n}" for n in plan.facts)) if c in known)]
    engine.run(f"create temp table known as select {', '.join(map(quoted, kept))} from {_parquet(outcomes)}")
    first = dict(zip(decisions, accumulate(decisions.values(), initial=0), strict=False))
    engine.adopt("first places", {"file": [str(f) for f in first], "first": list(first.values())})
    try:
        for files in _groups(decisions):
            rows = _parquet(files, ", filename = true, file_row_number = true")
            place = '"first" + file_row_number + 1 as place'
            placed = f'select l.*, {place} from {rows} l join "first places" on filename = file'
            own = f"(select * from known where key in (select key from {_parquet(files)}))"
            sides = _Log(f"({placed})", frozenset(column_types(files)), True), _Log(own, known, True)
            yield first[files[0]] / sum(decisions.values()), _laid_out(plan, *sides)
    finally:
        engine.run("drop table known")


def _groups(files: Mapping[Path, int]) -> Iterator[list[Path]]:
    """Files in their order, so many at a time that they have about PART rows; each at least by itself."""
    group: list[Path] = []
    rows = 0
    for path, n in files.items():
        if group and rows + n > PART:
            yield group
            group, rows = [], 0
        group.append(path)
        rows += n
    yield group


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
    whole = f"select * from {_parquet(sorted(cache.iterdir()))}"
    if not _share_of(cache).exists():
        return whole
    share = f"select * from read_parquet({sql_value(str(_share_of(cache)))})"
    least = engine.rows(f"select min(halvings) from ({share})")[0][0]
    return f"{share} union all {whole} where halvings < {least}"


@dataclass(frozen=True)
class _Log:
    """One kind of entry as SQL to select from, and its columns.

    `is_single`: no entry and no question comes twice; decisions have their `place` already.
    """

    sql: str
    columns: frozenset[str]
    is_single: bool = False


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


def _parquet(files: Iterable[Path], more: str = "") -> str:
    return f"read_parquet([{', '.join(sql_value(str(f)) for f in files)}], union_by_name = true{more})"


def _comes_once(engine: Engine, files: Iterable[Path]) -> bool:
    """Whether no id and no key comes twice. Two with one hash may seem to be one: that costs time, nothing else."""
    if "key" not in column_types(files):
        return False
    hashes = f"select count(*), count(distinct hash(id)), count(distinct hash(key)) from {_parquet(files)}"
    n, ids, keys = engine.rows(hashes)[0]
    return bool(n == ids == keys)


def _single(engine: Engine, files: Iterable[Path]) -> str:
    """SQL of all entries; of those that were sent twice, the first."""
    n, distinct = engine.rows(f"select count(*), count(distinct id) from {_parquet(files)}")[0]
    once = "" if n == distinct else 'qualify row_number() over (partition by id order by "at") = 1'
    return f"(select * from {_parquet(files)} {once})"


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
    places = "" if decisions.is_single else f"left join ({numbered} from {source}) n on d.id = n.id"
    parts += ["d.place", "false as again"] if decisions.is_single else ["n.place", "n.again"]
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
