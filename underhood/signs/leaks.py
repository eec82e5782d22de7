"""Columns that tell the label before it is known: equal to it, filled with it, or pure where nothing else is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.signs.partners import Partner
from underhood.signs.profile import Column, Profile
from underhood.signs.rewritten import rewritten
from underhood.tables.frames import Table, described
from underhood.tables.local import Engine, Frame

SAMPLED = 200_000  # rows that statistics are made of; what is exact is counted over all
SUPPORT = 200  # rows that a pure value needs
KNOWS = 0.995  # AUC of one column alone: honest strong predictors reach 0.97 (breast cancer's worst radius)
ROWS_FOR_AUC = 1000  # iris' petals part its species without a leak
BINS = 64
MOST_LEVELS = 12  # of a label
_DRAWN = "__drawn"


@dataclass(frozen=True)
class Target:
    """A column that a model could be asked to foretell, with the reasons for it.

    `way` is "flag" (two values), "levels" (a few) or "number"; `event` is the
    value that counts as having happened (null for a number). `weight` ranks.
    """

    table: str
    column: str
    way: str
    event: Any
    weight: float
    says: str


@dataclass(frozen=True)
class _Cell:
    """Rows of one value of a column: how many, and how many of them happened, in two halves drawn by row."""

    value: Any
    n: int
    yes: int
    n0: int
    yes0: int

    @property
    def rate(self) -> float:
        return self.yes / self.n


def leaks(engine: Engine, table: Table, profile: Profile, target: Target) -> Iterator[Finding]:
    """Columns that equal or determine the label, are filled with it, or have values that only one outcome has.

    The rules, in order: an exact identity; one column alone parts the outcomes
    (AUC ≥ 0.995 on at least 1,000 rows, by statistics of the other half of the
    rows); it is there or missing just as the outcome was; a value with support of
    which all or none happened, next to values of which many did.
    """
    if target.way == "number":
        yield from _identities(engine, table, profile, target)
        yield from _filled_with(engine, table, profile, target)
        return
    drawn = _draw(engine, table, target)
    if drawn is None:
        return
    base, rows = drawn
    certain = 1.0 if target.weight > 0.9 else 0.8
    for name in table.columns:
        if name == target.column or table.kinds[name] == "other":
            continue
        cells = _cells(engine, table, profile.columns[name], name)
        for made in _against(table, profile.columns[name], name, target, cells, base, rows):
            yield replace(made, severity=round(made.severity * certain, 3))
    for made in rewritten(engine, table, profile, _DRAWN):
        yield replace(made, severity=round(made.severity * certain, 3))
    yield from _filled_with(engine, table, profile, target)


def _draw(engine: Engine, table: Table, target: Target) -> tuple[float, int] | None:
    """A drawn copy of the table with the label as 0 and 1 and a half for each row; its base rate and rows."""
    some = f"using sample {SAMPLED} rows (reservoir, 1)" if table.rows > SAMPLED else ""
    column = quoted(target.column)
    engine.run(
        f"create or replace temp table {_DRAWN} as select *, ({column} = {_literal(target.event)})::INT as __y, "
        f"(row_number() over ())::BIGINT * 2654435761 // 65536 % 2 as __half from "
        f"(select * from {quoted(table.name)} where {column} is not null {some})"
    )
    base, rows = engine.rows(f"select avg(__y), count(*) from {_DRAWN}")[0]
    return (base, rows) if rows >= 100 and 0 < base < 1 else None


def _literal(value: Any) -> str:
    return sql_value(value) if isinstance(value, (str, bool)) or value is None else f"{value}"


def _cells(engine: Engine, table: Table, column: Column, name: str) -> list[_Cell]:
    """The outcomes by value: texts and few numbers as they are, many numbers in bins of equal counts."""
    q = quoted(name)
    number = f"epoch({q})" if table.kinds[name] == TIME else q
    if table.columns[name] in ("DOUBLE", "FLOAT"):
        number = f"case when isfinite({q}) then {q} end"
    if table.kinds[name] in (NUMBER, TIME) and column.distinct > 200:
        return _binned(engine.frame(f"select ({number})::DOUBLE as v, __y, __half from {_DRAWN}"))
    as_type = "VARCHAR" if table.kinds[name] in (TEXT, FLAG) else "DOUBLE"
    found = engine.rows(
        f"select ({number})::{as_type} as v, count(*), sum(__y)::BIGINT, "
        f"count(*) filter (__half = 0), coalesce(sum(__y) filter (__half = 0), 0)::BIGINT from {_DRAWN} group by 1"
    )
    return [_Cell(*row) for row in found]


def _binned(frame: Frame) -> list[_Cell]:
    """The outcomes by bin of equal counts; the bin of nulls, if there are any, has no value."""
    values, happened, is_first = frame["v"], frame["__y"], frame["__half"] == 0
    filled = np.sort(values[~np.isnan(values)])
    if not len(filled):
        return []
    cuts = np.unique(filled[[len(filled) * n // BINS for n in range(1, BINS)]])
    # a null sorts behind every cut: it gets a bin of its own
    bins = np.where(np.isnan(values), len(cuts) + 1, np.searchsorted(cuts, values))

    def sums(weights: np.ndarray[Any, Any]) -> list[int]:
        return [int(n) for n in np.bincount(bins, weights, minlength=len(cuts) + 2)]

    counts = (sums(np.ones(len(bins))), sums(happened), sums(is_first * 1.0), sums(happened * is_first))
    made = [_Cell(n if n <= len(cuts) else None, *each) for n, each in enumerate(zip(*counts, strict=True))]
    return [cell for cell in made if cell.n]


def _against(
    table: Table, column: Column, name: str, target: Target, cells: Sequence[_Cell], base: float, rows: int
) -> Iterator[Finding]:
    """What one column tells of the label that it should not be able to tell."""
    y = quoted(target.column)
    query = f"select {quoted(name)}, {y}, count(*) as n from {quoted(table.name)} group by all order by n desc limit 20"
    event = f"{target.column} = {target.event}"
    hint = f"leave it out, or give it the clock of {target.column} in late=…"

    def leak(severity: float, says: str, where: str | None = None, n: int | None = None) -> Finding:
        return Finding(table.name, (name,), "leak", severity, says, where, n, query, hint)

    filled = [c for c in cells if c.value is not None]
    if _parts_wholly(filled, rows, column):
        yield leak(0.97, f"{name} tells {event} in every row: it is the label in other words")
        return
    missing = _missing(table, name, target, cells, base, query)
    if missing:
        yield missing
        if missing.about == "leak":
            return
    auc = _auc(cells)
    if rows >= ROWS_FOR_AUC and auc >= KNOWS:
        yield leak(0.92, f"{name} alone tells {event} (AUC {auc:.3f} on rows not looked at)")
        return
    pure = _pure(name, column, filled, base)
    if pure:
        where, n, what, always = pure
        share = f"{event} in {'all' if always else 'none'} of {n:,} rows with {what}, in {base:.0%} of all rows"
        yield leak(0.8, f"{share}: as if it were written after {target.column}", where, n)
        return
    stand = _overwritten(filled, rows)
    if stand:
        value, n, rate, others = stand
        where = f"{quoted(name)} = {sql_value(value)}"
        says = (
            f"{name} {value} ({n:,} rows) has {event} in {rate:.1%}, all other large values in at most {others:.1%}: "
            "as if it were corrected for the other outcome"
        )
        yield leak(0.68, says, where, n)


def _parts_wholly(cells: Sequence[_Cell], rows: int, column: Column) -> bool:
    """Whether each value has one outcome only, with support for each value."""
    seen = sum(c.n for c in cells)
    if len(cells) < 2 or seen < 0.99 * rows or len(cells) > max(2, rows // 50) or rows < 100:
        return False
    mixed = sum(min(c.yes, c.n - c.yes) for c in cells)
    if column.kind in (NUMBER, TIME) and column.distinct > MOST_LEVELS:
        return mixed == 0 and rows >= ROWS_FOR_AUC
    sides = {c.yes > 0 for c in cells if c.n >= 20}
    return mixed <= 0.0002 * rows and len(sides) == 2 and (rows >= 500 or len(cells) <= 3)


def _missing(
    table: Table, name: str, target: Target, cells: Sequence[_Cell], base: float, query: str
) -> Finding | None:
    """Whether a column is there or missing just as the outcome was."""
    gone = next((c for c in cells if c.value is None), None)
    n = sum(c.n for c in cells)
    if gone is None or gone.n < 50 or n - gone.n < 50:
        return None
    there_yes = sum(c.yes for c in cells) - gone.yes
    there = n - gone.n
    sides = (("IS NULL", gone.n, gone.yes, there, there_yes), ("IS NOT NULL", there, there_yes, gone.n, gone.yes))
    event = f"{target.column} = {target.event}"
    for is_null, m, yes, others, others_yes in sides:
        rate, other_rate = yes / m, others_yes / others
        where, word = f"{quoted(name)} {is_null}", "missing" if is_null == "IS NULL" else "filled"
        if rate >= 0.98 and base < 0.9 and m >= 50:
            recall = yes / (yes + others_yes)
            says = f"{name} is {word} in {m:,} rows, {rate:.1%} of them with {event} (others: {other_rate:.1%})"
            about, severity = ("leak", 0.95) if recall >= 0.5 else ("missing_informative", 0.7)
            hint = f"it is written with the outcome: leave it out, or give it the clock of {target.column} in late=…"
            return Finding(table.name, (name,), about, severity, says, where, m, query, hint)
    rate, other_rate = gone.yes / gone.n, there_yes / there
    spread = (base * (1 - base) * (1 / gone.n + 1 / there)) ** 0.5
    if abs(rate - other_rate) >= max(0.15, 8 * spread):
        says = f"where {name} is missing ({gone.n:,} rows) {event} in {rate:.0%}, elsewhere in {other_rate:.0%}"
        hint = "ask when it is filled in; if after the outcome, leave it out, else make `is missing` a feature"
        return Finding(
            table.name, (name,), "missing_informative", 0.5, says, f"{quoted(name)} IS NULL", gone.n, query, hint
        )
    return None


def _auc(cells: Sequence[_Cell]) -> float:
    """How well the values' rates in one half of the rows rank the other half; 0.5 says nothing."""
    scored = []
    total_n, total_yes = sum(c.n0 for c in cells), sum(c.yes0 for c in cells)
    if not total_n:
        return 0.5
    prior = total_yes / total_n
    for c in cells:
        scored.append(((c.yes0 + 5 * prior) / (c.n0 + 5), c.n - c.n0, c.yes - c.yes0))
    scored.sort(key=lambda s: s[0])
    yes_all = sum(s[2] for s in scored)
    no_all = sum(s[1] for s in scored) - yes_all
    if not yes_all or not no_all:
        return 0.5
    below = wins = 0.0
    at = 0
    while at < len(scored):
        same = [s for s in scored[at:] if s[0] == scored[at][0]]
        yes, no = sum(s[2] for s in same), sum(s[1] - s[2] for s in same)
        wins += yes * (below + no / 2)
        below += no
        at += len(same)
    return wins / (yes_all * no_all)


