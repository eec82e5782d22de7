"""The verbs of the day on one project: build, decide, open a case, look, diagnose, fix, pin.

    with open_workbench("departures.py") as bench:
        case = open_case(bench, "complaint.eml")
        print(diagnose_case(bench, case.number).says)

Each verb reads the record, does one thing and keeps what it found there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from underhood.build import bundle as bundles
from underhood.build.builds import Build, build
from underhood.build.bundle import Bundle
from underhood.build.outside import digits_of
from underhood.build.trainset import open_training
from underhood.faults.kinds import Scene
from underhood.faults.vectors import AGAIN, replayed
from underhood.ground.errors import ComplaintError, NotFoundError, ProjectError
from underhood.ground.project import Project, find_project, read_project
from underhood.ground.records import Decision, Row, time_text
from underhood.plan.changes import change_from
from underhood.plan.joins import Plan
from underhood.plan.steps import System
from underhood.record.database import Database
from underhood.record.log import Log
from underhood.record.seal import seal
from underhood.repair import patches as patching
from underhood.repair.bench import survey
from underhood.repair.cases import (
    Case,
    bundle_of,
    read_case,
    save,
    set_scene,
)
from underhood.repair.cases import (
    open_case as open_case_in,
)
from underhood.repair.complaint import Complaint, read_complaint
from underhood.repair.decided import lay_out, mean, share_asks
from underhood.repair.diagnosis import Diagnosis, diagnosis_json
from underhood.repair.fixes import blame_of, candidates
from underhood.repair.intake import understand
from underhood.repair.layers import Opened, open_layers
from underhood.repair.meaning import Meaning
from underhood.repair.patches import Patch
from underhood.repair.pin import Pin, Pinned, check_pin, make_pin, read_pin, write_pin
from underhood.repair.replay import Replay, decision_from, read_decision, replay
from underhood.repair.swaps import swap
from underhood.repair.trials import Fix, fix_json, simulate
from underhood.repair.unseen import can_try, diagnose_seen
from underhood.run.batch import Span, decide_span
from underhood.run.decide import Decide, decider, view_columns
from underhood.run.policy import settled
from underhood.tables.local import Engine, read_asks, read_plan

Clock = Callable[[], datetime]
Say = Callable[[str], None]
LASTS_DAYS = 90  # how long a patch acts if nobody says otherwise


def silent(line: str) -> None:
    """Says nothing: progress for those who do not want any."""


@dataclass(frozen=True)
class Workbench:
    """One project with its record, opened. Tables are read when first needed.

    Use as a context manager. `clock` gives the present moment in UTC; `say` gets
    one line of progress at a time.
    """

    project: Project
    system: System
    engine: Engine
    database: Database
    clock: Clock
    say: Say

    def __enter__(self) -> Workbench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()
        self.database.close()

    @property
    def record(self) -> Path:
        """The folder of the record."""
        return self.project.record

    @cached_property
    def plan(self) -> Plan:
        """The plan, with sources read and the table of questions made."""
        self.say("reading sources")
        plan = read_plan(self.engine, self.system, self.project.folder, self.record)
        self.say("joining as of then")
        share_asks(self.engine, read_asks(self.engine, plan, self.record))
        return plan

    @cached_property
    def n_decisions(self) -> int:
        """How many decisions the record holds; lays them out as tables."""
        plan = self.plan
        self.say("reading decisions")
        order = [d.bundle for d in self.database.deployments(self.system.name)]
        return lay_out(self.engine, plan, self.record, list(dict.fromkeys(order)), self.say)

    @property
    def now(self) -> str:
        """The present moment as records write it."""
        return time_text(self.clock())


def utc_now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def open_workbench(
    project: str | Path | None = None,
    *,
    record: str | Path | None = None,
    folder: str | Path = ".",
    clock: Clock = utc_now,
    say: Say = silent,
    memory_mb: int = 1200,
) -> Workbench:
    """Opens a project: the file given, or the only one in `folder`. Raises ProjectError, RecordError."""
    found = read_project(find_project(project, Path(folder).resolve()), Path(record).resolve() if record else None)
    systems = [v for v in found.names.values() if isinstance(v, System)]
    if len(systems) != 1:
        hint = "end it with one departures = uh.system(...)" if not systems else "one file, one system"
        raise ProjectError(f"defines {len(systems)} systems, not one", str(found.path), hint)
    return Workbench(found, systems[0], Engine(memory_mb), Database(found.record), clock, say)


def build_system(bench: Workbench, *, until: str = "", since: str = "", by: str = "") -> Build:
    """Builds and deploys a bundle from what was known by `until` (a moment in the project's zone; now if empty).

    Patches in force on that day take part. Raises ProjectError, ParityError.
    """
    end, start = moment(bench, until) or bench.now, moment(bench, since)
    patches, _ = patching.in_force(patching.read_patches(bench.record), local_day(bench, end))
    made = build(
        bench.engine,
        bench.plan,
        bench.record,
        until=end,
        since=start,
        changes=patching.training_side(patches),
        say=bench.say,
    )
    body = {
        "bundle": made.bundle.name,
        "findings": [[f.level, f.what, f.where, f.hint] for f in made.findings],
    }
    bench.database.add_build(f"{made.bundle.name}@{bench.now}", bench.now, {**body, **made.bundle.made_from})
    bench.database.deploy(bench.system.name, made.bundle.name, bench.now, by or "underhood build")
    return made


def deployed(bench: Workbench) -> Bundle:
    """The bundle that decides now. Raises NotFoundError if none was built."""
    if not bench.database.deployments(bench.system.name):
        raise NotFoundError("no bundle is deployed yet", bench.system.name, "underhood build")
    return bundles.load(bench.record, bench.database.deployed(bench.system.name).bundle)


def decide_history(bench: Workbench, *, since: str, until: str) -> Span:
    """Decides a span of history (days in the project's zone, `until` excluded) with what is deployed and in force.

    Outcomes are delivered as they became known, all of them.
    """
    start, end = moment(bench, since), moment(bench, until)
    if start >= end:
        raise ProjectError(f"{since} is not before {until}", "--since, --until", "--until is the day after the last")
    bundle = deployed(bench)
    decide = patched_decider(bench, bundle)
    with Log(bench.record) as log:
        span = decide_span(bench.engine, bench.plan, decide, bundle.name, log, since=start, until=end, say=bench.say)
    if not span.actions:
        asked = bench.engine.rows("select min(asked_at)::DATE, max(asked_at)::DATE from asks")[0]
        raise ProjectError(f"no question was asked in it; they go from {asked[0]} to {asked[1]}", f"{since} to {until}")
    bench.say("sealing the log")
    seal(bench.record)
    bench.__dict__.pop("n_decisions", None)
    return span


def learned_until(bench: Workbench) -> str:
    """The moment (UTC) up to which the deployed bundle knew labels."""
    return str(deployed(bench).made_from["recipe"]["until"])


def patched_decider(bench: Workbench, bundle: Bundle) -> Decide:
    """The bundle with its decision-side patches, each question with those in force on its own day."""
    patches = patching.read_patches(bench.record)
    made: dict[tuple[str, ...], Decide] = {}

    def decide(row: Row, *, key: str = "", asked_at: str = "", now: datetime | None = None) -> Decision:
        acting, _ = patching.in_force(patches, local_day(bench, asked_at or bench.now))
        names = tuple(p.name for p in acting)
        if names not in made:
            made[names] = decider(bundle, patching.decision_side(acting))
        return made[names](row, key=key, asked_at=asked_at, now=now)

    return decide


def open_case(
    bench: Workbench, complaint: str | Path | Complaint, *, where: str = "", happened: str = "", told: str = ""
) -> Case:
    """Opens a case for a complaint: an e-mail file, a text file, or the words. Raises ComplaintError.

    `where`, `happened` and `told` say what was meant where words do not.
    """
    read = complaint if isinstance(complaint, Complaint) else read_complaint(complaint)
    if not bench.n_decisions:
        raise ComplaintError("the record holds no decision yet", "record", "underhood decide --since … --until …")
    bench.say("finding the decisions meant")
    mean(bench.engine, ())
    meaning = understand(bench.engine, bench.plan, read, where=where, happened=happened, told=told)
    name = bundle_of(bench.engine, meaning.ids, deployed(bench).name)
    meaning = _of_bundle(bench, meaning, name)
    return open_case_in(bench.database, bench.record, read, meaning, name, bench.now)


def _of_bundle(bench: Workbench, meaning: Meaning, bundle: str) -> Meaning:
    """The meaning with only the decisions of one bundle: a question may have been decided by several."""
    mean(bench.engine, meaning.ids, bundle)
    kept = {i for (i,) in bench.engine.rows("select id from decisions where bad")}
    return replace(
        meaning,
        ids=tuple(i for i in meaning.ids if i in kept),
        named=tuple(i for i in meaning.named if i in kept),
    )


def scene_of(bench: Workbench, case: Case) -> Scene:
    """The scene of a case, with its decisions laid out."""
    if not bench.n_decisions:
        raise ComplaintError("the record holds no decision", f"case {case.number}")
    return set_scene(bench.engine, bench.plan, bench.record, case)


def diagnose_case(bench: Workbench, number: int | None = None) -> Diagnosis:
    """The verdict on a case, kept with it. The latest case if no number is given."""
    case = read_case(bench.database, number)
    found = diagnose_seen(scene_of(bench, case), case.meaning, bench.say)
    save(bench.database, replace(case, state="diagnosed", found=diagnosis_json(found)))
    return found


def fix_case(bench: Workbench, number: int | None = None) -> list[Fix]:
    """Candidate fixes of a diagnosed case, tried on history, best first; kept with the case."""
    case = read_case(bench.database, number)
    if case.found is None:
        diagnose_case(bench, case.number)
        case = read_case(bench.database, case.number)
    scene = scene_of(bench, case)
    ground = survey(scene)
    made = candidates(scene, ground, blame_of(case.found), before(bench, case.bundle)) if scene.n_bad else []
    offered = [c for c in made if can_try(scene, c.changes)]
    tried = simulate(scene, ground, offered, bench.clock().date() + timedelta(days=LASTS_DAYS), bench.say)
    save(bench.database, replace(case, fixes=tuple(fix_json(f) for f in tried)))
    return tried


def before(bench: Workbench, bundle: str) -> str:
    """The bundle that was deployed before this one; empty if none was."""
    names = [d.bundle for d in bench.database.deployments(bench.system.name)]
    earlier = names[names.index(bundle) + 1 :] if bundle in names else []
    return next((n for n in earlier if n != bundle), "")


def apply_fix(
    bench: Workbench, number: int | None, fix: int, *, owner: str, expires: str = "", days: int = LASTS_DAYS
) -> Patch:
    """Makes fix number `fix` (from 1) of a case a patch with an owner and an expiry (default: in 90 days)."""
    case = read_case(bench.database, number)
    if not 1 <= fix <= len(case.fixes):
        raise NotFoundError(
            f"case {case.number} has {len(case.fixes)} fixes", f"fix {fix}", f"underhood fixes {case.number}"
        )
    chosen = case.fixes[fix - 1]
    last = expires or (bench.clock().date() + timedelta(days=days)).isoformat()
    patch = patching.make_patch(
        f"case-{case.number}-fix-{fix}",
        [change_from(c) for c in chosen["changes"]],
        owner,
        last,
        case.number,
        f"{case.complaint.subject or case.complaint.text[:80]}: {chosen['title']}",
    )
    settled(patching.decision_side([patch]), view_columns(bundles.load(bench.record, case.bundle)))
    patching.write_patch(bench.record, patch)
    bench.database.save_patch(patch.name, bench.now, patch.expires, "in force", {"case": case.number, "fix": chosen})
    save(bench.database, replace(case, state="patched", patch=patch.name))
    return patch


def pin_case(bench: Workbench, number: int | None = None) -> Path:
    """Pins a case as a test beside the project file; returns the file."""
    case = read_case(bench.database, number)
    scene = scene_of(bench, case)
    changes = [c for p in patching.read_patches(bench.record) if p.name == case.patch for c in p.changes]
    if not changes and case.fixes:
        changes = [change_from(c) for c in case.fixes[0]["changes"]]
    bench.say("trying the fix on the pinned questions")
    pin = make_pin(scene, case, swap(scene, survey(scene), *changes) if changes else None)
    path = write_pin(bench.project.folder, pin)
    body = {"never": pin.never, "allowed": pin.allowed, "asks": len(pin.asks), "file": path.name}
    bench.database.save_pin(pin.name, bench.now, case.number, body)
    save(bench.database, replace(case, state="pinned", pin=path.name))
    return path


def check_pins(bench: Workbench) -> list[Pinned]:
    """Every pinned case decided again with the deployed bundle and its patches."""
    files = sorted((bench.project.folder / "pins").glob("*.pin.json"))
    return [check_one_pin(bench, read_pin(f)) for f in files]


def check_one_pin(bench: Workbench, pin: Pin) -> Pinned:
    """One pinned case decided again with the deployed bundle and the patches in force."""
    patches, _ = patching.in_force(patching.read_patches(bench.record), local_day(bench, bench.now))
    return check_pin(pin, deployed(bench), patching.decision_side(patches))


def find_decision(bench: Workbench, wanted: str) -> Decision:
    """A decision by id, beginning of an id, or key. Raises NotFoundError."""
    if not bench.n_decisions:
        raise NotFoundError("the record holds no decision", wanted)
    return read_decision(bench.engine, bench.plan, wanted)


def replay_decision(bench: Workbench, wanted: str) -> Replay:
    """One decision made again with the bundle and the patches that made it."""
    return replay_all(bench, [find_decision(bench, wanted)])[0]


def replay_case(bench: Workbench, number: int | None = None) -> list[Replay]:
    """Every decision that a case means, made again."""
    case = read_case(bench.database, number)
    scene_of(bench, case)
    rows = bench.engine.dicts("select * from decisions where bad order by id")
    return replay_all(bench, [decision_from(row, bench.plan) for row in rows])


def replay_all(bench: Workbench, decisions: Sequence[Decision]) -> list[Replay]:
    """Decisions made again, each with the bundle and the patches that made it."""
    deciders: dict[tuple[str, tuple[str, ...]], tuple[Decide, int | None]] = {}
    patches = patching.read_patches(bench.record)
    made = []
    for decision in decisions:
        by = (decision.bundle, decision.patches)
        if by not in deciders:
            own = [p for p in patches if p.name in decision.patches]
            bundle = bundles.load(bench.record, by[0])
            deciders[by] = decider(bundle, patching.decision_side(own)), digits_of(bundle.model)
        made.append(replay(decision, *deciders[by]))
    return made


def open_decision(bench: Workbench, wanted: str) -> Opened:
    """One decision with its hood up, layer by layer."""
    decision = find_decision(bench, wanted)
    bundle = bundles.load(bench.record, decision.bundle)
    mean(bench.engine, [], decision.bundle)
    own = [p for p in patching.read_patches(bench.record) if p.name in decision.patches]
    patches = patching.decision_side(own)
    return open_layers(bench.engine, bench.plan, bench.record, bundle, decision, patches)


def query(bench: Workbench, sql: str, case: int | None = None) -> list[dict[str, Any]]:
    """Rows of a query over the views of a case (decisions, training, asks, sources): to rerun its evidence.

    As long as there is no case, `training` is what the deployed bundle learned from; NotFoundError if there is none.
    """
    if case is not None or (bench.n_decisions and bench.database.cases()):
        scene = scene_of(bench, read_case(bench.database, case))
        if AGAIN in sql:
            replayed(scene)
    elif bench.database.deployments(bench.system.name) or re.search(r"(?i)\b(from|join)\s+training\b", sql):
        open_training(bench.engine, bench.record, deployed(bench).made_from["training"])
    return bench.engine.query(sql)


def moment(bench: Workbench, text: str) -> str:
    """A day or a moment as people write it, in the project's zone, as UTC text; empty stays empty."""
    if not text:
        return ""
    zone = _zone(bench.system.zone)
    try:
        local = datetime.fromisoformat(text)
    except ValueError as error:
        hint = f"write a day as {date(2013, 3, 1)}, or a moment as 2013-03-01T06:00"
        raise ProjectError(f"{text!r} is not a moment", "--since or --until", hint) from error
    aware = local if local.tzinfo else local.replace(tzinfo=zone)
    return time_text(aware)


def local_day(bench: Workbench, at: str) -> str:
    """The day in the project's zone on which a moment (UTC text) falls: patches expire by people's days."""
    zone = _zone(bench.system.zone)
    return datetime.fromisoformat(at).replace(tzinfo=UTC).astimezone(zone).date().isoformat()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise ProjectError(f"there is no time zone {name!r}", "system.zone", "America/New_York") from error


def waiting(bench: Workbench) -> list[Patch]:
    """Patches in force that the deployed bundle was not built with: they act from the next build on."""
    patches, _ = patching.in_force(patching.read_patches(bench.record), local_day(bench, bench.now))
    return patching.missing_from(deployed(bench), patches) if bench.database.deployments(bench.system.name) else []


def expired(bench: Workbench) -> list[Patch]:
    """Patches past their expiry: they no longer act, and someone must decide about them."""
    return patching.in_force(patching.read_patches(bench.record), local_day(bench, bench.now))[1]
