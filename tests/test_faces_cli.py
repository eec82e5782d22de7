"""The command line: text and JSON say the same, errors are words, nothing is wider than 80 columns."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tests import world
from underhood.faces.cli import main
from underhood.record.objects import folder
from underhood.record.seal import table
from underhood.repair.workbench import Workbench

Own = Callable[[Path], Path]
PACKAGE = Path(__file__).parent.parent / "underhood"


def run(project: Path, *words: str) -> Result:
    done = CliRunner().invoke(main, ["-p", str(project), *words], prog_name="underhood")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def told(bench: Workbench, *words: str) -> Result:
    """The same with a workbench that is open already: what every command but the first costs in a session."""
    done = CliRunner().invoke(main, words, prog_name="underhood", obj=bench)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.fixture(scope="module")
def case_bench(case_shop: Path) -> Iterator[Workbench]:
    with world.open_shop(case_shop) as bench:
        yield bench


@pytest.fixture(scope="module")
def key(case_shop: Path) -> str:
    rows = run(case_shop, "query", "select key from decisions where bad order by id", "--json").stdout
    return str(json.loads(rows)[0]["key"])


SAY_NO = ("pins", "contract check")  # a pin that does not hold yet; a jam of 874 that the contract does not allow
SUITE = """{"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "depot"}}]}"""
LOOKS = [
    ("status",),
    ("case", "list"),
    ("case", "show"),
    ("diagnose", "1"),
    ("patch", "list"),
    ("query", "select action, count(*) as n from decisions group by action"),
    ("doctor",),
    ("seal",),
    ("trace", "roads.jam"),
    ("trace", "KEY", "mean_late"),
    ("clean", "roads"),
    ("clean", "roads", "--without", "null above 100"),
    ("match", "HERE/parcels.csv:district", "HERE/roads.csv:depot", "--out", "HERE/matches.csv"),
    ("look", "HERE/roads.csv"),
    ("look", "HERE/roads.csv", "--column", "jam"),
    ("compare", "HERE/roads.csv", "HERE/roads.csv"),
    ("contract", "infer", "HERE/roads.csv", "--out", "HERE/roads.toml"),
    ("contract", "show", "HERE/roads.toml"),
    ("contract", "check", "HERE/roads.csv", "--against", "HERE/roads.toml"),
    ("contract", "diff", "HERE/roads.toml", "HERE/roads.toml"),
    ("contract", "import", "HERE/suite.json", "--table", "roads", "--out", "HERE/imported"),
    ("parity", "--engine", "duckdb", "--rows", "500", "--mixed", "500"),
    ("adopt", "HERE/parcels.csv", "--key", "parcel", "--outcome", "returned", "--out", "HERE/adopted"),
    ("init", "HERE/roads.csv", "HERE/parcels.csv", "--out", "HERE/tables/made.py", "--yes"),
    ("replay", "KEY"),
    ("layers", "KEY"),
    ("case", "open", "On 20 March you kept quiet about 53 others"),
    ("fixes",),
    ("drill", "--kinds", "wrong threshold", "--severities", "all"),
    ("pin", "1"),
    ("pins",),
    ("report",),
    ("report", "--markdown", "--out", "HERE/case.md"),
    ("patch", "apply", "1", "--owner", "desk"),
    ("patch", "list"),
    ("patch", "undo", "case-2-fix-1"),
    ("decide", "--since", "2024-03-08", "--until", "2024-03-09"),
    ("build", "--until", "2024-01-25"),
    ("deploy",),
    ("watch", "--until", "2024-03-28", "--quiet", "1"),
]


@pytest.fixture(scope="module")
def answers(fixed_shop: Path, tmp_path_factory: pytest.TempPathFactory, key: str) -> dict[str, tuple[Result, Result]]:
    """Every command, as text and as JSON, on two copies of the fixed shop."""
    found: dict[str, tuple[Result, Result]] = {}
    text, body = (world.copy_shop(fixed_shop, tmp_path_factory.mktemp(n)) for n in ("text", "json"))
    for project in (text, body):
        (project.parent / "tables").mkdir()
        (project.parent / "suite.json").write_text(SUITE)
    with world.open_shop(text) as one, world.open_shop(body) as two:
        for words in LOOKS:
            said = [[key if w == "KEY" else w.replace("HERE", str(p.parent)) for w in words] for p in (text, body)]
            found[" ".join(words)] = told(one, *said[0]), told(two, *said[1], "--json")
    return found


def test_every_command_is_tried_here() -> None:
    tried = {words[:n] for words in LOOKS for n in (1, 2)}

    assert [path for path, command in commands() if not isinstance(command, click.Group) and path not in tried] == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [" ".join(w) for w in dict.fromkeys(LOOKS)])
def test_every_answer_is_json_when_asked_and_fits_80_columns_when_not(
    answers: dict[str, tuple[Result, Result]], words: str
) -> None:
    text, body = answers[words]

    assert text.exit_code == body.exit_code == (1 if words.startswith(SAY_NO) else 0), text.output
    assert json.loads(body.stdout) is not None
    assert text.stdout.strip()
    assert [line for line in text.output.splitlines() if len(line) > 80 and not is_one_piece(line)] == []


