"""From tables that nobody explained to a project file that builds; each line rests on something, and can be refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from underhood.faces.cli import main
from underhood.ground.errors import ProjectError, SourceError
from underhood.ground.project import read_project
from underhood.plan.joins import Plan
from underhood.plan.operations import TEXT
from underhood.plan.steps import Asof, Recent, System
from underhood.repair.workbench import build_system, open_workbench
from underhood.signs.statistics import Column
from underhood.start.draft import Function, plain_name, project_text
from underhood.start.proposal import Proposed
from underhood.start.proposed_sources import tidied
from underhood.start.starting import start
from underhood.tables.local import Engine, read_asks, read_plan

ROOT = Path(__file__).parent.parent
SCHOOL = ROOT / "examples" / "school"
DATA = ROOT.parent / "shared" / "data"
has_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")


def begin(what: Sequence[Path], out: Path, label: str = "", refuse: Sequence[str] = ()) -> Proposed:
    """Proposes and writes."""
    with start(what, out, label=label, force=True) as begun:
        made = begun.propose(refuse)
        begun.write(made)
    return made


def planned(out: Path) -> Plan:
    """The written file, read and settled with its data; its questions are made."""
    (system,) = [v for v in read_project(out).names.values() if isinstance(v, System)]
    with Engine() as engine:
        plan = read_plan(engine, system, out.parent, out.parent / ".record")
        read_asks(engine, plan, out.parent / ".record")
    return plan


def names(made: Proposed) -> set[str]:
    return {p.name for p in made.proposals}


@pytest.fixture
def school(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SCHOOL, tmp_path / "school"))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Orders, customers, items and payments; an order is loaded a day after it is placed, and may be returned."""
    folder = tmp_path / "shop"
    folder.mkdir()
    with Engine() as engine:
        at = "TIMESTAMP '2023-01-01' + to_minutes((i * 211)::BIGINT)"
        tables = {
            "orders": (
                f"select i + 1000 as order_no, 'C' || hash(i) % 300 as customer, {at} as placed_at, "
                f"{at} + to_hours((20 + i % 9)::BIGINT) as loaded_at, hash(i * 3) % 80 + 0.5 as amount, "
                "'ch' || hash(i * 5) % 3 as channel, hash(i * 7) % 100 < 20 as returned, "
                f"case when hash(i * 7) % 100 < 20 then {at} + to_days((2 + i % 25)::INT) end as returned_at "
                "from range(4000) t(i)"
            ),
            "customers": (
                "select 'C' || i as id, ['FI', 'SE'][i % 2 + 1] as country, ['f', 'm'][i % 2 + 1] as gender, "
                "DATE '2020-01-01' + (i * 3)::INT as since from range(300) t(i)"
            ),
            "items": (
                "select i % 4000 + 1000 as order_no, i as item, 'p' || i % 50 as product, i % 5 as n "
                "from range(9000) t(i)"
            ),
            "payments": (
                "select i as payment, 'C' || hash(i * 11) % 300 as customer, hash(i * 13) % 90 as paid, "
                "TIMESTAMP '2023-01-01' + to_minutes((i * 200)::BIGINT) as paid_at from range(3000) t(i)"
            ),
        }
        for name, sql in tables.items():
            engine.run(f"copy ({sql}) to '{folder / name}.csv' (header)")
    return folder


# --- what is proposed ---


def test_the_school_is_proposed_as_its_generator_made_it(school: Path) -> None:
    made = begin([school], school / "project.py")
    plan = planned(school / "project.py")

    assert {"label:dropped", "leak:dropped_on", "leak:certificate", "join:pupils", "join:courses"} <= names(made)
    assert {"sensitive:pupils.sex", "sensitive:pupils.age", "clean:pupils.city", "recent:visits"} <= names(made)
    assert "NORTH" in next(p.evidence for p in made.proposals if p.name == "join:pupils")
    assert {"dropped", "dropped_on", "certificate"} == set(plan.facts)
    assert {"subject", "weeks", "city", "visits_count", "course_id_share"} <= set(plan.features)
    assert not {"sex", "age", "certificate", "dropped_on", "pupil_id"} & set(plan.features)


def test_the_tables_of_the_school_are_what_their_generator_writes(school: Path) -> None:
    subprocess.run([sys.executable, school / "make_tables.py"], check=True)

    assert {p.name: p.read_bytes() for p in school.glob("*.csv")} == {
        p.name: p.read_bytes() for p in SCHOOL.glob("*.csv")
    }


