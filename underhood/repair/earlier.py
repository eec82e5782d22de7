"""What would have caught a fault earlier: what a build noticed, what decisions were flagged with, a contract, a watch.

Each is looked up in the record, with the moment at which it would have spoken; nothing is supposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import Scene, counted
from underhood.plan.exprs import columns_of
from underhood.plan.operations import NUMBER, TEXT
from underhood.plan.render import quoted, to_sql
from underhood.record.database import BuildRow
from underhood.repair.fixes import Blame, at_hand

HALF = 0.5  # of the decisions in question, at least, must have carried a flag or broken a contract
ALARM = 3.0  # standard errors between what was told and what happened


@dataclass(frozen=True)
class Sign:
    """One thing that would have told: what, when (UTC text; empty if it cannot be said), and the line to add or run."""

    what: str
    at: str
    line: str


def earlier_signs(scene: Scene, blame: Blame, part: str, builds: Sequence[BuildRow]) -> list[Sign]:
    """What would have told of the cause before somebody complained, the earliest first.

    `part` is the part at fault as the cause names it; `builds` are those of the record, any order.
    """
    found = [
        *_noticed(scene, blame, part, builds),
        *_flagged(scene),
        *_out_of_contract(scene, blame),
        *_told_otherwise(scene, blame),
    ]
    return sorted(found, key=lambda s: s.at or "9")


def _noticed(scene: Scene, blame: Blame, part: str, builds: Sequence[BuildRow]) -> Iterator[Sign]:
    """What the build of the bundle noticed about the part at fault."""
    read = {c.partition(".")[2] or c for c in (columns_of(blame.where) if blame.where is not None else ())}
    words = {part, *blame.columns, *read, *(c.name for c in blame.undo if c.name not in ("", "training", "route"))}
    pattern = re.compile("|".join(rf"\b{re.escape(w)}\b" for w in sorted(words, key=len, reverse=True) if w))
    for made in builds:
        if made.body.get("bundle") != scene.bundle.name:
            continue
        for level, what, where, hint in made.body.get("findings", ()):
            if level != "checked" and pattern.search(f"{what} {where}"):
                # history may be decided long after it happened: what it learned until is before all decisions
                at = min(made.at, str(made.body.get("recipe", {}).get("until", made.at)))
                yield Sign(f"the build noticed: {what} ({where})", at, hint)
        return


def _flagged(scene: Scene) -> Iterator[Sign]:
    """Flags that most of these decisions carried and few others."""
    rows = scene.engine.rows(
        "select flag, count(*) filter (where bad) as n, min(asked_at) filter (where bad), "
        "count(*) filter (where not bad) from (select unnest(flags) as flag, bad, asked_at from decisions) "
        "group by flag order by n desc, flag"
    )
    rest = counted(scene.engine, "select count(*) filter (where not bad) from decisions")[0]
    for flag, n, first, elsewhere in rows:
        if n >= HALF * scene.n_bad and elsewhere < 0.5 * HALF * max(1, rest):
            query = (
                f"select day, count(*) from decisions where list_contains(flags, '{flag}') group by day order by day"
            )
            yield Sign(
                f"{n:,} of the {scene.n_bad:,} decisions carried the flag '{flag}', the first of them",
                str(first),
                f"underhood query {query!r}" if '"' not in query else query,
            )


def _out_of_contract(scene: Scene, blame: Blame) -> Iterator[Sign]:
    """Inputs at fault that left what training had seen: a contract from that table would have refused them."""
    for name in blame.columns:
        column, kind = quoted(f"row.{name}"), scene.plan.inputs.get(name)
        if kind == NUMBER:
            low, high = scene.engine.rows(f"select min({column}), max({column}) from training")[0]
            if low is None:
                continue
            test, promise = f"{column} < {low!r} or {column} > {high!r}", f"{low:g} to {high:g}"
        elif kind == TEXT:
            test, promise = f"{column} not in (select distinct {column} from training where {column} is not null)", ""
            promise = "the levels that training holds"
        else:
            continue
        nulls = counted(scene.engine, f"select count(*) filter (where {column} is null), count(*) from training")
        if nulls[1] and not nulls[0]:
            test, promise = f"({test}) or {column} is null", f"{promise}, never null"
        n, first = scene.engine.rows(f"select count(*), min(asked_at) from decisions where bad and ({test})")[0]
        if n >= HALF * scene.n_bad:
            yield Sign(
                f"{n:,} of the {scene.n_bad:,} decisions read a {name} that training never held ({promise})",
                str(first),
                f"{name} in the contract of its source: {promise}",
            )


def _told_otherwise(scene: Scene, blame: Blame) -> Iterator[Sign]:
    """The first moment at which outcomes that were known by then contradicted what the cohort had been told."""
    # a cohort that is chosen by what happened to it says nothing of what was told
    if blame.where is None or not at_hand(blame.where):
        return
    where = f"coalesce({to_sql(settle_predicate(scene.plan, blame.where))}, false)"
    since = f" and asked_at >= TIMESTAMP '{blame.since}'" if blame.since else ""
    rows = scene.engine.rows(
        f"select known_at, abs(gap) / sqrt(spread) from (select known_at, sum(label::INT - score) over w as gap, "
        f"sum(score * (1 - score)) over w as spread, count(*) over w as n from decisions where status = 'ok' "
        f"and label is not null and score is not null and {where}{since} "
        f"window w as (order by known_at range between unbounded preceding and current row)) "
        f"where n >= 20 and spread > 0 and abs(gap) >= {ALARM} * sqrt(spread) order by known_at limit 1"
    )
    if rows and isinstance(rows[0][0], datetime):
        yield Sign(
            f"by the outcomes known until then, what these decisions were told and what happened were "
            f"{rows[0][1]:.1f} standard errors apart",
            str(rows[0][0]),
            "underhood watch",
        )
