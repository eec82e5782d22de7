"""What is there to build a system of: times, keys, partners, label, leaks, and what to clean, of some tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from underhood.ground.errors import ProjectError, nearest
from underhood.ground.findings import Finding
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.plan.steps import RESERVED
from underhood.signs.leaks import Target
from underhood.signs.partners import Partner, are_versions, find_partners, partner_findings
from underhood.signs.profile import Profile
from underhood.signs.targets import chosen_target, proposed_targets, target_findings
from underhood.signs.times import Clocks, find_clocks
from underhood.tables.frames import Table
from underhood.tables.local import Engine

WEAK = 0.3  # a label of which hardly more than its place in the table speaks
CLEANABLE = ("sentinel", "out_of_range", "missing_disguised", "category_variant")
SPANS = ((90, "90d"), (30, "30d"), (7, "7d"), (1, "1d"), (1 / 24, "1h"))  # that divide a table's time in a dozen
_ID = re.compile(r"(^|_)(id|no|nr|key|uuid|guid)$|^id(_|$)|(?<=[a-z])(ID|Id|No|Nr)$")


@dataclass(frozen=True)
class Survey:
    """Some tables with all that was found about them. `asked` is the table whose rows are the questions.

    `gaps` are the findings about rows without a partner, `targets` its columns that could
    be foretold, the likeliest first; `leaks` the findings about leaks and missing values that tell, of all tables.
    `settled` is the clock of the asked table by which its label is known, as a project
    file writes it, and why; empty if the table tells no time.
    """

    tables: Mapping[str, Table]
    profiles: Mapping[str, Profile]
    clocks: Mapping[str, Clocks]
    keys: Mapping[str, tuple[str, ...]]
    partners: tuple[Partner, ...]
    gaps: tuple[Finding, ...]
    asked: str
    targets: tuple[Target, ...]
    leaks: tuple[Finding, ...]
    cleanable: tuple[Finding, ...]
    settled: tuple[str, str]
    versions: tuple[str, ...]


def survey(
    engine: Engine,
    tables: Sequence[Table],
    profiles: Mapping[str, Profile],
    findings: Iterable[Finding] = (),
    label: str = "",
) -> Survey:
    """Surveys tables that were profiled. `findings` are those of a look; `label` is a column, or table.column.

    Raises ProjectError if no table has that column, or no table has rows and columns to foretell.
    """
    filled = [t for t in tables if t.rows and t.columns]
    if not filled:
        raise ProjectError("there is no table with rows", ", ".join(t.name for t in tables), "name other files")
    asked, targets = _asked(filled, profiles, label)
    partners = find_partners(engine, filled, profiles)
    versions = tuple(t.name for t in filled if t.name != asked and are_versions(profiles[t.name], profiles[asked]))
    kept = [t for t in filled if t.name not in versions]
    inner = tuple(p for p in partners if p.left not in versions and p.right not in versions)
    told = [
        f
        for f in target_findings(engine, kept, profiles, f"{asked}.{targets[0].column}", inner)
        if f.about in ("leak", "missing_informative", "label_definition", "label_censoring", "sampling_or_coverage")
    ]
    clocks = {t.name: find_clocks(engine, t, profiles[t.name]) for t in kept}
    return Survey(
        {t.name: t for t in kept},
        profiles,
        clocks,
        {t.name: row_key(engine, t, profiles[t.name], partners) for t in kept},
        inner,
        tuple(f for f in partner_findings(engine, kept, profiles, inner) if f.about == "join_gap"),
        asked,
        targets,
        tuple(told),
        tuple(f for f in findings if f.about in CLEANABLE and f.severity >= 0.7),
        _settled(engine, asked, clocks[asked]),
        versions,
    )


def _settled(engine: Engine, table: str, clocks: Clocks) -> tuple[str, str]:
    """When the label of a row is known, the same for every outcome: a planned time and the usual wait after it.

    A clock that itself depends on the outcome (the day of cancelling) would let
    one outcome into the training set sooner than the other.
    """
    first = clocks.happened
    if first is None or first.least is None or first.most is None:
        return "", ""
    planned = [c for c in clocks.later if set(c.columns) <= set(first.columns)]
    base = planned[-1] if planned else first
    others = [c for c in clocks.later if c is not base and c not in planned and c.filled >= 0.01]
    waits = ", ".join(f"quantile_cont(epoch({c.sql}) - epoch({base.sql}), 0.99)" for c in others)
    if others:
        found = engine.rows(f"select {waits} from {quoted(table)}")[0]
        longest = max(float(w or 0) for w in found)
        slowest = others[[float(w or 0) for w in found].index(longest)]
        if longest > 0:
            says = f"by then 99% of the rows that get a {slowest.name} have it"
            return f"{base.name} + {_rounded_up(longest)}", says
    if planned:
        return base.name, f"assumed: known at {base.name}, which is planned when the row happens"
    days = (first.most - first.least).total_seconds() / 86400
    span = next((text for size, text in SPANS if size <= days / 12), "1h")
    return f"{first.name} + {span}", f"assumed: known {span} later; no column says when"


def _rounded_up(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds > size or unit == "min":
            return f"{max(1, math.ceil(seconds / size))}{unit}"
    return "1min"


def _asked(tables: Sequence[Table], profiles: Mapping[str, Profile], label: str) -> tuple[str, tuple[Target, ...]]:
    """The table to ask about, and its targets: the one with the likeliest label, of equal ones the largest."""
    if label:
        # a column of a name that Underhood adds itself goes by another one here: label_
        names = (label, f"{label}_") if label.rpartition(".")[2].casefold() in RESERVED else (label,)
        chosen = [(t, chosen_target(profiles[t.name], name)) for t in tables for name in names]
        having = [(t, c) for t, c in chosen if c is not None]
        if not having:
            known = [f"{t.name}.{c}" for t in tables for c in t.columns]
            raise ProjectError(
                f"no table has a column {label!r} of two values or more", "--label", nearest(label, known)
            )
        table, target = max(having, key=lambda pair: pair[0].rows)
        return table.name, (target, *proposed_targets(profiles[table.name], WEAK))
    for least in (0.8, WEAK):
        ranked = [
            (found[0].weight, t.rows, t.name, found)
            for t in tables
            if (found := proposed_targets(profiles[t.name], least))
        ]
        if ranked:
            best = max(ranked, key=lambda r: r[:3])
            return best[2], tuple(best[3])
    numbers = [
        (t.rows, t.name, c)
        for t in tables
        for c, column in profiles[t.name].columns.items()
        if column.kind == NUMBER and 10 < column.distinct < column.rows and c.isidentifier()
    ]
    if numbers:
        _, name, column = max(numbers, key=lambda n: (n[0], n[1]))
        says = "no column looks like an outcome; this is the first number"
        return name, (Target(name, column, "number", None, 0.0, says),)
    raise ProjectError(
        "no column looks like something to foretell", ", ".join(t.name for t in tables), "name one with --label"
    )


def row_key(engine: Engine, table: Table, profile: Profile, partners: Sequence[Partner]) -> tuple[str, ...]:
    """The fewest columns that tell each row from every other; empty if up to three do not."""
    whole = [
        c
        for c, column in profile.columns.items()
        if column.kind in (TEXT, TIME, NUMBER) and not column.nulls and _is_whole(profile, c)
    ]
    single = [c for c in whole if profile.columns[c].distinct >= 0.97 * table.rows and _unique(engine, table, [c])]
    if single:
        return (next((c for c in single if is_id(c)), single[0]),)
    used = [p.right_by for p in partners if p.right == table.name and not p.right_keyless]
    if used:
        return min(used, key=len)
    shared = {c for p in partners if p.left == table.name for c in p.left_by}
    likely = [c for c in whole if is_id(c) or c in shared or profile.columns[c].kind == TIME]
    likely = sorted(likely, key=lambda c: -profile.columns[c].distinct)[:6]
    for size in (2, 3):
        for columns in combinations(likely, size):
            most = 1
            for c in columns:
                most *= profile.columns[c].distinct
            if most >= 0.97 * table.rows and _unique(engine, table, columns):
                return tuple(c for c in table.columns if c in columns)
    return ()


def is_id(name: str) -> bool:
    """Whether a column is named like what tells one thing from another: customer_id, InvoiceNo."""
    return _ID.search(name) is not None


def _is_whole(profile: Profile, name: str) -> bool:
    column = profile.columns[name]
    if column.kind != NUMBER:
        return True
    ends = [v for v in (column.least, column.most, *column.quantiles.values()) if v is not None]
    return all(float(v) == int(v) for v in ends)


def _unique(engine: Engine, table: Table, columns: Sequence[str]) -> bool:
    listed = ", ".join(quoted(c) for c in columns)
    return not engine.rows(f"select 1 from {quoted(table.name)} group by {listed} having count(*) > 1 limit 1")
