"""Why we have our own operations: cost of one row, and whether one definition means one thing on every engine.

Usage: python bench/kernel.py [--quick] [--peers PYTHON]. Ours: 20 features of one row as one Python function.
Goal: at most 5 µs a row. Beside it, when they are installed (here, or for the interpreter given with --peers):
Ibis, Narwhals, Polars and Hamilton. They are asked two things. What do 20 everyday features of one row cost?
And how many of 30 everyday operations have the same value on six awkward rows on each of their engines, and
how many raise? Ours is asked the same of DuckDB and the Python function (Spark: make test-spark, bench/parity.py).

If one day a library agrees with itself on all of them within 10 µs, use it instead. The last line is JSON.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

GOAL_US = 5.0
ROW = {"x": 12.5, "y": 3.0, "s": " Ada@Web.de", "t": datetime(2024, 2, 29, 12, 30)}
AWKWARD: dict[str, list[Any]] = {
    "x": [2.5, 0.0, -0.5, None, 1e300, 3.5],
    "y": [0.0, 2.0, -3.0, 1.0, None, 0.0],
    "s": ["İz-a", "  1-b ", "", None, "1_000", "ÄÖ-ü-𝒳"],
    "t": [datetime(2024, 2, 29, 12), datetime(1969, 7, 20), None, datetime(2021, 1, 3), datetime(1, 1, 1), ROW["t"]],
}
KINDS = {"x": "number", "y": "number", "s": "text", "t": "time"}

# operation → how each library writes it: (ours, ibis, polars and narwhals)
OPERATIONS: dict[str, tuple[str, str, str]] = {
    "add": ("x + y", "x + y", "x + y"),
    "divide": ("x / y", "x / y", "x / y"),
    "rest": ("x % y", "x % y", "x % y"),
    "negate": ("-x", "-x", "-x"),
    "abs": ("x.abs()", "x.abs()", "x.abs()"),
    "round": ("x.round()", "x.round()", "x.round()"),
    "floor": ("x.floor()", "x.floor()", "x.floor()"),
    "logarithm": ("x.ln()", "x.ln()", "x.log()"),
    "root": ("x.sqrt()", "x.sqrt()", "x.sqrt()"),
    "exponent": ("x.exp()", "x.exp()", "x.exp()"),
    "power": ("x ** y", "x ** y", "x ** y"),
    "clip": ("x.clip(0, 3)", "x.clip(0, 3)", "x.clip(0, 3)"),
    "sign": ("x.sign()", "x.sign()", "x.sign()"),
    "greater": ("x > y", "x > y", "x > y"),
    "equal": ("x == y", "x == y", "x == y"),
    "is null": ("x.is_null()", "x.isnull()", "x.is_null()"),
    "fill": ("x.fill(y)", "x.fill_null(y)", "x.fill_null(y)"),
    "is in": ("x.isin([0, 2.5])", "x.isin([0, 2.5])", "x.is_in([0, 2.5])"),
    "when": ("when(x > 1, x, y)", "ibis.ifelse(x > 1, x, y)", "lib.when(x > 1).then(x).otherwise(y)"),
    "lower": ("s.lower()", "s.lower()", "s.str.to_lowercase()"),
    "upper": ("s.upper()", "s.upper()", "s.str.to_uppercase()"),
    "strip": ("s.strip()", "s.strip()", "s.str.strip_chars()"),
    "length": ("s.length()", "s.length()", "s.str.len_chars()"),
    "contains": ('s.contains("-")', 's.contains("-")', 's.str.contains("-", literal=True)'),
    "replace": ('s.replace("-", "")', 's.replace("-", "")', 's.str.replace_all("-", "", literal=True)'),
    "slice": ("s.slice(1, 2)", "s.substr(1, 2)", "s.str.slice(1, 2)"),
    "second part": ('s.part("-", 1)', 's.split("-")[1]', 's.str.split("-").list.get(1)'),
    "to number": ("s.to_number()", 's.try_cast("float64")', "s.cast(lib.Float64)"),
    "weekday": ("t.weekday()", "t.day_of_week.index()", "t.dt.weekday()"),
    "hour": ("t.hour()", "t.hour()", "t.dt.hour()"),
}
# 20 features that all can write: what one row costs
FEATURES = [
    "add",
    "divide",
    "rest",
    "negate",
    "abs",
    "round",
    "floor",
    "logarithm",
    "root",
    "exponent",
    "clip",
    "greater",
    "equal",
    "fill",
    "when",
    "lower",
    "strip",
    "length",
    "contains",
    "hour",
]


def main() -> None:
    if "--as-peer" in sys.argv[1:]:
        print(json.dumps(peers("--quick" in sys.argv[1:])))
        return
    quick = "--quick" in sys.argv[1:]
    interpreter = sys.argv[sys.argv.index("--peers") + 1] if "--peers" in sys.argv[1:] else sys.executable
    ours, ours_99, agree, n_twenty = our_figures(3 if quick else 9)
    print(f"ours: {n_twenty} features of one row {ours:.2f} µs (p99 {ours_99:.2f})")
    print(f"      {agree} of {len(OPERATIONS)} operations the same by DuckDB and Python")
    done = subprocess.run(
        [interpreter, "-W", "ignore", __file__, "--as-peer", *sys.argv[1:]], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout else {}
    for name, figures in found.items():
        told = []
        if figures.get("us"):
            told.append(f"one row {figures['us']:,.0f} µs, {figures['us'] / ours:,.0f} times ours")
        if figures.get("engines"):
            engines = " and ".join(figures["engines"])
            told.append(
                f"{figures['same']} of {len(OPERATIONS)} the same on {engines}, {figures['raised']} raise on one"
            )
        print(f"{name} {figures['version']}: {'; '.join(told) or figures['error']}")
        if figures.get("unlike"):
            print(f"      unlike: {', '.join(figures['unlike'])}")
    if not found:
        print("Ibis, Narwhals, Polars and Hamilton: not installed; --peers PYTHON names an interpreter that has them")
    costs = [f["us"] for f in found.values() if f.get("us")]
    peer = min(costs) if costs else None
    print(
        json.dumps(
            {
                "bench": "kernel",
                "ours": round(ours, 2),
                "peer": peer and round(peer, 1),
                "ratio": peer and round(peer / ours, 1),
                "goal": f"20 features of one row in {GOAL_US:g} us, every operation the same on each engine",
                "holds": ours <= GOAL_US and agree == len(OPERATIONS),
                "p99_us": round(ours_99, 2),
                "same": agree,
                "of": len(OPERATIONS),
                "peers": found,
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def our_figures(rounds: int) -> tuple[float, float, int, int]:
    """Microseconds a row (median of rounds, p99 of rows), operations that agree, and how many features were timed."""
    from underhood.plan.exprs import col, typed, when
    from underhood.plan.render import to_python
    from underhood.tables.local import Engine
    from underhood.tables.parity import compare_renderings

    names: dict[str, Any] = {name: col(name) for name in KINDS}
    made = {op: typed(eval(text[0], {"when": when}, names), KINDS)[0] for op, text in OPERATIONS.items()}
    rows = [dict(zip(AWKWARD, values, strict=True)) for values in zip(*AWKWARD.values(), strict=True)]
    with Engine(threads=1) as engine:
        unlike = {d["definition"] for d in compare_renderings(engine, made, KINDS, rows).differing}
    compiled = to_python({op: made[op] for op in FEATURES})
    best = [per_call(lambda: compiled(ROW), 20_000) for _ in range(rounds)]
    spent = []
    for _ in range(20_000):
        began = time.perf_counter_ns()
        compiled(ROW)
        spent.append(time.perf_counter_ns() - began)
    return statistics.median(best), sorted(spent)[int(len(spent) * 0.99)] / 1000, len(made) - len(unlike), len(FEATURES)


def per_call(work: Callable[[], object], times: int) -> float:
    """Mean microseconds of a call."""
    work()
    began = time.perf_counter_ns()
    for _ in range(times):
        work()
    return (time.perf_counter_ns() - began) / times / 1000


# --- in the interpreter that has the others: nothing of ours is imported below ---


def peers(quick: bool) -> dict[str, dict[str, Any]]:
    """The figures of each library that is installed."""
    times = 20 if quick else 200
    made = {}
    for name, figures in (
        ("ibis", of_ibis),
        ("narwhals", of_narwhals),
        ("polars", of_polars),
        ("hamilton", of_hamilton),
    ):
        if find_spec(name):
            package = {"ibis": "ibis-framework", "hamilton": "sf-hamilton"}.get(name, name)
            try:
                made[name] = {"version": version(package), **figures(times)}
            except Exception as error:  # noqa: BLE001 - a library that does not run at all is a finding too
                made[name] = {"version": version(package), "error": f"does not run: {str(error).splitlines()[0]:.90}"}
    return made


def compared(by_engine: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How many operations have the same values on each engine; what raises is not the same."""
    raised = [op for op in OPERATIONS if any(isinstance(v[op], str) for v in by_engine.values())]
    first, *others = by_engine.values()
    unlike = [op for op in OPERATIONS if op not in raised and not all(alike(first[op], v[op]) for v in others)]
    same = len(OPERATIONS) - len(raised) - len(unlike)
    return {"engines": list(by_engine), "same": same, "raised": len(raised), "unlike": unlike, "raising": raised}


