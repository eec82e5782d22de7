"""Values in another unit than the rest of their group, and values that stand in each other's column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.places import degrees_of
from underhood.signs.seen import Array, Levels, Numbers, Seen, literal, one_of, shown
from underhood.signs.signs_values import is_identifier

FEWEST = 50  # numbers
MOST_ROWS = 0.4  # share of rows in the other unit: beyond it nobody knows which is the other one
MOST_GROUPED = 0.02  # of rows that may stand out of their groups
MOST_COLUMNS = 30
FEWEST_GROUPED = 12  # values of a group that is held against the others
MOST_SWAPPED = 0.1  # of rows
TIGHT = 0.06  # decades: the usual spread of a group whose values are alike

# What one unit is in another: decimal places, and the usual pairs of measures.
FACTORS = {10: "", 100: "", 1000: "", 10_000: "", 1_000_000: "", 2.54: "inches and cm", 12: "months and years",
           24: "days and hours", 60: "minutes and seconds", 3600: "hours and seconds", 1.609: "miles and km",
           2.2046: "kg and pounds", 3.2808: "metres and feet", 30.48: "feet and cm", 28.35: "ounces and grams",
           453.6: "pounds and grams", 7: "weeks and days", 365.25: "years and days", 1024: "kB and bytes"}  # fmt: skip


def unit_findings(seen: Seen) -> Iterator[Finding]:
    """Clusters and single values that are off by a factor, and rows with two values swapped."""
    measured = [n for n in seen.numbers.values() if n.n >= FEWEST and len(n.values) >= 10 and not degrees_of(n)]
    for numbers in measured:
        found = list(_cluster(seen, numbers))
        yield from found or ([] if is_identifier(numbers) else _beside_its_group(seen, numbers))
        if not found and not is_identifier(numbers):
            yield from _whole_groups(seen, numbers)
    yield from _swapped_numbers(seen, measured[:MOST_COLUMNS])
    yield from _swapped_texts(seen)


def _cluster(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """A second cluster, apart from the first by an empty gap and a factor between two units."""
    if numbers.values[0] <= 0:
        return
    logs = np.log10(numbers.values)
    gaps = np.diff(logs)
    place = int(np.argmax(gaps))
    below, above = numbers.counts[: place + 1], numbers.counts[place + 1 :]
    few = min(int(below.sum()), int(above.sum()))
    if (
        gaps[place] < 0.25
        or not max(5, 0.002 * numbers.n) <= few <= MOST_ROWS * numbers.n
        or min(len(below), len(above)) < 4
    ):
        return
    low, high = np.repeat(logs[: place + 1], below), np.repeat(logs[place + 1 :], above)
    spread = max(float(np.std(low)), float(np.std(high)), 0.01)
    factor = 10 ** float(np.median(high) - np.median(low))
    known = _known(factor, spread / math.sqrt(few))
    if (
        known is None
        or spread > 0.5 * float(gaps[place])
        or not 0.3 < (np.std(low) + 0.005) / (np.std(high) + 0.005) < 3
    ):
        return
    if FACTORS[known] and not _same_shape(low, high):
        return  # two kinds of things, such as two kinds of engines
    is_low = below.sum() < above.sum()
    edge = float(numbers.values[place])
    column = numbers.sql if numbers.is_text else quoted(numbers.column)
    where = f"{column} {'<=' if is_low else '>'} {literal(edge)}"
    why = f", as {FACTORS[known]} are" if FACTORS[known] else ""
    yield Finding(
        seen.name,
        (numbers.column,),
        "unit_or_scale",
        0.86,
        f"{{rows}} values lie in a cluster of their own around "
        f"{shown(float(10 ** np.median(low if is_low else high)))}, the others around "
        f"{shown(float(10 ** np.median(high if is_low else low)))}: apart by about {shown(float(known))}{why}",
        where,
        few,
        f"select * from {quoted(seen.name)} where {where}",
        "two units in one column: convert one of them, and put the unit into the contract",
    )


def _known(factor: float, slack: float) -> float | None:
    """The factor between two units that an observed one is nearest to, if it is near."""
    near = min(FACTORS, key=lambda f: abs(math.log10(f / factor)))
    return near if abs(math.log10(near / factor)) < min(max(0.015, 2.5 * slack), 0.03) else None


def _same_shape(low: Array, high: Array) -> bool:
    """Whether two clusters differ by their place only, by the two-sample test of Kolmogorov and Smirnov at 1 %."""
    a, b = np.sort(low - np.median(low)), np.sort(high - np.median(high))
    at = np.concatenate([a, b])
    apart = np.searchsorted(a, at, side="right") / len(a) - np.searchsorted(b, at, side="right") / len(b)
    return float(np.max(np.abs(apart))) <= 1.63 * math.sqrt((len(a) + len(b)) / (len(a) * len(b)))


def _beside_its_group(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """Values ten, a hundred or a thousand times what all others of their group are."""
    if numbers.values[0] < 0 or (numbers.values > 0).sum() < 10:
        return
    with np.errstate(divide="ignore"):
        logs = np.where(numbers.all > 0, np.log10(np.abs(numbers.all)), np.nan)
    for group in _groupings(seen, numbers.column):
        residual = _residuals(seen, numbers, group, logs)
        if residual is None:
            continue
        tight = 1.4826 * float(np.nanmedian(np.abs(residual)))
        if not 0 < tight < TIGHT and not (tight == 0 and np.nanstd(residual) > 0):
            continue
        decades = np.round(residual)
        off = (np.abs(decades) >= 1) & (np.abs(residual - decades) < max(0.05, 2.5 * tight))
        n = int(np.nansum(off))
        between = 1.4826 * float(np.nanmedian(np.abs(logs - np.nanmedian(logs))))
        if not 0 < n <= max(1, MOST_GROUPED * numbers.n) or between < 3 * tight:
            continue
        others = (np.abs(residual) > 0.45) & ~off
        if others.any():
            continue
        values = np.unique(numbers.all[off])[:200]
        column = numbers.sql if numbers.is_text else quoted(numbers.column)
        table, g = quoted(seen.name), quoted(group)
        median = f"(select median({column}) from {table} o where o.{g} = {table}.{g})"
        where = f"{one_of(column, values.tolist())} and abs(log10({column} / {median})) > 0.7"
        yield Finding(
            seen.name,
            (numbers.column,),
            "unit_or_scale",
            0.74,
            f"{{rows}} values of {numbers.column} are about {10 ** int(abs(decades[off][0]))} times as "
            f"{'large' if decades[off][0] > 0 else 'small'} as the others of their {group}, "
            f"such as {shown(float(numbers.all[off][0]))}",
            where,
            None,
            f"select * from {quoted(seen.name)} where {where}",
            "a lost or added decimal place: compare with the source",
        )
        return


def _whole_groups(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """Groups of which all values are ten, a hundred or a thousand times those of all other groups, spread alike."""
    if numbers.values[0] <= 0 or seen.held > 100_000 or len(numbers.all) != seen.held:
        return
    with np.errstate(invalid="ignore"):
        logs = np.log10(numbers.all)
    for group in _groupings(seen, numbers.column):
        parts = {g: logs[p] for g, p in _parts(seen, group, np.isfinite(logs)).items() if len(p) >= FEWEST_GROUPED}
        if len(parts) < 4 or sum(map(len, parts.values())) < 0.8 * numbers.n:
            continue
        middles = np.array([np.median(p) for p in parts.values()])
        spreads = np.array([np.std(p) for p in parts.values()])
        apart = middles - np.median(middles)
        decades = np.round(apart)
        odd = decades != 0
        if not 0 < odd.sum() <= max(1, 0.2 * len(odd)) or np.ptp(apart[~odd]) > 0.6:
            continue
        slack = 0.1 + np.ptp(apart[~odd]) / 4
        alike = np.abs(np.log(np.maximum(spreads[odd], 1e-9) / max(float(np.median(spreads)), 1e-9))) < 0.5
        if (np.abs(apart - decades)[odd] > slack).any() or not alike.all() or len({*decades[odd]}) > 1:
            continue
        names = [g for g, is_odd in zip(parts, odd, strict=True) if is_odd]
        where = one_of(f"{quoted(group)}::VARCHAR", names)
        times = 10 ** int(abs(decades[odd][0]))
        yield Finding(
            seen.name,
            (numbers.column,),
            "unit_or_scale",
            0.84,
            f"{numbers.column} is about {times:,} times as {'large' if decades[odd][0] > 0 else 'small'} where {group} "
            f"is {', '.join(names[:5])} ({{rows}} rows) as in the {len(parts) - len(names)} other groups",
            where,
            None,
            f"select {quoted(group)}, median({quoted(numbers.column)}) from {quoted(seen.name)} group by 1 order by 1",
            "two units in one column: convert one of them, and put the unit into the contract",
        )
        return


def _parts(seen: Seen, group: str, good: Array) -> dict[str, Array]:
    """The places of the good rows of each value of a column."""
    frame = seen.engine.frame(f"select {quoted(group)}::VARCHAR as g from {seen.copy} order by __row")
    names, codes = np.unique(np.array([str(g) for g in frame["g"]]), return_inverse=True)
    places = np.flatnonzero(good)[np.argsort(codes[good], kind="stable")]
    parts = np.split(places, np.flatnonzero(np.diff(codes[places])) + 1)
    return {str(names[codes[part[0]]]): part for part in parts if len(part)}


def _groupings(seen: Seen, column: str) -> list[str]:
    names = [c for c, x in seen.levels.items() if x.is_all and 3 <= len(x.counts) <= x.n / 8 and c not in seen.clocks]
    names += [c for c, x in seen.numbers.items() if x.is_whole and 3 <= len(x.values) <= x.n / 8 and not x.is_text]
    return [c for c in names if c != column][:6]


def _residuals(seen: Seen, numbers: Numbers, group: str, logs: Array) -> Array | None:
    """How far each value is from its group's median, in decades."""
    if len(numbers.all) != seen.held or seen.held > 100_000:
        return None
    good = np.isfinite(logs)
    residual = np.full(len(logs), np.nan)
    for part in _parts(seen, group, good).values():
        if len(part) >= 5:
            residual[part] = logs[part] - np.median(logs[part])
    return residual if np.isfinite(residual).sum() >= 0.5 * good.sum() else None


