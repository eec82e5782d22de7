"""The bench: a part is swapped, only what is downstream is computed again, and the difference is measured.

Nothing on the bench touches the record: it reads decisions and tells what would
have been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from underhood.build.builds import refit
from underhood.build.bundle import load
from underhood.build.checks import actions_of, costs_of
from underhood.build.scorer import Array, Frame, Model, score_frame
from underhood.build.trainset import draw, open_training, settle_predicate, settle_value
from underhood.faults.kinds import Scene
from underhood.faults.served import served_features
from underhood.plan.changes import BUNDLE, INPUT, LABEL, ROUTE, TRAINING_PARTS, Change, change_from, is_recomputed
from underhood.plan.exprs import Expr, is_denial, substitute, wrap
from underhood.plan.exprs import col as column
from underhood.plan.render import quoted, to_sql
from underhood.run.policy import with_cuts


@dataclass(frozen=True)
class Ground:
    """What happened, by decision in order of id: actions taken, truth (NaN if not known), who was meant.

    `truth` is the outcome's label, corrected by what the complaint says happened and by
    the label patches that the bundle learned with.
    """

    id: Array
    score: Array
    action: Array
    truth: Array
    bad: Array
    week: Array
    groups: Mapping[str, Array]


@dataclass(frozen=True)
class Trial:
    """What a change would have done to the decisions of the record.

    `repaired`: of `n_bad` complained-about decisions, how many get a cheaper action
    given what happened. `broken` / `bettered`: of `n_healthy` others with a known
    outcome, how many get a dearer / cheaper one. `still_told`: how many of the bad
    still get the action complained about. `money` is per 1,000 decisions, before and
    after, with a 95 % interval of the difference (weeks as clusters if there are several).
    """

    changes: tuple[Change, ...]
    n_bad: int
    repaired: int
    still_told: int
    n_healthy: int
    broken: int
    bettered: int
    changed: int
    money_before: float
    money_after: float
    money_low: float
    money_high: float
    mean_score_bad: float
    by_group: Mapping[str, Mapping[str, tuple[int, int, float]]]
    score: Array
    action: Array

    @property
    def collateral(self) -> float:
        """Net share of other decisions that get worse; 0 if as many get better."""
        return max(0.0, (self.broken - self.bettered) / max(1, self.n_healthy))


def survey(scene: Scene) -> Ground:
    """What happened to every decision of the scene's bundle that was not refused."""
    said = [(scene.harm, not is_denial(scene.harm))] if scene.harm is not None else []
    said += [(c.where, c.to) for c in learned_with(scene) if c.part == LABEL and c.where is not None]
    # that something did happen is bad wherever it did; that it did not is said of these decisions only
    cases = "".join(
        f"when {'bad and ' if is_denial(where) else ''}{to_sql(settle_predicate(scene.plan, where))} then {to} "
        for where, to in said
    )
    truth = f"case {cases} else label end" if cases else "label"
    watched = ", ".join(f"{quoted('row.' + w)} as {quoted(w)}" for w in scene.plan.system.goal.watch)
    frame = scene.engine.frame(
        f"select id, score, action, {truth} as truth, bad, "
        f"epoch_us(happened) // 604800000000 as week {', ' + watched if watched else ''} "
        "from decisions where status = 'ok' order by id"
    )
    groups = {w: frame[w] for w in scene.plan.system.goal.watch}
    return Ground(frame["id"], frame["score"], frame["action"], frame["truth"], frame["bad"] > 0, frame["week"], groups)


def swap(scene: Scene, ground: Ground, *changes: Change) -> Trial:
    """The decisions made again with these parts swapped.

    Captured features are kept unless an input changes, or what was fitted for them.
    """
    model, exprs = _model(scene, changes)
    features = _features(scene, changes, exprs)
    if model is None and features is None:
        score = ground.score
    else:
        score = score_frame(model or scene.bundle.model, features or served_features(scene))
    action = actions_of(score, with_cuts(scene.bundle.policy, changes))
    for change in changes:
        if change.part == ROUTE:
            action[_holds(scene, change)] = change.to
    return measure(scene, ground, tuple(changes), score, action)


def measure(scene: Scene, ground: Ground, changes: tuple[Change, ...], score: Array, action: Array) -> Trial:
    """A trial from the scores and actions that would have been."""
    costs = scene.plan.system.goal.costs
    before, after = costs_of(ground.truth, ground.action, costs), costs_of(ground.truth, action, costs)
    known = ~np.isnan(ground.truth)
    gain = np.where(known, before - after, 0.0)
    bad, healthy = ground.bad, known & ~ground.bad
    told = ground.action if scene.told is None else np.full(len(action), scene.told, dtype=object)
    low, high = _interval(gain[known], ground.week[known])
    return Trial(
        changes,
        n_bad=int(bad.sum()),
        repaired=int((gain[bad] > 0).sum()),
        still_told=int((action[bad] == told[bad]).sum()),
        n_healthy=int(healthy.sum()),
        broken=int((gain[healthy] < 0).sum()),
        bettered=int((gain[healthy] > 0).sum()),
        changed=int((action != ground.action).sum()),
        money_before=1000 * float(before[known].mean()) if known.any() else 0.0,
        money_after=1000 * float(after[known].mean()) if known.any() else 0.0,
        money_low=1000 * low,
        money_high=1000 * high,
        mean_score_bad=float(score[bad].mean()) if bad.any() else 0.0,
        by_group=_by_group(ground, gain, known),
        score=score,
        action=action,
    )


