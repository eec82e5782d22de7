"""A feature that is not what its definition makes of the row that was captured with it.

The row came right, so no feed and no unit upstream is to blame: the code that makes the
feature in serving is another than the one that made it for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from underhood.build.scorer import Array, Frame
from underhood.faults.extent import Extent, extent_of
from underhood.faults.forms import ENOUGH, Form, number_form, text_form
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.faults.vectors import HOLDS, SAME, SHARE, impact, made_of, replayed
from underhood.plan.changes import FEATURE, RECOMPUTED, Change
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import NUMBER, TEXT
from underhood.plan.render import quoted


@dataclass(frozen=True)
class Skewed:
    """One feature that is not what its definition makes of the captured row: how, for how many, of whom."""

    feature: str
    n_bad: int
    form: Form | None
    extent: Extent


def inject_feature(feature: str, to: Any, where: Expr | None = None) -> tuple[Change, ...]:
    """A feature is served otherwise than its definition makes it: an expression over `features.…`, or a value."""
    return (Change(FEATURE, feature, to, where),)


def undo_feature(feature: str, where: Expr | None = None) -> tuple[Change, ...]:
    """The feature is made again of the captured row."""
    return (Change(FEATURE, feature, RECOMPUTED, where),)


def skewed(scene: Scene) -> tuple[Skewed, ...]:
    """The features that are not what their rows make, among the bad; found once for a scene."""
    found: tuple[Skewed, ...] = scene.once("skewed", _skewed)
    return found


def _skewed(scene: Scene) -> tuple[Skewed, ...]:
    tests = {n: _skew_test(scene, n) for n in scene.bundle.features}
    # a patch repairs the row after it was captured
    plain = "status = 'ok' and coalesce(len(patches), 0) = 0"
    n, *counts = counted(
        scene.engine,
        f"select count(*), {', '.join(f'count(*) filter (where {t})' for t in tests.values())} from decisions "
        f"where bad and {plain}",
    )
    broken = {f: k for f, k in zip(tests, counts, strict=True) if k and k >= SHARE * n}
    return tuple(_one_skew(scene, f, k, tests[f], plain) for f, k in broken.items())


def _skew_test(scene: Scene, feature: str) -> str:
    served, made = quoted("features." + feature), made_of(scene.bundle.features[feature], scene.bundle)
    if scene.bundle.feature_types[feature] != NUMBER:
        return f"{served} is distinct from {made}"
    far = f"abs({served} - {made}) > {SAME} * greatest(1, abs({made}))"
    return f"coalesce({far}, ({served} is null) <> ({made} is null))"


def _one_skew(scene: Scene, feature: str, n_bad: int, test: str, plain: str) -> Skewed:
    served, made = quoted("features." + feature), made_of(scene.bundle.features[feature], scene.bundle)
    frame = scene.engine.frame(
        f"select id, {served} as served, {made} as again, {test} as differs from decisions where {plain} order by id"
    )
    differs = frame["differs"] > 0
    extent = extent_of(scene, frame["id"], differs, np.ones(len(differs), dtype=bool))
    return Skewed(feature, n_bad, _form_of(scene, feature, frame, differs), extent)


def _form_of(scene: Scene, feature: str, frame: Frame, differs: Array) -> Form | None:
    served, again = frame["served"], frame["again"]
    kind = scene.bundle.feature_types[feature]
    gone = np.array([v is None for v in served]) if kind == TEXT else np.isnan(served.astype(float))
    if gone[differs].mean() >= HOLDS and differs.sum() >= ENOUGH:
        return Form("empty", f"{feature} is empty", None, {})
    if kind == TEXT:
        both = differs & ~gone & np.array([v is not None for v in again])
        return text_form(feature, served[both], again[both])
    both = ~gone & ~np.isnan(again.astype(float))
    if (differs & both).sum() < HOLDS * differs.sum():
        return None
    return number_form(feature, served[differs & both], again[differs & both], again[~differs & both])


def suspect_feature(scene: Scene) -> Ruling:
    """A captured feature is not what its definition makes of the captured row."""
    found = skewed(scene)
    if not found:
        n = len(scene.bundle.features)
        return Ruling(FEATURE_SKEW.name, (), f"all {n} features are what their definitions make of the captured rows")
    return Ruling(FEATURE_SKEW.name, tuple(_feature_suspect(scene, s) for s in found))


def _feature_suspect(scene: Scene, s: Skewed) -> Suspect:
    name, made = quoted("features." + s.feature), made_of(scene.bundle.features[s.feature], scene.bundle)
    form = s.form.says if s.form else f"{s.feature} differs by no closed form"
    parameters = {"columns": [s.feature], "form": s.form.kind if s.form else "none"}
    return Suspect(
        FEATURE_SKEW.name,
        f"feature {s.feature}",
        f"{form}{s.extent.says}: {s.extent.n:,} captured features are not what the definition makes of the row that "
        "was captured with them, so the row came right and the feature was made wrong",
        f"select id, asked_at, {name} as served, {made} as by_definition from decisions "
        f"where {_skew_test(scene, s.feature)} order by asked_at",
        undo_feature(s.feature),
        s.extent.where,
        s.extent.since,
        {**parameters, **(s.form.parameters if s.form else {})},
    )


def propose_feature(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A number among the features that matter most is made in another unit, shifted, rounded, constant or empty."""
    numbers = [n for n in impact(scene) if scene.bundle.feature_types[n] == NUMBER][:3]
    if not numbers:
        return None
    name = str(random.choice(numbers))
    values = replayed(scene).features[name].astype(float)
    values = values[~np.isnan(values)]
    low, middle, high = (float(v) for v in np.quantile(values, [0.1, 0.5, 0.9]))
    to: Any
    parameters: dict[str, Any]
    feature, way = col(f"features.{name}"), int(random.integers(0, 4))
    if way == 3:
        empty = {"columns": [name], "form": "empty"}
        return Injection(FEATURE_SKEW.name, inject_feature(name, None, cohort), (name,), empty, cohort)
    if way == 0 or (way == 1 and high == low):
        factor = float(random.choice([0.01, 0.1, 12.0, 100.0, 1000.0]))
        to, made, parameters = feature * factor, values * factor, {"factor": factor}
    elif way == 1:
        shift = float(f"{(high - low) * random.choice([-1, 1]) * random.uniform(0.5, 1.5):.2g}")
        to, made, parameters = feature + shift, values + shift, {"shift": shift}
    else:
        to, made, parameters = middle, np.full(len(values), middle), {"value": middle}
    other = made != values
    form = number_form(name, made[other], values[other], values[:0])
    if form is None:
        return None
    told = {"columns": [name], "form": form.kind, **parameters}
    return Injection(FEATURE_SKEW.name, inject_feature(name, to, cohort), (name,), told, cohort)


FEATURE_SKEW = Kind(
    "feature skew",
    "a feature is not what its definition makes of the row",
    1,
    inject_feature,
    suspect_feature,
    undo_feature,
    propose_feature,
    needs=("inputs", "definitions"),
)
