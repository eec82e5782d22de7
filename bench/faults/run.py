"""The bench of faults: every kind × severity × system, with cells in which nothing is broken, and a report.

Usage: python bench/faults/run.py [--quick] [--systems DIR] [--only NAME,…] [--faults DIR] [--kinds NAME,…]
       [--severities all,cohort,canary] [--seeds 0-3] [--quiet 12] [--pairs 0] [--poor] [--held-out]
       [--no-baselines] [--jobs 1] [--data DIR] [--prepared DIR] [--lines FILE] [--anew] [--report-only]
       [--out FILE.md] [--notes FILE.md]

Each system is a process of its own; each cell is one line of JSON in --lines, so that a run that was stopped
goes on where it was (what was measured with older code stays: --anew begins again). Even seeds are for tuning,
odd ones are unseen; a system that is held out is run only with --held-out. --notes are a few words by hand that
the report begins with, so that it can be made again as a whole. --quick is one small synthetic shop,
one unseen seed. README.md tells how to add faults and systems. The last line is JSON: does every goal hold.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from bench.faults.cells import Cell, event_of, open_scene, quiet_cell, strike_cell  # noqa: E402
from bench.faults.others import read_faults  # noqa: E402
from bench.faults.pairs import TWO, pair_cell  # noqa: E402
from bench.faults.report import Report, verdict_of, write_report  # noqa: E402
from bench.faults.systems import SYSTEMS, find_systems, prepare, read_spans  # noqa: E402
from underhood.faults import KINDS  # noqa: E402
from underhood.faults.kinds import Kind  # noqa: E402
from underhood.ground.errors import UnderhoodError  # noqa: E402
from underhood.repair.drill import SEVERITIES  # noqa: E402
from underhood.repair.workbench import Workbench, open_workbench  # noqa: E402

NO_FAULT, REAL_EVENT = "no fault", "world event"
FLAVOURS = ("luck", "any", "day")
SHOP = "shop"  # the synthetic one of the tests: for --quick, and where no data sets are at hand
ERROR = re.compile(r"^[A-Za-z_.]*(Error|Exception|Exit|Interrupt)\b")  # the line of a traceback that names the error
MOST_STOPS = 20  # cells of one system that may end its process before it is given up


def main() -> None:
    given = arguments()
    given.lines.parent.mkdir(parents=True, exist_ok=True)
    if given.work:
        work(given, given.work)
        return
    if given.anew:
        given.lines.unlink(missing_ok=True)
    began = time.monotonic()
    if not given.report_only:
        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(lambda name: attend(given, name), names_of(given)))
    notes = given.notes.read_text(encoding="utf-8") if given.notes else ""
    made = Report(read_lines(given.lines), tuple(names_of(given)), time.monotonic() - began, notes)
    text = write_report(made)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps(verdict_of(made)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--systems", type=Path, default=SYSTEMS)
    parser.add_argument("--only", default="")
    parser.add_argument("--faults", type=Path, default=None)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--severities", default="")
    parser.add_argument("--seeds", default="")
    parser.add_argument("--quiet", type=int, default=None, help="cells without a fault, per system and half of seeds")
    parser.add_argument("--pairs", type=int, default=0, help="cells with two faults at once, per system and seed")
    parser.add_argument("--poor", action="store_true", help="each cell again with parts of the record taken away")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--prepared", type=Path, default=ROOT / "build" / "faults" / "systems")
    parser.add_argument("--lines", type=Path, default=None)
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--notes", type=Path, default=None)
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.lines = given.lines or ROOT / "build" / "faults" / ("quick.jsonl" if given.quick else "lines.jsonl")
    given.seeds = spread(given.seeds or ("1" if given.quick else "0-1"))
    given.severities = listed(given.severities) or (["all"] if given.quick else list(SEVERITIES))
    given.quiet = (6 if given.quick else 12) if given.quiet is None else given.quiet
    if "two" in given.severities:
        given.severities.remove("two")
        given.pairs = given.pairs or 6
    given.no_baselines = given.no_baselines or given.quick
    given.anew = given.anew or (given.quick and not given.work and not given.report_only)
    return given


def listed(text: str) -> list[str]:
    """The names in a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def spread(text: str) -> list[int]:
    """The numbers in "0-3" or "1,5,7"."""
    found: list[int] = []
    for part in listed(text):
        first, dash, last = part.partition("-")
        found += range(int(first), int(last) + 1) if dash else [int(first)]
    return found


