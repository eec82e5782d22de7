"""When scores stopped meaning what they meant: for whom, since when, until when, and in what way.

A model is wrong everywhere by a little, so what counts is a change: against the time
before, and against all others. The complaint is evidence too: that those in question
lie where few decisions do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.censoring import coverage
from underhood.faults.envelope import ENVELOPE
from underhood.faults.kinds import Scene
from underhood.faults.outcomes import (
    Group,
    Residuals,
    Steps,
    auc_error,
    auc_of,
    moment,
    recalibrated,
    residuals,
    said,
    steps_of,
    sums,
)
from underhood.faults.values import served_otherwise
from underhood.faults.vectors import misscored
from underhood.plan.exprs import Expr, col, shown
from underhood.plan.render import to_sql

NATS = 20.0  # evidence, outcomes and complaint together, that a change needs among some 20,000 looks
FEWER = 12.0  # the same where the ranking is lost with the rest
DISORDER, SURE = 0.15, 5.0  # so much of the AUC, in so many of its standard errors
LEAST_NATS, OWN = 8.0, 4.0  # of that what outcomes alone must give, against all others and against before
DAY_US = 86_400_000_000
NAMED = 5  # decisions of a complaint that count as seen one by one
OVER, SUREST = 0.3, 0.01  # share of outcomes turned over that is looked for; no score is surer than this
LEAST_SLICES, MOST_OVER = 4, 40  # slices on either side of it; groups that are weighed with what is complained
LOOKS = 6.0  # nats that a group must give more than all together, as there are so many groups
LONGEST = 8  # slices that a span may last
GAP = 0.08  # least gap of what happened to what was to be expected, in share
SUDDEN = 1.3  # the same for a span that passes, in log-odds: days differ anyway
LOST = 0.12  # least loss of ranking (AUC) where the share stays
KEEPS = 0.7  # share of the ranking, above chance, that a prior shift leaves
BACK = 5.0  # nats by which what came after a span must be more like before than like the span
LATE = 0.6  # share of the decisions in question that must lie in it
LEAST = 40  # known outcomes in it


@dataclass(frozen=True)
class Turn:
    """From `since` (µs, UTC) on outcomes are other than before, for a group (null: all); `until` null: still.

    `expected` is what the scores meant before, `happened` what they mean now; `auc` and
    `fit` (intercept and slope in log-odds) are (before, after); `gain` in nats. `turned`: the share of
    outcomes that would have to be turned over to make of what was what is.
    """

    group: Group | None
    since: float
    until: float | None
    n: int
    expected: float
    happened: float
    auc: tuple[float, float]
    error: float
    fit: tuple[tuple[float, float], tuple[float, float]]
    nats: float
    gain: float
    bad: float
    turned: float = 0.0

    @property
    def is_inverted(self) -> bool:
        """Whether high scores now mean that it does not happen."""
        before, after = self.auc
        return before > 0.55 and after < 0.5 - 2 * self.error and after < 0.45

    @property
    def keeps_order(self) -> bool:
        """Whether the ranking is what it was."""
        return self.auc[1] + 2 * self.error - 0.5 > KEEPS * (self.auc[0] - 0.5)

    @property
    def loses_order(self) -> bool:
        """Whether the ranking suffers as no season makes it suffer: a base rate that moves leaves it as it is."""
        lost = self.auc[0] - self.auc[1]
        return self.until is None and lost >= DISORDER and lost >= SURE * self.error

    @property
    def kind(self) -> str:
        """Which kind of fault this is."""
        if self.until is not None:
            return "real event"
        if self.is_inverted:
            return "label flip"
        return "prior shift" if self.group is None and self.keeps_order else "concept drift"


def turn_of(scene: Scene) -> Turn | None:
    """How outcomes changed, found once for a scene; null if they did as before."""
    found: Turn | None = scene.once("turn", _turn)
    return found


def _turn(scene: Scene) -> Turn | None:
    look, missing = residuals(scene), coverage(scene)
    if int(look.known.sum()) < 5 * LEAST or (missing is not None and missing.is_selective):
        return None
    enough = _enough(look, _candidates(look)) or _enough(look, _turned_over(look))
    # a cut between two bins tells less of its own column than a luckier one of another column that goes with it
    cut = [_cut_anew(look, t) for t in enough]
    return max(cut, key=lambda t: t.gain - LOOKS * (t.group is not None), default=None)


def _enough(look: Residuals, candidates: Iterator[tuple[Group | None, int, int | None, float]]) -> list[Turn]:
    """The candidates that are turns: large, with enough evidence, and most of those in question in them."""
    made = [t for c in candidates if (t := _measured(look, *c)) is not None]
    return [t for t in made if t.bad >= LATE and t.nats >= (FEWER if t.loses_order else NATS) and _is_large(t)]


def _cut_anew(look: Residuals, turn: Turn) -> Turn:
    """The turn with its cut where the new map of scores begins to explain more than the old one, to the row."""
    group = turn.group
    if group is None or group.values is None or turn.until is not None:
        return turn
    late = look.known & (look.at >= turn.since) & ~np.isnan(group.values)
    score = np.log(np.clip(_either(look, late, turn.fit[1]), 1e-9, 1))
    score -= np.log(np.clip(_either(look, late, turn.fit[0]), 1e-9, 1))
    values, place = np.unique(group.values[late], return_inverse=True)
    by_value = np.bincount(place, score)
    above = group.where.op == "ge"
    gained = np.cumsum(by_value[::-1])[::-1] if above else np.concatenate([[0.0], np.cumsum(by_value)[:-1]])
    cut = float(values[int(np.argmax(gained))])
    holds = group.values >= cut if above else group.values < cut
    column = col(group.column)
    other = replace(group, where=column >= cut if above else column < cut, holds=holds)
    begins = int(look.slice[look.at >= turn.since][0])
    made = _measured(look, other, begins, None, turn.nats) if LEAST <= holds.sum() < len(holds) else None
    better = made is not None and made.gain > turn.gain and made.bad >= LATE
    return replace(made, nats=turn.nats) if made is not None and better else turn


def _is_large(turn: Turn) -> bool:
    gap, lost = abs(turn.happened - turn.expected), turn.auc[0] - turn.auc[1]
    if turn.until is not None:
        return turn.n >= LEAST and abs(_odds(turn.happened) - _odds(turn.expected)) >= SUDDEN
    return turn.n >= LEAST and (gap >= GAP or lost >= LOST)


def _odds(share: float) -> float:
    return log(max(share, 1e-3) / max(1 - share, 1e-3))


def _candidates(look: Residuals) -> Iterator[tuple[Group | None, int, int | None, float]]:
    """Group, first slice, slice after the last (null: to the end), evidence in nats."""
    known = look.known
    spread = np.where(known, look.score * (1 - look.score), 0.0)
    gap = np.where(known, np.nan_to_num(look.label) - look.score, 0.0)
    tilt = np.clip(look.odds - float((spread * look.odds).sum() / max(1e-9, spread.sum())), -3, 3)
    gaps, tilts = _table(look, gap, spread), _table(look, gap * tilt, spread * tilt**2)
    own = [steps_of(r / np.maximum(w, 1e-12), w) for r, w in (gaps, tilts)]
    apart = [_apart(r, w) for r, w in (gaps, tilts)]
    strength = own[0].z ** 2 + own[1].z ** 2
    strength[1:] = np.minimum(2 * strength, apart[0].z ** 2 + apart[1].z ** 2)[1:]
    # a change that begins behind those in question is none of theirs
    strength[:, own[0].begins > _latest(look)] = 0.0
    best = strength.argmax(axis=1)
    order = [0, *(1 + np.argsort(-strength[1:, :].max(axis=1))[:12]).tolist()] if len(strength) > 1 else [0]
    for row in order:
        by = apart if row else own
        at = int(best[row])
        nats = sum(s.sure(row, at) ** 2 for s in by) / 2
        if nats >= LEAST_NATS and sum(s.sure(row, at) ** 2 for s in own) / 2 >= OWN:
            yield (look.groups[row - 1] if row else None), int(own[0].begins[at]), None, nats
    yield from _spans(look, *_shown_apart(*gaps))


def _turned_over(look: Residuals) -> Iterator[tuple[Group | None, int, int | None, float]]:
    """The groups of which outcomes were turned over in part since some slice: by likelihood, with what is complained.

    A slope by the score says little where scores are far apart and few are asked: there one outcome tells more
    than ten others. What a group did before counts against it, and so does all that one slice alone would say.
    """
    first = look.known & (look.slice < look.n_slices // 2)
    if min(n_yes := int(look.label[first].sum()), int(first.sum()) - n_yes) < LEAST / 2:
        return
    p = np.clip(said(look.odds, recalibrated(look.odds[first], look.label[first])), SUREST, 1 - SUREST)
    was = np.where(look.label > 0, p, 1 - p)
    tells, n = _table(look, np.where(look.known, np.log1p(OVER * (1 - 2 * was) / was), 0.0), look.known.astype(float))
    cuts = np.arange(LEAST_SLICES - 1, min(look.n_slices - LEAST_SLICES, _latest(look)))
    if not len(cuts):
        return
    by_cut, many = np.cumsum(tells, axis=1), np.cumsum(n, axis=1)
    usual = np.maximum(0.0, by_cut[:, cuts] / np.maximum(1, many[:, cuts]))
    largest = np.maximum.accumulate(tells[:, ::-1], axis=1)[:, ::-1][:, cuts + 1]
    after = many[:, -1:] - many[:, cuts]
    nats = by_cut[:, -1:] - by_cut[:, cuts] - usual * after - np.maximum(0.0, largest)
    nats[(after < LEAST) | (many[:, cuts] < LEAST)] = 0.0
    best = nats.argmax(axis=1)
    for row in np.argsort(-nats.max(axis=1))[:MOST_OVER]:
        at, own = int(cuts[best[row]]) + 1, float(nats[row, best[row]])
        group = look.groups[row - 1] if row else None
        inside = (look.slice >= at) & (True if group is None else group.holds)
        if own >= LEAST_NATS and own + _pointed(look, inside) >= NATS:
            yield group, at, None, own


def _latest(look: Residuals) -> int:
    """The last slice at which a change may begin that holds enough of the decisions in question."""
    if not look.bad.any():
        return look.n_slices
    return int(np.quantile(look.slice[look.bad], 1 - LATE, method="lower"))


def _table(look: Residuals, by: Array, weight: Array) -> tuple[Array, Array]:
    """Sums of `by` and of `weight` by slice: the first row of all decisions, then one for each group."""
    return np.vstack(sums(look, by)), np.vstack(sums(look, weight))


def _apart(sums_by: Array, weight: Array) -> Steps:
    """Steps of each group's mean against that of all others."""
    return steps_of(*_against(sums_by, weight))


