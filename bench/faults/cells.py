"""One cell of the bench: a fault struck into a prepared system, or none, a complaint, and how right the answer was.

A cell's line is a flat record (`dict`) that goes into the file of lines as JSON; report.py reads nothing else.
Null stands where a figure does not apply (no parameters to name, no action turned).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from typing import Any

import numpy as np

from bench.faults.answers import answered, judged, scored
from bench.faults.baselines import ask_baselines
from bench.faults.poor import poorer_answers
from bench.faults.truth import Line, told_of, truth_of
from underhood.build.trainset import open_training
from underhood.faults import KINDS
from underhood.faults.kinds import Kind, Scene
from underhood.plan.exprs import Expr, col
from underhood.plan.render import to_sql
from underhood.repair.causes import diagnose
from underhood.repair.decided import mean
from underhood.repair.diagnosis import CAUSE
from underhood.repair.drill import NAMED, diagnosed, struck_by
from underhood.repair.meaning import Meaning
from underhood.repair.workbench import Workbench, deployed, moment

K = 5  # turned decisions (or turned outcomes); with fewer a fault had no impact and is no cell
TRIES = 3  # draws of columns, parameters and onset until one has an impact
# kinds that blame the world
WORLD = ("real event", "covariate drift", "prior shift", "concept drift", "beyond the envelope")


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


def strike_cell(scene: Scene, cell: Cell, kind: Kind, with_baselines: bool, poor: bool = False) -> Line:
    """The line of one fault. `state`: "scored", or why it is not scored.

    "cannot": this system cannot break like that; "no impact": too few decisions turned in
    all draws; "abstain": nothing that is visible in the record tells it from a sound one. That
    is diagnosed too, but counts in no figure: right is to name no cause, or the right one. `poor`
    diagnoses it again with parts of the record taken away.
    """
    line: Line = {**vars(cell), "cell": cell.name, "seen": cell.seed % 2 == 0}
    with struck_by(scene, kind, cell.severity, cell.seed, TRIES) as struck:
        if struck is None:
            return {**line, "state": "cannot"}
        line |= told_of(struck)
        if not struck.named or max(struck.turned, line["others"]) < K:
            return {**line, "state": "no impact"}
        reached, changed, oracle = truth_of(struck)
        found, seconds = diagnosed(struck)
        state = "scored" if oracle else "abstain"
        line |= {"state": state, "oracle": oracle, "seconds": round(seconds, 3), "peak_gb": peak_gb()}
        line |= answered(found) | scored(struck, found, reached, changed, kind.name)
        line["alarm"] = found.verdict == CAUSE and not line["top1"]
        if with_baselines:
            line["baselines"] = judged(ask_baselines(struck), struck)
        if poor:
            line["poor"] = poorer_answers(struck, tuple(line["right"]))
    return line


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


def peak_gb() -> float:
    """The largest memory of this process so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024), 3)
