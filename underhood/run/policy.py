"""From a score to an action: the cuts of the policy, and patches that route, calibrate, move a cut or want outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

from underhood.ground.errors import ProjectError
from underhood.plan.changes import CALIBRATION, COLLECT, INPUT, ROUTE, THRESHOLD, Change
from underhood.plan.exprs import Expr, typed, wrap
from underhood.plan.operations import ANY, FLAG
from underhood.plan.render import sql_value, to_python
from underhood.plan.steps import Policy

SURE = 1e-15  # a probability closer than this to 0 or 1 counts as this close: its log-odds are finite


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
Holds = Callable[[Mapping[str, Any]], Any]


def actor(policy: Policy, patches: Sequence[Patched] = ()) -> Act:
    """The policy as one function from (score, view row) to an answer.

    The view row holds `row.…` and `features.…`. Routes are looked at first, in order,
    the first that holds decides; else the score is calibrated, patch by patch, and the cuts decide.
    """
    cuts = with_cuts(policy, [p.change for p in patches])
    moved = {p.change.name: p.name for p in patches if p.change.part == THRESHOLD}
    routes = [(p.name, str(p.change.to), holder(p.change.where)) for p in patches if p.change.part == ROUTE]
    maps = [(p.name, *p.change.to, holder(p.change.where)) for p in patches if p.change.part == CALIBRATION]
    wanted = [(p.name, holder(p.change.where)) for p in patches if p.change.part == COLLECT]
    answers = [(cut, Answer(a, f"score ≥ {cut:g}", (moved[a],) if a in moved else ())) for a, cut in cuts.cuts]
    last = Answer(policy.otherwise, f"score < {answers[-1][0]:g}", tuple(moved.values()))

    def act(score: float, row: Mapping[str, Any]) -> Answer:
        for name, action, holds in routes:
            if holds(row):
                return Answer(action, f"patch {name}", (name,))
        told: float = score
        by: list[str] = []
        for name, intercept, slope, holds in maps:
            if holds(row):
                told, by = calibrated(told, intercept, slope), [*by, name]
        found = next((answer for cut, answer in answers if told >= cut), last)
        if by:
            return Answer(found.action, f"{found.reason}, calibrated to {told:.3g}", (*by, *found.patches))
        return found

    def act_and_want(score: float, row: Mapping[str, Any]) -> Answer:
        answer = act(score, row)
        return replace(answer, patches=answer.patches + tuple(name for name, holds in wanted if holds(row)))

    return act_and_want if wanted else act


def calibrated(score: float, intercept: float, slope: float) -> float:
    """The probability whose log-odds are `intercept` + `slope` × those of the score."""
    p = min(max(score, SURE), 1 - SURE)
    return 1.0 / (1.0 + exp(-max(-700.0, min(700.0, intercept + slope * log(p / (1 - p))))))


def holder(where: Expr | None) -> Holds:
    """A predicate as a function from a view row to whether it holds; null does not. No predicate always holds."""
    if where is None:
        return lambda row: True
    holds = to_python({"holds": where})
    return lambda row: holds(row)["holds"]


def settled(patches: Sequence[Patched], columns: Mapping[str, str]) -> list[Patched]:
    """The patches with their expressions settled by type, as the bench settles them. Raises ProjectError.

    `columns` are those of the view row, by type. What an input is set to, and where, reads
    no `features.…`: these are made of it.
    """
    return [replace(p, change=_settled(p, columns)) for p in patches]


def _settled(patched: Patched, columns: Mapping[str, str]) -> Change:
    change, at = patched.change, f"patch {patched.name}"
    if change.part == INPUT:
        columns = {c: t for c, t in columns.items() if not c.startswith("features.")}
    where, to = change.where, change.to
    if where is not None:
        where, kind = typed(where, columns, at)
        if kind != FLAG:
            raise ProjectError(f"`{change.where}` is a {kind}, not a flag", at)
    if change.part == INPUT:
        to, kind = typed(wrap(to), columns, at)
        if kind not in (columns.get(f"row.{change.name}"), ANY):
            raise ProjectError(f"sets {change.name} to `{to}`, which is a {kind}", at, "see the inputs of the bundle")
    return replace(change, where=where, to=to)


def action_sql(policy: Policy) -> str:
    """The policy's action for the column `score`, in SQL."""
    tests = " ".join(f"when score >= {cut!r} then {sql_value(action)}" for action, cut in policy.cuts)
    return f"case {tests} else {sql_value(policy.otherwise)} end"


def with_cuts(policy: Policy, changes: Sequence[Change]) -> Policy:
    """The policy with its cuts moved by threshold changes."""
    cuts = dict(policy.cuts)
    cuts |= {c.name: float(c.to) for c in changes if c.part == THRESHOLD}
    return Policy(tuple(sorted(cuts.items(), key=lambda item: -item[1])), policy.otherwise)
