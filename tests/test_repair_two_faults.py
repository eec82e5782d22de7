"""Two faults at once: both are named, each with its share of the repair, and neither takes the credit for the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pytest

from tests.world import Workbench
from underhood.build.trainset import open_training
from underhood.faults.kinds import Injection, Scene
from underhood.plan.changes import INPUT, ROUTE, SOURCE, THRESHOLD, Change
from underhood.plan.exprs import col
from underhood.repair import workbench as uh
from underhood.repair.bench import survey
from underhood.repair.causes import diagnose, shapley
from underhood.repair.clone import Reach, strike
from underhood.repair.decided import mean
from underhood.repair.diagnosis import Diagnosis, proven
from underhood.repair.meaning import Meaning
from underhood.repair.swaps import swap

SINCE = datetime(2024, 3, 20)
OAK, MILL = col("row.depot") == "OAK", col("row.depot") == "MILL"


@contextmanager
def struck(bench: Workbench, *changes: Change) -> Iterator[Scene]:
    """The shop with these changes struck into a clone of its record since 20 March."""
    bundle = uh.deployed(bench)
    mean(bench.engine, (), bundle.name)
    open_training(bench.engine, bench.record, bundle.made_from["training"])
    with strike(Scene(bench.engine, bench.record, bench.plan, bundle, 0), Injection("two", changes), Reach(SINCE)) as s:
        yield s


def complained_about(scene: Scene, ids: Sequence[str], told: str) -> Diagnosis:
    mean(scene.engine, ids, scene.bundle.name)
    return diagnose(replace(scene, n_bad=len(ids), told=told, kept={}), Meaning(ids=tuple(ids), told=told))


def turned(scene: Scene, told: str, where: str = "true", limit: int = 4) -> list[str]:
    """Ids of decisions that the faults turned to `told`."""
    rows = scene.engine.rows(
        "select d.id from decided d join sound s using (id) where d.action <> s.action "
        f"and d.action = '{told}' and {where} order by d.id limit {limit}"
    )
    return [i for (i,) in rows]


@pytest.mark.slow
def test_two_faults_in_two_cohorts_are_both_named_with_their_shares(right_bench: Workbench) -> None:
    faults = (Change(INPUT, "jam", col("row.jam") * 0.1, OAK), Change(INPUT, "km", col("row.km") * 0.1, MILL))
    with struck(right_bench, *faults) as scene:
        oak, mill = (turned(scene, "quiet", f"d.\"row.depot\" = '{d}'") for d in ("OAK", "MILL"))
        found = complained_about(scene, [*oak, *mill], "quiet")

    assert len(oak) == len(mill) == 4
    assert found.verdict == "cause"
    assert found.says.startswith("2 faults at once")
    shares = {c.suspect.part: c.share for c in found.causes[:2]}
    assert shares == {"input jam": pytest.approx(0.5), "input km": pytest.approx(0.5)}
    assert found.together is not None
    assert found.together.repaired + found.together.turned >= found.together.n_bad == 8


@pytest.mark.slow
def test_faults_that_only_both_undone_repair_share_it_evenly(right_bench: Workbench) -> None:
    faults = (Change(INPUT, "jam", col("row.jam") * 0.1), Change(INPUT, "km", col("row.km") * 0.1))
    with struck(right_bench, *faults) as scene:
        # late only where the road is jammed and the way neither short nor long: either alone keeps it quiet
        needs_both = 's."row.jam" > 50 and s."row.km" between 8 and 13 and s."row.kg" < 8'
        ids = turned(scene, "quiet", needs_both, 5)
        found = complained_about(scene, ids, "quiet")

    assert len(ids) == 5
    alone = [c.trial.turned for c in found.causes[:2] if c.trial]
    assert found.says.startswith("2 faults at once")
    assert sum(c.share for c in found.causes[:2]) == pytest.approx(1)
    assert found.together is not None
    assert found.together.turned == 5 > max(alone)


@pytest.mark.slow
def test_a_fault_that_shows_only_among_those_whom_the_first_one_leaves_is_found_there(right_bench: Workbench) -> None:
    # history is wrong about km as well, so only those in question show it, and half of them have another trouble
    faults = (Change(INPUT, "jam", col("row.jam") * 0.1, MILL), Change(SOURCE, "km", col("row.km") * 0.4, OAK))
    with struck(right_bench, *faults) as scene:
        oak, mill = (turned(scene, "quiet", f"d.\"row.depot\" = '{d}'") for d in ("OAK", "MILL"))
        found = complained_about(scene, [*oak, *mill], "quiet")
        in_question = scene.engine.rows("select count(*) from decisions where bad")

    assert found.says.startswith("2 faults at once")
    assert {c.suspect.part for c in found.causes[:2]} == {"input jam", "source of km"}
    assert in_question == [(8,)]  # the look at half of them has put the view back
    assert not {"unit change"} & {r.kind for r in found.rulings if not r.suspects}


@pytest.mark.slow
def test_a_wrong_threshold_is_not_undone_by_mending_an_input(right_bench: Workbench) -> None:
    with struck(right_bench, Change(THRESHOLD, "call", 0.97), Change(SOURCE, "kg", col("row.kg") * 0.98)) as scene:
        ids = turned(scene, "text")
        found = complained_about(scene, ids, "text")

    assert found.causes[0].suspect.kind == "wrong threshold"
    assert all(c.trial.turned == 0 for c in found.causes[1:] if c.trial and c.suspect.part.startswith("input"))


@pytest.mark.slow
def test_a_second_fault_that_turned_none_of_these_is_told_beside_the_cause(right_bench: Workbench) -> None:
    faults = (Change(INPUT, "km", col("row.km") * 0.1), Change(INPUT, "wind", col("row.wind") * 3.6))
    with struck(right_bench, *faults) as scene:
        found = complained_about(scene, turned(scene, "quiet"), "quiet")

    assert found.causes[0].suspect.parameters["columns"] == ["km"]
    assert "Beside it, though it did not turn these: wind × 3.6" in found.says


def test_shares_of_a_repair_add_up_and_an_idle_part_gets_none() -> None:
    worth = {frozenset(): 0.0, frozenset([0]): 0.2, frozenset([1]): 0.4, frozenset([0, 1]): 0.9}
    three = {s | t: v for s, v in worth.items() for t in (frozenset(), frozenset([2]))}

    assert shapley(2, worth) == pytest.approx([0.35, 0.55])
    assert shapley(3, three) == pytest.approx([0.35, 0.55, 0.0])


def test_sending_decisions_elsewhere_proves_nothing_unless_they_are_better_off(right_bench: Workbench) -> None:
    bundle = uh.deployed(right_bench)
    sound = "action = 'quiet' and not label and asked_at > '2024-03-25'"
    mean(right_bench.engine, (), bundle.name, f"id in (select id from decided where {sound} order by id limit 6)")
    open_training(right_bench.engine, right_bench.record, bundle.made_from["training"])
    scene = Scene(right_bench.engine, right_bench.record, right_bench.plan, bundle, 6, told="quiet")
    routed = swap(scene, survey(scene), Change(ROUTE, "route", "desk"))

    assert (routed.turned, routed.repaired) == (6, 0)
    assert proven(scene, routed) == 0
    assert proven(scene, swap(scene, survey(scene), Change(THRESHOLD, "text", 0.0))) == 1
