"""A masked clone of the record: a fault is struck into it, what is downstream is made again, the record stays as it is.

For drills and for the bench of faults: history, model, decisions and outcomes as
they would have been with the fault. The engine's tables `decided`, `asks` and
`training` are the clone's as long as it is open.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from underhood.build import bundle as bundles
from underhood.build.builds import refit
from underhood.build.bundle import Bundle
from underhood.build.scorer import Array, Frame, score_frame
from underhood.build.trainset import TrainingSet, draw, open_training, settle_predicate, settle_value, view_schema
from underhood.faults.kinds import Injection, Scene
from underhood.plan.changes import (
    BUNDLE,
    FEATURE,
    INPUT,
    LABEL,
    OUTCOME,
    ROUTE,
    ROWS,
    SCORE,
    SOURCE,
    TAUGHT,
    THRESHOLD,
    TRAFFIC,
    UNTIL,
    Change,
)
from underhood.plan.exprs import Expr, col, columns_of, substitute, typed, when, wrap
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.repair.crowd import strike_traffic
from underhood.repair.decided import LAID_OUT, corrected_labels, mean, view_sql
from underhood.run.policy import action_sql, with_cuts

_SERVED = (INPUT, SOURCE, FEATURE, SCORE, THRESHOLD, ROUTE, BUNDLE, UNTIL)


@dataclass(frozen=True)
class Reach:
    """Whom a fault touches beside its own predicate: a span of asking (UTC; null is open), a share of all keys."""

    since: datetime | None = None
    until: datetime | None = None
    share: float = 1.0
    seed: int = 0


@contextmanager
def strike(scene: Scene, injection: Injection, reach: Reach = Reach()) -> Iterator[Scene]:
    """The scene with a fault struck into a masked clone of its record.

    While it is open the views `decisions`, `asks` and `training` are the clone's, and
    `sound` holds the decisions as they were. Nothing is meant by a complaint yet: see
    `decided.mean`. Needs `lay_out` and a scene.
    """
    engine = scene.engine
    was = {name: view_sql(engine, name) for name in ("asks", "training", "decisions")}
    engine.view("sound", f"select * from {quoted(LAID_OUT)}")
    engine.run("drop view decided")
    with _record(scene, injection) as record:
        try:
            struck = replace(scene, record=record, kept={})
            if _touches_history(scene, injection):
                struck = _strike_history(struck, injection, reach)
            if injection.retrain:
                struck = _learn(struck, [c for c in injection.changes if c.part == TAUGHT], reach)
            _strike_decisions(struck, injection, reach)
            mean(engine, (), struck.bundle.name, labels=corrected_labels(struck.plan, struck.bundle))
            yield struck
        finally:
            engine.run("drop table if exists decided")
            engine.view("decided", f"select * from {quoted(LAID_OUT)}")
            for name, sql in was.items():
                engine.run(sql) if sql else engine.run(f"drop view if exists {name}")
            engine.run('drop table if exists "struck asks"; drop table if exists "taught asks"')
            engine.run('drop table if exists "fewer asks"')


@contextmanager
def _record(scene: Scene, injection: Injection) -> Iterator[Path]:
    """The scene's own record, or a copy of what a retraining writes into, if the fault needs one."""
    if not injection.retrain and all(c.part != UNTIL for c in injection.changes):
        yield scene.record
        return
    made = scene.engine.scratch / "clone"
    shutil.copytree(scene.record / "objects", made / "objects", copy_function=_link)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


# --- history: questions, labels, training ---


def _touches_history(scene: Scene, injection: Injection) -> bool:
    return any(_in_history(scene, c) for c in injection.changes)


def _in_history(scene: Scene, change: Change) -> bool:
    """Whether a change is one of the table of questions: what reads scores or actions is one of decisions only."""
    if change.part in (SOURCE, LABEL, ROWS):
        return True
    read = columns_of(change.where) if change.where is not None else set()
    return change.part == OUTCOME and change.name != "known_at" and not read & {"score", "action"}


