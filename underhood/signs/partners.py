"""Which tables belong together: by which columns, how many rows find a partner, and whose rows do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

from underhood.ground.findings import Finding
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.signs.profile import Profile
from underhood.tables.frames import Table
from underhood.tables.local import Engine

MOST_PARTS = 4  # columns of a compound key
LEAST_COVERED = 0.3  # below it two columns share values by chance, or belong to different worlds
NEARLY_KEY = 0.5  # distinct values a row: a column like this is taken for a key, and is none
SAMPLED = 2000  # distinct values that a pair of columns is tried with before it is measured
FEW, MANY_LEVELS = 20, 200


@dataclass(frozen=True)
class Partner:
    """Rows of `left` find one row of `right` where `left_by` equals `right_by`, column by column.

    `rows` are all of `left`: `keyless` have a null among the columns, `orphans`
    a value that `right` does not have. `fan_out` is the most rows of `right` for
    one value (1: it is a key there), `rows_out` what a join that keeps every row
    gives. `used` is the share of `right`'s values that `left` names, `right_keyless`
    the rows of `right` with a null among the columns.
    """

    left: str
    right: str
    left_by: tuple[str, ...]
    right_by: tuple[str, ...]
    rows: int
    keyless: int
    orphans: int
    fan_out: int
    rows_out: int
    used: float
    right_keyless: int = 0

    @property
    def coverage(self) -> float:
        """The share of rows with a value that find their partner."""
        with_key = self.rows - self.keyless
        return 1 - self.orphans / with_key if with_key else 0.0

    @property
    def orphan_rows(self) -> str:
        """A predicate over `left` that selects the rows without a partner."""
        right = ", ".join(quoted(c) for c in self.right_by)
        filled = " AND ".join(f"{quoted(c)} IS NOT NULL" for c in self.right_by)
        there = f" WHERE {filled}" if self.right_keyless else ""
        row = ", ".join(quoted(c) for c in self.left_by)
        if len(self.left_by) == 1:
            return f"{row} NOT IN (SELECT {right} FROM {quoted(self.right)}{there})"
        # a row value with a null in it is not null itself
        has_key = "".join(f"{quoted(c)} IS NOT NULL AND " for c in self.left_by) if self.keyless else ""
        return f"{has_key}({row}) NOT IN (SELECT ({right}) FROM {quoted(self.right)}{there})"


def find_partners(engine: Engine, tables: Sequence[Table], profiles: Mapping[str, Profile]) -> list[Partner]:
    """All pairs of tables whose rows belong together, each with its measured coverage; the best covered first.

    The right side is a key: no join of the list multiplies rows. Tables of the
    same columns are versions of each other, not partners.
    """
    found: list[Partner] = []
    for left, right in permutations(tables, 2):
        one, other = profiles[left.name], profiles[right.name]
        if are_versions(one, other):
            continue
        pairs = list(_single_pairs(engine, left, right, one, other))
        whole = _compound(engine, left, right, one, other, {b for _, b in pairs})
        for left_by, right_by in [((a,), (b,)) for a, b in pairs] + whole:
            made = measure(engine, left, right, left_by, right_by)
            if made.fan_out == 1 and made.coverage >= LEAST_COVERED and _is_no_chance(made, one, other):
                found.append(made)
    return sorted(found, key=lambda p: (-p.coverage, p.left, p.right, p.left_by))


def are_versions(one: Profile, other: Profile) -> bool:
    """Whether two tables are versions or parts of one: nearly the same columns, and rows of the same granularity."""
    a, b = set(one.columns), set(other.columns)
    if len(a & b) < max(2, 0.85 * max(len(a), len(b))):
        return False
    return not any(_is_finer(one, other, c) or _is_finer(other, one, c) for c in a & b)


def _is_finer(one: Profile, other: Profile, name: str) -> bool:
    """Whether a column is a key of `other` and repeats throughout `one`, as the day does in a table of hours."""
    mine = one.columns[name]
    is_alike = mine.kind == other.columns[name].kind and mine.kind in (TEXT, TIME)
    return is_alike and _may_be_key(other, name) and 2 <= mine.distinct < 0.2 * (mine.rows - mine.nulls)


def measure(engine: Engine, left: Table, right: Table, left_by: Sequence[str], right_by: Sequence[str]) -> Partner:
    """The partner that these columns make, counted over all rows."""
    key = ", ".join(f"{quoted(b)} as k{n}" for n, b in enumerate(right_by))
    filled = " and ".join(f"{quoted(b)} is not null" for b in right_by)
    on = " and ".join(f"l.{quoted(a)} = k.k{n}" for n, a in enumerate(left_by))
    nulls = " or ".join(f"l.{quoted(a)} is null" for a in left_by)
    keys = f"select {key}, count(*) as n from {quoted(right.name)} where {filled} group by all"
    named = ", ".join(f"l.{quoted(a)}" for a in left_by)
    row = engine.rows(
        f"with k as materialized ({keys}) select count(*), count(*) filter ({nulls}), "
        f"count(*) filter (not ({nulls}) and k.n is null), coalesce((select max(n) from k), 0), "
        f"coalesce(sum(coalesce(k.n, 1)), 0)::BIGINT, count(distinct ({named})) filter (k.n is not null), "
        f"(select count(*) from k), (select coalesce(sum(n), 0)::BIGINT from k) "
        f"from {quoted(left.name)} l left join k on {on}"
    )[0]
    rows, keyless, orphans, fan_out, rows_out, matched, n_keys, with_key = row
    used = matched / n_keys if n_keys else 0.0
    names = left.name, right.name, tuple(left_by), tuple(right_by)
    return Partner(*names, rows, keyless, orphans, fan_out, rows_out, used, right.rows - with_key)


def _single_pairs(engine: Engine, left: Table, right: Table, one: Profile, other: Profile) -> Iterator[tuple[str, str]]:
    """Columns of `left` and single-column keys of `right` that share values; each column of `left` once."""
    keys = [b for b in right.columns if _may_be_key(other, b)]
    for a in left.columns:
        kind = left.kinds[a]
        if kind not in (TEXT, NUMBER, TIME) or one.columns[a].distinct < 1 or not _is_whole(one, a):
            continue
        tried = []
        for b in keys:
            if right.kinds[b] != kind or (kind == NUMBER and not names_alike(a, b, right.name)):
                continue
            share = _sampled_share(engine, left, a, right, b)
            if share >= LEAST_COVERED:
                tried.append((share + 0.05 * names_alike(a, b, right.name), b))
        if tried:
            yield a, max(tried)[1]


def names_alike(a: str, b: str, right: str) -> bool:
    """Whether a column's name tells of another table's column: the same, or customer_id for customers.id."""
    one, other, table = (_plain(x) for x in (a, b, right))
    singular = table[:-1] if table.endswith("s") else table
    return one == other or one in (table + other, singular + other) or other in (table + one, singular + one)


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _may_be_key(profile: Profile, name: str) -> bool:
    column = profile.columns[name]
    filled = column.rows - column.nulls
    # approximate distinct counts err by a few per cent; measure() decides
    return filled >= 2 and column.distinct >= (1.0 if column.is_exact else 0.9) * filled and _is_whole(profile, name)


def _is_whole(profile: Profile, name: str) -> bool:
    column = profile.columns[name]
    if column.kind != NUMBER:
        return column.kind in (TEXT, TIME)
    ends = [v for v in (column.least, column.most, *column.quantiles.values()) if v is not None]
    return all(float(v) == int(v) for v in ends)


def _sampled_share(engine: Engine, left: Table, a: str, right: Table, b: str) -> float:
    """The share of some distinct values of one column that the other column has."""
    values = (
        f"select distinct {quoted(a)} as v from {quoted(left.name)} where {quoted(a)} is not null "
        f"order by hash({quoted(a)}) limit {SAMPLED}"
    )
    share = engine.rows(f"select avg((v in (select {quoted(b)} from {quoted(right.name)}))::INT) from ({values})")
    return float(share[0][0] or 0)


def _is_no_chance(made: Partner, one: Profile, other: Profile) -> bool:
    """Whether shared values say something: whole numbers in a dense range always meet."""
    if len(made.left_by) > 1:
        return True
    a, b = one.columns[made.left_by[0]], other.columns[made.right_by[0]]
    if b.kind != NUMBER:
        return b.distinct >= 3 or names_alike(made.left_by[0], made.right_by[0], made.right)
    inside = max(0.0, min(float(a.most), float(b.most)) - max(float(a.least), float(b.least)) + 1)
    within = inside / (float(a.most) - float(a.least) + 1)
    density = min(1.0, b.distinct / (float(b.most) - float(b.least) + 1))
    return made.coverage - within * density >= 0.3 or made.used >= 0.5


def _compound(
    engine: Engine, left: Table, right: Table, one: Profile, other: Profile, taken: set[str]
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The best compound key of `right` among the columns that both name alike; none if one column is enough."""
    by_name = {_plain(a): a for a in left.columns}
    shared = {
        b: by_name[_plain(b)]
        for b in right.columns
        if _plain(b) in by_name
        and left.kinds[by_name[_plain(b)]] == right.kinds[b]
        and right.kinds[b] in (TEXT, NUMBER, TIME)
        and _is_whole(other, b)
        and other.columns[b].nulls < 0.5 * max(1, other.rows)
        and not _may_be_key(other, b)
    }
    if taken & set(shared) or len(shared) < 2:
        return []
    usable = sorted(shared, key=lambda b: -other.columns[b].distinct)[:8]
    for size in range(2, MOST_PARTS + 1):
        keys = [c for c in combinations(usable, size) if _is_key(engine, right, other, c)]
        tried = [(measure(engine, left, right, [shared[b] for b in c], c), c) for c in keys]
        good = [(p.coverage, p.used, c) for p, c in tried if p.coverage >= LEAST_COVERED]
        if good:
            best = max(good, key=lambda g: (round(g[0], 2), round(g[1], 2)))[2]
            ordered = tuple(b for b in right.columns if b in best)
            return [(tuple(shared[b] for b in ordered), ordered)]
    return []


