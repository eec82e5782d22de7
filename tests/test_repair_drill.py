"""A drill strikes a clone, never the record; what catches a fault is told with how late; lines to add were tried."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests import world
from underhood.contract.contract import Contract, freeze, parse_rule
from underhood.contract.rules import Key, OneOf, Range
from underhood.faults.kinds import Injection, Kind, Ruling, Scene
from underhood.ground.errors import ProjectError
from underhood.plan.changes import INPUT, SOURCE, THRESHOLD, TRAFFIC, Change
from underhood.plan.exprs import Expr, col, columns_of
from underhood.repair.catches import (
    CONTRACTS,
    Rules,
    Tried,
    breaks_pin,
    flagged_since,
    kinds_named,
    line_to_add,
    quiet_scene,
    run_drills,
    score_json,
    severities_named,
)
from underhood.repair.drill import NAMED, drill, some_cohort, struck_by
from underhood.repair.pin import Pin, read_pin, write_pin
from underhood.repair.promises import broken_since, contracts_of, offered_rules
from underhood.repair.replay import decision_from
from underhood.repair.workbench import Workbench

JAM = Range(column="jam", least=0, most=100)


def kind(*changes: Change, name: str = "made up", columns: tuple[str, ...] = ()) -> Kind:
    """A kind of fault that strikes exactly these changes."""

    def propose(scene: Scene, random: object, cohort: Expr | None) -> Injection:
        struck = tuple(replace(c, where=cohort) if cohort is not None else c for c in changes)
        return Injection(name, struck, columns, {}, cohort)

    return Kind(name, name, 1, lambda: (), lambda scene: Ruling(name, ()), lambda: (), propose)


JAMMED = kind(Change(SOURCE, "jam", col("row.jam") * 100), columns=("jam",))
MOVED = kind(Change(THRESHOLD, "call", 0.9))
ELSEWHERE = kind(Change(INPUT, "district", "Moon"), Change(INPUT, "kg", col("row.kg") * 4), columns=("district",))
DOUBLED = kind(Change(TRAFFIC, "doubled", 1))


@pytest.fixture(scope="module")
def drilled(right_built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """The right shop, decided, with a contract for the roads and a pin of decisions that must not be told 'text'."""
    project = world.copy_shop(right_built, tmp_path_factory.mktemp("drilled"))
    world.decide_shop(project)
    freeze(Contract("roads", (JAM,)), project.parent / "contracts" / "roads.toml")
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        rows = bench.engine.dicts("select * from decisions where action = 'call' order by id limit 20")
        made = [decision_from(row, bench.plan) for row in rows]
        asks = tuple({"key": d.key, "asked_at": d.asked_at, "row": dict(d.row)} for d in made)
        write_pin(project.parent, Pin("case-1", 1, "calls stay calls", "text", 0, asks))
        yield bench


@pytest.fixture(scope="module")
def scene(drilled: Workbench) -> Scene:
    return quiet_scene(drilled)


@pytest.fixture(scope="module")
def rules(drilled: Workbench, scene: Scene) -> Rules:
    return Rules(contracts_of(drilled, scene), offered_rules(scene, drilled.say))


def test_a_draw_that_does_not_fit_is_drawn_again_and_only_what_never_fits_cannot_be(drilled: Workbench) -> None:
    drawn = iter([None, JAMMED.propose, None, None])

    def propose(scene: Scene, random: np.random.Generator, cohort: Expr | None) -> Injection | None:
        one = next(drawn)
        return one and one(scene, random, cohort)

    picky = replace(JAMMED, propose=propose)
    scene = quiet_scene(drilled)
    with struck_by(scene, picky, "all", tries=2) as second:
        assert second is not None
        assert second.named
    with struck_by(scene, picky, "all", tries=2) as never:
        assert never is None


def test_a_contract_catches_a_struck_value_on_its_first_row(drilled, scene, rules):
    with struck_by(scene, JAMMED, "all") as struck:
        found = broken_since(struck, rules.own)
        first = drilled.engine.rows('select min(asked_at) from decided where "row.jam" > 100')[0][0]

    assert found == {("roads", JAM): first}
    assert first >= struck.since


def test_a_contract_is_silent_over_a_fault_that_it_says_nothing_about(scene, rules):
    with struck_by(scene, MOVED, "all") as struck:
        assert broken_since(struck, rules.own) == {}


@pytest.mark.slow
def test_decide_flags_a_level_that_training_never_saw(drilled, scene):
    with struck_by(scene, ELSEWHERE, "all") as struck:
        first = drilled.engine.rows("select min(asked_at) from decided where \"row.district\" = 'Moon'")[0][0]

        assert flagged_since(struck) == first

    with struck_by(scene, JAMMED, "all") as struck:
        assert flagged_since(struck) is None


def test_a_pin_sees_what_is_deployed_and_not_what_is_served_to_it(drilled, scene):
    pin = read_pin(drilled.project.folder / "pins" / "case-1.pin.json")

    with struck_by(scene, MOVED, "all") as struck:
        assert breaks_pin(struck, pin)
    with struck_by(scene, JAMMED, "all") as struck:
        assert not breaks_pin(struck, pin)


def test_the_line_to_add_is_silent_on_sound_rows_and_broken_by_struck_ones(drilled, scene, rules):
    with struck_by(scene, JAMMED, "all") as struck:
        line = line_to_add(struck, rules)
        assert line is not None
        body = tomllib.loads(f"rules = [{line.text}]")["rules"][0]
        rule = parse_rule(body, "line")
        low, high = rule.least, rule.most
        beyond = f'"row.jam" < {low} or "row.jam" > {high}'
        sound, hit = (
            drilled.engine.rows(f"select count(*) from {t} where {beyond}")[0][0] for t in ("sound", "decided")
        )

    assert line.file == "contracts/roads.toml"
    assert rule.columns == ("jam",)
    assert (sound, hit > 0) == (0, True)


def test_a_doubled_question_wants_a_key_in_the_contract_of_the_asked_table(scene, rules):
    with struck_by(scene, DOUBLED, "all") as struck:
        line = line_to_add(struck, rules)

    assert line is not None
    assert (line.file, line.text) == ("contracts/parcels.toml", '{ kind = "key", of = ["parcel"] },')


def test_where_no_rule_can_help_a_pin_of_the_complaint_is_offered(scene, rules):
    with struck_by(scene, MOVED, "all") as struck:
        line = line_to_add(struck, rules)

    assert line is not None
    assert (line.file, line.text) == ("pins/", "underhood pin")


def test_a_rule_that_sound_rows_break_too_is_never_offered(scene):
    wrong = {"roads": [Range(column="jam", least=0, most=10)], "parcels": [OneOf(column="depot", values=("OAK",))]}

    with struck_by(scene, JAMMED, "all") as struck:
        assert broken_since(struck, wrong) == {}


def test_rows_that_a_join_repeats_are_not_counted_against_the_source(scene):
    with struck_by(scene, DOUBLED, "all") as struck:
        assert broken_since(struck, {"roads": [Key(of=("depot",))]}) == {}


def test_a_cohort_is_one_level_and_a_canary_a_fiftieth_of_the_keys(drilled, scene):
    struck_rows = 'select count(*) from decided d join sound s using (id) where d."row.jam" <> s."row.jam"'

    with struck_by(scene, JAMMED, "cohort") as struck:
        (column,) = columns_of(struck.injection.cohort)
        levels = drilled.engine.rows(
            f'select count(distinct "{column}") from decided d join sound s using (id, "{column}") '
            'where d."row.jam" <> s."row.jam"'
        )[0][0]
    with struck_by(scene, JAMMED, "canary") as struck:
        n, of = drilled.engine.rows(struck_rows)[0][0], drilled.engine.rows("select count(*) from decided")[0][0]

    assert levels == 1
    assert 0 < n < 0.04 * of


def test_who_complains_was_turned_by_the_fault(drilled, scene):
    with struck_by(scene, MOVED, "all") as struck:
        listed = ", ".join(f"'{i}'" for i in struck.named)
        rows = drilled.engine.rows(
            f"select d.action, s.action from decided d join sound s using (id) where id in ({listed})"
        )

    assert len(rows) <= NAMED
    assert {now for now, _ in rows} == {struck.told}
    assert all(now != was for now, was in rows)


def test_a_fault_that_turns_nobody_is_drawn_again_and_then_has_no_complaint(scene):
    harmless = kind(Change(INPUT, "kg", col("row.kg")))

    with struck_by(scene, harmless, "all", tries=2) as struck:
        assert (struck.turned, struck.named) == (0, ())
    assert drill(scene, harmless, "all").found is None


def test_a_kind_that_cannot_be_made_here_is_none(scene):
    impossible = replace(MOVED, propose=lambda scene, random, cohort: None)

    assert drill(scene, impossible, "all") is None


def test_the_same_seed_gives_the_same_drill_and_another_one_another(scene):
    made = [drill(scene, kind(Change(SOURCE, "jam", col("row.jam") * 9)), "all", seed, ()) for seed in (1, 1, 2)]

    assert made[0].named == made[1].named
    assert made[0].since == made[1].since != made[2].since


def test_how_late_counts_from_the_first_decision_and_never_below_zero():
    at = datetime(2024, 3, 20)
    one = Tried("x", "", "all", "", at, 5, {"contracts": None, "watch": at + timedelta(days=2), "diagnosis": at}, None)
    two = replace(one, caught={**one.caught, "pins": at - timedelta(hours=1)})

    assert (one.by, one.late) == ("watch", timedelta(days=2))
    assert (two.by, two.late) == ("pins", timedelta())
    assert replace(one, caught={"diagnosis": at}).by == ""


def test_what_cannot_be_drilled_is_told_with_what_can():
    with pytest.raises(ProjectError, match="there is no kind 'gremlins' to drill"):
        kinds_named(["gremlins"])
    with pytest.raises(ProjectError, match=r"there is no severity 'huge'[\s\S]*all, cohort, canary"):
        severities_named(["huge"])


def test_a_cohort_is_a_fair_share_of_the_decisions(drilled, scene):
    cohort = some_cohort(scene, np.random.default_rng(3))
    (column,) = columns_of(cohort)
    shares = drilled.engine.rows(f'select count(*) / sum(count(*)) over () from decisions group by "{column}"')

    assert any(0.05 <= share <= 0.4 for (share,) in shares)


@pytest.mark.slow
def test_a_drill_tells_who_catches_what_and_leaves_the_record_as_it_was(drilled):
    def files() -> list[tuple[str, int, int]]:
        found = [p for p in drilled.project.folder.rglob("*") if p.is_file() and "state" not in p.name]
        return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in found if p.suffix != ".sqlite")

    def held() -> list[tuple[object, ...]]:
        return drilled.engine.rows(
            'select count(*), sum(score), sum("row.jam"), bit_xor(hash(id, action)) from decided'
        )

    before, rows = files(), held()
    score = run_drills(drilled, kinds=[JAMMED, MOVED, DOUBLED], severities=["all"])
    by = {t.what: t for t in score.tested}

    assert held() == rows
    assert files() == before
    assert [t.by for t in score.tested][:2] == [CONTRACTS, "pins"]
    assert by["call from 0.9 on"].late == timedelta()
    assert score.n_caught >= 2
    assert json.loads(json.dumps(score_json(score)))["tested"] == len(score.tested)
