"""A span of history decided question by question in time order, each decision captured, outcomes as they became known.

The same `decide` as for a request; only the clock is the question's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Any

from underhood.ground.errors import RequestError
from underhood.ground.records import Decision, Entry, Outcome
from underhood.plan.joins import Plan
from underhood.plan.operations import TIME
from underhood.plan.render import sql_value
from underhood.record.log import Log
from underhood.run.decide import Decide, decision_id
from underhood.run.outcomes import outcome_entry, outcome_of
from underhood.tables.local import Engine, stream_rows

GROUP = 512  # entries a commit: history is decided again from the start of a group that was lost
Say = Callable[[str], None]


@dataclass(frozen=True)
class Span:
    """What was done: decisions by action, refusals, outcomes delivered, mean µs a decision."""

    actions: dict[str, int]
    refused: int
    outcomes: int
    latency_us: float


def decide_span(
    engine: Engine,
    plan: Plan,
    decide: Decide,
    bundle: str,
    log: Log,
    *,
    since: str,
    until: str,
    say: Say = lambda line: None,
) -> Span:
    """Decides every question asked in [since, until) (UTC), in order of asking, and captures each decision.

    An outcome is appended when it became known: before the first decision asked
    later, the last ones at the end. Needs the view `asks`; streams, so memory does
    not grow with the span except for outcomes still to come.
    """
    columns = ["key", "asked_at", "__label_known", "label", *plan.inputs, *plan.facts]
    times = ["asked_at", "__label_known", *[c for c, t in {**plan.inputs, **plan.facts}.items() if t == TIME]]
    where = f"asked_at >= TIMESTAMP {sql_value(since)} and asked_at < TIMESTAMP {sql_value(until)}"
    actions: dict[str, int] = {}
    refused, spent, n = 0, 0.0, 0
    coming: list[tuple[str, int, Outcome]] = []
    outcomes = 0
    with _Groups(log) as groups:
        for row in stream_rows(engine, f"select * from asks where {where} order by asked_at, __row", columns, times):
            while coming and coming[0][0] <= row["asked_at"]:
                groups.add(outcome_entry(heappop(coming)[2]))
                outcomes += 1
            decision = _decide(decide, bundle, row, plan)
            groups.add(decision_entry(decision))
            if row["__label_known"] is not None:
                heappush(coming, (row["__label_known"], n, outcome_of(row, plan.facts)))
            n, refused, spent = n + 1, refused + (decision.status != "ok"), spent + decision.latency_us
            actions[decision.action] = actions.get(decision.action, 0) + 1
            if n % 1000 == 0:
                say(f"{n:,} questions decided, now at {row['asked_at'][:10]}")
        for _, _, outcome in sorted(coming, key=lambda c: c[:2]):
            groups.add(outcome_entry(outcome))
    return Span(actions, refused, outcomes + len(coming), spent / max(1, n))


class _Groups:
    """Entries on their way to the log, committed in groups, the rest at the end if all went well."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._group: list[Entry] = []

    def __enter__(self) -> _Groups:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._log.append(self._group)

    def add(self, entry: Entry) -> None:
        self._group.append(entry)
        if len(self._group) == GROUP:
            self._log.append(self._group)
            self._group = []


def _decide(decide: Decide, bundle: str, row: dict[str, Any], plan: Plan) -> Decision:
    captured = {name: row[name] for name in plan.inputs}
    asked = row["asked_at"]
    try:
        return decide(captured, key=row["key"], asked_at=asked, now=datetime.fromisoformat(asked))
    except RequestError as error:
        name = decision_id(bundle, row["key"], asked, captured)
        return Decision(name, row["key"], asked, asked, bundle, captured, {}, None, "refused", str(error), "refused")


def decision_entry(decision: Decision) -> Entry:
    """The decision as a line of the log."""
    body = {name: getattr(decision, name) for name in Decision.__slots__}
    return Entry("decision", decision.id, decision.asked_at, body)


def by_action(span: Span, order: Sequence[str]) -> list[tuple[str, int]]:
    """Decisions by action, in the policy's order, refusals last."""
    rest = sorted(set(span.actions) - set(order))
    return [(a, span.actions[a]) for a in [*order, *rest] if a in span.actions]
