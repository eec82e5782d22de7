"""Outcomes that do not come: not yet, not any more, for one answer only, or only for some actions.

A model that learns from what is known then learns from the wrong ones, and nobody
sees it: neither accuracy nor drift can be measured where nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.extent import Extent, extent_of, holds, rises
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.plan.changes import COLLECT, OUTCOME, Change
from underhood.plan.exprs import Expr, col, columns_of, lit
from underhood.plan.render import sql_value

LEAST = 30  # outcomes that are missing
FELL = 0.2  # of the outcomes: by so much what is known must have fallen, or differ by action
SEEN = 0.6  # share of outcomes of other actions that are known at least, and missing of the one
ONE_ACTION = 0.9  # of the missing outcomes that are of the one action
RARE = 0.15  # of what the scores lead to expect of one answer: less, and only the other is known
SHARE = 0.5  # of the decisions in question whose outcome must be one of those missing
RIPE = 0.99  # of known outcomes that had come by the time after which one is overdue
FEW = 5  # outcomes that are missing, where next to none was before and those in question are among them
NEWS, TELLS = 3.0, 3.0  # log-likelihood ratios: of a rate that rose, of which ones are missing against any of them
SURE_OF = 0.001  # no score is surer than this of what happens
WITH_DUE = (
    "decisions d left join (select key, max(__label_known) as due from asks group by key) a on d.key = a.key, "
    "(select max(greatest(asked_at, known_at)) as now from decisions)"
)


@dataclass(frozen=True)
class Coverage:
    """Overdue outcomes: by action the share known; `extent` of the missing ones; `action` if one alone is blind.

    `before` and `after` are shares known; `known_only` is the one answer that still comes, if it is one; `delay_s` is
    the time after asking by which nearly all outcomes had come. `is_few`: a handful is missing, where next to none was.
    """

    n: int
    missing: int
    bad: float
    before: float
    after: float
    by_action: dict[str, float]
    action: str
    known_only: bool | None
    delay_s: float
    extent: Extent
    is_few: bool = False

    @property
    def is_selective(self) -> bool:
        """Whether what is known says little of what is not: of one answer, or not of one action."""
        little = self.is_few and self.extent.share < FELL / 2
        return not little and (self.known_only is not None or bool(self.action))


def coverage(scene: Scene) -> Coverage | None:
    """What is missing of the outcomes that are due, found once for a scene; null if nothing much is."""
    found: Coverage | None = scene.once("coverage", _coverage)
    return found


def _coverage(scene: Scene) -> Coverage | None:
    n, known, ripe = scene.engine.rows(
        "select count(*), count(label), quantile_cont(epoch(known_at - asked_at), "
        f"{RIPE}) filter (where label is not null) from decisions where status = 'ok'"
    )[0]
    if n - known < FEW or not known:
        return None
    rows = scene.engine.frame(
        "select d.id, d.score, d.action, d.bad, d.label, row_number() over (order by d.id) - 1 as place, "
        f"{_due(float(ripe or 0))} as due from {WITH_DUE} where d.status = 'ok' order by d.asked_at, d.id"
    )
    due = rows["due"] > 0
    many = _many(scene, rows, due, float(ripe or 0))
    return many if many is not None and _is_about(many) else _few(scene, rows, due, float(ripe or 0)) or many


def _due(ripe: float) -> str:
    """SQL over WITH_DUE: whether an outcome should have come by the last moment of the record; `ripe` in seconds."""
    return f"coalesce(a.due <= now, d.asked_at <= now - to_seconds({ripe}))"


def _many(scene: Scene, rows: Mapping[str, Array], due: Array, ripe: float) -> Coverage | None:
    """What is missing since outcomes fell away; null if too few are for a rate, a cohort or an action of theirs."""
    missing, label = due & np.isnan(rows["label"]), rows["label"]
    if missing.sum() < LEAST:
        return None
    action, bad = rows["action"], (rows["bad"] > 0) & due
    began = _begins(missing[due])
    later = due & (np.cumsum(due) > began)
    shares = {str(a): float((~missing)[later & (action == a)].mean()) for a in np.unique(action[later].astype(str))}
    gone, place = missing & later, rows["place"].astype(int)
    extent = extent_of(scene, rows["id"], gone, due)
    own = due & holds(scene, extent.cohort)[place]
    # in a small cohort the fall is steep, though it is hardly seen among all
    inside = later if extent.cohort is None else behind(own, missing)
    only, blind = _only(rows["score"], label, inside & ~missing), _blind(action[gone])
    if blind:
        told = extent_of(scene, rows["id"], gone & (action == blind), due & (action == blind))
        within = later & holds(scene, told.cohort)[place]
        only = only if only is not None else _only(rows["score"], label, within & ~missing)
        known = ~missing[within & (action != blind)]
        blind = blind if only is None and told.share >= SEEN and len(known) and known.mean() >= SEEN else ""
        extent = told if blind else extent
    after = float((~missing)[inside].mean()) if inside.any() else 1.0
    early = own & ~inside
    # a cohort that had no time before did not fall
    before = float((~missing)[early].mean()) if early.any() else after if extent.cohort is not None else 1.0
    share = float(missing[bad].mean()) if bad.any() else float(not (rows["bad"] > 0).any())
    return Coverage(int(due.sum()), int(gone.sum()), share, before, after, shares, blind, only, ripe, extent)


def _few(scene: Scene, rows: Mapping[str, Array], due: Array, ripe: float) -> Coverage | None:
    """A handful of outcomes that are overdue, most of those in question among them, where next to none was before."""
    missing, bad = due & np.isnan(rows["label"]), (rows["bad"] > 0) & due
    if missing.sum() < FEW or not bad.any() or missing[bad].mean() < SHARE:
        return None
    began, news = rises(missing[due])
    later = due & (np.cumsum(due) > began)
    gone = missing & later
    if news < NEWS or gone.sum() < FEW or gone[bad].mean() < SHARE:
        return None
    action = rows["action"].astype(str)
    only, blind = _which(rows["score"][later], action[later], gone[later])
    before, after = (float((~missing)[s].mean()) for s in (due & ~later, later))
    by_action = {str(a): float((~missing)[later & (action == a)].mean()) for a in np.unique(action[later])}
    extent = extent_of(scene, rows["id"], gone, due)
    share = float(gone[bad].mean())
    return Coverage(int(due.sum()), int(gone.sum()), share, before, after, by_action, blind, only, ripe, extent, True)


def _which(score: Array, action: Array, gone: Array) -> tuple[bool | None, str]:
    """Which outcomes do not come: the one answer that still does, or the one action; neither if any may be missing.

    What is missing is drawn from those that it could be: all alike, by what their scores say
    of one answer, or all of one action. The likeliest tells, if it is far likelier than all alike.
    """
    yes = np.clip(score, SURE_OF, 1 - SURE_OF)
    drawn: dict[tuple[bool | None, str], Array] = {(False, ""): yes, (True, ""): 1 - yes}
    drawn |= {(None, str(a)): (action == a).astype(float) for a in np.unique(action[gone])}
    alike = -gone.sum() * np.log(len(gone))
    with np.errstate(divide="ignore"):
        worth = {k: float(np.log(w[gone] / w.sum()).sum() - alike) for k, w in drawn.items()}
    best = max(worth, key=lambda k: worth[k])
    return best if worth[best] > TELLS else (None, "")


def behind(own: Array, missing: Array) -> Array:
    """Which of a cohort's decisions come after outcomes fell away in it: flags, in order of asking; all if none do."""
    made: Array = own & (np.cumsum(own) > _begins(missing[own]))
    return made


