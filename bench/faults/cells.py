"""One cell of the bench: a fault struck into a prepared system, or none, a complaint, and how right the answer was.

A cell's line is a flat record (`dict`) that goes into the file of lines as JSON; report.py reads nothing else.
Null stands where a figure does not apply (no parameters to name, no action turned).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isclose
from time import perf_counter
from typing import Any

import numpy as np

from bench.faults.baselines import Answer, ask_baselines
from underhood.build.trainset import open_training, settle_predicate
from underhood.faults import KINDS
from underhood.faults.kinds import Injection, Kind, Scene, Suspect
from underhood.plan.changes import BUNDLE, FEATURE, INPUT, ROWS, SCORE, SOURCE
from underhood.plan.exprs import Expr, col, columns_of
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.repair.causes import CAUSE, Diagnosis, diagnose
from underhood.repair.decided import mean
from underhood.repair.drill import NAMED, Struck, diagnosed, struck_by
from underhood.repair.meaning import Meaning
from underhood.repair.workbench import Workbench, deployed, moment

K = 5  # turned decisions (or turned outcomes); with fewer a fault had no impact and is no cell
TRIES = 3  # draws of columns, parameters and onset until one has an impact
NUMBER, ONSET, SIGNIFICANT = 0.05, timedelta(days=1), 3.3  # tolerance of a number; of an onset; z of p = 0.001
# kinds that blame the world
WORLD = ("real event", "covariate drift", "prior shift", "concept drift", "beyond the envelope")

# decisions that a fault took away; the clone has only those of one bundle
GONE = "select * from sound where id not in (select id from decided) and key in (select key from asks) and bundle = "
GONE += "(select bundle from sound group by bundle order by count(*) desc, bundle limit 1)"

Line = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """What to do: a kind of fault at a severity, or `kind` "no fault" / "world event" with the flavour as severity."""

    system: str
    kind: str
    severity: str
    seed: int

    @property
    def name(self) -> str:
        """The cell's name in the file of lines."""
        return f"{self.system}/{self.kind}/{self.severity}/{self.seed}"


def open_scene(bench: Workbench) -> Scene:
    """The scene of a prepared system: its decisions by the deployed bundle, nobody complains yet."""
    if not bench.n_decisions:
        raise SystemExit(f"{bench.project.path}: the record holds no decisions")
    bundle = deployed(bench)
    mean(bench.engine, (), bundle.name)
    open_training(bench.engine, bench.record, bundle.made_from["training"])
    return Scene(bench.engine, bench.record, bench.plan, bundle, 0)


def strike_cell(scene: Scene, cell: Cell, kind: Kind, with_baselines: bool) -> Line:
    """The line of one fault. `state`: "scored", or why it is not scored.

    "cannot": this system cannot break like that; "no impact": too few decisions turned in
    all draws; "abstain": nothing that is visible in the record tells it from a sound one.
    """
    line: Line = {**vars(cell), "cell": cell.name, "seen": cell.seed % 2 == 0}
    with struck_by(scene, kind, cell.severity, cell.seed, TRIES) as struck:
        if struck is None:
            return {**line, "state": "cannot"}
        line |= told_of(struck)
        if not struck.named or max(struck.turned, line["others"]) < K:
            return {**line, "state": "no impact"}
        reached, changed, oracle = truth_of(struck)
        if not oracle:
            return {**line, "state": "abstain"}
        found, seconds = diagnosed(struck)
        line |= {"state": "scored", "oracle": oracle, "seconds": round(seconds, 3), "peak_gb": peak_gb()}
        line |= answered(found) | scored(struck, found, reached, changed, kind.name)
        if with_baselines:
            line["baselines"] = judged(ask_baselines(struck), struck)
    return line


def told_of(struck: Struck) -> Line:
    """What was struck, for people who read a failure."""
    injection = struck.injection
    others = struck.scene.engine.rows(
        "select count(*) from decided d left join sound s on d.id = s.id where s.id is null "
        "or d.label is distinct from s.label or d.known_at is distinct from s.known_at"
    )[0][0]
    gone = struck.scene.engine.rows(f"select count(*) from ({GONE})")[0][0]
    return {
        "says": "; ".join(map(str, injection.changes[:3])),
        "columns": list(injection.columns),
        "parameters": {k: shown(v) for k, v in injection.parameters.items()},
        "cohort": None if injection.cohort is None else str(injection.cohort),
        "since": f"{struck.since}",
        "retrain": injection.retrain,
        "turned": struck.turned,
        "others": int(others) + int(gone),
        "named": list(struck.named),
    }


