"""The contract that a table's own rows support: each rule with its evidence, with room for what honestly comes next.

A candidate is what the bulk of the rows says. All candidates are held against the table at once;
what many rows break is dropped, what a few rows break is kept and the rows are listed as a finding,
so that a wrong value never widens the rule that should catch it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from underhood.contract.contract import Contract
from underhood.contract.evidence_ties import tied_rules
from underhood.contract.rhythm import Unit
from underhood.contract.rules import (
    DAY,
    DUCKDB,
    WHOLE,
    Key,
    OneOf,
    Pattern,
    Range,
    Reader,
    Required,
    Rule,
    Type,
    figure,
)
from underhood.ground.findings import Finding, ranked
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.signs.profile import profile_table
from underhood.signs.statistics import Column, Profile
from underhood.tables.frames import Table, see_time
from underhood.tables.local import Engine
from underhood.tables.quarantine import Checked, Held, check, drop

ENOUGH = 20  # rows: what fewer say is no evidence
TAIL = 200  # values at each end that say how the tail goes on
NEXT = 0.05  # rows: a bound is where the tail, carried on, has so few rows of as many again
LEVELS = 60  # a column of more levels than this has no list of them
TOO_HEAVY = 30  # times: a tail that may go on so far has no bound
FEW = 0.001  # of the rows: so many may break a rule that the bulk supports
MAY_BREAK: Mapping[str, float] = {"range": 0.005, "never falls": 0.03}
PARTS = {"month": (1, 12), "day": (1, 31), "hour": (0, 24), "minute": (0, 60), "second": (0, 60)}
ABOUT: Mapping[str, tuple[str, float]] = {
    "type": ("type_or_format", 0.7),
    "key": ("key_violation", 0.9),
    "range": ("out_of_range", 0.85),
    "one of": ("category_variant", 0.5),
    "pattern": ("type_or_format", 0.5),
    "never falls": ("drift_or_definition_change", 0.8),
    "order": ("swapped_or_misaligned", 0.7),
    "sum": ("aggregate_mismatch", 0.75),
    "nulls": ("other", 0.4),
    "steps": ("missing_period", 0.6),
    "rows": ("sampling_or_coverage", 0.55),
    "reference": ("join_gap", 0.7),
    "determines": ("category_variant", 0.6),
    "holds": ("out_of_range", 0.7),
}


@dataclass(frozen=True)
class Proposed:
    """A contract as the table supports it, and what breaks it already, the most important first."""

    contract: Contract
    findings: tuple[Finding, ...]
    checked: Checked


Say = Callable[[str], None]


def infer(
    engine: Engine,
    table: Table,
    profile: Profile | None = None,
    *,
    happened: str = "",
    owner: str = "",
    say: Say = lambda line: None,
) -> Proposed:
    """The contract that a table supports. `happened` names its clock; found if not given.

    Every rule has its evidence. Rules that a few rows break are kept and those rows are findings.
    Raises SourceError if `happened` is no column of times.
    """
    if happened:
        see_time(table, happened)
    profile = profile or profile_table(engine, table, say)
    clock = happened or _clock(table, profile)
    say(f"{table.name}: what its rows support")
    ends = _ends(engine, table, profile, clock)
    rules = [r for c in profile.columns.values() for r in _of_column(c, ends.get(c.name))]
    rules += tied_rules(engine, table, profile, clock)
    checked = check(engine, Contract(table.name, tuple(rules)), table.name, table.kinds)
    kept: list[Rule] = []
    findings: list[Finding] = []
    for held in checked.held:
        rule = _kept(held, checked.rows, profile)
        if rule:
            kept.append(rule)
            findings += _finding(table, held, checked.rows)
    contract = Contract(table.name, tuple(kept), owner=owner, remarks=_remarks(table, clock))
    drop(engine, checked)
    return Proposed(contract, ranked(findings), checked)


def _remarks(table: Table, clock: str) -> tuple[str, ...]:
    by = f"; its clock is {clock}" if clock else ""
    return (
        f"What {table.name} promises, as {table.rows:,} rows support it{by}.",
        "Change it by hand where you know better.",
    )


def _clock(table: Table, profile: Profile) -> str:
    """The time column without nulls that has the most moments; "" if there is none."""
    times = [c for c in profile.columns.values() if c.kind == TIME and c.filled > 0.99 * c.rows]
    return max(times, key=lambda c: c.distinct).name if times else ""


@dataclass(frozen=True)
class _Ends:
    """A number column's largest and smallest values (at most TAIL), how many are whole, how it goes with time."""

    high: Sequence[float]
    low: Sequence[float]
    is_whole: bool
    along: float


