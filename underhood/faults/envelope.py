"""Beyond the envelope: numbers outside all that training held, where a model repeats the last that it knew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from underhood.build.trainset import settle_predicate
from underhood.faults.extent import extent_of, rises
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.traffic import own_columns
from underhood.faults.vectors import impact
from underhood.plan.changes import INPUT, SOURCE, Change
from underhood.plan.exprs import Expr, col, columns_of, lit
from underhood.plan.operations import NUMBER
from underhood.plan.render import quoted, to_sql

TAIL, MARGIN = 0.0005, 0.02  # of training beyond which values are odd ones out; of its width beyond that
NATS = 12.0  # by which two shares must be likelier than one, with some thousand places of a change looked at
SHARE = 0.6  # of the decisions in question that must lie outside
ONE_VALUE = 0.1  # of those who ask: a clientele of which more have one value is none
COUNTS = 0.05  # of what the weightiest feature moves: less is no matter to the model


@dataclass(frozen=True)
class Beyond:
    """A side of a feature on which few training rows lie: `sign` and `cut` tell them, training held up to `held`.

    `usual` is the middle of training.
    """

    name: str
    sign: str
    cut: float
    held: float
    usual: float


def inject_envelope(name: str, low: float, width: float, by: str, where: Expr | None = None) -> tuple[Change, ...]:
    """Those who ask have values of an input from `low` on, up to twice a `width` beyond, in no order of what they had.

    `by` is a number that deals them out.
    """
    dealt = (col(f"row.{by}") * 7.31) % 1.0
    return (Change(SOURCE, name, dealt * width + (low + 0.1 * width), where),)


def undo_envelope(name: str, usual: float, where: Expr) -> tuple[Change, ...]:
    """The usual number stands in for one of which the model knows nothing: then the rest of the row speaks."""
    return (Change(INPUT, name, usual, where),)


def propose_envelope(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A new clientele: a number that counts lies up to once the whole width of training above it."""
    weight, inputs = impact(scene), scene.plan.inputs
    own = {n: str(e.args[0]) for n, e in scene.plan.features.items() if e.op == "col"}
    names = [n for n in weight if n in own and inputs.get(own[n]) == NUMBER and weight[n] >= 0.1 * max(weight.values())]
    others = _spread(scene, [c for c, kind in inputs.items() if kind == NUMBER], cohort)
    names = [n for n in names if own[n] in own_columns(scene)]
    for name in random.permutation(names[:4]).tolist():
        column = quoted(f"features.{name}")
        low, high, least = scene.engine.rows(
            f"select quantile_cont({column}, 0.01), max({column}), min({column}) from training"
        )[0]
        spread = [
            c
            for c in others
            if c != own[name] and not set(columns_of(lit(True) if cohort is None else cohort)) & {f"row.{c}"}
        ]
        if low is None or not spread or high - least > 20 * (high - low):
            continue
        by = spread[int(random.integers(len(spread)))]
        changes = inject_envelope(own[name], float(high), float((high - low) * random.uniform(0.4, 1.0)), by, cohort)
        expects = (ENVELOPE.name, "training gap", "upstream change")
        return Injection(
            ENVELOPE.name, changes, (own[name],), {"columns": [name], "beyond": float(high)}, cohort, expects=expects
        )
    return None


def _spread(scene: Scene, names: list[str], cohort: Expr | None) -> list[str]:
    """The numbers that deal out many values: of one that is mostly the same, or missing, all would have one value.

    One value that stands for all is a filled one, and nobody could tell it from new people who ask.
    """
    where = "true" if cohort is None else to_sql(settle_predicate(scene.plan, cohort))
    found = []
    for name in names:
        top, n = scene.engine.rows(
            f"select max(k), sum(k) from (select count(*) as k from decisions where status = 'ok' and ({where}) "
            f"group by {quoted('row.' + name)})"
        )[0]
        if n and top <= ONE_VALUE * n:
            found.append(name)
    return found


