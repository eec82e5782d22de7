"""What was told against what happened: decisions by cohort and slice of time, and when one cohort went its own way.

Models are imperfect everywhere: what counts is a change against the time before, larger
than what this system's own slices of time do anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.kinds import Scene
from underhood.faults.vectors import impact
from underhood.plan.exprs import Expr, col, wrap
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted, sql_value

MOST = 200_000  # decisions looked at; of more, a sample by id that keeps all those in question
SLICES = 48
LEVELS, BINS = 30, 8  # levels of a text, bins of a number
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Group:
    """Decisions that one predicate selects: which column it reads, the predicate, which rows of the look it holds.

    `values` of the column, if it lies on one side of a cut of a number.
    """

    column: str
    where: Expr
    holds: Array
    values: Array | None = None


@dataclass(frozen=True)
class Residuals:
    """Decisions in order of asking: told (`score`, in log-odds `odds`), happened (`label`, NaN if not known), `bad`.

    `at`: µs since 1970, UTC. `slice` is the number of each one's slice of time. `groups` are
    the cohorts that one level or one cut of one column makes. `share`: of all decisions, how many were looked at.
    """

    at: Array
    score: Array
    odds: Array
    label: Array
    bad: Array
    action: Array
    slice: Array
    groups: tuple[Group, ...]
    share: float

    @property
    def known(self) -> Array:
        """Which outcomes are known."""
        made: Array = ~np.isnan(self.label)
        return made

    @property
    def n_slices(self) -> int:
        """How many slices of time there are."""
        return int(self.slice[-1]) + 1 if len(self.slice) else 0


@dataclass(frozen=True)
class Steps:
    """Lasting changes of means by slice: z for each row of a table at each cut, and the first slice after each cut.

    z is in standard errors that count how much slices differ anyway.
    """

    z: Array
    begins: Array
    value: Array
    weight: Array

    def sure(self, row: int, at: int) -> float:
        """z at one cut, the error wider by what neighbouring slices err alike."""
        value, weight, cut = self.value[row], self.weight[row], int(self.begins[at])
        error = np.zeros(len(value))
        for part in (slice(None, cut), slice(cut, None)):
            w = weight[part]
            error[part] = value[part] - (w * value[part]).sum() / max(1e-12, float(w.sum()))
        return float(self.z[row, at]) / _alike(error * np.sqrt(weight))


def residuals(scene: Scene) -> Residuals:
    """What was told and what happened, found once for a scene."""
    found: Residuals = scene.once("residuals", _residuals)
    return found


def moment(at: float) -> datetime:
    """A number of µs since 1970 as a moment (UTC)."""
    return EPOCH + timedelta(microseconds=int(at))


def _residuals(scene: Scene) -> Residuals:
    columns = dict(_columns(scene))
    levels = _levels(scene, [c for c, kind in columns.items() if kind == TEXT])
    total = scene.engine.rows("select count(*) from decisions where status = 'ok' and score is not null")[0][0]
    share = min(1.0, MOST / max(1, total))
    some = "" if share == 1 else f" and (bad or hash(id) % 100000 < {round(share * 100000)})"
    coded = ", ".join(_coded(c, kind, levels) for c, kind in columns.items())
    frame = scene.engine.arrays(
        f"select epoch_us(asked_at)::DOUBLE as __at, score::DOUBLE as __score, label::INT::DOUBLE as __label, "
        f"bad::INT::DOUBLE as __bad, list_position({_texts(_actions(scene))}, action)::DOUBLE as __action"
        f"{', ' + coded if coded else ''} from decisions where status = 'ok' and score is not null{some} "
        "order by asked_at, id"
    )
    score = frame["__score"]
    groups = [g for c, kind in columns.items() for g in _groups(c, kind, frame[c], levels.get(c, []))]
    return Residuals(
        frame["__at"],
        score,
        _odds(score),
        frame["__label"],
        frame["__bad"] > 0,
        frame["__action"],
        _slices(frame["__at"]),
        tuple(groups),
        share,
    )


def _columns(scene: Scene) -> Iterator[tuple[str, str]]:
    """Inputs, and features that are not an input as it is, by type: what names a cohort, so not what names one row."""
    keys = [k for k in scene.plan.system.asks.source.key if k in scene.plan.inputs]
    counts = ", ".join(f"approx_count_distinct({quoted('row.' + k)})" for k in keys) or "0"
    n, *different = scene.engine.rows(f"select count(*), {counts} from decisions where status = 'ok'")[0]
    single = {k for k, many in zip(keys, different, strict=False) if many > 0.5 * n}
    for name, kind in scene.plan.inputs.items():
        if kind in (TEXT, FLAG, NUMBER) and name not in single:
            yield f"row.{name}", kind
    for name, kind in scene.plan.feature_types.items():
        if kind in (TEXT, FLAG, NUMBER) and scene.plan.features[name].op != "col":
            yield f"features.{name}", kind


def _levels(scene: Scene, names: list[str]) -> dict[str, list[str]]:
    if not names:
        return {}
    tops = ", ".join(f"approx_top_k({quoted(n)}, {LEVELS})" for n in names)
    row = scene.engine.rows(f"select {tops} from decisions where status = 'ok'")[0]
    return {n: list(found or []) for n, found in zip(names, row, strict=True)}


def _actions(scene: Scene) -> list[str]:
    return list(scene.bundle.policy.actions)


def _texts(values: list[str]) -> str:
    return "[" + ", ".join(sql_value(v) for v in values) + "]::VARCHAR[]"


def _coded(name: str, kind: str, levels: dict[str, list[str]]) -> str:
    if kind == TEXT:
        return f"coalesce(list_position({_texts(levels[name])}, {quoted(name)}), 0)::DOUBLE as {quoted(name)}"
    return f"{quoted(name)}{'::INT' if kind == FLAG else ''}::DOUBLE as {quoted(name)}"


def _slices(at: Array) -> Array:
    """Slices of about as many decisions each; those of one moment stay together."""
    if not len(at):
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(at, np.linspace(0, 1, SLICES + 1)[1:-1]))
    _, dense = np.unique(np.searchsorted(edges, at, side="right"), return_inverse=True)
    return dense


def _groups(name: str, kind: str, values: Array, levels: list[str]) -> Iterator[Group]:
    """Each level of a text, a flag or a number with few; else what lies above and below each cut of a number."""
    column, n = col(name), len(values)
    found: list[Group] = []
    if kind == TEXT:
        found = [Group(name, column == level, values == k) for k, level in enumerate(levels, 1)]
    elif kind == FLAG:
        found = [Group(name, column == flag, values == float(flag)) for flag in (True, False)]
    else:
        there = values[~np.isnan(values)]
        if not len(there):
            return
        ranks = np.linspace(0, 1, BINS + 1)[1:-1]
        few = np.unique(there) if len(there) < 2_000 or len(np.unique(there[:2_000])) <= 12 else there
        if len(few) <= 12:
            found = [Group(name, column == float(v), values == v) for v in few]
        else:
            for cut in np.unique(np.quantile(there, ranks)):
                found += [
                    Group(name, column >= float(cut), values >= cut, values),
                    Group(name, column < float(cut), values < cut, values),
                ]
    yield from (g for g in found if 20 <= int(g.holds.sum()) < n)


# --- tables by group and slice ---


def sums(look: Residuals, weight: Array) -> tuple[Array, Array]:
    """Sums of a weight by slice: of all decisions, and of each group (groups × slices)."""
    m = look.n_slices
    begins = np.flatnonzero(np.diff(look.slice, prepend=-1))  # decisions are in order of asking, and so of slices
    whole = np.add.reduceat(weight, begins)
    parts = [np.add.reduceat(np.where(g.holds, weight, 0.0), begins) for g in look.groups]
    return whole, np.asarray(parts).reshape(len(look.groups), m)


def steps_of(value: Array, weight: Array, least: int = 4) -> Steps:
    """Every step in each row of `value` (rows × slices), where a slice counts `weight` (0: nothing known).

    At least `least` slices lie on either side. The error is that of the slices about their
    own means, and never less than chance gives (a weight is 1 / variance).
    """
    value = np.where(weight > 0, value, 0.0)
    rows, m = value.shape
    if m < 2 * least + 1:
        return Steps(np.zeros((rows, 1)), np.zeros(1, dtype=np.int64), value, weight)
    n = np.cumsum(weight > 0, axis=1)
    cut = np.arange(least - 1, m - least)
    # what is too large to be squared steps nowhere: not finite, and set to 0 below
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        w, wd, wdd = (np.cumsum(x, axis=1) for x in (weight, weight * value, weight * value**2))
        wb, wa = w[:, cut], w[:, -1:] - w[:, cut]
        before, after = wd[:, cut] / wb, (wd[:, -1:] - wd[:, cut]) / wa
        inside = wdd[:, -1:] - wb * before**2 - wa * after**2
        spread = np.maximum(1.0, inside / np.maximum(1, n[:, -1:] - 2))
        z = (after - before) / np.sqrt(spread * (1 / wb + 1 / wa))
    z[(n[:, cut] < least) | (n[:, -1:] - n[:, cut] < least) | ~np.isfinite(z)] = 0.0
    return Steps(z, cut + 1, value, weight)


def _alike(error: Array) -> float:
    """How much wider a mean errs because neighbouring slices err alike (Newey and West 1987, lag 3); 1 at least."""
    whole = max(float((error**2).sum()), 1e-12)
    more = sum(2 * (1 - lag / 4) * float((error[lag:] * error[:-lag]).sum()) / whole for lag in (1, 2, 3))
    return float(np.sqrt(max(1.0, 1.0 + more)))


def auc_of(label: Array, score: Array) -> float:
    """The chance that a positive scores above a negative, ties half (Mann and Whitney 1947); NaN if one class."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    n_yes, n = int(label.sum()), len(label)
    if not 0 < n_yes < n:
        return float("nan")
    middle = np.cumsum(counts) - (counts - 1) / 2
    above = float(middle[place][label > 0].sum()) - n_yes * (n_yes + 1) / 2
    return above / (n_yes * (n - n_yes))


