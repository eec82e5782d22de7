"""From a score to an action: a cut that was moved, a rule or a fallback that fires for the wrong ones.

Both contradict the deployed policy. A moved cut shows only between its old and its
new place; a rule gives one action whatever the score is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from underhood.build.checks import actions_of
from underhood.build.scorer import Array
from underhood.faults.extent import Extent, extent_of, holds, roundest
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.vectors import SHARE, Replayed, replayed
from underhood.plan.changes import ROUTE, THRESHOLD, Change
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted
from underhood.plan.steps import Policy
from underhood.run.policy import action_sql, with_cuts

CUT, RULE = "cut", "rule"
BLIND = np.log(0.01)  # of a rule that is blind to the score meeting only scores on one side of a cut


@dataclass(frozen=True)
class Misacted:
    """Why actions are not the policy's: how (CUT or RULE), for how many bad, of whom.

    `cuts` are the cuts in force, as the actions show them; `last` by cut the farthest
    score that contradicts it; `given` the actions given, `low` and `high` the scores between which they contradict.
    """

    how: str
    n_bad: int
    extent: Extent
    given: tuple[str, ...]
    low: float
    high: float
    cuts: Mapping[str, float] = field(default_factory=dict)
    last: Mapping[str, float] = field(default_factory=dict)


def misacted(scene: Scene) -> Misacted | None:
    """What explains the actions that are not the policy's, once for a scene; null if too few of the bad have one."""
    found: Misacted | None = scene.once("misacted", _misacted)
    return found


def _misacted(scene: Scene) -> Misacted | None:
    r, policy = replayed(scene), scene.bundle.policy
    plain = ~r.patched & ~np.isnan(r.score)
    expected = actions_of(r.score, policy)
    shows = plain & (expected != r.action)
    n_bad = int((shows & r.bad).sum())
    if not shows.any() or n_bad < SHARE * (plain & r.bad).sum() or (r.bad.any() and not n_bad):
        return None
    given = tuple(sorted(set(r.action[shows].tolist())))
    low, high = float(r.score[shows].min()), float(r.score[shows].max())
    moved = _moved(policy, r.score[shows], r.action[shows])
    rule = extent_of(scene, r.id, shows, plain & (expected != given[0])) if len(given) == 1 else None
    # all of a span got one action: a cut beyond every score does that too, and is the simpler change
    is_whole = rule is not None and rule.is_whole and rule.cohort is None
    other = plain & (expected != given[0])
    blind = rule is not None and not is_whole and _is_blind(scene, policy, r, other, rule, moved)
    is_cut = moved and not blind
    if not is_cut:
        return Misacted(RULE, n_bad, rule or extent_of(scene, r.id, shows, plain), given, low, high)
    cuts = {c: _place(dict(policy.cuts)[c], s) for c, s in moved.items()}
    can = plain & (actions_of(r.score, _with(policy, cuts)) != expected)
    extent = extent_of(scene, r.id, shows, can)
    sides = {bool(shows.min() >= dict(policy.cuts)[name]) for name, shows in moved.items()}
    is_all = rule is not None and len(sides) > 1 and (r.action[plain & holds(scene, rule.where)] == given[0]).all()
    if rule is not None and len(moved) > 1 and (is_all or not extent.is_whole):
        # two cuts that moved apart, until nothing is beyond them or for some only, are two changes; one action is one
        return Misacted(RULE, n_bad, rule, given, low, high)
    inside = plain & holds(scene, extent.where)
    cuts = {c: _implied(policy, r, inside, c, s, extent.is_whole) for c, s in moved.items()}
    last = {c: float(s.max() if s.min() >= dict(policy.cuts)[c] else s.min()) for c, s in moved.items()}
    return Misacted(CUT, n_bad, extent, given, low, high, cuts, last)


def _with(policy: Policy, cuts: Mapping[str, float]) -> Policy:
    return with_cuts(policy, [Change(THRESHOLD, name, cut) for name, cut in cuts.items()])


def _moved(policy: Policy, score: Array, action: Array) -> dict[str, Array]:
    """By cut that contradicts: the scores that do. Empty if no moved cuts can give these actions."""
    rank = {a: n for n, a in enumerate(policy.actions)}
    if not set(action.tolist()) <= set(rank):
        return {}
    given = np.array([rank[a] for a in action])
    moved: dict[str, Array] = {}
    for n, (name, cut) in enumerate(policy.cuts):
        missed, early = score[(score >= cut) & (given > n)], score[(score < cut) & (given <= n)]
        if len(missed) and len(early):
            return {}
        if len(missed) or len(early):
            moved[name] = missed if len(missed) else early
    return moved


def _is_blind(scene: Scene, policy: Policy, r: Replayed, can: Array, rule: Extent, moved: Mapping[str, Array]) -> bool:
    """Whether a rule blind to the score may well have met only scores between the cuts and the last that contradict."""
    inside = can & holds(scene, rule.where)
    between = np.zeros(len(can), dtype=bool)
    for name, shows in moved.items():
        cut = dict(policy.cuts)[name]
        between |= (r.score >= min(cut, shows.min())) & (r.score <= max(cut, shows.max()))
    share = (between & inside).sum() / max(1, inside.sum())
    return bool(rule.n * np.log(max(1e-12, share)) > BLIND)