def _swapped_numbers(seen: Seen, measured: Sequence[Numbers]) -> Iterator[Finding]:
    """Rows in which each of two numbers lies where the other's usually do."""
    if len(measured) < 2:
        return
    ends = {n.column: (n.quantile(0.01), n.quantile(0.99)) for n in measured}
    for a, b in combinations(measured, 2):
        (a_low, a_high), (b_low, b_high) = ends[a.column], ends[b.column]
        often = _often_swapped(a, b)
        if often:
            where, n, first = often
            yield _swap(seen, (a.column, b.column), where, 0.86, first)
            continue
        if not (a_high < b_low or b_high < a_low):
            continue
        x, y = a.all, b.all
        both = (x >= b_low) & (x <= b_high) & (y >= a_low) & (y <= a_high)
        # far outside their own ranges, not just in a tail of theirs
        both &= (np.abs(x - (a_low + a_high) / 2) > 1.5 * (a_high - a_low)) & (y != x)
        both &= np.abs(y - (b_low + b_high) / 2) > (b_high - b_low)
        n = int(both.sum())
        if not 1 <= n <= MOST_GROUPED * len(x):
            continue
        first, second = (c.sql if c.is_text else quoted(c.column) for c in (a, b))
        where = (
            f"{first} between {literal(b_low)} and {literal(b_high)} "
            f"and {second} between {literal(a_low)} and {literal(a_high)}"
        )
        yield _swap(
            seen, (a.column, b.column), where, 0.86, f"{shown(float(x[both][0]))} and {shown(float(y[both][0]))}"
        )


