"""Faults of drawing: rows that stand in the training set more than once, or that were left out by their label."""

from __future__ import annotations

import numpy as np

from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.faults.taught import (
    HISTORY,
    LACKS,
    PARTLY,
    Whom,
    in_asks,
    lost_cohort,
    of_decisions,
    reach_of,
    taught_otherwise,
    told,
    whom,
)
from underhood.faults.training_labels import redrawn
from underhood.plan.changes import TAUGHT, WEIGHTS, Change
from underhood.plan.exprs import Expr, col

SURE = 5.0  # standard errors between what is kept of one label and of the other


def inject_sampling(kept: float, where: Expr) -> tuple[Change, ...]:
    """Only the share `kept` of these rows is drawn into the training set, and nobody corrects for it."""
    return (Change(TAUGHT, "rows", kept, where),)


def undo_sampling(kept: float, where: Expr) -> tuple[Change, ...]:
    """Each row left counts for those that were left out with it."""
    return (Change(WEIGHTS, "training", 1 / kept, where),)


def propose_sampling(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """The rows of the more frequent label thinned to make classes even, and scores too near to the middle."""
    if scene.bundle.model["kind"] == "constant":
        return None
    rows, yes = counted(scene.engine, "select count(*), count(*) filter (where label) from training")
    is_yes = yes > rows / 2
    label = col("label") if is_yes else ~col("label")
    kept = round(float(random.uniform(0.1, 0.35)), 2)
    changes = inject_sampling(kept, label if cohort is None else label & cohort)
    return Injection(SAMPLING.name, changes, (), {"label": is_yes, "kept": kept}, cohort, retrain=True)


def suspect_sampling(scene: Scene) -> Ruling:
    """History has questions of that time that training lacks, and far more with one label than with the other.

    If both lack alike it is a sample and teaches the same; if a whole cohort lacks, it is a
    training gap; if history lacks them as well, only the shares can tell, and prior shift looks the same.
    """
    seen, kind = taught_otherwise(scene), SAMPLING.name
    if seen.says:
        return Ruling(kind, (), seen.says)
    if not seen.is_much(seen.missing):
        return Ruling(
            kind, (), f"training holds all but {seen.missing:,} of the {seen.expected:,} questions of its time"
        )
    if (lost := lost_cohort(scene)) is not None:
        return Ruling(kind, (), f"training lacks {seen.missing:,} questions{lost.says}, with either label: a gap")
    no, lacks_no, yes, lacks_yes = counted(
        scene.engine,
        f"select count(*) filter (where not label), count(*) filter (where not label and {LACKS}), "
        f"count(*) filter (where label), count(*) filter (where label and {LACKS}) from {HISTORY} h",
    )
    share_no, share_yes = lacks_no / max(1, no), lacks_yes / max(1, yes)
    both = (lacks_no + lacks_yes) / max(1, no + yes)
    error = np.sqrt(both * (1 - both) * (1 / max(1, no) + 1 / max(1, yes)))
    says = f"training lacks {share_yes:.0%} of the rows with 'yes' and {share_no:.0%} of those with 'no'"
    if abs(share_no - share_yes) <= SURE * error:
        return Ruling(kind, (), f"{says}: that is a sample, and teaches the same")
    is_yes = share_yes > share_no
    who = whom(scene, f"select * from {HISTORY} h where label = {is_yes}", LACKS, pure=PARTLY)
    kept = round(1 - (who.share if who.where is not None else max(share_no, share_yes)), 3)
    return Ruling(
        kind,
        (
            Suspect(
                kind,
                "training set",
                f"{says}: scores are too {'low' if is_yes else 'high'}{who.says if who.where is not None else ''}",
                "select label, count(*) as questions, count(*) filter (where key in (select key from training)) "
                f"as in_training from asks where {in_asks(scene, of_decisions(who.where))} group by label",
                redrawn(),
                reach_of(scene, who.where),
                parameters={"label": is_yes, "kept": kept, "training_rows": seen.missing, "rows": told(who.where)},
            ),
        ),
    )


# --- the same rows more than once ---


def inject_repeats(times: int, where: Expr | None = None) -> tuple[Change, ...]:
    """These rows stand in the training set `times` times."""
    return (Change(TAUGHT, "rows", times, where),)


def undo_repeats(times: int, where: Expr | None = None) -> tuple[Change, ...]:
    """Each copy counts for its part of one row."""
    return (Change(WEIGHTS, "training", 1 / times, where),)


def propose_repeats(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A join that found several partners for the rows of one label, or rows copied to make classes even."""
    if scene.bundle.model["kind"] == "constant":
        return None
    rows, yes = counted(scene.engine, "select count(*), count(*) filter (where label) from training")
    rare = col("label") if yes < rows / 2 else ~col("label")
    times = int(random.integers(3, 9))
    changes = inject_repeats(times, rare if cohort is None else rare & cohort)
    return Injection(REPEATS.name, changes, (), {"times": times}, cohort, retrain=True)


def suspect_repeats(scene: Scene) -> Ruling:
    """Questions that stand in the training set more than once: the model counts them so, and folds share them.

    Rows that only look alike have another key; a frequent kind of question is no twin.
    """
    seen, kind = taught_otherwise(scene), REPEATS.name
    rows = seen.rows or counted(scene.engine, "select count(*) from training")[0]
    repeated, once, most = counted(
        scene.engine,
        "select coalesce(sum(n - 1), 0), count(*), median(n) from (select count(*) as n from training group by key "
        "having count(*) > 1)",
    )
    if not repeated or repeated < max(20, 0.005 * rows):
        return Ruling(kind, (), f"{repeated:,} of {rows:,} training rows repeat a question")
    flags = "select key from training group by key having count(*) > 1"
    each = "select * from training qualify row_number() over (partition by key order by asked_at) = 1"
    who = whom(scene, each, f"key in ({flags})", columns=("label",))
    if who.where is None and who.share < 0.9:
        who = _by_label(scene, each, f"key in ({flags})") or who
    return Ruling(
        kind,
        (
            Suspect(
                kind,
                "training set",
                f"{once:,} questions stand in the training set {most:g} times{who.says}: {repeated:,} of its {rows:,} "
                "rows are copies, and folds in time share them",
                "select n as times, count(*) as questions from (select count(*) as n from training group by key) "
                "group by n order by n",
                redrawn(),
                reach_of(scene, who.where),
                parameters={"times": int(most), "training_rows": int(repeated), "rows": told(who.where)},
            ),
        ),
    )


def _by_label(scene: Scene, rows: str, flag: str) -> Whom | None:
    """Whose rows they are among those with one label, where one label has them all."""
    yes, no = counted(
        scene.engine,
        f"select count(*) filter (where label), count(*) filter (where not label) from ({rows}) where {flag}",
    )
    if min(yes, no) > 0.02 * (yes + no):
        return None
    return whom(scene, f"select * from ({rows}) where label = {yes > no}", flag)


REPEATS = Kind(
    "duplicated training rows",
    "rows stand in the training set more than once",
    2,
    inject_repeats,
    suspect_repeats,
    undo_repeats,
    propose_repeats,
    needs=("inputs", "training table", "training questions"),
)
SAMPLING = Kind(
    "wrong sampling",
    "rows were left out of training by their label",
    2,
    inject_sampling,
    suspect_sampling,
    undo_sampling,
    propose_sampling,
    needs=("inputs", "training table", "training questions"),
)