def _interval(gain: Array, week: Array) -> tuple[float, float]:
    if len(gain) < 2:
        return 0.0, 0.0
    _, index = np.unique(week, return_inverse=True)
    mean, groups = float(gain.mean()), int(index.max()) + 1
    if groups > 2:
        sums = np.bincount(index, weights=gain - mean)
        error = float(np.sqrt((sums**2).sum() * groups / (groups - 1)) / len(gain))
    else:
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return mean - 1.96 * error, mean + 1.96 * error


def _by_group(ground: Ground, gain: Array, known: Array) -> dict[str, dict[str, tuple[int, int, float]]]:
    """By watched column and level: how many got cheaper, how many dearer, money gained in all."""
    found: dict[str, dict[str, tuple[int, int, float]]] = {}
    for name, values in ground.groups.items():
        levels, index = np.unique(values.astype(str), return_inverse=True)
        better = np.bincount(index, weights=(known & (gain > 0)), minlength=len(levels))
        worse = np.bincount(index, weights=(known & (gain < 0)), minlength=len(levels))
        money = np.bincount(index, weights=gain, minlength=len(levels))
        found[name] = {
            str(v): (int(b), int(w), float(m)) for v, b, w, m in zip(levels, better, worse, money, strict=True)
        }
    return found


def _model(scene: Scene, changes: Sequence[Change]) -> tuple[Model | None, Mapping[str, Expr]]:
    """The other model, null if none, and the features that go with it."""
    for change in changes:
        if change.part == BUNDLE:
            other = load(scene.record, str(change.to))
            return other.model, other.features
    own = [c for c in changes if c.part in TRAINING_PARTS]
    return retrain(scene, own) if own else (None, scene.bundle.features)


def retrain(scene: Scene, changes: Sequence[Change]) -> tuple[Model, Mapping[str, Expr]]:
    """The bundle's model, and its features, fitted again by its own recipe with these changes to its training side."""
    recipe = scene.bundle.made_from["recipe"]
    drawn = draw(
        scene.engine,
        scene.plan,
        scene.record,
        until=recipe["until"],
        since=recipe["since"],
        changes=[*learned_with(scene), *changes],
    )
    open_training(scene.engine, scene.record, scene.bundle.made_from["training"])
    return refit(drawn, scene.bundle.made_from["rung"], scene.plan), drawn.expressions


def learned_with(scene: Scene) -> list[Change]:
    """The patches of the training side that the bundle was built with."""
    return [change_from(c) for c in scene.bundle.made_from["changes"]]


def _features(scene: Scene, changes: Sequence[Change], exprs: Mapping[str, Expr]) -> Frame | None:
    """Features of all decisions with the inputs changed, by `exprs`; null if nothing of that changes."""
    inputs = [c for c in changes if c.part == INPUT]
    served = {name: expr.key() for name, expr in scene.bundle.features.items()}
    is_same = served == {name: expr.key() for name, expr in exprs.items()}
    if not inputs and is_same and not any(c.part == BUNDLE for c in changes):
        return None
    sql = "select * from decisions where status = 'ok'"
    if any(map(is_recomputed, inputs)):
        again = ", ".join(f"a.{quoted(c.name)} as {quoted('@' + c.name)}" for c in inputs)
        sql = f"select d.*, {again} from ({sql}) d left join asks a on d.key = a.key"
    replaced = ", ".join(_replaced(scene, c) for c in inputs)
    if replaced:
        sql = f"select * replace ({replaced}) from ({sql})"
    rows = {name: column(f"row.{name}") for name in scene.bundle.inputs}
    made = ", ".join(f"{to_sql(substitute(e, rows))} as {quoted(n)}" for n, e in exprs.items())
    return scene.engine.frame(f"select {made} from ({sql}) order by id")


def _replaced(scene: Scene, change: Change) -> str:
    name = quoted(f"row.{change.name}")
    if is_recomputed(change):
        to = quoted(f"@{change.name}")
    else:
        to = to_sql(settle_value(scene.plan, change.name, wrap(change.to)))
    if change.where is None:
        return f"{to} as {name}"
    where = to_sql(settle_predicate(scene.plan, change.where))
    return f"case when {where} then {to} else {name} end as {name}"


def _holds(scene: Scene, change: Change) -> Array:
    where = "true" if change.where is None else to_sql(settle_predicate(scene.plan, change.where))
    rows = scene.engine.frame(
        f"select coalesce({where}, false) as holds from decisions where status = 'ok' order by id"
    )
    holds: Array = rows["holds"] > 0
    return holds


def trial_json(trial: Trial) -> dict[str, Any]:
    """The trial's figures as a case keeps them."""
    return {
        "n_bad": trial.n_bad,
        "repaired": trial.repaired,
        "still_told": trial.still_told,
        "n_healthy": trial.n_healthy,
        "broken": trial.broken,
        "bettered": trial.bettered,
        "changed": trial.changed,
        "money_before": round(trial.money_before, 2),
        "money_after": round(trial.money_after, 2),
        "money_gain_interval": [round(trial.money_low, 2), round(trial.money_high, 2)],
        "mean_score_bad": round(trial.mean_score_bad, 4),
        "by_group": {g: {k: list(v) for k, v in of.items()} for g, of in trial.by_group.items()},
    }
