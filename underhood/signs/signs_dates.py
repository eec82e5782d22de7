"""Dates that stand for something else, or lie far away from all others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.seen import Seen

FEWEST = 20
# Where programs' clocks begin and end, and what people type for never.
CODES = frozenset(
    f"{year}-{day}"
    for day, years in {
        "01-01": (1753, 1800, 1900, 1904, 1970, 1980, 2000, 2100, 3000, 9999),
        "01-02": (1900,),
        "01-19": (2038,),
        "12-30": (1899,),
        "12-31": (1899, 1969, 2050, 2099, 2999, 4712, 8888, 9999),
    }.items()
    for year in years
)


def date_findings(seen: Seen) -> Iterator[Finding]:
    """A date at either end of a column, beyond a gap longer than all the time that the others cover."""
    for column, sql in seen.clocks.items():
        n = int(seen.rows(f"select count({sql}) from {seen.copy}")[0][0])
        if n < FEWEST:
            continue
        for order in ("asc", "desc"):
            # as text: years beyond 9999 are no dates of Python's
            found = seen.rows(
                f"select strftime({sql}, '%Y-%m-%d'), epoch({sql}), count(*) from {seen.copy} "
                f"where {sql} is not null and isfinite({sql}) group by 1, 2 order by 2 {order} limit 60"
            )
            middle = seen.rows(f"select epoch(quantile_disc({sql}, 0.5)) from {seen.copy} where isfinite({sql})")[0][0]
            yield from _end(
                seen, column, sql, [(str(d), float(t), int(k)) for d, t, k in found], float(middle), n, order
            )


def _end(
    seen: Seen, column: str, sql: str, found: list[tuple[str, float, int]], middle: float, n: int, order: str
) -> Iterator[Finding]:
    rows = 0
    for (day, time, k), (next_day, next_time, _) in pairwise(found):
        rows += k
        gap, reach = abs(next_time - time), abs(next_time - middle)
        is_code = day in CODES
        if rows > (0.5 if is_code else 0.002) * n + 2:
            return
        if gap > (0.5 if is_code else 1.5) * max(reach, 86400.0 * 30) and gap > 86400 * 365:
            cut = datetime.fromisoformat(next_day)
            where = f"{sql} {'<' if order == 'asc' else '>='} TIMESTAMP '{cut}'"
            if order == "desc":
                where = f"{sql} > TIMESTAMP '{cut}' + INTERVAL 1 DAY"
            yield Finding(
                seen.name,
                (column,),
                "sentinel" if is_code and rows == k else "out_of_range",
                0.86 if is_code else 0.8,
                f"{column} is {day} in {{rows}} rows, and the next date is {next_day}: "
                + ("a code, not a date" if is_code else "far away from all others"),
                where,
                None,
                f"select {sql}, count(*) from {quoted(seen.name)} group by 1 order by 1 {order} limit 10",
                "make it null, or correct the year",
            )
            return
