"""What it costs to compare two tables of 1,000,000 × 30, beside a binned pass written by hand, and beside Evidently.

Usage: python bench/compare.py [--quick] [--peer PYTHON]. A generated table (20 numbers, 10 texts of 2 to 1,000
levels) and a second draw of it with five planted changes, in Parquet. Raw: DuckDB, ten reference-quantile bins,
PSI, JS, KS, share of nulls and new levels, as one would write it by hand; it ranks columns by distance and names
nothing. Ours names each change with its parameters. Each run is a process of its own, imports included, in turns.

Not like for like: raw and Evidently read every row of every column. Ours counts levels, missing texts and repeated
rows in all rows, but numbers in a draw of about 131,072 (bins.COUNTED). When it counted all numbers it took 5.3 s of
CPU, 1.5 times raw, and Evidently took 26 times ours. The size is the same with --quick: on smaller tables the fixed
cost of about 2 s shows (200,000 rows: 3 times raw).

Goal: at most 2.5 times the CPU of the raw pass; at least 40 times less CPU than Evidently's default drift report,
when `--peer` names a Python that has it (evidently 0.7 needs pandas<3). CPU, because others use the machine too.
The last line is JSON: `ours` and `peer` (the raw pass) in seconds of CPU, `ratio` the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import math
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

GOAL_RAW, GOAL_EVIDENTLY = 2.5, 40.0
LEVELS = [2, 3, 5, 8, 12, 20, 50, 100, 300, 1000]
NUMBERS = [f"num_{i:02d}" for i in range(20)]
TEXTS = [f"cat_{j:02d}" for j in range(10)]
PLANTED = {
    "num_03": ("factor", "5 % of the rows × 100"),
    "num_07": ("shift", "+ 1.8, a third of its scale"),
    "num_11": ("missing", "2 → 12 %"),
    "cat_02": ("variant", "20 % of the rows in lower case"),
    "cat_05": ("new_level", "3 % of the rows"),
}

EVIDENTLY = """
import json, resource, sys, time
began = time.perf_counter()
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
numbers, texts, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
columns = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
one, other = (Dataset.from_pandas(pd.read_parquet(f"{folder}/{n}.parquet"), data_definition=columns)
              for n in ("one", "other"))
Report([DataDriftPreset()]).run(other, one).dict()
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall": time.perf_counter() - began, "cpu": used.ru_utime + used.ru_stime,
                  "peak_mb": used.ru_maxrss / 1024, "found": {}}))
"""


def main() -> None:
    if "--side" in sys.argv:
        side, folder = sys.argv[sys.argv.index("--side") + 1 :][:2]
        run_side(side, folder)
        return
    quick = "--quick" in sys.argv[1:]
    peer = sys.argv[sys.argv.index("--peer") + 1] if "--peer" in sys.argv[1:] else None
    n_rows, rounds = 1_000_000, 2 if quick else 5
    spent: dict[str, list[dict]] = {"ours": [], "raw": []}
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch:
        for name, seed in (("one", 1), ("other", 2)):
            generate(Path(scratch) / f"{name}.parquet", n_rows, seed, has_faults=name == "other")
        for _ in range(rounds):
            for side in spent:
                spent[side].append(measured([sys.executable, __file__, "--side", side, scratch]))
        evidently = None
        if peer:
            evidently = measured(
                [peer, "-W", "ignore", "-c", EVIDENTLY, json.dumps(NUMBERS), json.dumps(TEXTS), scratch]
            )
    tell(n_rows, spent, evidently, peer)


def tell(n_rows: int, spent: dict[str, list[dict]], evidently: dict | None, peer: str | None) -> None:
    """Prints the figures and the line of JSON."""
    middle = {
        side: {what: statistics.median(r[what] for r in runs) for what in ("cpu", "wall", "peak_mb")}
        for side, runs in spent.items()
    }
    ratio = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(spent["ours"], spent["raw"], strict=True))
    print(f"two tables of {n_rows:,} × 30")
    for side, figures in middle.items():
        print(
            f"{side:>10}: {figures['cpu']:6.2f} s CPU, {figures['wall']:6.2f} s, peak {figures['peak_mb']:,.0f} MB"
            f"   (rounds, CPU: {' '.join(format(r['cpu'], '.2f') for r in spent[side])})"
        )
    times = None
    if evidently:
        times = evidently["cpu"] / middle["ours"]["cpu"]
        print(
            f" evidently: {evidently['cpu']:6.2f} s CPU, {evidently['wall']:6.2f} s, "
            f"peak {evidently['peak_mb']:,.0f} MB"
            f"   = {times:.0f} × ours (goal: at least {GOAL_EVIDENTLY:g})"
        )
    else:
        print(" evidently: not installed here; try --peer PYTHON, a Python that has it")
    found = spent["ours"][-1]["found"]
    for column, (kind, what) in PLANTED.items():
        print(f"    {column}: planted {kind:9} {what:32} told: {found.get(column, 'nothing')}")
    false_alarms = sorted(set(found) - PLANTED.keys())
    is_named = all(found.get(c, "").startswith(kind + ":") for c, (kind, _) in PLANTED.items())
    print(f"    told of the 25 columns that did not change: {false_alarms or 'nothing'}")
    print(f"{ratio:.2f} × the raw pass (goal: at most {GOAL_RAW:g})")
    goal = f"ratio <= {GOAL_RAW:g}" + (f" and evidently_times >= {GOAL_EVIDENTLY:g}" if evidently else "")
    print(
        json.dumps(
            {
                "bench": "compare",
                "ours": round(middle["ours"]["cpu"], 2),
                "peer": round(middle["raw"]["cpu"], 2),
                "ratio": round(ratio, 2),
                "goal": goal + " and all five named, none else",
                "holds": ratio <= GOAL_RAW
                and is_named
                and not false_alarms
                and (times is None or times >= GOAL_EVIDENTLY),
                "peak_mb": round(middle["ours"]["peak_mb"]),
                "raw_peak_mb": round(middle["raw"]["peak_mb"]),
                "evidently": round(evidently["cpu"], 1) if evidently else None,
                "evidently_times": round(times, 1) if times else None,
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def measured(command: list[str]) -> dict:
    """A process of its own, which prints one line of JSON last."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    made: dict = json.loads(done.stdout.splitlines()[-1])
    return made


