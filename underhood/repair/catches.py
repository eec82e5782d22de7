"""What of a project's own would catch a fault that was struck into its clone, how late, and which line would.

A catcher says from when on a fault shows: a contract that breaks, a decision that is flagged,
a pin that no longer holds, a watch that wakes somebody, a diagnosis that names it once
somebody complains. A line that is offered was tried: silent on sound rows, broken by struck ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from underhood.build.bundle import load
from underhood.build.trainset import open_training
from underhood.contract.contract import Contract, contract_text
from underhood.contract.rules import Rule
from underhood.faults import KINDS
from underhood.faults.kinds import Kind, Scene
from underhood.ground.errors import ProjectError, RequestError
from underhood.plan.changes import BUNDLE, CALIBRATION, INPUT, ROUTE, SOURCE, THRESHOLD
from underhood.plan.render import quoted, sql_value
from underhood.repair.decided import corrected_labels, mean
from underhood.repair.drill import SEVERITIES, Struck, diagnosed, struck_by
from underhood.repair.pin import Pin, check_pin, read_pin
from underhood.repair.promises import broken_since, contracts_of, holds_at_source, offered_rules
from underhood.repair.replay import decision_from
from underhood.repair.unseen import seeing
from underhood.repair.watch import look_at
from underhood.repair.workbench import Workbench, deployed
from underhood.run.decide import decider
from underhood.run.policy import Patched

CONTRACTS, CHECKS, PINS, WATCH, DIAGNOSIS = "contracts", "checks", "pins", "watch", "diagnosis"
AGAIN = 1_000  # decisions that are made again to see whether they would have been flagged
TRIES = 3  # draws of a fault until one turns decisions that somebody would complain about
NIGHTS = (1, 2, 4)  # after the onset, on which the watch looks over the day before


@dataclass(frozen=True)
class Catcher:
    """Something that may catch a fault: `catch` gives the moment (UTC) from which it does, null if it never does.

    It is asked while the clone is open: `decided` is struck, `sound` is not.
    """

    name: str
    catch: Callable[[Struck], datetime | None]


@dataclass(frozen=True)
class Line:
    """What to add so that a fault is caught: a rule for a contract's file, or a command.

    `since` is the first moment (UTC) at which it would have caught it; tried on `sound` rows (silent)
    and on `struck` rows (broken).
    """

    file: str
    text: str
    says: str
    since: datetime
    sound: int
    struck: int


@dataclass(frozen=True)
class Tried:
    """One fault and who caught it: `caught` maps each catcher to the moment, or null. `line` would catch it
    earlier, or at all; null if none does.

    `what` is the fault in words, `since` (UTC) its first decision, `turned` how many got another action.
    """

    kind: str
    title: str
    severity: str
    what: str
    since: datetime
    turned: int
    caught: Mapping[str, datetime | None]
    line: Line | None

    @property
    def by(self) -> str:
        """Who caught it first, without waiting for a complaint; "" if nobody did."""
        held = {n: at for n, at in self.caught.items() if at is not None and n != DIAGNOSIS}
        return min(held, key=lambda n: held[n], default="")

    @property
    def late(self) -> timedelta | None:
        """How long after its first decision it was caught; null if it was not."""
        at = self.caught[self.by] if self.by else None
        return None if at is None else max(at - self.since, timedelta())


@dataclass(frozen=True)
class Score:
    """What a drill found: the faults that were tested, and those that were not, with the reason."""

    tested: tuple[Tried, ...]
    skipped: tuple[tuple[str, str, str], ...] = ()

    @property
    def n_caught(self) -> int:
        """How many faults something catches before anybody complains."""
        return sum(bool(t.by) for t in self.tested)

    @property
    def n_named(self) -> int:
        """How many the diagnosis names once somebody complains."""
        return sum(t.caught.get(DIAGNOSIS) is not None for t in self.tested)


@dataclass(frozen=True)
class Rules:
    """Rules by source: what a project has, and what the rows before any drill would support."""

    own: Mapping[str, Sequence[Rule]]
    offered: Mapping[str, Sequence[Rule]]


def run_drills(
    bench: Workbench,
    *,
    kinds: Sequence[Kind] = KINDS,
    severities: Sequence[str] = SEVERITIES,
    seed: int = 0,
    more: Sequence[Catcher] = (),
) -> Score:
    """Every kind of fault at every severity in a clone of the record: what catches it, how late, and what would.

    `more` are catchers beside the project's contracts, the checks of `decide`, the pins, the watch and
    the diagnosis. Nothing is written. Raises ProjectError if nothing was decided yet.
    """
    scene = quiet_scene(bench)
    rules = Rules(contracts_of(bench, scene), offered_rules(scene, bench.say))
    catchers = (*own_catchers(bench, rules), *more, Catcher(DIAGNOSIS, named_by_diagnosis))
    tested: list[Tried] = []
    skipped: list[tuple[str, str, str]] = []
    for kind in (k for k in seeing(scene, kinds) if k.propose):
        for severity in severities:
            bench.say(f"{kind.name}, {severity}")
            with struck_by(scene, kind, severity, seed, TRIES) as struck:
                if struck is None:
                    skipped.append((kind.name, severity, "this system cannot break like that"))
                elif not struck.named:
                    skipped.append((kind.name, severity, "it would turn too few decisions for anybody to notice"))
                else:
                    tested.append(_tested(kind, struck, catchers, rules))
    return Score(tuple(tested), tuple(skipped))


def quiet_scene(bench: Workbench) -> Scene:
    """The scene of all decisions by the deployed bundle, nobody complains. Raises ProjectError if there are none."""
    if not bench.n_decisions:
        raise ProjectError("nothing was decided yet", "record", "underhood decide --since … --until …")
    bundle = deployed(bench)
    mean(bench.engine, (), bundle.name, labels=corrected_labels(bench.plan, bundle))
    open_training(bench.engine, bench.record, bundle.made_from["training"])
    return Scene(bench.engine, bench.record, bench.plan, bundle, 0)


def own_catchers(bench: Workbench, rules: Rules) -> tuple[Catcher, ...]:
    """The catchers that every project has: its contracts, the checks of each decision, its pins, the nightly watch."""
    pins = [read_pin(f) for f in sorted((bench.project.folder / "pins").glob("*.pin.json"))]
    return (
        Catcher(CONTRACTS, lambda struck: min(broken_since(struck, rules.own).values(), default=None)),
        Catcher(CHECKS, flagged_since),
        Catcher(PINS, lambda struck: next((struck.since for pin in pins if breaks_pin(struck, pin)), None)),
        Catcher(WATCH, watched_since),
    )


def _tested(kind: Kind, struck: Struck, catchers: Sequence[Catcher], rules: Rules) -> Tried:
    caught = {c.name: c.catch(struck) for c in catchers}
    first = struck.scene.engine.rows(
        f"select coalesce(min(d.asked_at), {sql_value(struck.since)}) from decided d left join sound s on d.id = s.id "
        f"where d.asked_at >= {sql_value(struck.since)} and d.action is distinct from s.action"
    )[0][0]
    what = "; ".join(map(str, struck.injection.changes[:2]))
    made = Tried(kind.name, kind.title, struck.severity, what, first, struck.turned, caught, None)
    line, held = line_to_add(struck, rules), [at for n, at in caught.items() if at is not None and n != DIAGNOSIS]
    return replace(made, line=line if line and all(line.since < at for at in held) else None)


# --- decisions, pins, people ---


def flagged_since(struck: Struck) -> datetime | None:
    """The first decision (UTC) that would be refused or flagged, while the same one on sound inputs is not.

    Only a fault of inputs can be seen like that: the first decisions whose inputs it changed are made again.
    """
    scene = struck.scene
    if not any(c.part in (INPUT, SOURCE) for c in struck.injection.changes):
        return None
    differs = " or ".join(
        f"d.{quoted(c)} is distinct from s.{quoted(c)}" for c in (f"row.{n}" for n in scene.plan.inputs)
    )
    ids = (
        f"select d.id, d.asked_at from decided d join sound s on d.id = s.id where {differs} order by d.asked_at, d.id"
    )
    picked = f"(select id from ({ids}) limit {AGAIN})"
    decide = decider(scene.bundle)
    sides: list[dict[str, tuple[set[str], datetime]]] = []
    for table in ("sound", "decided"):
        rows = scene.engine.dicts(f"select * from {table} where id in {picked} order by asked_at, id")
        sides.append({row["id"]: (_flags(decide, row, scene), row["asked_at"]) for row in rows})
    return next((at for i, (flags, at) in sides[1].items() if flags - sides[0][i][0]), None)


def _flags(decide: Callable[..., Any], row: Mapping[str, Any], scene: Scene) -> set[str]:
    made = decision_from(row, scene.plan)
    try:
        return set(decide(made.row, key=made.key, asked_at=made.asked_at, now=row["asked_at"]).flags)
    except RequestError:
        return {"refused"}


def breaks_pin(struck: Struck, pin: Pin) -> bool:
    """Whether a pin that holds does not with the fault: pins see what is deployed, not what is served to it."""
    scene = struck.scene
    changes = struck.injection.changes
    moved = [Patched("drill", c) for c in changes if c.part in (THRESHOLD, ROUTE, CALIBRATION)]
    other = [load(scene.record, str(c.to)) for c in changes if c.part == BUNDLE]
    if not moved and not other and not struck.injection.retrain:
        return False
    bundle = other[0] if other else scene.bundle
    try:
        return not check_pin(pin, bundle, moved).holds
    except RequestError:
        return True


def watched_since(struck: Struck) -> datetime | None:
    """The end of the first night (UTC) on which the watch wakes somebody over the fault, of those in NIGHTS."""
    scene, right = struck.scene, _right(struck)
    labels = corrected_labels(scene.plan, scene.bundle)
    try:
        for night in NIGHTS:
            start, end = (struck.since + timedelta(days=d) for d in (night - 1, night))
            inside = f"asked_at >= {sql_value(start)} and asked_at < {sql_value(end)}"
            mean(scene.engine, (), scene.bundle.name, inside, f"asked_at < {sql_value(end)}", labels)
            n = scene.engine.rows("select count(*) from decisions where bad and status = 'ok'")[0][0]
            alarms, _, _ = look_at(replace(scene, n_bad=int(n), told=None, kept={}))
            if any(a.cause.suspect.kind in right for a in alarms):
                return end
    finally:
        mean(scene.engine, struck.named, scene.bundle.name, labels=labels)
    return None


def _right(struck: Struck) -> tuple[str, ...]:
    return (*struck.injection.right, struck.kind)


def named_by_diagnosis(struck: Struck) -> datetime | None:
    """When the last of those who complain was decided about (UTC), if the first cause found is the fault; else null."""
    found, _ = diagnosed(struck, seeing(struck.scene))
    if not found.causes or found.causes[0].suspect.kind not in _right(struck):
        return None
    at: datetime | None = struck.scene.engine.rows("select max(asked_at) from decisions where bad")[0][0]
    return at


# --- the line to add ---


def line_to_add(struck: Struck, rules: Rules) -> Line | None:
    """A rule for a contract, else a pin, that catches the fault, tried on sound and struck rows; null if none does."""
    broken = broken_since(struck, rules.offered)
    for (source, rule), at in sorted(broken.items(), key=lambda item: (item[1], item[0][1].is_about_rows is False)):
        if holds_at_source(struck.scene, source, rule):
            sound, hit = (
                struck.scene.engine.rows(f"select count(*) from {t} where asked_at >= {sql_value(struck.since)}")[0][0]
                for t in ("sound", "decided")
            )
            text = next(
                line for line in contract_text(Contract(source, (rule,))).splitlines() if line.startswith("  {")
            )
            return Line(f"contracts/{source}.toml", text.strip(), rule.says(), at, int(sound), int(hit))
    return _pin_to_add(struck)


def _pin_to_add(struck: Struck) -> Line | None:
    """A pin of the decisions complained about, if it holds on the sound bundle and breaks with the fault."""
    scene = struck.scene
    listed = ", ".join(sql_value(i) for i in struck.named)
    rows = scene.engine.dicts(f"select * from sound where id in ({listed}) order by id")
    made = [decision_from(row, scene.plan) for row in rows]
    asks = tuple({"key": d.key, "asked_at": d.asked_at, "row": dict(d.row)} for d in made)
    pin = Pin("drill", 0, "a drill", struck.told or "", 0, asks)
    if not asks or any(d.action == pin.never for d in made) or not breaks_pin(struck, pin):
        return None
    says = f"a pinned case like this one: at most 0 of {len(asks)} told '{pin.never}'"
    return Line("pins/", "underhood pin", says, struck.since, len(asks), len(asks))


def score_json(score: Score) -> dict[str, Any]:
    """The drill as `--json` has it."""
    return {
        "tested": len(score.tested),
        "caught": score.n_caught,
        "named_from_a_complaint": score.n_named,
        "faults": [
            {
                "kind": t.kind,
                "severity": t.severity,
                "what": t.what,
                "since": f"{t.since}",
                "turned": t.turned,
                "caught": {n: None if at is None else f"{at}" for n, at in t.caught.items()},
                "first": t.by or None,
                "late_s": None if t.late is None else t.late.total_seconds(),
                "line": None if t.line is None else {**vars(t.line), "since": f"{t.line.since}"},
            }
            for t in score.tested
        ],
        "skipped": [{"kind": k, "severity": s, "why": why} for k, s, why in score.skipped],
    }


def kinds_named(names: Sequence[str]) -> list[Kind]:
    """The kinds of these names, all that can be drilled if there are none. Raises ProjectError."""
    known = {k.name: k for k in KINDS if k.propose}
    wrong = [n for n in names if n not in known]
    if wrong:
        raise ProjectError(f"there is no kind {wrong[0]!r} to drill", "--kinds", "one of " + ", ".join(known))
    return [known[n] for n in names] or list(known.values())


def severities_named(names: Sequence[str]) -> list[str]:
    """The severities of these names. Raises ProjectError."""
    wrong = [n for n in names if n not in SEVERITIES]
    if wrong:
        raise ProjectError(f"there is no severity {wrong[0]!r}", "--severities", "of " + ", ".join(SEVERITIES))
    return list(names) or list(SEVERITIES)