def _ends(engine: Engine, table: Table, profile: Profile, clock: str) -> dict[str, _Ends]:
    names = [c.name for c in profile.columns.values() if c.kind == NUMBER and c.filled]
    parts = []
    for name in names:
        value = f"case when isfinite({quoted(name)}::DOUBLE) then {quoted(name)}::DOUBLE end"
        along = f"corr({value}, epoch({quoted(clock)}))" if clock else "null"
        if profile.columns[name].least == profile.columns[name].most:
            along = "null"
        parts.append(f"max({value}, {TAIL}), min({value}, {TAIL}), bool_and({value} = floor({value})), {along}")
    if not parts:
        return {}
    row = engine.rows(f"select {', '.join(parts)} from {quoted(table.name)}")[0]
    return {n: _Ends(row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3] or 0.0) for i, n in enumerate(names)}


def _of_column(column: Column, ends: _Ends | None) -> Iterator[Rule]:
    """What one column's values say."""
    if column.rows < ENOUGH or not column.filled:
        return
    yield _type(column, ends)
    required = _required(column)
    if required:
        yield required
    levels = _one_of(column, ends)
    if levels:
        yield levels
    elif column.kind == TEXT:
        yield from _pattern(column)
    elif ends:
        yield from _range(column, ends)
        yield from _unit(column, ends)


def _type(column: Column, ends: _Ends | None) -> Rule:
    kind = {NUMBER: NUMBER, TEXT: TEXT, FLAG: FLAG, TIME: TIME}.get(column.kind, TEXT)
    if column.sql_type == "DATE":
        kind = DAY
    if ends and ends.is_whole:
        kind = WHOLE
    return Type(column.name, kind)


def _required(column: Column) -> Rule | None:
    nulls = column.nulls / column.rows
    if not nulls:
        return Required(column.name)
    # halfway to all: a column that dies is seen; twice and a bit: a bad week is not
    if column.filled < ENOUGH:
        return None
    share = min(1 - (1 - nulls) / 2, max(2 * nulls, nulls + 5 * math.sqrt(nulls / column.rows), 0.001))
    return Required(column.name, share=_round_up(share), evidence=f"{column.nulls:,} of {column.rows:,} rows are null")


def _one_of(column: Column, ends: _Ends | None) -> Rule | None:
    if column.kind not in (TEXT, NUMBER) or not column.has_all or column.distinct > LEVELS:
        return None
    if ends and (not ends.is_whole or column.distinct > 12 or column.unit.startswith("calendar")):
        return None
    if column.filled < ENOUGH * column.distinct:
        return None
    rare = [v for v, n in column.top if n == 1]
    unseen = 5 * len(rare) / column.filled
    counted = sorted(column.top, key=lambda item: (-item[1], str(item[0])))
    if ends and counted[-1][1] < 0.0005 * column.filled:
        return None  # a count with a tail, not a code
    said = f"{column.distinct} values in {column.filled:,} rows; the rarest {counted[-1][0]!r} in {counted[-1][1]:,}"
    values = tuple(sorted((v for v, _ in counted), key=lambda v: (str(type(v)), v)))
    return OneOf(column.name, values, share=_round_up(max(0.01, unseen)), evidence=said)


