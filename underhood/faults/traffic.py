"""Faults of the traffic itself: questions decided twice, tried again, never decided, or asked by nobody.

They seldom change an action, so no figure of the model moves. What tells them is the
count: decisions against questions, and one exact row against how usual it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lgamma, log
from typing import Any

import numpy as np

from underhood.faults.extent import Extent, extent_of
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.plan.changes import TRAFFIC, Change
from underhood.plan.exprs import Expr, col
from underhood.plan.operations import TIME
from underhood.plan.render import quoted, sql_value

AGAIN_S = 3600  # seconds within which a question that comes again is the same request
MOSTLY = 0.5  # share of the bad that must show it
LEAST = 5  # repeats; questions without a decision
DENSE, TIMES = 20, 10  # decisions of one exact row; how many times more than are usual
BY_CHANCE = log(1e-6)
NEAR_H = 48  # hours from a hole within which a complaint is about it
NOISE = 0.01  # share of questions that go undecided in quiet times

REPEATS = """
select d.id, d.key, d.asked_at, d.bad, d.score, greatest(1, coalesce(a.n, 0)) as questions,
    row_number() over same as place, count(*) over (partition by d.key) as times,
    epoch(d.asked_at - lag(d.asked_at) over same) as gap_s, lag(d.score) over same as before
