"""A system's table of questions as SQL: joins as of then, windows, facts, label, on DuckDB and on Spark.

Pinned for every engine:
- rows out = rows in: a question without a partner keeps its row and gets nulls;
- as-of takes, among the rows known when asked, the one that happened last; a
  later correction of the same moment wins once it is known;
- a window holds what happened strictly before the question, at most `over`
  before it, and was known by then; a late column is null until its own clock;
- a question's own row never answers it; sums are exact, so the same rows give the
  same bits in any order (windows.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from underhood.ground.errors import ProjectError, UnderhoodError, nearest, raise_all
from underhood.plan.asof import Side, Words, asof_sql, method_of
from underhood.plan.exprs import Expr, columns_of, typed
from underhood.plan.fitted import check_parts
from underhood.plan.literals import DUCKDB
from underhood.plan.operations import FLAG, NUMBER, SPAN, TIME
from underhood.plan.sources import Schema, Typed, alike, gather, settle_clock, settle_source
from underhood.plan.steps import ASKED_AT, RESERVED, Asof, Recent, System, plain, sources_of
from underhood.plan.windows import figure, recent_sql, window_way


@dataclass(frozen=True)
class Plan:
    """A system settled by type. `inputs` are what a question holds, `facts` what becomes known later."""

    system: System
    sources: Mapping[str, Typed]
    inputs: Schema
    facts: Schema
    features: Mapping[str, Expr]
    feature_types: Schema
    label: Expr
    label_known: Expr
    asked_at: Expr


def settle(system: System, raw: Mapping[str, Schema]) -> Plan:
    """The plan of a system, given the column types of each source as read from its data.

    Raises ProjectError with all breakages at once: unknown columns, wrong types,
    features that would look at what is known only later.
    """
    errors: list[UnderhoodError] = []
    sources: dict[str, Typed] = {}
    for name, each in sources_of(system.asks).items():
        gather(errors, lambda n=name, s=each: sources.update({n: settle_source(s, raw[n], sources)}))
    raise_all(errors)
    asked = sources[system.asks.source.name]
    asked_at = settle_clock(system.asks.at, asked.schema, f"{asked.source.name}.asks", errors)
    inputs = {c: t for c, t in asked.schema.items() if c not in asked.late}
    for join in system.asks.joins:
        gather(errors, lambda j=join: inputs.update(_joined(j, sources[j.source.name], inputs, asked.schema, errors)))
    facts = {c: asked.schema[c] for c in asked.late}
    features: dict[str, Expr] = {}
    feature_types: dict[str, str] = {}
    for name, expr in system.features.items():
        gather(errors, lambda n=name, e=expr: _feature(n, e, inputs, facts, features, feature_types, asked))
    for name, like in alike(system.features):
        errors.append(ProjectError(f"differs from {like!r} only by capitals", f"features.{name}", "rename one"))
    label, label_known = _label(system, {**inputs, **facts}, errors)
    watched = [c for c in system.goal.watch if c not in inputs]
    if watched:
        errors.append(ProjectError(f"there is no column {watched[0]!r}", "goal.watch", nearest(watched[0], inputs)))
    raise_all(errors)
    return Plan(system, sources, inputs, facts, features, feature_types, label, label_known, asked_at)


def _joined(
    join: Asof | Recent, other: Typed, inputs: Schema, asked: Schema, errors: list[UnderhoodError]
) -> dict[str, str]:
    """The columns that a join adds, with their types; a wrong one does not take the others with it."""
    where = f"{'asof' if isinstance(join, Asof) else 'recent'} {other.source.name}"
    for by in join.by:
        if by not in other.schema or by not in inputs:
            raise ProjectError(
                f"both sides need the column {by!r}", where, nearest(by, set(other.schema) & set(inputs))
            )
        if by in other.late:
            hint = "join by what is known with the row: whom a row belongs to would be told too early"
            raise ProjectError(f"{by} is known late in {other.source.name}", where, hint)
        if other.schema[by] != inputs[by]:
            raise ProjectError(f"{by} is {inputs[by]} here, {other.schema[by]} there", where, "make them alike")
    if isinstance(join, Asof) and join.tie:
        if join.tie not in other.schema:
            raise ProjectError(f"there is no column {join.tie!r}", where, nearest(join.tie, other.schema))
        if join.tie in other.late:
            raise ProjectError(f"{join.tie} is known late in {other.source.name}", where, "break ties by what is known")
    made: dict[str, str] = {}
    wanted = join.take if isinstance(join, Asof) else join.figures
    taken = {n.casefold() for n in (*inputs, *asked, *RESERVED)}
    for name in wanted:
        if name.casefold() in taken:
            errors.append(ProjectError(f"{name!r} is there already", where, "derive it under another name"))
        elif isinstance(join, Recent):
            made[name] = NUMBER
            gather(errors, lambda n=name: figure(join.figures[n], other, where))
        elif join.take[name] in other.schema:
            made[name] = other.schema[join.take[name]]
        else:
            hint = nearest(join.take[name], other.schema)
            errors.append(ProjectError(f"there is no column {join.take[name]!r}", where, hint))
    return made


def _feature(
    name: str,
    expr: Expr,
    inputs: Schema,
    facts: Schema,
    features: dict[str, Expr],
    types: dict[str, str],
    asked: Typed,
) -> None:
    late = sorted(columns_of(expr) & set(facts))
    if late:
        raise ProjectError(
            f"looks at {late[0]}, which is known only at {asked.source.late[late[0]]}, after the question",
            f"features.{name}",
            "leave it out, or use it in a window of earlier rows with .recent(...)",
        )
    features[name], types[name] = typed(expr, {**inputs, ASKED_AT: TIME}, f"features.{name}")
    check_parts(features[name], f"features.{name}")
    if types[name] in (TIME, SPAN):
        hint = "a model sees numbers, flags and texts: take .hour(), .weekday() or a difference in .hours()"
        raise ProjectError(f"is a {types[name]}", f"features.{name}", hint)


def _label(system: System, columns: Schema, errors: list[UnderhoodError]) -> tuple[Expr, Expr]:
    where = f"label {system.label.name}"
    known = settle_clock(system.label.known, columns, where, errors)
    value = system.label.value
    try:
        value, kind = typed(value, columns, where)
        if kind != FLAG:
            errors.append(ProjectError(f"is a {kind}, not a flag", where, "compare: arr_delay > 30"))
    except ProjectError as error:
        errors.append(error)
    return value, known


def asks_sql(
    plan: Plan, engine: str = DUCKDB, ways: Mapping[int, str] | None = None, made: Mapping[int, str] | None = None
) -> str:
    """The table of questions, one row for each row of the asked source, in order of asked_at.

    The engine has the cleaned sources under their names. `ways` is how each join is
    made, by its place from 1 (see `ways_of`). `made` names relations that hold
    what some joins add, by __row, so that these are not made again.
    """
    words, made, ways = Words(engine), made or {}, ways or ways_of(plan, engine)
    asked = plan.sources[plan.system.asks.source.name]
    own = [c for c in asked.schema if c not in asked.late]
    hidden = [f"__late_{c}" for c in plan.facts]
    named = [words.name(c) for c in (*own, *plan.facts, *hidden)]
    steps = [f"j0 as ({_first_sql(plan, named, words)})"]
    added: list[str] = []
    for n, join in enumerate(plan.system.asks.joins, 1):
        columns = join_columns(plan, n)
        if n in made:
            listed = "".join(f", m.{words.name(c)}" for c in columns)
            sql = f"select l.*{listed} from j{n - 1} l left join {made[n]} m on m.__row = l.__row"
        else:
            sql = _join_sql(plan, n, Side(f"j{n - 1}", "l.*", words, _is_own(plan, join)), ways)
        steps.append(f"j{n} as ({sql})")
        added += columns
    steps.append(f"k as (select *, {words.sql(plan.label_known)} as __label_known from j{len(plan.system.asks.joins)})")
    facts = [
        f"case when {words.name('__late_' + c)} <= __label_known then {words.name(c)} end as {words.name(c)}"
        for c in plan.facts
    ]
    kept = [*map(words.name, own), *facts, *map(words.name, added)]
    steps.append(f"f as (select __row, key, {ASKED_AT}, {', '.join(kept)}, __label_known from k)")
    label = f"select *, {words.sql(plan.label)} as label from f order by {ASKED_AT}, __row"
    return f"with {', '.join(steps)} {label}"


def ways_of(plan: Plan, engine: str, most: Mapping[int, int] | None = None) -> dict[int, str]:
    """How each join is made on an engine, by its place from 1; `most` holds what `most_sql` found for it."""
    ways = {}
    for n, join in enumerate(plan.system.asks.joins, 1):
        rows = (most or {}).get(n)
        if isinstance(join, Recent):
            ways[n] = window_way(join, plan.sources[join.source.name], rows)
        else:
            ways[n] = method_of(engine, _is_own(plan, join), rows)
    return ways


def most_sql(plan: Plan, n: int, engine: str = DUCKDB) -> str:
    """How many rows the most frequent key of the `n`th join has: one row, one whole number, null without rows."""
    words, join = Words(engine), plan.system.asks.joins[n - 1]
    by = ", ".join(words.name(b) for b in join.by)
    counted = f"select count(*) as n from {words.name(join.source.name)}{f' group by {by}' if by else ''}"
    return f"select max(n) as most from ({counted}) c"


def join_sql(plan: Plan, n: int, made: Mapping[int, str], ways: Mapping[int, str] | None = None) -> str:
    """What the `n`th join adds, by __row, as DuckDB SQL; `made` names what the joins that it `needs` have added."""
    words, join = Words(), plan.system.asks.joins[n - 1]
    asked = plan.sources[plan.system.asks.source.name]
    own = [words.name(b) for b in join.by if b in asked.schema]
    parts = [f"j0 as ({_first_sql(plan, own, words)})"]
    others = {b: k for k in needs(plan, n) for b in join.by if b in join_columns(plan, k)}
    listed = "".join(f", m{k}.{words.name(b)}" for b, k in others.items())
    joined = " ".join(f"left join {made[k]} m{k} on m{k}.__row = j0.__row" for k in sorted(set(others.values())))
    parts.append(f"q as (select j0.*{listed} from j0 {joined})")
    side = Side("q", "l.__row", words, _is_own(plan, join))
    return f"with {', '.join(parts)} {_join_sql(plan, n, side, ways or ways_of(plan, DUCKDB))}"


def needs(plan: Plan, n: int) -> tuple[int, ...]:
    """The earlier joins that give the `n`th one a column to join by."""
    by = set(plan.system.asks.joins[n - 1].by)
    return tuple(k for k in range(1, n) if by & set(join_columns(plan, k)))


def join_columns(plan: Plan, n: int) -> tuple[str, ...]:
    """The columns that the `n`th join adds, from 1; with as-of, the number of the row used is the last."""
    join = plan.system.asks.joins[n - 1]
    if isinstance(join, Recent):
        return tuple(join.figures)
    return (*join.take, f"__{join.source.name}_{n}_row")


def join_definition(plan: Plan, n: int) -> list[Any]:
    """All that the values of the `n`th join depend on, as plain JSON, but for the files' content."""
    join, base = plan.system.asks.joins[n - 1], plan.system.asks
    used = set(join.by)
    if isinstance(join, Asof):
        used |= {*join.take.values(), *([join.tie] if join.tie else [])}
    else:
        used |= {c for a in join.figures.values() if a.value is not None for c in columns_of(a.value)}
    asked = _definition(plan.sources[base.source.name], {*join.by, *columns_of(plan.asked_at)})
    step = {f: plain(getattr(join, f)) for f in join.__dataclass_fields__ if f != "source"}
    others = [join_definition(plan, k) for k in needs(plan, n)]
    return [n, plan.asked_at.key(), asked, _definition(plan.sources[join.source.name], used), step, others]


