"""The nightly look is silent on sound days, and opens one case for one fault, however many nights it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import world
from underhood.faults.served import inject_threshold
from underhood.faults.values import inject_value
from underhood.ground.errors import NotFoundError
from underhood.plan.exprs import col
from underhood.repair.cases import read_case
from underhood.repair.watch import Watched, watch, watched_json

Own = Callable[[Path], Path]
AFTER = "2024-03-21"


@pytest.fixture(scope="module")
def jammed(right_built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop on whose 19 March `jam` was served as ten times what the road office said."""
    project = world.copy_shop(right_built, tmp_path_factory.mktemp("jammed"))
    world.drill(project, inject_value("jam", col("row.jam") * 10.0), "2024-03-19")
    return project


def watched_in(project: Path, until: str, days: int = 1) -> Watched:
    with world.open_shop(project) as bench:
        return watch(bench, until=until, days=days, quiet=2)


@pytest.mark.slow
def test_a_value_served_ten_times_too_large_opens_a_case_with_cohort_cause_and_cost(jammed: Path) -> None:
    seen = watched_in(jammed, "2024-03-20")

    (alarm,) = seen.alarms
    assert alarm.cause.suspect.kind == "unit change"
    assert alarm.cause.suspect.parameters["factor"] == 10.0
    assert alarm.touched >= alarm.turned >= 5
    assert alarm.saved is not None
    assert alarm.saved > 0
    with world.open_shop(jammed) as bench:
        case = read_case(bench.database, alarm.case)
        assert case.state == "diagnosed"
        assert case.complaint.sender == "underhood watch"
        assert case.meaning.ids


@pytest.mark.slow
def test_the_same_fault_on_another_night_adds_a_line_to_its_case(jammed: Path) -> None:
    first, second = watched_in(jammed, "2024-03-20"), watched_in(jammed, "2024-03-21", days=2)

    assert [a.case for a in first.alarms] == [a.case for a in second.alarms]
    with world.open_shop(jammed) as bench:
        assert len(bench.database.cases()) == 1
        assert len(read_case(bench.database, first.alarms[0].case).complaint.text.splitlines()) == 2


@pytest.mark.slow
def test_sound_days_wake_nobody(right_bench: world.Workbench) -> None:
    before = len(right_bench.database.cases())
    nights = [watch(right_bench, until=f"2024-03-{day}") for day in (11, 14, 17, 25, 30)]

    assert [a for night in nights for a in night.alarms] == []
    assert len(right_bench.database.cases()) == before


@pytest.mark.slow
def test_a_feed_that_stopped_and_harmed_nobody_is_noticed_but_wakes_nobody(right_bench: world.Workbench) -> None:
    seen = watch(right_bench, until="2024-03-28")

    assert seen.alarms == ()
    assert "missing feed" in [a.cause.suspect.kind for a in seen.noticed]


@pytest.mark.slow
def test_an_alarm_says_how_often_the_same_look_cried_wolf_before(right_built: Path, own: Own) -> None:
    project = own(right_built)
    world.drill(project, (*inject_threshold("call", 0.99), *inject_threshold("text", 0.985)))
    told = watched_json(watched_in(project, AFTER))

    assert [a["kind"] for a in told["alarms"]] == ["wrong threshold"]
    assert (told["quiet_windows"], told["false_alarms"]) == (2, 0)


def test_a_window_without_decisions_is_said_to_be_one(right_bench: world.Workbench) -> None:
    with pytest.raises(NotFoundError, match="nothing was decided in it"):
        watch(right_bench, until="2024-02-01")
