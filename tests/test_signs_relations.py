"""Relations between columns, keys and rows that repeat: what is planted is found, what is natural is not."""

from datetime import timedelta

import numpy as np
from tables_made import START, WORDS, findings, moments, orders, people, readings, rng, told


def test_a_fixed_multiple_of_another_column_is_a_copy():
    columns = readings()
    columns["gust"] = columns["level"] * 1.15078

    found = told(findings(columns), "constant_or_copy", "gust", "level")
    assert "1.15078" in found.says
    assert found.where is None


def test_a_copy_under_another_name():
    columns = people() | {}
    columns["mass"] = columns["weight"]
    columns["group"] = columns["band"]

    found = findings(columns)
    assert told(found, "constant_or_copy", "mass", "weight")
    assert told(found, "constant_or_copy", "group", "band")


def test_a_copy_but_for_few_rows_is_a_mismatch_with_these_rows():
    columns = people()
    columns["mass"] = columns["weight"].copy()
    columns["mass"][[4, 9]] += 3

    assert told(findings(columns), "aggregate_mismatch", "mass").rows == 2


def test_a_column_that_is_the_sum_of_two_others_is_given_away():
    random = rng(1)
    columns = orders() | {"cash": random.poisson(40, 1500), "card": random.poisson(70, 1500)}
    columns["paid"] = columns["cash"] + columns["card"]

    assert told(findings(columns), "constant_or_copy", "cash", "card", "paid")


def test_a_total_that_is_not_the_sum_of_its_parts_in_few_rows():
    random = rng(1)
    columns = orders() | {"cash": random.poisson(40, 1500), "card": random.poisson(70, 1500)}
    columns["paid"] = columns["cash"] + columns["card"]
    columns["paid"][[10, 11, 12]] -= 7

    assert told(findings(columns), "aggregate_mismatch", "paid").rows == 3


def test_an_amount_that_is_not_price_times_pieces_in_few_rows():
    columns = orders()
    columns["amount"] = np.round(columns["price"] * columns["pieces"], 2)
    columns["amount"][[10, 11, 12, 700]] *= 10

    assert told(findings(columns), "aggregate_mismatch", "price", "pieces", "amount").rows == 4


def test_an_end_before_its_beginning():
    columns = orders()
    minutes = rng(3).gamma(3, 30, 1500)
    minutes[[5, 6]] = -40
    columns["sent_at"] = [t + timedelta(minutes=float(m)) for t, m in zip(columns["placed_at"], minutes, strict=True)]

    assert told(findings(columns), "out_of_range", "placed_at", "sent_at").rows == 2


def test_a_least_above_its_most():
    columns = readings()
    columns["temp_min"], columns["temp_max"] = columns["level"], columns["level"] + rng(2).gamma(3, 1, 2000)
    columns["temp_max"][[8, 9, 10]] -= 30

    assert told(findings(columns), "out_of_range", "temp_min", "temp_max").rows >= 3


def test_a_mapping_that_few_rows_contradict():
    columns = orders()
    shelf = dict(zip(WORDS, "ABCDEABCDE", strict=True))
    columns["shelf"] = np.array([shelf[w] for w in columns["wood"]], dtype=object)
    columns["shelf"][[3, 600]] = ["Z", "Y"]

    found = findings(columns)
    assert any("shelf" in f.columns and "wood" in f.columns and f.rows == 2 for f in found)


def test_columns_that_only_go_together_often_contradict_nothing():
    columns = orders()
    random = rng(4)
    shelf = dict(zip(WORDS, "ABCDEABCDE", strict=True))
    columns["shelf"] = [shelf[w] if random.random() < 0.97 else "C" for w in columns["wood"]]

    assert [f for f in findings(columns) if f.severity >= 0.5] == []


def test_nulls_that_lie_within_another_columns_nulls_tell_of_it():
    columns = orders()
    is_lost = rng(6).random(1500) < 0.2
    columns["price"] = np.where(is_lost, np.nan, columns["price"])
    columns["length_cm"] = np.where(is_lost & (rng(7).random(1500) < 0.5), np.nan, columns["length_cm"])

    assert told(findings(columns), "missing_informative", "length_cm")


