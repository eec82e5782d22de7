"""A patch: a fix in force, as a readable file with an owner and an expiry.

Its training-side changes take part in every build, its other changes in every decision,
until it expires or is undone. Those that have expired are reported wherever something is built,
decided, looked at or tested.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from underhood.build.bundle import Bundle
from underhood.ground.errors import NotFoundError, ProjectError, RecordError, nearest
from underhood.plan.changes import (
    BUNDLE,
    CALIBRATION,
    DECISION_PARTS,
    LABEL,
    TRAINING_PARTS,
    UNTIL,
    WEIGHTS,
    Change,
    change_from,
    change_json,
    is_recomputed,
)
from underhood.plan.exprs import Expr, shown
from underhood.plan.joins import Plan
from underhood.run.policy import Patched


@dataclass(frozen=True)
class Patch:
    """A fix in force. `expires` is a day (in the project's zone, inclusive); `why` names the case in words."""

    name: str
    changes: tuple[Change, ...]
    owner: str
    expires: str
    case: int
    why: str


def for_good(plan: Plan, patch: Patch) -> list[str]:
    """What to write into the project file so that the patch is no longer needed; empty where no line would do."""
    label = plan.system.label
    return [
        f"{label.name} = {shown(label.value)} {'or' if c.to else 'and not'} {shown(c.where).replace('facts.', '')}"
        for c in patch.changes
        if c.part == LABEL and c.where is not None and not isinstance(c.to, Expr)
    ]


def make_patch(name: str, changes: Sequence[Change], owner: str, expires: str, case: int, why: str) -> Patch:
    """A patch. Raises ProjectError without an owner, with an expiry that is not a day, or for what no patch can do."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", name):
        raise ProjectError(f"{name!r} cannot name a patch", "patch.name", "use small letters, digits and dashes")
    if not owner.strip():
        raise ProjectError("has no owner", f"patch {name}", "say who answers for it: --owner 'ops desk'")
    if not _is_day(expires):
        raise ProjectError(f"{expires!r} is not a day", f"patch {name}.expires", "write it as 2013-06-30")
    for change in changes:
        _check(change, f"patch {name}")
    return Patch(name, tuple(changes), owner, expires, case, why)


def _check(change: Change, at: str) -> None:
    """Raises ProjectError for what no patch can do."""
    if change.part == BUNDLE:
        raise ProjectError("a bundle is deployed, not patched", at, f"underhood deploy {change.to}")
    if change.part == UNTIL:
        raise ProjectError("what was known by now is learned by a build, not a patch", at, "underhood build")
    if is_recomputed(change):
        what = f"what history gives for {change.name} is not at hand when a question is asked"
        raise ProjectError(what, at, f"mend what serves {change.name}; until then take another fix")
    if change.part not in (*DECISION_PARTS, *TRAINING_PARTS):
        hint = f"mend where {change.name} is made; until then take another fix"
        raise ProjectError(f"{change.part} {change.name} is no part that a patch can change", at, hint)
    if change.part == WEIGHTS and not change.to > 0:
        raise ProjectError(f"{change.to} is no weight", at, "more than 0; to count rows not at all, leave them out")
    if change.part == CALIBRATION and not change.to[1] > 0:
        raise ProjectError("the slope of a calibration is more than 0", at, "else what is riskier would be told less")


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
