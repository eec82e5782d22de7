"""The bench tells what would have been: the same, to the last bit, as `decide` and `build` make it with the patch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import world
from underhood.build.builds import build
from underhood.build.bundle import load
from underhood.faults.kinds import Scene
from underhood.ground.errors import ProjectError
from underhood.plan.changes import (
    BUNDLE,
    CALIBRATION,
    COLLECT,
    INPUT,
    LABEL,
    ROUTE,
    ROWS,
    THRESHOLD,
    UNTIL,
    WEIGHTS,
    WITHOUT,
    Change,
)
from underhood.plan.exprs import Expr, col, lit, when
from underhood.repair import workbench as uh
from underhood.repair.bench import Ground, Trial, survey, trial_json
from underhood.repair.cases import read_case
from underhood.repair.neighbourhood import around, around_all
from underhood.repair.patches import make_patch, read_patches, write_patch
from underhood.repair.replay import decision_from
from underhood.repair.swaps import reached_by, swap
from underhood.repair.workbench import Workbench
from underhood.run.decide import decider
from underhood.run.policy import Patched

ICE = col("row.ice") > 4
TWICE = Expr("mul", (col("row.jam"), lit(2.0)))


@pytest.fixture(scope="module")
def opened(case_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workbench, Scene, Ground]]:
    with world.open_shop(world.copy_shop(case_shop, tmp_path_factory.mktemp("own"))) as bench:
        assert bench.n_decisions
        scene = uh.scene_of(bench, read_case(bench.database, 1))
        yield bench, scene, survey(scene)


def decided(bench: Workbench, bundle: Any, changes: Sequence[Change]) -> tuple[list[float], list[str]]:
    """Every decision made again, row by row, with these changes as patches: scores and actions in order of id."""
    decide = decider(bundle, [Patched("by-hand", c) for c in changes])
    rows = bench.engine.dicts("select * from decisions where status = 'ok' order by id")
    made = [decide(d.row, key=d.key, asked_at=d.asked_at) for d in (decision_from(r, bench.plan) for r in rows)]
    return [float(m.score or 0) for m in made], [m.action for m in made]


DECISION_SIDE: dict[str, list[Change]] = {
    "input to null": [Change(INPUT, "jam", None, col("row.jam") > 40)],
    "input to null everywhere": [Change(INPUT, "ice", None)],
    "input to a number": [Change(INPUT, "km", 7, col("row.depot") == "OAK")],
    "input to another level": [Change(INPUT, "depot", "MILL", col("row.depot") == "OAK")],
    "input to a time": [Change(INPUT, "due", datetime(2024, 3, 12, 9), ICE)],
    "input computed": [Change(INPUT, "jam", TWICE, col("asked_at") >= datetime(2024, 3, 20))],
    "input with a sum": [Change(INPUT, "km", col("row.km") + col("row.kg"), col("row.pieces") > 1)],
    "two inputs swapped": [Change(INPUT, "km", col("row.kg")), Change(INPUT, "kg", col("row.km"))],
    "one input changed twice": [Change(INPUT, "jam", 50.0, ICE), Change(INPUT, "jam", TWICE, col("row.km") > 12)],
    "input by a case": [Change(INPUT, "jam", when(col("row.ice") > 4, 60.0, col("row.jam")))],
    "route on an input": [Change(ROUTE, "route", "desk", ICE)],
    "route on a feature": [Change(ROUTE, "route", "desk", col("features.weight_each") >= 4)],
    "route everywhere": [Change(ROUTE, "route", "call")],
    "two routes": [Change(ROUTE, "route", "desk", ICE), Change(ROUTE, "route", "text", col("row.jam") > 5)],
    "route on what is null at times": [Change(ROUTE, "route", "desk", col("row.rain") < 3)],
    "lower threshold": [Change(THRESHOLD, "call", 0.05)],
    "threshold of an action without a cut": [Change(THRESHOLD, "desk", 0.6)],
    "calibration": [Change(CALIBRATION, "score", (0.7, 1.3))],
    "calibration of a cohort": [Change(CALIBRATION, "score", (2.5, 0.4), ICE)],
    "calibration by a feature": [Change(CALIBRATION, "score", (1.5, 1.0), col("features.due_hour") >= 12)],
    "two calibrations": [
        Change(CALIBRATION, "score", (1.0, 1.0), ICE),
        Change(CALIBRATION, "score", (-0.2, 0.9), col("row.km") > 12),
    ],
    "collect": [Change(COLLECT, "outcome", 200, ICE)],
    "a repaired input and a route by what is made of it": [
        Change(INPUT, "kg", Expr("mul", (col("row.kg"), lit(3.0))), col("row.pieces") == 1),
        Change(ROUTE, "route", "desk", col("features.weight_each") >= 20),
    ],
    "a repaired input and a route by it as it came": [
        Change(INPUT, "kg", 1.0),
        Change(ROUTE, "route", "desk", col("row.kg") >= 12),
    ],
    "all at once": [
        Change(INPUT, "jam", TWICE, col("row.depot") == "OAK"),
        Change(CALIBRATION, "score", (0.5, 1.1)),
        Change(THRESHOLD, "text", 0.1),
        Change(ROUTE, "route", "desk", col("features.jam") > 90),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DECISION_SIDE)
def test_the_bench_does_to_columns_what_decide_does_to_a_row(opened: Any, name: str) -> None:
    bench, scene, ground = opened
    trial = swap(scene, ground, *DECISION_SIDE[name])

    scores, actions = decided(bench, scene.bundle, DECISION_SIDE[name])
    assert list(trial.action) == actions
    if not any(c.part == CALIBRATION for c in DECISION_SIDE[name]):
        assert trial.score.tolist() == scores


@pytest.mark.parametrize("name", [n for n in DECISION_SIDE if n != "collect"])
def test_each_of_these_changes_some_action(opened: Any, name: str) -> None:
    _, scene, ground = opened

    assert swap(scene, ground, *DECISION_SIDE[name]).changed > 0


@pytest.mark.parametrize("name", DECISION_SIDE)
def test_a_patch_means_the_same_after_a_round_over_the_disk(opened: Any, tmp_path: Path, name: str) -> None:
    _, scene, ground = opened
    write_patch(tmp_path, make_patch("by-hand", DECISION_SIDE[name], "desk", "2024-05-01", 1, "a test"))
    (found,) = read_patches(tmp_path)

    assert list(swap(scene, ground, *found.changes).action) == list(swap(scene, ground, *DECISION_SIDE[name]).action)


TRAINING_SIDE: dict[str, list[Change]] = {
    "relabel": [Change(LABEL, "late", True, col("facts.returned"))],
    "rows left out": [Change(ROWS, "training", "left out", col("facts.returned"))],
    "rows weighed": [Change(WEIGHTS, "training", 5.0, col("row.ice") > 4)],
    "weighed twice": [Change(WEIGHTS, "training", 0.5), Change(WEIGHTS, "training", 3, col("row.km") > 10)],
    "a feature left out": [Change(WITHOUT, "ice", "left out")],
    "all of these": [
        Change(LABEL, "late", True, col("facts.returned")),
        Change(WEIGHTS, "training", 2.0, col("row.ice") > 4),
        Change(WITHOUT, "wind", "left out"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING_SIDE)
def test_the_bench_learns_what_a_build_with_the_patch_learns(opened: Any, name: str) -> None:
    bench, scene, ground = opened
    trial = swap(scene, ground, *TRAINING_SIDE[name])

    recipe = scene.bundle.made_from["recipe"]
    made = build(bench.engine, bench.plan, bench.record, until=recipe["until"], changes=TRAINING_SIDE[name]).bundle
    uh.scene_of(bench, read_case(bench.database, 1))
    assert made.made_from["rung"] == scene.bundle.made_from["rung"]
    scores, actions = decided(bench, made, ())
    assert trial.score.tolist() == scores
    assert list(trial.action) == actions
    assert trial.changed > 0


@pytest.mark.slow
def test_a_feature_left_out_is_still_computed_and_recorded(opened: Any) -> None:
    bench, scene, _ = opened
    recipe = scene.bundle.made_from["recipe"]
    made = build(
        bench.engine, bench.plan, bench.record, until=recipe["until"], changes=TRAINING_SIDE["a feature left out"]
    ).bundle
    uh.scene_of(bench, read_case(bench.database, 1))

    assert "ice" not in made.model["features"]
    assert "ice" in scene.bundle.model["features"]
    assert list(made.features) == list(scene.bundle.features)


def test_a_feature_that_does_not_exist_cannot_be_left_out(opened: Any) -> None:
    _, scene, ground = opened

    with pytest.raises(ProjectError, match="there is no feature 'iec'") as caught:
        swap(scene, ground, Change(WITHOUT, "iec", "left out"))
    assert "ice" in caught.value.hint


@pytest.mark.slow
def test_learning_until_a_later_moment_decides_only_what_was_asked_from_then_on(opened: Any) -> None:
    bench, scene, ground = opened
    then = "2024-03-22T00:00:00.000000"
    trial = swap(scene, ground, Change(UNTIL, "training", then))

    made = build(bench.engine, bench.plan, bench.record, until=then).bundle
    uh.scene_of(bench, read_case(bench.database, 1))
    _, actions = decided(bench, made, ())
    late = np.array([d >= 19804 for d in ground.day])  # 22 March 2024
    assert made.made_from["rung"] == scene.bundle.made_from["rung"]
    assert list(trial.action[late]) == list(np.array(actions, dtype=object)[late])
    assert list(trial.action[~late]) == list(ground.action[~late])


@pytest.mark.slow
def test_another_bundle_decides_by_its_own_cuts_and_features(right_built: Path, tmp_path: Path) -> None:
    project = world.copy_shop(right_built, tmp_path / "own")
    text = project.read_text().replace("call=0.30", "call=0.12")
    project.write_text(text)
    other = world.build_shop(project)
    project.write_text(text.replace("call=0.12", "call=0.30"))
    world.build_shop(project)
    world.decide_shop(project, "2024-03-18", "2024-03-24")
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        case = uh.open_case(bench, "On 20 March you called about OAK")
        scene = uh.scene_of(bench, case)
        trial = swap(scene, survey(scene), Change(BUNDLE, "bundle", other))

        assert list(trial.action) == decided(bench, load(bench.record, other), ())[1]
        assert trial.changed > 0


def test_what_a_patch_had_decided_stays_unless_something_else_decides_it(built_shop: Path, tmp_path: Path) -> None:
    project = world.copy_shop(built_shop, tmp_path / "own")
    route = make_patch("ice", [Change(ROUTE, "route", "desk", ICE)], "desk", "2024-05-01", 1, "a test")
    write_patch(project.parent / ".underhood", route)
    world.decide_shop(project, "2024-03-19", "2024-03-22")
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        scene = uh.scene_of(bench, uh.open_case(bench, "On 20 March you sent all to the desk", told="desk"))
        ground = survey(scene)

        assert swap(scene, ground).changed == 0
        assert swap(scene, ground, Change(ROUTE, "route", "call", col("row.depot") == "OAK")).changed > 0
        jammed = swap(scene, ground, Change(INPUT, "jam", 90.0))
        assert jammed.changed > 0
        assert set(jammed.action[ground.patched]) == {"desk"}


def trial_of(opened: Any, *changes: Change) -> tuple[Trial, Ground, Any]:
    _, scene, ground = opened
    trial = swap(scene, ground, *changes)
    costs = scene.plan.system.goal.costs.of
    price = {(a, truth): costs[a][truth] for a in costs for truth in (0, 1)}
    gain = np.array(
        [
            0.0 if np.isnan(t) else price[b, int(t)] - price[a, int(t)]
            for b, a, t in zip(ground.action, trial.action, ground.truth, strict=True)
        ]
    )
    return trial, ground, gain


def test_whom_a_change_touches_is_told_by_group_and_by_week_and_adds_up(opened: Any) -> None:
    trial, ground, gain = trial_of(opened, Change(ROUTE, "route", "desk", col("row.km") > 12))

    for level, (better, worse, money, low, high) in trial.by_group["depot"].items():
        own = gain[ground.groups["depot"] == level]
        assert (better, worse) == ((own > 0).sum(), (own < 0).sum())
        assert money == pytest.approx(own.sum())
        assert low <= money <= high
    assert sum(t[2] for t in trial.by_week.values()) == pytest.approx(gain.sum())
    assert list(trial.by_week) == ["2024-03-04", "2024-03-11", "2024-03-18", "2024-03-25", "2024-04-01"]


def test_the_interval_of_a_group_is_that_of_its_weeks(opened: Any) -> None:
    trial, ground, gain = trial_of(opened, Change(ROUTE, "route", "desk", col("row.km") > 12))

    own = ground.groups["depot"] == "OAK"
    mean = gain[own].mean()
    sums = np.array([(gain[own & (ground.week == w)] - mean).sum() for w in np.unique(ground.week[own])])
    half = 1.96 * np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))
    *_, money, low, high = trial.by_group["depot"]["OAK"]
    assert (money - low, high - money) == pytest.approx((half, half))


@pytest.mark.parametrize(
    "change",
    [
        Change(INPUT, "jam", 90.0, col("row.depot") == "OAK"),
        Change(ROUTE, "route", "desk", col("row.km") > 12),
        Change(THRESHOLD, "call", 0.6, col("row.depot") == "OAK"),
    ],
)
def test_decisions_that_no_change_reaches_can_be_folded_and_the_trial_is_the_same(opened: Any, change: Change) -> None:
    _, scene, ground = opened
    folded = survey(scene, reached_by(scene, [change]))
    one, other = swap(scene, ground, change), swap(scene, folded, change)

    assert len(folded.place) < len(ground.place) == folded.weight.sum()
    assert one.changed > 0
    assert flat(trial_json(other)) == pytest.approx(flat(trial_json(one)))


def flat(told: Any, name: str = "") -> dict[str, float]:
    """The figures of a trial by their place in it."""
    if isinstance(told, (int, float)):
        return {name: told}
    inner = told.items() if isinstance(told, dict) else enumerate(told)
    return {k: v for n, each in inner for k, v in flat(each, f"{name}.{n}").items()}


def test_a_change_of_everything_reaches_all_and_one_of_the_training_side_too(opened: Any) -> None:
    _, scene, _ = opened

    assert reached_by(scene, [Change(INPUT, "jam", 90.0)]) == ""
    assert reached_by(scene, [Change(UNTIL, "training", "2024-03-22T00:00:00.000000", col("row.km") > 12)]) == ""


def test_the_neighbourhood_counted_in_the_record_is_that_of_all_decisions(opened: Any) -> None:
    _, scene, ground = opened
    here, there = around(ground), around_all(scene, survey(scene, "false"))

    assert here is not None
    assert there is not None
    assert astuple(there) == pytest.approx(astuple(here))
