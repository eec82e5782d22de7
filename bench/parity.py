"""Whether one definition has one value: 52 features on adversarial rows, by DuckDB, Python, and Spark if it is there.

Usage: python bench/parity.py [--quick] [--no-spark]. Rows hold random values mixed with edge values (nulls, -0,
the largest and smallest numbers, odd letters, ends of years); each feature is computed by every engine and
compared with the Python function, floats within 1e-12 of their size. Goal: not one value differs. Spark is
asked twice, with ANSI on and off, in a session whose zone has summer time.

There is no peer here: the figures are our own, and how long each engine took. The same comparison of everyday
operations in Ibis, Narwhals and Polars is in bench/kernel.py. The last line is JSON.
"""

from __future__ import annotations

import json
import platform
import string
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import underhood as uh
from underhood.plan.exprs import Expr, cases, distance_km, greatest, least, typed
from underhood.plan.exprs import col as column
from underhood.tables.local import Engine
from underhood.tables.parity import Parity, compare_renderings
from underhood.tables.spark import is_installed, local_session

INPUTS = {
    "amount": "number",
    "price": "number",
    "latitude": "number",
    "longitude": "number",
    "is_new": "flag",
    "email": "text",
    "code": "text",
    "written": "text",
    "placed": "time",
    "paid": "time",
}


def definitions() -> dict[str, Expr]:
    """52 features as people write them, and a few that nobody should."""
    amount, price, latitude, longitude, is_new, email, code, written, placed, paid = (column(name) for name in INPUTS)
    made: dict[str, Any] = {
        "sum": amount + price,
        "ratio": amount / price,
        "rest": amount % price,
        "log_amount": (amount + 1).ln(),
        "log_of_log": ((amount.abs() + 1).ln() + 1).log10(),
        "root": amount.sqrt(),
        "power": amount.clip(-50, 50) ** price.clip(-3, 3).round(),
        "exponent": (amount / 1000).exp(),
        "rounded": amount.round(),
        "to_cents": price.round(2),
        "to_tens": amount.round(-1),
        "floor": price.floor(),
        "ceil": price.ceil(),
        "sign": (amount - price).sign(),
        "smaller": least(amount, price, 100),
        "larger": greatest(amount, price, 0),
        "bucket": amount.bucket([0, 1, 10, 100, 1000]),
        "inside": amount.within(0, price),
        "is_cheap": (amount < 10).fill(False),
        "either": (amount > 5) & is_new | price.is_null(),
        "not_new": ~is_new,
        "new_number": is_new.as_number(),
        "without_zero": price.null_if(0),
        "first_of": amount.fill(price, -1),
        "domain": email.part("@", 1).lower(),
        "is_free": email.part("@", 1).isin(["gmail.com", "web.de"]),
        "top_level": email.right(3).upper(),
        "email_length": email.strip().length(),
        "dots": email.count_of("."),
        "at": email.position("@"),
        "is_com": email.ends_with(".com"),
        "no_reply": email.matches("no?reply*@*"),
        "spaces": (email + " " + code).collapse(),
        "hash": email.hashed(1024),
        "prefix": code.left(2).pad(3),
        "is_number": code.is_digits(),
        "as_number": code.to_number(),
        "digits": amount.floor().to_text(),
        "group": code.left(1).group(["A", "B", "1"], "other"),
        "mapped": code.left(1).map({"A": 1, "B": 2.5, "é": -1}),
        "german": written.parse_number(",", "."),
        "day_written": written.parse_time("%d.%m.%Y").day_of_year(),
        "replaced": written.replace(".", "").slice(1, 4),
        "hour": placed.hour() + placed.minute() / 60,
        "weekday": placed.weekday() * 100 + placed.week(),
        "days_to_pay": (paid - placed).days(),
        "midnights": paid.days_since(placed),
        "month_later": (placed.add_months(1) - placed).hours(),
        "since_quarter": (placed - placed.start_of("quarter")).days(),
        "weekend_rush": cases((placed.is_weekend(), 2), (placed.hour() >= 18, 1), otherwise=0),
        "distance": distance_km(latitude, longitude, 52.52, 13.405),
        "due": ((placed + uh.days(amount)) - paid).minutes(),
    }
    return {name: typed(expr, INPUTS)[0] for name, expr in made.items()}