def _often_swapped(a: Numbers, b: Numbers) -> tuple[str, int, str] | None:
    """The same when so many are swapped that they widen the tails: by the bulk of each, and always both at once."""
    (a_low, a_high), (b_low, b_high) = _bulk(a), _bulk(b)
    if not (a_high < b_low or b_high < a_low):
        return None
    x, y = a.all, b.all
    in_b, in_a = (x >= b_low) & (x <= b_high), (y >= a_low) & (y <= a_high)
    both = in_b & in_a
    n = int(both.sum())
    if not 3 <= n <= MOST_SWAPPED * len(x) or int((in_b ^ in_a).sum()) > n // 4:
        return None
    first, second = (c.sql if c.is_text else quoted(c.column) for c in (a, b))
    where = (
        f"{first} between {literal(b_low)} and {literal(b_high)} "
        f"and {second} between {literal(a_low)} and {literal(a_high)}"
    )
    return where, n, f"{shown(float(x[both][0]))} and {shown(float(y[both][0]))}"


def _bulk(numbers: Numbers) -> tuple[float, float]:
    """The middle four fifths, and half as much again on either side."""
    low, high = numbers.quantile(0.1), numbers.quantile(0.9)
    return low - (high - low) / 2, high + (high - low) / 2


def _swapped_texts(seen: Seen) -> Iterator[Finding]:
    """Rows in which each of two texts is a level of the other column, and not of its own."""
    kept = [x for x in seen.levels.values() if x.is_all and 2 <= len(x.counts) <= 2000 and x.n >= FEWEST]
    for a, b in combinations(kept[:MOST_COLUMNS], 2):
        usual_a, usual_b = _usual(a), _usual(b)
        if len(usual_a & usual_b) > 0.1 * min(len(usual_a), len(usual_b)):
            continue  # two columns of one kind, such as from and to
        odd_a = [v for v in a.counts if v in usual_b and v not in usual_a and not v.strip().isnumeric()]
        odd_b = [v for v in b.counts if v in usual_a and v not in usual_b]
        if not odd_a or not odd_b:
            continue
        where = f"{one_of(quoted(a.column), odd_a)} and {one_of(quoted(b.column), odd_b)}"
        if seen.count(where):
            yield _swap(seen, (a.column, b.column), where, 0.84, f"{odd_a[0]!r} and {odd_b[0]!r}")


def _usual(levels: Levels) -> set[str]:
    least = max(3, 0.005 * levels.n)
    return {v for v, n in levels.counts.items() if n >= least}


def _swap(seen: Seen, columns: tuple[str, str], where: str, severity: float, first: str) -> Finding:
    return Finding(
        seen.name,
        columns,
        "swapped_or_misaligned",
        severity,
        f"{columns[0]} and {columns[1]} are swapped in {{rows}} rows, such as {first}: each lies where the other's do",
        where,
        None,
        f"select * from {quoted(seen.name)} where {where}",
        "swap them back in these rows, and look for what wrote them",
    )
