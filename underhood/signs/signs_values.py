"""Numbers that cannot be meant as they stand: codes, zeros for nothing, absurd values, wrong signs, caps, wrong units.

A finding needs a mechanism: a code far away from all else, a bound that is broken, a gap that
no tail has. A value that is rare, no more, is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.places import degrees_of
from underhood.signs.seen import Array, Numbers, Seen, literal, one_of, shown

FEWEST = 20  # numbers: below that nothing is said
NATURAL = frozenset({1, 7, 12, 23, 24, 31, 52, 53, 59, 60, 100, 359, 360, 365, 366, 2359, 2400})  # bounds, not caps
MEASURED = 10  # distinct values: below that a column is a code or a grade, not a measure


def value_findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with the numbers of each column."""
    for numbers in seen.numbers.values():
        if numbers.n < FEWEST:
            continue
        if len(numbers.values) < MEASURED:
            yield from _beside_a_ladder(seen, numbers)
            continue
        if degrees_of(numbers) or is_identifier(numbers):
            continue
        codes = list(_codes(seen, numbers))
        yield from codes
        if not codes:
            reversals = list(_reversals(seen, numbers))
            yield from reversals
            far = [] if reversals else list(_far_away(seen, numbers))
            yield from far
            if not any("below all else" in f.says for f in far):
                yield from _wrong_sign(seen, numbers)
        yield from _zero_for_nothing(seen, numbers)
        yield from _cap(seen, numbers)
        yield from _beyond_hundred(seen, numbers)


def is_identifier(numbers: Numbers) -> bool:
    """Whether whole numbers are nearly all different or named like an identifier: they measure nothing."""
    if not numbers.is_whole:
        return False
    by_name = re.search(r"(^|_|\s)(id|key|uuid|guid|zip|zipcode|postcode|phone)$", numbers.column.lower())
    return bool(by_name) or re.search(r"[a-z](ID|Id|Code|Key)$", numbers.column) is not None