def run_side(side: str, folder: str) -> None:
    began = time.perf_counter()
    found = {"ours": ours, "raw": raw}[side](folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "wall": time.perf_counter() - began,
                "cpu": used.ru_utime + used.ru_stime,
                "peak_mb": used.ru_maxrss / 1024,
                "found": found,
            }
        )
    )


def ours(folder: str) -> dict[str, str]:
    """Column → kind and sentence of its most important move."""
    from underhood.moves.compare import compare
    from underhood.tables.frames import open_table
    from underhood.tables.local import Engine

    with Engine(threads=2) as engine:
        one, other = (open_table(engine, f"{folder}/{name}.parquet", name) for name in ("one", "other"))
        moves = compare(engine, one, other).moves
    return {move.columns[0] if move.columns else "": f"{move.kind}: {move.says}" for move in reversed(moves)}


def raw(folder: str) -> dict[str, str]:
    """The binned pass by hand: edges from the reference, one histogram pass a side, counts of levels a column."""
    import duckdb

    con = duckdb.connect(config={"threads": 2, "memory_limit": "1200MB"})
    one, other = (f"read_parquet('{folder}/{name}.parquet')" for name in ("one", "other"))
    tenths = "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]"
    asked = ", ".join(f"approx_quantile({c}, {tenths})" for c in NUMBERS)
    edges = dict(zip(NUMBERS, con.execute(f"select {asked} from {one}").fetchall()[0], strict=True))
    counted = []
    for table in (one, other):
        asked = ", ".join(f"histogram({c}, {sorted(set(edges[c]))}::double[]), count({c})" for c in NUMBERS)
        counted.append(con.execute(f"select count(*), {asked} from {table}").fetchall()[0])
    scores = {}
    for place, column in enumerate(NUMBERS):
        (a, n_a), (b, n_b) = (row[1 + 2 * place : 3 + 2 * place] for row in counted)
        scores[column] = psi_js_ks([(a.get(k, 0) / n_a, b.get(k, 0) / n_b) for k in sorted(a.keys() | b.keys())])
    for column in TEXTS:
        a, b = (
            dict(con.execute(f"select {column}, count(*) from {table} group by 1").fetchall()) for table in (one, other)
        )
        n_a, n_b = sum(a.values()), sum(b.values())
        scores[column] = psi_js_ks([(a.get(k, 0) / n_a, b.get(k, 0) / n_b) for k in a.keys() | b.keys()])
    return {column: f"js {js:.3f}" for column, (_, js, _) in scores.items() if js > 0.05}


def psi_js_ks(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Three distances between two shares of the same bins."""
    psi = js = ks = below_a = below_b = 0.0
    for a, b in pairs:
        middle = (a + b) / 2
        js += sum(0.5 * x * math.log2(x / middle) for x in (a, b) if x > 0)
        psi += (max(b, 1e-6) - max(a, 1e-6)) * math.log(max(b, 1e-6) / max(a, 1e-6))
        below_a, below_b = below_a + a, below_b + b
        ks = max(ks, abs(below_a - below_b))
    return psi, math.sqrt(max(js, 0.0)), ks


def generate(path: Path, n: int, seed: int, has_faults: bool) -> None:
    """A draw of the table; with `has_faults` the five changes of PLANTED."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(seed)
    shapes = [
        lambda: random.normal(0, 1, n),
        lambda: random.lognormal(3, 1, n),
        lambda: random.gamma(2, 10, n),
        lambda: random.uniform(0, 100, n),
        lambda: np.round(random.exponential(20, n), 2),
    ]
    columns = {}
    for i, name in enumerate(NUMBERS):
        values = shapes[i % 5]()
        missing = random.random(n) < (0.02 if i in (4, 9, 11) else 0)
        if has_faults and name == "num_03":
            values[random.random(n) < 0.05] *= 100
        if has_faults and name == "num_07":
            values += 1.8
        if has_faults and name == "num_11":
            missing = random.random(n) < 0.12
        columns[name] = pa.array(values, mask=missing)
    for j, (name, n_levels) in enumerate(zip(TEXTS, LEVELS, strict=True)):
        shares = 1 / np.arange(1, n_levels + 1) ** 0.8
        codes = random.choice(n_levels, size=n, p=shares / shares.sum())
        texts = [f"{c}{j}_{k:04d}" for c in "Cc" for k in range(n_levels)] + ["NEW"]
        if has_faults and name == "cat_02":
            codes = np.where(random.random(n) < 0.2, codes + n_levels, codes)
        if has_faults and name == "cat_05":
            codes = np.where(random.random(n) < 0.03, 2 * n_levels, codes)
        columns[name] = pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(texts)).cast(pa.string())
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=122_880)


if __name__ == "__main__":
    main()
