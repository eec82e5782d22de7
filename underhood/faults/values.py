"""An input is served changed, row by row: other unit, one value for all, swapped, shifted, rounded, renamed, stale.

Each kind is a closed form between what was served and what history, as known
when asked, gives for the same question. What has no closed form is left to the
kind "skew". The names are those of the catalogue in docs/faults.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from underhood.build.scorer import Array
from underhood.build.trainset import settle_predicate
from underhood.faults.cohorts import Cohort, cohort_of
from underhood.faults.extent import extent_of
from underhood.faults.feeds import FEED, KEYS, emptied, lost_inputs, part_of
from underhood.faults.forms import ENOUGH, HOLDS, Form, number_form, text_form, time_form
from underhood.faults.kinds import Kind, Ruling, Scene, Suspect, counted
from underhood.faults.moved import moved_values
from underhood.faults.moved_drills import propose
from underhood.faults.moved_shown import Moved
from underhood.faults.moved_texts import text_moves
from underhood.plan.changes import INPUT, RECOMPUTED, Change
from underhood.plan.exprs import Expr, col, columns_of, when, wrap
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.plan.steps import Asof

SHARE = 0.005  # below it a difference touches too few of the decisions in question to explain a complaint
SAMPLE = 20_000
MISSING_VALUES = "missing values"
STANDS_FOR = ("category rename", "category split", "category spelling")  # kinds of new levels in the place of old ones
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
    "category split": "one level comes as several",
    "new level": "a level comes that never was",
    "decimal comma": "decimal marks are overlooked",
    "frozen column": "a column has stopped at one value",
    "missing values": "values are missing at the source",
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
    lost = {*lost_inputs(scene), *_missed_by(scene)}
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
                cohort = cohort_of(scene, differs(one, inputs[one]), struck=tuple(broken))
                forms.append(((one, other), form, cohort))
        for column in broken:
            if any(column in columns for columns, _, _ in forms):
                continue
            cohort = cohort_of(scene, differs(column, inputs[column]), struck=tuple(broken))
            # by a level that itself came wrong nobody else would be in the cohort
            by_itself = cohort.where is not None and columns_of(cohort.where) & {f"row.{c}" for c in broken}
            found = _form(scene, column, inputs[column], _frame(scene, column, None if by_itself else cohort.where))
            columns: tuple[str, ...] = (column,)
            if found is None and (copied := _copied(scene, column)):
                columns, found = copied
            if found:
                can = _can_show(column, found)
                if can:
                    cohort = cohort_of(scene, differs(column, inputs[column]), can, tuple(broken))
                forms.append((columns, found, cohort))
    return Served(n, broken, tuple(forms))


def _missed_by(scene: Scene) -> frozenset[str]:
    """The keys of joins that miss: how they are written is told with the join."""
    return frozenset(c for e in emptied(scene) if e.how == KEYS for c in e.by)


def _can_show(column: str, form: Form) -> str:
    """SQL over questions `a`: the values that a form changes at all; empty if that is any of them."""
    name, told = f"a.{quoted(column)}", form.parameters
    if isinstance(told.get("levels"), Mapping):
        return f"{name} in ({', '.join(sql_value(str(level)) for level in told['levels'])})"
    if form.kind == "unit change" and "offset" not in told:
        return f"{name} <> 0"
    if form.kind == "decimal comma":
        return f"{name} <> round({name})"
    if form.kind == "precision loss" and "step" in told:
        off = f"abs({name} / {told['step']!r} - round({name} / {told['step']!r}))"
        return f"{off} > 1e-9 * greatest(1, abs({name} / {told['step']!r}))"
    return ""


def _frame(scene: Scene, column: str, where: Expr | None = None) -> Mapping[str, Array]:
    """Served, recomputed, key and whether they differ, of up to SAMPLE decisions that have both."""
    kind = scene.plan.inputs[column]
    served = quoted("row." + column)
    inside = "true" if where is None else to_sql(settle_predicate(scene.plan, where))
    return scene.engine.frame(
        f"select d.id, d.{served} as served, a.{quoted(column)} as again, {differs(column, kind)} as differs, d.inside "
        f"from (select *, coalesce({inside}, false) as inside from decisions) d join asks a on d.key = a.key "
        f"where d.{served} is not null "
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


def _copied(scene: Scene, column: str) -> tuple[tuple[str, ...], Form] | None:
    """Whether another column of the question was served in the place of this one, and this one in its place or nowhere.

    Empty values show only here: where one of two that are swapped is empty, the other is lost.
    """
    kind = scene.plan.inputs[column]
    others = [c for c, k in scene.plan.inputs.items() if k == kind and c != column]
    if not others or kind == FLAG:
        return None
    served, again = f"d.{quoted('row.' + column)}", f"a.{quoted(column)}"
    tests = [f"count(*) filter (where {served} = a.{quoted(c)})" for c in others]
    tests += [f"count(*) filter (where d.{quoted('row.' + c)} is not distinct from {again})" for c in others]
    n, values, *equal = counted(
        scene.engine,
        f"select count(*), count(distinct {served}), {', '.join(tests)} "
        f"from decisions d join asks a on d.key = a.key where {differs(column, kind)}",
    )
    most = max(range(len(others)), key=lambda i: equal[i])
    if values < ENOUGH or equal[most] < HOLDS * n:
        return None
    other = others[most]
    if equal[len(others) + most] >= HOLDS * n:
        return (column, other), Form("column swap", f"{column} and {other} are swapped")
    return (column,), Form("column swap", f"{other} stands in the place of {column}", None, {"by": other})


def _form(scene: Scene, column: str, kind: str, frame: Mapping[str, Array]) -> Form | None:
    changed = frame["differs"] > 0
    served, again, rest = frame["served"][changed], frame["again"][changed], frame["again"][~changed]
    among = frame["again"][~changed & (frame["inside"] > 0)]  # of the same cohort and span: they tell most
    beside = among if (frame["inside"] > 0).any() else rest
    rest = among if len(among) >= ENOUGH else rest
    if kind == NUMBER:
        # the row of an as-of join may be an older one: a look at the source says more than any curve
        return (
            number_form(column, served, again, rest, beside)
            if column not in _joined(scene)
            else _lagged(scene, column) or number_form(column, served, again, rest, beside)
        )
    if kind == TEXT:
        # names that go round among whom a fault touches: what others are called says nothing of theirs
        return text_form(column, served, again, among, frame["again"][~changed])
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
            f"select avg((d.__served = s.{quoted(join.take[column])})::INT), count(distinct d.__served) from "
            f"(select a.*, d.asked_at - to_hours({hours}) as __then, d.{quoted('row.' + column)} as __served "
            f"from decisions d join asks a on d.key = a.key where {flag} order by hash(d.id) limit 2000) d "
            f"asof join {quoted(join.source.name)} s on d.__then >= s.__known{by}"
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
    elif len(columns) == 2:
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


def _reach(scene: Scene, moved: Moved) -> tuple[Expr | None, str, Expr | None]:
    """Whom a move touches, and in words: where single rows show it, the narrowest cohort of theirs (null: by no input).

    Samples are compared by a few columns only; what shows in a row may be theirs whom any input names.
    """
    span = moved.span
    if moved.rows is None or not moved.is_partial:
        return moved.where, moved.whom.says, None
    inside, shows, whom = (
        to_sql(settle_predicate(scene.plan, e)) if e is not None else "true"
        for e in (span, moved.rows, moved.whom.where)
    )
    rows = scene.engine.frame(
        f"select id, coalesce({shows}, false) as shows, coalesce({whom}, false) as meant from decisions "
        f"where ({inside}) and status = 'ok' order by id"
    )
    some, meant = rows["shows"] > 0, rows["meant"] > 0
    found = extent_of(scene, rows["id"], some, np.ones(len(some), dtype=bool), skip=moved.columns)
    if found.cohort is None or found.n < ENOUGH:
        is_everywhere = not meant.all() and meant.any() and some[~meant].mean() > 0.5 * some[meant].mean()
        return (span & moved.rows, "", None) if is_everywhere else (moved.where, moved.whom.says, None)
    among = span & found.cohort
    says = f" where{found.says.rpartition(' where')[2]}"
    return (among if found.is_whole else among & moved.rows), says, found.cohort


def _moves(scene: Scene) -> tuple[Moved, ...]:
    """What moved, new levels as what they stand for in the cohort that has them."""
    made: tuple[Moved, ...] = scene.once(
        "moves by name", lambda scene: tuple(_named_within(scene, m) for m in moved_values(scene).moves)
    )
    return made


def _named_within(scene: Scene, moved: Moved) -> Moved:
    """A move to new levels as old ones of the cohort that any input names: among all rows these are hardly missed."""
    cohort = _reach(scene, moved)[2] if moved.form.kind == "new level" else None
    if cohort is None:
        return moved
    name, inside = moved.columns[0], to_sql(settle_predicate(scene.plan, cohort))
    late = f"asked_at >= {sql_value(moved.since)}"
    rows = scene.engine.rows(
        f"select {quoted('row.' + name)}, count(*) filter (where ({inside}) and not {late}), count(*) filter (where "
        f"({inside}) and {late}), count(*) filter (where not {late}) from decisions where status = 'ok' "
        f"and {quoted('row.' + name)} is not null group by 1 order by 1"
    )
    levels = [str(level) for level, *_ in rows]
    before, after = (np.repeat(np.arange(len(rows)), [r[n] for r in rows]).astype(float) for n in (1, 2))
    if min(len(before), len(after)) < ENOUGH:
        return moved
    found = text_moves(name, before, after, levels, np.array([float(r[3]) for r in rows]))
    shown = {str(level) for level in moved.form.parameters["levels"]}
    held = [f for f in found if f.form.kind in STANDS_FOR and shown <= set(_news(f.form))]
    return replace(moved, form=held[0].form, rows=held[0].rows) if held else moved


def _news(form: Form) -> list[str]:
    """The new levels of a form that says what they stand for."""
    return [v for new in form.parameters.get("levels", {}).values() for v in ([new] if isinstance(new, str) else new)]


def _moved_suspect(scene: Scene, moved: Moved) -> Suspect:
    """A suspect whose undo is over the row: history is wrong too."""
    form, first = moved.form, moved.columns[0]
    if scene.plan.inputs[first] == FLAG:
        # numbers stand for flags where samples are compared
        is_set, value = col(f"row.{first}"), form.parameters.get("value")
        moved = replace(moved, rows=None if value is None else is_set if value else ~is_set)
    where, whom, _ = _reach(scene, moved)
    undo: tuple[Change, ...] = ()
    if form.kind == "column swap":
        undo = undo_swap(moved.columns[0], moved.columns[1], where)
    elif form.undo is not None or moved.usual is not None:
        row = col(f"row.{first}")
        back, rows = form.undo if form.undo is not None else wrap(moved.usual), moved.rows
        if scene.plan.inputs[first] == FLAG:
            back, rows = wrap(bool(moved.usual)), None
        undo = (Change(INPUT, first, back if rows is None else when(rows, back, row), where),)
    since = f"{moved.since:%Y-%m-%d %H:%M}"
    until = f" until {moved.until:%Y-%m-%d %H:%M}" if moved.until else ""
    side = quoted(f"row.{first}")
    meant = to_sql(settle_predicate(scene.plan, where)) if where is not None else "true"
    rivals = f"; {', '.join(moved.rivals)} fits less well" if moved.rivals else ""
    return Suspect(
        form.kind,
        f"source of {', '.join(moved.columns)}",
        f"{form.says}{whom} since {since}{until} UTC: {moved.n:,} decisions, and before it was not so "
        f"({moved.explained:.0%} of what differs is explained{rivals})",
        f"select id, asked_at, {side} from decisions where {meant} order by asked_at",
        undo,
        where,
        str(moved.since),
        {"columns": list(moved.columns), **form.parameters},
    )


def _without_feeds(scene: Scene, suspects: list[Suspect]) -> list[Suspect]:
    """Without columns that are gone together with all that comes from the same feed: that is a missing feed.

    A column of a feed that is told as missing is that one's child, whether or not all of its siblings moved.
    """
    gone = {str(c) for s in suspects for c in s.parameters["columns"]}
    feeds = [set(j.take) for j in scene.plan.system.asks.joins if isinstance(j, Asof)]
    read = {c for e in scene.bundle.features.values() for c in columns_of(e)}
    whole = {c for feed in feeds if feed & read and feed & read <= gone for c in feed}
    told = {e.part for e in emptied(scene) if e.how == FEED}
    whole |= {c for c in gone if part_of(scene, c) in told}
    return [s for s in suspects if not whole & set(s.parameters["columns"])]


def _ruling(name: str, scene: Scene) -> Ruling:
    found = served_otherwise(scene)
    moved = moved_values(scene)
    suspects = [_suspect(scene, *each) for each in found.forms if each[1].kind == name]
    told = {*found.differing, *_missed_by(scene), *(lost_inputs(scene) if name == MISSING_VALUES else ())}
    suspects += [_moved_suspect(scene, m) for m in _moves(scene) if m.form.kind == name and not told & _reads(m)]
    if name == MISSING_VALUES:
        suspects = _without_feeds(scene, suspects)
    if suspects:
        return Ruling(name, tuple(suspects))
    quiet = f"; none moved like that among {moved.rows:,} rows of history and decisions" if moved.rows else ""
    quiet = f"; {moved.why}" if moved.why else quiet
    if not found.n:
        says = "none of these questions is in the sources any more, so inputs cannot be recomputed"
    elif not found.differing:
        says = f"every input equals what history gives as known then, for {found.n:,} of {found.n:,}"
    else:
        others = sorted({form.kind for _, form, _ in found.forms})
        says = "what was served differs, but as " + ", ".join(others) if others else "what differs has no such form"
    return Ruling(name, (), says + quiet)


def _reads(moved: Moved) -> set[str]:
    """The columns that moved, and that by which its cohort is told: who is in it says nothing if that came wrong."""
    by = columns_of(moved.whom.where) if moved.whom.where is not None else ()
    return {*moved.columns, *(c.removeprefix("row.") for c in by)}


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
        None if name == "stale feature" else partial(propose, name),
    )


VALUE_KINDS: Sequence[Kind] = tuple(_kind(name) for name in KIND_TITLES)