def suspect_envelope(scene: Scene) -> Ruling:
    """Most of the decisions in question have a number that lies beyond nearly all of training, one that counts.

    Only numbers that a question brings itself: counts and feeds grow beyond what they were in every good year.
    What is odd in training (one row in two thousand) does not widen what it held. Told from a
    fault of the value, which has a form, and from a training gap, where a level or a cohort is missing.
    """
    weight = impact(scene)
    most = max(weight.values(), default=0.0)
    kinds, own = scene.bundle.feature_types, set(own_columns(scene))
    names = [n for n, kind in kinds.items() if kind == NUMBER and weight.get(n, 0.0) >= COUNTS * most > 0]
    names = [n for n in names if n in scene.plan.features and columns_of(scene.plan.features[n]) <= own]
    if not names:
        return Ruling(ENVELOPE.name, (), "no number that a question brings itself counts for the model")
    tails = ", ".join(
        f"quantile_cont({c}, [{TAIL}, 0.5, {1 - TAIL}]), min({c}), max({c})"
        for c in (quoted("features." + n) for n in names)
    )
    held = scene.engine.rows(f"select {tails} from training")[0]
    tests: list[Beyond] = []
    for n, name in enumerate(names):
        tail, least, most = held[3 * n : 3 * n + 3]
        if tail is None or tail[0] is None:
            continue
        low, usual, high = tail
        width = MARGIN * (high - low)
        # what training held, but for an absurd row
        last = most if most - high <= high - low else high
        first = least if low - least <= high - low else low
        tests.append(Beyond(name, ">", float(high + width), float(last), float(usual)))
        tests.append(Beyond(name, "<", float(low - width), float(first), float(usual)))
    if not tests:
        return Ruling(ENVELOPE.name, (), "no training row holds a number that counts, so nothing can lie beyond it")
    meant = "bad" if scene.n_bad else "true"
    shares = ", ".join(f"avg(({quoted('features.' + t.name)} {t.sign} {t.cut})::INT)" for t in tests)
    found = scene.engine.rows(f"select {shares} from decisions where status = 'ok' and {meant}")[0]
    best = max(range(len(tests)), key=lambda n: found[n] or 0.0)
    if (found[best] or 0.0) < SHARE:
        return Ruling(
            ENVELOPE.name, (), f"the numbers that count ({', '.join(names[:5])}) lie within what training held"
        )
    return Ruling(ENVELOPE.name, (_suspect(scene, tests[best], float(found[best])),))


def _suspect(scene: Scene, beyond: Beyond, share: float) -> Suspect:
    name, sign, cut = beyond.name, beyond.sign, beyond.cut
    column, feature = quoted(f"features.{name}"), col(f"features.{name}")
    where = feature > cut if sign == ">" else feature < cut
    rows = scene.engine.frame(
        f"select id, coalesce({column} {sign} {cut}, false) as h from decisions where status = 'ok' "
        "order by asked_at, id"
    )
    outside = rows["h"] > 0
    # the odd row before they come often is no beginning
    begins, news = rises(outside)
    often = outside & (np.arange(len(outside)) >= (begins if news > NATS else 0))
    extent = extent_of(scene, rows["id"], often, np.ones(len(outside), dtype=bool))
    made = scene.plan.features[name]
    own = str(made.args[0]) if made.op == "col" else ""
    value = col(f"row.{own}")
    side = "above" if sign == ">" else "below"
    return Suspect(
        ENVELOPE.name,
        "training set",
        f"{share:.0%} of the decisions in question have {name} {side} {cut:.4g}, beyond all but {TAIL:.2%} of training"
        f", as have {int(outside.sum()):,} in all: the model goes on with the last that it knew",
        f"select 'training' as side, min({column}), max({column}) from training union all "
        f"select 'decisions', min({column}), max({column}) from decisions where {column} {sign} {cut}",
        undo_envelope(own, beyond.usual, value > cut if sign == ">" else value < cut) if own else (),
        where,
        extent.since,
        {"columns": [name], "beyond": beyond.held, "decisions": int(outside.sum())},
    )


ENVELOPE = Kind(
    "beyond the envelope",
    "values beyond all that training held",
    3,
    inject_envelope,
    suspect_envelope,
    undo_envelope,
    propose_envelope,
    needs=("inputs", "training table"),
)