def test_nulls_that_fall_together_by_chance_tell_nothing():
    columns = orders()
    columns["price"] = np.where(rng(6).random(1500) < 0.5, np.nan, columns["price"])
    columns["length_cm"] = np.where(rng(7).random(1500) < 0.02, np.nan, columns["length_cm"])

    assert told(findings(columns), "missing_informative") is None


def test_a_column_without_any_value_is_told():
    columns = orders() | {"note": [None] * 1500}

    assert told(findings(columns), "constant_or_copy", "note")


# --- keys and rows that repeat ---


def test_an_id_that_repeats_in_few_rows_is_no_key():
    columns = orders()
    columns["order_id"][[100, 200]] = columns["order_id"][[101, 201]]

    assert told(findings(columns), "key_violation", "order_id").rows == 4


def test_a_thing_and_its_hour_that_repeat_once_are_no_key():
    hours = moments(24 * 60)
    random = rng(2)
    columns = {
        "month": np.array([t.month for t in hours] * 3),
        "day": np.array([t.day for t in hours] * 3),
        "hour": np.array([t.hour for t in hours] * 3),
        "station": np.repeat(["north", "south", "west"], len(hours)),
        "level": random.normal(0, 1, 3 * len(hours)).round(3),
    }
    columns["hour"][[700, 3001]] -= 1

    found = told(findings(columns), "key_violation", "month", "day", "hour", "station")
    assert found.rows == 4


def test_columns_that_are_nearly_unique_by_chance_are_no_key():
    random = rng(9)
    columns = {
        "day": [START + timedelta(days=int(d)) for d in random.integers(0, 900, 4000)],
        "colour": random.choice(WORDS, 4000),
        "shape": random.choice([w[::-1] for w in WORDS], 4000),
        "size": random.gamma(5, 2, 4000),
    }

    assert told(findings(columns), "key_violation") is None


def test_equal_rows_without_a_key_are_told_with_their_share():
    columns = people()
    del columns["person_id"]
    columns = {c: np.r_[np.asarray(v), np.asarray(v)[:180]] for c, v in columns.items()}

    found = told(findings(columns), "duplicate_rows")
    assert found.rows == 360
    assert found.severity >= 0.7


def test_equal_rows_of_a_few_grades_are_natural():
    random = rng(1)
    columns = {f"answer {k}": random.integers(1, 5, 1000) for k in range(4)}

    assert [f for f in findings(columns) if f.severity >= 0.5] == []


def test_rows_of_one_thing_that_are_spelled_otherwise_are_near_duplicates():
    random = rng(3)
    n = 900
    names = [f"{random.choice(WORDS)} {random.choice(WORDS)} {k:03d} works" for k in range(n)]
    streets = [f"{k % 97 + 1} {random.choice(WORDS)} street {k}" for k in range(n)]
    phones = random.integers(2_000_001, 9_999_999, n)
    again = random.choice(n, 90, replace=False)
    columns = {
        "id": np.arange(n + 90),
        "name": [*names, *(names[k].replace("works", "wroks") for k in again)],
        "street": [*streets, *(streets[k].title() for k in again)],
        "phone": np.r_[phones, phones[again]],
        "rooms": random.integers(1, 9, n + 90),
    }

    found = told(findings(columns), "near_duplicate")
    assert found.severity >= 0.8


def test_lines_of_one_customer_are_no_near_duplicates():
    random = rng(3)
    who = random.integers(0, 300, 1200)
    columns = orders(1200) | {
        "name": [f"{WORDS[k % 10]} & sons {k}" for k in who],
        "street": [f"{k} long lane" for k in who],
    }

    assert told(findings(columns), "near_duplicate") is None


def test_a_constant_column_is_for_the_record():
    columns = orders() | {"land": ["AT"] * 1500}

    assert told(findings(columns), "constant_or_copy", "land").severity < 0.5
