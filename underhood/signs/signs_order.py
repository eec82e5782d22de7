"""What a table's own clock tells: missing periods, stuck values, counts that fall, lumps, thin ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np

from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.clocks import Series, series_of
from underhood.signs.seen import Array, Seen, shown

_EPOCH = datetime(1970, 1, 1)
_STEPS = {60.0: "minute", 3600.0: "hour", 86400.0: "day", 604800.0: "week"}


def order_findings(seen: Seen) -> Iterator[Finding]:
    """What is wrong with the periods of a table and with its values along time."""
    series = series_of(seen)
    if series is None:
        return
    yield from _thin_ends(seen, series)
    if series.step:
        yield from _missing_steps(seen, series)
        columns = [c for c, n in seen.numbers.items() if len(n.values) >= 10 and c not in series.columns]
        columns = [c for c in columns if c in series.frame]
        for column in columns:
            if not _is_total(series.frame[column], series.is_same_group):
                yield from _stuck(seen, series, column)
        for column in columns:
            if not series.group and not _is_total(series.frame[column], series.is_same_group):
                made = list(_break(seen, series, column))
                yield from made or _apart(seen, series, column)
        yield from _falls(seen, series, columns)
        yield from _lumps(seen, series, columns)
    else:
        yield from _missing_days(seen, series)


def moment(seconds: float) -> str:
    """Seconds since 1970 as a person writes it: the day alone when it is midnight."""
    at = _EPOCH + timedelta(seconds=float(seconds))
    return f"{at:%Y-%m-%d}" if at == datetime(at.year, at.month, at.day) else f"{at:%Y-%m-%d %H:%M}"


def at_moments(series: Series, seconds: Iterable[float]) -> str:
    """A predicate: the row's time is one of these."""
    times = [f"TIMESTAMP '{_EPOCH + timedelta(seconds=float(s))}'" for s in seconds]
    return f"{series.sql} in ({', '.join(times)})" if len(times) > 1 else f"{series.sql} = {times[0]}"


def _unit(step: float, n: int) -> str:
    name = _STEPS.get(step) or ("month" if 27 * 86400 < step < 32 * 86400 else f"{step:g}-second step")
    return name if n == 1 else f"{name}s"


def _missing_steps(seen: Seen, series: Series) -> Iterator[Finding]:
    """Gaps in a series that otherwise has a row every so often."""
    time, same = series.time, series.is_same_group
    jumps = np.diff(time)[same[1:]]
    starts = time[:-1][same[1:]]
    steps = np.round(jumps / series.step)
    gaps = steps > 1
    if not gaps.any():
        return
    n_missing, total = int((steps[gaps] - 1).sum()), int(steps.sum())
    regular = _weekly(starts, gaps, series.step)
    n_missing -= int((steps[gaps & regular] - 1).sum())
    gaps &= ~regular
    if not gaps.any() or n_missing > 0.3 * total:
        return
    longest = int(np.argmax(np.where(gaps, steps, 0)))
    each = f", by {series.group}" if series.group else ""
    n_longest = int(steps[longest] - 1)
    # a place that closes on one day of the week closes on holidays too
    has_closing_days = bool(regular.any())
    is_clock_change = int(gaps.sum()) <= 3 and n_longest == 1 and series.step == 3600.0
    yield Finding(
        seen.name,
        (),
        "missing_period",
        0.4 if is_clock_change or has_closing_days else 0.8 if n_missing >= 3 else 0.66,
        f"{n_missing:,} of {total:,} {_unit(series.step, total)} have no row{each}, in {int(gaps.sum()):,} gaps; "
        f"the longest: {n_longest:,} {_unit(series.step, n_longest)} after {moment(starts[longest])}",
        None,
        None,
        f"select {series.sql} as at, lead({series.sql}) over (order by {series.sql}) - {series.sql} as gap "
        f"from {quoted(seen.name)} order by gap desc limit 20",
        "find out whether nothing happened then (a zero) or the rows were lost; the rows that are there cannot tell",
    )


