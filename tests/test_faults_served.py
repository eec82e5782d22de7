"""A decision that contradicts the system it was made by is told by which layer does, how, since when and for whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from underhood.build.trainset import open_training
from underhood.faults.calibration import WRONG_CALIBRATION, inject_calibration
from underhood.faults.cohorts import cohort_of
from underhood.faults.extent import extent_of, holds, roundest
from underhood.faults.forms import Form
from underhood.faults.kinds import Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.moved_shown import Moved
from underhood.faults.moved_whom import Whom
from underhood.faults.nulls import UNPARSED
from underhood.faults.rules import MISROUTING, inject_route
from underhood.faults.served import MODEL, SKEW, WRONG_THRESHOLD
from underhood.faults.skews import FEATURE_SKEW, inject_feature
from underhood.faults.values import _lagged, _reads, differs, served_otherwise
from underhood.faults.vectors import DEFAULT, FEATURE_ORDER, _is_map, inject_default, inject_order
from underhood.plan.changes import INPUT, ROUTE, SCORE, THRESHOLD, UNTIL, Change
from underhood.plan.exprs import Expr, col, columns_of, greatest, shown
from underhood.repair import workbench as uh
from underhood.repair.bench import survey
from underhood.repair.cases import mean
from underhood.repair.clone import Reach, strike
from underhood.repair.swaps import swap
from underhood.repair.workbench import Workbench

SINCE = datetime(2024, 3, 20)
LATE = Reach(SINCE)
HERE = (MODEL, DEFAULT, FEATURE_ORDER, FEATURE_SKEW, WRONG_THRESHOLD, MISROUTING)
OAK = col("row.depot") == "OAK"


@pytest.fixture(scope="module")
def scene(right_bench: Workbench) -> Iterator[Scene]:
    assert right_bench.n_decisions
    engine, bundle = right_bench.engine, uh.deployed(right_bench)
    mean(engine, (), bundle.name)
    open_training(engine, right_bench.record, bundle.made_from["training"])
    yield Scene(engine, right_bench.record, right_bench.plan, bundle, 0)
    mean(engine, ())


def ruled(scene: Scene, *changes: Change, reach: Reach = LATE, named: int = 5) -> dict[str, Ruling]:
    """What each kind here says of a struck scene, complained about by a few whose score or action turned."""
    with strike(scene, Injection("drill", changes), reach) as struck:
        return {k.name: k.suspect(complained(struck, named)) for k in HERE}


def complained(struck: Scene, named: int = 5) -> Scene:
    turned = "d.action <> s.action or abs(d.score - s.score) > 1e-9"
    rows = struck.engine.rows(
        f"select d.id from decisions d join sound s using (id) where {turned} "
        f"order by d.action <> s.action desc, hash(d.id) limit {named}"
    )
    assert rows
    mean(struck.engine, [i for (i,) in rows], struck.bundle.name)
    return replace(struck, n_bad=len(rows), kept={})


def only(found: dict[str, Ruling], kind: Kind) -> Suspect:
    assert [name for name, ruling in found.items() if ruling.suspects] == [kind.name]
    return found[kind.name].suspects[0]


def test_a_sound_record_contradicts_itself_nowhere(scene: Scene) -> None:
    for seed in range(3):
        rows = scene.engine.rows(
            f"select id from decided where bundle = '{scene.bundle.name}' order by hash(id || '{seed}')"
        )
        mean(scene.engine, [i for (i,) in rows[:5]], scene.bundle.name)
        looked = replace(scene, n_bad=5, kept={})

        assert not [k.name for k in HERE if k.suspect(looked).suspects]
    mean(scene.engine, (), scene.bundle.name)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_an_older_bundle_is_named_with_when_it_had_learned(scene: Scene, share: float) -> None:
    found = ruled(scene, Change(UNTIL, "bundle", "2024-02-10"), reach=Reach(SINCE, share=share))
    suspect = only(found, MODEL)

    assert suspect.parameters["until"] == "2024-02-10"
    assert str(suspect.parameters["served"]).startswith("bundle-")
    assert "an older bundle gives them exactly" in found[DEFAULT.name].says


@pytest.mark.parametrize("where", [None, OAK])
def test_one_constant_for_every_score_is_the_default_path_and_no_other_model(scene: Scene, where: Expr | None) -> None:
    found = ruled(scene, *inject_default(0.19, where))
    suspect = only(found, DEFAULT)

    assert suspect.parameters["value"] == 0.19
    assert "they are one constant" in found[MODEL.name].says
    assert suspect.since >= "2024-03-20"
    if where is not None:
        assert suspect.where is not None
        assert "row.depot = 'OAK'" in shown(suspect.where)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (DEFAULT, Change(SCORE, "score", 0.31)),
        (FEATURE_ORDER, Change(SCORE, "vector", {"km": "kg", "kg": "km"})),
        (WRONG_CALIBRATION, *inject_calibration(1.0, 1.0)),
        (WRONG_THRESHOLD, Change(THRESHOLD, "call", 0.9)),
        (MISROUTING, Change(ROUTE, "route", "call")),
        (UNPARSED, Change(INPUT, "jam", None)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_evidence_lists_the_very_decisions_that_a_few_of_many_are(scene: Scene, kind: Kind, change: Change) -> None:
    with strike(scene, Injection("drill", (change,)), Reach(SINCE, share=0.1)) as struck:
        suspect = only({kind.name: kind.suspect(complained(struck))}, kind)
        listed = {r["id"] for r in struck.engine.query(suspect.evidence)}
        shown = "d.action <> s.action" if change.part in (THRESHOLD, ROUTE) else "abs(d.score - s.score) > 1e-9"
        shown = 'd."row.jam" is null and s."row.jam" is not null' if change.part == INPUT else shown
        changed = struck.engine.rows(f"select d.id from decisions d join sound s using (id) where {shown}")

    assert listed == {i for (i,) in changed}


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_two_features_exchanged_on_their_way_to_the_model_are_both_named(scene: Scene, share: float) -> None:
    found = ruled(scene, *inject_order({"km": "kg", "kg": "km"}), reach=Reach(SINCE, share=share))

    assert only(found, FEATURE_ORDER).parameters["columns"] == ["kg", "km"]
    assert "in another order" in found[MODEL.name].says


def test_a_run_of_features_moved_on_by_one_place_is_found(scene: Scene) -> None:
    names = [n for n in scene.bundle.features if scene.bundle.feature_types[n] in ("number", "flag")]
    run = names[2:6]
    order = dict(zip(run, run[1:] + run[:1], strict=True))

    assert only(ruled(scene, *inject_order(order)), FEATURE_ORDER).parameters["order"] == order


def test_a_monotone_map_of_the_score_is_not_claimed_as_another_model(scene: Scene) -> None:
    found = ruled(scene, Change(SCORE, "score", col("score") * 0.5 + 0.1))

    assert not [name for name, ruling in found.items() if ruling.suspects]
    assert "one monotone map of the right score gives them" in found[MODEL.name].says


def test_a_flatter_map_of_scores_next_to_one_is_still_one_rising_curve() -> None:
    odds = np.concatenate([np.linspace(-4, 4, 500), np.linspace(16, 18, 300)])
    model, served = (1 / (1 + np.exp(-o)) for o in (odds, 0.5 * odds - 1))

    assert _is_map(model, served)
    assert not _is_map(model, np.random.default_rng(0).permutation(served))


def test_scores_that_nothing_explains_are_still_not_the_models(scene: Scene) -> None:
    odd = (col("score") + (col("row.km") * 7 % 1) * 0.2).clip(0, 1)
    suspect = only(ruled(scene, Change(SCORE, "score", odd)), MODEL)

    assert suspect.parameters["served"] == "unknown"


@pytest.mark.parametrize(("factor", "share"), [(12.0, 1.0), (0.01, 0.05)])
def test_a_feature_that_its_row_does_not_make_is_named_with_its_factor(
    scene: Scene, factor: float, share: float
) -> None:
    found = ruled(scene, *inject_feature("km", col("features.km") * factor), reach=Reach(SINCE, share=share))
    suspect = only(found, FEATURE_SKEW)

    assert suspect.part == "feature km"
    assert suspect.parameters == {"columns": ["km"], "form": "unit change", "factor": factor}
    assert scene.engine.query(suspect.evidence) == []  # of the sound record


def test_the_undo_of_a_skewed_feature_gives_back_every_score(scene: Scene) -> None:
    with strike(scene, Injection("drill", inject_feature("km", col("features.km") * 12)), Reach(SINCE)) as struck:
        bad = complained(struck)
        suspect = FEATURE_SKEW.suspect(bad).suspects[0]
        trial = swap(bad, survey(bad), *suspect.undo)
        sound = scene.engine.frame(
            f"select score from sound where status = 'ok' and bundle = '{scene.bundle.name}' order by id"
        )

    assert np.abs(trial.score - sound["score"]).max() < 1e-12


def test_inputs_that_differ_by_no_rule_are_told_of_those_whom_it_concerns(scene: Scene) -> None:
    trembles = col("row.km") + (col("row.km") * 991.7).sin() * 9
    with strike(scene, Injection("drill", (Change(INPUT, "km", trembles, OAK),)), LATE) as struck:
        suspect = SKEW.suspect(complained(struck)).suspects[0]
        reached = struck.engine.rows(
            "select count(*) from decisions where \"row.depot\" = 'OAK' and asked_at >= '2024-03-20'"
        )

        assert suspect.parameters == {"columns": ["km"]}
        assert "where depot = 'OAK'" in suspect.says
        assert len(struck.engine.query(suspect.evidence)) == reached[0][0]
    assert suspect.since[:10] == "2024-03-20"


def test_a_column_served_in_the_place_of_another_is_named(scene: Scene) -> None:
    with strike(scene, Injection("drill", (Change(INPUT, "kg", col("row.km"), OAK),)), LATE) as struck:
        (columns, form, cohort) = served_otherwise(complained(struck)).forms[0]

    assert (columns, form.kind, form.says) == (("kg",), "column swap", "km stands in the place of kg")
    assert "where depot = 'OAK'" in cohort.says


def test_whom_a_wrong_level_touches_is_told_by_the_level_that_was_served(scene: Scene) -> None:
    with strike(scene, Injection("drill", (Change(INPUT, "depot", "O", OAK),)), LATE) as struck:
        ((_, form, cohort),) = served_otherwise(complained(struck)).forms

    assert form.kind == "precision loss"
    assert cohort.where is not None
    assert "row.depot = 'O'" in shown(cohort.where)


def test_a_cap_from_below_is_told_of_all_and_not_of_those_who_have_its_value(scene: Scene) -> None:
    raised = greatest(col("row.km"), 9.0)
    with strike(scene, Injection("drill", (Change(INPUT, "km", raised),)), LATE) as struck:
        ((_, form, cohort),) = served_otherwise(complained(struck)).forms

    assert (form.kind, form.parameters["at"]) == ("clipped", 9.0)
    assert cohort.where is not None
    assert "row.km" not in shown(cohort.where)


def test_a_column_of_the_question_may_be_called_as_a_look_calls_its_own(scene: Scene) -> None:
    with strike(scene, Injection("drill", (Change(INPUT, "jam", col("row.jam") + 0.5),)), LATE) as struck:
        taken = "select *, TIMESTAMP '2024-01-01' as served, 'x' as then_at from asks"
        struck.engine.run(f"create temp table asks as {taken}")
        try:
            assert _lagged(struck, "jam") is None
        finally:
            struck.engine.run("drop table temp.asks")


@pytest.mark.parametrize("cut", [0.6, 0.5])
def test_a_moved_cut_is_told_with_its_new_place(scene: Scene, cut: float) -> None:
    found = ruled(scene, Change(THRESHOLD, "call", cut), reach=Reach(datetime(2024, 3, 9)))
    suspect = only(found, WRONG_THRESHOLD)
    below, above = scene.engine.rows(
        f"select max(score) filter (where score < {cut}), min(score) filter (where score >= {cut}) from decisions"
    )[0]

    assert below < float(suspect.parameters["call"]) <= above
    assert "the cut was moved" in found[MISROUTING.name].says


@pytest.mark.slow
def test_a_moved_cut_of_one_cohort_is_told_for_that_cohort(scene: Scene) -> None:
    suspect = only(
        ruled(scene, Change(THRESHOLD, "call", 0.9, OAK), reach=Reach(datetime(2024, 3, 9))), WRONG_THRESHOLD
    )

    assert suspect.where is not None
    assert "row.depot = 'OAK'" in shown(suspect.where)


def test_a_rule_that_gives_one_action_whatever_the_score_is_told_with_its_predicate(scene: Scene) -> None:
    found = ruled(scene, *inject_route("text", OAK))
    suspect = only(found, MISROUTING)

    assert suspect.parameters["action"] == "text"
    assert suspect.parameters["predicate"] == str(OAK)
    assert "it is a rule" in found[WRONG_THRESHOLD.name].says


def test_one_rule_for_some_is_a_simpler_change_than_two_cuts_that_moved_apart(scene: Scene) -> None:
    between = (col("score") > 0.05) & (col("score") < 0.95)

    every = ruled(scene, *inject_route("text", between))
    assert only(every, WRONG_THRESHOLD).parameters["text"] == pytest.approx(0.05, abs=0.001)
    some = ruled(scene, *inject_route("text", between & (col("key").hashed(100) < 12)))
    assert only(some, MISROUTING).parameters["action"] == "text"


def test_one_action_for_all_of_a_span_is_a_rule_and_not_two_cuts_beyond_every_score(scene: Scene) -> None:
    middle = scene.bundle.policy.actions[1]

    assert only(ruled(scene, *inject_route(middle)), MISROUTING).parameters["action"] == middle
    first = only(ruled(scene, *inject_route(scene.bundle.policy.actions[0])), WRONG_THRESHOLD)
    assert first.parameters  # where one cut gives that action to all, it is the simpler change


@pytest.mark.slow
def test_a_rule_over_a_number_is_told_by_where_the_number_begins(scene: Scene) -> None:
    suspect = only(ruled(scene, *inject_route("text", col("row.km") >= 12)), MISROUTING)
    said = holds(scene, suspect.where) > 0
    meant = holds(scene, (col("row.km") >= 12) & (col("asked_at") >= SINCE)) > 0

    assert (said & meant).sum() >= 0.9 * (said | meant).sum()


def test_an_extent_looks_only_at_rows_that_could_show_the_fault(scene: Scene) -> None:
    rows = scene.engine.frame("select id, score, \"row.depot\" as depot from decisions where status = 'ok' order by id")
    low = rows["score"] < 0.1
    shows = low & (rows["depot"] == "OAK")
    blind = extent_of(scene, rows["id"], shows, np.ones(len(shows), dtype=bool))
    seeing = extent_of(scene, rows["id"], shows, low)

    assert seeing.is_whole
    assert not blind.is_whole
    assert seeing.cohort is not None
    assert shown(seeing.cohort) == "row.depot = 'OAK'"


def test_a_few_rows_drawn_at_random_share_no_predicate(scene: Scene) -> None:
    ids = scene.engine.frame("select id from decisions where status = 'ok' order by id")["id"]
    for seed in range(5):
        shows = np.random.default_rng(seed).random(len(ids)) < 0.02
        found = extent_of(scene, ids, shows, np.ones(len(ids), dtype=bool))

        assert found.cohort is None


def test_a_few_of_one_cohort_are_told_with_their_cohort_and_a_few_of_all_with_none(scene: Scene) -> None:
    some = col("key").hashed(100) < 30
    for where, cohort in ((some & OAK, "row.depot"), (some, None)):
        with strike(scene, Injection("drill", (Change(INPUT, "district", "Newtown", where),)), LATE) as struck:
            found = cohort_of(complained(struck), differs("district", "text"))

            assert found.where is not None
            assert columns_of(found.where) - {"asked_at"} == ({cohort} if cohort else set())
            assert found.says.endswith("of them")
            assert found.share == pytest.approx(0.3, abs=0.1)


def test_whose_cohort_is_told_by_a_column_that_came_wrong_reads_that_column_too() -> None:
    whom = Whom(np.ones(3, bool), col("row.degree") == "none", "")
    moved = Moved(("weight",), Form("sentinel fill", "", None, {}), whom, SINCE, None, None, 3, 1.0, 1.0, 9.0)

    assert _reads(moved) == {"weight", "degree"}


def test_the_roundest_number_of_a_span_is_taken() -> None:
    assert roundest(0.3712, 0.4188) == 0.4
    assert roundest(0.4431, 0.4792) == 0.47
    assert roundest(0.4431, 0.4792, near_low=True) == 0.45
    assert roundest(2.0, 2.0) == 2.0