def _against(sums_by: Array, weight: Array) -> tuple[Array, Array]:
    """By group and slice, how far the mean is from that of all others, and what that counts."""
    rest, others = np.maximum(0.0, weight[0] - weight), sums_by[0] - sums_by
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.where((weight > 0) & (rest > 1e-9), 1 / (1 / weight + 1 / rest), 0.0)
        return np.where(shared > 0, np.nan_to_num(sums_by / weight - others / rest), 0.0), shared


def _shown_apart(sums_by: Array, weight: Array) -> tuple[Array, Array]:
    """Sums of all decisions as they are, those of each group as far as they are not those of all others."""
    value, shared = _against(sums_by, weight)
    return np.vstack([sums_by[:1], (value * shared)[1:]]), np.vstack([weight[:1], shared[1:]])


def _spans(look: Residuals, gaps: Array, weights: Array) -> Iterator[tuple[Group | None, int, int | None, float]]:
    """The strongest span of each group that ends before the last slices, if any is strong; the first row is of all."""
    m = look.n_slices
    w, r = (np.hstack([np.zeros((len(x), 1)), np.cumsum(x, axis=1)]) for x in (weights, gaps))
    z, begins, ends = np.zeros(len(w)), np.zeros(len(w), dtype=int), np.zeros(len(w), dtype=int)
    value = np.where(weights > 0, gaps / np.maximum(weights, 1e-12), 0.0)
    for length in range(1, LONGEST + 1):
        for first in range(2, m - length - 1):
            inside_w, inside_r = (
                np.maximum(x[:, first + length] - x[:, first], lo) for x, lo in ((w, 1e-9), (r, -np.inf))
            )
            rest_w = np.maximum(w[:, -1] - inside_w, 1e-9)
            level = (r[:, -1] - inside_r) / rest_w
            error = weights * (value - level[:, None]) ** 2
            error[:, first : first + length] = 0.0
            spread = np.maximum(1.0, error.sum(axis=1) / max(1, m - length - 1))
            made = (inside_r / inside_w - level) / np.sqrt(spread * (1 / inside_w + 1 / rest_w))
            better = np.abs(made) > np.abs(z)
            z, begins, ends = (
                np.where(better, made, z),
                np.where(better, first, begins),
                np.where(better, first + length, ends),
            )
    for row in [0, *(1 + np.argsort(-np.abs(z[1:]))[:6]).tolist()]:
        if row < len(z) and z[row] ** 2 / 2 >= LEAST_NATS:
            yield (look.groups[row - 1] if row else None), int(begins[row]), int(ends[row]), float(z[row] ** 2 / 2)


