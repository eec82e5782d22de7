"""One row alone, a batch, and the library that fitted the model: the same score, to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import lightgbm
import numpy as np
import pytest
import sklearn.linear_model
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.build.boosted import can_sum, tree_sums
from underhood.build.booster import Booster
from underhood.build.checks import rows_of
from underhood.build.ladder import ROUNDS, TREES, fit
from underhood.build.scorer import Frame, Model, codes, leaves, score_frame, scorer
from underhood.build.trees import sum_of_trees
from underhood.ground.errors import ProjectError

TYPES = {"full": "number", "holey": "number", "flag": "flag", "city": "text", "word": "text"}
EXTREMES = [0.0, -0.0, 1e300, -1e300, 1.7976931348623157e308, 5e-324, -1e-300, 1.0]


def world(seed: int, n: int = 3000) -> tuple[dict[str, Any], Any]:
    """Random features and labels: `holey`, `flag` and the texts have nulls, `full` has none."""
    random = np.random.default_rng(seed)
    city = random.choice(np.array(["EWR", "JFK", "LGA", None], object), n)
    full, holey = random.normal(5, 2, n), random.exponential(3, n)
    z = full - 5 + (holey > 3) * 2 * (city == "EWR") + random.normal(0, 1, n)
    holey[random.random(n) < 0.2] = np.nan
    flag = random.integers(0, 2, n).astype(float)
    flag[::7] = np.nan
    word = np.array([None if i % 9 == 0 else f"w{i % 40}" if i % 3 else f"rare{i}" for i in range(n)], object)
    frame = {"full": full, "holey": holey, "flag": flag, "city": city, "word": word}
    return frame, (z > 0).astype(float)


def strange(n: int, seed: int) -> dict[str, Any]:
    """Rows unlike those of training: extreme values and unknown levels, but no null where training had none."""
    random = np.random.default_rng(seed)
    return {
        "full": random.choice(EXTREMES, n),
        "holey": random.choice([*EXTREMES, np.nan], n),
        "flag": random.choice([0.0, 1.0, np.nan], n),
        "city": random.choice(np.array(["EWR", "", "nowhere", None], object), n),
        "word": random.choice(np.array(["w1", "rare2", "w39", None], object), n),
    }


def alone(model: Model, frame: Frame) -> Any:
    """The scores of the rows one by one, by a model that was written as JSON and read again."""
    one = scorer(json.loads(json.dumps(model)))
    return np.array([one(row) for row in rows_of(frame, TYPES)])


def fitted_by(frame: Frame, label: Any) -> tuple[Model, Any]:
    """Our trees, and the booster that LightGBM's own package makes of the same columns."""
    model = fit("trees", frame, label, TYPES)
    texts = [i for i, name in enumerate(model["features"]) if name in model["levels"]]
    rows = lightgbm.Dataset(matrix(model, frame), label, categorical_feature=texts)
    return model, lightgbm.train(dict(TREES), rows, num_boost_round=ROUNDS)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_trees_grown_without_lightgbms_python_package_are_those_that_it_grows(is_weighted: bool) -> None:
    frame, label = world(4)
    weight = np.linspace(0.5, 2, len(label)) if is_weighted else None
    model = fit("trees", frame, label, TYPES, weight)
    texts = [i for i, name in enumerate(model["features"]) if name in model["levels"]]
    data = lightgbm.Dataset(matrix(model, frame), label, weight=weight, categorical_feature=texts)
    booster = lightgbm.train(dict(TREES), data, num_boost_round=ROUNDS)

    assert np.array_equal(booster.predict(matrix(model, frame)), score_frame(model, frame))


def test_what_lightgbm_refuses_is_told_with_the_reason() -> None:
    with Booster() as booster, pytest.raises(ProjectError, match="LightGBM cannot"):
        booster.read("no trees")


def matrix(model: Model, frame: Frame) -> Any:
    """The columns as LightGBM sees them."""
    levels = model["levels"]
    return np.column_stack([codes(frame[n], levels[n]) if n in levels else frame[n] for n in model["features"]])


