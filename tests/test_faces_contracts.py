"""The commands of a contract: what they print, write, and end with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from underhood.contract.contract import Contract, freeze, read_contract
from underhood.contract.rules import Holds
from underhood.faces.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t.csv", 1048.0)
    return tmp_path


def write(path: Path, value: float, column: str = "speed") -> None:
    """300 readings of three places; `value` is the speed of the hundredth."""
    lines = [f"{i},{'ABC'[i % 3]},{value if i == 100 else 5 + i % 23 + (i % 7) / 10}" for i in range(300)]
    path.write_text(f"id,place,{column}\n" + "\n".join(lines) + "\n")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["contract", *arguments])


def body(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


def test_infer_freezes_the_contract_and_lists_what_breaks_it_already(folder: Path) -> None:
    done = run("infer", "t.csv", "--owner", "met feed")
    frozen = read_contract(folder / "contracts" / "t.toml")

    assert done.exit_code == 0
    assert "frozen as version 1 in contracts/t.toml" in done.output
    assert "speed 1048" in done.output
    assert (frozen.owner, frozen.version, frozen.key) == ("met feed", 1, ("id",))
    assert body("infer", "t.csv")["findings"][0]["about"] == "out_of_range"


def test_check_names_the_rows_writes_them_and_ends_with_1(folder: Path) -> None:
    run("infer", "t.csv")
    done = run("check", "t.csv", "--against", "contracts/t.toml", "--quarantine", "q.parquet")
    aside = pq.read_table(folder / "q.parquet").to_pylist()

    assert done.exit_code == 1
    assert "speed 1048 (id 100)" in done.output
    assert [(row["id"], row["speed"]) for row in aside] == [(100, 1048.0)]
    assert "speed is between 0 and" in aside[0]["broken"]


def test_check_of_a_table_that_keeps_its_contract_ends_with_0(folder: Path) -> None:
    run("infer", "t.csv")
    write(folder / "next.csv", 12.0)

    assert run("check", "next.csv", "--against", "contracts/t.toml").exit_code == 0
    assert body("check", "next.csv", "--against", "contracts/t.toml")["is_kept"] is True


def test_diff_says_what_changed_and_that_no_project_is_there(folder: Path) -> None:
    run("infer", "t.csv")
    (folder / "new.csv").write_text(
        (folder / "t.csv").read_text().replace("id,place,speed", "id,place,velocity_of_air")
    )
    done = run("diff", "contracts/t.toml", "new.csv")

    assert done.exit_code == 1
    assert "speed is velocity_of_air now, it seems (the same quantiles)" in " ".join(done.output.split())
    assert "no project here" in done.output
    assert run("diff", "contracts/t.toml", "t.csv").exit_code == 0


def test_show_says_when_the_file_was_changed_by_hand(folder: Path) -> None:
    run("infer", "t.csv")
    path = folder / "contracts" / "t.toml"
    before = run("show", "contracts/t.toml").output
    path.write_text(path.read_text().replace('column = "place", values', 'column = "place", share = 0.5, values', 1))
    path.write_text(path.read_text().replace("share = 0.5, values", "values").replace("share = 0.01", "share = 0.2"))

    assert "changed by hand" not in before
    assert "changed by hand since" in run("show", "contracts/t.toml").output


def test_import_writes_a_contract_for_each_table_and_names_what_did_not_map(folder: Path) -> None:
    suite = {
        "expectations": [
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}},
            {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "a", "min_value": 1}},
        ]
    }
    (folder / "orders.json").write_text(json.dumps(suite))
    done = run("import", "orders.json")

    assert "not taken over: expect_column_mean_to_be_between" in done.output
    assert len(read_contract(folder / "contracts" / "orders.toml").rules) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "nothing.toml"), "there is no such file"),
        (("check", "t.csv", "--against", "nothing.toml"), "there is no such file"),
        (("diff", "nothing.csv", "t.csv"), "there is no such file"),
        (("import", "t.csv"), "is no pandera schema"),
    ],
)
def test_what_cannot_be_read_is_told_in_plain_words(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)

    assert done.exit_code == 1
    assert says in " ".join(done.output.split())


def test_a_moment_that_is_none_is_told(folder: Path) -> None:
    run("infer", "t.csv")
    done = run("check", "t.csv", "--against", "contracts/t.toml", "--at", "soon")

    assert done.exit_code == 1
    assert "'soon' is not a moment" in done.output


def test_rows_set_aside_never_overwrite_a_file(folder: Path) -> None:
    run("infer", "t.csv")
    before = (folder / "t.csv").read_bytes()
    onto_itself = run("check", "t.csv", "--against", "contracts/t.toml", "--quarantine", "t.csv")
    nowhere = run("check", "t.csv", "--against", "contracts/t.toml", "--quarantine", "none/bad.parquet")

    assert (onto_itself.exit_code, nowhere.exit_code) == (1, 1)
    assert "is there already" in onto_itself.output
    assert "there is no such folder" in nowhere.output
    assert (folder / "t.csv").read_bytes() == before


@pytest.mark.parametrize(("column", "says"), [("nope", "has no column 'nope'"), ("place", "place is text, not a time")])
def test_a_clock_that_is_none_is_told(folder: Path, column: str, says: str) -> None:
    done = run("infer", "t.csv", "--happened", column)

    assert done.exit_code == 1
    assert says in " ".join(done.output.split())


@pytest.mark.parametrize("condition", ["place >0", "cast(place as INTEGER) > 0"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_rule_that_cannot_run_is_named(folder: Path, condition: str, share: float) -> None:
    freeze(Contract("t", (Holds(condition, ("place",), share=share),)), folder / "t.toml")
    done = run("check", "t.csv", "--against", "t.toml")

    assert done.exit_code == 1
    assert "rule 1 cannot be checked" in " ".join(done.output.split())
