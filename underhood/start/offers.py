"""Proposals with their evidence, and which of them were refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from underhood.start.draft import plain_name
from underhood.start.survey import Survey


@dataclass(frozen=True)
class Proposal:
    """One thing that a project file would say: a name to refuse it by, what it says, and what that rests on."""

    name: str
    says: str
    evidence: str
    refused: bool = False


@dataclass
class Offers:
    """What has been proposed so far, by name, in order; `refused` are the names that are not wanted."""

    refused: Collection[str]
    made: dict[str, Proposal] = field(default_factory=dict)

    def take(self, name: str, says: str, evidence: str) -> bool:
        """Proposes one thing; false if it was refused."""
        self.made.setdefault(name, Proposal(name, says, evidence, name in self.refused))
        return name not in self.refused


def variables_of(found: Survey) -> Mapping[str, str]:
    """The name that each table has in the file."""
    made: dict[str, str] = {}
    for table in found.tables:
        made[table] = plain_name(table, tuple(made.values()))
    return made
