"""Different rows for one thing: rows that agree in two rare texts and differ by a slip of the pen in a third."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.seen import Seen

MOST_ROWS = 1_000_000
LARGEST = 12  # rows that share a text: a more frequent one names a kind, not a thing
MOST_PAIRS = 200_000
ALIKE = 0.88  # Jaro-Winkler similarity from which two texts can mean the same


def double_findings(seen: Seen) -> Iterator[Finding]:
    """Rows that are near-duplicates of another one."""
    if seen.is_draw or not 30 <= seen.held <= MOST_ROWS:
        return
    names = _telling(seen)
    if len(names) < 2:
        return
    listed = ", ".join(f"{_plain_sql(c)} as k{i}, trim({quoted(c)}::VARCHAR) as v{i}" for i, c in enumerate(names))
    seen.engine.run(f"create or replace temp table __doubles as select __row, {listed} from {seen.copy}")
    try:
        yield from _pairs(seen, names)
    finally:
        seen.engine.run("drop table if exists __doubles")
        seen.engine.run("drop table if exists __pairs")


def _telling(seen: Seen) -> list[str]:
    """Columns whose values are rare enough to tell one thing from another, texts and long whole numbers."""
    found = []
    for column, levels in seen.levels.items():
        n_levels = len(levels.counts) if levels.is_all else levels.n
        if levels.n >= 0.2 * seen.held and levels.n / LARGEST <= n_levels and column not in seen.clocks:
            length = sum(map(len, list(levels.counts)[-300:])) / min(300, len(levels.counts))
            if 4 <= length <= 200:
                found.append(column)
    for column, numbers in seen.numbers.items():
        rare = numbers.is_whole and numbers.n / LARGEST <= len(numbers.values) < numbers.n
        round_ones = numbers.counts[numbers.values % 100 == 0].sum()
        is_name = rare and numbers.quantile(0.05) >= 10_000 and round_ones <= 0.05 * numbers.n
        if is_name and not numbers.is_text and numbers.n >= 0.2 * seen.held:
            found.append(column)
    return found[:10]


def _plain_sql(column: str) -> str:
    """A value without case, blanks and marks; null when it is too short to tell anything."""
    text = f"regexp_replace(lower({quoted(column)}::VARCHAR), '[^\\p{{L}}0-9]', '', 'g')"
    return f"case when length({text}) >= 4 then {text} end"


def _pairs(seen: Seen, names: Sequence[str]) -> Iterator[Finding]:
    indices = range(len(names))
    blocks = " union all ".join(
        f"select a.__row as x, b.__row as y, {i} as k from __doubles a join __doubles b on a.k{i} = b.k{i} "
        f"and a.__row < b.__row where a.k{i} in "
        f"(select k{i} from __doubles where k{i} is not null group by 1 having count(*) between 2 and {LARGEST})"
        for i in indices
    )
    seen.engine.run(
        f"create or replace temp table __pairs as select x, y, list_sort(list(k)) as agree from ({blocks}) "
        f"group by x, y having count(*) >= 2 limit {MOST_PAIRS}"
    )
    slips = " or ".join(
        f"(a.v{i} <> b.v{i} and (a.k{i} = b.k{i} or "
        f"(length(a.v{i}) >= 5 and jaro_winkler_similarity(lower(a.v{i}), lower(b.v{i})) >= {ALIKE})))"
        for i in indices
    )
    joined = "from __pairs p join __doubles a on a.__row = p.x join __doubles b on b.__row = p.y"
    n_pairs, n_slips = seen.rows(f"select count(*), count(*) filter (where {slips}) {joined}")[0]
    if n_slips < 3 or n_slips < 0.1 * n_pairs:
        return
    rows = seen.rows(f"select count(distinct r) from (select unnest([x, y]) as r {joined} where {slips})")[0][0]
    agree = Counter(
        pair for (found,) in seen.rows("select agree from __pairs limit 20000") for pair in combinations(found, 2)
    )
    best = [names[i] for i in agree.most_common(1)[0][0]]
    first = seen.rows(
        f"select {', '.join(f'a.v{i}, b.v{i}' for i in indices)} {joined} where {slips} order by x, y limit 1"
    )[0]
    told = next(
        (f"{first[2 * i]!r} beside {first[2 * i + 1]!r}" for i in indices if first[2 * i] != first[2 * i + 1]), ""
    )
    keys = ", ".join(map(_plain_sql, best))
    where = f"({keys}) in (select ({keys}) from {quoted(seen.name)} group by {keys} having count(*) > 1)"
    share = rows / seen.held
    yield Finding(
        seen.name,
        (),
        "near_duplicate",
        0.88 if share >= 0.05 else 0.75 if share >= 0.005 else 0.5,
        f"{rows:,} rows ({share:.1%}) agree with another in two or more of {', '.join(names[:5])}, "
        f"most often {' and '.join(best)}, and are spelled otherwise elsewhere ({told}): one thing, several rows",
        where,
        None,
        f"select * from {quoted(seen.name)} where {where} order by {quoted(best[0])}",
        "match the rows of one thing and keep one of them, before counting or splitting into folds",
    )
