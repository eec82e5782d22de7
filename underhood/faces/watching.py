"""The command of the night: watch."""

from __future__ import annotations

from typing import Any

import click

from underhood.faces.answers import Face, answer, bench, verb


@click.command()
@click.option("--until", default="", metavar="DAY", help="The day after the window; after the last decision if empty.")
@click.option("--days", default=1, show_default=True, help="How many days the window has.")
@click.option("--quiet", default=4, show_default=True, help="Earlier windows to look over for false alarms.")
@verb
def watch(face: Face, until: str, days: int, quiet: int) -> None:
    """Look over yesterday's decisions; open a case only for a likely fault.

    Every kind of fault that needs no training looks at the window and at what was
    before it. An alarm has its cohort, its likely cause, and what it cost; it
    opens a case, or adds a line to the one that tells of the same fault.
    What the same look says of earlier windows stands beside it.

    \b
      underhood watch                      after each day, from cron
      underhood watch --until 2013-03-09 --days 7
    """
    from underhood.repair.watch import watch as look_over
    from underhood.repair.watch import watched_json

    with bench(face) as b:
        watched = look_over(b, until=until, days=days, quiet=quiet)
        answer(face, watched_json(watched), lambda to: show_watched(to, watched))


def show_watched(to: Any, watched: Any) -> None:
    """The window, its alarms with their cases, what was noticed."""
    to.print(f"{watched.decisions:,} decisions, {watched.since[:16]} to {watched.until[:16]} UTC")
    if not watched.alarms:
        to.print("[green]✓[/] nothing that wants a case")
    for alarm in watched.alarms:
        suspect = alarm.cause.suspect
        to.print(f"[red]![/] case {alarm.case}: [bold]{suspect.kind}[/] in {suspect.part}")
        to.print(f"  {suspect.says}")
        cost = "" if alarm.saved is None else f"; without it {alarm.saved:,.0f} less in cost"
        to.print(f"  {alarm.touched:,} decisions touched, {alarm.turned:,} turned{cost}")
    if watched.alarms:
        to.print(
            f"  false alarms: the same look at {watched.quiet} earlier windows gave {watched.false_alarms}; "
            "next: underhood fixes"
        )
    for alarm in watched.noticed:
        to.print(f"[dim]· {alarm.cause.suspect.says} ({alarm.touched:,} touched, {alarm.turned:,} turned)[/]")
