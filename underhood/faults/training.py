"""Faults of the training set: what was asked is not what was learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from underhood.build.outside import OUTSIDE
from underhood.build.scorer import Frame, leaves
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.faults.served import served_features
from underhood.faults.taught import in_asks, level_expr, lost_cohort, reach_of, sql_of, taught_otherwise, told
from underhood.faults.training_labels import redrawn
from underhood.plan.changes import ROUTE, ROWS, TAUGHT, UNTIL, Change
from underhood.plan.exprs import Expr, col, columns_of, shown
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted

ALIKE = 0.5  # share of trees in which two rows must share the leaf
FEW, RARE = 5, 0.05  # training rows alike, fewer than which few decisions have: then there is a hole
SAMPLE = 40
MOST = 30_000  # training rows looked at; every n-th of more, counted n times
FEW_LEVELS, MANY_LEVELS = 40, 300  # of a number and of a text whose levels may name a cohort
OFTEN = 0.02  # share of decisions that a level must have to be looked for in training
ABSENT, LEAST = 0.02, 30  # of the training rows that its share would give; and how many those must be
MATTERS = 0.05  # share of decisions from which on what a model lacks of some makes it wrong about others
BEYOND = 0.05  # of training's own width: so far outside is not the next larger value of the same kind
MISLED = 3.0  # standard errors by which what was told and what happened must differ
ENOUGH = 200  # outcomes of a cohort, to learn it from
WHOLE_DAYS = 0.9  # of all questions on the days on which it occurs: then it is a season


def inject_gap(where: Expr) -> tuple[Change, ...]:
    """The training set lacks the rows of a cohort."""
    return (Change(ROWS, "training", "left out", where),)


def undo_gap(where: Expr, action: str) -> tuple[Change, ...]:
    """Until rows like these are collected, another action is taken for them."""
    return (Change(ROUTE, "route", action, where),)


def propose_gap(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A cohort that no training row is of: history has none, or they were lost when it was drawn."""
    levels = [(c, level) for c, level, share in _levels(scene) if 0.05 <= share <= 0.5]
    if cohort is None and levels:
        column, level = levels[int(random.integers(len(levels)))]
        cohort = level_expr(scene, column, level)
    if cohort is None or scene.bundle.model["kind"] == "constant":
        return None
    changes = inject_gap(cohort) if random.random() < 0.5 else (Change(TAUGHT, "rows", 0, cohort),)
    return Injection(GAP.name, changes, (), {}, cohort, retrain=True)


def suspect_gap(scene: Scene) -> Ruling:
    """The decisions lie where the model has seen next to nothing.

    History has a cohort that training lacks; one level is frequent now and next to absent in training;
    a value lies beyond all that training holds, and what was told of it did not come true; or few training rows
    share the leaves. What all questions of a day share is a season, no cohort.
    """
    lost = _lost(scene)
    if lost is not None:
        return Ruling(GAP.name, (lost,))
    bad = served_features(scene, "bad")
    n = len(next(iter(bad.values())))
    if not n:
        return Ruling(GAP.name, (), "none of the decisions has features to compare")
    level = _absent(scene)
    if level is not None:
        return Ruling(GAP.name, (level,))
    outside = _outside(scene, bad)
    if outside is not None:
        return Ruling(GAP.name, (_suspect(scene, outside, n),))
    if scene.bundle.model["kind"] == OUTSIDE:
        says = "training holds values and levels like these; what a model made elsewhere makes of holes is not known"
        return Ruling(GAP.name, (), says)
    if scene.bundle.model["kind"] != "trees":
        return Ruling(GAP.name, (), "training holds values and levels like these, and the model is linear: no holes")
    middle, usual, some = _alike(scene, bad)
    if middle >= min(FEW, usual):
        return Ruling(GAP.name, (), f"training holds rows alike to these: {middle:,} for the middle one of {some}")
    return Ruling(
        GAP.name,
        (
            Suspect(
                GAP.name,
                "training set",
                f"the middle one of {some} decisions has only {middle} training rows alike, "
                f"{1 - RARE:.0%} of others have {usual} or more",
                "select * from decisions where bad",
                (),
                parameters={"alike": middle},
            ),
        ),
    )


