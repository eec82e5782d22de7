"""Values wrong in their source are told by what was asked before: form, parameters, cohort, onset; drift is not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.build.trainset import open_training, settle_predicate, settle_value
from underhood.faults.forms import decimals_lost, mark_again, number_form, over_decimals, text_form
from underhood.faults.kinds import Injection, Scene, Suspect
from underhood.faults.moved import drifted, looked, moved_values
from underhood.faults.moved_drills import _weights
from underhood.faults.moved_few import past_of
from underhood.faults.moved_forms import missing_move, number_moves
from underhood.faults.moved_shown import is_steady, piled
from underhood.faults.moved_texts import text_moves
from underhood.faults.moved_times import time_moves
from underhood.faults.sides import open_sides, side_by_side
from underhood.faults.values import VALUE_KINDS, _moved_suspect
from underhood.plan.changes import SOURCE, Change
from underhood.plan.exprs import Expr, col, least, substitute, typed, wrap
from underhood.plan.operations import NUMBER, TEXT
from underhood.plan.render import quoted, to_python, to_sql
from underhood.repair import workbench as uh
from underhood.repair.cases import mean
from underhood.repair.clone import Reach, strike
from underhood.repair.workbench import Workbench

SINCE = datetime(2024, 3, 22, 12)
RANDOM = np.random.default_rng(11)
PRICES = np.round(RANDOM.gamma(4, 9, 4000), 2)
BEFORE, LATER = PRICES[:2000], PRICES[2000:]


@pytest.fixture(scope="module")
def scene(right_bench: Workbench) -> Iterator[Scene]:
    engine, bundle = right_bench.engine, uh.deployed(right_bench)
    assert right_bench.n_decisions > 1000
    mean(engine, (), bundle.name)
    open_training(engine, right_bench.record, bundle.made_from["training"])
    yield Scene(engine, right_bench.record, right_bench.plan, bundle, 0)
    mean(engine, ())


@contextmanager
def struck(scene: Scene, *changes: Change, share: float = 1.0) -> Iterator[Scene]:
    """The scene with a fault since SINCE; a complaint names five decisions that it touched."""
    touched = changes[0].where
    where = f"asked_at >= TIMESTAMP '{SINCE}'"
    where += f" and {to_sql(typed(touched, schema(scene), 'test')[0])}" if touched is not None else ""
    name = quoted(f"row.{changes[0].name}")
    with strike(scene, Injection("test", changes), Reach(SINCE, share=share)) as broken:
        rows = broken.engine.rows(
            f"select d.id from decisions d join sound s using (id) where {where.replace('asked_at', 'd.asked_at', 1)} "
            f"and d.{name} is distinct from s.{name} order by hash(d.id) limit 5"
            if touched is None
            else f"select id from decisions where {where} order by hash(key) limit 5"
        )
        mean(broken.engine, [i for (i,) in rows], broken.bundle.name)
        yield replace(broken, n_bad=5, kept={})


def schema(scene: Scene) -> dict[str, str]:
    return {f"row.{c}": k for c, k in scene.plan.inputs.items()} | {"asked_at": "time", "key": "text"}


def suspects(scene: Scene) -> list[Suspect]:
    return [s for kind in VALUE_KINDS for s in kind.suspect(scene).suspects]


def restored(scene: Scene, suspect: Suspect) -> float:
    """The share of decisions whose input is again what it was before the fault, of those that it had changed."""
    change = suspect.undo[0]
    name = quoted(f"row.{change.name}")
    to = to_sql(settle_value(scene.plan, change.name, wrap(change.to)))
    where = to_sql(settle_predicate(scene.plan, change.where)) if change.where is not None else "true"
    undone = f"select * replace (case when {where} then {to} else {name} end as {name}) from decisions"
    sql = (
        f"select avg((abs(u.{name} - s.{name}) < 1e-6)::INT) from ({undone}) u join sound s using (id) "
        f"join decided d using (id) where d.{name} <> s.{name}"
    )
    return float(scene.engine.rows(sql)[0][0])


KG, JAM, DISTRICT = col("row.kg"), col("row.jam"), col("row.district")
MOVED = {
    "unit change": ("kg", KG * 100, {"factor": 100.0}),
    "shift": ("kg", KG + 25, {"shift": 25.0}),
    "clipped": ("kg", least(KG, 5.0), {"at": 5.0}),
    "frozen column": ("kg", 6.5, {"value": 6.5}),
    "precision loss": ("jam", (JAM / 20).then("floor") * 20, {"step": 20.0, "way": "down"}),
    "decimal comma": ("kg", (KG * 10).then("round"), {}),
    "category spelling": ("district", DISTRICT.then("upper"), {}),
    "category rename": ("district", DISTRICT.map({"Westend": "W7"}).fill(DISTRICT), {"levels": {"Westend": "W7"}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in MOVED if k != "decimal comma"])
def test_a_value_that_is_wrong_in_its_source_is_told_with_its_parameters_and_onset(kind: str, scene: Scene) -> None:
    column, to, parameters = MOVED[kind]
    with struck(scene, Change(SOURCE, column, to)) as broken:
        found = suspects(broken)

        assert [s.kind for s in found] == [kind]
        assert found[0].parameters.items() >= {"columns": [column], **parameters}.items()
        onset = datetime.fromisoformat(found[0].since)
        assert abs((onset - SINCE).total_seconds()) < 36 * 3600
        if kind in ("unit change", "shift"):
            assert restored(broken, found[0]) > 0.95


@pytest.mark.slow
def test_a_fault_of_one_cohort_is_told_with_that_cohort(scene: Scene) -> None:
    with struck(scene, Change(SOURCE, "kg", KG * 0.01, col("row.depot") == "OAK")) as broken:
        found = suspects(broken)

        assert [s.kind for s in found] == ["unit change"]
        assert found[0].parameters["factor"] == 0.01
        assert "depot is 'OAK'" in found[0].says
        assert restored(broken, found[0]) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_what_a_flag_has_come_to_be_is_told_as_a_flag(value: float, scene: Scene) -> None:
    with struck(scene, Change(SOURCE, "kg", KG * 1000), share=0.03) as broken:
        (few,) = moved_values(broken).moves
        form = replace(few.form, kind="frozen column", undo=None, parameters={"value": value})
        rows = col("row.fragile") == value
        found = _moved_suspect(broken, replace(few, columns=("fragile",), form=form, rows=rows, usual=None))
        where = to_sql(settle_predicate(broken.plan, found.where))
        shown = broken.engine.rows(f'select distinct "row.fragile" from decisions where {where}')

    assert shown == [(bool(value),)]


@pytest.mark.slow
def test_a_canary_of_two_in_a_hundred_is_told_by_values_that_never_were(scene: Scene) -> None:
    with struck(scene, Change(SOURCE, "kg", KG * 1000), share=0.03) as broken:
        found = suspects(broken)

        assert [(s.kind, s.parameters["factor"]) for s in found] == [("unit change", 1000.0)]
        assert restored(broken, found[0]) > 0.8


@pytest.mark.slow
def test_two_columns_in_each_others_place_are_told_together(scene: Scene) -> None:
    with struck(scene, Change(SOURCE, "kg", col("row.km")), Change(SOURCE, "km", KG)) as broken:
        found = suspects(broken)

        assert [s.kind for s in found] == ["column swap"]
        assert set(found[0].parameters["columns"]) == {"kg", "km"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_any_complaint_about_a_sound_system_finds_no_moved_value(seed: int, scene: Scene) -> None:
    rows = scene.engine.rows(f"select id from decisions order by hash(id || '{seed}') limit 5")
    mean(scene.engine, [i for (i,) in rows], scene.bundle.name)
    scene = replace(scene, n_bad=5, kept={})

    assert suspects(scene) == []
    assert all(d.effect > 0 and d.since for d in drifted(scene))


def test_inputs_without_one_number_and_a_training_of_other_questions_are_laid_side_by_side_too(scene: Scene) -> None:
    plan = replace(scene.plan, inputs={c: k for c, k in scene.plan.inputs.items() if k != NUMBER})
    name = scene.bundle.made_from["training"]
    kept = scene.engine.table("select * replace ('another ' || key as key) from training")
    scene.engine.adopt("other questions", kept)
    try:
        scene.engine.view("training", 'select * from "other questions"')
        found = open_sides(replace(scene, plan=plan, kept={}))
    finally:
        open_training(scene.engine, scene.record, name)

    assert found is not None
    assert set(found.columns) <= set(plan.inputs)


def test_inputs_are_drawn_from_in_the_same_order_by_every_process(scene: Scene) -> None:
    # a set of names is in another order in each process
    sum_of_all = KG + col("row.km") + col("row.jam") + col("row.hour")
    feature = substitute(sum_of_all, {f"row.{c}": col(c) for c in ("kg", "km", "jam", "hour")})
    name = next(iter(scene.bundle.features))
    weights = _weights(replace(scene, bundle=replace(scene.bundle, features={**scene.bundle.features, name: feature})))

    together = [c for c in weights if c in ("hour", "jam", "kg", "km")]
    assert together == sorted(together)


# --- forms of two crowds ---


def forms_of(before: np.ndarray, after: np.ndarray) -> list[tuple[str, dict[str, object]]]:
    past = past_of(before, 0.01)
    return [(f.form.kind, dict(f.form.parameters)) for f in number_moves("x", before, after, past)]


@pytest.mark.parametrize("carriers", ["AB", "ABC"])
def test_a_cap_that_can_show_only_in_one_cohort_holds_for_all_unless_others_go_beyond_it(carriers: str) -> None:
    random, n = np.random.default_rng(5), 9_000
    carrier = random.choice(list("ABCDE"), n)
    far = np.where(np.isin(carrier, list("ABC")), random.uniform(100, 900, n), random.uniform(1000, 2000, n))
    capped = (np.arange(n) >= 7_000) & np.isin(carrier, [*carriers, "D", "E"])
    joined = {"carrier": carrier.astype(object), "far": np.round(np.where(capped, np.maximum(far, 450.0), far))}
    bad = np.isin(np.arange(3_000), np.flatnonzero((joined["far"] == 450) & capped)[-5:] - 6_000)
    sides = side_by_side(np.arange(n) * 60.0, 6_000, bad, {"carrier": TEXT, "far": NUMBER}, joined, {"far"})
    (moved,) = looked(sides).moves

    assert (moved.form.kind, moved.form.parameters["at"]) == ("clipped", 450)
    assert (moved.whom.where is None) == (carriers == "ABC")


def test_what_is_missing_by_the_hour_is_more_only_if_more_hours_are() -> None:
    hours = np.arange(6_000) // 40
    before = np.isin(hours, np.arange(0, 150, 11))
    by_row = np.random.default_rng(3).random(400) < 0.24

    assert missing_move("x", before, np.isin(hours[:400], [1, 5])) is None
    assert missing_move("x", before, by_row) is not None


def test_the_next_larger_value_of_an_hours_figure_is_no_value_that_stands_in_for_others() -> None:
    random, n = np.random.default_rng(2), 9_000
    warm = np.clip(np.round(random.normal(60, 4, 150)), 50, 68)[np.arange(n) // 60]
    hot = np.isin(np.arange(n) // 60, [139, 141])
    bad = np.isin(np.arange(3_000), np.flatnonzero(hot)[::25] - 6_000)
    for value, found in ((69.0, []), (999.0, ["sentinel fill"])):
        joined = {"warm": np.where(hot, value, warm)}
        sides = side_by_side(np.arange(n) * 60.0, 6_000, bad, {"warm": NUMBER}, joined, {"warm"})

        assert [m.form.kind for m in looked(sides).moves] == found


def test_a_count_that_grew_out_of_its_past_and_then_came_in_another_unit_is_told_by_its_multiples() -> None:
    random, n = np.random.default_rng(4), 9_000
    made = np.round(np.clip(np.arange(n) / 10, 300, 700) + random.normal(0, 30, n))
    made = np.where(np.arange(n) >= 7_500, np.round(made * 0.7) * 60, made)
    bad = np.isin(np.arange(3_000), [1_600, 2_000, 2_400, 2_500, 2_900])
    sides = side_by_side(np.arange(n) * 60.0, 6_000, bad, {"made": NUMBER}, {"made": made}, {"made"})
    (moved,) = looked(sides).moves

    assert (moved.form.kind, moved.form.parameters["factor"]) == ("unit change", 60)


@pytest.mark.parametrize("level", ["B", 14.0])
def test_a_level_that_the_past_lacks_and_decisions_have_from_the_first_on_is_none_that_broke(level: object) -> None:
    random, n = np.random.default_rng(7), 12_000
    own = {"carrier": random.choice(list("ABCD"), n).astype(object), "hour": random.integers(5, 23, n) + 0.0}
    name = "carrier" if level == "B" else "hour"
    told = []
    for since in (6_000, 9_000):
        lacks = (own[name] == level) & (np.arange(n) < since)
        joined = {c: v[~lacks] for c, v in own.items()}
        at, kept = np.flatnonzero(~lacks) * 60.0, int((~lacks[:6_000]).sum())
        bad = np.isin(np.arange(len(at) - kept), np.flatnonzero(joined[name][kept:] == level)[-50::10])
        sides = side_by_side(at, kept, bad, {"carrier": TEXT, "hour": NUMBER}, joined, set(own))
        told.append([m.columns for m in looked(sides).moves])

    assert told == [[], [(name,)]]


def test_two_draws_of_one_crowd_have_no_form() -> None:
    assert forms_of(BEFORE, LATER) == []


@pytest.mark.parametrize("factor", [100.0, 0.01, 1000.0, 12.0])
def test_a_crowd_in_another_unit_is_named_by_its_factor(factor: float) -> None:
    kind, parameters = forms_of(BEFORE, LATER * factor)[0]

    assert (kind, parameters["factor"]) == ("unit change", pytest.approx(factor))


def test_one_absurd_value_changes_nothing() -> None:
    odd = LATER.copy()
    odd[7] = 1e12

    assert forms_of(BEFORE, odd) == []


def test_a_code_value_in_some_rows_is_told_from_a_cap() -> None:
    coded = np.where(np.arange(2000) % 5 < 2, -999.0, LATER)

    assert forms_of(BEFORE, coded)[0] == ("sentinel fill", {"value": -999.0})
    assert forms_of(BEFORE, np.minimum(LATER, 30.0))[0] == ("clipped", {"at": 30.0})


def test_one_value_beyond_all_that_was_is_no_cap() -> None:
    hours = np.arange(2000) % 24.0
    beyond = np.where(np.arange(2000) % 40 == 0, 31.5, 25.1)

    assert "clipped" not in [kind for kind, _ in forms_of(hours[:1000], beyond)]


def test_overlooked_decimal_marks_are_told_from_a_unit() -> None:
    assert forms_of(BEFORE, decimals_lost(LATER))[0] == ("decimal comma", {"factor": 100.0})
    assert forms_of(BEFORE, LATER * 100)[0][0] == "unit change"


def test_missing_values_are_told_before_all_else() -> None:
    gone = np.where(np.arange(2000) % 2 == 0, np.nan, LATER)

    assert [k for k, _ in forms_of(BEFORE, gone)] == ["missing values"]


def test_a_clock_that_is_off_is_told_from_another_zone() -> None:
    waits = RANDOM.uniform(3600, 7200, 2000)

    (zone,) = time_moves("t", waits[:1000], waits[1000:] + 7200)
    (clock,) = time_moves("t", waits[:1000], waits[1000:] + 5220)
    assert (zone.form.kind, clock.form.kind) == ("time zone", "clock skew")


def text_kind(change: dict[str, str]) -> str:
    levels = ["North", "South", "West", "East"]
    named = [*levels, *sorted(set(change.values()) - set(levels))]
    old = RANDOM.choice(4, 3000, p=[0.4, 0.3, 0.2, 0.1])
    new = [named.index(change.get(levels[n], levels[n])) for n in RANDOM.choice(4, 3000, p=[0.4, 0.3, 0.2, 0.1])]
    found = list(
        text_moves("c", old.astype(float), np.array(new, float), named, np.bincount(old, minlength=len(named)))
    )
    return found[0].form.kind if found else ""


def test_levels_under_other_names_are_told_by_what_became_of_them() -> None:
    assert text_kind({}) == ""
    assert text_kind({"South": "SOUTH "}) == "category spelling"
    assert text_kind({"South": "K7"}) == "category rename"
    assert text_kind({"South": "West"}) == "category merge"


def test_a_level_that_never_was_is_no_other_name_of_one_that_stays_though_rarer() -> None:
    levels = ["clear", "mist", "rain", "N8"]
    old = RANDOM.choice(4, 3000, p=[0.71, 0.23, 0.06, 0]).astype(float)
    new = np.where(np.arange(3000) % 4 == 0, 3.0, RANDOM.choice(3, 3000, p=[0.57, 0.37, 0.06]))
    (found,) = text_moves("sky", old, new, levels, np.bincount(old.astype(int), minlength=4).astype(float))

    assert (found.form.kind, found.form.parameters["levels"]) == ("new level", ["N8"])


def test_levels_that_are_gone_are_those_under_other_names_whatever_became_rarer_beside_them() -> None:
    levels = ["clear", "mist", "rain", "K5", "rain-new"]
    old = RANDOM.choice(5, 3000, p=[0.74, 0.21, 0.05, 0, 0]).astype(float)
    new = RANDOM.choice(5, 3000, p=[0.57, 0, 0, 0.35, 0.08]).astype(float)
    (found,) = text_moves("sky", old, new, levels, np.bincount(old.astype(int), minlength=5).astype(float))

    assert (found.form.kind, found.form.parameters["levels"]) == ("category rename", {"mist": "K5", "rain": "rain-new"})


def test_a_few_rows_of_one_level_that_come_as_a_seldom_one_are_merged_with_it() -> None:
    levels = ["North", "South", "Isle"]
    old = RANDOM.choice(3, 4000, p=[0.6, 0.395, 0.005]).astype(float)
    new = np.where((np.arange(4000) % 15 == 0) & (old[::-1] == 0), 2.0, old[::-1])
    (found,) = text_moves("c", old, new, levels, np.bincount(old.astype(int), minlength=3).astype(float))

    assert (found.form.kind, found.form.parameters["levels"]) == ("category merge", {"North": "Isle"})


def test_of_two_levels_one_that_is_left_has_taken_the_other() -> None:
    old, new = RANDOM.choice(2, 3000, p=[0.6, 0.4]).astype(float), np.zeros(3000)
    (found,) = text_moves("sky", old, new, ["clear", "mist"], np.bincount(old.astype(int)).astype(float))

    assert (found.form.kind, found.form.parameters["levels"]) == ("category merge", {"mist": "clear"})


def test_new_levels_that_hold_the_name_of_one_that_is_gone_are_its_own_though_a_season_took_most_of_it() -> None:
    levels = ["open", "paid", "paid 1", "paid 2"]
    old = np.repeat([0.0, 1.0], [1900, 500])
    new = np.random.default_rng(5).permutation(np.repeat([0.0, 2.0, 3.0], [3800, 45, 32]))
    found, *_ = text_moves("how", old, new, levels, np.bincount(old.astype(int), minlength=4).astype(float))

    assert (found.form.kind, found.form.parameters["levels"]) == ("category split", {"paid": ["paid 1", "paid 2"]})


def test_a_new_level_is_the_only_one_that_lost_as_many_though_a_seldom_one_went_with_the_season() -> None:
    levels = ["alone", "by contract", "in groups", "K9"]
    old = np.repeat([0.0, 1.0, 2.0], [696, 27, 36])
    new = np.random.default_rng(5).permutation(np.repeat([1.0, 2.0, 3.0], [1, 56, 253]))
    found, *_ = text_moves("who", old, new, levels, np.bincount(old.astype(int), minlength=4).astype(float))

    assert (found.form.kind, found.form.parameters["levels"]) == ("category rename", {"alone": "K9"})


def text_found(change: dict[str, list[str]], also: str = "") -> dict[str, dict[str, object]]:
    """The forms of a crowd whose levels became others (several: by turns), while a new one grows beside them."""
    levels = ["North", "South", "East", "West"]
    named = list(dict.fromkeys([*levels, *(v for to in change.values() for v in to), *([also] if also else [])]))
    random = np.random.default_rng(3)
    old, new = (random.choice(4, 3000, p=[0.4, 0.3, 0.2, 0.1]) for _ in range(2))
    now = [change.get(levels[n], [levels[n]])[k % len(change.get(levels[n], [""]))] for k, n in enumerate(new)]
    now = [also if also and k % 20 == 0 else v for k, v in enumerate(now)]
    after = np.array([named.index(v) for v in now], float)
    found = text_moves("c", old.astype(float), after, named, np.bincount(old, minlength=len(named)).astype(float))
    return {f.form.kind: dict(f.form.parameters) for f in found}


def test_a_level_that_is_new_by_itself_stands_for_none_that_is_gone() -> None:
    assert text_found({"West": ["K7"]}, "Isle")["category rename"] == {"levels": {"West": "K7"}}
    assert text_found({"East": ["East 1", "East 2"]}, "Isle")["category split"] == {
        "levels": {"East": ["East 1", "East 2"]}
    }
    assert text_found({"West": ["west"], "East": ["east"]}, "Isle")["category spelling"] == {
        "levels": {"West": "west", "East": "east"}
    }


def test_of_several_new_levels_each_is_told_alone_and_takes_no_level_that_is_still_there() -> None:
    levels = ["North", "South", "East", "West", "N41", "Isle"]
    random = np.random.default_rng(4)
    old = random.choice(4, 3000, p=[0.4, 0.3, 0.2, 0.1])
    new = random.choice(6, 3000, p=[0.324, 0.243, 0.162, 0.081, 0.15, 0.04])
    seen = np.bincount(old, minlength=6).astype(float)
    found = list(text_moves("c", old.astype(float), new.astype(float), levels, seen))

    assert "category rename" not in {f.form.kind for f in found}
    assert found[0].form.parameters["levels"] == ["N41"]


def test_a_level_that_comes_as_another_is_told_beside_one_that_is_new_by_itself() -> None:
    assert text_found({"West": ["East"]}, "Isle")["category merge"] == {"levels": {"West": "East"}}


# --- inject and undo ---


@settings(max_examples=40)
@given(st.floats(0.001, 1000).map(lambda f: float(f"{f:.3g}")), st.floats(-1e5, 1e5).filter(lambda v: abs(v) > 1e-3))
def test_what_a_factor_does_its_undo_takes_back(factor: float, value: float) -> None:
    undone = computed((col("row.x") * factor) / factor, value)

    assert undone == pytest.approx(value)


@settings(max_examples=40)
@given(st.integers(1, 99_999))
def test_what_a_lost_decimal_mark_does_is_taken_back_above_the_usual_range(cents: int) -> None:
    value = cents / 100
    lost = float(decimals_lost(np.array([value]))[0])

    if lost > 1000:
        back = computed(over_decimals("x", 1000.0), lost)
        assert back in (pytest.approx(lost / 10), pytest.approx(lost / 100))


@pytest.mark.parametrize(("lost", "was"), [(1255, 12.55), (120, 120.0), (500000, 500000.0)])
def test_where_all_lost_their_mark_a_last_zero_tells_what_was_whole(lost: int, was: float) -> None:
    assert computed(mark_again("x", 100.0), lost) == pytest.approx(was)


def computed(expr: Expr, value: float) -> float:
    settled, _ = typed(expr, {"row.x": "number"}, "test")
    return float(to_python({"v": settled})({"row.x": value})["v"])


def test_every_row_shows_a_mark_that_all_have_lost() -> None:
    found = next(number_moves("x", BEFORE, decimals_lost(LATER), past_of(BEFORE, 0.01)))

    assert found.form.kind == "decimal comma"
    assert found.shows(decimals_lost(LATER)).all()


def test_the_decimals_of_large_sums_are_decimals_too() -> None:
    sums = np.array([84850.85, 77183.55, 0.1 + 0.2, 1234.5 + 0.06])

    assert decimals_lost(sums).tolist() == [8485085, 7718355, 3, 123456]


def test_lost_decimal_marks_are_told_row_by_row_too() -> None:
    form = number_form("x", decimals_lost(BEFORE), BEFORE, np.array([]))

    assert form is not None
    assert form.kind == "decimal comma"


def test_a_level_that_comes_as_several_is_told_and_taken_back() -> None:
    again = np.array(["A", "B"] * 50, dtype=object)
    served = np.array([f"{a}{n % 3}" for n, a in enumerate(again)], dtype=object)
    form = text_form("c", served, again)

    assert form is not None
    assert form.kind == "category split"
    assert form.undo is not None


def test_a_figure_that_has_another_value_every_day_piles_up_in_no_stretch_of_days() -> None:
    by_day = np.repeat(np.random.default_rng(1).permutation(60), 150).astype(float)

    assert piled(by_day, 1200) < 0.01
    assert piled(np.where(np.arange(9000) // 1500 == 3, 7.5, by_day), 1200) > 0.8


def test_what_a_day_showed_is_not_steady_and_what_goes_on_is() -> None:
    random = np.random.default_rng(2).random(4000)

    assert is_steady(random < 0.02)
    assert is_steady((random < 0.02) & (np.arange(4000) > 2500))
    assert not is_steady((random < 0.2) & (np.arange(4000) // 400 == 3))


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_value_of_which_spells_were_always_made_is_not_filled_in_for_another_spell(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, kept = 12_000, 9_000
    ends = np.cumsum(random.integers(40, 500, 200))
    is_hazy = np.searchsorted(ends, np.arange(n)) % 2 == 0
    is_hazy[kept : kept + 300], is_hazy[kept + 300 :] = True, False
    seen = random.integers(1, 10, n).astype(float)
    seen = np.where(is_hazy | (random.random(n) >= 0.9), seen, 10.0)
    bad = np.isin(np.arange(n - kept), [700, 900, 1_100, 1_300, 1_500])
    sides = side_by_side(np.arange(n) * 600.0, kept, bad, {"visib": NUMBER}, {"visib": seen}, {"visib"})

    assert looked(sides).moves == ()
