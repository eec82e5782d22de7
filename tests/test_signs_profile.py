"""Every column's statistics, against what numpy and Python say of the same values."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.ground.errors import SourceError
from underhood.signs import profile as profiling
from underhood.signs.patterns import shape, shape_sql
from underhood.signs.profile import Column, Profile, merged, profile_json, profile_table
from underhood.signs.statistics import bars, names_rows
from underhood.signs.units import unit_of
from underhood.tables.frames import open_table
from underhood.tables.local import Engine

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def profiled(**columns: Any) -> Profile:
    with Engine(threads=1) as engine:
        return profile_table(engine, open_table(engine, pa.table(columns), "t"))


def column(values: Any) -> Column:
    return profiled(x=values).columns["x"]


# --- one column ---


def test_a_column_of_numbers_is_described_as_numpy_describes_it() -> None:
    values = np.random.default_rng(1).lognormal(3, 1, 5000)

    found = column(values)

    assert found.distinct == len(np.unique(values))
    assert found.is_exact
    assert (found.least, found.most) == (values.min(), values.max())
    assert math.isclose(found.mean or 0, values.mean(), rel_tol=1e-12)
    assert math.isclose(found.sd or 0, values.std(ddof=1), rel_tol=1e-9)
    assert [found.quantiles[q] for q in (0.25, 0.5, 0.99)] == [
        np.quantile(values, q, method="inverted_cdf") for q in (0.25, 0.5, 0.99)
    ]


def test_all_values_are_counted_when_they_are_few() -> None:
    found = column([3, 1, 3, None, 2, 3, 1])

    assert found.top == ((3, 3), (1, 2), (2, 1))
    assert found.has_all
    assert (found.rows, found.nulls, found.distinct) == (7, 1, 3)


def test_one_value_far_away_blinds_no_bin() -> None:
    found = column(np.append(np.random.default_rng(1).normal(0, 1, 5000), 1e12))

    assert found.histogram is not None
    assert max(found.histogram.counts) < 100
    heights, low, high = bars(found, 20)
    assert -10 < low < high < 10
    assert sum(heights) == 5001


def test_a_histogram_counts_every_finite_value_once() -> None:
    found = column([1.0, math.nan, math.inf, -math.inf, 2.0, None, 2.0])

    assert found.histogram is not None
    assert found.histogram.total == found.filled == 3
    assert (found.nulls, found.not_finite) == (1, 3)
    assert (found.least, found.most) == (1.0, 2.0)


def test_numbers_whose_square_overflows_do_not_stop_the_profile() -> None:
    found = column([1e308, -1e308, 1.0, 2.0])

    assert (found.least, found.most) == (-1e308, 1e308)
    assert found.mean == 1.5


def test_whole_numbers_beyond_floats_stay_exact() -> None:
    found = column([2**53 + 1, 2**53 + 2, 2**53 + 3])

    assert found.most == 2**53 + 3
    assert found.distinct == 3


def test_times_are_utc_and_infinite_ones_are_left_out() -> None:
    with Engine(threads=1) as engine:
        engine.view(
            "t",
            "select * from (values (timestamptz '2024-03-31 03:30:00+02:00'), ('infinity'), (null), "
            "('2024-03-31 00:30:00+00:00')) v(x)",
        )
        found = profile_table(engine, profiling_table(engine)).columns["x"]

    assert (found.least, found.most) == (datetime(2024, 3, 31, 0, 30), datetime(2024, 3, 31, 1, 30))
    assert (found.nulls, found.not_finite) == (1, 1)


def test_a_date_beyond_what_python_knows_is_told_as_text() -> None:
    with Engine(threads=1) as engine:
        engine.view("t", "select unnest([date '2024-01-01', date '30000-01-01']) as x")
        found = profile_table(engine, profiling_table(engine)).columns["x"]

    assert (found.least, found.most) == (datetime(2024, 1, 1), "+30000")


def profiling_table(engine: Engine) -> Any:
    from underhood.tables.frames import described

    return described(engine, "t")


def test_flags_count_true_as_one() -> None:
    found = column([True, False, True, True, None])

    assert (found.kind, found.mean, found.distinct, found.least) == ("flag", 0.75, 2, False)


def test_texts_have_lengths_and_shapes() -> None:
    found = column(["AB-1024", "CD-7", "Ärger", ""])

    assert (found.shortest, found.longest) == (0, 7)
    assert dict(found.patterns) == {"A-9999": 1, "A-9": 1, "Aa": 1, "": 1}


def test_a_cell_of_ten_megabytes_is_measured_and_cut() -> None:
    found = column(["x" * 10_000_000, "y"])

    assert found.longest == 10_000_000
    assert len(found.least) <= 300


@pytest.mark.parametrize("values", [pa.array([], pa.int64()), pa.array([None, None], pa.float64()), pa.array([None])])
def test_a_column_without_values_is_described_without_any(values: Any) -> None:
    found = column(values)

    assert (found.distinct, found.filled, found.least, found.histogram, found.top) == (0, 0, None, None, ())


def test_lists_are_counted_and_never_looked_into() -> None:
    found = column([[1, 2], None, [3]])

    assert (found.kind, found.nulls, found.distinct) == ("other", 1, 0)


def test_a_table_without_rows_has_a_profile() -> None:
    assert profiled(a=pa.array([], pa.string()), b=pa.array([], pa.timestamp("us"))).rows == 0


@pytest.mark.slow
def test_a_thousand_columns_are_described_in_portions() -> None:
    found = profiled(**{f"c{n}": [n, n + 1] for n in range(1000)})

    assert [c.least for c in found.columns.values()] == list(range(1000))


def test_column_names_may_be_anything() -> None:
    names = ['a "b"', "select", "é", "x.y", "__picked", " "]

    assert list(profiled(**{n: [1, 2] for n in names}).columns) == names


def test_columns_that_name_the_rows_are_told() -> None:
    found = profiled(id=[1, 2, 3], measured=[0.1, 0.2, 0.3], code=["a", "b", None], day=["x", "y", "z"])

    assert names_rows(found) == ("id", "day")


# --- larger tables, of which some rows are drawn ---


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "SMALL", 1000)
    monkeypatch.setattr(profiling, "PICKED", 2000)
    monkeypatch.setattr(profiling, "OFTEN", 20)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("kind", ["normal", "lognormal", "two_far_apart", "many_zeros", "whole", "heavy_tail"])
def test_counts_of_a_larger_table_are_of_all_rows(kind: str) -> None:
    random = np.random.default_rng(3)
    values = {
        "normal": lambda: random.normal(5, 2, 30_000),
        "lognormal": lambda: random.lognormal(0, 3, 30_000),
        "two_far_apart": lambda: np.concatenate([random.normal(0, 1, 15_000), random.normal(1e9, 1, 15_000)]),
        "many_zeros": lambda: np.where(random.random(30_000) < 0.6, 0.0, random.lognormal(0, 1, 30_000)),
        "whole": lambda: random.integers(-5000, 5000, 30_000),
        "heavy_tail": lambda: random.standard_cauchy(30_000),
    }[kind]()

    found = column(values)

    assert found.histogram is not None
    assert found.histogram.total == 30_000
    assert (found.least, found.most) == (values.min(), values.max())
    below = found.histogram.below(found.histogram.edges)
    true = np.searchsorted(np.sort(values), found.histogram.edges, side="right")
    assert np.abs(below - true).max() <= 1 + 0.001 * 30_000
    for share, place in found.quantiles.items():
        rank = (np.mean(values < place), np.mean(values <= place))
        assert rank[0] - 0.02 <= share <= rank[1] + 0.02
    assert abs(found.distinct / len(np.unique(values)) - 1) < 0.1
    if kind == "many_zeros":
        assert found.top[0] == (0.0, int((values == 0).sum()))
        assert found.quantiles[0.5] == 0.0


@pytest.mark.usefixtures("drawn")
def test_frequent_texts_of_a_larger_table_are_counted_in_all_rows() -> None:
    random = np.random.default_rng(3)
    texts = [f"user {n}" for n in random.integers(0, 20_000, 30_000)]
    texts[:900] = ["unknown"] * 900

    found = column(texts)

    assert found.top == (("unknown", 900),)
    assert not found.has_all


@pytest.mark.usefixtures("drawn")
def test_the_same_table_always_has_the_same_profile() -> None:
    values = np.random.default_rng(3).normal(0, 1, 30_000)

    assert profile_json(profiled(x=values)) == profile_json(profiled(x=values))


# --- two parts make a whole ---


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.lists(st.integers(-50, 50) | st.none(), max_size=60),
    st.lists(st.integers(-50, 50) | st.none(), max_size=60),
)
def test_merged_counts_of_few_values_are_those_of_the_whole(one: list[int | None], other: list[int | None]) -> None:
    parts = [profiled(x=pa.array(values, pa.int64())) for values in (one, other)]
    whole = profiled(x=pa.array([*one, *other], pa.int64())).columns["x"]

    found = merged(*parts).columns["x"]

    assert (found.rows, found.nulls, found.distinct, found.top) == (whole.rows, whole.nulls, whole.distinct, whole.top)
    assert (found.least, found.most, found.quantiles) == (whole.least, whole.most, whole.quantiles)
    assert found.mean == pytest.approx(whole.mean)
    assert found.sd == pytest.approx(whole.sd, abs=1e-9)


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([0.1, 1.0, 30.0]), st.sampled_from([0.0, 5.0, 1e6]))
def test_merged_shares_are_those_of_the_whole_within_a_bin_of_each(seed: int, width: float, apart: float) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(0, 1, 3000), random.normal(apart, width, 2000)
    whole = np.sort(np.concatenate([one, other]))

    found = merged(profiled(x=one), profiled(x=other)).columns["x"]

    assert found.histogram is not None
    assert found.histogram.total == 5000
    places = np.quantile(whole, np.linspace(0, 1, 200))
    error = np.abs(found.histogram.below(places) - np.searchsorted(whole, places, side="right")).max()
    assert error / 5000 <= 3 / 256
    assert abs(found.distinct / 5000 - 1) < 0.12
    assert found.mean == pytest.approx(whole.mean())
    assert found.sd == pytest.approx(whole.std(ddof=1))


def test_a_top_value_is_told_only_with_a_count_that_is_known_in_both() -> None:
    random = np.random.default_rng(1)
    one = [*[f"a{n}" for n in range(2000)], *["both"] * 300, *["only here"] * 200]
    other = [*[f"a{n}" for n in random.integers(0, 9000, 2000)], *["both"] * 100]

    found = merged(profiled(x=one), profiled(x=other)).columns["x"]

    assert found.top[0] == ("both", 400)
    counts = Counter([*one, *other])
    assert all(counts[value] == n for value, n in found.top)


def test_a_column_that_one_part_lacks_is_null_there() -> None:
    found = merged(profiled(a=[1, 2]), profiled(b=[3.0])).columns

    assert [(c.name, c.rows, c.nulls) for c in found.values()] == [("a", 3, 1), ("b", 3, 2)]


def test_parts_of_two_kinds_are_not_merged() -> None:
    with pytest.raises(SourceError, match="is number in one and text in the other"):
        merged(profiled(a=[1, 2]), profiled(a=["x"]))


def test_merged_times_stay_times() -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=n) for n in range(3000)]

    found = merged(profiled(x=days[:1500]), profiled(x=days[1500:])).columns["x"]

    assert (found.least, found.most) == (days[0], days[-1])
    assert abs(found.quantiles[0.5] - days[1500]) < timedelta(days=30)


# --- shapes and units ---


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.text(st.sampled_from("aZz09é -/.Ä\n'"), max_size=60), min_size=1, max_size=8))
def test_a_shape_is_the_same_in_sql_and_in_python(texts: list[str]) -> None:
    with Engine(threads=1) as engine:
        engine.register("t", pa.table({"x": texts}))

        assert [row[0] for row in engine.rows(f"select {shape_sql('x')} from t")] == [shape(text) for text in texts]


@pytest.mark.parametrize(
    ("name", "least", "most", "is_whole", "unit"),
    [
        ("delay_minutes", 0, 500, True, "min"),
        ("days_in_waiting_list", 0, 391, True, "days"),
        ("weightKg", 1.5, 90.2, False, "kg"),
        ("arrival_year", 2015, 2017, True, "calendar year"),
        ("hour", 0, 23, True, "calendar"),
        ("day_of_month", 1, 31, True, ""),
        ("stays_in_week_nights", 0, 50, True, ""),
        ("click_rate", 0, 0.9, False, "share 0–1"),
        ("created", 1_500_000_000, 1_600_000_000, True, "s since 1970"),
        ("amount", 0, 9, False, ""),
    ],
)
def test_a_unit_is_guessed_with_its_reason_or_not_at_all(
    name: str, least: float, most: float, is_whole: bool, unit: str
) -> None:
    found, why = unit_of(name, least, most, is_whole)

    assert found == unit
    assert bool(why) == bool(unit)


# --- real data ---


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")
@pytest.mark.slow
def test_real_tables_are_described_as_duckdb_counts_them() -> None:
    with Engine() as engine:
        for path in [*DATA.glob("*/*.parquet"), *DATA.glob("*/*.csv")]:
            table = open_table(engine, path)
            found = profile_table(engine, table)
            for name, each in found.columns.items():
                quoted = '"' + name.replace('"', '""') + '"'
                n, distinct = engine.rows(f'select count({quoted}), count(distinct {quoted}) from "{table.name}"')[0]
                assert each.rows - each.nulls == n
                assert each.distinct == distinct or (not each.is_exact and abs(each.distinct / distinct - 1) < 0.1)
                assert each.histogram is None or each.histogram.total == each.filled
