"""Rules of contracts held to the rows that a fault has struck: which break, from when on, and are silent without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from underhood.contract.contract import Contract, read_contract
from underhood.contract.evidence import infer
from underhood.contract.rhythm import Fresh, NeverFalls, Rows, Steps
from underhood.contract.rules import DUCKDB, Key, Reader, Reference, Rule
from underhood.faults.kinds import Scene
from underhood.plan.render import quoted, sql_value
from underhood.plan.steps import Asof
from underhood.repair.drill import Struck
from underhood.repair.workbench import Workbench
from underhood.tables.frames import Table
from underhood.tables.quarantine import flagged_sql

SPANS_D = (1, 2, 3, 7, 14, 28)  # days after which a rule about a table as a whole is looked at


def contracts_of(bench: Workbench, scene: Scene) -> dict[str, Sequence[Rule]]:
    """The rules of a project's contracts by source: those its sources name, and those in its folder `contracts`."""
    folder, found = bench.project.folder, dict[str, Sequence[Rule]]()
    for name, each in scene.plan.sources.items():
        paths = [folder / each.source.contract] if each.source.contract else []
        paths += [p for p in (folder / "contracts").glob("*.toml") if p.stem == name]
        rules = [rule for path in dict.fromkeys(p.resolve() for p in paths) for rule in read_contract(path).rules]
        if rules:
            found[name] = list(dict.fromkeys(rules))
    return found


def offered_rules(scene: Scene, say: Callable[[str], None]) -> dict[str, Sequence[Rule]]:
    """The rules by source that the first half of the decisions supports, as `underhood contract infer` finds them."""
    half = scene.engine.rows("select quantile_disc(asked_at, 0.5) from decisions")[0][0]
    found: dict[str, Sequence[Rule]] = {}
    for name in scene.plan.sources:
        columns = served_columns(scene, name)
        if columns:
            view = f"drilled {name}"
            where = f"where asked_at < {sql_value(half)}"
            scene.engine.view(view, f"select {', '.join(columns.values())} from decided {where}")
            kinds = _kinds(scene, name)
            types = {c: t for c, t, *_ in scene.engine.rows(f"describe {quoted(view)}")}
            rows = int(scene.engine.rows(f"select count(*) from {quoted(view)}")[0][0])
            say(f"what the rows of {name} support")
            found[name] = infer(scene.engine, Table(view, types, kinds, rows, name)).contract.rules
    return found


def served_columns(scene: Scene, source: str) -> dict[str, str]:
    """A source's columns as decisions carry them: name → SQL over `decided`. Those of windows are not among them."""
    plan, asks = scene.plan, scene.plan.system.asks
    taken = {made for join in asks.joins if hasattr(join, "take") for made in join.take}
    taken |= {made for join in asks.joins if hasattr(join, "figures") for made in join.figures}
    if source == asks.source.name:
        own = {c: f"row.{c}" for c in plan.inputs if c not in taken and c in plan.sources[source].schema}
        own |= {c: f"facts.{c}" for c in plan.facts if c in plan.sources[source].schema}
    else:
        own = {}
        for join in asks.joins:
            if isinstance(join, Asof) and join.source.name == source:
                own |= {by: f"row.{by}" for by in join.by if by in plan.inputs}
                own |= {of: f"row.{made}" for made, of in join.take.items() if made in plan.inputs}
    return {c: f"{quoted(held)} as {quoted(c)}" for c, held in own.items()}


def _kinds(scene: Scene, source: str) -> dict[str, str]:
    return {c: scene.plan.sources[source].schema[c] for c in served_columns(scene, source)}


