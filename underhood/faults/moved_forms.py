"""Names what was done to a column from two samples of it, before and after: no row is known twice, only the two crowds.

Each form says which values show it, what takes it back, and how much of the
distance it explains. What no form explains is drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form, decimals_lost, mark_again
from underhood.faults.moved_few import (
    ENOUGH,
    Found,
    Past,
    decimals_of,
    equal_to,
    is_code,
    odd_move,
    rounded,
    stuck_moves,
    thin,
)
from underhood.faults.moved_scales import another_scale, piecewise
from underhood.moves.bins import expected_noise
from underhood.moves.shifts import UNITS, Shift, explain
from underhood.plan.exprs import col, when

FULL = 0.98  # share of one value: nothing else is left
FITS = 0.8  # share of the distance, above noise, that a form must explain
CLEAR = 0.03  # share of rows that would have to move; what moved less is not named
STEEP, STEEP_MOVED = 5.0, 0.5  # a factor beyond all drift, and how far it moves most rows
PIECES, RUNS = 20, 3.0  # of either sample, whose shares tell how unsure the share of all is; so many standard errors
NEAR = 250  # rows on either side of a change that no season parts
CURVED = 0.15  # share of rows that would have to move before a curve is told
HARDLY = 0.5  # share of the values that must have been no multiples of a factor before all of them are
SEASON = 0.25  # of the distance a steep factor may leave to the season
OUTSIDE = 0.3  # share of rows outside all of the past that no season makes
KINDS: Mapping[str, str] = {
    "factor": "unit change",
    "unit": "unit change",
    "sign": "unit change",
    "shift": "shift",
    "clock": "time zone",
    "value": "sentinel fill",
    "rounded": "precision loss",
}


def number_moves(name: str, before: Array, after: Array, past: Past) -> Iterator[Found]:
    """Forms of a number, likeliest first. Samples may hold NaN; a missing value is a value of its own."""
    missing = missing_move(name, np.isnan(before), np.isnan(after))
    if missing is not None:
        yield missing
    one, other = (thin(side[~np.isnan(side)]) for side in (before, after))
    if min(len(one), len(other)) < ENOUGH:
        return
    frozen = _frozen(name, one, other, past)
    if frozen is not None:
        yield frozen
        return
    capped = _capped(name, one, other)
    if capped is not None:
        yield capped
    fits = list(_fits(name, one, other, past))
    yield from fits
    beyond = _beyond(name, one, other, past)
    if beyond is not None:
        yield beyond
    scale = None if fits else another_scale(name, (one, past.values), other, past.low, past.high)
    if scale is not None and _is_scaled(scale, (one, past.values), other):
        yield Found(scale, lambda v: ~np.isnan(v), is_new=True)
    odd = odd_move(name, one, other, past)
    if odd is not None:
        yield odd
    told = None if capped is None else capped.form.parameters["at"]
    yield from (f for f in stuck_moves(name, before, after, past) if f.form.parameters["value"] != told)


def missing_move(name: str, before: Array, after: Array) -> Found | None:
    """Values are missing that were there; null if not more than usual. Takes flags, in order of time."""
    was, now = float(before.mean()), float(after.mean())
    grown = now - was
    alone = math.sqrt(max(was * (1 - was), 1 / len(before)) * (1 / len(before) + 1 / len(after)))
    in_runs = math.hypot(_unsure(before), _unsure(after))
    if grown < CLEAR / 3 or after.sum() < ENOUGH or grown < max(6 * alone, RUNS * in_runs):
        return None
    if now < 2 * was and grown < 0.1:
        return None
    row = col(f"row.{name}")
    says = f"{name} is missing in {now:.1%} of the rows, before in {was:.1%}"
    return Found(Form("missing values", says, None, {"share": round(grown, 3)}), is_missing, row.is_null())


def _unsure(flags: Array) -> float:
    """The standard error of a share whose rows come in runs, by the means of pieces of time (Conway 1963)."""
    means = [float(piece.mean()) for piece in np.array_split(flags, PIECES) if len(piece)]
    return float(np.std(means)) / math.sqrt(max(1, len(means) - 1))


def is_missing(values: Array) -> Array:
    """Which values are null: NaN among numbers, None among texts."""
    if values.dtype == object:
        return np.array([v is None for v in values.tolist()], dtype=bool)
    missing: Array = np.isnan(values)
    return missing


def _is_scaled(scale: Form, befores: Sequence[Array], other: Array) -> bool:
    """Whether a line leads from what was to what is, but for what a season leaves; two crowds have one between them."""
    factor, offset = scale.parameters["factor"], scale.parameters["offset"]
    pairs = [(befores[0][-NEAR:], other[:NEAR]), *((one, other) for one in befores)]
    return min(distance_of(one * factor + offset, now) for one, now in pairs) <= SEASON


def _frozen(name: str, one: Array, other: Array, past: Past) -> Found | None:
    values, counts = np.unique(other, return_counts=True)
    value = float(values[counts.argmax()])
    if (
        counts.max() < FULL * len(other)
        or len(other) < ENOUGH
        or np.unique(one, return_counts=True)[1].max() > 0.8 * len(one)
    ):
        return None
    usual = float(np.median(one))
    inside = past.low <= value <= past.high and not is_code(value, one)
    form = Form(
        "frozen column" if inside else "sentinel fill",
        f"{name} is always {value:g}, and was {usual:g} in the middle of many values",
        None,
        {"value": value},
    )
    return Found(form, lambda v: v == value, col(f"row.{name}") == value)


def _capped(name: str, one: Array, other: Array) -> Found | None:
    """Values beyond one value have become it: as many stand on it as lay beyond, and next to none lie there.

    Where hardly any stood on it before, the others may have drifted meanwhile.
    """
    if len(np.unique(one)) < ENOUGH:
        return None
    values, counts = np.unique(other, return_counts=True)
    for value, count in sorted(zip(values, counts, strict=True), key=lambda v: -v[1])[:3]:
        for above in (True, False):
            was, now = ((s > value if above else s < value) for s in (one, other))
            lost, left = float(was.mean()), float(now.mean())
            stood = float((one == value).mean())
            grown = count / len(other) - stood
            if 1 - lost - stood < CLEAR:
                continue  # nothing was on the other side: it keeps no value as it was
            is_new = stood < 0.1 * grown
            low, high = (0.4, 2.5) if is_new else (0.6, 1.6)
            if lost < CLEAR or lost * len(other) < ENOUGH or left > 0.05 * lost or not low * lost < grown < high * lost:
                continue
            rest = [one[~was & (one != value)], other[~now & (other != value)]]
            if not is_new and min(map(len, rest)) >= 30 and distance_of(*rest) > 0.5 * lost:
                continue
            row, beyond = col(f"row.{name}"), float(np.median(one[was]))
            form = Form(
                "clipped",
                f"{name} is cut off at {value:g}",
                when(row == float(value), beyond, row),
                {"at": float(value)},
            )
            return Found(form, equal_to(float(value)), row == float(value))
    return None


# --- all rows, or a share of them, as one simple function of what they were ---


def distance_of(one: Array, other: Array) -> float:
    """Total variation between two samples in bins of equal weight of both, above the noise of such samples."""
    one, other = thin(one), thin(other)
    cuts = np.linspace(0.02, 0.98, 33)
    edges = np.unique(np.concatenate([np.quantile(side, cuts, method="higher") for side in (one, other)]))
    a, b = (
        np.bincount(np.searchsorted(edges, s, side="left"), minlength=len(edges) + 1).astype(float)
        for s in (one, other)
    )
    apart = float(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
    return max(0.0, apart - expected_noise(a, b))


def _fits(name: str, one: Array, other: Array, past: Past) -> Iterator[Found]:
    total = distance_of(one, other)
    if total < CLEAR or min(len(one), len(other)) < 30:
        return
    comma = _comma(name, one, other, total)
    steep = _steep(name, one, other, past, total)
    found = steep if steep is not None else _of_shift(name, explain(one, other), one, other)
    if found is not None and comma is not None:
        better = comma.explained > found.explained
        first, second = (comma, found) if better else (found, comma)
        yield Found(first.form, first.shows, first.rows, first.explained, (second.form.says,))
    elif comma is not None or found is not None:
        yield comma or found  # type: ignore[misc]


def _steep(name: str, one: Array, other: Array, past: Past, total: float) -> Found | None:
    """A factor between known units that no season makes: values come back to their range, and to their grid."""
    if total < STEEP_MOVED:
        return None
    tried = []
    for factor in {f for unit in UNITS if unit >= STEEP for f in (unit, 1 / unit)}:
        back = other / factor
        if past.grain is not None and _off(back, past.grain) > 0.02:
            continue
        if past.grain is not None and factor < 1 and _off(other, past.grain) < 0.02:
            continue  # it was on the grid all the time
        tried.append((min(distance_of(one, back), distance_of(past.values, back)), factor))
    tried.sort()
    on_grid = _on_coarser_grid(one, other, past, [factor for _, factor in tried])
    if on_grid is not None:
        tried.sort(key=lambda t: t[1] != on_grid)
    elif not tried or tried[0][0] > SEASON * total:
        return None
    left, factor = tried[0]
    shown = float(f"{factor:.6g}")
    meaning = next(m for u, m in UNITS.items() if factor in (u, 1 / u))
    form = Form("unit change", f"{name} × {shown:g} ({meaning})", col(f"row.{name}") / factor, {"factor": shown})
    rivals = tuple(f"× {f:g}" for d, f in tried[1:2] if d < SEASON * total)
    return Found(form, lambda v: ~np.isnan(v), None, 1 - left / total, rivals)


def _on_coarser_grid(one: Array, other: Array, past: Past, factors: Sequence[float]) -> float | None:
    """The largest factor of which all values are multiples now, and hardly any were; null if there is none.

    What is written in whole numbers shows its factor in each of them, however far a season took it meanwhile. What is
    rounded stays where it was: the values must have come nearer to the factor times what was than to what was.
    """
    middles = np.median(one[one != 0]) if (one != 0).any() else 0.0, np.median(other)
    if past.grain is None or min(middles) <= 0:
        return None
    came = math.log(middles[1] / middles[0])
    for factor in sorted((f for f in factors if f >= STEEP), reverse=True):
        if _off(other, past.grain * factor) > 0.02 or _off(one, past.grain * factor) < HARDLY:
            continue
        inside = (other / factor >= past.low) & (other / factor <= past.high)
        if inside.mean() >= FITS and abs(came - math.log(factor)) < abs(came):
            return factor
    return None


def _off(values: Array, step: float) -> float:
    """The share of values that are not on a grid; to within how an exact factor is written."""
    ratio = values[:2000] / step
    return float((np.abs(ratio - np.round(ratio)) > 2e-4 * np.maximum(1.0, np.abs(ratio))).mean())


def _comma(name: str, one: Array, other: Array, total: float) -> Found | None:
    if (other != np.round(other)).any() or (one != np.round(one)).mean() < 0.05:
        return None
    made = decimals_lost(one)
    explained = 1 - distance_of(made, other) / total
    if explained < (SEASON if total >= STEEP_MOVED else FITS) or len(np.unique(made[one != 0] / one[one != 0])) < 2:
        return None
    says = f"{name} has lost its decimal mark: 12.5 has become 125"
    factor = decimals_of(one)
    form = Form("decimal comma", says, mark_again(name, factor), {"factor": factor})
    return Found(form, lambda v: ~np.isnan(v), None, explained)


def _of_shift(name: str, shift: Shift, one: Array, other: Array) -> Found | None:
    kind = KINDS.get(shift.kind)
    if kind is None or not _is_large(shift, one):
        return None
    if kind in ("shift", "unit change") and min(len(np.unique(one)), len(np.unique(other))) < ENOUGH:
        return None  # a few numbers are levels: their next one is no shift
    row, amount = col(f"row.{name}"), dict(shift.amount)
    everyone = lambda v: ~np.isnan(v)  # noqa: E731
    if shift.kind in ("factor", "sign") and shift.share < 1:
        return None  # which rows those are is told by what no row was before
    if shift.kind in ("factor", "sign"):
        factor = float(f"{amount['factor']:.6g}")
        meaning = f" ({amount['meaning']})" if "meaning" in amount else ""
        form = Form(kind, f"{name} × {factor:g}{meaning}", row / factor, {"factor": factor})
    elif shift.kind == "unit":
        factor, offset = amount["factor"], amount["shift"]
        form = Form(
            kind,
            f"{name} × {factor:g} {offset:+g} ({amount['meaning']})",
            (row - offset) / factor,
            {"factor": factor, "offset": offset},
        )
    elif shift.kind == "shift":
        form = Form(kind, f"{name} {amount['shift']:+g}", row - amount["shift"], {"shift": amount["shift"]})
    elif shift.kind == "clock":
        modulo, step = amount["modulo"], amount["shift"]
        form = Form(
            kind,
            f"{name} {step:+g} of {modulo:g}",
            (row - step + 2 * modulo) % modulo,
            {"shift": step, "modulo": modulo},
        )
    elif shift.kind == "value":
        value = amount["value"]
        if amount["share_before"] > 0.1 * amount["share_now"]:
            return None  # a value that was usual before is more usual now: that may be another mix
        form = Form(
            kind,
            f"{name} is {value:g} in {amount['share_now']:.1%} of the rows, before in {amount['share_before']:.1%}",
            None,
            {"value": value},
        )
        return Found(form, lambda v: v == value, row == value, shift.explained)
    else:
        step, way = amount["step"], "down" if amount["way"] == "down" else "to the nearest"
        middle = row + step / 2 if way == "down" else row
        form = Form(kind, f"{name} is rounded {way} to steps of {step:g}", middle, {"step": step, "way": way})
    return Found(form, everyone, None, shift.explained)


def _is_large(shift: Shift, one: Array) -> bool:
    """Whether a shift or factor is more than what values do by themselves: half of their own middle width."""
    low, high = np.quantile(one, [0.25, 0.75])
    width = max(float(high - low), 1e-12)
    if shift.kind == "shift":
        return abs(float(shift.amount["shift"])) >= 0.25 * width
    if shift.kind == "factor":
        return abs(math.log(float(shift.amount["factor"]))) >= math.log(1.25)
    return True


def sudden_moves(name: str, one: Array, other: Array) -> Iterator[Found]:
    """Forms of a number that changed at once and alone, from the rows right before and right behind.

    What no shift or factor explains follows another curve.
    """
    total = distance_of(one, other) if min(map(len, (one, other))) >= 30 else 0.0
    if total < CURVED or min(len(np.unique(side)) for side in (one, other)) < ENOUGH:
        return
    at = np.linspace(0.1, 0.9, 17)
    steps = np.quantile(other, at) - np.quantile(one, at)
    width = float(np.subtract(*np.quantile(one, [0.75, 0.25])))
    row, left = col(f"row.{name}"), SEASON if total >= STEEP_MOVED else 1 - FITS
    for step in dict.fromkeys((rounded(float(np.median(steps)), width), float(np.median(steps)))):
        if abs(step) >= 0.25 * width and distance_of(one + step, other) <= left * total:
            form = Form("shift", f"{name} {step:+g}", row - step, {"shift": step})
            yield Found(form, lambda v: ~np.isnan(v), None, 1 - distance_of(one + step, other) / total)
            return
    is_fine = len(np.unique(one)) >= 30 and len(np.unique(other)) >= 15
    # a count that moves stays a count
    if is_fine or np.isin(other, one, invert=True).mean() >= OUTSIDE:
        says = f"{name} follows another curve than before, and nothing else changed with it"
        yield Found(
            Form("upstream change", says, piecewise(name, one, other), {"way": "rises"}), lambda v: ~np.isnan(v)
        )


def _beyond(name: str, one: Array, other: Array, past: Past) -> Found | None:
    """A constant was added that takes many rows out of the past's whole range, and off it comes back into it."""
    width = max(past.high - past.low, 1e-12)
    out = (other < past.low - 0.02 * width) | (other > past.high + 0.02 * width)
    if out.mean() < OUTSIDE or min(len(one), len(other)) < 30:
        return None
    total = distance_of(one, other)
    at = (0.002, 0.01, 0.25, 0.5, 0.75, 0.99, 0.998)
    steps = [float(b - a) for a, b in zip(np.quantile(one, at), np.quantile(other, at), strict=True)]
    steps += [float(other.min() - past.low), float(other.max() - past.high)]
    tried = []
    for step in {v for s in steps for v in (s, rounded(s, width))}:
        back = other - step
        if ((back >= past.low - 0.01 * width) & (back <= past.high + 0.01 * width)).mean() >= 0.97:
            tried.append((min(distance_of(one, back), distance_of(past.values, back)), len(f"{step:.6g}"), step))
    if not tried or min(tried)[0] > SEASON * total:
        return None
    left, _, step = min(tried)
    form = Form("shift", f"{name} {step:+g}", col(f"row.{name}") - step, {"shift": step})
    return Found(form, lambda v: ~np.isnan(v), None, 1 - left / max(total, 1e-9), (), True, True)
