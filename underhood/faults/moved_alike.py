"""A number that moved against the others of its row, which a season or another mix of rows hides.

Where the gap to what it should be breaks (expected.py), its values are compared with those of rows
before that should have the same. What a fault of another column makes is none of this one: its
own values are as they were, and an undo would only move them away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.breaks import breaks
from underhood.faults.expected import Expected, alike, each_expected, ranks
from underhood.faults.moved_forms import distance_of, sudden_moves
from underhood.faults.moved_shown import Moved, moved_of, moves_of, suddenly
from underhood.faults.moved_whom import FEW, MANY, Stretch, between, is_next_step, stretches_of
from underhood.faults.sides import Sides

SPANS = (1, 3, 8)  # blocks on either side of a break: what changes by and by is no fault of this kind
TOLD = ("missing values", "time zone")  # shows without a look at the others of its row
SURE = 0.9  # of what differs is explained: such a form comes before any other
OWN = 0.5  # of how far a number is from what it should be, how far it must be from what it was
FAR, SUDDEN = 0.3, 1.25  # share of a gap's variance that a curve must make at once; times as sudden as history's
FOLLOWS = 0.7  # correlation of ranks with what it should be
CURVE = 0.9  # what a curve explains: any closed form comes before it
POOL = 3  # times as many rows before a break as behind it, among which the alike are found


def alike_moves(sides: Sides) -> tuple[Moved, ...]:
    """The moves of numbers that show only beside rows that should have the same values, one a column."""
    best: dict[str, Moved] = {}
    for moved in sorted(_each(sides), key=lambda m: (m.explained > SURE, m.strength)):
        best[moved.columns[0]] = moved
    return tuple(best.values())


def _each(sides: Sides) -> Iterator[Moved]:
    for name, expected in each_expected(sides):
        gaps = replace(sides, columns={name: expected.gap}, begin=expected.begin)
        for found in breaks(gaps, SPANS):
            for stretch in stretches_of(gaps, expected.gap, found):
                yield from _moves(sides, expected, stretch)


def _moves(sides: Sides, expected: Expected, by: Stretch) -> Iterator[Moved]:
    column = sides.columns[by.column.name]
    size = int(np.clip(POOL * len(by.inside), FEW, MANY))
    pool = np.flatnonzero(by.whom.mask[: by.start] & ~np.isnan(by.column.values[: by.start]))[-size:]
    inside = by.inside[~np.isnan(column.values[by.inside])]
    if min(len(pool), len(inside)) < 20:
        return
    stretch = replace(by, column=column, by=by.column, before=alike(expected, pool, inside), inside=inside)
    if is_next_step(sides, stretch):
        return
    near, should, after = (column.values[rows] for rows in (pool[-len(inside) :], stretch.before, inside))
    if distance_of(near, after) < OWN * distance_of(should, after):
        return  # it is as it was: what it should be is wrong, and that is another column's
    told = [m for m in moves_of(sides, stretch) if m.form.kind not in TOLD]
    yield from told or _curve(sides, expected, stretch, should, after)


def _curve(sides: Sides, expected: Expected, s: Stretch, should: Array, after: Array) -> Iterator[Moved]:
    """A number that suddenly follows another curve, while it goes on to rise or fall with what it should be."""
    if s.by is None or s.found.effect < FAR or suddenly(sides, s.by, s) < SUDDEN:
        return
    should_rank = expected.rank[s.inside]
    if np.ptp(should_rank) == 0 or np.ptp(after) == 0:
        return  # what is the same in all rows follows nothing
    with_it = float(np.corrcoef(should_rank, ranks(after, after))[0, 1])
    if abs(with_it) < FOLLOWS:
        return
    for found in sudden_moves(s.column.name, should, after):
        is_curve = found.form.kind == "upstream change"
        told = (
            {**found.form.parameters, "way": "rises" if with_it > 0 else "falls"} if is_curve else found.form.parameters
        )
        form = replace(found.form, parameters=told)
        yield moved_of(
            sides,
            s,
            (s.column.name,),
            replace(found, form=form, explained=min(found.explained, CURVE)),
            between(sides, s.inside),
        )
        return
