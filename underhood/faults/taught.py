"""What the training set holds, against what history, known by the same moment, gives for the same questions.

And the second witness, where history itself is in doubt: what is so of later decisions
whose outcome is known. Kinds of the training side share both looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from underhood.build.fitting import open_features
from underhood.build.main_effects import fit_main_effects
from underhood.build.scorer import Frame, Model, score_frame
from underhood.build.trainset import settle_predicate, training_sql
from underhood.faults.censoring import coverage
from underhood.faults.kinds import Scene, counted
from underhood.faults.moved import moved_values
from underhood.faults.outcomes import moment
from underhood.faults.turns import turn_of
from underhood.faults.values import served_otherwise
from underhood.plan.changes import LABEL, change_from
from underhood.plan.exprs import Expr, col, columns_of, lit, shown, substitute
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted, sql_value, to_sql

SHARE, LEAST = 0.0003, 10  # of the training rows, and how many at least: less teaches a model nothing
PURE = 0.9  # of a cohort that shows a fault, and of a fault that a cohort accounts for
PARTLY = 0.3  # of a cohort that shows a fault at least, where not all of it need to
LEVELS = 200  # of a column that can name a cohort
ALIKE = 3.0  # standard errors within which rows that training lacks have the labels of the others
CHANCE = 1e-4  # that all of a few rows have a level in common, over all levels that they could
MOST = 30_000  # rows looked at closely; every n-th of more
DENIED = 20  # labels that contradict their facts
KNOWN = 500  # later decisions with a known outcome, to be a witness
HISTORY = '"history as of training"'


@dataclass(frozen=True)
class Taught:
    """Training rows against history: how many, and how many of them contradict it.

    `missing`: questions of history that training lacks; `repeated`: rows beyond the first of
    their question; `relabelled`: rows with another label than history has; `columns`: rows with
    another input, by input. All 0 where nothing can be compared: then `says` tells why.
    """

    rows: int = 0
    expected: int = 0
    missing: int = 0
    repeated: int = 0
    relabelled: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    says: str = ""

    def is_much(self, n: int) -> bool:
        """Whether so many rows can teach a model something else."""
        return n >= max(LEAST, SHARE * self.rows)


@dataclass(frozen=True)
class Whom:
    """Which rows show something: a predicate (null: no one level or span tells them), and it in words."""

    where: Expr | None
    share: float
    says: str

    @property
    def is_whole(self) -> bool:
        """Whether nearly all rows of the predicate show it; else what they teach is not theirs alone."""
        return self.share >= PURE


@dataclass(frozen=True)
class Witness:
    """A model of main effects learned from later decisions, and what it says of training rows and of decisions.

    `training` and `decisions` hold label (0/1), score, `__asked` (µs since 1970) and the columns by which
    rows are told apart; `step`: every so manieth training row is among them.
    """

    model: Model
    training: Frame
    decisions: Frame
    names: tuple[str, ...]
    step: int


def taught_otherwise(scene: Scene) -> Taught:
    """Training against history, found once for a scene; lays out the view "history as of training"."""
    found: Taught = scene.once("taught otherwise", _taught_otherwise)
    return found


def _taught_otherwise(scene: Scene) -> Taught:
    recipe = scene.bundle.made_from.get("recipe") or {}
    if "until" not in recipe:
        return Taught(says="nothing tells how the training set was drawn")
    scene.engine.view(HISTORY.strip('"'), _history(scene, recipe))
    names = list(scene.plan.inputs)
    other = [f"count(*) filter (where {_differs(n, scene.plan.inputs[n])})" for n in names]
    once = "select * from training qualify row_number() over (partition by key order by asked_at) = 1"
    both = "h.key is not null and t.key is not null"
    rows, *counts = counted(
        scene.engine,
        f"select (select count(*) from training), count(t.key), count(h.key), count(*) filter (where t.key is null), "
        f"count(*) filter (where {both}), count(*) filter (where {both} and t.label <> h.label), {', '.join(other)} "
        f"from ({once}) t full join {HISTORY} h on t.key = h.key",
    )
    distinct, expected, missing, shared, relabelled, *differing = counts
    if shared < 0.5 * distinct:
        return Taught(rows, expected, says=f"history has only {shared:,} of {distinct:,} training rows")
    columns = {c: int(k) for c, k in zip(names, differing, strict=True) if k}
    return Taught(rows, expected, missing, rows - distinct, relabelled, columns)


def _history(scene: Scene, recipe: Mapping[str, Any]) -> str:
    """SQL of the rows that the recipe would draw now, in the shape of a training set; each question once."""
    blank = {n: lit(None) for n in open_features(scene.plan)}
    plan = replace(scene.plan, features={**scene.plan.features, **blank})
    changes = [change_from(c) for c in scene.bundle.made_from.get("changes", ())]
    drawn = f"known_at < TIMESTAMP {sql_value(recipe['until'])} and label is not null"
    drawn += f" and asked_at >= TIMESTAMP {sql_value(recipe['since'])}" if recipe.get("since") else ""
    once = "qualify row_number() over (partition by key order by asked_at) = 1"
    return f"select * from ({training_sql(plan, changes)}) where {drawn} {once}"


def _differs(name: str, kind: str) -> str:
    one, other = f"t.{quoted('row.' + name)}", f"h.{quoted('row.' + name)}"
    both = "t.key is not null and h.key is not null"
    if kind == NUMBER:
        return f"{both} and (({one} is null) <> ({other} is null) or abs({one} - {other}) > 1e-9 * abs({other}))"
    return f"{both} and {one} is distinct from {other}"


def whom(
    scene: Scene, rows: str, flag: str, facts: bool = False, columns: Sequence[str] = (), pure: float = PURE
) -> Whom:
    """The plainest predicate that tells the rows for which `flag` holds from the others of `rows`.

    `rows` is SQL of rows with asked_at, label, `row.…` and `facts.…`, all of which might show the fault.
    Everyone, or one level of one column, or the span from a moment on, or two of these: it must hold nearly
    all that show the fault, and at least `pure` of what it selects must show it.
    """
    engine = scene.engine
    engine.run(f'create or replace temp table "rows looked at" as select *, {flag} as __flag from ({rows})')
    made, share = None, 0.0
    for _ in range(2):
        n, of, since = engine.rows(
            'select count(*) filter (where __flag), count(*), min(asked_at) filter (where __flag) from "rows looked at"'
        )[0]
        share = n / max(1, of)
        if not n or share >= max(pure, PURE):
            break
        found = _covering(scene, _telling(scene, facts, columns), n, of, since)
        if found is None:
            break
        where, share = found
        made = where if made is None else made & where
        if share >= PURE:
            break
        engine.run(
            'create or replace temp table "rows looked at" as select * from "rows looked at" where '
            f"coalesce({sql_of(scene, where)}, false)"
        )
    if made is None or share < pure:
        return Whom(None, share, f", {share:.1%} of them" if 0 < share < PURE else "")
    return Whom(made, share, f" where {shown(made)}")


def _covering(scene: Scene, telling: Mapping[str, str], n: int, of: int, since: Any) -> tuple[Expr, float] | None:
    """The level or span that holds nearly all flagged rows and the fewest others, and the share flagged in it."""
    found: list[tuple[float, int, Expr, float]] = []
    for place, (column, kind) in enumerate(telling.items()):
        levels = scene.engine.rows(
            f"select {quoted(column)}, count(*) filter (where __flag) as k, count(*) as of "
            f'from "rows looked at" where {quoted(column)} is not null group by 1 order by k desc limit 2'
        )
        for value, k, n_level in levels:
            if k >= PURE * n and n_level < PURE * of:
                where = (col(column) if value else ~col(column)) if kind == FLAG else col(column) == value
                # what something is says more than what it is not
                order = place + len(telling) * (kind == FLAG and not value)
                found.append((-round(k / n_level * k / n, 2), order, where, k / n_level))
    late = counted(scene.engine, f"select count(*) from \"rows looked at\" where asked_at >= TIMESTAMP '{since}'")[0]
    if late < PURE * of:
        found.append((-round(n / late, 2), -1 if n / late > 0.98 else len(found), col("asked_at") >= since, n / late))
    best = min(found, key=lambda f: f[:2], default=None)
    return (best[2], best[3]) if best is not None and best[3] > 1.1 * n / of else None


def part_of_whom(scene: Scene, rows: str, flag: str, facts: bool = False, columns: Sequence[str] = ()) -> Whom:
    """The predicate of which a few rows are a part: all that show something are in it, and that is no chance.

    Of `rows`, some are flagged, as in `whom`. One level of one column, or the span from a moment on: the narrowest.
    """
    engine = scene.engine
    engine.run(f'create or replace temp table "rows looked at" as select *, {flag} as __flag from ({rows})')
    figures = "count(*) filter (where __flag), count(*), min(asked_at) filter (where __flag)"
    n, of, since = engine.rows(f'select {figures} from "rows looked at"')[0]
    telling, found = _telling(scene, facts, columns), list[tuple[int, Expr]]()
    for column, kind in telling.items():
        levels = engine.rows(
            f'select {quoted(column)}, count(*) from "rows looked at" where {quoted(column)} is not null '
            f"group by 1 having count(*) filter (where __flag) = {n}"
        )
        for value, size in levels:
            where = (col(column) if value else ~col(column)) if kind == FLAG else col(column) == value
            found.append((size, where))
    late = counted(engine, f"select count(*) from \"rows looked at\" where asked_at >= TIMESTAMP '{since}'")[0]
    size, best = min([*found, (late, col("asked_at") >= since)], key=lambda f: f[0])
    if n * np.log(size / of) > np.log(CHANCE / (len(telling) + n)):
        return Whom(None, n / of, f", {n / of:.1%} of them")
    return Whom(best, n / size, f" where {shown(best)} ({n / size:.1%} of them)")


def _telling(scene: Scene, facts: bool, columns: Sequence[str]) -> Mapping[str, str]:
    """The columns whose levels may name a cohort, by kernel type."""
    own = {f"row.{n}": k for n, k in scene.plan.inputs.items() if k in (TEXT, FLAG, NUMBER)}
    # a flag reads better than a level
    facts_of = sorted(scene.plan.facts.items(), key=lambda f: f[1] != FLAG) if facts else []
    late = {f"facts.{n}": k for n, k in facts_of if k in (TEXT, FLAG)}
    return {**late, **own, **dict.fromkeys(columns, FLAG)}


LACKS = "key not in (select key from training)"


def lost_cohort(scene: Scene) -> Whom | None:
    """The cohort that history had and training lacks, whatever became of it; null if there is none."""
    found: Whom | None = scene.once("lost cohort", _lost_cohort)
    return found


def _lost_cohort(scene: Scene) -> Whom | None:
    seen = taught_otherwise(scene)
    if not seen.is_much(seen.missing):
        return None
    who = whom(scene, f"select * from {HISTORY}", LACKS)
    if who.where is None:
        who = part_of_whom(scene, f"select * from {HISTORY}", LACKS, columns=("label",))
        if who.where is not None and not _either_label(scene, who.where):
            return None
    return who if who.where is not None and "label" not in columns_of(who.where) else None


def _either_label(scene: Scene, where: Expr) -> bool:
    """Whether the rows of a predicate that training lacks have either label as often as chance draws it there."""
    n, yes, lost, lost_yes = counted(
        scene.engine,
        f"select count(*), count(*) filter (where label), count(*) filter (where {LACKS}), "
        f"count(*) filter (where label and {LACKS}) from {HISTORY} where {sql_of(scene, where)}",
    )
    share = yes / max(1, n)
    return bool(abs(lost_yes - lost * share) <= ALIKE * np.sqrt(max(1e-9, lost * share * (1 - share))))


# --- the second witness ---


def from_facts(scene: Scene) -> Expr | None:
    """The label's definition over the columns of `decisions`; null if it reads what is not kept there."""
    names = {f: col(f"facts.{f}") for f in scene.plan.facts} | {c: col(f"row.{c}") for c in scene.plan.inputs}
    read = columns_of(scene.plan.label)
    # labels that a patch corrected contradict their facts on purpose
    patched = any(c["part"] == LABEL for c in scene.bundle.made_from.get("changes", ()))
    if patched or not read <= set(names) | {"asked_at"}:
        return None
    made: Expr = substitute(scene.plan.label, {c: names[c] for c in read if c in names})
    return settle_predicate(scene.plan, made)


