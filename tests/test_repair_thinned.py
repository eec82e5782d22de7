"""A large record is looked at by a share of its questions: all that are meant stay, and nothing stays changed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests import world
from tests.world import Workbench
from underhood.build.trainset import open_training
from underhood.faults.kinds import Scene
from underhood.faults.taught import taught_otherwise
from underhood.plan.changes import INPUT, RECOMPUTED, Change
from underhood.repair import workbench as uh
from underhood.repair.bench import survey
from underhood.repair.decided import mean
from underhood.repair.swaps import swap
from underhood.repair.thinned import thinned


@pytest.fixture
def scene(right_bench: Workbench) -> Scene:
    bundle = uh.deployed(right_bench)
    mean(right_bench.engine, (), bundle.name, f"day = '{world.EVENT}'")
    open_training(right_bench.engine, right_bench.record, bundle.made_from["training"])
    return Scene(right_bench.engine, right_bench.record, right_bench.plan, bundle, 67)


def counts(scene: Scene) -> list[int]:
    tables = ("decisions", "decisions where bad", "asks", "training")
    return [scene.engine.rows(f"select count(*) from {t}")[0][0] for t in tables]


def test_a_share_of_all_views_is_seen_and_everything_that_is_meant(scene: Scene) -> None:
    before = counts(scene)
    with thinned(scene, many=500, kept=200) as (thin, every):
        seen = counts(thin)
        matched = thin.engine.rows("select count(*) from decisions d join asks a on d.key = a.key")[0][0]

    assert 0.7 * 200 < before[0] / every < 1.5 * 200
    assert seen[1] == before[1] == 67
    assert all(s < 0.3 * b for s, b in zip(seen[:1] + seen[2:], before[:1] + before[2:], strict=True))
    assert matched == seen[0]  # a decision keeps its question
    assert counts(scene) == before


def test_a_training_row_keeps_the_question_that_it_was_made_of(scene: Scene) -> None:
    whole = taught_otherwise(scene)
    with thinned(scene, many=500, kept=200) as (thin, _):
        seen = taught_otherwise(thin)
        shared = thin.engine.rows("select count(*) from training t semi join asks a on t.key = a.key")[0][0]
        n = counts(thin)[3]

    assert shared == n > 100
    assert not whole.says
    assert not seen.says


def test_a_share_of_a_share_is_smaller_and_holds_what_is_meant(scene: Scene) -> None:
    with thinned(scene, many=500, kept=200) as (thin, every):
        outer = counts(thin)
        with thinned(thin, many=100, kept=50, name="few") as (few, again):
            inner = counts(few)
        assert counts(thin) == outer

    assert again > every
    assert inner[1] == outer[1] == 67
    assert inner[0] - 67 < 0.6 * (outer[0] - 67)
    assert inner[3] <= outer[3]


def test_every_halving_of_the_keys_leaves_about_half(scene: Scene) -> None:
    left = [scene.engine.rows(f"select count(*) from decisions where halvings >= {k}")[0][0] for k in range(4)]

    assert left[0] == counts(scene)[0]
    assert all(0.35 * one < next_one < 0.65 * one for one, next_one in pairwise(left))


def test_a_small_record_is_seen_whole(scene: Scene) -> None:
    with thinned(scene) as (same, every):
        assert (same, every) == (scene, 1)


def test_the_bench_works_on_a_share_as_it_does_on_all(scene: Scene) -> None:
    with thinned(scene, many=500, kept=200) as (thin, _):
        share = swap(thin, survey(thin), Change(INPUT, "jam", 90.0))
    whole = swap(scene, survey(scene), Change(INPUT, "jam", 90.0))

    assert (share.n_bad, share.turned, share.repaired) == (whole.n_bad, whole.turned, whole.repaired)
    assert 0 < share.n_healthy < whole.n_healthy
    assert swap(scene, survey(scene), Change(INPUT, "jam", RECOMPUTED)).changed == 0


def test_the_views_come_back_when_looking_failed(scene: Scene) -> None:
    before = counts(scene)
    with pytest.raises(ZeroDivisionError), thinned(scene, many=500, kept=200):
        raise ZeroDivisionError

    assert counts(scene) == before
