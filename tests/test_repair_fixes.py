"""Fixes of every size are tried on history: a short list that says whom each hurts, and begins with the one to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import world
from underhood.faults.kinds import Scene
from underhood.ground.errors import NotFoundError, ProjectError
from underhood.plan.changes import (
    BUNDLE,
    CALIBRATION,
    COLLECT,
    INPUT,
    LABEL,
    RECOMPUTED,
    ROUTE,
    ROWS,
    THRESHOLD,
    UNTIL,
    WEIGHTS,
    WITHOUT,
    Change,
)
from underhood.plan.exprs import as_json, col
from underhood.repair import workbench as uh
from underhood.repair.bench import Ground, survey
from underhood.repair.cases import read_case
from underhood.repair.fixes import Blame, Candidate, best_cuts, blame_of, calibration_of, candidates
from underhood.repair.patches import make_patch, write_patch
from underhood.repair.replay import decision_from
from underhood.repair.rollback import deploy_bundle
from underhood.repair.swaps import swap
from underhood.repair.trials import MOST, Fix, acts_when, fix_json, hurts_of, saves, simulate
from underhood.repair.workbench import Workbench

Own = Callable[[Path], Path]
ICE = col("row.ice") > 4
UNTIL_DAY = date(2024, 7, 7)


@pytest.fixture(scope="module")
def opened(case_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workbench, Scene, Ground]]:
    with world.open_shop(world.copy_shop(case_shop, tmp_path_factory.mktemp("own"))) as bench:
        assert bench.n_decisions
        scene = uh.scene_of(bench, read_case(bench.database, 1))
        yield bench, scene, survey(scene)


def sizes(made: list[Candidate]) -> list[str]:
    return [c.size for c in made]


def test_an_input_at_fault_is_repaired_emptied_or_not_learned_from(opened: Any) -> None:
    _, scene, ground = opened
    undo = (Change(INPUT, "kg", col("row.kg") / 1000.0, col("row.depot") == "OAK"),)
    made = candidates(scene, ground, Blame(undo, col("row.depot") == "OAK", ("kg",), "", True))

    assert sizes(made)[:3] == ["input repair", "null", "drop a feature"]
    assert made[0].mends
    assert list(map(str, made[1].changes)) == ["kg = null where row.depot = 'OAK'"]
    assert [c.name for c in made[2].changes] == ["kg", "weight_each"]
    assert {c.part for c in made[2].changes} == {WITHOUT}


def test_a_label_at_fault_is_corrected_or_its_rows_left_out(opened: Any) -> None:
    _, scene, ground = opened
    undo = (Change(LABEL, "late", True, col("facts.returned")),)
    made = candidates(scene, ground, Blame(undo, col("facts.returned"), (), "", True))

    assert sizes(made)[:2] == ["relabel", "rows left out"]
    assert "calibration" not in sizes(made)


def test_a_cohort_of_which_training_has_few_is_weighed_up_routed_and_collected(opened: Any) -> None:
    _, scene, ground = opened
    where = (col("row.due") >= datetime(2024, 3, 20)) | (col("row.kg") > 25)
    made = candidates(scene, ground, Blame((), where))

    weights = next(c for c in made if c.size == "reweigh").changes[0]
    collect = next(c for c in made if c.size == "collect").changes[0]
    assert (weights.part, str(weights.where)) == (WEIGHTS, str(where))
    assert 1.5 <= weights.to <= 20
    assert (collect.part, collect.to, str(collect.where)) == (COLLECT, 200, str(where))


def test_what_cannot_be_read_when_a_question_is_asked_is_no_place_for_a_patch(opened: Any) -> None:
    _, scene, ground = opened
    made = candidates(scene, ground, Blame((), col("facts.returned")))

    assert made
    assert [c for m in made for c in m.changes if c.where is not None and "facts." in str(c.where)] == []


def test_the_bundle_before_is_offered_where_neither_input_nor_label_is_at_fault(opened: Any) -> None:
    _, scene, ground = opened
    other = scene.bundle.name  # any bundle of the record will do, but not the one that decided
    scene = replace(scene, bundle=replace(scene.bundle, name="another"))

    assert [c.changes for c in candidates(scene, ground, Blame(), other) if c.size == "rollback"] == [
        (Change(BUNDLE, "bundle", other),)
    ]
    undo = (Change(LABEL, "late", True, col("facts.returned")),)
    assert "rollback" not in sizes(candidates(scene, ground, Blame(undo, None, (), "", True), other))


def test_no_fix_is_offered_twice(opened: Any) -> None:
    _, scene, ground = opened
    person = next(c for c in candidates(scene, ground, Blame()) if c.size == "person")
    made = candidates(scene, ground, Blame(person.changes, person.changes[0].where, (), "", True))

    assert [c.changes for c in made].count(person.changes) == 1
    assert made[0].mends


@pytest.mark.slow
def test_the_best_cut_is_the_best_of_all_that_could_be_tried(opened: Any) -> None:
    _, scene, ground = opened
    saved, where = best_cuts(scene, ground, ["desk"])["desk"]

    tried = []
    for name in ("ice", "jam", "km"):
        for cut in scene.engine.rows(f'select distinct "features.{name}" from decisions order by hash(1) limit 60'):
            for one in (col(f"features.{name}") >= cut[0], col(f"features.{name}") <= cut[0]):
                trial = swap(scene, ground, Change(ROUTE, "route", "desk", one))
                known = (~np.isnan(ground.truth)).sum()
                hit = (trial.action[ground.bad] == "desk").mean()
                tried.append((trial.money_before - trial.money_after) * known / 1000 if hit >= 0.5 else 0.0)
    best = swap(scene, ground, Change(ROUTE, "route", "desk", where))
    known = (~np.isnan(ground.truth)).sum()
    assert (best.money_before - best.money_after) * known / 1000 == pytest.approx(saved)
    assert saved >= max(tried) - 1e-6


# --- calibration ---


def told(n: int, intercept: float, slope: float, seed: int = 1) -> tuple[Any, Any]:
    """Scores, and outcomes whose log-odds are intercept + slope × theirs."""
    random = np.random.default_rng(seed)
    z = random.normal(-1, 1.2, n)
    truth = random.random(n) < 1 / (1 + np.exp(-(intercept + slope * z)))
    return 1 / (1 + np.exp(-z)), truth.astype(float)


def test_a_shift_of_the_log_odds_is_found_again() -> None:
    intercept, slope = calibration_of(*told(20_000, 0.8, 1.0)) or (0, 0)

    assert intercept == pytest.approx(0.8, abs=0.06)
    assert slope == 1.0


def test_scores_that_are_too_sure_are_drawn_in() -> None:
    intercept, slope = calibration_of(*told(20_000, -0.3, 0.5)) or (0, 0)

    assert intercept == pytest.approx(-0.3, abs=0.06)
    assert slope == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_scores_that_are_true_are_left_alone(seed: int) -> None:
    assert calibration_of(*told(3_000, 0.0, 1.0, seed)) is None


def test_a_handful_of_outcomes_calibrates_nothing() -> None:
    assert calibration_of(np.full(30, 0.1), np.array([1.0, 0.0] * 15)) is None
    assert calibration_of(np.full(300, 0.1), np.zeros(300)) is None


def test_a_calibration_is_fitted_to_the_first_half_and_tried_on_the_second(shop: Path, own: Own) -> None:
    with world.open_shop(own(shop)) as bench:
        assert bench.n_decisions
        case = uh.open_case(bench, "You keep quiet at FELL", where="\"row.depot\" = 'FELL'", told="quiet")
        scene = uh.scene_of(bench, case)
        ground, fell = survey(scene), col("row.depot") == "FELL"
        half = np.random.default_rng(1).random(len(ground.truth)) < 0.5
        ground = replace(ground, truth=np.where(ground.groups["depot"] == "FELL", half, ground.truth))
        (made,) = [c for c in candidates(scene, ground, Blame((), fell)) if c.size == "calibration"]
        trial = swap(scene, ground, *made.changes)

        (moment,) = [a for a in made.changes[0].where.args[1].args if a.op == "lit"]  # type: ignore[union-attr]
        asked = bench.engine.frame("select epoch_us(asked_at) as t from decisions where status = 'ok' order by id")["t"]
        changed = trial.action != ground.action
        assert made.changes[0].to[1] < 0.5  # what happens there by chance, scores say nothing of
        assert trial.repaired > 0.1 * trial.n_bad
        assert trial.money_low > 0
        assert asked[changed].min() >= moment.args[0].replace(tzinfo=UTC).timestamp() * 1e6
        assert 0.3 < (asked < asked[changed].min()).mean() < 0.7
        assert set(ground.groups["depot"][changed]) == {"FELL"}


# --- the list ---


def test_the_list_begins_with_the_undo_of_the_cause_and_says_why(case_shop: Path) -> None:
    with world.open_shop(case_shop) as bench:
        fixes = read_case(bench.database, 1).fixes

    assert fixes[0]["title"] == "label late = true where facts.returned"
    assert fixes[0]["why"].startswith("mends the cause itself: repairs 54 of 54, saves ")
    assert "(95 %: " in fixes[0]["why"]
    assert len(fixes) <= MOST
    assert [f["acts"] for f in fixes[:2]] == ["next build", "at once"]


def test_users_are_told_what_happened_and_what_they_can_count_on(case_shop: Path) -> None:
    with world.open_shop(case_shop) as bench:
        relabel, person = read_case(bench.database, 1).fixes[:2]

    happened = "On 20 March 2024, 54 of our answers were 'quiet', and for them it turned out otherwise (returned)."
    assert relabel["tell"].startswith(happened)
    assert person["tell"] == f"{happened} Until 7 July 2024 cases like these are decided by hand (desk)."


def tried(scene: Scene, ground: Ground, *made: Candidate) -> list[Fix]:
    return simulate(scene, ground, made, UNTIL_DAY)


DESK = Candidate("desk on ice", "person", (Change(ROUTE, "route", "desk", ICE),))
WIDE = Candidate("call on anything icy or far", "rule", (Change(ROUTE, "route", "call", ICE | (col("row.km") > 5)),))
NOTHING = Candidate("call where nobody is", "rule", (Change(ROUTE, "route", "call", col("row.km") < -1),))
ALL = Candidate("call everybody", "threshold", (Change(THRESHOLD, "call", 0.0),))


def test_what_another_does_better_with_no_more_effort_is_left_out(opened: Any) -> None:
    _, scene, ground = opened

    assert [f.title for f in tried(scene, ground, WIDE, DESK)] == ["desk on ice"]


def test_what_does_nothing_for_the_decisions_in_question_is_left_out(opened: Any) -> None:
    _, scene, ground = opened

    assert [f.title for f in tried(scene, ground, NOTHING, DESK)] == ["desk on ice"]


def test_users_are_promised_nothing_by_an_undo_that_repairs_nothing(opened: Any) -> None:
    _, scene, ground = opened
    undo, desk = tried(scene, ground, replace(NOTHING, is_undo=True), DESK)

    if undo.title == DESK.title:
        undo, desk = desk, undo
    assert (undo.trial.repaired, undo.tell) == (0, "")
    assert desk.tell


def test_the_collecting_of_outcomes_is_told_though_it_repairs_nothing(opened: Any) -> None:
    _, scene, ground = opened
    collect = Candidate("collect", "collect", (Change(COLLECT, "outcome", 200, ICE),))
    fixes = tried(scene, ground, DESK, collect)

    assert [f.size for f in fixes] == ["person", "collect"]
    assert fixes[1].trial.changed == 0
    assert saves(fix_json(fixes[1]))


def test_a_fix_that_costs_more_than_it_saves_says_so_and_whom_it_hurts(opened: Any) -> None:
    _, scene, ground = opened
    (fix,) = tried(scene, ground, ALL)

    assert fix.why.startswith("none of 1 tried saves money: repairs 54 of 54, costs ")
    assert len([h for h in fix.hurts if h.startswith("depot = ")]) == 4
    assert any(h.startswith("the week of 2024-03-25: ") for h in fix.hurts)
    assert not saves(fix_json(fix))


def test_only_those_are_called_hurt_whose_whole_interval_is_a_loss(opened: Any) -> None:
    _, scene, ground = opened
    trial = swap(scene, ground, *ALL.changes)

    lost = {f"depot = {level}" for level, of in trial.by_group["depot"].items() if of[4] < 0}
    lost |= {f"district = {level}" for level, of in trial.by_group["district"].items() if of[4] < 0}
    lost |= {f"the week of {week}" for week, of in trial.by_week.items() if of[4] < 0}
    assert {h.partition(": ")[0] for h in hurts_of(trial)} == lost


@pytest.mark.parametrize(
    ("change", "acts"),
    [
        (Change(ROUTE, "route", "desk"), "at once"),
        (Change(CALIBRATION, "score", (0.1, 1.0)), "at once"),
        (Change(LABEL, "late", True), "next build"),
        (Change(WEIGHTS, "training", 2.0), "next build"),
        (Change(UNTIL, "training", "2024-03-20T00:00:00"), "next build"),
        (Change(BUNDLE, "bundle", "bundle-0"), "deploy"),
        (Change(INPUT, "ice", RECOMPUTED), "by hand"),
    ],
)
def test_when_a_fix_would_act_follows_from_what_it_changes(change: Change, acts: str) -> None:
    assert acts_when([change]) == acts


def test_what_several_causes_do_together_is_undone_together() -> None:
    def cause(column: str, share: float) -> dict[str, Any]:
        undo = {"part": INPUT, "name": column, "to": None, "where": None}
        said = {"parameters": {"columns": [column]}, "since": f"2024-03-{share:.0%}"[:9], "share": share}
        return {"undo": [undo], "where": as_json(col(f"row.{column}") > 1), **said}

    found = {"verdict": "cause", "together": {}, "causes": [cause("jam", 0.6), cause("ice", 0.4), cause("km", 1.0)]}
    both = blame_of(found)

    assert [c.name for c in both.undo] == ["jam", "ice"]
    assert (both.columns, both.where, both.is_cause) == (("jam", "ice"), None, True)
    alone = blame_of({**found, "together": None})
    assert ([c.name for c in alone.undo], str(alone.where)) == (["jam"], "row.jam > 1")


def test_a_case_without_a_cause_has_no_blame() -> None:
    assert blame_of(None) == blame_of({"causes": [], "verdict": "open"}) == Blame()


# --- every size of fix, applied ---


EVERY_SIZE: dict[str, list[Change]] = {
    "input repair": [Change(INPUT, "kg", col("row.kg") / 2.0, ICE)],
    "null": [Change(INPUT, "jam", None, ICE)],
    "rule": [Change(ROUTE, "route", "call", ICE)],
    "threshold": [Change(THRESHOLD, "call", 0.2)],
    "calibration": [Change(CALIBRATION, "score", (0.4, 1.0), ICE)],
    "collect": [Change(COLLECT, "outcome", 200, ICE)],
    "relabel": [Change(LABEL, "late", True, col("facts.returned"))],
    "rows left out": [Change(ROWS, "training", "left out", col("facts.returned"))],
    "reweigh": [Change(WEIGHTS, "training", 4.0, ICE)],
    "drop a feature": [Change(WITHOUT, "wind", "left out")],
}


def apply_by_hand(bench: Workbench, changes: list[Change]) -> Any:
    """One fix of the latest case as if it had been offered, made a patch."""
    case = read_case(bench.database, None)
    scene = uh.scene_of(bench, case)
    (fix,) = simulate(scene, survey(scene), [Candidate("by hand", "rule", tuple(changes), True, True)], UNTIL_DAY)
    body = {**bench.database.case(case.number).body, "fixes": [fix_json(fix)]}
    bench.database.save_case(case.number, "diagnosed", body)
    return uh.apply_fix(bench, None, 1, owner="parcel desk", expires="2024-06-30")


@pytest.mark.slow
@pytest.mark.parametrize("size", EVERY_SIZE)
def test_a_fix_of_every_size_becomes_a_patch_that_acts(case_shop: Path, own: Own, size: str) -> None:
    project = own(case_shop)
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        made = apply_by_hand(bench, EVERY_SIZE[size])
        assert (made.owner, made.expires) == ("parcel desk", "2024-06-30")
        if size in ("relabel", "rows left out", "reweigh", "drop a feature"):
            assert [p.name for p in uh.waiting(bench)] == [made.name]
            built = uh.build_system(bench, until=world.LEARN_UNTIL)
            assert [c["part"] for c in built.bundle.made_from["changes"]] == [c.part for c in EVERY_SIZE[size]]
            assert uh.waiting(bench) == []
        else:
            row = bench.engine.dicts('select * from decisions where bad and "row.ice" > 4 order by id limit 1')[0]
            d = decision_from(row, bench.plan)
            again = uh.patched_decider(bench, uh.deployed(bench))(d.row, key=d.key, asked_at=d.asked_at)
            assert again.patches == (made.name,)


def test_outcomes_to_collect_are_named_by_the_patch_and_decided_as_ever(built_shop: Path, own: Own) -> None:
    project = own(built_shop)
    wanted = make_patch("wanted", EVERY_SIZE["collect"], "parcel desk", "2024-06-30", 1, "icy days")
    write_patch(project.parent / ".underhood", wanted)
    world.decide_shop(project, "2024-03-19", "2024-03-21")
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        rows = bench.engine.rows("select day, patches, action, count(*) from decided group by all order by all")

    assert rows[-1] == (world.EVENT, ["wanted"], "quiet", 67)
    assert {(day, *patches) for day, patches, *_ in rows} == {("2024-03-19",), (world.EVENT, "wanted")}


def test_a_patch_that_cannot_act_on_the_bundle_is_refused_before_it_is_kept(case_shop: Path, own: Own) -> None:
    with world.open_shop(own(case_shop)) as bench:
        assert bench.n_decisions
        case = read_case(bench.database, 1)
        route = fix_json(tried(uh.scene_of(bench, case), survey(uh.scene_of(bench, case)), DESK)[0])
        route["changes"][0]["where"] = as_json(col("features.moon") > 1)
        bench.database.save_case(1, "diagnosed", {**bench.database.case(1).body, "fixes": [route]})

        with pytest.raises(ProjectError, match=r"there is no column 'features\.moon'"):
            uh.apply_fix(bench, 1, 1, owner="desk")
        assert list((bench.record / "patches").glob("*.json")) == []


# --- going back ---


@pytest.mark.slow
def test_a_rollback_brings_the_bundle_before_back_and_can_itself_be_undone(built_shop: Path, own: Own) -> None:
    project = own(built_shop)
    with world.open_shop(project) as bench:
        first = uh.deployed(bench).name
        second = uh.build_system(bench, until="2024-02-20").bundle.name

        assert deploy_bundle(bench).name == uh.deployed(bench).name == first
        assert deploy_bundle(bench, second[:14]).name == uh.deployed(bench).name == second
        assert [d.by for d in bench.database.deployments(bench.system.name)][:2] == ["underhood deploy"] * 2


def test_what_was_never_built_cannot_be_deployed(built_shop: Path, own: Own) -> None:
    with world.open_shop(own(built_shop)) as bench:
        with pytest.raises(NotFoundError, match="there is no such bundle"):
            deploy_bundle(bench, "bundle-moon")
        with pytest.raises(NotFoundError, match="no bundle was deployed before this one"):
            deploy_bundle(bench)


@pytest.mark.slow
def test_a_bundle_that_needs_what_the_system_no_longer_has_is_not_deployed(built_shop: Path, own: Own) -> None:
    project = own(built_shop)
    text = project.read_text()
    project.write_text(text.replace('take=["rain", "wind"]', 'take=["rain"]').replace('"rain", "wind", ', '"rain", '))
    world.build_shop(project)
    with world.open_shop(project) as bench, pytest.raises(ProjectError, match="needs wind, which the system no longer"):
        deploy_bundle(bench)
