"""How often the same look cries wolf where nobody complained: measured, said, and silent where it always does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from underhood.faults import KINDS
from underhood.faults.kinds import BESIDE, RECORD, Injection, Kind, Ruling, Scene, Suspect
from underhood.faults.values import VALUE_KINDS, inject_value
from underhood.faults.vectors import DEFAULT, inject_default
from underhood.plan.exprs import col
from underhood.repair.bench import survey
from underhood.repair.catches import quiet_scene
from underhood.repair.causes import diagnose, weigh
from underhood.repair.clone import Reach, strike
from underhood.repair.decided import mean, view_sql
from underhood.repair.diagnosis import Diagnosis
from underhood.repair.drill import complained
from underhood.repair.meaning import Meaning
from underhood.repair.quiet import Quiet, quiet_times
from underhood.repair.workbench import Workbench

SINCE = datetime(2024, 3, 24)


@pytest.fixture
def scene(right_bench: Workbench) -> Iterator[Scene]:
    quiet = quiet_scene(right_bench)
    rows = quiet.engine.rows(f"select id from decided where asked_at >= '{SINCE}' order by id limit 5")
    mean(quiet.engine, [i for (i,) in rows], quiet.bundle.name)
    yield replace(quiet, n_bad=5)
    mean(quiet.engine, (), quiet.bundle.name)


def kind(times: list[tuple[int, int]], is_told: bool, stage: int = 3) -> Kind:
    """A kind that tells of everything, or only where decisions since SINCE are to be seen; notes what it was shown."""

    def suspect(scene: Scene) -> Ruling:
        n, bad, last = scene.engine.rows("select count(*), count(*) filter (where bad), max(asked_at) from decisions")[
            0
        ]
        times.append((n, bad))
        if not is_told and last < SINCE:
            return Ruling("drill", (), "all is as it was")
        return Ruling("drill", (Suspect("drill", "part", "it is so", "select 1", (), since=str(SINCE)),))

    return Kind("drill", "a drill", stage, lambda: (), suspect, lambda: ())


def diagnosed(scene: Scene, *kinds: Kind) -> Diagnosis:
    ids = [i for (i,) in scene.engine.rows("select id from decisions where bad order by id")]
    return diagnose(replace(scene, kept={}), Meaning(ids=tuple(ids)), kinds)


def test_what_any_complaint_would_have_told_is_ruled_out_with_its_rate(scene: Scene) -> None:
    shown: list[tuple[int, int]] = []
    found = diagnosed(scene, kind(shown, True))

    assert found.causes == ()
    assert "nothing out of the ordinary: of 8 complaints made up about the quiet time before" in found.rulings[0].says
    assert "tells of it in 8" in found.rulings[0].says
    assert {bad for _, bad in shown} == {5}


def test_what_quiet_times_never_show_stays_with_its_rate(scene: Scene) -> None:
    shown: list[tuple[int, int]] = []
    found = diagnosed(scene, kind(shown, False))

    assert [c.quiet for c in found.causes] == [Quiet(8, 0)]
    assert sorted({n for n, _ in shown[1:]}) == [n for n, _ in shown[1:]]  # each looks at more of the past


@pytest.mark.slow
def test_the_rate_stands_beside_the_cause(scene: Scene) -> None:
    change = inject_value("km", col("row.km") * 10)
    with strike(scene, Injection("drill", change), Reach(SINCE)) as made:
        _, named, told = complained(made, SINCE)
        mean(made.engine, named, made.bundle.name)
        made = replace(made, n_bad=len(named), told=told, kept={})
        found = diagnose(made, Meaning(ids=named, told=told), KINDS)

        assert (found.verdict, found.causes[0].suspect.kind) == ("cause", "unit change")
        assert "False alarms: of " in found.says
        assert found.causes[0].quiet is not None
        assert (found.causes[0].quiet.tried > 0, found.causes[0].quiet.told) == (True, 0)


@pytest.mark.slow
def test_of_a_contradiction_quiet_times_are_looked_at_for_contradictions_alone(scene: Scene) -> None:
    depths: list[int] = []

    def suspect(scene: Scene) -> Ruling:
        depths.append(scene.depth)
        return Ruling("drill", (), "all is as it was")

    looks = Kind("drill", "a drill", 1, lambda: (), suspect, lambda: ())
    with strike(scene, Injection("drill", inject_value("km", col("row.km") * 10)), Reach(SINCE)) as made:
        _, named, _ = complained(made, SINCE)
        mean(made.engine, named, made.bundle.name)
        made = replace(made, n_bad=len(named), kept={})
        told = Suspect("unit change", "part", "it is so", "select 1", (), since=str(SINCE))
        for columns, is_fact, depth in ((["km"], True, RECORD), (["km"], False, BESIDE), (["kg"], True, BESIDE)):
            depths.clear()
            quiet_times(made, looks, replace(told, parameters={"columns": columns}), is_fact)
            assert set(depths) == {depth}


@pytest.mark.slow
def test_what_a_value_served_wrong_looks_like_is_told_as_its_child(scene: Scene) -> None:
    far = col("row.km") > 100
    told = Suspect("drill", "part", "km is beyond all", "select 1", (), far, str(SINCE), {"columns": ["km"]})
    other = replace(told, says="kg is beyond all", where=col("row.kg") > 1, parameters={"columns": ["kg"]})
    looks = Kind("drill", "a drill", 3, lambda: (), lambda s: Ruling("drill", (told, other)), lambda: ())
    with strike(scene, Injection("drill", inject_value("km", col("row.km") * 10)), Reach(SINCE)) as made:
        _, named, _ = complained(made, SINCE)
        mean(made.engine, named, made.bundle.name)
        made = replace(made, n_bad=len(named), kept={})
        _, causes = weigh(made, survey(made), [*VALUE_KINDS, looks], listens=False)

    assert [c.suspect.says for c in causes if c.suspect.kind == "drill"] == ["kg is beyond all"]
    assert any(c.suspect.kind == "unit change" for c in causes)


def test_looking_at_quiet_times_leaves_the_views_as_they_were(scene: Scene) -> None:
    was = [view_sql(scene.engine, name) for name in ("decisions", "asks")]
    quiet_times(scene, kind([], True), Suspect("drill", "part", "it is so", "select 1", (), since=str(SINCE)))

    assert [view_sql(scene.engine, name) for name in ("decisions", "asks")] == was
    assert scene.engine.rows("select count(*) from decisions where bad") == [(5,)]


def test_what_lists_scores_that_are_not_the_models_still_lists_them_after_a_look_at_quiet_times(scene: Scene) -> None:
    with strike(scene, Injection("drill", inject_default(0.5)), Reach(SINCE)) as made:
        _, named, told = complained(made, SINCE)
        mean(made.engine, named, made.bundle.name)
        made = replace(made, n_bad=len(named), told=told, kept={})
        (suspect,) = DEFAULT.suspect(made).suspects
        was = made.engine.rows(suspect.evidence)
        quiet_times(made, DEFAULT, suspect, is_fact=True)

        assert len(was) > 5
        assert made.engine.rows(suspect.evidence) == was


def test_without_an_onset_there_is_no_quiet_time_before_it(scene: Scene) -> None:
    always = Suspect("drill", "part", "it is so", "select 1", ())
    early = replace(always, since=str(datetime(2020, 1, 1)))

    assert [quiet_times(scene, kind([], True), s) for s in (always, early)] == [Quiet(0, 0), Quiet(0, 0)]
    assert Quiet(0, 0).says == ""
    assert (Quiet(8, 1).is_usual, Quiet(8, 2).is_usual, Quiet(2, 1).is_usual) == (False, True, False)


def test_outcomes_that_never_came_as_they_should_are_no_news_and_a_contradiction_is(scene: Scene) -> None:
    contradiction = kind([], True, stage=2)
    (suspect,) = contradiction.suspect(scene).suspects
    outcomes = replace(contradiction, suspect=lambda _: Ruling("drill", (replace(suspect, part="outcomes"),)))

    assert diagnosed(scene, outcomes).causes == ()
    assert [c.quiet for c in diagnosed(scene, contradiction).causes] == [Quiet(4, 4)]
