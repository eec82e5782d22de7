"""Label flip: what is written down as having happened is the contrary, for a cohort, since a time, or in training.

Either the label contradicts the facts that it is made of, or what the training set
was taught, or the ranking is turned round for one cohort and for no other.
"""

from __future__ import annotations

import numpy as np

from underhood.faults.extent import extent_of
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.faults.outcomes import moment, residuals
from underhood.faults.taught import denied_by_facts, from_facts
from underhood.faults.training_labels import inject_taught_flip, propose_taught_flip, taught_flips
from underhood.faults.turns import Turn, closer, columns_in, evidence, span_of, told, turn_of
from underhood.plan.changes import LABEL, OUTCOME, Change
from underhood.plan.exprs import Expr, col, columns_of
from underhood.plan.render import to_sql

SHARE = 0.5  # of the decisions in question whose label must be one of them


def inject_flip(where: Expr | None = None, way: str = "mislabelled") -> tuple[Change, ...]:
    """All labels of a cohort are written the wrong way round.

    `way`: "mislabelled" leaves the facts as they are, "turned" changes the facts with them.
    """
    if way == "taught":
        return inject_taught_flip(where)
    return (Change(OUTCOME, way, 1.0, where),)


def undo_flip(name: str, where: Expr | None = None) -> tuple[Change, ...]:
    """The label is turned round again; doing so twice changes nothing."""
    return (Change(LABEL, name, ~col("label"), where),)


def propose_flip(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """In outcomes, with or without their facts; in training only for a cohort: everywhere, anybody would see it."""
    ways = ["mislabelled", "turned"] + (["taught"] if cohort is not None else [])
    way = ways[int(random.integers(len(ways)))]
    if way == "taught":
        return propose_taught_flip(scene, random, cohort)
    columns = () if cohort is None else tuple(sorted(c.partition(".")[2] for c in columns_of(cohort)))
    changes = inject_flip(cohort, way)
    return Injection(FLIP.name, changes, columns, {"turned": 1.0}, cohort)


def suspect_flip(scene: Scene) -> Ruling:
    """Labels that are not what their facts make, or not what was taught, or a ranking turned round inside one cohort.

    Told from concept drift: there the ranking suffers but high scores still mean more. A label
    definition that takes one outcome for another gives the same label from the same facts.
    """
    by_facts = _against_facts(scene)
    if by_facts is not None:
        # labels that are wrong themselves say nothing of those that were taught
        return Ruling(FLIP.name, (by_facts,))
    taught, training = taught_flips(scene)
    suspects = [*taught]
    turn = turn_of(scene)
    if not suspects and turn is not None and turn.kind == FLIP.name and not closer(scene):
        suspects = [_inverted(turn)]
    if suspects:
        return Ruling(FLIP.name, tuple(suspects))
    look = residuals(scene)
    known = int(look.known.sum())
    if not known:
        return Ruling(FLIP.name, (), "no outcome of these decisions is known yet, so no label can be checked")
    return Ruling(
        FLIP.name,
        (),
        f"labels are what their facts make, for {known:,} known outcomes, and no cohort's ranking is turned round; "
        + training,
    )


def _inverted(turn: Turn) -> Suspect:
    return Suspect(
        FLIP.name,
        "outcomes",
        f"labels are the wrong way round, as high scores now mean that it does not happen: {told(turn)}",
        evidence(turn),
        (),
        span_of(turn),
        str(moment(turn.since)),
        {"columns": columns_in(turn), "turned": 1.0},
    )


def _against_facts(scene: Scene) -> Suspect | None:
    """Labels of decisions that are not what the definition makes of the facts that came with them."""
    made, differs = from_facts(scene), denied_by_facts(scene)
    if made is None or differs == "false":
        return None
    n, bad, known = counted(
        scene.engine,
        f"select count(*) filter (where {differs}), count(*) filter (where {differs} and bad), "
        "count(*) filter (where label is not null and bad) from decisions where status = 'ok'",
    )
    if scene.n_bad and bad < SHARE * max(1, known):
        return None
    rows = scene.engine.frame(
        f"select id, {differs} as shows, coalesce(label = ({to_sql(made)}), false) as holds from decisions "
        "where status = 'ok' order by id"
    )
    shows = rows["shows"] > 0
    # of a label that is not known, nobody can say that it is right
    extent = extent_of(scene, rows["id"], shows, shows | (rows["holds"] > 0))
    read = () if extent.cohort is None else columns_of(extent.cohort)
    columns = sorted(c.partition(".")[2] for c in read if c != "asked_at")
    return Suspect(
        FLIP.name,
        f"label {scene.plan.system.label.name}",
        f"{n:,} labels say the contrary of the facts that they are made of{extent.says}",
        f"select id, label, {to_sql(made)} as by_its_facts from decisions where {differs}",
        (),
        extent.where,
        extent.since,
        {"columns": columns, "turned": round(extent.share, 3)},
    )


FLIP = Kind(
    "label flip",
    "labels are the wrong way round",
    2,
    inject_flip,
    suspect_flip,
    undo_flip,
    propose_flip,
    needs=("inputs", "outcome", "training table"),
)