def names_of(given: argparse.Namespace) -> list[str]:
    """The systems to run: the shop if quick, else all folders but those held out."""
    only = listed(given.only)
    if given.quick or only == [SHOP]:
        return [SHOP]
    folders = [f for f in find_systems(given.systems) if not only or f.name in only]
    kept = [f for f in folders if given.held_out or not read_spans(f / "spans.toml").held_out]
    return [f.name for f in kept]


def kinds_of(given: argparse.Namespace) -> list[Kind]:
    """The kinds to strike: those of the catalogue that can be proposed, or those of --faults."""
    kinds = read_faults(given.faults) if given.faults else [k for k in KINDS if k.propose]
    only = listed(given.kinds)
    missing = sorted(set(only) - {k.name for k in kinds} - {NO_FAULT, REAL_EVENT})
    if missing:
        raise SystemExit(
            f"there is no kind {missing[0]!r} that can be struck; there are: " + ", ".join(k.name for k in kinds)
        )
    return [k for k in kinds if not only or k.name in only]


# --- one process per system ---


def attend(given: argparse.Namespace, name: str) -> None:
    """Runs the process of one system. A cell that ends it is kept as "stopped", and the next one is tried."""
    for _ in range(MOST_STOPS):
        command = [sys.executable, __file__, "--work", name, *[a for a in sys.argv[1:] if a != "--anew"]]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
        cell = ""
        assert child.stdout
        assert child.stderr
        for line in child.stdout:
            if line.startswith("cell "):
                cell = line[5:].strip()
            else:
                print(line, end="", flush=True)
        errors = child.stderr.read().strip().splitlines()
        if child.wait() == 0:
            return
        at = next((n for n in reversed(range(len(errors))) if ERROR.match(errors[n])), len(errors) - 1)
        last = " ".join(" ".join(errors[at:]).split()) if errors else f"ended with {child.returncode}"
        where = next((e.strip() for e in reversed(errors) if e.strip().startswith("File ")), "")
        print(f"{cell or name}: stopped: {last[:300]}", flush=True)
        if not cell:
            break
        system, kind, severity, seed = cell.split("/")
        keep(
            given.lines,
            {
                **vars(Cell(system, kind, severity, int(seed))),
                "cell": cell,
                "seen": int(seed) % 2 == 0,
                "state": "stopped",
                "error": f"{last[:400]} ({where})",
            },
        )
    print(f"{name}: given up", flush=True)


def work(given: argparse.Namespace, name: str) -> None:
    """The cells of one system that are not done yet, each one a line."""
    done, parent = {line["cell"] for line in read_lines(given.lines)}, os.getppid()
    events, bench = opened(given, name)
    code = code_version()
    kinds = {k.name: k for k in kinds_of(given)}
    with bench:
        scene = open_scene(bench)
        for cell in cells_of(given, name, list(kinds), [e["name"] for e in events]):
            if cell.name in done:
                continue
            if os.getppid() != parent:
                return  # whoever started the run has ended it
            print(f"cell {cell.name}", flush=True)
            if cell.kind == TWO:
                number = int(cell.severity.removeprefix("pair "))
                line = pair_cell(scene, cell.name, name, number, cell.seed, list(kinds.values()))
            elif cell.kind == NO_FAULT:
                line = quiet_cell(scene, cell)
            elif cell.kind == REAL_EVENT and cell.severity in {e["name"] for e in events}:
                event = next(e for e in events if e["name"] == cell.severity)
                line = quiet_cell(scene, cell, event_of(bench, str(event["since"]), str(event["until"])))
            else:
                line = strike_cell(scene, cell, kinds[cell.kind], not given.no_baselines, given.poor)
            keep(given.lines, {**line, "code": code})
            print(said(line), flush=True)


