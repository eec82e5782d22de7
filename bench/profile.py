"""What it costs to profile every column, beside DuckDB's own SUMMARIZE, which gives less.

Usage: python bench/profile.py [--quick]. A generated Parquet file of 10 million rows (quick: 3 million) and 30
columns of mixed types: ids, measurements, prices, times, days, flags, categories, texts of few and of many values,
nulls. Ours opens the file and makes the whole profile: counts, extremes, moments, quantiles, mergeable histograms,
exact top values, text patterns, sketches of distinct values; theirs is `SUMMARIZE` of the same view: extremes,
approximate distinct, mean, sd, three quantiles, share of nulls. In turns within one run, each in a process of its
own, so that the peak of memory is its own. Goal: at most 0.7 times SUMMARIZE at a peak of at most 3 GB.

Figures are checked against exact SQL on four columns before they are told. The last line is JSON.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from underhood.signs.profile import Profile, profile_table
from underhood.tables.frames import open_table
from underhood.tables.local import Engine

GOAL_RATIO, GOAL_MB = 0.7, 3000

COLUMNS = [
    "range as id",
    "range * 7919 % 1000003 as customer",
    "(hash(range + 1) % 50)::INTEGER as small",
    "(hash(range + 2) % 2000)::INTEGER as middling",
    "(hash(range + 3) % 10000000) as wide",
    "hash(range + 4) % 2 = 0 as even",
    "hash(range + 5) % 10 = 0 as rare",
    *[
        f"exp((hash(range * 31 + {i}) % 100000) / 20000.0) + (hash(range * 17 + {i}) % 1000) / 1000.0 as measured_{i}"
        for i in range(10)
    ],
    *[f"round((hash(range * 13 + {i}) % 100000) / 100.0, 2)::DOUBLE as price_{i}" for i in range(3)],
    "case when hash(range + 11) % 5 > 0 then (hash(range + 12) % 1000) / 7.0 end as sometimes",
    *[
        f"timestamp '2020-01-01' + to_seconds((hash(range * 3 + {i}) % 100000000)::BIGINT) as moment_{i}"
        for i in range(2)
    ],
    "date '2020-01-01' + (hash(range + 13) % 1500)::INTEGER as day",
    *[
        f"['red', 'green', 'blue', 'violet', 'orange', 'black', 'white', 'none'][1 + (hash(range * 5 + {i}) % 8)::INT] "
        f"as colour_{i}"
        for i in range(4)
    ],
    "'city ' || (hash(range + 14) % 900)::VARCHAR as city",
    "'user' || (hash(range + 15) % 5000000)::VARCHAR as account",
]


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    rows, rounds = (3_000_000, 2) if quick else (10_000_000, 3)
    spent: dict[str, list[float]] = {"ours": [], "SUMMARIZE": []}
    peak: dict[str, int] = {"ours": 0, "SUMMARIZE": 0}
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch:
        file = Path(scratch) / "made.parquet"
        with Engine() as engine:
            engine.run(
                f"copy (select {', '.join(COLUMNS)} from range({rows})) to '{file}' (format parquet, compression zstd)"
            )
        for _ in range(rounds):
            for side in spent:
                told = subprocess.run(
                    [sys.executable, __file__, "--side", side, str(file)], capture_output=True, text=True, check=True
                )
                seconds, megabytes = json.loads(told.stdout)
                spent[side].append(seconds)
                peak[side] = max(peak[side], megabytes)
        check(file)
    ratio = statistics.median(a / b for a, b in zip(*spent.values(), strict=True))
    print(f"{rows:,} rows × {len(COLUMNS)} columns")
    for side, figures in spent.items():
        shown = " ".join(f"{figure:.2f}" for figure in figures)
        print(f"{side:>10}: {statistics.median(figures):6.2f} s, peak {peak[side]:,} MB   (rounds: {shown})")
    print(f"{ratio:.2f} × SUMMARIZE (goal: at most {GOAL_RATIO:g}), peak {peak['ours']:,} MB (at most {GOAL_MB:,})")
    print(
        json.dumps(
            {
                "bench": "profile",
                "ours": round(statistics.median(spent["ours"]), 2),
                "peer": round(statistics.median(spent["SUMMARIZE"]), 2),
                "ratio": round(ratio, 2),
                "peak_mb": peak["ours"],
                "goal": f"ratio <= {GOAL_RATIO:g} and peak_mb <= {GOAL_MB}",
                "holds": ratio <= GOAL_RATIO and peak["ours"] <= GOAL_MB,
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def one_side(side: str, file: Path) -> None:
    """One of the two in this process: prints seconds and its peak of memory in MB."""
    with Engine() as engine:
        began = time.perf_counter()
        table = open_table(engine, file)
        if side == "ours":
            profile_table(engine, table)
        else:
            engine.rows(f'summarize "{table.name}"')
        seconds = time.perf_counter() - began
    unit = 1 << 20 if platform.system() == "Darwin" else 1 << 10
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit]))


def check(file: Path) -> None:
    """The figures that are told are those that exact SQL gives."""
    with Engine() as engine:
        table = open_table(engine, file)
        found = profile_table(engine, table)
        exact_enough(engine, found, "measured_1")
        exact_enough(engine, found, "price_0")
        counts = engine.rows('select city, count(*) from "made" group by 1 order by 2 desc, 1')
        assert list(found.columns["city"].top) == counts, "top values differ from a count"
        nulls = engine.rows("select count(*) from made where sometimes is null")[0][0]
        assert found.columns["sometimes"].nulls == nulls, "nulls differ from a count"


def exact_enough(engine: Engine, found: Profile, name: str) -> None:
    column = found.columns[name]
    distinct, mean, sd = engine.rows(f"select count(distinct {name}), avg({name}), stddev({name}) from made")[0]
    assert abs(column.distinct / distinct - 1) < 0.1, "distinct values are off by more than 10 %"
    assert column.mean is not None
    assert column.sd is not None
    assert abs(column.mean / mean - 1) < 1e-9
    assert abs(column.sd / sd - 1) < 1e-6
    for share, place in column.quantiles.items():
        below = engine.rows(f"select avg(({name} <= {place!r})::INT) from made")[0][0]
        assert abs(below - share) < 1 / 128, f"quantile {share} of {name} is off by {abs(below - share):.4f}"


if __name__ == "__main__":
    if "--side" in sys.argv:
        one_side(sys.argv[-2], Path(sys.argv[-1]))
    else:
        main()
