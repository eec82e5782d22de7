"""Findings of one table, by general principles: no rule knows a table by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.doubles import double_findings
from underhood.signs.keys import key_findings
from underhood.signs.mappings import mapping_findings
from underhood.signs.places import place_findings
from underhood.signs.relations import relation_findings
from underhood.signs.seen import Seen, forget, see
from underhood.signs.signs_dates import date_findings
from underhood.signs.signs_order import order_findings
from underhood.signs.signs_texts import text_findings
from underhood.signs.signs_units import unit_findings
from underhood.signs.signs_values import value_findings
from underhood.tables.frames import Table
from underhood.tables.local import Engine

Say = Callable[[str], None]
Finder = Callable[[Seen], Iterator[Finding]]

FINDERS: tuple[tuple[str, Finder], ...] = (
    ("numbers", value_findings),
    ("units", unit_findings),
    ("places", place_findings),
    ("dates", date_findings),
    ("texts", text_findings),
    ("order in time", order_findings),
    ("relations between columns", relation_findings),
    ("mappings", mapping_findings),
    ("keys", key_findings),
    ("near-duplicates", double_findings),
)


def table_findings(engine: Engine, table: Table, say: Say = lambda line: None) -> list[Finding]:
    """What one table tells about itself. `rows` of a finding is exact: counted over the whole table."""
    if not table.rows:
        return []
    seen = see(engine, table)
    found: list[Finding] = []
    try:
        for name, finder in FINDERS:
            say(f"{table.name}: looking at its {name}")
            found += finder(seen)
    finally:
        forget(seen)
    return _counted(seen, found)


def _counted(seen: Seen, findings: list[Finding]) -> list[Finding]:
    """Every predicate counted over the whole table in one pass; `{rows}` in a sentence is that number."""
    asked = [f for f in findings if f.where is not None]
    if not asked:
        return [_told(f, f.rows, seen) for f in findings]
    sums = ", ".join(f"count(*) filter (where {f.where})" for f in asked)
    counts = iter(seen.rows(f"select {sums} from {quoted(seen.name)}")[0])
    return [_told(f, next(counts) if f.where is not None else None, seen) for f in findings]


def _told(finding: Finding, rows: int | None, seen: Seen) -> Finding:
    says = finding.says.replace("{rows}", f"{rows:,}" if rows is not None else "some")
    if seen.is_draw:
        says += f" (seen in a draw of {seen.held:,} of {seen.table.rows:,} rows)"
    return replace(finding, rows=rows, says=says)
