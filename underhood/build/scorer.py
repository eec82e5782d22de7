"""Our own small scorers: a model is plain JSON, scored from one row or from columns, equal to the last bit.

A model is one of
  {"kind": "constant", "p": 0.18}
  {"kind": "logistic", "bias": b, "terms": [{"feature", "mean", "scale", "weight", "null"} or {"feature", "levels"}]}
  {"kind": "trees", "levels": {feature: [level, ...]}, "features": [...], "trees": [node, ...]}
  {"kind": "outside", ...}, a scorer made elsewhere: outside.py
A node is a leaf's value, or [feature index, cut, null goes left, left, right]; the
cut is a number (left if not above it) or a list of level codes (left if among them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import repeat
from math import exp, nan
from typing import Any

import numpy as np

from underhood.build.outside import OUTSIDE, one_row, score_outside
from underhood.build.trees import leaves_of_trees, sum_of_trees

Model = Mapping[str, Any]
Array = np.ndarray[Any, Any]
Frame = Mapping[str, Array]
Score = Callable[[Mapping[str, Any]], float]

MANY = 300_000  # rows from which LightGBM's own walk, on all cores, pays for the second that it takes to load
_FLAT = 700.0  # beyond it exp overflows, and the probability is 0 or 1 to the last bit


def scorer(model: Model) -> Score:
    """The model as one function from a row's features to a probability. Nulls are None."""
    if model["kind"] == "constant":
        p = float(model["p"])
        return lambda features: p
    if model["kind"] == OUTSIDE:
        return one_row(model)
    return _logistic_scorer(model) if model["kind"] == "logistic" else _tree_scorer(model)


def score_frame(model: Model, frame: Frame) -> Array:
    """Probabilities for each row of columns: floats with NaN for null, texts as objects with None."""
    n = len(next(iter(frame.values())))
    if model["kind"] == "constant":
        return np.full(n, float(model["p"]))
    if model["kind"] == OUTSIDE:
        return score_outside(model, frame)
    if model["kind"] == "logistic":
        return _probabilities(_logistic_sum(model, frame, n))
    columns = _coded(model, frame)
    if n >= MANY and find_spec("lightgbm"):
        from underhood.build.boosted import can_sum, tree_sums

        if can_sum(columns):
            return _probabilities(tree_sums(model["trees"], columns))
    return _probabilities(sum_of_trees(model["trees"], columns))


def leaves(model: Model, frame: Frame) -> Array:
    """Which leaf of each tree each row falls into: integers, rows × trees. Rows alike to the model share leaves."""
    return leaves_of_trees(model["trees"], _coded(model, frame))


def _coded(model: Model, frame: Frame) -> list[Array]:
    return [
        codes(frame[name], model["levels"][name]) if name in model["levels"] else frame[name].astype(float)
        for name in model["features"]
    ]


def codes(values: Array, levels: list[str]) -> Array:
    """Level codes as floats; -1 for null and for a level that is not listed."""
    number = {level: float(i) for i, level in enumerate(levels)}
    return np.fromiter(map(number.get, values.tolist(), repeat(-1.0)), dtype=float, count=len(values))


def _probabilities(total: Array) -> Array:
    # what is not a number counts as more than all others, as in _probability
    held = np.fmax(-_FLAT, np.fmin(_FLAT, total))
    return np.array([1.0 / (1.0 + exp(-z)) for z in held.tolist()])


def _probability(z: float) -> float:
    return 1.0 / (1.0 + exp(-max(-_FLAT, min(_FLAT, z))))


def _logistic_scorer(model: Model) -> Score:
    bias = model["bias"]
    numbers = [
        (t["feature"], t["mean"], t["scale"], t["weight"], t["null"]) if "mean" in t else (t["feature"], t["levels"])
        for t in model["terms"]
    ]

    def score(features: Mapping[str, Any]) -> float:
        z = bias
        for term in numbers:
            value = features[term[0]]
            if len(term) == 2:
                z += term[1].get(value, 0.0)
            else:
                z += term[4] if value is None else (value - term[1]) / term[2] * term[3]
        return _probability(z)

    return score


def _logistic_sum(model: Model, frame: Frame, n: int) -> Array:
    z = np.full(n, float(model["bias"]))
    for term in model["terms"]:
        values = frame[term["feature"]]
        if "levels" in term:
            z += np.fromiter(map(term["levels"].get, values.tolist(), repeat(0.0)), dtype=float, count=n)
        else:
            values = values.astype(float)
            with np.errstate(over="ignore", invalid="ignore"):  # a float alone overflows in silence too
                z += np.where(np.isnan(values), term["null"], (values - term["mean"]) / term["scale"] * term["weight"])
    return z


def _tree_scorer(model: Model) -> Score:
    # One generated function of nested comparisons: 100 trees cost 11 to 15 µs a row; walking
    # the same trees as data cost three to four times that (bench/decide.py).
    constants: dict[str, Any] = {"nan": nan, "probability": _probability}
    lines = ["def score(features):"]
    for i, name in enumerate(model["features"]):
        lines.append(f" v = features[{name!r}]")
        if name in model["levels"]:
            constants[f"L{i}"] = {level: n for n, level in enumerate(model["levels"][name])}
            lines.append(f" x{i} = L{i}.get(v, -1)")
        else:
            lines.append(f" x{i} = nan if v is None else v")
    lines.append(" z = 0.0")
    for tree in model["trees"]:
        _write_node(tree, 1, lines, constants)
    lines.append(" return probability(z)")
    exec(compile("\n".join(lines), "<trees>", "exec"), constants)
    made: Score = constants["score"]
    return made


def _write_node(node: Any, depth: int, lines: list[str], constants: dict[str, Any]) -> None:
    pad = " " * depth
    if not isinstance(node, list):
        lines.append(f"{pad}z += {float(node)!r}")
        return
    feature, cut, null_left, left, right = node
    if isinstance(cut, list):
        name = f"S{len(constants)}"
        constants[name] = frozenset(int(c) for c in cut)
        test = f"x{int(feature)} in {name}"
    else:
        test = f"not x{int(feature)} > {float(cut)!r}" if null_left else f"x{int(feature)} <= {float(cut)!r}"
    lines.append(f"{pad}if {test}:")
    _write_node(left, depth + 1, lines, constants)
    lines.append(f"{pad}else:")
    _write_node(right, depth + 1, lines, constants)
