"""What the decisions in question show of a column that broke: the first form that holds for them.

A form that comes and goes by itself is none: what the past did as suddenly, or as
much of, as long, is no news.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.forms import Form
from underhood.faults.moved_few import BEYOND, UNNAMED, Found, is_code, past_of
from underhood.faults.moved_forms import STEEP, distance_of, number_moves
from underhood.faults.moved_scales import is_dealt_anew
from underhood.faults.moved_texts import text_moves
from underhood.faults.moved_times import time_moves
from underhood.faults.moved_whom import EDGE, FEW, MANY, MEANT, PURE, Stretch, Whom, shown_values, stretch_of, whose
from underhood.faults.sides import Column, Sides
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import NUMBER, TEXT, TIME

AT_ONCE = 0.5  # of a shift, what must be there between the rows next to a break
SUDDEN_BEYOND = 0.7  # as sudden as this is enough for values that never were
SUDDEN = ("shift", "unit change")  # what a season makes slowly
PARTIAL = ("missing values", "frozen column", "sentinel fill", "new level", "clipped", UNNAMED)  # what may come and go
LIKE_ANY = ("frozen column", "sentinel fill", "new level")  # what a level that the past was without looks like
FIRST, ABSENT = 0.1, 0.02  # of the decisions, in which what the past lacks shows at last; of its share: as good as none
THIN = 0.1  # share of one value below which it is looked for in stretches of half the length
QUARTERS, STEADY, STEADY_ROWS = 4, 0.25, 24  # of a stretch; of its share, what each must show; rows that can tell
ROUNDS = 3  # of finding where it begins with what the last one knew
FEW_LEFT = 3  # rows of a level that must be expected outside of a cohort before their being there tells anything
KEPT = 0.1  # of what usually lies beyond a cap; with less, it was kept to
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
        made = self.span if self.whom.where is None else self.span & self.whom.where
        return made & self.rows if self.is_partial and self.rows is not None else made

    @property
    def span(self) -> Expr:
        """When it holds."""
        at = col("asked_at")
        return at >= self.since if self.until is None else (at >= self.since) & (at <= self.until)

    @property
    def is_partial(self) -> bool:
        """Whether only some rows of its cohort show it, and which.

        Those that became a usual level cannot be told from its own; those that became a seldom one can, nearly.
        A cap holds for those below it as well.
        """
        if self.form.kind == "clipped":
            return False
        return self.rows is not None and self.share < (THIN if self.form.kind == "category merge" else PURE)


def moves_of(sides: Sides, s: Stretch, again: bool = True) -> Iterator[Moved]:
    """The first form that the decisions in question show; for whom exactly, where only some rows show it."""
    past = ~sides.decided | (np.arange(len(sides.at)) < s.start)
    values, is_known = s.column.values, s.found.row is not None
    after = s.inside[: len(s.before)] if is_known else s.inside[len(s.inside) // EDGE : MANY]
    for found in _forms(s.column, values[s.before], values[after], values[past & s.whom.mask], past):
        shows = np.zeros(len(sides.at), bool)
        shows[s.inside] = found.shows(shown_values(s.column, s.inside))
        if sides.bad[shows].sum() < MEANT * sides.bad.sum():
            continue
        share = shows[s.inside].mean()
        most = 0.75 if found.form.kind in ("missing values", "frozen column") else 0.5
        if found.form.kind in PARTIAL and _usual(sides, s, found, share) > most * share:
            continue
        if (
            found.is_beyond
            and s.by is None
            and not is_at_once(values[s.before], values[s.inside], found.form.parameters["shift"])
        ):
            continue
        if found.form.kind in SUDDEN and not _is_sudden(sides, s, found, share):
            continue
        if found.is_new and found.rows is None and _is_dealt_anew(sides, s):
            continue
        if found.form.kind == "category merge" and _lapsed(sides, s, found):
            continue
        wide = _wider(sides, s, found) if again else None
        if wide is not None and (wider := list(moves_of(sides, wide, again=False))):
            yield wider[0]
            return
        narrow = whose(sides, s.column, s.inside, shows) if again and share < PURE else None
        if narrow is not None:
            mask = narrow.mask & (s.whom.mask if s.whom.where is None else True)
            span = _first_shown(mask & shows, s)
            narrower = [
                m for t in stretch_of(sides, s.column, s.found, narrow, *span) for m in moves_of(sides, t, again=False)
            ]
            if narrower:
                yield narrower[0]
                return
        if found.form.kind != UNNAMED:
            begins = begins_of(sides, s, found) if share < 0.5 else s.start
            if share < PURE and ever_since(sides, s, found, begins):
                continue
            shows[:begins] = False
            yield moved_of(sides, replace(s, start=begins), (s.column.name,), found, shows)
            return


def ever_since(sides: Sides, s: Stretch, found: Found, begins: int) -> bool:
    """Whether some rows have had a value like any other since the first decisions, and none before them.

    Then nothing has broken among the decisions: those who have it were left out of the past, which is a gap.
    """
    past, early = (np.flatnonzero(s.whom.mask[:begins] & (sides.decided[:begins] == side)) for side in (False, True))
    if found.form.kind not in LIKE_ANY or not len(past):
        return False
    if s.column.kind == NUMBER:
        held, value = s.column.values[past], float(found.form.parameters["value"])
        if np.isnan(held).all() or is_code(value, held) or not np.nanmin(held) <= value <= np.nanmax(held):
            return False
    had, began, has = (
        found.shows(shown_values(s.column, rows)).mean() if len(rows) else 0.0 for rows in (past, early, s.inside)
    )
    is_early = len(early) <= FIRST * (len(early) + len(s.inside)) or began >= 0.5 * has
    return bool(is_early and had <= ABSENT * has)


def begins_of(sides: Sides, s: Stretch, found: Found) -> int:
    """The row from which on those that show something come as often as in what follows: of the rows that show it.

    A break in what a few rows show is known to the block only. Likelihood ratio of their share now and before.
    """
    rows = np.flatnonzero(s.whom.mask[: s.stop])
    some = found.shows(shown_values(s.column, rows))
    at = int(np.searchsorted(rows, s.start))
    begin = at
    for _ in range(ROUNDS):
        was, now = ((side.sum() + 0.5) / (len(side) + 1) for side in (some[:at], some[begin:]))
        if now <= was:
            return s.start
        gain = np.where(some, np.log(now / was), np.log((1 - now) / (1 - was)))
        behind = np.cumsum(gain[::-1])[::-1]
        begin = at + int(np.argmax(np.where(some[at:], behind[at:], -np.inf)))
    return int(rows[begin]) if some[begin] else s.start


def _wider(sides: Sides, s: Stretch, found: Found) -> Stretch | None:
    """All rows of the stretch, if the cohort is only where it can show; null if others stay as they were.

    What levels become can show only where they are, and a cap only where values lay beyond it: a column that goes
    with them carries any change of them.
    """
    was = _touched(s, found)
    if s.whom.where is None or was is None:
        return None
    others = ~s.whom.mask
    before, now = others[: s.start].nonzero()[0][-MANY:], others[s.start : s.stop].nonzero()[0] + s.start
    expected = was[before].mean() * len(now) if len(before) and len(now) else 0.0
    left = was[s.before].mean(), was[s.inside].mean()
    stays = left[1] / max(left[0], 1e-9)  # of what it touches inside the cohort, what is still there
    if expected >= FEW_LEFT and was[now].sum() > (0.5 + 0.5 * stays) * expected:
        return None
    everyone = Whom(np.ones(len(sides.at), bool), None, "")
    return next(stretch_of(sides, s.column, s.found, everyone, s.start, s.stop), None)


def _touched(s: Stretch, found: Found) -> Array | None:
    """Which values a form does not leave as they were: flags over all rows; null if it could be any of them."""
    olds, values = found.form.parameters.get("levels"), s.column.values
    if isinstance(olds, Mapping) and s.column.kind == TEXT:
        return np.isin(values, [n for n, level in enumerate(s.column.levels) if level in olds])
    if found.form.kind == "clipped":
        return _beyond(s, float(found.form.parameters["at"]))
    return None


def _beyond(s: Stretch, at: float) -> Array:
    """Which of all rows lie on the side of a cap that is cut off: the one on which hardly any row of the stretch is."""
    values, now = s.column.values, s.column.values[s.inside]
    made: Array = values > at if (now > at).mean() < (now < at).mean() else values < at
    return made


def _forms(column: Column, before: Array, after: Array, whole: Array, past: Array) -> Iterator[Found]:
    if column.kind == TEXT:
        values = column.values[past]
        seen = np.bincount(values[~np.isnan(values)].astype(int), minlength=len(column.levels)).astype(float)
        return text_moves(column.name, before, after, column.levels, seen)
    if column.kind == TIME:
        return time_moves(column.name, before, after)
    return number_moves(column.name, before, after, past_of(whole, column.grain))


def _usual(sides: Sides, s: Stretch, found: Found, share: float) -> float:
    """The largest share of rows that showed the same in a stretch of the past as long as this one, or a tenth of it.

    Of a cohort that has hardly a past of its own, that of everyone tells what is usual.
    """
    rows, n = np.flatnonzero(s.whom.mask[: s.start]), max(20, len(s.inside) // EDGE)
    if len(rows) < 2 * n and found.form.kind != "clipped":
        rows = np.arange(s.start)
    some = found.shows(shown_values(s.column, rows))
    if found.form.kind == "frozen column" and s.column.kind != TEXT and share >= PURE:
        values = s.column.values[rows]
        some = np.concatenate([[False], values[1:] == values[:-1]])
    if found.form.kind == "clipped" and s.column.kind != TEXT:
        return _kept_to(s, rows, float(found.form.parameters["at"]), share)
    if found.form.kind == "missing values":
        # what is missing now and then comes and goes by the day: as long a stretch tells more than its tenth
        n = max(n, min(len(s.inside), len(some) // 2))
    elif found.form.kind == "frozen column" and share >= PURE:
        # what is measured now and then stays the same for a while: what has stopped stays so for long
        n = max(n, min(len(s.inside) // 2, len(some) // 2))
    if len(some) < 2 * n:
        return 0.0
    if found.form.kind in ("sentinel fill", "frozen column") and s.column.kind != TEXT and share < PURE:
        held = s.column.values[rows]
        low, high, value = np.nanmin(held), np.nanmax(held), float(found.form.parameters["value"])
        margin = 0.0 if is_code(value, held) else BEYOND * (high - low)
        if not low - margin <= value <= high + margin:
            return 0.0  # it never was, nor the like of it
        if not is_steady(found.shows(s.column.values[s.inside])):
            return share  # it came, and passed
        # the thinner, the longer must be looked for as much: chance piles up more in fewer rows
        n = max(n, min(len(s.inside) // 2, len(held) // 2)) if share < THIN else n
        # a pile is what is more than a value's share of all: so must be what is held against it
        more = share - float(np.mean(held == value))
        return piled(held, n) * share / more if more > 0 else share
    summed = np.concatenate([[0], np.cumsum(some)])
    return float((summed[n:] - summed[:-n]).max() / n)


def _kept_to(s: Stretch, rows: Array, at: float, share: float) -> float:
    """`share` if the past ever kept to a cap for half as long as this stretch does, as much piled up at it; else 0."""
    held, n = s.column.values[rows], min(len(s.inside) // 2, len(rows) // 2)
    if n < 1:
        return share
    flags = (_beyond(s, at)[rows], held == at)
    beyond, piled = (np.concatenate([[0], np.cumsum(f)]) for f in flags)
    is_kept = beyond[n:] - beyond[:-n] <= KEPT * beyond[-1] * n / len(held)
    return share if (is_kept & (piled[n:] - piled[:-n] > 0.5 * share * n)).any() else 0.0


def piled(values: Array, n: int) -> float:
    """How much of each quarter of a stretch of `n` rows one value had at least, at most in the past; above its share.

    A figure of the time has one value for many rows, and then another one: that is not to have stopped.
    """
    held, codes = np.unique(values, return_inverse=True)
    whole = np.bincount(codes, minlength=len(held)) / len(values)
    most = 0.0
    for at in np.linspace(0, len(values) - n, PLACES).astype(int):
        parts = [np.bincount(c, minlength=len(held)) / len(c) for c in np.array_split(codes[at : at + n], QUARTERS)]
        most = max(most, float((np.min(parts, axis=0) - whole).max()))
    return most


def is_steady(some: Array) -> bool:
    """Whether what some rows show goes on from the first of them to the end; a handful cannot tell."""
    tail = some[int(np.argmax(some)) :]
    least = min(float(part.mean()) for part in np.array_split(tail, QUARTERS))
    return bool(some.sum() < STEADY_ROWS or least >= STEADY * tail.mean())


def is_at_once(before: Array, after: Array, step: float) -> bool:
    """Whether most of a shift is there between the last rows before a break and the first ones behind it."""
    n = FEW // 5
    last, first = before[-n:], after[len(after) // 50 :][:n]
    if np.isnan(last).all() or np.isnan(first).all():
        return False
    return bool((np.nanmedian(first) - np.nanmedian(last)) / step > AT_ONCE)


def _is_sudden(sides: Sides, s: Stretch, found: Found, share: float) -> bool:
    """Whether a shift or factor came as no season does: at once, or steep, or in rows the like of which never were."""
    if _is_steep(found):
        return True
    if found.rows is not None:
        return _usual(sides, s, found, share) <= 0.5 * share
    return suddenly(sides, s.by or s.column, s) >= (SUDDEN_BEYOND if found.is_new else 1.0)


def _is_dealt_anew(sides: Sides, s: Stretch) -> bool:
    """Whether values beyond all that was no longer go with the other numbers of their row: then they are others."""
    others = [c for c in sides.columns.values() if c.kind == NUMBER and c.name != s.column.name]
    # those right before, also where rows that should have the same are compared: these have lost what goes with what
    last = np.flatnonzero(s.whom.mask[: s.start])[-max(FEW, len(s.inside)) :]
    before, inside = ([c.values[rows] for c in (s.column, *others)] for rows in (last, s.inside))
    return is_dealt_anew(before, inside)


def _is_steep(found: Found) -> bool:
    """Whether a factor is beyond what any season makes."""
    factor = abs(float(found.form.parameters.get("factor", 1.0)))
    return found.form.kind == "unit change" and (factor >= STEEP or 0 < factor <= 1 / STEEP)


def _lapsed(sides: Sides, s: Stretch, found: Found) -> bool:
    """Whether levels that are gone now were as good as gone for as long in the past, in favour of the same other one.

    Where only some rows of them come as another level: whether that one was half as frequent for as long.
    """
    rows = np.flatnonzero(s.whom.mask[: s.start])
    was, now = (shown_values(s.column, side) for side in (rows, s.inside))
    levels = list(found.form.parameters["levels"])
    gone, left = np.isin(was, levels), np.isin(now, levels).mean()
    into, share = found.shows(was), found.shows(now).mean()
    n = max(20, len(now) // 3)
    if len(was) < 2 * n:
        return False
    summed = (np.concatenate([[0], np.cumsum(f)]) for f in (gone, into))
    still, taken = (f[n:] - f[:-n] for f in summed)
    if left > 0.5 * gone.mean():
        return bool(taken.max() > 0.5 * share * n)
    halfway = into.mean() + 0.5 * (share - into.mean())
    return bool(((still < 0.3 * n * gone.mean()) & (taken >= halfway * n)).any())


def _first_shown(shows: Array, s: Stretch) -> tuple[int, int]:
    rows = np.flatnonzero(shows)
    return (int(rows[0]), s.stop) if len(rows) else (s.start, s.stop)


def moved_of(sides: Sides, s: Stretch, columns: tuple[str, ...], found: Found, shows: Array) -> Moved:
    """A move of these columns, as a stretch of rows shows it; `shows` are flags over all rows."""
    until = None if s.stop >= len(sides.at) else moment_of(sides.at[s.stop - 1])
    held = shown_values(s.column, s.before)
    usual = Counter(held.tolist()).most_common(1)[0][0] if s.column.kind == TEXT else float(np.nanmedian(held))
    return Moved(
        columns,
        found.form,
        s.whom,
        moment_of(sides.at[s.start]),
        until,
        found.rows,
        int(shows.sum()),
        float(shows[s.inside].mean()),
        found.explained,
        s.found.strength,
        usual if s.column.kind != TIME else None,
        found.rivals,
    )


def moment_of(at: float) -> datetime:
    """Seconds since 1970 as a time (UTC)."""
    return datetime.fromtimestamp(float(at), UTC).replace(tzinfo=None)


def suddenly(sides: Sides, column: Column, s: Stretch) -> float:
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
