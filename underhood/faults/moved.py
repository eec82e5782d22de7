"""Values that are wrong in their source: served and recomputed agree, and only what was asked before tells.

For each column that breaks (sides.py): for whom and since when, what was done to it
(moved_forms.py), and whether that holds for the decisions in question. A break
with no form is drift: nothing is known to be wrong with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form
from underhood.faults.kinds import Scene
from underhood.faults.moved_forms import (
    CURVED,
    FITS,
    STEEP,
    UNNAMED,
    Found,
    distance_of,
    number_moves,
    past_of,
    sudden_moves,
)
from underhood.faults.moved_texts import text_moves
from underhood.faults.moved_times import time_moves
from underhood.faults.moved_whom import (
    EDGE,
    FEW,
    MANY,
    MEANT,
    PURE,
    Stretch,
    Whom,
    between,
    shown_values,
    stretch_of,
    stretches_of,
    whom_of,
    whose,
)
from underhood.faults.sides import Break, Column, Sides, breaks, open_sides
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import NUMBER, TEXT, TIME

SWAPPED = 0.3  # how far two swapped columns must have moved together
AT_ONCE = 0.5  # of a shift, what must be there between the rows next to a break
SUDDEN_BEYOND = 0.7  # as sudden as this is enough for values that never were
SUDDEN = ("shift", "unit change")  # what a season makes slowly
PARTIAL = ("missing values", "frozen column", "sentinel fill", "new level", "clipped", UNNAMED)  # what may come and go
ALONE = 0.8  # of what history's most sudden change would be, that no other column may show with a curve
TRIED = 4  # stretches of one column that are looked at for a sudden curve
NEXT, PLACES = 200, 24  # rows next to a break, and as many places of the past, that tell whether it is sudden


@dataclass(frozen=True)
class Moved:
    """One column (or two, swapped) that moved: the form, whom, from when until when (UTC; null: to the end).

    `n` decisions show it, `share` of those it could have touched; `explained`: of the distance to what was
    before, what the form explains; `usual`: the middle value before, or the most frequent level.
    """

    columns: tuple[str, ...]
    form: Form
    whom: Whom
    since: datetime
    until: datetime | None
    rows: Expr | None
    n: int
    share: float
    explained: float
    strength: float
    usual: Any = None
    rivals: tuple[str, ...] = ()

    @property
    def where(self) -> Expr | None:
        """The decisions that it touches."""
        at = col("asked_at")
        parts: list[Expr] = [at >= self.since]
        parts += [at <= self.until] if self.until is not None else []
        parts += [self.whom.where] if self.whom.where is not None else []
        made = parts[0]
        for part in parts[1:]:
            made = made & part
        return made


@dataclass(frozen=True)
class Drift:
    """A column that moved in no closed form: share of variance explained, p, for whom, since when (UTC)."""

    column: str
    effect: float
    p: float
    where: Expr | None
    since: str


@dataclass(frozen=True)
class Looked:
    """All that one look at a scene found."""

    moves: tuple[Moved, ...]
    drifts: tuple[Drift, ...]
    rows: int


def moved_values(scene: Scene) -> Looked:
    """The columns that moved in a closed form that the decisions in question show, and those that just drifted."""
    found: Looked = scene.once("moved values", _look)
    return found


def drifted(scene: Scene) -> tuple[Drift, ...]:
    """The inputs whose distribution broke without a closed form: for the kind of covariate drift."""
    return moved_values(scene).drifts


def _look(scene: Scene) -> Looked:
    sides = open_sides(scene)
    if sides is None or not sides.bad.any():
        return Looked((), (), 0)
    moves: list[Moved] = []
    by_column: dict[str, list[Break]] = {}
    stretches: dict[str, list[Stretch]] = {}
    for found in breaks(sides):
        by_column.setdefault(found.column, []).append(found)
    for name, many in by_column.items():
        stretches[name] = [s for found in many for s in stretches_of(sides, sides.columns[name], found)]
        singles = [m for s in stretches[name] for m in _moves(sides, s)] or list(_curves(sides, stretches[name]))
        if singles:
            moves.append(max(singles, key=lambda m: (m.explained > 0.9, m.strength)))
    swaps = list(_swaps(sides, stretches))
    crossed = {c for m in swaps for c in m.columns}
    moves = swaps + [m for m in moves if not crossed & set(m.columns)]
    told = {c for m in moves for c in m.columns}
    drifts = tuple(_drift(sides, many[0]) for name, many in by_column.items() if name not in told)
    return Looked(tuple(sorted(moves, key=lambda m: -m.strength)), drifts, len(sides.at))


def _drift(sides: Sides, found: Break) -> Drift:
    whom = whom_of(sides, found)
    start = sides.at[np.searchsorted(sides.block, found.at)]
    return Drift(
        found.column, found.effect, float(np.exp(-0.5 * min(found.strength, 1400.0))), whom.where, _text(start)
    )


def _text(at: float) -> str:
    return str(_moment(at))


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(float(at), UTC).replace(tzinfo=None)


def _moves(sides: Sides, s: Stretch, again: bool = True) -> Iterator[Moved]:
    """The first form that the decisions in question show; for whom exactly, where only some rows show it."""
    past = ~sides.decided | (np.arange(len(sides.at)) < s.start)
    values, after = s.column.values, s.inside[len(s.inside) // EDGE : MANY]
    for found in _forms(s.column, values[s.before], values[after], values[past & s.whom.mask], past):
        shows = np.zeros(len(sides.at), bool)
        shows[s.inside] = found.shows(shown_values(s.column, s.inside))
        if sides.bad[shows].sum() < MEANT * sides.bad.sum():
            continue
        share = shows[s.inside].mean()
        most = 0.75 if found.form.kind == "missing values" else 0.5
        if found.form.kind in PARTIAL and _usual(sides, s, found) > most * share:
            continue
        if found.is_beyond and not _at_once(values[s.before], values[s.inside], found.form.parameters["shift"]):
            continue
        never = found.is_beyond or "offset" in found.form.parameters
        least = SUDDEN_BEYOND if never else 1.0
        if found.form.kind in SUDDEN and not _is_steep(found) and _suddenly(sides, s.column, s) < least:
            continue
        if found.form.kind == "category merge" and _lapsed(sides, s, found):
            continue
        narrow = whose(sides, s.column, s.inside, shows) if again and share < PURE else None
        if narrow is not None:
            mask = narrow.mask & (s.whom.mask if s.whom.where is None else True)
            span = _first_shown(mask & shows, s)
            narrower = [
                m for t in stretch_of(sides, s.column, s.found, narrow, *span) for m in _moves(sides, t, again=False)
            ]
            if narrower:
                yield narrower[0]
                return
        if found.form.kind != UNNAMED:
            yield _moved(sides, s, (s.column.name,), found, shows)
            return


def _usual(sides: Sides, s: Stretch, found: Found) -> float:
    """The largest share of rows that showed the same in a stretch of the past as long as this one, or a tenth of it."""
    rows = np.flatnonzero(s.whom.mask[: s.start])
    some = found.shows(shown_values(s.column, rows))
    if found.form.kind == "frozen column" and s.column.kind != TEXT:
        values = s.column.values[rows]
        some = np.concatenate([[False], values[1:] == values[:-1]])
    n = max(20, len(s.inside) // EDGE)
    if found.form.kind == "missing values":
        # what is missing now and then comes and goes by the day: as long a stretch tells more than its tenth
        n = max(n, min(len(s.inside), len(some) // 2))
    if len(some) < 2 * n:
        return 0.0
    if found.form.kind == "sentinel fill" and s.column.kind != TEXT:
        held = s.column.values[rows]
        if not np.nanmin(held) <= float(found.form.parameters["value"]) <= np.nanmax(held):
            return 0.0  # it never was
        return _piled(s.column.values[rows], n)
    summed = np.concatenate([[0], np.cumsum(some)])
    return float((summed[n:] - summed[:-n]).max() / n)


def _piled(values: Array, n: int) -> float:
    """How much of a stretch of `n` rows one value had at most in the past, above its share in all of it."""
    held, codes = np.unique(values, return_inverse=True)
    whole = np.bincount(codes, minlength=len(held)) / len(values)
    most = 0.0
    for at in np.linspace(0, len(values) - n, PLACES).astype(int):
        most = max(most, float((np.bincount(codes[at : at + n], minlength=len(held)) / n - whole).max()))
    return most


def _at_once(before: Array, after: Array, step: float) -> bool:
    """Whether most of a shift is there between the last rows before a break and the first ones behind it."""
    n = FEW // 5
    last, first = before[-n:], after[len(after) // 50 :][:n]
    if np.isnan(last).all() or np.isnan(first).all():
        return False
    return bool((np.nanmedian(first) - np.nanmedian(last)) / step > AT_ONCE)


def _is_steep(found: Found) -> bool:
    """Whether a factor is beyond what any season makes."""
    factor = abs(float(found.form.parameters.get("factor", 1.0)))
    return found.form.kind == "unit change" and (factor >= STEEP or 0 < factor <= 1 / STEEP)


def _lapsed(sides: Sides, s: Stretch, found: Found) -> bool:
    """Whether levels that are gone now were as good as gone for as long in the past."""
    rows = np.flatnonzero(s.whom.mask[: s.start])
    gone = np.isin(shown_values(s.column, rows), list(found.form.parameters["levels"]))
    n = max(20, len(s.inside) // 3)
    if len(gone) < 2 * n:
        return False
    summed = np.concatenate([[0], np.cumsum(gone)])
    return bool((summed[n:] - summed[:-n]).min() < 0.3 * n * gone.mean())


def _first_shown(shows: Array, s: Stretch) -> tuple[int, int]:
    rows = np.flatnonzero(shows)
    return (int(rows[0]), s.stop) if len(rows) else (s.start, s.stop)


def _moved(sides: Sides, s: Stretch, columns: tuple[str, ...], found: Found, shows: Array) -> Moved:
    until = None if s.stop >= len(sides.at) else _moment(sides.at[s.stop - 1])
    held = shown_values(s.column, s.before)
    usual = Counter(held.tolist()).most_common(1)[0][0] if s.column.kind == TEXT else float(np.nanmedian(held))
    return Moved(
        columns,
        found.form,
        s.whom,
        _moment(sides.at[s.start]),
        until,
        found.rows,
        int(shows.sum()),
        float(shows[s.inside].mean()),
        found.explained,
        s.found.strength,
        usual if s.column.kind != TIME else None,
        found.rivals,
    )


def _curves(sides: Sides, stretches: Sequence[Stretch]) -> Iterator[Moved]:
    """A number that changed at once and alone: what makes it upstream is another thing now, or something is added."""
    for s in stretches[:TRIED]:
        if s.column.kind != NUMBER:
            continue
        near = [side[~np.isnan(side)] for side in (s.column.values[s.before], s.column.values[s.inside])]
        if min(map(len, near)) < 30 or distance_of(*near) < CURVED or _suddenly(sides, s.column, s) < 1:
            continue
        others = [c for c in sides.columns.values() if c.kind == NUMBER and c.name != s.column.name]
        if any(_suddenly(sides, c, s) > ALONE for c in others):
            continue
        values = s.column.values
        n = int(np.clip(len(s.inside), 60, 2 * NEXT))
        before, after = values[s.before[-n:]], values[s.inside[len(s.inside) // (2 * EDGE) :][:n]]
        for found in sudden_moves(s.column.name, before[~np.isnan(before)], after[~np.isnan(after)]):
            if (
                found.form.kind == "shift"
                and found.explained < FITS
                and not _at_once(before, after, found.form.parameters["shift"])
            ):
                continue
            yield _moved(sides, s, (s.column.name,), found, between(sides, s.inside))
            return


def _suddenly(sides: Sides, column: Column, s: Stretch) -> float:
    """How far the rows just behind a break are from those just before it, in units of what history's did at most."""
    rows = np.flatnonzero(s.whom.mask)
    place = int(np.searchsorted(rows, s.start))
    n = min(NEXT, place // 4, len(rows) - place)
    if n < 30:
        return 0.0
    values = column.values

    def step(at: int) -> float:
        a, b = values[rows[at - n : at]], values[rows[at : at + n]]
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
        return distance_of(a, b) if min(len(a), len(b)) >= 20 else 0.0

    usual = max((step(int(at)) for at in np.linspace(n, place - n, PLACES)), default=1.0)
    if usual > 0.8:
        return 0.0  # it always changed like that
    now = step(min(place + n // EDGE, len(rows) - n))
    return now / max(2 * usual if usual < 0.4 else usual + 0.6 * (1 - usual), 0.15)


def _swaps(sides: Sides, stretches: Mapping[str, Sequence[Stretch]]) -> Iterator[Moved]:
    """Pairs of columns that, behind a break, each look like the other before it."""
    told: set[str] = set()
    numbers = [c for c in stretches if sides.columns[c].kind == NUMBER and stretches[c]]
    for one, other in combinations(numbers, 2):
        if told & {one, other}:
            continue
        for s in [*stretches[one][:2], *stretches[other][:2]]:
            (a, b), (c, d) = (
                [v[~np.isnan(v)] for v in (sides.columns[n].values[s.before], sides.columns[n].values[s.inside])]
                for n in (one, other)
            )
            if min(map(len, (a, b, c, d))) < 30:
                continue
            straight, crossed = distance_of(a, b) + distance_of(c, d), distance_of(a, d) + distance_of(c, b)
            if straight < SWAPPED or 1 - crossed / straight < (FITS if straight < 1 else 0.6):
                continue
            says = f"{one} and {other} are swapped"
            found = Found(
                Form("column swap", says, None, {"columns": [one, other]}), np.isfinite, None, 1 - crossed / straight
            )
            shows = between(sides, s.inside)
            told |= {one, other}
            yield _moved(sides, s, (one, other), found, shows)
            break


def _forms(column: Column, before: Array, after: Array, whole: Array, past: Array) -> Iterator[Found]:
    if column.kind == TEXT:
        values = column.values[past]
        seen = np.bincount(values[~np.isnan(values)].astype(int), minlength=len(column.levels)).astype(float)
        return text_moves(column.name, before, after, column.levels, seen)
    if column.kind == TIME:
        return time_moves(column.name, before, after)
    return number_moves(column.name, before, after, past_of(whole, column.grain))
