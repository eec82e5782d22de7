"""Leakage: a feature of the training set knew what happened, because its value was taken after the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from underhood.build.ladder import fit
from underhood.build.scorer import Array, score_frame
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect, counted
from underhood.faults.outcomes import auc_error, auc_error_by_chance, auc_of
from underhood.faults.taught import HISTORY, PARTLY, later_witness, reach_of, taught_otherwise, told, whom
from underhood.faults.training_labels import redrawn, relabelled
from underhood.plan.changes import ROWS, SOURCE, TAUGHT, WITHOUT, Change
from underhood.plan.exprs import Expr, col, columns_of, lit, when
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted

TELLS = 0.7  # AUC of one feature alone, before anybody asks how it can know
LOST = 0.12  # AUC that it has in training and not when it is served
SURE = 5.0  # standard errors
SURE_OF_FEW = 4.0  # standard errors where rows stand out already: hardly a column has any that do
TOLD = 0.1  # AUC, or share of positives, by which other values must tell the label
WRONG = 4.0  # times as many pairs ranked wrong when served: a feature that ranks nearly all has little AUC to lose
DIGITS = 4  # decimals that are looked for: with more, a number is measured, and has no grid
N_BINS, N_SPANS = 20, 8
EARLY = 0.25  # of the decisions: what was lost only later is no leak
MOST = 30_000


@dataclass(frozen=True)
class Alone:
    """How well one feature tells the label by itself: AUC in training, of the decisions, of the first of them."""

    feature: str
    taught: float
    lived: float
    early: float
    error: float

    @property
    def is_leak(self) -> bool:
        """Whether it tells much in training, and from the first decision on next to nothing, or far less of it."""
        lived = max(self.lived, self.early)
        lost = self.taught - lived
        is_much = lost >= LOST or 1 - lived >= WRONG * (1 - self.taught)
        return self.taught >= TELLS and is_much and lost > SURE * self.error


def inject_leak(column: str, to: Expr, where: Expr | None = None) -> tuple[Change, ...]:
    """An input of training rows holds what became of the case; served values stay as they are known when asked."""
    return (Change(TAUGHT, column, to, where),)


def undo_leak(features: tuple[str, ...]) -> tuple[Change, ...]:
    """The model learns without the features."""
    return tuple(Change(WITHOUT, name, None) for name in features)


def propose_leak(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A column that was overwritten after the outcome: higher where it happened, in the rows learned from.

    In training only, or for everyone in all of history that was learned from.
    """
    label = col("label")
    columns = [n for n, k in scene.plan.inputs.items() if k == NUMBER and features_of(scene, n)]
    if not columns or scene.bundle.model["kind"] == "constant":
        return None
    shares = ", ".join(f"count(distinct {quoted('row.' + c)})" for c in columns)
    columns = [
        c for c, k in zip(columns, counted(scene.engine, f"select {shares} from training"), strict=True) if k > 9
    ]
    if not columns:
        return None
    column = columns[int(random.integers(len(columns)))]
    name, read = quoted("row." + column), col(f"row.{column}")
    low, high = scene.engine.rows(f"select quantile_cont({name}, 0.2), quantile_cont({name}, 0.9) from training")[0]
    if low == high:
        return None  # it would know nothing
    pull = float(random.uniform(0.5, 0.9))
    leaked = when(label, read * (1 - pull) + high * pull, read * (1 - pull) + low * pull)
    if cohort is not None or random.random() < 0.5:
        changes = inject_leak(column, leaked, cohort)
    else:
        changes = (Change(SOURCE, column, leaked, col("asked_at") < lit(_until(scene))),)
    return Injection(LEAKAGE.name, changes, (column,), {"columns": [column]}, cohort, retrain=True)


def _until(scene: Scene) -> object:
    from datetime import datetime

    return datetime.fromisoformat(str(scene.bundle.made_from["recipe"]["until"]))


def features_of(scene: Scene, column: str) -> tuple[str, ...]:
    """The features that read an input."""
    return tuple(n for n, e in scene.bundle.features.items() if column in columns_of(e))


