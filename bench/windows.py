"""What windows cost: figures over the recent past in few large groups, and for one request.

Usage: python bench/windows.py [--quick]. A generated project: bookings of two hotels over two years, each with
a flag that is known weeks later; the window is 14 days of the same hotel, so it holds some 2 % of all rows. Ours
is the join as it is made for a table of questions, by both clocks and with the late flag masked until it is known.
Beside it, in turns within one run: the range join that people write for the same question, and DuckDB's window
function, which answers another one (one clock, every flag known at once). Goal: at most a fifth of the range join.

Then one request: the same figures, and an as-of join, out of the SQLite file that `underhood.run.events` keeps,
compared to the last bit with the table of questions. Goal: 50 µs (p50) for the row of a request.
The last line is JSON: `ours` and `peer` in CPU seconds, `ratio` the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from underhood.ground.project import read_project
from underhood.plan.joins import Plan, join_sql, ways_of
from underhood.plan.literals import DUCKDB
from underhood.plan.steps import System
from underhood.run.events import Events
from underhood.run.state import State
from underhood.tables.local import Engine, read_asks, read_plan, rows_per_key, stream_rows

GOAL_RATIO, GOAL_US = 0.2, 50.0
DAY_US = 86_400_000_000

PROJECT = """
import underhood as uh

bookings = uh.source("bookings.parquet", happened="booked", late={"settled": ["gone"]})


def has_gone(gone): return gone.fill(False)


def made(name, asks):
    return uh.system(
        name, asks=asks, features=["hotel"], label=uh.label(has_gone, known="settled"),
        goal=uh.goal("bench", costs=uh.costs(act=(1, 1), leave=(0, 2))),
        policy=uh.threshold(act=0.5, otherwise="leave"))


few = made("few", bookings.asks(at="booked").recent(
    bookings, by="hotel", over="14d", n=uh.count(), gone_share=uh.share(has_gone), price=uh.mean("rate")))
thin = made("thin", bookings.asks(at="booked").recent(
    bookings, by="guest", over="180d", n=uh.count(), gone_share=uh.share(has_gone), price=uh.mean("rate")))
many = made("many", bookings.asks(at="booked").asof(bookings, by="agent", take={"rate_before": "rate"}).recent(
    bookings, by="agent", over="30d", n=uh.count(), gone_share=uh.share(has_gone), price=uh.mean("rate")))
"""

RANGE_JOIN = """
select q.__row, count(r.booked) as n, avg(r.rate) as price,
    count(*) filter (where r.settled <= q.booked and r.gone) / nullif(count(r.booked), 0) as gone_share
