"""The simplest model that will do: constant → logistic → boosted trees, compared on folds in time.

A rung is taken only if it beats every simpler one by more than one standard error
of the paired daily difference in log loss. The rule prices simplicity; it does not
claim that the simpler rung generalises better (measured: best-by-fold had the lower
regret, the paired rule cost 0.5–1.8 % of the loss and bought latency and legibility).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from underhood.build.booster import Booster
from underhood.build.scorer import Array, Frame, Model, codes, score_frame
from underhood.plan.operations import TEXT

RUNGS = ("constant", "logistic", "trees")
N_FOLDS, MANY = 4, 100_000  # of many rows three folds tell as much as four
RARE = 20  # a level seen less often has no weight of its own
DAY_US = 86_400_000_000
AT_ONCE = 2  # fits; each holds a copy of its fold
ROUNDS = 100
TREES: Mapping[str, object] = {
    "objective": "binary",
    "verbosity": -1,
    "num_threads": 1,  # two threads on a busy machine took 1 s to 103 s for the same fit
    "deterministic": True,
    "force_row_wise": True,
    "seed": 1,
}


@dataclass(frozen=True)
class Fold:
    """One fold in time: train on what was known before `cut`, test on the block after it."""

    train: Array
    test: Array


@dataclass(frozen=True)
class Rung:
    """How one rung did: mean log loss over the test rows, and its paired gain over the best simpler rung."""

    kind: str
    loss: float
    gain: float
    gain_se: float
    taken: bool


@dataclass(frozen=True)
class Climb:
    """The result of the ladder: the rungs tried, the one taken, and its out-of-fold scores."""

    rungs: tuple[Rung, ...]
    kind: str
    tested: Array
    scores: Array


def folds(asked: Array, known: Array, n_folds: int = N_FOLDS) -> list[Fold]:
    """Expanding folds in time over rows sorted by `asked` (µs): a test row's future never trains.

    `known` (µs) is when each label became known; a training row counts only if
    that was before the test block began.
    """
    # distinct cuts: where many rows are asked at one moment, none is tested twice
    cuts = np.unique(np.quantile(asked, np.linspace(0, 1, n_folds + 2)[1:]))
    made = []
    for low, high in pairwise(cuts):
        test = (asked >= low) & ((asked < high) | (high == cuts[-1]))
        train = known < low
        if train.any() and test.any():
            made.append(Fold(np.flatnonzero(train), np.flatnonzero(test)))
    return made


def climb(
    frame: Frame,
    label: Array,
    asked: Array,
    known: Array,
    types: Mapping[str, str],
    say: Callable[[str], None] = lambda line: None,
    weight: Array | None = None,
) -> Climb:
    """Fits every rung on every fold and takes the simplest adequate one.

    `frame` holds the features by column, `label` 0 or 1, `asked` and `known` µs since 1970.
    `weight` is how often a row counts when a rung is fitted; in its loss each counts once.
    """
    blocks = folds(asked, known, N_FOLDS if len(label) < MANY else N_FOLDS - 1)
    if not blocks:
        loss = log_loss(label, np.full(len(label), label.mean()))
        return Climb((Rung("constant", loss, 0, 0, True),), "constant", np.array([], int), np.array([]))
    tested = np.concatenate([f.test for f in blocks])
    scores: dict[str, Array] = {}

    def score_block(kind: str, block: Fold) -> Array:
        own = None if weight is None else weight[block.train]
        model = fit(kind, rows(frame, block.train), label[block.train], types, own)
        return score_frame(model, rows(frame, block.test))

    # each fit has one thread of its own, so that its result does not depend on how many run
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for kind in RUNGS:
            say(f"fitting {kind} on {len(blocks)} folds in time")
            scores[kind] = np.concatenate(list(pool.map(partial(score_block, kind), blocks)))
    days = asked[tested] // DAY_US
    losses = {kind: losses_of(label[tested], s) for kind, s in scores.items()}
    rungs, best = [], RUNGS[0]
    for kind in RUNGS:
        gain, se = paired(losses[best] - losses[kind], days) if kind != best else (0.0, 0.0)
        taken = kind != best and gain > se
        rungs.append((kind, float(losses[kind].mean()), gain, se))
        best = kind if taken else best
    return Climb(tuple(Rung(*r, taken=r[0] == best) for r in rungs), best, tested, scores[best])


def paired(difference: Array, days: Array) -> tuple[float, float]:
    """Mean of a paired difference, and its standard error with each day as one cluster.

    Rows of one day share weather and events: counting them one by one would
    understate the error.
    """
    _, index = np.unique(days, return_inverse=True)
    n, mean = len(difference), float(difference.mean())
    sums = np.bincount(index, weights=difference - mean)
    groups = len(sums)
    if groups < 2:
        return mean, float("inf")
    return mean, float(np.sqrt((sums**2).sum() * groups / (groups - 1)) / n)


def losses_of(label: Array, score: Array) -> Array:
    """Log loss of each row, natural logarithm, scores clipped to [1e-15, 1 - 1e-15]."""
    p = np.clip(score, 1e-15, 1 - 1e-15)
    made: Array = -(label * np.log(p) + (1 - label) * np.log(1 - p))
    return made


def log_loss(label: Array, score: Array) -> float:
    """Mean log loss."""
    return float(losses_of(label, score).mean())


def rows(frame: Frame, index: Array) -> dict[str, Array]:
    """The chosen rows of every column."""
    return {name: values[index] for name, values in frame.items()}


def fit(kind: str, frame: Frame, label: Array, types: Mapping[str, str], weight: Array | None = None) -> Model:
    """One rung fitted to features and labels, as the JSON that scorer.py scores.

    Deterministic: one thread, fixed seed, rows in the order given. Falls back to a
    constant when only one class is there to learn from, or no feature says anything.
    `weight` is how often each row counts, more than 0; once if null.
    """
    used = [n for n in frame if types[n] == TEXT or not np.isnan(frame[n].astype(float)).all()]
    if kind == "constant" or label.min() == label.max() or not used:
        return {"kind": "constant", "p": float(np.average(label, weights=weight))}
    by = _fit_logistic if kind == "logistic" else _fit_trees
    return by(frame, label, types, used, weight)


def levels_of(values: Array, least: int = RARE) -> list[str]:
    """The levels seen at least `least` times, sorted."""
    counts = Counter(values.tolist())
    return sorted(str(v) for v, n in counts.items() if v is not None and n >= least)


def _fit_logistic(
    frame: Frame, label: Array, types: Mapping[str, str], used: Sequence[str], weight: Array | None
) -> Model:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    blocks: list[Any] = []
    terms: list[tuple[str, list[str] | None, float, float]] = []
    for name in used:
        if types[name] == TEXT:
            levels = levels_of(frame[name])
            found = codes(frame[name], levels).astype(int)
            seen = np.flatnonzero(found >= 0)
            blocks.append(csr_matrix((np.ones(len(seen)), (seen, found[seen])), (len(found), len(levels))))
            terms.append((name, levels, 0.0, 1.0))
        else:
            values = frame[name].astype(float)
            missing = np.isnan(values)
            centre, scale = float(np.nanmean(values)), float(np.nanstd(values))
            # what rounding leaves of a constant is no scale: one new value would decide everything
            scale = scale if scale > 1e-9 * abs(centre) else 1.0
            blocks.append(csr_matrix(np.column_stack([np.where(missing, 0, (values - centre) / scale), missing])))
            terms.append((name, None, centre, scale))
    columns = hstack(blocks).tocsr()
    if not columns.shape[1]:
        return fit("constant", frame, label, types, weight)
    model = LogisticRegression(max_iter=1000).fit(columns, label, weight)
    weights, at = model.coef_[0], 0
    made: list[dict[str, Any]] = []
    for name, known, centre, scale in terms:
        if known is not None:
            made.append({"feature": name, "levels": {v: float(weights[at + i]) for i, v in enumerate(known)}})
            at += len(known)
        else:
            slope, null = float(weights[at]), float(weights[at + 1])
            made.append({"feature": name, "mean": centre, "scale": scale, "weight": slope, "null": null})
            at += 2
    return {"kind": "logistic", "bias": float(model.intercept_[0]), "terms": made}


def _fit_trees(
    frame: Frame, label: Array, types: Mapping[str, str], used: Sequence[str], weight: Array | None
) -> Model:
    levels = {name: levels_of(frame[name]) for name in used if types[name] == TEXT}
    columns = [codes(frame[n], levels[n]) if n in levels else frame[n].astype(float) for n in used]
    texts = [i for i, name in enumerate(used) if name in levels]
    with Booster() as booster:
        booster.learn(np.column_stack(columns), label, texts, TREES, weight)
        booster.grow(ROUNDS)
        trees = [_node(t["tree_structure"]) for t in booster.dumped()]
    return {"kind": "trees", "features": list(used), "levels": levels, "trees": trees}


def _node(node: Mapping[str, Any]) -> Any:
    if "leaf_value" in node:
        return float(node["leaf_value"])
    left, right = _node(node["left_child"]), _node(node["right_child"])
    if node["decision_type"] == "==":
        return [node["split_feature"], [int(c) for c in node["threshold"].split("||")], False, left, right]
    # Where a feature had no null in training LightGBM reads a null as 0, which may be the most
    # extreme value there is (visibility 0); ours goes the way of most training rows.
    most_left = _rows_of(node["left_child"]) >= _rows_of(node["right_child"])
    null_left = node["default_left"] if node["missing_type"] == "NaN" else most_left
    return [node["split_feature"], float(node["threshold"]), bool(null_left), left, right]


def _rows_of(node: Mapping[str, Any]) -> int:
    return int(node.get("internal_count", node.get("leaf_count", 0)))
