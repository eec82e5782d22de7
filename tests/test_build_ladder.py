"""The ladder takes the simplest model that will do, and never learns from what was not known yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from underhood.build.ladder import DAY_US, climb, folds, log_loss, losses_of, paired

TYPES = {"a": "number", "b": "number", "city": "text"}
N = 3000


def times(seed: int, n: int = N, wait_days: float = 2) -> tuple[Any, Any]:
    """When each row was asked, sorted over 100 days, and when its label became known: up to `wait_days` later."""
    random = np.random.default_rng(seed)
    asked = np.sort(random.integers(0, 100 * DAY_US, n)).astype(float)
    return asked, asked + random.integers(0, max(1, int(wait_days * DAY_US)), n)


def features(seed: int, n: int = N) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    city = random.choice(np.array(["EWR", "JFK", None], object), n)
    return {"a": random.normal(0, 1, n), "b": random.normal(0, 1, n), "city": city}


def drawn(z: Any, seed: int) -> Any:
    """Labels drawn with the log odds `z`."""
    return (np.random.default_rng(seed + 100).random(len(z)) < 1 / (1 + np.exp(-z))).astype(float)


# --- folds ---


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wait_days", [0, 2, 40])
def test_a_fold_never_trains_on_a_label_known_after_its_test_block_begins(seed: int, wait_days: float) -> None:
    asked, known = times(seed, 500, wait_days)

    made = folds(asked, known)

    assert made
    for fold in made:
        begins = asked[fold.test].min()
        assert known[fold.train].max() < begins
        assert asked[fold.train].max() < begins


@pytest.mark.parametrize("seed", range(5))
def test_each_row_is_tested_at_most_once_and_the_last_one_is(seed: int) -> None:
    asked, known = times(seed, 300)

    tested = np.concatenate([fold.test for fold in folds(asked, known)])

    assert len(tested) == len(set(tested.tolist()))
    assert sorted(tested) == list(range(tested.min(), 300))


def test_rows_asked_at_one_moment_stay_together_and_are_tested_once() -> None:
    asked = np.sort(np.concatenate([np.arange(100.0), np.full(400, 100.0)]))

    made = folds(asked, asked + 1)

    tested = np.concatenate([fold.test for fold in made])
    assert len(tested) == len(set(tested.tolist()))
    for fold in made:
        assert not set(asked[fold.train]) & set(asked[fold.test])


def test_labels_known_only_at_the_end_leave_nothing_to_fold() -> None:
    asked, _ = times(1, 100)
    frame, label = features(1, 100), drawn(np.zeros(100), 1)

    went = climb(frame, label, asked, np.full(100, 101.0 * DAY_US), TYPES)

    assert folds(asked, np.full(100, 101.0 * DAY_US)) == []
    assert (went.kind, len(went.tested), [r.kind for r in went.rungs]) == ("constant", 0, ["constant"])


# --- which rung ---


def gone(z: Any, frame: Any, seed: int) -> Any:
    asked, known = times(seed)
    return climb(frame, drawn(z, seed), asked, known, TYPES)


def test_on_noise_the_constant_is_taken() -> None:
    frame = features(2)

    assert [r.kind for r in gone(np.zeros(N), frame, 2).rungs if r.taken] == ["constant"]


def test_in_a_linear_world_the_logistic_is_taken() -> None:
    frame = features(3)

    assert gone(frame["a"] - frame["b"] + (frame["city"] == "EWR"), frame, 3).kind == "logistic"


def test_in_a_world_of_interactions_the_trees_are_taken() -> None:
    frame = features(4)

    assert gone(3 * np.sign(frame["a"] * frame["b"]), frame, 4).kind == "trees"


def test_the_scores_of_a_climb_are_those_of_the_rung_taken() -> None:
    frame = features(3)
    went = gone(2 * frame["a"], frame, 3)

    taken = next(r for r in went.rungs if r.taken)

    assert taken.loss == log_loss(drawn(2 * frame["a"], 3)[went.tested], went.scores)
    assert taken.gain > taken.gain_se


def test_climbing_twice_gives_the_same_to_the_last_bit() -> None:
    frame = features(4)
    first, again = (gone(3 * np.sign(frame["a"] * frame["b"]), frame, 4) for _ in range(2))

    assert first.rungs == again.rungs
    assert np.array_equal(first.scores, again.scores)


def test_each_step_of_the_climb_is_told() -> None:
    told: list[str] = []
    asked, known = times(5, 300)

    climb(features(5, 300), drawn(np.zeros(300), 5), asked, known, TYPES, told.append)

    assert [f"fitting {kind} on 4 folds in time" for kind in ("constant", "logistic", "trees")] == told


# --- figures ---


def test_a_gain_within_one_day_has_no_error_to_beat() -> None:
    assert (1.0, float("inf")) == paired(np.ones(5), np.zeros(5))


def test_rows_of_one_day_count_as_one() -> None:
    difference = np.array([1.0, 3.0])
    mean, error = paired(difference, np.array([1, 2]))

    repeated = paired(np.repeat(difference, 50), np.repeat([1, 2], 50))

    assert (mean, pytest.approx(error)) == (2.0, 1.0)
    assert pytest.approx((mean, error)) == repeated


def test_a_score_that_was_sure_and_wrong_has_a_finite_loss() -> None:
    assert pytest.approx([34.539, 34.539, 0, 0], abs=1e-3) == losses_of(
        np.array([1.0, 0, 1, 0]), np.array([0.0, 1, 1, 0])
    )