@pytest.mark.parametrize("path", [(), *[p for p, _ in commands()]], ids=lambda p: " ".join(p) or "underhood")
def test_every_help_page_fits_80_columns_and_says_what_it_does(path: tuple[str, ...]) -> None:
    page = CliRunner().invoke(main, [*path, "--help"], prog_name="underhood").stdout

    assert [line for line in page.splitlines() if len(line) > 80] == []
    assert len(page.splitlines()[2].split()) >= 3


MISTAKES = {
    "unknown case": (("diagnose", "99"), "there is no case 99"),
    "unknown case to show": (("case", "show", "99"), "there is no case 99"),
    "unknown decision": (("replay", "MOON|1"), "there is no such decision"),
    "unknown decision to open": (("layers", "MOON|1"), "there is no such decision"),
    "unknown patch": (("patch", "undo", "nope"), "there is no such patch"),
    "unknown fix": (("patch", "apply", "99", "--owner", "desk"), "case 1 has"),
    "no owner": (("patch", "apply", "1", "--owner", " "), "has no owner"),
    "no day": (("patch", "apply", "1", "--owner", "desk", "--expires", "soon"), "is not a day"),
    "not a moment": (("decide", "--since", "soon", "--until", "2024-04-01"), "is not a moment"),
    "nothing to learn": (("build", "--until", "2001-01-01"), "no row has a label known by then"),
    "nothing meant": (("case", "open", "Everything is bad"), "no decision fits it"),
    "no such complaint": (("case", "open", "nope.eml"), "there is no such file"),
    "not a SELECT": (("query", "drop table decided"), "is not one SELECT"),
    "no such column": (("query", "select nope from decisions"), "nope"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_the_same_words_as_text_and_as_json(case_bench: Workbench, mistake: str) -> None:
    words, what = MISTAKES[mistake]
    text, body = told(case_bench, *words), told(case_bench, *words, "--json")
    error = json.loads(body.stdout)

    assert (text.exit_code, body.exit_code, text.stdout) == (1, 1, "")
    assert what in error["error"]
    for said in (error["error"], error["where"], error["hint"]):
        assert flat(said) in flat(text.stderr)
    assert [line for line in text.stderr.splitlines() if len(line) > 80 and "/" not in line] == []


def test_a_typo_in_the_project_file_is_told_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    project = world.write_shop(tmp_path)
    sound = project.read_text()
    for typo, line_of, hint in (
        ("uh.treshold(", "uh.threshold(", "did you mean threshold"),
        ('"wind", "parcels_out", "mean_lat"]', '"wind", "parcels_out", "mean_late"]', "did you mean mean_late"),
        ('take=["jam", "icy"]', 'take=["jam", "ice"]', "did you mean ice"),
        ('happened="dew"', 'happened="due"', "did you mean due"),
    ):
        project.write_text(sound.replace(line_of, typo))
        assert project.read_text() != sound
        body = json.loads(run(project, "build", "--json").stdout)
        said = " ".join(str(v) for e in [body, *body.get("also", [])] for v in e.values())
        assert hint in said, said
    number = next(n for n, line in enumerate(sound.splitlines(), 1) if "uh.threshold(" in line)
    project.write_text(sound.replace("uh.threshold(", "uh.treshold("))
    assert f"shop.py:{number}" in run(project, "status").stderr


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import underhood as uh\nx = (", "was never closed"),
        ("import underhood as uh\nimport nope_nope", "No module named"),
        ("import underhood as uh\n1 / 0", "division by zero"),
        ("import underhood as uh\nassert False, 'no'", "no"),
        ("import underhood as uh", "defines 0 systems"),
        ("\x00", "null"),
    ],
)
def test_a_project_file_that_cannot_run_is_told_in_words(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "shop.py").write_text(text)
    done = run(tmp_path / "shop.py", "status")

    assert done.exit_code == 1
    assert flat(what) in flat(done.stderr)
    assert "shop.py" in done.stderr


def test_no_project_here_says_where_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["status"])

    assert done.exit_code == 1
    assert flat("no project file here") in flat(done.stderr)
    assert "--project" in done.stderr