def denied_by_facts(scene: Scene) -> str:
    """SQL over `decisions`: whether a label is not what its definition makes of its facts; "false" if nobody can say.

    A handful is no matter: then, too, "false". Found once for a scene.
    """
    found: str = scene.once("denied by facts", _denied_by_facts)
    return found


def _denied_by_facts(scene: Scene) -> str:
    made = from_facts(scene)
    if made is None:
        return "false"
    test = f"coalesce(label <> ({to_sql(made)}), false)"
    (n,) = counted(scene.engine, f"select count(*) from decisions where status = 'ok' and {test}")
    return test if n >= DENIED else "false"


def later_witness(scene: Scene) -> Witness | None:
    """What later decisions say of the training rows, learned once for a scene; null if too few outcomes are known."""
    found: Witness | None = scene.once("later witness", _later_witness)
    return found


def _later_witness(scene: Scene) -> Witness | None:
    missing = coverage(scene)
    if missing is not None and missing.is_selective:
        return None
    # who bears witness may depend on what is in question, but what they say does not: it is learned once
    early, known = heard(scene), scene.once("witnesses", lambda _: dict[str, Witness | None]())
    found: Witness | None = known[early] if early in known else known.setdefault(early, _witness(scene, early))
    return found


def _witness(scene: Scene, early: str) -> Witness | None:
    n, yes = counted(scene.engine, f"select count(label), count(*) filter (where label) from decisions where {early}")
    if n < KNOWN or min(yes, n - yes) < KNOWN / 10:
        return None
    names = cohort_columns(scene)
    exprs = [f"{quoted('features.' + f)} as {quoted(f)}" for f in scene.bundle.features]
    exprs += [f"{quoted('row.' + c)}::VARCHAR as {quoted('level ' + c)}" for c in names]
    own = "label, epoch_us(asked_at) as __asked, " + ", ".join(exprs)
    lived = dict(
        scene.engine.frame(
            f"select {own} from decisions where {early} and label is not null "
            f"qualify row_number() over (order by asked_at, id) % {max(1, n // MOST)} = 0"
        )
    )
    # a row that stands there many times says no more of what its columns tell than one
    once = "select * from training qualify row_number() over (partition by key order by asked_at) = 1"
    rows = f"({once})" if taught_otherwise(scene).repeated else "training"
    step = max(1, counted(scene.engine, f"select count(*) from {rows}")[0] // MOST)
    taught = dict(
        scene.engine.frame(f"select {own} from {rows} qualify row_number() over (order by asked_at, key) % {step} = 0")
    )
    features = {f: lived[f] for f in scene.bundle.features}
    model = fit_main_effects(features, lived["label"], scene.bundle.feature_types)
    for frame in (lived, taught):
        frame["score"] = np.clip(score_frame(model, {f: frame[f] for f in scene.bundle.features}), 1e-6, 1 - 1e-6)
    return Witness(model, taught, lived, names, step)


def heard(scene: Scene) -> str:
    """SQL over `decisions`: those that bear witness, found once for a scene. Whoever is in doubt bears none.

    Labels that contradict their facts are left out, as are decisions from the moment on at which
    values began to come otherwise, or outcomes to mean something else, if enough came before.
    """
    found: str = scene.once("heard", _heard)
    return found


def _heard(scene: Scene) -> str:
    every = f"status = 'ok' and not {denied_by_facts(scene)}"
    turn = turn_of(scene)
    if turn is not None and turn.until is not None:
        # what passed was so for a while: whoever was asked meanwhile says nothing of any other time
        since, until = (sql_value(str(moment(at))) for at in (turn.since, turn.until))
        every += f" and not (asked_at >= TIMESTAMP {since} and asked_at < TIMESTAMP {until})"
    began = [cohort.since for _, _, cohort in served_otherwise(scene).forms if cohort.since]
    began += [str(move.since) for move in moved_values(scene).moves]
    began += [str(moment(turn.since))] if turn is not None and turn.until is None else []
    early = f"{every} and asked_at < TIMESTAMP {sql_value(min(began))}" if began else every
    n, yes = counted(scene.engine, f"select count(label), count(*) filter (where label) from decisions where {early}")
    return early if n >= KNOWN and min(yes, n - yes) >= KNOWN / 10 else every


def cohort_columns(scene: Scene) -> tuple[str, ...]:
    """The inputs with few enough levels in training to name cohorts, of those that features are made of or are watched.

    A number counts if it has few values. Columns that all questions of a day share tell seasons, not cohorts.
    """
    found: tuple[str, ...] = scene.once("cohort columns", _cohort_columns)
    return found


def _cohort_columns(scene: Scene) -> tuple[str, ...]:
    read = {c for e in scene.bundle.features.values() for c in columns_of(e)} | set(scene.plan.system.goal.watch)
    names = [c for c, k in scene.plan.inputs.items() if k in (TEXT, FLAG, NUMBER) and c in read]
    if not names:
        return ()
    counts = ", ".join(f"approx_count_distinct({quoted('row.' + c)})" for c in names)
    found = counted(scene.engine, f"select {counts} from training")
    most = {NUMBER: 40}
    few = [c for c, k in zip(names, found, strict=True) if 2 <= k <= most.get(scene.plan.inputs[c], LEVELS)]
    return tuple(c for c in few if not _is_calendar(scene, c))


def _is_calendar(scene: Scene, column: str) -> bool:
    """Whether nearly all questions of a day have the same level: what a level tells is then when, not who."""
    name = quoted("row." + column)
    same, n = counted(
        scene.engine,
        f"select sum(k), sum(n) from (select max(k) as k, sum(k) as n from (select asked_at::DATE as d, {name}, "
        f"count(*) as k from training group by all) group by d having sum(k) >= 5)",
    )
    top = counted(scene.engine, f"select max(k) from (select count(*) as k from training group by {name})")[0]
    total = counted(scene.engine, "select count(*) from training")[0]
    return bool(n and same >= PURE * n and top < PURE * total)


def of_decisions(where: Expr | None) -> Expr | None:
    """The part of a predicate over training rows that tells decisions too: what it says of inputs; null if nothing."""
    return part_about(where, "row.")


def part_about(where: Expr | None, side: str) -> Expr | None:
    """The part of a predicate that reads one side only ("row." or "facts."); null if nothing of it does."""
    if where is None:
        return None
    if where.op == "and":
        one, other = (part_about(a, side) for a in where.args)
        return one & other if one is not None and other is not None else one if one is not None else other
    return where if columns_of(where) and all(c.startswith(side) for c in columns_of(where)) else None


def told(where: Expr | None) -> str:
    """A predicate over training rows as parameters name it: empty for all rows."""
    return "" if where is None else shown(where)


def reach_of(scene: Scene, where: Expr | None) -> Expr | None:
    """Whom training rows that a predicate tells made decisions wrong for: their cohort, null for everyone.

    A model that was taught wrong about a cohort decides otherwise outside of it too: if most of the
    decisions complained about lie outside, the cohort does not say whom it touches.
    """
    cohort = of_decisions(where)
    if cohort is None or not scene.n_bad:
        return cohort
    inside = counted(scene.engine, f"select count(*) from decisions where bad and {sql_of(scene, cohort)}")[0]
    return cohort if inside >= 0.5 * scene.n_bad else None


def level_expr(scene: Scene, column: str, level: str) -> Expr:
    """The predicate of one level of an input, from the level as text."""
    kind, name = scene.plan.inputs[column], col(f"row.{column}")
    if kind == FLAG:
        return name if level == "true" else ~name
    return name == (float(level) if kind == NUMBER else level)


def in_asks(scene: Scene, where: Expr | None) -> str:
    """SQL over `asks`: the questions whose label was known when the model learned, and for which a predicate holds."""
    known = f"__label_known < TIMESTAMP {sql_value(str(scene.bundle.made_from['recipe']['until']))}"
    if where is None:
        return known
    bare = {c: col(c.partition(".")[2]) for c in columns_of(where) if "." in c}
    return f"{known} and {to_sql(substitute(settle_predicate(scene.plan, where), bare))}"


def sql_of(scene: Scene, where: Expr | None) -> str:
    """A predicate over the views as SQL; true if null."""
    return "true" if where is None else to_sql(settle_predicate(scene.plan, where))