def cells_of(given: argparse.Namespace, system: str, kinds: list[str], events: list[str]) -> Iterator[Cell]:
    """Seed by seed, so that a run that was stopped has seen every kind."""
    only = listed(given.kinds)
    for seed in given.seeds:
        for kind in kinds:
            for severity in given.severities:
                yield Cell(system, kind, severity, seed)
        for number in range(given.pairs):
            yield Cell(system, TWO, f"pair {number}", seed)
    halves = sorted({seed % 2 for seed in given.seeds})
    for n in range(given.quiet if not only or NO_FAULT in only else 0):
        for half in halves:
            yield Cell(system, NO_FAULT, FLAVOURS[n % len(FLAVOURS)], 2 * n + half)
    for event in events if not only or REAL_EVENT in only else []:
        for half in halves:
            yield Cell(system, REAL_EVENT, event, half)


def opened(given: argparse.Namespace, name: str) -> tuple[list[dict[str, Any]], Workbench]:
    """The real events of a system, and its workbench, made ready if it is not."""
    given.prepared.mkdir(parents=True, exist_ok=True)
    if name == SHOP:
        return [], open_workbench(shop(given.prepared / SHOP))
    folder = next(f for f in find_systems(given.systems) if f.name == name)
    ready = prepare(folder, given.data if given.data.is_dir() else None, given.prepared)
    return [vars(e) for e in getattr(ready.spans, "events", ())], open_workbench(ready.project)


def shop(folder: Path) -> Path:
    """The project file of the tests' synthetic shop: written, built and decided if it is not there."""
    from tests import world

    project = folder / "shop.py"
    if not (folder / "ready").is_file():
        world.write_shop(folder, world.RIGHT)
        world.build_shop(project, since="2024-01-08")
        world.decide_shop(project)
        (folder / "ready").touch()
    return project


# --- lines ---


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of cells; a last one that was cut off by a stop is left out."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return found


def code_version() -> str:
    """Which code measures: what `git describe` says of the tree, "+" if it was changed since; "unknown" without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=9"]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return made.stdout.strip() or "unknown"


def keep(path: Path, line: dict[str, Any]) -> None:
    """Adds a line. One that was cut off by a stop is ended first, so that it takes no other with it."""
    text = path.read_bytes() if path.is_file() else b""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" if text and not text.endswith(b"\n") else "")
        file.write(json.dumps(line, default=str) + "\n")


def said(line: dict[str, Any]) -> str:
    """One line of progress."""
    if line["state"] != "scored":
        return f"{line['cell']}: {line['state']}"
    if line["kind"] == TWO:
        told = f"{line['recall'] * 2:.0f} of 2 told{', as two' if line['as_two'] else ''}"
        return f"{line['cell']}: {told} {line['struck']} → {line['answer'][:3]} {line['shares']} · {line['seconds']} s"
    if line["kind"] in (NO_FAULT, REAL_EVENT):
        return (
            f"{line['cell']}: {line['verdict']}, {line['findings']} findings {line['answer'][:3]}, {line['seconds']} s"
        )
    mark = "right" if line["top1"] else "top 3" if line["top3"] else "WRONG"
    return (
        f"{line['cell']}: {mark} {line['answer'][:3]} · parameters {line['parameters_right']} · Jaccard "
        f"{line['jaccard']:.2f} · restored {line['restored']} · {line['seconds']} s"
    )


if __name__ == "__main__":
    try:
        main()
    except UnderhoodError as error:
        if "--work" in sys.argv:
            raise
        sys.exit(f"{error}")
