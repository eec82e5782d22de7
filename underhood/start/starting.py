"""Starting a project: open the tables, look at them, propose, write the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from underhood.ground.errors import ProjectError
from underhood.signs.profile import profile_table
from underhood.signs.signs import table_findings
from underhood.start.draft import project_text
from underhood.start.opening import Opened, open_all, write_copy
from underhood.start.proposal import Proposed, propose
from underhood.start.survey import Survey, survey
from underhood.tables.local import Engine

Say = Callable[[str], None]


@dataclass(frozen=True)
class Begun:
    """Tables that were looked at, ready for proposals; `out` is the file to write."""

    engine: Engine
    found: Survey
    opened: Opened
    out: Path

    def propose(self, refused: Collection[str] = ()) -> Proposed:
        """The project file without what was refused. Raises ProjectError if a name was not proposed."""
        made = propose(self.found, self.out.parent, "", refused)
        sources = tuple(replace(s, nulls=self.opened.nulls.get(s.table, ())) for s in made.draft.sources)
        copied = [self.opened.copies[s.table] for s in sources if s.table in self.opened.copies]
        return replace(made, draft=replace(made.draft, sources=sources, notes=(*made.draft.notes, *copied)))

    def write(self, made: Proposed) -> None:
        """Writes the project file, and the copies of tables that it needs."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        for table in {s.table for s in made.draft.sources} & set(self.opened.copies):
            write_copy(self.engine, self.found.tables[table])
        self.out.write_text(project_text(made.draft), "utf-8")


@contextmanager
def start(
    what: Sequence[str | Path], out: Path, *, label: str = "", say: Say = lambda line: None, force: bool = False
) -> Iterator[Begun]:
    """Opens and looks at files, folders or databases.

    Raises SourceError for what cannot be read, ProjectError if there is nothing to
    foretell, or if `out` is there and not `force`.
    """
    if out.exists() and not force:
        hint = "name another with --out, or write over it with --force"
        raise ProjectError("there is a file of that name", str(out), hint)
    with Engine() as engine:
        opened = open_all(engine, what, out.parent / ".tables", say)
        profiles = {t.name: profile_table(engine, t, say) for t in opened.tables}
        findings = [f for t in opened.tables for f in table_findings(engine, t, say)]
        say("looking for keys, times, joins and labels")
        yield Begun(engine, survey(engine, opened.tables, profiles, findings, label), opened, out)
