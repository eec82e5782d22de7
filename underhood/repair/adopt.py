"""A system that was not made here, adopted from the log of its decisions: an ordinary project with its record.

    adopted = adopt_system("log.csv", "desk", roles=Roles(key="loan", action="said"), scorer=model)
    with open_adopted("desk", model) as bench: …

Whatever the log lacks is said, with what cannot be seen for it; whatever is guessed is said, with why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from underhood.build import bundle as bundles
from underhood.build.bundle import Bundle
from underhood.build.checks import usual_of
from underhood.build.outside import OUTSIDE, hand_over, no_scorer, score_outside
from underhood.build.scorer import Array
from underhood.build.trainset import open_training
from underhood.ground.errors import ProjectError
from underhood.ground.project import RECORD
from underhood.ground.records import time_text
from underhood.plan.joins import Plan
from underhood.plan.render import quoted
from underhood.plan.steps import Costs, Policy, fingerprint
from underhood.record.database import Database
from underhood.record.seal import seal
from underhood.record.seal import table as decisions_of
from underhood.repair.adopted_log import AdoptedLog
from underhood.repair.adopted_project import keep_training, project_text, training_roles, write_history, write_log
from underhood.repair.adopted_roles import read_roles, read_times
from underhood.repair.adopted_scorer import Scored, import_from, is_python
from underhood.repair.implied import FOLLOWS, Implied, implied_policy
from underhood.repair.roles import TITLES, Roles, maybe_outcomes, spoken
from underhood.repair.unseen import FIELDS, unseen_json
from underhood.repair.workbench import Workbench, open_workbench
from underhood.tables.frames import Table, open_table
from underhood.tables.local import Engine

UNNAMED = Roles()
ASSUMED = Policy((("yes", 0.5),), "no")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Adopted:
    """What was made of a log: the project file, how many decisions and outcomes, and what was found on the way.

    `there` are sentences about what the log holds, `missing` maps each field that it lacks to why,
    `notes` what was guessed or taken for granted.
    """

    path: Path
    decisions: int
    outcomes: int
    bundles: tuple[str, ...]
    there: tuple[tuple[str, str], ...]
    missing: Mapping[str, str]
    notes: tuple[str, ...]


def adopt_system(
    log: Any,
    folder: str | Path = ".",
    *,
    name: str = "",
    roles: Roles = UNNAMED,
    scorer: object = None,
    training: Any = None,
    inputs: Any = None,
    cuts: Mapping[str, float] | None = None,
    otherwise: str = "",
    goal: str = "",
    zone: str = "UTC",
    force: bool = False,
    say: Say = lambda line: None,
) -> Adopted:
    """Writes a project file and a record into `folder`, so that every command of a case works there.

    `log`, `training` and `inputs` are anything that `open_table` reads: a file or a frame. `scorer` is an object
    with `predict_proba`, a function of rows, the path of an ONNX file (`.onnx`), the URL of an
    endpoint, or `module:name`; an object is called here and now, never stored. `inputs` holds the inputs as
    they were, by the log's key. `cuts` and `otherwise` are the policy, if it is known. Adopting again adds to
    the record that is there.

    Raises ProjectError if the project file is there and not `force`, if a column cannot be what it
    was named for, if a score is no probability; SourceError if a table cannot be read.
    """
    to = Path(folder)
    with Engine() as engine:
        say("reading the log")
        table = read_times(engine, open_table(engine, log, "log of decisions"), roles)
        name = _name(name or Path(table.origin).name.split(".")[0] or "adopted")
        path = to / f"{name}.py"
        if path.exists() and not force:
            raise ProjectError(
                "there is a file of that name", str(path), "--force writes over it; --name names another"
            )
        _see_record(to, name)
        if isinstance(scorer, str) and is_python(scorer):
            import_from(to, scorer)
        say("scoring a sample again")
        seen = read_roles(engine, table, roles, scorer, name)
        read, sampled, scored, guesses = seen.log, seen.sampled, seen.scored, seen.guesses
        _see_scores(engine, read.roles)
        ruled = _rule(read, sampled, scored, cuts, otherwise)
        tables = {
            n: open_table(engine, w, n)
            for n, w in (("training table", training), ("raw inputs", inputs))
            if w is not None
        }
        say("writing the project")
        to.mkdir(parents=True, exist_ok=True)
        costs = _assumed_costs(ruled)
        about = goal or f"decide {', '.join(ruled.policy.actions)}: adopted, not made here"
        imports = scorer.partition(":")[0] if isinstance(scorer, str) and is_python(scorer) else ""
        text = project_text(name, read, ruled.policy, costs, about, zone, table.origin, imports)
        n_known, lacking = write_history(engine, read, tables.get("raw inputs"), to / f"{name}_history.parquet")
        path.write_text(text, encoding="utf-8")
        missing, there = _told(engine, read, scored, ruled, tables, n_known, lacking)
        say("writing the record")
        n, n_outcomes, names = _record(engine, path, read, scored, ruled, tables, missing)
        are_named = roles.inputs or hasattr(scorer, "feature_names_in_")
        doubts = () if are_named else maybe_outcomes(engine, table, read.roles)
        said = [*spoken(guesses), *doubts, *read.notes, *scored.notes, *ruled.notes, *table.notes]
        return Adopted(path, n, n_outcomes, names, tuple(there), missing, tuple(said))


def adopted_json(made: Adopted) -> dict[str, Any]:
    """What was adopted, as plain JSON values."""
    return {
        "file": str(made.path),
        "decisions": made.decisions,
        "outcomes": made.outcomes,
        "bundles": list(made.bundles),
        "there": dict(made.there),
        "missing": unseen_json(made.missing),
        "notes": list(made.notes),
    }


def open_adopted(folder: str | Path, scorer: object = None, **options: Any) -> Workbench:
    """The workbench of an adopted system; `scorer` is handed over again where it is an object of this process.

    `options` are those of `open_workbench`.
    """
    bench = open_workbench(folder=folder, **options)
    if scorer is not None:
        hand_over(bench.system.name, scorer)
    return bench


def _name(text: str) -> str:
    made = re.sub(r"\W+", "_", text).strip("_").lower() or "adopted"
    return f"log_{made}" if made[0].isdigit() else made


def _see_record(folder: Path, name: str) -> None:
    """Raises ProjectError if the folder's record is that of another system: one would read the other's decisions."""
    record = folder.resolve() / RECORD
    if not record.is_dir():
        return
    with Database(record) as database:
        is_own = bool(database.deployments(name))
    if not is_own and decisions_of(record, "decision").num_rows:
        hint = "name another folder with --out"
        raise ProjectError("there is a record of another system", str(folder / RECORD), hint)


def _see_scores(engine: Engine, roles: Roles) -> None:
    low, high = engine.rows('select min("@score"), max("@score") from adopted')[0]
    if low is not None and (low < 0 or high > 1):
        hint = "Underhood reads probabilities: divide per cents by 100; leave other points to the inputs"
        raise ProjectError(f"goes from {low:g} to {high:g}, so it is no probability", f"score {roles.score}", hint)


@dataclass(frozen=True)
class _Ruled:
    """The policy, how it came about, and why it cannot be held against the log (empty if it can)."""

    policy: Policy
    there: str
    missing: str
    notes: tuple[str, ...]
    is_ranked: bool = True


def _rule(
    log: AdoptedLog,
    sampled: Mapping[str, Array],
    scored: Scored,
    cuts: Mapping[str, float] | None,
    otherwise: str,
) -> _Ruled:
    """The policy that was said, or that the log shows."""
    price = "each wrong action is taken to cost 1: write what it costs into the project file"
    if cuts:
        if not otherwise:
            raise ProjectError("says nothing of scores below all cuts", "policy", "name that action with --otherwise")
        policy = Policy(tuple(sorted(((a, float(c)) for a, c in cuts.items()), key=lambda p: -p[1])), otherwise)
        return _Ruled(policy, f"{_cuts_said(policy)}, as you say", "", (price,))
    score = sampled["@score"]
    if np.isnan(score).all() and scored.again is not None:
        score = scored.again
    implied = implied_policy(score, sampled["@action"]) if log.roles.action else None
    if implied is None:
        actions = sorted(set(sampled["@action"]) - {""})
        if actions:
            policy = Policy(tuple((a, 0.5) for a in actions[:-1]) or ((actions[0], 0.0),), actions[-1])
            unpriced = "nothing tells which action is for whom, so none is priced: write costs into the project file"
            why = "the log has actions and no score that they could follow from"
            return _Ruled(policy, "", why, (unpriced,), is_ranked=False)
        note = (
            f"no action is logged: {_cuts_said(ASSUMED)} is taken for the policy; say yours with --cut and --otherwise"
        )
        return _Ruled(ASSUMED, "", "no action was logged", (note, price))
    return _Ruled(implied.policy, *_implied_said(implied), (price,))


def _implied_said(implied: Implied) -> tuple[str, str]:
    said = _cuts_said(implied.policy)
    if not implied.is_clear:
        return "", f"no cuts of the score give the logged actions: the best, {said}, give {implied.share:.1%}"
    if implied.share >= FOLLOWS:
        return f"{said}: {implied.share:.1%} of the logged actions follow from the score", ""
    told = (
        f"{said}, as the first {implied.first:,} sampled decisions show; {1 - implied.share:.1%} of all contradict it"
    )
    return told, ""


def _cuts_said(policy: Policy) -> str:
    return ", ".join(f"{a} from {c:g}" for a, c in policy.cuts) + f", else {policy.otherwise}"


def _assumed_costs(ruled: _Ruled) -> Costs:
    """A wrong action costs 1: the top one if it does not happen, the last one if it does, those between in steps.

    Actions of no known rank cost nothing.
    """
    actions = list(dict.fromkeys(ruled.policy.actions))
    if not ruled.is_ranked:
        return Costs(dict.fromkeys(actions, (0.0, 0.0)))
    last = max(1, len(actions) - 1)
    return Costs({a: (round(1 - i / last, 3), round(i / last, 3)) for i, a in enumerate(actions)})


def _told(
    engine: Engine,
    log: AdoptedLog,
    scored: Scored,
    ruled: _Ruled,
    tables: Mapping[str, Table],
    n_known: int,
    lacking: list[str],
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What is missing, by field, with why; and what is there, field by field."""
    roles = log.roles
    missing: dict[str, str] = {}
    first, last, labels, share = engine.rows(
        'select min("@at"), max("@at"), count("@label"), avg("@label"::INT) from adopted'
    )[0]
    there = [("decisions", f"{log.n:,}" + (f", {first:%Y-%m-%d} to {last:%Y-%m-%d} UTC" if roles.at else ""))]
    for column, role in roles.taken.items():
        there.append(
            (TITLES[role], column + (f", {labels:,} known, {share:.1%} yes" if role == "outcome" and labels else ""))
        )
    if roles.inputs:
        there.append(("inputs", f"{len(roles.inputs)}: {', '.join(roles.inputs)}"))
    for field, is_there, why in (
        ("moment", roles.at, "the log has no column of moments"),
        ("inputs", roles.inputs, "no column of the log is an input"),
        ("score", roles.score, "no score was logged"),
        ("action", roles.action, "no action was logged"),
        ("outcome", labels, "no outcome is known"),
        ("outcome moment", roles.outcome_at or not labels, "no moment is logged when outcomes were known"),
    ):
        if not is_there:
            missing[field] = why
    if scored.missing:
        missing["scorer"] = scored.missing
    else:
        there.append(("scorer", scored.there))
    if ruled.missing:
        missing["policy"] = ruled.missing
    else:
        there.append(("policy", ruled.there))
    training = tables.get("training table")
    if training is None:
        missing["training table"] = "no training table was given"
    else:
        unread = training_roles(engine, roles, training)
        there.append(("training table", f"{training.rows:,} rows" + (f"; no labels: {unread}" if unread else "")))
    if n_known:
        there.append(("raw inputs", f"of {n_known:,} decisions"))
        if lacking:
            missing["some raw inputs"] = f"{tables['raw inputs'].origin} has no {', '.join(lacking)}"
    else:
        missing["raw inputs"] = "no table of the inputs as they were was given"
    return {n: missing[n] for n in FIELDS if n in missing}, there


