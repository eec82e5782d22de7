"""All that is worth knowing about some tables before anyone uses them: profiles and findings, most important first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from underhood.ground.errors import SourceError, UnderhoodError, nearest
from underhood.ground.findings import Finding, ranked
from underhood.moves.versions import version_findings
from underhood.plan.render import quoted
from underhood.signs.partners import partner_findings
from underhood.signs.profile import Profile, profile_table
from underhood.signs.signs import table_findings
from underhood.signs.targets import target_findings
from underhood.tables.frames import Table
from underhood.tables.local import Engine

Say = Callable[[str], None]

MOST_TOLD = 3  # findings of one story that are told in full
KEPT_CELLS = 40_000_000  # larger tables are read where they are
WORTH = 0.5  # severity from which a finding is worth a place on the first screen
DIFFERENT = 0.3  # severity of a difference between two tables that concerns all rows
FIRST_SCREEN = 5  # findings of a table that are read first


@dataclass(frozen=True)
class Look:
    """Tables, their profiles by name, and what is wrong with them or worth knowing, most important first.

    `errors` tell of what was to be looked at too and cannot be read.
    """

    tables: tuple[Table, ...]
    profiles: Mapping[str, Profile]
    findings: tuple[Finding, ...]
    errors: tuple[UnderhoodError, ...] = ()

    def of(self, table: str) -> tuple[Finding, ...]:
        """The findings of one table, most important first."""
        return tuple(f for f in self.findings if f.table == table)


def look(engine: Engine, tables: Sequence[Table], target: str | None = None, say: Say = lambda line: None) -> Look:
    """Looks at tables together: each alone, then joined, against the target, and beside its versions.

    `target` names the column that a model is to foretell; without it likely ones are guessed.
    Raises SourceError if no table has it.
    """
    if target is not None:
        _see_target(tables, target)
    kept = _keep(engine, tables, say)
    try:
        return _look(engine, tables, target, say)
    finally:
        for table in kept:
            engine.run(f"drop table if exists temp.{quoted(table.name)}")


def _see_target(tables: Sequence[Table], target: str) -> None:
    table, _, name = target.rpartition(".")
    if not any(name in t.columns and table in ("", t.name) for t in tables):
        known = [f"{t.name}.{c}" if table else c for t in tables for c in t.columns]
        raise SourceError(f"there is no column {target!r}", ", ".join(t.name for t in tables), nearest(target, known))


def _keep(engine: Engine, tables: Sequence[Table], say: Say) -> list[Table]:
    """Keeps tables that are files in memory while they are looked at: a text file is parsed once, not a hundred times.

    The copy goes by the table's own name, which it hides until it is dropped.
    """
    views = {row[0] for row in engine.rows("select view_name from duckdb_views() where not internal and not temporary")}
    kept = [t for t in tables if t.name in views and t.rows * len(t.columns) <= KEPT_CELLS]
    for table in kept:
        say(f"reading {table.name}")
        engine.run(f"create or replace temp table {quoted(table.name)} as select * from main.{quoted(table.name)}")
    return kept


def _look(engine: Engine, tables: Sequence[Table], target: str | None, say: Say) -> Look:
    profiles = {table.name: profile_table(engine, table, say) for table in tables}
    found: list[Finding] = []
    for table in tables:
        found += table_findings(engine, table, say)
    if len(tables) > 1:
        say("looking for rows without a partner")
        found += partner_findings(engine, tables, profiles)
    say("looking for columns that tell the answer")
    found += target_findings(engine, tables, profiles, target)
    by_name = {table.name: table for table in tables}
    found += [_as_beside(f, by_name[f.table]) for f in version_findings(engine, tables, profiles, say)]
    return Look(tuple(tables), profiles, _screens(engine, as_stories(engine, found)))


def _as_beside(found: Finding, table: Table) -> Finding:
    """A move between two tables as a finding: that two populations differ throughout is no error of either."""
    is_throughout = found.where is None or found.rows == table.rows
    is_other_population = found.about in ("drift_or_definition_change", "swapped_or_misaligned")
    is_one_value = found.about in ("sentinel", "missing_disguised", "rounding_or_topcode") and found.rows == table.rows
    if is_one_value:
        return replace(found, about="real_event", severity=min(found.severity, DIFFERENT))
    if is_throughout and is_other_population:
        return replace(found, severity=min(found.severity, DIFFERENT))
    return found


def as_stories(engine: Engine, findings: Iterable[Finding]) -> list[Finding]:
    """Findings of one class that call for the same act in one table, told as one.

    Ten columns with "?" are one story. What is told twice, by class and columns, is kept once.
    """
    stories: dict[tuple[str, str, str, bool], list[Finding]] = defaultdict(list)
    for found in ranked(_once(findings)):
        stories[found.table, found.about, found.hint, found.severity >= WORTH].append(found)
    return [_story(engine, told) if len(told) > 1 else told[0] for told in stories.values()]


def _screens(engine: Engine, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The same for the first screen of each table: what would fall off it is told with its class, if that is on it."""
    by_table: dict[str, list[Finding]] = defaultdict(list)
    for found in ranked(findings):
        by_table[found.table].append(found)
    made: list[Finding] = []
    for listed in by_table.values():
        groups = [[f] for f in listed[:FIRST_SCREEN]]
        for found in listed[FIRST_SCREEN:]:
            alike = next((g for g in groups[:FIRST_SCREEN] if g[0].about == found.about and g[0].columns), None)
            if alike and found.columns and found.severity >= WORTH:
                alike.append(found)
            else:
                groups.append([found])
        made += [_story(engine, g) if len(g) > 1 else g[0] for g in groups]
    return ranked(made)


def _once(findings: Iterable[Finding]) -> list[Finding]:
    kept: dict[tuple[str, str, frozenset[str]], Finding] = {}
    for found in ranked(findings):
        kept.setdefault((found.table, found.about, frozenset(found.columns)), found)
    told = [(f.table, set(f.columns)) for f in kept.values() if f.about in ("leak", "real_event") and f.columns]
    return [
        f for f in kept.values() if not (_is_relation(f) and any(f.table == t and c <= set(f.columns) for t, c in told))
    ]


def _is_relation(found: Finding) -> bool:
    """Whether a finding says that columns give each other away, or never change: another may say why."""
    return found.about == "constant_or_copy" and found.where is None


def _story(engine: Engine, told: Sequence[Finding]) -> Finding:
    first = told[0]
    columns = tuple(dict.fromkeys(c for f in told for c in f.columns))
    parts = [f.where for f in told if f.where is not None]
    where = " or ".join(f"({p})" for p in dict.fromkeys(parts)) if len(parts) == len(told) else None
    rows = engine.rows(f"select count(*) from {quoted(first.table)} where {where}")[0][0] if where else None
    says = "; ".join(f.says for f in told[:MOST_TOLD])
    if len(told) > MOST_TOLD:
        says += f"; and {len(told) - MOST_TOLD} more: {', '.join(','.join(f.columns) for f in told[MOST_TOLD:])}"
    also = tuple(dict.fromkeys(t for f in told for t in f.also))
    return replace(first, columns=columns, says=says, where=where, rows=rows, also=also)