def _pattern(column: Column) -> Iterator[Rule]:
    """The shapes that nearly all texts have; else how long they are."""
    merged: dict[str, int] = {}
    for shape, n in column.patterns:
        merged[_regex(shape)] = merged.get(_regex(shape), 0) + n
    best = sorted(merged.items(), key=lambda item: -item[1])[:5]
    covered, taken = 0, []
    for regex, n in best:
        taken.append(regex)
        covered += n
        if covered >= 0.999 * column.shaped:
            break
    if column.shaped >= 10 * ENOUGH and covered >= 0.999 * column.shaped:
        same = column.shortest == column.longest
        ends = (column.shortest, column.longest) if same else (None, None)
        said = f"{covered:,} of {column.shaped:,} texts look so"
        yield Pattern(column.name, "|".join(sorted(taken)), *ends, share=0.005, evidence=said)
    elif column.longest is not None and column.longest <= 120 and column.filled >= 10 * ENOUGH:
        said = f"{column.shortest} to {column.longest} characters in {column.filled:,} texts"
        yield Pattern(column.name, "", None, 2 * column.longest, share=0.001, evidence=said)


def _regex(shape: str) -> str:
    """A text shape ("A-9999") as a regular expression; runs of digits may have any length."""
    made, last = [], ""
    for character in shape:
        if character == "9" and last == "9":
            continue
        last = character
        known = {"A": "[A-Z]+", "a": "[a-z]+", "9": "[0-9]+", "…": ".*", " ": " "}
        made.append(known.get(character, character if character.isalnum() else "[" + _escaped(character) + "]"))
    return "".join(made)


def _escaped(character: str) -> str:
    return "\\" + character if character in "\\]^-[" else character


def _range(column: Column, ends: _Ends) -> Iterator[Rule]:
    """From where to where the bulk of the values says that they go, by how their tails go on."""
    if column.filled < 2 * ENOUGH or column.distinct < 3:
        return
    part = PARTS.get(column.name.lower().split("_")[-1]) if column.unit == "calendar" else None
    low, high = (float(part[0]), float(part[1])) if part else _bounds(column, ends)
    if low is None and high is None:
        return
    said = f"min {figure(column.least)}, middle {figure(column.quantiles[0.5])}, max {figure(column.most)}"
    unit = "" if column.unit.startswith("calendar") else column.unit
    yield Range(column.name, low, high, unit, evidence=said)


def _bounds(column: Column, ends: _Ends) -> tuple[float | None, float | None]:
    middle = float(column.quantiles[0.5])
    up = _reach([v - middle for v in ends.high if v > middle], column.filled)
    down = _reach([middle - v for v in ends.low if v < middle], column.filled)
    more = 2 if ends.is_whole else 0  # counts of one or two say little about three
    high = None if up is None else _outward(middle + up + more, ends.is_whole)
    low = None if down is None else -_outward(-(middle - down - more), ends.is_whole)
    least, most = float(column.least), float(column.most)
    if least >= 0 and (low is None or low < 0):
        low = 0.0
    if column.unit == "°":
        widest = 90.0 if column.name.lower().find("lat") >= 0 else 180.0
        low, high = max(low or -widest, -widest), min(high or widest, widest)
    if not ends.is_whole:
        for edge in (1.0, 100.0):  # shares and percents end there
            if 0.9 * edge <= most <= edge and high is not None and high > edge and least >= 0:
                high = edge
    if ends.along > 0.6:  # grows with time: what comes next is larger
        high = None
    if ends.along < -0.6:
        low = None
    return low, high


