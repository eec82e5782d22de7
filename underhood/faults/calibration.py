"""Wrong calibration: what comes after the model maps its score to another one, by one rising curve for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from underhood.faults.kinds import Injection, Kind, Ruling, Scene
from underhood.faults.vectors import MAP, misscored, no_suspect, of_the_model, replayed, score_suspect
from underhood.plan.changes import BUNDLE, SCORE, Change
from underhood.plan.exprs import Expr, col, columns_of, wrap

OTHERWISE = "no one rising curve makes the scores that were served out of those that the model gives"
SURE = 1e-6  # scores closer than this to 0 or 1 say little of a line in log-odds


def inject_calibration(intercept: float, slope: float, where: Expr | None = None) -> tuple[Change, ...]:
    """The log-odds of the score are multiplied by `slope`, and `intercept` is added."""
    score = col("score")
    odds = (score / (1 - score)).then("ln")
    return (Change(SCORE, "score", wrap(1) / (1 + (-(odds * slope + intercept)).then("exp")), where),)


def undo_calibration(bundle: str) -> tuple[Change, ...]:
    """The bundle scores again what was captured: the map is gone, whatever its form."""
    return (Change(BUNDLE, "bundle", bundle),)


def propose_calibration(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A calibrator fitted elsewhere: off by a base rate, too sure or too shy."""
    sign = 1.0 if random.random() < 0.5 else -1.0
    intercept = sign * float(random.uniform(0.7, 1.6))
    slope = float(random.choice([1.0, random.uniform(0.5, 0.8), random.uniform(1.3, 2.0)]))
    columns = () if cohort is None else tuple(sorted(c.partition(".")[2] for c in columns_of(cohort)))
    parameters = {"intercept": round(intercept, 3), "slope": round(slope, 3)}
    return Injection(WRONG_CALIBRATION.name, inject_calibration(intercept, slope, cohort), columns, parameters, cohort)


def suspect_calibration(scene: Scene) -> Ruling:
    """The captured features, scored again, give another score, and one rising curve leads from one to the other.

    Told from wrong model and feature order, where equal scores become different ones. Where replay is
    identical but scores mean something else than before, it is the world: prior shift or concept drift.
    """
    found = misscored(scene)
    if found is None or found.how != MAP:
        return no_suspect(scene, WRONG_CALIBRATION.name, OTHERWISE)
    intercept, slope = _line(scene)
    says = f"they are its scores with log-odds × {slope:.3g} {intercept:+.3g}"
    made = score_suspect(scene, WRONG_CALIBRATION.name, found, "calibration", says)
    parameters = {"intercept": round(intercept, 3), "slope": round(slope, 3), **found.parameters}
    return Ruling(WRONG_CALIBRATION.name, (replace(made, undo=of_the_model(scene), parameters=parameters),))


def _line(scene: Scene) -> tuple[float, float]:
    """The line in log-odds from the model's scores to those served: intercept and slope, by medians.

    Theil and Sen (1968), on pairs of ranks half a sample apart.
    """
    r = replayed(scene)
    fit = r.differs & (np.minimum(r.again, 1 - r.again) > SURE) & (np.minimum(r.score, 1 - r.score) > SURE)
    if fit.sum() < 2:
        return 0.0, 1.0
    x, y = (np.log(p[fit] / (1 - p[fit])) for p in (r.again, r.score))
    order = np.argsort(x, kind="stable")
    x, y, half = x[order], y[order], len(x) // 2
    run, rise = x[half:] - x[: len(x) - half], y[half:] - y[: len(x) - half]
    slope = float(np.median(rise[run > 0] / run[run > 0])) if (run > 0).any() else 1.0
    return float(np.median(y - slope * x)), slope


WRONG_CALIBRATION = Kind(
    "wrong calibration",
    "scores are mapped by the wrong curve",
    1,
    inject_calibration,
    suspect_calibration,
    undo_calibration,
    propose_calibration,
    needs=("inputs", "score", "scorer"),
)
