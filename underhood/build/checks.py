"""What a build checks before it packs: refused, noticed, passed, each with its figure and what to do.

A check is one sentence with a number; `level` is "checked", "noticed" or
"refused". Nothing refused is packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from underhood.build.ladder import Climb, log_loss
from underhood.build.scorer import Array, Frame, Model, score_frame, scorer
from underhood.build.trainset import TrainingSet
from underhood.ground.errors import ParityError
from underhood.plan.exprs import Expr, columns_of
from underhood.plan.joins import Plan
from underhood.plan.operations import FLAG, TEXT
from underhood.plan.render import quoted
from underhood.plan.steps import Asof, Costs, Policy
from underhood.tables.cleaned import effects_of
from underhood.tables.local import Engine

CHECKED, NOTICED, REFUSED = "checked", "noticed", "refused"
DAY_S = 86_400.0


@dataclass(frozen=True)
class Check:
    """One thing that a build checked, noticed or refused."""

    level: str
    what: str
    where: str = ""
    hint: str = ""


def check_tables(engine: Engine, plan: Plan) -> Iterator[Check]:
    """Findings about sources and joins: rows cleaned, joins without a partner, all clocks in order."""
    asked = plan.system.asks.source.name
    n = engine.rows(f"select count(*) from {quoted(asked)}")[0][0]
    yield Check(CHECKED, f"{n:,} rows of {asked} in, {n:,} questions out; none lost or doubled by the joins")
    for name, each in plan.sources.items():
        for effect in effects_of(engine, each).effects if each.stages else ():
            level = NOTICED if effect.changed or effect.removed else CHECKED
            did = f"set aside {effect.removed:,} rows" if not effect.column else f"changed {effect.changed:,} values"
            yield Check(level, f"cleaning ({effect.name}) {did}", f"{name}.{effect.column}".rstrip("."))
    for n_join, join in enumerate(plan.system.asks.joins, 1):
        if isinstance(join, Asof):
            column = quoted(f"__{join.source.name}_{n_join}_row")
            lost = engine.rows(f"select count(*) from asks where {column} is null")[0][0]
            if lost:
                yield Check(
                    NOTICED,
                    f"{lost:,} of {n:,} questions found no row of {join.source.name} fresh enough and known by then",
                    f"asof {join.source.name}",
                    "their columns are null; widen max_age, or see which days it concerns",
                )


def check_label(engine: Engine, plan: Plan, drawn: TrainingSet) -> Iterator[Check]:
    """Findings about the label: its share, rows left out, and rows where it is only a filled-in guess."""
    n = len(drawn.label)
    name = plan.system.label.name
    yield Check(CHECKED, f"{n:,} rows drawn, {drawn.label.mean():.1%} positive", f"label {name}")
    for reason, count in drawn.left_out.items():
        yield Check(REFUSED, f"{count:,} rows left out: {reason}", "training set")
    yield from _maturity(engine, name)
    prefixed = {c: f"facts.{c}" for c in plan.facts} | {c: f"row.{c}" for c in plan.inputs}
    for filled, value in fills(plan.label):
        columns = sorted(columns_of(filled))
        nulls = " or ".join(f"{quoted(prefixed[c])} is null" for c in columns)
        count = engine.rows(f"select count(*) from training where {nulls}")[0][0]
        if count:
            yield Check(
                NOTICED,
                f"{count:,} rows ({count / n:.1%}) have no {', '.join(columns)}; their label is {value} only because "
                "the definition fills it in",
                f"label {name}",
                "ask what such a row means before it teaches the model",
            )


def _maturity(engine: Engine, name: str) -> Iterator[Check]:
    """Whether one answer becomes known sooner than the other: then the newest rows lean to it."""
    yes, no = engine.rows(
        "select quantile_cont(epoch(known_at - asked_at), 0.5) filter (where label), "
        "quantile_cont(epoch(known_at - asked_at), 0.5) filter (where not label) from training"
    )[0]
    if yes is not None and no is not None and abs(yes - no) > max(DAY_S, 0.5 * max(yes, no)):
        yield Check(
            NOTICED,
            f"'yes' is known {yes / DAY_S:.0f} days after asking, 'no' {no / DAY_S:.0f}: the newest rows lean to one",
            f"label {name}",
            "let the label be known when both answers would be, say at the end of the stay, term or trip",
        )


def fills(label: Expr) -> Iterator[tuple[Expr, str]]:
    """Each part of a label that is filled in where it is null, with what it is filled with."""
    if label.op == "fill" and label.args[1].op == "lit":
        yield label.args[0], str(label.args[1])
    if label.op == "when" and label.args[2].op == "lit" and label.args[2].args[0] is not None:
        yield label.args[0], str(label.args[2])
    for arg in label.args:
        if isinstance(arg, Expr):
            yield from fills(arg)


def check_model(model: Model, frame: Frame, plan: Plan) -> Iterator[Check]:
    """Findings about the model: both scorers agree to the last bit; unused and constant features.

    Raises ParityError if a row scores differently alone than in a batch.
    """
    index = np.linspace(0, len(next(iter(frame.values()))) - 1, 1000).astype(int)
    sample = {n: v[index] for n, v in frame.items()}
    batch, one = score_frame(model, sample), scorer(model)
    alone = np.array([one(row) for row in rows_of(sample, plan.feature_types)])
    if not np.array_equal(batch, alone):
        raise ParityError(f"{int((batch != alone).sum())} of {len(alone)} rows score differently alone", "model")
    yield Check(CHECKED, f"{len(alone):,} rows score the same alone and in a batch, to the last bit", "model")
    constant = [n for n, v in frame.items() if len({x for x in v[index].tolist() if x == x}) <= 1]
    for name in constant:
        yield Check(NOTICED, "has one value in the rows looked at", f"features.{name}", "leave it out")


def rows_of(frame: Frame, types: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of a frame as `decide` sees them: nulls as None, flags as flags."""
    columns = [_values(values, types[name]) for name, values in frame.items()]
    for values in zip(*columns, strict=True):
        yield dict(zip(frame, values, strict=True))


