"""From captured features to a captured score: a default in its place, a vector out of order, another model.

Contradictions inside a decision need no statistics: a score is what the model makes of
the captured features or it is not. What explains a wrong score is looked for once, the
certain first: an older bundle, one constant, two features exchanged, a map of the right
score; else it stays unexplained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from underhood.build.bundle import Bundle, load
from underhood.build.scorer import Array, Frame, score_frame
from underhood.faults.extent import Extent, extent_of
from underhood.faults.forms import ENOUGH
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.plan.changes import BUNDLE, SCORE, Change
from underhood.plan.exprs import Expr, col, substitute
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted, to_sql
from underhood.record.objects import names as object_names

SHARE = 0.005  # below it a contradiction touches too few of the decisions in question to explain a complaint
SAME = 1e-9  # scores and, relatively, features
HOLDS = 0.97  # share of the contradicting decisions for which an explanation must hold
SCREEN, PROOF = 12, 2000  # rows on which each order of a vector is tried; on which the best is proven
MONOTONE = 12  # fewer scores rise in the same order by chance
# The evidence of a wrong score: no engine but the model's own can make it again, so `replayed` lays it beside.
AGAIN = "scored again"
SCORED_AGAIN = (
    f'select d.id, d.asked_at, d.score as served, s.again as by_the_model from decisions d join "{AGAIN}" s '
    "using (id) order by d.asked_at"
)
OLDER, CONSTANT, ORDER, MAP, UNKNOWN = "older bundle", "constant", "order", "map", "unknown"


@dataclass(frozen=True)
class Replayed:
    """Captured decisions scored again, in order of id. `differs` is where the score is another one.

    `first` is whether a decision is the first of its question: a repeat is looked at by traffic.py.
    `patched` is whether a patch had a say, so that features may be of a repaired row.
    """

    id: Array
    bad: Array
    score: Array
    again: Array
    action: Array
    patched: Array
    differs: Array
    features: Frame


@dataclass(frozen=True)
class Misscored:
    """Why scores are not the model's: how (OLDER, CONSTANT, ORDER, MAP, UNKNOWN), for how many, of whom."""

    how: str
    n_bad: int
    extent: Extent
    parameters: Mapping[str, Any] = field(default_factory=dict)


def replayed(scene: Scene) -> Replayed:
    """The decisions scored again from their captured features, once for a scene.

    Those that got another score then lie in the table "scored again" (id, again), for queries to list.
    """
    found: Replayed = scene.once("replayed", _replayed)
    return found


def misscored(scene: Scene) -> Misscored | None:
    """What explains scores that are not the model's, once for a scene; null if too few of the bad have one."""
    found: Misscored | None = scene.once("misscored", _misscored)
    return found


def _replayed(scene: Scene) -> Replayed:
    columns = ", ".join(f"{quoted('features.' + n)} as {quoted('f ' + n)}" for n in scene.bundle.features)
    repeat = "row_number() over (partition by key order by asked_at, id) > 1"
    frame = scene.engine.frame(
        f"select id, bad, score, action, coalesce(len(patches), 0) > 0 as patched, {repeat} as repeat, {columns} "
        "from decisions where status = 'ok' order by id"
    )
    features = {n: frame[f"f {n}"] for n in scene.bundle.features}
    score = frame["score"].astype(float)
    again = score_frame(scene.bundle.model, features) if len(score) else score
    differs = (np.abs(again - score) > SAME) & (frame["repeat"] == 0)
    r = Replayed(frame["id"], frame["bad"] > 0, score, again, frame["action"], frame["patched"] > 0, differs, features)
    lay_again(scene, r)
    return r


def lay_again(scene: Scene, r: Replayed) -> None:
    """Lays out the decisions that got another score, for queries to list."""
    scene.engine.adopt(AGAIN, {"id": r.id[r.differs].astype(str), "again": r.again[r.differs]})


