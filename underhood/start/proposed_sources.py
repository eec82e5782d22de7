"""The sources of a project file to be: key, times, columns that come late, cleaning."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from underhood.ground.errors import ProjectError
from underhood.ground.findings import Finding
from underhood.plan.operations import NUMBER, TEXT
from underhood.signs.leaks import Target
from underhood.signs.profile import Column, Profile
from underhood.signs.times import Clock
from underhood.start.draft import Function, SourceDraft
from underhood.start.offers import Offers, variables_of
from underhood.start.survey import Survey

ASSUMED = "assumed_moment"
TELLS = 0.6  # severity from which on missing values tell so much that the column is taken for late


@dataclass(frozen=True)
class Asked:
    """The asked table as a source: its clock (null if made up), late columns with reasons, when the label is known."""

    source: SourceDraft
    clock: Clock | None
    late: Mapping[str, str]
    known: str
    known_why: str
    notes: tuple[str, ...]


def asked_source(found: Survey, offers: Offers, target: Target, folder: Path) -> Asked:
    """The table whose rows are the questions."""
    table, clocks = found.asked, found.clocks[found.asked]
    clock = clocks.happened
    if clock is not None:
        ends = f"{clock.says}; {clock.least:%Y-%m-%d} … {clock.most:%Y-%m-%d}"
        clock = clock if offers.take(f"clock:{table}", f"asked at {clock.name}", ends) else None
    late = _late(found, offers, target, clock)
    notes: tuple[str, ...] = ()
    if clock is None:
        made, why = _assumed_moment(found, late)
        source = source_of(found, offers, table, [made], ASSUMED, "assumed: a made-up moment, see above", folder)
        known, known_why, notes = f"{ASSUMED} + 1d", "assumed: known a day later", (why,)
    else:
        known, known_why = found.settled
        wanted = [clock, *[c for c in clocks.later if c.name == known.split(" ")[0]]]
        functions = list(dict.fromkeys(f for c in wanted for f in clock_functions(c, clocks.all)))
        others = ", ".join(c.name for c in clocks.all if c is not clock)
        why = f"the first of its times; others: {others}" if others else "its only time; assumed: rows are known then"
        source = source_of(found, offers, table, functions, clock.name, why, folder)
        if clocks.known is not None and offers.take(
            f"known:{table}", f"rows are known at {clocks.known.name}", f"never before {clock.name}"
        ):
            more = [f for f in clock_functions(clocks.known, clocks.all) if f not in source.functions]
            why = f"{clocks.known.name} is never before {clock.name}: a row is known only then"
            source = replace(source, functions=(*source.functions, *more), known=clocks.known.name, known_why=why)
    whys = tuple(f"{column}: {why}" for column, why in late.items() if why)
    return Asked(replace(source, late=((known, tuple(late)),), late_why=whys), clock, late, known, known_why, notes)


def _late(found: Survey, offers: Offers, target: Target, clock: Clock | None) -> dict[str, str]:
    """Columns of the asked table that are known only with the label, each with the reason."""
    late = {target.column: "the label is made of it"}

    def offer(column: str, why: str) -> None:
        if column not in late and offers.take(f"leak:{column}", f"{column} is known only with the label", why):
            late[column] = why

    for finding in found.leaks:
        is_leak = finding.about == "leak" or (finding.about == "missing_informative" and finding.severity >= TELLS)
        for column in finding.columns if is_leak and finding.table == found.asked else ():
            offer(column, finding.says)
    own = set(clock.columns) if clock else set()
    for later in found.clocks[found.asked].later:
        for column in later.columns:
            if column not in own:
                offer(column, f"{later.name} is later than {clock.name if clock else 'the question'}")
    return late


def clock_functions(clock: Clock, every: Sequence[Clock]) -> Iterator[Function]:
    """The functions that make a clock, the one it counts from first."""
    for base in every:
        if base.name == clock.base:
            yield from clock_functions(base, every)
    if clock.body:
        yield Function(clock.name, clock.needs, clock.body, f"{clock.says}; UTC is assumed")


def _assumed_moment(found: Survey, late: Mapping[str, str]) -> tuple[Function, str]:
    """A moment made up for rows that have none: spread over a thousand days. Raises ProjectError if nothing can."""
    columns = found.profiles[found.asked].columns
    usable = [c for c in columns if c not in late and c.isidentifier() and columns[c].kind in (NUMBER, TEXT)]
    if not usable:
        raise ProjectError("no column tells a time or can stand in for one", found.asked, "add a time column")
    column = max(usable, key=lambda c: (columns[c].distinct, columns[c].kind == NUMBER))
    day = f"{column}.hashed(1000)" if columns[column].kind == TEXT else f"({column} * 7919) % 1000"
    why = (
        f"assumed: {found.asked} tells no time, so its rows are spread over 1,000 made-up days by {column}; what the "
        "build then calls later rows are other rows at random: nothing is known about drift, or about leaks in time"
    )
    return Function(ASSUMED, (column,), f"uh.date(2000, 1, 1) + uh.days({day})", why), why


def source_of(
    found: Survey,
    offers: Offers,
    table: str,
    functions: Sequence[Function],
    happened: str,
    why: str,
    folder: Path,
    suffix: str = "",
) -> SourceDraft:
    """One source with its key and its cleaning. `suffix` tells a second use of the same table apart."""
    profile, key = found.profiles[table], found.keys[table]
    key_why = "no one to three columns tell the rows apart: they are numbered"
    if key:
        key_why = f"one row per {', '.join(key)}: no two of {profile.rows:,} rows share it"
        if not offers.take(f"key:{table}", f"{table} has one row per {', '.join(key)}", key_why):
            key, key_why = (), "rows are numbered"
    name = variables_of(found)[table] + suffix
    return SourceDraft(
        variable=name,
        name=name,
        path=_path(found.tables[table].origin, folder),
        about=f"{profile.rows:,} rows, {len(profile.columns)} columns",
        table=table,
        key=key,
        key_why=key_why,
        functions=tuple(functions),
        happened=happened,
        happened_why=why,
        cleaning=tuple(_cleaning(found, offers, table, key)),
    )


def _path(origin: str, folder: Path) -> str:
    """A path as the file writes it: relative to its folder unless that climbs more than three folders."""
    made = os.path.relpath(Path(origin).resolve(), folder.resolve())
    return made if made.count("..") <= 3 else str(Path(origin).resolve())


# --- cleaning ---

_EQUALS = re.compile(r'"?([^"]+?)"?\s*=\s*(.+)')
_BEYOND = re.compile(r'"?([^"]+?)"?\s*([<>])=?\s*\(?(-?[\d.]+(?:e[+-]?\d+)?)(?:::DOUBLE)?\)?')
_TO_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_NUMBER = re.compile(r"-?[\d.]+(e[+-]?\d+)?")


def _cleaning(found: Survey, offers: Offers, table: str, key: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Calls of cleaning steps with their reasons; what is part of the key stays as it is."""
    for finding in found.cleanable:
        call = cleaning_call(finding, found.profiles[table]) if finding.table == table else ""
        is_wanted = call and not set(finding.columns) & set(key)
        if is_wanted and offers.take(f"clean:{table}.{finding.columns[0]}", f"{call} in {table}", finding.says):
            yield call, finding.says