from bookings q left join bookings r on q.hotel = r.hotel and r.booked < q.booked
and r.booked >= q.booked - interval 14 days group by q.__row"""

WINDOW_FUNCTION = """
select __row, count(*) over w as n, avg(rate) over w as price, avg(gone::int) over w as gone_share
from bookings window w as (partition by hotel order by booked range between interval 14 days preceding
and interval 1 microsecond preceding)"""


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    n_rows, rounds, n_asked = (30_000, 2, 1000) if quick else (100_000, 3, 3000)
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch, Engine() as engine:
        folder = Path(scratch)
        generate(folder, n_rows)
        plan = planned(engine, folder, "few")
        thin = planned(engine, folder, "thin")
        statements = {
            "ours": join_sql(plan, 1, {}),
            "range join": RANGE_JOIN,
            "window function": WINDOW_FUNCTION,
            "ours, thin": join_sql(thin, 1, {}, ways_of(thin, DUCKDB, rows_per_key(engine, thin))),
            "range join, thin": RANGE_JOIN.replace("hotel", "guest").replace("14 days", "180 days"),
        }
        spent: dict[str, list[float]] = {name: [] for name in statements}
        for _ in range(rounds):
            for name, sql in statements.items():
                spent[name].append(seconds(engine, name, sql))
        differ = check(engine)
        request = one_request(engine, planned(engine, folder, "many"), folder, n_asked)
    middle = {name: statistics.median(figures) for name, figures in spent.items()}
    ratio, thin_ratio = (paired(spent["ours" + side], spent["range join" + side]) for side in ("", ", thin"))
    print(f"{n_rows:,} bookings of two hotels, windows of 14 days (CPU seconds)")
    for name, figures in spent.items():
        print(f"{name:>16}: {middle[name]:7.2f} s   (rounds: {' '.join(f'{f:.2f}' for f in figures)})")
    print(f"ours is {ratio:.3f} × the range join (goal: at most {GOAL_RATIO:g}), the same on all {n_rows:,} rows")
    print(f"where each guest has some ten bookings {thin_ratio:.2f} ×")
    print(f"the window function knows every flag at once: wrong on {differ:,} rows")
    print(f"one request, two joins: {request['p50']:.1f} µs p50, {request['p99']:.1f} µs p99 ", end="")
    print(f"(goal: p50 at most {GOAL_US:g}); {request['different']} of {request['asked']:,} differ from history")
    print(
        json.dumps(
            {
                "bench": "windows",
                "ours": round(middle["ours"], 3),
                "peer": round(middle["range join"], 3),
                "ratio": round(ratio, 4),
                "goal": f"ratio <= {GOAL_RATIO:g} and request_us <= {GOAL_US:g} and 0 requests differ",
                "holds": ratio <= GOAL_RATIO and request["p50"] <= GOAL_US and not request["different"],
                "thin_ratio": round(thin_ratio, 2),
                "window_function": round(middle["window function"], 3),
                "request_us": {"p50": round(request["p50"], 1), "p99": round(request["p99"], 1)},
                "requests_that_differ": request["different"],
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def generate(folder: Path, n_rows: int) -> None:
    """Bookings in order of time, of two hotels and 500 agents; whether a guest stays away is known weeks later."""
    random = np.random.default_rng(1)
    start = np.datetime64("2024-01-01T00:00:00", "us")
    booked = start + np.sort(random.integers(0, 2 * 365 * DAY_US, n_rows)) * np.timedelta64(1, "us")
    columns = {
        "hotel": np.array(["City Hotel", "Resort Hotel"])[(random.random(n_rows) < 0.33).astype(int)],
        "agent": random.integers(0, 500, n_rows).astype(float),
        "guest": random.integers(0, n_rows // 10, n_rows).astype(float),
        "booked": booked,
        "settled": booked + random.integers(0, 60 * DAY_US, n_rows) * np.timedelta64(1, "us"),
        "gone": random.random(n_rows) < 0.3,
        "rate": np.round(random.gamma(4, 25, n_rows), 2),
    }
    pq.write_table(pa.table(columns), folder / "bookings.parquet", compression="zstd")
    (folder / "project.py").write_text(PROJECT)


def planned(engine: Engine, folder: Path, name: str) -> Plan:
    """The plan of one of the project's systems, its sources read."""
    system = dict(read_project(folder / "project.py").names)[name]
    assert isinstance(system, System)
    return read_plan(engine, system, folder, folder / ".underhood")


def seconds(engine: Engine, name: str, sql: str) -> float:
    """CPU seconds to make a table of a query: on a busy machine they stay what they are."""
    began = time.process_time()
    engine.run(f'create or replace temp table "made {name}" as {sql}')
    return time.process_time() - began


def paired(ours: Sequence[float], raw: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(ours, raw, strict=True))


def check(engine: Engine) -> int:
    """Ours against the range join on every row; on how many rows the window function says something else."""

    def unlike(name: str, ours: str = "ours") -> int:
        close = "abs(o.price - r.price) > 1e-9 * r.price or abs(o.gone_share - r.gone_share) > 1e-12"
        sql = f'select count(*) from "made {ours}" o join "made {name}" r using (__row) where o.n <> r.n or {close}'
        return int(engine.rows(sql)[0][0])

    assert unlike("range join") == 0, "the windows differ from the range join"
    assert unlike("range join, thin", "ours, thin") == 0, "the windows of guests differ from the range join"
    return unlike("window function")


def one_request(engine: Engine, plan: Plan, folder: Path, n_asked: int) -> dict[str, Any]:
    """µs for the joined row of a request, and how many of them are not to the last bit what history says."""
    read_asks(engine, plan, folder / ".underhood")
    columns, times = list(plan.sources["bookings"].raw), ["booked", "settled"]
    with Events(folder / "past.sqlite", plan) as events:
        events.append("bookings", stream_rows(engine, 'select * from "raw bookings" order by __row', columns, times))
    added = ["rate_before", "n", "gone_share", "price"]
    asked = list(
        stream_rows(
            engine,
            f"select * from asks order by hash(__row) limit {n_asked}",
            ["key", "asked_at", "hotel", "agent", *added],
            ["asked_at"],
        )
    )
    different, spent = 0, []
    with State(folder / "past.sqlite") as state:
        for ask in [*asked[:200], *asked]:
            given = {"hotel": ask["hotel"], "agent": ask["agent"]}
            began = time.perf_counter_ns()
            made = state.row(given, ask["asked_at"], ask["key"])
            spent.append((time.perf_counter_ns() - began) / 1000)
            different += made != {name: ask[name] for name in added}
    return {"asked": len(asked), "different": different, **quantiles(spent[200:])}


def quantiles(figures: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile."""
    ordered = sorted(figures)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)]}


if __name__ == "__main__":
    main()