from decisions d left join (select key, count(*) as n from asks group by key) a on d.key = a.key
where d.status = 'ok' window same as (partition by d.key order by d.asked_at, d.id)"""


@dataclass(frozen=True)
class Repeated:
    """Decisions beyond their questions: `extra` of them; `bad` of `n_bad` are of a question decided again.

    `gap_s` is the median time to the one before (seconds; 0: the same moment), `others` how many got another score.
    """

    extra: int
    bad: int
    n_bad: int
    gap_s: float
    times: float
    others: int
    extent: Extent


def repeated(scene: Scene) -> Repeated | None:
    """The decisions that nobody asked for a second time, found once for a scene; null if there are next to none."""
    found: Repeated | None = scene.once("repeated", _repeated)
    return found


def _repeated(scene: Scene) -> Repeated | None:
    rows = scene.engine.frame(
        f"select *, place > questions and gap_s <= {AGAIN_S} as extra from ({REPEATS}) where times > questions"
    )
    extra = rows["extra"] > 0
    n_bad = int(scene.engine.rows("select count(*) from decisions where bad and status = 'ok'")[0][0])
    if extra.sum() < LEAST:
        return None
    keys = set(rows["key"][extra].tolist())
    touched = np.array([k in keys for k in rows["key"].tolist()])
    gaps, times = rows["gap_s"][extra], np.array([float(t) for t in rows["times"][extra]])
    others = np.abs(rows["score"] - rows["before"])[extra] > 1e-9
    everyone = scene.engine.frame("select id from decisions where status = 'ok' order by id")["id"]
    shows = np.isin(everyone.astype(str), rows["id"][touched].astype(str))
    extent = extent_of(scene, everyone, shows, np.ones(len(shows), dtype=bool))
    bad = int((rows["bad"] > 0)[touched].sum())
    return Repeated(
        int(extra.sum()), bad, n_bad, float(np.median(gaps)), float(np.median(times)), int(others.sum()), extent
    )


def _is_about(found: Repeated) -> bool:
    return not found.n_bad or found.bad >= MOSTLY * found.n_bad


# --- the same question decided several times at once ---


def inject_doubled(times: int, where: Expr | None = None) -> tuple[Change, ...]:
    """Each decision is there `times` times more."""
    return (Change(TRAFFIC, "doubled", times, where),)


def undo_traffic(where: Expr | None = None) -> tuple[Change, ...]:
    """The decisions are left out."""
    return (Change(TRAFFIC, "dropped", None, where),)


def suspect_doubled(scene: Scene) -> Ruling:
    """Questions were decided several times at the same moment: a join upstream gives each row more than once."""
    found = repeated(scene)
    if found is None or not _is_about(found):
        return _no_repeat(scene, FAN_OUT.name, found)
    if found.gap_s > 0:
        says = f"{found.extra:,} questions were decided again, but {found.gap_s:g} s later: each was sent again"
        return Ruling(FAN_OUT.name, (), says)
    e = found.extent
    says = (
        f"{found.extra:,} decisions too many{e.says}: the same question, decided {found.times:g} times at the same "
        f"moment{'' if found.others else ' with the same score'}; there are no more questions than before, so it is "
        "no growth of traffic"
    )
    evidence = (
        "select key, asked_at, count(*) as decisions from decisions group by all having count(*) > 1 "
        "order by decisions desc, asked_at"
    )
    parameters = {"times": round(found.times) - 1, "columns": []}
    return Ruling(FAN_OUT.name, (Suspect(FAN_OUT.name, "requests", says, evidence, (), e.where, e.since, parameters),))


def _no_repeat(scene: Scene, kind: str, found: Repeated | None) -> Ruling:
    if found is None:
        return Ruling(kind, (), "every question has one decision")
    return Ruling(
        kind,
        (),
        f"{found.extra:,} questions were decided again, but only {found.bad:,} of these {found.n_bad:,} are such",
    )


def propose_doubled(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """Each question once, twice or three times more."""
    times = int(random.integers(1, 4))
    return Injection(FAN_OUT.name, inject_doubled(times, cohort), (), {"times": times}, cohort)


FAN_OUT = Kind(
    "fan-out",
    "a join upstream gives questions more than once",
    1,
    inject_doubled,
    suspect_doubled,
    undo_traffic,
    propose_doubled,
    needs=(),
)


# --- the same question sent again ---


def inject_retried(times: int, seconds: float, jitter: float, where: Expr | None = None) -> tuple[Change, ...]:
    """Each question is sent `times` times more, `seconds` after the other; its score moves by up to `jitter`."""
    return (Change(TRAFFIC, "retried", (times, seconds, jitter), where),)


def suspect_retried(scene: Scene) -> Ruling:
    """Questions were decided again within the hour: somebody sends them again, and nothing takes them for the same."""
    found = repeated(scene)
    if found is None or not _is_about(found):
        return _no_repeat(scene, RETRIES.name, found)
    if not found.gap_s > 0:
        says = (
            f"{found.extra:,} questions were decided again, but at the same moment: they were doubled, not sent again"
        )
        return Ruling(RETRIES.name, (), says)
    e = found.extent
    says = (
        f"{found.extra:,} questions were decided again{e.says}, {found.gap_s:g} s after the first time (median), "
        f"{found.others:,} of them with another score; a copy would have the same moment"
    )
    evidence = (
        "select key, count(*) as decisions, min(asked_at), max(asked_at), min(score), max(score) from decisions "
        f"group by key having count(*) > 1 and epoch(max(asked_at) - min(asked_at)) between 0.001 and {AGAIN_S} "
        "order by decisions desc"
    )
    parameters = {"times": round(found.times) - 1, "seconds": float(round(found.gap_s)) or found.gap_s, "columns": []}
    return Ruling(RETRIES.name, (Suspect(RETRIES.name, "requests", says, evidence, (), e.where, e.since, parameters),))


def propose_retried(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """Each question sent again once to three times, after 2 to 30 seconds."""
    times, seconds = int(random.integers(1, 4)), float(random.integers(2, 31))
    told = {"times": times, "seconds": seconds}
    return Injection(RETRIES.name, inject_retried(times, seconds, 0.02, cohort), (), told, cohort)


RETRIES = Kind(
    "double decision",
    "the same request was sent again and decided again",
    1,
    inject_retried,
    suspect_retried,
    undo_traffic,
    propose_retried,
    needs=(),
)


# --- questions that were never decided ---


def inject_dropped(where: Expr | None = None) -> tuple[Change, ...]:
    """The decisions are not there."""
    return (Change(TRAFFIC, "dropped", None, where),)


def suspect_hole(scene: Scene) -> Ruling:
    """Questions in a span, or of a cohort, have no decision: their batch never came."""
    questions = scene.engine.frame(
        "with held as (select min(asked_at) as first, max(asked_at) as last from decided), "
        "done as (select distinct key from decided where key in (select key from asks)) "
        "select a.key as id, d.key is null as lost, epoch(a.asked_at) as at from asks a left join done d "
        "on a.key = d.key, "
        "held where a.asked_at between held.first and held.last order by a.asked_at, a.key"
    )
    lost, at = questions["lost"] > 0, questions["at"]
    if lost.sum() < LEAST:
        return Ruling(MISSING_BATCH.name, (), f"each of {len(lost):,} questions has its decision")
    begins, ends = at[lost][0], at[lost][-1]
    quiet, inside = lost[(at < begins) | (at > ends)], (at >= begins) & (at <= ends)
    usual = lost.mean() if inside.mean() > 0.9 else max(quiet.mean() if len(quiet) else 0.0, 0.5 / len(lost))
    if usual > NOISE:
        return Ruling(
            MISSING_BATCH.name, (), f"{lost.mean():.1%} of questions have no decision, from the first day to the last"
        )
    extent = extent_of(scene, questions["id"], lost, np.ones(len(lost), dtype=bool), table="asks")
    near, n_bad = _near(scene, float(begins), float(ends))
    if n_bad and near < MOSTLY * n_bad:
        says = (
            f"{lost.sum():,} questions{extent.says} have no decision, but {n_bad - near:,} of {n_bad:,} are not near it"
        )
        return Ruling(MISSING_BATCH.name, (), says)
    return Ruling(MISSING_BATCH.name, (_hole(extent, int(lost.sum()), float(ends)),))


def _hole(extent: Extent, n: int, ends: float) -> Suspect:
    says = (
        f"{n:,} questions{extent.says} were never decided, though the source has them: {extent.share:.0%} of "
        "all there; on a holiday there would be no questions"
    )
    evidence = (
        "select a.key, a.asked_at from asks a where not exists (select 1 from decided d where d.key = a.key) "
        "and a.asked_at between (select min(asked_at) from decided) and (select max(asked_at) from decided) "
        "order by a.asked_at"
    )
    parameters = {"decisions": n, "until": str(np.datetime64(round(ends * 1e6), "us")), "columns": []}
    # whom it touches has no decision: those beside them in the same cohort stand for them
    return Suspect(MISSING_BATCH.name, "requests", says, evidence, (), extent.cohort, extent.since, parameters)


def _near(scene: Scene, begins: float, ends: float) -> tuple[int, int]:
    """How many of the bad were asked in a span or close to it, of how many."""
    near, n = scene.engine.rows(
        f"select count(*) filter (where epoch(asked_at) between {begins - NEAR_H * 3600} and {ends + NEAR_H * 3600}), "
        "count(*) from decisions where bad"
    )[0]
    return int(near), int(n)


def propose_hole(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A span in the last quarter in which nothing is decided."""
    start = float(random.uniform(0.77, 0.9))
    first, last = scene.engine.rows(
        f"select quantile_disc(asked_at, [{start}, {start + float(random.uniform(0.03, 0.07))}]) from decisions"
    )[0][0]
    span = col("asked_at").within(first, last)
    where = span if cohort is None else span & cohort
    return Injection(MISSING_BATCH.name, inject_dropped(where), (), {}, cohort)