def _measured(look: Residuals, group: Group | None, begins: int, ends: int | None, nats: float) -> Turn | None:
    holds = np.ones(len(look.at), dtype=bool) if group is None else group.holds
    inside = holds & (look.slice >= begins) & (look.slice < (ends if ends is not None else look.n_slices))
    since, until = _edges(look, holds, begins, ends)
    inside = holds & (look.at >= since) & (look.at < (until if until is not None else np.inf))
    before, after = holds & ~inside & look.known, inside & look.known
    if before.sum() < LEAST or after.sum() < LEAST / 2:
        return None
    if until is not None and not _is_back(look, holds & look.known, since, until):
        return None
    label, odds = look.label, look.odds
    usual, now = recalibrated(odds[before], label[before]), recalibrated(odds[after], label[after])
    auc = auc_of(label[before], odds[before]), auc_of(label[after], odds[after])
    n_yes = int(label[after].sum())
    expected = said(odds[after], usual)
    n_bad = int(look.bad.sum())
    return Turn(
        group,
        since,
        until,
        int(after.sum()),
        float(expected.mean()),
        float(label[after].mean()),
        (auc[0], auc[1] if auc[1] == auc[1] else auc[0]),
        auc_error(auc[1], n_yes, int(after.sum()) - n_yes) if auc[1] == auc[1] else 1.0,
        (usual, now),
        nats + _pointed(look, inside),
        _likelihood(said(odds[after], now), label[after]) - _likelihood(expected, label[after]),
        float(inside[look.bad].mean()) if n_bad else 1.0,
        turned_share(expected, label[after]),
    )


