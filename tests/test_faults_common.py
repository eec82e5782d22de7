"""What the decisions in question have in common and hardly any row before had, in too few rows for a break."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from underhood.faults.forms import Form
from underhood.faults.moved_common import by_its_names, common_moves
from underhood.faults.moved_shown import Moved
from underhood.faults.sides import Sides, side_by_side
from underhood.plan.operations import NUMBER, TEXT

N, PAST = 6000, 4000
INPUTS = {"price": NUMBER, "color": TEXT}


def found(price: np.ndarray, color: np.ndarray, bad: np.ndarray) -> list[Moved]:
    return list(common_moves(side(price, color, bad)))


def side(price: np.ndarray, color: np.ndarray, bad: np.ndarray, **more: np.ndarray) -> Sides:
    meant = np.zeros(N, bool)
    meant[bad] = True
    at = np.arange(N) * 600.0
    joined, inputs = {"price": price, "color": color, **more}, INPUTS | dict.fromkeys(more, TEXT)
    return side_by_side(at, PAST, meant[PAST:], inputs, joined, set(INPUTS))


@pytest.fixture
def price() -> np.ndarray:
    return np.round(np.random.default_rng(4).gamma(4, 9, N), 1)


@pytest.fixture
def color() -> np.ndarray:
    return np.random.default_rng(5).choice(np.array(["red", "green", "blue"], dtype=object), N)


@pytest.fixture
def some() -> np.ndarray:
    """Two in a hundred rows of those since row 5000."""
    return np.flatnonzero(np.random.default_rng(6).random(1000) < 0.02) + 5000


@pytest.mark.parametrize(
    ("to", "kind"), [(np.nan, "missing values"), (999.0, "sentinel fill"), (41.2, "frozen column")]
)
def test_a_value_that_all_in_question_share_and_next_to_none_had_is_told_with_its_onset(
    price: np.ndarray, color: np.ndarray, some: np.ndarray, to: float, kind: str
) -> None:
    price[some] = to
    (moved,) = found(price, color, some[3:8])

    assert (moved.form.kind, moved.columns) == (kind, ("price",))
    assert len(some) <= moved.n < 1.5 * len(some)
    assert moved.since.timestamp() == pytest.approx(some[0] * 600.0, abs=86_400)


@pytest.mark.parametrize(
    ("to", "kind", "levels"),
    [
        ("N57", "new level", ["N57"]),
        ("RED", "category spelling", {"red": "RED"}),
        ("red-new", "category rename", {"red": "red-new"}),
    ],
)
def test_a_level_that_never_was_is_an_old_one_only_if_it_holds_its_name(
    price: np.ndarray, color: np.ndarray, some: np.ndarray, to: str, kind: str, levels: object
) -> None:
    color[some] = to
    (moved,) = found(price, color, some[:3])

    assert (moved.form.kind, moved.form.parameters["levels"]) == (kind, levels)


def test_what_some_in_question_share_with_many_others_is_no_news(
    price: np.ndarray, color: np.ndarray, some: np.ndarray
) -> None:
    assert found(price, color, np.flatnonzero(color == "red")[-5:]) == []
    price[some] = 41.2
    price[:5000][np.random.default_rng(7).random(5000) < 0.02] = 41.2
    assert found(price, color, some[3:8]) == []


def test_a_figure_of_a_time_and_values_that_always_come_and_go_are_no_fault(
    price: np.ndarray, color: np.ndarray, some: np.ndarray
) -> None:
    weather = price.copy()
    weather[5400:5425] = 41.2
    assert found(weather, color, np.arange(5400, 5405)) == []
    for at in range(0, N, 500):
        color[at : at + 500][np.random.default_rng(at).random(500) < 0.03] = f"item {at}"
    assert found(price, color, np.flatnonzero(color == "item 5500")[:5]) == []


def test_a_few_new_levels_are_told_by_their_names_wherever_they_were_found(
    price: np.ndarray, color: np.ndarray, some: np.ndarray
) -> None:
    named = color.copy()
    named[some], named[some[::2]] = "red 1", "red 2"
    sides = side(price, named, some[:4])
    (moved,) = common_moves(sides)
    new = replace(moved, form=Form("new level", "", None, {"levels": ["red 1", "red 2"]}))

    assert (moved.form.kind, moved.form.parameters["levels"]) == ("category split", {"red": ["red 1", "red 2"]})
    assert by_its_names(sides, new).form.kind == "category split"
    assert (
        by_its_names(sides, replace(new, form=Form("new level", "", None, {"levels": ["K9"]}))).form.kind == "new level"
    )
    # of many rows the old level would be missed
    assert by_its_names(sides, replace(new, share=0.4)).form.kind == "new level"
