"""Which documented facts about public tables the product's look finds, and whether it cries wolf.

Usage: python bench/known_truths.py [DIR] [--json] [--quick]. DIR has a KNOWN_TRUTHS.json in the form that the
KNOWN_TRUTHS.md beside it explains. The tables of each data set are opened together and looked at; nothing here
tells the product what is true. Only the columns that the file's rules say to hide are hidden, and where a
folder's README has a line "**Target:** name" with the name of a column, look is told that column, as a user would.

A truth is hit when findings of one class on its table together name all of its columns; when it has none,
when a finding on the table has its class. First screen: the same among the table's five most important
findings. An alarm: a finding of severity 0.5 or more that is no real event and meets a control's table,
columns and rows. Counted: defects whose surface is look, contract, join, compare or leak; label, lineage and
diagnosis concern more than tables. Goal: at least 80 % of the visible ones on the first screen, no alarm.
The last line is JSON: `ours` is that share, `peer` the same when the findings are in the order of their
classes, not of importance. --quick leaves out data sets of more than 150,000 rows.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from underhood.ground.errors import UnderhoodError
from underhood.ground.findings import Finding
from underhood.plan.render import quoted
from underhood.signs.look import FIRST_SCREEN, Look, look
from underhood.tables.frames import Table, described, open_table
from underhood.tables.local import Engine

GOAL = 0.8
COUNTED = ("look", "contract", "join", "compare", "leak")
QUICK_ROWS = 150_000
SERIOUS = 0.5  # severity from which a finding on a control is an alarm
TABLES = (".csv", ".csv.zip", ".csv.gz", ".parquet", ".tsv")
HERE = Path(__file__).parent.parent.parent / "shared" / "data"


@dataclass(frozen=True)
class Scored:
    """A truth with what was found of it. `overlap` is the Jaccard of the rows, null when either side has none."""

    truth: Mapping[str, Any]
    is_hit: bool
    is_first: bool
    is_first_unranked: bool
    is_same_class: bool
    overlap: float | None
    by: Finding | None

    @property
    def counts(self) -> bool:
        """Whether it is a defect of a surface that concerns tables."""
        return bool(self.truth["is_defect"]) and self.truth["surface"] in COUNTED


def main() -> None:
    """Prints the report; with --json the scores instead of it."""
    named = [a for a in sys.argv[1:] if not a.startswith("--")]
    folder = Path(named[0]) if named else HERE
    if not (folder / "KNOWN_TRUTHS.json").is_file():
        print(f"no KNOWN_TRUTHS.json in {folder}")
        print(json.dumps(summary([], 0.0)))
        return
    truths = json.loads((folder / "KNOWN_TRUTHS.json").read_text("utf-8"))
    began = time.perf_counter()
    scored = [each for name, group in by_data_set(truths).items() for each in run(folder, name, group)]
    if "--json" in sys.argv:
        print(json.dumps([as_json(s) for s in scored], indent=1))
    else:
        report(scored)
    print(json.dumps(summary(scored, time.perf_counter() - began)))


def by_data_set(truths: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The truths of each data set, in the file's order."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for truth in truths:
        groups.setdefault(truth["dataset"], []).append(truth)
    return groups


def run(folder: Path, name: str, truths: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Looks at one data set's tables together, in an engine of its own, and scores its truths."""
    with Engine(memory_mb=4000) as engine:
        tables = list(opened(engine, folder, name))
        if not tables:
            print(f"{name}: no table can be opened, its {len(truths)} truths are missed", file=sys.stderr)
            return [Scored(t, False, False, False, False, None, None) for t in truths]
        if "--quick" in sys.argv and sum(t.rows for t in tables) > QUICK_ROWS:
            print(f"{name}: left out, it has more than {QUICK_ROWS:,} rows", file=sys.stderr)
            return []
        began = time.perf_counter()
        seen = look(engine, tables, target_of(folder / name, tables))
        print(f"{name}: {len(tables)} tables, {time.perf_counter() - began:.1f} s", file=sys.stderr)
        return [score(engine, seen, truth) for truth in truths]


def opened(engine: Engine, folder: Path, name: str) -> Iterator[Table]:
    """The tables of a data set: the files of its folder, or of the installed package of that name."""
    with tempfile.TemporaryDirectory(prefix="underhood-bench-") as made:
        yield from _opened(engine, folder, name, Path(made))


def _opened(engine: Engine, folder: Path, name: str, scratch: Path) -> Iterator[Table]:
    is_package = name.endswith("(pip)")
    place = package(name.split()[0]) if is_package else folder / name
    if place is None or not place.is_dir():
        return
    hidden = hidden_columns(folder)
    for path in sorted(p for p in place.rglob("*") if str(p).endswith(TABLES)):
        stem = path.name
        for ending in sorted(TABLES, key=len, reverse=True):
            stem = stem.removesuffix(ending)
        try:
            table = open_table(engine, unzipped(path, scratch), stem)
        except UnderhoodError as error:
            print(f"{path.name}: skipped, {error.what}", file=sys.stderr)
            continue
        yield as_meant(engine, table, is_package, hidden.get(stem, ()))