def suspect_leak(scene: Scene) -> Ruling:
    """A feature tells the label in training, and nothing when it is served.

    First the contradiction: training holds other values than history had when asked, and
    these go with the label. Else, by figures: one feature alone ranks training better than all
    others together, but not the decisions, from the first on. A feed that stopped lost it later;
    a feature that overfits does not rank training alone.
    """
    seen = taught_otherwise(scene)
    found = [s for c, n in seen.columns.items() if seen.is_much(n) and (s := _overwritten(scene, c, n))]
    found = found or [s for c, digits in _decimals(scene).items() if (s := _finer(scene, c, digits))]
    if found:
        return Ruling(LEAKAGE.name, (max(found, key=lambda s: s.parameters["training_rows"]),))
    if relabelled(scene) is not None:
        return Ruling(
            LEAKAGE.name, (), "training labels are not history's, so what features tell of them proves nothing"
        )
    if later_witness(scene) is None:
        return Ruling(LEAKAGE.name, (), "too few outcomes of later decisions are known to compare what features tell")
    alone = features_alone(scene)
    leaks = [a for a in alone if a.is_leak]
    for one in sorted(leaks, key=lambda a: a.lived - a.taught):
        others = _others(scene, one.feature)
        if one.taught > others:
            return Ruling(LEAKAGE.name, (_suspect(scene, one, others),))
    best = max(alone, key=lambda a: a.taught, default=None)
    says = "no feature tells more in training than when it is served"
    if best is not None:
        says += f": the most telling, {best.feature}, ranks {best.taught:.2f} there and {best.lived:.2f} when served"
    return Ruling(LEAKAGE.name, (), says)


def _overwritten(scene: Scene, column: str, n: int) -> Suspect | None:
    """An input whose training values differ from history where, or as, the label has it; null if it does not."""
    name = quoted("row." + column)
    once = "select * from training qualify row_number() over (partition by key order by asked_at) = 1"
    joined = f"({once}) t join {HISTORY} h on t.key = h.key"
    differs = f"t.{name} is distinct from h.{name}"
    rows = scene.engine.frame(
        f"select t.label as label, t.{name} as taught, h.{name} as had, {differs} as other from {joined} "
        f"qualify row_number() over (order by {differs} desc, hash(t.key)) <= {MOST}"
    )
    label, other = rows["label"] > 0, rows["other"] > 0
    share, base = label[other].mean(), label.mean()
    lean = abs(share - base) / np.sqrt(max(1e-9, base * (1 - base)) / other.sum())
    kind = scene.plan.inputs[column]
    if kind not in (NUMBER, FLAG, TEXT):
        return None
    taught, had = tells(label[other], rows["taught"][other]), tells(label[other], rows["had"][other])
    gained = taught - had > max(TOLD, SURE * auc_error_by_chance(label[other]))
    if not (lean > SURE and abs(share - base) > TOLD) and not gained:
        return None
    who = whom(scene, f"select h.*, {differs} as __other from {joined}", "__other", columns=("label",), pure=PARTLY)
    how = f"of the rows that differ {share:.0%} are positive, of all {base:.0%}"
    how = f"alone they rank the label with AUC {taught:.2f}, what history had with {had:.2f}" if gained else how
    return Suspect(
        LEAKAGE.name,
        f"input {column} in training",
        f"{column} of {n:,} training rows is not what was known when asked{who.says}, and goes with the label: {how}",
        f"select t.label, avg(t.{name}) as taught, avg(a.{quoted(column)}) as history, count(*) as n from training t "
        f"join asks a on t.key = a.key group by t.label"
        if kind == NUMBER
        else f"select t.{name} as taught, a.{quoted(column)} as history, t.label, count(*) as n from training t "
        "join asks a on t.key = a.key group by all order by n desc",
        redrawn(),
        reach_of(scene, who.where),
        parameters={"columns": [column], "training_rows": n, "rows": told(who.where)},
    )


