"""Parts swapped on the bench: only what is downstream of a change is computed again, the rest stays as it was served.

A layer that contradicts itself stays as it was until its own part is swapped: a
feature that is not what its row makes, a score that is not the model's, an action
that is not the policy's. So one swap never takes the credit for another fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from underhood.build.builds import refit
from underhood.build.bundle import Bundle, load
from underhood.build.checks import actions_of
from underhood.build.scorer import Array, Frame, Model, score_frame
from underhood.build.trainset import draw, open_training, settle_predicate, settle_value
from underhood.faults.kinds import Scene
from underhood.faults.served import served_features
from underhood.plan.changes import (
    BUNDLE,
    CALIBRATION,
    FEATURE,
    INPUT,
    ROUTE,
    THRESHOLD,
    TRAFFIC,
    TRAINING_PARTS,
    UNTIL,
    Change,
    is_recomputed,
)
from underhood.plan.exprs import Expr, columns_of, substitute, wrap
from underhood.plan.exprs import col as column
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.repair.bench import Ground, Trial, learned_with, measure
from underhood.run.policy import calibrated, with_cuts

OK = "select * from decisions where status = 'ok'"


def swap(scene: Scene, ground: Ground, *changes: Change) -> Trial:
    """The decisions made again with these parts swapped, those that are touched, and what that would have done.

    Changes of the training side fit the model again; `training until` decides only what was asked from then on.
    """
    bundle = next((load(scene.record, str(c.to)) for c in changes if c.part == BUNDLE), scene.bundle)
    model, exprs = _model(scene, bundle, changes)
    score = ground.score.copy()
    if model is not None:
        later = _later(scene, ground, changes)
        score[later] = score_frame(model, _features(scene, bundle, changes, exprs))[later]
    else:
        at, again = _made_again(scene, ground, changes)
        score[at] = again
    action, gone = _acted(scene, ground, bundle, changes, score, exprs)
    return measure(scene, ground, tuple(changes), score, action, gone)


def reached_by(scene: Scene, changes: Sequence[Change]) -> str:
    """SQL over `decisions`: those that these changes can reach; empty if that may be all of them."""
    if any(c.where is None or c.part in (BUNDLE, UNTIL, *TRAINING_PARTS) for c in changes):
        return ""
    return " or ".join(f"({_predicate(scene, c)})" for c in changes)


def _acted(
    scene: Scene, ground: Ground, bundle: Bundle, changes: Sequence[Change], score: Array, exprs: Mapping[str, Expr]
) -> tuple[Array, Array]:
    """Actions by the scores that would have been, and which decisions would not have been made."""
    own = actions_of(ground.score, scene.bundle.policy) == ground.action
    moved, told = own & (score != ground.score), score.copy()
    gone = np.zeros(len(score), dtype=bool)
    for change in changes:
        if change.part == THRESHOLD:
            moved |= _holds(scene, ground, bundle, change, changes, exprs) & ~ground.patched
        elif change.part == BUNDLE:
            moved |= ~ground.patched
        elif change.part == CALIBRATION:
            hit = _holds(scene, ground, bundle, change, changes, exprs)
            told[hit] = [calibrated(p, *change.to) for p in told[hit].tolist()]
            moved |= hit & own
        elif change.part == TRAFFIC:
            gone |= _holds(scene, ground, bundle, change, changes, exprs)
    action = ground.action.copy()
    action[moved] = actions_of(told[moved], with_cuts(bundle.policy, changes))
    # the first route that holds decides
    for change in reversed([c for c in changes if c.part == ROUTE]):
        action[_holds(scene, ground, bundle, change, changes, exprs)] = change.to
    return action, gone


def _model(scene: Scene, bundle: Bundle, changes: Sequence[Change]) -> tuple[Model | None, Mapping[str, Expr]]:
    """The other model, null if none, and the features that go with it."""
    if any(c.part == BUNDLE for c in changes):
        return bundle.model, bundle.features
    own = [c for c in changes if c.part in (*TRAINING_PARTS, UNTIL)]
    return retrain(scene, own) if own else (None, scene.bundle.features)


def retrain(scene: Scene, changes: Sequence[Change]) -> tuple[Model, Mapping[str, Expr]]:
    """The bundle's model, and its features, fitted again by its own recipe with these changes to its training side."""
    recipe = scene.bundle.made_from["recipe"]
    drawn = draw(
        scene.engine,
        scene.plan,
        scene.record,
        until=next((str(c.to) for c in changes if c.part == UNTIL), recipe["until"]),
        since=recipe["since"],
        changes=[*learned_with(scene), *(c for c in changes if c.part != UNTIL)],
    )
    open_training(scene.engine, scene.record, scene.bundle.made_from["training"])
    return refit(drawn, scene.bundle.made_from["rung"], scene.plan), drawn.expressions