def _record(
    engine: Engine,
    path: Path,
    log: AdoptedLog,
    scored: Scored,
    ruled: _Ruled,
    tables: Mapping[str, Table],
    missing: Mapping[str, str],
) -> tuple[int, int, tuple[str, ...]]:
    """Writes training set, bundles, decisions and outcomes; the version that was asked last is the deployed one."""
    record = path.parent.resolve() / RECORD
    with open_workbench(path) as bench:
        plan = bench.plan
        training = keep_training(engine, plan, log, tables.get("training table"), record)
        open_training(engine, record, training)
        usual = usual_of(engine, plan) if "training table" in tables else {}
        versions = engine.rows(
            'select coalesce("@version", \'\') as v, min("@at"), max("@at") from adopted group by 1 order by max("@at")'
        )
        made: dict[str, Bundle] = {}
        for version, first, last in versions:
            model = scored.models.get(version) or no_scorer(log.features, f"no scorer of version {version} was given")
            own = {"scorer": model["where"]} if model["how"] == "none" else {}
            adopted = {"version": version, "missing": {**missing, **own}}
            one = _bundle(plan, model, ruled.policy, usual, training, time_text(last), adopted)
            made[version] = bundles.pack(record, one)
            bench.database.deploy(bench.system.name, made[version].name, time_text(first), "underhood adopt")
        scores = None if log.roles.score else _scores(engine, log, scored)
        n, n_outcomes = write_log(engine, plan, log, made, record, scores, bench.clock())
        seal(record)
    return n, n_outcomes, tuple(b.name for b in made.values())


