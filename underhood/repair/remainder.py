"""What a cause leaves as it was: of the decisions in question those that its undoing does not turn, looked at alone.

People who complain together were not always struck by the same thing. What struck some of them
shows among these, and is thin among all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from underhood.faults.kinds import Scene
from underhood.plan.changes import TRAFFIC
from underhood.repair.bench import Ground, Trial

# what is so whichever decisions are in question is not looked for again
WHOEVER = ("taught otherwise", "relabelled", "lost cohort", "cohort columns", "witnesses")
LEFT, LEAST = 0.25, 2  # share of the decisions in question, and how many, that are worth a look of their own


def left_by(ground: Ground, trials: Sequence[Trial]) -> tuple[int, ...]:
    """The places of decisions in question that none of the trials turns; none if that is too few, or all of them.

    A trial that makes decisions vanish leaves nobody: who would not have been asked needs no other reason.
    """
    if any(c.part == TRAFFIC for t in trials for c in t.changes):
        return ()
    left = ground.bad.copy()
    for trial in trials:
        left &= trial.action == ground.action
    n, of = int(left.sum()), int(ground.bad.sum())
    return tuple(ground.place[left].tolist()) if LEAST <= n < of and n >= LEFT * of else ()


@contextmanager
def in_question(scene: Scene, places: Sequence[int]) -> Iterator[Scene]:
    """The scene as if the complaint had named these decisions only; the view `decisions` is put back."""
    engine = scene.engine
    engine.run("alter view decisions rename to all_in_question")
    listed = ", ".join(map(str, places))
    engine.view("decisions", f"select * replace (bad and place in ({listed}) as bad) from all_in_question")
    try:
        yield replace(scene, n_bad=len(places), kept={n: scene.kept[n] for n in WHOEVER if n in scene.kept})
    finally:
        engine.run("drop view decisions")
        engine.run("alter view all_in_question rename to decisions")