def _weekly(starts: Array, gaps: Array, step: float) -> Array:
    """Which gaps come back every week, as a shop's closing days do."""
    if step > 2 * 86400 or len(starts) == 0:
        return np.zeros(len(starts), bool)
    slot = np.floor((starts % (7 * 86400)) / step)
    weeks = max((starts[-1] - starts[0]) / (7 * 86400), 1.0)
    often = {s for s, n in zip(*np.unique(slot[gaps], return_counts=True), strict=True) if n >= max(3, 0.5 * weeks)}
    return gaps & np.isin(slot, list(often))


def _missing_days(seen: Seen, series: Series) -> Iterator[Finding]:
    """Days without rows in a table of events that otherwise has many on such a day of the week."""
    days, counts = np.unique(np.floor(series.time / 86400), return_counts=True)
    if len(days) < 28:
        return
    every = np.arange(days[0], days[-1] + 1)
    n = np.zeros(len(every))
    n[np.searchsorted(every, days)] = counts
    usual = np.array([np.median(n[(every % 7) == d]) for d in range(7)])[(every % 7).astype(int)]
    missing = (n == 0) & (usual >= 20)
    if not missing.any() or missing.sum() > 0.1 * len(every):
        return
    runs = _runs(missing)
    start, length = max(runs, key=lambda r: r[1])
    yield Finding(
        seen.name,
        (),
        "missing_period",
        0.68 if len(runs) <= 3 else 0.5,
        f"{int(missing.sum()):,} days have no row by {series.name}, though such days usually have "
        f"{np.median(usual[missing]):,.0f}; the longest run: {length} {_unit(86400.0, length)} "
        f"from {moment(every[start] * 86400)}",
        None,
        None,
        f"select date_trunc('day', {series.sql}) as day, count(*) from {quoted(seen.name)} group by 1 order by 1",
        "closed days or lost days: ask, and write the answer into the contract",
    )