def _codes(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """A value at the end of the range, repeated, far away from the next one."""
    values, counts = numbers.values, numbers.counts
    middle = numbers.quantile(0.5)
    for end, beside in ((-1, -2), (0, 1)):
        codes = _in_a_row(values, end)
        beside += (len(codes) - 1) * (1 if end == 0 else -1)
        value, next_to = float(values[end]), float(values[beside])
        n = int(counts[np.isin(values, codes)].sum())
        gap, reach = abs(value - next_to), abs(next_to - middle)
        is_code = _looks_like_a_code(value)
        often = n >= max(3, 2 * int(counts[beside]))
        if n < 2 or not (is_code or (often and n >= 10)):
            continue
        alone_below_zero = end == 0 and value < 0 <= next_to and is_code and n >= 3 and abs(value) <= 0.2 * numbers.n
        far = gap > (0.5 if is_code and often else 1.0 if is_code else 2.0) * max(reach, 1e-12)
        if not far and not (alone_below_zero and often):
            continue
        is_bound = value == -float(values[0 if end else -1])  # as -1 is of what lies between -1 and 1
        if is_bound or n > 0.98 * numbers.n or (value in (0.0, 1.0, 100.0) and not alone_below_zero):
            continue
        where = one_of(numbers.sql if numbers.is_text else quoted(numbers.column), codes)
        told = " and ".join(shown(c) for c in codes)
        side = "largest" if end == -1 else "smallest"
        pure = _pure(seen, numbers.column, where)
        yield Finding(
            seen.name,
            (numbers.column,),
            "sentinel",
            0.88 if is_code else 0.45,
            f"{told} {'stands' if len(codes) == 1 else 'stand'} in {{rows}} rows, and the next {side} value is "
            f"{shown(next_to)}: {'a code, not a measurement' if len(codes) == 1 else 'codes, not measurements'}{pure}",
            where,
            n,
            f"select {quoted(numbers.column)}, count(*) from {quoted(seen.name)} group by 1 "
            f"order by 1 {'desc' if end == -1 else 'asc'} limit 10",
            "find out what the code stands for; if nothing was measured, make it null",
        )


def _in_a_row(values: Array, end: int) -> list[float]:
    """The code at an end, with those just beside it that are one less each: 99 for no answer, 98 for unknown."""
    codes = [float(values[end])]
    if abs(codes[0]) < 99 or not re.fullmatch(r"9+", f"{abs(codes[0]):.10g}"):
        return codes
    inward = values[::-1] if end else values
    for value in inward[1:3].tolist():
        if abs(value) != abs(codes[-1]) - 1 or (value < 0) != (codes[0] < 0):
            break
        codes.append(value)
    return codes


def _beside_a_ladder(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """A code beside grades: 99 beside 1, 2, 3, 4, 5."""
    values = numbers.values
    if not numbers.is_whole or len(values) < 3 or numbers.n < 50:
        return
    for place, rest in ((-1, values[:-1]), (0, values[1:])):
        value = float(values[place])
        is_ladder = bool(np.all(np.diff(rest) == 1))
        gap = abs(value - float(rest[-1 if place else 0]))
        is_code = abs(value) in (9, 99, 77, 88, 97, 98) or (abs(value) >= 111 and len({*shown(abs(value))}) == 1)
        if is_ladder and is_code and gap >= 2 * len(rest) and 2 <= numbers.counts[place] <= 0.5 * numbers.n:
            column = numbers.sql if numbers.is_text else quoted(numbers.column)
            yield Finding(
                seen.name,
                (numbers.column,),
                "sentinel",
                0.78,
                f"{shown(value)} stands in {{rows}} rows beside grades from {shown(float(rest[0]))} to "
                f"{shown(float(rest[-1]))}: a code, not a grade",
                f"{column} = {literal(value)}",
                int(numbers.counts[place]),
                f"select {quoted(numbers.column)}, count(*) from {quoted(seen.name)} group by 1 order by 1",
                "find out what the code stands for; if nothing was measured, make it null",
            )


def _looks_like_a_code(value: float) -> bool:
    digits = f"{abs(value):.10g}"
    return (
        value in (-1, -2, -200, -1000, -100, 1e10, 2147483647, -2147483648, 32767, -32768, 65535, 4294967295, 255)
        or (re.fullmatch(r"9{2,}(\.9+)?|8{3,}(\.8+)?|7{3,}|1{4,}|9+0+", digits) is not None)
        or digits in ("12345", "123456", "1234567", "123456789")
        or (value < 0 and re.fullmatch(r"9+(\.9+)?|[1-9]0{2,}", digits) is not None)
    )


def _pure(seen: Seen, column: str, where: str) -> str:
    """A sentence's end when the rows agree in a column that has few values and otherwise does vary."""
    few = [c for c, levels in seen.levels.items() if 2 <= len(levels.counts) <= 8 and c != column]
    few += [c for c, other in seen.numbers.items() if len(other.values) == 2 and c != column]
    if not few:
        return ""
    listed = ", ".join(f"min({quoted(c)}::VARCHAR), max({quoted(c)}::VARCHAR), count({quoted(c)})" for c in few[:12])
    n, *found = seen.rows(f"select count(*), {listed} from {seen.copy} where {where}")[0]
    for i, name in enumerate(few[:12]):
        least, most, filled = found[3 * i : 3 * i + 3]
        if n >= 20 and filled == n and least == most and not _is_common(seen, name, least):
            return f"; all of them have {name} = {least.strip()}"
    return ""


def _is_common(seen: Seen, column: str, value: str) -> bool:
    share = seen.count(f"{quoted(column)}::VARCHAR = '{value.replace(chr(39), chr(39) * 2)}'") / max(seen.held, 1)
    return share > 0.8


def _far_away(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """One or few values beyond a gap that no tail has.

    Of a power law's n values the largest lies further from the next than that from the
    median, on a log scale, once in about n times; of lighter tails far less often.
    """
    values, counts = numbers.values, numbers.counts
    middle = numbers.quantile(0.5)
    most_rows = max(2, int(0.0005 * numbers.n))
    for is_high in (True, False):
        ends, n_ends = (values[::-1], counts[::-1]) if is_high else (values, counts)
        found = _gap(ends, n_ends, middle, most_rows, is_positive=bool(values[0] >= 0))
        if found is None or (found[0] < FEWEST and not is_high):
            continue
        place, size, factor = found[1:]
        beyond, edge = float(ends[place]), float(ends[place + 1])
        column = numbers.sql if numbers.is_text else quoted(numbers.column)
        cut = f"{column} {'>' if is_high else '<'} {literal(edge)}"
        n = int(n_ends[: place + 1].sum())
        extreme = float(ends[0])
        says = (
            f"{shown(extreme)} lies far {'above' if is_high else 'below'} all else: the next value is {shown(edge)}, "
            f"half of all are {'below' if is_high else 'above'} {shown(middle)}"
        )
        if place:
            says = (
                f"{{rows}} rows from {shown(min(beyond, extreme))} to {shown(max(beyond, extreme))} lie far "
                f"{'above' if is_high else 'below'} all else: the next value is {shown(edge)}"
            )
        yield Finding(
            seen.name,
            (numbers.column,),
            "out_of_range",
            0.92 if size > 3 or factor >= 10 else 0.72 if size > 1.5 else 0.6,
            says,
            cut,
            n,
            f"select * from {quoted(seen.name)} where {cut}",
            "compare with the source; what nobody can have measured becomes null, and the contract gets a range",
        )


def _gap(
    ends: Array, counts: Array, middle: float, most_rows: int, is_positive: bool
) -> tuple[int, int, float, float] | None:
    """Where few values end that lie beyond a gap: (distinct values inside, place, gap in reaches, factor)."""
    room = int(np.searchsorted(np.cumsum(counts), most_rows, side="right"))
    for place in range(min(room, len(ends) - MEASURED) - 1, -1, -1):
        far, near = float(ends[place]), float(ends[place + 1])
        if is_positive and middle > 0 and near > 0 and far > near:
            gap, reach = math.log(far / near), math.log(max(near / middle, 1.0 + 1e-9))
            if gap > max(math.log(2), reach):
                return len(ends) - place, place, gap / max(reach, 0.1), far / near
        elif not is_positive or far < near:
            gap, reach = abs(far - near), abs(near - middle)
            if gap > 1.5 * reach > 0 and (not is_positive or far < near):
                if far >= 0 and far < near and is_positive:
                    continue  # a small value of a positive measure is near zero, that is all
                return len(ends) - place, place, gap / reach, abs(far / near) if near else 0.0
    return None


def _wrong_sign(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """Few negative values where zero is a bound that the others keep."""
    values, counts = numbers.values, numbers.counts
    below, at_zero = int(counts[values < 0].sum()), int(counts[values == 0].sum())
    if not 0 < below <= max(1, 0.001 * numbers.n) or at_zero < 5 * below:
        return
    near = values[(values > 0)][:5]
    beside = float(np.median(counts[np.isin(values, near)])) if len(near) else 0.0
    if at_zero < 5 * max(1.0, beside) and not (numbers.is_whole and numbers.quantile(0.05) >= 0 and below <= 3):
        return
    column = numbers.sql if numbers.is_text else quoted(numbers.column)
    yield Finding(
        seen.name,
        (numbers.column,),
        "out_of_range",
        0.8,
        f"{{rows}} values are negative, the least is {shown(float(values[0]))}; all others are 0 or more, "
        f"{at_zero:,} of them exactly 0",
        f"{column} < 0",
        below,
        f"select * from {quoted(seen.name)} where {column} < 0",
        "a bound at zero that few rows break: correct them at the source, and write the bound into the contract",
    )


def _zero_for_nothing(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """Zeros in a positive measure that has nothing near zero: nothing was measured there."""
    values, counts = numbers.values, numbers.counts
    place = int(np.searchsorted(values, 0.0))
    if place > 1 or place >= len(values) - MEASURED or values[place] != 0 or (place == 1 and counts[0] > 3):
        return
    n, positive, n_each = int(counts[place]), values[place + 1 :], counts[place + 1 :]
    if n < 2 or n > 0.6 * numbers.n:
        return
    least = float(positive[0])
    middle = float(np.repeat(positive, n_each)[int(n_each.sum()) // 2])
    steps = np.diff(positive)
    step = float(np.quantile(steps, 0.1)) if len(steps) else least
    ladder = max(5.0, 3 * step) if numbers.is_whole else 8 * step
    # the share of values that a smooth run from the least quarter down to zero would put there
    low = float(np.repeat(positive, n_each)[int(n_each.sum()) // 10])
    if least < ladder or least < 0.1 * middle or (least < 0.35 * low and n < 5 * float(np.median(n_each[:10]))):
        return
    if n < 2 * float(np.median(n_each[:10])) or (least / middle < 0.15 and low > 4 * least):
        return
    column = numbers.sql if numbers.is_text else quoted(numbers.column)
    yield Finding(
        seen.name,
        (numbers.column,),
        "missing_disguised",
        0.82 if least > 0.2 * middle else 0.7,
        f"0 stands in {{rows}} rows, nothing lies between it and {shown(least)}, half are above {shown(middle)}: "
        "zero may stand for what was not measured",
        f"{column} = 0",
        n,
        f"select * from {quoted(seen.name)} where {column} = 0",
        "make these zeros null unless someone can say how they were measured",
    )


def _cap(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """Many rows exactly at the largest value, few just below it: what was above has been cut to it."""
    values, counts = numbers.values, numbers.counts
    if len(values) < 20:
        return
    top, n = float(values[-1]), int(counts[-1])
    below = counts[-8:-1]
    usual = float(np.median(below))
    if n < max(5, 0.001 * numbers.n) or n < 4 * max(usual, 1.0) or n < 2 * float(below.max()) or n > 0.5 * numbers.n:
        return
    reach = float(values[-1] - numbers.quantile(0.5))
    if values[-1] - values[-2] > 0.5 * reach:
        return
    column = numbers.sql if numbers.is_text else quoted(numbers.column)
    is_natural = top in NATURAL
    yield Finding(
        seen.name,
        (numbers.column,),
        "rounding_or_topcode",
        0.3 if is_natural else 0.6,
        f"{{rows}} rows are exactly at the largest value, {shown(top)}; the values below it have about "
        f"{usual:,.0f} each: what was above may have been cut to it",
        f"{column} = {literal(top)}",
        n,
        f"select {quoted(numbers.column)}, count(*) from {quoted(seen.name)} group by 1 order by 1 desc limit 10",
        "treat the largest value as 'at least': do not average or extrapolate across it",
    )


def _beyond_hundred(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """Percentages above 100, or shares above 1, in few rows."""
    words = re.findall(r"[a-z]+|%", numbers.column.lower())
    is_percent = bool({"pct", "percent", "percentage", "%"} & set(words))
    is_share = bool({"share", "fraction", "proportion", "probability", "prob"} & set(words))
    if not (is_percent or is_share) or numbers.quantile(0.01) < 0:
        return
    bound = 1.0 if is_share and numbers.quantile(0.97) <= 1 else 100.0
    beyond = int(numbers.counts[numbers.values > bound].sum())
    if not 0 < beyond <= 0.03 * numbers.n:
        return
    column = numbers.sql if numbers.is_text else quoted(numbers.column)
    is_scale = bound == 1.0 and float(numbers.values[-1]) <= 100 and float(numbers.values[numbers.values > 1][0]) > 2
    yield Finding(
        seen.name,
        (numbers.column,),
        "unit_or_scale" if is_scale else "out_of_range",
        0.8,
        f"{{rows}} values are above {shown(bound)}, which no {'share' if bound == 1 else 'percentage'} can be; "
        f"the largest is {shown(float(numbers.values[-1]))}",
        f"{column} > {literal(bound)}",
        beyond,
        f"select * from {quoted(seen.name)} where {column} > {literal(bound)}",
        "see whether these rows are in another unit; give the column a range in the contract",
    )


def _reversals(seen: Seen, numbers: Numbers) -> Iterator[Finding]:
    """The largest values with their exact opposites: entered, then taken back."""
    values = numbers.values
    if values[0] >= 0 or numbers.quantile(0.5) == 0 or len(values) < 30:
        return
    low, high = -float(values[0]), float(values[-1])
    twins = [v for v in values[-5:][::-1] if -v in values[:8]]
    bulk = float(np.quantile(np.abs(numbers.filled), 0.99))
    twins = [float(v) for v in twins if v > 10 * max(bulk, 1e-12)]
    if not twins or max(low, high) > 2 * twins[0] or (len(twins) > 3):
        return
    column = numbers.sql if numbers.is_text else quoted(numbers.column)
    where = f"abs({column}) in ({', '.join(literal(v) for v in twins)})"
    yield Finding(
        seen.name,
        (numbers.column,),
        "out_of_range",
        0.86,
        f"{' and '.join(shown(v) for v in twins)} and exactly the opposite: entered and taken back; "
        f"99 of 100 values are within {shown(bulk)}",
        where,
        int(seen.count(where)),
        f"select * from {quoted(seen.name)} where {where}",
        "take both rows of each pair out before you sum, average or scale",
    )
