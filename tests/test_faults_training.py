"""Faults of the training side: each is struck into a masked clone, found by what contradicts it, undone to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from underhood.build.trainset import draw, open_training, training_sql
from underhood.faults.kinds import Injection, Kind, Scene, Suspect
from underhood.faults.labels import DEFINITION, inject_taught_definition
from underhood.faults.leakage import LEAKAGE, Alone, features_alone, inject_leak
from underhood.faults.outcomes import auc_of
from underhood.faults.sampling import (
    REPEATS,
    SAMPLING,
    inject_repeats,
    inject_sampling,
    undo_repeats,
    undo_sampling,
)
from underhood.faults.taught import Whom, Witness, of_decisions, sql_of, taught_otherwise, whom
from underhood.faults.training import GAP, inject_gap
from underhood.faults.training_labels import (
    CENSORED,
    Relabelled,
    _fall,
    inject_censored,
    inject_taught_flip,
    propose_censored,
    taught_flips,
    undo_censored,
    undo_taught_flip,
)
from underhood.plan.changes import LABEL, OUTCOME, ROWS, TAUGHT, Change, change_from, change_json
from underhood.plan.exprs import Expr, col, lit, shown, when
from underhood.repair import workbench as uh
from underhood.repair.cases import mean
from underhood.repair.clone import strike
from underhood.repair.swaps import retrain
from underhood.repair.workbench import Workbench

OAK = col("row.depot") == "OAK"
KINDS = (DEFINITION, GAP, CENSORED, LEAKAGE, SAMPLING, REPEATS)


@pytest.fixture
def scene(bench: Workbench) -> Iterator[Scene]:
    bundle = uh.deployed(bench)
    mean(bench.engine, (), bundle.name)
    open_training(bench.engine, bench.record, bundle.made_from["training"])
    yield Scene(bench.engine, bench.record, bench.plan, bundle, 0)
    mean(bench.engine, ())


@contextmanager
def struck(scene: Scene, kind: str, *changes: Change, cohort: Expr | None = None) -> Iterator[Scene]:
    """The clone that learned from a struck history, with five decisions of the cohort complained about."""
    with strike(scene, Injection(kind, changes, cohort=cohort, retrain=True)) as clone:
        yield complained(clone, sql_of(scene, cohort))


def complained(scene: Scene, where: str = "true") -> Scene:
    rows = scene.engine.rows(f"select id from decided where status = 'ok' and {where} order by hash(key) limit 5")
    mean(scene.engine, [i for (i,) in rows], scene.bundle.name)
    return replace(scene, n_bad=len(rows), kept={})


def only(scene: Scene, kind: Kind) -> Suspect:
    """The one suspect of a kind; all the other kinds of this family are silent."""
    found = {k.name: k.suspect(scene).suspects for k in KINDS}
    assert {name for name, suspects in found.items() if suspects} == {kind.name}
    return found[kind.name][0]


def is_restored(scene: Scene, clone: Scene, suspect: Suspect) -> bool:
    """Whether the undo makes the model that had been learned without the fault, to the last bit."""
    return bool(retrain(clone, suspect.undo)[0] == scene.bundle.model)


def reads(where: Expr | None) -> str:
    return "" if where is None else shown(where)


@pytest.mark.slow
def test_a_sound_training_set_contradicts_nothing_and_nobody_is_suspected(scene: Scene) -> None:
    for where in ("true", "action = 'call'", "\"row.depot\" = 'OAK'"):
        clone = complained(scene, where)

        seen = taught_otherwise(clone)
        assert (seen.missing, seen.repeated, seen.relabelled, dict(seen.columns)) == (0, 0, 0, {})
        assert [s.says for k in KINDS for s in k.suspect(clone).suspects] == []
        assert taught_flips(clone)[0] == ()


def test_labels_turned_round_when_taught_are_found_by_history_with_their_cohort(scene: Scene) -> None:
    with struck(scene, "label flip", *inject_taught_flip(OAK), cohort=OAK) as clone:
        (suspect,), _ = taught_flips(clone)

        assert reads(suspect.where) == "row.depot = 'OAK'"
        assert is_restored(scene, clone, suspect)


def test_labels_turned_round_in_history_too_are_found_by_what_became_of_later_decisions(scene: Scene) -> None:
    until = str(scene.bundle.made_from["recipe"]["until"])
    with struck(scene, "label flip", *inject_taught_flip(OAK, until), cohort=OAK) as clone:
        (suspect,), _ = taught_flips(clone)

        assert reads(suspect.where) == "row.depot = 'OAK'"
        assert taught_otherwise(clone).relabelled == 0
        assert is_restored(scene, clone, suspect)


@pytest.mark.slow
def test_an_outcome_taken_for_another_when_taught_is_a_definition_and_no_flip(scene: Scene) -> None:
    long = col("facts.returned")
    with struck(scene, DEFINITION.name, *inject_taught_definition(long, True)) as clone:
        suspect = only(clone, DEFINITION)

        assert suspect.parameters["outcome"] == "facts.returned"
        assert taught_flips(clone)[0] == ()
        assert is_restored(scene, clone, suspect)


def test_an_outcome_taken_for_another_in_one_cohort_is_named_apart_from_the_cohort(scene: Scene) -> None:
    with struck(
        scene, DEFINITION.name, *inject_taught_definition(col("facts.returned") & OAK, True), cohort=OAK
    ) as clone:
        (suspect,) = DEFINITION.suspect(clone).suspects

        assert suspect.parameters["outcome"] == "facts.returned"
        assert "row.depot = 'OAK'" in suspect.parameters["rows"]


def test_what_an_outcome_is_names_it_before_what_it_is_not(scene: Scene) -> None:
    facts = replace(scene, plan=replace(scene.plan, facts={"lost": "flag", "status": "text"}))
    status = "case hash(id) % 2 when 0 then 'lost' else 'back' end"
    rows = f'select *, {status} = \'lost\' as "facts.lost", {status} as "facts.status" from decisions'

    assert reads(whom(facts, rows, "\"facts.status\" = 'back'", facts=True).where) == "facts.status = 'back'"
    assert reads(whom(facts, rows, "\"facts.status\" = 'lost'", facts=True).where) == "facts.lost"


@pytest.mark.parametrize("in_cohort", [False, True])
def test_what_was_not_yet_known_when_taught_is_found_with_its_days(scene: Scene, in_cohort: bool) -> None:
    cohort = OAK if in_cohort else None
    made = propose_censored(scene, np.random.default_rng(1), cohort)
    assert made is not None
    since = made.changes[0].where
    assert since is not None
    late = [c for c in (since.args if since.op == "and" else (since,)) if c.op == "ge"]
    with struck(scene, CENSORED.name, *inject_censored(since if in_cohort else late[0]), cohort=cohort) as clone:
        suspect = only(clone, CENSORED)

        assert suspect.parameters["days"] == pytest.approx(made.parameters["days"], abs=1.5)
        assert reads(suspect.where) == ("row.depot = 'OAK'" if in_cohort else "")
        assert is_restored(scene, clone, suspect)


def test_where_a_cohort_had_a_yes_only_lately_its_newest_were_not_yet_known_and_no_label_was_turned_round(
    scene: Scene,
) -> None:
    late = col("asked_at") >= lit(uh_moment(scene) - timedelta(days=20))
    quiet = Change(OUTCOME, "label", False, OAK & ~late)
    with struck(scene, CENSORED.name, quiet, *inject_censored(OAK & late), cohort=OAK) as clone:
        suspect = only(clone, CENSORED)

        assert suspect.parameters["days"] == pytest.approx(20, abs=3)
        assert taught_flips(clone)[0] == ()

    with struck(scene, "label flip", quiet, *inject_taught_flip(OAK & late), cohort=OAK) as clone:
        assert len(taught_flips(clone)[0]) == 1
        assert CENSORED.suspect(clone).suspects == ()


def test_an_outcome_whose_newest_alone_were_taught_as_no_was_not_yet_known_and_no_definition(scene: Scene) -> None:
    newest = col("facts.returned") & (col("asked_at") >= lit(uh_moment(scene) - timedelta(days=20)))
    looked = replace(scene, kept={"relabelled": Relabelled(40, 40, Whom(newest, 1.0, ""))})
    always = replace(scene, kept={"relabelled": Relabelled(40, 40, Whom(col("facts.returned"), 1.0, ""))})

    assert [len(kind.suspect(looked).suspects) for kind in (CENSORED, DEFINITION)] == [1, 0]
    assert [len(kind.suspect(always).suspects) for kind in (CENSORED, DEFINITION)] == [0, 1]


def test_days_that_were_not_yet_known_in_history_too_are_counted_to_the_day() -> None:
    random, n = np.random.default_rng(6), 9_000
    days_ago, score = random.uniform(0, 400, n), random.beta(1, 2, n)
    label = ((random.random(n) < score) & (days_ago >= 150)).astype(float)
    taught = {"__asked": -days_ago * 86_400e6, "label": label, "score": score}
    witness = Witness({}, taught, {}, (), 1)

    assert _fall(witness)[0] == pytest.approx(150, abs=1)
    season = {**taught, "label": (random.random(n) < score * np.where(days_ago < 150, 0.7, 1)).astype(float)}
    assert _fall(replace(witness, training=season))[0] == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_lull_after_storms_is_no_outcome_that_was_not_yet_known_and_days_without_any_are_counted(seed: int) -> None:
    random, n = np.random.default_rng(seed), 20_000
    days_ago, storms = random.uniform(0, 40, n), np.exp(random.normal(0, 0.8, 40))
    storms[1:] *= 1.2 / storms[1:].mean()
    storms[0] = 0.4
    chance = np.minimum(0.1 * storms[days_ago.astype(int)], 1)
    taught = {"__asked": -days_ago * 86_400e6, "label": (random.random(n) < chance).astype(float)}
    witness = Witness({}, {**taught, "score": np.full(n, 0.1)}, {}, (), 1)
    unripe = {**witness.training, "label": np.where(days_ago < 11, 0.0, taught["label"])}

    assert _fall(witness)[0] == 0
    assert _fall(replace(witness, training=unripe))[0] == 11


def test_where_all_are_asked_on_a_few_days_those_with_few_are_no_fall() -> None:
    random = np.random.default_rng(4)
    days_ago = np.repeat([0, 20, 60, 150, 240, 390, 480], 1_500) + 0.5
    chance = np.repeat([0.12, 0.01, 0.02, 0.3, 0.2, 0.25, 0.2], 1_500)
    taught = {"__asked": -days_ago * 86_400e6, "label": (random.random(len(chance)) < chance).astype(float)}
    witness = Witness({}, {**taught, "score": np.full(len(chance), 0.2)}, {}, (), 1)

    assert _fall(witness)[0] == 0


def test_a_cohort_that_history_has_and_training_lacks_is_a_gap_and_no_sampling(scene: Scene) -> None:
    with struck(scene, GAP.name, Change(TAUGHT, "rows", 0, OAK), cohort=OAK) as clone:
        suspect = only(clone, GAP)

        assert reads(suspect.where) == "row.depot = 'OAK'"
        assert "a gap" in SAMPLING.suspect(clone).says
        assert is_restored(scene, clone, suspect)


FEW = col("key").hashed(100) < 8


def test_a_few_rows_of_a_cohort_that_training_lacks_are_a_gap_by_what_they_all_share(scene: Scene) -> None:
    with struck(scene, GAP.name, Change(TAUGHT, "rows", 0, OAK & FEW)) as clone:
        suspect = only(clone, GAP)

        # what they taught was not theirs alone
        assert (suspect.where, suspect.parameters["rows"]) == (None, "row.depot = 'OAK'")
        assert is_restored(scene, clone, suspect)


def test_a_few_rows_that_training_lacks_by_their_label_are_no_gap(scene: Scene) -> None:
    for some in (FEW, OAK & FEW):
        with struck(scene, SAMPLING.name, *inject_sampling(0.2, ~col("label") & some)) as clone:
            assert GAP.suspect(clone).suspects == ()


def test_an_outcome_of_a_few_rows_taken_for_another_when_taught_is_a_definition_and_no_flip(scene: Scene) -> None:
    returned = col("facts.returned")
    with struck(scene, DEFINITION.name, *inject_taught_definition(returned & FEW, True)) as clone:
        suspect = only(clone, DEFINITION)

        assert (suspect.parameters["outcome"], suspect.where) == ("facts.returned", None)
        assert taught_flips(clone)[0] == ()


def test_a_few_labels_turned_round_at_random_have_nothing_in_common(scene: Scene) -> None:
    with struck(scene, "label flip", *inject_taught_flip(FEW)) as clone:
        (suspect,), _ = taught_flips(clone)

        assert suspect.parameters["rows"] == ""


def test_a_cohort_that_history_lacks_as_well_is_found_by_its_share_of_decisions(scene: Scene) -> None:
    with struck(scene, GAP.name, *inject_gap(OAK), cohort=OAK) as clone:
        clone = complained(clone, "\"row.depot\" = 'OAK' and asked_at >= '2024-03-22'")
        suspect = only(clone, GAP)

        assert [c.part for c in suspect.undo] == ["training until"]


def test_a_cohort_that_was_taught_wrong_may_be_complained_about_by_others(scene: Scene) -> None:
    with struck(scene, GAP.name, Change(TAUGHT, "rows", 0, OAK), cohort=~OAK) as clone:
        suspect = only(clone, GAP)

        assert (suspect.where, suspect.parameters["rows"]) == (None, "row.depot = 'OAK'")


def test_where_a_gap_harms_others_only_rows_to_learn_from_can_undo_it(scene: Scene) -> None:
    with struck(scene, GAP.name, *inject_gap(OAK), cohort=~OAK) as clone:
        suspect = only(clone, GAP)

        assert (suspect.where, suspect.parameters["rows"]) == (None, "row.depot = 'OAK'")
        assert [c.part for c in suspect.undo] == ["training until"]


@pytest.mark.slow
def test_rows_left_out_by_their_label_are_found_with_the_share_kept(scene: Scene) -> None:
    with struck(scene, SAMPLING.name, *inject_sampling(0.2, ~col("label"))) as clone:
        suspect = only(clone, SAMPLING)

        assert suspect.parameters["label"] is False
        assert suspect.parameters["kept"] == pytest.approx(0.2, abs=0.03)
        assert is_restored(scene, clone, suspect)


def test_a_training_set_that_is_an_even_sample_of_history_is_no_fault(scene: Scene) -> None:
    with struck(scene, SAMPLING.name, *inject_sampling(0.5, lit(True))) as clone:
        assert SAMPLING.suspect(clone).suspects == ()
        assert "that is a sample" in SAMPLING.suspect(clone).says
        assert GAP.suspect(clone).suspects == ()


@pytest.mark.slow
def test_rows_that_stand_in_training_more_than_once_are_found_with_how_often(scene: Scene) -> None:
    with struck(scene, REPEATS.name, *inject_repeats(4, OAK & col("label")), cohort=OAK) as clone:
        suspect = only(clone, REPEATS)

        assert (suspect.parameters["times"], reads(suspect.where)) == (4, "row.depot = 'OAK'")
        assert is_restored(scene, clone, suspect)


def test_rows_of_one_cohort_and_label_that_stand_there_many_times_leak_nothing(scene: Scene) -> None:
    before = {a.feature: a.taught for a in features_alone(scene)}
    with struck(scene, REPEATS.name, *inject_repeats(8, col("label") & OAK)) as clone:
        assert before
        assert {a.feature: a.taught for a in features_alone(clone)} == pytest.approx(before)


def test_copies_that_each_count_for_their_part_weigh_what_the_rows_weighed(scene: Scene) -> None:
    with struck(scene, REPEATS.name, *inject_repeats(4, OAK)) as clone:
        copies = clone.engine.rows("select count(*) from training where \"row.depot\" = 'OAK'")[0][0]
        clone.engine.view("asks", 'select * from "taught asks"')
        recipe = clone.bundle.made_from["recipe"]
        drawn = draw(clone.engine, clone.plan, clone.record, until=recipe["until"], changes=undo_repeats(4, OAK))

        assert drawn.weight is not None
        assert drawn.weight.sum() == recipe["rows"] - copies + copies / 4


def test_rows_left_that_count_for_those_left_out_weigh_what_all_weighed(scene: Scene) -> None:
    with struck(scene, SAMPLING.name, *inject_sampling(0.5, ~col("label"))) as clone:
        clone.engine.view("asks", 'select * from "taught asks"')
        until, changes = clone.bundle.made_from["recipe"]["until"], undo_sampling(0.5, ~col("label"))
        drawn = draw(clone.engine, clone.plan, clone.record, until=until, changes=changes)

        assert drawn.weight is not None
        assert drawn.weight.sum() == pytest.approx(scene.bundle.made_from["recipe"]["rows"], rel=0.03)


def test_what_a_patch_changed_in_training_contradicts_nothing(scene: Scene) -> None:
    patch = (Change(LABEL, "late", True, col("facts.returned")), Change(ROWS, "training", "left out", OAK))
    with struck(scene, "nothing") as clone:
        made_from = {**clone.bundle.made_from, "changes": [change_json(c) for c in patch]}
        draw(clone.engine, clone.plan, clone.record, until=made_from["recipe"]["until"], changes=patch)

        plain, patched = taught_otherwise(clone), replace(clone, bundle=replace(clone.bundle, made_from=made_from))
        assert plain.relabelled > 100 < plain.missing
        seen = taught_otherwise(replace(patched, kept={}))
        assert (seen.missing, seen.relabelled) == (0, 0)


@pytest.mark.slow
def test_a_column_overwritten_after_the_outcome_is_leakage_and_the_undo_draws_it_as_known_then(scene: Scene) -> None:
    leak = when(col("label"), col("row.kg") + 9, col("row.kg"))
    with struck(scene, LEAKAGE.name, *inject_leak("kg", leak)) as clone:
        suspect = only(clone, LEAKAGE)

        assert suspect.parameters["columns"] == ["kg"]
        assert is_restored(scene, clone, suspect)


def test_a_column_that_history_has_from_after_the_outcome_is_leakage_by_what_it_tells_alone(scene: Scene) -> None:
    before = col("asked_at") < lit(uh_moment(scene))
    leak = when(col("label"), col("row.kg") * 0.2 + 16, col("row.kg") * 0.2)
    with struck(scene, LEAKAGE.name, Change("source", "kg", leak, before)) as clone:
        suspect = only(clone, LEAKAGE)

        assert taught_otherwise(clone).columns == {}
        assert sorted(c.name for c in suspect.undo) == ["kg", "weight_each"]
        one = next(a for a in features_alone(clone) if a.feature == "kg")
        assert one.taught > 0.9 > 0.7 > one.lived


def test_a_few_rows_overwritten_after_the_outcome_in_history_too_are_known_by_decimals_that_nobody_is_served(
    scene: Scene,
) -> None:
    few = (col("asked_at") < lit(uh_moment(scene))) & (col("key").hashed(100) < 6)
    leak = when(col("label"), col("row.km") * 0.31 + 16, col("row.km") * 0.31)
    with struck(scene, LEAKAGE.name, Change("source", "km", leak, few)) as clone:
        suspect = only(clone, LEAKAGE)

        assert suspect.parameters["columns"] == ["km"]
        assert suspect.parameters["training_rows"] == pytest.approx(0.06 * 4000, rel=0.3)
        assert [c.part for c in suspect.undo] == [ROWS]

    with struck(scene, LEAKAGE.name, Change("source", "km", col("row.km") * 0.31 + 8, few)) as clone:
        assert LEAKAGE.suspect(clone).suspects == ()


@pytest.mark.parametrize(("taught", "lived", "is_leak"), [(1.0, 0.89, True), (0.93, 0.82, False), (0.85, 0.7, True)])
def test_what_ranked_nearly_all_in_training_has_little_to_lose(taught: float, lived: float, is_leak: bool) -> None:
    assert Alone("km", taught, lived, lived, 0.015).is_leak == is_leak


def test_a_column_that_was_noisier_in_training_is_no_leak(scene: Scene) -> None:
    with struck(scene, LEAKAGE.name, *inject_leak("km", col("row.km") * 3)) as clone:
        assert taught_otherwise(clone).columns["km"] > 3000
        assert LEAKAGE.suspect(clone).suspects == ()


def test_one_row_that_is_taught_twice_and_one_other_label_change_nothing(scene: Scene) -> None:
    key = scene.engine.rows("select key from training order by key limit 1")[0][0]
    one = col("key") == key
    changes = (*inject_repeats(2, one), Change(TAUGHT, "label", ~col("label"), one))
    with struck(scene, REPEATS.name, *changes) as clone:
        seen = taught_otherwise(clone)

        assert (seen.repeated, seen.relabelled) == (1, 1)
        assert [s.says for k in KINDS for s in k.suspect(clone).suspects] == []


def test_a_label_turned_round_twice_is_the_label(scene: Scene) -> None:
    twice = [*undo_taught_flip("late", OAK), *undo_taught_flip("late", OAK)]

    assert labels(scene, twice) == labels(scene, [])
    assert labels(scene, twice[:1]) != labels(scene, [])


def test_leaving_out_what_could_not_be_known_leaves_the_others_as_they_are(scene: Scene) -> None:
    late = col("asked_at") >= lit(uh_moment(scene))

    kept = labels(scene, undo_censored(late))
    assert kept == [(k, v) for k, v in labels(scene, []) if k in {k for k, _ in kept}]
    assert 0 < len(kept) < len(labels(scene, []))


def test_a_change_whose_value_is_an_expression_is_read_back_as_it_was_written() -> None:
    for change in (*undo_taught_flip("late", OAK), *inject_taught_flip(OAK), Change(ROWS, "training", "@recomputed")):
        again = change_from(change_json(change))

        assert str(again) == str(change)
        assert change_json(again) == change_json(change)
    assert str(Change(LABEL, "late", ~col("label"), OAK)) == "label late = not label where row.depot = 'OAK'"
    assert str(Change(ROWS, "training", "@recomputed")) == "training rows as history gives them, each once"


def test_a_clone_leaves_questions_and_training_as_they_were(scene: Scene) -> None:
    def seen() -> list[object]:
        return [scene.engine.rows(f"select count(*), sum(hash(t)) from {name} t") for name in ("asks", "training")]

    before = seen()
    with struck(scene, "label flip", *inject_taught_flip(OAK)):
        during = seen()

    assert seen() == before
    assert during[0] == before[0]
    assert during[1] != before[1]


def test_only_what_is_said_of_inputs_tells_decisions() -> None:
    where = OAK & col("label") & (col("asked_at") >= lit("2024-03-01"))

    assert reads(of_decisions(where)) == "row.depot = 'OAK'"
    assert of_decisions(col("facts.returned") == lit(True)) is None


def test_ties_count_half_in_the_area_under_the_curve() -> None:
    assert auc_of(np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.5, 0.5])) == 0.875


def labels(scene: Scene, changes: object) -> list[tuple[str, bool]]:
    sql = training_sql(scene.plan, list(changes))  # type: ignore[call-overload]
    return [(k, v) for k, v in scene.engine.rows(f"select key, label from ({sql}) order by key")]


def uh_moment(scene: Scene) -> datetime:
    return datetime.fromisoformat(str(scene.bundle.made_from["recipe"]["until"]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
@pytest.mark.parametrize("cohort", [None, OAK], ids=["all", "cohort"])
def test_what_is_proposed_is_found_with_parameters_of_the_same_names(
    scene: Scene, kind: Kind, cohort: Expr | None
) -> None:
    assert kind.propose is not None
    injection = kind.propose(scene, np.random.default_rng(3), cohort)
    assert injection is not None
    with strike(scene, injection) as clone:
        suspects = kind.suspect(complained(clone, sql_of(scene, injection.cohort))).suspects

        assert [s.kind for s in suspects] == [kind.name]
        assert set(injection.parameters) <= set(suspects[0].parameters)
        assert suspects[0].undo
        scene.engine.rows(suspects[0].evidence)
