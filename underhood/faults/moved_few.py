"""What a few of many rows show: values that none had, or one that far more have than had it.

Also what every form found in two samples is made of: the form, which values show it, and the past.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form, decimals_lost, over_decimals
from underhood.moves.shifts import UNITS, grain
from underhood.plan.exprs import Expr, col

ENOUGH = 8  # rows that show something
BEYOND = 0.25  # of the past's own width: so far outside is not the next larger value of the same kind
UNNAMED = ""  # the kind of what shows, but has no form among all rows; among those of a cohort it may have one
DRAWN = 2500  # values of either sample
HEAVIEST = 12  # values of a column that may be one that a few rows have stopped at
STUCK, MORE, SURE = 0.005, 1.8, 6.0  # more rows than before, times as many, standard errors: that is no chance
NEAR, MEASURED = 0.35, 0.1  # Kolmogorov's distance of a step that fits; what one is behind a known unit, being measured
WEAK = 0.9  # what one value explains that far more have: any form of all of them comes before it
TENTHS = np.linspace(0.1, 0.9, 9)


@dataclass(frozen=True)
class Found:
    """A form with the values that show it (`shows`, over an array) and the same as an expression (null: all of them).

    `explained`: share of the distance between the samples that the form takes away, above noise.
    `is_new`: the past never had such values; `is_beyond`: by a constant that was added, so no season explains it.
    """

    form: Form
    shows: Callable[[Array], Array]
    rows: Expr | None = None
    explained: float = 1.0
    rivals: tuple[str, ...] = field(default=())
    is_beyond: bool = False
    is_new: bool = False


@dataclass(frozen=True)
class Past:
    """A column in all of the past: its range without one in 2,000 at either end, its grid, some of its values."""

    low: float
    high: float
    grain: float | None
    values: Array


def past_of(values: Array, step: float | None) -> Past:
    """The past of a column of numbers (NaN null); `step` is its grid, if it has one."""
    held = values[~np.isnan(values)]
    low, high = np.quantile(held, [0.0005, 0.9995]) if len(held) else (0.0, 0.0)
    return Past(float(low), float(high), step, thin(held))


def thin(values: Array) -> Array:
    """At most DRAWN of the values, spread evenly."""
    return values if len(values) <= DRAWN else values[np.linspace(0, len(values) - 1, DRAWN).astype(int)]


def stuck_moves(name: str, before: Array, after: Array, past: Past) -> Iterator[Found]:
    """A few of many rows have one and the same value, many times as many as before; surest first.

    Rows that stop at a value are taken from all other values alike. Where those moved among each
    other too, the mix of rows has changed: a value must then have grown by more than they did.
    """
    values, counts = np.unique(after[~np.isnan(after)], return_counts=True)
    if len(values) < ENOUGH:
        return
    n, m = max(1, len(before)), len(after)
    sure: list[tuple[float, float, float, float]] = []
    for value, count in sorted(zip(values, counts, strict=True), key=lambda v: -v[1])[:HEAVIEST]:
        was, now = float((before == value).mean()), count / m
        unsure = math.sqrt(max(was * (1 - was), 1 / n) * (1 / n + 1 / m))
        if count < ENOUGH or now - was < STUCK or now < MORE * was or now - was <= SURE * unsure:
            continue
        if now - was > SURE * unsure * _restless(before[before != value], after[after != value]):
            sure.append(((now - was) / unsure, float(value), now, was))
    for _, value, now, was in sorted(sure, reverse=True):
        kind = "frozen column" if past.low <= value <= past.high and not is_code(value, before) else "sentinel fill"
        says = f"{name} is {value:g} in {now:.1%} of the rows, before in {was:.1%}"
        yield Found(Form(kind, says, None, {"value": value}), equal_to(value), col(f"row.{name}") == value, WEAK)


def _restless(before: Array, after: Array) -> float:
    """How many times as far as chance moves them the shares of single values moved, 1 at least: root mean square."""
    values, counts = np.unique(np.concatenate([before, after]), return_counts=True)
    heavy = values[(counts >= ENOUGH) & ~np.isnan(values)]
    if not len(heavy) or not len(before) or not len(after):
        return 1.0
    was, now = (_share_of(heavy, side) for side in (before, after))
    share = (was * len(before) + now * len(after)) / (len(before) + len(after))
    error = np.sqrt(np.maximum(share * (1 - share), 1e-12) * (1 / len(before) + 1 / len(after)))
    return max(1.0, float(np.sqrt(np.mean(((now - was) / error) ** 2))))


def _share_of(values: Array, side: Array) -> Array:
    """The share of a sample (NaN null) that each of these values, sorted, has."""
    held = np.sort(side)
    made: Array = (np.searchsorted(held, values, "right") - np.searchsorted(held, values, "left")) / len(side)
    return made


def is_code(value: float, before: Array) -> bool:
    """Whether a value looks like one that people write for "none": 0, -1, nines, or one outside what was there."""
    shown = f"{abs(value):g}"
    return bool((value in (0.0, -1.0) or set(shown) == {"9"}) and np.mean(before == value) < 0.01)


def equal_to(value: float) -> Callable[[Array], Array]:
    """Which values are this one."""
    return lambda v: v == value


def rounded(step: float, width: float) -> float:
    """The step as a person would have made it: two digits, if that is as near as the width of the values tells."""
    near = float(f"{step:.2g}")
    return near if abs(near - step) <= 0.05 * width else step


def odd_move(name: str, one: Array, other: Array, past: Past) -> Found | None:
    """Some rows have values that the past does not know: by which known unit do they come back?"""
    width = max(past.high - past.low, 1e-12)
    low, high = past.low - BEYOND * width, past.high + BEYOND * width

    def is_odd(values: Array) -> Array:
        out: Array = (values > high) | (values < low)
        if past.grain is not None:
            ratio = values / past.grain
            out = out | (np.abs(ratio - np.round(ratio)) > 1e-6 * np.maximum(1.0, np.abs(ratio)))
        return out & ~np.isnan(values)

    odd = other[is_odd(other)]
    if len(odd) < ENOUGH or not len(one) or len(odd) / len(other) < 5 * float(is_odd(one).mean()) + 0.003:
        return None
    row = col(f"row.{name}")
    rows = (row > high) | (row < low)
    if past.grain is not None:
        rows = rows | ((row / past.grain - (row / past.grain).round()).then("abs") > 1e-6)
    values, counts = np.unique(odd, return_counts=True)
    if counts.max() >= 0.9 * len(odd):
        value = float(values[counts.argmax()])
        form = Form(
            "sentinel fill",
            f"{name} is {value:g} in {counts.max() / len(other):.1%} of the rows, never before",
            None,
            {"value": value},
        )
        return Found(form, lambda v: v == value, row == value)
    tried = sorted(_backs(odd, one, is_odd, past), key=lambda t: t[0])
    unmarked = _unmarked(name, odd, one, is_odd, past)
    if unmarked is not None and (not tried or unmarked[0] < tried[0][0]):
        return Found(unmarked[1], is_odd, rows, 1 - unmarked[0], is_new=True)
    if not tried:
        return Found(Form(UNNAMED, f"{name} has values that it never had"), is_odd, rows, 0.0)
    apart, factor, step = tried[0]
    some = f"in {len(odd) / len(other):.1%} of the rows"
    form = (
        Form("shift", f"{name} {step:+g} {some}", row - step, {"shift": step})
        if step
        else Form("unit change", f"{name} × {factor:g} {some}", row / factor, {"factor": factor})
    )
    rivals = tuple(f"{s:+g}" if s else f"× {f:g}" for _, f, s in tried[1:2])
    return Found(form, is_odd, rows, 1 - apart, rivals, is_new=True)


def _backs(
    odd: Array, one: Array, is_odd: Callable[[Array], Array], past: Past
) -> Iterator[tuple[float, float, float]]:
    """By which factor or step odd values come back among those that it would have made odd.

    With Kolmogorov's distance to those: (distance, factor, 0) or (distance, 1, step).
    """
    width = float(np.subtract(*np.quantile(one, [0.75, 0.25])))
    steps = {float(s) for s in np.quantile(odd, TENTHS) - np.quantile(one, TENTHS)}
    steps |= {rounded(s, width) for s in steps}
    factors = {f for unit in UNITS for f in (unit, 1 / unit)} | {-1.0}
    for factor, step in [*((f, 0.0) for f in factors), *((1.0, s) for s in sorted(steps) if s)]:
        made = one * factor + step
        would = made[is_odd(made)]
        if len(would) < ENOUGH:
            continue
        back = (odd - step) / factor
        if past.grain is not None:
            ratio = back / past.grain
            if (np.abs(ratio - np.round(ratio)) < 1e-4 * np.maximum(1.0, np.abs(ratio))).mean() < 0.95:
                continue
        apart = apart_of(odd, would)
        if apart is not None and (not step or apart <= NEAR):
            yield apart + (MEASURED if step else 0.0), factor, step


def apart_of(odd: Array, would: Array) -> float | None:
    """Kolmogorov's distance of two samples; null if it is none that chance makes once in a hundred times."""
    both = np.sort(np.concatenate([odd, would]))
    one, other = (np.searchsorted(np.sort(s), both, "right") / len(s) for s in (odd, would))
    apart = float(np.abs(one - other).max())
    return apart if apart < 1.63 * math.sqrt(1 / len(odd) + 1 / len(would)) else None


def _unmarked(
    name: str, odd: Array, one: Array, is_odd: Callable[[Array], Array], past: Past
) -> tuple[float, Form] | None:
    """Whether odd values are those of before without their decimal mark, and how far from those."""
    if (odd != np.round(odd)).any() or (one != np.round(one)).mean() < 0.05:
        return None
    made = decimals_lost(one)
    would = made[is_odd(made)]
    apart = apart_of(odd, would) if len(would) >= ENOUGH else None
    if apart is None:
        return None
    says = f"{name} has lost its decimal mark in some rows: 12.5 has become 125"
    return apart, Form("decimal comma", says, over_decimals(name, past.high), {"factor": decimals_of(one)})


def decimals_of(values: Array) -> float:
    """Ten to the number of decimals that the values are written with."""
    step = grain(values)
    return 10.0 ** max(0, math.ceil(-math.log10(step) - 1e-9)) if step else 100.0