def _strike_history(scene: Scene, injection: Injection, reach: Reach) -> Scene:
    engine, plan = scene.engine, scene.plan
    always = replace(reach, since=None, until=None) if injection.retrain else reach
    sql = "select * from asks"
    replaced = [
        f"case when {_asked_where(scene, c, always)} then {_asked_value(scene, c.name, c.to)} "
        f"else {quoted(c.name)} end as {quoted(c.name)}"
        for c in injection.changes
        if c.part == SOURCE
    ]
    sql = f"select * replace ({', '.join(replaced)}) from ({sql})" if replaced else sql
    for change in injection.changes:
        where = _asked_where(scene, change, always) if _in_history(scene, change) else ""
        if change.part == ROWS:
            until = scene.bundle.made_from["recipe"]["until"]
            sql = f"select * from ({sql}) where not ({where} and __label_known < TIMESTAMP {sql_value(until)})"
        elif change.part == LABEL:
            to = _asked_value(scene, "label", change.to)
            sql = f"select * replace (case when {where} then {to} else label end as label) from ({sql})"
            plan = replace(plan, label=_defined(plan.label, change))
        elif where and change.part == OUTCOME:
            sql = _outcome(scene, change, where, sql)
    engine.run(f'create or replace table "struck asks" as {sql}')
    engine.view("asks", 'select * from "struck asks"')
    return replace(scene, plan=plan)


def _defined(label: Expr, change: Change) -> Expr:
    """A label definition that takes what `where` selects for `to`."""
    if change.where is None:
        return wrap(change.to)
    bare = {c: col(c.partition(".")[2]) for c in columns_of(change.where) if "." in c}
    return when(substitute(change.where, bare), change.to, label)


def _outcome(scene: Scene, change: Change, where: str, sql: str) -> str:
    """Another outcome where it holds. A label that turns takes its facts from another row, if not `mislabelled`."""
    if change.name in ("turned", "mislabelled"):
        where = f"{where} and hash(key || 'turned') % 100000 < {round(change.to * 100000)}"
        if change.name == "mislabelled":
            return f"select * replace (case when {where} then not label else label end as label) from ({sql})"
        change = Change(OUTCOME, "label", ~col("label"))
    if change.name != "label":
        to = _asked_value(scene, change.name.removeprefix("facts."), change.to)
        name = quoted(change.name.removeprefix("facts."))
        return f"select * replace (case when {where} then {to} else {name} end as {name}) from ({sql})"
    to, facts = _asked_value(scene, "label", change.to), list(scene.plan.facts)
    turned = f"select *, ({where} and label <> {to}) as __turns, {to} as __to from ({sql})"
    if not facts:
        kept = "case when __turns then __to else label end as label"
        return f"select * exclude (__turns, __to) replace ({kept}) from ({turned})"
    ranked = (
        "select *, row_number() over (partition by coalesce(__turns, false), __to order by hash(key)) as __turn "
        f"from ({turned})"
    )
    given = ", ".join(f"{quoted(f)} as {quoted('given ' + f)}" for f in facts)
    donors = (
        f"select label as __label, {given}, row_number() over (partition by label order by hash(key)) - 1 as __rank, "
        "count(*) over (partition by label) as __of from asks where label is not null"
    )
    taken = ", ".join(
        f"case when a.__turns and d.__of is not null then d.{quoted('given ' + f)} else a.{quoted(f)} end "
        f"as {quoted(f)}"
        for f in facts
    )
    return (
        f"select a.* exclude (__turns, __to, __turn) replace (case when a.__turns then a.__to else a.label end as "
        f"label, {taken}) from ({ranked}) a left join ({donors}) d "
        "on a.__turns and d.__label = a.__to and d.__rank = a.__turn % d.__of"
    )


def _asked_where(scene: Scene, change: Change, reach: Reach) -> str:
    tests = [_reached(reach)]
    if change.where is not None:
        tests.append(to_sql(substitute(settle_predicate(scene.plan, change.where), _bare(scene))))
    return f"coalesce({' and '.join(f'({t})' for t in tests)}, false)"


