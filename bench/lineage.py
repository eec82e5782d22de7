"""Lineage of 200 columns: the whole plan, every feature's way up, beside sqlglot's column lineage of the same columns.

    python bench/lineage.py [--quick]

Ours tells value from influence; sqlglot's tells the leaves of values only, from SQL text. Where
sqlglot is not installed it is left out, and ours is measured against the goal alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import underhood as uh
from underhood.plan.exprs import col
from underhood.plan.joins import Plan, settle
from underhood.plan.lineage import VALUE, Lineage, lineage_of, upstream, uses
from underhood.plan.steps import System

GOAL_MS = 10.0
COLUMNS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer columns through sqlglot")
    quick = parser.parse_args().quick
    rounds, through_peer = (15, 5) if quick else (60, 25)
    plan = wide_plan(COLUMNS)
    made = lineage_of(plan)
    walk = middle(rounds, lambda: lineage_of(plan))
    up = middle(rounds, lambda: every_way_up(made, plan))
    one = middle(rounds, lambda: uses(plan, "wide", "c7"))
    n_edges = sum(len(e) for e in made.into.values())
    print(f"{COLUMNS} columns, {len(plan.features)} features: {len(made.nodes)} nodes, {n_edges} edges")
    print(f"the whole lineage {walk:.2f} ms; every feature's way up {up:.2f} ms; what one column reaches {one:.2f} ms")
    peer = sqlglot_ms(through_peer)
    if peer is None:
        print("sqlglot: not installed")
    else:
        print(f"sqlglot {peer[1]}: {peer[0]:.1f} ms a column, leaves only; {peer[0] * COLUMNS:,.0f} ms for all")
    holds = walk <= GOAL_MS
    body: dict[str, Any] = {
        "bench": "lineage",
        "ours": round(walk, 2),
        "peer": None if peer is None else round(peer[0] * COLUMNS, 1),
        "ratio": None if peer is None else round(walk / (peer[0] * COLUMNS), 5),
        "goal": f"ours <= {GOAL_MS:g} ms for {COLUMNS} columns",
        "holds": holds,
        "ways_up": round(up, 2),
        "one_column": round(one, 2),
        "versions": {"python": platform.python_version(), "sqlglot": peer and peer[1]},
    }
    print(json.dumps(body))


def wide_plan(n: int) -> Plan:
    """One source of `n` columns, a third of them cleaned, a join as of then, a window, and `n` features."""
    wide = uh.source("wide.csv", key="id", happened="at", owner="desk", late={"at + 7d": ["y"]})
    wide = wide.clean(*[uh.clean.null_above(f"c{i}", 1000) for i in range(0, n, 3)])
    rates = uh.source("rates.csv", happened="day", known="day + 1h", owner="bank")
    asks = (
        wide.asks("at")
        .asof(rates, by="shop", take=["fee"])
        .recent(wide, by="shop", over="30d", mean_0=uh.mean("c0"), share_y=uh.share(col("y") > 0))
    )
    system = uh.system(
        "wide",
        asks=asks,
        features=["fee", "mean_0", "share_y", *[_ratio(i, n) for i in range(n - 3)]],
        label=uh.label(_bad, known="at + 7d"),
        goal=uh.goal("act", costs=uh.costs(act=(1, 2), wait=(0, 9))),
        policy=uh.threshold(act=0.5, otherwise="wait"),
    )
    assert isinstance(system, System)
    schema = {"id": "text", "at": "time", "shop": "text", "y": "number", **{f"c{i}": "number" for i in range(n)}}
    return settle(system, {"wide": schema, "rates": {"shop": "text", "day": "time", "fee": "number"}})


def _bad(y: Any) -> Any:
    return y > 0


def _ratio(i: int, n: int) -> Callable[..., Any]:
    """f<i> = c<i> / (c<i+1> + fee), and 0 where c<i+2> is null."""
    scope: dict[str, Any] = {"when": uh.when}
    a, b, c = f"c{i}", f"c{(i + 1) % n}", f"c{(i + 2) % n}"
    exec(f"def f{i}({a}, {b}, {c}, fee): return when({c}.is_null(), 0, {a} / ({b} + fee))", scope)
    made: Callable[..., Any] = scope[f"f{i}"]
    return made


def every_way_up(lineage: Lineage, plan: Plan) -> int:
    """How many values all features are made of, for the sum to be used."""
    return sum(r.how == VALUE for name in plan.features for r in upstream(lineage, f"feature {name}"))


def middle(rounds: int, act: Callable[[], object]) -> float:
    """The median milliseconds of an act."""
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        spent.append((time.perf_counter() - began) * 1000)
    return median(spent)


def sqlglot_ms(columns: int) -> tuple[float, str] | None:
    """Milliseconds a column of sqlglot's lineage on the same features written as SQL; null if it is not installed."""
    try:
        import sqlglot
        from sqlglot.lineage import lineage
        from sqlglot.optimizer import build_scope, qualify
    except ImportError:
        return None
    n = COLUMNS
    cleaned = ", ".join(
        f"case when c{i} > 1000 then null else c{i} end as c{i}" if i % 3 == 0 else f"c{i}" for i in range(n)
    )
    made = ", ".join(
        f"case when c{(i + 2) % n} is null then 0 else c{i} / nullif(c{(i + 1) % n} + fee, 0) end as f{i}"
        for i in range(n - 3)
    )
    sql = (
        f"with w as (select id, at, shop, {cleaned} from wide), j as (select w.*, r.fee from w left join rates r "
        f"on w.shop = r.shop and r.day <= w.at) select {made} from j"
    )
    schema = {
        "wide": {"id": "text", "at": "timestamp", "shop": "text", **{f"c{i}": "double" for i in range(n)}},
        "rates": {"shop": "text", "day": "timestamp", "fee": "double"},
    }
    began = time.perf_counter()
    parsed = sqlglot.parse_one(sql, dialect="duckdb")
    scope = build_scope(qualify.qualify(parsed, schema=schema, dialect="duckdb", identify=False))
    once = time.perf_counter() - began  # parsing and qualifying are shared by all columns
    began = time.perf_counter()
    for i in range(columns):
        leaves = {node.name for node in lineage(f"f{i}", sql, schema=schema, dialect="duckdb", scope=scope).walk()}
        assert any(name.endswith(f"c{i}") for name in leaves), leaves
    each = (time.perf_counter() - began) / columns
    return (once / COLUMNS + each) * 1000, str(sqlglot.__version__)


if __name__ == "__main__":
    main()