def _is_key(engine: Engine, right: Table, profile: Profile, columns: Sequence[str]) -> bool:
    most = 1
    for c in columns:
        most *= max(1, profile.columns[c].distinct)
    if most < 0.9 * profile.rows:
        return False
    listed = ", ".join(quoted(c) for c in columns)
    twice = engine.rows(f"select 1 from {quoted(right.name)} group by {listed} having count(*) > 1 limit 1")
    return not twice


# --- findings ---


def partner_findings(
    engine: Engine,
    tables: Sequence[Table],
    profiles: Mapping[str, Profile],
    partners: Sequence[Partner] | None = None,
) -> list[Finding]:
    """What is wrong with joining these tables: rows without a partner, supposed keys that multiply rows.

    `partners` are those of find_partners, if they are known already.
    """
    partners = find_partners(engine, tables, profiles) if partners is None else partners
    by_name = {t.name: t for t in tables}
    made: list[Finding] = []
    for partner in partners:
        if partner.orphans and not _has_fuller(partner, partners, profiles):
            made += _gap(engine, partner, by_name, profiles)
    made += _multiplying(engine, tables, profiles, partners)
    return made


def _has_fuller(partner: Partner, partners: Sequence[Partner], profiles: Mapping[str, Profile]) -> bool:
    """Whether another version of the same partner has all rows: then this one is a selection of it."""
    return any(
        p.left == partner.left and p.left_by == partner.left_by and p.coverage > partner.coverage
        and are_versions(profiles[p.right], profiles[partner.right])
        for p in partners
    )  # fmt: skip


