"""Faults of the label: what the model was taught is not what happened."""

from __future__ import annotations

from dataclasses import dataclass

from underhood.build.checks import fills
from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Kind, Ruling, Scene, Suspect, counted
from underhood.plan.changes import LABEL, Change
from underhood.plan.exprs import Expr, col, columns_of, is_denial, shown
from underhood.plan.operations import FLAG, TEXT
from underhood.plan.render import quoted, to_sql

LEAST = 20  # fewer mislabelled training rows than this teach a model little
COVERS = 0.9  # share of the complained-about decisions that an outcome must account for
MOST_LEVELS = 30
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
    """
    kind = DEFINITION.name
    if scene.harm is None:
        return Ruling(kind, (), "the complaint does not say that something happened which the label denies")
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
    3,
    inject_definition,
    suspect_definition,
    undo_definition,
)
