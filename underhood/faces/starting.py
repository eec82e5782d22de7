"""The command that starts a project: from a folder of tables to a file that builds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from underhood.faces.answers import Face, answer, verb


@click.command()
@click.argument("tables", nargs=-1, required=True)
@click.option("--out", default="project.py", show_default=True, metavar="FILE", help="The project file to write.")
@click.option("--label", default="", metavar="COLUMN", help="What to foretell: a column, or TABLE.COLUMN.")
@click.option("--refuse", multiple=True, metavar="NAME", help="Leave out the proposal of that name; may be repeated.")
@click.option("--yes", is_flag=True, help="Take all proposals without asking.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@verb
def init(
    face: Face, tables: tuple[str, ...], out: str, label: str, refuse: tuple[str, ...], yes: bool, force: bool
) -> None:
    """Propose a project file for TABLES: a folder, or files.

    Looks at every table, finds keys, times, joins, what could be foretold and
    what would tell it too early, and writes a file that builds. Each proposal
    says what it rests on, and can be refused: one by one on a terminal, or by
    its name. What is assumed is marked so in the file.

    \b
      underhood init data/ --yes
      underhood init orders.csv customers.csv --label returned
      underhood init data/ --yes --refuse join:customers --refuse sensitive:age
    """
    from underhood.faces.show_starting import show_proposed
    from underhood.start.starting import start

    target = Path(out)
    asks = not (yes or face.as_json) and sys.stdin.isatty()
    with start(tables, target, label=label, say=face.progress, force=force) as begun:
        made = begun.propose(refuse)
        face.progress.close()
        if asks:
            made = begun.propose((*refuse, *_refused(begun, made, refuse)))
        begun.write(made)
    body: dict[str, Any] = {
        "file": str(target),
        "proposals": [
            {"name": p.name, "says": p.says, "evidence": p.evidence, "refused": p.refused} for p in made.proposals
        ],
        "notes": list(made.draft.notes),
    }
    answer(face, body, lambda to: show_proposed(to, made, str(target)))


def _refused(begun: Any, made: Any, refuse: tuple[str, ...]) -> list[str]:
    """The names of the proposals that a person at the terminal refuses."""
    from underhood.faces.show import console
    from underhood.faces.show_starting import show_proposal

    said: list[str] = []
    for proposal in made.proposals:
        if proposal.name in refuse:
            continue
        show_proposal(console(), proposal)
        if not click.confirm("  take it", default=True):
            said.append(proposal.name)
    return said
