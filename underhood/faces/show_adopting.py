"""An adopted system, drawn for a terminal of 80 columns: what is there, what is missing and what that costs."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from underhood.repair.adopt import Adopted
from underhood.repair.unseen import FAULTS, FEW, FIELDS, FULL, MADE_HERE, NOTHING_BUT_SCORES


def show_adopted(to: Console, made: Adopted) -> None:
    """What was found in the log and what not, what was guessed, and how to go on."""
    for name, says in made.there:
        to.print(f"[green]✓[/] [bold]{escape(name)}[/] {escape(says)}")
    for name, why in made.missing.items():
        field = FIELDS[name]
        to.print(f"[yellow]✗[/] [bold]{escape(name)}[/] {escape(why)}")
        to.print(Padding(f"[dim]unseen: {escape(field.unseen)}[/]", (0, 0, 0, 4)))
        to.print(Padding(f"[dim]to give it: {escape(field.give)}[/]", (0, 0, 0, 4)))
    for note in made.notes:
        to.print(f"[yellow]![/] {escape(note)}")
    measured = [(n, FIELDS[n].found) for n in made.missing if FIELDS[n].found is not None]
    if measured:
        listed = ", ".join(f"{share:.0%} without {n}" for n, share in measured)
        listed += f", {FEW:.0%} without all of these" if set(NOTHING_BUT_SCORES) <= set(made.missing) else ""
        to.print(
            f"[dim]of {FAULTS} faults planted in a system on real data the right kind came first in "
            f"{MADE_HERE:.0%} of records made here, {FULL:.0%} of logs with all, {listed}[/]"
        )
    to.print(f"\n{made.decisions:,} decisions and {made.outcomes:,} outcomes in the record of [bold]{made.path}[/]")
    to.print('correct the file by hand, then: underhood case open "what went wrong"')
