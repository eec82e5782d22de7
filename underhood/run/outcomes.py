"""What became known later, joined to the decision by key: label and facts, each at its own moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from underhood.ground.records import Entry, Outcome


def outcome_of(row: Mapping[str, Any], facts: Iterable[str]) -> Outcome:
    """The outcome of one row of the table of questions, whose times are ISO text."""
    return Outcome(row["key"], row["__label_known"], row["label"], {name: row[name] for name in facts})


def outcome_entry(outcome: Outcome) -> Entry:
    """The outcome as a line of the log. A second outcome of one key at a later moment corrects the first."""
    body = {name: getattr(outcome, name) for name in Outcome.__slots__}
    return Entry("outcome", f"{outcome.key}@{outcome.known_at}", outcome.known_at, body)