@pytest.mark.parametrize("seed", range(3))
def test_trees_score_alone_in_a_batch_and_in_lightgbm_to_the_last_bit(seed: int) -> None:
    frame, label = world(seed)
    model, booster = fitted_by(frame, label)

    for rows in (frame, strange(1000, seed)):
        expected = booster.predict(matrix(model, rows), num_threads=1)

        assert np.array_equal(expected, score_frame(model, rows))
        assert np.array_equal(expected, alone(model, rows))


def a_tree() -> st.SearchStrategy[Any]:
    """Trees over two numbers and a column of level codes, as our models hold them."""
    cut = st.sampled_from([0.0, 1e-35, 0.1, -1.5, 2.4999999999999996, 1e300])
    leaf = st.floats(-5, 5, width=32)

    def node(under: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        number = st.tuples(st.integers(0, 1), cut, st.booleans(), under, under).map(list)
        levels = st.lists(st.integers(0, 69), min_size=1, max_size=6, unique=True).map(sorted)
        return number | st.tuples(st.just(2), levels, st.just(False), under, under).map(list)

    return st.recursive(leaf, node, max_leaves=20)


@given(trees=st.lists(a_tree(), min_size=1, max_size=4), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_many_rows_at_once_give_the_sums_of_one_row_to_the_last_bit(trees: list[Any], seed: int) -> None:
    random = np.random.default_rng(seed)
    numbers = random.choice([0.0, -0.0, 1e-36, 0.1, 0.3, -1.5, 2.5, 1e300, np.nan], (2, 200))
    codes = random.integers(-1, 70, 200).astype(float)

    columns = [numbers[0], numbers[1], codes]
    assert not can_sum(columns)
    columns = [np.where(np.abs(c) <= 1e-35, 0.0, c) for c in columns]
    assert can_sum(columns)
    assert tree_sums(trees, columns).tobytes() == sum_of_trees(trees, columns).tobytes()


def test_a_null_where_training_had_none_goes_the_way_of_most_rows() -> None:
    frame, _ = world(1)
    only = {"full": frame["full"]}
    model, booster = fitted_by(only, (frame["full"] > 3).astype(float))
    null = {"full": np.array([np.nan])}

    made = score_frame(model, null)

    assert made[0] == alone(model, null)[0]
    assert made[0] > 0.99  # most rows lie above 3
    assert booster.predict(np.array([[np.nan]]))[0] < 0.01  # LightGBM reads a null as 0


def test_a_null_where_training_had_some_goes_where_lightgbm_sends_it() -> None:
    values = np.linspace(0, 10, 2000)
    values[::4] = np.nan
    model, booster = fitted_by({"holey": values}, np.isnan(values).astype(float))

    assert score_frame(model, {"holey": np.array([np.nan])})[0] == booster.predict(np.array([[np.nan]]))[0]
    assert score_frame(model, {"holey": np.array([np.nan])})[0] > 0.99


def test_an_unknown_level_and_a_null_share_one_score() -> None:
    frame, label = world(2)
    for kind in ("logistic", "trees"):
        model = fit(kind, frame, label, TYPES)
        row = {"full": 5.0, "holey": 1.0, "flag": True, "word": "w1"}

        one = scorer(model)

        assert one({**row, "city": None}) == one({**row, "city": "nowhere"})


def test_a_logistic_scores_as_sklearn_does(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    original = sklearn.linear_model.LogisticRegression.fit

    def recorded(self: Any, columns: Any, label: Any, weight: Any) -> Any:
        kept.append((self, columns))
        return original(self, columns, label, weight)

    monkeypatch.setattr(sklearn.linear_model.LogisticRegression, "fit", recorded)
    frame, label = world(4)

    model = fit("logistic", frame, label, TYPES)

    its, columns = kept[0]
    assert np.abs(its.predict_proba(columns)[:, 1] - score_frame(model, frame)).max() < 1e-12
    assert np.array_equal(score_frame(model, frame), alone(model, frame))


def test_a_logistic_scores_strange_rows_alike_alone_and_in_a_batch() -> None:
    frame, label = world(5)
    model = fit("logistic", frame, label, TYPES)
    rows = strange(500, 5) | {"full": np.array([np.nan, *np.resize(EXTREMES, 499)])}

    made = score_frame(model, rows)

    assert np.array_equal(made, alone(model, rows))
    assert ((made >= 0) & (made <= 1)).all()


def test_a_value_too_large_to_count_with_scores_alike_alone_and_in_a_batch() -> None:
    term = {"feature": "full", "mean": -1e308, "scale": 1e-3, "weight": 0.0, "null": 0.0}
    model = {"kind": "logistic", "bias": 0.0, "terms": [term]}
    rows = {"full": np.array([1e308, -1e308, 5.0])}

    made = score_frame(model, rows)

    assert np.array_equal(made, alone(model, rows))


def test_what_rounding_leaves_of_a_constant_does_not_decide_a_score() -> None:
    frame, label = world(6, 1000)
    frame = {"full": np.full(1000, 0.1), "holey": frame["full"]}
    model = fit("logistic", frame, label, TYPES)

    usual, new = score_frame(model, {"full": np.array([0.1, 0.2]), "holey": np.array([5.0, 5.0])})

    assert abs(usual - new) < 0.01


@pytest.mark.parametrize("kind", ["constant", "logistic", "trees"])
def test_one_class_gives_a_constant(kind: str) -> None:
    frame, label = world(7, 100)

    assert fit(kind, frame, np.ones(100), TYPES) == {"kind": "constant", "p": 1.0}
    assert score_frame(fit(kind, frame, 0 * label, TYPES), frame).tolist() == [0.0] * 100
    assert scorer(fit(kind, frame, 0 * label, TYPES))({}) == 0.0


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_features_that_say_nothing_give_the_share_of_the_label(kind: str) -> None:
    _, label = world(8, 400)
    nulls = {"full": np.full(400, np.nan), "word": np.full(400, None, object)}
    rare = {"word": np.array([f"rare{i}" for i in range(400)], object)}

    for frame in (nulls, rare, {"full": nulls["full"]}):
        made = score_frame(fit(kind, frame, label, TYPES), frame)

        assert np.allclose(label.mean(), made, atol=1e-9)


@pytest.mark.parametrize("n_leaves", [1, 2, 31, 32, 33, 64, 65, 200])
def test_a_tree_of_any_size_gives_each_row_the_leaf_that_it_falls_into(n_leaves: int) -> None:
    random = np.random.default_rng(n_leaves)

    def tree(low: int, high: int) -> Any:
        if high - low == 1:
            return low / 7
        cut = int(random.integers(low + 1, high))
        return [0, cut - 0.5, bool(random.integers(2)), tree(low, cut), tree(cut, high)]

    model = {"kind": "trees", "features": ["km"], "levels": {}, "trees": [tree(0, n_leaves), tree(0, n_leaves)]}
    frame = {"km": np.append(random.integers(0, n_leaves, 300), np.nan)}
    one = scorer(model)

    assert score_frame(model, frame).tolist() == [one({"km": None if np.isnan(v) else v}) for v in frame["km"]]
    assert leaves(model, frame)[:-1].tolist() == [[v, v] for v in frame["km"][:-1]]


def test_rows_alike_to_the_model_share_their_leaves() -> None:
    frame, label = world(9)
    model = fit("trees", frame, label, TYPES)

    found = leaves(model, frame)

    assert found.shape == (3000, 100)
    same = {row.tobytes(): score for row, score in zip(found, score_frame(model, frame), strict=True)}
    assert [same[row.tobytes()] for row in found] == score_frame(model, frame).tolist()


def test_growing_trees_loads_none_of_the_libraries_that_lightgbms_package_loads() -> None:
    script = """
import sys, numpy as np
from underhood.build.ladder import fit
values = np.linspace(0, 1, 500)
assert fit("trees", {"x": values}, (values > 0.3).astype(float), {"x": "number"})["trees"]
print(*[m for m in ("pandas", "sklearn", "scipy", "lightgbm") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == ""
