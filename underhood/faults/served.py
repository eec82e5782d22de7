"""Contradictions inside the record: what was served is not what the system says it serves.

Cheap and certain: if one of these holds, it is the news, and later
differences are its children.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.cohorts import cohort_of
from underhood.faults.extent import holds
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.rules import CUT, Misacted, contradicting, misacted, replays
from underhood.faults.values import differs, served_otherwise
from underhood.faults.vectors import EXPLAINED, OLDER, UNKNOWN, misscored, no_suspect, replayed, score_suspect
from underhood.plan.changes import BUNDLE, INPUT, RECOMPUTED, THRESHOLD, UNTIL, Change
from underhood.plan.exprs import Expr
from underhood.plan.render import quoted

PAST = 0.05  # share of the scores between a cut and where a drill moves it


def served_features(scene: Scene, where: str = "true") -> dict[str, Array]:
    """The captured features of the decisions, by column, in order of id."""
    columns = ", ".join(f"{quoted('features.' + n)} as {quoted(n)}" for n in scene.bundle.features)
    return dict(scene.engine.frame(f"select {columns} from decisions where status = 'ok' and {where} order by id"))


def inject_model(name: str) -> tuple[Change, ...]:
    """Another bundle decides than the one that is deployed."""
    return (Change(BUNDLE, "bundle", name),)


def suspect_model(scene: Scene) -> Ruling:
    """The captured features, scored again, give another score: that of an older bundle, or of none that is known.

    A constant, another order of the features, or a map of the right score is told from it by
    kinds of their own.
    """
    found = misscored(scene)
    if found is None or found.how not in (OLDER, UNKNOWN):
        return no_suspect(scene, MODEL.name, EXPLAINED[found.how] if found else "")
    served = found.parameters["served"]
    says = f"they are what {served} gives" if found.how == OLDER else EXPLAINED[UNKNOWN]
    return Ruling(MODEL.name, (score_suspect(scene, MODEL.name, found, "bundle", says),))


def propose_model(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """An older bundle of the record decides, or one that learned by the same recipe from half of what was known."""
    if cohort is not None and scene.bundle.model["kind"] == "outside":
        return None
    recipe = scene.bundle.made_from.get("recipe", {})
    at = float(random.uniform(0.3, 0.6))
    rows = scene.engine.rows(f"select quantile_disc(known_at, {at}) from training")
    if not recipe or rows[0][0] is None:
        return None
    until = rows[0][0].isoformat()
    return Injection(MODEL.name, (Change(UNTIL, "bundle", until, cohort),), (), {"until": until}, cohort)


MODEL = Kind(
    "wrong model",
    "another model decided than the deployed one",
    1,
    inject_model,
    suspect_model,
    inject_model,
    propose_model,
    needs=("inputs", "score", "scorer"),
)


def inject_threshold(action: str, cut: float) -> tuple[Change, ...]:
    """The cut of one action is moved."""
    return (Change(THRESHOLD, action, cut),)


def suspect_threshold(scene: Scene) -> Ruling:
    """The captured action is what a moved cut makes of the captured score, not what the bundle's policy does."""
    found = misacted(scene)
    if found is None or found.how != CUT:
        other = "no place of the cuts gives them: they get one action whatever the score, so it is a rule"
        return replays(scene, WRONG_THRESHOLD.name, other)
    implied, e = _implied(scene, found), found.extent
    return Ruling(
        WRONG_THRESHOLD.name,
        (
            Suspect(
                WRONG_THRESHOLD.name,
                "threshold",
                f"{e.n:,} actions{e.says} contradict the policy: {implied}",
                contradicting(scene),
                tuple(Change(THRESHOLD, action, cut) for action, cut in scene.bundle.policy.cuts),
                e.where,
                e.since,
                {"implied": implied, **found.cuts},
            ),
        ),
    )


