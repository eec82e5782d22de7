"""A case turned into a test: the rows that went wrong, what must not be told again, and how many may remain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from underhood.build.bundle import Bundle
from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Scene
from underhood.ground.errors import ProjectError
from underhood.plan.exprs import col
from underhood.plan.render import to_sql
from underhood.repair.bench import Trial
from underhood.repair.cases import Case
from underhood.repair.replay import decision_from
from underhood.run.decide import decider
from underhood.run.policy import Patched

SLACK = 0.02  # share of the pinned questions that a retrained model may decide otherwise by chance


@dataclass(frozen=True)
class Pin:
    """A regression case: `asks` are (key, asked_at, row); at most `allowed` of them may get the action `never`."""

    name: str
    case: int
    why: str
    never: str
    allowed: int
    asks: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Pinned:
    """How a pin went: how many got the action it forbids, of how many, and the first keys of them."""

    pin: Pin
    n: int
    again: int
    keys: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no more than allowed got the forbidden action."""
        return self.again <= self.pin.allowed


def make_pin(scene: Scene, case: Case, fixed: Trial | None) -> Pin:
    """The pin of a case: all decisions of its day to which the thing happened, told wrongly or not.

    `fixed` is the trial of the chosen fix: what it left on the bench, and a little more,
    is allowed; without one, hardly any is. Raises ProjectError if the pin would forbid nothing.
    """
    where = "bad"
    if case.meaning.harm is not None and case.meaning.day:
        wanted = (col("day") == case.meaning.day) & case.meaning.harm
        where = f"bad or {to_sql(settle_predicate(scene.plan, wanted))}"
    rows = scene.engine.dicts(f"select * from decisions where ({where}) and status = 'ok' order by id")
    decisions = [decision_from(r, scene.plan) for r in rows]
    told = case.meaning.told or (decisions[0].action if decisions else "")
    of = dict(zip(served_ids(scene), fixed.action, strict=True)) if fixed else {}
    left = sum(of.get(d.id) == told for d in decisions)
    asks = tuple({"key": d.key, "asked_at": d.asked_at, "row": dict(d.row)} for d in decisions)
    allowed = left + round(SLACK * len(asks))
    if allowed >= len(asks):
        raise ProjectError(
            f"a pin would forbid nothing: {left:,} of {len(asks):,} are told '{told}' even with the fix",
            f"case {case.number}",
            "pin a case whose patch takes the bad thing away: underhood fixes, underhood patch apply",
        )
    why = case.complaint.subject or case.complaint.text[:80]
    return Pin(f"case-{case.number}", case.number, why, told, allowed, asks)


def served_ids(scene: Scene) -> list[str]:
    """Ids of the decisions that trials speak of, in their order."""
    return list(scene.engine.frame("select id from decisions where status = 'ok' order by id")["id"])


def check_pin(pin: Pin, bundle: Bundle, patches: Sequence[Patched] = ()) -> Pinned:
    """Decides the pinned questions again with this bundle. Raises RequestError if it no longer takes these rows."""
    decide = decider(bundle, patches)
    again = [
        ask["key"]
        for ask in pin.asks
        if decide(
            ask["row"], key=ask["key"], asked_at=ask["asked_at"], now=datetime.fromisoformat(ask["asked_at"])
        ).action
        == pin.never
    ]
    return Pinned(pin, len(pin.asks), len(again), tuple(again[:5]))


def write_pin(folder: Path, pin: Pin) -> Path:
    """Writes the pin as `<folder>/pins/<name>.pin.json`, for people, pytest and review."""
    path = folder / "pins" / f"{pin.name}.pin.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {k: v for k, v in asdict(pin).items() if k != "asks"}
    lines = ",\n".join("    " + json.dumps(ask, separators=(",", ":")) for ask in pin.asks)
    path.write_text(json.dumps(head, indent=2)[:-2] + ',\n  "asks": [\n' + lines + "\n  ]\n}\n", encoding="utf-8")
    return path


def read_pin(path: Path) -> Pin:
    """The pin in a file. Raises ProjectError if it is none."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return Pin(body["name"], body["case"], body["why"], body["never"], int(body["allowed"]), tuple(body["asks"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ProjectError(f"is not a pin: {error!r}", str(path), "pin the case again: underhood pin CASE") from error


def said(pinned: Pinned) -> str:
    """How a pin went, in one line."""
    state = "holds" if pinned.holds else "BROKEN"
    return (
        f"{pinned.pin.name} {state}: {pinned.again:,} of {pinned.n:,} told '{pinned.pin.never}', "
        f"{pinned.pin.allowed:,} allowed ({pinned.pin.why})"
    )