def _only(score: Array, label: Array, known: Array) -> bool | None:
    """The one answer that is known, where by the scores the other should be known too; null if both are."""
    for answer in (True, False):
        of = label[known] == (0.0 if answer else 1.0)
        expected = float((1 - score[known] if answer else score[known]).sum())
        if expected >= 10 and of.sum() <= RARE * expected:
            return answer
    return None


def _begins(missing: Array) -> int:
    """How many decisions come before outcomes fall away: where the share missing after exceeds that before by most."""
    n = len(missing)
    total = np.concatenate([[0], np.cumsum(missing)])
    at = np.arange(n // 20, n - n // 20)
    if not len(at):
        return 0
    before, after = total[at] / np.maximum(1, at), (total[-1] - total[at]) / (n - at)
    worth = (after - before) ** 2 * at * (n - at)
    best = int(at[int(np.argmax(np.where(after > before, worth, -1.0)))])
    rise = (total[-1] - total[best]) / (n - best) - total[best] / max(1, best)
    return best if rise > FELL / 2 else 0


def _blind(action: Array) -> str:
    """The one action of which nearly all missing outcomes are; empty if there is none."""
    names, counts = np.unique(action.astype(str), return_counts=True)
    return str(names[counts.argmax()]) if len(names) and counts.max() >= ONE_ACTION * counts.sum() else ""


def _is_about(found: Coverage | None) -> bool:
    return (
        found is not None
        and found.bad >= SHARE
        and (found.is_few or bool(found.action) or found.extent.is_whole or found.before - found.after >= FELL / 2)
    )


def _columns(where: Expr | None) -> list[str]:
    read = () if where is None else columns_of(where)
    return sorted(c.partition(".")[2] for c in read if "." in c)


def _evidence(found: Coverage) -> str:
    if found.is_few:
        return (
            f"select d.id, d.asked_at, d.action, d.score from {WITH_DUE} where d.status = 'ok' and d.label is null "
            f"and {_due(found.delay_s)} and d.asked_at >= TIMESTAMP {sql_value(found.extent.since)} order by d.asked_at"
        )
    return (
        "select day, action, count(*) as decisions, count(label) as known, avg(label::INT) as happened "
        "from decisions group by day, action order by day, action"
    )


def fix_blind(n: int, where: Expr | None = None) -> tuple[Change, ...]:
    """So many outcomes of the decisions of which none comes are collected by hand: nothing else tells how they went."""
    return (Change(COLLECT, "collect", n, where),)


# --- label delay ---


def inject_delay(label: bool | None = None, where: Expr | None = None) -> tuple[Change, ...]:
    """What happened does not become known any more, or only where it was not `label`."""
    of = None if label is None else col("label") == label
    parts = [p for p in (where, of) if p is not None]
    both = None if not parts else parts[0] if len(parts) == 1 else parts[0] & parts[1]
    return (Change(OUTCOME, "known_at", None, both),)


def propose_delay(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A feed of outcomes that stops, or that brings only one of the two answers."""
    label = [None, True, False][int(random.integers(3))]
    parameters = {} if label is None else {"known_only": not label}
    return Injection(LABEL_DELAY.name, inject_delay(label, cohort), tuple(_columns(cohort)), parameters, cohort)


def suspect_delay(scene: Scene) -> Ruling:
    """Outcomes that are overdue are not known: since a time, for a cohort, or of one answer only.

    Not those asked too lately to be known as usual. Told from a feedback loop, where it depends on the action.
    """
    kind, found = LABEL_DELAY.name, coverage(scene)
    if found is None or not _is_about(found):
        return Ruling(kind, (), _says_known(scene, found))
    if found.action:
        return Ruling(kind, (), f"outcomes are missing, but of one action only: '{found.action}'")
    e, hours = found.extent, found.delay_s / 3600
    yes, no = ("yes", "no") if found.known_only else ("no", "yes")
    only = f", and by their scores they are those with '{no}'" if found.is_few else f", and what is known says '{yes}'"
    only = "" if found.known_only is None else only
    says = (
        f"{found.missing:,} outcomes{e.says} are not known, though nearly all came within {hours:,.0f} h before{only}: "
        "how these decisions went cannot be seen, and a model that learns now learns from the others"
    )
    parameters: dict[str, object] = {"columns": _columns(e.cohort), "missing": found.missing}
    if found.known_only is not None:
        parameters["known_only"] = found.known_only
    # whom it touches: those whose outcome is missing
    blind = col("label").is_null()
    where = blind if e.where is None else e.where & blind
    return Ruling(kind, (Suspect(kind, "outcomes", says, _evidence(found), (), where, e.since, parameters),))


def _says_known(scene: Scene, found: Coverage | None) -> str:
    n, known = scene.engine.rows("select count(*), count(label) from decisions where status = 'ok'")[0]
    if not known:
        return "no outcome is known of any decision: whether they come late cannot be seen"
    if found is None:
        return (
            f"{known:,} of {n:,} outcomes are known, the rest is not due yet"
            if known < n
            else (f"all {n:,} outcomes are known")
        )
    return f"{found.missing:,} of {found.n:,} outcomes that are due are missing, as before, or not of these decisions"


# --- feedback loop ---


def inject_feedback(action: str, where: Expr | None = None) -> tuple[Change, ...]:
    """What happened becomes known only if the action was not this one."""
    of = col("action") == lit(action)
    return (Change(OUTCOME, "known_at", None, of if where is None else where & of),)


def propose_feedback(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """One action after which nobody looks; it must be given often enough."""
    rows = scene.engine.rows(
        "select action from (select action, count(*) / sum(count(*)) over () as share from decisions "
        "where status = 'ok' group by action) where share between 0.1 and 0.9 order by action"
    )
    if not rows:
        return None
    action = str(rows[int(random.integers(len(rows)))][0])
    return Injection(
        FEEDBACK.name, inject_feedback(action, cohort), tuple(_columns(cohort)), {"action": action}, cohort
    )


def suspect_feedback(scene: Scene) -> Ruling:
    """Outcomes are known after all actions but one: what the system does decides what it can learn.

    Told from label delay, where all actions lack them alike.
    """
    kind, found = FEEDBACK.name, coverage(scene)
    if found is None or not _is_about(found):
        return Ruling(kind, (), _says_known(scene, found))
    if not found.action:
        shares = ", ".join(f"{a} {s:.0%}" for a, s in sorted(found.by_action.items()))
        return Ruling(kind, (), f"outcomes are missing whatever the action ({shares} known)")
    e = found.extent
    says = (
        f"of '{found.action}'{e.says} {found.by_action[found.action]:.0%} of the outcomes are known, of other actions "
        f"{min(s for a, s in found.by_action.items() if a != found.action):.0%} or more: the system learns only from "
        "what it did otherwise; take another action for one in a hundred of them, to see"
    )
    if found.is_few:
        says = (
            f"{found.missing:,} outcomes{e.says} are overdue, all of them of '{found.action}', and next to none was "
            "before: of what the system did so, nobody looks at some"
        )
    parameters = {"columns": _columns(e.cohort), "action": found.action}
    where = col("action") == lit(found.action)
    where = where if e.where is None else e.where & where
    return Ruling(kind, (Suspect(kind, "outcomes", says, _evidence(found), (), where, e.since, parameters),))


LABEL_DELAY = Kind(
    "label delay",
    "outcomes do not become known any more",
    2,
    inject_delay,
    suspect_delay,
    fix_blind,
    propose_delay,
    needs=("inputs", "outcome", "outcome moment"),
)
FEEDBACK = Kind(
    "feedback loop",
    "outcomes are known only after some actions",
    2,
    inject_feedback,
    suspect_feedback,
    fix_blind,
    propose_feedback,
    needs=("inputs", "score", "outcome"),
)
