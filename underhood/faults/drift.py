"""The world moved: who asks (covariate drift), how often it happens (prior shift), what leads to it (concept drift).

No part of the record contradicts another here, and nothing of the system has changed.
"""

from __future__ import annotations

from math import log

import numpy as np

from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.moved import Drift, drifted, moved_values
from underhood.faults.outcomes import EPOCH, Group, Residuals, moment, residuals, some_part
from underhood.faults.traffic import own_columns
from underhood.faults.turns import LEAST, Turn, closer, columns_in, evidence, span_of, told, turn_of
from underhood.faults.vectors import impact
from underhood.plan.changes import CALIBRATION, OUTCOME, TRAFFIC, Change
from underhood.plan.exprs import Expr, col, columns_of, shown
from underhood.plan.render import to_sql

COUNTS = 0.05  # of what the weightiest feature moves: less is no matter to the model
GREW, ODDS = 0.2, 2.5  # least gain in share of the part that grew, and in odds
VOLUME = 1.3  # times as many, or as few, decisions an hour as before
WORSE = 3.0  # standard errors by which decisions must cost more, for others who ask to be a reason to complain
MIXED = 0.4  # of the variance of a part that must lie within slices of time
MEANT = 0.6  # share of the decisions in question that it must hold


def _suspect(kind: str, turn: Turn, says: str, undo: tuple[Change, ...]) -> Suspect:
    (a, b), (to_a, to_b) = turn.fit
    parameters = {
        "columns": columns_in(turn),
        "intercept": round(to_a - a, 3),
        "slope": round(to_b / b, 3) if abs(b) > 0.05 else 0.0,
        "turned": round(turn.turned, 3),
    }
    return Suspect(
        kind,
        "world",
        f"{says}: {told(turn)}",
        evidence(turn),
        undo,
        span_of(turn),
        str(moment(turn.since)),
        parameters,
    )


def undo_calibration(intercept: float, slope: float, where: Expr | None = None) -> tuple[Change, ...]:
    """Scores are mapped to what they mean now (log-odds times slope plus intercept) before the cuts."""
    return (Change(CALIBRATION, "calibration", (round(intercept, 4), round(max(0.0, slope), 4)), where),)


