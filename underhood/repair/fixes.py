"""Candidate fixes of every size for a cause: from one number to a new bundle, and ways round the system.

Which are worth trying follows from the part that is at fault, never from the name of a
fault: an input can be repaired, emptied or not learned from; a label corrected, left out; a
model brought back or taught anew; a score calibrated; a cohort routed, or its outcomes collected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from underhood.build.bundle import Bundle, load
from underhood.build.checks import costs_of
from underhood.build.scorer import Array
from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Scene, counted
from underhood.faults.served import served_features
from underhood.faults.training import spare_action
from underhood.plan.changes import (
    BUNDLE,
    CALIBRATION,
    COLLECT,
    INPUT,
    LABEL,
    ROUTE,
    ROWS,
    THRESHOLD,
    UNTIL,
    WEIGHTS,
    WITHOUT,
    Change,
    change_from,
    described,
)
from underhood.plan.exprs import Expr, col, columns_of, from_json, shown
from underhood.plan.operations import NUMBER
from underhood.plan.render import sql_value, to_sql
from underhood.repair.bench import Ground
from underhood.repair.diagnosis import CAUSE
from underhood.repair.neighbourhood import logit

LOOKED_AT = 100_000  # decisions that a cut is chosen on: a million took 15 s, this takes one
ENOUGH = 200  # outcomes: a share is known within 7 points (95 %) by then
FEW = 5
LEAST_SLOPE = 0.05  # what is riskier is never told less, even if the score says next to nothing
TRUSTED = 3.5  # a calibration is offered if its shift or its slope is this many standard errors off
MOST_WEIGHT, WORTH_WEIGHT, LEAST_ROWS = 20.0, 1.5, 20


@dataclass(frozen=True)
class Candidate:
    """A fix worth trying: in words, how big it is (a name of `SIZES`), what it changes.

    `is_undo` of the first suspect; `mends` if the verdict rests on that suspect.
    """

    title: str
    size: str
    changes: tuple[Change, ...]
    is_undo: bool = False
    mends: bool = False


# how much is touched: a number, a rule, a column, a bundle, what is learned
SIZES: Mapping[str, int] = {
    "collect": 0,
    "threshold": 1,
    "calibration": 1,
    "input repair": 2,
    "null": 2,
    "rule": 2,
    "person": 2,
    "rollback": 3,
    "relabel": 4,
    "rows left out": 4,
    "reweigh": 4,
    "drop a feature": 4,
    "retrain": 4,
}
_SIZE_OF = {
    ROUTE: "rule",
    THRESHOLD: "threshold",
    CALIBRATION: "calibration",
    BUNDLE: "rollback",
    LABEL: "relabel",
    ROWS: "rows left out",
    WEIGHTS: "reweigh",
    WITHOUT: "drop a feature",
    UNTIL: "retrain",
    COLLECT: "collect",
}


@dataclass(frozen=True)
class Blame:
    """What a case says of its cause, or of several that work together.

    Its undo, its cohort (null if several have none in common), the inputs at fault, its onset
    (UTC text), and whether the verdict rests on it: else it is a suspect among others.
    """

    undo: tuple[Change, ...] = ()
    where: Expr | None = None
    columns: tuple[str, ...] = ()
    since: str = ""
    is_cause: bool = False


def blame_of(found: Mapping[str, Any] | None) -> Blame:
    """The blame in a diagnosis as a case keeps it; empty if it names no cause."""
    causes: Sequence[Mapping[str, Any]] = found["causes"] if found else ()
    if not found or not causes:
        return Blame()
    own = [c for c in causes if c.get("share", 1) < 1] if found.get("together") is not None else [causes[0]]
    undo = tuple(change_from(u) for c in own for u in c["undo"])
    wheres = {str(c["where"]): c["where"] for c in own}
    where = next(iter(wheres.values())) if len(wheres) == 1 else None
    named = [n for c in own for n in _listed(c["parameters"].get("columns", ()))]
    columns = dict.fromkeys([*(c.name for c in undo if c.part == INPUT), *named])
    since = min((str(c["since"]) for c in own if c["since"]), default="")
    return Blame(undo, None if where is None else from_json(where), tuple(columns), since, found["verdict"] == CAUSE)


def _listed(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)


def candidates(scene: Scene, ground: Ground, blame: Blame, previous: str = "") -> list[Candidate]:
    """Fixes worth trying: the undo, smaller and larger ones, and ways round the system; each once.

    `previous` is the bundle that was deployed before; empty if there is none.
    """
    parts = {c.part for c in blame.undo}
    made = [_of_undo(blame)] if blame.undo else []
    made += _for_inputs(scene, blame)
    made += _for_labels(blame)
    if not parts & {INPUT, LABEL, BUNDLE, THRESHOLD}:
        made += [*_reweighed(scene, blame), *_learned_later(scene, blame), *_calibrated(scene, ground, blame)]
    if not parts & {INPUT, LABEL}:
        made += _brought_back(scene, previous)
    made += [*_routed(scene, ground, blame), *_moved_cut(scene)]
    once = {tuple(map(str, c.changes)): c for c in reversed(made)}
    return [c for c in made if once[tuple(map(str, c.changes))] is c]


def _of_undo(blame: Blame) -> Candidate:
    said = "; ".join(described(c) for c in blame.undo[:2])
    said += f"; and {len(blame.undo) - 2} more" if len(blame.undo) > 2 else ""
    return Candidate(said, _SIZE_OF.get(blame.undo[0].part, "input repair"), blame.undo, True, blame.is_cause)


def _for_inputs(scene: Scene, blame: Blame) -> list[Candidate]:
    """The model's null path in the cohort, and a model that does not learn from what is made of these inputs."""
    columns = [c for c in blame.columns if c in scene.bundle.inputs]
    if not columns or not any(c.part == INPUT for c in blame.undo):
        return []
    where = _readable(blame.where, ("row.",))
    nulls = tuple(Change(INPUT, c, None, where) for c in columns)
    named = ", ".join(columns)
    made = [Candidate(f"null for {named}{_where(where)}: the model falls back on the rest", "null", nulls)]
    read = [n for n, e in scene.bundle.features.items() if columns_of(e) & set(columns)]
    if read and len(read) < len(scene.bundle.features):
        without = tuple(Change(WITHOUT, n, "left out") for n in read)
        made.append(Candidate(f"learn without {', '.join(read)}", "drop a feature", without))
    return made


