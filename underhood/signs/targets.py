"""What a table could be asked to foretell, and the columns that tell the answer before it is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from underhood.ground.findings import Finding
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted
from underhood.signs.leaks import MOST_LEVELS, Target, leaks, leaks_beside
from underhood.signs.partners import Partner, find_partners
from underhood.signs.periods import period_findings
from underhood.signs.profile import Column, Profile
from underhood.signs.sensitive import sensitive, sensitive_findings
from underhood.signs.times import find_clocks
from underhood.tables.frames import Table
from underhood.tables.local import Engine

RARE = 0.05  # share of rows below which a level is no likely question
LEAST_WEIGHT = 0.8  # of a column that is taken for the label when none is named

_OUTCOMES = (
    (1.0, r"label|target|y|class|outcome|result|churn(ed)?|default(ed)?|cancel+(l?ed|lation)?|canceled|fraud|survived|"
          r"converted|conversion|clicked|click|approved|returned|withdrawn|late|delay|delayed|died|readmitted|bad|"
          r"success|response|responded|purchased|attrition|effect|diagnosis|is_fraud|failed|failure|dropped|dropout|renewed|sold|won|lost|accepted|passed|hired|damaged|claimed|paid_back|no_show"),
    (0.6, r"income|quality|credit|rating|status|score|cnt|count|total|demand|price|amount|revenue|sales|severity"),
)  # fmt: skip
_BAD = re.compile(
    r"withdraw|cancel|fail|churn|default|fraud|late|no.?show|bad|return|lost|dead|died|reject|yes|true|1", re.I
)


def proposed_targets(profile: Profile, least: float = LEAST_WEIGHT) -> list[Target]:
    """The columns of a table that look like an outcome, the likeliest first; empty if none does.

    What counts: a name that tells an outcome, two values or a few, being the last column. Below
    `least` a column has hardly more than its place to say for it.
    """
    found = []
    names = list(profile.columns)
    marks = _marks(profile)
    for n, (name, column) in enumerate(profile.columns.items()):
        target = None if name in marks else _target(profile, name, column, n == len(names) - 1, n)
        if target and target.weight >= least:
            found.append(target)
    # of two alike, the later in the row is the later in life
    return sorted(found, key=lambda t: (-t.weight, -names.index(t.column)))


def _marks(profile: Profile) -> set[str]:
    """Columns that mark the levels of one category, numbered: type1, type2, type3 with two values each."""
    alike: dict[str, list[str]] = {}
    for name, column in profile.columns.items():
        numbered = re.fullmatch(r"(.*?)[ _.]?\d+", name)
        if numbered and column.distinct == 2:
            alike.setdefault(numbered[1], []).append(name)
    return {name for names in alike.values() if len(names) >= 3 for name in names}


def _target(profile: Profile, name: str, column: Column, is_last: bool, place: int) -> Target | None:
    filled = column.rows - column.nulls
    if column.kind not in (TEXT, NUMBER, FLAG) or column.distinct < 2 or filled < 20 or sensitive(name, column):
        return None
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).casefold()
    named = next((w for w, pattern in _OUTCOMES if re.search(rf"(?<![a-z])({pattern})(?![a-z])", words)), 0.0)
    if re.search(r"(^|_)(id|key|code|date|time|at|previous|prev|prior|num|type)(_|$)|^sched", words):
        named = 0.0
    few = column.distinct == 2 or (column.kind != NUMBER and column.distinct <= MOST_LEVELS)
    is_number = column.kind == NUMBER and column.distinct > 2
    if not few and not is_number:
        return None
    weight = named + 0.5 * (column.distinct == 2) + 0.25 * (few and column.distinct > 2) + 0.4 * is_last
    if words.startswith(("is_", "was_", "has_")) and column.distinct == 2:
        weight += 0.1
    if weight < 0.4 or (is_number and column.distinct >= filled):
        return None
    why = [f"named {name}"] if named else []
    why += ["the last column"] if is_last else []
    why += [f"{column.distinct} values" if few else f"a number, {column.least} … {column.most}"]
    way = "flag" if column.distinct == 2 else "levels" if few else "number"
    event = None if way == "number" else _event(column)
    return Target(profile.table, name, way, event, weight, ", ".join(why))


def _event(column: Column) -> Any:
    """The value that counts as having happened: one that sounds bad or true, else the rarer one."""
    levels = [v for v, _ in column.top]
    counts = dict(column.top)
    if column.kind == FLAG:
        return True
    if column.kind == NUMBER:
        return max(levels, key=float)
    bad = [v for v in levels if _BAD.search(str(v))]
    if bad:
        return max(bad, key=lambda v: counts[v])
    often = [v for v in levels if str(v).strip() and counts[v] >= RARE * column.rows]
    return min(often or levels, key=lambda v: counts[v])


# --- all findings about labels ---


def target_findings(
    engine: Engine,
    tables: Sequence[Table],
    profiles: Mapping[str, Profile],
    target: str | None = None,
    partners: Sequence[Partner] | None = None,
) -> list[Finding]:
    """Leaks, traps of the label's definition, missing values that tell the outcome, sensitive columns.

    `target` is a column, or "table.column"; without it the likeliest label of
    each table is taken, with less certainty. `partners` are those of
    find_partners, if they are known already. Raises nothing on tables without a label.
    """
    made: list[Finding] = []
    if partners is None:
        partners = find_partners(engine, tables, profiles) if len(tables) > 1 else []
    for table in tables:
        profile = profiles[table.name]
        made += sensitive_findings(table, profile)
        chosen = chosen_target(profile, target)
        if chosen is None or not table.rows:
            continue
        made += _label_findings(table, profile, chosen)
        made += leaks(engine, table, profile, chosen)
        made += period_findings(engine, table, profile, chosen, find_clocks(engine, table, profile))
        for partner in partners:
            if partner.right == table.name and partner.left != table.name and partner.coverage > 0.9:
                other = next(t for t in tables if t.name == partner.left)
                made += leaks_beside(engine, table, other, partner, profiles, chosen)
    return made


def chosen_target(profile: Profile, target: str | None) -> Target | None:
    """The target asked for, if this table has it with two values or more; the likeliest one if none was asked for."""
    if target is None:
        return next(iter(proposed_targets(profile)), None)
    table, _, name = target.rpartition(".")
    if name not in profile.columns or (table and table != profile.table):
        return None
    column = profile.columns[name]
    if column.distinct < 2 or not column.top:
        return None
    way = "flag" if column.distinct == 2 else "levels" if column.distinct <= MOST_LEVELS else "number"
    if way == "levels" and column.kind == NUMBER and column.distinct > 4:
        way = "number"
    return Target(profile.table, name, way, None if way == "number" else _event(column), 9.0, "asked for")


def _label_findings(table: Table, profile: Profile, target: Target) -> Iterator[Finding]:
    column = profile.columns[target.column]
    if not column.nulls or column.nulls > 0.9 * column.rows:
        return
    share = column.nulls / column.rows
    where = f"{quoted(target.column)} IS NULL"
    severity = 0.45 if share < 0.005 else 0.8 if target.weight > 0.9 else 0.6
    yield Finding(
        table.name, (target.column,), "label_definition", severity,
        f"{target.column} would be a label and is missing in {column.nulls:,} rows ({share:.1%}): a comparison with it "
        "makes them 'did not happen' or drops them",
        where, column.nulls, f"select * from {quoted(table.name)} where {where} limit 20",
        "find out what such a row means (cancelled, not yet known?) and say so in the label",
    )  # fmt: skip