def _gap(
    engine: Engine, partner: Partner, tables: Mapping[str, Table], profiles: Mapping[str, Profile]
) -> Iterator[Finding]:
    with_key = partner.rows - partner.keyless
    share = partner.orphans / with_key
    by = " and ".join(partner.left_by)
    says = f"{partner.orphans:,} of {with_key:,} rows ({_percent(share)}) find no row of {partner.right} by {by}"
    severity, where, columns, rows = 0.6, partner.orphan_rows, partner.left_by, partner.orphans
    hint = f"add what {partner.right} lacks, or let the features say that there was no partner"
    cohort = _cohort(engine, partner, profiles[partner.left])
    ends = _ends(engine, partner, tables[partner.left], tables[partner.right])
    lacking = _lacking(engine, partner)
    if ends:
        says, severity = f"{says}; {ends}", 0.78
        hint = "carry the last value with its age, or ask whoever owns the feed why it stops"
    elif cohort:
        name, levels, orphans, of = cohort
        listed = ", ".join(sql_value(v) for v in levels)
        where = f"{quoted(name)} IN ({listed}) AND {where}"
        columns, rows, severity = (*partner.left_by, name), orphans, 0.85
        says = (
            f"{says}; {orphans:,} of them have {name} {', '.join(map(str, levels))}, where {orphans / of:.0%} find none"
        )
        hint = f"ask what {by} means for these; give them a default of their own instead of a null"
    elif lacking:
        says, severity = f"{says}: {lacking}", 0.7
    if not ends and (share < 0.001 or share > 0.5) and severity < 0.8:
        severity = 0.45  # a few, or tables that belong together only in part
    query = f"select {', '.join(quoted(c) for c in columns)}, count(*) as n from {quoted(partner.left)} "
    query += f"where {where} group by all order by n desc limit 20"
    yield Finding(partner.left, columns, "join_gap", severity, says, where, rows, query, hint, (partner.right,))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.01 else f"{share:.2%}"


