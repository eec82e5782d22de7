"""The training set as of a moment: the questions whose label was known by then, with features and facts.

Drawn by a recipe that names everything it depends on, kept as a content-named
Parquet file. Columns: key, asked_at, known_at, label, `row.…` (inputs),
`features.…`, `facts.…`: the same names that decisions have in the record.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from underhood.build.fitting import as_known, fit_parts, open_features, with_state
from underhood.build.scorer import Array, Frame
from underhood.ground.errors import ProjectError, nearest
from underhood.plan.changes import LABEL, ROWS, TRAINING_PARTS, WEIGHTS, WITHOUT, Change, change_json, is_redrawn
from underhood.plan.exprs import Expr, columns_of, lit, shown, typed, wrap
from underhood.plan.joins import Plan
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.plan.steps import fingerprint
from underhood.record.objects import path as object_path
from underhood.record.objects import put_file
from underhood.tables.local import Engine


@dataclass(frozen=True)
class TrainingSet:
    """A drawn training set: `name` in the record, features by column, labels 0/1, clocks in µs since 1970.

    `left_out` counts the rows not drawn, by reason. `expressions` are the plan's features, fitted to
    these rows: what a bundle holds. The frame holds a mean of the label as it was when each row was asked,
    and no feature that a patch keeps from being learned. `weight` is how often each row counts; null: once.
    """

    name: str
    recipe: dict[str, Any]
    frame: Frame
    label: Array
    asked: Array
    known: Array
    left_out: dict[str, int]
    expressions: Mapping[str, Expr]
    weight: Array | None = None


def draw(
    engine: Engine,
    plan: Plan,
    record: Path,
    *,
    until: str,
    since: str = "",
    changes: Sequence[Change] = (),
) -> TrainingSet:
    """The training set as of `until` (UTC): asked from `since` on, label known before `until`.

    `changes` are patches of the training side, applied in order. Needs the view
    `asks`. Raises ProjectError if nothing is left to learn from.
    """
    early = f"asked_at >= {_moment(since)}" if since else "true"
    drawn = f"known_at < {_moment(until)} and {early} and label is not null"
    sql = training_sql(_for_changes(engine, plan, changes, drawn), changes)
    rows = f"select * from ({sql}) where {drawn}"
    state = fit_parts(engine, plan, rows)
    rows = as_known(plan, state, rows) if state else rows
    name = _keep(engine, record, f"select * from ({rows}) order by asked_at, key")
    open_training(engine, record, name)
    left = engine.rows(
        f"select count(*) filter (where asked_at is null or known_at is null), "
        f"count(*) filter (where asked_at < {_moment(until)} and known_at >= {_moment(until)}), "
        f"count(*) filter (where known_at < {_moment(until)} and {early} and label is null) from ({sql})"
    )[0]
    reasons = ("no moment of asking or knowing", f"label not yet known at {until[:16]} UTC", "label is null")
    features = ", ".join(f"{quoted('features.' + n)} as {quoted(n)}" for n in plan.features)
    clocks = "label, epoch_us(asked_at) as __asked, epoch_us(known_at) as __known"
    clocks += ", weight as __weight" if _are_weighed(changes) else ""
    frame = dict(engine.frame(f"select {clocks}, {features} from training"))
    label, asked, known = frame.pop("label"), frame.pop("__asked"), frame.pop("__known")
    weight = frame.pop("__weight", None)
    frame = _without(frame, changes)
    if not len(label):
        raise ProjectError(
            "no row has a label known by then", f"training set until {until}", "choose a later moment with --until"
        )
    recipe = {
        "system": plan.system.name,
        "definition": fingerprint(plan.system),
        "since": since,
        "until": until,
        "changes": [change_json(c) for c in changes],
        "rows": len(label),
        "positive": int(label.sum()),
    }
    if state:
        recipe["fitted"] = {n: shown(plan.features[n]) for n in sorted(open_features(plan))}
    left_out = {r: n for r, n in zip(reasons, left, strict=True) if n}
    fitted = {n: with_state(e, state) for n, e in plan.features.items()}
    return TrainingSet(name, recipe, frame, label, asked, known, left_out, fitted, weight)


def _are_weighed(changes: Sequence[Change]) -> bool:
    return any(c.part == WEIGHTS for c in changes)


def _without(frame: Frame, changes: Sequence[Change]) -> dict[str, Array]:
    """The features that may be learned from. Raises ProjectError for one that does not exist, or if none is left."""
    out = {c.name for c in changes if c.part == WITHOUT}
    for name in out - set(frame):
        raise ProjectError(f"there is no feature {name!r}", "training feature", nearest(name, frame))
    if out == set(frame):
        raise ProjectError("no feature is left to learn from", "training feature", "leave fewer of them out")
    return {name: values for name, values in frame.items() if name not in out}


def fitted_plan(engine: Engine, plan: Plan, chosen: str = "label is not null and known_at is not null") -> Plan:
    """The plan with its features fitted to all questions whose label is known, or to `chosen` ones.

    For looking and comparing; a build fits its own. Needs the view `asks`.
    """
    if not open_features(plan):
        return plan
    state = fit_parts(engine, plan, f"select * from ({training_sql(_with_blanks(plan))}) where {chosen}")
    return replace(plan, features={n: with_state(e, state) for n, e in plan.features.items()})


def _for_changes(engine: Engine, plan: Plan, changes: Sequence[Change], drawn: str) -> Plan:
    """The plan with open features as changes may read them: fitted before any change, blank if none reads them."""
    prefixed = {f"features.{n}" for n in open_features(plan)}
    read = {c for change in changes if change.where is not None for c in columns_of(change.where)}
    return fitted_plan(engine, plan, drawn) if prefixed & read else _with_blanks(plan)


def _with_blanks(plan: Plan) -> Plan:
    return replace(plan, features={**plan.features, **{n: lit(None) for n in open_features(plan)}})


def training_sql(plan: Plan, changes: Sequence[Change] = ()) -> str:
    """All questions in the shape of a training set, changed by `changes`; labels may be null or not yet known."""
    rows = [f"{quoted(c)} as {quoted('row.' + c)}" for c in plan.inputs]
    features = [f"{to_sql(e)} as {quoted('features.' + n)}" for n, e in plan.features.items()]
    facts = [f"{quoted(c)} as {quoted('facts.' + c)}" for c in plan.facts]
    columns = ", ".join(["key, asked_at, __label_known as known_at, label", *rows, *features, *facts])
    sql = f"select {columns}{', 1.0::DOUBLE as weight' if _are_weighed(changes) else ''} from asks"
    for change in changes:
        if change.part not in TRAINING_PARTS:
            raise ProjectError(f"{change.part} is not a part of the training side", str(change))
        where = "true" if change.where is None else to_sql(settle_predicate(plan, change.where))
        if change.part == LABEL:
            sql = f"select * replace ({relabelled_sql(plan, change)} as label) from ({sql})"
        elif is_redrawn(change):
            sql = f"select * from ({sql}) qualify row_number() over (partition by key order by asked_at) = 1"
        elif change.part == ROWS:
            sql = f"select * from ({sql}) where ({where}) is not true"
        elif change.part == WEIGHTS:
            times = f"case when {where} then weight * {float(change.to)!r} else weight end"
            sql = f"select * replace ({times} as weight) from ({sql})"
    return sql


def relabelled_sql(plan: Plan, change: Change) -> str:
    """SQL of the label as a change of the label has it, over a training set or decisions."""
    where = "true" if change.where is None else to_sql(settle_predicate(plan, change.where))
    to = to_sql(typed(wrap(change.to), view_schema(plan), "label")[0])
    return f"case when {where} then {to} else label end"


def view_schema(plan: Plan) -> dict[str, str]:
    """The kernel types of the columns that training sets and decisions share."""
    made = {f"row.{c}": t for c, t in plan.inputs.items()}
    made |= {f"features.{n}": t for n, t in plan.feature_types.items()}
    made |= {f"facts.{c}": t for c, t in plan.facts.items()}
    own = {"key": "text", "asked_at": "time", "happened": "time", "day": "text", "action": "text", "score": "number"}
    return {**made, **own, "label": "flag"}


def settle_predicate(plan: Plan, where: Expr) -> Expr:
    """A predicate over `row.…`, `features.…`, `facts.…`, settled by type. Raises ProjectError."""
    settled, kind = typed(where, view_schema(plan), "where")
    if kind != "flag":
        raise ProjectError(f"`{where}` is a {kind}, not a flag", "where", f"it reads {', '.join(columns_of(where))}")
    return settled


def settle_value(plan: Plan, column: str, value: Expr) -> Expr:
    """What an input is set to, over `row.…`, settled by type. Raises ProjectError if it is not of the input's type."""
    settled, kind = typed(value, view_schema(plan), f"row.{column}")
    if kind not in (plan.inputs[column], "any"):
        raise ProjectError(f"`{value}` is a {kind}, not a {plan.inputs[column]}", f"row.{column}")
    return settled


def open_training(engine: Engine, record: Path, name: str) -> None:
    """Names a kept training set as the view `training`."""
    engine.view("training", f"select * from read_parquet({sql_value(str(object_path(record, name)))})")


def _keep(engine: Engine, record: Path, sql: str) -> str:
    with tempfile.TemporaryDirectory(prefix="underhood-") as scratch:
        made = Path(scratch) / "training.parquet"
        engine.run(f"copy ({sql}) to {sql_value(str(made))} (format parquet, compression zstd)")
        return put_file(record, "training", made, ".parquet")


def _moment(text: str) -> str:
    return f"TIMESTAMP {sql_value(text)}"
