"""One decision opened layer by layer: source rows, input, features, score, action, each beside what is usual.

Beside the score stand the training rows that are most alike to the model, with
what they taught it, and what the score would be with one value at its usual place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from underhood.build.bundle import Bundle
from underhood.build.outside import digits_of
from underhood.build.scorer import Array, Frame, leaves, scorer
from underhood.build.trainset import open_training
from underhood.ground.records import Decision
from underhood.plan.joins import Plan
from underhood.plan.operations import FLAG, NUMBER, TEXT
from underhood.plan.render import quoted, sql_value
from underhood.plan.steps import Asof
from underhood.repair.replay import Difference, Replay, recompute, replay
from underhood.run.decide import decider
from underhood.run.policy import Patched
from underhood.tables.local import Engine

NEAREST = 50
RARE = 0.01
MOST_SHARED = 3
MOVES = 0.005  # of a score: less does not show in its second decimal


@dataclass(frozen=True)
class Reading:
    """One value on the way. `low` to `high` is where 90 % of training lay (null for texts and flags)."""

    name: str
    value: Any
    usual: str
    is_unusual: bool
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Neighbours:
    """The training rows most alike to the model: `n` of them, how many taught "happened", facts that most share.

    `alike` is the mean share of trees (or closeness) in which they fall together with the decision.
    """

    n: int
    positive: int
    alike: float
    shared: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Opened:
    """A decision with its hood up. `swaps`: feature → score with only that feature at its usual value."""

    decision: Decision
    replay: Replay
    recomputed: tuple[Difference, ...] | None
    sources: tuple[tuple[str, str], ...]
    inputs: tuple[Reading, ...]
    features: tuple[Reading, ...]
    swaps: Mapping[str, float]
    neighbours: Neighbours


def moving(opened: Opened, feature: str) -> float | None:
    """The score if a feature were usual; null where that moves it by less than is shown, or nothing was tried."""
    score, swapped = opened.decision.score, opened.swaps.get(feature)
    return None if score is None or swapped is None or abs(swapped - score) < MOVES else swapped


def open_layers(
    engine: Engine,
    plan: Plan,
    record: Path,
    bundle: Bundle,
    decision: Decision,
    patches: Sequence[Patched] = (),
) -> Opened:
    """Every layer of one decision. Needs the views `asks` and `decisions`; opens the bundle's training set."""
    open_training(engine, record, bundle.made_from["training"])
    unused = [n for n in bundle.inputs if n not in bundle.features]
    return Opened(
        decision,
        replay(decision, decider(bundle, patches), digits_of(bundle.model)),
        recompute(engine, plan, decision),
        source_rows(engine, plan, decision.key),
        tuple(reading(bundle, n, decision.row.get(n), bundle.inputs[n]) for n in unused if n in bundle.usual),
        tuple(reading(bundle, n, v, bundle.feature_types[n]) for n, v in decision.features.items()),
        usual_swaps(bundle, decision),
        neighbours(engine, plan, bundle, decision),
    )


def reading(bundle: Bundle, name: str, value: Any, kind: str) -> Reading:
    """One value beside what training saw of it."""
    usual = bundle.usual.get(name, {})
    if value is None:
        share = usual.get("nulls", 0)
        return Reading(name, None, f"null in {share:.1%} of training", share < RARE)
    if kind == NUMBER and usual.get("low") is not None:
        low, high = usual["low"], usual["high"]
        return Reading(name, value, f"{low:.4g} … {high:.4g}", not low <= value <= high, low, high)
    if kind in (TEXT, FLAG) and "levels" in usual:
        level = str(value).lower() if kind == FLAG else str(value)
        share = usual["levels"].get(level, 0)
        return Reading(name, value, f"{share:.1%} of training" if share else "never in training", share == 0)
    return Reading(name, value, "", False)


def source_rows(engine: Engine, plan: Plan, key: str) -> tuple[tuple[str, str], ...]:
    """For each join as of then: the source and the key of the row that was used, with when it happened."""
    found = []
    for n, join in enumerate(plan.system.asks.joins, 1):
        if isinstance(join, Asof):
            name = join.source.name
            rows = engine.rows(
                f"select s.__key, s.__happened from asks a join {quoted(name)} s "
                f"on s.__row = a.{quoted(f'__{name}_{n}_row')} where a.key = {sql_value(key)}"
            )
            found.append(
                (
                    name,
                    f"{rows[0][0]} of {rows[0][1]} UTC" if rows else "no row fresh enough and known by then",
                )
            )
    return tuple(found)


