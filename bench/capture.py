"""What it costs to keep a decision before answering: one commit shared by 16 threads against one commit each.

Usage: python bench/capture.py [--quick]. Both sides survive a power cut (SQLite, WAL,
synchronous=FULL), same disk, same entries of some 700 bytes, in turns within one run.
The promise is that sharing costs less than committing each. How much less is the disk's affair:
the slower its flush, the more entries wait for the next commit, and the ratio grows.
The last line is JSON: `ours` and `peer` in microseconds of wall time per entry.
"""

from __future__ import annotations

import json
import platform
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from underhood.ground.records import Entry
from underhood.record.log import Log

THREADS = 16
GOAL = 1.5  # times faster than a commit each


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    rounds, n_disk, n_process = (2, 320, 500) if quick else (5, 3200, 5000)
    ours, peer, process, per_commit = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="underhood-bench-", dir=Path.cwd()) as scratch:
        for n in range(rounds):
            with Log(Path(scratch) / f"shared{n}") as log:
                ours.append(per_entry(n_disk, THREADS, shared(log)))
                per_commit.append(n_disk / log.commits)
            with Log(Path(scratch) / f"each{n}") as log:
                peer.append(per_entry(n_disk // 4, THREADS, each(log)))
            with Log(Path(scratch) / f"process{n}", durability="process") as log:
                process.append(per_entry(n_process, 1, shared(log)))
    for name, figures in (("shared commit", ours), ("commit each", peer), ("process, 1 thread", process)):
        shown = " ".join(f"{figure:.0f}" for figure in figures)
        print(f"{name:>18}: {statistics.median(figures):6.0f} µs an entry   (rounds: {shown})")
    print(f"{'entries a commit':>18}: {statistics.median(per_commit):6.1f}")
    ratio = statistics.median(peer) / statistics.median(ours)
    print(
        json.dumps(
            {
                "bench": "capture",
                "ours": round(statistics.median(ours), 1),
                "peer": round(statistics.median(peer), 1),
                "ratio": round(ratio, 2),
                "goal": f"ratio >= {GOAL:g}",
                "holds": ratio >= GOAL,
                "process_us": round(statistics.median(process), 1),
                "versions": {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
            }
        )
    )


def per_entry(n: int, n_threads: int, append: Callable[[Entry], None]) -> float:
    """Microseconds of wall time per entry, `n` entries by `n_threads` threads, each its share in a loop."""
    shares = [[decision(i) for i in range(first, n, n_threads)] for first in range(n_threads)]
    start = threading.Barrier(n_threads + 1)

    def work(share: list[Entry]) -> None:
        start.wait()
        for entry in share:
            append(entry)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) / n * 1e6


def shared(log: Log) -> Callable[[Entry], None]:
    """Ours: whoever arrives during a commit shares the next."""
    return lambda entry: log.append([entry])


def each(log: Log) -> Callable[[Entry], None]:
    """The peer: a commit for each, as a lock around a connection does it."""
    alone = threading.Lock()

    def append(entry: Entry) -> None:
        with alone:
            log.append([entry])

    return append


def decision(i: int) -> Entry:
    """An entry of some 700 bytes, as the example's decisions are."""
    row = {f"column{n}": i / (n + 1) for n in range(12)}
    body = {"key": f"k{i}", "row": row, "features": row, "score": 0.5, "action": "warn", "flags": ["late"]}
    return Entry("decision", f"d{i}", "2013-03-08T19:00:00.000000", body)


if __name__ == "__main__":
    main()
