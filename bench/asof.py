"""What it costs to join as of then, beside DuckDB's own as-of join.

Usage: python bench/asof.py [--quick] [--peer PYTHON]. A generated project: questions and readings in Parquet, 50
questions and 10 readings a place. Each side writes a table in one engine, in turns within one run:
- one clock, the same question: ours (the join as it is made, cleaned columns, ties broken) and `ASOF LEFT JOIN`
  of the same two files. Goal: at most 1.2 times the raw join;
- two clocks: each reading known some time after it happened, which the raw join cannot ask;
- the whole table of questions by two clocks: age limit, label, order of asking.
The ways to join by two clocks stand beside: DuckDB's as-of join, and the two that need none. To choose between
them, the rows of the most frequent place are counted: that belongs to ours. Seconds are CPU seconds: on a busy
machine they stay what they are. Ours is compared with a join by hand on a sample, so that what is measured is right.
Feast (its DuckDB offline store) makes the one-clock join of the same two files in a process of its own when `--peer`
names a Python that has it (measured: feast 0.67 with pandas 2.3, duckdb 1.5.6, sqlglot 30.17). Both in seconds of
wall time, from files to a table in memory; imports, registration and a first small join left out of Feast's. Goal:
at least 10 times ours, which runs on this Python's DuckDB.
The last line is JSON: `ours` and `peer` in seconds for one clock, `ratio` the median of the rounds' ratios;
`feast_ratio` only when it was measured.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from underhood.ground.project import read_project
from underhood.plan.asof import CARRY, INTERVAL, NATIVE, Side, asof_sql
from underhood.plan.joins import Plan, asks_sql, most_sql, ways_of
from underhood.plan.literals import DUCKDB
from underhood.plan.steps import Asof, System
from underhood.tables.local import Engine, read_plan, rows_per_key

GOAL, GOAL_FEAST = 1.2, 10.0  # times raw; times ours
QUICK, FULL = (500_000, 100_000), (5_000_000, 1_000_000)  # questions, readings
PAIRED = ("one clock", "two clocks")
DAY_US, YEAR_US = 86_400_000_000, 365 * 86_400_000_000

PROJECT = """
import underhood as uh

questions = uh.source("questions.parquet", happened="asked", late={"asked + 1d": ["outcome"]})
readings = uh.source("readings.parquet", happened="taken", known="arrived")
at_once = uh.source("readings.parquet", name="at_once", happened="taken")


def wrong(outcome): return outcome > 0.5


def made(name, asks, features):
    return uh.system(
        name, asks=asks, features=features, label=uh.label(wrong, known="asked + 1d"),
        goal=uh.goal("bench", costs=uh.costs(act=(1, 1), leave=(0, 2))),
        policy=uh.threshold(act=0.5, otherwise="leave"))


asks, features = questions.asks(at="asked"), ["place", "level", "second"]
one_clock = made("one_clock", asks.asof(at_once, by="place", take=["level", "second"]), features)
two_clocks = made("two_clocks", asks.asof(readings, by="place", take=["level", "second"]), features)
whole = made("whole", asks.asof(readings, by="place", take=["level", "second"], max_age="30d"), features)
"""

RAW_ASOF = """
select q.*, r.level, r.second from read_parquet('{questions}') q
asof left join read_parquet('{readings}') r on q.place = r.place and q.asked >= r.taken"""

# the last taken of those arrived by then, not older than 30 days; of equals the later row
BY_HAND_ASOF = """
select q.id, arg_max(r.level, (r.taken, r.row)) as level from (select * from read_parquet('{questions}') limit {n}) q
left join (select *, row_number() over () as row from read_parquet('{readings}')) r
on q.place = r.place and r.taken <= q.asked and r.arrived <= q.asked
group by q.id, q.asked having max(r.taken) is null or max(r.taken) >= q.asked - interval 30 days"""


FEAST = """
import json, resource, sys, time
from datetime import timedelta
from importlib.metadata import version
import pandas as pd
import pyarrow.compute as pc
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64
folder = sys.argv[1]
store = FeatureStore(config=RepoConfig(
    project="bench", provider="local", registry=folder + "/registry.db", offline_store={"type": "duckdb"},
    online_store={"type": "sqlite", "path": folder + "/online.db"}, entity_key_serialization_version=3))
place = Entity(name="place", join_keys=["place"], value_type=ValueType.STRING)
view = FeatureView(
    name="readings", entities=[place], ttl=timedelta(0), online=False,
    schema=[Field(name="level", dtype=Float64), Field(name="second", dtype=Float64)],
    source=FileSource(path=folder + "/readings.parquet", timestamp_field="taken"))
