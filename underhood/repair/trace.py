"""Where values came from and where they went: one decision's value down to source rows, one row up to decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from math import fsum
from pathlib import Path
from typing import Any

from underhood.build.bundle import Bundle
from underhood.build.trainset import open_training
from underhood.ground.errors import NotFoundError, nearest
from underhood.ground.records import Decision, time_text
from underhood.plan.asof import Words, masked
from underhood.plan.cleaning import Cleaning, Filling
from underhood.plan.exprs import Expr, columns_of, shown, shown_span, substitute
from underhood.plan.joins import Plan
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.plan.sources import Typed
from underhood.plan.steps import ASKED_AT, Aggregate, Asof, Recent
from underhood.plan.windows import figure
from underhood.tables.local import Engine

MOST_ROWS = 500  # of a window are opened one by one; all of them are counted


@dataclass(frozen=True)
class Trace:
    """How far one source value reached. `cleaned` tells what cleaning made of it, empty if nothing.

    `windows` of the questions used it in a figure over a window.
    """

    source: str
    column: str
    key: str
    value: float
    cleaned: str
    questions: int
    decisions: int
    training: int
    windows: int = 0


@dataclass(frozen=True)
class Cell:
    """One column of a source row: as read, as cleaned (by `steps` if they differ), and as it was seen then.

    `hidden_until` is its clock if it was not yet known at the question, else null.
    """

    column: str
    read: Any
    cleaned: Any
    steps: tuple[str, ...]
    seen: Any
    hidden_until: str | None


@dataclass(frozen=True)
class SourceRow:
    """One row that a value was made of. `row` is its place in `file`, from 1; `part` what it contributes."""

    source: str
    file: str
    owner: str
    row: int
    key: str
    happened: str
    known: str
    cells: tuple[Cell, ...]
    part: Any


@dataclass(frozen=True)
class Origin:
    """One input of a value: how it came there, what was captured, what history gives, and its rows.

    `how` is "asked row", "as of then", "window" or "moment"; `n_rows` counts all
    rows of a window, of which `rows` holds the first ones; `sums` says what they add up to.
    """

    name: str
    how: str
    says: str
    captured: Any
    again: Any
    rows: tuple[SourceRow, ...]
    n_rows: int
    sums: str = ""


@dataclass(frozen=True)
class OpenedValue:
    """One value of one decision, down to its source rows. `is_same`: history gives what was captured."""

    decision: str
    key: str
    asked_at: str
    name: str
    made: str
    value: Any
    origins: tuple[Origin, ...]

    @property
    def is_same(self) -> bool:
        """Whether every input is what history, as known then, gives."""
        return all(_close(o.captured, o.again) for o in self.origins)


# --- one value down to its rows ---


def open_value(engine: Engine, plan: Plan, decision: Decision, name: str) -> OpenedValue:
    """One feature or input of one decision, each part of it down to the source rows, as known then.

    Needs the view `asks`. Raises NotFoundError if there is no such feature, or the question
    is not in the sources any more.
    """
    if name in plan.features:
        made, value = shown(plan.system.features[name]), decision.features.get(name)
        parts = sorted(columns_of(plan.features[name]), key=[*plan.inputs, ASKED_AT].index)
    elif name in plan.inputs:
        made, value, parts = name, decision.row.get(name), [name]
    else:
        raise NotFoundError("there is no such feature or input", name, nearest(name, {**plan.features, **plan.inputs}))
    rows = engine.dicts(f"select * from asks where key = {sql_value(decision.key)} limit 1")
    if not rows:
        raise NotFoundError(
            "the question is not in the sources any more", decision.key, "read the sources it came from"
        )
    origins = tuple(_origin(engine, plan, decision, rows[0], part) for part in parts)
    return OpenedValue(decision.id, decision.key, decision.asked_at, name, made, value, origins)


def _origin(engine: Engine, plan: Plan, decision: Decision, ask: Mapping[str, Any], name: str) -> Origin:
    if name == ASKED_AT:
        says = f"the question was asked at {shown(plan.system.asks.at)}"
        return Origin(name, "moment", says, decision.asked_at, time_text(ask[ASKED_AT]), (), 0)
    captured, again = decision.row.get(name), _plain(ask[name])
    for n, join in enumerate(plan.system.asks.joins, 1):
        if isinstance(join, Asof) and name in join.take:
            rows = _asof_row(engine, plan, join, n, ask, name)
            age = "" if join.max_age_s is None else f", at most {shown_span(join.max_age_s)} old"
            says = f"the last {join.take[name]} of {join.source.name} known when asked, by {', '.join(join.by)}{age}"
            return Origin(name, "as of then", says, captured, again, rows, len(rows))
        if isinstance(join, Recent) and name in join.figures:
            return _window(engine, plan, join, ask, name, captured)
    asked = plan.sources[plan.system.asks.source.name]
    rows = (_row(engine, asked, int(ask["__row"]), [name], ask[ASKED_AT], again),)
    return Origin(name, "asked row", f"{asked.source.name}.{name}", captured, again, rows, 1)


def _asof_row(
    engine: Engine, plan: Plan, join: Asof, n: int, ask: Mapping[str, Any], name: str
) -> tuple[SourceRow, ...]:
    row = ask[f"__{join.source.name}_{n}_row"]
    if row is None:
        return ()
    other = plan.sources[join.source.name]
    return (_row(engine, other, int(row), [join.take[name]], ask[ASKED_AT], _plain(ask[name])),)


def _window(engine: Engine, plan: Plan, join: Recent, ask: Mapping[str, Any], name: str, captured: Any) -> Origin:
    other, aggregate = plan.sources[join.source.name], join.figures[name]
    value = figure(aggregate, other, name)
    asked = sql_value(ask[ASKED_AT])
    part = "1" if value is None else to_sql(_seen(value, other, asked))
    found = engine.rows(
        f"select r.__row, {part} from {quoted(join.source.name)} r "
        f"where {_in_window(plan, join, ask)} order by r.__happened, r.__row"
    )
    reads = sorted(columns_of(value) - {ASKED_AT}) if value is not None else []
    first = [(int(row), part) for row, part in found[:MOST_ROWS]]
    rows = _rows(engine, other, first, reads, ask[ASKED_AT])
    of = f" of {shown(aggregate.value)}" if aggregate.value is not None else ""
    by = f"by {', '.join(f'{b} = {_plain(ask[b])}' for b in join.by)}" if join.by else "over all rows"
    says = f"{aggregate.kind}{of} over the {shown_span(join.over_s)} before, of {join.source.name} {by}"
    contributed = [part for _, part in found]
    again = figure_of(aggregate, contributed)
    return Origin(name, "window", says, captured, again, rows, len(found), _sums(aggregate, contributed))


def figure_of(aggregate: Aggregate, parts: Sequence[Any]) -> float | None:
    """The figure of a window from what each of its rows contributes (null: nothing known then)."""
    there = [float(p) for p in parts if p is not None]
    if aggregate.kind == "count":
        return float(len(parts))
    if not there:
        return None
    if aggregate.kind in ("smallest", "largest"):
        return min(there) if aggregate.kind == "smallest" else max(there)
    return fsum(there) if aggregate.kind == "total" else fsum(there) / len(there)


def _sums(aggregate: Aggregate, parts: Sequence[Any]) -> str:
    """What the rows of a window add up to, in words."""
    there = [float(p) for p in parts if p is not None]
    if aggregate.kind == "share":
        return f"{fsum(there):,.0f} of {len(there):,} hold"
    if aggregate.kind in ("mean", "total"):
        return f"{fsum(there):,.6g} over {len(there):,} with a value"
    return ""


def _in_window(plan: Plan, join: Recent, ask: Mapping[str, Any]) -> str:
    asked, width = sql_value(ask[ASKED_AT]), round(join.over_s * 1e6)
    same = [f"r.{quoted(b)} = {sql_value(ask[b])}" for b in join.by]
    if join.source.path == plan.system.asks.source.path:
        same.append(f"r.__row <> {int(ask['__row'])}")
    fresh = f"r.__happened < {asked} and epoch_us({asked}) - epoch_us(r.__happened) <= {width} and r.__known <= {asked}"
    return " and ".join([fresh, *same])


def _seen(value: Expr, other: Typed, asked: str) -> Expr:
    """A figure's value over the alias `r`, each late column null until known."""
    seen = {name: Expr("sql", (masked(name, other, "r", asked, Words()),)) for name in other.schema}
    return substitute(value, {**seen, ASKED_AT: Expr("sql", (asked,))})


