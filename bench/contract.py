"""A contract of eight rules on 5M rows, uniqueness and quarantine included, against SQL written by hand.

    python bench/contract.py [--quick] [--peer PYTHON]

One table of orders in Parquet with 417 bad rows. Ours and the SQL by hand read the file, count what
breaks each rule and set the bad rows aside with their reasons; both must find the same rows. PYTHON is
a Python in which great_expectations or pandera are installed: the same rules there, on frames in memory.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from underhood.contract.contract import Contract
from underhood.contract.rules import Key, OneOf, Order, Pattern, Range, Required, Type
from underhood.tables.frames import open_table
from underhood.tables.local import Engine
from underhood.tables.quarantine import check

GOAL, GOAL_GX = 1.5, 5.0
N_BAD = 417
COUNTRIES = ("DE", "FR", "US", "IT", "ES", "PL", "NL", "SE")
RULES = (
    Type("amount", "number"),
    Required("customer"),
    Key(("id",)),
    Range("amount", 0.0, 5000.0),
    Range("age", 0.0, 120.0),
    OneOf("country", COUNTRIES),
    Pattern("code", "[A-Z]{2}[0-9]{6}"),
    Order("ordered", "shipped"),
)
BY_HAND = """
create or replace temp table by_hand as
select t.*, concat_ws('; ', case when customer is null then 'customer' end, case when d.id is not null then 'id' end,
  case when amount < 0 or amount > 5000 then 'amount' end, case when age < 0 or age > 120 then 'age' end,
  case when country not in ({countries}) then 'country' end,
  case when not regexp_full_match(code, '[A-Z]{{2}}[0-9]{{6}}') then 'code' end,
  case when ordered > shipped then 'ordered' end) as reasons
from '{file}' t left join (select id from '{file}' group by id having count(*) > 1) d on t.id = d.id
where customer is null or d.id is not null or amount < 0 or amount > 5000 or age < 0 or age > 120
  or country not in ({countries}) or not regexp_full_match(code, '[A-Z]{{2}}[0-9]{{6}}') or ordered > shipped"""

GX = """
import time, sys, warnings, logging
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
import pandas as pd
import great_expectations as gx
first, started = time.perf_counter(), time.process_time()
frame = pd.read_parquet(sys.argv[1])
loaded = time.perf_counter() - first
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
batch = context.data_sources.add_pandas("p").add_dataframe_asset("t").add_batch_definition_whole_dataframe("b")
E = gx.expectations
suite = context.suites.add(gx.ExpectationSuite(name="s", expectations=[
    E.ExpectColumnValuesToNotBeNull(column="customer"), E.ExpectColumnValuesToBeUnique(column="id"),
    E.ExpectColumnValuesToBeBetween(column="amount", min_value=0, max_value=5000),
    E.ExpectColumnValuesToBeBetween(column="age", min_value=0, max_value=120),
    E.ExpectColumnValuesToBeInSet(column="country", value_set=sys.argv[2].split(",")),
    E.ExpectColumnValuesToMatchRegex(column="code", regex="^[A-Z]{2}[0-9]{6}$"),
    E.ExpectColumnPairValuesAToBeGreaterThanB(column_A="shipped", column_B="ordered", or_equal=True),
]))
made = context.validation_definitions.add(gx.ValidationDefinition(name="v", data=batch, suite=suite))
began = time.perf_counter()
rows = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row_number"]}
made.run(batch_parameters={"dataframe": frame}, result_format=rows)
print(loaded, time.perf_counter() - began, time.process_time() - started)
"""

PANDERA = """
import time, sys, warnings
warnings.simplefilter("ignore")
import pandas as pd
import pandera.pandas as pa
first, started = time.perf_counter(), time.process_time()
frame = pd.read_parquet(sys.argv[1])
loaded = time.perf_counter() - first
schema = pa.DataFrameSchema({
    "customer": pa.Column(nullable=False), "id": pa.Column(int, unique=True),
    "amount": pa.Column(float, pa.Check.in_range(0, 5000)), "age": pa.Column(int, pa.Check.in_range(0, 120)),
    "country": pa.Column(checks=pa.Check.isin(sys.argv[2].split(","))),
    "code": pa.Column(checks=pa.Check.str_matches("^[A-Z]{2}[0-9]{6}$")),
}, checks=pa.Check(lambda f: f["ordered"] <= f["shipped"]))
began = time.perf_counter()
try:
    schema.validate(frame, lazy=True)
except pa.errors.SchemaErrors:
    pass
