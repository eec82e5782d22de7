"""Faults by other authors: Python files of a folder, in the form told in README.md, read as kinds of fault."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np

from underhood.faults import KINDS
from underhood.faults.kinds import Injection, Kind, Ruling, Scene
from underhood.ground.errors import ProjectError, UnderhoodError, nearest, raise_all
from underhood.plan.changes import FEATURE, INPUT, PARTS, SOURCE, THRESHOLD, Change
from underhood.plan.exprs import Expr

FORM = "bench/faults/README.md tells the form"


def read_faults(folder: Path) -> list[Kind]:
    """The faults of every .py file of a folder, in order of name. Raises ProjectError if one is not in the form."""
    files = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
    if not files:
        raise ProjectError("holds no fault: there is no .py file in it", str(folder), FORM)
    found = [kind for file in files for kind in _of(file)]
    names = [k.name for k in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ProjectError(f"defines {twice[0]!r} twice", str(folder), "give each fault a name of its own")
    return found


def _of(file: Path) -> list[Kind]:
    names = runpy.run_path(str(file), run_name=f"fault_{file.stem}")
    if "FAULTS" in names:
        wrong = [k for k in names["FAULTS"] if not isinstance(k, Kind) or k.propose is None]
        if wrong:
            raise ProjectError("FAULTS holds something that is no Kind with `propose`", str(file), FORM)
        return [_checked(k, file) for k in names["FAULTS"]]
    inject = names.get("inject")
    if not callable(inject):
        raise ProjectError("defines neither FAULTS nor inject(scene, random, cohort)", str(file), FORM)
    title = (names.get("__doc__") or file.stem).strip().splitlines()[0]
    return [_checked(Kind(file.stem.replace("_", " "), title, 9, _nothing, _silent, _nothing, inject), file)]


def _checked(kind: Kind, file: Path) -> Kind:
    """The kind whose every proposal is looked over before it is struck: what is misspelled would never be found."""
    own = kind.propose
    assert own is not None

    def propose(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
        made = own(scene, random, cohort)
        if made is not None:
            see_injection(scene, made, file)
        return made

    return replace(kind, propose=propose)


def see_injection(scene: Scene, made: object, file: Path) -> None:
    """Raises ProjectError for what a proposal of another author says that nobody could find or strike."""
    if not isinstance(made, Injection):
        raise ProjectError("gives neither an Injection nor None", str(file), FORM)
    if isinstance(made.expects, str):
        raise ProjectError("expects is one text", str(file), f"write expects=({made.expects!r},)")
    known = [k.name for k in KINDS]
    errors: list[UnderhoodError] = [
        ProjectError(f"no diagnosis names a kind {name!r}", str(file), f"{nearest(name, known)}; docs/faults.md")
        for name in made.right
        if name not in known
    ]
    errors += [
        ProjectError(f"there is no part {c.part!r} to change", str(file), nearest(c.part, PARTS))
        for c in made.changes
        if c.part not in PARTS
    ]
    names = {
        **dict.fromkeys((INPUT, SOURCE), ("input", list(scene.plan.inputs))),
        FEATURE: ("feature", list(scene.bundle.features)),
        THRESHOLD: ("cut", [action for action, _ in scene.bundle.policy.cuts]),
    }
    errors += [
        ProjectError(f"this system has no {names[c.part][0]} {c.name!r}", str(file), nearest(c.name, names[c.part][1]))
        for c in made.changes
        if c.part in names and c.name not in names[c.part][1]
    ]
    raise_all(errors)


def _nothing(*given: object, **named: object) -> tuple[Change, ...]:
    return ()


def _silent(scene: Scene) -> Ruling:
    return Ruling("", (), "a fault of the bench: nobody looks for it by name")
