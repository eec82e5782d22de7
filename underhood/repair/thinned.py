"""A large record looked at by a share of its questions: every decision in question, and every n-th other key.

What a kind of fault must see shows in fifty thousand decisions as well as in ten
million; what it suspects is then proven on all of them. What was asked before them and what the
model learned from are drawn alike, so that a training row keeps the question that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from underhood.faults.kinds import Scene
from underhood.plan.render import quoted, sql_value
from underhood.repair.decided import SHARE, asks_in_share, halvings_of, halvings_sql, view_sql
from underhood.tables.local import Engine

# Decisions from which a share is looked at, and about how many that is: twice what the largest system of the bench of
# faults has, whose figures tell how much is seen in so many.
MANY, KEPT = 75_000, 30_000
TAUGHT = 10_000  # training rows that are looked at in any case


@contextmanager
def thinned(scene: Scene, many: int = MANY, kept: int = KEPT, name: str = "thin") -> Iterator[tuple[Scene, int]]:
    """The scene with every n-th key of `decisions`, `asks` and `training`, and n; itself and 1 if it is small.

    All that the complaint means stays. Keys are drawn by their hash, the same in each view and each time;
    n is a power of two, and another one for what was asked before the first decision. `name` is that
    of its tables: a share of a share has another one.
    """
    engine = scene.engine
    n, first, least = engine.rows(
        "select count(*), min(asked_at), coalesce(min(halvings) filter (where not bad), 0) from decisions"
    )[0]
    if n <= many:
        yield scene, 1
        return
    before = f"asked_at < TIMESTAMP {sql_value(str(first))}" if first is not None else "false"
    n_before, n_taught = (int(engine.rows(sql)[0][0]) for sql in _counts(before))
    now, past = least + halvings_of(int(n), kept), halvings_of(n_before, kept)
    taught = min(past, halvings_of(n_taught, min(kept, TAUGHT)))
    if least:  # a share already: so are the others
        drawn = [f"asks where {before}", "training"]
        had = [engine.rows(f"select min({halvings_sql()}) from {rows}")[0][0] or 0 for rows in drawn]
        past, taught = past + had[0], taught + had[1]
    was = {name: view_sql(engine, name) for name in ("decisions", "asks", "training")}
    try:
        # by place: whether an id is among those meant would be asked of rows of all columns
        engine.run(f"create or replace table {name}_meant as select place from decisions where bad")
        engine.run(
            f"create or replace table {name}_decisions as select * from decisions where halvings >= {now} "
            f"union all select d.* from decisions d semi join {name}_meant using (place) where halvings < {now}"
        )
        engine.run(f"create or replace table {name}_asks as {_asked(engine, name, before, past, now)}")
        engine.run(
            f"create or replace table {name}_training as select * from training where {halvings_sql()} >= {taught}"
        )
        for view in was:
            engine.view(view, f"select * from {name}_{view}")
        yield replace(scene, kept={}), 2**now
    finally:
        for view, sql in was.items():
            engine.run(sql)
            engine.run(f"drop table if exists {name}_{view}")
        engine.run(f"drop table if exists {name}_meant")


def _asked(engine: Engine, name: str, before: str, past: int, now: int) -> str:
    """SQL of every 2ⁿ-th question before the decisions and among them, and of all those that are meant."""
    meant = f"key in (select key from {name}_decisions where bad)"
    if not asks_in_share(engine, now):
        return f"select * from asks where {halvings_sql()} >= case when {before} then {past} else {now} end or {meant}"
    return (
        f"select * exclude (halvings) from {quoted(SHARE)} where halvings >= {now} and ({before}) is not true "
        f"union all select * from asks where {before} and {halvings_sql()} >= {past} union all "
        f"select * from asks where {meant} and {halvings_sql()} < case when {before} then {past} else {now} end"
    )


def _counts(before: str) -> tuple[str, str]:
    return f"select count(*) from asks where {before}", "select count(*) from training"