def _place(cut: float, shows: Array) -> float:
    """Just beyond the last score that contradicts a cut."""
    return float(np.nextafter(shows.max(), 2.0)) if shows.min() >= cut else float(shows.min())


def _implied(policy: Policy, r: Replayed, inside: Array, name: str, shows: Array, whole: bool) -> float:
    """Where the cut in force must have been: the roundest number between the last that contradicts and the next."""
    cut, rank = dict(policy.cuts)[name], policy.actions.index(name)
    at_or_above = np.isin(r.action, policy.actions[: rank + 1])
    step = 3 * float(np.ptp(shows)) / max(1, len(shows))
    if shows.min() >= cut:
        low = float(shows.max())
        next_ = r.score[inside & at_or_above & (r.score > low)]
        high = float(next_.min()) if whole and len(next_) else min(1.0, low + step)
        return roundest(low, high, near_low=True)
    high = float(shows.min())
    before = r.score[inside & ~at_or_above & (r.score < high)]
    low = float(before.max()) if whole and len(before) else max(0.0, high - step)
    return roundest(low, high)


def contradicting(scene: Scene) -> str:
    """SQL of the decisions whose action is not the policy's for their score, those with a patch left out."""
    by_policy = action_sql(scene.bundle.policy)
    return (
        f"select id, asked_at, score, action, {by_policy} as by_policy from decisions where status = 'ok' "
        f"and coalesce(len(patches), 0) = 0 and action <> {by_policy} order by asked_at"
    )


def replays(scene: Scene, kind: str, otherwise: str) -> Ruling:
    """A ruling that actions follow from their scores, or that something else explains those that do not."""
    found, r = misacted(scene), replayed(scene)
    n = int((r.bad & ~r.patched).sum())
    if not len(r.score) or r.patched.all():
        return Ruling(kind, (), "no decision was made by the policy alone")
    if found is None:
        return Ruling(kind, (), f"the action follows from the score for {n:,} of {n:,}")
    return Ruling(kind, (), f"{found.extent.n:,} actions contradict the policy, but {otherwise}")


# --- misrouting ---


def inject_route(action: str, where: Expr | None = None) -> tuple[Change, ...]:
    """A rule gives this action where it holds, whatever the score."""
    return (Change(ROUTE, "route", action, where),)


def undo_route(cuts: tuple[tuple[str, float], ...], where: Expr | None = None) -> tuple[Change, ...]:
    """The policy's cuts decide again where the rule fired."""
    return tuple(Change(THRESHOLD, action, cut, where) for action, cut in cuts)


def suspect_route(scene: Scene) -> Ruling:
    """One action was given where no cut of the score gives it."""
    found = misacted(scene)
    if found is None or found.how != RULE:
        return replays(scene, MISROUTING.name, "they lie on one side of a cut, so the cut was moved; no rule is needed")
    told = " or ".join(f"'{a}'" for a in found.given)
    e = found.extent
    return Ruling(
        MISROUTING.name,
        (
            Suspect(
                MISROUTING.name,
                "rule",
                f"{e.n:,} decisions{e.says} got {told} though their scores, from {found.low:.3f} to {found.high:.3f}, "
                "lie beyond every place of a cut that would give it",
                contradicting(scene),
                undo_route(scene.bundle.policy.cuts),
                e.where,
                e.since,
                {"action": found.given[0] if len(found.given) == 1 else list(found.given), "predicate": _shown(e)},
            ),
        ),
    )


def _shown(extent: Extent) -> str:
    return "" if extent.cohort is None else str(extent.cohort)


def propose_route(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A rule that gives one of the policy's actions to one level of a column, or to all beyond a value of a number."""
    action = str(random.choice(list(scene.bundle.policy.actions)))
    where = cohort if cohort is not None else _some_rule(scene, random)
    if where is None:
        return None
    return Injection(
        MISROUTING.name, inject_route(action, where), (), {"action": action, "predicate": str(where)}, where
    )


def _some_rule(scene: Scene, random: np.random.Generator) -> Expr | None:
    found: list[Expr] = []
    total = scene.engine.rows("select count(*) from decisions")[0][0]
    for name, kind in scene.plan.inputs.items():
        column, row = quoted(f"row.{name}"), col(f"row.{name}")
        if kind in (TEXT, FLAG):
            levels = scene.engine.rows(
                f"select {column}, count(*) as n from decisions where {column} is not null group by 1 "
                f"having n between {0.03 * total} and {0.5 * total} order by n desc limit 3"
            )
            found += [row == level for level, _ in levels]
        elif kind == NUMBER:
            high = scene.engine.rows(f"select quantile_disc({column}, 0.85) from decisions")[0][0]
            share = scene.engine.rows(f"select avg(({column} >= {high!r})::INT) from decisions")[0][0] if high else 0
            found += [row >= float(high)] if high and share and share < 0.4 else []
    return found[int(random.integers(len(found)))] if found else None


MISROUTING = Kind(
    "misrouting",
    "a rule or a fallback fires for the wrong ones",
    1,
    inject_route,
    suspect_route,
    undo_route,
    propose_route,
    needs=("inputs", "score", "action", "policy"),
)
