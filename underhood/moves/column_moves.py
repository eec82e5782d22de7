"""What moved in one column: missing values, one value, a shift of all, levels, precision, the way it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from underhood.moves.bins import (
    FREE,
    LEVELS,
    Counts,
    Distance,
    Values,
    distance,
    same_levels,
    shares_p,
    value_sql,
    vector_distance,
)
from underhood.moves.levels import Levels, levels_of, shapes
from underhood.moves.moves import Move, beside, number, percent, severity_of, text
from underhood.moves.shifts import Shift, explain, grain
from underhood.moves.sides import Sides, rest_of_row
from underhood.plan.operations import NUMBER, TIME
from underhood.plan.render import quoted

LEAST_DRIFT = 0.05  # share of rows that would have to move: less is not told as drift
LEAST_SHIFT = 0.02  # the same for a change with a name
LEAST_VALUE = 0.003  # share of rows with a value that was not there
LEAST_MISSING = 0.01
CONSTANT = 0.98  # of the rows with one value: not a sentinel among others


def column_moves(sides: Sides, column: str) -> Iterator[Move]:
    """What moved in one column, by kind."""
    bins = sides.bins[column]
    missing = _missing(sides, column)
    filled = _filled(sides, column, missing) if missing and sides.is_number(column) else None
    if filled:
        yield filled
    elif missing:
        yield missing
    if bins.how == FREE:
        yield from _written(sides, column)
    elif bins.how == LEVELS:
        yield from _levels(sides, column)
    else:
        yield from _numbers(sides, column, filled)


# --- missing ---


def _missing(sides: Sides, column: str) -> Move | None:
    one, other = sides.from_one[column], sides.from_other[column]
    if not one.rows or not other.rows:
        return None
    before, now = one.missing / one.rows, other.missing / other.rows
    p = shares_p(one.missing, one.rows, other.missing, other.rows)
    is_large = abs(now - before) >= LEAST_MISSING or (abs(now - before) >= 0.002 and now > 3 * before)
    if p >= sides.told_below or not is_large:
        return None
    way = "grew" if now > before else "fell"
    effect = abs(now - before)
    return Move(
        (column,),
        "missing",
        f"{column}: missing values {way} from {percent(before)} to {percent(now)} of the rows",
        {"before": before, "now": now},
        effect,
        f"{quoted(column)} is null",
        sides.rows_where(f"{quoted(column)} is null"),
        p,
        effect,
        severity_of("missing", effect) * (1.0 if now > before else 0.6),
        beside(sides.one.name, sides.other.name, f"count(*) as n, count(*) - count({quoted(column)}) as missing"),
    )


def _filled(sides: Sides, column: str, missing: Move) -> Move | None:
    """Missing values that became one value, or the other way round."""
    one, other = sides.from_one[column], sides.from_other[column]
    lost = missing.amount["before"] - missing.amount["now"]
    for value in sides.bins[column].alone:
        place = sides.bins[column].edges.index(value)
        grown = other.bins.get(place, 0) / other.rows - one.bins.get(place, 0) / one.rows
        if abs(grown - lost) < 0.2 * abs(lost) and abs(grown) >= LEAST_VALUE:
            kind = "filled" if lost > 0 else "emptied"
            became = f"missing values became {number(value)}" if lost > 0 else f"{number(value)} became missing"
            where = _equals(column, sides.kinds[column], value) if lost > 0 else f"{quoted(column)} is null"
            return replace(
                missing,
                kind=kind,
                says=f"{column}: {became} in {percent(abs(lost))} of the rows",
                amount={**missing.amount, "value": value},
                where=where,
                rows=sides.rows_where(where),
                severity=severity_of(kind, abs(lost)),
            )
    return None


# --- numbers ---


def _numbers(sides: Sides, column: str, filled: Move | None) -> Iterator[Move]:
    bins, one, other = sides.bins[column], sides.from_one[column], sides.from_other[column]
    a, b = (side[~np.isnan(side)] for side in (sides.at_one[column], sides.at_other[column]))
    if not len(a) or not len(b):
        return
    told = {filled.amount["value"]} if filled else set()
    values = [move for move in _values(sides, column) if move.amount["value"] not in told]
    told |= {move.amount["value"] for move in values}
    yield from values
    places = {bins.edges.index(v) for v in told}
    found = distance(*({k: n for k, n in side.bins.items() if k not in places} for side in (one, other)))
    if told:
        a, b = (side[~np.isin(side, list(told))] for side in (a, b))
    has_moved = found.p < sides.told_below and found.effect >= LEAST_SHIFT
    if has_moved and min(len(a), len(b)) >= 30:
        shift = explain(a, b)
        if shift.kind != "drift" or found.effect >= LEAST_DRIFT:
            yield shift_move(sides, column, shift, found)
        has_moved = shift.kind in ("factor", "unit", "shift", "rounded")
    if not has_moved and sides.kinds[column] == NUMBER:
        yield from _precision(sides, column, a, b)


def _values(sides: Sides, column: str) -> Iterator[Move]:
    """One exact value that grew while the rest kept its shape."""
    bins, one, other = sides.bins[column], sides.from_one[column], sides.from_other[column]
    n_one, n_other = one.rows - one.missing, other.rows - other.missing
    whole = distance(one.bins, other.bins)
    grown = []
    for value in bins.alone:
        place = bins.edges.index(value)
        had, has = one.bins.get(place, 0), other.bins.get(place, 0)
        before, now = had / n_one, has / n_other
        if now - before < LEAST_VALUE or now < 2 * before:
            continue
        p = shares_p(had, n_one, has, n_other)
        if p * len(bins.alone) < sides.told_below:
            grown.append((now - before, value, before, now, p))
    places = {bins.edges.index(each[1]) for each in grown}
    rest = distance(*({k: n for k, n in side.bins.items() if k not in places} for side in (one, other)))
    is_atomic = len(grown) <= 3 and rest.effect <= max(0.3 * whole.effect, LEAST_SHIFT)
    for by, value, before, now, p in grown if is_atomic else []:
        shown, equals = _shown(value, sides.kinds[column]), _equals(column, sides.kinds[column], value)
        was = "it was not there before" if not before else f"it was {percent(before)}"
        kind = "value" if now < CONSTANT else "constant"
        told = f"the one value {shown} is in {percent(now)} of the rows; {was}, and the rest did not move"
        yield Move(
            (column,),
            kind,
            f"{column}: {told if kind == 'value' else f'is {shown} throughout, where it varied before'}",
            {"value": value, "before": before, "now": now},
            by,
            equals,
            sides.rows_where(equals),
            p,
            by,
            severity_of(kind, by),
            beside(
                sides.one.name,
                sides.other.name,
                f"count(*) as n, count(*) filter ({equals}) as with_it",
            ),
        )


def _equals(column: str, kind: str, value: float) -> str:
    """A predicate that selects one value."""
    literal = str(int(value)) if value == int(value) and abs(value) < 1e15 else f"'{value!r}'::double"
    return f"{quoted(column)} = {literal}" if kind == NUMBER else f"epoch({quoted(column)}) = {literal}"


def _shown(value: float, kind: str) -> str:
    return str(np.datetime64(int(value), "s")) if kind == TIME else number(value)


def shift_move(sides: Sides, column: str, shift: Shift, found: Distance, where: str | None = None) -> Move:
    """A shift of one column as a move; `where` is the cohort that it is confined to."""
    amount = dict(shift.amount)
    whom = "" if shift.share >= 0.995 else f" in about {percent(shift.share)} of the rows"
    whom = f"; it was {percent(shift.share)} of them" if shift.kind == "cut" else whom
    meaning = f" ({amount['meaning']})" if "meaning" in amount else ""
    says: Mapping[str, Callable[[], str]] = {
        "factor": lambda: f"multiplied by {number(amount['factor'])}{meaning}",
        "shift": lambda: f"shifted by {number(amount['shift'])}",
        "unit": lambda: f"converted{meaning}",
        "sign": lambda: "has lost or changed its sign",
        "clock": lambda: f"turned by {number(amount['shift'])} of {number(amount['modulo'])}",
        "value": lambda: f"is {number(amount['value'])} where it was spread",
        "clipped": lambda: f"clipped {amount['side']} {number(amount['limit'])}",
        "cut": lambda: f"has no rows {amount['side']} {number(amount['limit'])} any more",
        "rounded": lambda: f"rounded {amount['way']} to multiples of {number(amount['step'])}".replace("nearest ", ""),
        "drift": lambda: _drift_text(amount, sides.kinds[column]),
    }
    value = value_sql(column, sides.kinds[column])
    return Move(
        (column,),
        shift.kind,
        f"{column}: {says[shift.kind]()}{whom}{f' where {where}' if where else ''}",
        amount,
        shift.share,
        where,
        None,
        found.p,
        found.effect,
        severity_of(shift.kind, found.effect),
        beside(
            sides.one.name,
            sides.other.name,
            f"count(*) as n, quantile_cont({value}, [0.05, 0.25, 0.5, 0.75, 0.95]) as quantiles",
            where=where or "",
        ),
    )


def _drift_text(amount: Mapping[str, Any], kind: str) -> str:
    before, now = float(amount["median_before"]), float(amount["median_now"])
    ratio = f" (× {number(float(amount['factor']))})" if "factor" in amount and kind != TIME else ""
    if before == now:
        return f"drifted: its spread changed, its middle stayed at {_shown(now, kind)}"
    return f"drifted: its middle moved from {_shown(before, kind)} to {_shown(now, kind)}{ratio}"


def _precision(sides: Sides, column: str, a: Values, b: Values) -> Iterator[Move]:
    """Digits that are gone: all of the values, or more of them than before, are multiples of a coarser grain."""
    if min(len(a), len(b)) < 100:
        return
    fine, coarse = grain(a), grain(b)
    if coarse is None or (fine is not None and coarse <= fine * 1.5):
        return
    on_it = float(np.mean(np.abs(a / coarse - np.round(a / coarse)) < 1e-6))
    if on_it > 0.9 or len(np.unique(b)) > 0.9 * len(np.unique(a)):
        return
    yield Move(
        (column,),
        "rounded",
        f"{column}: rounded to multiples of {number(coarse)}; before, {percent(1 - on_it)} of the values were finer",
        {"step": coarse, "before": fine},
        1.0 - on_it,
        severity=severity_of("rounded", 1 - on_it),
        effect=1 - on_it,
        query=beside(sides.one.name, sides.other.name, f"count(distinct {quoted(column)}) as distinct_values"),
    )


# --- levels ---


def _levels(sides: Sides, column: str) -> Iterator[Move]:
    one, other = sides.from_one[column], sides.from_other[column]
    if one.rows == one.missing or other.rows == other.missing:
        return
    found = levels_of(one, other, sides.told_below, lambda before, now: rest_of_row(sides, column, before, now))
    yield from _mapped(sides, column, found)
    query = _level_query(sides, column)
    n_one, n_other = one.rows - one.missing, other.rows - other.missing
    drift = _level_drift(sides, column, found)
    for kind, levels in (("new_level", found.new), ("vanished_level", found.vanished)):
        if not levels:
            continue
        share, listed = sum(levels.values()), list(levels)
        named = ", ".join(repr(v) for v in listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")
        is_new = kind == "new_level"
        whole = n_other if is_new else n_one
        told = (
            f"new level {named}, {percent(share)} of the rows; never seen before"
            if is_new
            else f"no row with {named}; it was {percent(share)} of {sides.one.name}"
        )
        in_list = f"{quoted(column)} in ({', '.join(text(v) for v in listed)})"
        yield Move(
            (column,),
            kind,
            f"{column}: {told}",
            {"levels": levels},
            share,
            in_list if is_new else None,
            round(share * whole) if is_new else None,
            0.0,
            share,
            severity_of(kind, share),
            query,
        )
    if drift:
        yield drift


def _mapped(sides: Sides, column: str, found: Levels) -> Iterator[Move]:
    other = sides.from_other[column]
    n_other = other.rows - other.missing
    for kind, levels, verb in (("variant", found.variants, "spelled"), ("renamed", found.renamed, "now called")):
        if not levels:
            continue
        rows = sum(other.bins[now] for now in levels.values())
        named = ", ".join(f"{before!r} is {verb} {now!r}" for before, now in list(levels.items())[:3])
        more = f" and {len(levels) - 3} more" if len(levels) > 3 else ""
        yield Move(
            (column,),
            kind,
            f"{column}: {named}{more}, in {percent(rows / n_other)} of the rows",
            {"levels": dict(levels)},
            rows / n_other,
            f"{quoted(column)} in ({', '.join(text(v) for v in levels.values())})",
            rows,
            0.0,
            rows / n_other,
            severity_of(kind, rows / n_other),
            _level_query(sides, column),
        )


def _level_drift(sides: Sides, column: str, found: Levels) -> Move | None:
    one = sides.from_one[column]
    other = same_levels(sides.from_other[column], found.mapped)
    gone = {*found.new, *found.vanished}
    kept: list[Counts] = [replace(s, bins={k: n for k, n in s.bins.items() if k not in gone}) for s in (one, other)]
    found_distance = distance(kept[0].bins, kept[1].bins)
    if found_distance.p >= sides.told_below or found_distance.effect < LEAST_DRIFT:
        return None
    n_one, n_other = (sum(side.bins.values()) for side in kept)
    grew = {
        v: kept[1].bins.get(v, 0) / n_other - kept[0].bins.get(v, 0) / n_one for v in {*kept[0].bins, *kept[1].bins}
    }
    most = max(grew, key=lambda v: abs(grew[v]))
    before, now = kept[0].bins.get(most, 0) / n_one, kept[1].bins.get(most, 0) / n_other
    return Move(
        (column,),
        "drift",
        f"{column}: drifted: {most!r} went from {percent(before)} to {percent(now)} of the rows",
        {"level": most, "before": before, "now": now},
        1.0,
        p=found_distance.p,
        effect=found_distance.effect,
        severity=severity_of("drift", found_distance.effect),
        query=_level_query(sides, column),
    )


def _level_query(sides: Sides, column: str) -> str:
    return beside(sides.one.name, sides.other.name, "count(*) as n", quoted(column))


# --- free text ---


def _written(sides: Sides, column: str) -> Iterator[Move]:
    """Texts that are written another way: dates, numbers or codes in a new format."""
    one, other = (shapes(side) for side in (sides.at_one[column], sides.at_other[column]))
    keys = sorted(one.keys() | other.keys())
    a, b = (np.array([side.get(k, 0) for k in keys], float) for side in (one, other))
    if min(a.sum(), b.sum()) < 30:
        return
    found = vector_distance(a, b)
    grew = {k: y / b.sum() - x / a.sum() for k, x, y in zip(keys, a, b, strict=True) if k}
    if found.p >= sides.told_below or found.effect < LEAST_DRIFT or not grew:
        return
    most = max(grew, key=lambda k: grew[k])
    now = other.get(most, 0) / b.sum()
    if grew[most] < LEAST_DRIFT or one.get(most, 0) > 0.2 * now * a.sum():
        return
    example = next(v for v in sides.at_other[column] if v is not None and shapes(np.array([v], object)) == {most: 1})
    yield Move(
        (column,),
        "format",
        f"{column}: {percent(now)} of the texts are written like {example!r}, which was "
        f"{percent(one.get(most, 0) / a.sum())}",
        {"shape": most, "example": example, "now": now},
        now,
        p=found.p,
        effect=found.effect,
        severity=severity_of("format", found.effect),
        query=f"select {quoted(column)} from {quoted(sides.other.name)} using sample 20",
    )
