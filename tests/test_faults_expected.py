"""A number that moved against the others of its row is told; a season, another mix or a broken neighbour is not."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from underhood.build.boosted import explained
from underhood.faults.breaks import breaks
from underhood.faults.expected import expected_of, ranks
from underhood.faults.moved import looked
from underhood.faults.moved_alike import alike_moves
from underhood.faults.moved_few import odd_move, past_of, stuck_moves
from underhood.faults.moved_forms import number_moves
from underhood.faults.moved_whom import is_next_step, stretches_of
from underhood.faults.sides import Sides, side_by_side

N_PAST, N_NOW, ONSET = 9000, 3600, 10_800
HOUR_S = 3600.0


def rows(change: dict[str, np.ndarray] | None = None) -> Sides:
    """Hours of 17 months: `load` follows the hour and the year's course, `calls` goes with it; three shops."""
    random = np.random.default_rng(5)
    n = np.arange(N_PAST + N_NOW)
    hour, year = n % 24, np.sin(2 * np.pi * n / 8760)
    shop = random.choice(["north", "south", "east"], len(n)).astype(object)
    load = 300 + 200 * np.sin(2 * np.pi * hour / 24) + 150 * year + random.normal(0, 15, len(n))
    calls = 0.4 * load + random.normal(0, 8, len(n))
    joined = {"hour": hour.astype(float), "year": year, "load": load, "calls": calls, "shop": shop}
    joined |= change or {}
    bad = np.zeros(N_NOW, bool)
    bad[[ONSET - N_PAST + k for k in (200, 500, 900, 1300)]] = True
    kinds = {name: "text" if name == "shop" else "number" for name in joined}
    return side_by_side(n * HOUR_S, N_PAST, bad, kinds, joined, set(joined))


def late(values: np.ndarray, changed: np.ndarray) -> np.ndarray:
    made: np.ndarray = np.where(np.arange(len(values)) >= ONSET, changed, values)
    return made


@pytest.mark.slow
def test_a_mild_factor_that_the_season_hides_is_told_with_its_parameter_and_onset() -> None:
    load = rows().columns["load"].values
    (moved,) = alike_moves(rows({"load": late(load, load * 0.45359237)}))

    assert moved.columns == ("load",)
    assert moved.form.kind == "unit change"
    assert moved.form.parameters["factor"] == pytest.approx(0.4536, rel=0.03)
    assert abs((moved.since - rows_at(ONSET)).total_seconds()) <= 24 * HOUR_S


@pytest.mark.slow
def test_the_dear_look_is_made_only_where_it_may_and_the_plain_one_finds_nothing() -> None:
    load = rows().columns["load"].values
    hidden = rows({"load": late(load, load * 1.3)})
    plain = rows({"load": late(load, load * 100)})

    assert [m.columns for m in looked(hidden).moves] == [("load",)]
    assert looked(hidden).is_dear
    assert looked(hidden, closely=False).moves == ()
    assert [m.columns for m in looked(plain).moves] == [("load",)]
    assert not looked(plain).is_dear


def rows_at(row: int) -> datetime:
    return datetime.fromtimestamp(row * HOUR_S, UTC).replace(tzinfo=None)


def test_a_sound_year_in_which_all_moves_together_has_no_such_move() -> None:
    assert alike_moves(rows()) == ()


def test_a_number_is_expected_from_its_row_and_a_dice_is_not() -> None:
    dice = np.random.default_rng(1).permutation(rows().columns["load"].values)
    found = expected_of(rows(), "calls")
    calls = rows().columns["calls"].values

    assert found is not None
    assert explained(ranks(calls, calls), found.rank) > 0.8
    assert expected_of(rows({"calls": dice}), "calls") is None


@pytest.mark.slow
def test_what_is_expected_wrongly_as_another_column_broke_is_not_told() -> None:
    load = rows().columns["load"].values
    told = alike_moves(rows({"load": late(load, load * 0.3048)}))

    assert {m.columns for m in told} == {("load",)}


# --- a few rows ---

PRICES = np.round(np.random.default_rng(11).gamma(4, 9, 8000), 2)
BEFORE, LATER = PRICES[:4000], PRICES[4000:]
FEW = np.arange(4000) % 50 == 0


def test_two_in_a_hundred_that_stopped_at_a_usual_value_are_a_frozen_column_and_at_a_code_a_fill() -> None:
    past = past_of(BEFORE, 0.01)
    frozen, *_ = stuck_moves("x", BEFORE, np.where(FEW, 41.37, LATER), past)
    filled, *_ = stuck_moves("x", BEFORE, np.where(FEW, -1.0, LATER), past)

    assert (frozen.form.kind, frozen.form.parameters["value"]) == ("frozen column", 41.37)
    assert (filled.form.kind, filled.form.parameters["value"]) == ("sentinel fill", -1.0)
    assert list(stuck_moves("x", BEFORE, LATER, past)) == []


