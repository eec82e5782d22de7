"""Faults that change no action show in counts: decisions against questions, and what is empty against its row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from underhood.build.trainset import open_training
from underhood.faults.extent import holds
from underhood.faults.feeds import MISSING, inject_missing
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.nulls import NULL_JOIN, UNPARSED, inject_null_join, inject_unparsed
from underhood.faults.served import MODEL
from underhood.faults.traffic import (
    FAN_OUT,
    MISSING_BATCH,
    RETRIES,
    TEST_TRAFFIC,
    inject_bot,
    inject_doubled,
    inject_dropped,
    inject_retried,
)
from underhood.faults.values import VALUE_KINDS
from underhood.plan.changes import Change
from underhood.plan.exprs import Expr, col, shown
from underhood.repair import workbench as uh
from underhood.repair.bench import survey
from underhood.repair.cases import mean
from underhood.repair.clone import Reach, strike
from underhood.repair.drill import complained
from underhood.repair.swaps import swap
from underhood.repair.workbench import Workbench

SINCE = datetime(2024, 3, 20)
LATE = Reach(SINCE)
HERE = (MODEL, FAN_OUT, RETRIES, MISSING_BATCH, TEST_TRAFFIC, MISSING, NULL_JOIN, UNPARSED)
OAK = col("row.depot") == "OAK"


@pytest.fixture(scope="module")
def scene(right_bench: Workbench) -> Iterator[Scene]:
    assert right_bench.n_decisions
    engine, bundle = right_bench.engine, uh.deployed(right_bench)
    mean(engine, (), bundle.name)
    open_training(engine, right_bench.record, bundle.made_from["training"])
    yield Scene(engine, right_bench.record, right_bench.plan, bundle, 0)
    mean(engine, ())


def ruled(scene: Scene, *changes: Change, reach: Reach = LATE) -> dict[str, Ruling]:
    """What each kind here says of a struck scene, from a complaint such as a drill makes."""
    with strike(scene, Injection("drill", changes), reach) as struck:
        bad = meant(struck)
        return {k.name: k.suspect(bad) for k in HERE}


def meant(struck: Scene) -> Scene:
    _, named, told = complained(struck, SINCE)
    assert named
    mean(struck.engine, named, struck.bundle.name)
    return replace(struck, n_bad=len(named), told=told, kept={})


def only(found: dict[str, Ruling], kind: Kind) -> Suspect:
    assert [name for name, ruling in found.items() if ruling.suspects] == [kind.name]
    return found[kind.name].suspects[0]


def test_sound_traffic_is_nobodys_fault(scene: Scene) -> None:
    for seed in range(3):
        rows = scene.engine.rows(
            f"select id from decided where bundle = '{scene.bundle.name}' order by hash(id || '{seed}') limit 5"
        )
        mean(scene.engine, [i for (i,) in rows], scene.bundle.name)
        looked = replace(scene, n_bad=5, kept={})

        assert not [k.name for k in HERE if k.suspect(looked).suspects]
    mean(scene.engine, (), scene.bundle.name)


@pytest.mark.parametrize("where", [None, OAK])
def test_a_question_decided_several_times_at_once_is_a_fan_out(scene: Scene, where: Expr | None) -> None:
    found = ruled(scene, *inject_doubled(2, where))
    suspect = only(found, FAN_OUT)

    assert suspect.parameters["times"] == 2
    assert suspect.since.startswith("2024-03-20")
    assert "they were doubled, not sent again" in found[RETRIES.name].says
    assert (where is None) == ("where depot = 'OAK'" not in suspect.says)


def test_a_question_sent_again_seconds_later_is_a_double_decision_whatever_its_score(scene: Scene) -> None:
    found = ruled(scene, *inject_retried(1, 8.0, 0.05), reach=Reach(SINCE, share=0.1))
    suspect = only(found, RETRIES)

    assert suspect.parameters["times"] == 1
    assert suspect.parameters["seconds"] == pytest.approx(8, abs=1)
    assert "each was sent again" in found[FAN_OUT.name].says


def test_a_batch_that_never_came_is_told_by_its_questions_in_the_source(scene: Scene) -> None:
    span = col("asked_at").within(datetime(2024, 3, 22), datetime(2024, 3, 23, 23))
    found = ruled(scene, *inject_dropped(span & OAK))
    suspect = only(found, MISSING_BATCH)

    assert suspect.where is not None
    assert shown(suspect.where) == "row.depot = 'OAK'"
    assert suspect.since.startswith("2024-03-22")
    assert str(suspect.parameters["until"]).startswith("2024-03-23")
    assert suspect.undo == ()


def test_a_day_without_questions_is_a_holiday_and_no_missing_batch(scene: Scene) -> None:
    span = col("asked_at").within(datetime(2024, 3, 25), datetime(2024, 3, 26))
    with strike(scene, Injection("drill", (Change("traffic", "fewer", 1.0, span),)), LATE) as struck:
        ruling = MISSING_BATCH.suspect(replace(struck, kept={}))

    assert not ruling.suspects
    assert "has its decision" in ruling.says


def test_one_exact_row_that_comes_far_too_often_is_a_robot_and_can_be_left_out(scene: Scene) -> None:
    key = scene.engine.rows("select key from decisions where action = 'quiet' order by hash(id) limit 1")[0][0]
    with strike(scene, Injection("drill", inject_bot(90, str(key), 3.0)), LATE) as struck:
        bad = meant(struck)
        suspect = only({k.name: k.suspect(bad) for k in HERE}, TEST_TRAFFIC)
        touched = int((holds(bad, suspect.where) > 0).sum())
        trial = swap(bad, survey(bad), *suspect.undo)

    assert suspect.parameters["decisions"] == 90
    assert 90 <= touched <= 91
    assert trial.repaired == trial.n_bad


def test_one_column_that_is_empty_alone_was_not_read_and_the_feed_came(scene: Scene) -> None:
    found = ruled(scene, *inject_unparsed("km", OAK))
    suspect = only(found, UNPARSED)

    assert suspect.parameters["columns"] == ["km"]
    assert suspect.where is not None
    assert "row.depot = 'OAK'" in shown(suspect.where)
    assert "others of the same rows are there" in found[MISSING.name].says


@pytest.mark.parametrize("share", [1.0, 0.05])
def test_all_columns_of_a_source_empty_at_once_are_a_missing_feed(scene: Scene, share: float) -> None:
    found = ruled(scene, *inject_missing(["jam", "ice"]), reach=Reach(SINCE, share=share))
    suspect = only(found, MISSING)

    assert suspect.part == "source roads"
    assert suspect.since >= "2024-03-20"
    assert suspect.says.count("UTC") == 1
    assert "not one column of it" in found[UNPARSED.name].says


def test_a_join_that_misses_by_the_spelling_of_its_key_is_no_missing_feed(scene: Scene) -> None:
    found = ruled(scene, *inject_null_join("depot", col("row.depot").then("lower"), ["jam", "ice"]))
    suspect = only(found, NULL_JOIN)

    assert suspect.parameters["key"] == "depot"
    assert set(suspect.parameters["columns"]) == {"jam", "ice", "depot"}
    assert str(suspect.parameters["pattern"]).startswith("capitals")
    assert "its keys are written otherwise" in found[MISSING.name].says


def test_the_key_of_a_join_that_misses_is_told_with_the_join_and_not_once_more_by_what_it_was_before(
    scene: Scene,
) -> None:
    changes = inject_null_join("depot", col("row.depot").then("lower"), ["jam", "ice"])
    with strike(scene, Injection("drill", changes), LATE) as struck:
        bad = meant(struck)
        found = [s.says for kind in VALUE_KINDS for s in kind.suspect(bad).suspects if "depot" in s.part]

    assert not found


def test_the_undo_of_a_null_join_gives_back_key_and_columns(scene: Scene) -> None:
    changes = inject_null_join("depot", col("row.depot").then("lower"), ["jam", "ice"])
    with strike(scene, Injection("drill", changes), LATE) as struck:
        bad = meant(struck)
        trial = swap(bad, survey(bad), *NULL_JOIN.suspect(bad).suspects[0].undo)
        rows = scene.engine.frame(
            f"select action from sound where status = 'ok' and bundle = '{scene.bundle.name}' order by id"
        )

    assert (trial.action == rows["action"]).mean() > 0.999


def test_what_a_drill_complains_about_after_a_missing_batch_lies_beside_it(scene: Scene) -> None:
    span = col("asked_at").within(datetime(2024, 3, 22), datetime(2024, 3, 23, 23))
    with strike(scene, Injection("drill", inject_dropped(span & OAK)), LATE) as struck:
        turned, named, told = complained(struck, SINCE)
        listed = ", ".join(f"'{i}'" for i in named)
        found = struck.engine.rows(
            f'select distinct "row.depot", asked_at::DATE::VARCHAR from decisions where id in ({listed}) order by all'
        )

    assert (turned, told) == (0, None)
    assert {depot for depot, _ in found} == {"OAK"}
    assert {day for _, day in found} <= {"2024-03-21", "2024-03-23", "2024-03-24"}