def unzipped(path: Path, scratch: Path) -> Path:
    """The one file that a zip holds; any other path as it is."""
    if path.suffix != ".zip":
        return path
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
        return Path(archive.extract(members[0], scratch))


def package(name: str) -> Path | None:
    """The folder of an installed package's data, found without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def hidden_columns(folder: Path) -> dict[str, list[str]]:
    """What the rules say to hide: "Hide `column` from the tool for `table`"."""
    page = folder / "KNOWN_TRUTHS.md"
    if not page.is_file():
        return {}
    hidden: dict[str, list[str]] = {}
    for column, table in re.findall(r"Hide `([^`]+)`\s+from the tool for\s+`([^`]+)`", page.read_text("utf-8")):
        hidden.setdefault(table, []).append(column)
    return hidden


def as_meant(engine: Engine, table: Table, has_na: bool, hidden: Sequence[str]) -> Table:
    """The table without hidden columns, kept in memory; a package's "NA" is null, and the types are found anew."""
    columns = ", ".join(quoted(c) for c in table.columns if c not in hidden)
    raw = quoted(f"raw {table.name}")
    engine.run(f"create temp table {raw} as select {columns} from {quoted(table.name)}")
    casts = columns
    if has_na:
        casts = ", ".join(without_na(engine, raw, c, t) for c, t in table.columns.items() if c not in hidden)
    engine.view(table.name, f"select {casts} from {raw}")
    return described(engine, table.name, table.origin)


def without_na(engine: Engine, raw: str, column: str, sql_type: str) -> str:
    """One column with NaN and "NA" as null, and as a number when all that is left are numbers."""
    name = quoted(column)
    if sql_type in ("DOUBLE", "FLOAT"):
        return f"case when isnan({name}) then null else {name} end as {name}"
    if sql_type != "VARCHAR":
        return name
    is_number = engine.rows(
        f"select count(*) = count(try_cast({name} as DOUBLE)) and count(*) > 0 from {raw} "
        f"where {name} not in ('NA', 'NaN', '')"
    )[0][0]
    filled = f"case when {name} not in ('NA', 'NaN', '') then {name} end"
    return f"try_cast({filled} as DOUBLE) as {name}" if is_number else f"{filled} as {name}"


def target_of(folder: Path, tables: Sequence[Table]) -> str | None:
    """The column that the folder's README names as the target: by its name, or by its place ("15th column")."""
    page = folder / "README.md"
    found = re.search(r"\*\*Target:\*\*\s*(.+)", page.read_text("utf-8")) if page.is_file() else None
    if not found:
        return None
    place = re.search(r"(\d+)(?:st|nd|rd|th) column", found[1])
    for word in re.findall(r"[\w.]+", found[1]):
        if any(word in t.columns for t in tables):
            return word
    if place:
        columns = list(tables[0].columns)
        return columns[int(place[1]) - 1] if int(place[1]) <= len(columns) else None
    return None


def score(engine: Engine, seen: Look, truth: Mapping[str, Any]) -> Scored:
    """What was found of one truth, over all findings and on the first screen of its table."""
    table = truth["table"] if isinstance(truth["table"], str) else truth["table"][0]
    found = seen.of(table)
    if not truth["is_defect"]:
        alarm = next((f for f in found if is_alarm(engine, f, truth)), None)
        return Scored(truth, alarm is not None, alarm in found[:FIRST_SCREEN], False, False, None, alarm)
    by = hit(found, truth)
    first = hit(found[:FIRST_SCREEN], truth)
    overlap = jaccard(engine, table, [f.where for f in by if f.where], truth["where"]) if by else None
    same = any(f.about == truth["class"] for f in by)
    unranked = hit(sorted(found, key=lambda f: (f.about, f.columns))[:FIRST_SCREEN], truth)
    return Scored(truth, bool(by), bool(first), bool(unranked), same, overlap, by[0] if by else None)


def hit(found: Sequence[Finding], truth: Mapping[str, Any]) -> list[Finding]:
    """The findings of one class that together name all columns of a truth; its own class is tried first."""
    wanted = set(truth["columns"])
    if not wanted:
        return [f for f in found if f.about == truth["class"]]
    classes = sorted({f.about for f in found}, key=lambda c: (c != truth["class"], c))
    for about in classes:
        # a single finding that names all of them tells more than several together
        whole = [f for f in found if f.about == about and wanted <= set(f.columns)]
        parts = [f for f in found if f.about == about and wanted & set(f.columns)]
        if whole or wanted <= {c for f in parts for c in f.columns}:
            return whole[:1] or parts
    return []