def rows(n: int) -> list[dict[str, Any]]:
    """Random rows, one value in ten of them null or odd; parity.py mixes the edge values in."""
    random = Random(7)
    letters = string.ascii_letters + string.digits + " .-_@éß𝒳İ"
    moment = datetime(2024, 1, 1)

    def text() -> str:
        return "".join(random.choices(letters, k=random.randrange(9)))

    def written() -> str:
        return random.choice([f"{random.randrange(10**7):,}".replace(",", "."), text()]) + random.choice(["", ",5"])

    def day() -> str:
        return f"{random.randrange(33)}.{random.randrange(1, 14)}.{random.randrange(1990, 2030)}"

    def row() -> dict[str, Any]:
        placed = moment + timedelta(seconds=random.randrange(-(10**8), 10**8), microseconds=random.randrange(10**6))
        host = random.choice(["gmail.com", "Web.de", "x.org", text()])
        return {
            "amount": random.choice([random.gauss(0, 1000), round(random.expovariate(0.05), 2), random.randrange(9)]),
            "price": round(random.uniform(-1, 500), 3),
            "latitude": random.uniform(-92, 92),
            "longitude": random.uniform(-185, 185),
            "is_new": random.random() < 0.5,
            "email": f"{text()}{random.choice(['@', '', '@@'])}{host}",
            "code": random.choice([text(), str(random.randrange(10**6)), f"{random.random():.3e}"]),
            "written": random.choice([written, day, day])(),
            "placed": placed,
            "paid": placed + timedelta(minutes=random.randrange(-(10**5), 10**5)),
        }

    return [{k: None if random.random() < 0.05 else v for k, v in row().items()} for _ in range(n)]


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    n, n_mixed = (10_000, 10_000) if quick else (100_000, 100_000)
    outputs, sampled = definitions(), rows(n)
    results: dict[str, Parity] = {}
    with Engine(threads=2) as engine:
        results["duckdb"] = timed(
            "DuckDB and Python", lambda: compare_renderings(engine, outputs, INPUTS, sampled, n_mixed=n_mixed)
        )
        if is_installed() and "--no-spark" not in sys.argv[1:]:
            session = local_session()
            session.sparkContext.setLogLevel("OFF")
            session.conf.set("spark.sql.session.timeZone", "America/New_York")
            for ansi in ("true", "false"):
                session.conf.set("spark.sql.ansi.enabled", ansi)
                results[f"spark, ansi {ansi}"] = timed(
                    f"Spark {session.version}, ANSI {ansi}, DuckDB and Python",
                    lambda s=session: compare_renderings(engine, outputs, INPUTS, sampled, n_mixed=n_mixed, spark=s),
                )
            session.stop()
        else:
            print("Spark: not installed or not wanted; DuckDB and Python only")
    for name, found in results.items():
        tell(name, found)
    differing = {name: len(found.differing) for name, found in results.items()}
    compared = results["duckdb"].n_rows
    print(f"{len(outputs)} features × {compared:,} rows: {sum(differing.values())} values differ")
    print(
        json.dumps(
            {
                "bench": "parity",
                "ours": sum(differing.values()),
                "peer": None,
                "ratio": None,
                "goal": "0 values differ, at least 40 features" + ("" if quick else ", 200,000 rows"),
                "holds": not sum(differing.values()) and len(outputs) >= 40 and (quick or compared >= 200_000),
                "features": len(outputs),
                "rows": compared,
                "differing": differing,
                "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
            }
        )
    )


def timed(name: str, work: Any) -> Parity:
    """The comparison, with how long it took printed."""
    began = time.perf_counter()
    found: Parity = work()
    print(f"{name}: {found.n_definitions} features × {found.n_rows:,} rows in {time.perf_counter() - began:.1f} s")
    return found


def tell(name: str, found: Parity) -> None:
    """The first differing rows of each definition."""
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for each in found.differing:
        seen.setdefault(f"{each['definition']} on {each['engine']}", []).append(each)
    for definition, unlike in seen.items():
        first = unlike[0]
        print(f"{name}: {definition} differs on {len(unlike):,} rows: {first['sql']!r}, Python {first['python']!r}")
        print(f"    for {first['reads']}")


if __name__ == "__main__":
    main()
