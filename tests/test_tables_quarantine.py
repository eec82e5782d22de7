"""A table held against its contract: no row is lost, every row set aside says why."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import underhood as uh
from underhood.contract.contract import Contract, freeze
from underhood.contract.evidence import predicate
from underhood.contract.rhythm import Arrival, Fresh, NeverFalls, Rows, Steps, Unit
from underhood.contract.rules import (
    DUCKDB,
    SPARK,
    Determines,
    Holds,
    Key,
    Nulls,
    OneOf,
    Order,
    Pattern,
    Range,
    Reader,
    Reference,
    Required,
    Rule,
    Sum,
    Type,
)
from underhood.ground.errors import ContractError
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.steps import Source, System
from underhood.tables.frames import described
from underhood.tables.local import Engine, read_plan
from underhood.tables.quarantine import Checked, check, quarantine_sql

NOON = datetime(2024, 3, 1, 12)


def held(engine: Engine, rules: list[Rule], more: dict[str, Any] | None = None, **columns: list[Any]) -> Checked:
    engine.register("t", pa.table(columns))
    return check(engine, Contract("t", tuple(rules)), "t", described(engine, "t").kinds, **(more or {}))


def broken(rule: Rule, **columns: list[Any]) -> int | None:
    with Engine(threads=1) as engine:
        return held(engine, [rule], **columns).held[0].broken


HOURS = [datetime(2024, 3, 1, h) for h in (0, 1, 2, 3, 6, 7)]


@pytest.mark.parametrize(
    ("rule", "columns", "n"),
    [
        (Type("a", NUMBER), {"a": ["1", "2.5", "x", None]}, 1),
        (Type("a", "whole number"), {"a": [1.0, 2.5, None]}, 1),
        (Type("a", TIME), {"a": ["2024-01-01", "yesterday"]}, 1),
        (Type("a", "day"), {"a": [NOON, datetime(2024, 3, 1)]}, 1),
        (Type("a", TEXT), {"a": [1.0, 2.5]}, 0),
        (Required("a"), {"a": [1.0, None, None]}, 2),
        (Key(("a", "b")), {"a": [1, 1, 1, None, None], "b": [1, 1, 2, 1, 1]}, 2),
        (Range("a", 0.0, 10.0), {"a": [-0.1, 0.0, 10.0, 10.1, None]}, 2),
        (Range("a", 0.0, 10.0), {"a": ["-1", "3", "x"]}, 1),
        (Range("a", least=NOON), {"a": [NOON, datetime(1900, 1, 1)]}, 1),
        (OneOf("a", ("x", "it's")), {"a": ["x", "it's", "y", None]}, 1),
        (Pattern("a", "[A-Z]+[0-9]{2}", 3, 4), {"a": ["AB12", "A12", "A1", "ABC12", "xA12", None]}, 3),
        (Order("a", "b"), {"a": [1, 2, 3, None], "b": [2, 2, 2, 2]}, 1),
        (Sum(("a", "b"), "c"), {"a": [1.0, 1.0], "b": [2.0, 2.0], "c": [3.0, 4.0]}, 1),
        (Nulls("a", "b"), {"a": [1, None, None], "b": [None, None, 1]}, 1),
        (Nulls("a", "b", exactly=True), {"a": [1, None, None], "b": [None, None, 1]}, 2),
        (Determines(("a",), "b"), {"a": [1, 1, 1, 2, 2], "b": ["x", "x", "y", "x", "y"]}, 3),
        (NeverFalls("a", "at"), {"a": [1, 2, 2, 1, 5, 4], "at": HOURS}, 2),
        (NeverFalls("a", "at", ("g",)), {"a": [1, 5, 2, 6, 3, 7], "at": HOURS, "g": [0, 1] * 3}, 0),
        (Arrival("at", "known", "2h"), {"at": HOURS, "known": [datetime(2024, 3, 1, 3)] * 6}, 1),
        (Holds("a < 3 or b is null", ("a", "b")), {"a": [1, 4, 4], "b": [1, 1, None]}, 1),
        (Steps("at", "1h"), {"at": HOURS}, 1),
        (Rows("at", "day", 2), {"at": [datetime(2024, 3, d) for d in (1, 2, 2, 3, 4)]}, 1),
    ],
)
def test_each_kind_of_rule_counts_what_breaks_it(rule: Rule, columns: dict[str, list[Any]], n: int) -> None:
    assert broken(rule, **columns) == n


@pytest.mark.parametrize(
    "rule",
    [
        Key(("a",)),
        NeverFalls("a", "at"),
        Determines(("g",), "a"),
        Range("a", 0.0, 3.0),
        Nulls("a", "g"),
        Order("a", "g"),
    ],
)
def test_the_predicate_of_a_rule_selects_the_rows_that_are_set_aside(rule: Rule) -> None:
    columns = {"a": [1, 2, 2, 1, 5, None], "g": [1, 1, 1, 2, None, 2], "at": HOURS}
    with Engine(threads=1) as engine:
        checked = held(engine, [rule], **columns)
        where = predicate(rule, "t", described(engine, "t").kinds)
        aside = engine.rows('select "at" from "quarantined t" order by 1')

        assert engine.rows(f'select "at" from t where {where} order by 1') == aside
        assert len(aside) == checked.aside


def test_a_row_that_breaks_two_rules_is_set_aside_once_with_both_reasons() -> None:
    with Engine(threads=1) as engine:
        checked = held(engine, [Range("a", 0.0), Required("b")], a=[-1.0, 1.0], b=[None, "x"])

        assert (checked.rows, checked.aside) == (2, 1)
        assert engine.rows('select broken from "quarantined t"') == [("a is 0 or more; b is never null",)]


def test_a_rule_with_a_share_breaks_beyond_it_and_sets_nothing_aside() -> None:
    with Engine(threads=1) as engine:
        within = held(engine, [Required("a", share=0.5)], a=[None, 1.0])
        beyond = held(engine, [Required("a", share=0.4)], a=[None, 1.0])

    assert (within.is_kept, within.aside) == (True, 0)
    assert (beyond.is_kept, beyond.aside, beyond.held[0].broken) == (False, 0, 1)


def test_a_column_that_is_gone_breaks_its_type_and_skips_its_other_rules() -> None:
    with Engine(threads=1) as engine:
        checked = held(engine, [Type("temp", NUMBER), Range("temp", 0.0)], tmp=[1.0])

    assert [h.skipped for h in checked.held] == ["", "there is no column 'temp'"]
    assert checked.broken[0].first == ("there is no column 'temp'; did you mean tmp?",)
    assert checked.new == ("tmp",)


def test_a_reference_is_checked_when_the_other_table_is_open_and_skipped_otherwise() -> None:
    rule = Reference("dest", "airports", "faa")
    with Engine(threads=1) as engine:
        engine.register("them", pa.table({"faa": ["JFK", "JFK", "LGA"]}))
        open_ = held(engine, [rule], {"others": {"airports": "them"}}, dest=["JFK", "SJU", None])
        closed = held(engine, [rule], dest=["JFK"])

    assert (open_.rows, open_.held[0].broken) == (3, 1)
    assert closed.held[0].skipped == "the table 'airports' is not open"


def test_freshness_is_measured_at_the_moment_of_the_check() -> None:
    rule = Fresh("at", "3h")
    with Engine(threads=1) as engine:
        on_time = held(engine, [rule], {"now": datetime(2024, 3, 1, 10)}, at=HOURS)
        late = held(engine, [rule], {"now": datetime(2024, 3, 1, 11)}, at=HOURS)
        without = held(engine, [rule], at=HOURS)

    assert (on_time.is_kept, late.is_kept, without.held[0].skipped != "") == (True, False, True)


def test_another_unit_is_named_and_a_warm_month_is_not() -> None:
    typical = (30.0, 40.0, 55.0, 70.0, 82.0)
    fahrenheit = [30.0 + 52 * i / 199 for i in range(200)]
    rule = Unit("a", "°F", typical)
    with Engine(threads=1) as engine:
        warm = held(engine, [rule], a=[v + 8 for v in fahrenheit])
        celsius = held(engine, [rule], a=[(v - 32) / 1.8 for v in fahrenheit])

    assert warm.is_kept
    assert celsius.held[0].first == ("looks like °C instead of °F",)


def test_an_empty_table_and_an_empty_contract_are_answered() -> None:
    with Engine(threads=1) as engine:
        engine.register("t", pa.table({"a": pa.array([], pa.float64())}))
        empty = check(engine, Contract("t", (Range("a", 0.0), Key(("a",)))), "t", {"a": NUMBER})
        without = check(engine, Contract("t", ()), "t", {"a": NUMBER})

    assert (empty.rows, empty.aside, empty.is_kept) == (0, 0, True)
    assert without.new == ("a",)


VALUES = st.lists(st.tuples(st.integers(-3, 3) | st.none(), st.sampled_from(["x", "y", "", None])), max_size=20)


@pytest.mark.slow
@settings(max_examples=25)
@given(VALUES)
def test_accepted_and_set_aside_rows_are_together_all_rows(rows: list[tuple[int | None, str | None]]) -> None:
    rules: list[Rule] = [
        Range("a", 0.0, 2.0),
        Key(("a", "b")),
        Required("b"),
        Determines(("a",), "b"),
        OneOf("b", ("x",)),
    ]
    with Engine(threads=1) as engine:
        columns = {"a": pa.array([a for a, _ in rows], pa.int64()), "b": pa.array([b for _, b in rows], pa.string())}
        engine.register("t", pa.table({"row": range(len(rows)), **columns}))
        kinds = described(engine, "t").kinds
        checked = check(engine, Contract("t", tuple(rules)), "t", kinds)
        aside = {r for (r,) in engine.rows('select "row" from "quarantined t"')}
        counts = {a: [b for a2, b in rows if a2 == a] for a, _ in rows}

    for n, (a, b) in enumerate(rows):
        bad = b is None or b != "x" or (a is not None and not 0 <= a <= 2)
        bad = bad or (a is not None and b is not None and counts[a].count(b) > 1)
        filled = [v for v in counts[a] if v is not None]
        bad = bad or (a is not None and b is not None and 2 * filled.count(b) <= len(filled))
        assert (n in aside) == bad
    assert (checked.rows, checked.aside) == (len(rows), len(aside))


# --- a source under contract ---


def late(x: Any) -> Any:
    return x > 50


def system(source: Source) -> System:
    return uh.system(
        "s",
        asks=source.asks("at"),
        features=["x"],
        label=uh.label(late, known="at"),
        goal=uh.goal("call", costs=uh.costs(call=(1, 1), wait=(0, 2))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )


def world(folder: Path, **changed: Any) -> System:
    lines = [f"r{i},2024-03-01 {i:02}:00:00,{1048 if i == 3 else i}" for i in range(12)]
    (folder / "t.csv").write_text("id,at,x\n" + "\n".join(lines) + "\n")
    freeze(Contract("t", (Type("x", NUMBER), Range("x", 0.0, 100.0))), folder / "t.toml")
    return system(uh.source("t.csv", happened="at", key="id", contract="t.toml", **changed))


def test_rows_that_break_the_contract_leave_the_source_and_are_kept_with_their_reasons(tmp_path: Path) -> None:
    made = world(tmp_path)
    for _ in range(2):  # the second time from the cache
        with Engine(threads=1) as engine:
            read_plan(engine, made, tmp_path, tmp_path / "record")

            assert engine.rows("select count(*), max(x) from t") == [(11, 11.0)]
            assert engine.rows('select id, x, broken from "quarantined t"') == [
                ("r3", 1048.0, "x is between 0 and 100")
            ]
            assert engine.rows('select rule, broken from "broken t"') == [("x is between 0 and 100", 1)]


def test_on_break_warn_keeps_the_rows_in_the_source(tmp_path: Path) -> None:
    with Engine(threads=1) as engine:
        read_plan(engine, world(tmp_path, on_break="warn"), tmp_path, tmp_path / "record")

        assert engine.rows("select count(*) from t") == [(12,)]
        assert engine.rows('select count(*) from "quarantined t"') == [(1,)]


def test_on_break_stop_reads_nothing_and_says_which_rule_and_row(tmp_path: Path) -> None:
    with Engine(threads=1) as engine, pytest.raises(ContractError, match="between 0 and 100: 1 rows break it") as found:
        read_plan(engine, world(tmp_path, on_break="stop"), tmp_path, tmp_path / "record")

    assert "1048" in str(found.value)
    assert found.value.where == "t.x"


def test_a_contract_that_most_rows_break_is_refused_as_another_table(tmp_path: Path) -> None:
    made = world(tmp_path)
    freeze(Contract("t", (Range("x", 0.0, 2.0),)), tmp_path / "t.toml")

    with Engine(threads=1) as engine, pytest.raises(ContractError, match="another table"):
        read_plan(engine, made, tmp_path, tmp_path / "record")


def test_a_new_contract_is_held_at_once(tmp_path: Path) -> None:
    made = world(tmp_path)
    with Engine(threads=1) as engine:
        read_plan(engine, made, tmp_path, tmp_path / "record")
    freeze(Contract("t", (Range("x", 0.0, 10.0),)), tmp_path / "t.toml")
    with Engine(threads=1) as engine:
        read_plan(engine, made, tmp_path, tmp_path / "record")

        assert engine.rows("select count(*) from t") == [(10,)]


def test_a_contract_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    made = world(tmp_path)
    (tmp_path / "t.toml").unlink()

    with Engine(threads=1) as engine, pytest.raises(ContractError, match="no such file"):
        read_plan(engine, made, tmp_path, tmp_path / "record")


# --- Spark ---


@pytest.mark.filterwarnings("ignore")  # pyspark leaves sockets open and is told so
@pytest.mark.slow
def test_the_same_rows_are_set_aside_on_spark() -> None:
    pyspark = pytest.importorskip("pyspark.sql")
    columns = {
        "a": [1, 2, 2, 9, None, 3],
        "b": ["x", "it's", "back\\slash", "x", "x", "ab12"],
        "g": [1, 1, 1, 2, 2, 2],
        "at": HOURS,
        "x": ["1", "2", "no", "4", "5", None],
    }
    rules: tuple[Rule, ...] = (
        *(
            Type("x", NUMBER),
            Required("a"),
            Key(("g", "b")),
            Range("a", 0.0, 5.0),
            OneOf("b", ("x", "it's", "back\\slash")),
        ),
        *(
            Pattern("b", "[a-z']+|back.*"),
            Order("g", "a"),
            Nulls("a", "x"),
            Determines(("g",), "b"),
            NeverFalls("a", "at"),
        ),
        *(Arrival("at", "at", "1h"), Holds("g < 3", ("g",))),
    )
    contract = Contract("t", rules)
    spark = pyspark.SparkSession.builder.master("local[1]").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    spark.createDataFrame(list(zip(*columns.values(), strict=True)), list(columns)).createOrReplaceTempView("t")
    with Engine(threads=1) as engine:
        engine.register("t", pa.table(columns))
        kinds = described(engine, "t").kinds
        ours = engine.rows(quarantine_sql(contract, Reader(DUCKDB, '"t"', kinds, contract.types, {}), list(columns)))
    sql = quarantine_sql(contract, Reader(SPARK, "t", kinds, contract.types, {}), list(columns))
    theirs = [tuple(row) for row in spark.sql(sql).collect()]
    spark.stop()

    assert sorted(map(str, theirs)) == sorted(map(str, ours))
