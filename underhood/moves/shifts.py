"""What turned one column of numbers into another: a factor, a shift, one value, a limit, a mixture, or drift.

Each candidate is applied to the reference's sample and laid over the other's
in quantile bins; the one that leaves the least total variation explains it.
All of it is rank-based: an absurd value moves no bin and wins no vote.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from underhood.moves.bins import Values, expected_noise, vector_distance

# Factors between units that people mix up, with what they mean.
UNITS: Mapping[float, str] = {
    10.0: "a decimal place",
    100.0: "cents or per cent",
    1000.0: "thousands, or milli",
    1e6: "millions",
    1e9: "nano",
    1024.0: "kibi",
    12.0: "months to a year",
    7.0: "days to a week",
    24.0: "hours to a day",
    60.0: "seconds or minutes",
    3600.0: "seconds to an hour",
    365.0: "days to a year",
    1.60934: "miles and km",
    1.15078: "knots and mph",
    1.852: "knots and km/h",
    3.6: "m/s and km/h",
    2.23694: "m/s and mph",
    2.54: "inches and cm",
    25.4: "inches and mm",
    0.3048: "feet and m",
    0.45359237: "pounds and kg",
    28.3495: "ounces and g",
    3.78541: "gallons and litres",
    4.184: "calories and joules",
    33.8639: "inHg and hPa",
    57.29578: "radians and degrees",
}
AFFINE = (
    (5 / 9, -160 / 9, "°F to °C"),
    (9 / 5, 32.0, "°C to °F"),
    (1.0, 273.15, "°C to K"),
    (1.0, -273.15, "K to °C"),
)
EXPLAINED = 0.85  # of the total variation above noise
_STEEP = 7.0  # below it a mixture of two units looks like any drift
_ENOUGH = 500  # values on either side: below it any small drift fits a shift
_MIDDLE = np.linspace(0.05, 0.95, 37)
_ENDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.98, 0.99, 0.995, 0.9975, 0.999)


@dataclass(frozen=True)
class Shift:
    """A way from one column's values to the other's.

    `kind`: rounded, factor, shift, unit (factor and shift of a known pair of units), sign,
    clock (a shift modulo `modulo`), value, clipped, cut, or drift.
    `amount` holds its parameters. `share`: of the other's values that it
    concerns. `explained`: of the distance above noise, 0 to 1.
    """

    kind: str
    amount: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    explained: float = 0.0


def known_unit(factor: float, within: float = 0.004) -> tuple[float, str] | None:
    """The known factor, or its inverse, that a measured one is within `within` of, and what it means."""
    for unit, meaning in UNITS.items():
        for each in (unit, 1 / unit):
            if abs(factor / each - 1) < within:
                return each, meaning
    return None


def explain(one: Values, other: Values) -> Shift:
    """The way from `one` to `other` (samples, no missing values, at least 30 each) that explains most."""
    grid = _grid(one, other)
    target = _laid(other, grid)
    before = _apart(_laid(one, grid), target)
    if before <= 0 or min(len(one), len(other)) < 30:
        return Shift("drift", _drift(one, other))
    tried = []
    for place, (shift, made) in enumerate(_candidates(one, other)):
        explained = 1 - _apart(_laid(made, grid), target) / before
        tried.append((explained - 0.002 * place, replace(shift, explained=explained)))  # the simpler of two equals
    mixed = _mixture(one, other, grid, target, before)
    if mixed:
        tried.append((mixed.explained - 0.1, mixed))
    for _, shift in sorted(tried, key=lambda t: -t[0]):
        if shift.explained >= EXPLAINED and _is_plausible(shift, one, other):
            return shift
    return Shift("drift", _drift(one, other))


def _grid(one: Values, other: Values) -> Values:
    """Bins of equal weight in both together, finer at the ends, a bin for each heavy value."""
    cuts = np.concatenate([np.linspace(0.05, 0.95, 19), _ENDS])
    edges = [np.quantile(side, cuts, method="higher") for side in (one, other)]
    heavy = [_heavy(side) for side in (one, other)]
    alone = np.concatenate(heavy)
    return np.unique(np.concatenate([*edges, alone, np.nextafter(alone, -np.inf)]))


def _heavy(values: Values) -> Values:
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts)[:12]
    kept: Values = found[order][counts[order] > max(4, 0.01 * len(values))]
    return kept


def _laid(values: Values, grid: Values) -> Values:
    counted: Values = np.bincount(np.searchsorted(grid, values, side="left"), minlength=len(grid) + 1)
    return counted.astype(float)


def _apart(a: Values, b: Values) -> float:
    """Total variation above the noise of two samples."""
    if not a.sum() or not b.sum():
        return 1.0
    apart = float(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
    return max(0.0, apart - expected_noise(a, b))


def _candidates(one: Values, other: Values) -> Iterator[tuple[Shift, Values]]:
    """Ways to be tried, the simple ones first, each with the reference's sample as it would then look."""
    yield from _value(one, other)
    yield from _ends(one, other)
    yield from _clock(one, other)
    yield from _coarser(one, other)
    at_one, at_other = (np.quantile(side, _MIDDLE) for side in (one, other))
    factor = _factor(one, other, at_one, at_other)
    if factor:
        steep = max(factor, 1 / factor) >= _STEEP
        known = known_unit(factor, max(0.004, min(0.15 if steep else 0.03, 3 * _unsure(one, other))))
        for each in ([known[0]] if known else []) + [factor]:
            yield Shift("factor", {"factor": each, **_meaning(each)}), one * each
    step, unsure = _step(at_one, at_other, 1 / len(one) + 1 / len(other))
    for each in dict.fromkeys((_round_number(step, unsure), step)):
        if each:
            yield Shift("shift", {"shift": each}), one + each
    yield Shift("sign", {"factor": -1.0}), -one
    for slope, added, meaning in AFFINE:
        yield Shift("unit", {"factor": slope, "shift": added, "meaning": meaning}), one * slope + added