def _lacking(engine: Engine, partner: Partner) -> str:
    """The values that the partner lacks, if they are few."""
    if len(partner.left_by) > 1:
        return ""
    column = quoted(partner.left_by[0])
    rows = engine.rows(
        f"select {column}::VARCHAR from {quoted(partner.left)} where {partner.orphan_rows} "
        f"group by 1 order by count(*) desc, 1 limit 9"
    )
    return f"{', '.join(r[0] for r in rows)} are not there" if 0 < len(rows) <= 8 else ""


def _ends(engine: Engine, partner: Partner, left: Table, right: Table) -> str:
    """In words, when the partner begins later or ends sooner; empty if orphans have nothing to do with it."""
    times = [(a, b) for a, b in zip(partner.left_by, partner.right_by, strict=True) if left.kinds[a] == TIME]
    for a, b in times:
        first, last = engine.rows(
            f"select min({quoted(b)})::TIMESTAMP, max({quoted(b)})::TIMESTAMP from {quoted(right.name)}"
        )[0]
        column = quoted(a)
        low, high, before, after = engine.rows(
            f"select min({column})::TIMESTAMP, max({column})::TIMESTAMP, "
            f"count(*) filter ({column} < {_moment(first)}), count(*) filter ({column} > {_moment(last)}) "
            f"from {quoted(left.name)} where {partner.orphan_rows}"
        )[0]
        if after >= 0.2 * partner.orphans:
            until = f"up to {high:%Y-%m-%d %H:%M}"
            return f"{partner.right} ends {last:%Y-%m-%d %H:%M}, {after:,} of them come after it, {until}"
        if before >= 0.2 * partner.orphans:
            return (
                f"{partner.right} begins {first:%Y-%m-%d %H:%M}, {before:,} of them come before it, from {low:%Y-%m-%d}"
            )
    return ""


def _moment(value: Any) -> str:
    return f"TIMESTAMP '{value:%Y-%m-%d %H:%M:%S}'"