def _misscored(scene: Scene) -> Misscored | None:
    r = replayed(scene)
    n_bad = int((r.differs & r.bad).sum())
    if not r.differs.any() or n_bad < SHARE * r.bad.sum() or (r.bad.any() and not n_bad):
        return None
    how, parameters = _why(scene, r)
    return Misscored(how, n_bad, extent_of(scene, r.id, r.differs, ~r.patched), parameters)


def _why(scene: Scene, r: Replayed) -> tuple[str, dict[str, Any]]:
    some = np.flatnonzero(r.differs)
    if name := _older(scene, r, some):
        until = load(scene.record, name).made_from.get("recipe", {}).get("until", "")
        return OLDER, {"served": name, "until": until}
    value = _constant(r, some)
    if value is not None:
        return CONSTANT, {"value": value}
    order = _order(scene, r, some)
    if order:
        return ORDER, {"columns": sorted(order), "order": order}
    if len(some) >= MONOTONE and _is_map(r.again[some], r.score[some]):
        return MAP, {}
    return UNKNOWN, {"served": "unknown"}


def _older(scene: Scene, r: Replayed, some: Array) -> str:
    """The bundle of the record that gives the scores that were served; by what it makes of the captured rows."""
    at = some[:: max(1, len(some) // 200)]
    scene.engine.adopt("contradicting", {"id": r.id[at]})
    for name in object_names(scene.record, "bundle"):
        other = load(scene.record, name)
        if name == scene.bundle.name or not set(other.inputs) <= set(scene.plan.inputs):
            continue
        if set(other.features) == set(r.features):
            again = score_frame(other.model, {n: v[at] for n, v in r.features.items()})
            if (np.abs(again - r.score[at]) <= SAME).mean() > 0.95:
                return name
        made = ", ".join(f"{made_of(e, other)} as {quoted(n)}" for n, e in other.features.items())
        rows = scene.engine.frame(
            f"select {made} from decisions where id in (select id from contradicting) order by id"
        )
        if (np.abs(score_frame(other.model, rows) - r.score[at]) <= SAME).mean() > 0.95:
            return name
    return ""


def made_of(feature: Expr, bundle: Bundle) -> str:
    """SQL of a feature over the captured row of a decision."""
    return to_sql(substitute(feature, {n: col(f"row.{n}") for n in bundle.inputs}))


def _constant(r: Replayed, some: Array) -> float | None:
    """The one score of all that contradict; null if there are several, or if it is a cap on scores beyond it."""
    values, counts = np.unique(r.score[some], return_counts=True)
    value = float(values[counts.argmax()])
    if len(some) < ENOUGH or counts.max() < HOLDS * len(some) or len(np.unique(r.again[some])) < ENOUGH:
        return None
    above, below = r.again[some] > value, r.again[some] < value
    rest = r.score[~r.differs]
    capped = (above.all() and (rest <= value).all()) or (below.all() and (rest >= value).all())
    return None if capped else value


def _is_map(again: Array, served: Array) -> bool:
    """Whether what was served is a monotone function of the right score: what came after the model has changed.

    Scores are equal by what is left to 0 or 1: a map of log-odds drives small ones that differ little far apart.
    """
    order = np.lexsort((served, again))
    x, y = again[order], served[order]
    left = np.minimum(x, 1 - x)[:-1]
    equal = (np.diff(x) <= SAME * left) & (left > SAME)
    rises, steps = np.diff(x) > SAME, np.diff(y)
    if rises.sum() < MONOTONE - 1 or (equal.any() and (np.abs(steps[equal]) > 1e-6).mean() > 1 - HOLDS):
        return False
    return bool((steps[rises] >= -SAME).mean() >= HOLDS or (steps[rises] <= SAME).mean() >= HOLDS)


def _order(scene: Scene, r: Replayed, some: Array) -> dict[str, str]:
    """Which feature stood in the place of which one when the vector was scored; empty if no order explains it."""
    orders: list[dict[str, str]] = list(_orders(scene))
    if not orders or len(some) < ENOUGH:
        return {}
    at = some[:: max(1, len(some) // SCREEN)][:SCREEN]
    base = {n: v[at] for n, v in r.features.items()}
    tiled = {n: np.concatenate([base[o.get(n, n)] for o in orders]) for n in base}
    again = score_frame(scene.bundle.model, tiled).reshape(len(orders), len(at))
    hits = (np.abs(again - r.score[at]) <= SAME).mean(axis=1)
    at = some[:: max(1, len(some) // PROOF)]
    for place in np.argsort(-hits, kind="stable")[:3].tolist():
        best = int(place)
        frame = {n: r.features[orders[best].get(n, n)][at] for n in r.features}
        holds = np.abs(score_frame(scene.bundle.model, frame) - r.score[at]) <= SAME
        if hits[best] >= HOLDS and holds.mean() >= HOLDS:
            found: dict[str, str] = orders[best]
            return found
    return {}


def _orders(scene: Scene) -> Iterator[dict[str, str]]:
    """Orders that a vector may come in: two of one type exchanged, or a run of them moved on by one place."""
    types = scene.bundle.feature_types
    for group in ((NUMBER, FLAG), (TEXT,)):
        names = [n for n in scene.bundle.features if types[n] in group]
        for one, other in combinations(names, 2):
            yield {one: other, other: one}
        for low, high in combinations(range(len(names)), 2):
            run = names[low : high + 1]
            if len(run) > 2:
                yield dict(zip(run, run[1:] + run[:1], strict=True))
                yield dict(zip(run, run[-1:] + run[:-1], strict=True))


def impact(scene: Scene) -> dict[str, float]:
    """How much each feature moves the score: the mean change when its values are dealt out anew; most first."""
    found: dict[str, float] = scene.once("impact", _impact)
    return found


def _impact(scene: Scene) -> dict[str, float]:
    r, random = replayed(scene), np.random.default_rng(0)
    at = random.permutation(len(r.id))[:500]
    base = {n: v[at] for n, v in r.features.items()}
    names = list(base)
    dealt = {
        n: np.concatenate([random.permutation(base[n]) if n == other else base[n] for other in names]) for n in names
    }
    moved = np.abs(score_frame(scene.bundle.model, dealt).reshape(len(names), len(at)) - r.again[at]).mean(axis=1)
    return dict(sorted(zip(names, moved.tolist(), strict=True), key=lambda item: -item[1]))


def of_the_model(scene: Scene) -> tuple[Change, ...]:
    """The deployed bundle scores again what was captured: what undoes any wrong score."""
    return (Change(BUNDLE, "bundle", scene.bundle.name),)


def score_suspect(scene: Scene, kind: str, found: Misscored, part: str, says: str) -> Suspect:
    """A suspect for a wrong score, with whom it touches and since when."""
    e = found.extent
    return Suspect(
        kind,
        part,
        f"{e.n:,} scores{e.says} are not what {scene.bundle.name} gives for the captured features: {says}",
        SCORED_AGAIN,
        of_the_model(scene),
        e.where,
        e.since,
        dict(found.parameters),
    )


def no_suspect(scene: Scene, kind: str, otherwise: str) -> Ruling:
    """A ruling that there is no such fault of the score: it replays, or something else explains it by name."""
    found, r = misscored(scene), replayed(scene)
    n = int(r.bad.sum())
    if not len(r.score):
        return Ruling(kind, (), "no decision was captured with a score")
    if found is None:
        same = n - int((r.differs & r.bad).sum())
        return Ruling(kind, (), f"the model gives the captured score again for {same:,} of {n:,}")
    return Ruling(kind, (), f"{found.extent.n:,} scores do not replay, but {otherwise}")


EXPLAINED: Mapping[str, str] = {
    OLDER: "an older bundle gives them exactly",
    CONSTANT: "they are one constant, whatever the row",
    ORDER: "the model gives them for the same features in another order",
    MAP: "one monotone map of the right score gives them: what comes after the model has changed, not the model",
    UNKNOWN: "no constant, no order of the features and no bundle of the record gives them",
}


# --- default path silently used ---


def inject_default(value: float, where: Expr | None = None) -> tuple[Change, ...]:
    """A constant is served for a score."""
    return (Change(SCORE, "score", value, where),)


def suspect_default(scene: Scene) -> Ruling:
    """One constant was served for the score of many different rows."""
    found = misscored(scene)
    if found is None or found.how != CONSTANT:
        return no_suspect(scene, DEFAULT.name, EXPLAINED[found.how] if found else "")
    value = found.parameters["value"]
    empty = _score_of_nothing(scene)
    says = f"they are all {value:.6g}, whatever the row says"
    says += ", which is the score of a row of nulls" if abs(empty - value) <= SAME else ""
    return Ruling(DEFAULT.name, (score_suspect(scene, DEFAULT.name, found, "default path", says),))


def _score_of_nothing(scene: Scene) -> float:
    types = scene.bundle.feature_types
    empty = {n: np.array([None], dtype=object) if types[n] == TEXT else np.array([np.nan]) for n in types}
    return float(score_frame(scene.bundle.model, empty)[0])


def propose_default(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """The score of an empty row, or the usual share of positives, stands in for the score."""
    usual, empty = scene.engine.rows("select avg(label::INT) from training")[0][0], _score_of_nothing(scene)
    # of a system made elsewhere nobody may know what was taught, and its scorer may refuse a row of nulls
    fit = [v for v in (empty, None if usual is None else round(float(usual), 2)) if v is not None and v == v]
    if not fit:
        return None
    value = fit[0] if random.random() < 0.5 else fit[-1]
    return Injection(DEFAULT.name, inject_default(value, cohort), (), {"value": value}, cohort)


def undo_default(bundle: str) -> tuple[Change, ...]:
    """The bundle scores what was captured."""
    return (Change(BUNDLE, "bundle", bundle),)


DEFAULT = Kind(
    "default path",
    "a default stood in for the score, and nobody said so",
    1,
    inject_default,
    suspect_default,
    undo_default,
    propose_default,
    needs=("inputs", "score", "scorer"),
)


# --- feature order ---


def inject_order(order: Mapping[str, str], where: Expr | None = None) -> tuple[Change, ...]:
    """The vector is scored with each feature named taken from another one's place."""
    return (Change(SCORE, "vector", dict(order), where),)


def suspect_order(scene: Scene) -> Ruling:
    """The model gives the served scores for the captured features in another order."""
    found = misscored(scene)
    if found is None or found.how != ORDER:
        return no_suspect(scene, FEATURE_ORDER.name, EXPLAINED[found.how] if found else "")
    order = found.parameters["order"]
    told = ", ".join(f"{b} in the place of {a}" for a, b in list(order.items())[:4])
    says = f"it gives them exactly with {told}{', …' if len(order) > 4 else ''}"
    return Ruling(FEATURE_ORDER.name, (score_suspect(scene, FEATURE_ORDER.name, found, "feature vector", says),))


def propose_order(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """Two features of one type, of those that matter to the score, exchanged."""
    types = scene.bundle.feature_types
    numbers = [n for n in impact(scene) if types[n] in (NUMBER, FLAG)][:6]
    if len(numbers) < 2:
        return None
    one, other = numbers[int(random.integers(0, min(2, len(numbers) - 1)))], ""
    other = str(random.choice([n for n in numbers if n != one]))
    order = {one: other, other: one}
    parameters = {"columns": sorted(order)}
    return Injection(FEATURE_ORDER.name, inject_order(order, cohort), tuple(sorted(order)), parameters, cohort)


FEATURE_ORDER = Kind(
    "feature order",
    "the features reached the model in another order",
    1,
    inject_order,
    suspect_order,
    undo_default,
    propose_order,
    needs=("inputs", "score", "scorer"),
)
