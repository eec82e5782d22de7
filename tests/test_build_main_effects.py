"""A witness's model is the one that the ladder would fit, without the ladder's library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from underhood.build.ladder import fit
from underhood.build.main_effects import fit_main_effects
from underhood.build.scorer import Array, Model, score_frame

TYPES = {"km": "number", "jam": "number", "flat": "number", "depot": "text", "never": "number"}


@pytest.fixture
def rows() -> tuple[dict[str, Array], Array]:
    random = np.random.default_rng(3)
    n = 3000
    frame: dict[str, Array] = {
        "km": random.normal(40, 12, n),
        "jam": np.where(random.random(n) < 0.2, np.nan, random.exponential(3, n)),
        "flat": np.full(n, 7.0),
        "depot": np.array([f"d{k}" for k in random.integers(0, 30, n)], dtype=object),
        "never": np.full(n, np.nan),
    }
    frame["depot"][:50] = None
    odds = (frame["km"] - 40) / 10 + np.nan_to_num(frame["jam"], nan=4.0) / 4 + (frame["depot"] == "d3") - 2
    return frame, (random.random(n) < 1 / (1 + np.exp(-odds))).astype(float)


def penalised(model: Model, frame: dict[str, Array], label: Array) -> float:
    """What both fits minimise: log loss in all, and half the squares of all weights but the bias."""
    p = score_frame(model, frame)
    own = [t[k] for t in model["terms"] if "mean" in t for k in ("weight", "null")]
    own += [w for t in model["terms"] if "levels" in t for w in t["levels"].values()]
    return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)).sum() + (np.array(own) ** 2).sum() / 2)


def test_it_is_at_least_as_near_the_optimum_as_the_ladder_s_rung(rows: tuple[dict[str, Array], Array]) -> None:
    frame, label = rows
    own, rung = fit_main_effects(frame, label, TYPES), fit("logistic", frame, label, TYPES)

    assert [t["feature"] for t in own["terms"]] == ["km", "jam", "flat", "depot"]
    assert penalised(own, frame, label) <= penalised(rung, frame, label) + 1e-3
    assert score_frame(own, frame) == pytest.approx(score_frame(rung, frame), abs=0.02)


def test_it_is_the_same_each_time(rows: tuple[dict[str, Array], Array]) -> None:
    assert fit_main_effects(*rows, TYPES) == fit_main_effects(*rows, TYPES)


def test_labels_of_one_class_make_a_constant(rows: tuple[dict[str, Array], Array]) -> None:
    frame, label = rows

    assert fit_main_effects(frame, np.ones(len(label)), TYPES) == {"kind": "constant", "p": 1.0}
    assert fit_main_effects({"never": frame["never"]}, label, TYPES)["kind"] == "constant"


def test_a_column_that_separates_the_classes_has_a_finite_weight() -> None:
    label = np.repeat([0.0, 1.0], 500)
    model = fit_main_effects({"km": label.copy()}, label, TYPES)

    assert 0 < model["terms"][0]["weight"] < 20


def test_no_library_is_loaded_for_it() -> None:
    code = "import sys, underhood.build.main_effects as m; print(sorted({'sklearn', 'scipy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert shown.strip() == "[]"
