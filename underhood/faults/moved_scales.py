"""Lines that lead from what a number was to what it is: one for another scale altogether, several for any curve.

Only the quantiles of two samples are known, before and after, and no row twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form
from underhood.plan.exprs import Expr, cases, col

OUTSIDE = 0.5  # share of the rows that must lie beyond what was
MARGIN = 0.25  # of the past's own width: so far outside is not the next larger value of the same kind
STRAIGHT = 0.9  # share of variance of the quantiles that a line explains
NEXT = 250  # rows on either side of the change
WITH, SURE, KEPT = 0.2, 5.0, 0.5  # a correlation that counts; in standard errors; of it, what another scale leaves
LEAST, TENTHS = 30, np.linspace(0.1, 0.9, 17)


def another_scale(name: str, befores: Sequence[Array], other: Array, low: float, high: float) -> Form | None:
    """The line that leads from what was to what is, quantile by quantile; null if most of it lies where it did.

    `befores` are samples of before (just before, in all the past), `other` is one of after, all in order of
    time and without NaN; `low` to `high` is what the past held. The line between the rows next to the
    change counts, if it is straight, else the straightest: with a season between the two it is a rough one.
    """
    width = high - low
    if min(map(len, (*befores, other))) < LEAST or width <= 0:
        return None
    outside = float(((other > high + MARGIN * width) | (other < low - MARGIN * width)).mean())
    near = _line(befores[0][-NEXT:], other[:NEXT])
    lines = sorted((_line(one, other) for one in befores), reverse=True)
    straight, factor, offset = near if near[0] >= STRAIGHT else lines[0]
    if outside < OUTSIDE or straight < STRAIGHT or not factor:
        return None
    says = f"{name} comes on another scale, about × {factor:g} {offset:+g}: {outside:.0%} of it lies beyond what was"
    return Form("unit change", says, (col(f"row.{name}") - offset) / factor, {"factor": factor, "offset": offset})


def is_dealt_anew(before: Sequence[Array], inside: Sequence[Array]) -> bool:
    """Whether a number no longer goes with the others of its row: no scale makes that, but other values do.

    The number first, then the others, row by row (NaN null): `before` the change, and `inside` it. Correlations of
    ranks (Spearman 1904) with those that it went with before; without any, nobody can say.
    """
    was, now = (_company(side) for side in (before, inside))
    held = np.abs(was) >= max(WITH, SURE / np.sqrt(max(1, len(before[0]))))
    return bool(held.any() and (was * now)[held].sum() < KEPT * (was**2)[held].sum())


def _company(columns: Sequence[Array]) -> Array:
    """The correlation of the first column's ranks with those of each other; 0 where too few rows have both."""
    made = np.zeros(len(columns) - 1)
    for at, other in enumerate(columns[1:]):
        both = ~np.isnan(columns[0]) & ~np.isnan(other)
        one, two = (np.unique(c[both], return_inverse=True)[1] for c in (columns[0], other))
        if both.sum() >= LEAST and np.ptp(one) and np.ptp(two):
            made[at] = np.corrcoef(_ranks(one), _ranks(two))[0, 1]
    return made


def _ranks(codes: Array) -> Array:
    counts = np.bincount(codes)
    made: Array = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return made


def _line(one: Array, other: Array) -> tuple[float, float, float]:
    """How straight the line from quantiles to quantiles is (share of variance), its slope and where it begins."""
    was, now = np.quantile(one, TENTHS), np.quantile(other, TENTHS)
    if not was.std() or not now.std():
        return 0.0, 0.0, 0.0
    factor, offset = np.polyfit(was, now, 1)
    return float(np.corrcoef(was, now)[0, 1]) ** 2, float(f"{factor:.3g}"), float(f"{offset:.3g}")


def piecewise(name: str, before: Array, after: Array, knots: int = 9) -> Expr:
    """What takes each value back to the one of the same rank before: straight lines between quantiles."""
    at = np.linspace(0.01, 0.99, knots)
    to, was = np.quantile(after, at), np.quantile(before, at)
    row = col(f"row.{name}")
    lines = []
    for a, b, c, d in zip(to[:-1], to[1:], was[:-1], was[1:], strict=True):
        slope = float((d - c) / (b - a)) if b > a else 0.0
        lines.append((row <= float(b), (row - float(a)) * slope + float(c)))
    return cases(*lines, otherwise=row - float(to[-1]) + float(was[-1]))