def _meaning(factor: float) -> dict[str, str]:
    known = known_unit(factor)
    return {"meaning": known[1]} if known else {}


def _factor(one: Values, other: Values, at_one: Values, at_other: Values) -> float | None:
    """The middle ratio of quantiles of the same sign, if there are enough to tell; None without one."""
    size = np.median(np.abs(at_one))
    usable = (at_one * at_other > 0) & (np.abs(at_one) > 0.05 * size)
    if usable.sum() < 8:
        return None
    ratio = float(np.exp(np.median(np.log(at_other[usable] / at_one[usable]))))
    return ratio if abs(ratio - 1) > 1e-3 else None


def _unsure(one: Values, other: Values) -> float:
    """The standard error of a factor between two samples, as a share of it."""
    low, middle, high = (abs(float(q)) for q in np.quantile(one, [0.25, 0.5, 0.75]))
    wide = (high - low) / middle if middle else 1.0
    return abs(wide) * math.sqrt(1 / len(one) + 1 / len(other))


def _step(at_one: Values, at_other: Values, per_row: float) -> tuple[float, float]:
    """The shift between quantiles and its standard error, by the quantiles that lie densest: they are known best."""
    gaps = np.maximum(np.gradient(at_one), 0.05 * max(float(np.median(np.gradient(at_one))), 1e-12))
    unsure = np.sqrt(_MIDDLE * (1 - _MIDDLE) * per_row) * gaps / (_MIDDLE[1] - _MIDDLE[0])
    steps, weights = at_other - at_one, 1 / unsure**2
    order = np.argsort(steps)
    middle = int(np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2))
    return float(steps[order][min(middle, len(steps) - 1)]), float(unsure.min())


def _round_number(step: float, unsure: float) -> float:
    """The shift as a person would have made it: rounded as far as its uncertainty lets us."""
    digits = -math.floor(math.log10(unsure))
    for fewer in (digits - 2, digits - 1, digits):
        rounded = round(step, fewer)
        if rounded and abs(rounded - step) <= 2 * unsure:
            return float(rounded)
    return step


def _value(one: Values, other: Values) -> Iterator[tuple[Shift, Values]]:
    """One exact value that grew at the cost of all others: a default, a sentinel, a stuck sensor."""
    for value in _heavy(other):
        share_one, share_other = float(np.mean(one == value)), float(np.mean(other == value))
        grown = (share_other - share_one) / (1 - share_one) if share_one < 1 else 0.0
        if grown < 0.005 or share_other < 2 * share_one:
            continue
        # spread evenly over the sample, so that nothing is drawn at random
        made = one.copy()
        made[(np.arange(len(one)) * grown) % 1.0 + grown > 1.0] = value
        yield Shift("value", {"value": float(value), "share_before": share_one, "share_now": share_other}, grown), made


def _ends(one: Values, other: Values) -> Iterator[tuple[Shift, Values]]:
    """Values beyond a limit became the limit (clipped), or their rows are gone (cut)."""
    low, high = float(other.min()), float(other.max())
    for name, limit, beyond in (("above", high, one > high), ("below", low, one < low)):
        lost = float(beyond.mean())
        if lost < 0.005:
            continue
        piled = float(np.mean(other == limit) - np.mean(one == limit))
        if piled > 0.5 * lost:
            yield Shift("clipped", {"limit": limit, "side": name}, lost), np.where(beyond, limit, one)
        elif len(one[~beyond]) >= 30:
            yield Shift("cut", {"limit": limit, "side": name}, lost), one[~beyond]


