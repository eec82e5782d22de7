"""Every way to join as of then gives the same, on DuckDB and on Spark: strictness, ties, age, the asked row itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import underhood as uh
from tests.test_tables_joins import ASKED, SEEN, Row, asked, at, column, seen, system, when_asked, worlds
from underhood.ground.errors import ProjectError
from underhood.plan.asof import CARRY, HOT, INTERVAL, NATIVE, method_of
from underhood.plan.exprs import col
from underhood.plan.joins import Plan, asks_sql, most_sql, ways_of
from underhood.plan.steps import Base
from underhood.plan.windows import BUCKETS, FEW, PAIRS, SWEEP
from underhood.tables.local import Engine, read_plan

WAYS = (NATIVE, INTERVAL, CARRY)


def planned(engine: Engine, folder: Path, asks: Base, questions: Sequence[Row], events: Sequence[Row] = ()) -> Plan:
    for name, schema, rows in (("asked", ASKED, questions), ("seen", SEEN, events)):
        full = [{**dict.fromkeys(schema), **row} for row in rows]
        pq.write_table(pa.Table.from_pylist(full, schema=pa.schema(list(schema.items()))), folder / f"{name}.parquet")
    return read_plan(engine, system(asks, label_known="at + 40min"), folder, folder / "record")


def joined(folder: Path, asks: Base, questions: Sequence[Row], events: Sequence[Row] = (), way: str = "") -> list[Row]:
    """The table of questions in the order of the asked rows, joined in one way or as the engine would choose."""
    with Engine(threads=2) as engine:
        plan = planned(engine, folder, asks, questions, events)
        return engine.dicts(f"select * from ({asks_sql(plan, ways=every(plan, way))}) order by __row")


def every(plan: Plan, way: str) -> dict[int, str] | None:
    """One way for every as-of join that may be made in it; windows in another way for each."""
    chosen = ways_of(plan, "duckdb")
    window = {NATIVE: PAIRS, INTERVAL: BUCKETS}
    for n, was in chosen.items():
        if was in WAYS:
            chosen[n] = CARRY if was == CARRY else way
        else:
            chosen[n] = window.get(way, was)
    return chosen if way else None


# --- strictness, ties, the asked row ---


@pytest.mark.parametrize("way", WAYS)
def test_a_strict_join_sees_only_what_was_known_before_the_moment_of_asking(tmp_path: Path, way: str) -> None:
    asks = asked().asks("at").asof(seen(), by="shop", take=["v"], strict=True)
    events = [{"shop": "a", "done": at(m), "read": at(m + 2), "v": float(m)} for m in (1, 3)]
    questions = [{"shop": "a", "at": at(m)} for m in (1, 3, 3.001, 5, 5.001)]

    assert column(joined(tmp_path, asks, questions, events, way), "v") == [None, None, 1.0, 1.0, 3.0]


@pytest.mark.parametrize("way", WAYS)
def test_of_rows_that_happened_together_the_largest_tie_break_wins_whenever_it_was_known(
    tmp_path: Path, way: str
) -> None:
    asks = asked().asks("at").asof(seen(), by="shop", take=["v"], tie="v")
    known = {6: 2.0, 7: 3.0, 8: None, 9: 1.0}
    events = [{"shop": "a", "done": at(5), "read": at(m), "v": v} for m, v in known.items()]
    questions = [{"shop": "a", "at": at(m)} for m in (6, 7, 8, 9)]

    assert column(joined(tmp_path, asks, questions, events, way), "v") == [2.0, 3.0, 3.0, 3.0]


def test_a_tie_break_must_be_there_and_known_with_its_row(tmp_path: Path) -> None:
    for tie, said in (("vv", "there is no column 'vv'"), ("w", "w is known late in seen")):
        with pytest.raises(ProjectError, match=said):
            joined(tmp_path, asked().asks("at").asof(seen(), by="shop", take=["v"], tie=tie), [])


def test_an_as_of_join_of_the_asked_source_never_gives_a_question_its_own_row(tmp_path: Path) -> None:
    asks = asked().asks("at + 2min").asof(asked(), by="shop", take={"before": "size"})
    questions = [{"shop": "a", "at": at(m), "size": float(m)} for m in (0, 1, 9, 20)]

    # asked two minutes later, the row of minute 0 sees the one of minute 1
    assert column(joined(tmp_path, asks, questions), "before") == [1.0, 0.0, 1.0, 9.0]


def test_the_asked_file_under_another_name_does_not_show_a_question_its_own_row(tmp_path: Path) -> None:
    other = asked(name="earlier")
    asks = (
        asked()
        .asks("at")
        .asof(other, by="shop", take={"before": "size"})
        .recent(other, by="shop", over="1h", n=uh.count())
    )
    questions = [{"shop": "a", "at": at(m), "size": float(m)} for m in (0, 1)]

    made = joined(tmp_path, asks, questions)

    assert [(row["before"], row["n"]) for row in made] == [(None, 0.0), (0.0, 1.0)]


def test_a_join_without_a_key_takes_the_latest_row_of_all(tmp_path: Path) -> None:
    events = [{"shop": shop, "done": at(m), "read": at(m), "v": float(m)} for m, shop in enumerate(["b", None, "c"])]
    for way in WAYS:
        asks = asked().asks("at").asof(seen(), by=(), take=["v"])

        assert column(joined(tmp_path, asks, [{"shop": "a", "at": at(1)}], events, way), "v") == [1.0]


# --- which way ---


def test_the_way_is_chosen_by_engine_and_by_how_many_rows_a_key_has(tmp_path: Path) -> None:
    events = [{"shop": "a", "done": at(m), "read": at(m)} for m in range(3)] + [{"shop": "b", "done": at(0)}]
    with Engine() as engine:
        plan = planned(engine, tmp_path, asked().asks("at").asof(seen(), by="shop", take=["v"]), [], events)

        assert engine.rows(most_sql(plan, 1)) == [(3,)]
        assert ways_of(plan, "duckdb") == {1: NATIVE}
        assert ways_of(plan, "duckdb", {1: 3}) == {1: INTERVAL}
        assert ways_of(plan, "duckdb", {1: HOT}) == {1: NATIVE}
        assert ways_of(plan, "spark") == {1: CARRY}
        assert ways_of(plan, "spark", {1: 3}) == {1: INTERVAL}
        windows = asked().asks("at").recent(seen(), by="shop", over="1h", n=uh.count())
        plan = planned(engine, tmp_path, windows.recent(seen(), by="shop", over="1h", mean=uh.mean(when_asked)), [])

        assert ways_of(plan, "duckdb") == {1: SWEEP, 2: BUCKETS}
        assert ways_of(plan, "duckdb", {1: FEW, 2: FEW + 1}) == {1: PAIRS, 2: BUCKETS}
    assert method_of("spark", False, HOT + 1) == CARRY
    assert method_of("duckdb", True, 1) == CARRY


# --- any tables ---


def expected_latest(
    n: int, rows: Sequence[Row], question: Row, now: datetime | None, names: Sequence[str], *, strict: bool, tie: bool
) -> Row | None:
    """The row that an as-of join takes; `n` is the place of the asked row among `rows`, or -1."""
    happened, known, value = names

    def is_known(moment: datetime | None) -> bool:
        return bool(moment and now and (moment < now if strict else moment <= now))

    found = []
    for place, row in enumerate(rows):
        is_alike = place != n and row["shop"] is not None and row["shop"] == question["shop"]
        if is_alike and is_known(row[happened]) and is_known(row[known]):
            best = (row[value] is not None, row[value] or 0) if tie else ()
            found.append((row[happened], best, row[known], place))
    return rows[max(found)[3]] if found else None


def any_asks(seed: int) -> tuple[Base, dict[str, Any]]:
    """Joins of all kinds, some strict, some with a tie-break, an age limit."""
    options = {"strict": seed % 2 == 1, "tie": "v" if seed % 3 == 1 else ""}
    age = "30min" if seed % 4 == 2 else None
    own = {"strict": seed % 2 == 1, "tie": "size" if seed % 3 == 1 else ""}
    figures = {"n": uh.count(), "total": uh.total("v"), "mean": uh.mean(when_asked), "share": uh.share(col("w") > 1)}
    return (
        asked()
        .asks("at + 2min")
        .asof(seen(), by="shop", take={"v": "v", "latest_w": "w"}, max_age=age, **options)
        .asof(asked(), by="shop", take={"before": "size"}, **own)
        .recent(seen(), by="shop", over="1h", **figures)
        .recent(seen(), over="20min", swept=uh.mean("v"), high=uh.share(col("w") > 1))
        .recent(asked(), by="shop", over="1h", own_n=uh.count(), own_total=uh.total("size"))
    ), {"strict": bool(options["strict"]), "tie": bool(options["tie"]), "age": timedelta(minutes=30) if age else None}


@pytest.mark.parametrize("seed", range(12))
def test_every_way_gives_what_the_slow_reference_gives(tmp_path: Path, seed: int) -> None:
    questions, events = worlds(seed)
    asks, told = any_asks(seed)
    age = told.pop("age")

    made = {way: joined(tmp_path, asks, questions, events, way) for way in WAYS}

    assert made[NATIVE] == made[CARRY] == made[INTERVAL]
    for n, (question, row) in enumerate(zip(questions, made[NATIVE], strict=True)):
        now = question["at"] and question["at"] + timedelta(minutes=2)
        event = expected_latest(-1, events, question, now, ("done", "read", "v"), **told)
        if event and age and now - event["done"] > age:
            event = None
        other = expected_latest(n, questions, question, now, ("at", "at", "size"), **told)
        late = event["w"] if event and event["w_at"] and event["w_at"] <= now else None
        expected = {"v": event and event["v"], "latest_w": late, "before": other and other["size"]}
        assert expected == {name: row[name] for name in expected}, (n, question)


# --- Spark ---


@pytest.fixture(scope="module", params=["true", "false"], ids=["ansi", "not ansi"])
def spark(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A session of Spark on this machine, in a time zone of its own."""
    sql = pytest.importorskip("pyspark.sql")
    options = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "Asia/Tokyo",
        "spark.sql.ansi.enabled": request.param,
        "spark.driver.memory": "1g",
    }
    builder = sql.SparkSession.builder.master("local[2]")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.conf.set("spark.sql.ansi.enabled", request.param)
    yield session
    if request.param == "false":
        session.stop()


@pytest.mark.filterwarnings("ignore")  # pyspark leaves sockets open and is told so
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4, 6])
def test_spark_joins_as_duckdb_does_to_the_last_bit(spark: Any, tmp_path: Path, seed: int) -> None:
    questions, events = worlds(seed)
    asks, _ = any_asks(seed)
    with Engine(threads=2) as engine:
        plan = planned(engine, tmp_path, asks, questions, events)
        expected = engine.dicts(f"select * from ({asks_sql(plan)}) order by __row")
        for name in plan.sources:
            file = tmp_path / f"cleaned {name}.parquet"
            engine.run(f"copy (select * from \"{name}\") to '{file}' (format parquet)")
            spark.read.parquet(str(file)).createOrReplaceTempView(name)
        for way in (INTERVAL, CARRY):
            rows = spark.sql(f"{asks_sql(plan, 'spark', every(plan, way))}").collect()

            assert [row.asDict() for row in sorted(rows, key=lambda row: row["__row"])] == expected
