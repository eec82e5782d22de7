"""What is so of a struck record: whom the fault reached, what it changed, and whether an oracle can tell it at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from underhood.build.trainset import settle_predicate
from underhood.plan.changes import (
    BUNDLE,
    CALIBRATION,
    FEATURE,
    INPUT,
    LABEL,
    OUTCOME,
    ROUTE,
    ROWS,
    SCORE,
    SOURCE,
    TAUGHT,
    THRESHOLD,
    TRAFFIC,
    UNTIL,
    Change,
)
from underhood.plan.exprs import Expr, columns_of
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.repair.drill import Struck

SIGNIFICANT = 3.3  # z of p = 0.001
CONTRADICT = {INPUT, FEATURE, SCORE, BUNDLE, UNTIL, THRESHOLD, ROUTE, CALIBRATION}  # parts that replay tells
HIDDEN = ("label", "known_at")  # what a change of outcomes changes, beside the facts
# What an oracle compares of outcomes: words, and a number of each decision (null: not of it).
OUTCOMES = {
    "what happens where such scores are told": "label::INT - score",
    "for how many it is known what happened": "(label is not null)::INT",
    "what becomes known": "label::INT",
    "whether it happens where high scores are told": "(2 * label::INT - 1) * (score - 0.5)",
}

# decisions that a fault took away; the clone has only those of one bundle
GONE = "select * from sound where id not in (select id from decided) and key in (select key from asks) and bundle = "
GONE += "(select bundle from sound group by bundle order by count(*) desc, bundle limit 1)"


Line = dict[str, Any]


def told_of(struck: Struck) -> Line:
    """What was struck, for people who read a failure."""
    injection = struck.injection
    others = struck.scene.engine.rows(
        "select count(*) from decided d left join sound s on d.id = s.id where s.id is null "
        "or d.label is distinct from s.label or d.known_at is distinct from s.known_at"
    )[0][0]
    gone = struck.scene.engine.rows(f"select count(*) from ({GONE})")[0][0]
    return {
        "says": "; ".join(map(str, injection.changes[:3])),
        "columns": list(injection.columns),
        "parameters": {k: shown(v) for k, v in injection.parameters.items()},
        "cohort": None if injection.cohort is None else str(injection.cohort),
        "since": f"{struck.since}",
        "retrain": injection.retrain,
        "turned": struck.turned,
        "others": int(others) + int(gone),
        "named": list(struck.named),
    }


def truth_of(struck: Struck) -> tuple[set[str], set[str], list[str]]:
    """Ids of decisions that the fault reached, ids of those that it changed, and how an oracle tells it.

    Reached: by predicate, span and share, whether or not anything came of it. Changed: anything that
    is visible of the decision differs. The oracle knows where to look, but not the sound record.
    """
    engine, scene = struck.scene.engine, struck.scene
    reached = {i for (i,) in engine.rows(f"select id from decided where {_reached(struck)}")}
    if struck.reach.share == 1:
        # no predicate describes the keys that chance picks: the cohort that they are picked from is right
        meant = {i for (i,) in engine.rows(f"select id from decided where {_reached(struck, ('key',))}")}
        reached = meant if len(meant) > len(reached) else reached
    columns = [f"row.{n}" for n in scene.plan.inputs] + [f"features.{n}" for n in scene.bundle.features]
    columns += ["score", "action", "label", "known_at", *[f"facts.{f}" for f in scene.plan.facts]]
    differs = " or ".join(f"d.{quoted(c)} is distinct from s.{quoted(c)}" for c in columns)
    changed = {
        i for (i,) in engine.rows(f"select d.id from decided d left join sound s on d.id = s.id where {differs}")
    }
    engine.texts("changed", "id", sorted(changed))
    if gone := {i for (i,) in engine.rows(f"select id from ({GONE})")}:
        return gone, gone, ["decisions are missing"]
    return reached, changed, _oracle(struck, bool(changed))


def _reached(struck: Struck, without: Sequence[str] = ()) -> str:
    """SQL over `decided`: whether the fault reached a decision, as far as its predicates still read what they did.

    Parts of a predicate that read a column of `without` are left out.
    """
    injection, scene, reach = struck.injection, struck.scene, struck.reach
    tests = []
    for change in injection.changes:
        where = change.where if change.where is not None else injection.cohort
        # what the model learned from a span of history, it does ever after
        gone = [*without, *(["asked_at"] if injection.retrain else [])]
        if change.part == OUTCOME and where is not None:
            # a label that was turned or hidden is not what the predicate read
            gone += [c for c in columns_of(where) if c in HIDDEN or c.startswith("facts.")]
        where = _without(where, gone) if where is not None else None
        readable = where is None or not any(c.partition(".")[2] == change.name for c in columns_of(where))
        where = where if readable else injection.cohort
        tests.append("true" if where is None else f"coalesce({to_sql(settle_predicate(scene.plan, where))}, false)")
    late = [] if injection.retrain else [f"asked_at >= {sql_value(struck.since)}"]
    if reach.share < 1:
        late.append(f"hash(key || {sql_value(str(reach.seed))}) % 100000 < {round(reach.share * 100000)}")
    return " and ".join([f"({' or '.join(tests) or 'true'})", *late])


def _without(where: Expr, columns: Sequence[str]) -> Expr | None:
    """A predicate without the parts that read one of these columns; null if nothing is left."""
    if where.op == "and":
        kept = [part for arg in where.args if (part := _without(arg, columns)) is not None]
        return Expr("and", tuple(kept)) if len(kept) == 2 else kept[0] if kept else None
    return None if set(columns) & columns_of(where) else where


def _oracle(struck: Struck, is_changed: bool) -> list[str]:
    """Which views of the struck record tell it from a sound one: contradictions first, then before against after.

    What contradicts itself needs no comparison. What does not must have moved: the values of a column, who asks,
    what happens where such scores were told, for how many that is known; each where the fault is, at its onset,
    by more than chance moves anything (SIGNIFICANT).
    """
    injection = struck.injection
    parts = {c.part for c in injection.changes}
    # rows that are missing or weighed otherwise at random are no gap, and no look at the record could find one
    if not is_changed or (injection.retrain and struck.reach.share < 1 and parts == {ROWS}):
        return []
    if injection.retrain:
        is_hidden = struck.reach.share < 1 and TAUGHT not in parts
        return ["the training set holds it"] if not is_hidden or _shows_in_training(struck) else []
    if parts & CONTRADICT:
        return ["the record contradicts itself"]
    moved = [c for c in injection.columns if _moved(struck, c)] if SOURCE in parts else []
    if moved or parts == {SOURCE}:
        return moved
    if any(c.name == "mislabelled" for c in injection.changes) and struck.scene.plan.facts:
        return ["labels contradict their facts"]
    traffic = [c for c in injection.changes if c.part == TRAFFIC]
    if any(c.name != "fewer" for c in traffic):
        return ["the same question stands there twice, or one that nobody asked"]
    where = _cohort(struck)
    told = [f"who asks: {change.where}" for change in traffic if _fewer(struck, change)]
    told += [says for says, value in OUTCOMES.items() if _is_told(struck, value, where)]
    return told


def _is_told(struck: Struck, value: str, where: str) -> bool:
    """Whether a mean moved at the onset by more than chance, and by so much more than it did in the sound record.

    What the world does there anyway is no sign of a fault: a canary of six outcomes would be told by a season.
    """
    z, anyway = _z(struck, value, where), _z(struck, value, where, "sound")
    return abs(z) >= SIGNIFICANT and abs(z - anyway) >= SIGNIFICANT


def _shows_in_training(struck: Struck) -> bool:
    """Whether rows that chance picked, wrong in history as well, make training other than it would be by chance.

    Nothing contradicts them, and no look knows their keys: so they must move the share of positives, how the values
    of a column go with the label, or its decimals. A definition is one for all rows; chance picks none of it.
    """
    share, seed = round(struck.reach.share * 100000), sql_value(str(struck.reach.seed))
    picked = f"hash(key || {seed}) % 100000 < {share}"
    for change in struck.injection.changes:
        if change.part in (LABEL, ROWS):
            continue
        where = "true" if change.where is None else to_sql(settle_predicate(struck.scene.plan, change.where))
        values = ["label::INT"]
        if change.part == SOURCE and struck.scene.plan.inputs.get(change.name) == "number":
            values += _of_number(struck, quoted("row." + change.name))
        means = ", ".join(f"avg({v}), avg({v}) filter (where not p), var_pop({v}) filter (where not p)" for v in values)
        rows = f"select *, {picked} as p from training where coalesce({where}, false)"
        n, *found = struck.scene.engine.rows(f"select count(*), {means} from ({rows})")[0]
        for every, others, spread in zip(found[::3], found[1::3], found[2::3], strict=True):
            if every is not None and others is not None:
                apart = abs(every - others)
                if apart > 1e-9 and apart >= SIGNIFICANT * (spread / n) ** 0.5:
                    return True
    return False


def _of_number(struck: Struck, name: str) -> list[str]:
    """What a look can read of a number beside the label: in which part of its range it lies, and its decimals."""
    cuts = struck.scene.engine.rows(f"select quantile_cont({name}, [0.1, 0.25, 0.5, 0.75, 0.9]) from training")[0][0]
    sides = [f"coalesce({name} > {c!r} and {so}, false)::INT" for c in cuts or () for so in ("label", "not label")]
    finer = [f"coalesce(abs({name} * {10**d} - round({name} * {10**d})) > 1e-6, false)::INT" for d in range(4)]
    return sides + finer


def _cohort(struck: Struck) -> str:
    """SQL of whom the fault touches, without what it changed itself: an oracle does not read that any more."""
    parts = [
        _without(w, [c for c in columns_of(w) if c in HIDDEN or c.startswith("facts.")])
        for w in [c.where for c in struck.injection.changes] or [struck.injection.cohort]
        if w is not None
    ]
    # its span begins at the onset, so time is no part of the cohort
    timeless = [part for p in parts if p is not None and (part := _without(p, ["asked_at"])) is not None]
    tests = [to_sql(settle_predicate(struck.scene.plan, p)) for p in timeless]
    return " or ".join(f"coalesce({t}, false)" for t in tests) or "true"


def _fewer(struck: Struck, change: Change) -> bool:
    """Whether those who stay away are a smaller share of all who ask than they were."""
    where = "true" if change.where is None else to_sql(settle_predicate(struck.scene.plan, change.where))
    return abs(_z(struck, f"coalesce({where}, false)::INT", "true")) >= SIGNIFICANT


def _z(struck: Struck, value: str, where: str, table: str = "decided") -> float:
    """How far the mean of a value rises at the onset, in standard errors; 0 if one side is empty."""
    late = f"asked_at >= {sql_value(struck.since)}"
    n, one, other, v1, v2, m = struck.scene.engine.rows(
        f"select count(v) filter (where not late), avg(v) filter (where not late), avg(v) filter (where late), "
        f"var_pop(v) filter (where not late), var_pop(v) filter (where late), count(v) filter (where late) from "
        f"(select {value} as v, {late} as late from {table} where status = 'ok' and ({where}))"
    )[0]
    if not n or not m:
        return 0.0
    spread = (v1 / n + v2 / m) ** 0.5
    return (other - one) / spread if spread > 0 else 1e9 * float(np.sign(other - one))


def _moved(struck: Struck, column: str) -> bool:
    """Whether a column that is wrong in history too is told apart: its values before against after, where it holds."""
    if column not in struck.scene.plan.inputs:
        return True
    cohort, late = struck.injection.cohort, f"asked_at >= {sql_value(struck.since)}"
    where = "true" if cohort is None else to_sql(settle_predicate(struck.scene.plan, cohort))
    if cohort is not None and f"row.{column}" in columns_of(cohort):
        where = "true"
    name = quoted(f"row.{column}")
    number = struck.scene.plan.inputs[column] == "number"
    cut = f"select quantile_cont({name}, [0.1, 0.25, 0.5, 0.75, 0.9]) from decided where not {late}"
    bins = struck.scene.engine.rows(cut)[0][0] if number else None
    bucket = " + ".join(f"({name} > {b!r})::INT" for b in bins) if bins else name
    rows = struck.scene.engine.rows(
        f"select coalesce(({bucket})::VARCHAR, '-'), count(*) filter (where not {late}), "
        f"count(*) filter (where {late}) from decided where {where} group by 1"
    )
    before, after = (np.array([r[n] for r in rows], dtype=float) for n in (1, 2))
    if not before.sum() or not after.sum():
        return True
    pooled = (before + after) / (before.sum() + after.sum())
    spread = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12) * (1 / before.sum() + 1 / after.sum()))
    return bool((np.abs(before / before.sum() - after / after.sum()) / spread).max() >= SIGNIFICANT)


def shown(value: Any) -> Any:
    """A parameter as a line keeps it."""
    return value if isinstance(value, (int, float, str, bool, list, type(None))) else str(value)
