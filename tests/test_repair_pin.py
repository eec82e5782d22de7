"""A case becomes a test: it fails with the bundle that went wrong, holds with the one that was fixed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import world
from underhood.ground.errors import ProjectError, RequestError
from underhood.repair import workbench as uh
from underhood.repair.pin import check_pin, read_pin, said, write_pin

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def rebuilt_shop(fixed_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixed shop after a build that learned with the patch. Read only."""
    project = world.copy_shop(fixed_shop, tmp_path_factory.mktemp("rebuilt"))
    world.build_shop(project)
    return project


def test_a_pin_is_broken_with_the_bundle_that_went_wrong(fixed_shop: Path) -> None:
    with world.open_shop(fixed_shop) as bench:
        (pinned,) = uh.check_pins(bench)

    assert not pinned.holds
    assert pinned.again > pinned.pin.allowed
    assert pinned.keys
    assert "BROKEN" in said(pinned)
    assert "told 'quiet'" in said(pinned)


def test_a_pin_holds_with_the_bundle_that_was_built_with_the_fix(rebuilt_shop: Path) -> None:
    with world.open_shop(rebuilt_shop) as bench:
        (pinned,) = uh.check_pins(bench)
        made = uh.deployed(bench).made_from

    assert pinned.holds
    assert pinned.n >= 50
    assert [c["reads"] for c in made["changes"]] == ["label late = true where facts.returned"]


def test_a_pin_is_a_readable_file_that_is_read_as_it_was_written(fixed_shop: Path, tmp_path: Path) -> None:
    pin = read_pin(fixed_shop.parent / "pins" / "case-1.pin.json")

    assert read_pin(write_pin(tmp_path, pin)) == pin
    assert (pin.never, pin.why) == ("quiet", "You kept quiet on 20 March")
    assert len((tmp_path / "pins" / "case-1.pin.json").read_text().splitlines()) == len(pin.asks) + 9


def test_a_pin_that_a_new_bundle_cannot_take_says_which_input(fixed_shop: Path) -> None:
    pin = read_pin(fixed_shop.parent / "pins" / "case-1.pin.json")
    ask = {**pin.asks[0], "row": {k: v for k, v in pin.asks[0]["row"].items() if k != "ice"}}
    with world.open_shop(fixed_shop) as bench, pytest.raises(RequestError, match="ice: is missing"):
        check_pin(type(pin)("a", 1, "b", "quiet", 0, (ask,)), uh.deployed(bench))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "not json", '{"name": "a", "case": 1, "why": "", "never": "x", "allowed": "many"}']
)
def test_a_file_that_is_no_pin_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.pin.json"
    path.write_text(text)
    with pytest.raises(ProjectError, match="is not a pin") as caught:
        read_pin(path)

    assert caught.value.where == str(path)


@pytest.mark.slow
def test_pytest_fails_a_broken_pin_with_its_words_and_no_traceback(fixed_shop: Path) -> None:
    code, out = pytest_in(fixed_shop.parent)

    assert code == 1
    assert "case-1 BROKEN" in out
    assert "first: " in out
    assert "try: underhood diagnose 1" in out
    assert "Traceback" not in out
    assert "1 failed" in out


@pytest.mark.slow
def test_pytest_passes_a_pin_that_holds_and_names_a_file_that_is_no_pin(rebuilt_shop: Path, tmp_path: Path) -> None:
    path = write_pin(tmp_path, read_pin(rebuilt_shop.parent / "pins" / "case-1.pin.json"))
    path.with_name("broken.pin.json").write_text("{}")
    code, out = pytest_in(tmp_path, "--underhood-project", str(rebuilt_shop))

    assert code == 1
    assert "1 failed, 1 passed" in out
    assert "broken.pin.json: is not a pin" in out
    assert "Traceback" not in out


@pytest.mark.slow
def test_pytest_finds_no_project_and_says_so(rebuilt_shop: Path, tmp_path: Path) -> None:
    write_pin(tmp_path, read_pin(rebuilt_shop.parent / "pins" / "case-1.pin.json"))
    code, out = pytest_in(tmp_path)

    assert (code, "no project file here" in out, "Traceback" in out) == (1, True, False)


def pytest_in(folder: Path, *options: str) -> tuple[int, str]:
    """A fresh pytest over pins/ with the plugin, as a user runs it."""
    line = [sys.executable, "-m", "pytest", "-p", "underhood.faces.pytest_plugin", "-p", "no:cacheprovider", "-q"]
    line += ["--rootdir", str(folder), "-c", "/dev/null", *options, str(folder / "pins")]
    # an installed package has the plugin already, by its entry point
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False, env=alone)
    return done.returncode, done.stdout + done.stderr
