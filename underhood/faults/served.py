"""Contradictions inside the record: what was served is not what the system says it serves.

Cheap and certain: if one of these holds, it is the news, and later
differences are its children.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from underhood.build.bundle import load
from underhood.build.checks import actions_of
from underhood.build.scorer import Array, score_frame
from underhood.faults.kinds import Kind, Ruling, Scene, Suspect
from underhood.faults.values import served_otherwise
from underhood.plan.changes import BUNDLE, INPUT, RECOMPUTED, THRESHOLD, Change
from underhood.plan.render import quoted
from underhood.record.objects import names as object_names

SHARE = 0.005  # below it a contradiction touches too few decisions to explain a complaint


def served_features(scene: Scene, where: str = "true") -> dict[str, Array]:
    """The captured features of the decisions, by column, in order of id."""
    columns = ", ".join(f"{quoted('features.' + n)} as {quoted(n)}" for n in scene.bundle.features)
    return dict(scene.engine.frame(f"select {columns} from decisions where status = 'ok' and {where} order by id"))


def inject_model(name: str) -> tuple[Change, ...]:
    """Another bundle decides than the one that is deployed."""
    return (Change(BUNDLE, "bundle", name),)


def suspect_model(scene: Scene) -> Ruling:
    """The captured features, scored again, give another score; perhaps the score of an older bundle."""
    served = scene.engine.frame("select score, bad from decisions where status = 'ok' order by id")
    if not len(served["score"]):
        return Ruling(MODEL.name, (), "no decision was captured with a score")
    features = served_features(scene)
    again = score_frame(scene.bundle.model, features)
    differs, bad = again != served["score"], served["bad"] > 0
    if differs[bad].mean() < SHARE if bad.any() else True:
        return Ruling(
            MODEL.name,
            (),
            f"replay is identical to the last bit for {int((~differs[bad]).sum()):,} of {int(bad.sum()):,}",
        )
    other = _which(scene, features, served["score"], differs)
    says = f"{int(differs[bad].sum()):,} of {int(bad.sum()):,} scores are not what {scene.bundle.name} gives"
    if other:
        says += f"; they are what {other} gives"
    return Ruling(
        MODEL.name,
        (
            Suspect(
                MODEL.name,
                "bundle",
                says,
                "select id, bundle, score from decisions where bad order by id",
                inject_model(scene.bundle.name),
                parameters={"served": other or "unknown"},
            ),
        ),
    )


def _which(scene: Scene, features: dict[str, Array], score: Array, differs: Array) -> str:
    some = np.flatnonzero(differs)[:200]
    sample = {n: v[some] for n, v in features.items()}
    for name in object_names(scene.record, "bundle"):
        other = load(scene.record, name)
        if set(other.features) == set(features) and (score_frame(other.model, sample) == score[some]).mean() > 0.95:
            return name
    return ""


MODEL = Kind("wrong model", "another model decided than the deployed one", 1, inject_model, suspect_model, inject_model)


def inject_threshold(action: str, cut: float) -> tuple[Change, ...]:
    """The cut of one action is moved."""
    return (Change(THRESHOLD, action, cut),)


def suspect_threshold(scene: Scene) -> Ruling:
    """The captured action is not what the bundle's policy makes of the captured score."""
    rows = scene.engine.frame(
        "select score, action, bad from decisions where status = 'ok' and len(patches) = 0 order by id"
    )
    if not len(rows["score"]):
        return Ruling(WRONG_THRESHOLD.name, (), "no decision was made by the policy alone")
    expected = actions_of(rows["score"], scene.bundle.policy)
    differs, bad = expected != rows["action"], rows["bad"] > 0
    n_bad = int(bad.sum())
    if not n_bad or differs[bad].mean() < SHARE:
        return Ruling(
            WRONG_THRESHOLD.name,
            (),
            f"the action follows from the score for {n_bad - int(differs[bad].sum()):,} of {n_bad:,}",
        )
    implied = _implied(rows["score"][differs], rows["action"][differs], scene)
    return Ruling(
        WRONG_THRESHOLD.name,
        (
            Suspect(
                WRONG_THRESHOLD.name,
                "threshold",
                f"{int(differs[bad].sum()):,} of {n_bad:,} actions contradict the policy: {implied}",
                "select action, min(score), max(score), count(*) from decisions group by action",
                tuple(Change(THRESHOLD, action, cut) for action, cut in scene.bundle.policy.cuts),
                parameters={"implied": implied},
            ),
        ),
    )


def _implied(score: Array, action: Array, scene: Scene) -> str:
    """Where the cuts in force must have been, from the decisions that contradict the policy's own."""
    says = []
    for name, cut in scene.bundle.policy.cuts:
        missed, given = score[(score >= cut) & (action != name)], score[(score < cut) & (action == name)]
        if len(given):
            says.append(f"'{name}' was given from {given.min():.3f} on, its cut is {cut:g}")
        elif len(missed) and (actions_of(missed, scene.bundle.policy) == name).any():
            says.append(f"'{name}' was not given at {missed.max():.3f}, its cut is {cut:g}")
    return "; ".join(says)


WRONG_THRESHOLD = Kind(
    "wrong threshold",
    "the action contradicts the policy",
    1,
    inject_threshold,
    suspect_threshold,
    lambda cuts: tuple(Change(THRESHOLD, a, c) for a, c in cuts),
)


def inject_skew(column: str, to: object) -> tuple[Change, ...]:
    """One input is served with another value than history gives."""
    return (Change(INPUT, column, to),)


def undo_skew(columns: Sequence[str]) -> tuple[Change, ...]:
    """The inputs are recomputed from history, as known when asked."""
    return tuple(Change(INPUT, column, RECOMPUTED) for column in columns)


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
        return Ruling(SKEW.name, (), f"{others} inputs equal what history gives as known then, for {n:,} of {n:,}")
    worst = max(broken, key=lambda c: broken[c])
    shown = f"d.{quoted('row.' + worst)} as served, a.{quoted(worst)} as recomputed"
    return Ruling(
        SKEW.name,
        (
            Suspect(
                SKEW.name,
                f"input {worst}",
                f"{', '.join(broken)} served differently from what history gives ({worst}: {broken[worst]:,} of {n:,})",
                f"select d.id, {shown} from decisions d join asks a on d.key = a.key where d.bad",
                undo_skew(list(broken)),
                parameters={"columns": list(broken)},
            ),
        ),
    )


SKEW = Kind("skew", "served inputs differ from history as known then", 1, inject_skew, suspect_skew, undo_skew)
