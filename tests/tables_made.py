"""Small tables made for the tests of findings: clean ones, and what it takes to plant one thing in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from underhood.ground.findings import Finding
from underhood.signs.look import look
from underhood.signs.signs import table_findings
from underhood.tables.frames import Table, described
from underhood.tables.local import Engine

START = datetime(2024, 3, 4)
WORDS = ("amber", "birch", "cedar", "dogwood", "elder", "fir", "ginkgo", "hazel", "ivy", "juniper")


def made(engine: Engine, columns: Mapping[str, Sequence[Any]], name: str = "t") -> Table:
    """A table of the engine from columns; NaN is null."""
    arrow = pa.table({c: pa.array(v, from_pandas=True) for c, v in columns.items()})
    engine.register(f"made {name}", arrow)
    engine.run(f'create or replace temp table "{name}" as select * from "made {name}"')
    return described(engine, name)


def findings(columns: Mapping[str, Sequence[Any]]) -> list[Finding]:
    """What one table alone tells about itself; each predicate is run and gives the rows that it says."""
    with Engine(memory_mb=800) as engine:
        table = made(engine, columns)
        found = table_findings(engine, table)
        for each in found:
            if each.where is not None:
                assert engine.rows(f'select count(*) from "t" where {each.where}') == [(each.rows,)], each
            if each.query:
                engine.rows(each.query)
            assert "{" not in each.says, each.says
        return found


def looked(columns: Mapping[str, Sequence[Any]], target: str | None = None) -> tuple[Finding, ...]:
    """What a look at one table gives, most important first."""
    with Engine(memory_mb=800) as engine:
        return look(engine, [made(engine, columns)], target).findings


def told(found: Sequence[Finding], about: str, *columns: str) -> Finding | None:
    """The finding of that class that names these columns, all of them."""
    return next((f for f in found if f.about == about and set(columns) <= set(f.columns)), None)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def moments(n: int, minutes: float = 60, start: datetime = START) -> list[datetime]:
    return [start + timedelta(minutes=minutes * i) for i in range(n)]


def orders(n: int = 1500, seed: int = 0) -> dict[str, Any]:
    """A clean table of orders: a key, a time, a customer, a kind, an amount."""
    random = rng(seed)
    gaps = random.exponential(40, n).cumsum()
    return {
        "order_id": np.arange(10_000, 10_000 + n),
        "placed_at": [START + timedelta(minutes=float(g)) for g in gaps],
        "customer": random.integers(1, 400, n),
        "wood": random.choice(WORDS, n, p=np.arange(10, 0, -1) / 55),
        "length_cm": np.round(random.gamma(9, 12, n) + 20, 1),
        "price": np.round(random.lognormal(3, 0.8, n), 2),
        "pieces": random.poisson(3, n) + 1,
    }


def readings(n: int = 2000, seed: int = 0) -> dict[str, Any]:
    """A clean hourly series of a station: a walk, a daily wave, and noise."""
    random = rng(seed)
    hours = np.arange(n)
    return {
        "taken_at": moments(n),
        "level": np.round(12 + 4 * np.sin(hours / 24 * 2 * np.pi) + random.normal(0, 0.7, n), 2),
        "flow": np.round(np.exp(random.normal(0, 0.1, n).cumsum() * 0.2 + 2) + random.normal(0, 0.05, n), 3),
        "murk": np.round(random.gamma(3, 2, n), 3),
    }


def people(n: int = 1200, seed: int = 0) -> dict[str, Any]:
    """A clean table of people: a key, a birth year, a band, body measures, a weight of the survey."""
    random = rng(seed)
    height = random.normal(171, 9, n)
    return {
        "person_id": [f"P{k:06d}" for k in random.permutation(900_000)[:n]],
        "born": random.integers(1935, 2005, n),
        "band": random.choice(["0-10%", "10-20%", "20-30%", "30-40%", "40-50%"], n),
        "height": np.round(height, 1),
        "weight": np.round(22 * (height / 100) ** 2 + random.normal(0, 8, n), 1),
        "income": np.round(random.lognormal(10.2, 0.6, n)),
        "smokes": random.random(n) < 0.2,
    }
