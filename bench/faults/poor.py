"""A poorer record: the same fault diagnosed again as if the record were the log of a system made elsewhere.

Each level takes parts of the record away for good: what is not there cannot be looked at by mistake. The
complaint stays what it was. What a level costs is what the product says to those who adopt a log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

from bench.faults.answers import is_located
from bench.faults.truth import Line
from underhood.build.outside import no_scorer
from underhood.faults.kinds import Scene
from underhood.plan.render import quoted
from underhood.repair.decided import corrected_labels, mean, view_sql
from underhood.repair.drill import Struck
from underhood.repair.meaning import Meaning
from underhood.repair.unseen import diagnose_seen

RAW, SCORER, TRAINING = "raw inputs", "scorer", "training table"
OUTCOME = ("outcome", "outcome moment")
FULL = "made here"  # the cell itself: nothing is missing
# What each level lacks. A log, whatever it holds, knows no joins, no definitions and no questions that nobody decided.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "a log with all": (),
    "without raw inputs": (RAW,),
    "without scorer": (SCORER,),
    "without outcomes": OUTCOME,
    "without training table": (TRAINING,),
    "features and scores only": (RAW, SCORER, TRAINING, *OUTCOME),
}
WHY = "it was taken away for the bench"


def poorer_answers(struck: Struck, right: tuple[str, ...]) -> Line:
    """By level: is the first kind right, is it located, was no cause told (`silent`), in how many seconds."""
    made: Line = {}
    for level, lacks in LEVELS.items():
        with poorer(struck, lacks) as scene:
            began = perf_counter()
            found = diagnose_seen(scene, Meaning(ids=struck.named, told=struck.told))
            seconds = perf_counter() - began
        best = found.causes[0].suspect if found.causes else None
        made[level] = {
            "top1": best is not None and best.kind in right,
            "locus": best is not None and is_located(struck.injection, best),
            "silent": best is None,
            "answer": [c.suspect.kind for c in found.causes[:3]],
            "seconds": round(seconds, 3),
        }
    return made


@contextmanager
def poorer(struck: Struck, lacks: tuple[str, ...]) -> Iterator[Scene]:
    """The struck scene as the log of an adopted system that lacks these parts; all is back when it is closed."""
    scene, engine = struck.scene, struck.scene.engine
    was = {name: view_sql(engine, name) for name in ("asks", "training", "decisions")}
    engine.run('alter table decided rename to "rich decided"')
    engine.run('drop table if exists "rich asks"; create table "rich asks" as select * from asks')
    try:
        facts = [quoted(f"facts.{f}") for f in scene.plan.facts]
        nulls = ["NULL::TIMESTAMP as known_at", "NULL::BOOLEAN as label", *(f"NULL as {f}" for f in facts)]
        taken = f"replace ({', '.join(nulls)})" if "outcome" in lacks else ""
        engine.view("decided", f'select * {taken} from "rich decided"')
        engine.view("asks", _asked(scene, lacks))
        if TRAINING in lacks:
            engine.run('create or replace table "no training" as select * from training limit 0')
            engine.view("training", 'select * from "no training"')
        missing = dict.fromkeys(lacks, WHY)
        bundle = replace(scene.bundle, made_from={**scene.bundle.made_from, "adopted": {"missing": missing}})
        if SCORER in lacks:
            bundle = replace(bundle, model=no_scorer(bundle.feature_types, WHY))
        labels = () if "outcome" in lacks else corrected_labels(scene.plan, bundle)
        mean(engine, struck.named, bundle.name, labels=labels)
        yield replace(scene, bundle=bundle, kept={})
    finally:
        engine.run("drop view if exists decided")
        engine.run('alter table "rich decided" rename to decided')
        for sql in was.values():
            engine.run(sql)
        engine.texts("meant", "id", struck.named)


def _asked(scene: Scene, lacks: tuple[str, ...]) -> str:
    """SQL of the questions as a log gives them: those that were decided; none where no table of raw inputs is."""
    if RAW in lacks:
        return 'select * from "rich asks" limit 0'
    nulls = ", ".join(["NULL::BOOLEAN as label", *(f"NULL as {quoted(f)}" for f in scene.plan.facts)])
    other = f"replace ({nulls})" if "outcome" in lacks else ""
    return f'select * {other} from "rich asks" where key in (select key from "rich decided")'