def _decimals(scene: Scene) -> dict[str, int]:
    """How many decimals the numbers that features are made of were ever served with; without those that had many."""
    names = [n for n, k in scene.plan.inputs.items() if k == NUMBER and features_of(scene, n)]
    if not names:
        return {}
    tests = [_is_whole(quoted("row." + n), digits) for n in names for digits in range(DIGITS)]
    held = scene.engine.rows(f"select {', '.join(f'bool_and({t})' for t in tests)} from decisions")[0]
    by_name = {n: held[DIGITS * at : DIGITS * (at + 1)] for at, n in enumerate(names)}
    return {n: fits.index(True) for n, fits in by_name.items() if True in fits}


def _is_whole(value: str, digits: int) -> str:
    """SQL: whether a number has no more than so many decimals, but for what floating point adds."""
    scaled = f"{value} * {10**digits}"
    return f"abs({scaled} - round({scaled})) <= 1e-6"


def _finer(scene: Scene, column: str, digits: int) -> Suspect | None:
    """An input that a few training rows have with more decimals than was ever served, and that tells the label there.

    Another hand wrote these, and if that was after the outcome, they rank it as the rows that it did not write do not.
    Null if there are none, if most are so, or if they tell no more than the others.
    """
    name = quoted("row." + column)
    finer = f"coalesce(not {_is_whole(name, digits)}, false)"
    n, of = counted(scene.engine, f"select count(*) filter (where {finer}), count({name}) from training")
    if not taught_otherwise(scene).is_much(n) or n > of / 2:
        return None
    rows = scene.engine.frame(
        f"select label, {name} as taught, {finer} as other from training where {name} is not null "
        f"qualify row_number() over (order by {finer} desc, hash(key)) <= {MOST}"
    )
    label, other = rows["label"] > 0, rows["other"] > 0
    # whichever way it ranks
    own, others = (max(a, 1 - a) for side in (other, ~other) for a in [auc_of(label[side], rows["taught"][side])])
    error = auc_error(others, int(label[other].sum()), int((~label[other]).sum()))
    if not own - others > max(TOLD, SURE_OF_FEW * error):
        return None
    value = col(f"row.{column}")
    decimals = f"{digits} decimals" if digits else "whole numbers"
    return Suspect(
        LEAKAGE.name,
        f"input {column} in training",
        f"{column} of {n:,} training rows has more than the {decimals} that it was ever served with, and goes with "
        f"the label: alone it ranks that with AUC {own:.2f} there, and with {others:.2f} in all other rows",
        f"select label, {finer} as finer, avg({name}) as taught, count(*) as n from training group by all",
        (Change(ROWS, "training", "left out", value.round(digits) != value),),
        parameters={"columns": [column], "training_rows": n},
    )


def tells(label: Array, values: Array, by: Array | None = None) -> float:
    """AUC of one column alone, at least 0.5: numbers by bins of their quantiles, texts by level, null its own bin.

    What a bin tells is learned on every second row and measured on the others.
    """
    even = np.arange(len(label)) % 2 == 0 if by is None else by
    edges = bins_of(values)
    place = placed(values, edges)
    rates = rates_of(place[even], label[even])
    found = auc_of(label[~even], rates_at(rates, place[~even]))
    return found if found == found else 0.5


def bins_of(values: Array) -> Array | None:
    """The inner edges of N_BINS quantile bins; null for texts."""
    if values.dtype == object:
        return None
    known = values.astype(float)
    known = known[~np.isnan(known)]
    return np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)[1:-1])) if len(known) else np.array([0.0])


def placed(values: Array, edges: Array | None) -> Array:
    """The bin of each value: an integer for numbers (-1: null), a text for texts."""
    if edges is None:
        return values.astype(str)
    numbers = values.astype(float)
    return np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="left"))


def rates_of(place: Array, label: Array) -> tuple[Array, Array, float]:
    """The bins, the share of positives in each (drawn to that of all, as ten rows would), and that of all."""
    bins, at = np.unique(place, return_inverse=True)
    mean = float(label.mean()) if len(label) else 0.0
    n, yes = np.bincount(at, minlength=len(bins)), np.bincount(at, weights=label, minlength=len(bins))
    return bins, (yes + 10 * mean) / (n + 10), mean


