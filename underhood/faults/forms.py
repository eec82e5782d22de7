"""The closed forms in which a served value differs from the one that history gives: factor, shift, grid, name, …

Row by row, not by distribution: of two arrays, as served and as history gives
it, a form says what was done to the second to get the first, with its
parameters, and what would take it back. It must hold for nearly every row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.plan.exprs import Expr, cases, col, when

HOLDS = 0.97  # share of the differing rows for which a form must hold
CLOSE = 1e-6
UNWRITTEN = 1e-9  # of a number, what no decimal of it is
ENOUGH = 5  # rows; fewer are no evidence of a form
DAY_H = 24
MOST_HOURS = 15  # of a day's hours, more than which a column must have to be one
INSIDE, BY_CHANCE = 0.02, 0.01  # share of values on the other side of a cap; chance that is no evidence


@dataclass(frozen=True)
class Form:
    """What was done to a column. `undo` gives the value back over `row.…`; null where only history has it."""

    kind: str
    says: str
    undo: Expr | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def number_form(column: str, served: Array, again: Array, rest: Array, beside: Array | None = None) -> Form | None:
    """The form in which a number differs; null if there is none.

    `served` and `again` are of the rows that differ, `rest` of those that do not:
    floats without NaN. `beside` are those of the rest in the same cohort and span, if that is known: where none
    of them keeps a value of its own, nothing tells that only those beyond a cap were cut off.
    """
    if len(served) < ENOUGH:
        return None
    forms: tuple[Callable[[str, Array, Array], Form | None], ...] = (
        _factor,
        _shift,
        _affine,
        _grid,
        _comma,
        _written,
        _map,
        _dealt,
    )
    constant = _one_value(column, served, again, rest, rest if beside is None else beside)
    whole = (again != np.round(again)).all() and len(rest) >= ENOUGH and (rest == np.round(rest)).all()
    if constant is None and whole and (comma := _comma(column, served, again)):
        return comma
    found = constant or next((made for form in forms if (made := form(column, served, again))), None)
    if found is None or found.kind != "shift":
        return found
    return _coarser(column, served, again, rest) or _as_hours(found, column, served, np.concatenate([again, rest]))


def _coarser(column: str, served: Array, again: Array, rest: Array) -> Form | None:
    """The grid that whole numbers fell down to, if it tells which of them changed: to evens, each odd one is shifted.

    What adds a constant does so to numbers on the grid as well, at the rate at which others lie there.
    """
    found = _grid(column, served, again)
    if found is None or not len(rest):
        return None
    grid = found.parameters["step"]
    changed, others = (_near(v, np.round(v / grid) * grid) for v in (again, rest))
    is_chance = (1 - others.mean()) ** len(again) >= BY_CHANCE
    return None if changed.any() or is_chance else found


def _as_hours(form: Form, column: str, served: Array, was: Array) -> Form:
    """A step of whole hours that leaves the hours of a day such is another zone, also where no row crosses midnight.

    An hour of the day has the last one, and most of the others; what is added to any other number leaves that range.
    """
    step = form.parameters["shift"]
    hours = range(DAY_H)
    is_hour = DAY_H - 1 in was and len(np.unique(was)) > MOST_HOURS and bool(np.isin(was, hours).all())
    if not step or step != round(step) or abs(step) > DAY_H / 2 or not (is_hour and np.isin(served, hours).all()):
        return form
    undo = (col(f"row.{column}") - step + 2 * DAY_H) % DAY_H
    return Form("time zone", f"{column} {step:+g} h", undo, {"shift": step, "modulo": DAY_H})


def _holds(equal: Array) -> bool:
    return bool(equal.mean() >= HOLDS)


def _near(one: Array, other: Array) -> Array:
    near: Array = np.abs(one - other) <= CLOSE * np.maximum(1e-9, np.maximum(np.abs(one), np.abs(other)))
    return near


def _plain(value: float) -> float:
    return float(f"{value:.9g}")


def _one_value(column: str, served: Array, again: Array, rest: Array, beside: Array) -> Form | None:
    values, counts = np.unique(served, return_counts=True)
    value = float(values[counts.argmax()])
    # where two values have become one, no factor and no shift takes all rows to it
    least = ENOUGH if counts.max() < len(served) else 2
    if counts.max() < HOLDS * len(served) or len(np.unique(again)) < least:
        return None
    # where nobody of them keeps a value, one that others have as well has stopped there
    left = beside if len(beside) >= ENOUGH or value in rest else rest
    if len(left) >= ENOUGH and (_is_cap(again, left, value) or _is_cap(-again, -left, -value)):
        return Form("clipped", f"{column} is cut off at {value:g}", None, {"at": value})
    between = again.min() < value < again.max()
    if value and value in rest and (between or (len(beside) < ENOUGH and rest.min() < value < rest.max())):
        return Form("frozen column", f"{column} has stopped at {value:g}", None, {"value": value})
    return Form("sentinel fill", f"{column} is always {value:g}", None, {"value": value})


def _is_cap(again: Array, rest: Array, value: float) -> bool:
    """Whether values above `value` became it: a cap leaves the others as they were, a code stands in for any of them.

    Of rows that are drawn from all (a canary) others keep values above it; then chance must be ruled out
    that all the changed ones had been above.
    """
    if not (again > value).all() or (rest < value).mean() < INSIDE:
        return False
    return bool((rest > value).mean() ** len(again) < BY_CHANCE)


def _factor(column: str, served: Array, again: Array) -> Form | None:
    some = again != 0
    if some.sum() < ENOUGH:
        return None
    factor = _plain(float(np.median(served[some] / again[some])))
    if factor in (0.0, 1.0) or not _holds(_near(served, again * factor)):
        return None
    return Form("unit change", f"{column} × {factor:g}", col(f"row.{column}") / factor, {"factor": factor})


def _shift(column: str, served: Array, again: Array) -> Form | None:
    row = col(f"row.{column}")
    hours = (served - again) % DAY_H
    turn = float(np.median(hours))
    # what runs over midnight is an hour of the day; without that, it is any number with something added
    over = len(np.unique(np.sign(served - again))) > 1 and np.isin(np.concatenate([served, again]), range(DAY_H)).all()
    if over and turn and _holds(hours == turn):
        shift = turn if turn <= DAY_H / 2 else turn - DAY_H
        undo = (row - shift + 2 * DAY_H) % DAY_H
        return Form("time zone", f"{column} {shift:+g} h", undo, {"shift": shift, "modulo": DAY_H})
    shift = _plain(float(np.median(served - again)))
    if _holds(np.abs(served - again - shift) <= CLOSE * max(1e-9, abs(shift))):
        return Form("shift", f"{column} {shift:+g}", row - shift, {"shift": shift})
    return None


def _affine(column: str, served: Array, again: Array) -> Form | None:
    low, high = int(again.argmin()), int(again.argmax())
    if again[low] == again[high] or len(np.unique(again)) < ENOUGH:
        return None
    factor = _plain(float((served[high] - served[low]) / (again[high] - again[low])))
    offset = _plain(float(served[low] - factor * again[low]))
    width = float(np.abs(served).max())
    if not factor or not _holds(np.abs(served - factor * again - offset) <= CLOSE * max(1e-9, width)):
        return None
    undo = (col(f"row.{column}") - offset) / factor
    return Form("unit change", f"{column} × {factor:g} {offset:+g}", undo, {"factor": factor, "offset": offset})


def _grid(column: str, served: Array, again: Array) -> Form | None:
    top = float(np.abs(again).max())
    if not top:
        return None
    for power in range(int(np.floor(np.log10(top))) + 1, int(np.floor(np.log10(top))) - 9, -1):
        for step in (5 * 10.0**power, 2.5 * 10.0**power, 2 * 10.0**power, 10.0**power):
            for name, to_grid in (("down", np.floor), ("to the nearest", np.round), ("up", np.ceil), ("off", np.trunc)):
                if _holds(np.abs(served - to_grid(again / step) * step) <= 1e-9 * max(step, top)):
                    if len(np.unique(served)) < 2:
                        continue
                    says = f"{column} is rounded {name} to steps of {step:g}"
                    return Form("precision loss", says, None, {"step": _plain(step), "way": name})
    return None


def decimals_lost(values: Array, most: int = 6) -> Array:
    """What becomes of numbers whose decimal mark is overlooked: 12.5 is 125, 12.55 is 1255, 12 is 12.

    Each is multiplied by ten for each decimal that it is written with, at most `most`.
    """
    made = np.asarray(values, dtype=float).copy()
    for _ in range(most):
        # what sums of decimals lack is far less than the last decimal of any number that people write
        broken = np.abs(made - np.round(made)) > UNWRITTEN * np.maximum(1.0, np.abs(made))
        made = np.where(broken, made * 10, made)
    whole: Array = np.round(made)
    return whole


def over_decimals(column: str, high: float, most: int = 4) -> Expr:
    """Back from numbers whose decimal mark was overlooked: divided by ten until they are not above `high`."""
    row = col(f"row.{column}")
    steps = [(row.then("abs") > high * 10.0**n, row / 10.0 ** (n + 1)) for n in range(most - 1, -1, -1)]
    return cases(*steps, otherwise=row)


def mark_again(column: str, factor: float) -> Expr:
    """Back from numbers that all lost their decimal mark: the last decimal is never written as 0, so such were whole.

    All others are taken to have had as many decimals as any, which most have: `factor` is ten to that power.
    """
    row = col(f"row.{column}")
    return when(row % 10 == 0, row, row / factor)


def _comma(column: str, served: Array, again: Array) -> Form | None:
    """Each number times ten for each of its decimals: read with the wrong decimal mark."""
    ratio = np.unique(np.round(np.log10(np.maximum(1e-12, np.abs(served[again != 0] / again[again != 0]))), 3))
    if not len(ratio) or not _holds(_near(served, decimals_lost(again))):
        return None
    high = float(np.quantile(np.abs(again), 0.9995))
    says = f"{column} has lost its decimal mark: 12.5 has become 125"
    return Form("decimal comma", says, None, {"factor": float(10 ** ratio.max()), "high": high})


def _written(column: str, served: Array, again: Array) -> Form | None:
    """A factor or an offset of numbers that were then written with few decimals: a line within half of the last one.

    Both are the simplest numbers that three standard errors allow, of the factor or of what divides; a factor alone
    is simpler than both.
    """
    step = _last_decimal(served)
    if step is None or len(served) < 4 * ENOUGH or min(len(np.unique(v)) for v in (served, again)) < 2 * ENOUGH:
        return None
    slope, start = _line(again, served)
    nearest = np.argsort(np.abs(served - slope * again - start), kind="stable")[: max(ENOUGH, int(HOLDS * len(served)))]
    slope, start = np.polyfit(again[nearest], served[nearest], 1).tolist()
    some = np.abs(served - slope * again - start) <= step  # twice what rounding takes: the line is a rough one
    if not _holds(some) or len(np.unique(again[some])) < 2 * ENOUGH:
        return None
    x, y, off = again[some], served[some], step / 12**0.5  # the standard deviation of what rounding takes
    alone = _simplest(float(x @ y / (x @ x)), 3 * off / float(x @ x) ** 0.5)
    across = float(((x - x.mean()) ** 2).sum()) ** 0.5
    slope = _simplest(float((x - x.mean()) @ y) / across**2, 3 * off / across)
    start = _simplest(float((y - slope * x).mean()), 3 * off / len(x) ** 0.5)
    slack = 3 * off * (1 / len(x) ** 0.5 + np.abs(again - x.mean()) / across)  # as far as the line itself is known
    for factor, offset in ((alone, 0.0), (slope, start)):
        near = np.abs(served - factor * again - offset) <= step / 2 + slack
        if factor and (factor, offset) != (1.0, 0.0) and _holds(near):
            return _rounded(column, factor, offset, step)
    return None


def _rounded(column: str, factor: float, offset: float, step: float) -> Form:
    """The form of a line that was written with few decimals."""
    row, written = col(f"row.{column}"), f"written in steps of {step:g}"
    if factor == 1.0:
        return Form("shift", f"{column} {offset:+g}, {written}", row - offset, {"shift": offset})
    if not offset:
        return Form("unit change", f"{column} × {factor:g}, {written}", row / factor, {"factor": factor})
    says = f"{column} × {factor:g} {offset:+g}, {written}"
    return Form("unit change", says, (row - offset) / factor, {"factor": factor, "offset": offset})


def _last_decimal(values: Array, most: int = 6) -> float | None:
    """The step of the last decimal that numbers are written with, 1 for whole ones; null if they have more."""
    for n in range(most + 1):
        scaled = values * 10.0**n
        if _holds(np.abs(scaled - np.round(scaled)) <= UNWRITTEN * np.maximum(1.0, np.abs(scaled))):
            return 10.0**-n
    return None


def _line(x: Array, y: Array) -> tuple[float, float]:
    """A line through the middles of the lowest and the highest third, which a few odd rows do not turn."""
    order = np.argsort(x, kind="stable")
    low, high = order[: len(x) // 3], order[-(len(x) // 3) :]
    across = float(np.median(x[high]) - np.median(x[low]))
    slope = float(np.median(y[high]) - np.median(y[low])) / across if across else 0.0
    return slope, float(np.median(y - slope * x))


def _simplest(value: float, error: float) -> float:
    """The number with the fewest digits within the error, or one over such a number; 0 if that is within it."""
    if abs(value) <= error:
        return 0.0
    for digits in range(1, 10):
        near = [float(f"{value:.{digits}g}"), 1 / float(f"{1 / value:.{digits}g}")]
        for one in near:
            if abs(one - value) <= error:
                return one
    return value


def _map(column: str, served: Array, again: Array) -> Form | None:
    """Any other monotone function: a model or a scale upstream has changed."""
    order = np.argsort(again, kind="stable")
    steps = np.diff(served[order])[np.diff(again[order]) > 0]
    if len(steps) < 4 * ENOUGH or len(np.unique(served)) < 2 * ENOUGH:
        return None
    if (steps >= 0).mean() >= HOLDS or (steps <= 0).mean() >= HOLDS:
        way = "rises" if (steps >= 0).mean() >= HOLDS else "falls"
        return Form("upstream change", f"{column} {way} with what it was, by no simple rule", None, {"way": way})
    return None


def _dealt(column: str, served: Array, again: Array) -> Form | None:
    """Numbers that are codes, dealt anew: each stands for one other, by no curve. Each is seen several times."""
    codes, which = np.unique(again, return_inverse=True)
    if len(codes) < 2 or len(codes) * ENOUGH > len(again):
        return None
    to = {}
    for n, code in enumerate(codes):
        values, counts = np.unique(served[which == n], return_counts=True)
        to[float(code)] = float(values[counts.argmax()])
    if not _holds(served == np.array(list(to.values()))[which]):
        return None
    shown = ", ".join(f"{a:g} → {s:g}" for a, s in list(to.items())[:3]) + (", …" if len(to) > 3 else "")
    if len(set(to.values())) < len(to):
        return Form("category merge", f"{column} is merged: {shown}", None, {"levels": to})
    row = col(f"row.{column}")
    undo = row.map({s: a for a, s in to.items()}).fill(row)
    steps = np.sign(np.diff(list(to.values())))
    if len(codes) >= ENOUGH and abs(steps.sum()) == len(steps):  # by chance in one of sixty
        way = "rises" if steps[0] > 0 else "falls"
        return Form("upstream change", f"{column} {way} with what it was: {shown}", undo, {"way": way})
    return Form("category rename", f"{column} is renamed: {shown}", undo, {"levels": to})


def text_form(
    column: str, served: Array, again: Array, rest: Iterable[str] = (), others: Iterable[str] = ()
) -> Form | None:
    """The form in which a text differs; null if there is none.

    `served` and `again` are of the rows that differ, `rest` of those that do not, `others` of those whom no fault
    touches: texts without nulls. A level under a name that others of the rest have is merged with it, not renamed;
    so is one under a name that others have, unless names went round among themselves.
    """
    if len(served) < ENOUGH:
        return None
    pairs = list(zip(served, again, strict=True))
    if _share(bare(s) == bare(a) for s, a in pairs) >= HOLDS:
        first = next((s, a) for s, a in pairs if s != a)
        back = _back(column, pairs)
        return Form("category spelling", f"{column} is written {first[0]!r} for {first[1]!r}", back)
    levels, counts = np.unique(served.astype(str), return_counts=True)
    value = str(levels[counts.argmax()])
    # two levels are enough where all have become one, and nobody comes as another
    is_all = counts.max() == len(served) and set(rest) <= {value}
    if counts.max() >= HOLDS * len(served) and len(set(again)) >= (2 if is_all else ENOUGH):
        return Form("sentinel fill", f"{column} is always {value!r}", None, {"value": value, "levels": [value]})
    to: dict[str, str] = {}
    for s, a in pairs:
        to.setdefault(a, s)
    if _share(to[a] == s for s, a in pairs) < HOLDS:
        return _split(column, pairs)
    # nothing left is no text cut short
    if _share(s != "" and a.startswith(s) for s, a in pairs) >= HOLDS and len({len(s) for s, _ in pairs}) <= 2:
        longest = max(len(s) for s, _ in pairs)
        return Form("precision loss", f"{column} is cut off after {longest} characters", None, {"length": longest})
    shown = ", ".join(f"{a!r} → {s!r}" for a, s in sorted(to.items())[:3]) + (", …" if len(to) > 3 else "")
    new = set(to.values())
    if len(new) == len(to) and not new & set(rest) and not (new - set(to)) & set(others):
        return Form("category rename", f"{column} is renamed: {shown}", _back(column, pairs), {"levels": to})
    return Form("category merge", f"{column} is merged: {shown}", None, {"levels": to})


def _split(column: str, pairs: list[tuple[str, str]]) -> Form | None:
    """One level comes as several, each of which stands for it alone, and which is none of the old ones."""
    back = _back(column, pairs)
    new, old = {s for s, _ in pairs}, {a for _, a in pairs}
    if back is None or new & old or len(new) > 3 * len(old):
        return None
    levels = {o: sorted({s for s, a in pairs if a == o}) for o in sorted(old)}
    shown = "; ".join(f"{o!r} → {', '.join(map(repr, n[:3]))}" for o, n in list(levels.items())[:2])
    return Form("category split", f"{column} is split: {shown}", back, {"levels": levels})


def _share(holds: Any) -> float:
    return float(np.mean(list(holds)))


def bare(text: str) -> str:
    """A text without its case, spaces and marks: what stays of a level however it is written."""
    return re.sub(r"[\W_]+", "", text.casefold())


def _back(column: str, pairs: list[tuple[str, str]]) -> Expr | None:
    """Each served level back to what it was; null if one stands for several."""
    back: dict[str, str] = {}
    for s, a in pairs:
        if back.setdefault(s, a) != a:
            return None
    row = col(f"row.{column}")
    return row.map(back).fill(row)


def time_form(column: str, served: Array, again: Array) -> Form | None:
    """The form in which a time differs; null if there is none. Both arrays hold datetimes (UTC) without nulls."""
    if len(served) < ENOUGH:
        return None
    seconds = np.array([(s - a) / timedelta(seconds=1) for s, a in zip(served, again, strict=True)])
    if _holds(np.array([s == _day_for_month(a) for s, a in zip(served, again, strict=True)])):
        return Form("upstream change", f"day and month of {column} are exchanged", None, {"form": "%d.%m. as %m.%d."})
    shift = float(np.median(seconds))
    if not shift or not _holds(np.abs(seconds - shift) < 1e-3):
        return None
    kind = "time zone" if shift % 900 == 0 else "clock skew"
    return Form(kind, f"{column} {shift / 3600:+g} h", None, {"shift_s": shift})


def _day_for_month(time: datetime) -> datetime | None:
    """The time with its day read as its month; null where there is no such month, or that changes nothing."""
    if time.day > 12 or time.day == time.month:
        return None
    return time.replace(day=time.month, month=time.day)