def test_a_value_that_grew_as_others_did_is_another_mix_and_none_that_rows_stopped_at():
    random = np.random.default_rng(3)
    minutes = np.arange(0, 60, 5).astype(float)
    winter, summer = (random.dirichlet(np.full(12, 4.0)) for _ in range(2))
    before, mixed = (random.choice(minutes, 4000, p=p) for p in (winter, summer))
    stopped = np.where(random.random(4000) < 0.1, minutes[winter.argmin()], random.choice(minutes, 4000, p=winter))
    past = past_of(before, None)

    assert list(stuck_moves("minute", before, mixed, past)) == []
    assert [f.form.kind for f in stuck_moves("minute", before, stopped, past)] == ["frozen column"]


def test_two_in_a_hundred_with_something_added_are_told_by_the_step() -> None:
    found = odd_move("x", BEFORE, np.where(FEW, LATER + 700, LATER), past_of(BEFORE, 0.01))

    assert found is not None
    assert found.form.kind == "shift"
    assert found.form.parameters["shift"] == pytest.approx(700, rel=0.05)


def test_a_constant_that_is_taken_off_all_is_a_shift_and_no_other_scale() -> None:
    first, *_ = number_moves("x", BEFORE, LATER - 240, past_of(BEFORE, 0.01))

    assert (first.form.kind, first.form.parameters["shift"]) == ("shift", -240.0)


def test_where_nothing_was_before_no_few_rows_are_odd() -> None:
    assert odd_move("x", BEFORE[:0], np.where(FEW, LATER + 700, LATER), past_of(BEFORE, 0.01)) is None


# --- a figure of the time, not of the row ---


def steps_told(factor: float) -> list[bool]:
    """Of each stretch behind a break of a monthly figure, times `factor` since the onset: is it only its next step?

    Most rows have that of one country, some that of another.
    """
    random, n = np.random.default_rng(8), np.arange(N_PAST + N_NOW)
    country = (random.random(len(n)) < 0.1).astype(int)
    monthly = random.normal([[480], [300]], 30, (2, 40)).round(2)[country, n // 700]
    sides = rows({"month_mean": np.where(n >= ONSET, monthly * factor, monthly)})
    column = sides.columns["month_mean"]
    found = [s for b in breaks(sides) if b.column == "month_mean" for s in stretches_of(sides, column, b)]
    return [is_next_step(sides, s) for s in found]


def test_a_monthly_figure_that_came_to_its_next_value_tells_of_nothing_and_in_another_unit_it_does() -> None:
    assert set(steps_told(1.0)) == {True}
    assert False in steps_told(100.0)


def test_a_level_that_stops_coming_is_told_where_the_seasons_move_all_levels() -> None:
    random = np.random.default_rng(7)
    n = np.arange(N_PAST + N_NOW)
    # each item has a season of its own, and one is new shortly before another is struck
    weight = np.exp(0.4 * np.sin(2 * np.pi * (n[:, None] / 8760 + np.arange(12) / 12)))
    weight[:, 11] = n > 9_900
    drawn = (random.random(len(n))[:, None] > np.cumsum(weight / weight.sum(axis=1)[:, None], axis=1)).sum(axis=1)
    item = np.array([f"item {k}" for k in range(12)], dtype=object)[drawn]
    item[[ONSET + k for k in (200, 500, 900, 1300)]] = "item 3"  # those that people complain about
    sides = rows({"shop": late(item, np.where(item == "item 3", "item 4", item))})
    (moved,) = looked(sides, closely=False).moves

    assert (moved.form.kind, moved.form.parameters["levels"]) == ("category merge", {"item 3": "item 4"})
    assert abs((moved.since - rows_at(ONSET)).total_seconds()) <= 48 * HOUR_S
    assert looked(rows({"shop": item}), closely=False).moves == ()


def test_a_number_that_most_rows_lack_is_no_figure_of_the_time() -> None:
    counts = np.random.default_rng(9).poisson(4, N_PAST + N_NOW).astype(float)
    gone = np.where(np.arange(len(counts)) % 400 != 7, np.nan, counts)
    (moved,) = looked(rows({"count": late(counts, gone)}), closely=False).moves

    assert (moved.form.kind, moved.columns) == ("missing values", ("count",))


def test_a_count_that_stops_being_one_follows_another_curve() -> None:
    counts = np.random.default_rng(10).poisson(3, N_PAST + N_NOW).astype(float)
    counts[[ONSET + k for k in (200, 500, 900, 1300)]] = 2.0, 3.0, 4.0, 5.0
    (moved,) = looked(rows({"count": late(counts, counts**2 / 45)}), closely=False).moves

    assert (moved.form.kind, moved.form.parameters["way"]) == ("upstream change", "rises")