def _cohort(engine: Engine, partner: Partner, profile: Profile) -> tuple[str, list[Any], int, int] | None:
    """The column and levels whose rows lose their partner far more often than others: (name, levels, orphans, rows)."""
    if partner.orphans < FEW or partner.coverage < 0.02:
        return None
    named = [
        c
        for c, column in profile.columns.items()
        if c not in partner.left_by and column.kind in (TEXT, FLAG, NUMBER) and 2 <= column.distinct <= MANY_LEVELS
    ]
    best: tuple[float, tuple[str, list[Any], int, int]] | None = None
    if not named:
        return None
    listed = ", ".join(quoted(c) for c in named)
    sets = ", ".join(f"({quoted(c)})" for c in named)
    rows = engine.rows(
        f"select {', '.join(f'grouping({quoted(c)})' for c in named)}, {listed}, count(*), sum(o::INT)::BIGINT from "
        f"(select {listed}, {partner.orphan_rows} as o from {quoted(partner.left)}) where o is not null "
        f"group by grouping sets ({sets})"
    )
    overall = partner.orphans / (partner.rows - partner.keyless)
    for n, name in enumerate(named):
        levels = [(r[len(named) + n], r[-2], r[-1] or 0) for r in rows if r[n] == 0]
        worst = [x for x in levels if x[1] >= FEW and x[2] / x[1] >= max(0.25, 3 * overall) and x[0] is not None]
        orphans, of = sum(x[2] for x in worst), sum(x[1] for x in worst)
        if not worst or len(worst) > 8:
            continue
        recall, precision = orphans / partner.orphans, orphans / of
        score = 2 * recall * precision / (recall + precision)
        if recall >= 0.4 and score >= 0.5 and (best is None or score > best[0] + 0.01):
            best = score, (name, sorted((x[0] for x in worst), key=str), orphans, of)
    return best[1] if best else None


def _multiplying(
    engine: Engine, tables: Sequence[Table], profiles: Mapping[str, Profile], partners: Sequence[Partner]
) -> Iterator[Finding]:
    """Columns that look like the key of a table, are shared with another one, and repeat."""
    for table in tables:
        profile = profiles[table.name]
        for name, column in profile.columns.items():
            filled = column.rows - column.nulls
            if not _is_whole(profile, name) or column.kind == TIME or filled < FEW or column.distinct >= filled:
                continue
            others = [
                t for t in tables
                if t.name != table.name and not are_versions(profiles[t.name], profile)
                and any(_plain(c) == _plain(name) and t.kinds[c] == column.kind for c in t.columns)
            ]  # fmt: skip
            if column.distinct < NEARLY_KEY * filled or not others:
                continue
            # what leads to a table of its own is no key here: several visits of one pupil are as it should be
            leads = any(p.left == table.name and p.left_by == (name,) for p in partners)
            if not leads:
                yield from _repeats(engine, table, name, others, partners)


def _repeats(
    engine: Engine, table: Table, name: str, others: Sequence[Table], partners: Sequence[Partner]
) -> Iterator[Finding]:
    column = quoted(name)
    where = f"{column} IN (SELECT {column} FROM {quoted(table.name)} GROUP BY {column} HAVING count(*) > 1)"
    rows, more = engine.rows(
        f"select coalesce(sum(n), 0)::BIGINT, coalesce(sum(n - 1), 0)::BIGINT from (select count(*) n from "
        f"{quoted(table.name)} where {column} is not null group by {column} having count(*) > 1)"
    )[0]
    tried = [measure(engine, other, table, [_own(other, name)], [name]) for other in others]
    joined = [m for m in tried if m.coverage >= LEAST_COVERED and m.rows_out > m.rows]
    if not rows or not joined:
        return
    worst = max(joined, key=_growth)
    whole = next((p.right_by for p in partners if p.right == table.name and name in p.right_by), ())
    says = (
        f"{name} is no key: {more:,} of {table.rows:,} rows repeat one; a join of {worst.left} by it turns "
        f"{worst.rows:,} rows into {worst.rows_out:,}"
    )
    hint = f"join by {', '.join(whole)}" if whole else "join by more columns, or take one row of each first"
    query = f"select {column}, count(*) as n from {quoted(table.name)} group by 1 having n > 1 order by n desc limit 20"
    also = tuple(m.left for m in joined)
    yield Finding(table.name, (name,), "join_fanout", 0.88, says, where, rows, query, hint, also)


def _own(table: Table, name: str) -> str:
    return next(c for c in table.columns if _plain(c) == _plain(name))


def _growth(made: Partner) -> float:
    return made.rows_out / max(1, made.rows)
