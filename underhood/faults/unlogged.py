"""A score that the model gives, but for another value of one input than the one that was logged.

Where inputs are logged before they are scored, what happens in between is in no
log; the score still tells it, if one change of one input explains it row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from underhood.build.scorer import Array, Frame, score_frame
from underhood.faults.kinds import Kind, Ruling, Scene, Suspect
from underhood.faults.vectors import (
    EXPLAINED,
    HOLDS,
    SAME,
    SCORED_AGAIN,
    UNKNOWN,
    misscored,
    no_suspect,
    of_the_model,
    replayed,
    undo_default,
)
from underhood.plan.changes import INPUT, Change
from underhood.plan.exprs import columns_of
from underhood.plan.operations import NUMBER, TEXT

SCREEN, PROOF = 24, 2000  # rows on which each change is tried; on which the best is proven
ENOUGH = 5  # rows; fewer are no evidence of a change
# What people mistake a unit for: per cents, cents, thousands, months of a year, minutes, feet, pounds, miles.
FACTORS = (100.0, 1000.0, 10.0, 12.0, 60.0, 3600.0, 3.28084, 2.20462, 1.609344)
CODES = (0.0, -1.0, -999.0, 999.0)


@dataclass(frozen=True)
class Reading:
    """One change of one feature: in words, and what it makes of a column. `factor` is 0 where it is no factor."""

    feature: str
    says: str
    make: Callable[[Array], Array]
    factor: float = 0.0


def inject_unlogged(column: str, to: object) -> tuple[Change, ...]:
    """The model reads another value of an input than the one that is logged."""
    return (Change(INPUT, column, to),)


def explaining(scene: Scene) -> Reading | None:
    """The change of one input for which the model gives the scores that do not replay; found once for a scene."""
    found: Reading | None = scene.once("unlogged", _explaining)
    return found


def suspect_unlogged(scene: Scene) -> Ruling:
    """The served scores are what the model gives for one input in another unit, empty or as a code value."""
    found = misscored(scene)
    if found is None or found.how != UNKNOWN:
        return no_suspect(scene, UNLOGGED.name, EXPLAINED[found.how] if found else "")
    reading = explaining(scene)
    if reading is None:
        return no_suspect(scene, UNLOGGED.name, "no usual change of one input explains them")
    e = found.extent
    inputs = sorted(columns_of(scene.bundle.features[reading.feature]))
    return Ruling(
        UNLOGGED.name,
        (
            Suspect(
                UNLOGGED.name,
                f"input {', '.join(inputs)}",
                f"{e.n:,} scores{e.says} are exactly what the model gives for {reading.says}, not for the "
                f"{reading.feature} that was logged: it read something else than the log says",
                SCORED_AGAIN,
                of_the_model(scene),
                e.where,
                e.since,
                {"columns": inputs, **({"factor": reading.factor} if reading.factor else {"reads": reading.says})},
            ),
        ),
    )


def _explaining(scene: Scene) -> Reading | None:
    found, r = misscored(scene), replayed(scene)
    some = np.flatnonzero(r.differs)
    readings = list(_readings(scene))
    if found is None or found.how != UNKNOWN or len(some) < ENOUGH or not readings:
        return None
    at = some[:: max(1, len(some) // SCREEN)][:SCREEN]
    tiled = {
        n: np.concatenate([x.make(v[at]) if x.feature == n else v[at] for x in readings]) for n, v in r.features.items()
    }
    again = score_frame(scene.bundle.model, tiled).reshape(len(readings), len(at))
    hits = (np.abs(again - r.score[at]) <= SAME).mean(axis=1)
    at = some[:: max(1, len(some) // PROOF)]
    for best in np.argsort(-hits, kind="stable")[:3]:
        if hits[best] >= HOLDS and _gives(
            scene, readings[best], {n: v[at] for n, v in r.features.items()}, r.score[at]
        ):
            return readings[int(best)]
    return None


def _gives(scene: Scene, reading: Reading, rows: Frame, score: Array) -> bool:
    """Whether the change explains nearly all, and leaves none of them as it was."""
    made = reading.make(rows[reading.feature])
    again = score_frame(scene.bundle.model, {**rows, reading.feature: made})
    return bool((np.abs(again - score) <= SAME).mean() >= HOLDS)


def _readings(scene: Scene) -> Iterator[Reading]:
    for name, kind in scene.bundle.feature_types.items():
        if kind == NUMBER:
            for factor in FACTORS:
                yield Reading(name, f"{name} × {factor:g}", lambda v, f=factor: v * f, factor)  # type: ignore[misc]
                yield Reading(name, f"{name} ÷ {factor:g}", lambda v, f=factor: v / f, 1 / factor)  # type: ignore[misc]
            yield Reading(name, f"{name} in degrees Fahrenheit", lambda v: v * 1.8 + 32)
            yield Reading(name, f"{name} in degrees Celsius", lambda v: (v - 32) / 1.8)
            yield Reading(name, f"{name} with the other sign", lambda v: -v)
            yield Reading(name, f"{name} cut to whole numbers", lambda v: np.trunc(v))
            for code in CODES:
                yield Reading(name, f"{name} = {code:g}", lambda v, c=code: np.full(len(v), c))  # type: ignore[misc]
        if kind == TEXT:
            yield Reading(name, f"{name} in small letters", lambda v: _each(v, str.lower))
            yield Reading(name, f"{name} in capitals", lambda v: _each(v, str.upper))
        empty = None if kind == TEXT else np.nan
        yield Reading(name, f"no {name}", lambda v, e=empty: np.full(len(v), e, dtype=v.dtype))  # type: ignore[misc]


def _each(values: Array, make: Callable[[str], str]) -> Array:
    return np.array([None if v is None else make(v) for v in values], dtype=object)


UNLOGGED = Kind(
    "unlogged input",
    "the model read another value than was logged",
    1,
    inject_unlogged,
    suspect_unlogged,
    undo_default,
    needs=("inputs", "score", "scorer"),
)
