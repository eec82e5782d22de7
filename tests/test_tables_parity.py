"""Parity is a check with teeth: a template that is wrong on one edge value is found, and its row is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

import underhood as uh
from underhood.ground.errors import ParityError
from underhood.plan.exprs import col, lit, typed
from underhood.plan.operations import OPERATIONS
from underhood.tables.local import Engine
from underhood.tables.parity import EDGES, Parity, compare_renderings, edge_rows, require, same

INPUTS = {"x": "number", "y": "number", "f": "flag", "s": "text", "t": "time"}
SAMPLED = [{"x": 1.5, "y": 2.0, "f": True, "s": "ab", "t": datetime(2013, 3, 8, 12)}]
X, Y, S, T = col("x"), col("y"), col("s"), col("t")
DEFINITIONS = {
    "rounded": X.round(),
    "ratio": X / Y,
    "rest": X % Y,
    "folded": S.lower(),
    "long": S.strip().length(),
    "whole": S.to_number(),
    "second": S.part("-", 1),
    "soon": (T + uh.minutes(X)).hour(),
    "since": (T - lit(datetime(2000, 2, 29))).days(),
    "smaller": uh.when(col("f"), X.clip(0, 1), -X.ln().fill(Y)),
}
# what an innocent hand might write, and the edge value that tells
BUGS = {
    "round": "float(round({0}))",
    "mod": "({0} % {1} if {1} != 0 else None)",
    "floor": "float(int({0}))",
    "lower": "{0}.lower()",
    "strip": "{0}.strip()",
    "to_number": "(float({0}) if {0}.isdecimal() else None)",
    "length": "float(len({0}.encode()))",
    "neg": "({0} * -1 + 1e-9)",
    "part": "nth({0}.split({1}, 1), {2})",
    "between": "({0} - {1}).days * 86400.0",
}
WITH = {"floor": X.floor(), "part": S.part("-", 1), "neg": -X}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        yield opened


def compared(engine: Engine, definitions: dict[str, Any]) -> Parity:
    settled = {name: typed(expr, INPUTS)[0] for name, expr in definitions.items()}
    return compare_renderings(engine, settled, INPUTS, SAMPLED)


def test_definitions_agree_on_all_rows_in_both_renderings(engine: Engine) -> None:
    parity = compared(engine, DEFINITIONS)

    require(parity)
    assert (parity.n_definitions, parity.differing) == (10, ())
    assert parity.n_rows > 500 + sum(map(len, EDGES.values()))


@pytest.mark.parametrize("operation", BUGS)
def test_a_planted_bug_in_one_template_is_found_and_its_row_shown(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    wrong = replace(OPERATIONS[operation], python=BUGS[operation])
    monkeypatch.setitem(OPERATIONS, operation, wrong)  # type: ignore[arg-type]

    parity = compared(engine, DEFINITIONS | WITH)

    assert parity.differing
    first = parity.differing[0]
    with pytest.raises(ParityError) as found:
        require(parity)
    assert f"{first['definition']}: {first['sql']!r} in SQL, {first['python']!r} in Python, for x=" in found.value.what
    assert first["definition"] == found.value.where
    assert found.value.what.startswith(f"{len(parity.differing)} values differ between renderings: ")


def test_a_template_that_raises_on_an_edge_row_is_found_and_the_row_shown(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(OPERATIONS["to_number"], python="float({0})")
    monkeypatch.setitem(OPERATIONS, "to_number", wrong)  # type: ignore[arg-type]

    with pytest.raises(ParityError) as found:
        compared(engine, DEFINITIONS)

    assert "Python raises ValueError(\"could not convert string to float: 'ab'\")" in found.value.what
    assert "for x=1.5, y=2.0, f=True, s='ab'" in found.value.what


def test_a_planted_bug_shows_up_only_where_it_is_used(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(OPERATIONS["round"], python="float(round({0}))")
    monkeypatch.setitem(OPERATIONS, "round", wrong)  # type: ignore[arg-type]

    parity = compared(engine, DEFINITIONS)

    assert {"rounded"} == {d["definition"] for d in parity.differing}
    assert {(2.5, 3.0, 2.0), (0.5, 1.0, 0.0)} <= {(d["row"]["x"], d["sql"], d["python"]) for d in parity.differing}


def test_every_edge_value_of_every_input_is_in_some_row() -> None:
    rows = edge_rows(INPUTS, SAMPLED, seed=1)

    missing = [
        (name, edge) for name, kind in INPUTS.items() for edge in EDGES[kind] if edge not in [r[name] for r in rows]
    ]

    assert missing == []
    assert dict.fromkeys(INPUTS) == rows[0]
    assert rows == edge_rows(INPUTS, SAMPLED, seed=1)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (None, None, True),
        (None, 0.0, False),
        (0.0, None, False),
        (0.0, -0.0, True),
        (1.0, 1.0 + 1e-13, True),
        (1.0, 1.0 + 1e-11, False),
        (1e-300, 2e-300, False),
        ("", None, False),
        ("a", "a", True),
        (True, False, False),
        (datetime(2020, 1, 1), datetime(2020, 1, 1), True),
        (datetime(2020, 1, 1), datetime(2020, 1, 1, microsecond=1), False),
    ],
)
def test_two_values_are_the_same_if_both_are_null_or_nearly_equal(first: Any, second: Any, expected: bool) -> None:
    assert expected == same(first, second)
