"""Faults of the label: what the model was taught is not what happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from underhood.build.checks import fills
from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.faults.taught import denied_by_facts, heard, part_about
from underhood.faults.training_labels import contradicted, relabelled
from underhood.plan.changes import LABEL, TAUGHT, Change
from underhood.plan.exprs import Expr, col, columns_of, is_denial, lit, shown
from underhood.plan.operations import FLAG, TEXT
from underhood.plan.render import quoted, to_sql

LEAST = 20  # fewer mislabelled training rows than this teach a model little
COVERS = 0.9  # share of the complained-about decisions that an outcome must account for
MOST_LEVELS = 30
TURNS = 0.8  # between the shares of positives of one outcome: more than any mix explains
ENOUGH = 5  # with fewer decisions any level of any late column is "common to them all"


@dataclass(frozen=True)
class Seen:
    """How one outcome shows: its share among the bad, among the rest, and how it is labelled in training."""

    where: Expr
    covers: float
    elsewhere: float
    taught: int
    right: int


def inject_definition(name: str, where: Expr) -> tuple[Change, ...]:
    """The label takes one outcome for "did not happen" wherever `where` holds."""
    return (Change(LABEL, name, False, where),)


def undo_definition(name: str, where: Expr, so: bool = True) -> tuple[Change, ...]:
    """The label counts that outcome as what it is: happened, or with `so` false not happened."""
    return (Change(LABEL, name, so, where),)


def suspect_definition(scene: Scene) -> Ruling:
    """Complaint and label contradict each other: people say that it happened, the label says that it did not.

    Then some outcome accounts for the decisions complained about, and the
    training set is full of rows with that outcome labelled as if nothing had happened.
    The same the other way round: people say that it did not happen, the label counts it.

    Where nobody says what happened, the training labels may still contradict history's, or those of
    later decisions, outcome by outcome. A definition that is wrong everywhere contradicts nothing in the
    record, and what an outcome should count as is for people to say: so no more than that is looked at.
    """
    kind = DEFINITION.name
    if scene.harm is None:
        return _without_harm(scene)
    so = not is_denial(scene.harm)
    n, known, denied = counted(
        scene.engine,
        f"select count(*), count(label), count(*) filter (where label = {not so}) from decisions where bad",
    )
    if known == 0:
        return Ruling(kind, (), "no outcome of these decisions is known yet, so the label cannot be checked")
    if denied < 0.5 * known:
        return Ruling(
            kind,
            (),
            f"the label agrees with the complaint for {known - denied:,} of {known:,}",
        )
    best = _outcome(scene)
    if best is None:
        return Ruling(kind, (), f"the label denies {denied:,} of {n:,}, but no known outcome is common to them")
    if best.taught < LEAST:
        return Ruling(
            kind,
            (),
            f"only {best.taught} training rows with {shown(best.where)} are labelled otherwise",
        )
    return Ruling(kind, (_suspect(scene, best, denied, known),))


def _without_harm(scene: Scene) -> Ruling:
    kind = DEFINITION.name
    found = relabelled(scene)
    if found is not None and found.is_late:
        return Ruling(kind, (), "training labels differ from history, but only the newest, which lost their 'yes'")
    if found is not None and found.is_definition and found.who.where is not None:
        where = found.who.where
        counts = "not happened" if found.no > found.n / 2 else "happened"
        says = f"the label was taught with {shown(where)} taken for '{counts}'"
        outcome = part_about(where, "facts.")
        return Ruling(kind, (contradicted(scene, kind, says, outcome=shown(where if outcome is None else outcome)),))
    if found is not None:
        return Ruling(kind, (), "training labels are not history's, but no outcome tells which ones")
    if denied_by_facts(scene) != "false":
        return Ruling(kind, (), "labels of decisions contradict their own facts, which no definition makes them do")
    moved = _meant_otherwise(scene)
    if moved is None:
        return Ruling(
            kind,
            (),
            "every known outcome is labelled in training as it is for later decisions, and the complaint does not "
            "say that something happened which the label denies",
        )
    where, so, taught, lived = moved
    sql = to_sql(settle_predicate(scene.plan, where))
    return Ruling(
        kind,
        (
            Suspect(
                kind,
                f"label {scene.plan.system.label.name}",
                f"the label has changed its mind about {shown(where)}: {taught:.0%} of the training rows with it are "
                f"positive, {lived:.0%} of later decisions",
                f"select 'training' as side, label, count(*) as n from training where {sql} group by label "
                f"union all select 'decisions', label, count(*) from decisions where {sql} group by label",
                undo_definition(scene.plan.system.label.name, where, so),
                parameters={"outcome": shown(where)},
            ),
        ),
    )


def _meant_otherwise(scene: Scene) -> tuple[Expr, bool, float, float] | None:
    """The outcome that is labelled one way in training and the other way later: predicate, what later, both shares."""
    found: list[tuple[float, int, Expr, bool, float, float]] = []
    for name, kind in scene.plan.facts.items():
        if kind not in (FLAG, TEXT):
            continue
        fact, column = col(f"facts.{name}"), quoted("facts." + name)
        rows = scene.engine.rows(
            f"select t.v, t.n, t.p, d.n, d.p from (select {column} as v, count(*) as n, avg(label::INT) as p "
            f"from training group by 1 having count(*) >= {LEAST}) t join (select {column} as v, count(*) as n, "
            f"avg(label::INT) as p from decisions where {heard(scene)} and label is not null group by 1 "
            f"having count(*) >= {LEAST}) d "
            f"on t.v is not distinct from d.v where abs(t.p - d.p) >= {TURNS} order by t.n desc limit {MOST_LEVELS}"
        )
        for value, n, taught, _, lived in rows:
            named = fact if value is True else ~fact if value is False else fact == value
            where = fact.is_null() if value is None else named
            found.append((-abs(taught - lived), -n, where, lived > taught, taught, lived))
    best = min(found, key=lambda f: f[:2], default=None)
    # where "yes" became "no" and "no" became "yes", labels were turned round, whatever they mean
    one_way = len({so for _, _, _, so, _, _ in found}) == 1
    return best[2:] if best is not None and one_way else None


def inject_taught_definition(where: Expr, so: bool = False) -> tuple[Change, ...]:
    """The training labels take one outcome for another; history has it right."""
    return (Change(TAUGHT, "label", so, where),)


def propose_definition(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """One outcome that always counts, and is not all that counts, taken for the other when the model was taught.

    In the training labels only, or in all of history before the model learned. A definition that is
    wrong for decisions as well needs a complaint that says what happened, so no drill can make it.
    """
    found: list[tuple[Expr, bool]] = []
    for name, kind in scene.plan.facts.items():
        if kind not in (FLAG, TEXT) or scene.bundle.model["kind"] == "constant":
            continue
        fact, column = col(f"facts.{name}"), quoted("facts." + name)
        rows = scene.engine.rows(
            f"select {column}, avg(label::INT) as p, count(*) as n from training where {column} is not null "
            f"group by 1 having n >= {5 * LEAST} and (p >= 0.98 or p <= 0.02) order by n desc limit {MOST_LEVELS}"
        )
        total, yes = counted(scene.engine, "select count(*), count(*) filter (where label) from training")
        for value, p, n in rows:
            share = n / (yes if p > 0.5 else total - yes)
            if 0.03 <= share <= 0.97:
                found.append((fact if value is True else ~fact if value is False else fact == value, p > 0.5))
    if not found:
        return None
    where, was = found[int(random.integers(len(found)))]
    reached = where if cohort is None else where & cohort
    changes = inject_taught_definition(reached, not was)
    if cohort is None and random.random() < 0.5:
        until = datetime.fromisoformat(str(scene.bundle.made_from["recipe"]["until"]))
        before = col("asked_at") < lit(until)
        changes = (Change(LABEL, scene.plan.system.label.name, not was, reached & before),)
    return Injection(DEFINITION.name, changes, (), {"outcome": shown(where)}, cohort, retrain=True)


def _suspect(scene: Scene, seen: Seen, denied: int, known: int) -> Suspect:
    label, so = scene.plan.system.label.name, scene.harm is None or not is_denial(scene.harm)
    says = (
        f"the label `{label}` takes {shown(seen.where)} for '{'did not happen' if so else 'happened'}': so it is for "
        f"{denied:,} of the {known:,} decisions complained about, and {seen.taught:,} such training rows teach the "
        f"model that {'nothing' if so else 'it'} happened"
    )
    mechanism = _mechanism(scene, seen.where)
    where = to_sql(settle_predicate(scene.plan, seen.where))
    return Suspect(
        DEFINITION.name,
        f"label {label}",
        says + (f" ({mechanism})" if mechanism else ""),
        f"select label, count(*) as training_rows from training where {where} group by label",
        undo_definition(label, seen.where, so),
        seen.where,
        parameters={"outcome": shown(seen.where), "training_rows": seen.taught, "mechanism": mechanism},
    )


def _outcome(scene: Scene) -> Seen | None:
    """The most specific outcome that nearly all bad decisions share and that the label denies."""
    seen = [s for s in _look(scene) if s.covers >= COVERS and s.elsewhere < 0.5 and s.taught > s.right]
    return min(seen, key=lambda s: (round(s.elsewhere, 3), _plainness(s.where)), default=None)


def _look(scene: Scene) -> list[Seen]:
    so = scene.harm is None or not is_denial(scene.harm)
    wheres = [scene.harm] if scene.harm is not None and _is_fact(scene.harm) else []
    wheres += _candidates(scene) if scene.n_bad >= ENOUGH else []
    found = []
    for where in wheres:
        sql = to_sql(settle_predicate(scene.plan, where))
        bad, covered, rest, elsewhere = counted(
            scene.engine,
            f"select count(*) filter (where bad), count(*) filter (where bad and {sql}), "
            f"count(*) filter (where not bad), count(*) filter (where not bad and {sql}) "
            "from decisions where label is not null",
        )
        taught, right = counted(
            scene.engine,
            f"select count(*) filter (where label = {not so}), count(*) filter (where label = {so}) "
            f"from training where {sql}",
        )
        found.append(Seen(where, covered / max(1, bad), elsewhere / max(1, rest), taught, right))
    return found


def _candidates(scene: Scene) -> list[Expr]:
    made: list[Expr] = []
    for name, kind in scene.plan.facts.items():
        fact = col(f"facts.{name}")
        made.append(fact.is_null())
        if kind == FLAG:
            made += [fact == True, fact == False]  # noqa: E712  an expression, not a comparison
        if kind == TEXT:
            levels = scene.engine.rows(
                f"select {quoted('facts.' + name)} from decisions where bad and {quoted('facts.' + name)} is not null "
                f"group by 1 order by count(*) desc limit {MOST_LEVELS}"
            )
            made += [fact == level for (level,) in levels]
    return made


def _is_fact(where: Expr) -> bool:
    return all(c.startswith("facts.") for c in columns_of(where))


def _plainness(where: Expr) -> int:
    """A flag reads better than a level, a level better than a null."""
    return {"col": 0, "eq": 1, "is_null": 2}.get(where.op, 3)


def _mechanism(scene: Scene, where: Expr) -> str:
    """How the definition comes to it: a part that is null in all these rows is filled with "did not happen"."""
    sql = to_sql(settle_predicate(scene.plan, where))
    for filled, value in fills(scene.plan.label):
        columns = sorted(columns_of(filled) & set(scene.plan.facts))
        if not columns:
            continue
        nulls = " or ".join(f"{quoted('facts.' + c)} is null" for c in columns)
        rows, empty = counted(
            scene.engine, f"select count(*), count(*) filter (where {nulls}) from training where {sql}"
        )
        if rows and empty >= COVERS * rows:
            return f"it fills in {value} where there is no {', '.join(columns)}, which is so in {empty:,} of {rows:,}"
    return ""


DEFINITION = Kind(
    "label definition",
    "the label mistakes one outcome for another",
    2,
    inject_definition,
    suspect_definition,
    undo_definition,
    propose_definition,
    needs=("inputs", "outcome", "training table"),
)