def _alike(scene: Scene, bad: Frame) -> tuple[int, int, int]:
    """How many training rows share the leaves of the middle one of the bad decisions; how many those of nearly
    all others at least; of how many bad ones.
    """
    step = max(1, counted(scene.engine, "select count(*) from training")[0] // MOST)
    columns = ", ".join(f"{quoted('features.' + f)} as {quoted(f)}" for f in scene.bundle.features)
    every = f"qualify row_number() over (order by asked_at, key) % {step} = 0"
    taught = leaves(scene.bundle.model, scene.engine.frame(f"select {columns} from training {every}"))
    seen = np.ascontiguousarray(taught.T)  # a tree a row: sums over trees then run along memory
    others = served_features(
        scene, f"not bad and id in (select id from decisions order by hash(id) limit {3 * SAMPLE})"
    )
    made = []
    for frame in (bad, others):
        n = len(next(iter(frame.values())))
        some = np.linspace(0, n - 1, min(3 * SAMPLE if frame is others else SAMPLE, n)).astype(int)
        own = leaves(scene.bundle.model, {f: v[some] for f, v in frame.items()})
        shared = (np.add.reduce(seen == row[:, None], axis=0, dtype=np.uint32) for row in own)
        made.append([step * int((k >= ALIKE * len(seen)).sum()) for k in shared])
    return int(np.median(made[0])), int(np.quantile(made[1] or [0], RARE)), len(made[0])


def _lost(scene: Scene) -> Suspect | None:
    """A cohort that history had and training lacks; null if training lacks little, or not all of one cohort."""
    who, seen = lost_cohort(scene), taught_otherwise(scene)
    if who is None:
        return None
    return Suspect(
        GAP.name,
        "training set",
        f"history had {seen.missing:,} questions{who.says} with a known outcome, and none of them is in training: "
        f"the model {'never saw the like' if who.is_whole else 'saw fewer of the like'}",
        f"select count(*) as questions, count(*) filter (where key in (select key from training)) as in_training "
        f"from asks where {in_asks(scene, who.where)}",
        redrawn(),
        reach_of(scene, who.where) if who.is_whole else None,
        parameters={"training_rows": seen.missing, "rows": told(who.where)},
    )


def _levels(scene: Scene) -> list[tuple[str, str, float]]:
    """Levels that tell a cohort of decisions: input, level as text, share; once for a scene, most frequent first.

    Of inputs that features read, with few levels, and none that whole days share.
    """
    found: list[tuple[str, str, float]] = scene.once("levels", _look_at_levels)
    return found


def _look_at_levels(scene: Scene) -> list[tuple[str, str, float]]:
    read = {c for e in scene.bundle.features.values() for c in columns_of(e)}
    inputs = [(n, k) for n, k in scene.plan.inputs.items() if n in read and k in (TEXT, FLAG, NUMBER)]
    many = ["count(*) filter (where status = 'ok')"]
    many += [f"approx_count_distinct({quoted('row.' + n)})" for n, _ in inputs]
    total, *counts = counted(scene.engine, f"select {', '.join(many)} from decisions")
    made: list[tuple[str, str, float]] = []
    for (name, kind), n_levels in zip(inputs, counts, strict=True):
        if n_levels > (FEW_LEVELS if kind == NUMBER else MANY_LEVELS):
            continue
        column = quoted("row." + name)
        rows = scene.engine.rows(
            f"select v::VARCHAR, sum(k), sum(k * k / n) / sum(k) from (select {column} as v, count(*) as k, "
            f"sum(count(*)) over (partition by asked_at::DATE) as n from decisions where status = 'ok' "
            f"group by v, asked_at::DATE) where v is not null group by v having sum(k) >= {OFTEN} * {total}"
        )
        made += [(name, str(v), float(k) / total) for v, k, within in rows if within < WHOLE_DAYS]
    return sorted(made, key=lambda m: -m[2])


def _taught_by(scene: Scene, cohort: str) -> tuple[tuple[Change, ...], bool]:
    """The model learns again once ENOUGH outcomes of the cohort (SQL over decisions) are known; nothing if never.

    And whether most of the decisions in question come after that.
    """
    rows = scene.engine.rows(
        f"select known_at from decisions where {cohort} and label is not null order by known_at limit 1 offset {ENOUGH}"
    )
    meant = "bad" if scene.n_bad else "true"
    middle, last = scene.engine.rows(
        f"select quantile_disc(asked_at, 0.5) filter (where {meant}), max(asked_at) from decisions"
    )[0]
    if not rows or rows[0][0] >= last:
        return (), False
    return (Change(UNTIL, "training until", str(rows[0][0])),), rows[0][0] < middle


def _absent(scene: Scene) -> Suspect | None:
    """The level that is frequent now and next to absent in training, of several the one that most bad ones have."""
    best: tuple[int, Suspect] | None = None
    levels = [(name, level, share, level_expr(scene, name, level)) for name, level, share in _levels(scene)]
    (rows, *taught_of), (n_bad, *bad_of) = (
        counted(scene.engine, f"select count(*){_counts(scene, levels)} from {view}")
        for view in ("training", "decisions where bad")
    )
    absent = [
        (name, level, share, where, taught, bad)
        for (name, level, share, where), taught, bad in zip(levels, taught_of, bad_of, strict=True)
        if taught <= ABSENT * rows * share and rows * share >= LEAST
    ]
    # where most of a column is new, it has moved for everyone: that is no cohort
    moved = {n for n, *_ in absent if sum(share for m, _, share, *_ in absent if m == n) > 0.5}
    for name, level, share, where, taught, bad in absent:
        sql = sql_of(scene, where)
        if name in moved:
            continue
        is_elsewhere = 2 * bad < n_bad
        if (is_elsewhere and share < MATTERS) or (best is not None and bad <= best[0]):
            continue
        spare, (later, in_time) = spare_action(scene), _taught_by(scene, sql)
        # rows to learn from help everyone, but only once there are some; a route helps the cohort, and none other
        undo = undo_gap(where, spare) if spare and not (is_elsewhere or in_time) else later
        best = (
            bad,
            Suspect(
                GAP.name,
                "training set",
                f"{share:.0%} of the decisions have {name} = {level}, and {taught:,} of the {rows:,} training rows: "
                "the model never saw the like",
                f"select 'training' as side, count(*) filter (where {sql}) as n, count(*) as of from training "
                f"union all select 'decisions', count(*) filter (where {sql}), count(*) from decisions",
                undo,
                reach_of(scene, where),
                parameters={"training_rows": taught, "share": round(share, 3), "rows": told(where)},
            ),
        )
    return best[1] if best is not None else None


def _counts(scene: Scene, levels: Sequence[tuple[str, str, float, Expr]]) -> str:
    """SQL of how many rows have each level, all of them in one pass."""
    return "".join(f", count(*) filter (where {sql_of(scene, where)})" for *_, where in levels)


def _outside(scene: Scene, bad: Frame) -> tuple[Expr, int] | None:
    """The predicate of a value that training never holds and most of the decisions have, and how many; null if none.

    A level that was never seen says it all. Numbers grow in every good year and every hot week: one beyond all
    of training counts if what was told of such decisions did not come true.
    """
    found: list[tuple[int, Expr]] = []
    for name, kind in scene.bundle.feature_types.items():
        feature, column = col(f"features.{name}"), quoted(f"features.{name}")
        if kind == NUMBER:
            low, high = scene.engine.rows(f"select min({column}), max({column}) from training")[0]
            if low is None:
                continue
            found += [
                (int((bad[name] > high + BEYOND * (high - low)).sum()), feature > high),
                (int((bad[name] < low - BEYOND * (high - low)).sum()), feature < low),
            ]
        elif kind == TEXT:
            held = {v for (v,) in scene.engine.rows(f"select distinct {column} from training")}
            unseen = [v for v in bad[name] if v is not None and v not in held]
            found.append((len(unseen), feature.isin(sorted(set(unseen)))))
    most = [f for f in sorted(found, key=lambda f: -f[0]) if f[0] >= 0.5 * len(next(iter(bad.values())))]
    return next(((where, n) for n, where in most if where.op == "isin" or _is_misled(scene, where)), None)


def _is_misled(scene: Scene, where: Expr) -> bool:
    """Whether what was told of the decisions that a predicate selects is not what happened, by more than chance."""
    gap, spread = counted(
        scene.engine,
        "select sum(label::INT - score), sum(score * (1 - score)) from decisions "
        f"where status = 'ok' and label is not null and {sql_of(scene, where)}",
    )
    return bool(abs(gap) > MISLED * max(1.0, float(np.sqrt(spread))))


def _suspect(scene: Scene, outside: tuple[Expr, int], n: int) -> Suspect:
    where, n_outside = outside
    spare = spare_action(scene)
    return Suspect(
        GAP.name,
        "training set",
        f"{n_outside:,} of {n:,} decisions have {shown(where).removeprefix('features.')}, which no training row has: "
        "the model never saw the like",
        "select * from decisions where bad",
        undo_gap(where, spare) if spare else (),
        where,
        parameters={"outside": shown(where), "decisions": n_outside},
    )


def spare_action(scene: Scene) -> str:
    """An action that has a price but no cut: one that only people and patches choose; empty if there is none."""
    used = scene.bundle.policy.actions
    return next((a for a in scene.plan.system.goal.costs.of if a not in used), "")


GAP = Kind(
    "training gap",
    "the model never saw the like",
    3,
    inject_gap,
    suspect_gap,
    undo_gap,
    propose_gap,
    needs=("inputs", "training table"),
)
