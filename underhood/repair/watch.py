"""The nightly look over a window of decisions: silent, or a case with its cohort, likely cause and cost.

What the same look says of earlier windows, which nobody complained about, is how often
it cries wolf: that rate is measured anew with each look and stands beside each alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.build.trainset import open_training, settle_predicate
from underhood.faults import KINDS
from underhood.faults.kinds import Kind, Scene
from underhood.ground.errors import NotFoundError
from underhood.plan.exprs import shown
from underhood.plan.render import sql_value, to_sql
from underhood.repair.bench import Ground, survey
from underhood.repair.cases import Case, open_case, read_case, save
from underhood.repair.causes import weigh
from underhood.repair.complaint import Complaint
from underhood.repair.decided import corrected_labels, mean
from underhood.repair.diagnosis import CERTAIN, Cause, Diagnosis, diagnosis_json
from underhood.repair.meaning import Meaning
from underhood.repair.thinned import thinned
from underhood.repair.unseen import seeing
from underhood.repair.workbench import Workbench, deployed, local_day, moment

QUIET = 4  # earlier windows that are looked over for false alarms
QUICK = 4  # the last stage that is looked at: that the world moved is no reason to wake anybody
LEAST = 5  # decisions that an undo turns; fewer are no reason to wake anybody
KEPT = 2_000  # decisions that a case which the watch opened names


@dataclass(frozen=True)
class Alarm:
    """One likely fault in a window: its cause, whom it touches, what it costs.

    `touched` decisions lie in its cohort, `turned` would have got another action without it, which would
    have saved `saved` (the goal's money, in the window): by what happened where that is known, else
    by the scores undone; null if nothing undoes it. `name` is the same whenever the same fault
    shows again. `case` is the case that tells of it, 0 if none.
    """

    name: str
    cause: Cause
    touched: int
    turned: int
    saved: float | None
    case: int = 0


@dataclass(frozen=True)
class Watched:
    """A window looked over: [since, until) (UTC), how many decisions, the alarms, costliest first.

    `noticed` are suspects too small to wake anybody, `quiet` how many earlier windows were looked over the
    same way, `false_alarms` how many alarms there were in them, none of which is in a case.
    """

    since: str
    until: str
    decisions: int
    alarms: tuple[Alarm, ...]
    noticed: tuple[Alarm, ...]
    quiet: int
    false_alarms: int


def watch(
    bench: Workbench, *, until: str = "", days: int = 1, quiet: int = QUIET, kinds: Sequence[Kind] = KINDS
) -> Watched:
    """Looks over the last `days` days before `until` (a day in the project's zone; after the last decision if empty).

    Opens a case for each alarm, or adds to the open one that tells of the same fault. Raises NotFoundError
    if nothing was decided in the window.
    """
    if not bench.n_decisions:
        raise NotFoundError("the record holds no decision", "record", "underhood decide --since … --until …")
    last = bench.engine.rows("select max(asked_at) from decided")[0][0]
    day = until or (datetime.fromisoformat(local_day(bench, str(last))) + timedelta(days=1)).date().isoformat()
    end = datetime.fromisoformat(moment(bench, day))
    start, told = end - timedelta(days=days), set(_cases_by_name(bench))
    bench.say(f"looking over {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    alarms, noticed, n = look_over(bench, start, end, kinds)
    if not n:
        raise NotFoundError("nothing was decided in it", f"{start} to {end} UTC", "choose another day with --until")
    tried = false = 0
    for back in range(1, quiet + 1) if alarms else ():
        bench.say(f"looking over an earlier window, {back} of {quiet}")
        shift = timedelta(days=days * back)
        earlier, _, had = look_over(bench, start - shift, end - shift, kinds)
        tried += bool(had)
        # what shows there too may have begun there: it is not a false alarm of this window's kind
        false += sum(a.name not in told and a.name not in {b.name for b in alarms} for a in earlier)
    _scene(bench, start, end)
    opened = tuple(_told(bench, alarm, start, end) for alarm in alarms)
    return Watched(str(start), str(end), n, opened, tuple(noticed), tried, false)


def look_over(
    bench: Workbench, since: datetime, until: datetime, kinds: Sequence[Kind]
) -> tuple[list[Alarm], list[Alarm], int]:
    """Alarms and lesser notices of the window [since, until) (UTC), and how many decisions it has."""
    return look_at(_scene(bench, since, until), kinds)


def look_at(scene: Scene, kinds: Sequence[Kind] = KINDS) -> tuple[list[Alarm], list[Alarm], int]:
    """The same of a scene in which the decisions in question are a window's, and later ones are left out."""
    if not scene.n_bad:
        return [], [], 0
    with thinned(scene) as (seen, _):
        ground = survey(seen)
        looking = seeing(seen, [k for k in kinds if k.stage <= QUICK])
        _, causes = weigh(seen, ground, looking, trains=False, listens=False)
        found = sorted((_alarm(seen, ground, c) for c in causes), key=lambda a: (-(a.saved or 0.0), -a.touched))
    return [a for a in found if _wakes(a)], [a for a in found if not _wakes(a)], scene.n_bad


def _scene(bench: Workbench, since: datetime, until: datetime) -> Scene:
    """The scene of a window: all its decisions are in question, those before it are known, later ones are not."""
    bundle = deployed(bench)
    inside = f"asked_at >= {sql_value(since)} and asked_at < {sql_value(until)}"
    labels = corrected_labels(bench.plan, bundle)
    mean(bench.engine, (), bundle.name, inside, f"asked_at < {sql_value(until)}", labels)
    open_training(bench.engine, bench.record, bundle.made_from["training"])
    n = bench.engine.rows("select count(*) from decisions where bad and status = 'ok'")[0][0]
    return Scene(bench.engine, bench.record, bench.plan, bundle, int(n))


def _alarm(scene: Scene, ground: Ground, cause: Cause) -> Alarm:
    suspect = cause.suspect
    where = "" if suspect.where is None else shown(suspect.where)
    cohort = " and ".join(part for part in where.split(" and ") if "asked_at" not in part)
    name = f"{suspect.kind} · {suspect.part} · {cohort}".rstrip(" ·")
    test = "true" if suspect.where is None else to_sql(settle_predicate(scene.plan, suspect.where))
    touched = scene.engine.rows(f"select count(*) filter (where bad and {test}) from decisions")[0][0]
    trial = cause.trial
    if trial is None:
        return Alarm(name, cause, int(touched), 0, None)
    truth = np.where(np.isnan(ground.truth), trial.score, ground.truth)
    costs = scene.plan.system.goal.costs.of
    gain = _costs(ground.action, truth, costs) - _costs(trial.action, truth, costs)
    return Alarm(name, cause, int(touched), trial.turned, float(gain[ground.bad].sum()))


def _costs(action: Array, share: Array, costs: Mapping[str, tuple[float, float]]) -> Array:
    """What each action costs on average if it happens with the probability `share`."""
    made = np.zeros(len(action))
    for name, (no, yes) in costs.items():
        made = np.where(action == name, no + share * (yes - no), made)
    return made


def _wakes(alarm: Alarm) -> bool:
    """Whether it is worth a case: a fact that touches decisions, or an inference whose undoing turns some and saves."""
    if alarm.cause.stage <= CERTAIN:
        return max(alarm.touched if alarm.saved is None else 0, alarm.turned) >= LEAST
    return alarm.turned >= LEAST and (alarm.saved or 0.0) > 0


SENDER = "underhood watch"


def _cases_by_name(bench: Workbench) -> dict[str, int]:
    """Which case tells of which fault, of those that the watch opened and nobody closed."""
    told: dict[str, int] = {}
    for row in bench.database.cases():
        complaint = row.body["complaint"]
        if complaint["sender"] == SENDER:
            told.setdefault(complaint["subject"], row.number)
    return told


def _told(bench: Workbench, alarm: Alarm, since: datetime, until: datetime) -> Alarm:
    """The alarm with its case: the one that tells of the same fault gets one more line, else a new one is opened."""
    suspect = alarm.cause.suspect
    cost = "" if alarm.saved is None else f"; without it the window would have cost {alarm.saved:,.0f} less"
    line = (
        f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC: {suspect.says}. {alarm.touched:,} decisions touched, "
        f"{alarm.turned:,} turned{cost}."
    )
    number = _cases_by_name(bench).get(alarm.name)
    if number is not None:
        case = read_case(bench.database, number)
        if line not in case.complaint.text:
            text = f"{case.complaint.text}\n{line}"
            save(bench.database, replace(case, complaint=replace(case.complaint, text=text)))
        return replace(alarm, case=number)
    case = _open(bench, alarm, Complaint(line, SENDER, alarm.name, bench.clock()))
    return replace(alarm, case=case.number)


def _open(bench: Workbench, alarm: Alarm, complaint: Complaint) -> Case:
    where = alarm.cause.suspect.where
    test = "true" if where is None else to_sql(settle_predicate(bench.plan, where))
    rows = bench.engine.rows(f"select id from decisions where bad and {test} order by id limit {KEPT}")
    ids = tuple(i for (i,) in rows)
    meaning = Meaning(cohort=where, ids=ids, claimed=alarm.touched)
    case = open_case(bench.database, bench.record, complaint, meaning, deployed(bench).name, bench.now)
    found = Diagnosis("cause", alarm.cause.suspect.says, (alarm.cause,), (), None, None)
    case = replace(case, state="diagnosed", found=diagnosis_json(found))
    save(bench.database, case)
    return case


def watched_json(watched: Watched) -> dict[str, Any]:
    """What was watched, as plain values."""
    return {
        "since": watched.since,
        "until": watched.until,
        "decisions": watched.decisions,
        "quiet_windows": watched.quiet,
        "false_alarms": watched.false_alarms,
        "alarms": [_alarm_json(a) for a in watched.alarms],
        "noticed": [_alarm_json(a) for a in watched.noticed],
    }


def _alarm_json(alarm: Alarm) -> dict[str, Any]:
    suspect = alarm.cause.suspect
    return {
        "name": alarm.name,
        "kind": suspect.kind,
        "part": suspect.part,
        "says": suspect.says,
        "since": suspect.since,
        "where": None if suspect.where is None else shown(suspect.where),
        "evidence": suspect.evidence,
        "touched": alarm.touched,
        "turned": alarm.turned,
        "saved": None if alarm.saved is None else round(alarm.saved, 2),
        "case": alarm.case,
    }