def _later(scene: Scene, ground: Ground, changes: Sequence[Change]) -> Array:
    """Which decisions another model makes: those asked after it has learned."""
    until = next((str(c.to) for c in changes if c.part == UNTIL), "")
    return _where(scene, ground, f"asked_at >= TIMESTAMP {sql_value(until)}" if until else "true")


def _where(scene: Scene, ground: Ground, test: str, rows: str = OK) -> Array:
    """Which decisions of the ground pass a test in SQL."""
    if test == "true":
        return np.ones(len(ground.place), dtype=bool)
    found = scene.engine.frame(f"select place from ({rows}) where {test}")["place"].astype(np.int64)
    return np.asarray(np.isin(ground.place, found))


def _made_again(scene: Scene, ground: Ground, changes: Sequence[Change]) -> tuple[Array, Array]:
    """Which decisions get other features by these changes, as places in the ground, and their scores.

    A feature is made again if it is named, or made of an input that is; others stay as captured.
    """
    inputs, named = {c.name for c in changes if c.part == INPUT}, {c.name: c for c in changes if c.part == FEATURE}
    anew = [n for n, e in scene.bundle.features.items() if n in named or columns_of(e) & inputs]
    if not anew:
        return np.zeros(0, dtype=int), np.zeros(0)
    made = {n: _made(scene.bundle.features[n], scene.bundle) for n in anew}
    for name, change in named.items():
        if change.where is not None:
            made[name] = (
                f"case when {_predicate(scene, change)} then {made[name]} else {quoted('features.' + name)} end"
            )
    told = ", ".join(f"{sql} as {quoted('new ' + n)}" for n, sql in made.items())
    differs = " or ".join(f"{quoted('new ' + n)} is distinct from {quoted('features.' + n)}" for n in anew)
    captured = ", ".join(f"{quoted('features.' + n)} as {quoted(n)}" for n in scene.bundle.features)
    news = ", ".join(quoted("new " + n) for n in anew)
    frame = scene.engine.frame(
        f"select place, {captured}, {news} from (select *, {told} from ({_rows(scene, changes, is_touched=True)})) "
        f"where {differs} order by place"
    )
    at, model = np.searchsorted(ground.place, frame["place"].astype(np.int64)), scene.bundle.model
    if not len(at):
        return at, np.zeros(0)
    served = ground.score[at]
    again = score_frame(model, {n: frame[f"new {n}" if n in made else n] for n in scene.bundle.features}).copy()
    moved = np.flatnonzero(again != served)
    if len(moved):
        # a score that is not the model's own stays: it has another fault
        before = score_frame(model, {n: frame[n][moved] for n in scene.bundle.features})
        again[moved] = np.where(before == served[moved], again[moved], served[moved])
    return at, again


def _made(feature: Expr, bundle: Bundle) -> str:
    """SQL of a feature over the columns of a decision."""
    return to_sql(substitute(feature, {name: column(f"row.{name}") for name in bundle.inputs}))


