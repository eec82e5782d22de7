"""Everything that can go wrong: what happened, where exactly, what to try.

UnderhoodError
├── ProjectError      the project file cannot be read or does not add up
├── SourceError       a table is missing, unreadable or lacks a column
├── ContractError     a contract cannot be read, or a table breaks it
├── RequestError      a row to decide has missing, mistyped or unknown fields
├── ComplaintError    a complaint cannot be read, or no decision fits it
├── RecordError       the record cannot be written or is not what was written
│   └── CorruptError  stored bytes do not have the digest that names them
├── NotFoundError     no such decision, case, bundle or patch
├── NotCapturedError  a decision was logged without what the question needs
└── ParityError       two renderings of one definition gave different values
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UnderhoodError(Exception):
    """One breakage, or several of the same act reported in one go.

    `what` says what happened, `where` names the table.column, row or file,
    `hint` says what to try. `also` holds the other breakages of the same act.
    """

    def __init__(self, what: str, where: str = "", hint: str = "", also: Sequence[UnderhoodError] = ()) -> None:
        super().__init__(what)
        self.what, self.where, self.hint, self.also = what, where, hint, tuple(also)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.hint:
            lines.append(f"try: {self.hint}")
        return "\n".join([*lines, *map(str, self.also)])

    def as_json(self) -> dict[str, object]:
        """The same text for `--json` and the page."""
        body: dict[str, object] = {"error": self.what, "where": self.where, "hint": self.hint}
        if self.also:
            body["also"] = [error.as_json() for error in self.also]
        return body


class ProjectError(UnderhoodError):
    """The project file cannot be read or does not add up."""


class SourceError(UnderhoodError):
    """A table is missing, unreadable or lacks a column."""


class ContractError(UnderhoodError):
    """A contract cannot be read, or a table breaks it."""


class RequestError(UnderhoodError):
    """A row to decide has missing, mistyped or unknown fields."""


class ComplaintError(UnderhoodError):
    """A complaint cannot be read, or no decision fits it."""


class RecordError(UnderhoodError):
    """The record cannot be written or is not what was written."""


class CorruptError(RecordError):
    """Stored bytes do not have the digest that names them."""


class NotFoundError(UnderhoodError):
    """No such decision, case, bundle or patch."""


class NotCapturedError(UnderhoodError):
    """A decision was logged without what the question needs."""


class ParityError(UnderhoodError):
    """Two renderings of one definition gave different values."""


def raise_all(errors: Sequence[UnderhoodError]) -> None:
    """Raises the first error with the others attached; nothing if there is none."""
    if errors:
        first, *others = errors
        raise type(first)(first.what, first.where, first.hint, [*first.also, *others])


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that offers the names most like the one that was not found."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"known are: {shown}" if names else "nothing is known yet"
