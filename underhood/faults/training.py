"""Faults of the training set: what was asked is not what was learned."""

from __future__ import annotations

import numpy as np

from underhood.build.scorer import Frame, leaves
from underhood.faults.kinds import Kind, Ruling, Scene, Suspect, counted
from underhood.faults.served import served_features
from underhood.plan.changes import ROUTE, ROWS, Change
from underhood.plan.exprs import Expr, col, lit, shown
from underhood.plan.operations import NUMBER, TEXT
from underhood.plan.render import quoted

ALIKE = 0.5  # share of trees in which two rows must share the leaf
FEW = 5
SAMPLE = 40
MOST = 30_000  # training rows looked at; every n-th of more, counted n times
BEYOND = 0.05  # of training's own width: so far outside is not the next larger value of the same kind


def inject_gap(where: Expr) -> tuple[Change, ...]:
    """The training set lacks the rows of a cohort."""
    return (Change(ROWS, "training", "left out", where),)


def undo_gap(where: Expr, action: str) -> tuple[Change, ...]:
    """Until rows like these are collected, another action is taken for them."""
    return (Change(ROUTE, "route", action, where),)


def suspect_gap(scene: Scene) -> Ruling:
    """The decisions lie where the model has seen next to nothing.

    A value lies beyond all that training holds (there trees answer as for the last
    value they know), or few training rows share the leaves.
    """
    bad = served_features(scene, "bad")
    n = len(next(iter(bad.values())))
    if not n:
        return Ruling(GAP.name, (), "none of the decisions has features to compare")
    outside = _outside(scene, bad)
    if outside is not None:
        return Ruling(GAP.name, (_suspect(scene, outside, n),))
    if scene.bundle.model["kind"] != "trees":
        return Ruling(GAP.name, (), "training holds values like these, and the model is linear: it has no holes")
    some = np.linspace(0, n - 1, min(SAMPLE, n)).astype(int)
    step = max(1, counted(scene.engine, "select count(*) from training")[0] // MOST)
    columns = ", ".join(f"{quoted('features.' + f)} as {quoted(f)}" for f in scene.bundle.features)
    every = f"qualify row_number() over (order by asked_at, key) % {step} = 0"
    seen = leaves(scene.bundle.model, scene.engine.frame(f"select {columns} from training {every}"))
    alike = [
        step * int(((seen == row).mean(axis=1) >= ALIKE).sum())
        for row in leaves(scene.bundle.model, {f: v[some] for f, v in bad.items()})
    ]
    middle = int(np.median(alike))
    if middle >= FEW:
        return Ruling(GAP.name, (), f"training holds rows alike to these: {middle:,} for the middle one of {len(some)}")
    return Ruling(
        GAP.name,
        (
            Suspect(
                GAP.name,
                "training set",
                f"the middle one of {len(some)} decisions has only {middle} training rows alike",
                "select * from decisions where bad",
                (),
                parameters={"alike": middle},
            ),
        ),
    )


def _outside(scene: Scene, bad: Frame) -> tuple[Expr, int] | None:
    """The predicate of a value that training never holds and most of the decisions have, and how many; null if none."""
    found: list[tuple[int, Expr]] = []
    for name, kind in scene.bundle.feature_types.items():
        feature = col(f"features.{name}")
        column = quoted(f"features.{name}")
        if kind == NUMBER:
            low, high = scene.engine.rows(f"select min({column}), max({column}) from training")[0]
            if low is None:
                continue
            found += [
                (int((bad[name] > high + BEYOND * (high - low)).sum()), feature > high),
                (int((bad[name] < low - BEYOND * (high - low)).sum()), feature < low),
            ]
        elif kind == TEXT:
            held = {v for (v,) in scene.engine.rows(f"select distinct {column} from training")}
            unseen = [v for v in bad[name] if v is not None and v not in held]
            found.append((len(unseen), feature.isin(sorted(set(unseen)))))
    n, where = max(found, key=lambda item: item[0], default=(0, lit(False)))
    return (where, n) if n >= 0.5 * len(next(iter(bad.values()))) else None


def _suspect(scene: Scene, outside: tuple[Expr, int], n: int) -> Suspect:
    where, n_outside = outside
    spare = spare_action(scene)
    return Suspect(
        GAP.name,
        "training set",
        f"{n_outside:,} of {n:,} decisions have {shown(where).removeprefix('features.')}, which no training row has: "
        "the model never saw the like",
        "select * from decisions where bad",
        undo_gap(where, spare) if spare else (),
        where,
        parameters={"outside": shown(where), "decisions": n_outside},
    )


def spare_action(scene: Scene) -> str:
    """An action that has a price but no cut: one that only people and patches choose; empty if there is none."""
    used = scene.bundle.policy.actions
    return next((a for a in scene.plan.system.goal.costs.of if a not in used), "")


GAP = Kind("training gap", "the model never saw the like", 4, inject_gap, suspect_gap, undo_gap)
