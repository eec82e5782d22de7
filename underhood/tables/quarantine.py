"""A table held against its contract in one pass: which rules break, which rows are set aside, and why.

A row that breaks a rule without a share is set aside, with the sentences of all the rules that it
breaks; a rule with a share, or about the table as a whole, is told and sets nothing aside.
Set aside and accepted rows are together all rows: none is lost, none is in both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from underhood.contract.contract import Contract, read_contract, rule_json
from underhood.contract.rhythm import Fresh
from underhood.contract.rules import DUCKDB, Dialect, Key, Reader, Reference, Required, Rule, Type, figure
from underhood.ground.errors import ContractError, UnderhoodError, nearest, raise_all
from underhood.plan.exprs import digest
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.steps import Source

REASONS = "broken"
FIRST = 3  # examples of a broken rule
MOST_ASIDE = 0.5  # of the rows: with more, it is another table
MOST_STRETCHES, FEW = 50_000, 1000
_BITS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_VERSION = 1


class Runs(Protocol):
    """What a check needs of an engine."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    def run(self, sql: str) -> None:
        """Runs a statement."""

    def attempt(self, sql: str) -> str:
        """Runs a statement; what went wrong in one line, or an empty text."""


@dataclass(frozen=True)
class Held:
    """One rule after the check: how many rows (or moments, periods) break it, the first of them as text.

    `skipped` says why it could not be checked; null `broken` then.
    """

    rule: Rule
    holds: bool
    broken: int | None = 0
    first: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Checked:
    """A table held against its contract: of its `rows`, `aside` were set aside and are in the view `view`.

    `new` are columns that the contract does not know.
    """

    contract: Contract
    table: str
    rows: int
    aside: int
    held: tuple[Held, ...]
    new: tuple[str, ...] = ()
    view: str = ""

    @property
    def broken(self) -> tuple[Held, ...]:
        """The rules that do not hold."""
        return tuple(h for h in self.held if not h.holds and not h.skipped)

    @property
    def is_kept(self) -> bool:
        """Whether every rule that could be checked holds."""
        return not self.broken


