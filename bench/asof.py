"""What it costs to join as of then, with two clocks, beside DuckDB's own as-of join, which has one.

Usage: python bench/asof.py [--quick]. A generated project: questions and readings in Parquet, each reading
known some time after it happened. Ours is the whole statement that makes the table of questions: cleaned
columns, the join by both clocks, age limit, label, order of asking; the raw side is `ASOF LEFT JOIN` of the
same two files by one clock. Both write a table in one engine, in turns within one run. Goal for now: at
most twice the raw join, which is wrong whenever a reading becomes known late.

Also: our windows (`recent`, in buckets as wide as the window) beside the range join that people write;
the goal is to be faster. Ours is compared with a join by hand on a sample, so that what is measured is right.
The last line is JSON: `ours` and `peer` in seconds for the as-of join, `ratio` the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from underhood.ground.project import read_project
from underhood.plan.joins import asks_sql
from underhood.plan.steps import System
from underhood.tables.local import Engine, read_plan

GOAL_ASOF, GOAL_RECENT = 2.0, 1.0  # times raw
DAY_US, YEAR_US = 86_400_000_000, 365 * 86_400_000_000

PROJECT = """
import underhood as uh

questions = uh.source("questions.parquet", happened="asked", late={"asked + 1d": ["outcome"]})
readings = uh.source("readings.parquet", happened="taken", known="arrived")


def wrong(outcome): return outcome > 0.5


def made(name, asks, features):
    return uh.system(
        name, asks=asks, features=features, label=uh.label(wrong, known="asked + 1d"),
        goal=uh.goal("bench", costs=uh.costs(act=(1, 1), leave=(0, 2))),
        policy=uh.threshold(act=0.5, otherwise="leave"))


asof = made(
    "asof", questions.asks(at="asked").asof(readings, by="place", take=["level", "second"], max_age="7d"),
    ["place", "level", "second"])
recent = made(
    "recent", questions.asks(at="asked").recent(readings, by="place", over="12h",
                                                n=uh.count(), middle=uh.mean("level")),
    ["place", "n", "middle"])
