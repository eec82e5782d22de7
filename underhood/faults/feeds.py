"""Faults of a feed: a source stopped, or arrives too late to be used; and what is empty for another reason.

All columns of a source empty at once is a feed. One column alone, while others of
its row are there, is not (nulls.py); nor is a join that misses because keys are written otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb, log

import numpy as np

from underhood.faults.extent import Extent, extent_of
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.plan.changes import INPUT, RECOMPUTED, Change
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import NUMBER, TEXT
from underhood.plan.render import quoted
from underhood.plan.steps import Asof, Recent

GONE, USUAL = 0.5, 0.05  # null share among the bad, and at most among the rest
BY_CHANCE = 1e-3  # of so many nulls among the bad, over all inputs
FEED, COLUMN, KEYS = "feed", "column", "keys"


@dataclass(frozen=True)
class Emptied:
    """Columns of one source that are empty for the bad. `how`: the FEED, one COLUMN, or the KEYS of its join.

    `lost` are those that history had when asked. `by` are the key columns that are written otherwise.
    """

    part: str
    columns: tuple[str, ...]
    lost: tuple[str, ...]
    how: str
    extent: Extent
    by: tuple[str, ...] = ()


def inject_missing(columns: Sequence[str], where: Expr | None = None) -> tuple[Change, ...]:
    """The columns of a feed arrive empty."""
    return tuple(Change(INPUT, column, None, where) for column in columns)


def undo_missing(donor: Mapping[str, object], where: Expr | None = None) -> tuple[Change, ...]:
    """A donor stands in for each missing value: what history has after all, else what is usual."""
    return tuple(Change(INPUT, column, value, where) for column, value in donor.items())


def emptied(scene: Scene) -> tuple[Emptied, ...]:
    """The inputs that are empty for the bad and should not be, by what emptied them; found once for a scene."""
    found: tuple[Emptied, ...] = scene.once("emptied", _emptied)
    return found


def _emptied(scene: Scene) -> tuple[Emptied, ...]:
    names = list(scene.plan.inputs)
    empty = [f"({quoted('row.' + c)} is null)::INT" for c in names]
    shares = ", ".join(f"sum({e}) filter (where bad), avg({e}) filter (where not bad)" for e in empty)
    n, *found = counted(
        scene.engine, f"select count(*) filter (where bad), {shares} from decisions where status = 'ok'"
    )
    lost = lost_inputs(scene)
    shown = zip(names, found[::2], found[1::2], strict=True)
    gone = [c for c, bad, rest in shown if c in lost or _is_gone(int(bad), int(n), float(rest), len(names))]
    by_part: dict[str, list[str]] = {}
    for column in gone:
        by_part.setdefault(part_of(scene, column), []).append(column)
    return tuple(each for part, columns in by_part.items() for each in _told(scene, part, columns, lost))


def _is_gone(empty: int, n: int, usual: float, looks: int) -> bool:
    """Whether so many of the bad are empty that it is no chance, where next to none of the rest are."""
    if not n or empty < GONE * n or usual > USUAL:
        return False
    p = max(usual, 1e-6)
    return looks * comb(n, empty) * p**empty < BY_CHANCE if n < 60 else empty * log(usual + 1e-6) < log(BY_CHANCE)


def lost_inputs(scene: Scene) -> list[str]:
    """Inputs served empty to most of the decisions in question, though history had them when asked."""
    names = list(scene.plan.inputs)
    empty = [f"d.{quoted('row.' + c)} is null and a.{quoted(c)} is not null" for c in names]
    n, *lost = counted(
        scene.engine,
        f"select count(*), {', '.join(f'count(*) filter (where {e})' for e in empty)} "
        "from decisions d join asks a on d.key = a.key where d.bad and d.status = 'ok'",
    )
    return [c for c, k in zip(names, lost, strict=True) if n and k >= GONE * n]


def _told(scene: Scene, part: str, columns: list[str], lost: Sequence[str]) -> list[Emptied]:
    """What emptied the columns of a part: the feed if all of it is gone, else each on its own."""
    known = tuple(c for c in columns if c in lost)
    siblings = [c for c in _columns_of(scene, part) if c not in columns and not _is_seldom(scene, c)]
    if siblings:
        # what history has not either is no fault of reading: values.py tells it
        columns = [c for c in columns if c in lost]
        alone = [
            Emptied(part, (c,), (c,) if c in lost else (), COLUMN, _extent(scene, (c,), c in lost)) for c in columns
        ]
        return alone
    whole = Emptied(part, tuple(columns), known, FEED, _extent(scene, tuple(columns), bool(known)))
    by = _written_otherwise(scene, part, columns) if len(known) == len(columns) else ()
    return [replace(whole, how=KEYS, by=by, extent=_extent(scene, columns, True, by))] if by else [whole]


def _columns_of(scene: Scene, part: str) -> list[str]:
    return [c for c in scene.plan.inputs if part_of(scene, c) == part]


def _is_seldom(scene: Scene, column: str) -> bool:
    """Whether the column is mostly empty anyway, so that its being there tells nothing."""
    name = quoted("row." + column)
    return bool(
        scene.engine.rows(f"select coalesce(avg(({name} is null)::INT), 1) from decisions where bad")[0][0] > 0.5
    )


def _extent(scene: Scene, columns: Sequence[str], lost: bool, by: Sequence[str] = ()) -> Extent:
    """Where they are empty, among the decisions for which history has them (all, if it has none either)."""
    empty = " and ".join(f"d.{quoted('row.' + c)} is null" for c in columns)
    had = " or ".join(f"a.{quoted(c)} is not null" for c in columns) if lost else "true"
    rows = scene.engine.frame(
        f"select d.id, ({empty}) and ({had}) as shows, ({had}) as can from decisions d left join (select * from asks "
        "qualify row_number() over (partition by key) = 1) a on d.key = a.key where d.status = 'ok' order by d.id"
    )
    return extent_of(scene, rows["id"], rows["shows"] > 0, rows["can"] > 0, skip=(*columns, *by))


def _written_otherwise(scene: Scene, part: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The key columns of a join that are written otherwise than in history where the join misses, and only there."""
    join = _join_of(scene, part)
    if join is None:
        return ()
    empty = " and ".join(f"d.{quoted('row.' + c)} is null" for c in columns)
    had = " or ".join(f"a.{quoted(c)} is not null" for c in columns)
    found = []
    for by in join.by:
        if scene.plan.inputs.get(by) != TEXT:
            continue
        served, again = f"d.{quoted('row.' + by)}", f"a.{quoted(by)}"
        n, other = counted(
            scene.engine,
            f"select count(*), count(*) filter (where {served} is distinct from {again}) from decisions d join asks a "
            f"on d.key = a.key where {empty} and ({had})",
        )
        if n and other >= 0.9 * n:
            found.append(by)
    return tuple(found)


