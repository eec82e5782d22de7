"""What cleaning did to a source: each step with what it changed or set aside, and what would be without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from underhood.plan.cleaning import Cleaning, Dropping, Filling, find_step, title
from underhood.plan.joins import Plan, asks_sql, settle
from underhood.plan.render import quoted, sql_value
from underhood.plan.sources import Typed, reads, source_sql, stage_sql, step_sql
from underhood.plan.steps import Base, Source
from underhood.tables.local import Engine

MOST_SHOWN = 5


@dataclass(frozen=True)
class Example:
    """A row that a step touched: its place in the file (from 1), its key, the value before and after.

    For a step of rows, `before` says what the row has in common with the others that went.
    """

    row: int
    key: str
    before: Any
    after: Any
    rows: int


@dataclass(frozen=True)
class Effect:
    """What one step did. Of `rows` that reached it, `changed` values, of them `nulled` to null and `filled` from null.

    `removed` rows were set aside. `top` are the changes that occur most, each
    with one row that shows it. `old_type` and `new_type` differ where the step changed the type.
    """

    step: str
    name: str
    column: str
    rows: int
    changed: int
    nulled: int
    filled: int
    removed: int
    old_type: str
    new_type: str
    why: str
    top: tuple[Example, ...]


@dataclass(frozen=True)
class Cleaned:
    """A source's cleaning as it went: rows read, rows kept, and each step's effect in order."""

    source: str
    owner: str
    read: int
    kept: int
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Without:
    """What would be without one step: rows kept then, and how many values would differ, by column.

    Of `questions` asked in both, `inputs` says how many would hold another value, by input.
    """

    step: str
    kept: int
    differ: Mapping[str, int]
    questions: int | None = None
    inputs: Mapping[str, int] = field(default_factory=dict)


def effects_of(engine: Engine, source: Typed) -> Cleaned:
    """What each cleaning step of a source did. Needs the views that read_plan made."""
    name = source.source.name
    raw = quoted(f"raw {name}")
    read = engine.rows(f"select count(*) from {raw}")[0][0]
    kept = engine.rows(f"select count(*) from {quoted(name)}")[0][0]
    return Cleaned(
        name, source.source.owner, read, kept, tuple(_effect(engine, source, raw, n) for n in range(len(source.stages)))
    )


def _effect(engine: Engine, source: Typed, raw: str, n: int) -> Effect:
    step = source.stages[n].step
    if isinstance(step, Cleaning | Filling):
        return _of_values(engine, source, raw, n, step)
    last = stage_sql(source, raw, n + 1)
    shown = _shown_columns(source, n)
    rows, removed = engine.rows(
        f"select count(*) filter (where __removed is null or __removed = {n}), "
        f"count(*) filter (where __removed = {n}) from {last}"
    )[0]
    listed = ", ".join(f"{quoted(c)}::VARCHAR" for c in shown)
    found = engine.rows(
        f"select __row, __key, {listed} from {last} where __removed = {n} order by __row limit {MOST_SHOWN}"
    )
    top = tuple(
        Example(row[0], row[1], ", ".join(f"{c} {v}" for c, v in zip(shown, row[2:], strict=True)), None, 1)
        for row in found
    )
    why = step.why if isinstance(step, Dropping) else ""
    return Effect(title(step), step.name, "", rows, 0, 0, 0, removed, "", "", why, top)


def _shown_columns(source: Typed, n: int) -> Sequence[str]:
    """The columns that say most about why a row was set aside."""
    return sorted(reads(source.stages[n].step))[:4] or list(source.raw)[:3]


def _of_values(engine: Engine, source: Typed, raw: str, n: int, step: Cleaning | Filling) -> Effect:
    before = source.stages[n - 1].schema if n else source.raw
    old_type, new_type = before.get(step.column, ""), source.stages[n].schema[step.column]
    column = quoted(step.column)
    here = " where __removed is null" if source.has_row_steps else ""
    differs = "__before is not null" if old_type != new_type else f"__before is distinct from {column}"
    lost = f"__before is not null and {column} is null"
    groups = (
        f"select __before as old, {column} as new, count(*) as n, min(__row) as row, arg_min(__key, __row) as key, "
        f"{lost} as lost, {differs} as differs, __before is null and {column} is not null as won "
        f"from {step_sql(source, raw, n)}{here} group by old, new, lost, differs, won"
    )
    sums = ", ".join(
        f"(sum(case when {holds} then n else 0 end) over ())::BIGINT" for holds in ("true", "differs", "lost", "won")
    )
    lost_first = "lost desc, " if old_type != new_type else ""
    found = engine.rows(
        f"select {sums}, differs, row, key, old, new, n from ({groups}) "
        f"order by differs desc, {lost_first}n desc, row limit {MOST_SHOWN}"
    )
    rows, changed, nulled, filled = found[0][:4] if found else (0, 0, 0, 0)
    top = tuple(Example(row, key, old, new, n) for *_, differs, row, key, old, new, n in found if differs)
    return Effect(title(step), step.name, step.column, rows, changed, nulled, filled, 0, old_type, new_type, "", top)


def without_step(engine: Engine, plan: Plan, source: str, wanted: str) -> Without:
    """What would be if one cleaning step were left out. Nothing is kept, nothing changes.

    Needs the view `asks`. Raises ProjectError if there is no such step, or if the rest
    does not hold without it.
    """
    now = plan.sources[source]
    step = find_step(now.source.cleaning, wanted, source)
    left = replace(now.source, cleaning=tuple(s for s in now.source.cleaning if s is not step))
    raw = {name: each.raw for name, each in plan.sources.items()}
    then_plan = settle(replace(plan.system, asks=_with_source(plan.system.asks, left)), raw)
    then = then_plan.sources[source]
    table = quoted(f"raw {source}")
    before, after = _kept(now, table), _kept(then, table)
    both = [c for c in then.cleaned if now.cleaned.get(c) == then.cleaned[c]]
    rows = engine.rows(f"select {_differing(both)} from {before} a join {after} b using (__row)")[0]
    kept = engine.rows(f"select count(*) from {after}")[0][0]
    differ = {c: n for c, n in zip(both, rows[1:], strict=True) if n}
    differ |= {c: kept for c in then.cleaned if c not in both}
    questions, inputs = _asked_without(engine, plan, then_plan, source)
    return Without(title(step), kept, differ, questions, inputs)


def _asked_without(engine: Engine, plan: Plan, other: Plan, source: str) -> tuple[int, dict[str, int]]:
    """Questions that are asked in both plans, and how many have another value, by input."""
    (view,) = engine.rows(f"select sql from duckdb_views() where view_name = {sql_value(source)}")[0]
    engine.view(source, source_sql(other.sources[source], quoted(f"raw {source}")))
    try:
        both = [c for c, t in other.inputs.items() if plan.inputs.get(c) == t]
        rows = engine.rows(f"select {_differing(both)} from asks a join ({asks_sql(other)}) b using (__row)")[0]
    finally:
        engine.run(view.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
    return rows[0], {c: n for c, n in zip(both, rows[1:], strict=True) if n}


def _differing(columns: Sequence[str]) -> str:
    listed = (f"count(*) filter (where a.{quoted(c)} is distinct from b.{quoted(c)})" for c in columns)
    return ", ".join(["count(*)", *listed])


def _with_source(base: Base, source: Source) -> Base:
    """The questions with another source in place of the one of that name, wherever it is used."""

    def put(one: Source) -> Source:
        if one.name == source.name:
            return source
        steps = [replace(s, reference=put(s.reference)) if isinstance(s, Filling) else s for s in one.cleaning]
        return replace(one, cleaning=tuple(steps))

    joins = tuple(replace(join, source=put(join.source)) for join in base.joins)
    return replace(base, source=put(base.source), joins=joins)


def _kept(source: Typed, raw: str) -> str:
    """The cleaned rows of a source before derived columns and clocks, as a relation."""
    last = stage_sql(source, raw, len(source.stages))
    return f"(select * from {last} where __removed is null)" if source.has_row_steps else f"(select * from {last})"


def cleaned_json(cleaned: Cleaned) -> dict[str, Any]:
    """What cleaning did, as plain JSON values."""
    return asdict(cleaned)
