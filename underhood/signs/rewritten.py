"""Two columns of the same levels that mostly agree, and part where one outcome is rare: one is rewritten with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from underhood.ground.findings import Finding
from underhood.plan.operations import TEXT
from underhood.plan.render import quoted
from underhood.signs.profile import Profile
from underhood.tables.frames import Table
from underhood.tables.local import Engine

LEVELS = 200  # of a column; more is a name or a number, not a choice
ALIKE = 0.7  # share of the levels of both that both have
AGREE = 0.6  # share of rows in which both are the same
SUPPORT = 200  # rows in which they are not
ODDS = 6.0  # of the outcome, between rows that agree and rows that do not


def rewritten(engine: Engine, table: Table, profile: Profile, drawn: str) -> Iterator[Finding]:
    """Pairs such as what was asked for and what was given, of which the second changes only on the way to one outcome.

    `drawn` is a view of the table with the label as 0 and 1 in `__y`. The later
    column of the table is named. Weaker than an identity: a difference may also be
    known in time, so the sentence asks when it is written.
    """
    levels = {
        name: frozenset(value for value, _ in column.top)
        for name, column in profile.columns.items()
        if column.kind == TEXT and 3 <= column.distinct <= LEVELS
    }
    alike = [
        (one, other)
        for one, other in combinations([c for c in table.columns if c in levels], 2)
        if len(levels[one] & levels[other]) >= ALIKE * len(levels[one] | levels[other]) > 0
    ]
    for one, other in alike:
        apart = f"{quoted(one)} <> {quoted(other)}"
        n, n_apart, yes_apart, yes_same = engine.rows(
            f"select count(*), count(*) filter ({apart}), avg(__y) filter ({apart}), avg(__y) filter (not ({apart})) "
            f"from {quoted(drawn)} where {quoted(one)} is not null and {quoted(other)} is not null"
        )[0]
        if not n or n_apart < SUPPORT or n_apart > (1 - AGREE) * n:
            continue
        low, high = sorted(rate + 0.5 / n_apart for rate in (yes_apart, yes_same))
        if high >= 1 or high / (1 - high) < ODDS * low / (1 - low):
            continue
        says = (
            f"{other} differs from {one} in {n_apart / n:.1%} of the rows; it happened in {yes_apart:.1%} of these "
            f"and in {yes_same:.1%} of the others"
        )
        query = f"select {apart} as differs, count(*) from {quoted(table.name)} group by 1"
        hint = f"ask when {other} is written: if only on the way to the outcome, leave it out"
        rows = engine.rows(f"select count(*) from {quoted(table.name)} where {apart}")[0][0]
        yield Finding(table.name, (other,), "leak", 0.7, says, apart, rows, query, hint)
