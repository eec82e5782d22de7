"""What was done to a column is read off two arrays, and taken back; chance is never given a form."""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underhood.faults.forms import Form, number_form, text_form, time_form
from underhood.faults.values import _can_show
from underhood.plan.exprs import typed
from underhood.plan.render import to_python
from underhood.tables.local import Engine

RANDOM = np.random.default_rng(7)
VALUES = RANDOM.gamma(2, 30, 300)
NO_REST = np.array([])


def back(form: Form, column: str, kind: str, served: np.ndarray) -> list[object]:
    assert form.undo is not None
    settled, _ = typed(form.undo, {f"row.{column}": kind}, "test")
    undo = to_python({"value": settled})
    return [undo({f"row.{column}": value})["value"] for value in served.tolist()]


@given(st.floats(0.001, 1000).filter(lambda f: abs(f - 1) > 1e-3), st.floats(-500, 500))
def test_a_factor_and_an_offset_are_found_and_taken_back(factor: float, offset: float) -> None:
    factor, offset = float(f"{factor:.4g}"), round(offset, 2)
    form = number_form("x", VALUES * factor + offset, VALUES, NO_REST)

    assert form is not None
    assert form.kind == "unit change"
    assert form.parameters["factor"] == pytest.approx(factor, rel=1e-4)
    assert back(form, "x", "number", VALUES * factor + offset) == pytest.approx(VALUES.tolist(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("factor", "offset", "decimals"),
    [(1 / 60, 0.0, 3), (0.01, 0.0, 2), (1.60934, 0.0, 1), (5 / 9, -160 / 9, 1), (2.2, 0.0, 0), (0.001, 0.0, 3)],
)
@pytest.mark.parametrize("n", [40, 300])
def test_another_unit_is_found_in_numbers_that_were_rounded_after_it(
    factor: float, offset: float, decimals: int, n: int
) -> None:
    was = VALUES[:n].round(1)
    served = (was * factor + offset).round(decimals)
    served[0] = 0.5  # an odd row does not hide it
    form = number_form("x", served, was, NO_REST)

    assert form is not None
    assert form.kind == "unit change"
    assert form.parameters["factor"] == pytest.approx(factor, rel=2e-3)
    assert form.parameters.get("offset", 0.0) == pytest.approx(offset, abs=0.05)
    lost = 10.0**-decimals / factor
    assert back(form, "x", "number", served)[1:] == pytest.approx(was[1:].tolist(), abs=lost, rel=2e-3)


@pytest.mark.parametrize("change", [np.sqrt, np.log1p, np.square, lambda v: v**1.1, lambda v: 50 * np.tanh(v / 100)])
def test_a_curve_that_was_rounded_is_no_other_unit(change: Callable[[np.ndarray], np.ndarray]) -> None:
    was = VALUES.round(1)
    form = number_form("x", change(was).round(1), was, NO_REST)

    assert form is not None
    assert form.kind == "upstream change"


def test_hours_of_another_zone_are_told_from_a_constant_that_is_added() -> None:
    hours = RANDOM.integers(0, 24, 200).astype(float)

    for shift in (-8, -1, 3, 12):
        form = number_form("hour", (hours + shift) % 24, hours, NO_REST)
        assert form is not None
        assert (form.kind, form.parameters["shift"]) == ("time zone", shift)
        assert back(form, "hour", "number", (hours + shift) % 24) == hours.tolist()
    late = hours[hours >= 6]
    early = number_form("hour", late - 5, late, NO_REST)
    counted = number_form("calls", late / 2 - 2, late / 2, NO_REST)
    assert early is not None
    assert counted is not None
    assert (early.kind, early.parameters["shift"], counted.kind) == ("time zone", -5, "shift")
    shifted = number_form("hour", hours + 3, hours, NO_REST)
    assert shifted is not None
    assert shifted.kind == "shift"


def test_a_cap_is_told_from_a_code_value_by_the_rows_that_it_leaves() -> None:
    over = VALUES > 60
    capped = number_form("x", np.full(over.sum(), 60.0), VALUES[over], VALUES[~over])
    coded = number_form("x", np.full(150, -1.0), VALUES[:150], VALUES[150:])

    assert capped is not None
    assert coded is not None
    assert (capped.kind, coded.kind) == ("clipped", "sentinel fill")


@pytest.mark.parametrize(("step", "way"), [(10.0, np.floor), (0.5, np.round), (25.0, np.ceil)])
def test_a_grid_is_found_with_its_step(step: float, way: np.ufunc) -> None:
    form = number_form("x", way(VALUES / step) * step, VALUES, NO_REST)

    assert form is not None
    assert (form.kind, form.parameters["step"]) == ("precision loss", step)


def test_whole_numbers_rounded_down_to_even_ones_are_rounded_and_not_shifted() -> None:
    again = np.random.default_rng(3).integers(0, 40, 600).astype(float)
    served = np.floor(again / 2) * 2
    changed = served != again
    form = number_form("bought", served[changed], again[changed], again[~changed])
    assert form
    assert (form.kind, form.parameters) == ("precision loss", {"step": 2.0, "way": "down"})


def test_a_shift_of_some_rows_is_no_rounding_though_all_that_it_made_lie_on_a_grid() -> None:
    again = np.array([3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0] * 20)
    rest = np.array([1.0, 3.0, 5.0, 21.0] * 20)  # odd as well: nothing says that odd ones alone changed
    form = number_form("bought", again - 1, again, rest)
    assert form
    assert form.kind == "shift"


def test_values_that_belong_to_other_rows_have_no_form() -> None:
    assert number_form("x", RANDOM.permutation(VALUES), VALUES, NO_REST) is None
    texts = np.array(RANDOM.choice(list("abcdef"), 300), dtype=object)
    assert text_form("c", RANDOM.permutation(texts), texts) is None


def test_two_in_a_hundred_odd_rows_do_not_hide_a_form() -> None:
    served = VALUES * 100
    served[:5] = 7.0
    form = number_form("x", served, VALUES, NO_REST)

    assert form is not None
    assert form.parameters == {"factor": 100.0}


def test_a_code_in_place_of_a_number_that_is_nearly_always_zero_is_a_code_and_no_shift() -> None:
    again = np.array([0.0] * 44 + [1902.0, 1977.0])
    rest = np.array([0.0] * 400 + [1902.0, 1977.0, 1848.0, 1485.0, 2415.0] * 4)
    form = number_form("loss", np.full(46, 9999.0), again, rest)

    assert form is not None
    assert (form.kind, form.parameters) == ("sentinel fill", {"value": 9999.0})


def test_four_rows_are_no_evidence() -> None:
    assert number_form("x", VALUES[:4] * 100, VALUES[:4], NO_REST) is None


def test_other_spelling_is_told_from_other_names_and_both_are_taken_back() -> None:
    levels = np.array(RANDOM.choice(["North", "South East", "West"], 100), dtype=object)
    spelled = np.array([v.upper().replace(" ", "_") for v in levels], dtype=object)
    named = np.array([{"North": "N1", "South East": "S7", "West": "W3"}[v] for v in levels], dtype=object)

    for served, kind in ((spelled, "category spelling"), (named, "category rename")):
        form = text_form("c", served, levels)
        assert form is not None
        assert form.kind == kind
        assert back(form, "c", "text", served) == levels.tolist()


def test_a_level_under_a_name_that_others_have_is_merged_and_not_renamed() -> None:
    again, served = np.array(["D"] * 20, dtype=object), np.array(["A"] * 20, dtype=object)
    merged = text_form("room", served, again, np.array(["A", "B"], dtype=object))
    renamed = text_form("room", served, again, np.array(["B"], dtype=object))

    # of the cohort that came wrong nobody else has the name, but all others do
    elsewhere = text_form("room", served, again, [], ["A", "B"])

    assert [f.kind for f in (merged, renamed, elsewhere) if f] == [
        "category merge",
        "category rename",
        "category merge",
    ]


def test_levels_exchanged_among_all_who_are_touched_are_renamed_whatever_others_are_called() -> None:
    again = np.array(RANDOM.choice(["red", "white"], 60), dtype=object)
    served = np.array([{"red": "white", "white": "red"}[v] for v in again], dtype=object)
    form = text_form("colour", served, again, [], ["red", "white", "rose"])

    assert form is not None
    assert form.kind == "category rename"
    assert back(form, "colour", "text", served) == again.tolist()


def test_an_empty_text_stands_in_for_levels_and_is_none_cut_short() -> None:
    again = np.array(["F", "S", "N"] * 10, dtype=object)
    nothing = text_form("shift", np.array([""] * 30, dtype=object), again)
    first = text_form("shift", np.array(["e"] * 6 + ["l"] * 4, dtype=object), np.array(["early"] * 6 + ["late"] * 4))

    assert [(f.kind, dict(f.parameters)) for f in (nothing, first) if f] == [
        ("sentinel fill", {"value": "", "levels": [""]}),
        ("precision loss", {"length": 1}),
    ]


def test_codes_that_are_numbers_are_told_as_dealt_anew_by_what_each_has_become() -> None:
    codes = RANDOM.choice([1.0, 2.0, 3.0, 9.0], 80)
    dealt = number_form("oil", np.array([{1.0: 2.0, 2.0: 9.0, 3.0: 1.0, 9.0: 3.0}[c] for c in codes]), codes, NO_REST)
    merged = number_form("oil", np.array([{1.0: 2.0, 2.0: 9.0, 3.0: 2.0, 9.0: 3.0}[c] for c in codes]), codes, NO_REST)

    assert dealt is not None
    assert merged is not None
    assert (dealt.kind, dealt.parameters["levels"]) == ("category rename", {1.0: 2.0, 2.0: 9.0, 3.0: 1.0, 9.0: 3.0})
    assert back(dealt, "oil", "number", np.array([2.0, 9.0, 1.0, 3.0])) == [1.0, 2.0, 3.0, 9.0]
    assert merged.kind == "category merge"


def test_few_values_that_fall_with_what_they_were_are_a_scale_and_no_codes() -> None:
    days = RANDOM.integers(1, 8, 200).astype(float)
    form = number_form("days", 12 / days, days, NO_REST)

    assert form is not None
    assert (form.kind, form.parameters) == ("upstream change", {"way": "falls"})


def test_days_read_as_months_are_told_as_exchanged() -> None:
    times = np.array([datetime(2024, 1 + n % 12, 1 + n % 11, 7) for n in range(120)], dtype=object)
    times = np.array([t for t in times if t.day != t.month], dtype=object)
    form = time_form("at", np.array([t.replace(day=t.month, month=t.day) for t in times], dtype=object), times)

    assert form is not None
    assert (form.kind, form.says) == ("upstream change", "day and month of at are exchanged")


def test_times_of_another_zone_are_told_from_a_clock_that_is_wrong() -> None:
    times = np.array([datetime(2024, 1, 1) + timedelta(minutes=37 * n) for n in range(50)], dtype=object)

    zone = time_form("at", times + timedelta(hours=-5), times)
    clock = time_form("at", times + timedelta(seconds=417), times)
    assert zone is not None
    assert clock is not None
    assert (zone.kind, zone.parameters["shift_s"]) == ("time zone", -18_000)
    assert (clock.kind, clock.parameters["shift_s"]) == ("clock skew", 417)


def test_a_cap_on_a_few_of_many_is_a_cap_and_a_code_on_them_is_a_code() -> None:
    random = np.random.default_rng(3)
    again, rest = random.uniform(0, 100, 400), random.uniform(0, 100, 9000)
    high = again[again > 60]
    capped = number_form("jam", np.full(len(high), 60.0), high, rest)
    coded = number_form("jam", np.full(400, -1.0), again, rest)
    few = number_form("jam", np.full(6, 2.0), np.array([3.0, 9, 22, 41, 55, 70]), rest)

    assert [f.kind for f in (capped, coded, few) if f] == ["clipped", "sentinel fill", "sentinel fill"]


def test_a_lost_decimal_mark_shows_only_in_numbers_that_had_one() -> None:
    lost = Form("decimal comma", "x has lost its decimal mark", None, {"factor": 100.0})
    with Engine() as engine:
        shown = engine.rows(f"select x from (values (2.0), (2.5), (-0.25), (0.0)) a(x) where {_can_show('x', lost)}")

    assert sorted(x for (x,) in shown) == [-0.25, 2.5]


def test_what_all_of_a_cohort_is_has_stopped_though_it_lies_beyond_all_that_the_cohort_had() -> None:
    again = np.arange(200.0, 900)
    others = np.arange(1000.0, 1500)
    served = np.full(len(again), 1274.0)

    assert getattr(number_form("made", served, again, others, beside=NO_REST), "kind", None) == "frozen column"
    assert getattr(number_form("made", served, again, others, beside=others), "kind", None) == "clipped"