def test_a_shop_with_two_clocks_is_asked_when_placed_and_knows_rows_when_loaded(shop: Path) -> None:
    made = begin([shop], shop / "project.py")
    plan = planned(shop / "project.py")
    source = plan.sources["orders"].source

    assert str(source.happened) == "placed_at"
    assert str(source.known) == "loaded_at"
    assert set(source.late) == {"returned", "returned_at"}
    assert str(plan.system.label.known) == "placed_at + 26d"
    assert [type(j) for j in plan.system.asks.joins if j.source.name == "customers"] == [Asof]
    assert [type(j) for j in plan.system.asks.joins if j.source.name == "payments"] == [Recent]
    assert {"channel", "amount", "country", "payments_count", "payments_paid"} <= set(plan.features)
    assert "items" in " ".join(made.draft.notes)


@pytest.mark.slow
def test_every_proposal_can_be_refused_and_the_file_still_settles(school: Path) -> None:
    out = school / "project.py"
    with start([school], out) as begun:
        for proposal in [p for p in begun.propose().proposals if not p.name.startswith("label:")]:
            made = begun.propose([proposal.name])
            begun.write(made)
            planned(out)

            assert [p.refused for p in made.proposals if p.name == proposal.name] == [True]


def test_what_is_refused_is_not_in_the_file(school: Path) -> None:
    out = school / "project.py"
    begin([school], out, refuse=["join:pupils", "leak:certificate", "clean:pupils.city"])
    plan = planned(out)

    assert "pupils" not in plan.sources
    assert "certificate" not in plan.facts
    assert "not joined" not in out.read_text()


def test_a_refused_sensitive_column_is_learned_from(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "day,sex,late\n" + "".join(f"2024-01-{i % 28 + 1:02},{'mf'[i % 2]},{i % 3 % 2}\n" for i in range(300))
    )
    begin([tmp_path / "t.csv"], tmp_path / "p.py")
    watched = planned(tmp_path / "p.py")
    begin([tmp_path / "t.csv"], tmp_path / "p.py", refuse=["sensitive:sex"])

    assert ("sex" in watched.features, watched.system.goal.watch) == (False, ("sex",))
    assert "sex" in planned(tmp_path / "p.py").features


def test_an_unknown_refusal_and_all_labels_refused_are_told(school: Path) -> None:
    with pytest.raises(ProjectError, match="nothing is proposed as 'join:pupil'") as told:
        begin([school], school / "project.py", refuse=["join:pupil"])
    with pytest.raises(ProjectError, match="every label was refused"):
        begin([school], school / "project.py", refuse=["label:dropped", "label:paid_at_once"])

    assert "join:pupils" in told.value.hint


def test_the_label_may_be_named_also_in_another_table(school: Path) -> None:
    made = begin([school], school / "project.py", label="pupils.city")

    assert made.draft.asked == "pupils"
    with pytest.raises(ProjectError, match="no table has a column 'nothing'"):
        begin([school], school / "project.py", label="nothing")


def test_rows_without_any_time_get_a_made_up_one_and_the_file_says_so(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * 37 % 100},{'ab'[i % 2]},{int(i * 7 % 10 < 3)}\n" for i in range(400))
    (tmp_path / "loans.csv").write_text("loan,amount,kind,defaulted\n" + rows)
    begin([tmp_path / "loans.csv"], tmp_path / "p.py")

    assert "loans tells no time" in (tmp_path / "p.py").read_text()
    with open_workbench(tmp_path / "p.py") as bench:
        assert build_system(bench).drawn.recipe["rows"] == 400


def test_words_for_nothing_are_nulls_in_the_project_too(tmp_path: Path) -> None:
    rows = "".join(f"2024-01-{i % 28 + 1:02},{'NA' if i % 9 == 0 else i % 50},{i % 3 % 2}\n" for i in range(300))
    (tmp_path / "t.csv").write_text("day,wait,late\n" + rows)
    begin([tmp_path / "t.csv"], tmp_path / "p.py")
    plan = planned(tmp_path / "p.py")

    assert plan.sources["t"].source.nulls == ("NA",)
    assert plan.feature_types["wait"] == "number"


def test_columns_named_like_what_underhood_adds_are_renamed_in_a_copy(tmp_path: Path) -> None:
    rows = "".join(f"2024-01-{i % 28 + 1:02},{i},{i % 50},{i % 3 % 2}\n" for i in range(300))
    (tmp_path / "t.csv").write_text("day,key,score,label\n" + rows)
    made = begin([tmp_path / "t.csv"], tmp_path / "p.py")

    assert "label is label_" in " ".join(made.draft.notes)
    assert "score_" in planned(tmp_path / "p.py").features


