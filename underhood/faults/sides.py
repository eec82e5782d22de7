"""Healthy history and the decisions in question side by side: every input in bins, in order of asking, in blocks.

A value that is wrong in its source already contradicts nothing in the record; it
shows only beside what was asked before. What changes by itself (seasons, new
customers) has changed before as well: a break is one that is sharper than all of history's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.kinds import Scene, counted
from underhood.moves.shifts import grain
from underhood.plan.exprs import columns_of
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value

MOST = 60_000  # rows of either side; of more, every n-th and all in question
BLOCKS, PAST = 24, 72  # of the decisions, and at most of what came before, all of one size
SPANS = (1, 3, 8, 24)  # blocks on either side of a break
LEVELS, HEAVY, ALONE = 40, 24, 0.003
IN_A_GROUP = (0.02, 12)  # least share of the decisions, and most levels of one column, that may be a cohort
ALWAYS = 0.6  # share of the decisions' blocks in which a cohort's level occurs
GROUPS = 12  # columns whose levels are tried
WIDE = 1000  # levels; a text with more names things and is not compared
CERTAIN = 6.0  # standard errors: one in a billion, for some ten thousand looks
SHARPER = 2.0  # times the sharpest break of history, in share of variance explained
LATE = 0.6  # share of the decisions in question that lie behind a break
MANY = 8  # breaks of one column
NEW = 0.1  # of a cohort's share of all rows, that it must have of those before the decisions
AWAY = 2  # levels of a text that have stopped coming
BACKWARDS = 0.001  # share of steps that fall in what only tells the time
THIN = 400  # past rows; with fewer no bins are cut on the past alone
_CUTS = (0.0005, 0.005, 0.02, *(k / 16 for k in range(1, 16)), 0.98, 0.995, 0.9995)


@dataclass(frozen=True)
class Column:
    """One input of all rows: `values` are floats (texts: number of the level, times: seconds after asking), NaN null.

    `codes` are the bins, from 0 to `n` - 1; the last one is null, the one before it
    "off the past's grid" where the past had one (`grain`).
    """

    name: str
    kind: str
    values: Array
    codes: Array
    n: int
    levels: tuple[Any, ...] = ()
    grain: float | None = None


@dataclass(frozen=True)
class Sides:
    """All rows in order of asking: first the past (questions before the first decision), then the decisions.

    `at` is in seconds since 1970, UTC; `block` numbers equal parts, `first` is the first one of decisions.
    `groups` are columns whose levels may be cohorts: `codes` below 0 belong to none of `levels`. What was before
    block `begin` is no history to compare with.
    """

    at: Array
    decided: Array
    bad: Array
    block: Array
    first: int
    columns: Mapping[str, Column]
    groups: Mapping[str, Column]
    begin: int = 0

    @property
    def n_blocks(self) -> int:
        """How many blocks there are in all."""
        return int(self.block[-1]) + 1


@dataclass(frozen=True)
class Break:
    """A column's distribution breaks at the beginning of block `at` for one level of a group (`level` < 0: for all).

    `strength` is chi-squared above what chance gives, `effect` the share of variance explained,
    `usual` the most that history shows of it. `row`: the first row behind it, where that is known.
    """

    column: str
    group: str
    level: int
    at: int
    span: int
    strength: float
    effect: float
    usual: float
    row: int | None = None


def open_sides(scene: Scene) -> Sides | None:
    """The scene's rows side by side, once; null if there are no decisions, or nothing before them to compare with."""
    found: Sides | None = scene.once("sides", _open)
    return found