def _for_labels(blame: Blame) -> list[Candidate]:
    return [
        Candidate("leave these rows out of training", "rows left out", (Change(ROWS, "training", "left out", c.where),))
        for c in blame.undo
        if c.part == LABEL
    ]


def _reweighed(scene: Scene, blame: Blame) -> list[Candidate]:
    """Training rows of the cohort counted as often as it is asked about, if training has few but some of them."""
    where = _readable(blame.where, clock=False)
    if where is None:
        return []
    holds = to_sql(settle_predicate(scene.plan, where))
    taught, of_taught = counted(scene.engine, f"select count(*) filter (where {holds}), count(*) from training")
    asked, of_asked = counted(scene.engine, f"select count(*) filter (where {holds}), count(*) from decisions")
    if taught < LEAST_ROWS or not asked:
        return []
    times = min(MOST_WEIGHT, (asked / of_asked) / (taught / of_taught))
    if times < WORTH_WEIGHT:
        return []
    change = Change(WEIGHTS, "training", round(times, 2), where)
    return [Candidate(f"count the {taught:,} training rows like these {times:.1f} times", "reweigh", (change,))]


def _moment(scene: Scene, where: Expr | None, since: str) -> datetime | None:
    """By when half of the cohort's outcomes since the onset were known; null if too little was asked after it."""
    holds = "true" if where is None else to_sql(settle_predicate(scene.plan, where))
    held = f"status = 'ok' and label is not null and {holds}"
    held += f" and asked_at >= TIMESTAMP {sql_value(since)}" if since else ""
    found = scene.engine.rows(f"select quantile_disc(known_at, 0.5) from decisions where {held}")[0][0]
    if not isinstance(found, datetime):
        return None
    later = f"bad and asked_at >= TIMESTAMP {sql_value(str(found))}"
    (n_later,) = counted(scene.engine, f"select count(*) from decisions where {later}")
    return found if n_later >= max(FEW, 0.1 * scene.n_bad) else None


def _learned_later(scene: Scene, blame: Blame) -> list[Candidate]:
    """A model that also learned from the first half of what came out; it decides the rest."""
    at = _moment(scene, _readable(blame.where), blame.since)
    if at is None or at.isoformat() <= _learned_until(scene.bundle):
        return []
    change = Change(UNTIL, "training", at.isoformat(timespec="microseconds"))
    return [
        Candidate(f"learn again from what was known by {at:%-d %B %Y}, decide what comes after", "retrain", (change,))
    ]