def _definition(of: Typed, used: Iterable[str]) -> list[Any]:
    """What some columns of a source and its clocks are made of."""
    clocks = {"happened": of.happened, "known": of.known, **{c: of.late[c] for c in sorted(used) if c in of.late}}
    needed = {*used, *(c for clock in clocks.values() for c in columns_of(clock))}
    made = {c: of.columns[c].key() for c in sorted(needed) if c in of.columns}
    return [of.source.name, [plain(s.step) for s in of.stages], made, {c: e.key() for c, e in clocks.items()}]


def _first_sql(plan: Plan, listed: Sequence[str], words: Words) -> str:
    columns = "".join(f", {c}" for c in listed)
    asked = words.name(plan.system.asks.source.name)
    return f"select __row, __key as key, {words.sql(plan.asked_at)} as {ASKED_AT}{columns} from {asked}"


def _join_sql(plan: Plan, n: int, side: Side, ways: Mapping[int, str]) -> str:
    join = plan.system.asks.joins[n - 1]
    other = plan.sources[join.source.name]
    if isinstance(join, Recent):
        return recent_sql(join, other, side, ways[n])
    return asof_sql(join, other, n, side, ways[n])


def _is_own(plan: Plan, join: Asof | Recent) -> bool:
    """Whether a question's own row could be among those that the join looks at."""
    asked = plan.system.asks.source
    if join.source.path != asked.path:
        return False
    other = plan.sources[join.source.name]
    # asked at the moment when it happened: strictly before it there is no row of its own
    is_strict = isinstance(join, Recent) or join.is_strict
    return not (is_strict and join.source.name == asked.name and plan.asked_at.key() == other.happened.key())
