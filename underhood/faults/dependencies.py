"""What another column of its row tells a value to be, as it did in all of the past, and the rows that break that.

A code stands for one level, and an arrival is as many days off as the lead time says: functional dependencies
(Codd 1971). A row that breaks one contradicts itself. So a few rows tell what no crowd does, and each of them tells
what it should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.sides import Column, Sides
from underhood.plan.exprs import Expr, cases, col
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME

LEARNS = 0.5  # of the past is learned from, the rest tells whether it holds
HOLDS = 0.999  # of the past that was not learned from
LEAST = 400  # rows of the past that can tell, of either part
OFTEN, MOST = 20, 100  # rows of a level that is learned, on average; levels of what tells another column
USUAL = 0.9  # share of one value, above which nothing needs to tell it
VALUES = 3  # that a column must have
GLANCE, ODD = 600, 0.02  # rows of the past by which a pair of columns is given up; of these, that may be odd ones out
DRAWN = 4000  # pairs of rows whose slopes are looked at
ALIKE = 0.3  # of those, that must have one slope
HOUR_S = 3600.0
CLOSE = 1e-6  # of a value, or of one: what numbers that are written in decimals differ by


@dataclass(frozen=True)
class Dependency:
    """A column and what another one, or the clock (`by`), tells it to be: a number as `Column.values` holds it.

    `told` is NaN where it tells nothing: it is null, or a level that was not learned. `broken` are the rows where both
    are there and differ; `rows` and `undo` say the same over `row.…` (`undo` null: no expression gives it).
    """

    column: str
    by: str
    told: Array
    broken: Array
    rows: Expr
    undo: Expr | None


def dependencies(sides: Sides) -> tuple[Dependency, ...]:
    """The exact dependencies between two columns that held in the past, both ways where both hold."""
    return tuple(_each(sides))


def borne_out(sides: Sides, found: Sequence[Dependency]) -> frozenset[str]:
    """The columns that the moment of asking tells in the decisions as it did before: whoever asks, they are right."""
    by_clock = (d for d in found if d.by not in sides.columns)
    return frozenset(d.column for d in by_clock if d.broken[sides.decided].mean() <= 1 - HOLDS)


def _each(sides: Sides) -> Iterator[Dependency]:
    past = np.flatnonzero(~sides.decided)
    some = past[: int(LEARNS * len(past))]
    some = some[np.linspace(0, len(some) - 1, min(len(some), GLANCE)).astype(int)] if len(some) else some
    named = [(by, col(f"row.{by.name}")) for by in sides.columns.values()]
    told_by = [(by, row, _levels(by.values[some])) for by, row in [*named, *_clock(sides)]]
    for column in sides.columns.values():
        own = _levels(column.values[some])
        for by, row, levels in told_by:
            is_clock = by.name not in sides.columns
            if by.name == column.name or (is_clock and column.kind != NUMBER):
                continue
            is_level = _seems_told(own, levels)
            if not is_level and (is_clock or not _seem_on_a_line(column, by, some)):
                continue
            both = past[~np.isnan(column.values[past]) & ~np.isnan(by.values[past])]
            learned, held = both[: int(LEARNS * len(both))], both[int(LEARNS * len(both)) :]
            if len(held) < LEAST or not _varies(column.values[learned]) or not _varies(by.values[learned]):
                continue
            found = None if is_clock else _line(column, by, learned)
            found = found or (_by_level(column, by, row, learned) if is_level else None)
            if found is None:
                continue
            told, equals, undo = found
            broken = _differ(column.values, told)
            # what was not learned from must be told, nearly all of it, and nearly all of that must be so
            if np.isnan(told[held]).mean() <= 1 - USUAL and broken[held].mean() <= 1 - HOLDS:
                yield Dependency(column.name, by.name, told, broken, ~equals, undo)


def _levels(values: Array) -> Array:
    """The number of each row's level, from 0; that of nulls is -1."""
    codes: Array = np.unique(values, return_inverse=True)[1]
    return np.where(np.isnan(values), -1, codes)


def _seems_told(codes: Array, by: Array) -> bool:
    """Whether, at a glance, each level of one column comes with one of another one: most pairs of columns do not."""
    both = (codes >= 0) & (by >= 0)
    if by.max(initial=-1) >= MOST:
        return False
    pairs = len(np.unique(by[both] * (codes.max(initial=0) + 1) + codes[both]))
    return bool(pairs <= len(np.unique(by[both])) + ODD * both.sum())


def _seem_on_a_line(column: Column, by: Column, rows: Array) -> bool:
    """Whether, at a glance, three rows of a pair of columns lie on one line."""
    if not {column.kind, by.kind} <= {NUMBER, TIME}:
        return False
    y, x = column.values[rows], by.values[rows]
    there = ~np.isnan(x) & ~np.isnan(y)
    y, x = y[there], x[there]
    if len(x) < VALUES:
        return False
    third = len(x) // 3
    (y0, y1, y2), (x0, x1, x2) = ([v[n * third : (n + 1) * third] for n in range(3)] for v in (y, x))
    one, other = (y1 - y0) * (x2 - x0), (y2 - y0) * (x1 - x0)
    return bool((np.abs(one - other) <= 1e-3 * (np.abs(one) + np.abs(other))).mean() >= 1 - 3 * ODD)


