"""The world and its outcomes: each change is found by what happened, named apart from its look-alikes, and undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from underhood.faults.calibration import WRONG_CALIBRATION, inject_calibration
from underhood.faults.censoring import FEEDBACK, LABEL_DELAY, Coverage, _which, behind, inject_delay, inject_feedback
from underhood.faults.drift import (
    CONCEPT,
    COVARIATE,
    PRIOR,
    REAL_EVENT,
    WORSE,
    _dearer,
    inject_concept,
    inject_event,
    inject_prior,
)
from underhood.faults.envelope import ENVELOPE, inject_envelope, propose_envelope
from underhood.faults.extent import Extent, rises
from underhood.faults.flips import FLIP, inject_flip, undo_flip
from underhood.faults.kinds import Injection, Kind, Scene, Suspect
from underhood.faults.labels import DEFINITION
from underhood.faults.outcomes import Group, Residuals, auc_of, recalibrated, residuals, said, steps_of
from underhood.faults.taught import heard
from underhood.faults.training import GAP
from underhood.faults.training_labels import CENSORED
from underhood.faults.turns import turn_of, turned_share
from underhood.plan.changes import CALIBRATION, INPUT, Change
from underhood.plan.exprs import Expr, col, columns_of
from underhood.plan.render import to_sql
from underhood.repair import workbench as uh
from underhood.repair.bench import survey
from underhood.repair.cases import mean
from underhood.repair.catches import quiet_scene
from underhood.repair.clone import Reach, strike
from underhood.repair.decided import view_sql
from underhood.repair.drill import complained
from underhood.repair.swaps import swap
from underhood.repair.workbench import Workbench

SINCE = datetime(2024, 3, 24)
OAK = col("row.depot") == "OAK"
KINDS = (FLIP, LABEL_DELAY, FEEDBACK, REAL_EVENT, COVARIATE, PRIOR, CONCEPT, WRONG_CALIBRATION, ENVELOPE)


@pytest.fixture
def scene(right_bench: Workbench) -> Iterator[Scene]:
    yield quiet_scene(right_bench)
    mean(right_bench.engine, (), uh.deployed(right_bench).name)


@contextmanager
def struck(scene: Scene, *changes: Change) -> Iterator[Scene]:
    """The scene with changes in force since SINCE, and somebody who complains."""
    with strike(scene, Injection("drill", changes), Reach(SINCE)) as made:
        _, named, told = complained(made, SINCE)
        mean(made.engine, named, made.bundle.name)
        yield replace(made, n_bad=len(named), told=told, kept={})


def found(scene: Scene, kinds: Sequence[Kind] = KINDS) -> list[Suspect]:
    return [s for kind in kinds for s in kind.suspect(scene).suspects]


def named(scene: Scene, kinds: Sequence[Kind] = KINDS) -> list[str]:
    return [s.kind for s in found(scene, kinds)]


def cohort(suspect: Suspect) -> Expr | None:
    """The predicate of a suspect without its span."""
    parts = suspect.where.args if suspect.where is not None and suspect.where.op == "and" else (suspect.where,)
    rest = [p for p in parts if isinstance(p, Expr) and columns_of(p) != {"asked_at"}]
    return rest[0] if rest else None


@pytest.mark.slow
def test_a_sound_shop_has_no_suspect_whoever_complains(scene: Scene) -> None:
    for turn in range(12):
        rows = scene.engine.rows(f"select id from decisions order by hash(id || '{turn}') limit 5")
        mean(scene.engine, [i for (i,) in rows], scene.bundle.name)

        assert named(replace(scene, n_bad=5, kept={})) == []


def test_a_label_written_against_its_facts_is_found_to_the_row_in_its_cohort(scene: Scene) -> None:
    with struck(scene, *inject_flip(OAK, "mislabelled")) as made:
        (flip,) = found(made)

        assert (flip.kind, str(cohort(flip))) == ("label flip", str(OAK))
        assert flip.since.startswith("2024-03-2")
        n = made.engine.rows(f"select count(*) from ({flip.evidence})")[0][0]
        asked = f"select count(*) from decisions where asked_at >= '{SINCE}' and \"row.depot\" = 'OAK'"
        assert n == made.engine.rows(asked)[0][0]


def test_labels_that_contradict_their_facts_are_a_flip_and_no_other_definition(scene: Scene) -> None:
    with struck(scene, *inject_flip(None, "mislabelled")) as made:
        assert named(made, [FLIP, DEFINITION, CENSORED]) == ["label flip"]
        assert found(made, [FLIP])[0].parameters["turned"] == 1.0
        assert "contradict their own facts" in DEFINITION.suspect(made).says


def test_labels_that_turn_with_their_facts_turn_the_ranking_round(scene: Scene) -> None:
    with struck(scene, *inject_flip(None, "turned")) as made:
        turn = turn_of(made)

        assert named(made) == ["label flip"]
        assert turn is not None
        assert turn.auc[0] > 0.8
        assert turn.auc[1] < 0.2


def test_turning_labels_twice_changes_nothing(scene: Scene) -> None:
    (change,) = undo_flip("late", OAK)
    labels = np.array([True, False, True])

    assert change.part == "label"
    assert str(change.to) == str(~col("label"))
    assert (~~labels == labels).all()


def test_fewer_of_those_to_whom_it_does_not_happen_is_a_prior_shift_and_not_a_concept_drift(scene: Scene) -> None:
    with struck(scene, *inject_prior(0.85, False)) as made:
        (shift,) = found(made)

        assert shift.kind == "prior shift"
        assert shift.parameters["intercept"] == pytest.approx(-np.log(1 - 0.85), abs=0.7)
        assert [c.part for c in shift.undo] == [CALIBRATION]
        (ruling,) = [CONCEPT.suspect(made)]
        assert "as prior shift" in ruling.says


def test_outcomes_that_turn_in_one_depot_are_a_concept_drift_of_that_depot(scene: Scene) -> None:
    with struck(scene, *inject_concept(0.45, OAK)) as made:
        (drift,) = found(made)

        assert (drift.kind, str(cohort(drift))) == ("concept drift", str(OAK))
        assert abs((datetime.fromisoformat(drift.since) - SINCE).total_seconds()) < 2 * 86_400


def test_what_passes_after_a_day_is_an_event_of_the_world_and_nothing_undoes_it(scene: Scene) -> None:
    span = (col("asked_at") >= datetime(2024, 3, 26)) & (col("asked_at") < datetime(2024, 3, 29))
    with struck(scene, *inject_event(0.9, span)) as made:
        (event,) = found(made)

        assert (event.kind, event.undo) == ("real event", ())
        assert event.since.startswith("2024-03-2")


def test_a_wrong_curve_after_the_model_is_named_with_its_slope_and_intercept_and_undone_to_the_bit(
    scene: Scene,
) -> None:
    with struck(scene, *inject_calibration(1.2, 0.7)) as made:
        (curve,) = found(made, [WRONG_CALIBRATION])
        trial = swap(made, survey(made), *curve.undo)

        assert curve.parameters["intercept"] == pytest.approx(1.2, abs=0.02)
        assert curve.parameters["slope"] == pytest.approx(0.7, abs=0.02)
        sound = scene.engine.frame("select score, action from sound where status = 'ok' order by id")
        assert (trial.action == sound["action"]).all()


@pytest.mark.slow
def test_outcomes_that_stop_coming_are_told_from_those_that_come_for_some_actions_only(scene: Scene) -> None:
    with struck(scene, *inject_delay()) as made:
        (delay,) = found(made)
        assert delay.kind == "label delay"
    with struck(scene, *inject_feedback("quiet")) as made:
        (loop,) = found(made)
        assert (loop.kind, loop.parameters["action"]) == ("feedback loop", "quiet")


@pytest.mark.slow
def test_of_one_answer_that_alone_is_known_nothing_is_said_about_how_often_it_happens(scene: Scene) -> None:
    with struck(scene, *inject_delay(True)) as made:
        (delay,) = found(made)

        assert (delay.kind, delay.parameters["known_only"]) == ("label delay", False)


def test_outcomes_that_fall_away_in_a_small_cohort_are_seen_to_fall_there() -> None:
    n = np.arange(6000)
    own, late = n % 25 == 0, n >= 3500
    missing = own & late & (n % 100 > 0)

    assert (behind(own, missing) == (own & (n >= 3525))).all()
    assert (behind(n >= 0, missing) == (n >= 0)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        (inject_delay(False), "label delay", {"known_only": True}),
        (inject_feedback("quiet"), "feedback loop", {"action": "quiet"}),
    ],
)
def test_a_handful_of_outcomes_that_never_came_where_all_came_before_is_told_and_listed(
    changes: tuple[Change, ...], kind: str, told: dict[str, object], scene: Scene
) -> None:
    few = tuple(replace(c, where=c.where & (col("key").hashed(100) < 3)) for c in changes if c.where is not None)
    with struck(scene, *few) as made:
        (suspect,) = found(made, (LABEL_DELAY, FEEDBACK))
        missing = made.engine.rows(
            "select d.id from decisions d join sound s on d.id = s.id where d.label is null and s.label is not null"
        )

        assert (suspect.kind, told.items() <= suspect.parameters.items()) == (kind, True)
        assert sorted(r[:1] for r in made.engine.rows(suspect.evidence)) == sorted(missing)


@pytest.mark.parametrize(("share", "is_selective"), [(0.02, False), (0.5, True)])
def test_a_few_of_one_answer_that_are_missing_leave_the_rest_a_witness(share: float, is_selective: bool) -> None:
    extent = Extent(None, None, "2024-03-24", 40, share, "")
    found = Coverage(3000, 40, 1.0, 1.0, 0.98, {}, "", True, 0.0, extent, is_few=True)

    assert found.is_selective == is_selective


def test_outcomes_that_always_were_missing_for_some_are_no_news() -> None:
    now_and_then, lately = np.zeros(2000, bool), np.zeros(2000, bool)
    now_and_then[::100] = True
    lately[1200::100] = True

    assert (rises(now_and_then)[1], rises(lately)[0]) == (0.0, 1200)
    assert rises(lately)[1] > 3


def test_which_outcomes_are_missing_is_told_by_what_they_could_be() -> None:
    score = np.tile([0.02, 0.3, 0.6, 0.98], 500)
    action = np.where(score > 0.5, "call", "wait")
    every, sure_yes, called = np.arange(2000) % 87 == 0, np.zeros(2000, bool), np.zeros(2000, bool)
    sure_yes[[3, 7, 11, 15, 19, 2, 6, 23, 27, 1]] = True
    called[[2, 3, 6, 7, 10, 11, 14, 15]] = True

    assert [_which(score, action, gone) for gone in (every, sure_yes, called)] == [
        (None, ""),
        (False, ""),
        (None, "call"),
    ]


def test_whom_a_delay_touches_are_those_whose_outcome_is_missing(scene: Scene) -> None:
    with struck(scene, *inject_delay(True)) as made:
        (delay,) = found(made)
        assert delay.where is not None
        touched = made.engine.rows(f"select id from decisions where {to_sql(delay.where)} order by id")
        missing = made.engine.rows(
            "select d.id from decisions d join sound s on d.id = s.id where d.label is null and s.label order by d.id"
        )

        assert set(missing) <= set(touched)
        assert len(touched) < 1.1 * len(missing) + 20


def test_a_drift_names_the_share_of_outcomes_that_turned_and_the_cut_to_the_row(scene: Scene) -> None:
    random, n = np.random.default_rng(5), 12_000
    p, value, at = random.uniform(0.02, 0.98, n), random.random(n), np.arange(n, dtype=float)
    drifts = (value >= 0.62) & (at >= 0.6 * n)
    label = (random.random(n) < p) ^ (drifts & (random.random(n) < 0.4))
    column = col("row.kg")
    groups = tuple(Group("row.kg", column >= cut, value >= cut, value) for cut in (0.25, 0.5, 0.75))
    odds, action = np.log(p / (1 - p)), np.ones(n)
    look = Residuals(at, p, odds, label.astype(float), drifts, action, (at // (n / 48)).astype(int), groups, 1.0)
    turn = turn_of(replace(scene, kept={"residuals": look, "coverage": None}))

    assert turn is not None
    assert turn.group is not None
    assert (turn.kind, turn.since) == ("concept drift", pytest.approx(0.6 * n, abs=0.01 * n))
    assert turn.turned == pytest.approx(0.4, abs=0.04)
    assert str(turn.group.where).startswith("row.kg >= 0.6")


def test_of_columns_that_go_together_the_one_is_named_whose_own_cut_explains_most(scene: Scene) -> None:
    random, n = np.random.default_rng(4), 8000
    own = random.uniform(0, 1, n)
    other = own + random.normal(0, 0.05, n)
    odds = random.normal(0, 2, n)
    late, turned = np.arange(n) >= n // 2, random.random(n) < 0.45
    label = (random.random(n) < said(odds, (0, 1))).astype(float)
    label = np.where(late & (own >= 0.6) & turned, 1 - label, label)
    cuts = [("row.own", own, 0.5), ("row.own", own, 0.7), ("row.other", other, 0.6)]
    groups = tuple(Group(c, col(c) >= cut, v >= cut, v) for c, v, cut in cuts)
    bad = np.isin(np.arange(n), np.flatnonzero(late & (own > 0.75))[::400])
    at = np.arange(n) * 1e9
    look = Residuals(at, said(odds, (0, 1)), odds, label, bad, np.ones(n), np.arange(n) * 48 // n, groups, 1.0)

    turn = turn_of(replace(scene, kept={"residuals": look, "coverage": None}))

    assert turn is not None
    assert turn.group is not None
    assert turn.group.column == "row.own"
    assert turn.group.where.args[1].args[0] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("lasts", [True, False])
def test_a_small_group_whose_outcomes_turned_over_is_told_by_likelihood_but_not_for_one_bad_day(
    scene: Scene, lasts: bool
) -> None:
    random, n = np.random.default_rng(12), 9600
    odds, one, day = random.choice([-1, 1], n) * random.gamma(8, 0.45, n), random.random(n) < 0.016, np.arange(n) // 100
    turned = one & (random.random(n) < 0.4) & (day >= 50) if lasts else one & (day >= 70) & (day < 72)
    label = (random.random(n) < said(odds, (0, 1))) ^ turned
    # seasons move the base rate of all
    label |= random.random(n) < np.where(day % 24 < 8, 0.1, 0.0)
    bad = np.isin(np.arange(n), np.flatnonzero(one & (day >= 50) & turned)[::5][:5])
    groups, slices = (Group("row.depot", OAK, one),), np.arange(n) * 48 // n
    look = Residuals(day * 8.64e10, said(odds, (0, 1)), odds, label * 1.0, bad, np.ones(n), slices, groups, 1.0)

    turn = turn_of(replace(scene, kept={"residuals": look, "coverage": None}))

    assert (turn is not None and turn.until is None) == lasts
    if turn is not None and lasts:
        assert (turn.kind, turn.group) == ("concept drift", groups[0])
        assert turn.since / 8.64e10 == pytest.approx(50, abs=4)


def test_what_was_asked_at_one_moment_lies_on_one_side_of_an_edge_as_a_whole(scene: Scene) -> None:
    random, each, n = np.random.default_rng(3), 120, 7200
    day = np.arange(n) // each
    p = random.uniform(0.05, 0.5, n)
    passing = (day >= 45) & (day < 49)
    label = ((random.random(n) < p) | (passing & (random.random(n) < 0.8))).astype(float)
    last = day == 48
    label[last] = np.sort(label[last])[::-1]  # by chance, those that come last in a day are those to whom it did not
    bad = np.isin(np.arange(n), np.flatnonzero(last)[:5])
    odds = np.log(p / (1 - p))
    look = Residuals(day * 8.64e10, p, odds, label, bad, np.ones(n), day * 48 // 60, (), 1.0)

    turn = turn_of(replace(scene, kept={"residuals": look, "coverage": None}))

    assert turn is not None
    assert (turn.since / 8.64e10, (turn.until or 0) / 8.64e10) == (45, 49)


def test_an_event_of_a_single_slice_is_told_from_its_first_to_its_last_row(scene: Scene) -> None:
    random, n = np.random.default_rng(8), 7200
    day, p = np.arange(n) // 150, random.uniform(0.05, 0.5, n)
    passing = day == 30
    label = ((random.random(n) < p) | (passing & (random.random(n) < 0.85))).astype(float)
    bad = np.isin(np.arange(n), np.flatnonzero(passing)[::40])
    odds = np.log(p / (1 - p))
    look = Residuals(day * 8.64e10, p, odds, label, bad, np.ones(n), day, (), 1.0)

    turn = turn_of(replace(scene, kept={"residuals": look, "coverage": None}))

    assert turn is not None
    assert (turn.since / 8.64e10, (turn.until or 0) / 8.64e10) == (30, 31)


def test_a_turn_begins_before_those_who_complain_though_it_grew_worse_later(scene: Scene) -> None:
    random, n = np.random.default_rng(6), 12_000
    day, p, one = np.arange(n) // 200, random.uniform(0.05, 0.95, n), random.random(n) < 0.3
    share = np.where(day >= 50, 0.95, np.where(day >= 30, 0.35, 0.0)) * one
    label = ((random.random(n) < p) ^ (random.random(n) < share)).astype(float)
    bad = np.isin(np.arange(n), np.flatnonzero(one & (day >= 33) & (day < 40))[::80])
    odds, groups = np.log(p / (1 - p)), (Group("row.depot", OAK, one),)
    look = Residuals(day * 8.64e10, p, odds, label, bad, np.ones(n), day * 48 // 60, groups, 1.0)

    turn = turn_of(replace(scene, kept={"residuals": look, "coverage": None}))

    assert turn is not None
    assert (turn.group, turn.bad) == (groups[0], 1.0)
    assert turn.since / 8.64e10 == pytest.approx(30, abs=3)


def test_whoever_was_asked_while_an_event_passed_bears_no_witness_of_training(scene: Scene) -> None:
    first, last = datetime(2024, 3, 25), datetime(2024, 3, 27)
    passing = col("asked_at").within(first, last)
    with struck(scene, *inject_event(0.9, passing)) as made:
        assert turn_of(made).until is not None  # type: ignore[union-attr]

        n, rest = made.engine.rows(
            f"select count(*) filter (where {to_sql(passing)}), count(*) from decisions where {heard(made)}"
        )[0]
        assert n == 0
        assert rest > 500


def test_the_likeliest_share_of_turned_outcomes_is_the_one_that_turned() -> None:
    random = np.random.default_rng(4)
    p = random.beta(0.5, 1, 20_000)
    label = (random.random(len(p)) < p) ^ (random.random(len(p)) < 0.35)

    assert turned_share(p, label.astype(float)) == pytest.approx(0.35, abs=0.02)
    assert turned_share(p, (random.random(len(p)) < p).astype(float)) == pytest.approx(0.0, abs=0.02)


def test_without_outcomes_the_world_cannot_be_seen_and_that_is_said(scene: Scene) -> None:
    gone = Injection("drill", inject_delay())
    with strike(scene, gone) as made:
        blind = replace(made, kept={})

        assert named(blind, [PRIOR, CONCEPT, REAL_EVENT, FLIP]) == []
        assert "cannot be seen yet" in PRIOR.suspect(blind).says
        assert "no outcome is known" in LABEL_DELAY.suspect(blind).says


def test_values_beyond_all_of_training_are_beyond_the_envelope(scene: Scene) -> None:
    with struck(scene, *inject_envelope("kg", 60.0, 40.0, "km")) as made:
        (beyond,) = found(made, [ENVELOPE])

        held, usual = made.engine.rows('select max("features.kg"), quantile_cont("features.kg", 0.5) from training')[0]
        assert (beyond.parameters["columns"], beyond.parameters["beyond"]) == (["kg"], pytest.approx(held, rel=0.05))
        assert [(c.part, c.name, c.to) for c in beyond.undo] == [(INPUT, "kg", usual)]


@pytest.mark.parametrize("seed", range(4))
def test_new_people_who_ask_beyond_the_envelope_do_not_all_have_one_value(scene: Scene, seed: int) -> None:
    injection = propose_envelope(scene, np.random.default_rng(seed), None)
    assert injection is not None
    (by,) = columns_of(injection.changes[0].to)
    top, n = scene.engine.rows(f'select max(k), sum(k) from (select count(*) as k from decisions group by "{by}")')[0]

    assert top <= 0.1 * n


def test_a_number_beyond_training_is_a_gap_only_if_what_was_told_of_it_did_not_come_true(scene: Scene) -> None:
    with struck(scene, *inject_envelope("km", 900.0, 40.0, "kg")) as made:
        (gap,) = found(made, [GAP])
        assert gap.parameters["outside"].startswith("features.km > ")
        true = "hash(id) % 10000 < 10000 * score as label"
        made.engine.view("decisions", f"select * replace ({true}) from ({_view(made)})")

        assert named(replace(made, kept={}), [GAP]) == []


def _view(scene: Scene) -> str:
    return view_sql(scene.engine, "decisions").partition(" AS ")[2].rstrip().rstrip(";")


def test_others_who_ask_are_a_reason_to_complain_only_if_decisions_cost_more_since(scene: Scene) -> None:
    look, action = residuals(scene), list(scene.bundle.policy.actions).index("quiet") + 1
    late = look.at >= np.median(look.at)
    wrong = replace(look, action=np.where(late & (look.label > 0), action, look.action))

    assert abs(_dearer(scene, look, float(np.median(look.at))) or 9.0) < WORSE
    assert (_dearer(scene, wrong, float(np.median(look.at))) or 0.0) > WORSE
    assert _dearer(scene, replace(look, label=np.full(len(late), np.nan)), float(np.median(look.at))) is None


def test_what_comes_often_begins_there_and_not_at_the_odd_row_before() -> None:
    shows = np.zeros(5000, dtype=bool)
    shows[[40, 900]] = True
    shows[3000::20] = True

    assert rises(shows)[0] == 3000
    assert rises(shows)[1] > 12
    assert rises(np.arange(5000) % 50 == 0)[1] == 0
    assert rises(np.zeros(9, dtype=bool)) == (0, 0.0)


def test_one_absurd_row_in_training_does_not_widen_the_envelope_and_one_decision_is_no_turn(scene: Scene) -> None:
    look = residuals(scene)
    odd = look.score.copy()
    odd[0] = 1e-9

    assert turn_of(replace(scene, kept={"residuals": replace(look, score=odd)})) is None


def test_a_map_of_log_odds_is_fitted_back_from_what_happened() -> None:
    random = np.random.default_rng(1)
    odds = random.normal(-1, 1.5, 40_000)
    label = (random.random(len(odds)) < said(odds, (0.6, 0.5))).astype(float)

    assert recalibrated(odds, label) == pytest.approx((0.6, 0.5), abs=0.06)


def test_scores_of_one_class_have_no_ranking() -> None:
    assert np.isnan(auc_of(np.ones(5), np.arange(5.0)))
    assert auc_of(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 2.0, 2.0, 3.0])) == pytest.approx(0.875)


def test_slices_that_differ_anyway_make_no_step() -> None:
    random = np.random.default_rng(2)
    noise = random.normal(0, 5, (200, 48))
    calm = steps_of(noise, np.ones((200, 48)))
    moved = steps_of(noise + 40.0 * (np.arange(48) >= 30), np.ones((200, 48)))

    assert np.abs(calm.z).max() < 6
    assert (moved.begins[np.abs(moved.z).argmax(axis=1)] == 30).all()


def test_a_value_too_large_to_be_squared_makes_no_step() -> None:
    absurd = np.zeros((1, 48))
    absurd[0, 20] = 1e300

    assert not steps_of(absurd, np.ones((1, 48))).z.any()
