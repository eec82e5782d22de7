"""Each kind of change is planted in one table of two draws of the same population, and must be named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from underhood.ground.errors import SourceError
from underhood.ground.findings import Finding
from underhood.moves.compare import compare, compare_parts, compare_periods
from underhood.moves.moves import ALPHA, KINDS
from underhood.moves.shifts import grain
from underhood.moves.versions import version_findings
from underhood.tables.frames import described, open_table
from underhood.tables.local import Engine

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
N = 20_000

needs_data = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")


@pytest.fixture
def engine():
    with Engine() as made:
        yield made


def drawn(seed, n=N):
    """One draw: amounts, whole numbers, a rounded price, an hour, levels, a flag, codes, a value tied to another."""
    random = np.random.default_rng(seed)
    amount = random.lognormal(3, 1, n)
    hours = 10 + 8 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    return {
        "amount": amount,
        "debt": amount * random.lognormal(0, 0.3, n),
        "age": np.round(random.normal(40, 12, n)),
        "price": np.round(random.gamma(2, 30, n), 2),
        "warmth": random.normal(60, 15, n),
        "visits": random.poisson(140, n).astype(float),
        "hour": random.choice(24, n, p=hours / hours.sum()).astype(float),
        "partner": random.choice(["north", "south", "east", "west"], n, p=[0.4, 0.3, 0.2, 0.1]).astype(object),
        "product": np.array([f"P{k}" for k in range(8)], object)[random.choice(8, n, p=np.arange(8, 0, -1) / 36)],
        "is_new": random.random(n) < 0.3,
        "code": np.array([f"{a:03}-{b:05}" for a, b in random.integers(0, 99_999, (n, 2)) % (1000, 100_000)], object),
    }


def named(engine, name, columns):
    engine.register(name, pa.table({c: pa.array(list(v), from_pandas=True) for c, v in columns.items()}))
    return described(engine, name)


def compared(engine, change=lambda columns, random: None, n=N, seeds=(1, 2)):
    """Two draws, the second one changed."""
    one, other = drawn(seeds[0], n), drawn(seeds[1], n)
    change(other, np.random.default_rng(99))
    return compare(engine, named(engine, "one", one), named(engine, "other", other))


def told(comparison):
    return [(m.kind, m.columns) for m in comparison.moves]


def only(comparison):
    assert len(comparison.moves) == 1, [m.says for m in comparison.moves]
    return comparison.moves[0]


# --- silence ---


@pytest.mark.slow
def test_identical_tables_have_no_moves(engine):
    comparison = compared(engine, seeds=(1, 1))

    assert comparison.moves == ()
    assert comparison.quiet == tuple(drawn(1, 5))
    assert comparison.findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 20_000])
def test_two_draws_of_one_population_are_silent(engine, n):
    assert told(compared(engine, n=n, seeds=(3, 4))) == []


@pytest.mark.slow
def test_two_draws_are_reported_no_more_often_than_was_promised(engine):
    n_pairs = 100
    n_told = sum(bool(compared(engine, n=2_000, seeds=(k, 10_000 + k)).moves) for k in range(n_pairs))

    assert n_told <= max(3, 3 * ALPHA * n_pairs), f"{n_told} of {n_pairs}"


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    "path",
    [
        "adult/adult.data.csv",
        "bike_sharing/hour.csv",
        "german_credit/german.csv",
        "hotel_bookings/hotel_bookings.parquet",
        "oulad/studentInfo.parquet",
        "wildlife_strikes/birds.parquet",
        "wine_quality/winequality-white.csv",
        "nycflights13_weather_versions/weather_v1.0.2.parquet",
    ],
)
def test_random_halves_of_a_real_table_are_silent(engine, path):
    source = open_table(engine, SHARED / path, "source")
    listed = ", ".join(f'"{c}"' for c in source.columns)
    told_at = []
    for seed in range(5):
        half = f"hash({listed}, row_number() over (), {seed}) % 2"
        engine.run(f"create or replace temp table numbered as select *, {half} as __half from source")
        for half in (0, 1):
            engine.view(f"half {half}", f"select * exclude (__half) from numbered where __half = {half}")
        comparison = compare(engine, described(engine, "half 0"), described(engine, "half 1"))
        told_at += [(seed, m.says) for m in comparison.moves]

    assert told_at == []


# --- one column ---


def test_a_factor_is_named_with_its_unit(engine):
    def cents(columns, random):
        columns["price"] *= 100

    move = only(compared(engine, cents))

    assert (move.kind, move.columns, move.amount["factor"]) == ("factor", ("price",), 100.0)
    assert "× 100" in move.says or "multiplied by 100" in move.says


@pytest.mark.slow
def test_a_shift_is_estimated(engine):
    def warmer(columns, random):
        columns["warmth"] += 4.0

    move = only(compared(engine, warmer))

    assert (move.kind, move.columns) == ("shift", ("warmth",))
    assert move.amount["shift"] == pytest.approx(4.0, abs=0.5)


def test_fahrenheit_that_became_celsius_is_named(engine):
    def celsius(columns, random):
        columns["warmth"] = (columns["warmth"] - 32) / 1.8

    move = only(compared(engine, celsius))

    assert (move.kind, move.amount["meaning"]) == ("unit", "°F to °C")


def test_a_lost_sign_is_named(engine):
    def positive(columns, random):
        columns["price"] = -columns["price"]

    assert told(compared(engine, positive)) == [("sign", ("price",))]


@pytest.mark.parametrize(("value", "share"), [(-999.0, 0.35), (0.0, 0.02), (45.0, 0.3)])
def test_one_exact_value_that_appeared_is_named(engine, value, share):
    def default(columns, random):
        columns["amount"][random.random(N) < share] = value

    move = only(compared(engine, default))

    assert (move.kind, move.columns, move.amount["value"]) == ("value", ("amount",), value)
    assert move.share == pytest.approx(share, abs=0.01)
    assert move.rows == engine.rows(f"select count(*) from other where {move.where}")[0][0]


def test_missing_values_that_grew_are_told_with_both_shares(engine):
    def lost(columns, random):
        columns["warmth"][random.random(N) < 0.1] = np.nan

    move = only(compared(engine, lost))

    assert (move.kind, move.amount["before"]) == ("missing", 0.0)
    assert move.amount["now"] == pytest.approx(0.1, abs=0.01)


def test_missing_values_written_as_zero_are_told_as_filled(engine):
    one, other = drawn(1), drawn(2)
    for columns in (one, other):
        columns["amount"][np.random.default_rng(5).random(N) < 0.12] = np.nan
    other["amount"][np.isnan(other["amount"])] = 0.0

    move = only(compare(engine, named(engine, "one", one), named(engine, "other", other)))

    assert (move.kind, move.amount["value"]) == ("filled", 0.0)
    assert KINDS[move.kind][0] == "missing_disguised"


def test_lost_digits_are_told_as_rounding(engine):
    def whole(columns, random):
        columns["price"] = np.round(columns["price"])

    move = only(compared(engine, whole))

    assert (move.kind, move.amount["step"], move.amount["before"]) == ("rounded", 1.0, 0.01)


def test_a_limit_is_told_as_clipping(engine):
    def capped(columns, random):
        columns["price"] = np.minimum(columns["price"], 120)

    move = only(compared(engine, capped))

    assert (move.kind, move.amount["limit"], move.amount["side"]) == ("clipped", 120.0, "above")


def test_an_hour_in_another_zone_is_told_as_a_turned_clock(engine):
    def zone(columns, random):
        columns["hour"] = (columns["hour"] - 5) % 24

    move = only(compared(engine, zone))

    assert (move.kind, move.amount["shift"], move.amount["modulo"]) == ("clock", -5.0, 24.0)


def test_growth_of_counts_is_drift_and_not_a_unit(engine):
    def growth(columns, random):
        columns["visits"] = random.poisson(140 * 1.6, N).astype(float)

    move = only(compared(engine, growth))

    assert (move.kind, move.columns) == ("drift", ("visits",))
    assert move.amount["factor"] == pytest.approx(1.6, abs=0.03)
    assert "drifted" in move.says


def test_a_smooth_change_of_shape_is_drift(engine):
    def wider(columns, random):
        columns["warmth"] = 60 + (columns["warmth"] - 60) * 1.4

    assert told(compared(engine, wider)) == [("drift", ("warmth",))]


# --- levels ---


def test_a_renamed_level_is_mapped_to_the_old_one(engine):
    def renamed(columns, random):
        columns["product"][columns["product"] == "P1"] = "Alpha"

    move = only(compared(engine, renamed))

    assert (move.kind, move.amount["levels"]) == ("renamed", {"P1": "Alpha"})


def test_another_spelling_of_a_part_of_the_rows_is_a_variant(engine):
    def lower(columns, random):
        some = random.random(N) < 0.2
        columns["product"][some] = [f" {v.lower()}" for v in columns["product"][some]]

    move = only(compared(engine, lower))

    assert move.kind == "variant"
    assert move.amount["levels"]["P1"] == " p1"
    assert move.share == pytest.approx(0.2, abs=0.02)


def test_a_new_level_beside_the_old_ones_is_new(engine):
    def launched(columns, random):
        columns["product"][random.random(N) < 0.03] = "P-new"

    move = only(compared(engine, launched))

    assert (move.kind, list(move.amount["levels"])) == ("new_level", ["P-new"])


def test_a_level_that_is_gone_is_told_with_its_former_share(engine):
    def without_south(columns, random):
        kept = columns["partner"] != "south"
        for name in columns:
            columns[name] = columns[name][kept]

    move = only(compared(engine, without_south))

    assert (move.kind, list(move.amount["levels"])) == ("vanished_level", ["south"])
    assert move.share == pytest.approx(0.3, abs=0.02)


def test_codes_in_another_format_are_told_with_an_example(engine):
    def other_format(columns, random):
        columns["code"] = np.array([v.replace("-", "") for v in columns["code"]], object)

    move = only(compared(engine, other_format))

    assert (move.kind, move.columns) == ("format", ("code",))


# --- cohorts and columns together ---


@pytest.mark.slow
@pytest.mark.parametrize("factor", [12.0, 0.01, 1.8])
def test_a_factor_of_one_cohort_names_the_cohort(engine, factor):
    def monthly(columns, random):
        columns["amount"][columns["partner"] == "east"] *= factor

    move = only(compared(engine, monthly))

    assert (move.kind, move.where) == ("factor", "\"partner\" = 'east'")
    assert move.amount["factor"] == pytest.approx(factor, rel=0.05)


def test_values_that_are_missing_in_one_cohort_only_name_it(engine):
    def lost(columns, random):
        columns["amount"][(columns["partner"] == "west") & (random.random(N) < 0.8)] = np.nan

    move = only(compared(engine, lost))

    assert move.kind == "missing"
    assert "\"partner\" = 'west'" in move.where
    assert move.share == pytest.approx(0.8, abs=0.03)


def test_a_rare_code_among_many_frequent_values_is_one_value_and_no_factor(engine):
    def code(columns, random):
        columns["visits"][random.random(N) < 0.02] = 9999

    move = only(compared(engine, code))

    assert (move.kind, move.amount["value"]) == ("value", 9999.0)


def test_a_factor_of_unnamed_rows_is_a_mixture(engine):
    def cents(columns, random):
        columns["price"][random.random(N) < 0.05] *= 100

    move = only(compared(engine, cents))

    assert (move.kind, move.amount["factor"], move.where) == ("factor", 100.0, None)
    assert move.share == pytest.approx(0.05, abs=0.01)


def test_swapped_columns_are_told_as_a_pair(engine):
    def swap(columns, random):
        columns["price"], columns["age"] = columns["age"], columns["price"]

    move = only(compared(engine, swap))

    assert (move.kind, set(move.columns)) == ("swapped", {"price", "age"})


def test_a_column_whose_rows_were_shuffled_no_longer_goes_with_the_others(engine):
    def shuffled(columns, random):
        random.shuffle(columns["debt"])

    move = only(compared(engine, shuffled))

    assert move.kind == "relation"
    assert set(move.columns) == {"amount", "debt"}
    assert move.amount["before"] > 0.9
    assert abs(move.amount["now"]) < 0.05


def test_a_column_under_another_name_is_found_by_its_values(engine):
    def renamed(columns, random):
        columns["cost"] = columns.pop("price")

    comparison = compared(engine, renamed)

    assert (comparison.gained, comparison.lost) == (("cost",), ("price",))
    assert told(comparison) == [("renamed_column", ("cost",))]


def test_rows_that_were_multiplied_are_told(engine):
    def fan_out(columns, random):
        places = np.concatenate([np.arange(N), np.flatnonzero(columns["partner"] == "west")])
        for name in columns:
            columns[name] = columns[name][places]

    moves = compared(engine, fan_out).moves

    assert [m.kind for m in moves if m.severity > 0.5] == ["duplicates"]
    assert moves[0].share == pytest.approx(0.09, abs=0.02)


def test_a_number_that_became_a_text_is_told_with_what_does_not_parse(engine):
    def as_text(columns, random):
        columns["age"] = np.array([f"{v:.0f} years" for v in columns["age"]], object)

    comparison = compared(engine, as_text)

    assert comparison.retyped == (("age", "DOUBLE", "VARCHAR"),)
    assert only(comparison).rows == N


# --- robustness ---


def test_one_absurd_row_in_100000_changes_nothing(engine):
    random = np.random.default_rng(0)
    one, other = random.normal(0, 1, 100_000), random.normal(0.5, 1, 100_000)
    absurd_one, absurd_other = one.copy(), other.copy()
    absurd_one[0] = absurd_other[0] = 1e6

    def moved(a, b):
        comparison = compare(engine, named(engine, "one", {"x": a}), named(engine, "other", {"x": b}))
        move = only(comparison)
        return move.kind, move.amount["shift"], round(move.effect, 3)

    clean = moved(one, other)
    assert clean[0] == "shift"
    assert clean[1] == pytest.approx(0.5, abs=0.02)
    assert moved(one, absurd_other) == clean
    assert moved(absurd_one, other) == clean


def test_a_difference_that_is_sure_but_tiny_is_not_told(engine):
    engine.view("one", "select sin(i * 12.9898) * 43758.5453 % 1.0 as x from range(2000000) r(i)")
    engine.view("other", "select x + case when x > 0.5 then 0.002 else 0 end as x from one")

    assert compare(engine, described(engine, "one"), described(engine, "other")).moves == ()


def test_empty_null_and_odd_tables_are_compared_without_a_crash(engine):
    engine.view("none", "select 1 as a, 'x' as b, null::double as c where false")
    engine.view("one", "select 1 as a, 'x' as b, null::double as c")
    engine.view("odd", "select 'nan'::double as a, '' as b, 'inf'::double as c, [1] as d from range(50)")
    engine.view(
        "strange", 'select i as "a b""c", i % 2 = 0 as "select", date \'2020-01-01\' as "é" from range(99) r(i)'
    )
    tables = [described(engine, name) for name in ("none", "one", "odd", "strange")]

    for one in tables:
        for other in tables:
            comparison = compare(engine, one, other)
            assert comparison.one_rows == one.rows
            if one is other:
                assert comparison.moves == ()


def test_a_column_to_align_by_that_is_not_there_is_an_error_for_both_tables(engine):
    table = named(engine, "one", drawn(1, 50))

    with pytest.raises(SourceError, match="has no column 'amout'") as error:
        compare(engine, table, table, by=["amout"])
    assert "amount" in error.value.hint


# --- versions, periods, lags ---


def test_cells_of_two_versions_are_compared_by_their_key(engine):
    one = {"id": np.arange(500), **drawn(1, 500)}
    other = {name: values.copy() for name, values in one.items()}
    other["price"][17] *= 10
    other["product"][30:40] = [f"{v} " for v in other["product"][30:40]]
    other["amount"][:20] = np.nan

    comparison = compare(engine, named(engine, "one", one), named(engine, "other", other))

    assert (comparison.key, comparison.aligned) == (("id",), 500)
    found = {m.columns[0]: m for m in comparison.moves}
    assert (found["price"].kind, found["price"].amount["factor"]) == ("factor", 10.0)
    assert found["price"].where == '"id" = 17'
    assert found["product"].kind == "variant"
    assert (found["amount"].kind, found["amount"].rows) == ("emptied", 20)


def test_a_late_feed_is_told_with_its_lag(engine):
    random = np.random.default_rng(3)
    values = np.cumsum(random.normal(0, 1, 2000))
    second = np.cumsum(random.normal(0, 1, 2000))
    hours = np.datetime64("2024-01-01", "s") + np.arange(2000) * np.timedelta64(3600, "s")
    one = {"at": hours, "level": values, "other_level": second}
    other = {"at": hours + np.timedelta64(5 * 3600, "s"), "level": values, "other_level": second}
    stale = {"at": hours, "level": np.roll(values, 7), "other_level": second}
    table = named(engine, "one", one)

    late = [m for m in compare(engine, table, named(engine, "late", other)).moves if m.kind == "lag"]
    old = [m for m in compare(engine, table, named(engine, "stale", stale)).moves if m.kind == "lag"]

    assert [(m.columns, m.amount["seconds"]) for m in late] == [(("at",), 5 * 3600)]
    assert [(m.columns, m.amount["steps"]) for m in old] == [(("level",), 7)]


def test_periods_of_one_table_are_compared_and_the_time_itself_is_no_drift(engine):
    columns = drawn(1)
    columns["at"] = np.datetime64("2024-01-01", "s") + np.arange(N) * np.timedelta64(600, "s")
    columns["year_and_day"] = np.floor(np.arange(N) / 144)
    columns["amount"][N // 2 :] *= 100

    comparison = compare_periods(engine, named(engine, "t", columns), "at", str(columns["at"][N // 2]))

    assert [(m.kind, m.columns) for m in comparison.moves if m.severity > 0.2] == [("factor", ("amount",))]
    assert comparison.one_rows == comparison.other_rows == N // 2


def test_a_predicate_parts_a_table(engine):
    columns = drawn(1)
    columns["price"][columns["partner"] == "east"] *= 100

    comparison = compare_parts(engine, named(engine, "t", columns), "partner = 'east'")

    assert ("factor", ("price",)) in told(comparison)
    assert comparison.other_rows == int((columns["partner"] == "east").sum())


@pytest.mark.slow
def test_every_query_and_predicate_of_a_move_runs(engine):
    def much(columns, random):
        columns["price"] *= 100
        columns["amount"][random.random(N) < 0.3] = -1
        columns["warmth"][random.random(N) < 0.1] = np.nan
        columns["product"][columns["product"] == "P1"] = "it's"
        columns["visits"] = random.poisson(250, N).astype(float)
        columns["code"] = np.array([v.replace("-", "") for v in columns["code"]], object)

    comparison = compared(engine, much)

    assert len(comparison.moves) >= 6
    for move in comparison.moves:
        assert engine.rows(move.query), move.says
        if move.where:
            rows = engine.rows(f"select count(*) from other where {move.where}")[0][0]
            assert move.rows in (None, rows), move.says


def test_moves_become_findings_about_the_other_table(engine):
    def cents(columns, random):
        columns["price"] *= 100

    found = compared(engine, cents).findings

    assert [(type(f), f.table, f.columns, f.about, f.also) for f in found] == [
        (Finding, "other", ("price",), "unit_or_scale", ("one",))
    ]
    assert found[0].hint


# --- documented defects ---


def opened(engine, *paths):
    return [open_table(engine, SHARED / path) for path in paths]


def findings_of(engine, *paths):
    return version_findings(engine, opened(engine, *paths))


@needs_data
def test_the_published_hate_crime_table_is_the_odd_one(engine):
    found = findings_of(
        engine,
        "hate_crimes_correction/hate_crimes_corrected_2017-01-24.csv",
        "hate_crimes_correction/hate_crimes_published_2017-01-23.csv",
    )

    by_column = {(f.columns, f.about): f for f in found}
    factor = by_column[("share_voters_voted_trump",), "unit_or_scale"]
    assert factor.table == "hate_crimes_published_2017-01-23"
    assert factor.where == "\"state\" = 'District of Columbia'"
    zeros = by_column[("hate_crimes_per_100k_splc",), "missing_disguised"]
    assert "Hawaii" in zeros.where


@pytest.mark.slow
@needs_data
def test_the_first_weather_version_has_a_turned_clock(engine):
    found = findings_of(
        engine,
        "nycflights13_weather_versions/weather_v0.2.2.parquet",
        "nycflights13_weather_versions/weather_v1.0.2.parquet",
    )

    clock = next(f for f in found if f.about == "timezone_or_clock")
    assert (clock.table, clock.columns) == ("weather_v0.2.2", ("hour",))
    assert "+5" in clock.says


@needs_data
def test_labels_that_end_with_a_full_stop_are_variants(engine):
    found = findings_of(engine, "adult/adult.data.csv", "adult/adult.test.csv")

    assert [(f.table, f.columns, f.about) for f in found] == [("adult.test", ("column14",), "category_variant")]
    assert found[0].rows == 16_281


@pytest.mark.slow
@needs_data
def test_a_class_that_vanished_against_its_source_is_found(engine):
    found = findings_of(engine, "oulad/studentInfo.parquet", "oulad/studentInfo_survivors_only.parquet")

    gone = {f.columns: f for f in found if f.about == "sampling_or_coverage"}
    assert "'Withdrawn'" in gone[("final_result",)].says
    assert gone[("final_result",)].table == "studentInfo_survivors_only"


@pytest.mark.slow
@needs_data
def test_a_logging_policy_with_one_propensity_is_no_sentinel(engine):
    assert findings_of(engine, "open_bandit_men/random.parquet", "open_bandit_men/bts.parquet") == []


@pytest.mark.slow
@needs_data
def test_of_three_versions_the_finished_one_is_trusted(engine):
    folder = "nycflights13_weather_versions/"
    names = ("weather_dev_2018-06-20", "weather_v0.2.2", "weather_v1.0.2")
    found = findings_of(engine, *(f"{folder}{name}.parquet" for name in names))

    assert {f.table for f in found} == {"weather_dev_2018-06-20", "weather_v0.2.2"}


@needs_data
def test_red_and_white_wine_are_two_populations_and_no_versions(engine):
    assert findings_of(engine, "wine_quality/winequality-red.csv", "wine_quality/winequality-white.csv") == []


@needs_data
def test_bikes_grew_by_drift(engine):
    table = open_table(engine, SHARED / "bike_sharing" / "hour.csv")
    comparison = compare_periods(engine, table, "dteday", "2012-01-01")

    assert {m.kind for m in comparison.moves} <= {"drift", "span"}
    grown = next(m for m in comparison.moves if m.columns == ("cnt",))
    assert grown.kind == "drift"
    assert grown.amount["factor"] == pytest.approx(1.7, abs=0.1)


def test_numbers_far_smaller_than_a_step_are_no_multiples_of_it():
    random = np.random.default_rng(3)

    assert grain(random.random(500)) is None
    assert grain(random.integers(0, 5, 500) / 4) == 0.05
    assert grain(random.integers(0, 5, 500).astype(float)) == 1.0
    assert grain(random.integers(0, 5, 500) * 5e6) == 5e6
