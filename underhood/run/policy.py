"""From a score to an action: the policy's cuts, then the patches that route or move a cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from underhood.plan.changes import ROUTE, THRESHOLD, Change
from underhood.plan.render import to_python
from underhood.plan.steps import Policy


@dataclass(frozen=True)
class Answer:
    """An action with its reason in words and the names of the patches that had a say."""

    action: str
    reason: str
    patches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patched:
    """A change that is in force, under the name of its patch."""

    name: str
    change: Change


Act = Callable[[float, Mapping[str, Any]], Answer]


def actor(policy: Policy, patches: Sequence[Patched] = ()) -> Act:
    """The policy as one function from (score, view row) to an answer.

    The view row holds `row.…` and `features.…`; routes are looked at first, in order.
    """
    cuts = with_cuts(policy, [p.change for p in patches])
    moved = {p.change.name: p.name for p in patches if p.change.part == THRESHOLD}
    routes = [
        (
            p.name,
            str(p.change.to),
            to_python({"holds": p.change.where}) if p.change.where is not None else None,
        )
        for p in patches
        if p.change.part == ROUTE
    ]
    answers = [(cut, Answer(a, f"score ≥ {cut:g}", (moved[a],) if a in moved else ())) for a, cut in cuts.cuts]
    last = Answer(policy.otherwise, f"score < {answers[-1][0]:g}", tuple(moved.values()))

    def act(score: float, row: Mapping[str, Any]) -> Answer:
        for name, action, holds in routes:
            if holds is None or holds(row)["holds"]:
                return Answer(action, f"patch {name}", (name,))
        for cut, answer in answers:
            if score >= cut:
                return answer
        return last

    return act


def with_cuts(policy: Policy, changes: Sequence[Change]) -> Policy:
    """The policy with its cuts moved by threshold changes."""
    cuts = dict(policy.cuts)
    cuts |= {c.name: float(c.to) for c in changes if c.part == THRESHOLD}
    return Policy(tuple(sorted(cuts.items(), key=lambda item: -item[1])), policy.otherwise)