def _clock(one: Values, other: Values) -> Iterator[tuple[Shift, Values]]:
    """A shift that goes round: hours of a day, minutes of an hour, days of a week."""
    low, high = min(one.min(), other.min()), max(one.max(), other.max())
    for modulo in (24, 60, 7):
        if low == 0 and high == modulo - 1 and np.all(one == np.floor(one)) and np.all(other == np.floor(other)):
            at_one, at_other = (np.bincount(side.astype(int), minlength=modulo) / len(side) for side in (one, other))
            fit = [float(np.abs(np.roll(at_one, k) - at_other).sum()) for k in range(modulo)]
            step = int(np.argmin(fit))
            if step:
                signed = step if step <= modulo // 2 else step - modulo
                yield Shift("clock", {"shift": float(signed), "modulo": float(modulo)}), (one + step) % modulo


def _coarser(one: Values, other: Values) -> Iterator[tuple[Shift, Values]]:
    """Values put on a coarser grid: to the nearest, or down to the next."""
    fine, coarse = grain(one), grain(other)
    if coarse is None or (fine is not None and coarse <= 1.5 * fine):
        return
    finer = float(np.mean(np.abs(one / coarse - np.round(one / coarse)) > 1e-6))
    if finer > 0.1:
        for way, turn in (("nearest", np.round), ("down", np.floor)):
            amount = {"step": coarse, "before": fine, "way": way}
            yield Shift("rounded", amount, finer), turn(one / coarse) * coarse


def _mixture(one: Values, other: Values, grid: Values, target: Values, before: float) -> Shift | None:
    """A share of the rows was multiplied by a known factor, or lost its sign; None if no such share explains it."""
    plain, aim = _laid(one, grid) / len(one), target / len(other)
    best: Shift | None = None
    tried = [f for unit in UNITS if unit >= _STEEP for f in (unit, 1 / unit)]
    for factor in [*tried, -1.0]:
        turned = _laid(one * factor, grid) / len(one)
        way = turned - plain
        share = min(1.0, float((aim - plain) @ way) / max(float(way @ way), 1e-12))
        if not 0.005 <= share <= 0.85:  # all but a few: that is the whole column, and estimated as such
            continue
        made = (plain + share * way) * len(one)
        explained = 1 - _apart(made, target) / before
        if best is None or explained > best.explained:
            kind = "sign" if factor < 0 else "factor"
            best = Shift(kind, {"factor": factor, **(_meaning(factor) if factor > 0 else {})}, share, explained)
    return best


def _is_plausible(found: Shift, one: Values, other: Values) -> bool:
    """Counts that grew are growth: a factor keeps the lattice, and what is not a known unit must fit to the noise."""
    if found.kind not in ("factor", "shift") or found.share < 1:
        return True
    factor, step = float(found.amount.get("factor", 1.0)), float(found.amount.get("shift", 0.0))
    if found.kind == "factor" and all(np.all(side == np.floor(side)) for side in (one, other)):
        whole = round(factor if factor >= 1 else 1 / factor)
        is_lattice = np.mean(np.mod(other if factor >= 1 else one, whole) == 0) > 0.99
        return abs(max(factor, 1 / factor) / whole - 1) < 1e-6 and bool(is_lattice)
    if "meaning" in found.amount:
        return True
    if min(len(one), len(other)) < _ENOUGH or (found.kind == "factor" and abs(math.log(factor)) < 0.05):
        return False
    made = one * factor + step
    grid = _grid(made, other)
    return vector_distance(_laid(made, grid), _laid(other, grid)).p > 1e-4


def _drift(one: Values, other: Values) -> dict[str, Any]:
    """The middle of both, and their ratio where it makes sense."""
    before, now = (float(np.median(side)) if len(side) else math.nan for side in (one, other))
    told: dict[str, Any] = {"median_before": before, "median_now": now}
    if before * now > 0:
        told["factor"] = now / before
    return told


def grain(values: Values) -> float | None:
    """The coarsest of 1, 2, 5 × 10^k, k from -9 to 6, of which 99.5 % of the values are multiples; None without one."""
    nonzero = values[values != 0]
    if len(nonzero) < 30:
        return None
    most = 0.005 * len(nonzero)
    for exponent in range(6, -10, -1):
        for step in (5.0, 2.0, 1.0):
            size = step * 10.0**exponent
            # the first rows alone may show too many that are off
            if _off_grid(nonzero[:500], size) <= most and _off_grid(nonzero, size) <= most:
                return size
    return None


def _off_grid(values: Values, size: float) -> int:
    """How many values, none of them 0, are no multiples of a size; what is far smaller than it is none either."""
    ratio = values / size
    whole = np.round(ratio)
    is_on = (whole != 0) & (np.abs(ratio - whole) < 1e-6 * np.maximum(1, np.abs(ratio) * 1e-6))
    return len(values) - int(np.count_nonzero(is_on))