def turned_share(p: Array, label: Array) -> float:
    """The likeliest share of outcomes turned over, where they happened with the chances `p` before: 0 to 1."""
    low, high = 0.0, 1.0
    sign = np.where(label > 0, 1.0, -1.0) * (1 - 2 * p)
    was = np.where(label > 0, p, 1 - p)
    for _ in range(40):
        share = (low + high) / 2
        # the likelihood has one peak, as it is the sum of logarithms of lines
        rises = float((sign / np.maximum(was + share * sign, 1e-9)).sum()) > 0
        low, high = (share, high) if rises else (low, share)
    return (low + high) / 2


def _is_back(look: Residuals, rows: Array, since: float, until: float) -> bool:
    """Whether what came after a span is as it was before it, and not as it was in it."""
    before, inside, after = (
        rows & (look.at < since),
        rows & (look.at >= since) & (look.at < until),
        rows & (look.at >= until),
    )
    if min(before.sum(), inside.sum(), after.sum()) < LEAST / 2:
        return False
    usual, now = (recalibrated(look.odds[r], look.label[r]) for r in (before, inside))
    label, odds = look.label[after], look.odds[after]
    return _likelihood(said(odds, usual), label) > _likelihood(said(odds, now), label) + BACK


def _pointed(look: Residuals, inside: Array) -> float:
    """What it says, in nats, that those in question lie inside, as few of all do."""
    n = int(look.bad.sum())
    if not n:
        return 0.0
    share, usual = float(inside[look.bad].mean()), float(np.clip(inside.mean(), 1e-6, 1 - 1e-6))
    parts = ((share, usual), (1 - share, 1 - usual))
    # those of one day were not seen one by one: whatever that day was, they all share it
    seen = min(n, NAMED, len(np.unique(look.at[look.bad] // DAY_US)))
    return seen * sum(p * log(p / q) for p, q in parts if p > 0) if share > usual else 0.0


def _likelihood(p: Array, label: Array) -> float:
    return float(np.log(np.clip(np.where(label > 0, p, 1 - p), 1e-9, 1)).sum())


def _edges(look: Residuals, holds: Array, begins: int, ends: int | None) -> tuple[float, float | None]:
    """The first and the last moment of a turn, to the row: where the new map of scores explains more than the old."""
    first = _edge(look, holds, begins, look.n_slices if ends is None else ends, begins)
    last = None if ends is None else _edge(look, holds, ends, begins, ends)
    return first, last


def _edge(look: Residuals, holds: Array, at: int, other: int, where: int) -> float:
    low, high = sorted((at, other))
    # what lies beyond the other edge of a short span is as it was, and would be taken for before
    this_side = look.slice < other if other > at else look.slice >= other
    near = holds & look.known & (np.abs(look.slice - at + 0.5) < 3) & this_side
    new = holds & look.known & (look.slice >= low) & (look.slice < high)
    old = holds & look.known & ~new
    coarse = float(look.at[look.slice >= where][0])
    if near.sum() < 10 or new.sum() < 20 or old.sum() < 20:
        return coarse
    usual = recalibrated(look.odds[old], look.label[old])
    now = recalibrated(look.odds[new], look.label[new])
    score = np.log(np.clip(_either(look, near, now), 1e-9, 1)) - np.log(np.clip(_either(look, near, usual), 1e-9, 1))
    gained = np.concatenate([[0.0], np.cumsum(score if other < at else -score)])
    moments = np.append(look.at[near], look.at[near][-1] + 1)
    # what was asked at one moment, a day at worst, lies on one side as a whole
    gained[1:][moments[1:] == moments[:-1]] = -np.inf
    return float(moments[int(np.argmax(gained))])


def _either(look: Residuals, rows: Array, fit: tuple[float, float]) -> Array:
    p = said(look.odds[rows], fit)
    return np.where(look.label[rows] > 0, p, 1 - p)


# --- what is said ---


def closer(scene: Scene) -> str:
    """What is wrong closer to the source, so that scores mean something else because of it; empty if nothing is."""
    if misscored(scene) is not None:
        return "the scores themselves do not replay"
    if served_otherwise(scene).differing:
        return "inputs were served otherwise than history gives them"
    beyond = ENVELOPE.suspect(scene).suspects
    return beyond[0].says if beyond else ""


def span_of(turn: Turn) -> Expr | None:
    """The predicate of a turn: its group since its onset."""
    where: Expr = col("asked_at") >= moment(turn.since)
    if turn.until is not None:
        where = where & (col("asked_at") < moment(turn.until))
    return where if turn.group is None else turn.group.where & where


def told(turn: Turn) -> str:
    """Where and when a turn is, and its figures, in words."""
    who = "" if turn.group is None else f"where {shown(turn.group.where)} "
    until = "" if turn.until is None else f" until {moment(turn.until):%Y-%m-%d %H:%M}"
    return (
        f"{who}since {moment(turn.since):%Y-%m-%d %H:%M}{until} UTC it happens to {turn.happened:.0%} where such "
        f"scores meant {turn.expected:.0%} before ({turn.n:,} known outcomes, AUC {turn.auc[1]:.2f} after "
        f"{turn.auc[0]:.2f}, evidence {turn.nats:.0f} nats)"
    )


def evidence(turn: Turn) -> str:
    """A query over `decisions` that shows told and happened by day, for the group of a turn."""
    where = "true" if turn.group is None else to_sql(turn.group.where)
    return (
        "select day, count(*) as decisions, count(label) as known, avg(score) filter (where label is not null) "
        f"as told, avg(label::INT) as happened from decisions where {where} group by day order by day"
    )


def columns_in(turn: Turn) -> list[str]:
    """The column that names the group of a turn, if any."""
    return [] if turn.group is None else [turn.group.column.partition(".")[2]]