def _pure(name: str, column: Column, cells: Sequence[_Cell], base: float) -> tuple[str, int, str, bool] | None:
    """A value, or all numbers beyond one, of which all or none happened though many did next to it.

    Gives the predicate, its rows, the predicate in words, and whether all happened.
    """
    if len(cells) < 2 or len(cells) > (30 if column.kind == NUMBER else 200):
        return None
    if column.kind == NUMBER:
        return _pure_tail(name, sorted(cells, key=lambda c: float(c.value)), base)
    # what makes a value pure is that chance would not (_is_pure); in a small table fewer rows support it
    support = min(SUPPORT, max(50, 0.04 * sum(c.n for c in cells)))
    large = [c for c in cells if c.n >= support]
    pure = [c for c in large if _is_pure(c.n, c.yes, base)]
    for c in pure:
        others = [o for o in large if o not in pure]
        if others and len(pure) <= 2 and all(_is_mixed(o.rate, base, c.yes) for o in others):
            return f"{quoted(name)} = {sql_value(c.value)}", c.n, f"{name} {c.value}", c.yes > 0
    return None


def _pure_tail(name: str, ordered: Sequence[_Cell], base: float) -> tuple[str, int, str, bool] | None:
    for cut in range(1, len(ordered)):
        tail, before = ordered[cut:], ordered[max(0, cut - 3) : cut]
        n, yes = sum(c.n for c in tail), sum(c.yes for c in tail)
        m, beside = sum(c.n for c in before), sum(c.yes for c in before)
        if n >= SUPPORT and m >= SUPPORT and _is_pure(n, yes, base) and _is_mixed(beside / m, base, yes):
            least = f"{before[-1].value:g}"
            return f"{quoted(name)} > {least}", n, f"{name} above {least}", yes > 0
    return None