def _asked_value(scene: Scene, column: str, to: object) -> str:
    settled, _ = typed(wrap(to), view_schema(scene.plan), column)
    return to_sql(substitute(settled, _bare(scene)))


def _bare(scene: Scene) -> dict[str, Expr]:
    """The columns of decisions as the table of questions names them."""
    rows = {f"row.{c}": col(c) for c in scene.plan.inputs}
    features = {f"features.{n}": e for n, e in scene.bundle.features.items()}
    return {**rows, **features, **{f"facts.{c}": col(c) for c in scene.plan.facts}}


def _reached(reach: Reach) -> str:
    tests = ["true"]
    if reach.since is not None:
        tests.append(f"asked_at >= {sql_value(reach.since)}")
    if reach.until is not None:
        tests.append(f"asked_at < {sql_value(reach.until)}")
    if reach.share < 1:
        tests.append(f"hash(key || {sql_value(str(reach.seed))}) % 100000 < {round(reach.share * 100000)}")
    return " and ".join(tests)


def _learn(scene: Scene, taught: Sequence[Change], reach: Reach) -> Scene:
    """The bundle that learns by the same recipe from the clone's history, as far as it was `taught` by that."""
    recipe, history = scene.bundle.made_from["recipe"], view_sql(scene.engine, "asks")
    for change in taught:
        scene.engine.run(f'create or replace table "now taught" as {_taught(scene, change, reach)}')
        scene.engine.run('drop table if exists "taught asks"; alter table "now taught" rename to "taught asks"')
        scene.engine.view("asks", 'select * from "taught asks"')
    drawn = draw(scene.engine, scene.plan, scene.record, until=recipe["until"], since=recipe["since"])
    scene.engine.run(history)
    open_training(scene.engine, scene.record, drawn.name)
    return replace(scene, bundle=_fitted(scene, drawn))


def _fitted(scene: Scene, drawn: TrainingSet) -> Bundle:
    """The scene's bundle by the same recipe from another training set, kept in the clone's record."""
    model = refit(drawn, scene.bundle.made_from["rung"], scene.plan)
    made_from = {**scene.bundle.made_from, "training": drawn.name, "recipe": drawn.recipe}
    made = replace(scene.bundle, model=model, features=drawn.expressions, made_from=made_from)
    return bundles.pack(scene.record, made)


def _taught(scene: Scene, change: Change, reach: Reach) -> str:
    """The questions as a training set holds them with another label or input, or with rows drawn `to` times."""
    where = _asked_where(scene, change, replace(reach, since=None, until=None))
    if change.name != "rows":
        to, name = _asked_value(scene, change.name, change.to), quoted(change.name)
        return f"select * replace (case when {where} then {to} else {name} end as {name}) from asks"
    if change.to < 1:
        return f"select * from asks where not {where} or hash(key) % 100000 < {round(change.to * 100000)}"
    copies = f"select *, unnest(range(case when {where} then {int(change.to)} else 1 end)) as copy from asks"
    return f"select * exclude (copy) from ({copies})"


# --- decisions ---


def _strike_decisions(scene: Scene, injection: Injection, reach: Reach) -> None:
    served = [c for c in injection.changes if c.part in _SERVED]
    touched = " or ".join(_where(scene, c, reach) for c in served) or "false"
    touched = "true" if injection.retrain else touched
    rows = _replaced(scene, [c for c in served if c.part in (INPUT, SOURCE)], "row.", reach)
    flags = ", ".join(f"{_where(scene, c, reach)} as __w{n}" for n, c in enumerate(served))
    own = f"select * from sound where bundle = {sql_value(_named(scene, injection))}"
    sql = f"select *, ({touched}) and status = 'ok' as __touched {', ' + flags if flags else ''} from ({own})"
    sql = f"select * {rows}, row_number() over (order by asked_at, id) as __n from ({sql})"
    scene.engine.run(f"create or replace table decided as {sql}")
    if served or injection.retrain:
        _decide_again(scene, served, injection.retrain)
    bundle = f"select * exclude (__n, __touched {''.join(f', __w{n}' for n in range(len(served)))}) "
    scene.engine.run(
        f"create or replace table decided as {bundle} replace ({sql_value(scene.bundle.name)} as bundle) from decided"
    )
    if any(_in_history(scene, c) and c.part != SOURCE for c in injection.changes):
        _take_outcomes(scene)
    for change in injection.changes:
        if change.part == OUTCOME and not _in_history(scene, change):
            _late_outcome(scene, change, reach)
        elif change.part == TRAFFIC:
            strike_traffic(scene, change, _where(scene, change, reach), reach.since)
            placed = "row_number() over (order by id) as place"
            scene.engine.run(f"create or replace table decided as select * replace ({placed}) from decided")


