"""A decision is made again from what was captured: the same to the last bit, or the first difference by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests import world
from underhood.build.bundle import load
from underhood.ground.errors import NotCapturedError, NotFoundError
from underhood.ground.records import Decision
from underhood.repair import workbench as uh
from underhood.repair.replay import decision_from, replay
from underhood.repair.workbench import Workbench
from underhood.run.decide import Decide, decider


@pytest.fixture(scope="module")
def decide(bench: Workbench) -> Decide:
    return decider(uh.deployed(bench))


@pytest.fixture(scope="module")
def decision(bench: Workbench) -> Decision:
    """The first decision of the record, whatever it is."""
    return uh.find_decision(bench, bench.engine.rows("select min(id) from decided")[0][0])


def test_every_decision_of_the_record_is_made_again_to_the_last_bit(bench: Workbench, decide: Decide) -> None:
    rows = bench.engine.dicts("select * from decided order by id")
    again = [replay(decision_from(row, bench.plan), decide) for row in rows]

    assert len(again) == 1943
    assert [r for r in again if not r.is_identical] == []


def test_a_changed_stored_score_is_named_as_the_first_difference(decision: Decision, decide: Decide) -> None:
    assert decision.score is not None
    nudged = replace(decision, score=decision.score * (1 + 2**-52), action="desk")
    again = replay(nudged, decide)

    assert (again.first, [d.name for d in again.differences]) == ("score", ["score"])
    assert again.differences[0].again == decision.score


def test_a_changed_feature_is_named_before_the_score_that_follows_from_it(decision: Decision, decide: Decide) -> None:
    wrong = replace(decision, features={**decision.features, "km": -1.0}, score=0.5)
    again = replay(wrong, decide)

    assert (again.first, [(d.name, d.served) for d in again.differences]) == ("features", [("km", -1.0)])


def test_a_changed_action_is_named(decision: Decision, decide: Decide) -> None:
    assert replay(replace(decision, action="desk"), decide).first == "action"


def test_an_older_bundle_gives_another_score(right_bench: Workbench) -> None:
    oldest = right_bench.database.deployments("parcels")[-1].bundle
    one = uh.find_decision(right_bench, right_bench.engine.rows("select max(id) from decided")[0][0])

    assert replay(one, decider(load(right_bench.record, oldest))).first == "score"


def test_a_decision_without_its_row_cannot_be_made_again_and_says_why(decision: Decision, decide: Decide) -> None:
    with pytest.raises(NotCapturedError, match="was logged without its row") as caught:
        replay(replace(decision, row={}), decide)

    assert caught.value.where == decision.id
    assert "capture it from now on" in caught.value.hint


def test_a_decision_that_was_logged_without_its_row_is_told_from_the_record_too(
    built_shop: Path, own: Callable[[Path], Path]
) -> None:
    with world.open_shop(own(built_shop)) as bench:
        sound = decider(uh.deployed(bench))

        def bare(row: dict[str, object], **asked: object) -> Decision:
            return replace(sound(row, **asked), row={})

        world.decide_with(bench, bare, "2024-03-08", "2024-03-09")
        name = bench.n_decisions and bench.engine.rows("select min(id) from decided")[0][0]
        with pytest.raises(NotCapturedError, match="was logged without its row"):
            uh.replay_decision(bench, name)


def test_inputs_computed_again_are_what_was_captured(bench: Workbench, decision: Decision) -> None:
    assert uh.open_decision(bench, decision.id).recomputed == ()


def test_a_source_value_that_changed_since_is_found(shop: Path, own: Callable[[Path], Path]) -> None:
    project = own(shop)
    table = project.parent / "parcels.csv"
    lines = table.read_text().splitlines()
    changed = next(n for n, line in enumerate(lines) if ",2024-03-20 " in line)
    cells = lines[changed].split(",")
    cells[4] = "77.7"
    table.write_text("\n".join([*lines[:changed], ",".join(cells), *lines[changed + 1 :]]) + "\n")
    with world.open_shop(project) as bench:
        found = uh.open_decision(bench, f"{cells[0]}|{cells[1]}")

    assert found.recomputed is not None
    assert [(d.layer, d.name, d.again) for d in found.recomputed] == [("input", "km", 77.7)]
    assert found.replay.is_identical


def test_a_question_that_left_the_sources_is_told_as_that(shop: Path, own: Callable[[Path], Path]) -> None:
    project = own(shop)
    table = project.parent / "parcels.csv"
    lines = table.read_text().splitlines()
    gone = next(line for line in lines if ",2024-03-20 " in line)
    table.write_text("\n".join(line for line in lines if line != gone) + "\n")
    depot, number = gone.split(",")[:2]
    with world.open_shop(project) as bench:
        assert uh.open_decision(bench, f"{depot}|{number}").recomputed is None


def test_a_decision_is_found_by_id_by_the_beginning_of_it_and_by_key(bench: Workbench, decision: Decision) -> None:
    for wanted in (decision.id, decision.id[:24], decision.key):
        assert uh.find_decision(bench, wanted).id == decision.id


@pytest.mark.parametrize("wanted", ["ffff", "", "a' or 1=1 --", "MOON|1"])
def test_an_unknown_decision_is_not_found_in_words(bench: Workbench, wanted: str) -> None:
    with pytest.raises(NotFoundError, match="there is no such decision") as caught:
        uh.find_decision(bench, wanted)

    assert "underhood query" in caught.value.hint


def test_a_beginning_that_several_ids_share_is_not_resolved_by_chance(bench: Workbench, decision: Decision) -> None:
    with pytest.raises(NotFoundError, match="decisions begin with it"):
        uh.find_decision(bench, decision.id[:4])


def test_a_refused_question_has_nothing_to_differ(decision: Decision, decide: Decide) -> None:
    assert replay(replace(decision, status="refused", score=None), decide).is_identical
