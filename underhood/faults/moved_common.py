"""A value that the decisions in question have in common and hardly any row had: too few rows for a break.

A canary touches two in a hundred, or a few of those. No distribution moves by that, but
that all who complain have what next to nobody had before is no chance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.breaks import Break
from underhood.faults.extent import NEXT_TO_NOTHING, rises
from underhood.faults.forms import Form, bare
from underhood.faults.moved_few import ENOUGH, Found, equal_to, is_code, past_of
from underhood.faults.moved_forms import is_missing
from underhood.faults.moved_shown import Moved, ever_since, moved_of
from underhood.faults.moved_whom import MANY, MEANT, Stretch, Whom, between, shown_values
from underhood.faults.sides import Column, Sides
from underhood.plan.exprs import col
from underhood.plan.operations import NUMBER, TEXT

SHARED = 3  # decisions in question that have it, at least
CHANCE = log(1e-4)  # of all of them having it, over the columns looked at
NEWS = 8.0  # nats by which it came oftener from some moment on
FEW = 0.1  # of the rows: more than those make a break
TIMES = 4  # stretches of the past, each as long, in which no other value may have come as suddenly
ALONE = 0.9  # of the rows with numbers beyond all of the past, what one number must have: else something else was done


def common_moves(sides: Sides) -> Iterator[Moved]:
    """What most of the decisions in question have in common and next to no row before had, one a column."""
    everyone = Whom(np.ones(len(sides.at), bool), None, "")
    for column in sides.columns.values():
        shows = _shared(sides, column)
        start, news = rises(shows) if shows is not None else (0, 0.0)
        if shows is None or news < NEWS or not sides.decided[start] or shows[start:].sum() < ENOUGH:
            continue
        inside, share = np.arange(start, len(shows)), float(shows[start:].mean())
        if not _is_even(shows[start:]) or _is_usual(column, start, share):
            continue
        found = _found(column, shows, start)
        if found is not None:
            made = Break(column.name, "", -1, int(sides.block[start]), 0, news, share, 0.0)
            before = np.flatnonzero(~shows[:start])[-MANY:]
            stretch = Stretch(column, made, everyone, start, len(shows), before, inside)
            if ever_since(sides, stretch, found, start):
                continue
            yield moved_of(sides, stretch, (column.name,), found, shows & between(sides, inside))


def _shared(sides: Sides, column: Column) -> Array | None:
    """The rows that have what most of the decisions in question share and hardly any of the past; null if nothing is.

    A missing value, one number, or any level that never was.
    """
    values, past = column.values, column.values[~sides.decided]
    bad = values[sides.bad]
    least = max(SHARED, MEANT * len(bad))
    if np.isnan(bad).sum() >= least:
        shows, held = np.isnan(values), np.isnan(past)
    elif column.kind == TEXT:
        shows, held = (~np.isnan(v) & ~np.isin(v, past) for v in (values, past))
    elif column.kind == NUMBER:
        each, counts = np.unique(bad[~np.isnan(bad)], return_counts=True)
        shows, held = (v == (each[counts.argmax()] if len(each) else np.nan) for v in (values, past))
    else:
        return None
    usual = (held.sum() + 0.5) / (len(held) + 1)
    n = int(shows[sides.bad].sum())
    # one of them says which value it is, the others that it is no chance
    return shows if n >= least and (n - 1) * log(usual) + log(len(sides.columns)) < CHANCE else None


def _is_even(shows: Array) -> bool:
    """Whether a few rows show it here and there, to the end; else it is a figure of the time, not of the row.

    By Kolmogorov's distance of their places from evenly spread ones, and by rows that show it next to each other.
    """
    n, share = int(shows.sum()), float(shows.mean())
    places = (np.flatnonzero(shows) + 0.5) / len(shows)
    apart = np.abs(places - (np.arange(n) + 0.5) / n).max() + 0.5 / n
    together, expected = int((shows[1:] & shows[:-1]).sum()), share * n
    return bool(share <= FEW and apart <= 1.63 / np.sqrt(n) and together <= expected + 3 * np.sqrt(expected + 1))


def _is_usual(column: Column, start: int, share: float) -> bool:
    """Whether in as many rows of the past some value came as suddenly for half of the share, or as many new levels."""
    codes, n = np.unique(column.values[:start], return_inverse=True)[1], len(column.values) - start
    for at in range(start - n, max(n // 2, start - TIMES * n) - 1, -n):
        sides = codes[at : at + n], codes[:at]
        now, was = (np.bincount(side, minlength=int(codes.max()) + 1) / len(side) for side in sides)
        sudden = now[was == 0].sum() if column.kind == TEXT else now[was < NEXT_TO_NOTHING * now].max(initial=0.0)
        if sudden >= 0.5 * share:
            return True
    return False


def _found(column: Column, shows: Array, start: int) -> Found | None:
    name, row, share = column.name, col(f"row.{column.name}"), float(shows[start:].mean())
    some = f"in {share:.1%} of the rows, before in {shows[:start].mean():.1%}"
    if np.isnan(column.values[shows]).all():
        form = Form("missing values", f"{name} is missing {some}", None, {"share": round(share, 3)})
        return Found(form, is_missing, row.is_null())
    if column.kind == TEXT:
        return _of_text(column, shows, start)
    value, past, now = float(column.values[shows][0]), column.values[:start], column.values[start:]
    known, odd = past_of(past, column.grain), (now < np.nanmin(past)) | (now > np.nanmax(past))
    if (now[odd] == value).any() and (now[odd] == value).mean() < ALONE:
        return None
    kind = "frozen column" if known.low <= value <= known.high and not is_code(value, past) else "sentinel fill"
    return Found(Form(kind, f"{name} is {value:g} {some}", None, {"value": value}), equal_to(value), row == value)


def _of_text(column: Column, shows: Array, start: int) -> Found:
    """Levels that never were: old ones spelled otherwise, or under names that hold theirs; else new."""
    levels = sorted({str(v) for v in shown_values(column, np.flatnonzero(shows))})
    share = float(shows[start:].mean())
    says = f"{column.name} has new levels: {', '.join(map(repr, levels[:3]))} in {share:.1%} of the rows"
    new = Form("new level", says, None, {"levels": levels})
    form = _of_old(column, levels, np.flatnonzero(~np.isnan(column.values[:start])), share) or new
    return Found(form, lambda values: np.isin(values, levels), col(f"row.{column.name}").isin(levels))


def by_its_names(sides: Sides, moved: Moved) -> Moved:
    """A move to new levels as old ones, where new names hold theirs, and too few rows for the old to be missed."""
    if moved.form.kind != "new level" or moved.share > FEW:
        return moved
    column, levels = sides.columns[moved.columns[0]], [str(v) for v in moved.form.parameters["levels"]]
    past = np.flatnonzero(~sides.decided & ~np.isnan(column.values))
    return replace(moved, form=_of_old(column, levels, past, moved.share) or moved.form)


def _of_old(column: Column, levels: Sequence[str], past: Array, share: float) -> Form | None:
    """Levels as other spellings of those of the past, or as names that hold theirs; null if some are neither."""
    often, row = Counter(map(str, shown_values(column, past))), col(f"row.{column.name}")
    spelled = {v: of for v in levels if (of := [o for o in often if bare(o) == bare(v)])}
    named = {v: of for v in levels if (of := [o for o in often if re.search(rf"(^|[\W_]){re.escape(o)}($|[\W_])", v)])}
    for kind, way, olds in (("category spelling", "written", spelled), ("category rename", "named", named)):
        if len(olds) < len(levels):
            continue
        # the longest name that it holds, of those spelled alike the most frequent
        back = {
            v: max(of, key=lambda o: (len(o) if kind == "category rename" else 0, often[o])) for v, of in olds.items()
        }
        is_split = kind == "category rename" and len(set(back.values())) < len(back)
        pairs = {o: sorted(v for v in back if back[v] == o) if is_split else v for v, o in back.items()}
        shown = ", ".join(f"{o!r} → {v!r}" for v, o in list(back.items())[:3])
        says = f"{column.name} is {way} otherwise in {share:.1%} of the rows: {shown}"
        return Form("category split" if is_split else kind, says, row.map(back).fill(row), {"levels": pairs})
    return None
