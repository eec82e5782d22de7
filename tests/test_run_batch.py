"""A span of history is decided in order of asking, outcomes come when known, a kill loses nothing whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import world
from underhood.ground.errors import ProjectError
from underhood.ground.records import Entry
from underhood.record.hot import read_hot
from underhood.record.seal import table
from underhood.repair import workbench as uh
from underhood.repair.workbench import Workbench
from underhood.run.decide import decider

ROOT = Path(__file__).parent.parent
DECIDE = f"""
from underhood.faces.cli import main
main(["-p", {{project!r}}, "decide", "--since", "{world.SINCE}", "--until", "{world.UNTIL}", "--json"])
"""
KILLED = """
import os, signal
from underhood.record.log import Log
append, told = Log.append, []
def killed(self, entries):
    append(self, entries)
    told.append(len(entries))
    if len(told) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Log.append = killed
"""


@pytest.fixture(scope="module")
def week(built_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """The log of a week, line by line."""
    project = world.copy_shop(built_shop, tmp_path_factory.mktemp("week"))
    with world.open_shop(project) as bench:
        span = world.decide_with(bench, decider(uh.deployed(bench)), "2024-03-08", "2024-03-15")
        assert (sum(span.actions.values()), span.refused, span.outcomes) == (7 * 67, 0, 7 * 67)
        return list(read_hot(bench.record))


def test_decisions_are_captured_in_order_of_asking(week: list[Entry]) -> None:
    asked = [entry.at for entry in week if entry.kind == "decision"]

    assert asked == sorted(asked)
    assert len(asked) == 7 * 67


def test_an_outcome_is_delivered_when_it_became_known_and_not_before(week: list[Entry]) -> None:
    moments = [entry.at for entry in week]

    assert moments == sorted(moments)
    for entry in week:
        if entry.kind == "outcome":
            assert entry.at == entry.body["known_at"]


def test_no_outcome_is_known_before_its_question_was_asked(week: list[Entry]) -> None:
    place = {(e.kind, e.body["key"]): n for n, e in enumerate(week)}

    assert all(place["decision", e.body["key"]] < place["outcome", e.body["key"]] for e in week)


def test_late_columns_are_in_the_outcome_and_never_in_the_row(week: list[Entry]) -> None:
    for entry in week:
        if entry.kind == "decision":
            assert not {"late_minutes", "returned", "label"} & set(entry.body["row"])  # type: ignore[call-overload]
        else:
            assert set(entry.body["facts"]) == {"late_minutes", "returned"}  # type: ignore[call-overload]


def test_a_span_without_a_question_is_told_with_the_days_that_have_some(bench: Workbench) -> None:
    with pytest.raises(ProjectError, match="no question was asked in it; they go from 2024-01-08 to 2024-04-06"):
        uh.decide_history(bench, since="2030-01-01", until="2030-02-01")


@pytest.mark.slow
def test_a_killed_process_leaves_whole_decisions_and_a_second_run_completes_them(
    built_shop: Path, shop: Path, own: Callable[[Path], Path]
) -> None:
    project = own(built_shop)
    record = project.parent / ".underhood"
    killed = run(KILLED + DECIDE.format(project=str(project)))
    left = table(record, "decision")
    whole = decisions_of(record)

    assert killed.returncode == -9
    assert 0 < left.num_rows < 1943
    assert all(d["score"] is not None and d["action"] for d in left.to_pylist())
    assert len(whole) == left.num_rows

    again = run(DECIDE.format(project=str(project)))

    assert again.returncode == 0
    # on a busy machine sealing takes long enough to be told
    assert [line for line in again.stderr.splitlines() if not line.startswith("… ")] == []
    assert set(whole) <= set(decisions_of(record))
    assert decisions_of(record) == decisions_of(shop.parent / ".underhood")


def test_deciding_the_same_span_again_doubles_nothing(shop: Path, own: Callable[[Path], Path]) -> None:
    project = own(shop)
    before = decisions_of(project.parent / ".underhood")
    world.decide_shop(project, "2024-03-08", "2024-03-10")

    assert decisions_of(project.parent / ".underhood") == before


def decisions_of(record: Path) -> list[str]:
    names = table(record, "decision")["id"].to_pylist()
    assert len(names) == len(set(names))
    return sorted(names)


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