def _row(engine: Engine, source: Typed, row: int, columns: Sequence[str], asked: datetime, part: Any) -> SourceRow:
    return _rows(engine, source, [(row, part)], columns, asked)[0]


def _rows(
    engine: Engine, source: Typed, parts: Sequence[tuple[int, Any]], columns: Sequence[str], asked: datetime
) -> tuple[SourceRow, ...]:
    """Source rows by their place in the file, in the order given."""
    if not parts:
        return ()
    name = source.source.name
    listed = ", ".join(str(row) for row, _ in parts)
    cleaned = {r["__row"]: r for r in engine.dicts(f"select * from {quoted(name)} where __row in ({listed})")}
    read = {r["__row"]: r for r in engine.dicts(f"select * from {quoted('raw ' + name)} where __row in ({listed})")}
    made = []
    for row, part in parts:
        after, before = cleaned[row], read[row]
        cells = tuple(cell for c in columns for cell in _cells(source, c, before, after, asked))
        happened, known = _plain(after["__happened"]), _plain(after["__known"])
        made.append(
            SourceRow(
                name,
                Path(source.source.path).name,
                source.source.owner,
                row,
                after["__key"],
                happened,
                known,
                cells,
                _plain(part),
            )
        )
    return tuple(made)


def _cells(
    source: Typed, column: str, before: Mapping[str, Any], after: Mapping[str, Any], asked: datetime
) -> Iterable[Cell]:
    """A column as read, cleaned and seen; for a derived one also the columns that it is made of."""
    late = after.get(f"__late_{column}") if column in source.late else None
    is_hidden = column in source.late and (late is None or late > asked)
    hidden = (_plain(late) or "never") if is_hidden else None
    cleaned = _plain(after[column])
    if column in source.source.derived:
        yield Cell(
            column,
            None,
            cleaned,
            (f"derived: {shown(source.source.derived[column])}",),
            None if is_hidden else cleaned,
            hidden,
        )
        for part in sorted(columns_of(source.columns[column])):
            if part in after and part != column:
                yield from _cells(source, part, before, after, asked)
        return
    read = _plain(before.get(column))
    steps = _steps(source, column) if read != cleaned else ()
    yield Cell(column, read, cleaned, steps, None if is_hidden else cleaned, hidden)


