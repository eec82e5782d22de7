"""What a table's rows support becomes a contract; what a few of them break is told, never frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from underhood.contract.evidence import Proposed, infer
from underhood.contract.rhythm import NeverFalls, Steps
from underhood.contract.rules import Holds, Key, Nulls, OneOf, Order, Pattern, Range, Required, Rule, Sum, Type
from underhood.tables.frames import described, open_table
from underhood.tables.local import Engine
from underhood.tables.quarantine import Checked, check

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")


def world(n: int = 3000, seed: int = 1) -> dict[str, np.ndarray]:
    """Hourly readings at three places; one reading is absurd, one column is a running total."""
    random = np.random.default_rng(seed)
    hours = np.datetime64("2024-01-01T00", "us") + np.arange(n // 3).repeat(3) * np.timedelta64(3600, "s")
    speed = np.round(random.gamma(3.0, 4.0, n), 1)
    small, large = random.integers(0, 40, n), random.integers(0, 40, n)
    made = {
        "place": np.array(["EWR", "JFK", "LGA"] * (n // 3)),
        "at": hours,
        "speed": speed,
        "gust": speed + np.round(random.gamma(2.0, 3.0, n), 1),
        "small": small,
        "large": large,
        "both": small + large,
        "code": np.char.add("AB-", random.integers(1000, 9999, n).astype(str)),
        "total": (np.arange(n) // 3) * 7 + random.integers(0, 7, n),
    }
    made["speed"][1500] = 1048.4
    made["gust"][1500] = 1060.0
    return made


def proposed(columns: dict[str, np.ndarray], n: int | None = None) -> Proposed:
    with Engine(threads=1) as engine:
        engine.register("t", pa.table({c: v[:n] for c, v in columns.items()}))
        return infer(engine, described(engine, "t"))


def of_kind(found: Proposed, kind: type[Rule]) -> list[Rule]:
    return [r for r in found.contract.rules if isinstance(r, kind)]


def test_each_kind_of_rule_is_found_where_the_rows_support_it() -> None:
    found = proposed(world())
    rules = found.contract.rules

    assert Type("small", "whole number") in rules
    assert Key(("place", "at")) in rules
    assert OneOf("place", ("EWR", "JFK", "LGA"), share=0.01) in rules
    assert Pattern("code", r"[A-Z]+[\-][0-9]+", 7, 7, share=0.005) in rules
    assert Order("speed", "gust") in rules
    assert Sum(("small", "large"), "both") in rules
    assert Steps("at", "1h", ("place",)) in rules
    assert NeverFalls("total", "at", ("place",)) in rules
    assert Required("speed") in rules


def test_an_absurd_value_is_listed_and_does_not_widen_the_rule() -> None:
    found = proposed(world())
    rule = next(r for r in of_kind(found, Range) if r.columns == ("speed",))
    finding = next(f for f in found.findings if f.columns == ("speed",))

    assert isinstance(rule, Range)
    assert isinstance(rule.most, float)
    assert 50 < rule.most < 500
    assert rule.least == 0.0
    assert (finding.about, finding.rows) == ("out_of_range", 1)
    assert finding.where is not None
    assert "1,048.4" in finding.says


def test_every_rule_about_rows_says_how_many_rows_break_it() -> None:
    found = proposed(world())
    silent = [r for r in found.contract.rules if not r.evidence]

    assert silent == []


def test_the_rows_of_a_finding_are_those_that_its_predicate_selects() -> None:
    columns = world()
    columns["total"][600] = 0
    with Engine(threads=1) as engine:
        engine.register("t", pa.table(columns))
        found = infer(engine, described(engine, "t"))
        counted = [
            (f.rows, engine.rows(f"select count(*) from t where {f.where}")[0][0]) for f in found.findings if f.where
        ]

    assert counted
    assert all(said == there for said, there in counted)


def test_a_table_of_few_rows_promises_little_and_an_empty_one_nothing() -> None:
    empty = {c: v[:0] for c, v in world().items()}

    assert proposed(empty).contract.rules == ()
    assert proposed(world(), 6).contract.rules == ()


def test_a_column_that_is_all_null_gets_no_rule_that_it_breaks() -> None:
    columns = {**world(), "empty": np.full(3000, np.nan)}
    with Engine(threads=1) as engine:
        engine.register("t", pa.Table.from_pydict({c: pa.array(v, from_pandas=True) for c, v in columns.items()}))
        found = infer(engine, described(engine, "t"))

    assert all("empty" not in r.columns for r in found.contract.rules)


def test_reversals_are_found_by_the_letter_that_marks_them() -> None:
    random = np.random.default_rng(2)
    n = 5000
    is_back = random.random(n) < 0.02
    quantity = random.integers(1, 20, n) * np.where(is_back, -1, 1)
    quantity[:7] = -3
    number = np.char.add(np.where(is_back, "C", "5"), random.integers(10_000, 99_999, n).astype(str))
    found = proposed({"invoice": number, "quantity": quantity})
    rule = of_kind(found, Holds)[0]

    assert rule.columns == ("invoice", "quantity")
    assert any(f.columns == ("invoice", "quantity") for f in found.findings)


def test_columns_that_are_null_together_are_found() -> None:
    columns = world()
    gone = np.random.default_rng(3).random(3000) < 0.1
    made = {c: pa.array(v) for c, v in columns.items()}
    made["speed"] = pa.array(np.where(gone, np.nan, columns["speed"]), from_pandas=True)
    made["gust"] = pa.array(np.where(gone, np.nan, columns["gust"]), from_pandas=True)
    with Engine(threads=1) as engine:
        engine.register("t", pa.table(made))
        found = infer(engine, described(engine, "t"))

    assert Nulls("gust", "speed", exactly=True) in found.contract.rules


def test_the_rows_that_come_next_keep_the_contract() -> None:
    columns = world(9000)
    columns["speed"][1500] = 10.0
    with Engine(threads=1) as engine:
        engine.register("first", pa.table({c: v[:6000] for c, v in columns.items()}))
        engine.register("later", pa.table({c: v[6000:] for c, v in columns.items()}))
        contract = infer(engine, described(engine, "first")).contract
        checked = check(engine, contract, "later", described(engine, "later").kinds)

    assert checked.broken == ()


def backtest(file: str, clock: str) -> tuple[Proposed, Checked]:
    """Inferred on the first 70 % of the time, held against the rest."""
    with Engine() as engine:
        open_table(engine, SHARED / file, "whole")
        cut = engine.rows(f"select quantile_disc(epoch({clock}), 0.7) from whole")[0][0]
        for name, side in (("first", "<="), ("later", ">")):
            engine.run(f"create table {name} as select * from whole where epoch({clock}) {side} {cut}")
        found = infer(engine, described(engine, "first"))
        return found, check(engine, found.contract, "later", described(engine, "later").kinds)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "clock", "broken"),
    [
        ("bike_sharing/hour.csv", "dteday", []),
        ("bike_sharing/day.csv", "dteday", []),
        # 80,995 pieces ordered, and taken back after 12 minutes
        ("online_retail/online_retail.parquet", "InvoiceDate", ["Quantity"]),
        # a price below zero; eight parking spaces
        (
            "hotel_bookings/hotel_bookings.parquet",
            "reservation_status_date::timestamp",
            ["adr", "required_car_parking_spaces"],
        ),
        # totals that were revised
        ("covid_uk_excel/key-countries-pivoted.csv", '"Date"', ["Germany", "Spain"]),
    ],
)  # fmt: skip
def test_on_real_tables_the_later_rows_break_only_what_has_truly_changed(
    file: str, clock: str, broken: list[str]
) -> None:
    found, checked = backtest(file, clock)

    assert sorted(h.rule.columns[0] for h in checked.broken) == broken
    assert len(found.contract.rules) > 20


@needs_data
@pytest.mark.slow
def test_totals_that_fall_are_found_in_the_covid_tables() -> None:
    with Engine() as engine:
        table = open_table(engine, SHARED / "covid_uk_excel/key-countries-pivoted.csv")
        france = next(f for f in infer(engine, table).findings if f.columns == ("France",))
        days = [str(row[0])[:10] for row in engine.rows(f'select "Date" from "{table.name}" where {france.where}')]

    assert "2021-05-20" in days
