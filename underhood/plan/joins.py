"""A system's table of questions as DuckDB SQL: cleaned sources, joins as of then, windows, facts, label.

Pinned for every engine:
- rows out = rows in: a question without a partner keeps its row and gets nulls;
- as-of takes, among the rows known when asked, the one that happened last; a
  later correction of the same moment wins once it is known;
- a window holds what happened strictly before the question, at most `over`
  before it, and was known by then; a late column is null until its own clock;
- sums add in order of (happened, row), so the same rows give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from underhood.ground.errors import ProjectError, UnderhoodError, nearest, raise_all
from underhood.plan.exprs import Expr, columns_of, substitute, typed
from underhood.plan.operations import FLAG, NUMBER, SPAN, TIME
from underhood.plan.render import quoted, to_sql
from underhood.plan.steps import (
    ASKED_AT,
    RESERVED,
    Aggregate,
    Asof,
    Recent,
    Source,
    System,
    late_columns,
    sources_of,
)

Schema = Mapping[str, str]


@dataclass(frozen=True)
class Typed:
    """A source with every expression settled by type: column → expression over the raw columns."""

    source: Source
    columns: Mapping[str, Expr]
    schema: Schema
    happened: Expr
    known: Expr
    late: Mapping[str, Expr]


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
        _gather(errors, lambda n=name, s=each: sources.update({n: settle_source(s, raw[n])}))
    raise_all(errors)
    asked = sources[system.asks.source.name]
    asked_at = _clock(system.asks.at, asked.schema, f"{asked.source.name}.asks", errors)
    inputs = {c: t for c, t in asked.schema.items() if c not in asked.late}
    for join in system.asks.joins:
        _gather(errors, lambda j=join: inputs.update(_joined(j, sources[j.source.name], inputs, asked.schema, errors)))
    facts = {c: asked.schema[c] for c in asked.late}
    features: dict[str, Expr] = {}
    feature_types: dict[str, str] = {}
    for name, expr in system.features.items():
        _gather(errors, lambda n=name, e=expr: _feature(n, e, inputs, facts, features, feature_types, asked))
    for name, like in _alike(system.features):
        errors.append(ProjectError(f"differs from {like!r} only by capitals", f"features.{name}", "rename one"))
    label, label_known = _label(system, {**inputs, **facts}, errors)
    watched = [c for c in system.goal.watch if c not in inputs]
    if watched:
        errors.append(ProjectError(f"there is no column {watched[0]!r}", "goal.watch", nearest(watched[0], inputs)))
    raise_all(errors)
    return Plan(system, sources, inputs, facts, features, feature_types, label, label_known, asked_at)


def _gather(errors: list[UnderhoodError], act: object) -> None:
    try:
        act()  # type: ignore[operator]
    except ProjectError as error:
        errors.append(error)


def settle_source(source: Source, raw: Schema) -> Typed:
    """One source settled by type. Raises ProjectError with all its breakages at once."""
    errors: list[UnderhoodError] = []
    cleaned: dict[str, Expr] = {}
    for step in source.cleaning:
        if step.column not in raw:
            hint = nearest(step.column, raw)
            errors.append(
                ProjectError(f"there is no column to clean ({step.name})", f"{source.name}.{step.column}", hint)
            )
        cleaned[step.column] = substitute(step.value, cleaned)
    columns: dict[str, Expr] = {}
    schema: dict[str, str] = {}

    def add(name: str, expr: Expr) -> None:
        columns[name], schema[name] = typed(expr, raw, f"{source.name}.{name}")
        if schema[name] == SPAN:
            raise ProjectError("is a span", f"{source.name}.{name}", "make it a number: .minutes() or .hours()")

    for name in raw:
        if name not in source.derived:
            _gather(errors, lambda n=name: add(n, cleaned.get(n, Expr("col", (n,)))))
    for name, expr in source.derived.items():
        _gather(errors, lambda n=name, e=expr: add(n, substitute(e, cleaned)))
    for name in (*source.key, *source.late):
        if name not in schema:
            errors.append(ProjectError(f"there is no column {name!r}", source.name, nearest(name, schema)))
    for name, other in _alike(schema):
        errors.append(ProjectError(f"differs from {other!r} only by capitals", f"{source.name}.{name}", "rename one"))
    reserved = sorted(n for n in schema if n.casefold() in RESERVED)
    if reserved:
        hint = "rename it with derive= or in the file; these words name what Underhood adds"
        errors.append(ProjectError(f"the name {reserved[0]!r} is taken", f"{source.name}.{reserved[0]}", hint))
    happened = _clock(source.happened, schema, f"{source.name}.happened", errors)
    known = _clock(source.known, schema, f"{source.name}.known", errors)
    late: dict[str, Expr] = {}
    _gather(errors, lambda: late.update(late_columns(source)))
    late = {c: _clock(at, schema, f"{source.name}.late", errors) for c, at in late.items()}
    raise_all(errors)
    return Typed(source, columns, schema, happened, known, late)


def _alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names that SQL takes for an earlier one, with that one."""
    seen: dict[str, str] = {}
    pairs = [(name, seen.setdefault(name.casefold(), name)) for name in names]
    return [(name, other) for name, other in pairs if name != other]


