"""Healthy history and the decisions in question side by side: every input in bins, in order of asking, in blocks.

A value that is wrong in its source already contradicts nothing in the record; it
shows only beside what was asked before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
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
LEVELS, HEAVY, ALONE = 40, 24, 0.003
IN_A_GROUP = (0.02, 12)  # least share of the decisions, and most levels of one column, that may be a cohort
ALWAYS = 0.6  # share of the decisions' blocks in which a cohort's level occurs
GROUPS = 12  # columns whose levels are tried
WIDE = 1000  # levels; a text with more names things and is not compared
BACKWARDS = 0.001  # share of steps that fall in what only tells the time
THIN = 400  # past rows; with fewer no bins are cut on the past alone
FARTHER = (0.25, 1.0, 4.0, 16.0)  # times the past's own width beyond it
FEWEST = 2 * THIN  # rows of the past and the decisions together; fewer are not compared
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
    block `begin` is no history to compare with. `zone` is that in which people name an hour.
    """

    at: Array
    decided: Array
    bad: Array
    block: Array
    first: int
    columns: Mapping[str, Column]
    groups: Mapping[str, Column]
    begin: int = 0
    zone: str = "UTC"

    @property
    def n_blocks(self) -> int:
        """How many blocks there are in all."""
        return int(self.block[-1]) + 1


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
    if n_past + n_now < FEWEST:
        return None
    kept = min(n_past, PAST * max(1, n_now // BLOCKS))
    some_past = np.sort(np.argsort(np.arange(n_past) * 0.6180339887 % 1.0, kind="stable")[:kept])
    past = {c: v[some_past] for c, v in past.items()}
    at = np.concatenate([past["__at"], now["__at"]])
    joined = {c: np.concatenate([past[c], now[c]]) for c in inputs}
    made = side_by_side(at, kept, now["__bad"] > 0, inputs, joined, read)
    return replace(made, zone=scene.plan.system.zone)


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
    low, high = float(reference.min()), float(reference.max())
    edges |= {high, float(np.nextafter(low, -np.inf))}
    # what grows out of the past's range by and by is not what leaps out of it
    edges |= {edge for far in FARTHER for edge in (low - far * (high - low), high + far * (high - low))}
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


def within(sides: Sides, group: str, levels: Sequence[int]) -> Array:
    """The rows of a cohort: those with one of the levels of a group; all rows if the group has no name."""
    if not group:
        return np.ones(len(sides.at), bool)
    made: Array = np.isin(sides.groups[group].codes, levels)
    return made
