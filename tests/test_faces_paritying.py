"""`underhood parity` prints what differs between engines with its rows, and ends with 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests import world
from underhood.faces.cli import main
from underhood.plan.operations import OPERATIONS
from underhood.repair.workbench import Workbench

FEW = ("parity", "--engine", "duckdb", "--rows", "50", "--mixed", "50")


@pytest.fixture(scope="module")
def bench(case_shop: Path) -> Iterator[Workbench]:
    with world.open_shop(case_shop) as opened:
        yield opened


def told(bench: Workbench, *words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="underhood", obj=bench)


def test_engines_that_agree_are_told_in_two_lines(bench: Workbench) -> None:
    done = told(bench, *FEW)

    first, second = done.stdout.splitlines()
    assert first.startswith(f"{len(bench.plan.features)} features on ")
    assert second == "✓ DuckDB and Python give the same values"
    assert done.exit_code == 0


def test_a_planted_bug_is_printed_with_the_values_that_it_read_and_ends_with_1(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("add", "sub", "mul", "div", "hour", "weekday", "eq", "length"):
        wrong = replace(OPERATIONS[name], python="(12345.0, {0})[0]")
        monkeypatch.setitem(OPERATIONS, name, wrong)

    done = told(bench, *FEW)
    found = json.loads(told(bench, *FEW, "--json").stdout)

    assert done.exit_code == 1
    assert "✗ DuckDB and Python differ in" in done.stdout
    assert ", Python 12345.0, for " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert found["engines"] == ["duckdb", "python"]
    assert found["differing_values"] > len(found["differing"]) - 1 > 0
    assert {"definition", "engine", "sql", "python", "row", "reads"} == found["differing"][0].keys()