def _steps(source: Typed, column: str) -> tuple[str, ...]:
    return tuple(
        s.step.name for s in source.stages if isinstance(s.step, Cleaning | Filling) and s.step.column == column
    )


def _plain(value: Any) -> Any:
    return time_text(value) if isinstance(value, datetime) else value


def _close(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second) <= 1e-9 * max(1.0, abs(second))
    return bool(first == second)


def opened_value_json(opened: OpenedValue) -> dict[str, Any]:
    """The opened value as plain JSON values."""
    return {**asdict(opened), "same": opened.is_same}


# --- one row up to the decisions ---


def trace_row(
    engine: Engine,
    plan: Plan,
    record: Path,
    training: str,
    source: str,
    column: str,
    row: int,
    key: str,
    value: float,
) -> Trace:
    """How far one row of a source reached: as-of joins by row, windows, and the asked row itself.

    A window used the value if the row was in it and the column was known by then.
    Needs the views `asks` and `decisions`.
    """
    asked = plan.system.asks.source.name
    exact, windows = [], []
    for n, join in enumerate(plan.system.asks.joins, 1):
        if join.source.name != source:
            continue
        if isinstance(join, Asof) and column in join.take.values():
            exact.append(f"a.{quoted(f'__{source}_{n}_row')} = {row}")
        if isinstance(join, Recent):
            windows += _in_windows(plan, join, column)
    if asked == source:
        exact.append(f"a.__row = {row}")
    there = f"(select * from {quoted(source)} where __row = {row}) r"
    in_window = f"exists (select 1 from {there} where {' or '.join(f'({w})' for w in windows)})" if windows else "false"
    open_training(engine, record, training)
    used = f"select a.key, a.__row, {in_window} as w from asks a where {' or '.join([*exact, in_window])}"
    questions, seen = engine.rows(f"select count(*), count(*) filter (where w) from ({used})")[0]
    decisions = engine.rows(f"select count(*) from decisions where key in (select key from ({used}))")[0][0]
    taught = engine.rows(f"select count(*) from training where key in (select key from ({used}))")[0][0]
    after = engine.rows(f"select {quoted(column)} from {quoted(source)} where __row = {row}")
    cleaned = "" if after and after[0][0] == value else f"cleaning made it {after[0][0] if after else 'disappear'}"
    return Trace(source, column, key, value, cleaned.replace("None", "null"), questions, decisions, taught, seen)


