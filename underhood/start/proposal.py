"""From tables to a project file: each proposal with its evidence, each of which can be refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from underhood.ground.errors import ProjectError, nearest, raise_all
from underhood.plan.operations import FLAG, TEXT, TIME
from underhood.plan.steps import RESERVED
from underhood.signs.leaks import Target
from underhood.signs.profile import Column, Profile
from underhood.signs.sensitive import sensitive
from underhood.signs.times import Clock
from underhood.start.draft import Draft, Function, JoinDraft, plain_name
from underhood.start.offers import Offers, Proposal, variables_of
from underhood.start.proposed_joins import joins_of, says_something
from underhood.start.proposed_sources import Asked, asked_source
from underhood.start.survey import Survey, is_id

FEW = 50  # values up to which a column has groups to watch, and an id is no id
MONTHS_DAYS, WEEKDAYS_DAYS = 1100, 14  # that rows must span: a month that was seen once or twice tells nothing


@dataclass(frozen=True)
class Proposed:
    """A project file to be, and all that was proposed for it, what was refused included."""

    draft: Draft
    proposals: tuple[Proposal, ...]


def propose(found: Survey, folder: Path, name: str = "", refused: Collection[str] = ()) -> Proposed:
    """The project file that the survey suggests, without what was refused.

    `folder` is where the file will lie: paths are written relative to it. Raises
    ProjectError if a name that was refused was not proposed, or every label was.
    """
    offers = Offers(refused)
    target = _target(found, offers)
    asked = asked_source(found, offers, target, folder)
    label = label_function(target, found.profiles[found.asked])
    features, left_out = _features(found, offers, asked)
    sources, joins = joins_of(found, offers, asked, label, folder)
    joined = [w.split(":")[0].split("=")[0].strip(' "') for j in joins for w in j.what]
    draft = Draft(
        name=name or variables_of(found)[found.asked],
        notes=(*asked.notes, *_notes(found, asked, joins, refused)),
        sources=(asked.source, *sources),
        asked=asked.source.variable,
        at=asked.source.happened,
        at_why="assumed: the question is asked when the row happens" if asked.clock else "",
        joins=tuple(joins),
        features=(*features, *joined),
        left_out=tuple(left_out),
        label=label,
        label_known=asked.known,
        label_known_why=asked.known_why,
        watch=tuple(_watch(found, asked)),
    )
    # what hangs on another proposal is not offered once that one is refused
    known = {*offers.made, *(p.name for p in propose(found, folder, name).proposals)} if refused else offers.made
    unknown = [r for r in refused if r not in known]
    raise_all([ProjectError(f"nothing is proposed as {r!r}", "--refuse", nearest(r, known)) for r in unknown])
    return Proposed(draft, tuple(offers.made.values()))


def _target(found: Survey, offers: Offers) -> Target:
    for target in found.targets:
        event = f" = {target.event!r}" if target.event is not None else " in its largest quarter"
        if offers.take(f"label:{target.column}", f"foretell {found.asked}.{target.column}{event}", target.says):
            return target
    raise ProjectError("every label was refused", found.asked, "name another column with --label")


def label_function(target: Target, profile: Profile) -> Function:
    """The label as a function of its column: the event, or for a number its largest quarter.

    Raises ProjectError if the column's name cannot be an argument.
    """
    column, argument = profile.columns[target.column], target.column
    if not argument.isidentifier():
        raise ProjectError(f"{argument!r} cannot be the argument of a function", profile.table, "rename the column")
    names = (*profile.columns, *RESERVED)
    nulls = f"{column.nulls:,} rows have no {argument}: their label is null; " if column.nulls else ""
    if target.way == "number":
        cut = column.quantiles.get(0.75, column.mean)
        why = (
            f"{nulls}assumed: what is foretold is the largest quarter of {argument} ({target.says}); a label is a flag"
        )
        return Function(plain_name(f"high_{argument}", names), (argument,), f"{argument} > {float(cut or 0):g}", why)
    word = str(target.event).strip().casefold()
    tells = re.fullmatch(r"[a-z][a-z_]{2,}", word) and word not in ("yes", "true", "bad")
    stripped = re.sub(r"^(is|was|has)_", "", argument)
    is_true = word in ("1", "1.0", "true", "yes", "y", "t")
    called = stripped if stripped != argument else f"is_{argument}" if is_true else f"{argument}_is_{word}"
    name = plain_name(word if tells else called, names)
    body = argument if column.kind == FLAG else f"{argument} == {target.event!r}"
    why = f"{nulls}assumed: {target.event!r} is what is to be foretold ({target.says})"
    return Function(name, (argument,), body, why)


def _features(found: Survey, offers: Offers, asked: Asked) -> tuple[list[str | Function], list[str]]:
    """Columns and functions that the model may read, and for each column that it may not, why."""
    profile = found.profiles[found.asked]
    made: list[str | Function] = []
    left_out = [f"{name}, {why}" for name, why in asked.late.items()]
    for name, column in profile.columns.items():
        if name in asked.late:
            continue
        why = _why_not(found, offers, asked, name, column)
        if why:
            left_out.append(f"{name}, {why}")
        else:
            made.append(name)
    every = found.clocks[found.asked].all
    for clock in [c for c in every if asked.clock and c.name in (asked.clock.name, asked.clock.base)]:
        made += [f for f in _moments(clock) if f.name not in profile.columns]
    return made, left_out


def _why_not(found: Survey, offers: Offers, asked: Asked, name: str, column: Column) -> str:
    """Why a column is no feature; empty if it is one."""
    what = sensitive(name, column)
    clocks = [c for c in found.clocks[found.asked].all if name in c.columns]
    if what and offers.take(f"sensitive:{name}", f"{name} is watched, not learned from", f"it tells {what}"):
        return f"it tells {what}"
    if column.kind == TIME or any(c.way == "text" for c in clocks):
        return "it is a time"
    if (is_id(name) or name in found.keys[found.asked]) and column.distinct > FEW:
        return "it names one thing each"
    if any(c.way == "period" for c in clocks) and asked.clock is not None and asked.clock.way == "period":
        return "it names the period: a new one was never seen"
    if column.kind != TEXT and any(c.way in ("parts", "finer") for c in clocks):
        return f"it is part of {clocks[0].name}"
    if says_something(column, found.tables[found.asked].rows):
        return ""
    if column.distinct < 2:
        return "it has one value"
    return (
        f"{column.distinct:,} values are more than levels" if column.kind == TEXT else "it is no number, flag or text"
    )


def _moments(clock: Clock) -> Iterator[Function]:
    """Month, weekday and hour of a clock, as far as the rows' span lets them tell anything."""
    if clock.way == "period" or clock.least is None or clock.most is None:
        return
    days = (clock.most - clock.least).total_seconds() / 86400
    has_hours = any(t.hour or t.minute for t in (clock.least, clock.most))
    wanted = {"month": days >= MONTHS_DAYS, "weekday": days >= WEEKDAYS_DAYS, "hour": has_hours}
    for part in [p for p, is_wanted in wanted.items() if is_wanted]:
        yield Function(f"{clock.name}_{part}", (clock.name,), f"{clock.name}.{part}()")