def _named(scene: Scene, injection: Injection) -> str:
    """The bundle whose decisions are struck: the clone's own has another name if it learned anew."""
    if not injection.retrain:
        return scene.bundle.name
    rows = scene.engine.rows("select bundle from sound group by bundle order by count(*) desc, bundle limit 1")
    return str(rows[0][0])


def _replaced(scene: Scene, changes: Sequence[Change], prefix: str, reach: Reach) -> str:
    made = [
        f"case when {_where(scene, c, reach)} then {_value(scene, c)} else {quoted(prefix + c.name)} end "
        f"as {quoted(prefix + c.name)}"
        for c in changes
    ]
    return f"replace ({', '.join(made)})" if made else ""


def _value(scene: Scene, change: Change) -> str:
    if change.part in (INPUT, SOURCE):
        return to_sql(settle_value(scene.plan, change.name, wrap(change.to)))
    return to_sql(typed(wrap(change.to), view_schema(scene.plan), change.name)[0])


def _where(scene: Scene, change: Change, reach: Reach) -> str:
    where = "true" if change.where is None else to_sql(settle_predicate(scene.plan, change.where))
    return f"coalesce(({where}) and {_reached(reach)}, false)"


def _decide_again(scene: Scene, served: Sequence[Change], learned: bool) -> None:
    """Features, scores and actions of what was touched, from where the fault struck on."""
    engine, bundle = scene.engine, scene.bundle
    frame, flags = _features(scene, served, learned)
    n_rows = len(flags["__n"])
    if not n_rows:
        return
    score = _scores(scene, bundle, frame, served, flags)
    made = {"__n": flags["__n"].astype(np.int64), "score": score}
    columns = {f"features.{n}": frame[n] for n in bundle.features}
    engine.adopt("again", {**made, **columns}, "the clone's decisions")
    features = ", ".join(f"{_cast('g', n, bundle.feature_types[n])} as {quoted('features.' + n)}" for n in frame)
    scored = f"select d.* replace ({features}, g.score as score) from decided d join again g on d.__n = g.__n"
    for n, change in enumerate(served):
        if change.part == SCORE and change.name == "score":
            other = f"case when __w{n} then {_value(scene, change)} else score end as score"
            scored = f"select * replace ({other}) from ({scored})"
    action = _action(scene, bundle, served)
    engine.run(
        f"create or replace table decided as select * from decided where not __touched union all by name "
        f"select * replace ({action} as action) from ({scored})"
    )


def _cast(side: str, feature: str, kind: str) -> str:
    value = f"{side}.{quoted('features.' + feature)}"
    if kind == "number":
        return f"case when isnan({value}) then NULL else {value} end"
    # a null comes as NaN, and that is above any number
    return f"case when not isnan({value}) then {value} > 0.5 end" if kind == "flag" else value