def _implied(scene: Scene, found: Misacted) -> str:
    """Where the cuts in force must have been, in words."""
    own, says = dict(scene.bundle.policy.cuts), []
    for name, cut in found.cuts.items():
        way = "was not given at" if cut > own[name] else "was given at"
        says.append(f"'{name}' {way} {found.last[name]:.3f}, as if from {cut:.4g} on; its cut is {own[name]:g}")
    return "; ".join(says)


def propose_threshold(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """One cut moved to another round place, past a fair share of the scores if there is one."""
    cuts, found = scene.bundle.policy.cuts, []
    score = replayed(scene).score[holds(scene, cohort)]
    for n, (name, cut) in enumerate(cuts):
        # between its neighbours: beyond them another action would vanish
        low = cuts[n + 1][1] if n + 1 < len(cuts) else 0.0
        high = cuts[n - 1][1] if n else 1.0
        for to in {round(float(v), 2) for v in random.uniform(low, high, 12)} - {round(cut, 2), 0.0, 1.0, low, high}:
            past = ((score >= min(cut, to)) & (score < max(cut, to))).mean() if len(score) else 0.0
            found.append((float(past), name, to))
    if not found:
        return None
    fair = [f for f in sorted(found, reverse=True) if f[0] >= PAST] or [max(found)]
    _, name, to = fair[int(random.integers(len(fair)))]
    return Injection(WRONG_THRESHOLD.name, (Change(THRESHOLD, name, to, cohort),), (), {name: to}, cohort)


WRONG_THRESHOLD = Kind(
    "wrong threshold",
    "the action contradicts the policy",
    1,
    inject_threshold,
    suspect_threshold,
    lambda cuts: tuple(Change(THRESHOLD, a, c) for a, c in cuts),
    propose_threshold,
    needs=("inputs", "score", "action", "policy"),
)


def inject_skew(column: str, to: object) -> tuple[Change, ...]:
    """One input is served with another value than history gives."""
    return (Change(INPUT, column, to),)


def undo_skew(columns: Sequence[str], where: Expr | None = None) -> tuple[Change, ...]:
    """The inputs are recomputed from history, as known when asked."""
    return tuple(Change(INPUT, column, RECOMPUTED, where) for column in columns)


def suspect_skew(scene: Scene) -> Ruling:
    """The captured input is not what history, as known then, gives for the same question, by no closed form.

    Inputs that were served empty are told by the kind "missing feed", closed forms by
    the kinds of values.py.
    """
    found = served_otherwise(scene)
    broken = {c: k for c, k in found.differing.items() if c not in found.explained}
    n = found.n
    if not n:
        return Ruling(
            SKEW.name, (), "none of these questions is in the sources any more, so inputs cannot be recomputed"
        )
    if not broken:
        others = len(scene.plan.inputs) - len(found.differing)
        says = f"{others} inputs equal what history gives as known then, for {n:,} of {n:,}"
        if found.differing:
            says = f"the other {says}; {', '.join(found.differing)} differs in a way that has a name of its own"
        return Ruling(SKEW.name, (), says)
    worst = max(broken, key=lambda c: broken[c])
    flag = " or ".join(differs(c, scene.plan.inputs[c]) for c in broken)
    cohort = cohort_of(scene, f"({flag})", struck=tuple(found.differing))
    shown = f"d.{quoted('row.' + worst)} as served, a.{quoted(worst)} as recomputed"
    return Ruling(
        SKEW.name,
        (
            Suspect(
                SKEW.name,
                f"input {worst}",
                f"{', '.join(broken)} served differently from what history gives ({worst}: {broken[worst]:,} of {n:,})"
                f"{cohort.says}: {cohort.n:,} decisions",
                f"select d.id, {shown} from decisions d join asks a on d.key = a.key where {flag}",
                undo_skew(list(broken), cohort.where),
                cohort.where,
                cohort.since,
                {"columns": list(broken)},
            ),
        ),
    )


SKEW = Kind("skew", "served inputs differ from history as known then", 1, inject_skew, suspect_skew, undo_skew)
