"""Where one row of a source went: the questions that used it, the decisions and training rows among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from underhood.build.trainset import open_training
from underhood.plan.joins import Plan
from underhood.plan.render import quoted
from underhood.plan.steps import Asof
from underhood.tables.local import Engine


@dataclass(frozen=True)
class Trace:
    """How far one source value reached. `cleaned` tells what cleaning made of it, empty if nothing."""

    source: str
    column: str
    key: str
    value: float
    cleaned: str
    questions: int
    decisions: int
    training: int


def trace_row(
    engine: Engine,
    plan: Plan,
    record: Path,
    training: str,
    source: str,
    column: str,
    row: int,
    key: str,
    value: float,
) -> Trace:
    """How far one row of a source reached: as-of joins by row, and the asked row itself.

    Needs the views `asks` and `decisions`. Exact for as-of joins; a window's rows
    are not counted here.
    """
    uses = [
        f"{quoted(f'__{source}_{n}_row')} = {row}"
        for n, join in enumerate(plan.system.asks.joins, 1)
        if isinstance(join, Asof) and join.source.name == source and column in join.take
    ]
    if plan.system.asks.source.name == source:
        uses.append(f"__row = {row}")
    where = " or ".join(uses) or "false"
    open_training(engine, record, training)
    used = f"select key from asks where {where}"
    questions = engine.rows(f"select count(*) from ({used})")[0][0]
    decisions = engine.rows(f"select count(*) from decisions where key in ({used})")[0][0]
    taught = engine.rows(f"select count(*) from training where key in ({used})")[0][0]
    after = engine.rows(f"select {quoted(column)} from {quoted(source)} where __row = {row}")
    cleaned = "" if after and after[0][0] == value else f"cleaning made it {after[0][0] if after else 'disappear'}"
    return Trace(source, column, key, value, cleaned.replace("None", "null"), questions, decisions, taught)
