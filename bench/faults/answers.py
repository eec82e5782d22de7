"""How right an answer is: kind, locus, parameters, cohort, onset, evidence, and what the undo restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import isclose, sqrt
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.faults.baselines import Answer
from bench.faults.truth import GONE, Line, shown
from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Injection, Scene, Suspect
from underhood.plan.changes import BUNDLE, OUTCOME, SCORE
from underhood.plan.exprs import columns_of
from underhood.plan.render import sql_value, to_sql
from underhood.repair.diagnosis import Diagnosis
from underhood.repair.drill import Struck

NUMBER, ONSET = 0.05, timedelta(days=1)  # tolerance of a number; of an onset


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
    right = tuple(dict.fromkeys((*struck.injection.right, name)))
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
        are_named(
            parameters_of(struck.injection, suspect), suspect.parameters, drawn_by(struck.injection, len(changed))
        )
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
    said, struck = set(suspect.parameters.get("columns", ())), set(injection.columns)
    if struck:
        words = set(suspect.part.replace(",", " ").split())
        # the key of a join is named apart from what the join brings
        key = {suspect.parameters["key"]} if "key" in suspect.parameters else set()
        return struck in (said, said | key) or (not said and struck <= words)
    parts = {(c.part, c.name) for c in injection.changes}
    undone = {(c.part, c.name) for c in suspect.undo}
    return (
        bool(parts & undone) or bool({p for p, _ in parts} & {p for p, _ in undone}) or suspect.kind in injection.right
    )


def parameters_of(injection: Injection, suspect: Suspect) -> Mapping[str, Any]:
    """The parameters that a suspect of an accepted kind can name: of another kind than was struck, those it shares."""
    truth = injection.parameters
    return truth if suspect.kind == injection.kind else {k: v for k, v in truth.items() if k in suspect.parameters}


def drawn_by(injection: Injection, n: int) -> Mapping[str, float]:
    """Tolerances of parameters that chance drew: a share of outcomes that turned, from the `n` that did.

    Two standard errors of a share of so many: what was drawn is no nearer to what was meant, and nobody can see more.
    """
    shares = [c.to for c in injection.changes if c.part == OUTCOME and isinstance(c.to, float) and 0 < c.to < 1]
    return {"turned": max(NUMBER, 2 * sqrt((1 - shares[0]) / max(1, n)))} if shares else {}


def are_named(
    truth: Mapping[str, Any], said: Mapping[str, Any], tolerance: Mapping[str, float] = MappingProxyType({})
) -> bool | None:
    """Whether every parameter is named: numbers within 5 % or their `tolerance`, the rest equal; null if none is."""
    named = (is_named(v, said.get(k), tolerance.get(k, NUMBER)) for k, v in truth.items())
    return all(named) if truth else None


def is_named(truth: Any, said: Any, within: float = NUMBER) -> bool:
    """Whether one parameter was named: a number within tolerance, a list in any order, a map key by key."""
    if isinstance(truth, bool) or truth is None or isinstance(said, bool):
        return bool(truth == said)
    if isinstance(truth, (int, float)) and isinstance(said, (int, float)):
        return isclose(truth, said, rel_tol=within, abs_tol=1e-9)
    if isinstance(truth, Mapping) and isinstance(said, Mapping):
        return truth.keys() <= said.keys() and all(is_named(v, said[k]) for k, v in truth.items())
    if isinstance(truth, (list, tuple)) and isinstance(said, (list, tuple)):
        return sorted(map(str, truth)) == sorted(map(str, said))
    return str(truth) == str(said)


def selected_by(scene: Scene, suspect: Suspect, table: str = "decisions") -> tuple[set[str], set[str] | None]:
    """Ids that the suspect's predicate selects (since its onset, until it ended), and those that its evidence lists.

    The latter is null if the evidence does not run; if it lists neither ids nor keys, it is what the predicate
    selects. A parameter `until` ends the cohort, but where it lies before the onset: there it is what a model knew.
    """
    engine = scene.engine
    where = "true" if suspect.where is None else to_sql(settle_predicate(scene.plan, suspect.where))
    if suspect.since and (suspect.where is None or "asked_at" not in columns_of(suspect.where)):
        where = f"({where}) and asked_at >= {sql_value(datetime.fromisoformat(suspect.since))}"
    until = str(suspect.parameters.get("until", ""))
    if until and not (suspect.since and datetime.fromisoformat(until) < datetime.fromisoformat(suspect.since)):
        where = f"({where}) and asked_at <= {sql_value(datetime.fromisoformat(until))}"
    selected = {i for (i,) in engine.rows(f"select id from {table} where coalesce({where}, false)")}
    failed = engine.attempt(f"create or replace temp view evidence as {suspect.evidence}")
    if failed:
        return selected, None
    names = [n for (n,) in engine.rows("select column_name from (describe select * from evidence)")]
    name = next((n for n in ("id", "key") if n in names), None)
    if name is None:
        return selected, selected
    listed = f"select id from {table} where {name} in (select {name} from evidence)"
    return selected, {i for (i,) in engine.rows(listed)}


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
