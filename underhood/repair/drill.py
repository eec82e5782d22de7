"""One fault on purpose, a complaint as somebody would write it, and what the diagnosis makes of it.

The complaint names decisions that the fault turned, so a fault that turns none is
no drill (faults must have an impact to be looked for).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter

import numpy as np

from underhood.faults import KINDS
from underhood.faults.kinds import Injection, Kind, Scene
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import FLAG, TEXT
from underhood.plan.render import quoted, sql_value
from underhood.repair.cases import mean
from underhood.repair.causes import Diagnosis, diagnose
from underhood.repair.clone import Reach, strike
from underhood.repair.meaning import Meaning

SEVERITIES = ("all", "cohort", "canary")
CANARY = 0.02
COHORT = (0.05, 0.4)  # share of all decisions that a cohort for a drill has
NAMED = 5  # decisions that a complaint names
LEAST = 3  # turned decisions; with fewer nobody complains


@dataclass(frozen=True)
class Drilled:
    """One drill: what was struck, since when (UTC), how many decisions it turned, what was found, in how many seconds.

    `turned` counts decisions with another action than they would have had, or with another
    outcome where the fault is one of outcomes; `named` are the ids complained about.
    """

    kind: str
    severity: str
    injection: Injection
    since: datetime
    turned: int
    named: tuple[str, ...]
    found: Diagnosis | None
    seconds: float


def drill(scene: Scene, kind: Kind, severity: str, seed: int = 0, kinds: Sequence[Kind] = KINDS) -> Drilled | None:
    """One kind of fault at one severity ("all", "cohort" or "canary"), struck and diagnosed from a complaint.

    None if this system cannot break like that. `found` is null if the fault turned
    too few decisions for anybody to complain. The same seed gives the same drill.
    """
    random = np.random.default_rng([seed, *kind.name.encode(), *severity.encode()])
    cohort = some_cohort(scene, random) if severity == "cohort" else None
    injection = kind.propose(scene, random, cohort) if kind.propose else None
    if injection is None:
        return None
    since = some_onset(scene, random)
    reach = Reach(since, share=CANARY if severity == "canary" else 1.0, seed=seed)
    with strike(scene, injection, reach) as struck:
        turned, named, told = complained(struck, since)
        made = Drilled(kind.name, severity, injection, since, turned, named, None, 0.0)
        if len(named) < LEAST:
            return made
        mean(struck.engine, named, struck.bundle.name)
        told_scene = replace(struck, n_bad=len(named), told=told, kept={})
        began = perf_counter()
        found = diagnose(told_scene, Meaning(ids=named, told=told), kinds)
        return replace(made, found=found, seconds=perf_counter() - began)


def some_onset(scene: Scene, random: np.random.Generator) -> datetime:
    """A moment between two and three quarters of the way through the decisions, at which a fault begins."""
    at = float(random.uniform(0.5, 0.75))
    rows = scene.engine.rows(f"select quantile_disc(asked_at, {at}) from decisions where status = 'ok'")
    made: datetime = rows[0][0]
    return made


def some_cohort(scene: Scene, random: np.random.Generator) -> Expr | None:
    """One level of one input that a fair share of decisions has; null if there is none."""
    low, high = COHORT
    found: list[Expr] = []
    for name, kind in scene.plan.inputs.items():
        if kind not in (TEXT, FLAG):
            continue
        column = quoted(f"row.{name}")
        rows = scene.engine.rows(
            f"select {column}, count(*) / (select count(*) from decisions) as share from decisions "
            f"where {column} is not null group by 1 having share between {low} and {high} order by share desc limit 4"
        )
        found += [col(f"row.{name}") == level for level, _ in rows]
    return found[int(random.integers(len(found)))] if found else None


def complained(scene: Scene, since: datetime) -> tuple[int, tuple[str, ...], str | None]:
    """How many decisions a fault turned, the ids of those that somebody complains about, and what they were told.

    Needs an open `strike`. First those that became dearer given what happened, then any
    that turned; where no action turned, decisions whose outcome did, then those that are gone or twice.
    """
    costs = scene.plan.system.goal.costs.of
    paid = " ".join(
        f"when {{side}}.action = {sql_value(a)} then case when d.label then {yes} else {no} end"
        for a, (no, yes) in costs.items()
    )
    loss = f"case {paid.format(side='d')} end - case {paid.format(side='s')} end" if paid else "0"
    joined = "decisions d left join sound s on d.id = s.id"
    late = f"d.asked_at >= {sql_value(since)}"
    acted = "d.action is distinct from s.action and s.id is not null"
    n = scene.engine.rows(f"select count(*) from {joined} where {acted}")[0][0]
    order = f"coalesce({loss}, 0) > 0 desc, hash(d.id)"
    for test in (acted, "d.label is distinct from s.label and s.id is not null", "s.id is null"):
        rows = scene.engine.rows(
            f"select d.id, d.action from {joined} where {test} and {late} order by {order} limit {NAMED}"
        ) or scene.engine.rows(f"select d.id, d.action from {joined} where {test} order by {order} limit {NAMED}")
        if len(rows) >= LEAST:
            actions = [a for _, a in rows]
            told = max(set(actions), key=actions.count)
            return int(n), tuple(i for i, a in rows if a == told), told
    return int(n), (), None