def _reach(distances: Sequence[float], n: int) -> float | None:
    """How far from the middle the tail goes, carried on to where NEXT of `n` more rows would lie.

    `distances` are the largest, falling. The growth of the distance per tenfold rarity is taken between
    the k1-th and the k2-th of them, never at the ends themselves: a few wrong values do not count
    (quantile extrapolation as of Weissman 1978, without a form for the tail).
    """
    k2 = min(len(distances), TAIL, max(10, n // 10))
    k1 = max(3, k2 // 10)
    if len(distances) < 10 or distances[k2 - 1] <= 0:
        return None
    growth = (distances[k1 - 1] / distances[k2 - 1]) ** (1 / math.log10(k2 / k1))
    times = max(growth, 1.25) ** math.log10(k1 / NEXT)
    return distances[k1 - 1] * times if times < TOO_HEAVY else None


def _outward(value: float, is_whole: bool) -> float:
    """The next value up with two digits that count."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    made = float(f"{math.ceil(value / unit) * unit:.12g}")
    return float(math.ceil(made)) if is_whole else made


def _round_up(share: float) -> float:
    """A share with two digits that count, never smaller."""
    if share <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return float(f"{min(1.0, math.ceil(share / unit - 1e-9) * unit):.6g}")


def _unit(column: Column, ends: _Ends) -> Iterator[Rule]:
    marks = [column.quantiles.get(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    if column.filled < 10 * ENOUGH or column.distinct < ENOUGH or any(m is None for m in marks):
        return
    if column.unit.startswith(("calendar", "°")) and column.unit not in ("°C", "°F"):
        return
    values = tuple(float(f"{float(m):.6g}") for m in marks if m is not None)
    # without a spread nothing tells a unit; what moves with time changes by itself
    if values[1] < values[3] and abs(ends.along) <= 0.6:
        said = column.unit_why or "quantiles at 5, 25, 50, 75 and 95 %"
        yield Unit(column.name, column.unit, values, evidence=said)


def _kept(held: Held, rows: int, profile: Profile) -> Rule | None:
    """The rule as it goes into the contract, or null when too many rows break it."""
    rule, n = held.rule, held.broken or 0
    if held.skipped:
        return None
    if rule.is_about_rows and not rule.share and n > max(3, MAY_BREAK.get(rule.kind, FEW) * rows):
        return None
    if rule.share and not held.holds:
        return None
    if rule.is_about_rows and not isinstance(rule, Required | OneOf):
        said = f"{n:,} of {rows:,} rows break{'s' if n == 1 else ''} it"
        rule = replace(rule, evidence="; ".join(e for e in (said, rule.evidence) if e))
    elif isinstance(rule, Required) and not rule.share:
        rule = replace(rule, evidence=f"0 of {rows:,} rows are null")
    return rule


def _finding(table: Table, held: Held, rows: int) -> Iterator[Finding]:
    """What breaks a rule of the contract already."""
    rule, n = held.rule, held.broken or 0
    if not n or rule.kind not in ABOUT or (rule.share and rule.is_about_rows and rule.kind != "holds"):
        return
    about, severity = ABOUT[rule.kind]
    where = predicate(rule, table.name, table.kinds)
    first = f", first {held.first[0]}" if held.first else ""
    if rule.is_about_rows:
        said = f"{n:,} of {rows:,} rows {'breaks' if n == 1 else 'break'} “{rule.says()}”{first}"
    else:
        said = f"{rule.says()}, but {n:,} time{'s' * (n > 1)} not{first}"
    if rule.kind == "holds":
        said += f"; {rule.evidence}"
    query = f"select * from {quoted(table.name)} where {where}" if where else ""
    hint = "let the contract set the rows aside, or clean them; if they are right, widen the rule"
    columns = rule.columns[:1] if rule.kind == "never falls" else rule.columns
    yield Finding(table.name, columns, about, severity, said, where or None, n if where else None, query, hint)


def predicate(rule: Rule, table: str, kinds: Mapping[str, str]) -> str:
    """The rows that break a rule, as a DuckDB predicate over the table; "" when it takes another table, or none."""
    name = DUCKDB.quoted(table)
    if isinstance(rule, Key):
        of = ", ".join(DUCKDB.quoted(c) for c in rule.of)
        return f"({of}) in (select ({of}) from {name} group by {of} having count(*) > 1)"
    if not rule.is_about_rows or rule.kind == "reference":
        return ""
    at = Reader(DUCKDB, name, kinds, {}, {})
    if rule.kind in ("determines", "never falls"):
        names = ", ".join(DUCKDB.quoted(c) for c in rule.columns)
        flagged = f"select {', '.join(at.raw(c) for c in rule.columns)}, {rule.breaks(at, 'j')} as b from {name} t "
        return f"({names}) in (select ({names}) from ({flagged}{rule.beside(at, 'j')}) where b)"
    return (
        rule.breaks(Reader(DUCKDB, name, kinds, {}, {}, row=""), "").removeprefix("coalesce(").removesuffix(", false)")
    )