def _is_pure(n: int, yes: int, base: float) -> bool:
    """All or none, where chance would give at least 30 of the other kind."""
    return (yes == 0 and n * base >= 30) or (yes == n and n * (1 - base) >= 30)


def _is_mixed(rate: float, base: float, yes: int) -> bool:
    """Whether a neighbour is far from pure: at least half as mixed as all rows."""
    return rate >= 0.5 * base if not yes else (1 - rate) >= 0.5 * (1 - base)


def _overwritten(cells: Sequence[_Cell], rows: int) -> tuple[Any, int, float, float] | None:
    """The most frequent of many names, if its rate is far beyond that of every other large one."""
    if len(cells) < 20 or not all(isinstance(c.value, str) for c in cells):
        return None
    ordered = sorted(cells, key=lambda c: -c.n)
    first, others = ordered[0], [c for c in ordered[1:] if c.n >= max(SUPPORT, 0.01 * rows)]
    if first.n < 0.25 * rows or len(others) < 3 or first.rate > 0.99:
        return None
    most = max(c.rate for c in others)
    if 0.02 < most < 0.99 and first.rate / (1 - first.rate) >= 2 * most / (1 - most):
        return first.value, first.n, first.rate, most
    return None


# --- numbers ---


def _identities(engine: Engine, table: Table, profile: Profile, target: Target) -> Iterator[Finding]:
    """Columns that the number equals, is a multiple, a sum, a difference or a product of, in every row."""
    numbers = [
        c for c, column in profile.columns.items()
        if column.kind == NUMBER and c != target.column and column.distinct > 2
    ][:40]  # fmt: skip
    left = list(_forms(numbers))
    y = quoted(target.column)
    for some in ("limit 200", ""):
        if not left:
            return
        checks = ", ".join(_always(form, y) for form, _, _ in left)
        rows = f"select * from {quoted(table.name)} where {y} is not null {some}"
        holds = engine.rows(f"select {checks} from ({rows})")[0]
        left = [form for form, is_so in zip(left, holds, strict=True) if is_so]
    fewest = min((len(columns) for _, columns, _ in left), default=0)
    for _, columns, shown in [form for form in left if len(form[1]) == fewest][:3]:
        query = f"select {', '.join(quoted(c) for c in columns)}, {y} from {quoted(table.name)} limit 20"
        says = f"{shown} = {target.column} in every row"
        yield Finding(table.name, columns, "leak", 0.96, says, None, None, query, "leave out what it is made of")