def _calibrated(scene: Scene, ground: Ground, blame: Blame) -> list[Candidate]:
    """The cohort's score moved to what came out of the first half; it decides the rest."""
    where = _readable(blame.where)
    at = _moment(scene, where, blame.since)
    if at is None:
        return []
    holds = "true" if where is None else f"coalesce({to_sql(settle_predicate(scene.plan, where))}, false)"
    early = f"{holds} and known_at < TIMESTAMP {sql_value(str(at))}"
    early += f" and asked_at >= TIMESTAMP {sql_value(blame.since)}" if blame.since else ""
    rows = scene.engine.frame(f"select {early} as early from decisions where status = 'ok' order by id")
    those = (rows["early"] > 0) & ~np.isnan(ground.truth)
    fitted = calibration_of(ground.score[those], ground.truth[those])
    if fitted is None:
        return []
    later = col("asked_at") >= at
    change = Change(CALIBRATION, "score", fitted, later if where is None else where & later)
    return [Candidate(f"calibrate: {described(change)}", "calibration", (change,))]


def _learned_until(bundle: Bundle) -> str:
    """A moment (UTC text); empty for a bundle that was made elsewhere."""
    return str(bundle.made_from.get("recipe", {}).get("until", ""))


def calibration_of(score: Array, truth: Array) -> tuple[float, float] | None:
    """Intercept and slope in log-odds (Platt 1999) that make the scores true; null if they are, as far as one can tell.

    The slope is 1 unless there are outcomes enough to tell that it is not.
    """
    if len(score) < 10 * FEW or truth.min() == truth.max():
        return None
    z = logit(score)
    (shift,), (error,) = _newton(np.ones((len(z), 1)), z, truth)
    if len(score) >= ENOUGH:
        (_, slope), (_, width) = _newton(np.column_stack([np.ones(len(z)), z]), np.zeros(len(z)), truth)
        if abs(slope - 1) > TRUSTED * width:
            slope = max(LEAST_SLOPE, round(float(slope), 4))
            (intercept,), _ = _newton(np.ones((len(z), 1)), slope * z, truth)
            return round(float(intercept), 4), slope
    return (round(float(shift), 4), 1.0) if abs(shift) > TRUSTED * error else None


def _newton(columns: Array, offset: Array, truth: Array) -> tuple[Array, Array]:
    """Weights of a logistic regression and their standard errors; a touch of ridge keeps it finite."""
    weights, ridge = np.zeros(columns.shape[1]), 1e-6 * np.eye(columns.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(offset + columns @ weights, -30, 30)))
        curve = (columns * (p * (1 - p))[:, None]).T @ columns + ridge
        weights = weights + np.clip(np.linalg.solve(curve, columns.T @ (truth - p)), -2, 2)
    return weights, np.sqrt(np.diag(np.linalg.inv(curve)))


def _brought_back(scene: Scene, previous: str) -> list[Candidate]:
    if not previous or previous == scene.bundle.name:
        return []
    other = load(scene.record, previous)
    if set(other.inputs) - set(scene.bundle.inputs):
        return []
    title = f"back to the bundle before, which learned until {_learned_until(other)[:10]}"
    return [Candidate(title, "rollback", (Change(BUNDLE, "bundle", previous),))]


def _routed(scene: Scene, ground: Ground, blame: Blame) -> list[Candidate]:
    """A person, or one action for all, where the fault is or beyond the one cut that saves most; outcomes collected."""
    person, where = spare_action(scene), _without_span(_readable(blame.where))
    actions = [a for a in scene.bundle.policy.actions if a != person]
    cuts = best_cuts(scene, ground, [*actions, *([person] if person else [])])
    made = []
    by_hand = where if where is not None and _covers(scene, where) >= 0.5 else cuts.get(person, (0.0, None))[1]
    if person and by_hand is not None:
        change = Change(ROUTE, "route", person, by_hand)
        made.append(Candidate(f"until retrained: {person} where {shown(by_hand)}", "person", (change,)))
    action = max(actions, key=lambda a: cuts[a][0] if a in cuts else 0.0, default="")
    # the best of many cuts saves a little by chance: with nothing broken, a rule would mend nothing
    if action in cuts and blame.is_cause:
        rule = cuts[action][1]
        made.append(Candidate(f"always {action} where {shown(rule)}", "rule", (Change(ROUTE, "route", action, rule),)))
    if where is not None and not any(c.part in (INPUT, LABEL, BUNDLE, THRESHOLD) for c in blame.undo):
        change = Change(COLLECT, "outcome", ENOUGH, where)
        made.append(Candidate(f"collect {ENOUGH} outcomes where {shown(where)}", "collect", (change,)))
    return made


def _covers(scene: Scene, where: Expr) -> float:
    holds = to_sql(settle_predicate(scene.plan, where))
    hit, n = counted(scene.engine, f"select count(*) filter (where {holds}), count(*) from decisions where bad")
    return float(hit / max(1, n))


