"""Two versions of a table's contract: what changed, and what breaks downstream because of it, with owners.

Data impedance: whoever makes the events changes them, and whoever learns from them finds out
months later. Here each change is followed along the lineage before it is rolled out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from underhood.contract.contract import Contract
from underhood.contract.rhythm import CONVERSIONS, Rows, Steps, Unit
from underhood.contract.rules import TYPES, WHOLE, OneOf, Pattern, Range, Required, Rule, figure, share_of
from underhood.ground.errors import NotFoundError, nearest
from underhood.plan.lineage import COLUMN, RAW, Lineage, Reached, owners, uses

BREAKS, CHANGES, HARMLESS = "breaks", "changes values", "harmless"
SEVERITIES = (BREAKS, CHANGES, HARMLESS)
ALIKE = 0.55  # of 1: from here on a new column is taken for an old one under another name


@dataclass(frozen=True)
class Change:
    """One difference between two versions of a table. `what` is removed, renamed, retyped, unit, levels, ….

    `columns` are the old version's (the new one's for an added column), `severity` how bad it
    is for whoever uses them. `evidence` says why a rename is guessed.
    """

    what: str
    columns: tuple[str, ...]
    severity: str
    says: str
    evidence: str = ""


@dataclass(frozen=True)
class Effect:
    """A change and what it reaches: features, label, training set, decisions, with the owners to talk to.

    `severity` is the change's, or harmless when nothing uses the columns.
    """

    change: Change
    severity: str
    reaches: tuple[Reached, ...]
    owners: tuple[str, ...]


def changes(old: Contract, new: Contract) -> tuple[Change, ...]:
    """What changed from one version of a table to the next, the worst first."""
    renamed = dict(_renames(old, new))
    found = [
        Change(
            "renamed", (a,), BREAKS, f"{a} is {b} now, it seems", evidence
        )
        for a, (b, evidence) in renamed.items()
    ]  # fmt: skip
    names = {a: b for a, (b, _) in renamed.items()}
    gone = [c for c in old.columns if c not in new.columns and c not in names]
    fresh = [c for c in new.columns if c not in old.columns and c not in names.values()]
    found += [Change("removed", (c,), BREAKS, f"{c} is gone") for c in gone]
    found += [Change("added", (c,), HARMLESS, f"{c} is new: {_about(new, c)}") for c in fresh]
    for column in old.columns:
        if column not in gone:
            found += _of_column(column, old, new, names.get(column, column))
    found += _of_table(old, new, names)
    place = {c: n for n, c in enumerate(old.columns)}
    return tuple(sorted(found, key=lambda c: (SEVERITIES.index(c.severity), min(place.get(n, 999) for n in c.columns))))


def _about(contract: Contract, column: str) -> str:
    return contract.types.get(column, "of unknown type")


def _only(contract: Contract, kind: type[Rule], column: str) -> Any:
    """The contract's rule of a kind on exactly this column, or null."""
    return next((r for r in contract.rules if isinstance(r, kind) and r.columns == (column,)), None)


def _of_column(column: str, old: Contract, new: Contract, now: str) -> Iterator[Change]:
    was, is_ = old.types.get(column), new.types.get(now)
    if was and is_ and was != is_:
        is_same_kind = TYPES[was] == TYPES[is_]
        widened = is_same_kind and was == WHOLE
        severity = CHANGES if widened else HARMLESS if is_same_kind else BREAKS
        yield Change("retyped", (column,), severity, f"{column} was a {was} and is a {is_}")
        if not is_same_kind:
            return
    moved = list(_unit(column, old, new, now))
    yield from moved
    for finder in (_levels, _nulls, _pattern, *(() if moved else (_range,))):
        yield from finder(column, old, new, now)


def _unit(column: str, old: Contract, new: Contract, now: str) -> Iterator[Change]:
    a, b = _only(old, Unit, column), _only(new, Unit, now)
    if a is None or b is None:
        return
    if a.unit and b.unit and a.unit != b.unit:
        yield Change("unit", (column,), CHANGES, f"{column} was in {a.unit} and is in {b.unit}")
        return
    seen = conversion(a, b.typical)
    typical = f"typical {figure(a.typical[2])} before, {figure(b.typical[2])} now"
    if seen:
        yield Change("unit", (column,), CHANGES, f"{column} {seen}", typical)
    elif not _fits(a.typical, b.typical, 1.0, 0.0, 0.75):
        yield Change("values", (column,), CHANGES, f"{column} has other values: {typical}")