def _in_windows(plan: Plan, join: Recent, column: str) -> list[str]:
    """Predicates over a question `a` and the row `r`: the row is in its window, and the column was known."""
    other = plan.sources[join.source.name]
    values = [a.value for a in join.figures.values() if a.value is not None]
    counts = any(a.value is None for a in join.figures.values())
    is_read = any(column in columns_of(v) for v in values)
    if not is_read and not (counts and column in join.by):
        return []
    width = round(join.over_s * 1e6)
    clock = quoted(f"__late_{column}")
    parts = [
        f"r.__happened < a.{ASKED_AT}",
        f"epoch_us(a.{ASKED_AT}) - epoch_us(r.__happened) <= {width}",
        f"r.__known <= a.{ASKED_AT}",
        *(f"r.{quoted(b)} = a.{quoted(b)}" for b in join.by),
        *([f"r.{clock} <= a.{ASKED_AT}"] if column in other.late else []),
        *(["r.__row <> a.__row"] if join.source.path == plan.system.asks.source.path else []),
    ]
    return [" and ".join(parts)]


# --- one column up to the money ---


@dataclass(frozen=True)
class Grip:
    """What a column's way to the end weighs: how the model uses each feature, decisions by action, money.

    `money` is the mean cost per 1,000 decisions with a known outcome, null without any.
    """

    bundle: str
    use: Mapping[str, str]
    decisions: int
    actions: Mapping[str, int]
    money: float | None
    training: int


def grip(engine: Engine, plan: Plan, bundle: Bundle) -> Grip:
    """The bundle's use of each feature, and what it decided. Needs the view `decisions`."""
    rows = engine.rows(
        "select action, count(*), count(label), count(*) filter (where label) from decisions "
        "where status = 'ok' group by action order by 2 desc"
    )
    known = sum(row[2] for row in rows)
    costs = plan.system.goal.costs.of
    spent = fsum(costs[a][1] * yes + costs[a][0] * (n - yes) for a, _, n, yes in rows if a in costs)
    money = 1000 * spent / known if known else None
    recipe = bundle.made_from["recipe"]
    decisions = sum(row[1] for row in rows)
    return Grip(bundle.name, model_use(bundle), decisions, {r[0]: r[1] for r in rows}, money, int(recipe["rows"]))


def model_use(bundle: Bundle) -> dict[str, str]:
    """How the model uses each feature: its splits among all of them, or its weight; "not used" if it does not."""
    model = bundle.model
    if model["kind"] == "trees":
        counts = dict.fromkeys(bundle.features, 0)
        for tree in model["trees"]:
            _count_splits(tree, model["features"], counts)
        total = sum(counts.values())
        return {n: f"{c:,} of {total:,} splits" if c else "not used" for n, c in counts.items()}
    used: dict[str, str] = dict.fromkeys(bundle.features, "not used")
    for term in model.get("terms", ()):
        weight = term.get("weight")
        used[term["feature"]] = f"weight {weight:+.3g}" if weight is not None else f"{len(term['levels'])} levels"
    return used


def _count_splits(node: Any, features: Sequence[str], counts: dict[str, int]) -> None:
    if isinstance(node, list):
        counts[features[node[0]]] += 1
        _count_splits(node[3], features, counts)
        _count_splits(node[4], features, counts)
