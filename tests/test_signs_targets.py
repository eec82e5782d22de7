"""Columns that tell the label too early are found; honest predictors, however strong, are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import datasets

from underhood.ground.findings import Finding
from underhood.signs.profile import Profile, profile_table
from underhood.signs.sensitive import sensitive
from underhood.signs.targets import proposed_targets, target_findings
from underhood.tables.frames import Table, described, open_table
from underhood.tables.local import Engine

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
has_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def table(engine: Engine, sql: str, name: str = "t") -> tuple[Table, Profile]:
    engine.run(f"create or replace table {name} as {sql}")
    made = described(engine, name)
    return made, profile_table(engine, made)


def findings(engine: Engine, sql: str, target: str | None = None) -> list[Finding]:
    made, profile = table(engine, sql)
    return target_findings(engine, [made], {"t": profile}, target)


def leaks(engine: Engine, sql: str, target: str | None = None) -> dict[tuple[str, ...], Finding]:
    return {f.columns: f for f in findings(engine, sql, target) if f.about == "leak"}


# 2,000 bookings; hash(i) makes values that have nothing to do with each other
ROWS = (
    "select i, hash(i) % 100 < 30 as cancelled, hash(i * 3) % 60 as lead, 'k' || hash(i * 5) % 7 as kind "
    "from range(2000) t(i)"
)


# --- leaks ---


def test_a_column_that_is_the_label_in_other_words_is_a_leak(engine: Engine) -> None:
    found = leaks(
        engine, f"select *, if(cancelled, 'Canceled', ['Out', 'In'][i % 2 + 1]) as status from ({ROWS})", "cancelled"
    )

    assert list(found) == [("status",)]
    assert found["status",].severity >= 0.9
    assert found["status",].where is None


def test_a_column_that_is_filled_only_after_one_outcome_is_a_leak(engine: Engine) -> None:
    sql = f"select *, case when cancelled then DATE '2024-01-01' + (i % 90)::INT end as cancelled_on from ({ROWS})"
    found = leaks(engine, sql, "cancelled")

    assert list(found) == [("cancelled_on",)]
    assert found["cancelled_on",].where == '"cancelled_on" IS NOT NULL'
    assert found["cancelled_on",].rows == engine.rows("select count(*) from t where cancelled")[0][0]


def test_a_value_with_support_that_never_happens_next_to_values_that_do_is_a_leak(engine: Engine) -> None:
    sql = f"select *, if(not cancelled and i % 3 = 0, 1 + i % 2, 0) as parking from ({ROWS})"
    found = leaks(engine, sql, "cancelled")

    assert list(found) == [("parking",)]
    assert found["parking",].where == '"parking" > 0'
    assert "none of" in found["parking",].says


def test_the_most_frequent_name_far_beyond_all_others_is_told_as_overwritten(engine: Engine) -> None:
    sql = (
        "select i, hash(i) % 1000 < 370 as gone, case when hash(i * 7) % 10 < 4 then (hash(i) % 1000 < 370) end as y, "
        "if(hash(i) % 1000 < 370 and hash(i * 9) % 10 < 8, 'PRT', 'C' || hash(i * 11) % 25) as country "
        "from range(20000) t(i)"
    )
    found = leaks(engine, sql, "gone")

    assert found["country",].where == "\"country\" = 'PRT'"
    assert found["country",].severity < 0.9


def test_parts_that_add_up_to_the_number_are_leaks(engine: Engine) -> None:
    sql = (
        "select hash(i) % 50 as casual, hash(i * 3) % 400 as registered, hash(i * 7) % 40 as temp from range(3000) t(i)"
    )
    found = leaks(engine, f"select *, casual + registered as cnt from ({sql})")

    assert list(found) == [("casual", "registered")]
    assert found["casual", "registered"].says == "casual + registered = cnt in every row"


@pytest.mark.parametrize("form", ["total * 1.0", "price * pieces", "total - fee + fee"])
def test_a_number_that_is_the_label_or_makes_it_is_a_leak(engine: Engine, form: str) -> None:
    numbers = "hash(i) % 90 + 1.5 as price, hash(i * 3) % 9 + 1 as pieces, hash(i * 5) % 30 as fee"
    sql = f"select {numbers} from range(2000) t(i)"
    found = leaks(
        engine, f"select *, {form} as revenue from (select *, price * pieces as total from ({sql}))", "revenue"
    )

    assert found
    assert all(f.severity > 0.9 for f in found.values())


def test_what_is_missing_only_where_the_number_is_comes_with_the_outcome(engine: Engine) -> None:
    sql = (
        "select i, case when i % 20 > 0 then hash(i) % 90 end as delay, "
        "case when i % 20 > 0 then hash(i * 3) % 50 end as air, "
        "case when i % 60 > 0 then 'N' || i % 300 end as tail, 'c' || i % 5 as line from range(6000) t(i)"
    )
    found = {(f.about, f.columns): f for f in findings(engine, sql, "delay")}

    assert ("leak", ("air",)) in found
    assert found["missing_informative", ("tail",)].rows == 100
    assert found["label_definition", ("delay",)].where == '"delay" IS NULL'
    assert found["label_definition", ("delay",)].rows == 300


def test_a_leak_beside_the_label_is_found_through_the_join(engine: Engine) -> None:
    one, first = table(engine, ROWS, "bookings")
    sql = f"select i, case when cancelled then i % 30 end as refund, hash(i * 17) % 9 as gifts from ({ROWS})"
    other, second = table(engine, sql, "papers")
    found = target_findings(engine, [one, other], {"bookings": first, "papers": second}, "bookings.cancelled")

    assert [(f.table, f.columns, f.also) for f in found if f.about == "leak"] == [
        ("papers", ("refund",), ("bookings",))
    ]
    assert engine.rows(next(f.query for f in found if f.about == "leak"))


# --- no leaks ---


@pytest.mark.parametrize(
    "load",
    [
        datasets.load_breast_cancer,
        datasets.load_iris,
        datasets.load_wine,
        pytest.param(datasets.load_digits, marks=pytest.mark.slow),
    ],
)
def test_honest_data_raise_no_leak(engine: Engine, load: object) -> None:
    bunch = load(as_frame=True)  # type: ignore[operator]
    engine.register("t", pa.Table.from_pandas(bunch.frame))
    made = described(engine, "t")
    found = target_findings(engine, [made], {"t": profile_table(engine, made)}, "target")

    assert [f for f in found if f.about in ("leak", "missing_informative")] == []


def test_a_strong_predictor_a_number_of_its_own_and_noise_are_no_leaks(engine: Engine) -> None:
    sql = (
        "select i as id, 'u' || i as name, hash(i) % 1000 / 1000.0 as u, hash(i * 3) % 40 as age_of_car, "
        "'z' || hash(i * 5) % 900 as town, hash(i) % 1000 + hash(i * 7) % 300 < 400 as churned from range(5000) t(i)"
    )

    assert leaks(engine, sql, "churned") == {}


def test_an_ordered_risk_that_fades_out_is_no_leak(engine: Engine) -> None:
    grade = "select i, hash(i * 3) % 12 as grade from range(20000) t(i)"
    sql = f"select *, hash(i * 7) % 1000 < 500 * power(0.4, grade) as failed from ({grade})"

    assert leaks(engine, sql, "failed") == {}


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(1, 10_000), share=st.integers(3, 60), levels=st.integers(2, 400))
def test_columns_drawn_without_looking_at_the_label_are_never_leaks(seed: int, share: int, levels: int) -> None:
    columns = [
        f"'v' || hash(i * {seed} + 1) % {levels} as level",
        f"hash(i * {seed} + 2) % {levels} as number",
        f"case when hash(i * {seed} + 3) % 9 > 0 then hash(i * {seed} + 4) % 1000 / 7 end as holes",
        f"DATE '2024-01-01' + (hash(i * {seed} + 5) % 300)::INT as day",
        f"hash(i * {seed} + 6) % 100 < {share} as label_of_it",
    ]
    with Engine() as engine:
        assert leaks(engine, f"select {', '.join(columns)} from range(3000) t(i)", "label_of_it") == {}


# --- labels, sensitive columns, periods ---


def test_an_outcome_is_proposed_before_what_only_stands_last(engine: Engine) -> None:
    _, profile = table(engine, f"select *, i % 2 as flag from ({ROWS})")

    assert [t.column for t in proposed_targets(profile)][:2] == ["cancelled", "flag"]
    assert (proposed_targets(profile)[0].event, proposed_targets(profile)[0].way) == (True, "flag")


def test_the_level_that_sounds_bad_is_what_is_foretold(engine: Engine) -> None:
    levels = "['Pass', 'Withdrawn', 'Fail', 'Distinction', 'Withdrawn']"
    sql = f"select i, {levels}[i % 5 + 1] as final_result from range(500) t(i)"
    _, profile = table(engine, sql)

    assert proposed_targets(profile)[0].event == "Withdrawn"


def test_a_table_without_an_outcome_has_no_target(engine: Engine) -> None:
    _, profile = table(engine, "select i as id, 'city' || i as name, i * 0.37 as lat from range(300) t(i)")

    assert proposed_targets(profile) == []


@pytest.mark.parametrize(
    ("name", "values", "tells"),
    [
        ("gender", "['M', 'F']", "sex"),
        ("column09", "[' Male', ' Female']", "sex"),
        ("column08", "[' White', ' Black', ' Other']", "ethnic origin"),
        ("age_band", "['0-35', '35-55']", "age"),
        ("maritalStatus", "['single', 'divorced']", "family status"),
        ("personal_status", "['A91', 'A92']", "family status"),
        ("grade", "['A', 'B', 'F']", ""),
        ("average", "['1', '2']", ""),
        ("page", "['1', '2']", ""),
        ("race_time", "['fast', 'slow']", ""),
    ],
)
def test_a_sensitive_column_is_known_by_name_or_by_values(engine: Engine, name: str, values: str, tells: str) -> None:
    _, profile = table(engine, f'select {values}[i % len({values}) + 1] as "{name}" from range(90) t(i)')

    assert sensitive(name, profile.columns[name]) == tells


def test_codes_of_a_sensitive_column_need_their_code_book(engine: Engine) -> None:
    found = findings(engine, "select ['A91', 'A92', 'A93'][i % 3 + 1] as personal_status, i as n from range(300) t(i)")

    assert [(f.columns, "code book" in f.hint) for f in found if f.about == "sensitive_or_proxy"] == [
        (("personal_status",), True)
    ]


def test_a_label_that_is_not_known_yet_at_the_end_is_told_with_its_period(engine: Engine) -> None:
    sql = (
        "select i as n, TIMESTAMP '2023-01-01' + to_hours(i) as placed, "
        "hash(i) % 100 < if(i > 8300, 4, 40) as returned from range(8760) t(i)"
    )
    (found,) = [f for f in findings(engine, sql, "returned") if f.about == "label_censoring"]

    assert found.columns == ("placed",)
    assert "last month" in found.says
    assert engine.rows(f"select count(*) from t where {found.where}") == [(found.rows,)]


def test_a_label_that_happens_evenly_raises_no_period(engine: Engine) -> None:
    sql = "select TIMESTAMP '2023-01-01' + to_hours(i) as placed, hash(i) % 100 < 40 as returned from range(8760) t(i)"

    assert [f for f in findings(engine, sql, "returned") if f.about != "label_definition"] == []


@pytest.mark.parametrize(
    "sql", ["select 1 as y, 2 as x where false", "select null::INT as y, i as x from range(9) t(i)"]
)
def test_empty_tables_and_labels_of_nulls_raise_nothing(engine: Engine, sql: str) -> None:
    assert findings(engine, sql, "y") == []


# --- the documented truths ---


@has_data
@pytest.mark.slow
def test_the_leaks_of_the_hotel_bookings_are_found(engine: Engine) -> None:
    opened = open_table(engine, DATA / "hotel_bookings" / "hotel_bookings.parquet")
    found = target_findings(engine, [opened], {opened.name: profile_table(engine, opened)})
    leaking = {f.columns[0]: f for f in found if f.about == "leak"}
    cut = [f for f in found if f.about == "sampling_or_coverage"]

    assert set(leaking) == {"reservation_status", "required_car_parking_spaces", "country", "assigned_room_type"}
    assert leaking["required_car_parking_spaces"].where == '"required_car_parking_spaces" > 0'
    assert leaking["country"].where == "\"country\" = 'PRT'"
    assert {f.columns for f in cut} == {("lead_time",)}


@has_data
def test_the_parts_of_the_bikes_are_found_and_the_census_has_no_leak(engine: Engine) -> None:
    hour = open_table(engine, DATA / "bike_sharing" / "hour.csv")
    census = open_table(engine, DATA / "adult" / "adult.data.csv", "census")
    bikes = target_findings(engine, [hour], {"hour": profile_table(engine, hour)})
    adult = target_findings(engine, [census], {"census": profile_table(engine, census)})

    assert [f.columns for f in bikes if f.about == "leak"] == [("casual", "registered")]
    assert {f.columns for f in adult} == {("column05",), ("column08",), ("column09",), ("column13",)}
    assert {f.about for f in adult} == {"sensitive_or_proxy"}
