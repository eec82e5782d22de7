"""The nouns of a running system: small frozen records that every floor shares.

Times in records are ISO 8601 text in UTC with microseconds and no offset
("2013-03-08T19:00:00.000000"): they sort as text and read the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

Value = str | float | int | bool | None
Row = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer that the system gave, with all that is needed to give it again.

    `row` is the captured input as it came, `features` what the model saw,
    `score` a probability or null when refused, `flags` what was odd about the
    row, `patches` the names of the patches that touched it.
    """

    id: str
    key: str
    asked_at: str
    decided_at: str
    bundle: str
    row: Row
    features: Row
    score: float | None
    action: str
    reason: str
    status: str = "ok"
    flags: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    propensity: float = 1.0
    latency_us: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What later became known about one decision; a later one corrects an earlier one.

    `label` is null when the label's own definition gives null; `facts` are the
    late columns of the asked row as they became known.
    """

    key: str
    known_at: str
    label: bool | None
    facts: Row


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: `kind` is "decision", "outcome" or "case"; `at` orders and partitions it."""

    kind: str
    id: str
    at: str
    body: Mapping[str, object] = field(default_factory=dict)


def time_text(moment: datetime) -> str:
    """A moment as records write it; aware times are turned to UTC, naive ones are UTC already."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds")


def as_time(value: object) -> datetime:
    """A moment as naive UTC, from ISO 8601 text or a datetime. Raises ValueError or TypeError."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)  # type: ignore[arg-type]
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
