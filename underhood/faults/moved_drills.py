"""Faults of values made on purpose: a column that matters to the model, a form at random, at the source or as served.

What is drawn lies in the ranges in which such faults occur. The column is drawn by
how far the score spreads when it is shuffled: a fault of what the model does not read turns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from underhood.build.scorer import Array, score_frame
from underhood.faults.kinds import Injection, Scene
from underhood.moves.shifts import grain
from underhood.plan.changes import INPUT, SOURCE, Change
from underhood.plan.exprs import Expr, cases, col, columns_of, greatest, least, minutes, when
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.render import quoted

ROWS = 2000  # decisions that are scored again
AT_SOURCE = 0.7  # of faults are in the source, the others where it is served
FACTORS = (
    100.0,
    0.01,
    1000.0,
    0.001,
    10.0,
    0.1,
    12.0,
    1 / 12,
    60.0,
    1 / 60,
    7.0,
    24.0,
    2.54,
    0.45359237,
    1.60934,
    0.3048,
)
CODES = (-1.0, -999.0, 9999.0, 999.0, 0.0)

Random = np.random.Generator


@dataclass(frozen=True)
class Stage:
    """What proposals draw from: inputs by importance (mean change of the score when shuffled), their usual values."""

    scene: Scene
    random: Random
    cohort: Expr | None
    weight: Mapping[str, float]

    def column(self, kinds: Sequence[str], fits: Callable[[str, Array], bool]) -> str | None:
        """One input of these types that fits, drawn by importance; null if there is none."""
        held = columns_of(self.cohort) if self.cohort is not None else set()
        names = [
            c
            for c, w in self.weight.items()
            if w > 0 and self.scene.plan.inputs[c] in kinds and f"row.{c}" not in held and fits(c, self.values(c))
        ]
        if not names:
            return None
        weights = np.array([self.weight[c] for c in names])
        return names[int(self.random.choice(len(names), p=weights / weights.sum()))]

    def values(self, column: str) -> Array:
        """Values of some decisions (of the cohort, if there is one), without nulls."""
        kept: dict[str, Array] = self.scene.once("proposed values", lambda scene: {})
        if column not in kept:
            name = quoted(f"row.{column}")
            kept[column] = self.scene.engine.frame(
                f"select {name} as v from decisions where {name} is not null order by hash(id) limit {ROWS}"
            )["v"]
        return kept[column]

    def made(
        self, kind: str, changes: Mapping[str, object], parameters: Mapping[str, object], where: Expr | None = None
    ) -> Injection:
        """The injection of these new values, at the source or as served."""
        part = SOURCE if self.random.random() < AT_SOURCE else INPUT
        both = self.cohort if where is None else where if self.cohort is None else self.cohort & where
        return Injection(
            kind,
            tuple(Change(part, c, to, both) for c, to in changes.items()),
            tuple(changes),
            {"columns": list(changes), **parameters},
            self.cohort,
        )


def stage_of(scene: Scene, random: Random, cohort: Expr | None) -> Stage:
    """The stage with the weight of each input: what its features weigh, shared among what they are made of."""
    weights: dict[str, float] = scene.once("weights of inputs", _weights)
    return Stage(scene, random, cohort, weights)


def _weights(scene: Scene) -> dict[str, float]:
    features = ", ".join(f"{quoted('features.' + n)} as {quoted(n)}" for n in scene.bundle.features)
    frame = dict(
        scene.engine.frame(f"select {features} from decisions where status = 'ok' order by hash(id) limit {ROWS}")
    )
    if not len(next(iter(frame.values()))):
        return {}
    score, order = (
        score_frame(scene.bundle.model, frame),
        np.random.default_rng(0).permutation(len(next(iter(frame.values())))),
    )
    made: dict[str, float] = {}
    for name, expr in scene.bundle.features.items():
        shuffled = score_frame(scene.bundle.model, {**frame, name: frame[name][order]})
        for column in sorted(columns_of(expr)):  # the same draw in every process
            if column in scene.plan.inputs:
                made[column] = made.get(column, 0.0) + float(np.abs(shuffled - score).mean())
    most = max(made.values(), default=0.0)
    return {c: w for c, w in made.items() if w > 0.05 * most}


def propose(kind: str, scene: Scene, random: Random, cohort: Expr | None) -> Injection | None:
    """One fault of that kind that fits this system; None if no column can break like that."""
    return _PROPOSED[kind](stage_of(scene, random, cohort))


def _many(column: str, values: Array) -> bool:
    return len(np.unique(values)) >= 12


def _draw(stage: Stage, of: Sequence[float]) -> float:
    return float(of[int(stage.random.integers(len(of)))])


def _unit(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER], lambda c, v: _many(c, v) and bool((v != 0).mean() > 0.5))
    if column is None:
        return None
    factor = _draw(stage, FACTORS)
    return stage.made("unit change", {column: col(f"row.{column}") * factor}, {"factor": factor})


def _shift(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER], _many)
    if column is None:
        return None
    low, high = np.quantile(stage.values(column), [0.1, 0.9])
    step = float(f"{(high - low) * stage.random.uniform(0.5, 2) * stage.random.choice([-1, 1]):.2g}")
    return stage.made("shift", {column: col(f"row.{column}") + step}, {"shift": step}) if step else None


def _fill(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER], _many)
    if column is None:
        return None
    values = stage.values(column)
    codes = [c for c in CODES if (values == c).mean() < 0.01]
    share = int(stage.random.uniform(35, 75))
    to = _draw(stage, codes)
    return stage.made("sentinel fill", {column: to}, {"value": to}, col("key").hashed(100) < share)


def _missing(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER, TEXT], lambda c, v: len(v) > 100)
    share = int(stage.random.uniform(35, 100))
    where = col("key").hashed(100) < share
    if column is None:
        return None
    made = stage.made("missing values", {column: None}, {}, where)
    # served empty though the source has it: that nobody could read it there says as much
    is_served = all(c.part == INPUT for c in made.changes)
    return replace(made, expects=("missing values", "parse failure")) if is_served else made


def _frozen(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER], _many)
    if column is None:
        return None
    to = float(stage.random.choice(stage.values(column)))
    return stage.made("frozen column", {column: to}, {"value": to})


def _clip(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER], _many)
    if column is None:
        return None
    is_top = stage.random.random() < 0.7
    values = stage.values(column)
    at = float(np.quantile(values, stage.random.uniform(0.4, 0.8) if is_top else stage.random.uniform(0.2, 0.5)))
    if at in (values.min(), values.max()):
        return None
    row = col(f"row.{column}")
    return stage.made("clipped", {column: least(row, at) if is_top else greatest(row, at)}, {"at": at})


def _coarse(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER], lambda c, v: len(np.unique(v)) >= 30)
    if column is None:
        return None
    values = stage.values(column)
    low, high = np.quantile(values, [0.05, 0.95])
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-9) / 4)) * _draw(stage, (1.0, 2.0, 5.0))
    step = float(f"{step:.3g}")
    fine = grain(values)
    if fine is not None and step <= fine:
        return None
    way, turn = [("down", "floor"), ("to the nearest", "round")][int(stage.random.integers(2))]
    made = (col(f"row.{column}") / step).then(turn) * step
    return stage.made("precision loss", {column: made}, {"step": step, "way": way})


def _swap(stage: Stage) -> Injection | None:
    first = stage.column([NUMBER], _many)
    if first is None:
        return None
    own = np.quantile(stage.values(first), [0.1, 0.9])

    def fits(column: str, values: Array) -> bool:
        low, high = np.quantile(values, [0.1, 0.9])
        return column != first and _many(column, values) and bool(low < 10 * own[1] and high > own[0] / 10)

    other = stage.column([NUMBER], fits)
    if other is None:
        return None
    changes = {first: col(f"row.{other}"), other: col(f"row.{first}")}
    return stage.made("column swap", changes, {"columns": [first, other]})


def _zone(stage: Stage) -> Injection | None:
    def is_hour(column: str, values: Array) -> bool:
        if stage.scene.plan.inputs[column] == TIME:
            return True
        v = np.unique(values)
        return bool(v.min() >= 0 and v.max() == 23 and len(v) > 15 and (v == np.floor(v)).all())

    column = stage.column([NUMBER, TIME], is_hour)
    if column is None:
        return None
    hours = _draw(stage, (-8, -5, -1, 1, 2, 5, 6, 8, 12))
    row = col(f"row.{column}")
    if stage.scene.plan.inputs[column] == TIME:
        return stage.made("time zone", {column: row + minutes(60 * hours)}, {"shift_s": 3600 * hours})
    return stage.made("time zone", {column: (row + hours + 24) % 24}, {"shift": hours, "modulo": 24})


def _clock(stage: Stage) -> Injection | None:
    column = stage.column([TIME], lambda c, v: True)
    if column is None:
        return None
    off = float(stage.random.integers(50, 2000)) + 0.0
    off += 1.0 if off % 15 == 0 else 0.0
    return stage.made("clock skew", {column: col(f"row.{column}") + minutes(off)}, {"shift_s": 60 * off})


def _comma(stage: Stage) -> Injection | None:
    def is_decimal(column: str, values: Array) -> bool:
        fine = grain(values)
        return _many(column, values) and fine is not None and 0.005 <= fine < 1

    column = stage.column([NUMBER], is_decimal)
    if column is None:
        return None
    row = col(f"row.{column}")
    # a sum of decimals is written with theirs, though it is not to the bit
    parts = [
        ((row * 10.0**n - (row * 10.0**n).then("round")).then("abs") <= 1e-6, (row * 10.0**n).then("round"))
        for n in range(3)
    ]
    fine = grain(stage.values(column)) or 0.1
    made = cases(*parts, otherwise=(row * 1000).then("round"))
    return stage.made("decimal comma", {column: made}, {"factor": float(10 ** int(np.ceil(-np.log10(fine))))})


def _upstream(stage: Stage) -> Injection | None:
    column = stage.column([NUMBER], lambda c, v: len(np.unique(v)) >= 30)
    if column is None:
        return None
    low, high = (float(q) for q in np.quantile(stage.values(column), [0.0, 0.99]))
    power = _draw(stage, (0.4, 0.5, 2.0, 3.0))
    row = col(f"row.{column}")
    made = ((row - low) / (high - low)).power(power) * (high - low) + low
    return stage.made("upstream change", {column: made}, {"way": "rises"}) if high > low else None


# --- texts ---


def _named(column: str, values: Array) -> bool:
    levels, counts = np.unique(values.astype(str), return_counts=True)
    return 2 <= len(levels) <= 200 and bool(counts.max() < 0.98 * len(values))


def _top(stage: Stage, column: str) -> list[str]:
    levels, counts = np.unique(stage.values(column).astype(str), return_counts=True)
    return [str(v) for v in levels[np.argsort(-counts)]]


def _spelling(stage: Stage) -> Injection | None:
    column = stage.column([TEXT], lambda c, v: _named(c, v) and any(re.search("[A-Za-z]", x) for x in v))
    if column is None:
        return None
    row = col(f"row.{column}")
    ways = [row.then("lower"), row.then("upper"), row + " ", row.replace(" ", "_").replace("-", "_") + "."]
    levels = _top(stage, column)
    ways = [
        w for w, same in zip(ways, (str.lower, str.upper), strict=False) if any(same(v) != v for v in levels)
    ] + ways[2:]
    made = ways[int(stage.random.integers(len(ways)))]
    return stage.made("category spelling", {column: made}, {})


def _rename(stage: Stage) -> Injection | None:
    column = stage.column([TEXT], _named)
    if column is None:
        return None
    top = _top(stage, column)[:6]
    some = [str(v) for v in stage.random.permutation(top)[: int(stage.random.integers(1, 3))]]
    to = {v: f"{v}-new" if stage.random.random() < 0.5 else f"K{int(stage.random.integers(100, 999))}" for v in some}
    row = col(f"row.{column}")
    return stage.made("category rename", {column: row.map(to).fill(row)}, {"levels": to})


def _merge(stage: Stage) -> Injection | None:
    column = stage.column([TEXT], lambda c, v: _named(c, v) and len(np.unique(v.astype(str))) >= 3)
    if column is None:
        return None
    top = [str(v) for v in stage.random.permutation(_top(stage, column)[:5])]
    to = {top[0]: top[1]}
    row = col(f"row.{column}")
    return stage.made("category merge", {column: row.map(to).fill(row)}, {"levels": to})


def _split(stage: Stage) -> Injection | None:
    column = stage.column([TEXT], _named)
    if column is None:
        return None
    level = _top(stage, column)[int(stage.random.integers(2))]
    one, other = f"{level} 1", f"{level} 2"
    row = col(f"row.{column}")
    made = when(row == level, when(col("key").hashed(2) < 1, one, other), row)
    return stage.made("category split", {column: made}, {"levels": {level: [one, other]}})


def _new(stage: Stage) -> Injection | None:
    column = stage.column([TEXT], _named)
    if column is None:
        return None
    level = f"N{int(stage.random.integers(10, 99))}"
    where = col("key").hashed(100) < int(stage.random.uniform(10, 40))
    made = stage.made("new level", {column: level}, {"levels": [level]}, where)
    # a level that never was, in the place of several: whoever says that it stands in for them is right too
    return replace(made, expects=("new level", "sentinel fill", "category merge"))


_PROPOSED: Mapping[str, Callable[[Stage], Injection | None]] = {
    "unit change": _unit,
    "shift": _shift,
    "sentinel fill": _fill,
    "clipped": _clip,
    "precision loss": _coarse,
    "decimal comma": _comma,
    "column swap": _swap,
    "time zone": _zone,
    "clock skew": _clock,
    "frozen column": _frozen,
    "missing values": _missing,
    "category spelling": _spelling,
    "category rename": _rename,
    "category merge": _merge,
    "category split": _split,
    "new level": _new,
    "upstream change": _upstream,
}
