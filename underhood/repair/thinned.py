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
from underhood.plan.render import sql_value
from underhood.repair.decided import halvings_of, halvings_sql, view_sql

MANY, KEPT = 150_000, 50_000  # decisions from which a share is looked at, and at least how many that is
TAUGHT = 10_000  # training rows that are looked at in any case


@contextmanager
def thinned(scene: Scene, many: int = MANY, kept: int = KEPT) -> Iterator[tuple[Scene, int]]:
    """The scene with every n-th key of `decisions`, `asks` and `training`, and n; itself and 1 if it is small.

    All that the complaint means stays. Keys are drawn by their hash, the same in each view and each time;
    n is a power of two, and another one for what was asked before the first decision.
    """
    engine = scene.engine
    n, first = engine.rows("select count(*), min(asked_at) from decisions")[0]
    if n <= many:
        yield scene, 1
        return
    before = f"asked_at < TIMESTAMP {sql_value(str(first))}"
    n_before, n_taught = (int(engine.rows(sql)[0][0]) for sql in _counts(before))
    now, past = halvings_of(int(n), kept), halvings_of(n_before, kept)
    taught = min(past, halvings_of(n_taught, min(kept, TAUGHT)))
    was = {name: view_sql(engine, name) for name in ("decisions", "asks", "training")}
    try:
        # by place: whether an id is among those meant would be asked of rows of all columns
        engine.run("create or replace table thin_meant as select place from decisions where bad")
        engine.run(
            f"create or replace table thin_decisions as select * from decisions where halvings >= {now} "
            f"union all select d.* from decisions d semi join thin_meant using (place) where halvings < {now}"
        )
        engine.run(
            f"create or replace table thin_asks as select * from asks where {halvings_sql()} >= "
            f"case when {before} then {past} else {now} end or key in (select key from thin_decisions where bad)"
        )
        engine.run(
            f"create or replace table thin_training as select * from training where {halvings_sql()} >= {taught}"
        )
        for name in was:
            engine.view(name, f"select * from thin_{name}")
        yield replace(scene, kept={}), 2**now
    finally:
        for name, sql in was.items():
            engine.run(sql)
            engine.run(f"drop table if exists thin_{name}")
        engine.run("drop table if exists thin_meant")


def _counts(before: str) -> tuple[str, str]:
    return f"select count(*) from asks where {before}", "select count(*) from training"
