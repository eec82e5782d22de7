"""The bench: what happened to every decision, and by how much it would have been better or worse.

Nothing on the bench touches the record: it reads decisions and tells what would
have been.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from underhood.build.checks import costs_of
from underhood.build.scorer import Array
from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Scene
from underhood.plan.changes import (
    Change,
    change_from,
)
from underhood.plan.exprs import is_denial
from underhood.plan.render import quoted, to_sql

WEEK_US, DAY_US = 604_800_000_000, 86_400_000_000
MONDAY_US = 3 * DAY_US  # the first day of 1970 was a Thursday


@dataclass(frozen=True)
class Ground:
    """What happened, by decision in order of id: actions taken, truth (NaN if not known), who was meant.

    `truth` is the outcome's label, corrected by what the complaint says happened and by
    the label patches that the bundle learned with. `week` and `day` count UTC weeks (from a
    Monday) and days; `patched` is whether a patch had a say; `place` names the decision in queries. `weight`: how
    many decisions a row stands for. It is 1, but for rows of `place` -1: decisions that no change reaches, folded
    into one where all that counts is equal (`score` is their mean).
    """

    score: Array
    action: Array
    truth: Array
    bad: Array
    week: Array
    groups: Mapping[str, Array]
    day: Array
    patched: Array
    place: Array
    weight: Array


Touched = tuple[int, int, float, float, float]


@dataclass(frozen=True)
class Trial:
    """What a change would have done to the decisions of the record.

    `repaired`: of `n_bad` complained-about decisions, how many get a cheaper action
    given what happened (or, where that is not known, another one than was complained about);
    `turned`: how many get another action at all. `broken` / `bettered`: of `n_healthy` others with a known
    outcome, how many get a dearer / cheaper one. `still_told`: how many of the bad
    still get the action complained about. `money` is per 1,000 decisions, before and
    after, with a 95 % interval of the difference (weeks as clusters if there are several).
    `by_group`: watched column → level → how many get cheaper, how many dearer, money gained
    in all, with its 95 % interval; `by_week` the same by the week's Monday (days as clusters).
    """

    changes: tuple[Change, ...]
    n_bad: int
    repaired: int
    turned: int
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
    by_group: Mapping[str, Mapping[str, Touched]]
    score: Array
    action: Array
    by_week: Mapping[str, Touched]

    @property
    def collateral(self) -> float:
        """Net share of other decisions that get worse; 0 if as many get better."""
        return max(0.0, (self.broken - self.bettered) / max(1, self.n_healthy))


def survey(scene: Scene, reached: str = "") -> Ground:
    """What happened to every decision of the scene's bundle that was not refused.

    `reached`, SQL over `decisions`, folds those that are neither in question nor pass it: a trial
    of a change that reaches only these costs what they cost, not what the record costs.
    """
    watch = scene.plan.system.goal.watch
    watched = "".join(f", {quoted('row.' + w)} as {quoted(w)}" for w in watch)
    place = f"case when bad or coalesce({reached}, false) then place else -1 end as place" if reached else "place"
    sql = (
        f"select {place}, score, action, {truth_sql(scene)} as truth, bad, "
        f"(epoch_us(happened) + {MONDAY_US}) // {WEEK_US} as week, epoch_us(happened) // {DAY_US} as day, "
        f"coalesce(len(patches), 0) > 0 as patched{watched} from decisions where status = 'ok'"
    )
    if reached:
        sql = f"select * replace (avg(score) as score), count(*) as weight from ({sql}) group by all"
    frame = scene.engine.frame(f"{sql} order by place")
    return Ground(
        frame["score"],
        frame["action"],
        frame["truth"],
        frame["bad"] > 0,
        frame["week"],
        {w: frame[w] for w in watch},
        frame["day"],
        frame["patched"] > 0,
        frame["place"].astype(np.int64),
        frame.get("weight", np.ones(len(frame["place"]))),
    )


def truth_sql(scene: Scene) -> str:
    """SQL over `decisions`: what happened, as the complaint has it; label patches are in their label already."""
    if scene.harm is None:
        return "label"
    # that something did happen is bad wherever it did; that it did not is said of these decisions only
    of_these = "bad and " if is_denial(scene.harm) else ""
    said = to_sql(settle_predicate(scene.plan, scene.harm))
    return f"case when {of_these}{said} then {not is_denial(scene.harm)} else label end"


def measure(
    scene: Scene, ground: Ground, changes: tuple[Change, ...], score: Array, action: Array, gone: Array
) -> Trial:
    """A trial from the scores and actions that would have been; `gone` are decisions that would not have been made.

    What happened to a decision is not always known: then "right" is what the complaint
    expects, another action than the one that it complains about.
    """
    costs = scene.plan.system.goal.costs
    before, after = costs_of(ground.truth, ground.action, costs), costs_of(ground.truth, action, costs)
    known = ~np.isnan(ground.truth)
    gain = np.where(known, before - after, 0.0)
    bad, healthy = ground.bad, known & ~ground.bad
    told = ground.action if scene.told is None else np.full(len(action), scene.told, dtype=object)
    low, high = _interval(gain[known], ground.week[known], ground.weight[known])

    def count(which: Array) -> int:
        return int(ground.weight[which].sum())

    def mean(cost: Array) -> float:
        return 1000 * float((cost * ground.weight)[known].sum() / ground.weight[known].sum()) if known.any() else 0.0

    return Trial(
        changes,
        n_bad=count(bad),
        repaired=count(((gain > 0) | gone | (~known & (action != told))) & bad),
        turned=count(((action != ground.action) | gone) & bad),
        still_told=count((action == told) & ~gone & bad),
        n_healthy=count(healthy),
        broken=count((gain < 0) & healthy),
        bettered=count((gain > 0) & healthy),
        changed=count((action != ground.action) | gone),
        money_before=mean(before),
        money_after=mean(after),
        money_low=1000 * low,
        money_high=1000 * high,
        mean_score_bad=float(score[bad].mean()) if bad.any() else 0.0,
        by_group=_by_group(ground, gain, known),
        score=score,
        action=action,
        by_week=_by_week(ground, gain, known),
    )


def _interval(gain: Array, week: Array, weight: Array) -> tuple[float, float]:
    n = float(weight.sum())
    if n < 2:
        return 0.0, 0.0
    _, index = np.unique(week, return_inverse=True)
    mean, groups = float((gain * weight).sum() / n), int(index.max()) + 1
    off = (gain - mean) * weight
    if groups > 2:
        sums = np.bincount(index, weights=off)
        error = float(np.sqrt((sums**2).sum() * groups / (groups - 1)) / n)
    else:
        error = float(np.sqrt(((gain - mean) * off).sum() / (n - 1) / n))
    return mean - 1.96 * error, mean + 1.96 * error


def _by_group(ground: Ground, gain: Array, known: Array) -> dict[str, dict[str, Touched]]:
    """By watched column and level: whom it touches. Null is a level of its own."""
    found: dict[str, dict[str, Touched]] = {}
    for name, values in ground.groups.items():
        levels, index = np.unique(values.astype(str), return_inverse=True)
        touched = _touched(gain, known, ground.weight, index, ground.week)
        found[name] = dict(zip(map(str, levels), touched, strict=True))
    return found


def _by_week(ground: Ground, gain: Array, known: Array) -> dict[str, Touched]:
    """By week, named by its Monday: whom it touches."""
    dated = ~np.isnan(ground.week.astype(float))
    weeks, index = np.unique(ground.week[dated], return_inverse=True)
    names = [str(np.datetime64(int(w) * WEEK_US - MONDAY_US, "us").astype("datetime64[D]")) for w in weeks]
    touched = _touched(gain[dated], known[dated], ground.weight[dated], index, ground.day[dated])
    return dict(zip(names, touched, strict=True))


def _touched(gain: Array, known: Array, weight: Array, index: Array, cluster: Array) -> list[Touched]:
    """By index: how many get cheaper, how many dearer, money gained in all with its 95 % interval.

    The error is that of the sums of the clusters, where there are more than two of them
    (Liang and Zeger 1986), else of single decisions.
    """
    n_levels = int(index.max()) + 1 if len(index) else 0
    _, clusters = np.unique(cluster, return_inverse=True)
    n_clusters = int(clusters.max()) + 1 if len(clusters) else 0
    cell = (index * n_clusters + clusters)[known]
    shape, of, size = (n_levels, n_clusters), (gain * weight)[known], n_levels * n_clusters
    sums = np.bincount(cell, weights=of, minlength=size).reshape(shape)
    counts = np.bincount(cell, weights=weight[known], minlength=size).reshape(shape)
    squares = np.bincount(index[known], weights=of * gain[known], minlength=n_levels)
    money, n, groups = sums.sum(axis=1), counts.sum(axis=1), (counts > 0).sum(axis=1)
    mean = money / np.maximum(1, n)
    clustered = ((sums - counts * mean[:, None]) ** 2).sum(axis=1) * groups / np.maximum(1, groups - 1)
    single = np.maximum(0.0, squares - n * mean**2) * n / np.maximum(1, n - 1)
    half = 1.96 * np.sqrt(np.where(groups > 2, clustered, single))
    better = np.bincount(index, weights=weight * (known & (gain > 0)), minlength=n_levels)
    worse = np.bincount(index, weights=weight * (known & (gain < 0)), minlength=n_levels)
    columns = (c.tolist() for c in (better, worse, money, money - half, money + half))
    return [(int(b), int(w), gained, low, high) for b, w, gained, low, high in zip(*columns, strict=True)]


def learned_with(scene: Scene) -> list[Change]:
    """The patches of the training side that the bundle was built with."""
    return [change_from(c) for c in scene.bundle.made_from["changes"]]


def trial_json(trial: Trial) -> dict[str, Any]:
    """The trial's figures as a case keeps them."""
    return {
        "n_bad": trial.n_bad,
        "repaired": trial.repaired,
        "turned": trial.turned,
        "still_told": trial.still_told,
        "n_healthy": trial.n_healthy,
        "broken": trial.broken,
        "bettered": trial.bettered,
        "changed": trial.changed,
        "money_before": round(trial.money_before, 2),
        "money_after": round(trial.money_after, 2),
        "money_gain_interval": [round(trial.money_low, 2), round(trial.money_high, 2)],
        "mean_score_bad": round(trial.mean_score_bad, 4),
        "collateral": round(trial.collateral, 6),
        "by_group": {g: {k: _plain(v) for k, v in of.items()} for g, of in trial.by_group.items()},
        "by_week": {w: _plain(v) for w, v in trial.by_week.items()},
    }


def _plain(touched: Touched) -> list[float]:
    better, worse, *money = touched
    return [better, worse, *(round(m, 2) for m in money)]
