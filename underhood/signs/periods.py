"""Whether a label means the same at the ends of the time that a table covers: cut off, or not yet known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from underhood.ground.findings import Finding
from underhood.plan.render import quoted, sql_value
from underhood.signs.leaks import Target
from underhood.signs.profile import Profile
from underhood.signs.times import Clock, Clocks
from underhood.tables.frames import Table
from underhood.tables.local import Engine

FEWEST = 200  # rows of a period that is looked at
FAR = 0.15  # difference of a period's share from the others'


def period_findings(
    engine: Engine, table: Table, profile: Profile, target: Target, clocks: Clocks
) -> Iterator[Finding]:
    """Periods at either end in which the label happens far more or far less often than in between.

    At the start it is a selection (only rows with a long lead are there), at the
    end an outcome that is not yet known. Quarters, months or days, whichever give 6 to 40 periods.
    """
    if clocks.happened is None or target.way == "number":
        return
    clock = clocks.happened
    y = f"({quoted(target.column)} = {_literal(target.event)})::INT"
    step = _step(clock)
    if not step:
        return
    rows = engine.rows(
        f"select date_trunc('{step}', {clock.sql})::TIMESTAMP as t, count({y}), avg({y}) from {quoted(table.name)} "
        f"where {clock.sql} is not null and {quoted(target.column)} is not null group by 1 order by 1"
    )
    large = [(t, n, rate) for t, n, rate in rows if n >= FEWEST]
    if len(large) < 5:
        return
    cuts = _cut_by(clock, clocks)
    yield from _end(table, target, clock, step, large, True, cuts)
    yield from _end(table, target, clock, step, large[::-1], False, cuts)


def _literal(value: Any) -> str:
    return sql_value(value) if isinstance(value, (str, bool)) else f"{value}"


def _step(clock: Clock) -> str:
    if clock.least is None or clock.most is None:
        return ""
    days = (clock.most - clock.least).total_seconds() / 86400
    return next(
        (
            s
            for s, size in (("year", 365), ("quarter", 91), ("month", 30), ("week", 7), ("day", 1))
            if 6 <= days / size <= 40
        ),
        "",
    )


def _cut_by(clock: Clock, clocks: Clocks) -> Clock | None:
    """The later clock that a lead is counted back from: the table was cut by it, not by this one."""
    if clock.way != "lead":
        return None
    return next((c for c in clocks.all if c is not clock and set(c.columns) < set(clock.columns)), None)


def _counted(n: int, word: str) -> str:
    return word if n == 1 else f"{n} {word}s"


def _end(
    table: Table,
    target: Target,
    clock: Clock,
    step: str,
    periods: Sequence[tuple[datetime, int, float]],
    is_start: bool,
    cut_by: Clock | None,
) -> Iterator[Finding]:
    """The periods at one end, as many as differ far from the middle of all others."""
    inner = sorted(rate for _, _, rate in periods[2:])
    middle, low, high = inner[len(inner) // 2], inner[0], inner[-1]
    odd = []
    for at, n, rate in periods[:3]:
        if abs(rate - middle) < FAR or low - 0.03 <= rate <= high + 0.03:
            break
        odd.append((at, n, rate))
    if not odd:
        return
    edge = odd[-1][0]
    n = sum(o[1] for o in odd)
    share = sum(o[1] * o[2] for o in odd) / n
    if is_start:
        where = f"{clock.sql} < date_trunc('{step}', TIMESTAMP '{edge}') + INTERVAL 1 {step}"
    else:
        where = f"{clock.sql} >= date_trunc('{step}', TIMESTAMP '{edge}')"
    word = "first" if is_start else "last"
    says = (
        f"in the {word} {_counted(len(odd), step)} by {clock.name} ({edge:%Y-%m}) {target.column} = {target.event} in "
        f"{share:.1%} of {n:,} rows, in between {middle:.1%}"
    )
    columns = (clock.columns[-1],)
    if is_start:
        about = "sampling_or_coverage"
        hint = "train on a span in which every row had the same chance to be in the table"
        if cut_by is not None and cut_by.least is not None:
            says += (
                f": {cut_by.name} begins {cut_by.least:%Y-%m-%d}, only rows with a large {clock.columns[-1]} are there"
            )
    elif cut_by is not None and cut_by.most is not None:
        about = "sampling_or_coverage"
        hint = f"end the training set before it: build --until {edge:%Y-%m-%d}"
        says += f": {cut_by.name} ends {cut_by.most:%Y-%m-%d}, only rows with a small {clock.columns[-1]} are there"
    else:
        about = "label_censoring"
        hint = f"end the training set before it: build --until {edge:%Y-%m-%d}"
        says += ": the outcome may not be known yet"
    query = (
        f"select date_trunc('{step}', {clock.sql}) as period, count(*) as n, avg(({quoted(target.column)} = "
        f"{_literal(target.event)})::INT) as share from {quoted(table.name)} group by 1 order by 1"
    )
    yield Finding(table.name, columns, about, 0.72, says, where, n, query, hint)
