"""Where the bins of a histogram lie: between the quantiles of a draw, close together where most values are."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from underhood.signs.statistics import Histogram, thinned

Floats = np.ndarray[Any, np.dtype[np.float64]]

STEPS = 1024  # on each side of the middle
CROWDED = 0.01  # more of the values in one step than this: the steps do not tell them apart


@dataclass(frozen=True)
class Steps:
    """Bins by arithmetic: close around `middle`, ever wider beyond `width` of it, to both ends of the numbers.

    Finding a value's step costs a fifth of a search among edges (bench/profile).
    """

    middle: float
    width: float

    def sql(self, number: str) -> str:
        """The step of a number: from -1023 to 1024."""
        apart = f"({number} - ({self.middle!r})::DOUBLE)"
        return f"ceil({STEPS}::DOUBLE * {apart} / (({self.width!r})::DOUBLE + abs({apart})))::SMALLINT"

    def step(self, number: float) -> int:
        """The same in Python."""
        apart = number - self.middle
        return math.ceil(STEPS * apart / (self.width + abs(apart)))

    def edge(self, step: int) -> float:
        """The greatest number of a step."""
        share = step / STEPS
        if abs(share) >= 1:
            return math.copysign(math.inf, share)
        return self.middle + self.width * share / (1 - abs(share))

    def histogram(self, counts: Mapping[int, int], ends: tuple[float, float], often: Mapping[float, int]) -> Histogram:
        """The histogram that the counts of the steps make; each value of `often` gets a narrow bin of its own."""
        edges, sums = [math.nextafter(ends[0], -math.inf)], []
        inside: dict[int, list[float]] = {}
        for value in sorted(often):
            inside.setdefault(self.step(value), []).append(value)
        steps = sorted(counts)
        for n, step in enumerate(steps):
            upper = ends[1] if n == len(steps) - 1 else min(ends[1], max(self.edge(step), edges[-1]))
            lower = edges[-1] if n == 0 else max(edges[-1], min(self.edge(step - 1), upper))
            if lower > edges[-1]:  # nothing lies in the steps between
                edges.append(lower)
                sums.append(0)
            values = [v for v in inside.get(step, []) if lower < v <= upper]
            rest = max(0, counts[step] - sum(often[v] for v in values))
            _split(edges, sums, upper, {v: often[v] for v in values}, rest)
        return thinned(edges, sums, {*often})


def _split(edges: list[float], sums: list[int], upper: float, often: Mapping[float, int], rest: int) -> None:
    """Adds the bins from the last edge to `upper`: a narrow one for each of `often`, `rest` spread between them."""
    lower, given = edges[-1], 0
    whole = (upper - lower) or 1.0
    for value, n in often.items():
        before = math.nextafter(value, -math.inf)
        if before > edges[-1]:
            share = round(rest * (before - lower) / whole) - given
            given += share
            edges.append(before)
            sums.append(share)
        edges.append(value)
        sums.append(n)
    if upper > edges[-1]:
        edges.append(upper)
        sums.append(rest - given)
    elif sums:
        sums[-1] += rest - given


def steps_for(drawn: Floats, often: Collection[float]) -> Steps | None:
    """Steps that tell the drawn values apart, or None: then search among edges. `drawn` is sorted."""
    n = len(drawn)
    reaches = (float(drawn[int(n * (1 - tail))] - drawn[int(n * tail)]) for tail in (0.25, 0.1, 0.02))
    width = next((reach for reach in reaches if reach > 0), 0.0)
    if not width or not math.isfinite(width):
        return None
    # off the middle by an odd part of the width, so that no round number is an edge
    steps = Steps(float(drawn[n // 2]) + width * 0.000137, width)
    apart = drawn[~np.isin(drawn, list(often))] - steps.middle
    _, counts = np.unique(np.ceil(STEPS * apart / (width + np.abs(apart))), return_counts=True)
    return steps if len(counts) and counts.max() <= CROWDED * n else None


def edges_at(marks: Sequence[float], least: float, most: float) -> list[float]:
    """Edges at quantiles of the drawn values, from just below the least value to the greatest.

    A quantile that occurs twice is a frequent value: it gets a bin of its own.
    """
    often = {a for a, b in pairwise(marks) if a == b and a > least}
    inside = {m for m in marks if least <= m <= most} | {math.nextafter(m, -math.inf) for m in often}
    return sorted({math.nextafter(least, -math.inf), least, most} | inside)