def truth_of(struck: Struck) -> tuple[set[str], set[str], list[str]]:
    """Ids of decisions that the fault reached, ids of those that it changed, and how an oracle tells it.

    Reached: by predicate, span and share, whether or not anything came of it. Changed: anything that
    is visible of the decision differs. The oracle knows where to look, but not the sound record.
    """
    engine, scene = struck.scene.engine, struck.scene
    reached = {i for (i,) in engine.rows(f"select id from decided where {_reached(struck)}")}
    if struck.reach.share == 1:
        # no predicate describes the keys that chance picks: the cohort that they are picked from is right
        meant = {i for (i,) in engine.rows(f"select id from decided where {_reached(struck, ('key',))}")}
        reached = meant if len(meant) > len(reached) else reached
    columns = [f"row.{n}" for n in scene.plan.inputs] + [f"features.{n}" for n in scene.bundle.features]
    columns += ["score", "action", "label", "known_at", *[f"facts.{f}" for f in scene.plan.facts]]
    differs = " or ".join(f"d.{quoted(c)} is distinct from s.{quoted(c)}" for c in columns)
    changed = {
        i for (i,) in engine.rows(f"select d.id from decided d left join sound s on d.id = s.id where {differs}")
    }
    engine.texts("changed", "id", sorted(changed))
    if gone := {i for (i,) in engine.rows(f"select id from ({GONE})")}:
        return gone, gone, ["decisions are missing"]
    return reached, changed, _oracle(struck, bool(changed))


def _reached(struck: Struck, without: Sequence[str] = ()) -> str:
    """SQL over `decided`: whether the fault reached a decision, as far as its predicates still read what they did.

    Parts of a predicate that read a column of `without` are left out.
    """
    injection, scene, reach = struck.injection, struck.scene, struck.reach
    tests = []
    for change in injection.changes:
        where = change.where if change.where is not None else injection.cohort
        # what the model learned from a span of history, it does ever after
        gone = [*without, *(["asked_at"] if injection.retrain else [])]
        where = _without(where, gone) if where is not None else None
        readable = where is None or not any(c.partition(".")[2] == change.name for c in columns_of(where))
        where = where if readable else injection.cohort
        tests.append("true" if where is None else f"coalesce({to_sql(settle_predicate(scene.plan, where))}, false)")
    late = [] if injection.retrain else [f"asked_at >= {sql_value(struck.since)}"]
    if reach.share < 1:
        late.append(f"hash(key || {sql_value(str(reach.seed))}) % 100000 < {round(reach.share * 100000)}")
    return " and ".join([f"({' or '.join(tests) or 'true'})", *late])


def _without(where: Expr, columns: Sequence[str]) -> Expr | None:
    """A predicate without the parts that read one of these columns; null if nothing is left."""
    if where.op == "and":
        kept = [part for arg in where.args if (part := _without(arg, columns)) is not None]
        return Expr("and", tuple(kept)) if len(kept) == 2 else kept[0] if kept else None
    return None if set(columns) & columns_of(where) else where


def _oracle(struck: Struck, is_changed: bool) -> list[str]:
    """Which views of the struck record tell it from a sound one: contradictions first, then before against after."""
    injection = struck.injection
    parts = {c.part for c in injection.changes}
    # rows that are missing or weighed otherwise at random are no gap, and no look at the record could find one
    if not is_changed or (injection.retrain and struck.reach.share < 1 and parts == {ROWS}):
        return []
    if parts & {INPUT, FEATURE, SCORE, BUNDLE, "threshold", "route", "calibration"} or injection.retrain:
        return ["the record contradicts itself" if not injection.retrain else "the training set holds it"]
    if SOURCE not in parts:
        return ["outcomes or traffic differ"]
    return [c for c in injection.columns if _moved(struck, c)]