def _join_of(scene: Scene, part: str) -> Asof | None:
    joins = [j for j in scene.plan.system.asks.joins if isinstance(j, Asof)]
    return next((j for j in joins if joined_part(scene, j) == part), None)


def suspect_missing(scene: Scene) -> Ruling:
    """All that a source brings is empty for the bad, and is nearly always there for others, or in history."""
    found = emptied(scene)
    feeds = [e for e in found if e.how == FEED]
    if feeds:
        return Ruling(MISSING.name, tuple(empty_suspect(scene, MISSING.name, e) for e in feeds))
    if not found:
        return Ruling(MISSING.name, (), "no input is missing that is there for other decisions")
    columns = ", ".join(c for e in found for c in e.columns)
    why = "its keys are written otherwise" if found[0].how == KEYS else "others of the same rows are there"
    return Ruling(MISSING.name, (), f"{columns} is empty, but {why}: the feed came")


def empty_suspect(scene: Scene, kind: str, found: Emptied, why: str = "") -> Suspect:
    """A suspect for columns that are empty: the decisions made without them, since when, and what history has."""
    empty = " and ".join(f"{quoted('row.' + c)} is null" for c in found.columns)
    n, first, last = scene.engine.rows(f"select count(*), min(asked_at), max(asked_at) from decisions where {empty}")[0]
    where = col(f"row.{found.columns[0]}").is_null()
    span = found.extent.where
    # where only a part of the rows is empty, those are meant and no others
    meant = where if span is None else span if found.extent.is_whole else span & where
    had = ", though history had it" if len(found.lost) == len(found.columns) else ""
    donor = {
        **_donor(scene, [c for c in found.columns if c not in found.lost]),
        **dict.fromkeys((*found.lost, *found.by), RECOMPUTED),
    }
    told, said = ", ".join(found.columns), found.extent.says
    return Suspect(
        kind,
        found.part,
        f"{n:,} decisions were made without {told} ({found.part}){had}{said or f' from {first} to {last} UTC'}{why}",
        _emptied_sql(found),
        undo_missing({c: donor[c] for c in (*found.columns, *found.by)}, where),
        meant,
        found.extent.since or str(first),
        {"columns": list(found.columns), "decisions": n},
    )


def _emptied_sql(found: Emptied) -> str:
    """SQL of the decisions that were made without these columns, beside what history had, if it had them."""
    empty = " and ".join(f"d.{quoted('row.' + c)} is null" for c in found.columns)
    if not found.lost:
        return f"select d.id, d.asked_at from decisions d where {empty} order by d.asked_at"
    had = ", ".join(f"a.{quoted(c)} as {quoted('had ' + c)}" for c in found.lost)
    is_lost = " or ".join(f"a.{quoted(c)} is not null" for c in found.lost)
    return (
        f"select d.id, d.asked_at, {had} from decisions d join asks a on d.key = a.key where {empty} and ({is_lost}) "
        "order by d.asked_at"
    )


def _donor(scene: Scene, columns: Sequence[str]) -> dict[str, object]:
    made: dict[str, object] = {}
    for c in columns:
        pick = "median" if scene.plan.inputs[c] == NUMBER else "mode"
        made[c] = scene.engine.rows(f"select {pick}({quoted('row.' + c)}) from decisions where not bad")[0][0]
    return made


def part_of(scene: Scene, column: str) -> str:
    """The part that brings an input: a joined source, a window over one, or the source of the questions.

    A source that is joined several times, or joined to itself, is named with what it is joined by.
    """
    asks = scene.plan.system.asks
    for join in asks.joins:
        if isinstance(join, Asof) and column in join.take:
            return joined_part(scene, join)
        if isinstance(join, Recent) and column in join.figures:
            return f"window over {join.source.name}"
    return f"source {asks.source.name}"


def joined_part(scene: Scene, join: Asof) -> str:
    """The name of what an as-of join brings."""
    asks = scene.plan.system.asks
    times = [j.source.name for j in asks.joins if isinstance(j, Asof)] + [asks.source.name]
    name = f"source {join.source.name}"
    return name if times.count(join.source.name) == 1 else f"{name} by {', '.join(join.by)}"


def propose_missing(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """All that one joined source brings is empty."""
    joins = [j for j in scene.plan.system.asks.joins if isinstance(j, Asof)]
    if not joins:
        return None
    columns = list(joins[int(random.integers(len(joins)))].take)
    return Injection(MISSING.name, inject_missing(columns, cohort), tuple(columns), {"columns": columns}, cohort)


MISSING = Kind(
    "missing feed", "a feed stopped or came too late", 2, inject_missing, suspect_missing, undo_missing, propose_missing
)
