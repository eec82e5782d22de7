"""The scorer of an adopted system, held against its log: whose scores it gives, and at how many decimals."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from underhood.build.outside import (
    DIGITS,
    handed_scorer,
    http_scorer,
    no_scorer,
    onnx_scorer,
    open_outside,
    python_scorer,
    rounded,
)
from underhood.build.scorer import Array
from underhood.ground.errors import NotCapturedError
from underhood.repair.adopted_log import AdoptedLog

ALIKE = 0.999  # of the scores that agree at one decimal less
FEWEST = 3  # decimals at which scores are compared, unless the log has fewer
AGREES = 0.05  # a scorer that gives fewer of the logged scores is not the one that decided


@dataclass(frozen=True)
class Scored:
    """What the scorer says to a sample: `model` by version, how many of how many logged scores it gives (`share`)."""

    models: Mapping[str, Mapping[str, Any]]
    again: Array | None
    there: str
    missing: str
    notes: tuple[str, ...] = ()
    share: float = 0.0


def is_python(scorer: str) -> bool:
    """Whether the text names a scorer as `module:name`, not an endpoint or a file."""
    return ":" in scorer and not scorer.startswith(("http://", "https://")) and not scorer.endswith(".onnx")


def import_from(folder: Path, scorer: str) -> None:
    """Imports the scorer's module as the project file will: from its own folder first.

    Raises NotCapturedError if it cannot be imported, with the folder in which it is looked for.
    """
    sys.path.insert(0, str(folder.resolve()))
    try:
        open_outside(python_scorer(scorer, {}))
    except NotCapturedError as error:
        module = scorer.partition(":")[0].replace(".", "/")
        if (folder / f"{module}.py").exists() or (folder / module).exists():
            raise
        place = "this folder" if folder == Path() else str(folder)
        hint = f"copy {module}.py, and all that it reads, into {place}: commands look for it beside the project file"
        raise NotCapturedError(error.what, error.where, hint) from error
    finally:
        sys.path.remove(str(folder.resolve()))


def _model(scorer: object, name: str, types: Mapping[str, str]) -> dict[str, Any]:
    if isinstance(scorer, Path) or (isinstance(scorer, str) and scorer.endswith(".onnx")):
        return onnx_scorer(Path(scorer), types)
    if isinstance(scorer, str):
        return python_scorer(scorer, types) if is_python(scorer) else http_scorer(scorer, types)
    return handed_scorer(name, scorer, types)


def score_sample(scorer: object, name: str, log: AdoptedLog, sampled: Mapping[str, Array]) -> Scored:
    """The sample scored again: the version whose scores the scorer gives is its own, the others have none."""
    types, versions = log.features, sorted(set(sampled["@version"]))
    why = "no scorer was given" if log.roles.inputs else "the log has no inputs to score again"
    if scorer is None or not types:
        return Scored({v: no_scorer(types, why) for v in versions}, None, "", why)
    model = _model(scorer, name, types)
    again = open_outside(model)({c: sampled[c] for c in types})
    logged = sampled["@score"]
    if np.isnan(logged).all():
        there = "the log has no score to compare its own with"
        note = "no score is logged: what the scorer says now stands in for it"
        return Scored(dict.fromkeys(versions, model), again, there, "", (note,))
    digits = {v: _digits(logged[sampled["@version"] == v], again[sampled["@version"] == v]) for v in versions}
    same = {v: _same(logged, again, digits[v]) & (sampled["@version"] == v) for v in versions}
    sizes = {v: int((sampled["@version"] == v).sum()) for v in versions}
    own = max(versions, key=lambda v: same[v].sum() / sizes[v])
    of = f" of version {own}" if own else ""
    n, n_same = sizes[own], int(same[own].sum())
    if n_same < AGREES * n:
        why = f"the scorer given is not what decided: it gives {n_same:,} of {n:,} logged scores{of}"
        return Scored({v: no_scorer(types, why) for v in versions}, None, "", why)
    models: dict[str, Mapping[str, Any]] = {
        v: {**model, "digits": digits[own]} if v == own else no_scorer(types, f"no scorer of version {v} was given")
        for v in versions
    }
    there = f"gives {n_same:,} of {n:,} logged scores{of}, compared at {digits[own]} decimals"
    others = tuple(f"version {v} has no scorer: its scores cannot be made again" for v in versions if v != own)
    return Scored(models, again, there, "", others, n_same / n)


def _digits(logged: Array, again: Array) -> int:
    """The most decimals at which scorer and log agree as often as with one less: how the log was written.

    Scores of another model agree the more often the fewer decimals are looked at.
    """
    known = logged[~np.isnan(logged)]
    most = next((d for d in range(1, DIGITS) if (rounded(known, d) == known).all()), DIGITS)
    for digits in range(most, FEWEST, -1):
        n, n_less = int(_same(logged, again, digits).sum()), int(_same(logged, again, digits - 1).sum())
        if n >= ALIKE * n_less and n >= AGREES * len(logged):
            return digits
    return min(most, FEWEST)


def _same(logged: Array, again: Array, digits: int) -> Array:
    made: Array = rounded(logged, digits) == rounded(again, digits)
    return made
