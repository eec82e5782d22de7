"""A number that comes on another scale is told by the line that leads there; a season, however strong, is not one."""

from __future__ import annotations

import numpy as np
import pytest

from underhood.faults.forms import Form
from underhood.faults.moved_forms import _is_scaled
from underhood.faults.moved_scales import another_scale, is_dealt_anew

RANDOM = np.random.default_rng(11)
PAST = RANDOM.normal(15, 6, 4000)


@pytest.mark.parametrize(("factor", "offset"), [(1.8, 32.0), (73.8, 32.0), (1.0, 273.15)])
def test_a_line_that_leads_out_of_all_that_was_is_told_near_its_factor_and_offset(factor: float, offset: float) -> None:
    form = another_scale("temp", (PAST[-600:], PAST), PAST[:600] * factor + offset, PAST.min(), PAST.max())

    assert form is not None
    assert form.kind == "unit change"
    assert form.parameters["factor"] == pytest.approx(factor, rel=0.3)
    assert form.parameters["offset"] == pytest.approx(offset, abs=0.3 * abs(factor) * 15 + 5)


def test_a_summer_after_a_winter_is_no_other_scale() -> None:
    winter = RANDOM.normal(5, 4, 2000)

    assert another_scale("temp", (winter, PAST), winter + 12, PAST.min(), PAST.max()) is None


def test_what_lies_beyond_but_by_no_line_is_not_told_as_one() -> None:
    crooked = np.where(PAST[:600] > 15, 500.0, 100.0)

    assert another_scale("temp", (PAST[-600:], PAST), crooked, PAST.min(), PAST.max()) is None


def test_another_crowd_altogether_is_no_other_scale_of_this_one() -> None:
    # two in five are of the usual amount, and no line makes many amounts of one
    bills = np.where(RANDOM.random(4000) < 0.4, 40.0, RANDOM.uniform(0, 100, 4000))
    line = Form("unit change", "", None, {"factor": 20.0, "offset": 2000.0})

    assert _is_scaled(line, (bills[-600:], bills), bills[:600] * 20 + 2000)
    assert not _is_scaled(line, (bills[-600:], bills), RANDOM.uniform(2000, 4000, 600))


def test_too_few_rows_are_no_evidence() -> None:
    assert another_scale("temp", (PAST[:20], PAST), PAST[:20] * 100, PAST.min(), PAST.max()) is None


def test_another_scale_keeps_how_a_number_goes_with_the_others_of_its_row_and_other_values_do_not() -> None:
    feels = PAST + RANDOM.normal(0, 3, 4000)
    dealt = RANDOM.uniform(100, 130, 1000)
    before = [PAST[:3000], feels[:3000]]

    assert not is_dealt_anew(before, [PAST[3000:] * 1.8 + 32, feels[3000:]])
    assert is_dealt_anew(before, [dealt, feels[3000:]])
    assert not is_dealt_anew([PAST[:3000], RANDOM.normal(0, 1, 3000)], [dealt, feels[3000:]])