def auc_error(auc: float, n_yes: int, n_no: int) -> float:
    """The standard error of an AUC (Hanley and McNeil 1982)."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (n_yes - 1) * (one - auc**2) + (n_no - 1) * (two - auc**2)
    return float(np.sqrt(max(0.0, spread) / max(1, n_yes * n_no)))


def recalibrated(odds: Array, label: Array) -> tuple[float, float]:
    """Intercept and slope in log-odds that make scores say what happened (Cox 1958), weakly held to 0 and 1."""
    at = np.array([0.0, 1.0])
    odds, label, n = _binned(odds, label)
    worth = _penalised(at, odds, label, n)
    for _ in range(30):
        p = said(odds, (at[0], at[1]))
        v, r = n * p * (1 - p), label - n * p
        slope = np.array([r.sum() - at[0], (r * odds).sum() - (at[1] - 1)])
        bend = np.array([[v.sum() + 1, (v * odds).sum()], [(v * odds).sum(), (v * odds**2).sum() + 1]])
        move = np.linalg.solve(bend, slope)
        while np.abs(move).max() > 1e-7 and (next_worth := _penalised(at + move, odds, label, n)) < worth:
            move = move / 2
        if np.abs(move).max() <= 1e-7:
            break
        at, worth = at + move, next_worth
    return float(at[0]), float(at[1])


def _binned(odds: Array, label: Array) -> tuple[Array, Array, Array]:
    """Log-odds on a grid of a twentieth, how often it happened there, and to how many: as good, and soon fitted."""
    grid = np.round(odds * 20).astype(np.int64) + 200
    n = np.bincount(grid, minlength=401)
    held = np.flatnonzero(n)
    return (held - 200) / 20.0, np.bincount(grid, label, minlength=401)[held], n[held].astype(float)


def _penalised(at: Array, odds: Array, label: Array, n: Array) -> float:
    told = at[0] + at[1] * odds
    return float((label * told - n * np.logaddexp(0, told)).sum() - (at[0] ** 2 + (at[1] - 1) ** 2) / 2)


def said(odds: Array, fit: tuple[float, float]) -> Array:
    """What log-odds say under an intercept and a slope."""
    made: Array = 1 / (1 + np.exp(-np.clip(fit[0] + fit[1] * odds, -30, 30)))
    return made


# --- what a drill strikes ---


def some_part(scene: Scene, random: np.random.Generator, of: Sequence[str] | None = None) -> Expr | None:
    """A part of the decisions, a fifth to a half of them, by a column that counts (one of `of`); null if none."""
    weights = {n: w for n, w in impact(scene).items() if scene.plan.features[n].op == "col" and w > 0}
    if of is not None:
        weights = {n: w for n, w in weights.items() if str(scene.plan.features[n].args[0]) in of}
    names = sorted(weights, key=lambda n: -weights[n])[:4]
    chance = np.array([weights[n] for n in names])
    for name in _drawn(names, chance, random):
        column, source = quoted(f"features.{name}"), str(scene.plan.features[name].args[0])
        where = col(f"row.{source}")
        if scene.plan.inputs.get(source) != scene.bundle.feature_types[name]:
            continue
        if scene.bundle.feature_types[name] == NUMBER:
            cut = scene.engine.rows(
                f"select quantile_disc({column}, {random.uniform(0.5, 0.75)}) from decisions where status = 'ok'"
            )[0][0]
            above = scene.engine.rows(f"select avg(({column} >= {cut})::INT) from decisions")[0][0] if cut else 1
            if cut is not None and above <= 0.6:
                return Expr("ge", (where, wrap(cut)))
        else:
            rows = scene.engine.rows(
                f"select {column}, count(*) / (select count(*) from decisions) as share from decisions "
                f"where {column} is not null group by 1 having share between 0.15 and 0.6 order by share desc"
            )
            if rows:
                return Expr("eq", (where, wrap(rows[int(random.integers(len(rows)))][0])))
    return None


def _drawn(names: list[str], chance: Array, random: np.random.Generator) -> list[str]:
    if not names:
        return []
    order = random.choice(len(names), size=len(names), replace=False, p=chance / chance.sum())
    return [names[i] for i in order]


def _odds(score: Array) -> Array:
    p = np.clip(score, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(p / (1 - p)))


def auc_error_by_chance(label: Array) -> float:
    """The standard error of an AUC of 0.5 with so many rows of each class (the null of Mann and Whitney 1947)."""
    n_yes, n_no = max(1, int((label > 0).sum())), max(1, int((label <= 0).sum()))
    return float(np.sqrt((n_yes + n_no + 1) / (12 * n_yes * n_no)))
