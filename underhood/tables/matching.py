"""Messy names matched to clean ones: a table of matches that a person reads, corrects and freezes as a file.

Candidates share one of their rarest trigrams (so few pairs are compared), and are scored by
the Dice coefficient of their trigrams. Plain SQL, linear in rows where names differ.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from underhood.ground.errors import SourceError
from underhood.plan.render import quoted
from underhood.tables.local import Engine

Say = Callable[[str], None]

RAREST, AT_LEAST = 8, 2  # trigrams of a name by which its partners are looked for
ENOUGH = 1500  # partners of a name that are looked at
COMPARED = 10  # partners of a name that are compared letter by letter
LEAST = 0.5
CLOSE = 0.05  # a runner-up nearer than this makes a match doubtful

COLUMNS = ("value", "means", "likeness", "next", "runner_up", "rows")


@dataclass(frozen=True)
class Match:
    """One messy value and what it was taken for: empty if nothing was like enough.

    `likeness` is from 0 to 1 (1: the same letters and digits), `runner_up` the
    next best with its likeness `next`; `rows` have the value.
    """

    value: str
    means: str
    likeness: float
    next: float
    runner_up: str
    rows: int

    @property
    def is_doubtful(self) -> bool:
        """Whether a person should look: another is nearly as like, and neither is the same."""
        return bool(self.means) and self.likeness < 1 and self.likeness - self.next < CLOSE


def match_names(
    engine: Engine,
    messy: tuple[str, str],
    clean: tuple[str, str],
    *,
    least: float = LEAST,
    say: Say = lambda line: None,
) -> tuple[Match, ...]:
    """Each distinct text of a column matched to the most like text of another; both are (view, column).

    In the order of rows, the most frequent first. `means` is empty below `least`. Raises SourceError if one of the
    columns has no text.
    """
    for side, (view, column) in (("messy", messy), ("clean", clean)):
        _names(engine, side, view, column)
    say("looking for names that share a rare trigram")
    for table, sql in _CANDIDATES:
        engine.run(f"create or replace temp table {table} as {sql}")
    say("comparing them")
    found = engine.rows(_BEST)
    for table in ("__messy", "__clean", *(table for table, _ in _CANDIDATES)):
        engine.run(f"drop table {table}")
    return tuple(
        Match(value, (name or "") if (likeness or 0) >= least else "", likeness or 0.0, second or 0.0, other or "", n)
        for value, name, likeness, second, other, n in found
    )


# A messy name's trigrams that some clean name has, the rarest first, until they lead to enough partners.
_RARE = f"""
select id, g, n from (select id, unnest(grams) as g from __messy) join __grams using (g)
window w as (partition by id order by n, g rows between unbounded preceding and current row)
qualify row_number() over w <= {AT_LEAST} or (row_number() over w <= {RAREST} and sum(n) over w <= {ENOUGH})
"""
_PAIRS = f"""
select m, c from (
  select r.id as m, i.id as c, sum(1.0 / i.n) as shared from __rare r join __index i using (g) group by 1, 2
) qualify row_number() over (partition by m order by shared desc, c) <= {COMPARED}
union select m.id, c.id from __messy m join __clean c using (plain)
"""
_CANDIDATES = (
    ("__grams", "select g, count(*) as n from (select unnest(grams) as g from __clean) group by g"),
    ("__index", "select id, g, n from (select id, unnest(grams) as g from __clean) join __grams using (g)"),
    ("__rare", _RARE),
    ("__pairs", _PAIRS),
)
_BEST = """
with scored as (
  select m, a.name = b.name as same, b.name as name,
    2.0 * len(list_intersect(a.grams, b.grams)) / (len(a.grams) + len(b.grams)) as likeness
  from __pairs join __messy a on a.id = m join __clean b on b.id = c
), best as (
  select *, row_number() over (partition by m order by same desc, likeness desc, name) as place from scored
  qualify place <= 2
)
select a.name, b.name, b.likeness, r.likeness, r.name, a.n from __messy a
left join best b on b.m = a.id and b.place = 1 left join best r on r.m = a.id and r.place = 2
order by a.n desc, a.name
"""


def _names(engine: Engine, side: str, view: str, column: str) -> None:
    """The distinct texts of a column, with their letters and digits as `plain` and its trigrams."""
    plain = f"trim(regexp_replace(lower(strip_accents({quoted(column)}::VARCHAR)), '[^\\p{{L}}\\p{{N}}]+', ' ', 'g'))"
    engine.run(
        f"create or replace temp table __{side} as with v as (select {quoted(column)}::VARCHAR as name, count(*) as n, "
        f"any_value({plain}) as plain from {quoted(view)} where {quoted(column)} is not null group by 1) "
        "select row_number() over (order by name) as id, name, n, plain, list_distinct(list_transform(range(1, "
        "greatest(length(plain) + 1, 2)), lambda i: substring('  ' || plain || ' ', i::INT, 3))) as grams from v"
    )
    if not engine.rows(f"select count(*) from __{side}")[0][0]:
        raise SourceError("has no text to match", f"{view}.{column}", "name a column with names in it")


def write_matches(matches: Sequence[Match], path: Path) -> None:
    """The matches as a CSV: read it, correct `means`, keep it beside the project."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for m in matches:
            writer.writerow([m.value, m.means, f"{m.likeness:.3f}", f"{m.next:.3f}", m.runner_up, m.rows])