def alike(one: list[Any], other: list[Any]) -> bool:
    return all(same_value(a, b) for a, b in zip(one, other, strict=True))


def same_value(a: Any, b: Any) -> bool:
    if a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return a is b or a == b
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= 1e-12 * max(abs(a), abs(b))


def tried(work: Callable[[str], list[Any]]) -> dict[str, Any]:
    """Operation → its values, or why there are none."""
    made: dict[str, Any] = {}
    for op in OPERATIONS:
        try:
            made[op] = work(op)
        except Exception as error:  # noqa: BLE001 - each library raises its own
            made[op] = f"{type(error).__name__}: {error}"[:200]
    return made


def of_ibis(times: int) -> dict[str, Any]:
    import ibis
    import pyarrow as pa

    by_engine = {}
    for engine in ("duckdb", "polars"):
        backend = getattr(ibis, engine).connect()
        table = ibis.memtable(pa.table(AWKWARD))

        def values(op: str, table: Any = table, backend: Any = backend) -> list[Any]:
            expr = eval(OPERATIONS[op][1], {"ibis": ibis}, {c: table[c] for c in KINDS})
            made: list[Any] = backend.to_pyarrow(table.select(v=expr)).column("v").to_pylist()
            return made

        by_engine[engine] = tried(values)
    backend = ibis.duckdb.connect()
    row = pa.table({c: [v] for c, v in ROW.items()})

    def one() -> object:
        table = ibis.memtable(row)
        columns = {c: table[c] for c in KINDS}
        exprs = {op.replace(" ", "_"): eval(OPERATIONS[op][1], {"ibis": ibis}, columns) for op in FEATURES}
        return backend.to_pyarrow(table.select(**exprs))

    return {"us": per_call(one, max(5, times // 10)), **compared(by_engine)}


def of_narwhals(times: int) -> dict[str, Any]:
    import duckdb
    import narwhals as nw
    import polars as pl
    import pyarrow as pa

    columns = {c: nw.col(c) for c in KINDS}
    rows = pa.table(AWKWARD)
    frames = {"polars": pl.from_arrow(rows), "pyarrow": rows, "duckdb": duckdb.connect().sql("select * from rows")}
    by_engine = {}
    for engine, frame in frames.items():

        def values(op: str, frame: Any = frame) -> list[Any]:
            expr = eval(OPERATIONS[op][2], {"lib": nw}, columns)
            made = nw.from_native(frame).select(v=expr)
            made = made.collect() if isinstance(made, nw.LazyFrame) else made
            found: list[Any] = made["v"].to_list()
            return found

        by_engine[engine] = tried(values)
    exprs = {op: eval(OPERATIONS[op][2], {"lib": nw}, columns) for op in FEATURES}
    return {"us": per_call(lambda: nw.from_native(pl.DataFrame([ROW])).select(**exprs), times), **compared(by_engine)}


def of_polars(times: int) -> dict[str, Any]:
    import polars as pl

    exprs = {op: eval(OPERATIONS[op][2], {"lib": pl}, {c: pl.col(c) for c in KINDS}) for op in FEATURES}
    return {"us": per_call(lambda: pl.DataFrame([ROW]).select(**exprs), times)}


def of_hamilton(times: int) -> dict[str, Any]:
    from hamilton import ad_hoc_utils, driver

    namespace: dict[str, Any] = {"math": math, "datetime": datetime}
    source = {
        "add": "x + y", "divide": "x / y", "rest": "x % y", "negate": "-x", "abs_": "abs(x)", "round_": "round(x)",
        "floor": "math.floor(x)", "logarithm": "math.log(x)", "root": "math.sqrt(x)", "exponent": "math.exp(x)",
        "clip": "min(max(x, 0), 3)", "greater": "x > y", "equal": "x == y", "fill": "y if x is None else x",
        "when": "x if x > 1 else y", "lower": "s.lower()", "strip": "s.strip()", "length": "len(s)",
        "contains": "'-' in s", "hour": "t.hour",
    }  # fmt: skip
    kinds = {"x": "float", "y": "float", "s": "str", "t": "datetime"}
    for name, body in source.items():
        needs = [c for c in kinds if c in {w.strip("(),.-") for w in body.replace(".", " ").replace("(", " ").split()}]
        text = f"def {name}({', '.join(f'{c}: {kinds[c]}' for c in needs)}) -> object:\n    return {body}\n"
        exec(text, namespace)
    module = ad_hoc_utils.create_temporary_module(*[namespace[name] for name in source])
    made = driver.Builder().with_modules(module).build()
    return {"us": per_call(lambda: made.execute(list(source), inputs=ROW), times)}


if __name__ == "__main__":
    main()
