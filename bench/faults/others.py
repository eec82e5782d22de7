"""Faults by other authors: Python files of a folder, in the form told in README.md, read as kinds of fault."""

from __future__ import annotations

import runpy
from pathlib import Path

from underhood.faults.kinds import Kind, Ruling, Scene
from underhood.ground.errors import ProjectError
from underhood.plan.changes import Change

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
        return list(names["FAULTS"])
    inject = names.get("inject")
    if not callable(inject):
        raise ProjectError("defines neither FAULTS nor inject(scene, random, cohort)", str(file), FORM)
    title = (names.get("__doc__") or file.stem).strip().splitlines()[0]
    return [Kind(file.stem.replace("_", " "), title, 9, _nothing, _silent, _nothing, inject)]


def _nothing(*given: object, **named: object) -> tuple[Change, ...]:
    return ()


def _silent(scene: Scene) -> Ruling:
    return Ruling("", (), "a fault of the bench: nobody looks for it by name")