def _runs(flags: Array) -> list[tuple[int, int]]:
    """(start, length) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _stuck(seen: Seen, series: Series, column: str) -> Iterator[Finding]:
    """A measure that stands still for a while although it never does otherwise."""
    values, new_group = series.frame[column], ~series.is_same_group
    n = len(values)
    same = np.zeros(n, bool)
    same[1:] = (values[1:] == values[:-1]) & ~new_group[1:]
    p = float(same.mean())
    if n < 100 or not 0 < p < 0.6:
        return
    runs = [(start - 1, length + 1) for start, length in _runs(same)]
    usual_longest = np.log(n) / -np.log(p)
    numbers = seen.numbers[column]
    mode = float(numbers.values[np.argmax(numbers.counts)])
    is_common = float(numbers.counts.max()) > 0.1 * numbers.n
    # at its largest value a measure may rest for a while: the air is full, the sky is clear
    is_full = int(numbers.counts[-1]) > 4 * float(np.median(numbers.counts[-8:-1]))
    rests = {mode} if is_common else set()
    rests |= {float(numbers.values[-1])} if is_full else set()
    runs = [r for r in runs if float(values[r[0]]) not in rests]
    longest = sorted((r for r in runs if r[1] >= max(6, 2.2 * usual_longest + 1)), key=lambda r: -r[1])
    longest += [r for r in _whole_days(series, runs, values) if r not in longest]
    if not longest or len(longest) > max(3, 0.0005 * n):
        return
    told = [
        f"{shown(float(values[start]))} for {length:,} {_unit(series.step, length)} from {moment(series.time[start])}"
        for start, length in longest[:3]
    ]
    parts = []
    for start, length in longest:
        first, last = series.time[start], series.time[start + length - 1]
        group = f" and {series.group_is(start)}" if series.group else ""
        parts.append(
            f"({series.sql} between TIMESTAMP '{_EPOCH + timedelta(seconds=float(first))}' "
            f"and TIMESTAMP '{_EPOCH + timedelta(seconds=float(last))}'{group})"
        )
    yield Finding(
        seen.name,
        (column,),
        "constant_or_copy",
        0.78,
        f"{column} stands still at {'; '.join(told)}; usually it does for {max(2, round(usual_longest))} at most",
        " or ".join(parts),
        sum(length for _, length in longest),
        f"select {series.sql} as at, {quoted(column)} from {quoted(seen.name)} where {' or '.join(parts)} order by 1",
        "a stuck sensor or a filled gap: make these values null",
    )


def _whole_days(series: Series, runs: Sequence[tuple[int, int]], values: Array) -> list[tuple[int, int]]:
    """Runs that cover all rows of a day, when days have at least eight rows and hardly ever stand still."""
    if series.step >= 10_000:
        return []
    day = np.floor(series.time / 86400)
    found = []
    for start, length in runs:
        if length >= 8 and (start == 0 or day[start - 1] < day[start] or values[start - 1] != values[start]):
            first = day[start] if start == 0 or day[start - 1] != day[start] else day[start] + 1
            n_day = int(np.searchsorted(day, first + 1) - np.searchsorted(day, first)) if not series.group else 24
            inside = int((day[start : start + length] == first).sum())
            if inside >= max(8, n_day):
                found.append((start, length))
    return found


def _break(seen: Seen, series: Series, column: str) -> Iterator[Finding]:
    """A level that changes from one row to the next and stays: once, and more than it ever does otherwise."""
    values = series.frame[column]
    n, width = len(values), 24
    if n < 8 * width or np.isfinite(values).mean() < 0.95:
        return
    least, most = _running(values, width, np.minimum), _running(values, width, np.maximum)
    gap = np.maximum(least[width:] - most[:-width], least[:-width] - most[width:])
    gap = np.where(np.isfinite(gap), gap, -np.inf)
    best = int(np.argmax(gap))
    before, after = values[best : best + width], values[best + width : best + 2 * width]
    far = np.abs(np.arange(len(gap)) - best) > width
    if not gap[best] > 2 * max(float(np.std(before)), float(np.std(after))) or not far.any():
        return
    # medians of all windows are dear: only a level that no window overlaps comes this far
    size = abs(float(np.median(after) - np.median(before)))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)
    moves = np.abs(medians[width:] - medians[:-width])
    if size < 3 * float(np.nanmax(moves[far])):
        return
    steps = np.delete(np.diff(values), best + width - 1)
    if np.all(steps[np.isfinite(steps)] >= 0):
        return  # a part of the date: it begins anew
    at = series.time[best + width]
    where = f"{series.sql} >= TIMESTAMP '{_EPOCH + timedelta(seconds=float(at))}'"
    old, new = float(np.median(before)), float(np.median(after))
    yield Finding(
        seen.name,
        (column,),
        "drift_or_definition_change",
        0.76,
        f"{column} jumps from about {shown(old)} to about {shown(new)} at {moment(at)} and stays there: "
        f"{size / max(float(np.nanmax(moves[far])), 1e-12):.0f} times as far as it ever moves otherwise",
        where,
        None,
        f"select {series.sql} as at, {quoted(column)} from {quoted(seen.name)} order by 1",
        "ask what changed then: a unit, a sensor, a definition; do not train across it unawares",
    )


def _apart(seen: Seen, series: Series, column: str) -> Iterator[Finding]:
    """A span of time in which all values lie beyond a gap that no other value is beyond, and then it ends."""
    values = series.frame[column]
    ranked = np.sort(values[np.isfinite(values)])
    if len(ranked) < 200:
        return
    place = int(np.argmax(np.diff(ranked)))
    n_above = len(ranked) - place - 1
    few, is_above = min(n_above, place + 1), n_above <= place
    rest = ranked[: place + 1] if is_above else ranked[place + 1 :]
    gap = float(ranked[place + 1] - ranked[place])
    if not max(10, 0.01 * len(ranked)) <= few <= 0.4 * len(ranked) or gap < 0.2 * float(np.ptp(rest)):
        return
    edge = float(ranked[place])
    inside = np.flatnonzero(values > edge if is_above else values <= edge)
    first, last = int(inside[0]), int(inside[-1])
    if last - first + 1 > 1.02 * few:
        return
    where = " and ".join(
        f"{series.sql} {sign} TIMESTAMP '{_EPOCH + timedelta(seconds=float(series.time[k]))}'"
        for sign, k in ((">=", first), ("<=", last))
    )
    yield Finding(
        seen.name,
        (column,),
        "unit_or_scale",
        0.82,
        f"{column} lies {'above' if is_above else 'below'} {shown(edge)} from {moment(series.time[first])} to "
        f"{moment(series.time[last])} ({{rows}} rows) and never else; nothing lies in the gap of {shown(gap)}",
        where,
        few,
        f"select {series.sql} as at, {quoted(column)} from {quoted(seen.name)} where {where} order by 1",
        "ask whether it was measured in another unit or by another sensor then",
    )


def _running(values: Array, width: int, extreme: np.ufunc) -> Array:
    """The least or greatest of each window of `width` values, null where the window has a null."""
    made, covered = values, 1
    while 2 * covered <= width:
        made, covered = extreme(made[:-covered], made[covered:]), 2 * covered
    rest = width - covered
    return np.asarray(extreme(made[: len(made) - rest], made[rest:]))


def _is_total(values: Array, inside: Array) -> bool:
    """Whether a column counts upward: nearly never less than before, often more."""
    there = np.isfinite(values)
    steps = np.diff(np.where(there, values, 0.0))[inside[1:] & there[1:] & there[:-1]]
    if len(steps) < 30:
        return False
    return bool((steps < 0).mean() <= 0.03 and (steps > 0).mean() >= 0.3 and (steps > 0).sum() > 10 * (steps < 0).sum())


def _falls(seen: Seen, series: Series, columns: Sequence[str]) -> Iterator[Finding]:
    """Totals that fall: what was counted has been revised on one day."""
    for column in columns:
        values = series.frame[column]
        if not _is_total(values, series.is_same_group):
            continue
        steps = np.concatenate([[0.0], np.diff(values)])
        falls = np.flatnonzero((steps < 0) & series.is_same_group)
        if not len(falls):
            continue
        worst = int(falls[np.argmin(steps[falls])])
        usual = float(np.median(steps[(steps > 0)]))
        size = -steps[worst]
        where = at_moments(series, series.time[falls][:50])
        to_zero = values[worst] == 0
        yield Finding(
            seen.name,
            (column,),
            "drift_or_definition_change",
            0.9 if size > 5 * usual or to_zero else 0.72,
            f"{column} is a running total, yet it falls {len(falls)} {'time' if len(falls) == 1 else 'times'}: "
            f"most by {shown(float(size))} at {moment(series.time[worst])}; a usual step is +{shown(usual)}",
            where,
            len(falls),
            f"select {series.sql} as at, {quoted(column)} from {quoted(seen.name)} order by 1",
            "a revision booked on one day: spread it over the days that it corrects, or leave those days out",
        )


def _lumps(seen: Seen, series: Series, columns: Sequence[str]) -> Iterator[Finding]:
    """Steps of a running total that are far larger than on the days around: late counts added in one lump."""
    for column in columns:
        values = series.frame[column]
        if not _is_total(values, series.is_same_group):
            continue
        steps = np.concatenate([[np.nan], np.diff(values)])
        steps[~series.is_same_group] = np.nan
        peaks = _peaks(steps)
        if not peaks:
            continue
        best = max(peaks, key=lambda p: p[1])
        around = sorted(
            {k for p, _ in peaks for k in (p - 1, p, p + 1) if 0 <= k < len(steps) and _is_high(steps, k, p)}
        )
        yield Finding(
            seen.name,
            (column,),
            "sampling_or_coverage",
            0.75,
            f"{column} grows by {shown(float(steps[best[0]]))} at {moment(series.time[best[0]])}, about "
            f"{best[1]:.1f} times as much as just before and after; {len(peaks)} such "
            f"{'lump' if len(peaks) == 1 else 'lumps'}: counts that came late",
            at_moments(series, [series.time[k] for k in around]),
            len(around),
            f"select {series.sql} as at, {quoted(column)} - lag({quoted(column)}) over (order by {series.sql}) as step "
            f"from {quoted(seen.name)} order by 1",
            "ask whether a transfer was held up or cut off before: the days before are too low by as much",
        )


def _peaks(steps: Array) -> list[tuple[int, float]]:
    """(place, times as large as the larger neighbour) of steps that stand out of a series that is otherwise calm."""
    found = []
    logs = np.where(steps > 0, np.log(np.where(steps > 0, steps, 1.0)), np.nan)
    jumps = logs[1:-1] - np.maximum(logs[:-2], logs[2:])
    high = np.flatnonzero((jumps >= np.log(1.5)) & (steps[1:-1] >= 50)) + 1
    for k in high[(high >= 8) & (high < len(steps) - 8)].tolist():
        if not np.all(steps[k - 8 : k + 9] > 0):
            continue
        jump = float(jumps[k - 1])
        near = np.diff(logs[max(0, k - 28) : k + 29])
        near = near[np.isfinite(near)]
        noise = 1.4826 * float(np.median(np.abs(near)))
        # the same weekday a week before and after is the other thing that a lump must stand out of
        weekly = float(logs[k] - max(logs[k - 7], logs[k + 7])) if k + 7 < len(logs) else jump
        if jump > 2.5 * noise and weekly > np.log(1.3):
            found.append((k, float(np.exp(jump))))
    return found


def _is_high(steps: Array, place: int, peak: int) -> bool:
    before = steps[max(0, peak - 9) : peak - 1]
    return place == peak or bool(steps[place] > 1.5 * np.nanmedian(before) and place == peak - 1)


def _thin_ends(seen: Seen, series: Series) -> Iterator[Finding]:
    """Years or months at an end of the table that have far fewer rows than the others."""
    time = series.time
    span = (time[-1] - time[0]) / 86400 if not series.group else (time.max() - time.min()) / 86400
    if len(time) < 500 or span < 120:
        return
    unit = "year" if span > 5 * 365 else "month"
    moments = time.astype("datetime64[s]").astype(f"datetime64[{'Y' if unit == 'year' else 'M'}]")
    periods, counts = np.unique(moments, return_counts=True)
    if len(periods) < 5:
        return
    inner = float(np.median(counts[1:-1]))
    last_day = time.max()
    for is_end in (True, False):
        ordered = counts[::-1] if is_end else counts
        n_thin = _thin(ordered, inner)
        if not n_thin:
            continue
        edge = periods[-n_thin] if is_end else periods[n_thin]
        start = (edge - np.datetime64("1970-01-01")).astype("timedelta64[s]").astype(float)
        part = ordered[:n_thin]
        # a last period that has just begun is thin for a reason: compare by days
        length = 30.4 if unit == "month" else 365.25
        covered = max(1.0, (last_day - start) / 86400) if is_end else max(1.0, (start - time.min()) / 86400)
        rate, usual = float(part.sum()) / covered, inner / length
        if rate > 0.5 * usual or inner < 20:
            continue
        where = f"{series.sql} {'>=' if is_end else '<'} TIMESTAMP '{_EPOCH + timedelta(seconds=float(start))}'"
        yield Finding(
            seen.name,
            (series.columns[0],),
            "sampling_or_coverage",
            0.6,
            f"{series.columns[0]} {'runs to' if is_end else 'begins at'} "
            f"{moment(time.max() if is_end else time.min())}, but {'from' if is_end else 'before'} {moment(start)} "
            f"there are only {{rows}} rows, {rate / usual:.0%} of the usual number a day: an incomplete "
            f"{'end' if is_end else 'beginning'}",
            where,
            int(part.sum()),
            f"select date_trunc('{unit}', {series.sql}) as {unit}, count(*) from {quoted(seen.name)} "
            "group by 1 order by 1",
            "leave this part out, or ask how rows got in there: it is not a sample of its time",
        )


def _thin(counts: Array, usual: float) -> int:
    """How many periods from this end are thin: at least one below a quarter of the usual, with those below 60 %."""
    n = 0
    while n < len(counts) // 3 and counts[n] < 0.6 * usual:
        n += 1
    return n if n and counts[:n].min() < 0.25 * usual else 0
