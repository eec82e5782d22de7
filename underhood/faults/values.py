"""An input is served changed, row by row: other unit, one value for all, swapped, shifted, rounded, renamed, stale.

Each kind is a closed form between what was served and what history, as known
when asked, gives for the same question. What has no closed form is left to the
kind "skew". The names are those of the catalogue in docs/faults.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.cohorts import Cohort, cohort_of
from underhood.faults.feeds import lost_inputs
from underhood.faults.forms import ENOUGH, HOLDS, Form, number_form, text_form, time_form
from underhood.faults.kinds import Kind, Ruling, Scene, Suspect, counted
from underhood.plan.changes import INPUT, RECOMPUTED, Change
from underhood.plan.exprs import Expr, col, wrap
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.plan.steps import Asof

SHARE = 0.005  # below it a difference touches too few of the decisions in question to explain a complaint
SAMPLE = 20_000
LAGS_H = (1, 2, 3, 6, 12, 24, 48, 72, 168, 336, 720)

KIND_TITLES: Mapping[str, str] = {
    "unit change": "a number comes in another unit",
    "shift": "a constant is added to a number",
    "sentinel fill": "one value stands in for many",
    "clipped": "values beyond a cap are cut off",
    "precision loss": "values are rounded or cut short",
    "column swap": "two columns stand in each other's place",
    "time zone": "hours or times are those of another zone",
    "clock skew": "a clock is wrong",
    "stale feature": "an older value is served than was known",
    "category spelling": "levels are written in another way",
    "category rename": "levels come under other names",
    "category merge": "several levels come as one",
    "upstream change": "what makes the value upstream has changed",
}


@dataclass(frozen=True)
class Served:
    """The inputs served otherwise than history gives: how many of `n` bad decisions, and what form it has."""

    n: int
    differing: Mapping[str, int]
    forms: tuple[tuple[tuple[str, ...], Form, Cohort], ...]

    @property
    def explained(self) -> frozenset[str]:
        """The columns whose difference has a closed form."""
        return frozenset(c for columns, _, _ in self.forms for c in columns)


def served_otherwise(scene: Scene) -> Served:
    """What was served otherwise, found once for a scene."""
    found: Served = scene.once("served otherwise", _served_otherwise)
    return found


def differs(name: str, kind: str) -> str:
    """SQL over decisions `d` and questions `a`: both have a value, and it is not the same."""
    served, again = f"d.{quoted('row.' + name)}", f"a.{quoted(name)}"
    if kind == NUMBER:
        return f"coalesce(abs({served} - {again}) > 1e-9 * greatest(1, abs({again})), false)"
    return f"coalesce({served}{'::TIMESTAMP' if kind == TIME else ''} <> {again}, false)"


def _served_otherwise(scene: Scene) -> Served:
    lost = lost_inputs(scene)
    inputs = {n: k for n, k in scene.plan.inputs.items() if n not in lost}
    tests = [f"count(*) filter (where {differs(n, k)})" for n, k in inputs.items()]
    n, *counts = counted(
        scene.engine,
        f"select count(*), {', '.join(tests)} from decisions d join asks a on d.key = a.key where d.bad",
    )
    broken = {c: k for c, k in zip(inputs, counts, strict=True) if n and k / n >= SHARE}
    forms: list[tuple[tuple[str, ...], Form, Cohort]] = []
    if broken:
        frames = {c: _frame(scene, c) for c in broken}
        for one, other in combinations(broken, 2):
            if inputs[one] == inputs[other] and (form := _swap(one, other, frames)):
                forms.append(((one, other), form, cohort_of(scene, differs(one, inputs[one]))))
        swapped = {c for columns, _, _ in forms for c in columns}
        for column in broken:
            found = None if column in swapped else _form(scene, column, inputs[column], frames[column])
            if found:
                forms.append(((column,), found, cohort_of(scene, differs(column, inputs[column]))))
    return Served(n, broken, tuple(forms))


def _frame(scene: Scene, column: str) -> Mapping[str, Array]:
    """Served, recomputed, key and whether they differ, of up to SAMPLE decisions that have both."""
    kind = scene.plan.inputs[column]
    served = quoted("row." + column)
    return scene.engine.frame(
        f"select d.id, d.{served} as served, a.{quoted(column)} as again, {differs(column, kind)} as differs "
        f"from decisions d join asks a on d.key = a.key where d.{served} is not null "
        f"and a.{quoted(column)} is not null order by differs desc, hash(d.id) limit {SAMPLE}"
    )


def _swap(one: str, other: str, frames: Mapping[str, Mapping[str, Array]]) -> Form | None:
    left, right = frames[one], frames[other]
    ids, first, second = np.intersect1d(left["id"], right["id"], return_indices=True)
    changed = (left["differs"][first] > 0) | (right["differs"][second] > 0)
    if changed.sum() < ENOUGH:
        return None
    a, b = first[changed], second[changed]
    crossed = (left["served"][a] == right["again"][b]) & (right["served"][b] == left["again"][a])
    if crossed.mean() < HOLDS or not len(ids):
        return None
    return Form("column swap", f"{one} and {other} are swapped", None, {"columns": [one, other]})


def _form(scene: Scene, column: str, kind: str, frame: Mapping[str, Array]) -> Form | None:
    changed = frame["differs"] > 0
    served, again, rest = frame["served"][changed], frame["again"][changed], frame["again"][~changed]
    if kind == NUMBER:
        # the row of an as-of join may be an older one: a look at the source says more than any curve
        return (
            number_form(column, served, again, rest)
            if column not in _joined(scene)
            else _lagged(scene, column) or number_form(column, served, again, rest)
        )
    if kind == TEXT:
        return text_form(column, served, again)
    return time_form(column, served, again) if kind == TIME else None


def _joined(scene: Scene) -> dict[str, Asof]:
    return {c: j for j in scene.plan.system.asks.joins if isinstance(j, Asof) for c in j.take}


def _lagged(scene: Scene, column: str) -> Form | None:
    """Whether what was served is what the source had some fixed time before."""
    join = _joined(scene)[column]
    by = "".join(f" and s.{quoted(b)} = d.{quoted(b)}" for b in join.by)
    flag = differs(column, scene.plan.inputs[column])
    hits = []
    for hours in LAGS_H:
        equal = scene.engine.rows(
            f"select avg((d.served = s.{quoted(column)})::INT), count(distinct d.served) from (select a.*, "
            f"d.asked_at - to_hours({hours}) as then_at, d.{quoted('row.' + column)} as served from decisions d "
            f"join asks a on d.key = a.key where {flag} order by hash(d.id) limit 2000) d "
            f"asof join {quoted(join.source.name)} s on d.then_at >= s.__known{by}"
        )[0]
        hits.append((equal[0] or 0.0, equal[1] or 0, hours))
    share, levels, hours = max(hits)
    if share < HOLDS or levels < ENOUGH:
        return None
    text = f"{hours} h" if hours < 48 else f"{hours // 24} days"
    return Form("stale feature", f"{column} is what it was {text} before", None, {"lag_s": hours * 3600.0})


def _suspect(scene: Scene, columns: tuple[str, ...], form: Form, cohort: Cohort) -> Suspect:
    where = cohort.where
    undo = tuple(Change(INPUT, c, RECOMPUTED, where) for c in columns)
    if form.undo is not None:
        undo = (Change(INPUT, columns[0], form.undo, where),)
    elif form.kind == "column swap":
        undo = undo_swap(columns[0], columns[1], where)
    shown = f"d.{quoted('row.' + columns[0])} as served, a.{quoted(columns[0])} as recomputed"
    flag = differs(columns[0], scene.plan.inputs[columns[0]])
    return Suspect(
        form.kind,
        f"input {', '.join(columns)}",
        f"{form.says}{cohort.says}: {cohort.n:,} decisions, each compared with what history gives",
        f"select d.id, {shown} from decisions d join asks a on d.key = a.key where {flag}",
        undo,
        where,
        cohort.since,
        {"columns": list(columns), **form.parameters},
    )


def _ruling(name: str, scene: Scene) -> Ruling:
    found = served_otherwise(scene)
    suspects = tuple(_suspect(scene, *each) for each in found.forms if each[1].kind == name)
    if suspects:
        return Ruling(name, suspects)
    if not found.n:
        return Ruling(name, (), "none of these questions is in the sources any more, so inputs cannot be recomputed")
    if not found.differing:
        return Ruling(name, (), f"every input equals what history gives as known then, for {found.n:,} of {found.n:,}")
    others = sorted({form.kind for _, form, _ in found.forms})
    return Ruling(
        name, (), "what was served differs, but as " + ", ".join(others) if others else "what differs has no such form"
    )


def inject_value(column: str, to: Any, where: Expr | None = None) -> tuple[Change, ...]:
    """The column is served as `to`, an expression over `row.…` or a value, where the predicate holds."""
    return (Change(INPUT, column, wrap(to) if isinstance(to, Expr) else to, where),)


def inject_swap(one: str, other: str, where: Expr | None = None) -> tuple[Change, ...]:
    """Two columns of one type are served in each other's place."""
    return (Change(INPUT, one, col(f"row.{other}"), where), Change(INPUT, other, col(f"row.{one}"), where))


def undo_swap(one: str, other: str, where: Expr | None = None) -> tuple[Change, ...]:
    """Swapping is its own inverse."""
    return inject_swap(one, other, where)


def _kind(name: str) -> Kind:
    return Kind(
        name,
        KIND_TITLES[name],
        1,
        inject_swap if name == "column swap" else inject_value,
        lambda scene: _ruling(name, scene),
        undo_swap if name == "column swap" else inject_value,
    )


VALUE_KINDS: Sequence[Kind] = tuple(_kind(name) for name in KIND_TITLES)