def tidied(name: str, column: Column) -> str:
    """The step that makes one level of its spellings, if spaces and capitals are all they differ by.

    `tidy` knows the capitals from A to Z: where others differ too, each spelling is mapped to the most frequent one.
    """
    if not column.has_all or column.kind != TEXT:
        return ""
    levels = [str(v) for v, _ in sorted(column.top, key=lambda level: -level[1])]
    plain = {v: " ".join(v.split()) for v in levels}
    first: dict[str, str] = {}
    for level in levels:
        first.setdefault(plain[level].casefold(), level)
    if len(first) == len(levels):
        return ""
    if len(set(plain.values())) == len(first):
        return f'uh.clean.tidy("{name}")'
    if len({v.translate(_TO_LOWER) for v in plain.values()}) == len(first):
        return f'uh.clean.tidy("{name}", case="lower")'
    mapped = {level: plain[first[plain[level].casefold()]] for level in levels}
    return f'uh.clean.map_levels("{name}", { ({old: new for old, new in mapped.items() if old != new})!r})'


def cleaning_call(finding: Finding, profile: Profile) -> str:
    """The cleaning step that a finding's rows suggest, as it is written; empty if none fits."""
    name = finding.columns[0] if len(finding.columns) == 1 else ""
    column = profile.columns.get(name)
    if column is not None and finding.about == "category_variant":
        return tidied(name, column)
    if finding.where is None or column is None or '"' in name:
        return ""
    beyond = _BEYOND.fullmatch(finding.where)
    if beyond and beyond[1] == name and column.kind == NUMBER:
        return f'uh.clean.null_{"above" if beyond[2] == ">" else "below"}("{name}", {float(beyond[3]):g})'
    equals = _EQUALS.fullmatch(finding.where)
    if not equals or equals[1] != name:
        return ""
    value = equals[2].strip().removeprefix("(").removesuffix(")").removesuffix("::DOUBLE")
    if column.kind == NUMBER and _NUMBER.fullmatch(value):
        return f'uh.clean.null_value("{name}", {float(value):.12g})'
    if column.kind == TEXT and re.fullmatch(r"'[^']*'", value):
        return f'uh.clean.null_value("{name}", {value[1:-1]!r})'
    return ""
