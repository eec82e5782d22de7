"""Was what was told what is so? Decisions with scores like those in question, and those in question as a group."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from underhood.build.scorer import Array
from underhood.faults.kinds import Scene
from underhood.repair.bench import Ground, truth_sql

# In log-odds: 8 % reaches from 6 % to 10 %, 80 % from 76 % to 84 %. Fewer than MIN decisions
# in it say little, so it widens, but never beyond what one would still call a similar score.
NEAR, WIDEST, MIN = 0.25, 0.7, 200
SLACK = 0.02  # a gap smaller than this is not worth a mechanic's morning


@dataclass(frozen=True)
class Neighbourhood:
    """Decisions with scores like the ones in question, those included: what they were told, what happened.

    `low` to `high` is a 95 % Wilson interval of the true share.
    """

    n: int
    told: float
    happened: float
    low: float
    high: float

    @property
    def tells_too_little(self) -> bool:
        """Whether it happens more often than was told."""
        return self.low > self.told and self.happened - self.told > SLACK

    @property
    def tells_too_much(self) -> bool:
        """Whether it happens less often than was told."""
        return self.high < self.told and self.told - self.happened > SLACK


@dataclass(frozen=True)
class Harm:
    """Whether the decisions in question did otherwise than they were told: mean score, true share, z of the gap."""

    n: int
    told: float
    happened: float
    z: float


def around(ground: Ground) -> Neighbourhood | None:
    """The decisions with a known outcome whose scores are like those in question; null if there are none.

    Those in question are among them, at the rate at which they occur: without them
    the rest would look better or worse than it is.
    """
    known = ~np.isnan(ground.truth)
    if not known.any() or not ground.bad.any():
        return None
    distance = np.abs(logit(ground.score) - np.median(logit(ground.score[ground.bad])))
    distance[~known] = np.inf
    nearest = np.sort(distance)[min(MIN, int(known.sum())) - 1]
    near = distance <= min(WIDEST, max(NEAR, float(nearest)))
    if not near.any():
        return None
    happened = float(ground.truth[near].mean())
    low, high = wilson(happened, int(near.sum()))
    return Neighbourhood(int(near.sum()), float(ground.score[near].mean()), happened, low, high)


def around_all(scene: Scene, ground: Ground) -> Neighbourhood | None:
    """The same of a record of which `ground` holds only a share, and all in question: the others are counted there."""
    if not ground.bad.any():
        return None
    middle = float(np.median(logit(ground.score[ground.bad])))
    p = "greatest(1e-4, least(1 - 1e-4, score))"
    known = (
        f"select score, {truth_sql(scene)} as truth, abs(ln({p} / (1 - {p})) - ({middle!r})) as distance "
        "from decisions where status = 'ok'"
    )
    reach = NEAR
    n, near = scene.engine.rows(
        f"select count(*), count(*) filter (where distance <= {NEAR}) from ({known}) where truth is not null"
    )[0]
    if not n:
        return None
    if near < min(MIN, n):
        nearest = f"select distance from ({known}) where truth is not null order by distance limit 1 offset "
        reach = min(WIDEST, float(scene.engine.rows(f"{nearest}{min(MIN, n) - 1}")[0][0]))
    n, told, happened = scene.engine.rows(
        f"select count(*), avg(score), avg(truth::INT) from ({known}) where truth is not null and distance <= {reach!r}"
    )[0]
    return Neighbourhood(n, told, happened, *wilson(happened, n)) if n else None


def logit(score: Array) -> Array:
    """Log-odds of probabilities, those beyond 0.0001 and 0.9999 cut off."""
    p = np.clip(score, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(p / (1 - p)))


def wilson(share: float, n: int) -> tuple[float, float]:
    """A 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


def harm_of(ground: Ground) -> Harm | None:
    """Whether the decisions in question, as a group, were told something else than happened; null if unknown."""
    those = ground.bad & ~np.isnan(ground.truth)
    if not those.any():
        return None
    score, truth = ground.score[those], ground.truth[those]
    spread = sqrt(float((score * (1 - score)).sum())) or 1e-9
    return Harm(int(those.sum()), float(score.mean()), float(truth.mean()), float((truth - score).sum()) / spread)
