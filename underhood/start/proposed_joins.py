"""The joins of a project file to be: rows of partners as of the question, and figures over earlier rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.steps import RESERVED
from underhood.signs.partners import Partner
from underhood.signs.profile import Column
from underhood.signs.sensitive import sensitive
from underhood.signs.times import Clock
from underhood.start.draft import Function, JoinDraft, SourceDraft, plain_name
from underhood.start.offers import Offers, variables_of
from underhood.start.proposed_sources import Asked, clock_functions, source_of
from underhood.start.survey import SPANS, Survey, is_id

MOST_TAKEN, MOST_FIGURES, MANY_LEVELS = 12, 2, 1000
REAL_SHARE = 0.99  # of a partner's rows have its time: else they are taken to hold always
_ENTITY = re.compile(
    r"(^|_)(id|agent|user|customer|client|account|store|shop|product|item|carrier|station|hotel|depot)(_|$)", re.I
)
Late = tuple[tuple[str, tuple[str, ...]], ...]


def joins_of(
    found: Survey, offers: Offers, asked: Asked, label: Function, folder: Path
) -> tuple[list[SourceDraft], list[JoinDraft]]:
    """All joins that the partners allow, with the sources that they need."""
    sources: list[SourceDraft] = []
    joins: list[JoinDraft] = []
    own = found.tables[found.asked].columns
    taken = {c.casefold() for c in (*own, *RESERVED, *[f.name for f in asked.source.functions])}
    for partner in found.partners:
        if partner.left == found.asked and not set(partner.left_by) & set(asked.late):
            made = _asof(found, offers, asked, partner, taken, {s.variable for s in sources}, folder)
            if made:
                sources.append(made[0])
                joins.append(made[1])
    for source, join in _beside(found, offers, asked, taken, folder):
        sources.append(source)
        joins.append(join)
    return sources, [*joins, *_recents(found, offers, asked, label, taken)]


def _asof(
    found: Survey,
    offers: Offers,
    asked: Asked,
    partner: Partner,
    taken: set[str],
    used: set[str],
    folder: Path,
) -> tuple[SourceDraft, JoinDraft] | None:
    """One partner as of the question; null if it was refused, or only its time leads to it."""
    right, profile = partner.right, found.profiles[partner.right]
    pairs = list(zip(partner.left_by, partner.right_by, strict=True))
    times = [b for _, b in pairs if profile.columns[b].kind == TIME]
    pairs = [(a, b) for a, b in pairs if b not in times]
    if not pairs or (times and asked.clock is None):
        return None
    variable = variables_of(found)[right]
    suffix = f"_of_{plain_name(partner.left_by[0])}" if variable in used else ""
    named = f"join:{right}.{partner.left_by[0]}" if suffix else f"join:{right}"
    columns = dict(_takes(found, offers, partner, taken, suffix))
    what = f"{right} by {', '.join(partner.left_by)}"
    evidence = (
        f"{partner.coverage:.1%} of {partner.rows - partner.keyless:,} rows find one row of {right}, none finds "
        f"more; {partner.used:.0%} of {right} is used"
    )
    gap = next(
        (
            g
            for g in found.gaps
            if (g.table, g.also) == (partner.left, (right,)) and g.columns[: len(partner.left_by)] == partner.left_by
        ),
        None,
    )
    if gap is not None:
        evidence = f"{gap.says}; {partner.used:.0%} of {right} is used"
    if not columns or not offers.take(named, f"join {what}, as known when asked", evidence):
        return None
    functions, happened, why, late = _holds(found, offers, right, times)
    functions = [*functions, *[Function(a, (b,), b, f"{b} is {a} there") for a, b in pairs if a != b]]
    draft = source_of(found, offers, right, functions, happened, why, folder, suffix)
    taken |= {c.casefold() for c in columns}
    renamed = any(new != old for new, old in columns.items())
    listed = tuple(f'"{new}": "{old}"' if renamed else f'"{new}"' for new, old in columns.items())
    by = tuple(a for a, _ in pairs)
    return replace(draft, late=late), JoinDraft("asof", draft.variable, by, listed, "", f"{what}: {evidence}")


def _holds(found: Survey, offers: Offers, right: str, times: Sequence[str]) -> tuple[list[Function], str, str, Late]:
    """From when a partner's rows hold: the time in its key, a time of its own, or always; and what comes late in it."""
    if times:
        return [], times[0], f"assumed: known at {times[0]} itself; add a span if it is measured or sent later", ()
    clocks = found.clocks[right]
    clock = clocks.happened
    if clock is None or clock.filled < REAL_SHARE:
        return [], "", "assumed: its rows hold at all times; if they are overwritten later, they tell too much", ()
    if not offers.take(f"clock:{right}", f"{right} holds from {clock.name} on", clock.says):
        return [], "", "its rows hold at all times", ()
    functions = list(clock_functions(clock, clocks.all))
    late: list[tuple[str, tuple[str, ...]]] = []
    for later in clocks.later:
        own = tuple(c for c in later.columns if c not in clock.columns)
        if own:
            functions += [f for f in clock_functions(later, clocks.all) if f not in functions]
            late.append((later.name, (*own, later.name) if later.body else own))
    return functions, clock.name, f"{right} has a time of its own", tuple(late)


