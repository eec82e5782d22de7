"""What features of more rows than fit in memory cost: Parquet in, Parquet out, in a stream.

Usage: python bench/out_of_core.py [--quick]. Twenty features (numbers, texts, times, cases), written as in a project
file and rendered as SQL, over 1, 10 and 100 million rows in files of a million each (the same million again and
again: what is measured is work, not the disk), each size in a process of its own. Beside it the engine's own copy of
the same columns, which makes nothing. Goal: at most 4 GB of memory at every size, and the largest costs at most
1.3 times as much a row as the smallest: no size at which it falls off a cliff.
The last line is JSON: `ours` and `peer` in CPU µs a row at the largest size, `ratio` between the two.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from underhood.plan.exprs import define, typed
from underhood.plan.literals import quoted
from underhood.plan.render import to_sql
from underhood.tables.local import Engine

GOAL_MB, GOAL_GROWTH = 4096, 1.3
A_FILE = 1_000_000  # rows
SCHEMA = {
    "amount": "number",
    "paid": "number",
    "pieces": "number",
    "age": "number",
    "shop": "text",
    "email": "text",
    "is_member": "flag",
    "placed": "time",
    "joined": "time",
}
GENERATE = """
copy (select
    case when h % 97 <> 0 then (h % 100000) / 100.0 end::DOUBLE as amount,
    case when h % 89 <> 0 then (h % 70000) / 100.0 end::DOUBLE as paid,
    (h % 7)::DOUBLE as pieces,
    case when h % 13 <> 0 then 18 + h % 70 end::DOUBLE as age,
    'shop ' || (h % 400) as shop,
    case when h % 11 <> 0 then ' User' || (h % 50000) || '@Mail' || (h % 9) || '.example ' end as email,
    h % 3 = 0 as is_member,
    TIMESTAMP '2020-01-01' + to_seconds((h % 100000000)::BIGINT) as placed,
    TIMESTAMP '2015-01-01' + to_seconds((h % 200000000)::BIGINT) as joined
from (select hash(i) % 9007199254740993 as h from range({rows}) t(i))) to '{path}' (format parquet, compression zstd)"""


def ratio_paid(paid, amount): return paid / amount  # fmt: skip


def open_amount(amount, paid): return (amount - paid).fill(0)  # fmt: skip


def log_amount(amount): return (amount + 1).ln()  # fmt: skip


def root_amount(amount): return amount.sqrt()  # fmt: skip


def price_each(amount, pieces): return amount / pieces  # fmt: skip


def is_large(amount): return amount > 500  # fmt: skip


def is_adult(age): return (age >= 21).fill(False)  # fmt: skip


def age_band(age): return (age / 10).floor() * 10  # fmt: skip


def age_known(age): return ~age.is_null()  # fmt: skip


def shop_number(shop): return shop.part(" ", 1).to_number()  # fmt: skip


def shop_upper(shop): return shop.upper()  # fmt: skip


def mail_host(email): return email.strip().lower().part("@", 1)  # fmt: skip


def mail_length(email): return email.strip().length()  # fmt: skip


def hour(placed): return placed.hour()  # fmt: skip


def weekday(placed): return placed.weekday()  # fmt: skip


def month(placed): return placed.month()  # fmt: skip


def member_days(placed, joined): return (placed - joined).days().clip(0, 3650)  # fmt: skip


def is_new(member_days, is_member): return is_member & (member_days < 30)  # fmt: skip


def night_large(hour, is_large): return is_large & ((hour < 6) | (hour >= 23))  # fmt: skip


def score_by_hand(log_amount, age_band, is_new): return log_amount * 2 - age_band / 100 + is_new.fill(False).map({True: 1.0, False: 0.0})  # fmt: skip  # noqa: E501


FEATURES = [
    ratio_paid, open_amount, log_amount, root_amount, price_each, is_large, is_adult, age_band, age_known, shop_number,
    shop_upper, mail_host, mail_length, hour, weekday, month, member_days, is_new, night_large, score_by_hand,
]  # fmt: skip


def main() -> None:
    if "--one" in sys.argv[1:]:
        print(json.dumps(one(*sys.argv[2:])))
        return
    sizes = [300_000, 3_000_000] if "--quick" in sys.argv[1:] else [1_000_000, 10_000_000, 100_000_000]
    ours, peer = [], []
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch:
        for n_rows in sizes:
            folder = Path(scratch) / str(n_rows)
            generate(folder, n_rows)
            for found, what in ((ours, "features"), (peer, "copy")):
                found.append(in_own_process(what, folder))
                told = found[-1]
                print(f"{n_rows:>12,} rows, {what:>8}: {told['us']:6.3f} CPU µs a row, ", end="")
                print(f"{told['seconds']:7.1f} s, at most {told['mb']:,.0f} MB", flush=True)
    growth, most_mb = ours[-1]["us"] / ours[0]["us"], max(each["mb"] for each in ours)
    ratio = ours[-1]["us"] / peer[-1]["us"]
    print(f"{len(FEATURES)} features; the largest costs {growth:.2f} × as much a row as the smallest ", end="")
    print(f"(goal: at most {GOAL_GROWTH:g}), at most {most_mb:,.0f} MB (goal: {GOAL_MB:,})")
    print(f"{ratio:.1f} × the engine's copy, which makes nothing")
    print(
        json.dumps(
            {
                "bench": "out_of_core",
                "ours": round(ours[-1]["us"], 3),
                "peer": round(peer[-1]["us"], 3),
                "ratio": round(ratio, 2),
                "goal": f"growth <= {GOAL_GROWTH:g} and memory <= {GOAL_MB} MB",
                "holds": growth <= GOAL_GROWTH and most_mb <= GOAL_MB,
                "growth": round(growth, 2),
                "memory_mb": round(most_mb),
                "seconds": {f"{n:,} rows": round(each["seconds"], 1) for n, each in zip(sizes, ours, strict=True)},
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def generate(folder: Path, n_rows: int) -> None:
    """The rows in files of a million: one is made, the others are further names of it."""
    folder.mkdir()
    a_file = min(n_rows, A_FILE)
    with Engine() as engine:
        engine.run(GENERATE.format(rows=a_file, path=folder / "0000.parquet"))
    for n in range(1, n_rows // a_file):
        (folder / f"{n:04}.parquet").hardlink_to(folder / "0000.parquet")


def in_own_process(what: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", what, str(folder)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def one(what: str, folder: str) -> dict[str, float]:
    """CPU µs a row, seconds, and the most memory in MB that this process ever held."""
    made = {n: typed(tree, SCHEMA)[0] for n, tree in define(FEATURES, "features").items()}
    listed = ", ".join(f"{to_sql(expr)} as {quoted(n)}" for n, expr in made.items()) if what == "features" else "*"
    rows = f"read_parquet('{folder}/*.parquet')"
    target = Path(folder) / "made"
    with Engine(memory_mb=2000) as engine:
        n_rows = engine.rows(f"select count(*) from {rows}")[0][0]
        began, cpu = time.perf_counter(), time.process_time()
        engine.run(f"copy (select {listed} from {rows}) to '{target}' (format parquet, compression zstd)")
        spent, cpu = time.perf_counter() - began, time.process_time() - cpu
        assert engine.rows(f"select count(*) from read_parquet('{target}')") == [(n_rows,)], "rows were lost or added"
    target.unlink()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"us": cpu / n_rows * 1e6, "seconds": spent, "mb": most}


if __name__ == "__main__":
    main()
