"""The bench of faults: faults by others are read, answers are judged as told, and a run that was stopped goes on."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from bench.faults.answers import are_named, drawn_by, is_located, is_named, jaccard, parameters_of, selected_by
from bench.faults.baselines import psi, rank_by_classifier, rank_by_drift, shares
from bench.faults.cells import open_scene
from bench.faults.others import read_faults
from bench.faults.pairs import One, complained_about, go_together, pair_cell
from bench.faults.poor import poorer
from bench.faults.report import Report, figures, verdict_of, write_report
from bench.faults.run import spread
from bench.faults.truth import truth_of
from underhood.faults import KINDS
from underhood.faults.kinds import Injection, Scene, Suspect
from underhood.ground.errors import ProjectError, UnderhoodError
from underhood.plan.changes import INPUT, OUTCOME, ROUTE, SOURCE, TAUGHT, THRESHOLD, TRAFFIC, Change
from underhood.plan.exprs import col, lit, when
from underhood.repair.clone import Reach, strike
from underhood.repair.decided import mean
from underhood.repair.drill import Struck, struck_by
from underhood.repair.workbench import Workbench


@pytest.fixture(scope="module")
def scene(right_bench: Workbench) -> Iterator[Scene]:
    yield open_scene(right_bench)
    mean(right_bench.engine, ())


FOLDER = Path(__file__).parent.parent / "bench" / "faults"


def test_the_examples_of_faults_by_others_are_read_in_both_forms():
    kinds = {k.name: k for k in read_faults(FOLDER / "examples")}

    assert sorted(kinds) == ["hundredfold", "moved cut"]
    assert kinds["hundredfold"].title == "A number comes a hundred times too large: the simple form, one function."
    assert all(k.propose for k in kinds.values())


def test_a_file_that_holds_no_fault_is_named_with_the_form_to_use(tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n", "utf-8")

    with pytest.raises(
        ProjectError, match=r"empty\.py: defines neither FAULTS nor inject[\s\S]*README\.md tells the form"
    ):
        read_faults(tmp_path)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ('Injection("unit chnage", ())', r"no diagnosis names a kind 'unit chnage'[\s\S]*did you mean unit change"),
        ('Injection("shift", (Change("inptu", "km", 3.0),))', r"no part 'inptu' to change[\s\S]*did you mean input"),
        ('Injection("shift", (Change("input", "kms", 3.0),))', r"this system has no input 'kms'[\s\S]*did you mean km"),
        ('Injection("shift", (Change("threshold", "cal", 0.2),))', r"this system has no cut 'cal'"),
        (
            'Injection("shift", (), expects=("unit change"))',
            r"expects is one text[\s\S]*write expects=\('unit change',\)",
        ),
        ('"unit change"', r"gives neither an Injection nor None"),
    ],
)
def test_what_is_misspelled_in_a_fault_by_another_author_is_told(scene, tmp_path, made, says):
    text = "from underhood.faults.kinds import Injection\nfrom underhood.plan.changes import Change\n\n\n"
    (tmp_path / "own.py").write_text(f"{text}def inject(scene, random, cohort):\n    return {made}\n", "utf-8")
    (kind,) = read_faults(tmp_path)

    assert kind.propose is not None
    with pytest.raises(UnderhoodError, match=says):
        kind.propose(scene, np.random.default_rng(0), None)


def test_traffic_that_nothing_can_strike_is_told_with_what_can(scene):
    change = Change(TRAFFIC, "repeat", 3)
    with (
        pytest.raises(ProjectError, match=r"there is no traffic 'repeat'[\s\S]*how often more for 'doubled'"),
        strike(scene, Injection("double decision", (change,)), Reach(datetime(2024, 3, 20))),
    ):
        pass


def test_one_name_for_two_faults_is_refused(tmp_path):
    for name in ("a b.py", "a_b.py"):
        (tmp_path / name).write_text("def inject(scene, random, cohort):\n    return None\n", "utf-8")

    with pytest.raises(ProjectError, match="defines 'a b' twice"):
        read_faults(tmp_path)


def test_a_number_is_named_within_five_percent_and_everything_else_exactly():
    assert is_named(12.0, 12.5)
    assert not is_named(12.0, 13.0)
    assert not is_named(12.0, None)
    assert is_named(["a", "b"], ("b", "a"))
    assert is_named({"P1": "p1"}, {"P1": "p1", "P2": "p2"})
    assert not is_named({"P1": "p1"}, {"P1": "P2"})
    assert not is_named(True, 1.0) or is_named(True, True)
    assert are_named({}, {"factor": 3.0}) is None
    assert not are_named({"factor": 2.0, "unit": "lb"}, {"factor": 2.0})


def test_a_kind_that_is_right_as_well_is_asked_only_for_the_parameters_that_it_has():
    injection = Injection("beyond the envelope", (), ("kg",), {"columns": ["kg"], "beyond": 9.0}, expects=("curve",))
    curve = Suspect("curve", "input", "", "", (), parameters={"columns": ["kg"], "way": "rises"})
    beyond = Suspect("beyond the envelope", "training set", "", "", (), parameters={"columns": ["kg"]})

    assert are_named(parameters_of(injection, curve), curve.parameters)
    assert not are_named(parameters_of(injection, beyond), beyond.parameters)


@pytest.mark.parametrize(("n", "said", "is_right"), [(200, 0.44, True), (200, 0.46, False), (20_000, 0.44, False)])
def test_a_share_that_chance_drew_is_named_as_closely_as_so_many_draws_tell_it(n, said, is_right):
    drifts = Injection("concept drift", (Change(OUTCOME, "turned", 0.4),), (), {"turned": 0.4})
    cut = Injection("wrong threshold", (Change(THRESHOLD, "call", 0.4),), (), {"turned": 0.4})

    assert are_named(drifts.parameters, {"turned": said}, drawn_by(drifts, n)) == is_right
    assert not are_named(cut.parameters, {"turned": said}, drawn_by(cut, n))


def test_a_fault_is_located_by_its_columns_all_of_them_and_no_other():
    injection = Injection("unit change", (Change(INPUT, "kg", 1.0),), ("kg",))

    def suspect(*columns: str) -> Suspect:
        return Suspect("unit change", "input", "", "", (), parameters={"columns": list(columns)})

    assert is_located(injection, suspect("kg"))
    assert not is_located(injection, suspect("kg", "km"))
    assert not is_located(injection, suspect("km"))


def test_kinds_that_are_right_as_well_do_not_make_the_faults_own_kind_wrong():
    assert Injection("unit change", (), expects=("shift", "unit change")).right == ("unit change", "shift")
    assert Injection("unit change", ()).right == ("unit change",)


def test_a_fault_without_columns_is_located_by_the_part_that_is_undone():
    injection = Injection("wrong threshold", (Change(THRESHOLD, "call", 0.4),))
    undone = Suspect("other", "threshold", "", "", (Change(THRESHOLD, "call", 0.3),))

    assert is_located(injection, undone)
    assert not is_located(injection, Suspect("other", "input", "", "", (Change(INPUT, "kg", 1.0),)))


def test_the_key_of_a_join_counts_as_named_beside_what_the_join_brings():
    injection = Injection("null join", (Change(INPUT, "depot", "oak"), Change(INPUT, "jam", None)), ("jam", "depot"))
    named = Suspect("null join", "input", "", "", (), parameters={"columns": ["jam"], "key": "depot"})

    assert is_located(injection, named)
    assert not is_located(injection, replace(named, parameters={"columns": ["jam"]}))


def test_what_another_model_had_known_until_ends_no_cohort(scene):
    late = col("asked_at") >= datetime(2024, 3, 20)
    model = Suspect(
        "wrong model", "bundle", "", "select id from decisions where false", (), late, "2024-03-20 00:00:00"
    )
    all_late = {i for (i,) in scene.engine.rows("select id from decisions where asked_at >= TIMESTAMP '2024-03-20'")}

    assert selected_by(scene, replace(model, parameters={"until": "2024-02-01T00:00:00"})) == (all_late, set())
    assert selected_by(scene, replace(model, parameters={"until": "2024-03-20T00:00:00"}))[0] < all_late


def test_evidence_that_lists_keys_lists_their_decisions(scene):
    one, key = scene.engine.rows("select id, key from decisions order by id limit 1")[0]
    twice = Suspect("fan-out", "requests", "", f"select key, 2 as n from decisions where id = '{one}'", ())

    assert selected_by(scene, twice)[1] == {
        i for (i,) in scene.engine.rows(f"select id from decisions where key = '{key}'")
    }


def test_two_empty_cohorts_have_nothing_in_common():
    assert jaccard(set(), set()) == 0.0
    assert jaccard({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)


def test_both_baselines_rank_the_column_first_that_moved_and_a_null_surge_counts():
    random = np.random.default_rng(1)
    one = {"still": random.normal(size=2000), "moved": random.normal(size=2000)}
    other = {"still": random.normal(size=2000), "moved": random.normal(size=2000)}
    other["moved"][:600] = np.nan
    other["score"], one["score"] = random.uniform(size=2000), random.uniform(size=2000)

    assert rank_by_drift(one, other)[0] == "moved"
    assert rank_by_classifier(one, other)[0] == "moved"
    assert psi(*shares(one["still"], one["still"])) == 0.0


def test_seeds_are_read_as_ranges_and_lists():
    assert spread("0-2,7") == [0, 1, 2, 7]


def test_a_goal_that_no_cell_measures_does_not_hold():
    assert verdict_of(Report((), (), 0.0))["holds"] is False


def test_a_cell_that_an_error_ended_is_told_and_no_goal_holds_over_it():
    line = {"cell": "shop/x/all/0", "system": "shop", "kind": "x", "severity": "all", "seed": 0, "seen": True}
    report = Report(({**line, "state": "stopped", "error": "KeyError: 'kg'"},), ("shop",), 0.0)

    assert verdict_of(report)["stopped"] == 1
    assert "**stopped**: `shop/x/all/0`: KeyError: 'kg'" in write_report(report)


SCORED = {"state": "scored", "seen": True, "seed": 2, "findings": 0, "alarm": False, "seconds": 1.0, "peak_gb": 0.1}


def scored(**told):
    """A line of a cell that was answered rightly, but for what is `told`."""
    made = {"cell": "shop/x/all/2", "system": "shop", "kind": "x", "severity": "all", "says": "x", "cohort": None}
    right = {
        "top1": True,
        "top3": True,
        "locus": True,
        "jaccard": 1.0,
        "parameters_right": True,
        "restored": 1.0,
        "collateral": 0.0,
    }
    return {**SCORED, **made, **right, "answer": ["x"], "verdict": "cause", "verdict_says": "x is", **told}


def test_the_report_tells_what_ran_where_with_which_code_and_keeps_notes_by_hand():
    lines = (scored(code="v1-3-gabc"), scored(code="v1-4-gdef+", severity="canary", seed=4))
    text = write_report(Report(lines, ("shop",), 0.0, "Seed 2 was looked at.\n"))

    assert "## How far to trust it\n\nSeed 2 was looked at.\n" in text
    assert "| shop | 1 | 1 | 0 | 2, 4 | v1-3-gabc (1), v1-4-gdef+ (1) |" in text
    assert "The lines are of 2 versions of the code." in text


def test_what_nothing_in_the_record_tells_counts_in_no_figure_but_a_wrong_cause_there_is_told():
    untold = scored(state="abstain", top1=False, alarm=True)
    report = Report((scored(), untold), ("shop",), 0.0)

    assert verdict_of(report)["top1"] == 1.0
    assert "1 cells count in no figure; a wrong cause was named in 1 of them." in write_report(report)


def test_two_faults_at_once_are_a_section_of_their_own_and_count_in_no_other_figure():
    told = {"struck": ["x", "y"], "shares": [0.6, 0.4], "others": [], "recall": 1.0, "first": True, "located": 1.0}
    two = scored(kind="two faults", severity="pair 0", as_two=True, **told)
    text = write_report(Report((scored(top1=False, answer=["z"], ruled_out={}, right=["x"]), two), ("shop",), 0.0))

    assert verdict_of(Report((two,), ("shop",), 0.0))["cells"] == 0
    assert "| all | 1 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 0.000 | 1.0 |" in text
    assert "- `shop/x/all/2`: both of x 60%, y 40%. Answer: x" in text


@pytest.mark.slow
def test_two_faults_in_the_shop_are_both_told(scene):
    line = pair_cell(scene, "shop/two faults/pair 1/0", "shop", 1, 0, [k for k in KINDS if k.propose])

    assert line["state"] == "scored"
    assert line["recall"] == 1.0
    assert len(set(line["struck"])) == 2
    assert 0 < sum(s for s in line["shares"] if s) <= 1.001


def test_what_a_part_of_the_record_is_worth_is_told_by_the_cells_that_were_diagnosed_without_it():
    def poor(top1):
        return {"without scorer": {"top1": top1, "locus": True, "silent": not top1, "answer": [], "seconds": 1.0}}

    lines = (scored(poor=poor(True)), scored(kind="y", poor=poor(False)), scored(kind="z"))
    text = write_report(Report(lines, ("shop",), 0.0))

    assert "| made here | 1.000 | 1.000 | 0 |" in text
    assert "| without scorer | 0.500 | 1.000 | 1 |" in text
    assert "- without scorer: y" in text


@pytest.mark.slow
@pytest.mark.parametrize(("lacks", "column"), [(("outcome",), "label"), (("raw inputs",), None), (("scorer",), None)])
def test_what_is_taken_away_from_a_record_is_gone_and_comes_back(scene, lacks, column):
    kind = next(k for k in KINDS if k.name == "unit change")
    with struck_by(scene, kind, "all", 2, 3) as struck:
        was = scene.engine.rows("select count(label), count(*) from decisions")[0]
        asked = scene.engine.rows("select count(*) from asks")[0]
        with poorer(struck, lacks) as poor:
            known, n = poor.engine.rows("select count(label), count(*) from decisions where bad or not bad")[0]
            assert n == was[1]
            assert (known == 0) == (column == "label")
            assert (poor.engine.rows("select count(*) from asks")[0][0] == 0) == (lacks == ("raw inputs",))
            assert (poor.bundle.model["kind"] == "outside") == (lacks == ("scorer",))

        assert scene.engine.rows("select count(label), count(*) from decisions")[0] == was
        assert scene.engine.rows("select count(*) from asks")[0] == asked
        assert scene.engine.rows("select count(*) from decisions where bad")[0][0] == len(struck.named)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "share", "tells"),
    [
        (Change(OUTCOME, "turned", 0.9), 1.0, "what happens where such scores are told"),
        (Change(OUTCOME, "known_at", None), 1.0, "for how many it is known what happened"),
        (Change(OUTCOME, "mislabelled", 1.0), 0.02, "labels contradict their facts"),
        (Change(SOURCE, "km", col("row.km") * 10), 1.0, "km"),
        (Change(TRAFFIC, "doubled", 1), 0.02, "the same question stands there twice, or one that nobody asked"),
        (Change(OUTCOME, "turned", 0.4), 0.02, None),
        (Change(SOURCE, "km", col("row.km") * 1.001), 0.02, None),
    ],
    ids=str,
)
def test_the_oracle_tells_what_moved_by_more_than_chance_and_no_more(scene, change, share, tells):
    reach = Reach(datetime(2024, 3, 10), share=share)
    injection = Injection("made up", (change,), ("km",) if change.name == "km" else ())
    with strike(scene, injection, reach) as made:
        struck = Struck("made up", "all", injection, reach, datetime(2024, 3, 10), made, 0, (), None)
        _, changed, oracle = truth_of(struck)

    assert changed
    assert (tells in oracle) if tells else not oracle


@pytest.mark.parametrize(
    ("change", "share", "tells"),
    [
        (Change(OUTCOME, "label", False), 1.0, True),
        (Change(OUTCOME, "label", False), 0.02, False),
        (Change(TAUGHT, "label", False), 0.02, True),
        (Change(SOURCE, "km", when(col("label"), col("row.km") * 0.31 + 16, col("row.km") * 0.31)), 0.02, True),
        (Change(SOURCE, "mean_late", when(col("label"), col("row.mean_late") + 2, col("row.mean_late"))), 0.02, False),
    ],
    ids=str,
)
def test_a_few_rows_of_a_history_that_is_wrong_as_well_must_show_in_what_was_taught(scene, change, share, tells):
    reach = Reach(datetime(2024, 3, 10), share=share)
    before = replace(change, where=col("asked_at") < lit(datetime(2024, 3, 8)))
    injection = Injection("made up", (before,), retrain=True)
    with strike(scene, injection, reach) as made:
        struck = Struck("made up", "all", injection, reach, datetime(2024, 3, 10), made, 0, (), None)
        _, changed, oracle = truth_of(struck)

    assert changed
    assert bool(oracle) == tells


def test_faults_that_would_hide_each_other_make_no_pair():
    def one(*changes, columns=()):
        return One(KINDS[0], Injection("made up", changes, columns), datetime(2024, 3, 1), frozenset("abcde"))

    cut, route = one(Change(THRESHOLD, "call", 0.4)), one(Change(ROUTE, "route", "call"))
    kg, same = one(Change(INPUT, "kg", 1.0), columns=("kg",)), one(Change(SOURCE, "kg", 2.0), columns=("kg",))

    assert go_together(cut, kg)
    assert not go_together(cut, route)
    assert not go_together(kg, same)


def test_a_complaint_about_two_faults_names_decisions_of_each_that_got_one_action():
    turned = {**dict.fromkeys("abcd", "call"), **dict.fromkeys("vwxyz", "text"), **dict.fromkeys("efgh", "call")}
    named, told = complained_about(turned, frozenset("abcdvwxyz"), frozenset("efgh"), 0)

    assert told == "call"
    assert {*named} == {*"abcdefgh"}
    assert complained_about(turned, frozenset("vwxyz"), frozenset("abcd"), 0) == ((), "")


def test_a_figure_is_a_mean_over_the_cells_to_which_it_applies():
    lines = [{"top1": True, "restored": None}, {"top1": False, "restored": 1.0}]

    assert figures(lines)["top1"] == 0.5
    assert figures(lines)["restored"] == 1.0
    assert figures(lines)["onset"] is None


@pytest.mark.slow
def test_a_run_finds_the_example_faults_in_the_shop_and_goes_on_where_it_was_stopped(tmp_path):
    lines, out = tmp_path / "lines.jsonl", tmp_path / "report.md"
    command = [sys.executable, str(FOLDER / "run.py"), "--only", "shop", "--faults", str(FOLDER / "examples")]
    command += ["--severities", "all", "--quiet", "1", "--prepared", str(tmp_path), "--lines", str(lines)]

    first = subprocess.run([*command, "--seeds", "0", "--out", str(out)], capture_output=True, text=True, check=True)
    cells = [json.loads(text) for text in lines.read_text("utf-8").splitlines()]
    last = json.loads(first.stdout.splitlines()[-1])

    assert [c["cell"] for c in cells] == [
        "shop/hundredfold/all/0",
        "shop/moved cut/all/0",
        "shop/no fault/luck/0",
    ]
    assert last["cells"] == 2
    assert last["top1"] == 1.0
    assert "| kind top-1 | ≥ 0.90 | 1.000 |" in out.read_text("utf-8")
    assert cells[0]["baselines"].keys() >= {"drift ranking", "domain classifier", "last change wins"}

    lines.write_text(lines.read_text("utf-8").rpartition("{")[0] + '{"cell": "shop/no fau', "utf-8")
    subprocess.run([*command, "--seeds", "0"], capture_output=True, check=True)

    assert [c["cell"] for c in cells] == [
        json.loads(text)["cell"] for text in lines.read_text("utf-8").splitlines() if text.endswith("}")
    ]
