"""Tables that are versions, copies or parts of one another, found by themselves: what is odd about the odd one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from underhood.ground.findings import Finding, ranked
from underhood.moves.compare import compare, quietly
from underhood.moves.moves import Comparison
from underhood.tables.frames import Table
from underhood.tables.local import Engine

LEAST_SHARED = 0.7  # of the columns of the wider table, by name and kind
LEAST_COLUMNS = 3
MOST_MOVED = 0.5  # of the columns: above it the tables are of different things, or periods
# What is told of two versions; drift, new levels and other times are what versions are for.
TOLD = {
    "factor", "unit", "shift", "sign", "clock", "lag", "value", "filled", "emptied", "missing", "variant", "renamed",
    "vanished_level", "swapped", "rounded", "clipped", "duplicates", "format", "retyped", "cells",
}  # fmt: skip
_LATER = r"correct|fix|clean|final|repair|gold|true|curated|revis|good"
_EARLIER = (
    r"raw|dirty|publish|old|orig|partial|only|filter|sample|draft|dev(?![a-z])|beta|alpha|bad|broken|wrong|dump|subset"
)


def version_findings(
    engine: Engine,
    tables: Sequence[Table],
    profiles: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = quietly,
) -> list[Finding]:
    """What is wrong with tables that have a version, a copy or another part among `tables`.

    Tables are versions if they share most columns by name and kind (files without a
    header share DuckDB's column00, column01 …, so by position). Of each group one is
    trusted: the finished one by the names, else the largest, else the first; the
    others are held against it, and a finding is about them. It says which, and why.
    `profiles` are not needed; the argument keeps the finders of a look alike.
    """
    found: list[Finding] = []
    for group in groups(tables):
        sure = trusted(group)
        for odd in group:
            if odd is not sure:
                say(f"comparing {odd.name} with {sure.name}")
                found += _about(compare(engine, sure, odd, say=say), odd_because(sure, odd))
    return list(ranked(found))


def groups(tables: Sequence[Table]) -> list[list[Table]]:
    """The tables that are one table several times, by their columns; those that are alone are left out."""
    made: list[list[Table]] = []
    for table in tables:
        home = next((group for group in made if _are_alike(group[0], table)), None)
        if home is None:
            made.append([table])
        else:
            home.append(table)
    return [group for group in made if len(group) > 1]


def _are_alike(one: Table, other: Table) -> bool:
    if not one.rows or not other.rows:
        return False
    alike = [c for c in one.columns if c in other.columns]
    same_kind = [c for c in alike if one.kinds[c] == other.kinds[c]]
    widest = max(len(one.columns), len(other.columns))
    # two columns, such as a time and a measure, are common: then the names of the tables must be alike too
    fewest = 2 if widest == 2 and _stem(one.name) == _stem(other.name) else LEAST_COLUMNS
    return len(same_kind) >= fewest and len(alike) >= LEAST_SHARED * widest and len(same_kind) >= 0.5 * widest


def trusted(group: Sequence[Table]) -> Table:
    """The table that the others are held against."""
    wins = {t.name: sum(_less_finished(u.name, t.name) is not None for u in group if u is not t) for t in group}
    return max(group, key=lambda t: (wins[t.name], t.rows, -group.index(t)))


def odd_because(sure: Table, odd: Table) -> str:
    """Why one of two versions is taken to be the odd one."""
    by_name = _less_finished(odd.name, sure.name)
    if by_name:
        return by_name
    if odd.rows < sure.rows:
        return f"{odd.name} is the smaller one"
    return f"{sure.name} is taken as the reference"


def _less_finished(odd: str, sure: str) -> str | None:
    """Why `odd` is a less finished name than `sure`: words such as raw and corrected, versions, dates."""
    for words, name, rest in ((_LATER, sure, odd), (_EARLIER, odd, sure)):
        if _has_word(name, words) and not _has_word(rest, words):
            return f"{odd} is the less finished one by its name"
    if _has_word(sure, _EARLIER) or _has_word(odd, _LATER):
        return None
    if _stem(odd) == _stem(sure) and _version(odd) and _version(odd) < _version(sure):
        return f"{odd} is the earlier version"
    return None


def _has_word(name: str, words: str) -> bool:
    return bool(re.search(rf"(?<![a-z])({words})", name.casefold()))


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", name))


def _stem(name: str) -> str:
    return re.sub(r"[\W\d_]+", " ", name.casefold()).strip()


def _about(comparison: Comparison, why: str) -> Iterator[Finding]:
    n_columns = len(comparison.quiet) + len({c for m in comparison.moves for c in m.columns})
    told = [m for m in comparison.moves if m.kind in TOLD and (m.kind != "retyped" or m.rows)]
    is_same = bool(comparison.key)
    moved = {c for m in comparison.moves if m.kind == "drift" for c in m.columns}
    if not is_same and len(moved) > MOST_MOVED * n_columns:
        return
    for finding in replace(comparison, moves=tuple(told)).findings:
        yield replace(finding, says=f"{finding.says} (against {comparison.one}; {why})")
