"""Faults of a feed: a source stopped, or arrives too late to be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from underhood.faults.kinds import Kind, Ruling, Scene, Suspect, counted
from underhood.plan.changes import INPUT, RECOMPUTED, Change
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import NUMBER
from underhood.plan.render import quoted
from underhood.plan.steps import Asof, Recent

GONE, USUAL = 0.5, 0.05  # null share among the bad, and at most among the rest


def inject_missing(columns: Sequence[str], where: Expr | None = None) -> tuple[Change, ...]:
    """The columns of a feed arrive empty."""
    return tuple(Change(INPUT, column, None, where) for column in columns)


def undo_missing(donor: Mapping[str, object], where: Expr | None = None) -> tuple[Change, ...]:
    """A donor stands in for each missing value: what history has after all, else what is usual."""
    return tuple(Change(INPUT, column, value, where) for column, value in donor.items())


def suspect_missing(scene: Scene) -> Ruling:
    """Columns are empty for the decisions in question that are nearly always there, or that history has."""
    names = list(scene.plan.inputs)
    empty = [f"({quoted('row.' + c)} is null)::INT" for c in names]
    shares = ", ".join(f"avg({e}) filter (where bad), avg({e}) filter (where not bad)" for e in empty)
    found = counted(scene.engine, f"select {shares} from decisions where status = 'ok'")
    lost = lost_inputs(scene)
    shown = zip(names, found[::2], found[1::2], strict=True)
    gone = [c for c, bad, rest in shown if c in lost or (bad >= GONE and rest <= USUAL)]
    if not gone:
        return Ruling(MISSING.name, (), "no input is missing that is there for other decisions")
    by_part: dict[str, list[str]] = {}
    for column in gone:
        by_part.setdefault(_part(scene, column), []).append(column)
    return Ruling(MISSING.name, tuple(_suspect(scene, part, columns, lost) for part, columns in by_part.items()))


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


def _suspect(scene: Scene, part: str, columns: list[str], lost: Sequence[str]) -> Suspect:
    empty = " and ".join(f"{quoted('row.' + c)} is null" for c in columns)
    n, first, last = scene.engine.rows(f"select count(*), min(asked_at), max(asked_at) from decisions where {empty}")[0]
    where = col(f"row.{columns[0]}").is_null()
    had = ", though history had it" if all(c in lost for c in columns) else ""
    donor = {
        **_donor(scene, [c for c in columns if c not in lost]),
        **dict.fromkeys(set(columns) & set(lost), RECOMPUTED),
    }
    return Suspect(
        MISSING.name,
        part,
        f"{n:,} decisions were made without {', '.join(columns)} ({part}){had}, from {first} to {last} UTC",
        f"select day, count(*) as decisions from decisions where {empty} group by day order by day",
        undo_missing({c: donor[c] for c in columns}, where),
        where,
        str(first),
        {"columns": columns, "decisions": n},
    )


def _donor(scene: Scene, columns: Sequence[str]) -> dict[str, object]:
    made: dict[str, object] = {}
    for c in columns:
        pick = "median" if scene.plan.inputs[c] == NUMBER else "mode"
        made[c] = scene.engine.rows(f"select {pick}({quoted('row.' + c)}) from decisions where not bad")[0][0]
    return made


def _part(scene: Scene, column: str) -> str:
    for join in scene.plan.system.asks.joins:
        if isinstance(join, Asof) and column in join.take:
            return f"source {join.source.name}"
        if isinstance(join, Recent) and column in join.figures:
            return f"window over {join.source.name}"
    return f"source {scene.plan.system.asks.source.name}"


MISSING = Kind("missing feed", "a feed stopped or came too late", 2, inject_missing, suspect_missing, undo_missing)