def _values(values: Array, kind: str) -> list[Any]:
    if kind == TEXT:
        return list(values)
    made = [None if v != v else v for v in values.tolist()]
    return [None if v is None else bool(v) for v in made] if kind == FLAG else made


def check_worth(climb: Climb, drawn: TrainingSet, policy: Policy, costs: Costs) -> Iterator[Check]:
    """Findings about the worth on the tested folds: loss, calibration, money against doing nothing."""
    if not len(climb.tested):
        yield Check(NOTICED, "too little history for folds in time: nothing is known about new rows", "ladder")
        return
    label, score = drawn.label[climb.tested], climb.scores
    low, high = calibration_of(label, score)
    level = CHECKED if low <= 0 <= high else NOTICED
    yield Check(
        level,
        f"on {len(label):,} later rows: mean score {score.mean():.3f}, true share {label.mean():.3f}, "
        f"log loss {log_loss(label, score):.4f}",
        "calibration",
        "" if level == CHECKED else "the period may differ from the one before; watch the share by week",
    )
    acting = money(label, score, policy, costs)
    idle = {a: float(np.where(label > 0, yes, no).mean()) for a, (no, yes) in costs.of.items() if a in policy.actions}
    best = min(idle, key=lambda a: idle[a])
    level = CHECKED if acting < idle[best] else NOTICED
    yield Check(level, f"{acting:.2f} a decision; always '{best}' would cost {idle[best]:.2f}", "worth")


def money(label: Array, score: Array, policy: Policy, costs: Costs) -> float:
    """Mean cost of a decision under the policy, in the goal's money."""
    return float(costs_of(label, actions_of(score, policy), costs).mean())


def actions_of(score: Array, policy: Policy) -> Array:
    """The policy's action for each score, as texts."""
    made = np.full(len(score), policy.otherwise, dtype=object)
    for action, cut in reversed(policy.cuts):
        made[score >= cut] = action
    return made


def costs_of(label: Array, action: Array, costs: Costs) -> Array:
    """The cost of each decision, in the goal's money; NaN where the label is not known."""
    made = np.full(len(action), np.nan)
    for name, (no, yes) in costs.of.items():
        chosen = action == name
        made[chosen] = np.where(label[chosen] > 0, yes, no)
    made[np.isnan(label)] = np.nan
    return made


def calibration_of(label: Array, score: Array) -> tuple[float, float]:
    """A 95 % interval of (true share - mean score), with blocks of neighbouring rows as clusters."""
    gap = label - score
    blocks = np.array_split(gap, max(2, min(60, len(gap) // 200)))
    means = np.array([b.mean() for b in blocks])
    half = 1.96 * means.std(ddof=1) / np.sqrt(len(means))
    return float(gap.mean() - half), float(gap.mean() + half)


def usual_of(engine: Engine, plan: Plan) -> dict[str, dict[str, Any]]:
    """What training saw of every input and feature: quantiles of numbers, shares of levels, nulls."""
    shown: dict[str, dict[str, Any]] = {}
    columns = {c: (f"row.{c}", t) for c, t in plan.inputs.items()}
    columns |= {n: (f"features.{n}", t) for n, t in plan.feature_types.items()}
    for name, (column, kind) in columns.items():
        text = quoted(column)
        nulls = f"count(*) filter (where {text} is null) / count(*)"
        if kind in (TEXT, FLAG):
            levels = engine.rows(
                f"select {text}::VARCHAR, count(*) / sum(count(*)) over () from training where {text} is not null "
                "group by 1 order by 2 desc, 1 limit 2000"
            )
            share = engine.rows(f"select {nulls} from training")[0][0]
            shown[name] = {"levels": {str(level): round(part, 6) for level, part in levels}, "nulls": share}
        elif kind == "number":
            low, middle, high, share = engine.rows(
                f"select quantile_disc({text}, 0.05), quantile_disc({text}, 0.5), quantile_disc({text}, 0.95), "
                f"{nulls} from training"
            )[0]
            shown[name] = {"low": low, "middle": middle, "high": high, "nulls": share}
    return shown