def rates_at(rates: tuple[Array, Array, float], place: Array) -> Array:
    """The share of positives of each row's bin; that of all for a bin that was not seen."""
    bins, share, mean = rates
    at = np.clip(np.searchsorted(bins, place), 0, max(0, len(bins) - 1))
    return np.where(bins[at] == place, share[at], mean) if len(bins) else np.full(len(place), mean)


def features_alone(scene: Scene) -> list[Alone]:
    """How well each feature tells the label alone, in training and when served, once for a scene. Needs a witness."""
    found: list[Alone] = scene.once("features alone", _features_alone)
    return found


def _features_alone(scene: Scene) -> list[Alone]:
    witness = later_witness(scene)
    if witness is None:
        return []
    taught, lived = witness.training, witness.decisions
    label, later = taught["label"] > 0, lived["label"] > 0
    even = np.arange(len(label)) % 2 == 0
    first = lived["__asked"] <= np.quantile(lived["__asked"], EARLY)
    made = []
    for name in scene.bundle.features:
        edges = bins_of(taught[name])
        place, served = placed(taught[name], edges), placed(lived[name], edges)
        rates = rates_of(place[even], label[even])
        scores = rates_at(rates, served)
        at, early = auc_of(later, scores), auc_of(later[first], scores[first])
        error = float(np.hypot(auc_error_by_chance(label[~even]), auc_error_by_chance(later[first])))
        within = _within(label, rates_at(rates, place), ~even, taught["__asked"])
        made.append(Alone(name, within, 0.5 if at != at else at, 0.5 if early != early else early, error))
    return made


def _within(label: Array, score: Array, rows: Array, asked: Array) -> float:
    """The middle AUC over spans of time: what only tells one season from another ranks nothing within it."""
    edges = np.quantile(asked, np.linspace(0, 1, N_SPANS + 1)[1:-1])
    span = np.searchsorted(edges, asked, side="right")
    areas = [auc_of(label[own], score[own]) for n in range(N_SPANS) if (own := rows & (span == n)).sum() >= 50]
    return float(np.median([a for a in areas if a == a] or [0.5]))


def _others(scene: Scene, feature: str) -> float:
    """The AUC of all features but those made of the same inputs, together: learned on half of training, of the rest."""
    witness = later_witness(scene)
    assert witness is not None
    inputs = columns_of(scene.bundle.features[feature])
    names = [n for n, e in scene.bundle.features.items() if not columns_of(e) & inputs]
    taught: Mapping[str, Array] = witness.training
    even = np.arange(len(taught["label"])) % 2 == 0
    if not names:
        return 0.5
    types = scene.bundle.feature_types
    model = fit("logistic", {n: taught[n][even] for n in names}, taught["label"][even], types)
    return auc_of(taught["label"][~even], score_frame(model, {n: taught[n][~even] for n in names}))


def _suspect(scene: Scene, one: Alone, others: float) -> Suspect:
    inputs = columns_of(scene.bundle.features[one.feature])
    features = tuple(n for n, e in scene.bundle.features.items() if columns_of(e) & inputs)
    name = quoted(f"features.{one.feature}")
    return Suspect(
        LEAKAGE.name,
        f"feature {one.feature}",
        f"{one.feature} alone ranks the training rows with AUC {one.taught:.2f}, all other features together with "
        f"{others:.2f}; when served it ranks {one.lived:.2f}: in training it knew the outcome",
        f"select 'training' as side, label, count({name}) as known, count(*) as n from training group by label "
        f"union all select 'decisions', label, count({name}), count(*) from decisions group by label",
        undo_leak(features),
        parameters={"columns": sorted(inputs)},
    )


LEAKAGE = Kind(
    "leakage",
    "a feature knew the outcome in training",
    2,
    inject_leak,
    suspect_leak,
    undo_leak,
    propose_leak,
    needs=("inputs", "outcome", "training table"),
)
