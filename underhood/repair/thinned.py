"""A large record looked at by a share of its questions: every decision in question, and every n-th other key.

What a kind of fault must see shows in fifty thousand decisions as well as in ten
million; what it suspects is then proven on all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from underhood.faults.kinds import Scene
from underhood.repair.decided import view_sql

MANY, KEPT = 150_000, 50_000  # decisions from which a share is looked at, and about how many that is


@contextmanager
def thinned(scene: Scene, many: int = MANY, kept: int = KEPT) -> Iterator[tuple[Scene, int]]:
    """The scene with every n-th key of `decisions`, `asks` and `training`, and n; itself and 1 if it is small.

    All that the complaint means stays. Keys are drawn by their hash, the same in each view and each time.
    """
    engine = scene.engine
    n = int(engine.rows("select count(*) from decisions")[0][0])
    if n <= many:
        yield scene, 1
        return
    every = max(1, n // kept)
    was = {name: view_sql(engine, name) for name in ("decisions", "asks", "training")}
    drawn = f"hash(key) % {every} = 0"
    try:
        engine.run(f"create or replace table thin_decisions as select * from decisions where {drawn} or bad")
        engine.run(
            f"create or replace table thin_asks as select * from asks where {drawn} "
            "or key in (select key from thin_decisions where bad)"
        )
        n_training = int(engine.rows("select count(*) from training")[0][0])
        share = f" where hash(key) % {max(1, n_training // kept)} = 0" if n_training > many else ""
        engine.run(f"create or replace table thin_training as select * from training{share}")
        for name in was:
            engine.view(name, f"select * from thin_{name}")
        yield replace(scene, kept={}), every
    finally:
        for name, sql in was.items():
            engine.run(sql)
            engine.run(f"drop table if exists thin_{name}")
