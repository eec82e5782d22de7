"""What others would do in the same cell: rank columns by drift, train a domain classifier, blame the last change.

All of them are told the onset, which ours is not: reference is what was asked before it, current what was
asked since. They look at the inputs as served, the score and the action.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from underhood.plan.exprs import columns_of
from underhood.plan.render import quoted, sql_value
from underhood.repair.drill import Struck

BINS, MOST, SEED = 10, 5_000, 7
FLOOR = 1e-4  # of a share, so that an empty bin has a logarithm

Array = np.ndarray[Any, Any]
Frame = Mapping[str, Array]


@dataclass(frozen=True)
class Answer:
    """What a baseline suspects: column names, "score", "action" or "bundle", the first one most; in seconds."""

    name: str
    ranked: tuple[str, ...]
    seconds: float


def ask_baselines(struck: Struck) -> list[Answer]:
    """The answers of every baseline that is installed, in one cell."""
    reference, current = sides(struck)
    if not len(reference["score"]) or not len(current["score"]):
        return []
    asked: dict[str, Callable[[Frame, Frame], Sequence[str]]] = {
        "drift ranking": rank_by_drift,
        "domain classifier": rank_by_classifier,
        "last change wins": lambda one, other: ["bundle"],
    }
    if has_evidently():
        asked["Evidently"] = rank_by_evidently
    found = []
    for name, rank in asked.items():
        began = perf_counter()
        ranked = tuple(rank(reference, current))
        found.append(Answer(name, ranked, round(perf_counter() - began, 3)))
    return found


def sides(struck: Struck) -> tuple[Frame, Frame]:
    """Up to MOST decisions from before the onset, and as many from after it: inputs of features, score, action.

    Inputs that no feature reads are left out (numbers that only count up would come first), and so are times.
    """
    scene = struck.scene
    read = {c for e in scene.bundle.features.values() for c in columns_of(e)} | set(scene.bundle.features)
    names = [n for n, kind in scene.plan.inputs.items() if kind != "time" and n in read]
    columns = ", ".join([*(f"{quoted('row.' + n)} as {quoted(n)}" for n in names), "score", "action"])
    made = []
    for test in ("<", ">="):
        sql = f"select {columns} from decisions where asked_at {test} {sql_value(struck.since)} "
        made.append(scene.engine.frame(f"{sql} and status = 'ok' order by hash(id) limit {MOST}"))
    return made[0], made[1]


def rank_by_drift(reference: Frame, current: Frame) -> list[str]:
    """Columns by population stability index: deciles of the reference, nulls and levels as bins of their own."""
    return sorted(reference, key=lambda c: -psi(*shares(reference[c], current[c])))


def shares(one: Array, other: Array) -> tuple[Array, Array]:
    """Shares of both sides in the bins of the first: deciles or levels, nulls apart, new levels apart."""
    if one.dtype == object:
        levels = {v: n for n, v in enumerate(dict.fromkeys(one))}
        codes = [np.array([levels.get(v, len(levels)) for v in side]) for side in (one, other)]
        size = len(levels) + 1
    else:
        edges = np.unique(np.nanquantile(one, np.linspace(0, 1, BINS + 1)[1:-1])) if (~np.isnan(one)).any() else []
        size = len(edges) + 2
        codes = [np.where(np.isnan(side), size - 1, np.searchsorted(edges, side, "right")) for side in (one, other)]
    first, second = (np.bincount(c, minlength=size) / max(1, len(c)) for c in codes)
    return first, second


def psi(one: Array, other: Array) -> float:
    """The population stability index of two vectors of shares."""
    a, b = np.maximum(one, FLOOR), np.maximum(other, FLOOR)
    return float(((b - a) * np.log(b / a)).sum())


def rank_by_classifier(reference: Frame, current: Frame) -> list[str]:
    """Columns by how much the AUC of a small "before or after" model falls when each is permuted."""
    import lightgbm

    names = list(reference)
    matrix = np.column_stack([_coded(reference[n], current[n]) for n in names])
    label = np.r_[np.zeros(len(reference["score"])), np.ones(len(current["score"]))]
    random = np.random.default_rng(SEED)
    order = random.permutation(len(label))
    learn, test = order[: len(order) // 2], order[len(order) // 2 :]
    parameters = {"objective": "binary", "verbosity": -1, "num_leaves": 15, "num_threads": 1, "seed": SEED}
    model = lightgbm.train(parameters, lightgbm.Dataset(matrix[learn], label[learn]), num_boost_round=40)
    whole = auc(label[test], model.predict(matrix[test]))
    drop = {}
    for n, name in enumerate(names):
        shuffled = matrix[test].copy()
        shuffled[:, n] = random.permutation(shuffled[:, n])
        drop[name] = whole - auc(label[test], model.predict(shuffled))
    return sorted(names, key=lambda c: -drop[c])


def _coded(one: Array, other: Array) -> Array:
    both = np.concatenate([one, other])
    if both.dtype != object:
        return both.astype(float)
    levels = {v: n for n, v in enumerate(sorted({str(v) for v in both if v is not None}))}
    return np.array([np.nan if v is None else levels[str(v)] for v in both])


def auc(label: Array, score: Any) -> float:
    """The chance that a positive row scores above a negative one (ties by order)."""
    ranks = np.empty(len(label))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(label) + 1)
    positive = label.sum()
    rest = len(label) - positive
    return float((ranks[label == 1].sum() - positive * (positive + 1) / 2) / max(1, positive * rest))


@cache
def has_evidently() -> bool:
    """Whether Evidently is installed and can be imported beside what else is; it is no dependency of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import evidently.presets  # noqa: F401
    except ImportError:
        return False
    return True


def rank_by_evidently(reference: Frame, current: Frame) -> list[str]:
    """Columns by the drift score of Evidently's DataDriftPreset with its defaults, empty ones first."""
    import pandas
    from evidently import Report
    from evidently.presets import DataDriftPreset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (pandas.DataFrame(dict(side)) for side in (reference, current))
        # a column that is empty on one side stops the report
        names = [n for n in one if one[n].notna().any() and other[n].notna().any()]
        empty = [n for n in one if n not in names and one[n].notna().any() != other[n].notna().any()]
        result = Report([DataDriftPreset()]).run(other[names], one[names]).dict()
    scores: dict[str, float] = {}
    for metric in result["metrics"]:
        config = metric.get("config", {})
        column, value = config.get("column"), metric.get("value")
        if column and isinstance(value, (int, float)):
            method = str(config.get("method", ""))
            threshold = float(config.get("threshold") or 0.1)
            # p-values fall with drift, distances grow: both as how far beyond the threshold
            scores[column] = threshold / max(value, 1e-300) if "p_value" in method else value / threshold
    return empty + sorted(scores, key=lambda c: -scores[c])