def _scores(engine: Engine, log: AdoptedLog, scored: Scored) -> list[float] | None:
    """What the scorer says to every decision, in order of asking; null if there is none."""
    model = next(iter(scored.models.values()))
    if model["how"] == "none":
        return None
    features = ", ".join(f"{quoted(log.names[c])} as {quoted(c)}" for c in log.roles.inputs)
    made: list[float] = score_outside(
        model, engine.frame(f'select {features} from adopted order by "@at", "@row"')
    ).tolist()
    return made


def _bundle(
    plan: Plan,
    model: Mapping[str, Any],
    policy: Policy,
    usual: Mapping[str, Any],
    training: str,
    until: str,
    adopted: Mapping[str, Any],
) -> Bundle:
    return Bundle(
        name="",
        system=plan.system.name,
        zone=plan.system.zone,
        inputs=plan.inputs,
        features=plan.features,
        feature_types=plan.feature_types,
        model=model,
        policy=policy,
        costs=plan.system.goal.costs,
        usual=usual,
        made_from={
            "training": training,
            "recipe": {"system": plan.system.name, "since": "", "until": until, "changes": []},
            "definition": fingerprint(plan.system),
            "label": {"name": plan.system.label.name, "reads": plan.system.label.name},
            "rung": OUTSIDE,
            "ladder": [],
            "changes": [],
            "adopted": dict(adopted),
        },
    )
