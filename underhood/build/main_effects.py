"""A logistic model of main effects, fitted here with numpy alone: for a witness that is asked once and thrown away.

The model that the rung "logistic" of the ladder fits, to its last digits but three: both minimise
log loss plus half the squared weights. Loading a library for it costs more than the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from underhood.build.ladder import levels_of
from underhood.build.scorer import Array, Frame, Model, codes
from underhood.plan.operations import TEXT

STEPS, NEAR = 50, 1e-5  # Newton's steps at most; the gradient per row at which they end


@dataclass(frozen=True)
class _Columns:
    """Rows as numbers: `dense` columns side by side, and of each text the number of its level (the last: none)."""

    dense: Array
    texts: tuple[Array, ...]
    sizes: tuple[int, ...]

    def times(self, weights: Array) -> Array:
        """Each row's sum of its columns by these weights, the last of which is the bias."""
        at = self.dense.shape[1]
        # einsum, not @: for so small a product, waking the threads of BLAS costs more than the work
        made = np.einsum("ij,j->i", self.dense, weights[:at]) + weights[-1]
        for code, size in zip(self.texts, self.sizes, strict=True):
            made += np.append(weights[at : at + size], 0.0)[code]
            at += size
        return np.asarray(made)

    def summed(self, rows: Array, power: int = 1) -> Array:
        """The sum over rows of each column (or its square) times a number of the row."""
        parts = [np.einsum("ij,i->j", self.dense if power == 1 else self.dense**2, rows)]
        for code, size in zip(self.texts, self.sizes, strict=True):
            parts.append(np.bincount(code, rows, minlength=size + 1)[:size])
        return np.concatenate([*parts, [rows.sum()]])


def fit_main_effects(frame: Frame, label: Array, types: Mapping[str, str]) -> Model:
    """Main effects of features on a label (0 or 1), as the JSON that scorer.py scores. Deterministic.

    A constant where only one class is there to learn from, or no feature says anything.
    """
    used = [n for n in frame if types[n] == TEXT or not np.isnan(frame[n].astype(float)).all()]
    if not used or label.min() == label.max():
        return {"kind": "constant", "p": float(np.mean(label))}
    numbers = [n for n in used if types[n] != TEXT]
    levels = {n: levels_of(frame[n]) for n in used if types[n] == TEXT}
    dense, scales = _scaled(frame, numbers, len(label))
    texts = tuple(np.where((c := codes(frame[n], of).astype(int)) < 0, len(of), c) for n, of in levels.items())
    weights = _fitted(_Columns(dense, texts, tuple(map(len, levels.values()))), label)
    terms = [
        {"feature": n, "mean": mean, "scale": scale, "weight": float(weights[2 * i]), "null": float(weights[2 * i + 1])}
        for i, (n, (mean, scale)) in enumerate(zip(numbers, scales, strict=True))
    ]
    at = dense.shape[1]
    for name, of in levels.items():
        terms.append({"feature": name, "levels": {v: float(weights[at + i]) for i, v in enumerate(of)}})
        at += len(of)
    return {"kind": "logistic", "bias": float(weights[-1]), "terms": terms}


def _scaled(frame: Frame, names: Sequence[str], n: int) -> tuple[Array, list[tuple[float, float]]]:
    """Of each number its distance to the mean in deviations, 0 for null, and whether it is null."""
    dense, scales = np.zeros((n, 2 * len(names))), []
    for i, name in enumerate(names):
        values = frame[name].astype(float)
        missing = np.isnan(values)
        mean, scale = float(np.nanmean(values)), float(np.nanstd(values))
        # what rounding leaves of a constant is no scale: one new value would decide everything
        scale = scale if scale > 1e-9 * abs(mean) else 1.0
        dense[:, 2 * i], dense[:, 2 * i + 1] = np.where(missing, 0, (values - mean) / scale), missing
        scales.append((mean, scale))
    return dense, scales


def _fitted(columns: _Columns, label: Array) -> Array:
    """The weights, bias last, that minimise log loss plus half their squares (the bias is free): Newton's method."""
    n = len(label)
    held = np.ones(columns.dense.shape[1] + sum(columns.sizes) + 1)
    held[-1] = 0.0
    weights = np.zeros(len(held))
    share = float(label.mean())
    weights[-1] = np.log(share / (1 - share))

    def worth(at: Array) -> float:
        told = columns.times(at)
        return float((np.logaddexp(0, told) - label * told).sum() + (held * at**2).sum() / 2)

    before = worth(weights)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(columns.times(weights), -30, 30)))
        slope = columns.summed(p - label) + held * weights
        if np.abs(slope).max() <= NEAR * n:
            break
        bend = p * (1 - p)
        step = _solved(
            lambda v, bend=bend: columns.summed(bend * columns.times(v)) + held * v,  # type: ignore[misc]
            slope,
            columns.summed(bend, 2) + np.maximum(held, 1e-9),
        )
        size = 1.0
        while (after := worth(weights - size * step)) > before and size > 1e-6:
            size /= 2
        weights, before = weights - size * step, after
    return weights


def _solved(times: Callable[[Array], Array], right: Array, diagonal: Array) -> Array:
    """What `times` makes `right` of, near enough for a step of Newton's: conjugate gradients, scaled by a diagonal."""
    found, rest = np.zeros(len(right)), right.copy()
    way = scaled = rest / diagonal
    left = rest @ scaled
    enough = 1e-2 * np.sqrt((rest**2).sum())
    for _ in range(200):
        turned = times(way)
        size = left / (way @ turned)
        found, rest = found + size * way, rest - size * turned
        if np.sqrt((rest**2).sum()) <= enough:
            break
        scaled = rest / diagonal
        left, last = rest @ scaled, left
        way = scaled + left / last * way
    return found
