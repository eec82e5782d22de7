"""A value that another column of its row contradicts, as hardly any row of the past did: what was done to it.

Of two columns that contradict each other, the wrong one is that which others contradict too, which none bears out, and
whose values are no longer those that it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.breaks import Break
from underhood.faults.dependencies import Dependency
from underhood.faults.extent import rises
from underhood.faults.forms import CLOSE, ENOUGH, HOLDS, Form, number_form, text_form, time_form
from underhood.faults.moved_common import CHANCE, NEWS, SHARED
from underhood.faults.moved_few import Found
from underhood.faults.moved_shown import Moved, moment_of, moved_of
from underhood.faults.moved_whom import FEW, MEANT, PURE, Stretch, Whom, shown_values, whose
from underhood.faults.sides import Column, Sides
from underhood.plan.exprs import columns_of
from underhood.plan.operations import FLAG, NUMBER, TEXT

BORNE_OUT = 0.1  # of the rows in which a column is contradicted, what may contradict another that bears it out
SEVERAL = 5  # values that a number must have been told, before a factor or a step of it is any rule
NEARLY = 0.05  # of the distance, by which one of two columns must have gone farther than the other


def told_moves(sides: Sides, found: Sequence[Dependency]) -> Iterator[tuple[Moved, set[str]]]:
    """What the decisions in question show of a column, at most one, that others of its row contradict, and all those.

    Whatever else is odd about any of these is its child.
    """
    broken = [d for d in found if _is_news(sides, d, len(found))]
    tried = []
    # the moment of asking is nobody's column, and is not wrong
    for name in dict.fromkeys(c for d in broken for c in (d.column, d.by) if c in sides.columns):
        against = [d for d in broken if name in (d.column, d.by)]
        rows = np.flatnonzero(np.logical_or.reduce([d.broken for d in against]) & sides.decided)
        others = [d for d in found if name in (d.column, d.by) and d not in broken]
        if not any(d.broken[rows].mean() <= BORNE_OUT and _tells(d, rows) for d in others):
            tried.append((len({frozenset((d.column, d.by)) for d in against}), _gone(sides, name, rows), name, against))
    if not tried:
        return
    most = max(n for n, *_ in tried)
    tried = sorted((t for t in tried if t[0] == most), key=lambda t: -t[1])
    for _, gone, name, against in tried:
        moves = [m for d in against if d.column == name for m in _moved(sides, d)]
        if moves and gone >= tried[0][1] - NEARLY:
            yield max(moves, key=lambda m: m.n), {c for d in against for c in (d.column, d.by)}
            return


def _tells(d: Dependency, rows: Array) -> bool:
    return bool((~np.isnan(d.told[rows])).mean() >= PURE)


def _is_news(sides: Sides, d: Dependency, n: int) -> bool:
    """Whether so many of the decisions in question break a dependency that it is no chance, among so many looks."""
    bad, past = d.broken[sides.bad], d.broken[~sides.decided]
    k = int(bad.sum())
    usual = (past.sum() + 0.5) / (len(past) + 1)
    if k < max(SHARED, MEANT * len(bad)) or (k - 1) * log(usual) + log(n) >= CHANCE:
        return False
    return int(d.broken[sides.decided].sum()) >= ENOUGH


def _gone(sides: Sides, name: str, rows: Array) -> float:
    """How far a column's values in some rows are from those before, and which share of them never was.

    By Kolmogorov's distance, of texts by total variation.
    """
    column = sides.columns[name]
    before = np.flatnonzero(~np.isnan(column.values[: rows[0]]))[-max(FEW, len(rows)) :]
    one, other = column.values[before], column.values[rows]
    other = other[~np.isnan(other)]
    both = np.unique(np.concatenate([one, other]))
    shares = [
        np.bincount(np.searchsorted(both, side), minlength=len(both)) / max(1, len(side)) for side in (one, other)
    ]
    gap = shares[1] - shares[0]
    apart = np.abs(gap).sum() / 2 if column.kind == TEXT else np.abs(np.cumsum(gap)).max()
    is_new = np.isin(other, column.values[: rows[0]], invert=True)
    return float(apart + is_new.mean())


def _moved(sides: Sides, d: Dependency) -> Iterator[Moved]:
    """What was done to the column that a dependency tells, in the rows that break it; none if no rule leads there."""
    start, news = rises(d.broken)
    if news < NEWS or not sides.decided[start]:
        return
    column = sides.columns[d.column]
    behind = np.arange(len(sides.at)) >= start
    rows, inside = np.flatnonzero(d.broken & behind), np.flatnonzero(behind)
    swapped = _swapped_with(sides, d, rows)
    form = (
        _form(sides, column, d, rows)
        if swapped is None
        else Form("column swap", f"{d.column} and {swapped} are swapped", None, {"columns": [d.column, swapped]})
    )
    if form is None:
        return
    whom = whose(sides, column, inside, d.broken)
    # what a level has become shows only where it was: by what tells it, that says nothing new
    is_itself = whom is not None and whom.where is not None and columns_of(whom.where) == {f"row.{d.by}"}
    if whom is None or (is_itself and isinstance(form.parameters.get("levels"), Mapping)):
        whom = Whom(np.ones(len(sides.at), bool), None, "")
    inside = inside[whom.mask[inside]]
    before = np.flatnonzero(whom.mask[:start])[-max(FEW, len(inside)) :]
    share = float(d.broken[inside].mean())
    made = Break(d.column, "", -1, int(sides.block[start]), 0, news, share, 0.0)
    stretch = Stretch(column, made, whom, start, len(sides.at), before, inside)
    says = f"{form.says}, as {d.by} of the same row tells"
    found = Found(replace(form, says=says, undo=d.undo), lambda values: ~np.isnan(values), d.rows)
    columns = (d.column,) if swapped is None else (d.column, swapped)
    yield moved_of(sides, stretch, columns, found, d.broken & behind)


def _swapped_with(sides: Sides, d: Dependency, rows: Array) -> str | None:
    """The other column of the same kind that holds what this one is told to be; null if none does."""
    kind = sides.columns[d.column].kind
    if len(np.unique(d.told[rows])) < SEVERAL:
        return None
    others = [c for c in sides.columns.values() if c.kind == kind != TEXT and c.name not in (d.column, d.by)]
    held = (c.name for c in others if (np.abs(c.values[rows] - d.told[rows]) <= CLOSE).mean() >= HOLDS)
    return next(held, None)


def _form(sides: Sides, column: Column, d: Dependency, rows: Array) -> Form | None:
    """The closed form in which a column differs from what it is told, row by row."""
    rest = np.flatnonzero(sides.decided & ~d.broken & ~np.isnan(column.values))
    told = replace(column, values=d.told)
    if column.kind == TEXT:
        return text_form(column.name, shown_values(column, rows), shown_values(told, rows), shown_values(column, rest))
    if column.kind == FLAG:
        return None
    if column.kind == NUMBER:
        form = number_form(column.name, column.values[rows], d.told[rows], column.values[rest])
        is_rule = form is not None and len(np.unique(d.told[rows])) >= SEVERAL
        return form if is_rule else None
    served, again = ([moment_of(at) for at in (sides.at + side)[rows]] for side in (column.values, d.told))
    return time_form(column.name, np.array(served, dtype=object), np.array(again, dtype=object))
