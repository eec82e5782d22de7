"""One column is empty while others of its row are there, or a join misses because its key is written otherwise.

Look-alikes of a feed that stopped: there, all columns of a source are gone at once and
the keys are written as ever.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from underhood.faults.feeds import COLUMN, KEYS, Emptied, emptied, empty_suspect, part_of
from underhood.faults.kinds import Injection, Kind, Ruling, Scene
from underhood.faults.vectors import impact
from underhood.plan.changes import INPUT, RECOMPUTED, Change
from underhood.plan.exprs import Expr, col, columns_of
from underhood.plan.operations import TEXT
from underhood.plan.render import quoted
from underhood.plan.steps import Asof


def inject_unparsed(column: str, where: Expr | None = None) -> tuple[Change, ...]:
    """The column comes in a form that nothing reads: it is empty."""
    return (Change(INPUT, column, None, where),)


def undo_nulls(columns: Sequence[str], where: Expr | None = None) -> tuple[Change, ...]:
    """The columns, and the key that they were joined by, as history gives them."""
    return tuple(Change(INPUT, column, RECOMPUTED, where) for column in columns)


def suspect_unparsed(scene: Scene) -> Ruling:
    """One column is empty, and others that come with it in the same row are not."""
    found = [e for e in emptied(scene) if e.how == COLUMN]
    if not found:
        return Ruling(UNPARSED.name, (), _otherwise(emptied(scene)))
    why = "; other columns of the same rows are there, so they came and this one could not be read"
    return Ruling(UNPARSED.name, tuple(empty_suspect(scene, UNPARSED.name, e, why) for e in found))


def _otherwise(found: Sequence[Emptied]) -> str:
    if not found:
        return "no input is empty that is there for other decisions"
    told = ", ".join(e.part for e in found)
    return f"what is empty is all that {told} brings, not one column of it"


def propose_unparsed(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """One of the inputs that matter most and that come with others is empty."""
    parts = [part_of(scene, c) for c in scene.plan.inputs]
    cohorts = columns_of(cohort) if cohort is not None else set()
    weighed = _inputs_by_impact(scene)
    fit = [c for c in weighed if parts.count(part_of(scene, c)) > 1 and f"row.{c}" not in cohorts][:4]
    if not fit:
        return None
    column = str(random.choice(fit))
    return Injection(UNPARSED.name, inject_unparsed(column, cohort), (column,), {"columns": [column]}, cohort)


def _inputs_by_impact(scene: Scene) -> list[str]:
    """Inputs by how much the features that read them move the score, without figures and what is mostly empty."""
    order = [c for f in impact(scene) for c in sorted(columns_of(scene.bundle.features[f])) if c in scene.plan.inputs]
    found = [c for c in dict.fromkeys(order) if not part_of(scene, c).startswith("window")]
    if not found:
        return []
    empty = ", ".join(f"avg(({quoted('row.' + c)} is null)::INT)" for c in found)
    shares = scene.engine.rows(f"select {empty} from decisions")[0]
    return [c for c, share in zip(found, shares, strict=True) if share is not None and share < 0.5]


UNPARSED = Kind(
    "parse failure",
    "a column comes in a form that cannot be read",
    1,
    inject_unparsed,
    suspect_unparsed,
    undo_nulls,
    propose_unparsed,
)


def inject_null_join(by: str, written: Expr, columns: Sequence[str], where: Expr | None = None) -> tuple[Change, ...]:
    """The key of a join is served in another form, so that what it brings is empty."""
    misses = col(f"row.{by}") != written
    missed = misses if where is None else where & misses
    return (Change(INPUT, by, written, where), *(Change(INPUT, c, None, missed) for c in columns))


def suspect_null_join(scene: Scene) -> Ruling:
    """What a join brings is empty where its key is written otherwise, though the source has the row."""
    found = [e for e in emptied(scene) if e.how == KEYS]
    if not found:
        says = "no join misses whose key is written otherwise than in history"
        return Ruling(NULL_JOIN.name, (), says)
    made = []
    for each in found:
        pattern = _pattern(scene, each)
        why = f"; there {', '.join(each.by)} is written otherwise ({pattern}) and the source has the row"
        suspect = empty_suspect(scene, NULL_JOIN.name, each, why)
        columns = [*each.columns, *each.by]  # the key is served wrong as well
        told = {**suspect.parameters, "columns": columns, "key": each.by[0], "pattern": pattern}
        made.append(replace(suspect, parameters=told))
    return Ruling(NULL_JOIN.name, tuple(made))


def _pattern(scene: Scene, found: Emptied) -> str:
    """How the key is written, in words, with one example."""
    by = found.by[0]
    empty = " and ".join(f"d.{quoted('row.' + c)} is null" for c in found.columns)
    served, again = scene.engine.rows(
        f"select d.{quoted('row.' + by)}, a.{quoted(by)} from decisions d join asks a on d.key = a.key where {empty} "
        f"and d.{quoted('row.' + by)} is distinct from a.{quoted(by)} order by d.asked_at limit 1"
    )[0]
    return f"{_way(str(served), str(again))}: {served!r} for {again!r}"


def _way(served: str, again: str) -> str:
    if served.casefold() == again.casefold():
        return "capitals"
    if served.strip() == again.strip():
        return "spaces"
    if served.lstrip("0") == again.lstrip("0"):
        return "leading zeros"
    bare = (re.sub(r"[\W_]+", "", t).casefold() for t in (served, again))
    return "marks" if len(set(bare)) == 1 else "another key"


def propose_null_join(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """The text key of an as-of join in other capitals, or with leading zeros."""
    fit = [
        (j, by)
        for j in scene.plan.system.asks.joins
        if isinstance(j, Asof)
        for by in j.by
        if scene.plan.inputs.get(by) == TEXT and (cohort is None or f"row.{by}" not in columns_of(cohort))
    ]
    if not fit:
        return None
    join, by = fit[int(random.integers(len(fit)))]
    row, name = col(f"row.{by}"), quoted(f"row.{by}")
    lower, upper, longest = scene.engine.rows(
        f"select bool_and(lower({name}) = {name}), bool_and(upper({name}) = {name}), max(length({name})) from decisions"
    )[0]
    written = row.pad(int(longest) + 2, "0") if lower and upper else row.then("upper") if lower else row.then("lower")
    columns = list(join.take)
    told = {"columns": [*columns, by], "key": by}
    return Injection(NULL_JOIN.name, inject_null_join(by, written, columns, cohort), (*columns, by), told, cohort)


NULL_JOIN = Kind(
    "null join",
    "a join misses because its key is written otherwise",
    1,
    inject_null_join,
    suspect_null_join,
    undo_nulls,
    propose_null_join,
    needs=("inputs", "joins"),
)