def conversion(was: Unit, typical: tuple[float, ...]) -> str:
    """What five quantiles say about another unit: "looks like km/h instead of mph"; "" if they are as before.

    Where the unit is not known, any conversion may be it, and must fit so much the better.
    """
    if _fits(was.typical, typical, 1.0, 0.0, 0.75):
        return ""
    rooms = {was.unit: 0.25, "": 0.25} if was.unit else {"": 0.25}
    found = [(says, f, s, rooms.get(unit, 0.05)) for unit, says, f, s in CONVERSIONS if unit in rooms or not was.unit]
    return next((says for says, factor, shift, room in found if _fits(was.typical, typical, factor, shift, room)), "")


def _fits(was: Sequence[float], now: Sequence[float], factor: float, shift: float, room: float) -> bool:
    """Whether the quantiles at 25, 50 and 75 % are the old ones × factor + shift, within `room` of their distance."""
    made = [v * factor + shift for v in was]
    width = abs(made[3] - made[1]) * room + abs(made[2]) * 1e-9
    return all(abs(made[n] - now[n]) <= width for n in (1, 2, 3))


def _levels(column: str, old: Contract, new: Contract, now: str) -> Iterator[Change]:
    a, b = _only(old, OneOf, column), _only(new, OneOf, now)
    if a is None or b is None:
        return
    more = sorted(map(str, set(b.values) - set(a.values)))
    fewer = sorted(map(str, set(a.values) - set(b.values)))
    if more and fewer:
        said = f"{column}: {_some(fewer)} gone, {_some(more)} new; renamed levels look like this"
        yield Change("levels", (column,), CHANGES, said)
    elif more:
        yield Change("levels", (column,), CHANGES, f"{column} has new levels: {_some(more)}")
    elif fewer:
        yield Change("levels", (column,), HARMLESS, f"{column} no longer has {_some(fewer)}")


def _some(values: list[str]) -> str:
    return ", ".join(values[:4]) + (f" and {len(values) - 4} more" if len(values) > 4 else "")


def _range(column: str, old: Contract, new: Contract, now: str) -> Iterator[Change]:
    a, b = _only(old, Range, column), _only(new, Range, now)
    if a is None or b is None or (a.least, a.most) == (b.least, b.most):
        return
    if type(a.least or a.most) is not type(b.least or b.most):
        return

    low, high, least, most = a.least, a.most, b.least, b.most
    room = 0.5 * (high - low) if isinstance(low, float) and isinstance(high, float) else 0.0
    if isinstance(low, datetime) or isinstance(high, datetime):
        lower, higher = low != least, high != most
    else:
        lower = low is not None and (not isinstance(least, float | int) or least < low - room)
        higher = high is not None and (not isinstance(most, float | int) or most > high + room)
    if lower or higher:
        yield Change("range", (column,), CHANGES, f"{a.says()} before, {b.says()} now")


def _nulls(column: str, old: Contract, new: Contract, now: str) -> Iterator[Change]:
    a, b = _only(old, Required, column), _only(new, Required, now)
    if a is None:
        return
    share = b.share if b is not None else 1.0
    if a.share > 0.2 and share < 0.2 * a.share:
        yield Change("nulls", (column,), CHANGES, f"{a.says()} before, filled now: by what?")
    if share > max(2 * a.share, a.share + 0.01):
        yield Change("nulls", (column,), CHANGES, f"{a.says()} before, now in up to {share_of(share)} of the rows")


def _pattern(column: str, old: Contract, new: Contract, now: str) -> Iterator[Change]:
    a, b = _only(old, Pattern, column), _only(new, Pattern, now)
    if a is not None and b is not None and a.pattern and a.pattern != b.pattern:
        yield Change("pattern", (column,), CHANGES, f"{a.says()} before, {b.says()} now")


def _of_table(old: Contract, new: Contract, names: Mapping[str, str]) -> Iterator[Change]:
    """Keys, steps and counts: what one row is, and how often rows come."""
    key = tuple(names.get(c, c) for c in old.key)
    if key and new.key and set(key) != set(new.key):
        said = f"one row per {', '.join(old.key)} before, one row per {', '.join(new.key)} now"
        yield Change("granularity", old.key, BREAKS, said)
    elif key and not new.key:
        yield Change("granularity", old.key, BREAKS, f"one row per {', '.join(old.key)} before, no key is known now")
    for kind, what in ((Steps, "steps"), (Rows, "rows")):
        a = next((r for r in old.rules if isinstance(r, kind)), None)
        b = next((r for r in new.rules if isinstance(r, kind)), None)
        if a is None or b is None:
            continue
        if isinstance(a, Steps) and isinstance(b, Steps) and a.every != b.every:
            yield Change(what, (a.clock,), CHANGES, f"{a.says()} before, {b.says()} now")
        if isinstance(a, Rows) and isinstance(b, Rows) and a.period == b.period and _apart(a, b):
            yield Change(what, (a.clock,), CHANGES, f"{a.says()} before, {b.says()} now")