def _takes(found: Survey, offers: Offers, partner: Partner, taken: set[str], suffix: str) -> Iterator[tuple[str, str]]:
    """The columns taken from a partner, by the name that they get: no keys, no leaks, nothing late or sensitive."""
    right, clocks = partner.right, found.clocks[partner.right]
    own = clocks.happened.columns if clocks.happened else ()
    left_out = {c for later in clocks.later for c in later.columns if c not in own} | set(partner.right_by)
    for finding in found.leaks:
        for c in finding.columns if finding.table == right and finding.about == "leak" else ():
            if offers.take(f"leak:{right}.{c}", f"{right}.{c} is not taken", finding.says):
                left_out.add(c)
            else:
                left_out.discard(c)
    profile = found.profiles[right]
    kept = []
    for name, column in profile.columns.items():
        what = sensitive(name, column)
        is_kept = name not in left_out and says_something(column, profile.rows)
        if is_kept and not (
            what and offers.take(f"sensitive:{right}.{name}", f"{right}.{name} is not taken", f"it tells {what}")
        ):
            kept.append(name)
    for name in kept[:MOST_TAKEN]:
        is_taken = name.casefold() in taken or suffix
        yield (f"{plain_name(right)}{suffix}_{plain_name(name)}" if is_taken else name), name


def says_something(column: Column, rows: int) -> bool:
    """Whether a column can be a feature: a number, a flag or levels, and more than one of them."""
    if column.distinct < 2 or column.kind not in (NUMBER, TEXT, FLAG):
        return False
    return column.kind != TEXT or column.distinct <= min(MANY_LEVELS, max(20, rows / 20))


def _beside(
    found: Survey, offers: Offers, asked: Asked, taken: set[str], folder: Path
) -> Iterator[tuple[SourceDraft, JoinDraft]]:
    """Figures over the events of another table that lead to the same partner: the payments of an order's customer."""
    if asked.clock is None or asked.clock.way == "period":
        return
    ours = {p.right: p for p in found.partners if p.left == found.asked and len(p.left_by) == 1}
    for partner in found.partners:
        mine, clock = ours.get(partner.right), found.clocks[partner.left].happened
        if partner.left == found.asked or mine is None or mine.right_by != partner.right_by:
            continue
        if clock is None or clock.way == "period" or set(mine.left_by) & set(asked.late):
            continue
        events, by, key, over = partner.left, mine.left_by[0], partner.left_by[0], _window(asked.clock)
        figures = _figures(found, events, (*clock.columns, key))
        evidence = f"both lead to {partner.right} by {key}; {found.tables[events].rows:,} rows of {events}"
        says = f"figures over {events} of the same {by} in the last {over}"
        if {f.casefold() for f in figures} & taken or not offers.take(f"recent:{events}", says, evidence):
            continue
        taken |= {f.casefold() for f in figures}
        functions, happened, why, late = _holds(found, offers, events, ())
        functions += [Function(by, (key,), key, f"{key} is {by} there")] if key != by else []
        source = source_of(found, offers, events, functions, happened, why, folder)
        if happened:
            what = tuple(f"{name}={figure}" for name, figure in figures.items())
            yield replace(source, late=late), JoinDraft("recent", source.variable, (by,), what, over, evidence)


