"""From a scene to a verdict: every kind of fault looks, every suspect goes to the bench, the rest is ruled out by name.

A cause is what, when undone, makes the bad thing go away, and little else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from underhood.faults import KINDS
from underhood.faults.kinds import Kind, Ruling, Scene, Suspect
from underhood.plan.changes import LABEL, change_json
from underhood.plan.exprs import as_json, columns_of, shown
from underhood.repair.bench import Ground, Trial, survey, swap, trial_json
from underhood.repair.meaning import Meaning
from underhood.repair.neighbourhood import Harm, Neighbourhood, around, harm_of
from underhood.repair.trace import Trace, trace_row

CAUSE, NO_HARM, NOTHING, UNTOUCHED, OPEN = "cause", "no harm", "nothing broken", "untouched", "open"
REPAIRS, COLLATERAL = 0.5, 0.02
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cause:
    """A suspect with what its undo did on the bench; `weight` ranks causes, 1 is a perfect undo."""

    suspect: Suspect
    trial: Trial | None
    weight: float


@dataclass(frozen=True)
class Diagnosis:
    """The verdict in words, with causes best first, kinds ruled out, and the neighbourhood of the scores."""

    verdict: str
    says: str
    causes: tuple[Cause, ...]
    rulings: tuple[Ruling, ...]
    neighbourhood: Neighbourhood | None
    harm: Harm | None
    traces: tuple[Trace, ...] = ()


def diagnose(scene: Scene, meaning: Meaning, kinds: Sequence[Kind] = KINDS, say: Say = lambda line: None) -> Diagnosis:
    """The verdict on what a complaint means. Needs `set_scene`.

    Order: does the complaint touch decisions at all; contradictions inside the
    record; signatures of values; the training side. Nothing that repairs, and a
    calibrated neighbourhood: nothing is broken.
    """
    if meaning.source_rows and not meaning.ids:
        return _traced(scene, meaning)
    ground = survey(scene)
    rulings: list[Ruling] = []
    causes: list[Cause] = []
    for kind in sorted(kinds, key=lambda k: k.stage):
        say(f"looking for: {kind.title}")
        ruling = _without_children(scene, kind.suspect(scene), [c.suspect for c in causes])
        rulings.append(ruling)
        for suspect in ruling.suspects:
            if suspect.undo:
                say(f"on the bench: {', '.join(map(str, suspect.undo[:2]))}")
            causes.append(_try(scene, ground, suspect))
    causes.sort(key=lambda c: -c.weight)
    neighbourhood, harm = around(ground), harm_of(ground)
    verdict, says = _verdict(scene, causes, neighbourhood, harm)
    return Diagnosis(verdict, says, tuple(causes), tuple(rulings), neighbourhood, harm)


def _without_children(scene: Scene, ruling: Ruling, before: Sequence[Suspect]) -> Ruling:
    """The ruling without suspects that only show because of one that was found before, closer to the source.

    A value that was served wrong makes features that no training row has, and so on:
    such a suspect is told as the child that it is.
    """
    wrong = {str(c): s for s in before for c in s.parameters.get("columns", ())}
    kept, children = [], []
    for suspect in ruling.suspects:
        read = columns_of(suspect.where) if suspect.where is not None else frozenset()
        made_of = {i for c in read for i in _inputs_of(scene, c)}
        cause = next((wrong[c] for c in sorted(made_of) if c in wrong), None)
        if cause is None or "columns" in suspect.parameters:
            kept.append(suspect)
        else:
            children.append(f"{suspect.says}, but only because {cause.says.partition(':')[0]}")
    return Ruling(ruling.kind, tuple(kept), ruling.says if kept or not children else "; ".join(children))


def _inputs_of(scene: Scene, column: str) -> frozenset[str]:
    """The inputs that a column of the view `decisions` is made of."""
    side, _, name = column.partition(".")
    if side == "features" and name in scene.plan.features:
        return frozenset(columns_of(scene.plan.features[name]))
    return frozenset([name]) if side == "row" else frozenset()


def _try(scene: Scene, ground: Ground, suspect: Suspect) -> Cause:
    if not suspect.undo:
        return Cause(suspect, None, 0.0)
    trial = swap(scene, ground, *suspect.undo)
    return Cause(suspect, trial, trial.repaired / max(1, trial.n_bad) - 5 * trial.collateral)


def _verdict(scene: Scene, causes: Sequence[Cause], near: Neighbourhood | None, harm: Harm | None) -> tuple[str, str]:
    best = next((c for c in causes if c.trial and _repairs(c.trial)), None)
    if best and best.trial:
        t = best.trial
        left = f", {t.still_told:,} of them still told '{scene.told}'" if scene.told else ""
        return CAUSE, (
            f"{best.suspect.says}. Undone on the bench, {t.repaired:,} of {t.n_bad:,} are decided better{left}"
        )
    real = next((c for c in causes if c.trial), None)
    if real and real.trial:
        return _real_but(real.suspect, real.trial, harm)
    if causes:
        return OPEN, f"{causes[0].suspect.says}. Nothing is known that would undo it, so it is not proven on the bench"
    return _nothing(near, harm)


def _repairs(trial: Trial) -> bool:
    """Most of it goes away, and the others do not pay for it: few get worse, or all in all it clearly costs less."""
    others_pay = trial.collateral > COLLATERAL and trial.money_low <= 0
    return trial.repaired >= REPAIRS * max(1, trial.n_bad) and not others_pay


def _real_but(suspect: Suspect, trial: Trial, harm: Harm | None) -> tuple[str, str]:
    """A suspect that shows, but whose undoing does not take the bad thing away."""
    # a label that is itself in doubt cannot tell whether anybody was harmed
    doubtful = any(c.part == LABEL for c in suspect.undo)
    if harm and not doubtful and abs(harm.z) < 2 and trial.money_low <= 0:
        return NO_HARM, (
            f"{suspect.says}. Nobody was measurably harmed: they were told {harm.told:.3f} on average and it happened "
            f"to {harm.happened:.3f}; with usual values in their place {trial.repaired:,} of {trial.n_bad:,} decisions "
            f"would have been better and {_worse(trial):,} worse"
        )
    return OPEN, (
        f"{suspect.says}. That is so, but undoing it turns only {trial.repaired:,} of {trial.n_bad:,}: "
        "it is not the reason, or not all of it"
    )


def _worse(trial: Trial) -> int:
    return trial.changed - trial.repaired - trial.bettered - trial.broken


def _nothing(near: Neighbourhood | None, harm: Harm | None) -> tuple[str, str]:
    """No part shows a fault: were decisions like these told what is so?"""
    if near is None:
        return OPEN, "no outcome is known of decisions like these: the question stays open until some are"
    happened = harm is not None and harm.happened >= 0.5
    if near.tells_too_little if happened else near.tells_too_much:
        return OPEN, (
            f"no part explains it, but decisions like these are told too {'little' if happened else 'much'}: "
            f"{near.told:.1%} on average, and it happened in {near.happened:.1%} ({near.low:.1%} to {near.high:.1%}) "
            f"of {near.n:,}"
        )
    return NOTHING, (
        f"of {near.n:,} decisions that were told about {near.told:.0%}, it happened in {near.happened:.1%} "
        f"({near.low:.1%} to {near.high:.1%}). What was told is what is so; this was one of the cases in which it "
        f"{'happens' if happened else 'does not'}"
    )


def _traced(scene: Scene, meaning: Meaning) -> Diagnosis:
    training = scene.bundle.made_from["training"]
    traces = tuple(
        trace_row(scene.engine, scene.plan, scene.record, training, source, column, row, key, value)
        for source, column, row, key, value in meaning.source_rows
    )
    decisions = sum(t.decisions for t in traces)
    first = traces[0]
    says = f"{first.source}.{first.column} = {first.value:g} at {first.key} is in the source"
    says += f" ({first.cleaned})" if first.cleaned else ""
    says += (
        f"; {sum(t.questions for t in traces):,} questions, {decisions:,} decisions and "
        f"{sum(t.training for t in traces):,} training rows used it"
    )
    return Diagnosis(UNTOUCHED if not decisions else OPEN, says, (), (), None, None, traces)


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis as a case keeps it."""
    return {
        "verdict": found.verdict,
        "says": found.says,
        "causes": [
            {
                "kind": c.suspect.kind,
                "part": c.suspect.part,
                "says": c.suspect.says,
                "since": c.suspect.since,
                "where": None if c.suspect.where is None else as_json(c.suspect.where),
                "where_reads": None if c.suspect.where is None else shown(c.suspect.where),
                "parameters": dict(c.suspect.parameters),
                "evidence": c.suspect.evidence,
                "undo": [change_json(u) for u in c.suspect.undo],
                "weight": round(c.weight, 4),
                "trial": trial_json(c.trial) if c.trial else None,
            }
            for c in found.causes
        ],
        "ruled_out": [{"kind": r.kind, "says": r.says} for r in found.rulings if not r.suspects],
        "neighbourhood": asdict(found.neighbourhood) if found.neighbourhood else None,
        "harm": asdict(found.harm) if found.harm else None,
        "traces": [asdict(t) for t in found.traces],
    }
