"""Places on the map that cannot be meant: beyond the globe, at zero, with a lost sign, with swapped degrees."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.seen import Array, Numbers, Seen, literal

BOUNDS = {"latitude": 90.0, "longitude": 180.0}
_NAMES = {"latitude": {"lat", "latitude"}, "longitude": {"lon", "lng", "long", "longitude"}}
NEAR = 1.5  # degrees within which a place has company
MOST_SUSPECTS = 300


def degrees_of(numbers: Numbers) -> str:
    """Whether a column is a latitude or a longitude, by its name and by most of its values; else an empty text."""
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", numbers.column).lower()))
    for name, short in _NAMES.items():
        inside = numbers.counts[np.abs(numbers.values) <= BOUNDS[name]].sum()
        if words & short and inside >= 0.9 * numbers.n and not numbers.is_whole:
            return name
    return ""


def place_findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with the places of a table, one finding a column."""
    degrees = {c: name for c, n in seen.numbers.items() if n.n >= 20 and (name := degrees_of(n))}
    for column, name in degrees.items():
        other = next((c for c, n in degrees.items() if n != name and _stem(c) == _stem(column)), None)
        yield from _column(seen, seen.numbers[column], name, seen.numbers[other] if other else None)


def _stem(column: str) -> str:
    return re.sub(r"(?i)longitude|latitude|long|lng|lon|lat", "", column)


def _column(seen: Seen, numbers: Numbers, name: str, other: Numbers | None) -> Iterator[Finding]:
    column = numbers.sql if numbers.is_text else quoted(numbers.column)
    bound, values, counts = BOUNDS[name], numbers.values, numbers.counts
    parts, told = [], []
    if beyond := int(counts[np.abs(values) > bound].sum()):
        parts.append(f"abs({column}) > {bound:.0f}")
        told.append(f"{beyond:,} beyond ±{bound:.0f}")
    zeros = int(counts[values == 0].sum())
    if zeros and (numbers.quantile(0.05) > 1 or numbers.quantile(0.95) < -1 or zeros > 0.001 * numbers.n):
        parts.append(f"{column} = 0")
        told.append(f"{zeros:,} exactly 0")
    code = float(values[-1])
    if code == bound and counts[-1] >= 3 and numbers.quantile(0.99) < 0.9 * bound:
        parts.append(f"{column} = {literal(code)}")
        told.append(f"{int(counts[-1]):,} exactly {bound:.0f}")
    lost = _other_sign(numbers, other)
    if len(lost):
        parts.append(f"{column} in ({', '.join(literal(float(v)) for v in lost)})")
        told.append(f"{len(lost):,} with the other sign than nearly all, such as {lost[0]:g}")
    if not parts:
        return
    where = " or ".join(parts)
    yield Finding(
        seen.name,
        (numbers.column,),
        "out_of_range",
        0.85 if other or beyond or zeros else 0.6,
        f"a {name} cannot be right in {{rows}} rows: {', '.join(told)}",
        where,
        seen.count(where),
        f"select * from {quoted(seen.name)} where {where}",
        "look the places up; a lost sign or degrees in the wrong column are the usual causes",
    )


def _other_sign(numbers: Numbers, other: Numbers | None) -> Array:
    """Degrees whose sign few have, and whose place has no company there but would have with the usual sign.

    A territory overseas has the other sign too, and nobody at its mirrored place.
    """
    values = numbers.all
    few_are_minus = float((values < 0).sum()) < 0.5 * float(np.isfinite(values).sum())
    suspects = np.flatnonzero((values < 0) if few_are_minus else (values > 0))
    if not 0 < len(suspects) <= min(max(3, 0.02 * numbers.n), MOST_SUSPECTS) or abs(numbers.quantile(0.5)) < 5:
        return np.array([])
    if other is None:
        return np.unique(values[suspects])
    x, y = values, other.all
    rest = np.isfinite(x) & np.isfinite(y)
    rest[suspects] = False
    lost = [i for i in suspects if not _company(x, y, rest, x[i], y[i]) and _elsewhere(x, y, rest, x[i], y[i])]
    return np.unique(values[lost]) if lost else np.array([])


def _elsewhere(x: Array, y: Array, rest: Array, a: float, b: float) -> bool:
    """Whether a place has company with the other sign, or with its two degrees swapped."""
    tries = [(-a, b), (b, a), (-b, a), (b, -a), (-b, -a)]
    return any(_company(x, y, rest, p, q) >= 2 for p, q in tries)


def _company(x: Array, y: Array, rest: Array, a: float, b: float) -> int:
    return int((rest & (np.abs(x - a) < NEAR) & (np.abs(y - b) < NEAR)).sum())