def test_a_database_is_copied_table_by_table(school: Path, tmp_path: Path) -> None:
    import sqlite3

    base = sqlite3.connect(tmp_path / "shop.db")
    base.execute("create table visits (id integer, day text, late integer, kind text)")
    base.executemany(
        "insert into visits values (?, ?, ?, ?)",
        [(i, f"2024-01-{i % 28 + 1:02}", i % 3 % 2, "ab"[i % 2]) for i in range(300)],
    )
    base.commit()
    base.close()
    begin([f"sqlite:///{tmp_path}/shop.db"], tmp_path / "p.py")  # type: ignore[list-item]

    assert "kind" in planned(tmp_path / "p.py").features


def test_files_that_are_not_there_are_told_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as told:
        begin([tmp_path / "one.csv", tmp_path / "two.csv"], tmp_path / "p.py")

    assert len(told.value.also) == 1


# --- the text ---


@pytest.mark.parametrize(
    ("name", "plain"),
    [("adult.data", "adult_data"), ("2024 sales", "t_2024_sales"), ("class", "class_"), ("uh", "uh_"), ("ä b", "ä_b")],
)
def test_a_table_gets_a_name_that_python_takes(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_the_file_is_python_of_lines_that_one_can_read(school: Path) -> None:
    made = begin([school], school / "project.py")
    text = project_text(made.draft)

    compile(text, "project.py", "exec")
    assert max(len(line) for line in text.splitlines()) <= 120
    assert all(isinstance(f, str | Function) for f in made.draft.features)


# --- the command ---


def init(*words: str) -> Result:
    done = CliRunner().invoke(main, ["init", *words], prog_name="underhood")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def test_the_command_prints_each_proposal_with_its_evidence(school: Path) -> None:
    done = init(str(school), "--out", str(school / "p.py"), "--yes")

    assert "leak:certificate" in done.output
    assert "every outcome" not in done.output
    assert max(len(line) for line in done.output.splitlines()) <= 80
    assert (school / "p.py").exists()


def test_the_command_answers_in_json_and_never_writes_over_a_file(school: Path) -> None:
    out = school / "p.py"
    first = json.loads(init(str(school), "--out", str(out), "--json", "--refuse", "join:courses").stdout)
    second = init(str(school), "--out", str(out), "--json")

    assert [p["name"] for p in first["proposals"] if p["refused"]] == ["join:courses"]
    assert all(p["evidence"] for p in first["proposals"])
    assert second.exit_code == 1
    assert json.loads(second.stdout)["error"] == "there is a file of that name"


# --- the documented sets ---


@has_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "asked", "features", "positive"),
    [
        ("oulad", "studentInfo", {"date_registration", "studied_credits", "module_presentation_length"}, (0.31, 0.32)),
        ("hotel_bookings", "hotel_bookings", {"lead_time", "deposit_type", "agent_share"}, (0.36, 0.38)),
        ("bike_sharing", "hour", {"temp", "dteday_hr_hour"}, (0.2, 0.3)),
        ("online_retail", "online_retail", {"Country"}, (0.2, 0.3)),
        ("adult", "adult_data", {"column03", "column10"}, (0.23, 0.25)),
        ("german_credit", "german", {"credit_amount", "purpose"}, (0.29, 0.31)),
    ],
)
def test_the_file_for_real_tables_builds_as_it_was_written(
    folder: str, asked: str, features: set[str], positive: tuple[float, float], tmp_path: Path
) -> None:
    out = tmp_path / "project.py"
    begin([DATA / folder], out)
    with open_workbench(out) as bench:
        built = build_system(bench)
        recipe = built.drawn.recipe

        assert bench.system.asks.source.name == asked
        assert features <= set(bench.plan.features)
        assert not {"reservation_status", "casual", "registered", "date_unregistration"} & set(bench.plan.features)
        assert positive[0] <= recipe["positive"] / recipe["rows"] <= positive[1]


def test_a_label_is_named_as_its_table_names_it(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n % 7},{n % 3 == 0}\n" for n in range(200))
    (tmp_path / "loans.csv").write_text(f"id,size,label\n{rows}")

    for named in ("label", "loans.label"):
        made = begin([tmp_path / "loans.csv"], tmp_path / "project.py", label=named)
        assert "label_" in project_text(made.draft)


def test_spellings_that_differ_by_more_than_plain_capitals_are_mapped_by_name() -> None:
    column = partial(Column, name="city", sql_type="VARCHAR", kind=TEXT, rows=9, nulls=0, is_exact=True)
    plain = column(distinct=2, top=(("Bonn", 6), ("BONN ", 3)))
    umlaut = column(distinct=3, top=(("Zürich", 5), ("ZÜRICH ", 3), ("Bonn", 1)))

    assert tidied("city", plain) == 'uh.clean.tidy("city", case="lower")'
    assert tidied("city", umlaut) == "uh.clean.map_levels(\"city\", {'ZÜRICH ': 'Zürich'})"
