"""The command of a drill: every kind of fault in a clone of the system, and what would catch it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from underhood.faces.answers import Face, answer, bench, verb


@click.command()
@click.option("--kinds", default="", metavar="NAMES", help="Kinds of fault, with commas; all that fit if not given.")
@click.option("--severities", default="all,cohort,canary", show_default=True, metavar="NAMES", help="How far it goes.")
@click.option("--seed", default=0, show_default=True, help="Another number strikes other columns at other times.")
@verb
def drill(face: Face, kinds: str, severities: str, seed: int) -> None:
    """Break a clone of the system on purpose, and see what catches it.

    Each kind of fault is struck into a clone of the record: for all, for one
    cohort, for a canary of 2 %. Told are the project's contracts, the checks
    of decide, the pins and the nightly watch that catch it, how late, whether
    the diagnosis names it from a complaint, and the line to add that would catch
    it earlier: tried on sound rows and on struck ones. Nothing is written.
    A whole drill takes minutes.

    \b
      underhood drill --kinds "unit change,missing feed" --severities all
    """
    from underhood.repair.catches import kinds_named, run_drills, score_json, severities_named

    with bench(face) as b:
        chosen, far = kinds_named(_listed(kinds)), severities_named(_listed(severities))
        score = run_drills(b, kinds=chosen, severities=far, seed=seed)
        answer(face, score_json(score), lambda to: show_score(to, score), b)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def show_score(to: Any, score: Any) -> None:
    """The table of faults, the lines to add, and the score."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for name in ("fault", "for", "turned", "caught by", "after", "named"):
        table.add_column(name, justify="right" if name in ("turned", "after") else "left")
    for t in score.tested:
        by = escape(t.by) if t.by else "[red]nothing[/]"
        named = "[green]✓[/]" if t.caught.get("diagnosis") else "[red]✗[/]"
        table.add_row(escape(t.kind), t.severity, f"{t.turned:,}", by, _late(t.late), named)
    if score.tested:
        to.print(table)
        to.print()
    _show_lines(to, score)
    if score.skipped:
        kinds = sorted({kind for kind, _, _ in score.skipped})
        to.print(
            f"[dim]not tested, as this system cannot break like that or nobody would notice: {', '.join(kinds)}[/]"
        )
    n = len(score.tested)
    to.print(
        f"[bold]{score.n_caught} of {n}[/] faults are caught before anybody complains; the diagnosis names "
        f"{score.n_named} of {n} once somebody does"
    )


def _show_lines(to: Any, score: Any) -> None:
    """Each line once, with the faults that it catches."""
    from rich.text import Text

    of: dict[tuple[str, str], list[Any]] = {}
    for t in score.tested:
        if t.line is not None:
            of.setdefault((t.line.file, t.line.text), []).append(t)
    for (file, text), faults in of.items():
        first = faults[0].line
        to.print(Text.assemble("add to ", (file, "bold"), ": ", first.says))
        to.print(Text(f"  {text}", style="green"))
        caught = ", ".join(f"{t.kind} ({t.severity})" for t in faults)
        tried = f"  silent on {first.sound:,} sound rows, broken by struck ones: {caught}"
        to.print(Text(tried, style="dim"))
    helpless = [t for t in score.tested if not t.by and t.line is None]
    for t in helpless:
        told = f"only a complaint tells of {t.kind} ({t.severity}): {t.what}"
        to.print(Text(told, style="yellow"))
    if of or helpless:
        to.print()


def _late(late: timedelta | None) -> str:
    """How late in words: at once, hours or days."""
    if late is None:
        return "–"
    hours = late.total_seconds() / 3600
    return "at once" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