def _clock(expr: Expr, schema: Schema, where: str, errors: list[UnderhoodError]) -> Expr:
    try:
        settled, kind = typed(expr, schema, where)
    except ProjectError as error:
        errors.append(error)
        return expr
    if kind != TIME:
        errors.append(ProjectError(f"`{expr}` is a {kind}, not a time", where, "make a time column with derive="))
    return settled


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
    made: dict[str, str] = {}
    wanted = join.take if isinstance(join, Asof) else join.figures
    taken = {n.casefold() for n in (*inputs, *asked, *RESERVED)}
    for name in wanted:
        if name.casefold() in taken:
            errors.append(ProjectError(f"{name!r} is there already", where, "derive it under another name"))
        elif isinstance(join, Recent):
            made[name] = NUMBER
            _gather(errors, lambda n=name: figure(join.figures[n], other, where))
        elif name in other.schema:
            made[name] = other.schema[name]
        else:
            errors.append(ProjectError(f"there is no column {name!r}", where, nearest(name, other.schema)))
    return made


def figure(aggregate: Aggregate, other: Typed, where: str) -> Expr | None:
    """The settled value that a window figure is made of; null for a count. Raises ProjectError."""
    if aggregate.value is None:
        return None
    settled, kind = typed(aggregate.value, {**other.schema, ASKED_AT: TIME}, where)
    need = FLAG if aggregate.kind == "share" else NUMBER
    if kind != need:
        raise ProjectError(f"{aggregate.kind} needs a {need}, `{aggregate.value}` is a {kind}", where)
    return settled


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
    if types[name] in (TIME, SPAN):
        hint = "a model sees numbers, flags and texts: take .hour(), .weekday() or a difference in .hours()"
        raise ProjectError(f"is a {types[name]}", f"features.{name}", hint)


def _label(system: System, columns: Schema, errors: list[UnderhoodError]) -> tuple[Expr, Expr]:
    where = f"label {system.label.name}"
    known = _clock(system.label.known, columns, where, errors)
    value = system.label.value
    try:
        value, kind = typed(value, columns, where)
        if kind != FLAG:
            errors.append(ProjectError(f"is a {kind}, not a flag", where, "compare: arr_delay > 30"))
    except ProjectError as error:
        errors.append(error)
    return value, known


def source_sql(typed_source: Typed, raw: str) -> str:
    """The cleaned source with its derived columns and clocks, read from the raw table `raw`."""
    made = [f"{to_sql(expr)} as {quoted(name)}" for name, expr in typed_source.columns.items()]
    inner = f"select __row, __key, {', '.join(made)} from {raw}"
    clocks = [f"{to_sql(typed_source.happened)} as __happened", f"{to_sql(typed_source.known)} as __known"]
    clocks += [f"{to_sql(at)} as {quoted('__late_' + c)}" for c, at in typed_source.late.items()]
    return f"select *, {', '.join(clocks)} from ({inner})"


def asks_sql(plan: Plan) -> str:
    """The table of questions, one row for each row of the asked source, in order of asked_at."""
    asked = plan.sources[plan.system.asks.source.name]
    keep = [quoted(c) for c in asked.schema if c not in asked.late]
    facts = [quoted(c) for c in asked.late] + [quoted("__late_" + c) for c in asked.late]
    first = (
        f"select __row, __key as key, {to_sql(plan.asked_at)} as {ASKED_AT}, "
        f"{', '.join(keep + facts)} from {quoted(asked.source.name)}"
    )
    steps, last = [f"j0 as ({first})"], "j0"
    for n, join in enumerate(plan.system.asks.joins, 1):
        other = plan.sources[join.source.name]
        made = _asof_sql(join, other, last, n) if isinstance(join, Asof) else _recent_sql(join, other, last, asked)
        steps.append(f"j{n} as ({made})")
        last = f"j{n}"
    known = f"k as (select *, {to_sql(plan.label_known)} as __label_known from {last})"
    masked = [
        f"case when {quoted('__late_' + c)} <= __label_known then {quoted(c)} end as {quoted(c)}" for c in plan.facts
    ]
    hidden = f" exclude ({', '.join(quoted('__late_' + c) for c in plan.facts)})" if plan.facts else ""
    replaced = f" replace ({', '.join(masked)})" if masked else ""
    facts_step = f"f as (select *{hidden}{replaced} from k)"
    label = f"select *, {to_sql(plan.label)} as label from f order by {ASKED_AT}, __row"
    return f"with {', '.join([*steps, known, facts_step])} {label}"