def _figures(found: Survey, events: str, keys: Sequence[str]) -> dict[str, str]:
    """A count, and the totals of up to two numbers."""
    name = plain_name(events)
    made = {f"{name}_count": "uh.count()"}
    for c, column in found.profiles[events].columns.items():
        is_key = c in keys or c in found.keys[events] or is_id(c)
        if column.kind == NUMBER and column.distinct > 2 and not is_key and len(made) <= MOST_FIGURES:
            made[f"{name}_{plain_name(c)}"] = f'uh.total("{c}")'
    return made


def _window(clock: Clock, delay: float = 0) -> str:
    """How far back figures look: about a twelfth of the time that the rows span, and as long as a label takes."""
    days = (clock.most - clock.least).total_seconds() / 86400 if clock.most and clock.least else 365
    size, text = next(((size, text) for size, text in SPANS if size <= days / 12), SPANS[-1])
    return f"{math.ceil(delay + max(size, delay))}d" if delay >= 1 else text


def _days(known: str) -> float:
    """The days of the span in a clock such as "placed + 77d"; 0 if it is shorter, or has none."""
    matched = re.search(r"\+ (\d+)d$", known)
    return float(matched[1]) if matched else 0.0


def _recents(found: Survey, offers: Offers, asked: Asked, label: Function, taken: set[str]) -> Iterator[JoinDraft]:
    """How often the label held in earlier rows of the same entity: a customer, an agent, a station."""
    clock, profile = asked.clock, found.profiles[found.asked]
    if clock is None or clock.way == "period" or not clock.most or not clock.least:
        return
    days = (clock.most - clock.least).total_seconds() / 86400
    over = _window(clock, _days(asked.known))
    for by in [c for c in profile.columns if _is_entity(found, asked, c)][:MOST_FIGURES]:
        count, share = f"{by}_count", f"{by}_share"
        if {count.casefold(), share.casefold()} & taken:
            continue
        each = profile.rows / max(1, profile.columns[by].distinct)
        evidence = f"{profile.columns[by].distinct:,} values, {each:,.0f} rows of each in {days:,.0f} days"
        if offers.take(f"recent:{by}", f"how often {label.name} in the last {over} for the same {by}", evidence):
            # where the window is long for the table, a count mostly tells how far from its beginning one is
            counts = (f"{count}=uh.count()",) if _days(f" + {over}") <= days / 8 else ()
            what = (*counts, f"{share}=uh.share({label.name})")
            yield JoinDraft("recent", asked.source.variable, (by,), what, over, f"{by}: {evidence}")


def _is_entity(found: Survey, asked: Asked, name: str) -> bool:
    """Whether rows with the same value are about the same thing: it leads to a partner, or is named like one."""
    column, rows = found.profiles[found.asked].columns[name], found.tables[found.asked].rows
    keys = {p.left_by[0] for p in found.partners if p.left == found.asked and len(p.left_by) == 1}
    words = re.sub("(?<=[a-z])(?=[A-Z])", "_", name)
    return (
        name not in asked.late
        and name not in found.keys[found.asked]
        and name.isidentifier()
        and column.kind in (TEXT, NUMBER)
        and 2 <= column.distinct <= rows / 3
        and (name in keys or _ENTITY.search(words) is not None)
        and not sensitive(name, column)
    )
