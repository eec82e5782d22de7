"""Bins are cut once and laid over anything; counts over them are sums."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.moves.bins import (
    BINS,
    FREE,
    LEVELS,
    chi2_tail,
    code_sql,
    coded,
    count,
    cut,
    distance,
    merged,
    sampled,
    shares_p,
)
from underhood.plan.operations import NUMBER, TEXT
from underhood.tables.frames import described
from underhood.tables.local import Engine

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@pytest.fixture(scope="module")
def engine():
    with Engine() as made:
        yield made


def named(engine, name, values):
    engine.register(name, pa.table({"x": pa.array(values, from_pandas=True)}))
    return described(engine, name)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(finite, min_size=1, max_size=60), st.lists(finite, min_size=1, max_size=60))
def test_the_engine_counts_as_numpy_does_to_the_last_bit(one, other):
    with Engine() as engine:
        bins = cut("x", NUMBER, np.array(one), np.array(other))
        counts = count(engine, named(engine, "t", np.array(other)), [bins])["x"]

        by_hand = np.bincount(coded(bins, np.array(other)), minlength=len(bins.edges) + 1)
        assert {k: int(n) for k, n in enumerate(by_hand) if n} == counts.bins
        codes = engine.rows(f"select {code_sql(bins)}, count(*) from t group by 1")
        assert dict(codes) == counts.bins


def test_counts_of_parts_merge_to_the_counts_of_the_whole(engine):
    values = np.random.default_rng(1).lognormal(0, 2, 5000)
    values[::7] = np.nan
    values[::11] = 0
    whole, first, rest = (named(engine, n, v) for n, v in (("w", values), ("a", values[:1234]), ("b", values[1234:])))
    bins = cut("x", NUMBER, values, values)

    parts = [count(engine, table, [bins])["x"] for table in (first, rest)]

    assert merged(*parts) == count(engine, whole, [bins])["x"]


def test_a_bin_is_one_byte_however_the_values_lie():
    random = np.random.default_rng(2)
    for values in (random.normal(0, 1, 50_000), random.integers(0, 300, 50_000), np.zeros(10), np.array([])):
        assert len(cut("x", NUMBER, np.asarray(values, float), np.asarray(values, float)).edges) < 255


def test_a_heavy_value_has_a_bin_of_its_own(engine):
    values = np.random.default_rng(3).normal(50, 10, 10_000)
    values[:300] = 47.25
    bins = cut("x", NUMBER, values, values)

    counts = count(engine, named(engine, "t", values), [bins])["x"]

    assert 47.25 in bins.alone
    assert counts.bins[bins.edges.index(47.25)] == 300


def test_nan_infinity_and_null_are_missing(engine):
    engine.view("odd", "select unnest([1.0, 2.0, 'nan'::double, 'inf'::double, '-inf'::double, null]) as x")
    table = described(engine, "odd")
    values = sampled(engine, table, ["x"])["x"]

    counts = count(engine, table, [cut("x", NUMBER, values, values)])["x"]

    assert (counts.rows, counts.missing, sum(counts.bins.values())) == (6, 4, 2)


def test_few_texts_are_levels_and_ids_are_free():
    few = np.array(["a", "b", None] * 50, object)
    ids = np.array([f"id {n}" for n in range(150)], object)

    assert [cut("x", TEXT, side, side).how for side in (few, ids)] == [LEVELS, FREE]
    assert cut("x", NUMBER, np.arange(3.0), np.arange(3.0)).how == BINS


def test_one_absurd_value_moves_no_edge_by_more_than_its_rank():
    values = np.random.default_rng(4).normal(0, 1, 10_000)
    absurd = values.copy()
    absurd[5] = 1e12

    clean, spoilt = (np.array(cut("x", NUMBER, each, each).edges) for each in (values, absurd))

    assert len(clean) == len(spoilt)
    assert np.max(np.abs(clean - spoilt)) < 0.02


def test_a_sample_is_the_same_each_time_and_has_all_rows_of_a_small_table(engine):
    engine.view("long", "select i as x from range(300000) r(i)")
    long, short = described(engine, "long"), named(engine, "short", np.arange(500))

    first, again = (sampled(engine, long, ["x"])["x"] for _ in range(2))

    assert np.array_equal(first, again)
    assert 25_000 < len(first) < 45_000
    assert len(sampled(engine, short, ["x"])["x"]) == 500


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 31, 64])
@pytest.mark.parametrize("statistic", [0.1, 3.0, 20.0, 100.0, 2000.0])
def test_the_tail_of_chi_squared_is_the_one_of_the_books(freedom, statistic):
    from scipy.stats import chi2

    if statistic < 1400:
        assert chi2_tail(statistic, freedom) == pytest.approx(chi2.sf(statistic, freedom), rel=1e-9, abs=1e-300)
    else:
        assert chi2_tail(statistic, freedom) < 1e-90


@settings(max_examples=60)
@given(st.dictionaries(st.integers(0, 30), st.integers(1, 10_000), min_size=1))
def test_a_distance_to_oneself_is_nothing_and_distances_stay_in_bounds(counts):
    same = distance(counts, counts)
    far = distance(counts, {k + 100: n for k, n in counts.items()})

    assert (same.apart, same.effect) == (0.0, 0.0)
    assert same.p == pytest.approx(1.0)
    assert far.apart == pytest.approx(1.0)
    assert 0 <= far.p <= 1


def test_the_p_of_two_draws_is_spread_evenly():
    random = np.random.default_rng(5)
    shares = np.full(20, 0.05)
    found = [
        distance(*(dict(enumerate(random.multinomial(2000, shares).tolist())) for _ in range(2))).p for _ in range(400)
    ]

    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_two_shares_are_told_apart_only_when_they_are():
    assert shares_p(50, 1000, 55, 1000) > 0.1
    assert shares_p(50, 1000, 150, 1000) < 1e-9
    assert shares_p(0, 0, 3, 10) == 1.0
    assert math.isfinite(shares_p(10, 10, 10, 10))