MISSING_BATCH = Kind(
    "missing batch",
    "questions of a span were never decided",
    1,
    inject_dropped,
    suspect_hole,
    undo_traffic,
    propose_hole,
    needs=("other questions",),
)


# --- questions that nobody asked ---


def inject_bot(n: int, key: str, hours: float) -> tuple[Change, ...]:
    """`n` new questions within `hours`, all with the row of the decision of that key."""
    return (Change(TRAFFIC, "bot", (n, key, hours), None),)


def own_columns(scene: Scene) -> list[str]:
    """The inputs that a question brings itself: not joined, no time, and not what names it; found once for a scene."""
    found: list[str] = scene.once("own columns", _own_columns)
    return found


def _own_columns(scene: Scene) -> list[str]:
    base = scene.plan.system.asks
    asked = scene.plan.sources[base.source.name]
    own = [n for n, kind in scene.plan.inputs.items() if n in asked.schema and kind != TIME]
    if not own:
        return []
    levels = ", ".join(f"count(distinct {quoted('row.' + n)})" for n in own)
    *found, n_rows = scene.engine.rows(f"select {levels}, count(*) from decisions")[0]
    return [n for n, k in zip(own, found, strict=True) if n not in base.source.key or k < 0.5 * n_rows]


def suspect_bot(scene: Scene) -> Ruling:
    """One exact row comes far more often than it is usual, for most of the decisions in question."""
    names = own_columns(scene)
    if not names:
        return Ruling(TEST_TRAFFIC.name, (), "a question brings no column of its own")
    columns = ", ".join(quoted("row." + n) for n in names)
    n, n_bad, looks = scene.engine.rows(
        f"select count(*), count(*) filter (where bad), (select count(*) from (select distinct {columns} "
        "from decisions)) from decisions"
    )[0]
    found = scene.engine.rows(
        f"select {columns}, count(*) as n, count(*) filter (where bad) as bad from decisions group by all "
        f"having n >= {DENSE} and bad >= {max(1, MOSTLY * n_bad)} order by n desc limit 1"
    )
    if not found:
        return Ruling(TEST_TRAFFIC.name, (), "no exact row comes so often that most of these decisions are of it")
    *row, times, _ = found[0]
    test = " and ".join(
        f"{quoted('row.' + c)} is not distinct from {_text(v)}" for c, v in zip(names, row, strict=True)
    )
    before, taught = scene.engine.rows(f"select count(*) filter (where {test}), count(*) from training")[0]
    usual = (before + 1) / (taught + 1) * n
    if times < TIMES * usual or _tail(times, usual) + log(looks) > BY_CHANCE:
        says = f"the row that comes most often comes {times:,} times, about {usual:.1f} are usual"
        return Ruling(TEST_TRAFFIC.name, (), says)
    return Ruling(TEST_TRAFFIC.name, (_bot(scene, dict(zip(names, row, strict=True)), test, int(times), usual),))