def usual_swaps(bundle: Bundle, decision: Decision) -> dict[str, float]:
    """The score with one feature at a time set to its usual value, largest change first."""
    if decision.score is None:
        return {}
    score = scorer(bundle.model)
    made = {}
    for name in bundle.features:
        usual = bundle.usual.get(name, {})
        to = usual.get("middle") if "middle" in usual else next(iter(usual.get("levels", {})), None)
        if bundle.feature_types[name] == FLAG and to is not None:
            to = to == "true"
        if to is not None and to != decision.features[name]:
            made[name] = score({**decision.features, name: to})
    return dict(sorted(made.items(), key=lambda item: -abs(item[1] - (decision.score or 0.0))))


def neighbours(engine: Engine, plan: Plan, bundle: Bundle, decision: Decision, n: int = NEAREST) -> Neighbours:
    """The training rows most alike to the model. Needs the view `training`."""
    columns = ", ".join(f"{quoted('features.' + f)} as {quoted(f)}" for f in bundle.features)
    known = engine.frame(f"select {columns} from training order by asked_at, key")
    alike = likeness(bundle, known, {f: _one(v, bundle.feature_types[f]) for f, v in decision.features.items()})
    nearest = np.argsort(-alike, kind="stable")[:n]
    facts = ", ".join(quoted("facts." + f) for f in plan.facts)
    rows = engine.dicts(
        f"select key, asked_at, label{', ' + facts if facts else ''} from training order by asked_at, key"
    )
    chosen = [{**rows[i], "alike": float(alike[i])} for i in nearest]
    positive = sum(bool(r["label"]) for r in chosen)
    near = float(alike[nearest].mean()) if chosen else 0.0  # of a system made elsewhere nobody may know what was taught
    return Neighbours(len(chosen), positive, near, _shared(engine, plan, chosen), tuple(chosen))


def likeness(bundle: Bundle, known: Frame, one: Frame) -> Array:
    """How alike each training row is to one row, as the model sees it: 1 is the same.

    Trees: the share of trees in which both fall into the same leaf. Others: 1 / (1 + distance
    of the features, numbers in units of their usual range, other levels at distance 1).
    """
    if bundle.model["kind"] == "trees":
        return np.asarray((leaves(bundle.model, known) == leaves(bundle.model, one)[0]).mean(axis=1))
    distance = np.zeros(len(next(iter(known.values()))))
    for name, values in known.items():
        if bundle.feature_types[name] == TEXT:
            distance += values != one[name][0]
        else:
            usual = bundle.usual.get(name, {})
            width = (usual.get("high") or 1.0) - (usual.get("low") or 0.0) or 1.0
            gap = np.abs(values.astype(float) - one[name].astype(float)[0]) / width
            distance += np.where(np.isnan(gap), 1.0, gap)
    return np.asarray(1 / (1 + distance))


def _one(value: Any, kind: str) -> Array:
    if kind == TEXT:
        return np.array([value], dtype=object)
    return np.array([np.nan if value is None else float(value)])


def _shared(engine: Engine, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Facts that stand out among these rows: at least a fifth have them, three times the share of all training rows."""
    tests: dict[str, tuple[str, Callable[[Any], bool]]] = {}
    for name, kind in plan.facts.items():
        column = quoted(f"facts.{name}")
        if kind == FLAG:
            tests[f"{name} = true"] = (column, lambda v: v is True)
            tests[f"{name} = false"] = (f"not {column}", lambda v: v is False)
        else:
            tests[f"no {name}"] = (f"{column} is null", lambda v: v is None)
    if not tests or not rows:
        return ()
    shares = engine.rows(
        f"select {', '.join(f'avg(coalesce({t}, false)::INT)' for t, _ in tests.values())} from training"
    )[0]
    found: list[tuple[bool, int, str]] = []
    kinds = plan.facts
    for (says, (_, holds)), share in zip(tests.items(), shares, strict=True):
        name = says.removeprefix("no ").split(" = ")[0]
        n = sum(holds(r[f"facts.{name}"]) for r in rows)
        if n >= 0.2 * len(rows) and n / len(rows) >= 3 * share:
            found.append(
                (kinds[name] != FLAG, -n, f"{says} in {n} of {len(rows)}, against {share:.1%} of all training rows")
            )
    return tuple(says for _, _, says in sorted(found)[:MOST_SHARED])


def opened_json(opened: Opened) -> dict[str, Any]:
    """The opened decision as plain JSON values."""
    body = asdict(opened)
    body["replay"]["identical"] = opened.replay.is_identical
    return body