def _moved(struck: Struck, column: str) -> bool:
    """Whether a column that is wrong in history too is told apart: its values before against after, where it holds."""
    if column not in struck.scene.plan.inputs:
        return True
    cohort = struck.injection.cohort
    where = "true" if cohort is None else to_sql(settle_predicate(struck.scene.plan, cohort))
    if cohort is not None and f"row.{column}" in columns_of(cohort):
        where = "true"
    name = quoted(f"row.{column}")
    number = struck.scene.plan.inputs[column] == "number"
    cut = f"select quantile_cont({name}, [0.1, 0.25, 0.5, 0.75, 0.9]) from sound"
    bins = struck.scene.engine.rows(cut)[0][0] if number else None
    bucket = " + ".join(f"({name} > {b!r})::INT" for b in bins) if bins else name
    rows = struck.scene.engine.rows(
        f"select coalesce(({bucket})::VARCHAR, '-'), count(*) filter (where asked_at < {sql_value(struck.since)}), "
        f"count(*) filter (where asked_at >= {sql_value(struck.since)}) from decided where {where} group by 1"
    )
    before, after = (np.array([r[n] for r in rows], dtype=float) for n in (1, 2))
    if not before.sum() or not after.sum():
        return True
    pooled = (before + after) / (before.sum() + after.sum())
    spread = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12) * (1 / before.sum() + 1 / after.sum()))
    return bool((np.abs(before / before.sum() - after / after.sum()) / spread).max() >= SIGNIFICANT)


def answered(found: Diagnosis) -> Line:
    """The answer as it stands: verdict, kinds of the causes in order of rank, its sentence."""
    return {
        "verdict": found.verdict,
        "answer": [c.suspect.kind for c in found.causes[:5]],
        "findings": len({(c.suspect.kind, c.suspect.part) for c in found.causes}),
        "verdict_says": found.says[:400],
        "ruled_out": {r.kind: r.says[:200] for r in found.rulings if not r.suspects},
    }


def scored(struck: Struck, found: Diagnosis, reached: set[str], changed: set[str], name: str) -> Line:
    """Kind, locus, parameters, cohort, onset, restored and collateral of the first cause."""
    right = struck.injection.expects or (struck.injection.kind, name)
    kinds = list(dict.fromkeys(c.suspect.kind for c in found.causes))
    line: Line = {
        "right": list(right),
        "top1": bool(kinds and kinds[0] in right),
        "top3": any(k in right for k in kinds[:3]),
        "grounded": None,
        "locus": False,
        "locus3": any(is_located(struck.injection, c.suspect) for c in found.causes[:3]),
        "parameters_right": None,
        "jaccard": 0.0,
        "onset": None if struck.injection.retrain else False,
    }
    if not found.causes:
        return line | restored(struck, None)
    best = found.causes[0]
    suspect = best.suspect
    line["locus"] = is_located(struck.injection, suspect)
    # only a cause of the right kind can name its parameters; a wrong kind counts as wrong parameters
    line["parameters_right"] = (
        are_named(struck.injection.parameters, suspect.parameters)
        if line["top1"]
        else (False if struck.injection.parameters else None)
    )
    is_gone = bool(struck.scene.engine.rows(f"select id from ({GONE}) limit 1"))
    selected, listed = selected_by(struck.scene, suspect, "sound" if is_gone else "decisions")
    line["grounded"] = listed is not None
    picked = selected if struck.severity != "canary" or listed is None else listed
    line["jaccard"] = round(max(jaccard(picked, reached), jaccard(picked, changed)), 4)
    line["jaccard_by_predicate"] = round(max(jaccard(selected, reached), jaccard(selected, changed)), 4)
    if not struck.injection.retrain:
        line["onset"] = is_onset(struck, suspect.since)
    line |= {
        "suspect": suspect.says[:300],
        "since_said": suspect.since,
        "named_parameters": {k: shown(v) for k, v in suspect.parameters.items()},
    }
    return line | restored(struck, best.trial.action if best.trial else None)


def is_located(injection: Injection, suspect: Suspect) -> bool:
    """Whether the suspect names the columns that were struck, or, if the fault has none, undoes the same part."""
    said = set(suspect.parameters.get("columns", ()))
    if injection.columns:
        words = set(suspect.part.replace(",", " ").split())
        return said == set(injection.columns) or (not said and set(injection.columns) <= words)
    parts = {(c.part, c.name) for c in injection.changes}
    undone = {(c.part, c.name) for c in suspect.undo}
    return (
        bool(parts & undone)
        or bool({p for p, _ in parts} & {p for p, _ in undone})
        or (suspect.kind in (injection.expects or (injection.kind,)))
    )


