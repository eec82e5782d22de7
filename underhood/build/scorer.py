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

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from math import exp, nan
from typing import Any

import numpy as np

from underhood.build.outside import OUTSIDE, one_row, score_outside

Model = Mapping[str, Any]
Array = np.ndarray[Any, Any]
Frame = Mapping[str, Array]
Score = Callable[[Mapping[str, Any]], float]

MANY = 300_000  # rows from which LightGBM's own walk, on all cores, pays for the second that it takes to load
SHARE = 16_384  # rows walked at a time: their columns stay near
BITS = 32  # leaves in a word
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


def sum_of_trees(trees: Sequence[Any], columns: Sequence[Array]) -> Array:
    """The sum of the leaves that each row falls into, tree by tree: doubles, NaN for null, level codes from -1."""
    n = len(columns[0])
    total = np.zeros(n)
    for at in range(0, n, SHARE):
        share = _Columns([c[at : at + SHARE] for c in columns])
        for tree in trees:
            leaf, values = _leaf_of(tree, share)
            total[at : at + SHARE] += values[leaf]
    return total


def leaves(model: Model, frame: Frame) -> Array:
    """Which leaf of each tree each row falls into: integers, rows × trees. Rows alike to the model share leaves."""
    columns = _Columns(_coded(model, frame))
    return np.column_stack([_leaf_of(tree, columns)[0] for tree in model["trees"]]).astype(np.int16)


class _Columns:
    """Columns of doubles; where a tree asks for a set of levels, their codes as places from 0, made once."""

    def __init__(self, columns: Sequence[Array]) -> None:
        self.columns, self._places = columns, dict[int, Array]()

    def goes_left(self, feature: int, cut: float | list[int], null_left: bool) -> Array:
        """Which rows go left at a node."""
        values = self.columns[feature]
        if not isinstance(cut, list):
            goes: Array = ~(values > cut) if null_left else values <= cut
            return goes
        if feature not in self._places:
            self._places[feature] = values.astype(np.intp) + 1
        places = self._places[feature]
        in_set = np.zeros(max(int(places.max(initial=0)), *cut) + 2, dtype=bool)
        in_set[np.asarray(cut) + 1] = True
        return np.asarray(in_set[places])


def _leaf_of(tree: Any, columns: _Columns) -> tuple[Array, Array]:
    """Which leaf each row falls into, counted from the left, and what the leaves are worth.

    Every node is asked of all rows at once, and where a row goes right the leaves on the left are struck
    off its list, a bit each; the leftmost that remains is the row's (QuickScorer, Lucchese et al. 2015).
    Several times as fast as parting the rows node by node.
    """
    values: list[float] = []
    nodes: list[tuple[int, Any, bool, int, int]] = []
    _spread(tree, values, nodes)
    n, words = len(columns.columns[0]), -(-len(values) // BITS)
    left = [np.full(n, _ones(min(BITS, len(values) - word * BITS)), dtype=np.uint32) for word in range(words)]
    for feature, cut, null_left, first, last in nodes:
        goes = -columns.goes_left(feature, cut, null_left).astype(np.uint32)
        for word in range(first // BITS, (last - 1) // BITS + 1):
            low, high = max(first - word * BITS, 0), min(last - word * BITS, BITS)
            left[word] &= goes | np.uint32(_ones(BITS) ^ (_ones(high - low) << low))
    found = np.zeros(n, dtype=np.intp)
    for word in reversed(range(words)):
        lowest = np.frexp((left[word] & -left[word]).astype(float))[1] - 1
        found = np.where(left[word] > 0, word * BITS + lowest, found)
    return found, np.array(values)


def _ones(n: int) -> int:
    return (1 << n) - 1


def _spread(node: Any, values: list[float], nodes: list[tuple[int, Any, bool, int, int]]) -> None:
    """A tree as its leaves from left to right, and its nodes with the span of leaves on their left."""
    if not isinstance(node, list):
        values.append(float(node))
        return
    feature, cut, null_left, left, right = node
    first = len(values)
    _spread(left, values, nodes)
    nodes.append((int(feature), cut, bool(null_left), first, len(values)))
    _spread(right, values, nodes)


def _coded(model: Model, frame: Frame) -> list[Array]:
    return [
        codes(frame[name], model["levels"][name]) if name in model["levels"] else frame[name].astype(float)
        for name in model["features"]
    ]


def codes(values: Array, levels: list[str]) -> Array:
    """Level codes as floats; -1 for null and for a level that is not listed."""
    number = {level: float(i) for i, level in enumerate(levels)}
    return np.array([number.get(v, -1.0) for v in values], dtype=float)


def _probabilities(total: Array) -> Array:
    return np.array([_probability(z) for z in total.tolist()])


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
            z += np.array([term["levels"].get(v, 0.0) for v in values])
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
