"""A time is found in whatever columns it stands; the first of a row is when it happened."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from underhood.plan.exprs import define, typed
from underhood.plan.render import to_sql
from underhood.signs.profile import profile_table
from underhood.signs.time_texts import first_month, is_period, month_number, text_form
from underhood.signs.times import Clocks, find_clocks
from underhood.tables.frames import described
from underhood.tables.local import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def clocks(engine: Engine, sql: str) -> Clocks:
    engine.run(f"create or replace table t as {sql}")
    made = described(engine, "t")
    return find_clocks(engine, made, profile_table(engine, made))


DAY = "DATE '2024-01-01' + (i % 300)::INT"


@pytest.mark.parametrize(
    ("columns", "name", "most"),
    [
        (f"{DAY} as day", "day", datetime(2024, 10, 26)),
        (f"strftime({DAY}, '%Y-%m-%d ') as day", "", None),
        (f"strftime({DAY}, '%d.%m.%Y') as day", "day_time", datetime(2024, 10, 26)),
        (f"strftime({DAY}, '%m/%d/%Y') as day", "day_time", datetime(2024, 10, 26)),
        (f"strftime({DAY}, '%Y-%m-%dT07:30:00Z') as at", "at_time", datetime(2024, 10, 26, 7, 30)),
        (f"strftime({DAY}, '%Y-%m-%d 07:30:00.250+00:00') as at", "at_time", datetime(2024, 10, 26, 7, 30)),
        (f"epoch({DAY})::BIGINT as created_at", "created_at_time", datetime(2024, 10, 26)),
        (f"epoch_ms({DAY}) as event_ts", "event_ts_time", datetime(2024, 10, 26)),
        (f"strftime({DAY}, '%Y%m%d')::INT as order_date", "order_date_time", datetime(2024, 10, 26)),
        (f"year({DAY}) as year, month({DAY}) as month, day({DAY}) as day", "moment", datetime(2024, 10, 26)),
        (
            f"year({DAY}) as due_year, monthname({DAY}) as due_month, day({DAY}) as due_day_of_month",
            "due",
            datetime(2024, 10, 26),
        ),
        (f"{DAY} as day, i % 24 as hr", "day_hr", datetime(2024, 10, 26, 11)),
        ("2020 + i % 3 || ['B', 'J'][i % 2 + 1] as term", "term_start", datetime(2022, 10, 1)),
        ("i as n, 'x' || i % 9 as kind", "", None),
        ("i % 12 + 1 as month, i % 31 + 1 as day", "", None),
    ],
)
def test_a_moment_is_found_however_it_is_written(
    engine: Engine, columns: str, name: str, most: datetime | None
) -> None:
    found = clocks(engine, f"select {columns} from range(300) t(i)").happened

    assert (found.name if found else "", found.most if found else None) == (name, most)


def test_what_a_project_would_write_makes_the_same_moments(engine: Engine) -> None:
    import underhood as uh

    parts = f"year({DAY}) as due_year, monthname({DAY}) as due_month, day({DAY}) as due_day_of_month"
    sql = f"select {parts}, i % 90 as lead_time from range(900) t(i)"
    found = clocks(engine, sql)
    made = {c.name: c for c in found.all}
    names: dict[str, object] = {"uh": uh}
    for clock in found.all:
        exec(f"def {clock.name}({', '.join(clock.needs)}): return {clock.body}", names)
    defined = define([names[c] for c in made], "t")  # type: ignore[misc]
    types = {"due_year": "number", "due_month": "text", "due_day_of_month": "number", "lead_time": "number"}
    checks = [f"({to_sql(typed(e, types)[0])}) = {made[n].sql}" for n, e in defined.items()]
    floats = "select * replace (due_year::DOUBLE as due_year, due_day_of_month::DOUBLE as due_day_of_month, "
    rows = f"{floats} lead_time::DOUBLE as lead_time) from t"

    assert set(made) == {"due", "due_less_lead_time"}
    assert engine.rows(f"select bool_and({' and '.join(checks)}) from ({rows})") == [(True,)]


def test_a_lead_is_counted_back_from_the_day_that_it_leads_to(engine: Engine) -> None:
    found = clocks(engine, f"select {DAY} as arrival, i % 90 as lead_time, i as n from range(900) t(i)")

    assert found.happened is not None
    assert (found.happened.name, found.happened.way, found.happened.base) == (
        "arrival_less_lead_time",
        "lead",
        "arrival",
    )
    assert [c.name for c in found.later] == ["arrival"]


def test_the_first_time_is_when_it_happened_and_the_loaded_one_when_it_was_known(engine: Engine) -> None:
    at = "TIMESTAMP '2024-01-01' + to_hours(i)"
    others = f"{at} + to_hours(30 + i % 9) as shipped_at, {at} + to_minutes(5) as loaded_at"
    sql = f"select {others}, {at} as placed_at from range(999) t(i)"
    found = clocks(engine, sql)

    assert found.happened is not None
    assert found.known is not None
    assert (found.happened.name, found.known.name) == ("placed_at", "loaded_at")
    assert [c.name for c in found.later] == ["shipped_at"]


def test_a_date_of_birth_is_not_when_the_row_happened(engine: Engine) -> None:
    at = "TIMESTAMP '2024-01-01' + to_hours(i)"
    found = clocks(engine, f"select DATE '1980-01-01' + i::INT as birth_date, {at} as seen_at from range(999) t(i)")

    assert found.happened is not None
    assert found.happened.name == "seen_at"


def test_days_relative_to_a_term_are_times(engine: Engine) -> None:
    sql = "select 2020 + i % 3 || 'B' as term, i % 90 - 40 as date_registration, i as n from range(999) t(i)"
    found = clocks(engine, sql)

    assert {c.name for c in found.all} == {"term_start", "date_registration_moment"}


def test_empty_tables_and_nulls_tell_no_time(engine: Engine) -> None:
    assert clocks(engine, "select null::TIMESTAMP as at, null::VARCHAR as day from range(9)").happened is None
    assert clocks(engine, f"select {DAY} as day from range(300) t(i) where false").happened is None


def test_texts_are_read_in_one_way_only() -> None:
    assert text_form(["1.2.2024", "31.12.2023"]).format == "%d.%m.%Y"  # type: ignore[union-attr]
    assert text_form(["1/2/2024", "12/31/2023"]).format == "%m/%d/%Y"  # type: ignore[union-attr]
    assert text_form(["1.2.2024", "31-12-2023"]) is None
    assert text_form(["13.13.2024", "1.1.2024"]) is None
    assert text_form(["1.2.3", "4.5.6"]) is None


def test_periods_and_months_are_known_by_their_writing() -> None:
    periods = ("2013J", "2014-Q1", "2014H2", "2014-07", "2014", "2014-99", "J2014")

    assert [is_period(p) for p in periods] == [True] * 4 + [False] * 3
    assert [first_month(p) for p in periods[:4]] == [(2013, 10), (2014, 1), (2014, 7), (2014, 7)]
    assert [month_number(m) for m in ("July", "sep", "DEC", "Juli", "x")] == [7, 9, 12, 7, 0]
