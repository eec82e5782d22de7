"""Candidate fixes tried on history, side by side: what each repairs, costs and breaks, for whom, and which to take.

The recommended one comes first, with the reason in words; what another does better with no more effort is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from underhood.faults.kinds import Scene
from underhood.faults.training import spare_action
from underhood.plan.changes import (
    BUNDLE,
    COLLECT,
    DECISION_PARTS,
    ROUTE,
    TRAINING_PARTS,
    UNTIL,
    Change,
    change_json,
    is_recomputed,
)
from underhood.plan.exprs import shown
from underhood.repair.bench import Ground, Trial, trial_json
from underhood.repair.fixes import SIZES, Candidate, ended
from underhood.repair.swaps import swap

Say = Callable[[str], None]
MOST = 8
NEARLY = 0.9  # of what the best repairs: as good, as far as repairing goes
SMALL = 0.02  # net share of the others that may get worse
NOW, BUILD, DEPLOY, HAND = "at once", "next build", "deploy", "by hand"


@dataclass(frozen=True)
class Fix:
    """One candidate that was tried.

    `size` is a name of `SIZES`; `acts` says when it would act ("at once", "next build",
    "deploy", "by hand"), `how` what to type or do; `why` the reason for or against it, in words;
    `hurts` the groups and weeks for which it is dearer, beyond doubt at 95 %; `tell` what to tell
    the users, empty if it costs more than it saves.
    """

    title: str
    changes: tuple[Change, ...]
    trial: Trial
    size: str = ""
    acts: str = NOW
    how: str = ""
    why: str = ""
    hurts: tuple[str, ...] = ()
    tell: str = ""


def simulate(
    scene: Scene, ground: Ground, tried: Sequence[Candidate], until: date, say: Say = lambda line: None
) -> list[Fix]:
    """Each candidate tried on history: at most eight, the recommended first, without those that another dominates.

    `until` is the last day that a patch would act: users are told it.
    """
    made = []
    for one in tried:
        say(f"simulating: {one.title}")
        made.append(Fix(one.title, one.changes, swap(scene, ground, *one.changes), one.size, acts_when(one.changes)))
    undo = [fix for fix, one in zip(made, tried, strict=True) if one.is_undo]
    mends = [fix for fix, one in zip(made, tried, strict=True) if one.mends]
    kept = _ranked(_worth_telling(scene, made, undo), mends)[:MOST]
    said = telling(scene)
    return [
        replace(
            fix,
            how=_how(scene, fix, number),
            why=_why(fix, kept, mends) + _over(fix, until),
            hurts=hurts_of(fix.trial),
            tell=f"{said} {_next(scene, fix, until)}".strip() if _can_be_told(fix) else "",
        )
        for number, fix in enumerate(kept, 1)
    ]


def acts_when(changes: Sequence[Change]) -> str:
    """When these changes would act: a patch at once or from the next build on, a deployment, or what people do."""
    parts = {c.part for c in changes}
    if any(map(is_recomputed, changes)) or parts - {*DECISION_PARTS, *TRAINING_PARTS, BUNDLE, UNTIL}:
        return HAND
    if BUNDLE in parts:
        return DEPLOY
    return BUILD if parts & {*TRAINING_PARTS, UNTIL} else NOW


def _is_worth(trial: Trial) -> bool:
    return trial.money_after <= trial.money_before


def _can_be_told(fix: Fix) -> bool:
    """Whether users can count on a fix: it costs no more than it saves, and does something for what went wrong."""
    return _is_worth(fix.trial) and (fix.trial.repaired > 0 or any(c.part == COLLECT for c in fix.changes))


def _how(scene: Scene, fix: Fix, number: int) -> str:
    bundle = next((str(c.to) for c in fix.changes if c.part == BUNDLE), "")
    if bundle == scene.bundle.name:
        return f"see to it that {bundle} is what decides"
    if fix.acts == DEPLOY:
        return f"underhood deploy {bundle}"
    if any(c.part == UNTIL for c in fix.changes):
        return "underhood build"
    if fix.acts == HAND:
        return f"mend what serves {', '.join(dict.fromkeys(c.name for c in fix.changes))}"
    patch = f'underhood patch apply {number} --owner "…"'
    return f"{patch}, then underhood build" if fix.acts == BUILD else patch


def _worth_telling(scene: Scene, fixes: Sequence[Fix], undo: Sequence[Fix]) -> list[Fix]:
    """Without those that do nothing for the decisions in question, and those that another dominates.

    The undo, a person's look and the collecting of outcomes are always told: each is of
    another nature than the rest.
    """
    person = spare_action(scene)

    def is_apart(fix: Fix) -> bool:
        routed = any(c.part == ROUTE and c.to == person for c in fix.changes)
        return fix in undo or routed or any(c.part == COLLECT for c in fix.changes)

    helps = [f for f in fixes if is_apart(f) or f.trial.turned]
    return [f for f in helps if is_apart(f) or not any(_dominates(g, f) for g in helps)]


def _dominates(one: Fix, other: Fix) -> bool:
    """At least as good in all, better in something: repairs, money, others made worse, size, and how soon it acts."""
    mine, theirs = _merits(one), _merits(other)
    return all(a >= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs


def _merits(fix: Fix) -> tuple[float, ...]:
    t = fix.trial
    soon = -(NOW, DEPLOY, BUILD, HAND).index(fix.acts)
    return t.repaired, -round(t.money_after, 6), -round(t.collateral, 6), -SIZES[fix.size], soon


def _ranked(fixes: Sequence[Fix], mends: Sequence[Fix]) -> list[Fix]:
    """The undo of the cause first, then what repairs nearly as much as the best and hurts few, by money."""
    best = max((f.trial.repaired for f in fixes), default=0)

    def place(fix: Fix) -> tuple[Any, ...]:
        t = fix.trial
        good = t.repaired >= NEARLY * max(1, best) and _is_harmless(t)
        money = round(t.money_after - t.money_before, 6)
        return (fix not in mends, not good, money, -t.repaired, SIZES[fix.size])

    return sorted(fixes, key=place)


def _is_harmless(trial: Trial) -> bool:
    """Few others get worse, or all in all it clearly costs less."""
    return trial.collateral <= SMALL or trial.money_low > 0


def _why(fix: Fix, fixes: Sequence[Fix], mends: Sequence[Fix]) -> str:
    """The reason for a fix, or against it, in words."""
    t = fix.trial
    saved = t.money_before - t.money_after
    if any(c.part == COLLECT for c in fix.changes):
        return "changes no decision; shows what is so where the model knows too little"
    money = (
        f"{'saves' if saved > 0 else 'costs'} {abs(saved):,.0f} per 1,000 decisions "
        f"(95 %: {_span(t.money_low, t.money_high, saved)})"
        if saved
        else "costs nothing and saves nothing, as far as outcomes are known"
    )
    if fix in mends:
        lead = "mends the cause itself"
    elif fix is fixes[0]:
        lead = _best(t, saved, len(fixes))
    else:
        lead = {NOW: "acts at once", DEPLOY: "acts once deployed", BUILD: "acts from the next build on"}.get(
            fix.acts, "cannot be a patch"
        )
    doubt = "" if saved <= 0 or t.money_low > 0 else "; whether it saves at all is within chance"
    return f"{lead}: repairs {t.repaired:,} of {t.n_bad:,}, {money}{doubt}"


def _best(trial: Trial, saved: float, n: int) -> str:
    if saved <= 0:
        return f"none of {n} tried saves money"
    return f"the best of {n} tried" if trial.repaired else f"of {n} tried none repairs them and saves money"


def _over(fix: Fix, until: date) -> str:
    ends = [e for e in (ended(c.where) for c in fix.changes) if e is not None and e.date() < until]
    return f"; what it acts on ended {max(ends):%-d %B %Y %H:%M} UTC" if ends else ""


def _span(low: float, high: float, saved: float) -> str:
    first, last = (low, high) if saved > 0 else (-high, -low)
    return f"{first:,.0f} to {last:,.0f}"


def hurts_of(trial: Trial) -> tuple[str, ...]:
    """The groups and weeks that get dearer beyond doubt (95 %), dearest first, with the money that it costs them."""
    touched = [(f"{name} = {level}", of) for name, levels in trial.by_group.items() for level, of in levels.items()]
    touched += [(f"the week of {week}", of) for week, of in trial.by_week.items()]
    hurt = sorted((of for of in touched if of[1][4] < 0), key=lambda of: of[1][2])
    return tuple(_hurt(words, *of) for words, of in hurt)


def _hurt(words: str, cheaper: int, dearer: int, money: float, low: float, high: float) -> str:
    span = f"95 %: {-high:,.0f} to {-low:,.0f}"
    return f"{words}: {-money:,.0f} dearer in all ({span}); {dearer:,} decisions dearer, {cheaper:,} cheaper"


def telling(scene: Scene) -> str:
    """What happened, in one plain sentence for those whom it touched; empty if no decision is meant."""
    first, last, n = scene.engine.rows("select min(day), max(day), count(*) from decisions where bad")[0]
    if not n or first is None:
        return ""
    when = f"On {_day(first)}" if first == last else f"From {_day(first)} to {_day(last)}"
    harm = "" if scene.harm is None else f", and for them it turned out otherwise ({_plainly(shown(scene.harm))})"
    answers = "answer was" if n == 1 else "answers were"
    return f"{when}, {n:,} of our {answers} {repr(scene.told) if scene.told else 'wrong'}{harm}."


def _next(scene: Scene, fix: Fix, until: date) -> str:
    """What those whom it touched can count on, if this fix is taken."""
    routed = next((c for c in fix.changes if c.part == ROUTE), None)
    if routed is not None and routed.to == spare_action(scene):
        return f"Until {_day(until.isoformat())} cases like these are decided by hand ({routed.to})."
    if routed is not None:
        return f"Until {_day(until.isoformat())} cases like these get '{routed.to}'."
    if any(c.part == COLLECT for c in fix.changes):
        return "We are finding out what became of cases like these; tell us if one is yours."
    return {
        NOW: "This is corrected from today on.",
        DEPLOY: "We are back to the version that decided before.",
        BUILD: "The system is being taught anew; until then, ask us to look at such a case by hand.",
    }.get(fix.acts, "We are mending what gave the system wrong values; until then, ask us to look by hand.")


def _day(text: str) -> str:
    return f"{date.fromisoformat(text):%-d %B %Y}"


def _plainly(text: str) -> str:
    return text.replace("facts.", "").replace("row.", "").replace("_", " ")


def fix_json(fix: Fix) -> dict[str, Any]:
    """The fix as a case keeps it."""
    return {
        "title": fix.title,
        "size": fix.size,
        "acts": fix.acts,
        "how": fix.how,
        "why": fix.why,
        "hurts": list(fix.hurts),
        "tell": fix.tell,
        "changes": [change_json(c) for c in fix.changes],
        "trial": trial_json(fix.trial),
    }


def saves(fix: Mapping[str, Any]) -> bool:
    """Whether a fix as a case keeps it cost less than it saved on history; collecting outcomes costs nothing here."""
    trial = fix["trial"]
    return bool(trial["money_after"] < trial["money_before"]) or fix.get("size") == "collect"
