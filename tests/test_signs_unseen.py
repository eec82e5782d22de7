"""What holds for tables that nobody tuned the finders to: units of a cohort, swaps, codes in a row, totals of many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from underhood.ground.findings import Finding
from underhood.signs.look import Look, look
from underhood.tables.frames import described
from underhood.tables.local import Engine

NOISE = "(hash(i * 7919 + 1) % 10000) / 10000.0"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


def looked(engine: Engine, sql: str, target: str | None = None) -> Look:
    engine.run(f"create table t as {sql}")
    return look(engine, [described(engine, "t")], target)


def told(seen: Look, about: str, column: str) -> Finding | None:
    return next((f for f in seen.of("t") if f.about == about and column in f.columns), None)


def test_two_codes_in_a_row_beyond_all_numbers_are_codes(engine: Engine) -> None:
    seen = looked(
        engine,
        f"select i, case when i % 40 = 0 then 99 when i % 90 = 1 then 98 else (hash(i) % 11)::INT end as children, "
        f"{NOISE} as x from range(2000) r(i)",
    )
    found = told(seen, "sentinel", "children")
    assert found is not None
    assert found.rows == 73


def test_one_code_beside_a_flag_is_a_code(engine: Engine) -> None:
    seen = looked(
        engine, f"select case when i in (70, 90) then 666 else i % 2 end as flag, {NOISE} as x from range(500) r(i)"
    )
    found = told(seen, "sentinel", "flag")
    assert found is not None
    assert found.rows == 2


def test_a_flag_of_two_values_has_no_code(engine: Engine) -> None:
    seen = looked(engine, f"select (i % 3 = 0)::INT as flag, {NOISE} as x from range(500) r(i)")
    assert told(seen, "sentinel", "flag") is None


HEADS = "select 1950 + i % 12 as year, (100 + exp(4 * {noise})) * {factor} as heads, i as n from range(1200) r(i)"


def test_one_year_in_thousands_is_another_unit(engine: Engine) -> None:
    seen = looked(engine, HEADS.format(noise=NOISE, factor="case when i % 12 = 5 then 0.001 else 1 end"))
    found = told(seen, "unit_or_scale", "heads")
    assert found is not None
    assert found.rows == 100


def test_years_that_grow_are_no_other_unit(engine: Engine) -> None:
    seen = looked(engine, HEADS.format(noise=NOISE, factor="exp((i % 12) * 0.1)"))
    assert told(seen, "unit_or_scale", "heads") is None


DAYS = (
    "select DATE '2020-01-01' + i::INT as day, round(15 + 10 * sin(i / 58.0) + 5 * {noise}, 1) as raw, "
    "case when i between 500 and 580 then 3 * raw + 50 else raw end as {name} from range(1000) r(i)"
)


def test_a_span_of_time_beyond_a_gap_is_another_unit(engine: Engine) -> None:
    seen = looked(engine, f"select day, celsius from ({DAYS.format(noise=NOISE, name='celsius')})")
    found = told(seen, "unit_or_scale", "celsius")
    assert found is not None
    assert found.rows == 81


def test_a_season_is_no_other_unit(engine: Engine) -> None:
    seen = looked(engine, f"select day, raw from ({DAYS.format(noise=NOISE, name='celsius')})")
    assert told(seen, "unit_or_scale", "raw") is None


BILLS = (
    "select 40 + 10 * {noise} as span, 15 + 4 * (hash(i) % 1000) / 1000.0 as deep, {swapped} as s from range(400) r(i)"
)


def test_many_swapped_rows_do_not_hide_in_the_tails_that_they_make(engine: Engine) -> None:
    bills = BILLS.format(noise=NOISE, swapped="i % 20 = 3")
    seen = looked(
        engine,
        "select case when s then deep else span end as span, case when s then span else deep end as deep "
        f"from ({bills})",
    )
    found = told(seen, "swapped_or_misaligned", "span")
    assert found is not None
    assert found.rows == 20


def test_rows_with_one_odd_value_are_not_swapped(engine: Engine) -> None:
    bills = BILLS.format(noise=NOISE, swapped="i % 20 = 3")
    seen = looked(engine, f"select case when s then deep else span end as span, deep from ({bills})")
    assert told(seen, "swapped_or_misaligned", "span") is None


PARTS = (
    "select round(100 * {noise}, 2) as a, (hash(i) % 5000) / 100.0 as b, (hash(-i) % 9000) / 100.0 as c, "
    "(hash(i + 77777) % 700) / 100.0 as d, i % 50 as other, {broken} as f from range(3000) r(i)"
)


def test_a_total_of_many_parts_that_is_wrong_in_few_rows_is_told(engine: Engine) -> None:
    parts = PARTS.format(noise=NOISE, broken="case when i % 100 = 7 then 1.1 else 1 end")
    seen = looked(engine, f"select * exclude f, round(a + b + c + d, 2) * f as spent from ({parts})")
    found = told(seen, "aggregate_mismatch", "spent")
    assert found is not None
    assert found.rows == 30


def test_a_measure_that_many_columns_foretell_is_no_total(engine: Engine) -> None:
    parts = PARTS.format(noise=NOISE, broken="(hash(i + 5) % 100) / 10.0")
    seen = looked(engine, f"select * exclude f, round(a + b + c + d + f, 2) as spent from ({parts})")
    assert told(seen, "aggregate_mismatch", "spent") is None


def test_numbered_marks_of_one_category_are_no_label(engine: Engine) -> None:
    seen = looked(
        engine,
        f"select {NOISE} as x, i % 4 as kind, (i % 4 = 0)::INT as kind1, (i % 4 = 1)::INT as kind2, "
        "(i % 4 = 2)::INT as kind3, (i % 4 = 3)::INT as kind4 from range(2000) r(i)",
    )
    assert not [f for f in seen.findings if f.about == "leak"]


def test_a_value_of_denied_rows_only_is_a_leak_in_a_small_table(engine: Engine) -> None:
    seen = looked(
        engine,
        "select case when i % 8 = 0 and i % 3 = 0 then 'R7' else 'A' || hash(i) % 4 end as channel, "
        f"(i % 8 = 0)::INT as deny, {NOISE} as x from range(2400) r(i)",
        "deny",
    )
    assert told(seen, "leak", "channel") is not None


def test_two_versions_of_two_columns_are_held_against_each_other(engine: Engine) -> None:
    for version, moved in ((1, ""), (2, " + case when i > 500 then 100 else 0 end")):
        engine.run(
            f"create table temps_v{version} as select TIMESTAMP '2020-01-01' + to_hours(i::INT) as at, "
            f"{NOISE} * 30{moved} as temp from range(1000) r(i)"
        )
    seen = look(engine, [described(engine, "temps_v1"), described(engine, "temps_v2")])
    assert [f for f in seen.findings if "temp" in f.columns and f.also]


@pytest.mark.parametrize("late", [1, 0])
def test_a_feed_that_is_late_from_a_day_on_is_told(engine: Engine, late: int) -> None:
    engine.run(f"create table base as select i, {NOISE} as v from range(3000) r(i)")
    for version, moved in ((2, 0), (1, late)):
        engine.run(
            f"create table temps_v{version} as select TIMESTAMP '2020-01-01' + to_hours(a.i::INT) as at, b.v as temp "
            f"from base a join base b on b.i = a.i - case when a.i > 1400 then {moved} else 0 end"
        )
    seen = look(engine, [described(engine, "temps_v1"), described(engine, "temps_v2")])
    lags = [f for f in seen.findings if f.about == "timezone_or_clock" and "temp" in f.columns]
    assert len(lags) == late
    assert all("1 hours late" in f.says for f in lags)


def test_a_flag_named_after_a_group_of_people_is_sensitive(engine: Engine) -> None:
    seen = looked(
        engine, f"select case when i % 5 = 0 then 'yes' else 'no' end as black, {NOISE} as x from range(500) r(i)"
    )
    assert told(seen, "sensitive_or_proxy", "black") is not None


def test_a_level_that_moves_for_good_is_told(engine: Engine) -> None:
    seen = looked(
        engine,
        f"select DATE '2020-01-01' + i::INT as day, {NOISE} + case when i > 600 then 5 else 0 end as level "
        "from range(1000) r(i)",
    )
    found = told(seen, "drift_or_definition_change", "level")
    assert found is not None
    assert found.rows == 399


def test_moments_with_a_time_zone_come_back_without_other_packages(engine: Engine) -> None:
    rows = engine.rows("select TIMESTAMPTZ '2024-03-01 12:00:00+00' as at, 1 as x, 2 as x")
    assert rows[0][0].timestamp() == 1709294400
    assert rows[0][1:] == (1, 2)
    assert engine.rows("select 1") == [(1,)]