def broken_since(struck: Struck, rules: Mapping[str, Sequence[Rule]]) -> dict[tuple[str, Rule], datetime]:
    """The rules that struck rows break and sound ones do not, each with the first moment (UTC).

    Sound rows are those of the same span. A rule about rows shows on its first row; one that allows a
    share, or that is about the table, at the end of the first span (see SPANS_D) in which it breaks.
    """
    found: dict[tuple[str, Rule], datetime] = {}
    for source, listed in rules.items():
        kinds = _kinds(struck.scene, source)
        is_asked = source == struck.scene.plan.system.asks.source.name
        readable = [r for r in listed if _can_check(r, kinds, is_asked)]
        if not readable:
            continue
        sides = [_reader(struck, source, table, readable, kinds) for table in ("sound", "decided")]
        of_rows = [r for r in readable if r.is_about_rows]
        for rule, at in _rows_broken(struck, of_rows, *sides):
            found[source, rule] = at
        for rule in (r for r in readable if not r.is_about_rows):
            late = _table_broken(struck, source, rule, readable, kinds)
            found |= {(source, rule): late} if late is not None else {}
    return found


def _can_check(rule: Rule, kinds: Mapping[str, str], is_asked: bool) -> bool:
    # a join repeats its source's rows and leaves some out: only the asked table's own rows can be counted
    if isinstance(rule, Fresh | Reference) or (not is_asked and isinstance(rule, Key | Rows | Steps | NeverFalls)):
        return False
    return all(c in kinds for c in rule.columns)


def _reader(
    struck: Struck, source: str, table: str, rules: Sequence[Rule], kinds: Mapping[str, str], days: int = 0
) -> Reader:
    columns = ", ".join([*served_columns(struck.scene, source).values(), "asked_at as __asked_at"])
    until = struck.since + timedelta(days=days)
    late = f"asked_at >= {sql_value(struck.since)}" + (f" and asked_at < {sql_value(until)}" if days else "")
    held = f"(select {columns} from {table} where {late})"
    return Reader(DUCKDB, held, kinds, Contract(source, tuple(rules)).reads, {})


def _rows_broken(struck: Struck, rules: Sequence[Rule], sound: Reader, hit: Reader) -> Iterator[tuple[Rule, datetime]]:
    if not rules:
        return
    numbered = list(enumerate(rules))
    sums = ", ".join(
        f"count(*) filter (where __broken_{n}), min(__asked_at) filter (where __broken_{n})" for n, _ in numbered
    )
    day = "date_trunc('day', __asked_at)"
    sides = []
    for at in (sound, hit):
        sql = f"select {day}, count(*), {sums} from ({flagged_sql(at, numbered)}) group by 1 order by 1"
        sides.append({row[0]: row[1:] for row in struck.scene.engine.rows(sql)})
    for n, rule in numbered:
        before = {d: (row[0], row[1 + 2 * n]) for d, row in sides[0].items()}
        if not rule.share and any(k for _, k in before.values()):
            continue
        for day_, row in sides[1].items():
            many, broken, first = row[0], row[1 + 2 * n], row[2 + 2 * n]
            were, was = before.get(day_, (0, 0))
            if broken > rule.share * many and was <= rule.share * were:
                yield rule, first if not rule.share else day_ + timedelta(days=1)
                break


def _table_broken(
    struck: Struck, source: str, rule: Rule, rules: Sequence[Rule], kinds: Mapping[str, str]
) -> datetime | None:
    for days in SPANS_D:
        sound, hit = (_reader(struck, source, table, rules, kinds, days) for table in ("sound", "decided"))
        if struck.scene.engine.rows(rule.query(hit)) and not struck.scene.engine.rows(rule.query(sound)):
            return struck.since + timedelta(days=days)
    return None


def holds_at_source(scene: Scene, source: str, rule: Rule) -> bool:
    """Whether the source's own rows keep the rule too: decisions carry only some of them, some of them often."""
    schema = scene.plan.sources[source].schema
    at = Reader(DUCKDB, quoted(source), schema, Contract(source, (rule,)).reads, {})
    if not rule.is_about_rows:
        return not scene.engine.rows(rule.query(at))
    sql = f"select count(*) filter (where __broken_0), count(*) from ({flagged_sql(at, [(0, rule)])})"
    broken, rows = scene.engine.rows(sql)[0]
    return bool(broken <= rule.share * rows)
