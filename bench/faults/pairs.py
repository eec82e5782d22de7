"""Two faults at once: two kinds of different parts struck into one clone, each with an impact of its own.

The complaint names decisions that one of them turned and decisions that the other did, all told the same
action, as people who complain together were. Right is that both kinds are among the causes told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from bench.faults.answers import answered, is_located, restored
from bench.faults.truth import Line
from underhood.faults.kinds import Injection, Kind, Scene
from underhood.plan.changes import BUNDLE, FEATURE, INPUT, ROUTE, SCORE, SOURCE, THRESHOLD, UNTIL, Change
from underhood.plan.exprs import col
from underhood.repair.clone import Reach, strike
from underhood.repair.decided import corrected_labels, mean
from underhood.repair.diagnosis import CAUSE, Diagnosis
from underhood.repair.drill import LEAST, Struck, diagnosed, some_cohort, some_onset

TWO = "two faults"
K, EACH, DRAWS = 5, 4, 24  # turned by each alone; named of each; kinds tried until two of them go together
VALUES, SCORES, ACTIONS = {INPUT, SOURCE, FEATURE}, {SCORE, BUNDLE, UNTIL}, {THRESHOLD, ROUTE}


@dataclass(frozen=True)
class One:
    """One of the two: its kind, what it changes since when, and the decisions that it turns alone."""

    kind: Kind
    injection: Injection
    since: datetime
    turned: frozenset[str]

    @property
    def right(self) -> tuple[str, ...]:
        """The kinds that are a right answer."""
        return (*self.injection.right, self.kind.name)


def pair_cell(scene: Scene, name: str, system: str, number: int, seed: int, kinds: Sequence[Kind]) -> Line:
    """The line of two faults at once, which two is drawn. `state`: "scored", or "no impact" if no two go together."""
    line: Line = {"system": system, "kind": TWO, "severity": f"pair {number}", "seed": seed, "cell": name}
    line["seen"] = seed % 2 == 0
    random = np.random.default_rng([seed, number, *TWO.encode(), *system.encode()])
    first: One | None = None
    for place in random.permutation(len(kinds))[:DRAWS].tolist():
        one = draw_one(scene, kinds[place], random)
        if one is None or (first is not None and not go_together(first, one)):
            continue
        if first is None:
            first = one
            continue
        if told := _struck(scene, first, one, seed):
            return line | told
    return {**line, "state": "no impact"}


def draw_one(scene: Scene, kind: Kind, random: np.random.Generator) -> One | None:
    """A fault of this kind that turns decisions without the model learning anew; null if it cannot or does not."""
    cohort = some_cohort(scene, random) if random.random() < 0.5 else None
    injection = kind.propose(scene, random, cohort) if kind.propose else None
    since = some_onset(scene, random)
    if injection is None or injection.retrain:
        return None
    if not {c.part for c in injection.changes} <= VALUES | SCORES | ACTIONS:
        return None
    late = replace(injection, changes=tuple(_since(c, since) for c in injection.changes))
    with strike(scene, late, Reach()) as struck:
        turned = frozenset(i for (i,) in struck.engine.rows(TURNED))
    return One(kind, late, since, turned) if len(turned) >= K else None


TURNED = "select d.id from decisions d join sound s on d.id = s.id where d.action is distinct from s.action"


def _since(change: Change, since: datetime) -> Change:
    late = col("asked_at") >= since
    return replace(change, where=late if change.where is None else late & change.where)


def go_together(one: One, other: One) -> bool:
    """Whether neither hides the other: other columns, and not both of the score or both of the action."""
    mine, yours = ({c.part for c in o.injection.changes} for o in (one, other))
    if any(mine & group and yours & group for group in (SCORES, ACTIONS)):
        return False
    mine_at, yours_at = ({c.name for c in o.injection.changes} | set(o.injection.columns) for o in (one, other))
    return not mine_at & yours_at


def _struck(scene: Scene, one: One, other: One, seed: int) -> Line:
    """Both struck and diagnosed; empty if too few decisions that got one action are turned by each of them."""
    both = Injection(TWO, (*one.injection.changes, *other.injection.changes))
    with strike(scene, both, Reach()) as made:
        turned = {i: str(a) for i, a in made.engine.rows(TURNED.replace("select d.id", "select d.id, d.action"))}
        named, told = complained_about(turned, one.turned, other.turned, seed)
        if not named:
            return {}
        mean(made.engine, named, made.bundle.name, labels=corrected_labels(made.plan, made.bundle))
        clone = replace(made, n_bad=len(named), told=told, kept={})
        since = min(one.since, other.since)
        struck = Struck(TWO, "two", both, Reach(), since, clone, len(turned), named, told)
        found, seconds = diagnosed(struck)
        line: Line = {"state": "scored", "seconds": round(seconds, 3), "turned": len(turned), "named": list(named)}
        line |= {"struck": [o.kind.name for o in (one, other)], "since": [f"{o.since}" for o in (one, other)]}
        line["says"] = " AND ".join("; ".join(map(str, o.injection.changes[:3])) for o in (one, other))
        return line | answered(found) | judged_two(struck, found, (one, other))


def complained_about(
    turned: dict[str, str], one: frozenset[str], other: frozenset[str], seed: int
) -> tuple[tuple[str, ...], str]:
    """Ids of decisions that got one action, some turned by each fault, and that action; none if there are too few."""
    random = np.random.default_rng(seed)
    found: list[tuple[int, str, list[list[str]]]] = []
    for action in sorted(set(turned.values())):
        mine, yours = (sorted(i for i in ids if turned.get(i) == action) for ids in (one - other, other - one))
        found.append((min(len(mine), len(yours)), action, [mine, yours]))
    fewest, told, sides = max(found, default=(0, "", []))
    if fewest < LEAST:
        return (), ""
    picked = [random.choice(side, size=min(EACH, len(side)), replace=False).tolist() for side in sides]
    return tuple(sorted({*picked[0], *picked[1]})), told


def judged_two(struck: Struck, found: Diagnosis, ones: tuple[One, One]) -> Line:
    """Which of the two kinds are told, at the right columns, with which share, and what undoing them restores.

    `first`: the first cause is one of the two. `recall`: the share of the two among the first three kinds.
    `as_two`: the verdict says two faults at once, and these. `others`: kinds that got a share beside them.
    """
    kinds = list(dict.fromkeys(c.suspect.kind for c in found.causes))
    told = [any(k in one.right for k in kinds[:3]) for one in ones]
    located = [any(is_located(one.injection, c.suspect) for c in found.causes[:3]) for one in ones]
    members = [c for c in found.causes if found.together is not None and c.share < 1]
    of = [next((c for c in members if c.suspect.kind in one.right), None) for one in ones]
    both = [c for c in members if any(c.suspect.kind in one.right for one in ones)]
    best = found.causes[0] if found.causes else None
    undone: Any = found.together if found.together is not None else best.trial if best else None
    return {
        "first": bool(kinds) and any(kinds[0] in one.right for one in ones),
        "recall": sum(told) / 2,
        "located": sum(located) / 2,
        "as_two": None not in of and of[0] is not of[1],
        "shares": [None if c is None else round(c.share, 3) for c in of],
        "others": sorted({c.suspect.kind for c in members if c not in both}),
        "alarm": found.verdict == CAUSE and not any(told),
        **restored(struck, undone.action if undone is not None else None),
    }