def _features(scene: Scene, served: Sequence[Change], learned: bool) -> tuple[Frame, Frame]:
    """Features of the touched decisions, and which change touched which; in order of `__n`."""
    rows = {name: col(f"row.{name}") for name in scene.bundle.inputs}
    anew = learned or any(c.part in (INPUT, SOURCE) for c in served)
    made = [
        f"{to_sql(substitute(e, rows)) if anew else quoted('features.' + n)} as {quoted('features.' + n)}"
        for n, e in scene.bundle.features.items()
    ]
    sql = f"select * replace ({', '.join(made)}) from decided where __touched"
    replaced = [
        f"case when __w{n} then {_value(scene, c)} else {quoted('features.' + c.name)} end "
        f"as {quoted('features.' + c.name)}"
        for n, c in enumerate(served)
        if c.part == FEATURE
    ]
    sql = f"select * replace ({', '.join(replaced)}) from ({sql})" if replaced else sql
    features = ", ".join(f"{quoted('features.' + n)} as {quoted(n)}" for n in scene.bundle.features)
    frame = scene.engine.frame(f"select {features} from ({sql}) order by __n")
    marks = "".join(f", __w{n}" for n in range(len(served)))
    return frame, scene.engine.frame(f"select __n {marks} from decided where __touched order by __n")


def _scores(scene: Scene, bundle: Bundle, frame: Frame, served: Sequence[Change], flags: Frame) -> Array:
    score = score_frame(bundle.model, frame)
    for n, change in enumerate(served):
        hit = flags[f"__w{n}"] > 0
        if change.part in (BUNDLE, UNTIL):
            other = (
                bundles.load(scene.record, str(change.to)) if change.part == BUNDLE else _older(scene, str(change.to))
            )
            score = np.where(hit, score_frame(other.model, frame), score)
        elif change.part == SCORE and change.name == "vector":
            score = np.where(hit, score_frame(bundle.model, permuted(frame, change.to)), score)
    return score


def _older(scene: Scene, until: str) -> Bundle:
    """A bundle by the same recipe, kept in the clone's record, that learned from what was known by `until` (UTC)."""
    since = scene.bundle.made_from["recipe"]["since"]
    drawn = draw(scene.engine, scene.plan, scene.record, until=until, since=since)
    open_training(scene.engine, scene.record, scene.bundle.made_from["training"])
    return _fitted(scene, drawn)


def permuted(frame: Frame, order: Mapping[str, str]) -> Frame:
    """The columns with those named in `order` taken from another one: a vector in the wrong order."""
    return {name: frame[order.get(name, name)] for name in frame}


def _action(scene: Scene, bundle: Bundle, served: Sequence[Change]) -> str:
    made = action_sql(bundle.policy)
    moved = [(n, c) for n, c in enumerate(served) if c.part == THRESHOLD]
    if moved:
        other = action_sql(with_cuts(bundle.policy, [c for _, c in moved]))
        made = f"case when __w{moved[0][0]} then {other} else {made} end"
    for n, change in enumerate(served):
        if change.part == ROUTE:
            made = f"case when __w{n} then {sql_value(str(change.to))} else {made} end"
    return made


def _take_outcomes(scene: Scene) -> None:
    """Labels and facts of decisions as the clone's history has them, where they are known."""
    names = ["label", *(f"facts.{f}" for f in scene.plan.facts)]
    sides = ["label", *scene.plan.facts]
    taken = ", ".join(
        f"case when d.known_at is not null and a.key is not null then a.{quoted(s)} else d.{quoted(n)} end "
        f"as {quoted(n)}"
        for n, s in zip(names, sides, strict=True)
    )
    scene.engine.run(
        f"create or replace table decided as select d.* replace ({taken}) from decided d "
        "left join asks a on d.key = a.key"
    )


def _late_outcome(scene: Scene, change: Change, reach: Reach) -> None:
    """What became known of decisions: later than it was, not at all, or otherwise for some actions."""
    where, names = _where(scene, change, reach), ["label", *(f"facts.{f}" for f in scene.plan.facts)]
    if change.name == "known_at" and change.to is None:
        names = ["known_at", *names]
        made = ", ".join(f"case when {where} then NULL else {quoted(n)} end as {quoted(n)}" for n in names)
    else:
        name = quoted(change.name)
        made = f"case when {where} then {_value(scene, change)} else {name} end as {name}"
    scene.engine.run(f"create or replace table decided as select * replace ({made}) from decided")
