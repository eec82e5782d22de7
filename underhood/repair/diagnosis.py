"""The diagnosis: causes with what their undoing did, kinds ruled out by name, and the verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from underhood.faults.kinds import Ruling, Scene, Suspect
from underhood.plan.changes import CALIBRATION, LABEL, ROUTE, change_json
from underhood.plan.exprs import as_json, shown
from underhood.repair.bench import Trial, trial_json
from underhood.repair.neighbourhood import Harm, Neighbourhood
from underhood.repair.quiet import Quiet
from underhood.repair.trace import Trace

CAUSE, NO_HARM, NOTHING, UNTOUCHED, OPEN = "cause", "no harm", "nothing broken", "untouched", "open"
WORLD, MOVED = "world changed", "No part of the system contradicts itself: the world moved"
REPAIRS, COLLATERAL = 0.5, 0.02
OUTSIDE = 5  # the stage of what moved in the world, which no undo takes back
# Parts of which a suspect is never more than an inference, at whatever stage its kind looks: outcomes that do not
# come, or come otherwise, contradict nothing, and nothing on the bench undoes them.
INFERRED = ("outcomes",)
CERTAIN = 2  # the last stage at which a suspect is a fact of the record, not an inference


@dataclass(frozen=True)
class Cause:
    """A suspect with what its undo did on the bench; `weight` ranks causes, 1 is a perfect undo of a fact.

    `covers`: share of the decisions complained about that lie in its cohort. `stage` is
    its kind's. `share`: its part of what all causes together repair; 1 if it is the only one.
    `quiet`: how often the same look tells of the same where nobody complained; null if that was not measured.
    """

    suspect: Suspect
    trial: Trial | None
    weight: float
    covers: float = 1.0
    stage: int = 3
    share: float = 1.0
    quiet: Quiet | None = None


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
    together: Trial | None = None


def proven(scene: Scene, trial: Trial) -> float:
    """How far the bad thing goes away, 0 to 1: decided better, or, of what people say they were told, otherwise.

    What is sent elsewhere, or mapped, is always decided otherwise: that alone proves nothing.
    """
    goes_round = any(c.part in (ROUTE, CALIBRATION) for c in trial.changes)
    otherwise = trial.turned if scene.told is not None and not goes_round else 0
    return max(trial.repaired, otherwise) / max(1, trial.n_bad)


def verdict_of(
    scene: Scene,
    causes: Sequence[Cause],
    near: Neighbourhood | None,
    harm: Harm | None,
    together: Trial | None = None,
) -> tuple[str, str]:
    """The verdict on causes, best first, and what it says; `together` is the trial of all that have a share."""
    if together is not None:
        return CAUSE, _says_together(scene, [c for c in causes if c.share < 1], together)
    best = proven_cause(scene, causes)
    if best and best.trial:
        # what only the world did is no fault of the system, though another map of the scores would do better by it
        verdict, world = (WORLD, f"{MOVED}. ") if best.stage == OUTSIDE else (CAUSE, "")
        return verdict, f"{best.suspect.says}. {world}{_says_undone(scene, best.trial)}{_beside(best, causes)}"
    fact = next((c for c in causes if not c.trial and c.stage <= CERTAIN and c.covers >= REPAIRS), None)
    if fact:
        return CAUSE, f"{fact.suspect.says}. The record itself shows it; no swap on the bench is needed to see it"
    if causes and causes[0].stage == OUTSIDE:
        return WORLD, f"{causes[0].suspect.says}. {MOVED}"
    real = next((c for c in causes if c.trial), None)
    if real and real.trial:
        return _real_but(real.suspect, real.trial, harm)
    if causes:
        return OPEN, f"{causes[0].suspect.says}. Nothing is known that would undo it, so it is not proven on the bench"
    return _nothing(near, harm)


def proven_cause(scene: Scene, causes: Sequence[Cause]) -> Cause | None:
    """The first of the causes, best first, whose undoing takes most of it away; null if none does.

    What only the world did is no cause where the record contradicts itself.
    """
    best = next((c for c in causes if c.trial and _repairs(scene, c)), None)
    return None if best is None or (best.stage == OUTSIDE and causes[0].stage <= CERTAIN) else best


def as_told(scene: Scene, causes: Sequence[Cause]) -> list[Cause]:
    """The causes, best first, with the one before all that the verdict names."""
    named = proven_cause(scene, causes)
    return sorted(causes, key=lambda c: named is not None and c is not named)


def _says_undone(scene: Scene, trial: Trial) -> str:
    left = f", {trial.still_told:,} of them still told '{scene.told}'" if scene.told else ""
    if trial.repaired >= REPAIRS * max(1, trial.n_bad):
        return f"Undone on the bench, {trial.repaired:,} of {trial.n_bad:,} are decided better{left}"
    return f"Undone on the bench, {trial.turned:,} of {trial.n_bad:,} are decided otherwise{left}"


def _beside(best: Cause, causes: Sequence[Cause]) -> str:
    """Other facts of the record: those whose undoing did not turn these decisions, and those that nothing undoes."""
    facts = [c for c in causes if c is not best and c.stage <= CERTAIN and c.covers >= REPAIRS]
    idle, lasting = ("; ".join(c.suspect.says for c in facts if bool(c.trial) is tried) for tried in (True, False))
    says = f". Beside it, though it did not turn these: {idle}" if idle else ""
    return f"{says}. Beside it, and nothing on the bench undoes it: {lasting}" if lasting else says


def _says_together(scene: Scene, causes: Sequence[Cause], trial: Trial) -> str:
    told = "; and ".join(f"{c.suspect.says} ({c.share:.0%} of the repair)" for c in causes)
    return f"{len(causes)} faults at once: {told}. {_says_undone(scene, trial)}"


def _repairs(scene: Scene, cause: Cause) -> bool:
    """Most of it goes away, and the others do not pay for it: few get worse, or all in all it clearly costs less.

    What contradicts the record was wrong whomever it served.
    """
    trial = cause.trial
    if trial is None:
        return False
    if cause.stage <= CERTAIN and scene.told is not None:
        return proven(scene, trial) >= REPAIRS
    others_pay = trial.collateral > COLLATERAL and trial.money_low <= 0
    return trial.repaired >= REPAIRS * max(1, trial.n_bad) and not others_pay


def _real_but(suspect: Suspect, trial: Trial, harm: Harm | None) -> tuple[str, str]:
    """A suspect that shows, but whose undoing does not take the bad thing away."""
    # a label that is itself in doubt cannot tell whether anybody was harmed
    doubtful = any(c.part == LABEL for c in suspect.undo)
    if harm and not doubtful and abs(harm.z) < 2 and trial.money_low <= 0:
        worse = trial.changed - trial.repaired - trial.bettered - trial.broken
        return NO_HARM, (
            f"{suspect.says}. Nobody was measurably harmed: they were told {harm.told:.3f} on average and it happened "
            f"to {harm.happened:.3f}; with usual values in their place {trial.repaired:,} of {trial.n_bad:,} decisions "
            f"would have been better and {worse:,} worse"
        )
    return OPEN, (
        f"{suspect.says}. That is so, but undoing it turns only {trial.repaired:,} of {trial.n_bad:,}: "
        "it is not the reason, or not all of it"
    )


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
                "covers": round(c.covers, 4),
                "stage": c.stage,
                "share": round(c.share, 4),
                "quiet": asdict(c.quiet) if c.quiet else None,
                "trial": trial_json(c.trial) if c.trial else None,
            }
            for c in found.causes
        ],
        "together": trial_json(found.together) if found.together else None,
        "ruled_out": [{"kind": r.kind, "says": r.says} for r in found.rulings if not r.suspects],
        "neighbourhood": asdict(found.neighbourhood) if found.neighbourhood else None,
        "harm": asdict(found.harm) if found.harm else None,
        "traces": [asdict(t) for t in found.traces],
    }
