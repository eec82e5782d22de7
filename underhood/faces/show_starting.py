"""Proposals for a project file, drawn for a terminal of 80 columns: what, and below it what it rests on."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from underhood.start.offers import Proposal
from underhood.start.proposal import Proposed


def show_proposal(to: Console, proposal: Proposal) -> None:
    """One proposal: the name to refuse it by, what it says, its evidence."""
    mark = "[dim]✗[/]" if proposal.refused else "[green]✓[/]"
    to.print(f"{mark} [bold]{escape(proposal.name)}[/] {escape(proposal.says)}")
    to.print(Padding(f"[dim]{escape(proposal.evidence)}[/]", (0, 0, 0, 4)))


def show_proposed(to: Console, made: Proposed, path: str) -> None:
    """All proposals, what the file notes at its top, and how to go on."""
    for proposal in made.proposals:
        show_proposal(to, proposal)
    for note in made.draft.notes:
        to.print(f"[yellow]![/] {escape(note)}")
    kept = sum(not p.refused for p in made.proposals)
    to.print(f"\n{kept} of {len(made.proposals)} proposals written to [bold]{escape(path)}[/]")
    to.print(f"refuse one with --refuse NAME, correct the file by hand, then: underhood --project {escape(path)} build")