def _watch(found: Survey, asked: Asked) -> Iterator[str]:
    for name, column in found.profiles[found.asked].columns.items():
        if name not in asked.late and 2 <= column.distinct <= FEW and sensitive(name, column):
            yield name


def _notes(found: Survey, asked: Asked, joins: Sequence[JoinDraft], refused: Collection[str]) -> Iterator[str]:
    """What the file says at its top: traps of the label, and tables that it does not use."""
    for finding in found.leaks:
        is_of_label = finding.about in ("label_definition", "label_censoring", "sampling_or_coverage")
        if is_of_label and finding.table == found.asked:
            yield f"{finding.says}: {finding.hint}"
    if found.versions:
        yield f"left out as other versions of {found.asked}: {', '.join(found.versions)}"
    used = {j.variable.split("_of_")[0] for j in joins} | {asked.source.variable}
    for table, variable in variables_of(found).items():
        if variable not in used and f"join:{table}" not in refused:
            yield f"not joined: {table}, {_why_alone(found, asked, table)}"


def _why_alone(found: Survey, asked: Asked, table: str) -> str:
    ways = [p for p in found.partners if p.left == found.asked and p.right == table]
    late = [c for p in ways for c in p.left_by if c in asked.late]
    if late:
        return f"for {late[0]}, which leads to it, is known only with the label"
    if ways and all(found.profiles[table].columns[b].kind == TIME for b in ways[0].right_by):
        return f"for only a time, {ways[0].left_by[0]}, leads to it"
    if ways:
        return "for it has no column to take"
    back = [p for p in found.partners if p.left == table and p.right == found.asked]
    if back:
        return f"for it has several rows for one of {found.asked}: they may be worth figures with .recent(…)"
    return f"for no columns lead from {found.asked} to one row of it"