def test_the_module_is_the_command_too() -> None:
    done = subprocess.run([sys.executable, "-m", "underhood", "--help"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("Usage: underhood [OPTIONS] COMMAND")


def test_a_case_without_a_subject_is_told_by_its_words_once(case_shop: Path, own: Own) -> None:
    project = own(case_shop)
    done = run(project, "case", "open", "Too quiet", "--where", "day = '2024-03-20' and score < 0.5 and true and 1 = 1")
    told = done.stdout.splitlines()

    assert [line.rstrip() for line in told[:2]] == ["case 2: a complaint", "  Too quiet"]
    upto = next(i for i, line in enumerate(told) if line.startswith("  state:"))
    assert all(line.startswith("  ") for line in told[1:upto])  # what is too long hangs, it does not begin anew


def test_a_query_without_a_case_reads_what_the_deployed_bundle_learned_from(built_shop: Path) -> None:
    rows = json.loads(run(built_shop, "query", "select count(*) as n from training", "--json").stdout)

    assert rows[0]["n"] > 0
    assert "7" in run(built_shop, "query", "select 1", "--case", "7").stderr


@pytest.mark.slow
def test_nothing_built_yet_says_to_build(tmp_path: Path) -> None:
    project = world.write_shop(tmp_path)
    asked = run(project, "query", "select * from training")
    assert "underhood build" in asked.stderr
    done = run(project, "decide", "--since", "2024-03-08", "--until", "2024-03-09")

    assert (done.exit_code, "underhood build" in done.stderr) == (1, True)
    assert run(project, "status").exit_code == 0
    for words in (("diagnose",), ("fixes",), ("pin",), ("report",), ("case", "open", "8 March"), ("replay", "x")):
        assert run(project, *words).exit_code == 1


def test_a_damaged_bundle_is_told_and_named(case_shop: Path, own: Own) -> None:
    project = own(case_shop)
    (bundle,) = folder(project.parent / ".underhood").glob("bundle-*.json")
    bundle.chmod(0o644)
    bundle.write_bytes(bundle.read_bytes()[:-10])
    done = run(project, "decide", "--since", "2024-03-08", "--until", "2024-03-09", "--json")

    assert done.exit_code == 1
    assert bundle.name in json.loads(done.stdout)["where"]
    assert run(project, "doctor").exit_code == 1


def test_a_missing_bundle_is_told_and_named(case_shop: Path, own: Own) -> None:
    project = own(case_shop)
    (bundle,) = folder(project.parent / ".underhood").glob("bundle-*.json")
    bundle.unlink()
    done = run(project, "diagnose", "1", "--json")

    assert (done.exit_code, f"there is no object {bundle.name}" in json.loads(done.stdout)["error"]) == (1, True)


def test_a_damaged_database_is_told(case_shop: Path, own: Own) -> None:
    project = own(case_shop)
    for path in (project.parent / ".underhood").glob("underhood.db*"):
        path.write_bytes(b"not a database" * 1000)
    done = run(project, "status", "--json")

    assert (done.exit_code, "underhood.db" in json.loads(done.stdout)["where"]) == (1, True)


def mounted(where: Path, options: str) -> None:
    where.mkdir(exist_ok=True)
    line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.mark.slow
def test_a_full_disk_is_told_and_nothing_accepted_is_lost(built_shop: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    mounted(disk, "size=6m")
    try:
        project = world.copy_shop(built_shop, disk)
        assert run(project, "decide", "--since", "2024-03-08", "--until", "2024-03-09").exit_code == 0
        before = set(table(disk / ".underhood", "decision")["id"].to_pylist())
        (disk / "ballast").write_bytes(b"\0" * (free(disk) - 300_000))
        done = run(project, "decide", "--since", "2024-03-09", "--until", "2024-03-20", "--json")
        error = json.loads(done.stdout)
        after = set(table(disk / ".underhood", "decision")["id"].to_pylist())
        (disk / "ballast").unlink()
        again = run(project, "decide", "--since", "2024-03-09", "--until", "2024-03-20")
        final = table(disk / ".underhood", "decision")["id"].to_pylist()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

    assert done.exit_code == 1
    assert "the disk is full" in error["error"]
    assert "free" in error["hint"]
    assert before <= after
    assert (again.exit_code, len(before), len(final), len(set(final))) == (0, 67, 12 * 67, 12 * 67)


def free(disk: Path) -> int:
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize


def test_a_record_that_may_not_be_written_is_told(case_shop: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    mounted(disk, "size=40m")
    try:
        project = world.copy_shop(case_shop, disk)
        if subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False, capture_output=True).returncode:
            pytest.skip("a disk cannot be made read-only here")
        done = run(project, "decide", "--since", "2024-03-08", "--until", "2024-03-09", "--json")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

    assert done.exit_code == 1
    assert ".underhood" in json.loads(done.stdout)["where"]


def hints() -> Iterator[tuple[str, str]]:
    """Every `underhood …` line in a text of the package: where it stands, and its words."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for line in re.findall(r"(?<![\w./])underhood ((?:[a-z]+)(?: .*)?)", node.value):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", line


@pytest.mark.slow
def test_every_command_that_a_hint_names_exists_with_its_options() -> None:
    strange = []
    for where, line in hints():
        words = re.split(r"\s{2,}|[`;,)\n]|\. ", line)[0].split()
        command: click.Command = main
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        options = {o for p in command.params for o in p.opts} | {"--json", "--help"}
        if command is main and where.split(":")[0] not in PROSE:
            strange.append(f"{where}: underhood {line}")
        strange += [f"{where}: {command.name} has no {w}" for w in words if w.startswith("--") and w not in options]

    assert strange == []


PROSE = {"__init__.py", "start/draft.py", "repair/adopted_project.py"}


def is_one_piece(line: str) -> bool:
    """A path, or a query to copy: broken over two lines it would be of no use."""
    return "/" in line or "select " in line


def flat(text: Any) -> str:
    """Words only: how a line was wrapped does not matter."""
    return "".join(str(text).split())
