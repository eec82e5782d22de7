"""One fault on purpose, a complaint as somebody would write it, and what the diagnosis makes of it.

The complaint names decisions that the fault turned, so a fault that turns none is
no drill (faults must have an impact to be looked for).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter

import numpy as np

from underhood.faults import KINDS
from underhood.faults.kinds import Injection, Kind, Scene
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import FLAG, TEXT
from underhood.plan.render import quoted, sql_value
from underhood.repair.causes import diagnose
from underhood.repair.clone import Reach, strike
from underhood.repair.decided import corrected_labels, mean
from underhood.repair.diagnosis import Diagnosis
from underhood.repair.meaning import Meaning

SEVERITIES = ("all", "cohort", "canary")
CANARY = 0.02
COHORT = (0.05, 0.4)  # share of all decisions that a cohort for a drill has
NAMED = 5  # decisions that a complaint names
LEAST = 3  # turned decisions; with fewer nobody complains


@dataclass(frozen=True)
class Struck:
    """One fault in a masked clone, with the complaint about it: what an open `struck_by` gives.

    `scene` is the clone's, the decisions of the complaint marked as bad (none if fewer than
    LEAST turned: nobody complains). `turned` counts decisions with another action than they
    would have had; `named` are the ids complained about, `told` the action they got.
    """

    kind: str
    severity: str
    injection: Injection
    reach: Reach
    since: datetime
    scene: Scene
    turned: int
    named: tuple[str, ...]
    told: str | None


@dataclass(frozen=True)
class Drilled:
    """One drill: what was struck, since when (UTC), how many decisions it turned, what was found, in how many seconds.

    `turned` counts decisions with another action than they would have had; `named` are the
    ids complained about.
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
    with struck_by(scene, kind, severity, seed) as struck:
        if struck is None:
            return None
        found, seconds = diagnosed(struck, kinds) if struck.named else (None, 0.0)
        return Drilled(kind.name, severity, struck.injection, struck.since, struck.turned, struck.named, found, seconds)


def diagnosed(struck: Struck, kinds: Sequence[Kind] = KINDS) -> tuple[Diagnosis, float]:
    """What the diagnosis makes of the complaint about a fault, and in how many seconds."""
    began = perf_counter()
    found = diagnose(struck.scene, Meaning(ids=struck.named, told=struck.told), kinds)
    return found, perf_counter() - began


@contextmanager
def struck_by(scene: Scene, kind: Kind, severity: str, seed: int = 0, tries: int = 1) -> Iterator[Struck | None]:
    """A masked clone with one fault of this kind in it; None if this system cannot break like that.

    A draw that does not fit the system (a column of another type, a cohort), or whose fault nobody would
    complain about, is drawn again, up to `tries` times in all; the last fault is given then, with nobody
    named. While it is open, the views are the clone's and `sound` holds the decisions as they were (see
    `clone.strike`).
    """
    last: int | None = None
    for turn in range(tries):
        with ExitStack() as stack:
            made = stack.enter_context(_struck_once(scene, kind, severity, seed, turn))
            last = turn if made is not None else last
            if made is not None and (made.named or turn == tries - 1):
                yield made
                return
    if last is None:
        yield None
        return
    with _struck_once(scene, kind, severity, seed, last) as made:
        yield made


@contextmanager
def _struck_once(scene: Scene, kind: Kind, severity: str, seed: int, turn: int) -> Iterator[Struck | None]:
    random = np.random.default_rng([seed, *([turn] if turn else []), *kind.name.encode(), *severity.encode()])
    cohort = some_cohort(scene, random) if severity == "cohort" else None
    is_none = kind.propose is None or (severity == "cohort" and cohort is None)
    injection = None if is_none or kind.propose is None else kind.propose(scene, random, cohort)
    if injection is None:
        yield None
        return
    since = some_onset(scene, random)
    reach = Reach(since, share=CANARY if severity == "canary" else 1.0, seed=seed)
    with strike(scene, injection, reach) as struck:
        turned, named, told = complained(struck, since)
        named = named if len(named) >= LEAST else ()
        mean(struck.engine, named, struck.bundle.name, labels=corrected_labels(struck.plan, struck.bundle))
        told_scene = replace(struck, n_bad=len(named), told=told, kept={})
        yield Struck(kind.name, severity, injection, reach, since, told_scene, turned, named, told)


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
    that turned; where no action turned, decisions whose outcome did, then those that are there twice or next
    to those that are gone; where only others ask than did, decisions that went badly, as now more of them do.
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
    if len(beside := _beside_the_gone(scene)) >= LEAST:
        return int(n), beside, None
    if paid and (rows := _gone_badly(scene, late, paid)):
        return int(n), tuple(i for i, _ in rows), rows[0][1]
    return int(n), (), None


def _beside_the_gone(scene: Scene) -> tuple[str, ...]:
    """Decisions next in time to those that are gone though their questions are there, of the level they all share."""
    gone = "sound g where g.bundle in (select bundle from decisions) and g.id not in (select id from decisions) "
    gone += "and g.key in (select key from asks)"
    n, middle = scene.engine.rows(f"select count(*), quantile_disc(g.asked_at, 0.5) from {gone}")[0]
    if n < LEAST:
        return ()
    alike = ["true"]
    for name, kind in scene.plan.inputs.items():
        if kind in (TEXT, FLAG):
            column = quoted(f"row.{name}")
            level, levels = scene.engine.rows(f"select any_value(g.{column}), count(distinct g.{column}) from {gone}")[
                0
            ]
            alike += [f"d.{column} = {sql_value(level)}"] if levels == 1 else []
    near = f"abs(epoch(d.asked_at) - epoch({sql_value(middle)}))"
    rows = scene.engine.rows(
        f"select d.id from decisions d where {' and '.join(alike)} order by {near}, d.id limit {NAMED}"
    )
    return tuple(i for (i,) in rows)


def _gone_badly(scene: Scene, late: str, paid: str) -> list[tuple[str, str]]:
    """Decisions told the action that was the wrong one oftener than it would have been, where only who asks changed."""
    costs = scene.plan.system.goal.costs.of.values()
    dear = f"case {paid.format(side='d')} end > case when d.label then {min(y for _, y in costs)} else "
    dear += f"{min(n for n, _ in costs)} end"
    share = f"select d.action, count(*) filter (where {dear}) / sum(count(*)) over () as share from {{}} d where {late}"
    rows = scene.engine.rows(
        f"select action from ({share.format('decisions')} group by 1) d join ({share.format('sound')} group by 1) s "
        "using (action) where d.share > s.share order by d.share - s.share desc limit 1"
    )
    fewer = scene.engine.rows(
        f"select count(*) < 0.99 * (select count(*) from sound where {late.replace('d.', '')} "
        f"and bundle = {sql_value(scene.bundle.name)}) from decisions d where {late}"
    )[0][0]
    if not rows or not fewer:
        return []
    return [
        (i, a)
        for i, a in scene.engine.rows(
            f"select d.id, d.action from decisions d where {late} and {dear} and d.action = {sql_value(rows[0][0])} "
            f"order by hash(d.id) limit {NAMED}"
        )
    ]
