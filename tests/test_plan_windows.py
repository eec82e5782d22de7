"""Sums of windows: exact in any order, as near to the true sum as a float can say, null where they cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import fsum, ulp

from hypothesis import given
from hypothesis import strategies as st

from underhood.plan.windows import LARGEST, in_parts, of_parts

NUMBERS = st.floats(-1e15, 1e15).filter(lambda v: v == 0 or abs(v) >= 2**-8)


def total(values: Sequence[float], kind: str = "total") -> float | None:
    counts, wholes, parts = zip(*map(in_parts, values), strict=True)
    return of_parts(kind, sum(counts), sum(wholes), sum(parts))


@given(st.lists(NUMBERS, min_size=1), st.randoms(use_true_random=False))
def test_a_sum_is_the_same_in_any_order_and_within_a_bit_of_the_true_one(values: list[float], random: object) -> None:
    turned = list(values)
    random.shuffle(turned)  # type: ignore[attr-defined]

    made = total(values)

    assert made is not None
    assert made == total(turned)
    assert abs(made - fsum(values)) <= ulp(fsum(values))


@given(st.lists(NUMBERS, min_size=1))
def test_rows_that_leave_a_window_leave_nothing_behind(values: list[float]) -> None:
    counts, wholes, parts = zip(*map(in_parts, [*values, 0.1]), strict=True)
    gone = [sum(each) for each in zip(*map(in_parts, values), strict=True)]

    assert of_parts("total", sum(counts) - gone[0], sum(wholes) - gone[1], sum(parts) - gone[2]) == 0.1


@given(st.floats(-1.0, 1.0))
def test_a_small_value_counts_to_the_sixtieth_binary_place(value: float) -> None:
    made = total([value])

    assert made is not None
    assert abs(Fraction(made) - Fraction(value)) < Fraction(1, 2**60)


@given(st.floats(allow_nan=False).filter(lambda v: abs(v) >= LARGEST))
def test_what_is_too_large_makes_a_sum_null_and_its_leaving_mends_it(value: float) -> None:
    assert total([1.0, value]) is None
    assert total([1.0, value], "mean") is None
    assert (
        of_parts("total", *(one + large - large for one, large in zip(in_parts(1.0), in_parts(value), strict=True)))
        == 1
    )


def test_the_mean_of_no_rows_is_null() -> None:
    assert of_parts("mean", 0, 0, 0) is None