def _apart(a: Rows, b: Rows) -> bool:
    return (b.most or 0) < (a.least or 0) or (a.most is not None and (b.least or 0) > a.most)


def _renames(old: Contract, new: Contract) -> Iterator[tuple[str, tuple[str, str]]]:
    """Old name → new name with the reason, each new name once: the most alike first."""
    gone = [c for c in old.columns if c not in new.columns]
    fresh = [c for c in new.columns if c not in old.columns]
    scored = sorted(
        ((*_likeness(a, old, b, new), a, b) for a in gone for b in fresh), key=lambda s: (-s[0], s[2], s[3])
    )
    taken: set[str] = set()
    for score, why, a, b in scored:
        if score >= ALIKE and a not in taken and b not in taken:
            taken |= {a, b}
            yield a, (b, why)


def _likeness(a: str, old: Contract, b: str, new: Contract) -> tuple[float, str]:
    """How alike two columns are by what their rules say (0 to 1), and in what."""
    if TYPES.get(old.types.get(a, "")) != TYPES.get(new.types.get(b, "")):
        return 0.0, ""
    name = difflib.SequenceMatcher(None, a.lower().replace("_", ""), b.lower().replace("_", "")).ratio()
    values, why = 0.0, []
    one, other = _only(old, OneOf, a), _only(new, OneOf, b)
    if one is not None and other is not None:
        both = set(one.values) & set(other.values)
        values = len(both) / len(set(one.values) | set(other.values))
        why.append(f"{len(both)} levels in common")
    unit, its = _only(old, Unit, a), _only(new, Unit, b)
    if unit is not None and its is not None:
        spread = max(abs(unit.typical[3] - unit.typical[1]), 1e-12)
        off = max(abs(x - y) for x, y in zip(unit.typical, its.typical, strict=True)) / spread
        is_converted = bool(conversion(unit, its.typical))
        values = max(values, 1.0 if is_converted else 1 - off)
        why.append("the same quantiles in another unit" if is_converted else "the same quantiles" if off < 0.2 else "")
    shape, shaped = _only(old, Pattern, a), _only(new, Pattern, b)
    if shape is not None and shaped is not None and shape.pattern and shape.pattern == shaped.pattern:
        values = max(values, 0.6)
        why.append("the same pattern")
    if name > 0.6:
        why.append("a similar name")
    return 0.45 * name + 0.65 * max(values, 0.0), ", ".join(filter(None, why))


def effects(found: Iterable[Change], lineage: Lineage | None, source: str) -> tuple[Effect, ...]:
    """Each change with what it reaches downstream; without a lineage nothing is known of it.

    A change of columns that nothing uses is harmless here. Raises NotFoundError if the lineage has no such source.
    """
    made = []
    known = (
        set()
        if lineage is None
        else {n.name.partition(".")[0] for n in lineage.nodes.values() if n.kind in (RAW, COLUMN)}
    )
    if lineage is not None and source not in known:
        raise NotFoundError(f"there is no source {source!r}", "the project", f"--source NAME; {nearest(source, known)}")
    for change in found:
        reaches: dict[str, Reached] = {}
        for column in change.columns:
            for one in _uses(lineage, source, column):
                reaches.setdefault(one.node.id, one)
        severity = change.severity if reaches or lineage is None else HARMLESS
        made.append(Effect(change, severity, tuple(reaches.values()), owners(reaches.values())))
    return tuple(sorted(made, key=lambda e: (SEVERITIES.index(e.severity), -len(e.reaches))))


def _uses(lineage: Lineage | None, source: str, column: str) -> tuple[Reached, ...]:
    if lineage is None:
        return ()
    try:
        return uses(lineage, source, column)
    except NotFoundError:
        return ()


def effect_json(effect: Effect) -> dict[str, Any]:
    """An effect as `--json` has it."""
    c = effect.change
    reaches = [{"kind": r.node.kind, "name": r.node.name, "how": r.how, "owner": r.node.owner} for r in effect.reaches]
    return {
        "what": c.what,
        "columns": list(c.columns),
        "says": c.says,
        "evidence": c.evidence,
        "severity": effect.severity,
        "reaches": reaches,
        "owners": list(effect.owners),
    }
