"""What a kind of fault knows: how it is made (inject), how it shows (suspect), how it is undone (undo).

A kind looks at a scene and answers with a ruling: suspects, each with its undo,
or one sentence that rules the kind out with what was measured. Making and undoing
are changes of one shape, so the bench can try both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from underhood.build.bundle import Bundle
from underhood.plan.changes import Change
from underhood.plan.exprs import Expr
from underhood.plan.joins import Plan
from underhood.tables.local import Engine

RECORD, BESIDE, CLOSELY = 1, 2, 3  # how far values are looked at


@dataclass(frozen=True)
class Scene:
    """All that a kind may look at.

    Views of the engine: `decisions` (one row per decision of the bundle in
    question: id, key, asked_at, happened, day, score, action, bundle, `row.…`,
    `features.…`; once known: label, `facts.…`; and `bad`, whether the complaint
    means it), `training` (the bundle's training set), `asks` and the sources.
    `harm` is what the complaint says happened, a predicate over `decisions`;
    null if it does not say. `told` is the action that it complains about. `depth` says how
    far values are looked at: for contradictions of the record alone (RECORD), beside history too (BESIDE), or, where
    that shows nothing, at a dear price (CLOSELY).
    """

    engine: Engine
    record: Path
    plan: Plan
    bundle: Bundle
    n_bad: int
    harm: Expr | None = None
    told: str | None = None
    parts: tuple[str, ...] = ()
    depth: int = CLOSELY
    kept: dict[str, Any] = field(default_factory=dict, compare=False)

    def once(self, name: str, make: Callable[[Scene], Any]) -> Any:
        """What `make` finds in this scene, found once and kept under `name`: kinds of one family share a look."""
        if name not in self.kept:
            self.kept[name] = make(self)
        return self.kept[name]


@dataclass(frozen=True)
class Suspect:
    """One possible cause: `part` is broken in the way of `kind` where `where` holds, since `since` (UTC).

    `says` is the claim in words, `evidence` a query over the scene's views that
    shows its figures, `undo` what would take the fault away.
    """

    kind: str
    part: str
    says: str
    evidence: str
    undo: tuple[Change, ...]
    where: Expr | None = None
    since: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ruling:
    """What one kind has to say about a scene: suspects, or why it is not this."""

    kind: str
    suspects: tuple[Suspect, ...]
    says: str = ""


@dataclass(frozen=True)
class Injection:
    """A fault made on purpose: what is changed, and what a diagnosis should say of it.

    `columns` are the inputs or features that it touches, `parameters` what a suspect
    should name, `cohort` whom it touches (no span of time; null for all). `retrain`:
    the model learned from the struck history. `expects` are the kinds that are a right
    answer beside its own.
    """

    kind: str
    changes: tuple[Change, ...]
    columns: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cohort: Expr | None = None
    retrain: bool = False
    expects: tuple[str, ...] = ()

    @property
    def right(self) -> tuple[str, ...]:
        """The kinds that are a right answer: its own, and those that are right as well."""
        return tuple(dict.fromkeys((self.kind, *self.expects)))


# All that a kind may need of a record beside the ids and moments of its decisions: a log that
# was written elsewhere has some of them, what was made here has all.
NEEDS: tuple[str, ...] = ("inputs", "score", "scorer", "action", "policy", "outcome", "outcome moment")
NEEDS += ("training table", "training questions", "other questions", "joins", "definitions")

Propose = Callable[[Scene, np.random.Generator, Expr | None], Injection | None]


@dataclass(frozen=True)
class Kind:
    """One kind of fault. `title` is its name for people, `stage` the order of looking (cheap and certain first).

    `propose(scene, random, cohort)` is one such fault that fits this system, in that cohort
    (all if null), for drills; None if nothing here can break like that. `needs` are the parts of
    the record that it cannot look without, by the names that a poor record says it lacks (NEEDS).
    """

    name: str
    title: str
    stage: int
    inject: Callable[..., tuple[Change, ...]]
    suspect: Callable[[Scene], Ruling]
    undo: Callable[..., tuple[Change, ...]]
    propose: Propose | None = None
    needs: tuple[str, ...] = ("inputs",)


def counted(engine: Engine, sql: str) -> Sequence[Any]:
    """The one row of a query of counts; nulls are 0."""
    return [0 if v is None else v for v in engine.rows(sql)[0]]