store.apply([place, view])
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def asks():
    return pd.read_parquet(folder + "/questions.parquet").rename(columns={"asked": "event_timestamp"})
def joined(rows):
    return store.get_historical_features(entity_df=rows, features=["readings:level", "readings:second"]).to_arrow()
joined(asks().head(10))
began, spent = time.perf_counter(), cpu()
table = joined(asks())
wall, spent = time.perf_counter() - began, cpu() - spent
print(json.dumps({"wall": wall, "cpu": spent, "rows": table.num_rows, "matched": pc.count(table["level"]).as_py(),
                  "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "feast": version("feast"), "duckdb": version("duckdb")}))
"""


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    peer = sys.argv[sys.argv.index("--peer") + 1] if "--peer" in sys.argv[1:] else ""
    n_questions, n_readings = QUICK if quick else FULL
    rounds = 4 if quick else 5
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch, Engine(memory_mb=4000) as engine:
        folder = Path(scratch)
        generate(folder, n_questions, n_readings)
        files = {name: str(folder / f"{name}.parquet") for name in ("questions", "readings")}
        plans = {name: planned(engine, folder, name) for name in ("one_clock", "two_clocks", "whole")}
        statements = {
            "raw": RAW_ASOF.format(**files),
            "counting": most_sql(plans["one_clock"], 1),
            "one clock": joined(plans["one_clock"], chosen(engine, plans["one_clock"])),
            "two clocks": joined(plans["two_clocks"], chosen(engine, plans["two_clocks"])),
            "native": joined(plans["two_clocks"], NATIVE),
            "interval": joined(plans["two_clocks"], INTERVAL),
            "carry": joined(plans["two_clocks"], CARRY),
            "whole table": asks_sql(plans["whole"], ways={1: chosen(engine, plans["whole"])}),
        }
        spent: dict[str, list[float]] = {name: [] for name in statements}
        for _ in range(rounds):
            for name, sql in statements.items():
                spent[name].append(seconds(engine, name, sql))
        n_checked, n_late = check(engine, files, n_questions)
        walls = [wall_seconds(engine, [statements["counting"], statements["one clock"]]) for _ in range(rounds)]
        n_matched = engine.rows('select count(level) from "made one clock"')[0][0]
        feast = feast_figures(peer, folder)
    middle = {name: statistics.median(figures) for name, figures in spent.items()}
    ours = {name: list(map(sum, zip(spent["counting"], spent[name], strict=True))) for name in PAIRED}
    ratio, two = (paired(ours[name], spent["raw"]) for name in PAIRED)
    print(f"{n_questions:,} questions, {n_readings:,} readings at {n_readings // 10:,} places (CPU seconds)")
    for name, figures in spent.items():
        shown = " ".join(f"{figure:.2f}" for figure in figures)
        print(f"{name:>12}: {middle[name]:6.2f} s   (rounds: {shown})")
    print(f"ours is what a join by hand gives on {n_checked:,} questions; one clock is wrong on {n_late:,} of them")
    print(f"as-of by one clock {ratio:.2f} × raw (goal: at most {GOAL:g}), by two {two:.2f} ×")
    feast_ratio = tell_feast(feast, statistics.median(walls), n_matched)
    print(
        json.dumps(
            {
                "bench": "asof",
                "ours": round(statistics.median(ours["one clock"]), 3),
                "peer": round(middle["raw"], 3),
                "ratio": round(ratio, 2),
                "goal": f"ratio <= {GOAL:g}",
                "holds": ratio <= GOAL,
                "two_clocks_ratio": round(two, 2),
                **({"feast_ratio": round(feast_ratio, 1)} if feast_ratio else {}),
                "seconds": {name: round(figure, 3) for name, figure in middle.items()},
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def generate(folder: Path, n_questions: int, n_readings: int) -> None:
    """A year of questions and readings, ten readings a place; a reading is known up to ten days late."""
    random = np.random.default_rng(1)
    places = np.array([f"place {n:06}" for n in range(n_readings // 10)])

    def moments(n: int) -> np.ndarray:
        start = np.datetime64("2024-01-01T00:00:00", "us")
        return start + random.integers(0, YEAR_US // 1_000_000, n) * np.timedelta64(1, "s")

    taken = moments(n_readings)
    delay = (random.random(n_readings) ** 3 * 10 * DAY_US).astype(np.int64) * np.timedelta64(1, "us")
    questions = {
        "id": np.arange(n_questions, dtype=float),
        "place": places[random.integers(0, len(places), n_questions)],
        "asked": moments(n_questions),
        "amount": random.random(n_questions),
        "outcome": random.random(n_questions),
    }
    readings = {
        "place": places[random.integers(0, len(places), n_readings)],
        "taken": taken,
        "arrived": taken + delay,
        "level": random.random(n_readings),
        "second": random.random(n_readings),
    }
    write(folder / "questions.parquet", questions)
    write(folder / "readings.parquet", readings)
    (folder / "project.py").write_text(PROJECT)


def write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    pq.write_table(pa.table(dict(columns)), path, compression="zstd")


def planned(engine: Engine, folder: Path, name: str) -> Plan:
    """The plan of one of the project's systems, its sources read."""
    system = dict(read_project(folder / "project.py").names)[name]
    assert isinstance(system, System)
    return read_plan(engine, system, folder, folder / ".underhood")


def chosen(engine: Engine, plan: Plan) -> str:
    """The way to join that fits the readings."""
    return ways_of(plan, DUCKDB, rows_per_key(engine, plan))[1]


def joined(plan: Plan, way: str) -> str:
    """The questions with what one as-of join adds, and no more."""
    (join,) = plan.system.asks.joins
    assert isinstance(join, Asof)
    left = "(select __row, id, place, asked as asked_at, amount, outcome from questions)"
    return asof_sql(join, plan.sources[join.source.name], 1, Side(left), way)


def seconds(engine: Engine, name: str, sql: str) -> float:
    """CPU seconds to make a table of a query."""
    began = time.process_time()
    engine.run(f'create or replace temp table "made {name}" as {sql}')
    return time.process_time() - began


def wall_seconds(engine: Engine, statements: list[str]) -> float:
    """Seconds of wall time to make a table of each query, one after the other."""
    began = time.perf_counter()
    for sql in statements:
        engine.run(f'create or replace temp table "timed" as {sql}')
    return time.perf_counter() - began


def feast_figures(python: str, folder: Path) -> dict[str, Any] | None:
    """What Feast needs for the one-clock join and what comes out: seconds, MB, rows, versions.

    None without a Python that has it; only `failed`, the reason, where it did not run.
    """
    if not python:
        return None
    command = [python, "-W", "ignore", "-c", FEAST, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return {"failed": why}
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def tell_feast(feast: Mapping[str, Any] | None, ours: float, n_matched: int) -> float | None:
    """Prints Feast's figures beside ours, in wall time; gives the ratio, None where Feast was not measured."""
    if not feast:
        print("feast: not installed")
        return None
    if "failed" in feast:
        print(f"feast: did not run: {feast['failed']}")
        return None
    ratio: float = feast["wall"] / ours
    print(
        f"feast {feast['feast']} on duckdb {feast['duckdb']}: "
        f"{feast['wall']:.2f} s of wall time ({feast['cpu']:.2f} s CPU, peak {feast['peak_mb']:,.0f} MB), "
        f"{feast['rows']:,} rows out, {feast['matched']:,} with a reading (ours {n_matched:,})\n"
        f"feast: {ratio:.1f} × ours, which takes {ours:.2f} s of wall time (goal: at least {GOAL_FEAST:g})"
    )
    return ratio


def paired(ours: list[float], raw: list[float]) -> float:
    """The median of the rounds' ratios: on a busy machine both sides of a round are disturbed alike."""
    return statistics.median(a / b for a, b in zip(ours, raw, strict=True))


def check(engine: Engine, files: Mapping[str, str], n_questions: int) -> tuple[int, int]:
    """Ours against a join by hand on a sample: how many were compared, and where one clock differs."""
    n = 2000

    def sample(name: str) -> dict[float, float | None]:
        return dict(engine.rows(f'select id, level from "made {name}" where id < {n}'))

    by_hand = dict(engine.rows(BY_HAND_ASOF.format(n=n, **files)))
    ours = sample("whole table")
    assert {i: by_hand.get(i) for i in ours} == ours, "the as-of join differs from the join by hand"
    assert sample("one clock") == sample("raw"), "by one clock ours differs from the raw join"
    for way in ("native", "interval", "carry"):
        differ = f'select count(*) from "made two clocks" o join "made {way}" r using (id) where o.level is distinct '
        assert engine.rows(differ + "from r.level") == [(0,)], f"{way} differs from the native join"
    for name in ("one clock", "two clocks", "native", "interval", "carry", "whole table"):
        assert engine.rows(f'select count(*) from "made {name}"') == [(n_questions,)], f"{name} lost or added rows"
    return len(ours), sum(sample("raw")[i] != level for i, level in sample("two clocks").items())


if __name__ == "__main__":
    main()
