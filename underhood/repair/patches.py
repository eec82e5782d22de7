"""Candidate fixes of every size, each tried on history; and the patch that one of them becomes.

A patch is a readable file with an owner and an expiry. Its training-side changes take
part in every build, its other changes in every decision, until it expires or is undone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from underhood.build.bundle import Bundle
from underhood.build.checks import costs_of
from underhood.faults.kinds import Scene
from underhood.faults.served import served_features
from underhood.faults.training import spare_action
from underhood.ground.errors import NotFoundError, ProjectError, RecordError, nearest
from underhood.plan.changes import (
    BUNDLE,
    LABEL,
    ROUTE,
    ROWS,
    THRESHOLD,
    TRAINING_PARTS,
    Change,
    change_from,
    change_json,
    described,
    is_recomputed,
)
from underhood.plan.exprs import Expr, col, shown
from underhood.plan.joins import Plan
from underhood.plan.operations import NUMBER
from underhood.repair.bench import Ground, Trial, swap, trial_json
from underhood.run.policy import Patched

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fix:
    """One candidate: its changes, what it would have done, and how it is put into words."""

    title: str
    changes: tuple[Change, ...]
    trial: Trial


@dataclass(frozen=True)
class Patch:
    """A fix in force. `expires` is a day (in the project's zone, inclusive); `why` names the case in words."""

    name: str
    changes: tuple[Change, ...]
    owner: str
    expires: str
    case: int
    why: str


def candidates(scene: Scene, ground: Ground, undo: Sequence[Change]) -> list[tuple[str, tuple[Change, ...]]]:
    """Fixes worth trying for a cause: its undo, smaller and larger ones, and ways round the system."""
    made: list[tuple[str, tuple[Change, ...]]] = []
    if undo:
        made.append((_title(undo), tuple(undo)))
    for change in undo:
        if change.part == LABEL:
            made.append(("leave these rows out of training", (Change(ROWS, "training", "left out", change.where),)))
    person = spare_action(scene)
    route = best_route(scene, ground, person) if person else None
    if route is not None:
        made.append((f"until retrained: {person} where {shown(route)}", (Change(ROUTE, "route", person, route),)))
    cut = _lower_cut(scene)
    if cut is not None:
        made.append(("lower the threshold until it catches them", (cut,)))
    return made


def simulate(
    scene: Scene,
    ground: Ground,
    fixes: Sequence[tuple[str, tuple[Change, ...]]],
    say: Say = lambda line: None,
) -> list[Fix]:
    """Each candidate tried on history, the most useful first: repairs most, then costs least."""
    tried = []
    for title, changes in fixes:
        say(f"simulating: {title}")
        tried.append(Fix(title, changes, swap(scene, ground, *changes)))
    return sorted(tried, key=lambda f: (-(f.trial.repaired >= 0.9 * max(1, f.trial.n_bad)), f.trial.money_after))


def _title(undo: Sequence[Change]) -> str:
    return "; ".join(described(c) for c in undo[:2]) + (f"; and {len(undo) - 2} more" if len(undo) > 2 else "")


def best_route(scene: Scene, ground: Ground, action: str) -> Expr | None:
    """The one cut on one numeric feature beyond which `action` would have saved most; null if none saves.

    It must take in at least half of the decisions complained about. Exact: the best
    prefix or suffix sum of money gained, by feature.
    """
    costs = scene.plan.system.goal.costs
    routed = costs_of(ground.truth, np.full(len(ground.action), action, dtype=object), costs)
    gain = np.nan_to_num(costs_of(ground.truth, ground.action, costs) - routed)
    best: tuple[float, Expr | None] = (0.0, None)
    for name, values in served_features(scene).items():
        if scene.bundle.feature_types[name] != NUMBER:
            continue
        numbers = values.astype(float)
        for sign in (1.0, -1.0):
            order = np.argsort(-sign * numbers, kind="stable")  # nulls last either way: they never route
            ranked = sign * numbers[order]
            ends = np.flatnonzero((np.diff(ranked, append=np.nan) != 0) & ~np.isnan(ranked))
            saved, hit = gain[order].cumsum()[ends], ground.bad[order].cumsum()[ends]
            saved = np.where(hit >= 0.5 * ground.bad.sum(), saved, -np.inf)
            if len(saved) and saved.max() > best[0]:
                cut = float(sign * ranked[ends[int(saved.argmax())]])
                feature = col(f"features.{name}")
                best = (float(saved.max()), feature >= cut if sign > 0 else feature <= cut)
    return best[1]


def _lower_cut(scene: Scene) -> Change | None:
    rows = scene.engine.frame("select score from decisions where bad and status = 'ok'")
    if not scene.bundle.policy.cuts or not len(rows["score"]):
        return None
    action, cut = scene.bundle.policy.cuts[-1]
    needed = float(np.quantile(rows["score"], 0.05))
    return Change(THRESHOLD, action, round(needed, 4)) if needed < cut else None


def for_good(plan: Plan, patch: Patch) -> list[str]:
    """What to write into the project file so that the patch is no longer needed; empty where no line would do."""
    label = plan.system.label
    return [
        f"{label.name} = {shown(label.value)} {'or' if c.to else 'and not'} {shown(c.where).replace('facts.', '')}"
        for c in patch.changes
        if c.part == LABEL and c.where is not None
    ]


def fix_json(fix: Fix) -> dict[str, Any]:
    """The fix as a case keeps it."""
    return {
        "title": fix.title,
        "changes": [change_json(c) for c in fix.changes],
        "trial": trial_json(fix.trial),
    }


def make_patch(name: str, changes: Sequence[Change], owner: str, expires: str, case: int, why: str) -> Patch:
    """A patch. Raises ProjectError without an owner, with an expiry that is not a day, or for what no patch can do."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", name):
        raise ProjectError(f"{name!r} cannot name a patch", "patch.name", "use small letters, digits and dashes")
    if not owner.strip():
        raise ProjectError("has no owner", f"patch {name}", "say who answers for it: --owner 'ops desk'")
    if not _is_day(expires):
        raise ProjectError(f"{expires!r} is not a day", f"patch {name}.expires", "write it as 2013-06-30")
    for change in changes:
        if change.part == BUNDLE:
            hint = "see to it that the deployed bundle decides, and pin the case"
            raise ProjectError("a bundle is deployed, not patched", f"patch {name}", hint)
        if is_recomputed(change):
            what = f"what history gives for {change.name} is not at hand when a question is asked"
            raise ProjectError(what, f"patch {name}", f"mend what serves {change.name}; until then take another fix")
    return Patch(name, tuple(changes), owner, expires, case, why)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def write_patch(record: Path, patch: Patch) -> Path:
    """Keeps the patch as a readable file; an earlier one of that name is replaced."""
    path = record / "patches" / f"{patch.name}.json"
    body = {
        "patch": patch.name,
        "owner": patch.owner,
        "expires": patch.expires,
        "case": patch.case,
        "why": patch.why,
        "changes": [change_json(c) for c in patch.changes],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise RecordError(f"cannot be written: {error.strerror}", str(path), "free some space and try again") from error
    return path


def remove_patch(record: Path, name: str) -> None:
    """Undoes a patch from now on. Raises NotFoundError."""
    path = record / "patches" / f"{name}.json"
    if not path.is_file():
        raise NotFoundError("there is no such patch", name, nearest(name, [p.stem for p in path.parent.glob("*.json")]))
    path.unlink()


def read_patches(record: Path) -> list[Patch]:
    """All patches, by name. Raises ProjectError for a file that is not a patch."""
    found = []
    for path in sorted((record / "patches").glob("*.json")):
        try:
            body: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            changes = tuple(change_from(c) for c in body["changes"])
            found.append(Patch(body["patch"], changes, body["owner"], body["expires"], body["case"], body["why"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ProjectError(f"is not a patch: {error!r}", str(path), "correct it, or remove the file") from error
    return found


def in_force(patches: Sequence[Patch], day: str) -> tuple[list[Patch], list[Patch]]:
    """The patches in force on a day, and those that have expired and want a decision."""
    return [p for p in patches if day <= p.expires], [p for p in patches if day > p.expires]


def training_side(patches: Sequence[Patch]) -> list[Change]:
    """The changes that builds apply."""
    return [c for p in patches for c in p.changes if c.part in TRAINING_PARTS]


def decision_side(patches: Sequence[Patch]) -> list[Patched]:
    """The changes that decisions apply, each under its patch's name."""
    return [Patched(p.name, c) for p in patches for c in p.changes if c.part not in TRAINING_PARTS]


def missing_from(bundle: Bundle, patches: Sequence[Patch]) -> list[Patch]:
    """Patches whose training-side changes the bundle was not built with."""
    has = [json.dumps(c, sort_keys=True) for c in bundle.made_from["changes"]]
    return [
        p
        for p in patches
        if any(json.dumps(change_json(c), sort_keys=True) not in has for c in p.changes if c.part in TRAINING_PARTS)
    ]
