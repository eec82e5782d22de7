"""Columns that tell another one, but for few rows: those contradict the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted
from underhood.signs.seen import Array, Seen
from underhood.signs.words import says_nothing

TRIED = 8_000  # rows on which a mapping is tried before it is counted over the table
MOST_TRIED = 60  # columns of which mappings are tried


def mapping_findings(seen: Seen) -> Iterator[Finding]:
    """Mappings from one column to another that few rows contradict."""
    names = [
        c for c, levels in seen.levels.items() if levels.is_all and 2 <= len(levels.counts) <= 0.5 * max(levels.n, 1)
    ]
    names += [c for c, n in seen.numbers.items() if n.is_whole and not n.is_text and 3 <= len(n.values) <= 0.2 * n.n]
    names = [c for c in names if seen.table.kinds[c] in (TEXT, NUMBER, FLAG)][:MOST_TRIED]
    if len(names) < 2:
        return
    coded = _codes_of(seen, names)
    told: set[frozenset[str]] = set()
    for one in names:
        for other in names:
            if one == other or not _tells(coded[one], coded[other]):
                continue
            if frozenset((one, other)) in told:
                continue
            found = _mapping(seen, one, other)
            if found:
                told.add(frozenset((one, other)))
                yield found


def _codes_of(seen: Seen, names: Sequence[str]) -> dict[str, Array]:
    """Each column as whole numbers on an even draw of rows, -1 for null."""
    every = max(1, seen.held // (TRIED))
    listed = ", ".join(f"{quoted(c)}::VARCHAR as {quoted(c)}" for c in names)
    frame = seen.engine.frame(f"select {listed} from {seen.copy} where __row % {every} = 0")
    made = {}
    for name in names:
        levels: dict[object, int] = {None: -1}
        made[name] = np.array([levels.setdefault(v, len(levels)) for v in frame[name]])
    return made


def _tells(a: Array, b: Array) -> bool:
    """Whether one column seems to tell the other: nearly always the same b beside the same a, and not by chance."""
    there = (a >= 0) & (b >= 0)
    a, b = a[there], b[there]
    if len(a) < 100:
        return False
    shares = np.bincount(b) / len(b)
    by_chance = 1 - float((shares**2).sum())
    if by_chance < 0.3:
        return False
    pairs, counts = np.unique(a.astype(np.int64) * (int(b.max()) + 1) + b, return_counts=True)
    group = pairs // (int(b.max()) + 1)
    most = np.zeros(int(a.max()) + 1, np.int64)
    np.maximum.at(most, group, counts)
    n_each = np.bincount(a, minlength=len(most))
    several = n_each >= 3
    if several.sum() < 3 or n_each[several].sum() < 0.5 * len(a):
        return False
    broken = (n_each - most)[several].sum() / n_each[several].sum()
    return bool(broken <= 0.03)


def _mapping(seen: Seen, one: str, other: str) -> Finding | None:
    x, y, table = quoted(one), quoted(other), quoted(seen.name)
    n, broken, n_groups = seen.rows(
        f"select sum(n), sum(n) - sum(m), count(*) from (select sum(k) as n, max(k) as m from "
        f"(select {x} as a, {y} as b, count(*) as k from {seen.copy} where {x} is not null and {y} is not null "
        "group by 1, 2) group by a)"
    )[0]
    if not broken:
        return None
    if broken > max(2, 0.005 * n) or n_groups > 0.5 * n:
        return None
    best = (
        f"select a, arg_max(b, k) from (select {x} as a, {y} as b, count(*) as k from {table} "
        "where b is not null group by 1, 2) group by a having count(*) > 1"
    )
    where = f"({x}, {y}) not in ({best}) and {x} in (select a from ({best})) and {y} is not null"
    slips = seen.rows(
        f"select {x}::VARCHAR, {y}::VARCHAR, count(*) from {seen.copy} where {where.replace(table, seen.copy)} "
        "group by 1, 2 order by 3 limit 200"
    )
    most = dict(seen.rows(f"select a::VARCHAR, b::VARCHAR from ({best.replace(table, seen.copy)}) t(a, b)"))
    typed = sum(_is_slip(b, most.get(a, "")) for a, b, _ in slips)
    slips = [s for s in slips if not says_nothing(most.get(s[0]) or "") and not says_nothing(s[0])]
    single = sum(k for _, _, k in slips if k <= 2)
    if not slips or single < 0.7 * sum(k for _, _, k in slips):
        return None  # a pair that comes back is a case of its own, not a slip
    first = slips[0]
    return Finding(
        seen.name,
        (one, other),
        "category_variant" if typed >= 0.5 * len(slips) and slips else "swapped_or_misaligned",
        0.66,
        f"{one} tells {other}, but for {{rows}} of {n:,} rows: {first[0]!r} usually goes with {most.get(first[0])!r}, "
        f"here with {first[1]!r}",
        where,
        int(broken),
        f"select {x}, {y}, count(*) from {table} group by 1, 2 order by 1, 3 desc",
        f"correct {other} in these rows, or find out why one {one} has two",
    )


def _is_slip(text: str, usual: str) -> bool:
    """Whether a text is the usual one with one letter in ten changed."""
    if abs(len(text) - len(usual)) > 2 or not usual:
        return False
    differ = sum(a != b for a, b in zip(text, usual, strict=False)) + abs(len(text) - len(usual))
    return differ <= max(2, len(usual) // 5)