def check(
    engine: Runs,
    contract: Contract,
    table: str,
    kinds: Mapping[str, str],
    *,
    others: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Checked:
    """Holds the view `table`, whose columns have `kinds`, against a contract.

    One pass decides about all rules on rows, uniqueness included, and sets rows aside in the view
    `quarantined TABLE` (all columns, and `broken`: the reasons); rules about the table take one narrow
    query each. `others` maps tables that rules refer to to the views that show them; `now` is the moment (UTC)
    that freshness is measured at. Nothing is written to the table.
    Raises ContractError, which names them, if rules do not run on this table's columns or values.
    """
    named = {name: DUCKDB.quoted(view) for name, view in (others or {}).items()}
    at = Reader(DUCKDB, DUCKDB.quoted(table), kinds, contract.reads, named, now)
    skipped = {n: why for n, rule in enumerate(contract.rules) if (why := _unread(rule, at))}
    read = [(n, rule) for n, rule in enumerate(contract.rules) if n not in skipped]
    hard = [(n, rule) for n, rule in read if rule.is_about_rows and not rule.share]
    soft = [(n, rule) for n, rule in read if rule.is_about_rows and rule.share]
    found: dict[int, Held] = {n: Held(contract.rules[n], False, None, (), why) for n, why in skipped.items()}
    for n, rule in enumerate(contract.rules):
        if isinstance(rule, Type | Required) and rule.column not in kinds:
            found[n] = Held(rule, False, None, (f"there is no column {rule.column!r}; {nearest(rule.column, kinds)}",))
    view = f"quarantined {table}"
    at = replace(at, repeats=_repeats(engine, at, hard))
    aside = _set_aside(engine, at, hard, kinds, view)
    rows = _count_soft(engine, at, soft, found)
    _count_hard(engine, contract, hard, kinds, view, found)
    for n, rule in read:
        if not rule.is_about_rows:
            told = engine.rows(rule.query(at))
            found[n] = Held(rule, not told, len(told), tuple(f"{what}" for what, _ in told[:FIRST]))
        elif rule.share and not found[n].holds:
            found[n] = _with_first(engine, contract, found[n], n, kinds, flagged_sql(at, [(n, rule)]))
    new = tuple(c for c in kinds if c not in contract.columns and c not in ("__row", "__key"))
    return Checked(contract, table, rows, aside, tuple(found[n] for n in sorted(found)), new, view)


def _unread(rule: Rule, at: Reader) -> str:
    """Why a rule cannot be checked on this table; "" if it can."""
    missing = [c for c in rule.columns if c not in at.kinds]
    if missing:
        return f"there is no column {missing[0]!r}"
    if isinstance(rule, Reference) and rule.table not in at.others:
        return f"the table {rule.table!r} is not open"
    return "the moment of the check is not known" if isinstance(rule, Fresh) and at.now is None else ""


def _repeats(engine: Runs, at: Reader, hard: Sequence[tuple[int, Rule]]) -> dict[str, list[int]]:
    """For keys of one column of whole numbers: those that repeat, if they are few.

    A bit for each number, in stretches of 8,192: where there are more rows than bits, something repeats,
    and only there rows are grouped; at a quarter of the cost of grouping all (bench/contract.py).
    """
    found: dict[str, list[int]] = {}
    for n, rule in hard:
        if not isinstance(rule, Key) or len(rule.of) != 1 or at.kinds[rule.of[0]] != NUMBER:
            continue
        key = at.dialect.quoted(rule.of[0])
        types = engine.rows(f"select typeof({key}) from {at.table} limit 1")
        if not types or types[0][0] not in _BITS:
            continue
        least, most, rows = engine.rows(f"select min({key}), max({key}), count({key}) from {at.table}")[0]
        if not rows or (most - least) >> 13 > min(rows, MOST_STRETCHES):
            continue
        stretches = engine.rows(
            f"select {key}::BIGINT >> 13 from {at.table} where {key} is not null group by 1 "
            f"having count(*) <> bit_count(bitstring_agg({key}::BIGINT & 8191, 0, 8191))"
        )
        if len(stretches) > FEW:
            continue
        within = f"{key}::BIGINT >> 13 in ({', '.join(str(s) for (s,) in stretches)})" if stretches else "false"
        repeats = engine.rows(
            f"select {key} from {at.table} where {within} group by 1 having count(*) > 1 limit {FEW + 1}"
        )
        if len(repeats) <= FEW:
            found[f"j{n}"] = [value for (value,) in repeats]
    return found


def flagged_sql(at: Reader, rules: Sequence[tuple[int, Rule]]) -> str:
    """Every row of the table, with a flag for each rule about rows: `__broken_3` is true where rule 3 is broken."""
    flags = "".join(f", {rule.breaks(at, f'j{n}')} as __broken_{n}" for n, rule in rules)
    joins = " ".join(text for n, rule in rules if (text := rule.beside(at, f"j{n}")))
    return f"select t.*{flags} from {at.table} t {joins}"


def quarantine_sql(contract: Contract, at: Reader, columns: Sequence[str]) -> str:
    """The rows that are set aside, with their reasons, as one query for the reader's engine."""
    rules = [(n, r) for n, r in enumerate(contract.rules) if r.is_about_rows and not r.share and not _unread(r, at)]
    kept = ", ".join(at.dialect.quoted(c) for c in columns)
    return f"select {kept}, {_reasons(at.dialect, rules)} from ({flagged_sql(at, rules)}) where {_any(rules)}"


def _any(rules: Sequence[tuple[int, Rule]]) -> str:
    return " or ".join(f"__broken_{n}" for n, _ in rules) or "false"


def _reasons(dialect: Dialect, rules: Sequence[tuple[int, Rule]]) -> str:
    cases = ", ".join(f"case when __broken_{n} then {dialect.value(rule.says())} end" for n, rule in rules)
    return f"concat_ws('; ', {cases}) as {REASONS}"


def _set_aside(engine: Runs, at: Reader, hard: Sequence[tuple[int, Rule]], kinds: Mapping[str, str], view: str) -> int:
    """Keeps the rows that break a rule in a table of their own, and shows them as the view; how many they are."""
    store = DUCKDB.quoted(f"{view} with flags")
    rules = [(n, r) for n, r in hard if r.breaks(at, f"j{n}") != "coalesce(false, false)"]
    query = f"select * from ({flagged_sql(at, rules)}) where {_any(rules)}"
    _keep_rows(engine, at, rules, store, query)
    kept = ", ".join(DUCKDB.quoted(c) for c in kinds)
    reasons = _reasons(DUCKDB, rules) if rules else f"'' as {REASONS}"
    engine.run(f"create or replace temp view {DUCKDB.quoted(view)} as select {kept}, {reasons} from {store}")
    aside: int = engine.rows(f"select count(*) from {store}")[0][0]
    return aside


def _count_hard(
    engine: Runs,
    contract: Contract,
    hard: Sequence[tuple[int, Rule]],
    kinds: Mapping[str, str],
    view: str,
    found: dict[int, Held],
) -> None:
    store = f"{view} with flags"
    there = {row[0] for row in engine.rows(f"describe {DUCKDB.quoted(store)}")}
    counted = [(n, rule) for n, rule in hard if f"__broken_{n}" in there]
    sums = ", ".join(f"count(*) filter (where __broken_{n})" for n, _ in counted)
    counts = engine.rows(f"select {sums} from {DUCKDB.quoted(store)}")[0] if counted else ()
    for n, rule in hard:
        found[n] = Held(rule, True)
    for (n, rule), count in zip(counted, counts, strict=True):
        found[n] = Held(rule, not count, count)
        if count:
            found[n] = _with_first(engine, contract, found[n], n, kinds, f"select * from {DUCKDB.quoted(store)}")


def _keep_rows(engine: Runs, at: Reader, rules: Sequence[tuple[int, Rule]], store: str, query: str) -> None:
    """Keeps a query over rules as a table. Raises ContractError that names each rule that does not run."""
    complaint = engine.attempt(f"create or replace temp table {store} as {query}")
    if not complaint:
        return
    shown = at.table.strip('"')
    errors: list[UnderhoodError] = []
    for n, rule in rules:
        why = engine.attempt(f"select count(*) from ({flagged_sql(at, [(n, rule)])}) where __broken_{n}")
        if why:
            hint = "mend the rule in the contract, or take it out"
            errors.append(ContractError(f"rule {n + 1} cannot be checked, {rule.says()}: {why}", shown, hint))
    raise_all(errors or [ContractError(f"cannot be checked: {complaint}", shown, "see whether it can be read")])


def _count_soft(engine: Runs, at: Reader, soft: Sequence[tuple[int, Rule]], found: dict[int, Held]) -> int:
    """Counts what breaks the rules with a share; the number of rows of the table."""
    sums = "".join(f", count(*) filter (where __broken_{n})" for n, _ in soft)
    _keep_rows(engine, at, soft, '"soft rules"', f"select count(*){sums} from ({flagged_sql(at, soft)})")
    rows, *counts = engine.rows('select * from "soft rules"')[0]
    for (n, rule), count in zip(soft, counts, strict=True):
        found[n] = Held(rule, count <= rule.share * rows, count)
    return int(rows)


def _with_first(engine: Runs, contract: Contract, held: Held, n: int, kinds: Mapping[str, str], flagged: str) -> Held:
    """A broken rule with its first rows as text: the columns it reads, then the key that finds them again."""
    rule = held.rule
    key = [c for c in contract.key if c not in rule.columns and c in kinds]
    quoted = {c: DUCKDB.quoted(c) for c in (*rule.columns, *key)}
    names = ", ".join(f"{q}::timestamp" if kinds[c] == TIME else q for c, q in quoted.items()) or "1"
    found = engine.rows(f"select {names} from ({flagged}) where __broken_{n} limit {FIRST}")
    told = []
    for row in found:
        values = ", ".join(f"{c} {figure(v)}" for c, v in zip(rule.columns, row, strict=False))
        by = ", ".join(f"{c} {figure(v)}" for c, v in zip(key, row[len(rule.columns) :], strict=False))
        told.append(f"{values} ({by})" if by else values)
    return Held(rule, held.holds, held.broken, tuple(told), held.skipped)


def checked_json(checked: Checked) -> dict[str, Any]:
    """What a check found, as `--json` has it."""
    held = [
        {**rule_json(h.rule), "says": h.rule.says(), "holds": h.holds, "broken": h.broken, "first": list(h.first)}
        | ({"skipped": h.skipped} if h.skipped else {})
        for h in checked.held
    ]
    head = {"table": checked.table, "rows": checked.rows, "aside": checked.aside, "is_kept": checked.is_kept}
    return {**head, "version": checked.contract.version, "new_columns": list(checked.new), "rules": held}


def drop(engine: Runs, checked: Checked) -> None:
    """Forgets the rows that were set aside."""
    engine.run(f"drop view if exists {DUCKDB.quoted(checked.view)}")
    engine.run(f"drop table if exists {DUCKDB.quoted(checked.view + ' with flags')}")


def broken_errors(checked: Checked, name: str = "") -> list[UnderhoodError]:
    """Each broken rule as an error: what it says, how many rows break it, the first of them."""
    errors: list[UnderhoodError] = []
    for held in checked.broken:
        n = "" if held.broken is None else f"{held.broken:,} "
        what = "rows break it" if held.rule.is_about_rows else "times it does not hold"
        first = f" (first: {held.first[0]})" if held.first else ""
        where = ".".join(filter(None, (name or checked.table, "+".join(held.rule.columns))))
        errors.append(
            ContractError(f"{held.rule.says()}: {n}{what}{first}", where, "mend the source, or change the contract")
        )
    return errors


def hold(engine: Runs, source: Source, schema: Mapping[str, str], folder: Path, record: Path) -> None:
    """Holds the view `raw SOURCE` to the source's contract, as `on_break` says.

    Rows that break it leave the view ("quarantine") and are kept in the record's cache; the
    view `quarantined SOURCE` shows them with their reasons, `broken SOURCE` the rules that do not hold.
    What was held once is not held again while neither rows nor contract change.
    Raises ContractError: all rules broken ("stop"), or more than half of the rows would leave.
    """
    if not source.contract:
        return
    contract = read_contract((folder / source.contract).resolve())
    raw = f"raw {source.name}"
    made_of = engine.rows("select sql from duckdb_views() where view_name like 'raw %' order by 1")
    name = f"{source.name}-contract-{digest([raw, made_of, contract.digest, source.on_break, _VERSION])}"
    kept, told = (record / "cache" / f"{name}{ending}" for ending in (".parquet", ".json"))
    if not told.exists():
        views = engine.rows("select view_name from duckdb_views() where view_name like 'raw %'")
        others = {view.removeprefix("raw "): view for (view,) in views}
        checked = check(engine, contract, raw, {**schema, "__row": NUMBER, "__key": TEXT}, others=others)
        if source.on_break == "stop":
            raise_all(broken_errors(checked, source.name))
        if source.on_break == "quarantine" and checked.aside > MOST_ASIDE * checked.rows:
            raise ContractError(
                f"{checked.aside:,} of {checked.rows:,} rows break the contract: another table, not a few bad rows",
                source.name,
                f"underhood contract check {source.path} --against {source.contract}",
                broken_errors(checked, source.name),
            )
        _keep(engine, checked, kept, told)
        drop(engine, checked)
    aside = f"read_parquet({DUCKDB.value(str(kept))})"
    engine.run(f"create or replace view {DUCKDB.quoted(f'quarantined {source.name}')} as select * from {aside}")
    rules = json.loads(told.read_text("utf-8"))
    rows = ", ".join(f"({DUCKDB.value(r['rule'])}, {r['broken']}, {DUCKDB.value(r['first'])})" for r in rules)
    some = f"(values {rows})" if rows else "(select '', 0, '' where false)"
    view = DUCKDB.quoted(f"broken {source.name}")
    engine.run(f"create or replace view {view} as select * from {some} as t(rule, broken, first)")
    if source.on_break == "quarantine" and engine.rows(f"select count(*) from {aside}")[0][0]:
        (before,) = engine.rows(f"select sql from duckdb_views() where view_name = {DUCKDB.value(raw)}")[0]
        inner = before.partition(" AS ")[2].rstrip(";\n ")
        left = f"select * from ({inner}) where __row not in (select __row from {aside})"
        engine.run(f"create or replace view {DUCKDB.quoted(raw)} as {left}")


def _keep(engine: Runs, checked: Checked, kept: Path, told: Path) -> None:
    """Writes the rows that were set aside, then what was broken: the second says that the first is whole."""
    part = kept.with_suffix(f".{os.getpid()}.part")
    try:
        engine.run(f"copy (select * from {DUCKDB.quoted(checked.view)}) to {DUCKDB.value(str(part))} (format parquet)")
        os.replace(part, kept)
        rules = [
            {"rule": h.rule.says(), "broken": h.broken or 0, "first": h.first[0] if h.first else ""}
            for h in checked.broken
        ]
        part.write_text(json.dumps(rules, indent=1, default=str), "utf-8")
        os.replace(part, told)
    finally:
        part.unlink(missing_ok=True)
