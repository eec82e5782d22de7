"""What columns have to do with each other: copies, multiples, sums, products, order, nulls in step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.render import quoted, sql_value
from underhood.signs.seen import Array, Numbers, Seen, shown

TRIED = 2_000  # rows on which a relation is tried before it is counted over the table
MOST_TRIED = 60  # columns of which sums are tried
MOST_PARTS = 30  # columns of which a total of three or more is sought
SLIPS = 0.03  # share of rows that may break a relation which otherwise holds


def relation_findings(seen: Seen) -> Iterator[Finding]:
    """Relations between columns that are exact, or would be but for a few rows."""
    yield from _constants(seen)
    measured = [n for n in seen.numbers.values() if len(n.values) >= 3 and n.n >= 20]
    places = _places(measured)
    copies = list(_copies(seen, measured, places))
    yield from copies
    later = {f.columns[0] for f in copies}
    rest = [n for n in measured if n.column not in later and len(n.values) >= 10][:MOST_TRIED]
    yield from _sums(seen, rest, places)
    yield from _totals(seen, rest, places)
    yield from _in_order(seen)
    yield from _same_texts(seen)
    yield from _signs_by_code(seen)
    yield from _nulls_in_step(seen)


def _places(measured: Sequence[Numbers]) -> Array:
    """The drawn rows on which relations are tried: evenly over the table."""
    n = len(measured[0].all) if measured else 0
    return np.unique(np.linspace(0, n - 1, min(n, TRIED)).astype(int)) if n else np.array([], int)


def _constants(seen: Seen) -> Iterator[Finding]:
    """Columns with one value only: for the record."""
    same = [c for c, n in seen.numbers.items() if len(n.values) == 1 and n.n == len(n.all)]
    same += [c for c, levels in seen.levels.items() if len(levels.counts) == 1 and levels.n == seen.held]
    listed = ", ".join(f"count({quoted(c)})" for c in seen.table.columns)
    counts = seen.rows(f"select {listed} from {quoted(seen.name)}")[0]
    empty = [c for c, n in zip(seen.table.columns, counts, strict=True) if n == 0]
    if empty:
        yield Finding(
            seen.name,
            tuple(empty),
            "constant_or_copy",
            0.5,
            f"{_and(empty)} {'is' if len(empty) == 1 else 'are'} null in all {seen.table.rows:,} rows",
            hint="ask whether it was lost on the way; otherwise drop it",
        )
    if same and seen.table.rows >= 20:
        yield Finding(
            seen.name,
            tuple(same),
            "constant_or_copy",
            0.25,
            f"{_and(same)} {'has' if len(same) == 1 else 'have'} one value only, in all {seen.table.rows:,} rows",
            hint="it cannot tell rows apart; keep it if it is to say which part of a whole this table is",
        )


def _and(names: Sequence[str]) -> str:
    if len(names) > 6:
        return f"{', '.join(names[:5])} and {len(names) - 5} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _copies(seen: Seen, measured: Sequence[Numbers], places: Array) -> Iterator[Finding]:
    """Columns that are another one, or a fixed multiple of it."""
    drawn = {n.column: n.all[places] for n in measured}
    done: set[str] = set()
    for one, other in combinations(measured, 2):
        if other.column in done or one.column in done:
            continue
        a, b = drawn[one.column], drawn[other.column]
        there = np.isfinite(a) & np.isfinite(b)
        if there.sum() < 20 or (np.isfinite(a) != np.isfinite(b)).mean() > 0.9:
            continue
        used = there & (a != 0)
        if used.sum() < 20 or ((a == 0) != (b == 0))[there].mean() > SLIPS:
            continue
        ratio = float(np.median(b[used] / a[used]))
        if not ratio or (np.abs(b[used] - ratio * a[used]) > 1e-6 * np.abs(b[used])).mean() > 0.02:
            continue
        if len(np.unique(a[used])) < 3 or (len(one.values) < 10 and ratio != 1):
            continue
        found = _copy(seen, one, other, ratio)
        if found:
            done.add(other.column)
            yield found


def _copy(seen: Seen, one: Numbers, other: Numbers, ratio: float) -> Finding | None:
    x, y = one.sql, other.sql
    same = f"abs({y} - {ratio!r} * {x}) <= 1e-5 * abs({y})" if ratio != 1 else f"{y} = {x}"
    both, equal, n_a, n_b = seen.rows(
        f"select count(*), count(*) filter (where {same}), any_value(na), any_value(nb) from {seen.copy}, "
        f"(select count({x}) as na, count({y}) as nb from {seen.copy}) where {x} is not null and {y} is not null"
    )[0]
    share = equal / max(both, 1)
    if share < 1 - 0.01 or both < 0.3 * max(n_a, n_b):
        return None
    how = "the same as" if ratio == 1 else f"{shown(ratio)} times"
    if share == 1:
        return Finding(
            seen.name,
            (other.column, one.column),
            "constant_or_copy",
            0.7 if ratio not in (1, -1) and not float(ratio * 1000).is_integer() else 0.62,
            f"{other.column} is {how} {one.column} in all {both:,} rows that have both: a copy, not a measurement",
            query=f"select {quoted(one.column)}, {quoted(other.column)} from {quoted(seen.name)} limit 20",
            hint="keep one of the two; if both should have been measured, the source has mixed them up",
        )
    where = f"not ({same})"
    return Finding(
        seen.name,
        (other.column, one.column),
        "aggregate_mismatch",
        0.68,
        f"{other.column} is {how} {one.column}, but for {{rows}} of {both:,} rows",
        where,
        both - equal,
        f"select * from {quoted(seen.name)} where {where}",
        "one of the two is wrong in these rows, or they have been changed by hand",
    )


def _sums(seen: Seen, measured: Sequence[Numbers], places: Array) -> Iterator[Finding]:
    """Columns that are the sum or the product of two others."""
    columns = [n for n in measured if (n.values[np.argmax(n.counts)] != 0 or n.counts.max() < 0.7 * n.n)]
    if len(columns) < 3:
        return
    x = np.array([n.all[places] for n in columns])
    x = x[:, np.isfinite(x).mean(axis=0) > 0.5]
    if x.shape[1] < 20:
        return
    told: set[frozenset[str]] = set()
    for sign, name in (("+", "sum"), ("*", "product")):
        for i, j, k in _triples(x, sign):
            names = frozenset(columns[p].column for p in (i, j, k))
            if names not in told:
                found = _sum(seen, columns[i], columns[j], columns[k], sign, name)
                if found:
                    told.add(names)
                    yield found


def _triples(x: Array, sign: str) -> Iterator[tuple[int, int, int]]:
    """(i, j, k) where column k seems to be column i + or * column j: rows are compared a few at a time."""
    m, n = x.shape
    pairs = list(combinations(range(m), 2))
    left, right = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    found: set[tuple[int, int, int]] = set()
    for start in range(0, min(n, 40), 8):
        rows = x[:, np.linspace(start, n - 1 - (40 - start), 8).astype(int)]
        usable = np.isfinite(rows).all(axis=1)
        made = rows[left] + rows[right] if sign == "+" else rows[left] * rows[right]
        if not np.isfinite(made).any():
            continue
        for k in np.flatnonzero(usable):
            size = float(np.median(np.abs(rows[k])))
            scale = np.maximum(1e-9, np.abs(rows[k])) * 1e-5 + (_cent(size) if sign == "*" else 1e-7)
            near = np.all(np.abs(made - rows[k]) <= scale, axis=1)
            for p in np.flatnonzero(near):
                if k not in (left[p], right[p]) and len(np.unique(rows[k])) > 3:
                    found.add((int(left[p]), int(right[p]), int(k)))
    return iter(sorted(found))


def _cent(size: float) -> float:
    """How far a rounded product may be from the exact one: half a cent of amounts, nothing of small fractions."""
    return 0.0055 if size >= 5 else 0.0


def _sum(seen: Seen, a: Numbers, b: Numbers, c: Numbers, sign: str, name: str) -> Finding | None:
    slack = 2 * _cent(abs(c.quantile(0.5))) if sign == "*" else 1e-6
    off = f"abs({a.sql} {sign} {b.sql} - {c.sql}) > 1e-5 * abs({c.sql}) + {slack}"
    both, broken = seen.rows(
        f"select count({a.sql} + {b.sql} + {c.sql}), count(*) filter (where {off}) from {seen.copy}"
    )[0]
    if both < 20 or broken > SLIPS * both:
        return None
    formula = f"{c.column} = {a.column} {'×' if sign == '*' else sign} {b.column}"
    columns = (a.column, b.column, c.column)
    if not broken:
        return Finding(
            seen.name,
            columns,
            "constant_or_copy",
            0.66 if sign == "+" else 0.4,
            f"{formula} in all {both:,} rows: together they give it away exactly",
            query=f"select {', '.join(map(quoted, columns))} from {quoted(seen.name)} limit 20",
            hint="if one of them is to be foretold, the others give it away; otherwise one of the three is enough",
        )
    return Finding(
        seen.name,
        columns,
        "aggregate_mismatch",
        0.82,
        f"{formula}, but not in {{rows}} of {both:,} rows",
        off,
        broken,
        f"select * from {quoted(seen.name)} where {off}",
        f"parts and {name} disagree: find out which of the three is wrong in these rows",
    )


def _totals(seen: Seen, measured: Sequence[Numbers], places: Array) -> Iterator[Finding]:
    """Columns that are the sum of three or more others, but for few rows: by least absolute deviations."""
    columns = measured[:MOST_PARTS]
    if len(columns) < 4:
        return
    x = np.array([n.all[places] for n in columns])
    x = x[:, np.isfinite(x).all(axis=0)]
    if x.shape[1] < 5 * len(columns):
        return
    for k, total in enumerate(columns):
        others = [i for i in range(len(columns)) if i != k]
        weights = _least_deviations(x[others].T, x[k])
        parts = [columns[i] for i, w in zip(others, weights, strict=True) if abs(w - 1) < 0.02]
        scale = np.abs(weights) * x[others].std(axis=1) / max(float(x[k].std()), 1e-12)
        if len(parts) < 3 or (scale[np.abs(weights - 1) >= 0.02] > 0.001).any():
            continue
        found = _total(seen, total, parts)
        if found:
            yield found


def _least_deviations(x: Array, y: Array) -> Array:
    """The weights of columns in the sum that is nearest to `y`: few rows that are far off do not move them."""
    row_weights = np.ones(len(y))
    weights = np.zeros(x.shape[1])
    for _ in range(8):
        root = np.sqrt(row_weights)
        weights = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
        off = np.abs(y - x @ weights)
        row_weights = 1 / np.maximum(off, 1e-4 * max(float(np.median(np.abs(y))), 1e-6))
    return np.asarray(weights)


def _total(seen: Seen, total: Numbers, parts: Sequence[Numbers]) -> Finding | None:
    y, made = total.sql, " + ".join(p.sql for p in parts)
    # a total is rounded as most of its values are; the wrong ones may have more digits
    kept = (d for d in range(7) if np.isclose(total.values * 10**d, np.round(total.values * 10**d)).mean() > 0.9)
    slack = 0.51 * 10.0 ** -next(kept, 6)
    off = f"abs(({made}) - {y}) > 1e-6 * abs({y}) + {slack if slack < 0.5 else 1e-6!r}"
    both, broken = seen.rows(f"select count({off}), count(*) filter (where {off}) from {seen.copy}")[0]
    if both < 50 or broken > SLIPS * both:
        return None
    names = (total.column, *(p.column for p in parts))
    formula = f"{total.column} = {' + '.join(names[1:])}"
    if not broken:
        says = f"{formula} in all {both:,} rows: together they give it away exactly"
        return Finding(seen.name, names, "constant_or_copy", 0.4, says, hint="keep the parts or the total, not both")
    return Finding(
        seen.name,
        names,
        "aggregate_mismatch",
        0.82,
        f"{formula}, but not in {{rows}} of {both:,} rows",
        off,
        broken,
        f"select * from {quoted(seen.name)} where {off}",
        "parts and total disagree: find out which is wrong in these rows",
    )


def _in_order(seen: Seen) -> Iterator[Finding]:
    """Pairs of which one is never above the other, but for few rows: ends before beginnings."""
    times = [(c, sql) for c, sql in seen.clocks.items()]
    pairs = [(a, b) for a, b in combinations(times, 2)]
    numbers = [n for n in seen.numbers.values() if len(n.values) >= 10]
    pairs += [((a.column, a.sql), (b.column, b.sql)) for a, b in combinations(numbers, 2) if _are_kin(a, b)]
    for (one, x), (other, y) in pairs[:60]:
        both, above, below = seen.rows(
            f"select count(*), count(*) filter (where {x} > {y}), count(*) filter (where {x} < {y}) "
            f"from {seen.copy} where {x} is not null and {y} is not null"
        )[0]
        if both < 50 or not above or not below:
            continue
        if min(above, below) > 0.01 * both or max(above, below) < 0.5 * both:
            continue
        first, last = (one, other) if above < below else (other, one)
        where = f"{x} > {y}" if above < below else f"{x} < {y}"
        yield Finding(
            seen.name,
            (one, other),
            "out_of_range",
            0.78,
            f"{last} is before {first} in {{rows}} rows; in {max(above, below):,} it is after"
            if one in seen.clocks
            else f"{first} is above {last} in {{rows}} rows; in {max(above, below):,} it is below",
            where,
            min(above, below),
            f"select * from {quoted(seen.name)} where {where}",
            "the two contradict each other: swapped, mistyped, or from two clocks",
        )


_LOW_HIGH = (
    ("min", "max"), ("low", "high"), ("lo", "hi"), ("start", "end"), ("begin", "end"), ("from", "to"),
    ("least", "most"), ("diastolic", "systolic"), ("part", "total"), ("lower", "upper"), ("first", "last"),
)  # fmt: skip


def _are_kin(a: Numbers, b: Numbers) -> bool:
    """Whether two names differ by a pair of words for less and more: min_temp and max_temp."""
    one, other = a.column.lower(), b.column.lower()
    return any(
        (low in one and one.replace(low, high) == other) or (high in one and one.replace(high, low) == other)
        for low, high in _LOW_HIGH
    )


def _same_texts(seen: Seen) -> Iterator[Finding]:
    """Text columns that are copies of each other."""
    names = [c for c, levels in seen.levels.items() if len(levels.counts) >= 2 and levels.n >= 20]
    for one, other in combinations(names, 2):
        a, b = seen.levels[one], seen.levels[other]
        if (
            len(a.counts) != len(b.counts)
            or abs(a.n - b.n) > 0.01 * a.n
            or next(iter(a.counts)) != next(iter(b.counts))
        ):
            continue
        x, y = quoted(one), quoted(other)
        both, equal = seen.rows(
            f"select count(*), count(*) filter (where {x} = {y}) from {seen.copy} where {x} is not null"
        )[0]
        if equal == both:
            yield Finding(
                seen.name,
                (other, one),
                "constant_or_copy",
                0.6,
                f"{other} is the same as {one} in all {both:,} rows",
                query=f"select {x}, {y} from {quoted(seen.name)} limit 20",
                hint="keep one of the two",
            )


def _signs_by_code(seen: Seen) -> Iterator[Finding]:
    """Negative numbers that belong to rows marked in a code: reversals beside the rows that they take back."""
    for numbers in seen.numbers.values():
        below = int(numbers.counts[numbers.values < 0].sum())
        if not 10 <= below <= 0.2 * numbers.n or len(numbers.values) < 5 or numbers.is_text:
            continue
        q = quoted(numbers.column)
        for column, levels in seen.levels.items():
            if len(levels.counts) < 2 or column in seen.clocks:
                continue
            mark = f"left({quoted(column)}, 1)" if len(levels.counts) > 50 else f"{quoted(column)}::VARCHAR"
            by_mark = seen.rows(
                f"select {mark}, count(*) as n, count(*) filter (where {q} < 0) as k from {seen.copy} group by 1 "
                "having k > 0 order by k desc limit 3"
            )
            if not by_mark:
                continue
            text, n, k = by_mark[0]
            if text is None or k < 0.98 * n or k < 0.4 * sum(row[2] for row in by_mark) or n > 0.25 * seen.held:
                continue
            where = f"{mark} = {sql_value(text)} or {q} < 0"
            total = seen.count(f"{q} < 0")
            yield Finding(
                seen.name,
                (column, numbers.column),
                "out_of_range",
                0.78,
                f"{n:,} rows whose {column} {'begins with' if 'left' in mark else 'is'} {text!r} have a negative "
                f"{numbers.column}, and {total - k:,} others have one too: reversals stand beside what they take back",
                where,
                n,
                f"select {mark}, count(*), count(*) filter (where {q} < 0) from {quoted(seen.name)} "
                "group by 1 order by 2 desc",
                "match each reversal with its row, or count neither; decide what the unmarked negatives are",
            )
            break


def _nulls_in_step(seen: Seen) -> Iterator[Finding]:
    """A column that is null only where another one is: whether it is null tells of that."""
    names = seen.columns[:80]
    counts = seen.rows(f"select {', '.join(f'count(*) - count({quoted(c)})' for c in names)} from {seen.copy}")[0]
    with_nulls = {c: int(n) for c, n in zip(names, counts, strict=True) if 20 <= n <= 0.5 * seen.held}
    if len(with_nulls) < 2:
        return
    pairs = [(a, b) for a in with_nulls for b in with_nulls if a != b and with_nulls[a] < with_nulls[b]]
    listed = ", ".join(
        f"count(*) filter (where {quoted(a)} is null and {quoted(b)} is not null)" for a, b in pairs[:900]
    )
    if not pairs:
        return
    outside = dict(zip(pairs, seen.rows(f"select {listed} from {seen.copy}")[0], strict=False))
    groups: dict[int, list[str]] = {}
    for name, n in with_nulls.items():
        groups.setdefault(n, []).append(name)
    for inner, n in with_nulls.items():
        over = [b for b in with_nulls if outside.get((inner, b), 1) == 0 and with_nulls[b] <= 0.3 * seen.held]
        # by chance a column's nulls would lie outside another's
        over = [b for b in over if n * (1 - with_nulls[b] / seen.held) > 20]
        alone = [c for c in groups[n] if c != inner]
        if not over or alone or n > 0.97 * with_nulls[over[0]]:
            continue
        smallest = min(over, key=lambda b: with_nulls[b])
        yield Finding(
            seen.name,
            (inner,),
            "missing_informative",
            0.6,
            f"{inner} is null in {{rows}} rows, and in every one of them {smallest} is null too "
            f"({with_nulls[smallest]:,} nulls): that it is missing tells what happened",
            f"{quoted(inner)} is null",
            n,
            f"select {quoted(inner)} is null, {quoted(smallest)} is null, count(*) from {quoted(seen.name)} "
            "group by 1, 2",
            "do not let a model read whether it is null before the moment at which that is known",
        )
