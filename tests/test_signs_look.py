"""A look at tables together: stories instead of lists, the first screen, versions, controls."""

from pathlib import Path

import numpy as np
import pytest
from tables_made import made, orders, people, readings, rng

from underhood.ground.findings import Finding
from underhood.signs.look import FIRST_SCREEN, as_stories, look
from underhood.tables.frames import open_table
from underhood.tables.local import Engine

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def test_columns_with_the_same_word_for_missing_are_one_story():
    columns = orders()
    for name in ("wood", "town", "shop"):
        values = np.array(columns["wood"], dtype=object)
        values[rng(len(name)).choice(1500, 40)] = "?"
        columns[name] = values
    with Engine(memory_mb=800) as engine:
        found = look(engine, [made(engine, columns)]).findings

    told = [f for f in found if f.about == "missing_disguised"]
    assert len(told) == 1
    assert set(told[0].columns) == {"wood", "town", "shop"}


def test_a_story_selects_the_rows_of_all_that_it_tells():
    with Engine(memory_mb=400) as engine:
        table = made(engine, {"a": [1, 2, 3, 4], "b": [1, 1, 2, 2]})
        told = [
            Finding(table.name, ("a",), "sentinel", 0.8, "a", "a = 1", 1, hint="same"),
            Finding(table.name, ("b",), "sentinel", 0.7, "b", "b = 2", 2, hint="same"),
        ]
        (story,) = as_stories(engine, told)

    assert story.columns == ("a", "b")
    assert story.rows == 3


def test_the_first_screen_has_room_for_what_would_fall_off_it():
    columns = people() | {"born_in": rng(1).choice(["Rome", "Oslo", "Lima"], 1200)}
    columns["height"][[1, 2]] = 1790.0
    columns["weight"][::40] = -999.0
    columns["income"] = np.minimum(columns["income"], 50_000)
    columns["mass"] = columns["weight"] * 2.2046
    columns["band"] = np.where(columns["band"] == "10-20%", "10-20", columns["band"])
    columns["born_in"] = np.where(np.arange(1200) % 30 == 0, "?", columns["born_in"])
    with Engine(memory_mb=800) as engine:
        first = look(engine, [made(engine, columns)]).findings[:FIRST_SCREEN]

    named = {c for f in first for c in f.columns}
    assert {"weight", "height", "band", "born_in"} <= named


def test_two_policies_with_different_propensities_are_no_error():
    one = orders() | {"propensity": np.full(1500, 1 / 34)}
    other = orders(seed=1) | {"propensity": rng(2).beta(2, 20, 1500).round(5)}
    with Engine(memory_mb=800) as engine:
        found = look(engine, [made(engine, one, "even"), made(engine, other, "learned")]).findings

    assert [f for f in found if "propensity" in f.columns and f.severity >= 0.5 and f.about != "real_event"] == []


def test_findings_are_in_order_of_importance_and_by_table():
    columns = readings()
    columns["level"][5] = 999_999.0
    with Engine(memory_mb=800) as engine:
        seen = look(engine, [made(engine, columns, "one"), made(engine, orders(), "two")])

    severities = [f.severity for f in seen.findings]
    assert severities == sorted(severities, reverse=True)
    assert all(f.table == "one" for f in seen.of("one"))
    assert set(seen.profiles) == {"one", "two"}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data")
def test_what_is_wrong_with_the_hourly_bikes_is_on_the_first_screen():
    with Engine(memory_mb=1500) as engine:
        tables = [open_table(engine, DATA / "bike_sharing" / name) for name in ("hour.csv", "day.csv")]
        first = look(engine, tables).of("hour")[:FIRST_SCREEN]

    classes = {f.about for f in first}
    assert "missing_period" in classes
    assert any({"hum", "atemp"} <= set(f.columns) for f in first)
    assert any({"casual", "registered"} <= set(f.columns) for f in first)