def best_cuts(scene: Scene, ground: Ground, actions: Sequence[str]) -> dict[str, tuple[float, Expr]]:
    """By action, the one cut on one numeric feature beyond which it would have saved most, and how much money.

    The cut must take in at least half of the decisions complained about; an action that saves
    nothing beyond any cut is left out. The best prefix or suffix sum of money gained, by feature:
    exact up to 100,000 decisions, of more every n-th is looked at.
    """
    costs, step = scene.plan.system.goal.costs, max(1, len(ground.bad) // LOOKED_AT)
    truth, taken = ground.truth[::step], ground.action[::step]
    before, gains = costs_of(truth, taken, costs), {}
    for action in actions:
        gains[action] = np.nan_to_num(before - costs_of(truth, np.full(len(truth), action, dtype=object), costs)) * step
    best: dict[str, tuple[float, Expr]] = {}
    for name, values in served_features(scene).items():
        if scene.bundle.feature_types[name] != NUMBER:
            continue
        numbers, those = values[::step].astype(float), np.sort(values[ground.bad].astype(float))  # nulls come last
        order = np.argsort(numbers, kind="stable")[: int((~np.isnan(numbers)).sum())]
        ranked, half = numbers[order], (len(those) + 1) // 2
        ends = np.flatnonzero(np.diff(ranked, append=np.nan) != 0)
        if not len(ends) or not half or np.isnan(those[half - 1]):
            continue
        least = those[half - 1]  # up to here at least half of those complained about, from `most` on as well
        most = those[~np.isnan(those)][-half]
        cuts, feature = ranked[ends], col(f"features.{name}")
        for action, gain in gains.items():
            sums = gain[order].cumsum()[ends]
            for above in (True, False):
                saved = np.where(cuts <= most, _from_each(sums), 0.0) if above else np.where(cuts >= least, sums, 0.0)
                place = len(saved) - 1 - int(saved[::-1].argmax()) if above else int(saved.argmax())
                if saved[place] > best.get(action, (0.0,))[0]:
                    cut = float(cuts[place])
                    best[action] = (float(saved[place]), feature >= cut if above else feature <= cut)
    return best


def _from_each(sums: Array) -> Array:
    """Sums from each place to the end, from sums up to and with each place."""
    return np.asarray(sums[-1] - np.concatenate([[0], sums[:-1]]))


def _moved_cut(scene: Scene) -> list[Candidate]:
    """The last cut lowered until it catches what slipped through, or the first raised until it lets them pass."""
    cuts = scene.bundle.policy.cuts
    score = scene.engine.frame("select score from decisions where bad and status = 'ok'")["score"]
    if not cuts or not len(score):
        return []
    (top, high), (action, cut) = cuts[0], cuts[-1]
    needed = round(float(np.quantile(score, 0.05)), 4)
    if needed < cut:
        title = "lower the threshold until it catches them"
        return [Candidate(title, "threshold", (Change(THRESHOLD, action, needed),))]
    passed = round(min(1.0, float(np.quantile(score, 0.95)) + 0.0001), 4)
    if scene.told == top and passed > high:
        return [
            Candidate("raise the threshold until it lets them pass", "threshold", (Change(THRESHOLD, top, passed),))
        ]
    return []


def at_hand(where: Expr, begins: tuple[str, ...] = ("row.", "features."), clock: bool = True) -> bool:
    """Whether all that a predicate reads is at hand when a question is asked."""
    return all(c.startswith(begins) or (clock and c == "asked_at") for c in columns_of(where))


def _readable(where: Expr | None, begins: tuple[str, ...] = ("row.", "features."), clock: bool = True) -> Expr | None:
    return where if where is not None and at_hand(where, begins, clock) else None


def _without_span(where: Expr | None) -> Expr | None:
    """The predicate without its span of asking; null if that was all: what routes is for what comes, and never all."""
    if where is None or where.op != "and":
        return None if where is None or columns_of(where) <= {"asked_at"} else where
    first, second = (_without_span(a) for a in where.args)
    return first & second if first is not None and second is not None else first if second is None else second


def ended(where: Expr | None) -> datetime | None:
    """The moment (UTC) after which a predicate never holds again, as far as its text tells; null if there is none."""
    if where is None:
        return None
    if where.op == "and":
        return min((e for e in map(ended, where.args) if e is not None), default=None)
    if where.op not in ("le", "lt", "within") or columns_of(where) != {"asked_at"}:
        return None
    last = where.args[-1]
    return last.args[0] if last.op == "lit" and isinstance(last.args[0], datetime) else None


def _where(where: Expr | None) -> str:
    return "" if where is None else f" where {shown(where)}"