def _rows(scene: Scene, changes: Sequence[Change], is_touched: bool = False) -> str:
    """SQL: all decisions with the inputs changed, each made of the row as captured; the last that holds counts.

    `is_touched`: only those which a change can reach.
    """
    by_column: dict[str, list[Change]] = {}
    for change in changes:
        if change.part == INPUT:
            by_column.setdefault(change.name, []).append(change)
    sql = OK
    reached = [_predicate(scene, c) for c in changes if c.part in (INPUT, FEATURE)]
    if is_touched and "true" not in reached:
        sql = f"{OK} and ({' or '.join(f'({r})' for r in reached)})"
    recomputed = [n for n, own in by_column.items() if any(map(is_recomputed, own))]
    if recomputed:
        again = ", ".join(f"{quoted(n)} as {quoted('@' + n)}" for n in recomputed)
        asked = f"select key, {again} from asks"
        if scene.once("repeated questions", _has_repeated_questions):
            asked += " qualify row_number() over (partition by key) = 1"
        sql = f"select d.*, a.* exclude (key) from ({sql}) d left join ({asked}) a on d.key = a.key"
    if by_column:
        sql = f"select * replace ({', '.join(_replaced(scene, n, own) for n, own in by_column.items())}) from ({sql})"
    return sql


def _has_repeated_questions(scene: Scene) -> bool:
    n, n_keys = scene.engine.rows("select count(*), count(distinct key) from asks")[0]
    return bool(n > n_keys)


def _replaced(scene: Scene, name: str, changes: Sequence[Change]) -> str:
    value = quoted(f"row.{name}")
    for change in changes:
        recomputed = is_recomputed(change)
        to = quoted(f"@{name}") if recomputed else to_sql(settle_value(scene.plan, name, wrap(change.to)))
        value = to if change.where is None else f"case when {_predicate(scene, change)} then {to} else {value} end"
    return f"{value} as {quoted(f'row.{name}')}"


def _predicate(scene: Scene, change: Change) -> str:
    return "true" if change.where is None else to_sql(settle_predicate(scene.plan, change.where))


def _features(scene: Scene, bundle: Bundle, changes: Sequence[Change], exprs: Mapping[str, Expr]) -> Frame:
    """Features of all decisions by `exprs`, with the inputs changed; as captured where nothing of that changes."""
    if not _is_other(scene, changes, exprs):
        return served_features(scene)
    made = ", ".join(f"{_made(e, bundle)} as {quoted(n)}" for n, e in exprs.items())
    return scene.engine.frame(f"select {made} from ({_rows(scene, changes)}) order by place")


def _is_other(scene: Scene, changes: Sequence[Change], exprs: Mapping[str, Expr]) -> bool:
    """Whether features would be others: inputs are changed, or the definitions are."""
    served = {name: expr.key() for name, expr in scene.bundle.features.items()}
    is_same = served == {name: expr.key() for name, expr in exprs.items()}
    return any(c.part == INPUT for c in changes) or not is_same


def _holds(
    scene: Scene, ground: Ground, bundle: Bundle, change: Change, changes: Sequence[Change], exprs: Mapping[str, Expr]
) -> Array:
    """Where a change holds: it reads the inputs as they were captured, and the features as they would be."""
    sql = OK
    reads = change.where is not None and any(c.startswith("features.") for c in columns_of(change.where))
    if reads and change.part != INPUT and _is_other(scene, changes, exprs):
        made = ", ".join(f"{_made(e, bundle)} as {quoted('f ' + n)}" for n, e in exprs.items())
        anew = ", ".join(f"f.{quoted('f ' + n)} as {quoted('features.' + n)}" for n in exprs)
        other = f"select place, {made} from ({_rows(scene, changes)})"
        sql = f"select d.* replace ({anew}) from ({sql}) d join ({other}) f using (place)"
    return _where(scene, ground, _predicate(scene, change), sql)
