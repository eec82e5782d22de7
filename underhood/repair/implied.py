"""The policy that a log shows: which cuts of the score give the actions that were taken."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10

import numpy as np

from underhood.build.checks import actions_of
from underhood.build.scorer import Array
from underhood.plan.steps import Policy

FOLLOWS = 0.995  # share of actions that must follow from the score before cuts are taken for the policy
FIRST, ENOUGH = 0.2, 50  # share of the decisions that come first, and how many they must be


@dataclass(frozen=True)
class Implied:
    """Cuts read off a log: `share` of its actions follow from them; `first` is from how many decisions they were read.

    `is_clear` says whether they may be called the policy: among the decisions that they were
    read from, nearly every action follows.
    """

    policy: Policy
    share: float
    first: int
    is_clear: bool


def implied_policy(score: Array, action: Array) -> Implied | None:
    """The cuts that give the actions, from scores (NaN for none) and actions in order of asking.

    If no cuts give them all, those of the decisions that came first: a cut may have been
    moved since. Null if no decision has both a score and an action.
    """
    known = ~np.isnan(score) & (action != "")
    score, action = score[known], action[known]
    if not len(score):
        return None
    policy = _cuts(score, action)
    share = float((actions_of(score, policy) == action).mean())
    n = int(FIRST * len(score))
    if share < FOLLOWS and n >= ENOUGH:
        early = _cuts(score[:n], action[:n])
        is_whole = set(early.actions) == set(policy.actions)
        if is_whole and (actions_of(score[:n], early) == action[:n]).mean() >= FOLLOWS:
            return Implied(early, float((actions_of(score, early) == action).mean()), n, True)
    return Implied(policy, share, len(score), share >= FOLLOWS)


def _cuts(score: Array, action: Array) -> Policy:
    """For each action from the highest median score down, the cut between it and all below it that errs least."""
    names = sorted(set(action.tolist()), key=lambda a: -float(np.median(score[action == a])))
    if len(names) == 1:
        return Policy(((names[0], 0.0),), names[0])
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    cuts: list[tuple[str, float]] = []
    upper = np.zeros(len(score), dtype=bool)
    for name in names[:-1]:
        upper = upper | (action == name)
        above = upper[order]
        # errors if all from place i on are above the cut: the ones below it that are above, and the other way round
        wrong = np.concatenate([[0], np.cumsum(above)]) + np.concatenate([np.cumsum(~above[::-1])[::-1], [0]])
        ends = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])
        best = int(np.flatnonzero(ends)[wrong[ends].argmin()])
        low = float(ranked[best - 1]) if best else 0.0
        high = float(ranked[best]) if best < len(ranked) else 1.0
        cut = _roundest(low, high)
        cuts.append((name, min(cut, cuts[-1][1]) if cuts else cut))
    return Policy(tuple(cuts), names[-1])


def _roundest(low: float, high: float) -> float:
    """The number of fewest digits above `low` and not above `high`: people choose cuts, and choose them round."""
    if not high > low:
        return high
    for digits in range(1 - floor(log10(high - low)) + 2):
        cut = float(floor(high * 10**digits + 1e-9) / 10**digits)
        if low < cut <= high:
            return cut
    return high