"""

RAW_ASOF = """
select q.*, r.level, r.second from read_parquet('{questions}') q
asof left join read_parquet('{readings}') r on q.place = r.place and q.asked >= r.taken"""

RAW_RANGE = """
select q.id, any_value(q.place) as place, count(r.taken) as n, avg(r.level) as middle
from read_parquet('{questions}') q left join read_parquet('{readings}') r
on q.place = r.place and r.taken < q.asked and r.taken >= q.asked - interval 12 hours and r.arrived <= q.asked
group by q.id"""

# the last taken of those arrived by then, not older than a week; of equals the later row
BY_HAND_ASOF = """
select q.id, arg_max(r.level, (r.taken, r.row)) as level from (select * from read_parquet('{questions}') limit {n}) q
left join (select *, row_number() over () as row from read_parquet('{readings}')) r
on q.place = r.place and r.taken <= q.asked and r.arrived <= q.asked
group by q.id, q.asked having max(r.taken) is null or max(r.taken) >= q.asked - interval 7 days"""


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    n_questions, n_readings = (200_000, 50_000) if quick else (1_000_000, 200_000)
    rounds = {"as-of": 5, "recent": 2} if quick else {"as-of": 9, "recent": 2}
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch, Engine() as engine:
        folder = Path(scratch)
        generate(folder, n_questions, n_readings)
        files = {name: str(folder / f"{name}.parquet") for name in ("questions", "readings")}
        statements = {
            "as-of": joined(engine, folder, "asof"),
            "as-of, raw": RAW_ASOF.format(**files),
            "recent": joined(engine, folder, "recent"),
            "recent, raw": RAW_RANGE.format(**files),
        }
        spent: dict[str, list[float]] = {name: [] for name in statements}
        for name, n in rounds.items():
            for _ in range(n):
                for side in (name, f"{name}, raw"):
                    spent[side].append(seconds(engine, side, statements[side]))
        n_checked, n_late = check(engine, files, n_questions)
    middle = {name: statistics.median(figures) for name, figures in spent.items()}
    ratio, recent_ratio = (paired(spent[name], spent[f"{name}, raw"]) for name in rounds)
    print(f"{n_questions:,} questions, {n_readings:,} readings")
    for name, figures in spent.items():
        shown = " ".join(f"{figure:.2f}" for figure in figures)
        print(f"{name:>12}: {middle[name]:6.2f} s   (rounds: {shown})")
    print(f"ours is what a join by hand gives on {n_checked:,} questions; one clock is wrong on {n_late:,} of them")
    print(f"as-of {ratio:.2f} × raw (goal: at most {GOAL_ASOF:g}, for now), ", end="")
    print(f"recent {recent_ratio:.2f} × the range join (goal: below {GOAL_RECENT:g})")
    print(
        json.dumps(
            {
                "bench": "asof",
                "ours": round(middle["as-of"], 3),
                "peer": round(middle["as-of, raw"], 3),
                "ratio": round(ratio, 2),
                "goal": f"ratio <= {GOAL_ASOF:g} and recent_ratio < {GOAL_RECENT:g}",
                "holds": ratio <= GOAL_ASOF and recent_ratio < GOAL_RECENT,
                "recent": round(middle["recent"], 3),
                "range_join": round(middle["recent, raw"], 3),
                "recent_ratio": round(recent_ratio, 2),
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def generate(folder: Path, n_questions: int, n_readings: int) -> None:
    """A year of questions and readings at 200 places; a reading is known up to a day late."""
    random = np.random.default_rng(1)
    places = np.array([f"place {n:03}" for n in range(200)])

    def moments(n: int) -> np.ndarray:
        start = np.datetime64("2024-01-01T00:00:00", "us")
        return start + random.integers(0, YEAR_US // 1_000_000, n) * np.timedelta64(1, "s")

    taken = moments(n_readings)
    delay = (random.random(n_readings) ** 3 * DAY_US).astype(np.int64) * np.timedelta64(1, "us")
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


def joined(engine: Engine, folder: Path, name: str) -> str:
    """The statement that makes the table of questions of one of the project's systems, its sources read."""
    names = dict(read_project(folder / "project.py").names)
    system = names[name]
    assert isinstance(system, System)
    return asks_sql(read_plan(engine, system, folder, folder / ".underhood"))


def seconds(engine: Engine, name: str, sql: str) -> float:
    """Seconds to make a table of a query."""
    began = time.perf_counter()
    engine.run(f'create or replace temp table "made {name}" as {sql}')
    return time.perf_counter() - began


def paired(ours: list[float], raw: list[float]) -> float:
    """The median of the rounds' ratios: on a busy machine both sides of a round are disturbed alike."""
    return statistics.median(a / b for a, b in zip(ours, raw, strict=True))


def check(engine: Engine, files: Mapping[str, str], n_questions: int) -> tuple[int, int]:
    """Ours against a join by hand on a sample: how many were compared, and where one clock differs."""
    n = 2000
    by_hand = dict(engine.rows(BY_HAND_ASOF.format(n=n, **files)))
    ours = dict(engine.rows(f'select id, level from "made as-of" where id < {n}'))
    raw = dict(engine.rows(f'select id, level from "made as-of, raw" where id < {n}'))
    assert {i: by_hand.get(i) for i in ours} == ours, "the as-of join differs from the join by hand"
    for name in ("as-of", "recent", "recent, raw"):
        assert engine.rows(f'select count(*) from "made {name}"') == [(n_questions,)], f"{name} lost or added rows"
    differ = (
        'select count(*) from "made recent" o join "made recent, raw" r using (id) '
        "where o.n <> r.n or abs(o.middle - r.middle) > 1e-9 or (o.middle is null) <> (r.middle is null)"
    )
    assert engine.rows(differ) == [(0,)], "the windows differ from the range join"
    return len(ours), sum(raw[i] != level for i, level in ours.items())


if __name__ == "__main__":
    main()