def are_named(truth: Mapping[str, Any], said: Mapping[str, Any]) -> bool | None:
    """Whether every parameter is named: numbers within 5 %, the rest equal; null if there are none."""
    return all(is_named(v, said.get(k)) for k, v in truth.items()) if truth else None


def is_named(truth: Any, said: Any) -> bool:
    """Whether one parameter was named: a number within tolerance, a list in any order, a map key by key."""
    if isinstance(truth, bool) or truth is None or isinstance(said, bool):
        return bool(truth == said)
    if isinstance(truth, (int, float)) and isinstance(said, (int, float)):
        return isclose(truth, said, rel_tol=NUMBER, abs_tol=1e-9)
    if isinstance(truth, Mapping) and isinstance(said, Mapping):
        return truth.keys() <= said.keys() and all(is_named(v, said[k]) for k, v in truth.items())
    if isinstance(truth, (list, tuple)) and isinstance(said, (list, tuple)):
        return sorted(map(str, truth)) == sorted(map(str, said))
    return str(truth) == str(said)


def selected_by(scene: Scene, suspect: Suspect, table: str = "decisions") -> tuple[set[str], set[str] | None]:
    """Ids that the suspect's predicate selects (since its onset, until it ended), and those that its evidence lists.

    The latter is null if the evidence does not run; if it lists no ids, it is what the predicate selects.
    """
    engine = scene.engine
    where = "true" if suspect.where is None else to_sql(settle_predicate(scene.plan, suspect.where))
    if suspect.since and (suspect.where is None or "asked_at" not in columns_of(suspect.where)):
        where = f"({where}) and asked_at >= {sql_value(datetime.fromisoformat(suspect.since))}"
    if until := suspect.parameters.get("until"):
        where = f"({where}) and asked_at <= {sql_value(datetime.fromisoformat(str(until)))}"
    selected = {i for (i,) in engine.rows(f"select id from {table} where coalesce({where}, false)")}
    failed = engine.attempt(f"create or replace temp view evidence as {suspect.evidence}")
    if failed:
        return selected, None
    names = [n for (n,) in engine.rows("select column_name from (describe select * from evidence)")]
    if "id" not in names:
        return selected, selected
    return selected, {i for (i,) in engine.rows("select id from evidence")} & {
        i for (i,) in engine.rows("select id from decisions")
    }


def jaccard(one: set[str], other: set[str]) -> float:
    """The share of both that is in each; 0 if both are empty."""
    return len(one & other) / len(one | other) if one | other else 0.0


def is_onset(struck: Struck, said: str) -> bool:
    """Whether the onset said is within a day of the first decision that the fault changed, or the next batch of it."""
    engine = struck.scene.engine
    late = f"asked_at >= {sql_value(struck.since)}"
    firsts = [
        f"select min(asked_at) from ({GONE})",
        f"select min(asked_at) from decided where id in (select id from changed) and {late}",
    ]
    first = next((at for sql in firsts if (at := engine.rows(sql)[0][0]) is not None), None)
    if not said or first is None:
        return False
    at = datetime.fromisoformat(said).replace(tzinfo=None)
    batches = "select asked_at from decided where asked_at"
    after = engine.rows(f"select min(asked_at) from ({batches} > {sql_value(first)})")[0][0]
    before = engine.rows(f"select max(asked_at) from ({batches} < {sql_value(first)})")[0][0]
    low = min(first - ONSET, before or first)
    return bool(low <= at <= max(first + ONSET, after or first))


def restored(struck: Struck, action: Any) -> Line:
    """Share of turned decisions whose action is right again under the undo, and of others whose action changes.

    Over all decisions with an action in both records. Null if no action turned. `action`: under the undo of
    the first cause, in order of id; null if there is none (then nothing is restored and nothing harmed).
    """
    engine = struck.scene.engine
    rows = engine.frame(
        "select d.id, d.action as got, s.action as was from decisions d left join sound s on d.id = s.id "
        "where d.status = 'ok' order by d.id"
    )
    known = np.array([w is not None for w in rows["was"]], dtype=bool)
    turned = known & (rows["got"] != rows["was"])
    if not turned.any():
        return {"restored": None, "collateral": None}
    now = rows["got"] if action is None else action
    if len(now) != len(rows["got"]):
        return {"restored": None, "collateral": None}
    others = known & ~turned
    return {
        "restored": round(float((now[turned] == rows["was"][turned]).mean()), 4),
        "collateral": round(float((now[others] != rows["was"][others]).mean()) if others.any() else 0.0, 4),
    }