def _always(form: str, y: str) -> str:
    """Whether a form equals the number in every row that has it, and nearly every row has it."""
    is_equal = f"abs(({form}) - {y}) <= 1e-6 * greatest(1, abs({y}))"
    return f"coalesce(bool_and({is_equal}), false) and count({form}) > 0.9 * count({y})"


def _forms(numbers: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What a number may be made of: SQL, columns, words."""
    as_float = {c: f"{quoted(c)}::DOUBLE" for c in numbers}
    for a in numbers:
        yield as_float[a], (a,), a
    for a, b in combinations(numbers, 2):
        for form, words in (("{} + {}", "{} + {}"), ("{} - {}", "{} - {}"), ("{} * {}", "{} × {}")):
            yield form.format(as_float[a], as_float[b]), (a, b), words.format(a, b)
        yield f"{as_float[b]} - {as_float[a]}", (a, b), f"{b} - {a}"
    for three in combinations(numbers[:12], 3):
        yield " + ".join(as_float[c] for c in three), three, " + ".join(three)


def _filled_with(engine: Engine, table: Table, profile: Profile, target: Target) -> Iterator[Finding]:
    """Columns that are missing only where the label is missing too: written with the outcome, or lost with it."""
    column = profile.columns[target.column]
    if not column.nulls or column.nulls > 0.9 * column.rows:
        return
    names = [
        c for c, other in profile.columns.items() if c != target.column and 50 <= other.nulls <= 1.2 * column.nulls
    ]
    if not names:
        return
    y = quoted(target.column)
    counts = ", ".join(f"count(*) filter ({quoted(c)} is null and {y} is null)" for c in names)
    row = engine.rows(f"select {counts} from {quoted(table.name)}")[0]
    nested = {c: both for c, both in zip(names, row, strict=True) if both >= 0.99 * profile.columns[c].nulls}
    for name in [c for c in nested if table.kinds[c] == TEXT]:
        gone = profile.columns[name].nulls
        where = f"{quoted(name)} IS NULL"
        says = (
            f"{name} is missing in {gone:,} rows, and {nested[name] / gone:.0%} of them have no {target.column}: "
            "that it is missing tells the outcome"
        )
        hint = "take it from a source that knows it before, or leave it out with all that is joined by it"
        query = f"select {y} is null as no_label, count(*) as n from {quoted(table.name)} where {where} group by 1"
        yield Finding(table.name, (name,), "missing_informative", 0.86, says, where, gone, query, hint)
    others = tuple(c for c in nested if table.kinds[c] != TEXT)
    if others:
        most = max(nested[c] for c in others)
        says = (
            f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} missing only where {target.column} is "
            f"(up to {most:,} rows): known with the outcome"
        )
        hint = f"give them the clock of {target.column} in late=…, or leave them out"
        query = (
            f"select {y}, {', '.join(quoted(c) for c in others)} from {quoted(table.name)} where {y} is null limit 20"
        )
        yield Finding(table.name, others, "leak", 0.66, says, None, None, query, hint)


# --- beside the label's table ---


def leaks_beside(
    engine: Engine, table: Table, other: Table, partner: Partner, profiles: Mapping[str, Profile], target: Target
) -> Iterator[Finding]:
    """The same for the columns of a table whose rows have one row of the label's table."""
    if target.way == "number" or target.column in other.columns:
        return
    on = " and ".join(f"l.{quoted(a)} = r.{quoted(b)}" for a, b in zip(partner.left_by, partner.right_by, strict=True))
    view = f"{other.name} with {target.column}"
    engine.view(
        view, f"select l.*, r.{quoted(target.column)} from {quoted(other.name)} l join {quoted(table.name)} r on {on}"
    )
    try:
        joined = described(engine, view)
        profile = profiles[other.name]
        columns = {**profile.columns, target.column: profiles[table.name].columns[target.column]}
        for found in leaks(engine, joined, Profile(view, joined.rows, columns), target):
            if found.columns[0] not in partner.left_by:
                yield _elsewhere(found, other, table, partner)
    finally:
        engine.run(f"drop view if exists {quoted(view)}")


def _elsewhere(found: Finding, other: Table, table: Table, partner: Partner) -> Finding:
    using = " and ".join(
        f"l.{quoted(a)} = r.{quoted(b)}" for a, b in zip(partner.left_by, partner.right_by, strict=True)
    )
    query = found.query.replace(
        f"from {quoted(found.table)}", f"from {quoted(other.name)} l join {quoted(table.name)} r on {using}"
    ).replace(f"select {quoted(found.columns[0])}", f"select l.{quoted(found.columns[0])}")
    return replace(found, table=other.name, also=(table.name,), query=query)