print(loaded, time.perf_counter() - began, time.process_time() - started)
"""


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    peer = sys.argv[sys.argv.index("--peer") + 1] if "--peer" in sys.argv[1:] else ""
    n_rows, rounds = (1_000_000, 3) if quick else (5_000_000, 5)
    ours: list[float] = []
    cpu: list[float] = []
    by_hand: list[float] = []
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as scratch, Engine() as engine:
        file = Path(scratch) / "orders.parquet"
        generate(file, n_rows)
        table = open_table(engine, file)
        contract = Contract("orders", RULES)
        for _ in range(rounds):
            began, spent = time.perf_counter(), time.process_time()
            checked = check(engine, contract, table.name, table.kinds)
            ours.append(time.perf_counter() - began)
            cpu.append(time.process_time() - spent)
            began = time.perf_counter()
            n_by_hand = hand(engine, file)
            by_hand.append(time.perf_counter() - began)
        same = engine.rows('select count(*) from by_hand join "quarantined orders" using (row_number)')[0][0]
        assert checked.aside == n_by_hand == same >= N_BAD, (checked.aside, n_by_hand, same)
        peers = {name: peer_seconds(peer, code, file) for name, code in (("GX", GX), ("pandera", PANDERA))}
    ratio = statistics.median(a / b for a, b in zip(ours, by_hand, strict=True))
    middle = statistics.median(ours)
    print(f"{n_rows:,} rows, {len(RULES)} rules, {checked.aside:,} rows set aside, the same by hand")
    print(f"   ours: {middle:6.2f} s   (rounds: {' '.join(f'{s:.2f}' for s in ours)})")
    print(f"by hand: {statistics.median(by_hand):6.2f} s   (rounds: {' '.join(f'{s:.2f}' for s in by_hand)})")
    ours_cpu = statistics.median(cpu)
    times = {name: (spent[0] + spent[1]) / middle for name, spent in peers.items() if spent}
    for name, spent in peers.items():
        said = "not installed"
        if spent:
            read, checked_s, its_cpu = spent
            said = f"{read:.2f} + {checked_s:.2f} s to read and check: {times[name]:.1f} × ours; CPU {its_cpu:.2f} s"
        print(f"{name:>7}: {said}")
    print(f"{ratio:.2f} × SQL by hand (goal: at most {GOAL:g}), CPU {ours_cpu:.2f} s", end="")
    print(f"; goal: GX at least {GOAL_GX:g} × ours")
    gx = times.get("GX")
    print(
        json.dumps(
            {
                "bench": "contract",
                "ours": round(middle, 3),
                "peer": round(statistics.median(by_hand), 3),
                "ratio": round(ratio, 2),
                "goal": f"ratio <= {GOAL:g}" + (f" and gx_ratio >= {GOAL_GX:g}" if gx else ""),
                "holds": ratio <= GOAL and (gx is None or gx >= GOAL_GX),
                "cpu": round(ours_cpu, 3),
                "gx_ratio": gx and round(gx, 1),
                "pandera_ratio": round(times["pandera"], 1) if "pandera" in times else None,
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def generate(file: Path, n_rows: int) -> None:
    """Orders, a few of which break one rule each."""
    random = np.random.default_rng(1)
    ordered = np.datetime64("2024-01-01", "us") + random.integers(0, 365 * 86400, n_rows) * np.timedelta64(1, "s")
    shipped = ordered + random.integers(0, 7 * 86400, n_rows) * np.timedelta64(1, "s")
    ids, amount = np.arange(n_rows), np.round(random.gamma(2.0, 60.0, n_rows), 2)
    age = random.integers(18, 95, n_rows)
    country = np.array(COUNTRIES)[random.integers(0, len(COUNTRIES), n_rows)].astype(object)
    number = random.integers(0, 1_000_000, n_rows)
    code = np.char.add(np.array(["AB", "CD", "EF"])[number % 3], np.char.zfill(number.astype(str), 6)).astype(object)
    customer = random.integers(0, 100_000, n_rows).astype(float)
    bad = random.choice(n_rows // 2, N_BAD, replace=False)
    for n, row in enumerate(bad):
        match n % 7:
            case 0:
                amount[row] = -1.0
            case 1:
                age[row] = 999
            case 2:
                country[row] = "XX"
            case 3:
                code[row] = "ab1"
            case 4:
                customer[row] = np.nan
            case 5:
                shipped[row] = ordered[row] - np.timedelta64(1, "h")
            case 6:
                ids[row] = random.integers(n_rows // 2, n_rows)
    columns = {"row_number": np.arange(n_rows), "id": ids, "amount": amount, "age": age, "ordered": ordered}
    made = pa.table({**columns, "shipped": shipped, "country": country.astype(str), "code": code.astype(str)})
    made = made.append_column("customer", pa.array(customer, from_pandas=True))
    pq.write_table(made, file, compression="zstd")


def hand(engine: Engine, file: Path) -> int:
    """The SQL that one would write by hand: bad rows set aside, counted by reason, and all rows counted."""
    countries = ", ".join(f"'{c}'" for c in COUNTRIES)
    engine.run(BY_HAND.format(file=file, countries=countries))
    reasons = ", ".join(
        f"count(*) filter (where contains(reasons, '{c}'))"
        for c in ("customer", "id", "amount", "age", "country", "code")
    )
    n: int = engine.rows(f"select count(*), {reasons} from by_hand")[0][0]
    engine.rows(f"select count(*) from '{file}'")
    return n


def peer_seconds(python: str, code: str, file: Path) -> tuple[float, ...] | None:
    """Seconds that a peer takes to read the table and to check it, then its seconds of CPU."""
    if not python:
        return None
    done = subprocess.run(
        [python, "-c", code, str(file), ",".join(COUNTRIES)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return tuple(map(float, done.stdout.strip().splitlines()[-1].split()))


if __name__ == "__main__":
    main()
