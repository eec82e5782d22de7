"""Look at a table from a script or a notebook: printed it is text, in a notebook a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from underhood.faces.show_compare import Compared
from underhood.ground.errors import SourceError, UnderhoodError, raise_all
from underhood.moves.compare import compare as compare_tables
from underhood.moves.compare import compare_periods
from underhood.signs.look import Look
from underhood.signs.look import look as look_at
from underhood.signs.profile import profile_table
from underhood.tables.databases import is_database
from underhood.tables.frames import Table, described, open_readable, open_table
from underhood.tables.local import Engine

Say = Callable[[str], None]


class Looked(Look):
    """A look that shows itself: `print` gives the first screen, a notebook the page."""

    def __str__(self) -> str:
        from underhood.faces.show_tables import show_look, text_of

        return text_of(lambda to: show_look(to, self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from underhood.faces.look_page import fragment

        return fragment(self)


def look(*what: Any, label: str | None = None) -> Looked:
    """What is in tables and what is wrong with them, most important first.

    Each of `what` is a path, a folder, a URL, "sqlite:///file.db#table", or a frame (pandas, Polars,
    Arrow). `label` names the column that a model is to foretell. The result has `tables`, `profiles`
    and `findings`, and `errors` for what of several cannot be read. Raises SourceError if none can be.
    """
    return looked_at(what, label=label)


def looked_at(what: Sequence[Any], label: str | None = None, say: Say = lambda line: None) -> Looked:
    """The same for a list, with a line to `say` what is being done."""
    with tables_of(what, say) as (engine, tables, errors):
        seen = look_at(engine, tables, label, say)
    return Looked(seen.tables, seen.profiles, seen.findings, tuple(errors))


def compare(one: Any, other: Any, *, by: Sequence[str] = (), time: str | None = None) -> Compared:
    """What moved from one table to another, of which kind and by how much, most important first.

    Both are what `look` takes. `by` names the columns that name a row in both (found if there are any),
    `time` the column of time. The result has `comparison`, with its `moves` and `findings`.
    """
    return compared_with(one, other, by=by, time=time)


def compared_with(
    one: Any, other: Any, *, by: Sequence[str] = (), time: str | None = None, say: Say = lambda line: None
) -> Compared:
    """The same, with a line to `say` what is being done."""
    with Engine() as engine:
        say("reading both tables")
        a, b = open_table(engine, one), open_table(engine, other)
        if a.name.casefold() == b.name.casefold():
            a, b = open_table(engine, one, f"{a.name} before"), open_table(engine, other, f"{b.name} now")
        found = compare_tables(engine, a, b, by=by, time=time, say=say)
        return Compared(found, profile_table(engine, a, say), profile_table(engine, b, say))


def compared_at(what: Any, time: str, at: str, say: Say = lambda line: None) -> Compared:
    """The rows of one table before a moment beside those from then on."""
    with Engine() as engine:
        table = open_table(engine, what)
        found = compare_periods(engine, table, time, at, say=say)
        sides = [described(engine, name) for name in (found.one, found.other)]
        return Compared(found, profile_table(engine, sides[0], say), profile_table(engine, sides[1], say))


@contextmanager
def tables_of(what: Sequence[Any], say: Say) -> Iterator[tuple[Engine, list[Table], list[UnderhoodError]]]:
    """The tables of files, folders and frames, open in an engine of their own, and what cannot be read of them.

    Raises all of that if no table can be read.
    """
    with Engine() as engine:
        tables: list[Table] = []
        errors: list[UnderhoodError] = []
        for each in what:
            say(f"reading {each}" if isinstance(each, str) else "reading")
            try:
                if _holds_many(each):
                    made, wrong = open_readable(engine, each, say)
                    tables += made
                    errors += wrong
                else:
                    tables.append(open_table(engine, each))
            except SourceError as error:
                errors.append(error)
        if not tables:
            raise_all(errors)
        yield engine, tables, errors


def _holds_many(what: Any) -> bool:
    """Whether it is a folder, or a database of which no table is named."""
    if not isinstance(what, (str, Path)):
        return False
    return Path(what).is_dir() or ("#" not in str(what) and is_database(str(what)))