def _masked(name: str, other: Typed, row: str, asked: str) -> str:
    column = f"{row}.{quoted(name)}"
    if name not in other.late:
        return column
    return f"(case when {row}.{quoted('__late_' + name)} <= {asked} then {column} end)"


def _asof_sql(join: Asof, other: Typed, left: str, n: int) -> str:
    by = ", ".join(quoted(b) for b in join.by)
    # Rows that a newer one already outran when they became known never win: dropped, the
    # rest happened in the order in which it became known, so one native as-of is exact.
    right = (
        f"select *, greatest(__happened, __known) as __from from {quoted(other.source.name)} "
        f"where __happened is not null and __known is not null qualify "
        f"__happened >= coalesce(max(__happened) over (partition by {by} order by greatest(__happened, __known), "
        f"__happened, __row rows between unbounded preceding and 1 preceding), __happened) and row_number() over "
        f"(partition by {by}, greatest(__happened, __known) order by __happened desc, __known desc, __row desc) = 1"
    )
    # DuckDB 1.5 sometimes finds a partner for a question without a moment
    fresh = f"r.__from <= l.{ASKED_AT}"
    if join.max_age_s is not None:
        fresh += f" and epoch_us(l.{ASKED_AT}) - epoch_us(r.__happened) <= {round(join.max_age_s * 1e6)}"
    taken = [f"case when {fresh} then {_masked(c, other, 'r', f'l.{ASKED_AT}')} end as {quoted(c)}" for c in join.take]
    taken.append(f"case when {fresh} then r.__row end as {quoted(f'__{other.source.name}_{n}_row')}")
    on = " and ".join(f"l.{quoted(b)} = r.{quoted(b)}" for b in join.by)
    return (
        f"select l.*, {', '.join(taken)} from {left} l asof left join ({right}) r on {on} and l.{ASKED_AT} >= r.__from"
    )


def _recent_sql(join: Recent, other: Typed, left: str, asked: Typed) -> str:
    width = round(join.over_s * 1e6)
    by = "".join(f"{quoted(b)}, " for b in join.by)
    figures = [_figure_sql(name, a, other) for name, a in join.figures.items()]
    same = [f"l.{quoted(b)} = r.{quoted(b)}" for b in join.by]
    if other.source.name == asked.source.name:
        same.append("l.__row <> r.__row")
    # Each question looks into two buckets as wide as the window: an equality join with a
    # residual, where a plain range join would compare every pair of one key.
    window = (
        f"select l.__row, {', '.join(figures)} from "
        f"(select __row, {by}{ASKED_AT}, unnest([epoch_us({ASKED_AT}) // {width}, "
        f"epoch_us({ASKED_AT}) // {width} - 1]) as __bucket from {left}) l join "
        f"(select *, epoch_us(__happened) // {width} as __bucket from {quoted(other.source.name)}) r on "
        f"{' and '.join(['l.__bucket = r.__bucket', *same])} and r.__happened < l.{ASKED_AT} and "
        f"epoch_us(l.{ASKED_AT}) - epoch_us(r.__happened) <= {width} and r.__known <= l.{ASKED_AT} group by l.__row"
    )
    made = ", ".join(
        f"coalesce(w.{quoted(n)}, 0)::DOUBLE as {quoted(n)}" if a.kind == "count" else f"w.{quoted(n)}"
        for n, a in join.figures.items()
    )
    return f"select l.*, {made} from {left} l left join ({window}) w using (__row)"


def _figure_sql(name: str, aggregate: Aggregate, other: Typed) -> str:
    value = figure(aggregate, other, name)
    if value is None:
        return f"count(*) as {quoted(name)}"
    text = _window_sql(value, other)
    order = "order by r.__happened, r.__row"
    sums = {
        "mean": f"sum({text} {order}) / count({text})",
        "total": f"sum({text} {order})",
        "share": f"count(*) filter (where {text}) / nullif(count({text}), 0)",
        "smallest": f"min({text})",
        "largest": f"max({text})",
    }
    return f"{sums[aggregate.kind]} as {quoted(name)}"


def _window_sql(value: Expr, other: Typed) -> str:
    """The value in a window: its own row's columns, masked until known, and the asking moment."""
    raw = {name: Expr("sql", (_masked(name, other, "r", f"l.{ASKED_AT}"),)) for name in other.schema}
    return to_sql(substitute(value, {**raw, ASKED_AT: Expr("sql", (f"l.{ASKED_AT}",))}))
