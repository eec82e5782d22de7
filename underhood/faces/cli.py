"""The command line: each command is one verb of the workbench; all of them take --json."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from underhood.faces import adopting, casework, contracts, drilling, looking, paritying, starting, tracing, watching
from underhood.faces.answers import Face, answer, bench, verb


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.option("--project", "-p", metavar="FILE", help="The project file; by default the only one in this folder.")
@click.option("--record", metavar="FOLDER", help="Where the record is kept; by default .underhood beside the project.")
@click.version_option(package_name="underhood")
@click.pass_context
def main(context: click.Context, project: str | None, record: str | None) -> None:
    """The workbench of the ML mechanic.

    From messy tables to a model that decides, and from a complaint about it to
    a cause proven on the bench, a small fix and a pinned case.

    \b
    A day on it:
      underhood build --until 2013-03-01        learn, check, deploy
      underhood decide --since 2013-03-01 --until 2013-04-01
      underhood case open complaint.eml         find the decisions meant
      underhood diagnose                        the cause, or why there is none
      underhood fixes                           each tried on history
      underhood patch apply 1 --owner "ops desk"
      underhood pin                             never again
    """
    context.obj = Face(project, record, False, context.obj)


@main.command()
@click.option("--until", default="", metavar="DAY", help="Learn from what was known by then; now if not given.")
@click.option("--since", default="", metavar="DAY", help="Leave out what was asked before.")
@verb
def build(face: Face, until: str, since: str) -> None:
    """Build a bundle: draw, climb the ladder, check, deploy.

    Patches of the training side that are in force take part.
    """
    from underhood.faces.show import show_build
    from underhood.plan.steps import described
    from underhood.repair.workbench import build_system

    with bench(face) as b:
        made = build_system(b, until=until, since=since)
        body = {
            "bundle": made.bundle.name,
            "made_from": made.bundle.made_from,
            "findings": [asdict(f) for f in made.findings],
        }
        answer(face, body, lambda to: show_build(to, made, described(b.system)), b)


@main.command()
@click.option("--since", required=True, metavar="DAY", help="The first day, in the project's time zone.")
@click.option("--until", required=True, metavar="DAY", help="The day after the last.")
@verb
def decide(face: Face, since: str, until: str) -> None:
    """Decide a span of history question by question, and capture it.

    The same function decides here and behind a server; outcomes arrive when they
    were known.
    """
    from underhood.faces.show import show_span
    from underhood.repair.workbench import decide_history, learned_until, moment

    with bench(face) as b:
        span = decide_history(b, since=since, until=until)
        learned = learned_until(b)
        body = {**asdict(span), "learned_until": learned}

        def show(to: Any) -> None:
            show_span(to, span, b.system.policy.actions)
            if moment(b, since) < learned:
                to.print(
                    f"[yellow]![/] the bundle has learned from questions until {learned[:16]}: it may know the answers"
                )

        answer(face, body, show, b)


@main.command()
@click.argument("sql")
@click.option("--case", "number", type=int, help="Whose decisions and training set; the latest case if not given.")
@verb
def query(face: Face, sql: str, number: int | None) -> None:
    """Run one SELECT over decisions, training, asks and the sources.

    Every finding prints the query that shows its evidence: run it here.
    """
    from underhood.faces.show import show_rows
    from underhood.repair.workbench import query as run_query

    with bench(face) as b:
        rows = run_query(b, sql, number)
        answer(face, rows, lambda to: show_rows(to, rows))


@main.command()
@verb
def status(face: Face) -> None:
    """Say what is deployed, what is open, and what has expired."""
    from underhood.repair.workbench import expired, waiting

    with bench(face) as b:
        now = next((d.bundle for d in b.database.deployments(b.system.name)), None)
        cases = b.database.cases()
        late = [p.name for p in expired(b)]
        body: dict[str, Any] = {
            "system": b.system.name,
            "deployed": now,
            "cases": {str(c.number): c.state for c in cases},
            "expired_patches": late,
            "waiting_patches": [p.name for p in waiting(b)],
        }

        def show(to: Any) -> None:
            to.print(f"{b.system.name}: {now or 'nothing deployed yet; underhood build'}")
            for c in cases:
                to.print(f"case {c.number}: {c.state}")
            if not cases:
                to.print("no cases")
            for name in body["waiting_patches"]:
                to.print(f"[yellow]waiting:[/] patch {name} acts once you build again: underhood build")

        answer(face, body, show, b)


@main.command()
@verb
def seal(face: Face) -> None:
    """Turn closed hot log files into Parquet by day."""
    from underhood.record.seal import seal as seal_record

    with bench(face) as b:
        made = [path.name for path in seal_record(b.record)]
        answer(face, {"sealed": made}, lambda to: to.print(f"{len(made)} log files sealed"))


@main.command()
@verb
def doctor(face: Face) -> None:
    """Audit the record: damaged objects, torn files, missing parts."""
    from underhood.record.doctor import audit

    with bench(face) as b:
        found = audit(b.record)
        body: Sequence[Any] = [{"what": f.what, "where": f.where, "hint": f.hint} for f in found]

        def show(to: Any) -> None:
            for f in found:
                to.print(f"[red]✗[/] {f.where}: {f.what}\n  [dim]try:[/] {f.hint}")
            if not found:
                to.print("[green]✓[/] the record is sound")

        answer(face, body, show, b)
    if found:
        sys.exit(1)


for command in (
    starting.init,
    adopting.adopt,
    looking.look,
    looking.compare,
    contracts.contract,
    casework.case,
    casework.diagnose,
    casework.fixes,
    casework.patch,
    casework.deploy,
    casework.pin,
    casework.pins,
    casework.replay,
    casework.layers,
    casework.report,
    watching.watch,
    drilling.drill,
    paritying.parity,
    tracing.trace,
    tracing.clean,
    tracing.match,
):
    main.add_command(command)