def _unseen(scene: Scene, kind: str) -> Ruling:
    look = residuals(scene)
    n, known = len(look.at), int(look.known.sum())
    if known < 5 * LEAST:
        return Ruling(kind, (), f"only {known:,} of {n:,} outcomes are known: whether they changed cannot be seen yet")
    turn = turn_of(scene)
    if turn is not None:
        return Ruling(kind, (), f"outcomes changed, but as {turn.kind}: {told(turn)}")
    late = look.known[look.slice >= look.n_slices // 2].mean()
    blind = f"; of the later half only {late:.0%} of the outcomes are known: a new change cannot be seen yet"
    says = f"scores mean what they meant before: for all, and for each of {len(look.groups)} cohorts"
    return Ruling(kind, (), says + (blind if late < 0.5 else ""))


# --- prior shift ---


def inject_prior(share: float, label: bool, where: Expr | None = None) -> tuple[Change, ...]:
    """A share of those to whom it happens (or does not) no longer asks: the base rate moves, the ranking stays."""
    of = col("label") == label
    return (Change(TRAFFIC, "fewer", share, of if where is None else where & of),)


def propose_prior(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """Sixty to ninety per cent of one class stay away."""
    share, label = float(random.uniform(0.6, 0.9)), bool(random.random() < 0.5)
    moved = -log(1 - share) * (-1 if label else 1)
    expects = () if cohort is None else ("prior shift", "concept drift")
    return Injection(
        PRIOR.name,
        inject_prior(share, label, cohort),
        _names(cohort),
        {"intercept": round(moved, 3)},
        cohort,
        expects=expects,
    )


def suspect_prior(scene: Scene) -> Ruling:
    """What scores mean moved everywhere by one amount, and the ranking is what it was.

    Told from concept drift (one cohort, or the ranking suffers too) and from wrong
    calibration (replay gives another score).
    """
    turn = turn_of(scene)
    if turn is None or turn.kind != PRIOR.name:
        return _unseen(scene, PRIOR.name)
    if child := closer(scene):
        return Ruling(PRIOR.name, (), f"what scores mean has changed, but only because of this: {child}")
    says = f"it happens {'more' if turn.happened > turn.expected else 'less'} often than it did, to all alike"
    return Ruling(PRIOR.name, (_suspect(PRIOR.name, turn, says, _map(turn)),))


def _map(turn: Turn) -> tuple[Change, ...]:
    return undo_calibration(*turn.fit[1], span_of(turn))


# --- concept drift ---


def inject_concept(share: float, where: Expr | None = None) -> tuple[Change, ...]:
    """A share of the outcomes of a cohort turns over."""
    return (Change(OUTCOME, "turned", share, where),)


def propose_concept(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A third to nearly half of the outcomes turn, in one part of the range of a column that counts."""
    where = cohort if cohort is not None else some_part(scene, random)
    if where is None:
        return None
    share = float(random.uniform(0.33, 0.45))
    return Injection(CONCEPT.name, inject_concept(share, where), _names(where), {"turned": round(share, 3)}, where)


def suspect_concept(scene: Scene) -> Ruling:
    """What scores mean changed in one cohort and nowhere else, or the ranking suffers everywhere.

    Told from label flip (ranking turned round) and from prior shift (everywhere alike).
    """
    turn = turn_of(scene)
    if turn is None or turn.kind != CONCEPT.name:
        return _unseen(scene, CONCEPT.name)
    if child := closer(scene):
        return Ruling(CONCEPT.name, (), f"what scores mean has changed, but only because of this: {child}")
    says = "what leads to it is no longer what it was"
    return Ruling(CONCEPT.name, (_suspect(CONCEPT.name, turn, says, _map(turn)),))


def _names(where: Expr | None) -> tuple[str, ...]:
    return () if where is None else tuple(sorted(c.partition(".")[2] for c in columns_of(where)))


# --- real event ---


def inject_event(share: float, where: Expr | None = None) -> tuple[Change, ...]:
    """For a span, what seldom happens happens to a share of those to whom it would not have."""
    was_not = col("label") == False  # noqa: E712  an expression, not a comparison
    return (Change(OUTCOME, "turned", share, was_not if where is None else where & was_not),)


def propose_event(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A storm, a strike, a fair: a few slices of time after which all is as before."""
    at = float(random.uniform(0.78, 0.86))
    first, last = scene.engine.rows(
        f"select quantile_disc(asked_at, {at}), quantile_disc(asked_at, {at + random.uniform(0.03, 0.07)}) "
        "from decisions where status = 'ok'"
    )[0]
    if first is None or first >= last:
        return None
    span = (col("asked_at") >= first) & (col("asked_at") < last)
    share = float(random.uniform(0.6, 0.9))
    where = span if cohort is None else cohort & span
    return Injection(REAL_EVENT.name, inject_event(share, where), _names(cohort), {}, cohort)


def suspect_event(scene: Scene) -> Ruling:
    """For a span of time outcomes were others, then as before: nothing of the system changed, the world did."""
    turn = turn_of(scene)
    if turn is None or turn.kind != REAL_EVENT.name:
        return _unseen(scene, REAL_EVENT.name)
    if child := closer(scene):
        return Ruling(REAL_EVENT.name, (), f"what scores mean has changed, but only because of this: {child}")
    says = "the world changed for a while, which is no fault of the system"
    return Ruling(REAL_EVENT.name, (_suspect(REAL_EVENT.name, turn, says, ()),))


# --- covariate drift ---


def inject_covariate(share: float, part: Expr, where: Expr | None = None) -> tuple[Change, ...]:
    """A share of the questions outside of one part no longer comes, so this part is more of all."""
    others = ~part
    return (Change(TRAFFIC, "fewer", share, others if where is None else where & others),)


def propose_covariate(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """Three quarters and more of the others stay away, by a column that counts for the model."""
    part = some_part(scene, random, own_columns(scene))
    if part is None or (cohort is not None and set(columns_of(part)) & set(columns_of(cohort))):
        return None
    changes = inject_covariate(float(random.uniform(0.75, 0.92)), part, cohort)
    return Injection(COVARIATE.name, changes, _names(part), {"columns": list(_names(part))}, cohort)


def suspect_covariate(scene: Scene) -> Ruling:
    """Who asks has moved, more sharply than ever before, by a column that counts; what scores mean has not.

    Told from every fault of a value: no closed form leads from before to after, and served equals recomputed.
    Who asks moves with each season; that is a reason to complain only if what is decided costs more since.
    """
    kind, turn = COVARIATE.name, turn_of(scene)
    if turn is not None:
        return Ruling(kind, (), f"what scores mean has moved, which who asks does not explain: {told(turn)}")
    own = own_columns(scene)
    moved = [d for d in (*drifted(scene), *_curved(scene)) if d.column in own and _weight(scene, d.column) >= COUNTS]
    grown = [(found, d) for d in moved if (found := _grown(scene, d)) is not None]
    if not grown:
        return Ruling(kind, (), "those who ask are as they were, by what counts for the model")
    (group, since, was, now), first = max(grown, key=lambda g: (g[0][3] - g[0][2]) * _weight(scene, g[1].column))
    look = residuals(scene)
    dearer = _dearer(scene, look, since)
    if dearer is not None and dearer < WORSE:
        who = f"{shown(group.where).removeprefix('row.')} {was:.0%} before, {now:.0%} since {moment(since):%Y-%m-%d}"
        spared = f"what is decided costs no more than before, given what happened (z {dearer:.1f})"
        return Ruling(kind, (), f"others ask than did ({who}), but {spared}")
    known = look.known[look.at >= since]
    seen = (
        f"where outcomes are known ({known.mean():.0%}), scores mean what they meant"
        if known.sum() >= LEAST
        else "too few outcomes are known yet to see whether scores still mean what they meant"
    )
    others = sorted({d.column for d in moved} - {first.column})
    also = f" ({', '.join(others)} moved as well)" if others else ""
    says = (
        f"others ask than did: {shown(group.where).removeprefix('row.')} is {now:.0%} of the decisions since "
        f"{moment(since):%Y-%m-%d %H:%M} UTC and was {was:.0%} before{also}; {seen}: reweigh and learn again, or move "
        "the cuts"
    )
    query = (
        f"select day, count(*) as decisions, avg(({to_sql(group.where)})::INT) as share, avg(score) as told "
        "from decisions group by day order by day"
    )
    where: Expr = col("asked_at") >= moment(since)
    where = where if first.where is None else first.where & where
    parameters = {"columns": [first.column], "was": round(was, 3), "now": round(now, 3)}
    return Ruling(kind, (Suspect(kind, "traffic", says, query, (), where, str(moment(since)), parameters),))


def _dearer(scene: Scene, look: Residuals, since: float) -> float | None:
    """By how many standard errors decisions cost more since a moment (µs) than before, given what happened.

    Beyond what the best action would have cost; slices of time are what is counted. Null if there are no prices or
    too few outcomes are known.
    """
    costs = scene.plan.system.goal.costs.of
    if not costs:
        return None
    best = [min(pair[y] for pair in costs.values()) for y in (0, 1)]
    regret = np.full(len(look.at), np.nan)
    for n, action in enumerate(scene.bundle.policy.actions, 1):
        for y in (0, 1) if action in costs else ():
            regret[(look.action == n) & (look.label == y)] = costs[action][y] - best[y]
    known = ~np.isnan(regret)
    means: list[tuple[float, float]] = []
    for side in (known & (look.at < since), known & (look.at >= since)):
        held, many = np.unique(look.slice[side], return_counts=True)
        if side.sum() < LEAST or len(held) < 2:
            return None
        mean = float(regret[side].mean())
        apart = np.bincount(look.slice[side], regret[side])[held] / many - mean
        means.append((mean, float(np.average(apart**2, weights=many)) / len(held)))
    (was, one), (now, other) = means
    return (now - was) / max(1e-12, float(np.sqrt(one + other)))


def _curved(scene: Scene) -> list[Drift]:
    """Columns that a curve would explain, while so many more or fewer ask than did: a curve moves nobody away."""
    look, found = residuals(scene), []
    for move in moved_values(scene).moves:
        if move.form.kind != "upstream change":
            continue
        since = (move.since - EPOCH).total_seconds() * 1e6
        late = look.at >= since
        if 0 < late.sum() < len(late):
            span = max(1.0, float(look.at[-1] - since)), max(1.0, float(since - look.at[0]))
            pace = (late.sum() / span[0]) / ((~late).sum() / span[1])
            if not 1 / VOLUME < pace < VOLUME:
                found.append(Drift(move.columns[0], move.explained, 0.0, move.whom.where, str(move.since)))
    return found


def _weight(scene: Scene, column: str) -> float:
    """How much the features of an input move the score, against the one that moves it most."""
    by = impact(scene)
    most = max(by.values(), default=0.0)
    own = [w for n, w in by.items() if n in scene.plan.features and column in columns_of(scene.plan.features[n])]
    return max(own, default=0.0) / most if most else 0.0


def _grown(scene: Scene, drift: Drift) -> tuple[Group, float, float, float] | None:
    """The part of a column that gained most: it, since when (µs), its share before and after; null if none did."""
    look = residuals(scene)
    since = (np.datetime64(drift.since) - np.datetime64(0, "s")) / np.timedelta64(1, "us")
    own = next((g.holds for g in look.groups if str(g.where) == str(drift.where)), np.ones(len(look.at), dtype=bool))
    late, early = own & (look.at >= since), own & (look.at < since)
    if late.sum() < LEAST or early.sum() < LEAST:
        return None
    found = []
    for group in look.groups:
        was, now = float(group.holds[early].mean()), float(group.holds[late].mean())
        odds = now * (1 - was) / max(1e-9, was * (1 - now))
        meant = float(group.holds[look.bad].mean()) if look.bad.any() else 1.0
        large = now - was >= GREW and odds >= ODDS and meant >= MEANT
        if group.column == f"row.{drift.column}" and large and _is_mixed(look, group):
            found.append((now - was, group, was, now))
    best = max(found, key=lambda f: f[0], default=None)
    return None if best is None else (best[1], float(since), best[2], best[3])


def _is_mixed(look: Residuals, group: Group) -> bool:
    """Whether a part and the rest ask at the same time: what only the calendar tells apart is no other clientele."""
    n = np.bincount(look.slice, minlength=look.n_slices)
    share = np.bincount(look.slice, group.holds, minlength=look.n_slices) / np.maximum(1, n)
    whole = float(group.holds.mean())
    return float((n * share * (1 - share)).sum() / n.sum()) >= MIXED * whole * (1 - whole)


COVARIATE = Kind(
    "covariate drift",
    "others ask than did before",
    5,
    inject_covariate,
    suspect_covariate,
    lambda: (),
    propose_covariate,
)
PRIOR = Kind(
    "prior shift",
    "it happens more or less often than it did",
    5,
    inject_prior,
    suspect_prior,
    undo_calibration,
    propose_prior,
    needs=("inputs", "score", "outcome"),
)
CONCEPT = Kind(
    "concept drift",
    "what leads to it has changed",
    5,
    inject_concept,
    suspect_concept,
    undo_calibration,
    propose_concept,
    needs=("inputs", "score", "outcome"),
)
REAL_EVENT = Kind(
    "real event",
    "the world changed for a while",
    5,
    inject_event,
    suspect_event,
    lambda: (),
    propose_event,
    needs=("inputs", "score", "outcome"),
)