def judged(answers: Sequence[Answer], struck: Struck) -> Line:
    """Whether each baseline's first and first three suspects hold a struck column or part."""
    injection = struck.injection
    right = set(injection.columns)
    for change in injection.changes:
        right |= {"score"} if change.part in (SCORE, BUNDLE, "calibration") else set()
        right |= {"action"} if change.part in ("threshold", "route") else set()
        right |= {"bundle"} if change.part == BUNDLE or injection.retrain else set()
        right |= {"label"} if change.part in ("outcome", "label") else set()
    return {
        a.name: {"top1": bool(set(a.ranked[:1]) & right), "top3": bool(set(a.ranked[:3]) & right), "seconds": a.seconds}
        for a in answers
    }


def quiet_cell(scene: Scene, cell: Cell, inside: Expr | None = None) -> Line:
    """The line of a cell without a fault: a complaint about some decisions of the sound record.

    Severity "luck": five of one action that turned out badly; "any": five of one action;
    "day": all decisions of one day with one action. `inside` narrows to a real event's span.
    """
    random = np.random.default_rng([cell.seed, *cell.kind.encode(), *cell.severity.encode()])
    engine = scene.engine
    where = "true" if inside is None else to_sql(inside)
    mean(engine, (), scene.bundle.name)
    rows = engine.rows(
        f"select id, action, label, day from decisions where status = 'ok' and {where} order by asked_at, id"
    )
    line: Line = {**vars(cell), "cell": cell.name, "seen": cell.seed % 2 == 0}
    named, told = complaint_about(scene, rows, cell.severity, random)
    if not named:
        return {**line, "state": "cannot"}
    mean(engine, named, scene.bundle.name)
    began = perf_counter()
    found = diagnose(replace(scene, n_bad=len(named), told=told, kept={}), Meaning(ids=named, told=told), KINDS)
    line |= {"state": "scored", "seconds": round(perf_counter() - began, 3), "peak_gb": peak_gb()} | answered(found)
    if inside is not None:
        blamed = [c.suspect for c in found.causes if c.suspect.kind not in WORLD]
        line |= {"findings": len(blamed), "top1": found.verdict != CAUSE or found.causes[0].suspect.kind in WORLD}
    line["alarm"] = found.verdict == CAUSE and bool(line["findings"])
    line |= {"named": list(named[:NAMED]), "suspects": [c.suspect.says[:200] for c in found.causes[:5]]}
    return line


def complaint_about(
    scene: Scene, rows: Sequence[tuple[Any, ...]], flavour: str, random: np.random.Generator
) -> tuple[tuple[str, ...], str | None]:
    """Ids of the decisions that somebody complains about at random, and the action that they got."""
    costs = scene.plan.system.goal.costs.of
    if flavour == "luck":
        best = {y: min(pair[y] for pair in costs.values()) for y in (0, 1)}
        rows = [r for r in rows if r[2] is not None and r[1] in costs and costs[r[1]][int(r[2])] > best[int(r[2])]]
    if flavour == "day" and rows:
        day = rows[int(random.integers(len(rows)))][3]
        rows = [r for r in rows if r[3] == day]
    if not rows:
        return (), None
    told = rows[int(random.integers(len(rows)))][1]
    rows = [r for r in rows if r[1] == told]
    if flavour == "day":
        return tuple(r[0] for r in rows), told
    # of one fortnight: people who complain together met the same days
    start = int(random.integers(len(rows)))
    near = rows[start : start + 200]
    picked = random.choice(len(near), size=min(NAMED, len(near)), replace=False)
    return tuple(near[int(n)][0] for n in sorted(picked)), told


def event_of(bench: Workbench, since: str, until: str) -> Expr:
    """The predicate of a real event: what was asked in it (days or moments in the project's zone)."""
    first, last = (datetime.fromisoformat(moment(bench, at)).replace(tzinfo=None) for at in (since, until))
    return (col("asked_at") >= first) & (col("asked_at") < last)


def shown(value: Any) -> Any:
    """A parameter as a line keeps it."""
    return value if isinstance(value, (int, float, str, bool, list, type(None))) else str(value)


def peak_gb() -> float:
    """The largest memory of this process so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024), 3)