def is_alarm(engine: Engine, finding: Finding, control: Mapping[str, Any]) -> bool:
    """Whether a finding calls a control an error: it names its columns, and most of its rows are
    the control's when that has rows of its own."""
    if (
        finding.about == "real_event"
        or finding.severity < SERIOUS
        or not set(control["columns"]) <= set(finding.columns)
    ):
        return False
    if control["where"] is None:
        return bool(control["columns"])
    if finding.where is None:
        return False
    inside, n = engine.rows(
        f"select count(*) filter (where {control['where']}), count(*) from {quoted(finding.table)} "
        f"where {finding.where}"
    )[0]
    return bool(n) and inside / n > 0.5


def jaccard(engine: Engine, table: str, ours: Sequence[str], theirs: str | None) -> float | None:
    """The overlap of the rows that findings and truth select."""
    if not ours or theirs is None:
        return None
    mine = " or ".join(f"({w})" for w in ours)
    one = f"select row_number() over () as n, * from {quoted(table)}"
    both, either = engine.rows(
        f"select count(*) filter (where a and b), count(*) filter (where a or b) from "
        f"(select coalesce(({mine}), false) as a, coalesce(({theirs}), false) as b from ({one}) as {quoted(table)})"
    )[0]
    return both / either if either else None


def report(scored: Sequence[Scored]) -> None:
    """A line a truth, then the shares."""
    for each in scored:
        truth = each.truth
        mark = ("ALARM" if each.is_hit else "quiet") if not truth["is_defect"] else (
            "first" if each.is_first else "found" if each.is_hit else "MISSED"
        )  # fmt: skip
        rows = f" rows {each.overlap:.2f}" if each.overlap is not None else ""
        how = (
            f"{each.by.severity:.2f} {each.by.about}{'' if each.is_same_class else ' (other class)'}" if each.by else ""
        )
        counted = "" if each.counts or not truth["is_defect"] else " (not counted)"
        print(f"{truth['id']:8}{mark:7}{truth['surface']:10}{truth['class']:27}{how}{rows}{counted}")
    for name, group in groups_of(scored):
        if group:
            n = len(group)
            found, first = sum(s.is_hit for s in group), sum(s.is_first for s in group)
            same = sum(s.is_same_class for s in group)
            print(f"{name:22} found {found:3} of {n:3}  on the first screen {first:3}  with the same class {same:3}")


def groups_of(scored: Sequence[Scored]) -> Iterator[tuple[str, list[Scored]]]:
    """Defects together: counted, blind, by split and surface."""
    defects = [s for s in scored if s.truth["is_defect"]]
    yield "all defects", defects
    yield "counted", [s for s in defects if s.counts]
    yield "blind, counted", [s for s in defects if s.counts and s.truth["single_table_blind"]]
    for surface in sorted({s.truth["surface"] for s in defects}):
        yield f"surface {surface}", [s for s in defects if s.truth["surface"] == surface]
    for split in sorted({s.truth.get("split", "") for s in defects}):
        yield f"split {split}", [s for s in defects if s.counts and s.truth.get("split", "") == split]


def summary(scored: Sequence[Scored], seconds: float) -> dict[str, object]:
    """The line that other programs read."""
    counted = [s for s in scored if s.counts]
    alarms = [s.truth["id"] for s in scored if not s.truth["is_defect"] and s.is_hit]
    first = sum(s.is_first for s in counted) / max(len(counted), 1)
    unranked = sum(s.is_first_unranked for s in counted) / max(len(counted), 1)
    found = sum(s.is_hit for s in counted) / max(len(counted), 1)
    overlaps = [s.overlap for s in counted if s.overlap is not None]
    return {
        "bench": "known_truths",
        "ours": round(first, 3),
        "peer": round(unranked, 3),
        "ratio": round(first / unranked, 2) if unranked else None,
        "goal": f"first-screen recall >= {GOAL:g} of defects of {', '.join(COUNTED)}; 0 alarms",
        "holds": (first >= GOAL and not alarms) if counted else True,
        "recall": round(found, 3),
        "defects": len(counted),
        "same_class": round(sum(s.is_same_class for s in counted) / max(len(counted), 1), 3),
        "overlap": round(sum(overlaps) / len(overlaps), 3) if overlaps else None,
        "alarms": alarms,
        "controls": sum(not s.truth["is_defect"] for s in scored),
        "missed": [s.truth["id"] for s in counted if not s.is_first],
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version(), "duckdb": version("duckdb")},
    }


def as_json(each: Scored) -> dict[str, object]:
    """One truth's score."""
    keep = ("id", "table", "columns", "class", "surface", "is_defect")
    return {
        **{k: each.truth[k] for k in keep},
        "hit": each.is_hit,
        "first_screen": each.is_first,
        "same_class": each.is_same_class,
        "overlap": each.overlap,
        "by": each.by.says if each.by else None,
        "severity": each.by.severity if each.by else None,
    }


if __name__ == "__main__":
    main()