def _clock(sides: Sides) -> list[tuple[Column, Expr]]:
    """What the moment of asking tells, in the zone in which people name an hour: its hour, minute and weekday."""
    hours, which = np.unique(np.floor(sides.at / HOUR_S), return_inverse=True)
    moments = [datetime.fromtimestamp(float(h) * HOUR_S, ZoneInfo(sides.zone)).utcoffset() for h in hours]
    offsets = np.array([m.total_seconds() if m is not None else 0.0 for m in moments])
    turns = np.flatnonzero(np.diff(offsets))
    until = [
        (col("asked_at") < datetime.fromtimestamp(float(hours[t + 1]) * HOUR_S, UTC), float(offsets[t])) for t in turns
    ]
    local = col("asked_at") + Expr("seconds", (cases(*until, otherwise=float(offsets[-1])),))
    at = sides.at + offsets[which]
    parts = {
        "hour": np.floor(at / HOUR_S) % 24,
        "minute": np.floor(at / 60) % 60,
        "weekday": (np.floor(at / (24 * HOUR_S)) + 3) % 7,  # the first day of 1970 was a Thursday
    }
    return [
        (Column(f"the {part} of asking", NUMBER, values, values.astype(int), 1), local.then(part))
        for part, values in parts.items()
    ]


def _varies(values: Array) -> bool:
    counts = np.unique(values, return_counts=True)[1]
    return len(counts) >= VALUES and counts.max() <= USUAL * len(values)


def _differ(values: Array, told: Array) -> Array:
    made: Array = np.abs(values - told) > CLOSE * np.maximum(1.0, np.abs(told))
    return made & ~np.isnan(values) & ~np.isnan(told)


def _line(column: Column, by: Column, learned: Array) -> tuple[Array, Expr, Expr | None] | None:
    """The line on which one number lies above another, or a time by the number of hours or days to it."""
    if not {column.kind, by.kind} <= {NUMBER, TIME}:
        return None
    y, x = column.values[learned], by.values[learned]
    one, other = (np.arange(DRAWN) * step % len(learned) for step in (7919, 104_729))
    apart = x[one] != x[other]
    slopes = (y[one] - y[other])[apart] / (x[one] - x[other])[apart]
    found, which, counts = np.unique([float(f"{v:.9g}") for v in slopes], return_inverse=True, return_counts=True)
    if not len(found) or counts.max() < ALIKE * len(slopes) or not found[counts.argmax()]:
        return None
    slope = _plain(float(np.median(slopes[which == counts.argmax()])))
    start = float(f"{np.median(y - slope * x):.9g}")
    start = 0.0 if abs(start) <= CLOSE * np.abs(y).max() else start
    told = slope * by.values + start
    if _differ(y, told[learned]).mean() > 1 - HOLDS:
        return None
    made = _number_of(by) * slope + start
    if column.kind == TIME:
        made = col("asked_at") + Expr("seconds", (made,))
    size = max(1.0, float(np.abs(y).max()))
    return told, (_number_of(column) - (_number_of(by) * slope + start)).then("abs") <= CLOSE * size, made


def _plain(slope: float) -> float:
    """A slope as it was meant: a seventh, or 1 of 86,400, has more digits than its inverse."""
    plain, inverse = f"{slope:.9g}", f"{1 / slope:.9g}"
    return 1 / float(inverse) if len(inverse) < len(plain) else float(plain)


def _number_of(column: Column) -> Expr:
    """A number over a row, as `Column.values` holds it: of a time the seconds behind the moment of asking."""
    row = col(f"row.{column.name}")
    return (row - col("asked_at")).then("in_seconds") if column.kind == TIME else row


def _by_level(column: Column, by: Column, row: Expr, learned: Array) -> tuple[Array, Expr, Expr | None] | None:
    """What each level of a column stands for in another one."""
    levels, codes, counts = np.unique(by.values[learned], return_inverse=True, return_counts=True)
    if column.kind == TIME or by.kind == TIME or not VALUES <= len(levels) <= min(MOST, len(learned) / OFTEN):
        return None
    held, values = np.unique(column.values[learned], return_inverse=True)
    each, n = np.unique(codes * len(held) + values, return_counts=True)
    most, stands = np.zeros(len(levels), int), np.zeros(len(levels), int)
    for at in np.argsort(n, kind="stable"):
        level, value = divmod(int(each[at]), len(held))
        most[level], stands[level] = n[at], value
    if most.sum() < HOLDS * len(learned):
        return None
    # a level of a row or two may stand for anything
    kept = counts >= VALUES
    place = np.searchsorted(levels, np.where(np.isnan(by.values), levels[0], by.values)).clip(0, len(levels) - 1)
    is_known = (levels[place] == by.values) & kept[place]
    told = np.where(is_known, held[stands[place]], np.nan)
    pairs = {_value(by, levels[k]): _value(column, held[stands[k]]) for k in np.flatnonzero(kept)}
    own = col(f"row.{column.name}")
    made = row.map(pairs) if by.kind == TEXT else cases(*((row == k, v) for k, v in pairs.items()))
    return told, own == made, made


def _value(column: Column, held: float) -> str | float | bool:
    if column.kind == TEXT:
        return str(column.levels[int(held)])
    return bool(held) if column.kind == FLAG else float(held)
