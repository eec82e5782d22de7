"""One build: draw the training set, climb the ladder, check, pack the bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from underhood.build import bundle as bundles
from underhood.build.bundle import Bundle
from underhood.build.checks import (
    CHECKED,
    Check,
    check_label,
    check_model,
    check_tables,
    check_worth,
    usual_of,
)
from underhood.build.ladder import Climb, climb, fit
from underhood.build.outside import OUTSIDE
from underhood.build.trainset import TrainingSet, draw
from underhood.ground.errors import NotCapturedError
from underhood.plan.changes import Change, change_json
from underhood.plan.exprs import shown
from underhood.plan.joins import Plan
from underhood.plan.sqlsteps import check_python
from underhood.plan.steps import fingerprint
from underhood.tables.local import Engine
from underhood.tables.parity import compare_plan, require

Say = Callable[[str], None]


@dataclass(frozen=True)
class Build:
    """A finished build: the packed bundle, what it learned from, how the ladder went, what was found."""

    bundle: Bundle
    drawn: TrainingSet
    climb: Climb
    findings: tuple[Check, ...]


def build(
    engine: Engine,
    plan: Plan,
    record: Path,
    *,
    until: str,
    since: str = "",
    changes: Sequence[Change] = (),
    say: Say = lambda line: None,
) -> Build:
    """A bundle from what was known by `until` (UTC). Needs the view `asks`.

    `changes` are patches of the training side. Raises ParityError if a definition
    gives different values in SQL and in Python, ProjectError if there is nothing to learn.
    """
    check_python(plan.features.values())
    say("drawing the training set")
    drawn = draw(engine, plan, record, until=until, since=since, changes=changes)
    plan = replace(plan, features=drawn.expressions)
    findings = [*check_tables(engine, plan), *check_label(engine, plan, drawn)]
    say("comparing every definition in SQL and in Python")
    findings.append(check_parity(engine, plan))
    went = climb(drawn.frame, drawn.label, drawn.asked, drawn.known, plan.feature_types, say, drawn.weight)
    say(f"fitting {went.kind} on all {len(drawn.label):,} rows")
    model = fit(went.kind, drawn.frame, drawn.label, plan.feature_types, drawn.weight)
    findings += check_model(model, drawn.frame, plan)
    findings += check_worth(went, drawn, plan.system.policy, plan.system.goal.costs)
    made = Bundle(
        name="",
        system=plan.system.name,
        zone=plan.system.zone,
        inputs=plan.inputs,
        features=plan.features,
        feature_types=plan.feature_types,
        model=model,
        policy=plan.system.policy,
        costs=plan.system.goal.costs,
        usual=usual_of(engine, plan),
        made_from=_made_from(plan, drawn, went, changes),
    )
    return Build(bundles.pack(record, made), drawn, went, tuple(findings))


def refit(drawn: TrainingSet, kind: str, plan: Plan) -> dict[str, Any]:
    """The model of another training set by the same recipe: same rung, same parameters, no new ladder.

    Raises NotCapturedError if the model was made elsewhere.
    """
    if kind == OUTSIDE:
        hint = "fit it there on the corrected rows, and adopt again"
        raise NotCapturedError("the scorer was made elsewhere, so it cannot be fitted again here", "model", hint)
    return dict(fit(kind, drawn.frame, drawn.label, plan.feature_types, drawn.weight))


def check_parity(engine: Engine, plan: Plan) -> Check:
    """Every feature on 1,000 sampled and on edge rows, in both renderings. Raises ParityError if any differs."""
    parity = compare_plan(engine, plan)
    require(parity)
    what = f"{parity.n_definitions} features on {parity.n_rows:,} sampled and edge rows: SQL and Python agree"
    return Check(CHECKED, what, "features")


def _made_from(plan: Plan, drawn: TrainingSet, went: Climb, changes: Sequence[Change]) -> dict[str, Any]:
    return {
        "training": drawn.name,
        "recipe": drawn.recipe,
        "definition": fingerprint(plan.system),
        "label": {"name": plan.system.label.name, "reads": shown(plan.system.label.value)},
        "rung": went.kind,
        "ladder": [{"kind": r.kind, "loss": r.loss, "gain": r.gain, "se": r.gain_se} for r in went.rungs],
        "changes": [change_json(c) for c in changes],
    }