def _open(scene: Scene) -> Sides | None:
    read = {c for e in scene.bundle.features.values() for c in columns_of(e)}
    inputs = {n: k for n, k in scene.plan.inputs.items() if k in (NUMBER, TEXT, FLAG, TIME)}
    n, first = scene.engine.rows("select count(*), min(asked_at) from decisions where status = 'ok'")[0]
    if not n:
        return None
    values = [_value(quoted(f"row.{c}"), k, c) for c, k in inputs.items()]
    some = f"(bad or hash(id) % {max(1, n // MOST)} = 0)"
    now = scene.engine.frame(
        f"select epoch(asked_at) as __at, bad::INT as __bad, {', '.join(values)} from decisions "
        f"where status = 'ok' and {some} order by asked_at, id"
    )
    past = _past(scene, inputs, first)
    n_past, n_now = len(past["__at"]), len(now["__at"])
    if n_past + n_now < 2 * THIN:
        return None
    kept = min(n_past, PAST * max(1, n_now // BLOCKS))
    some_past = np.sort(np.argsort(np.arange(n_past) * 0.6180339887 % 1.0, kind="stable")[:kept])
    past = {c: v[some_past] for c, v in past.items()}
    at = np.concatenate([past["__at"], now["__at"]])
    joined = {c: np.concatenate([past[c], now[c]]) for c in inputs}
    return side_by_side(at, kept, now["__bad"] > 0, inputs, joined, read)


def side_by_side(
    at: Array, kept: int, bad: Array, inputs: Mapping[str, str], joined: Mapping[str, Array], read: AbstractSet[str]
) -> Sides:
    """Rows in order of time, `kept` of the past and then the decisions, laid out in bins and blocks.

    `bad` are flags of the decisions; `joined` has the values of each input, whose types `inputs` names. Those in
    `read` are looked at, all others only name cohorts.
    """
    n_now = len(at) - kept
    decided = np.arange(len(at)) >= kept
    size = max(1, n_now // BLOCKS)
    n_first = kept // size
    block = np.where(
        decided,
        n_first + np.minimum((np.arange(len(at)) - kept) // size, BLOCKS - 1),
        np.minimum(np.arange(len(at)) // size, max(0, n_first - 1)),
    )
    meant = np.concatenate([np.zeros(kept, bool), bad])
    texts = {c: _numbered(joined[c]) for c, kind in inputs.items() if kind == TEXT}
    made = {
        c: _text(c, *texts[c], decided) if c in texts else _number(c, inputs[c], joined[c], decided)
        for c in inputs
        if c in read
    }
    tried = (_group(c, inputs[c], texts.get(c), joined[c], decided, block - n_first) for c in inputs)
    groups = sorted(filter(None, tried), key=lambda g: g.n)
    return Sides(
        at, decided, meant, block, n_first, {c: m for c, m in made.items() if m}, {g.name: g for g in groups[:GROUPS]}
    )


def _value(name: str, kind: str, to: str) -> str:
    if kind == TIME:
        return f"epoch({name}) - epoch(asked_at) as {quoted(to)}"
    return (
        f"case when isfinite({name}) then {name} end as {quoted(to)}" if kind == NUMBER else f"{name} as {quoted(to)}"
    )


def _past(scene: Scene, inputs: Mapping[str, str], first: Any) -> Mapping[str, Array]:
    """What was asked before the first decision, or what was learned from, if history has changed since."""
    numbers = [c for c, k in inputs.items() if k == NUMBER]
    off = ", ".join(
        f"avg(({quoted('row.' + c)} is distinct from {quoted(c)} and "
        f"not coalesce(abs({quoted('row.' + c)} - {quoted(c)}) <= 1e-9 * abs({quoted(c)}), false))::INT)"
        for c in numbers
    )
    step = max(1, counted(scene.engine, "select count(*) from training")[0] // 5000)
    differs = counted(
        scene.engine,
        f"select {off or 'max(0)'} from training t join asks a on t.key = a.key where hash(t.key) % {step} = 0",
    )
    before = f"asked_at < TIMESTAMP {sql_value(str(first))}"
    is_same = max(differs, default=0) < 0.01
    named = [quoted(c) if is_same else f"{quoted('row.' + c)} as {quoted(c)}" for c in inputs]
    sql = f"select asked_at, key, {', '.join(named)} from {'asks' if is_same else 'training'} where {before}"
    n = counted(scene.engine, f"select count(*) from ({sql})")[0]
    values = ", ".join(_value(quoted(c), k, c) for c, k in inputs.items())
    return scene.engine.frame(
        f"select epoch(asked_at) as __at, {values} from ({sql}) where hash(key) % {max(1, n // MOST)} = 0 "
        "order by asked_at, key"
    )


def _number(name: str, kind: str, values: Array, decided: Array) -> Column | None:
    values = values.astype(float)
    ok = ~np.isnan(values)
    past, now = values[ok & ~decided], values[ok & decided]
    reference = past if len(past) >= THIN else values[ok]
    if not len(reference) or _is_calendar(values[ok], past):
        return None
    edges = set(np.quantile(reference, _CUTS, method="higher").tolist())
    edges |= {float(reference.max()), float(np.nextafter(reference.min(), -np.inf))}
    for value in _heaviest(reference, now):
        edges |= {value, float(np.nextafter(value, -np.inf))}
    bins = np.array(sorted(edges))
    codes = np.searchsorted(bins, np.where(ok, values, 0.0), side="left")
    off, null = len(bins) + 1, len(bins) + 2
    step = grain(reference[np.linspace(0, len(reference) - 1, min(len(reference), 20_000)).astype(int)])
    if step is not None:
        ratio = np.where(ok, values, 0.0) / step
        codes = np.where(np.abs(ratio - np.round(ratio)) > 1e-6 * np.maximum(1.0, np.abs(ratio)), off, codes)
    codes = np.where(ok, codes, null)
    return Column(name, kind, values, codes, null + 1, grain=step)


def _is_calendar(values: Array, past: Array) -> bool:
    """Whether a number only ever rises with the time of asking, turns of a year aside: it tells when, not what."""
    steps = np.diff(values)
    return len(np.unique(past)) > 1 and bool((steps < 0).mean() <= BACKWARDS)


def _heaviest(past: Array, now: Array) -> list[float]:
    shares: dict[float, list[float]] = {}
    for side, values in enumerate((past, now)):
        found, counts = np.unique(values, return_counts=True)
        heavy = counts > max(4, ALONE * len(values))
        for value, many in zip(found[heavy], counts[heavy], strict=True):
            shares.setdefault(float(value), [0.0, 0.0])[side] = many / len(values)
    return sorted(shares, key=lambda v: (-abs(shares[v][0] - shares[v][1]), v))[:HEAVY]


def _numbered(values: Array) -> tuple[Array, tuple[Any, ...]]:
    """Each row's level as a number, -1 for null, and the levels in order of coming."""
    every = values.tolist()
    number = {level: n for n, level in enumerate(v for v in dict.fromkeys(every) if v is not None)}
    return np.fromiter(map(number.get, every, repeat(-1)), dtype=np.intp, count=len(every)), tuple(number)


def _text(name: str, each: Array, levels: tuple[Any, ...], decided: Array) -> Column | None:
    if not levels or len(levels) > WIDE:
        return None
    counts = [np.bincount(each[(each >= 0) & side], minlength=len(levels)) for side in (~decided, decided)]
    share = np.maximum(*(c / max(1, c.sum()) for c in counts))
    heavy = np.argsort(-share, kind="stable")[:LEVELS]
    place = np.full(len(levels), LEVELS)
    place[(counts[0] == 0)] = LEVELS + 1
    place[heavy] = np.arange(len(heavy))
    codes = np.where(each < 0, LEVELS + 2, place[each])
    return Column(name, TEXT, np.where(each < 0, np.nan, each), codes, LEVELS + 3, levels)


def _group(
    name: str, kind: str, text: tuple[Array, tuple[Any, ...]] | None, values: Array, decided: Array, block: Array
) -> Column | None:
    """The levels that a fair share of the decisions has, at nearly all times; null if there are fewer than two.

    A level that comes and goes (a day of the month) is a time, not a cohort.
    """
    least, most = IN_A_GROUP
    if kind == TIME:
        return None
    if kind == NUMBER and len(np.unique(values[decided][:2000])) > 4 * most:
        return None
    each, found = text or _numbered_values(values)
    counts = np.bincount(each[decided & (each >= 0)], minlength=len(found))
    often = np.argsort(-counts, kind="stable")[:most]
    often = often[counts[often] >= max(1.0, least * decided.sum())]
    always = [n for n in often if len(np.unique(block[decided & (each == n)])) >= ALWAYS * BLOCKS]
    if len(always) < 2:
        return None
    place = np.full(len(found) + 1, -1)
    place[always] = np.arange(len(always))
    named = tuple(bool(found[n]) if kind == FLAG else found[n] for n in always)
    return Column(name, kind, values, place[each], len(always), named)


def _numbered_values(values: Array) -> tuple[Array, tuple[Any, ...]]:
    """As `_numbered`, of numbers and flags: NaN is null."""
    found, each = np.unique(values.astype(float), return_inverse=True)
    levels = found[~np.isnan(found)]
    return np.where(each < len(levels), each, -1), tuple(levels.tolist())


# --- breaks ---


def breaks(sides: Sides, spans: Sequence[int] = SPANS) -> tuple[Break, ...]:
    """The breaks of each column that are certain, sharper than history's, and before what is in question; strong first.

    Of one moment at most two groups, of one column at most MANY breaks. `spans`: blocks on either side.
    """
    found: list[Break] = []
    crowds = [_crowd(sides, group) for group in (None, *sides.groups.values())]
    for column in sides.columns.values():
        kept: list[Break] = []
        for each in sorted(_breaks(sides, column, crowds, spans), key=lambda b: -b.strength):
            near = [k for k in kept if abs(k.at - each.at) <= 1]
            if len(near) < 2 and not any((k.group, k.level) == (each.group, each.level) for k in near):
                kept.append(each)
            if len(kept) == MANY:
                break
        found += [*kept, *_gone(sides, column)]
    return tuple(sorted(found, key=lambda b: -b.strength))


@dataclass(frozen=True)
class _Crowd:
    """The `n` levels of a group: the `rows` that are in one (null: all of them), and of each its place by level, block.

    `bad`: of each level the blocks of its decisions in question, sorted.
    """

    group: str
    n: int
    rows: Array | None
    place: Array
    bad: tuple[Array, ...]


def _gone(sides: Sides, column: Column) -> Iterator[Break]:
    """Where a level of a text came for the last time, if it has never stayed away for half as long: the surest two.

    Beside others that come and go with the seasons, one that stops shows in no sum of all levels.
    """
    if column.kind != TEXT:
        return
    n = len(sides.at)
    last = np.full(column.n, -1)
    last[column.codes] = np.arange(n)
    came = np.bincount(column.codes, minlength=column.n)
    after = n - 1 - last
    share = came / np.maximum(1, last + 1)
    sure = 2 * share * after  # likelihood ratio of staying away, as a chi-squared
    decided, bad = int(np.argmax(sides.decided)), np.flatnonzero(sides.bad)
    told = 0
    for code in np.argsort(-sure, kind="stable"):
        if sure[code] < CERTAIN**2 or told == AWAY:
            return
        if code >= LEVELS or last[code] < decided or (bad > last[code]).sum() < LATE * len(bad):
            continue
        away = np.diff(np.flatnonzero(column.codes == code)).max(initial=0)
        if after[code] > SHARPER * away:
            told += 1
            row = int(last[code]) + 1
            at = int(sides.block[row])
            yield Break(column.name, "", 0, at, SPANS[-1], float(sure[code]), float(share[code]), 0.0, row)


def _crowd(sides: Sides, group: Column | None) -> _Crowd:
    """A group's levels as crowds; null is everyone as one."""
    asked = np.flatnonzero(sides.bad)
    if group is None:
        return _Crowd("", 1, None, sides.block, (np.sort(sides.block[asked]),))
    rows = np.flatnonzero(group.codes >= 0)
    place = group.codes[rows] * sides.n_blocks + sides.block[rows]
    bad = tuple(np.sort(sides.block[asked[group.codes[asked] == level]]) for level in range(group.n))
    return _Crowd(group.name, group.n, rows, place, bad)


def _breaks(sides: Sides, column: Column, crowds: Sequence[_Crowd], spans: Sequence[int]) -> Iterator[Break]:
    for crowd in crowds:
        if crowd.group != column.name:
            yield from _crowd_breaks(sides, column, crowd, spans)


def _crowd_breaks(sides: Sides, column: Column, crowd: _Crowd, spans: Sequence[int]) -> Iterator[Break]:
    codes = column.codes if crowd.rows is None else column.codes[crowd.rows]
    table = tally(crowd.place, codes, (crowd.n, sides.n_blocks, column.n))
    summed = np.concatenate([np.zeros((crowd.n, 1, column.n)), np.cumsum(table, axis=1)], axis=1)
    bad, ends = crowd.bad, [int(b[int((1 - LATE) * len(b))]) if len(b) else -1 for b in crowd.bad]
    n_blocks, first, n_bad = sides.n_blocks, sides.first, int(sides.bad.sum())
    held = summed[:, first].sum(axis=1), table.sum(axis=(1, 2))
    # who never asked before has no history that a break could be sharper than
    is_new = (held[0] < NEW * held[0].sum() * held[1] / max(1.0, held[1].sum())) & (held[0].sum() > 0)
    for span in spans:
        at = np.arange(1, n_blocks)
        before = summed[:, at] - summed[:, np.maximum(at - span, 0)]
        after = summed[:, np.minimum(at + span, n_blocks)] - summed[:, at]
        chi, effect, each = apart(before, after)
        past = (at >= span + sides.begin) & (at + span <= first)
        for g in range(crowd.n):
            if len(bad[g]) < LATE * n_bad or is_new[g]:
                continue
            late = (at >= max(first, 1)) & (at <= ends[g])
            if not late.any():
                continue
            usual = float(effect[g, past].max()) if past.any() else 0.0
            usual_each = each[g, past].max(axis=0) if past.any() else np.zeros(column.n)
            yield from _sharp(
                column,
                crowd.group,
                g,
                span,
                at,
                late,
                (chi[g], effect[g], usual),
                (each[g], usual_each, before[g].sum(axis=1), after[g].sum(axis=1)),
            )


def _sharp(
    column: Column,
    group: str,
    level: int,
    span: int,
    at: Array,
    late: Array,
    whole: tuple[Array, Array, float],
    parts: tuple[Array, Array, Array, Array],
) -> Iterator[Break]:
    """The best break by all bins together, and the best by one bin alone."""
    chi, effect, usual = whole
    each, usual_each, n_before, n_after = parts
    least = max(SHARPER * usual, 0.02) if usual < 0.5 else 1 - 0.5 * (1 - usual)
    good = late & (chi >= CERTAIN**2 * 2) & (effect >= min(least, 1 - 0.5 * (1 - usual)))
    if good.any():
        t = int(np.argmax(np.where(good, chi, -1)))
        yield Break(column.name, group, level, int(at[t]), span, float(chi[t]), float(effect[t]), usual)
    weight = (n_before * n_after / np.maximum(1.0, n_before + n_after))[:, None]
    square = each * weight
    sharp = late[:, None] & (square >= CERTAIN**2) & (each >= np.maximum(4 * usual_each, 8.0 / np.maximum(weight, 1)))
    if sharp.any():
        square = np.where(sharp, square, -1)
        t, k = divmod(int(np.argmax(square)), square.shape[1])
        yield Break(
            column.name,
            group,
            level,
            int(at[t]),
            span,
            float(square[t, k]),
            float(each[t, k]),
            float(usual_each[k]),
        )


def tally(place: Array, codes: Array, shape: tuple[int, int, int]) -> Array:
    """Rows by level, block and bin: `place` numbers each row's level and block, `codes` are bins."""
    made: Array = np.bincount(place * shape[2] + codes, minlength=shape[0] * shape[1] * shape[2])
    return made.reshape(shape).astype(float)


def apart(before: Array, after: Array) -> tuple[Array, Array, Array]:
    """How far counts over the last axis are apart: chi-squared above its expectation, effect (0 to 1), effect by bin.

    The effect of one bin is the squared difference of its shares over the variance of
    one row; chi-squared is that of Pearson (1900), pooled, with 0.5 added to no cell.
    """
    n, m = before.sum(axis=-1), after.sum(axis=-1)
    both = np.maximum(1.0, n + m)
    share = (before + after) / both[..., None]
    gap = (before / np.maximum(1.0, n)[..., None] - after / np.maximum(1.0, m)[..., None]) ** 2
    weight = n * m / both
    enough = share * np.minimum(n, m)[..., None] >= 1  # thinner bins say nothing by themselves
    held = np.where((share > 0) & enough, gap / np.maximum(share, 1e-12), 0.0)
    freedom = np.maximum(0, enough.sum(axis=-1) - 1)
    chi = held.sum(axis=-1) * weight - freedom - 3 * np.sqrt(2 * np.maximum(1, freedom))
    chi = np.where((n >= 20) & (m >= 20), chi, 0.0)
    effect = np.clip(chi / both, 0.0, 1.0)
    each = np.where(
        ((n >= 20) & (m >= 20))[..., None], gap / np.maximum(share * (1 - share), 0.5 / both[..., None]), 0.0
    )
    return chi, effect, each


def within(sides: Sides, group: str, levels: Sequence[int]) -> Array:
    """The rows of a cohort: those with one of the levels of a group; all rows if the group has no name."""
    if not group:
        return np.ones(len(sides.at), bool)
    made: Array = np.isin(sides.groups[group].codes, levels)
    return made