def _text(value: Any) -> str:
    return "NULL" if value is None else sql_value(value)


def _tail(times: int, usual: float) -> float:
    """The logarithm of about how likely so many are (Poisson), at most."""
    return times * log(usual) - usual - lgamma(times + 1) if times > usual else 0.0


def _bot(scene: Scene, row: Mapping[str, Any], test: str, times: int, usual: float) -> Suspect:
    keys, since, until, unasked = scene.engine.rows(
        "select count(distinct d.key), "
        "coalesce(min(d.asked_at) filter (where a.key is null), quantile_disc(d.asked_at, 0.02)), "
        "coalesce(max(d.asked_at) filter (where a.key is null), quantile_disc(d.asked_at, 0.98)), "
        "count(*) filter (where a.key is null) "
        f"from decisions d left join (select distinct key from asks) a on d.key = a.key where {test}"
    )[0]
    hours = max(0.1, (until - since).total_seconds() / 3600)
    where = col("asked_at") >= since
    for name, value in row.items():
        where = where & (col(f"row.{name}").is_null() if value is None else col(f"row.{name}") == value)
    says = (
        f"one exact row ({', '.join(f'{c} {v}' for c, v in list(row.items())[:4])}, …) was asked {times:,} times under "
        f"{keys:,} keys, nearly all within {hours:.1f} h; about {usual:.1f} are usual"
    )
    says += f", and {unasked:,} of them are of no question in the source" if unasked else ""
    evidence = f"select key, asked_at, action, score from decisions where {test} order by asked_at"
    parameters: dict[str, Any] = {"tuple": dict(row), "decisions": unasked or times, "columns": []}
    return Suspect(TEST_TRAFFIC.name, "requests", says, evidence, undo_traffic(where), where, str(since), parameters)


def propose_bot(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
    """A tenth of a day's traffic or more, all of one row that was really asked once."""
    names = own_columns(scene)
    if not names or cohort is not None:
        return None
    columns = ", ".join(quoted("row." + n) for n in names)
    rows = scene.engine.rows(
        f"select any_value(key), {columns} from decisions where status = 'ok' group by {columns} having count(*) = 1 "
        f"order by hash(any_value(key) || '{int(random.integers(1 << 30))}') limit 1"
    )
    if not rows:
        return None
    key, *values = rows[0]
    n = int(random.integers(60, 300))
    told = {"tuple": dict(zip(names, values, strict=True)), "decisions": n}
    return Injection(TEST_TRAFFIC.name, inject_bot(n, str(key), float(random.uniform(1, 6))), (), told, None)


TEST_TRAFFIC = Kind(
    "test traffic",
    "a robot or a test asks, not people",
    1,
    inject_bot,
    suspect_bot,
    undo_traffic,
    propose_bot,
    needs=(),
)

TRAFFIC_KINDS = (FAN_OUT, RETRIES, MISSING_BATCH, TEST_TRAFFIC)
