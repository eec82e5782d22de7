"""A poor record diagnosed as far as it goes: which kinds of fault could look, which could not, and what that costs.

A system that was made here has all that the kinds ask for, and nothing in this file
changes its diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from underhood.build.bundle import Bundle, load
from underhood.build.outside import out_of_reach
from underhood.build.scorer import Array, Frame, score_frame
from underhood.faults import KINDS
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.served import served_features
from underhood.faults.unlogged import UNLOGGED, explaining
from underhood.ground.errors import NotCapturedError, ProjectError
from underhood.plan.changes import BUNDLE, FEATURE, INPUT, OUTCOME, SOURCE, TRAFFIC, TRAINING_PARTS, UNTIL, Change
from underhood.plan.exprs import Expr, columns_of
from underhood.plan.operations import TEXT
from underhood.repair.causes import diagnose
from underhood.repair.diagnosis import NOTHING, OPEN, WORLD, Diagnosis
from underhood.repair.meaning import Meaning

Say = Callable[[str], None]
COULD_NOT = "could not look: "


@dataclass(frozen=True)
class Field:
    """One thing that a record may lack: its name, what cannot be seen without it, and what that cost when measured.

    `found` is the share of FAULTS planted faults whose kind came first without it. Null where it was not measured.
    `give` is the option of `adopt` that says it.
    """

    name: str
    unseen: str
    found: float | None = None
    give: str = ""


# Measured by `bench/faults/run.py --poor` on real data, single faults: how many, and the share whose kind came
# first in the record of a system made here, in a log with all, in one without the fields in NOTHING_BUT_SCORES.
FAULTS, MADE_HERE, FULL, FEW = 38, 0.97, 0.82, 0.42
NOTHING_BUT_SCORES = ("raw inputs", "scorer", "outcome", "training table")

FIELDS: Mapping[str, Field] = {
    "raw inputs": Field("raw inputs", "whether an input was served otherwise than it was", 0.76, "--inputs TABLE"),
    "scorer": Field(
        "scorer",
        "whether the score follows from the inputs; no input can be put right on the bench",
        0.68,
        "--python MODULE:NAME, --onnx FILE or --http URL",
    ),
    "outcome": Field(
        "outcome", "whether what was told is what happened, whom it harmed, what it cost", 0.66, "--outcome COLUMN"
    ),
    "some raw inputs": Field(
        "some raw inputs", "whether those were served otherwise than they were", give="--inputs TABLE"
    ),
    "training table": Field(
        "training table", "whether the model ever saw the like, whether its labels were right", 0.68, "--training TABLE"
    ),
    "score": Field(
        "score", "whether the action follows from the score, whether scores are calibrated", give="--score COLUMN"
    ),
    "action": Field("action", "whether the action follows from the score", give="--action COLUMN"),
    "policy": Field(
        "policy",
        "whether the action follows from the score: no cuts of it give the logged actions",
        give="--cut ACTION=SCORE",
    ),
    "moment": Field("moment", "since when; rows are taken to be in the order of asking", give="--at COLUMN"),
    "outcome moment": Field("outcome moment", "whether outcomes come late", give="--outcome-at COLUMN"),
    "inputs": Field("inputs", "everything about inputs: no column of the log is one", give="--features A,B,…"),
}

# What no log of decisions tells, whatever else it holds.
_NO_LOG_HAS: Mapping[str, str] = {
    "definitions": "inputs are logged as the scorer read them, and what made them is not known",
    "joins": "what was joined before the log is not known",
    "other questions": "a log holds only the questions that were decided",
    "training questions": "the questions that training rows were drawn from are not known",
}


def is_adopted(bundle: Bundle) -> bool:
    """Whether the bundle stands for a system that was made elsewhere."""
    return "adopted" in bundle.made_from


def lacking(bundle: Bundle, row: Frame | None = None) -> dict[str, str]:
    """What is missing now, with why: what the log lacked, and the scorer if it is out of reach.

    With the features of one decision, `row`, an endpoint is asked whether it is there.
    """
    missing: dict[str, str] = {**_NO_LOG_HAS, **bundle.made_from.get("adopted", {}).get("missing", {})}
    if "scorer" not in missing and (why := out_of_reach(bundle.model, row)):
        missing["scorer"] = why
    return missing


def diagnose_seen(scene: Scene, meaning: Meaning, say: Say = lambda line: None) -> Diagnosis:
    """The verdict of `diagnose`; of an adopted system by the kinds that can look, with what could not be seen."""
    if not is_adopted(scene.bundle):
        return diagnose(scene, meaning, say=say)
    missing = lacking(scene.bundle, _one(scene))
    return _honest(diagnose(scene, meaning, _able(KINDS, missing), say), missing)


def seeing(scene: Scene, kinds: Sequence[Kind] = KINDS) -> Sequence[Kind]:
    """The kinds as they can look at this scene and strike it: of an adopted system, as far as its log and scorer go."""
    return _able(kinds, lacking(scene.bundle, _one(scene))) if is_adopted(scene.bundle) else kinds


def _able(kinds: Sequence[Kind], missing: Mapping[str, str]) -> list[Kind]:
    # who asks whether another model decided must ask as well whether it read what was logged
    first = [UNLOGGED] if any(k.name == "wrong model" for k in kinds) else []
    return [_guarded(kind, missing) for kind in (*first, *kinds)]


def can_try(scene: Scene, changes: Sequence[Change]) -> bool:
    """Whether the bench can carry these changes out, and the scorer takes what they would give it."""
    if not is_adopted(scene.bundle):
        return True
    return not _in_the_way(scene, changes, lacking(scene.bundle)) and not _refused(scene, changes)


def _refused(scene: Scene, changes: Sequence[Change]) -> bool:
    """Whether the scorer has no score for a row in which these inputs are null."""
    emptied = {c.name for c in changes if c.part in (INPUT, SOURCE) and c.to is None}
    read = [n for n, e in scene.bundle.features.items() if columns_of(e) & emptied]
    if not read:
        return False
    one = _one(scene)
    for name in read:
        one[name][:] = None if scene.bundle.feature_types[name] == TEXT else np.nan
    try:
        return bool(np.isnan(score_frame(scene.bundle.model, one)).any())
    except ProjectError:
        return True


def _one(scene: Scene) -> dict[str, Array]:
    """The captured features of one decision, by column; none if the system reads none."""
    first = "id = (select min(id) from decisions where status = 'ok')"
    return {n: v.copy() for n, v in served_features(scene, first).items()} if scene.bundle.features else {}


def _guarded(kind: Kind, missing: Mapping[str, str]) -> Kind:
    """The kind, which says what it lacks instead of judging without it, and offers only what can be tried or struck."""

    def suspect(scene: Scene) -> Ruling:
        lacks = [missing[n] for n in kind.needs if n in missing]
        if lacks:
            return Ruling(kind.name, (), COULD_NOT + "; ".join(dict.fromkeys(lacks)))
        try:
            if kind.name == "wrong model" and (read := explaining(scene)):
                return Ruling(kind.name, (), f"the same model gives the scores for {read.says}")
            ruling = kind.suspect(scene)
        except NotCapturedError as why:
            return Ruling(kind.name, (), COULD_NOT + why.what)
        if not ruling.suspects:
            return replace(ruling, says=_compared(ruling.says, missing))
        return replace(ruling, suspects=tuple(_triable(scene, s, missing) for s in ruling.suspects))

    def propose(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
        if kind.propose is None or any(n in missing for n in kind.needs):
            return None
        made = kind.propose(scene, random, cohort)
        return None if made is None or _unstruck(made, missing) or _refused(scene, made.changes) else made

    return replace(kind, suspect=suspect, propose=kind.propose and propose)


def _unstruck(made: Injection, missing: Mapping[str, str]) -> bool:
    """Whether no clone can show this fault: it would have to fit or to ask a model that is not here."""
    parts = {c.part for c in made.changes}
    return made.retrain or UNTIL in parts or ("scorer" in missing and not parts <= {OUTCOME, TRAFFIC})


def _compared(says: str, missing: Mapping[str, str]) -> str:
    """Why it is not this kind, without the claim of a comparison with history that was not made."""
    row_by_row, _, moved = says.partition("; ")
    if "cannot be recomputed" in row_by_row and "raw inputs" in missing:
        return f"{moved}; row by row: {missing['raw inputs']}" if moved else COULD_NOT + missing["raw inputs"]
    if "what history gives" in row_by_row:
        lacks = [missing[n] for n in ("some raw inputs",) if n in missing]
        return "; ".join([says, "compared with the raw inputs, key and moment are the log's own", *lacks])
    return says


def _triable(scene: Scene, suspect: Suspect, missing: Mapping[str, str]) -> Suspect:
    why = _in_the_way(scene, suspect.undo, missing)
    return replace(suspect, undo=(), says=f"{suspect.says} (its undo cannot be tried: {why})") if why else suspect


def _in_the_way(scene: Scene, changes: Sequence[Change], missing: Mapping[str, str]) -> str:
    """Why the bench cannot carry these changes out; empty if it can."""
    parts = {c.part for c in changes}
    if changes and {"score", "scorer"} <= set(missing):
        return f"{missing['score']}, and {missing['scorer']}"
    if "scorer" in missing and parts & {INPUT, FEATURE, BUNDLE}:
        return missing["scorer"]
    for name in (str(c.to) for c in changes if c.part == BUNDLE):
        if name != scene.bundle.name and "scorer" in (lacks := lacking(load(scene.record, name))):
            return lacks["scorer"]
    if parts & {*TRAINING_PARTS, UNTIL}:
        return "the model was made elsewhere and cannot be fitted again here"
    return ""


def _honest(found: Diagnosis, missing: Mapping[str, str]) -> Diagnosis:
    """The diagnosis with its own limits in its words, where it found or could prove nothing, or blames the world."""
    says = found.says
    if {"score", "scorer"} <= set(missing):
        verdict = OPEN if found.verdict == NOTHING else found.verdict
        found = replace(found, verdict=verdict, neighbourhood=None, harm=None)
    if found.neighbourhood is None and found.verdict == OPEN and not found.causes and not found.traces:
        lacks = [missing[n] for n in ("score", "outcome") if n in missing]
        if lacks:
            says = f"whether what was told is what is so cannot be seen: {'; '.join(lacks)}"
    blind = [n for n in FIELDS if n in missing]
    if found.verdict in (NOTHING, OPEN, WORLD) and blind:
        says += f". Looked at without {', '.join(blind)}: a fault that only they would show was not seen"
    return replace(found, says=says)


def unseen_json(missing: Mapping[str, str]) -> list[dict[str, Any]]:
    """What is missing, why, what cannot be seen for it, and in which share of faults the kind still came first."""
    return [
        {"field": n, "why": missing[n], "unseen": f.unseen, "give": f.give, "kind_found_without": f.found}
        for n, f in FIELDS.items()
        if n in missing
    ]
