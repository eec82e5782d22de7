"""Whoever makes the events changes them: each change is told with what it breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import underhood as uh
from underhood.contract.contract import Contract
from underhood.contract.impedance import BREAKS, CHANGES, HARMLESS, changes, effect_json, effects
from underhood.contract.rhythm import Unit
from underhood.contract.rules import Key, OneOf, Range, Required, Rule, Type
from underhood.ground.errors import NotFoundError
from underhood.plan.lineage import Lineage, lineage_of
from underhood.tables.local import Engine, read_plan

TEMP = (30.0, 40.0, 55.0, 70.0, 82.0)


def told(old: list[Rule], new: list[Rule]) -> list[tuple[str, tuple[str, ...], str]]:
    found = changes(Contract("t", tuple(old)), Contract("t", tuple(new)))
    return [(c.what, c.columns, c.severity) for c in found]


def number(name: str) -> Rule:
    return Type(name, "number")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([number("a")], [number("a")], []),
        ([number("a"), number("b")], [number("a")], [("removed", ("b",), BREAKS)]),
        ([number("a")], [number("a"), number("zebra")], [("added", ("zebra",), HARMLESS)]),
        ([number("a")], [Type("a", "text")], [("retyped", ("a",), BREAKS)]),
        ([Type("a", "whole number")], [number("a")], [("retyped", ("a",), CHANGES)]),
        ([OneOf("a", ("x",))], [OneOf("a", ("x", "y"))], [("levels", ("a",), CHANGES)]),
        ([OneOf("a", ("x", "y"))], [OneOf("a", ("x",))], [("levels", ("a",), HARMLESS)]),
        ([Range("a", 0.0, 10.0)], [Range("a", 0.0, 11.0)], []),
        ([Range("a", 0.0, 10.0)], [Range("a", 0.0, 90.0)], [("range", ("a",), CHANGES)]),
        ([Required("a")], [Required("a", share=0.3)], [("nulls", ("a",), CHANGES)]),
        ([Required("a", share=0.9)], [Required("a")], [("nulls", ("a",), CHANGES)]),
        ([Key(("a", "b"))], [Key(("a", "b", "c"))], [("granularity", ("a", "b"), BREAKS)]),
        ([Unit("a", "mph", TEMP)], [Unit("a", "km/h", TEMP)], [("unit", ("a",), CHANGES)]),
        ([Unit("a", "", TEMP)], [Unit("a", "", (33.0, 44.0, 58.0, 73.0, 85.0))], []),
    ],
)
def test_each_kind_of_change_is_told_with_how_bad_it_is(
    old: list[Rule], new: list[Rule], expected: list[tuple[str, tuple[str, ...], str]]
) -> None:
    found = told(old, new)

    assert [f for f in found if f[0] != "added" or f in expected] == expected


def test_another_unit_is_named_by_its_quantiles() -> None:
    celsius = tuple((v - 32) / 1.8 for v in TEMP)
    found = changes(Contract("t", (Unit("temp", "", TEMP),)), Contract("t", (Unit("temp", "", celsius),)))

    assert [(c.what, c.says) for c in found] == [("unit", "temp looks like °C instead of °F")]


def test_a_rename_is_guessed_by_levels_quantiles_and_name_and_says_why() -> None:
    old = [
        Type("origin", "text"),
        OneOf("origin", ("EWR", "JFK", "LGA")),
        number("wind_speed"),
        Unit("wind_speed", "", TEMP),
    ]
    kmh = tuple(v * 1.609344 for v in TEMP)
    new = [
        Type("from", "text"),
        OneOf("from", ("EWR", "JFK", "LGA")),
        number("wind_kmh"),
        Unit("wind_kmh", "km/h", kmh),
    ]
    found = changes(Contract("t", tuple(old)), Contract("t", tuple(new)))
    renamed = {c.columns[0]: c for c in found if c.what == "renamed"}

    assert renamed["origin"].says == "origin is from now, it seems"
    assert renamed["origin"].evidence == "3 levels in common"
    assert renamed["wind_speed"].evidence == "the same quantiles in another unit"
    assert not [c for c in found if c.what in ("removed", "added")]


def bad(x: Any) -> Any:
    return x > 5


def lineage(folder: Path) -> Lineage:
    (folder / "t.csv").write_text("id,at,x,y\n" + "\n".join(f"{i},2024-03-01 {i:02}:00:00,{i},{i}" for i in range(12)))
    source = uh.source("t.csv", happened="at", key="id", owner="the makers", late={"at + 1h": ["x"]})
    made = uh.system(
        "parcels",
        asks=source.asks("at"),
        features=["y"],
        label=uh.label(bad, known="at + 2h"),
        goal=uh.goal("call", costs=uh.costs(call=(1, 1), wait=(0, 2))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )
    with Engine(threads=1) as engine:
        return lineage_of(read_plan(engine, made, folder, folder / "record"))


def test_a_change_is_followed_to_features_label_and_training_set(tmp_path: Path) -> None:
    found = changes(
        Contract("t", (number("x"), number("y"), number("unused"))), Contract("t", (number("quite_other"),))
    )
    told = effects(found, lineage(tmp_path), "t")
    by = {e.change.columns[0]: e for e in told}

    assert {r.node.kind for r in by["y"].reaches} >= {"feature", "training set", "action"}
    assert "label" in {r.node.kind for r in by["x"].reaches}
    assert (by["y"].severity, by["unused"].severity, by["unused"].reaches) == (BREAKS, HARMLESS, ())
    assert effect_json(by["y"])["severity"] == BREAKS


def test_a_source_that_the_project_does_not_have_is_an_error_not_harmless(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no source 'weather'"):
        effects((), lineage(tmp_path), "weather")
