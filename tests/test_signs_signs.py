"""Each thing planted in a made table is found, by class and by column; made tables that are clean stay quiet."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from tables_made import START, WORDS, findings, moments, orders, people, readings, rng, told

from underhood.signs.signs import table_findings
from underhood.tables.frames import described
from underhood.tables.local import Engine

SERIOUS = 0.7


def planted(columns, column, rows, value):
    """The column with a value in some rows; as objects when the value is a text."""
    is_text = isinstance(value, str) or isinstance(np.asarray(columns[column])[0], str)
    values = np.array(columns[column], dtype=object if is_text else float)
    values[rows] = value
    columns[column] = values
    return columns


# --- numbers ---


@pytest.mark.parametrize("code", [-999.0, 99999.0, -1.0, 9999.9])
def test_a_code_value_far_from_all_measurements_is_a_sentinel(code):
    columns = planted(people(), "weight", np.arange(0, 1200, 40), code)

    assert told(findings(columns), "sentinel", "weight").rows == 30


def test_one_value_tenfold_beyond_all_else_is_absurd():
    columns = planted(people(), "height", [7], 1716.0)

    found = told(findings(columns), "out_of_range", "height")
    assert found.rows == 1
    assert found.severity >= 0.9


def test_the_largest_value_of_a_heavy_tail_is_no_finding():
    columns = orders() | {"claim": np.round(rng(3).pareto(1.2, 1500) * 100, 2)}

    assert told(findings(columns), "out_of_range", "claim") is None


def test_a_single_negative_price_breaks_the_bound_at_zero():
    columns = planted(planted(orders(), "price", np.arange(0, 1500, 15), 0.0), "price", [3], -4.5)

    assert told(findings(columns), "out_of_range", "price").rows == 1


def test_zero_in_a_measure_that_has_nothing_near_zero_stands_for_missing():
    columns = planted(people(), "height", np.arange(0, 1200, 30), 0.0)

    assert told(findings(columns), "missing_disguised", "height").rows == 40


def test_zero_in_a_count_is_a_count():
    columns = orders() | {"returns": rng(1).poisson(2, 1500)}

    assert [f for f in findings(columns) if "returns" in f.columns] == []


def test_many_rows_at_the_largest_value_are_a_cap():
    columns = people()
    columns["income"] = np.minimum(columns["income"], 60_000)

    assert told(findings(columns), "rounding_or_topcode", "income") is not None


def test_an_entry_and_its_exact_opposite_are_a_reversal():
    columns = orders() | {"change": np.round(rng(2).normal(0, 20, 1500), 1)}
    columns = planted(planted(columns, "change", [10], 61_234.0), "change", [14], -61_234.0)

    found = told(findings(columns), "out_of_range", "change")
    assert found.rows == 2


def test_percentages_above_a_hundred_are_out_of_range():
    columns = people() | {"filled_pct": np.round(rng(5).beta(5, 2, 1200) * 100, 1)}
    columns = planted(columns, "filled_pct", [1, 2, 3], 163.0)

    assert told(findings(columns), "out_of_range", "filled_pct").rows == 3


def test_a_longitude_without_its_minus_sign_is_found_beside_its_latitude():
    random = rng(6)
    lat, lon = random.normal(45, 3, 600).round(4), random.normal(-80, 4, 600).round(4)
    columns = {"site": np.arange(600), "lat": lat, "lon": lon}
    columns["lon"][[5, 9]] *= -1

    assert told(findings(columns), "out_of_range", "lon").rows == 2


def test_a_place_overseas_is_no_lost_sign():
    random = rng(6)
    lat, lon = random.normal(40, 3, 600).round(4), random.normal(-95, 4, 600).round(4)
    lat[4], lon[4] = 13.5, 144.8

    assert told(findings({"site": np.arange(600), "lat": lat, "lon": lon}), "out_of_range", "lon") is None


def test_reversals_marked_in_a_code_are_told_with_their_amounts():
    columns = orders()
    is_back = rng(9).random(1500) < 0.05
    columns["slip"] = [f"{'R' if b else ''}{k}" for k, b in zip(range(400_000, 401_500), is_back, strict=True)]
    columns["pieces"] = np.where(is_back, -columns["pieces"], columns["pieces"])

    assert told(findings(columns), "out_of_range", "slip", "pieces").rows == is_back.sum()


def test_a_code_beside_grades_is_a_sentinel():
    grades = rng(3).integers(1, 6, 1200)
    grades[::50] = 99

    assert told(findings(people() | {"health": grades}), "sentinel", "health").rows == 24


@pytest.mark.parametrize("factor", [0.01, 2.54, 1000])
def test_a_cluster_in_another_unit_is_told_with_its_factor(factor):
    columns = people()
    columns["height"][::40] *= factor

    assert told(findings(columns), "unit_or_scale", "height").rows == 30


def test_a_decimal_place_lost_against_its_group():
    random = rng(4)
    kind = random.integers(0, 10, 1500)
    columns = orders() | {
        "make": [WORDS[k] for k in kind],
        "cost": np.round(3.0**kind * random.normal(1, 0.05, 1500), 3),
    }
    columns["cost"][[40, 90]] *= 10

    assert told(findings(columns), "unit_or_scale", "cost").rows == 2


def test_two_numbers_in_each_others_column_are_swapped():
    columns = people()
    columns["steps"] = rng(2).normal(7000, 900, 1200).round()
    columns["height"][[5, 6]], columns["steps"][[5, 6]] = columns["steps"][[5, 6]], columns["height"][[5, 6]].copy()

    assert told(findings(columns), "swapped_or_misaligned", "height", "steps").rows == 2


def test_two_texts_in_each_others_column_are_swapped():
    columns = orders()
    columns["town"] = rng(2).choice(np.array(["Rome", "Oslo", "Lima"], dtype=object), 1500)
    columns["wood"] = np.array(columns["wood"], dtype=object)
    columns["wood"][[5, 6]], columns["town"][[5, 6]] = columns["town"][[5, 6]].copy(), columns["wood"][[5, 6]].copy()

    assert told(findings(columns), "swapped_or_misaligned", "wood", "town").rows == 2


def test_a_date_that_stands_for_never():
    columns = orders()
    columns["paid_on"] = [t + timedelta(days=9) for t in columns["placed_at"]]
    for k in range(0, 1500, 100):
        columns["paid_on"][k] = datetime(1900, 1, 1)

    assert told(findings(columns), "sentinel", "paid_on").rows == 15


# --- texts ---


@pytest.mark.parametrize("word", ["?", "N/A", "", " ", "Unknown", "-", "undefined"])
def test_a_word_for_missing_is_told_with_its_rows(word):
    columns = planted(orders(), "wood", np.arange(0, 1500, 25), word)

    assert told(findings(columns), "missing_disguised", "wood").rows == 60


def test_a_fill_that_goes_with_another_columns_value_says_so():
    columns = planted(orders(), "wood", np.arange(0, 1500, 25), "Unknown")
    columns = planted(columns, "price", np.arange(0, 1500, 25), 0.0)

    assert "price is 0" in told(findings(columns), "missing_disguised", "wood").says


@pytest.mark.parametrize("variant", ["Amber", " amber", "amber ", "AMBER", "amber."])
def test_spellings_of_one_category_are_variants(variant):
    columns = planted(orders(), "wood", [2, 30, 400], variant)

    assert told(findings(columns), "category_variant", "wood") is not None


def test_the_one_level_that_is_written_unlike_the_others_is_a_variant():
    columns = people()
    columns["band"] = np.where(columns["band"] == "10-20%", "10-20", columns["band"])

    assert told(findings(columns), "category_variant", "band").where == "\"band\" = '10-20'"


def test_mistyped_levels_are_variants_of_frequent_ones():
    columns = planted(planted(planted(orders(), "wood", [5], "dogwoxd"), "wood", [50], "junpier"), "wood", [70], "hazl")

    assert told(findings(columns), "category_variant", "wood").rows == 3


def test_names_that_are_alike_by_nature_are_not_mistyped():
    random = rng(8)
    towns = [a + b for a in ("north", "south", "marth", "worth") for b in ("ville", "vale", "vile", "dale", "date")]
    columns = orders() | {"town": random.choice(towns, 1500)}

    assert told(findings(columns), "category_variant", "town") is None


def test_numbers_kept_as_text_with_a_blank_among_them():
    columns = orders()
    columns["price"] = [str(p) for p in columns["price"]]
    columns = planted(columns, "price", [1, 2, 3], "twelve")

    assert told(findings(columns), "type_or_format", "price").rows == 3


def test_dates_in_two_formats():
    columns = orders()
    columns["due"] = [f"{t:%Y-%m-%d}" for t in columns.pop("placed_at")]
    columns = planted(columns, "due", [4, 5, 6, 7], "24.12.2024")

    assert told(findings(columns), "type_or_format", "due").rows == 4


def test_a_code_in_another_form_is_told():
    columns = planted(people(), "person_id", [3, 4], "P-123456")

    assert told(findings(columns), "type_or_format", "person_id").rows == 2


def test_texts_cut_at_one_length():
    random = rng(4)
    texts = [" ".join(random.choice(WORDS, random.integers(2, 9))) + str(k) for k in range(1500)]
    columns = orders() | {"remark": [t[:30] for t in texts]}

    assert told(findings(columns), "rounding_or_topcode", "remark") is not None


def test_texts_in_the_wrong_encoding():
    columns = planted(orders(), "wood", [3, 4], "cÃ©dre")

    assert told(findings(columns), "type_or_format", "wood").rows == 2


# --- order in time ---


def test_missing_hours_of_a_series():
    columns = readings()
    kept = np.r_[0:500, 509:1200, 1201:2000]
    columns = {c: np.asarray(v)[kept] for c, v in columns.items()}

    found = told(findings(columns), "missing_period")
    assert found.columns == ()
    assert found.says.startswith("10 of")


def test_missing_days_of_one_group_of_a_panel():
    columns = readings(300)
    both = {c: np.r_[np.asarray(v), np.delete(np.asarray(v), range(100, 112))] for c, v in columns.items()}
    both["station"] = np.array(["north"] * 300 + ["south"] * 288)

    assert told(findings(both), "missing_period").says.startswith("12 of")


def test_weekends_without_rows_are_no_gap():
    days = [d for d in moments(400, 1440) if d.weekday() < 5]
    columns = {"day": days, "level": rng(1).normal(0, 1, len(days)), "murk": rng(2).gamma(3, 1, len(days))}

    assert told(findings(columns), "missing_period") is None


def test_days_without_any_event():
    columns = orders(20_000)
    columns["placed_at"] = [START + timedelta(minutes=3 * i + w) for i, w in enumerate(rng(5).random(20_000))]
    gone = np.array([START + timedelta(days=20) <= t < START + timedelta(days=23) for t in columns["placed_at"]])
    columns = {c: np.asarray(v)[~gone] for c, v in columns.items()}

    assert told(findings(columns), "missing_period") is not None


def test_a_day_with_few_rows_is_an_event_and_no_finding():
    columns = orders(20_000)
    columns["placed_at"] = [START + timedelta(minutes=3 * i + w) for i, w in enumerate(rng(5).random(20_000))]
    storm = np.array([START + timedelta(days=20) <= t < START + timedelta(days=21) for t in columns["placed_at"]])
    storm &= rng(1).random(20_000) < 0.97
    columns = {c: np.asarray(v)[~storm] for c, v in columns.items()}

    assert [f for f in findings(columns) if f.severity >= 0.5] == []


def test_a_sensor_that_stands_still():
    columns = planted(readings(), "murk", np.arange(700, 730), 4.321)

    found = told(findings(columns), "constant_or_copy", "murk")
    assert found.rows == 30


def test_a_running_total_that_falls():
    random = rng(7)
    total = np.round(random.gamma(5, 100, 500)).cumsum()
    total[300:] -= 20_000
    columns = {"day": moments(500, 1440), "cases": total, "beds": random.poisson(50, 500)}

    assert told(findings(columns), "drift_or_definition_change", "cases").rows == 1


def test_a_level_that_jumps_and_stays():
    columns = readings()
    columns["murk"][1400:] += 60

    assert told(findings(columns), "drift_or_definition_change", "murk").rows == 600


def test_a_lump_of_late_counts_in_a_running_total():
    random = rng(7)
    steps = np.round(random.normal(2000, 100, 500))
    steps[300] += 7000
    columns = {"day": moments(500, 1440), "cases": steps.cumsum(), "beds": random.poisson(50, 500)}

    assert told(findings(columns), "sampling_or_coverage", "cases") is not None


def test_a_thin_end_of_the_time_covered():
    random = rng(11)
    days = np.sort(random.integers(0, 2600, 6000)).tolist() + np.sort(random.integers(2650, 3200, 60)).tolist()
    columns = {"seen_on": [START + timedelta(days=int(d)) for d in days], "height": random.gamma(9, 3, 6060)}

    assert told(findings(columns), "sampling_or_coverage", "seen_on") is not None


# --- clean tables stay quiet ---


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("clean", [orders, readings, people])
def test_a_clean_table_has_nothing_serious_to_say(clean, seed):
    found = [f for f in findings(clean(seed=seed)) if f.severity >= 0.5]

    assert found == []


def test_a_new_category_from_a_day_on_is_an_event():
    columns = orders()
    woods = np.array(columns["wood"], dtype=object)
    woods[900::7] = "larch"
    columns["wood"] = woods

    assert [f for f in findings(columns) if f.severity >= 0.5] == []


def test_a_constant_propensity_is_no_finding_of_weight():
    columns = orders() | {"propensity": np.full(1500, 1 / 34)}

    assert [f for f in findings(columns) if f.severity >= 0.5] == []


@pytest.mark.parametrize("columns", [{"a": []}, {"a": [None] * 5, "b": [1, 2, 3, 4, 5]}, {"a": [1]}, {"a": ["x"]}])
def test_tables_with_next_to_nothing_in_them_are_survived(columns):
    findings(columns)


@pytest.mark.slow
def test_sklearns_tables_have_at_most_one_serious_finding_each():
    datasets = pytest.importorskip("sklearn.datasets")
    for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer, datasets.load_diabetes):
        data = load()
        columns = {str(c): data.data[:, i] for i, c in enumerate(data.feature_names)} | {"target": data.target}

        assert len([f for f in findings(columns) if f.severity >= SERIOUS]) <= 1, load.__name__


def test_a_large_table_is_looked_at_in_a_draw_and_counted_whole():
    with Engine(memory_mb=2000) as engine:
        engine.run(
            "create temp table t as select i as id, "
            "case when i % 1000 = 7 then 99999 else (hash(i) % 900) / 7.0 end as x from range(2500000) r(i)"
        )
        found = table_findings(engine, described(engine, "t"))

    sentinel = told(found, "sentinel", "x")
    assert sentinel.rows == 2500
    assert "draw" in sentinel.says
