"""A patch has an owner and a last day; it acts until then, and is never silent afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests import world
from underhood.faces.cli import main
from underhood.faults.served import inject_model, undo_skew
from underhood.ground.errors import NotFoundError, ProjectError
from underhood.plan.changes import INPUT, LABEL, ROUTE, THRESHOLD, Change
from underhood.plan.exprs import col
from underhood.repair import workbench as uh
from underhood.repair.patches import (
    Patch,
    decision_side,
    in_force,
    make_patch,
    missing_from,
    read_patches,
    remove_patch,
    training_side,
    write_patch,
)

Own = Callable[[Path], Path]
ICE = Change(ROUTE, "route", "desk", col("row.ice") > 4)
RELABEL = Change(LABEL, "late", True, col("facts.returned"))


def patch(*changes: Change, owner: str = "parcel desk", expires: str = "2024-03-25", name: str = "by-hand") -> Patch:
    return make_patch(name, changes or (ICE,), owner, expires, 1, "icy days")


@pytest.mark.parametrize("owner", ["", "  ", "\n"])
def test_a_patch_without_an_owner_is_refused(owner: str) -> None:
    with pytest.raises(ProjectError, match="has no owner") as caught:
        patch(owner=owner)

    assert "--owner" in caught.value.hint


@pytest.mark.parametrize(
    "expires", ["", "soon", "2024-3-1", "2024-02-30", "2024-13-01", "31.12.2024", "2024-03-25T00:00"]
)
def test_a_patch_without_a_last_day_is_refused(expires: str) -> None:
    with pytest.raises(ProjectError, match="is not a day") as caught:
        patch(expires=expires)

    assert "2013-06-30" in caught.value.hint


@pytest.mark.parametrize("name", ["", "../x", "A b", "-x", "x" * 80])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(ProjectError, match="cannot name a patch"):
        patch(name=name)


def test_a_bundle_is_not_patched_but_deployed() -> None:
    with pytest.raises(ProjectError, match="a bundle is deployed, not patched"):
        patch(*inject_model("bundle-0"))


def test_what_history_gives_cannot_be_a_patch() -> None:
    with pytest.raises(ProjectError, match="what history gives for ice is not at hand"):
        patch(*undo_skew(["ice"]))


def test_a_patch_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = patch(ICE, RELABEL, Change(THRESHOLD, "call", 0.2), Change(INPUT, "jam", None, col("row.jam") > 80))
    write_patch(tmp_path, made)
    (found,) = read_patches(tmp_path)

    assert [str(c) for c in found.changes] == [str(c) for c in made.changes]
    assert (found.name, found.owner, found.expires, found.case) == ("by-hand", "parcel desk", "2024-03-25", 1)


def test_a_file_that_is_no_patch_is_named(tmp_path: Path) -> None:
    path = write_patch(tmp_path, patch())
    for text in ("", "{}", "[]", '{"patch": 1, "changes": 3}', path.read_text().replace("route", "rout")):
        path.write_text(text)
        with pytest.raises(ProjectError) as caught:
            read_patches(tmp_path)
        assert "by-hand.json" in str(caught.value) or "patch.part" in caught.value.where


def test_a_patch_acts_through_its_last_day_and_no_longer() -> None:
    one = patch()

    assert in_force([one], "2024-03-25") == ([one], [])
    assert in_force([one], "2024-03-26") == ([], [one])


def test_training_changes_go_to_builds_and_the_others_to_decisions() -> None:
    one = patch(ICE, RELABEL)

    assert training_side([one]) == [RELABEL]
    assert [(p.name, p.change) for p in decision_side([one])] == [("by-hand", ICE)]


def test_a_patch_in_force_acts_in_decisions_and_is_named_in_them(built_shop: Path, own: Own) -> None:
    project = own(built_shop)
    write_patch(project.parent / ".underhood", patch(expires="2024-03-20"))
    world.decide_shop(project, "2024-03-19", "2024-03-22")
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        sql = "select action = 'desk', patches, count(*), min(\"row.ice\") > 4 from decided group by all order by 1"
        rows = bench.engine.rows(sql)

    assert rows == [(False, [], 134, False), (True, ["by-hand"], 67, True)]


def test_an_expired_patch_does_not_act(built_shop: Path, own: Own) -> None:
    project = own(built_shop)
    write_patch(project.parent / ".underhood", patch(expires="2024-03-19"))
    world.decide_shop(project, "2024-03-20", "2024-03-21")
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        assert bench.engine.rows("select distinct action, patches from decided") == [("quiet", [])]


def test_a_patch_that_expires_within_a_span_stops_acting_within_it(built_shop: Path, own: Own) -> None:
    project = own(built_shop)
    write_patch(project.parent / ".underhood", patch(Change(ROUTE, "route", "desk"), expires="2024-03-20"))
    world.decide_shop(project, "2024-03-19", "2024-03-22")
    with world.open_shop(project) as bench:
        assert bench.n_decisions
        rows = bench.engine.rows(
            "select day, count(*) filter (where action = 'desk') from decided group by 1 order by 1"
        )

    assert rows == [("2024-03-19", 67), ("2024-03-20", 67), ("2024-03-21", 0)]


def test_an_expired_patch_is_never_silent(shop: Path, own: Own) -> None:
    project = own(shop)
    write_patch(project.parent / ".underhood", patch(expires="2024-04-07"))
    write_patch(project.parent / ".underhood", patch(expires="2024-04-08", name="today"))
    with world.open_shop(project) as bench:
        assert [p.name for p in uh.expired(bench)] == ["by-hand"]


def test_a_patch_that_is_undone_acts_no_more(tmp_path: Path) -> None:
    write_patch(tmp_path, patch())
    remove_patch(tmp_path, "by-hand")

    assert read_patches(tmp_path) == []
    with pytest.raises(NotFoundError, match="there is no such patch"):
        remove_patch(tmp_path, "by-hand")


@pytest.mark.parametrize("name", ["../../x", "", "/etc/passwd", "nope"])
def test_only_a_patch_can_be_undone(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.json").write_text("{}")
    write_patch(tmp_path, patch())
    with pytest.raises(NotFoundError):
        remove_patch(tmp_path, name)

    assert (tmp_path / "x.json").is_file()


def test_a_training_patch_is_missing_from_a_bundle_until_it_is_built_with(fixed_shop: Path) -> None:
    with world.open_shop(fixed_shop) as bench:
        found = missing_from(uh.deployed(bench), read_patches(bench.record))

    assert [p.name for p in found] == [read_patches(fixed_shop.parent / ".underhood")[0].name]


def test_a_fix_becomes_a_patch_with_the_case_the_owner_and_the_day(case_shop: Path, own: Own) -> None:
    with world.open_shop(own(case_shop)) as bench:
        made = uh.apply_fix(bench, 1, 1, owner="desk", days=10)

        assert (made.owner, made.expires, made.case) == ("desk", "2024-04-18", 1)
        assert [p.name for p in read_patches(bench.record)] == [made.name]


@pytest.mark.parametrize("fix", [0, -1, 99])
def test_a_fix_that_is_not_there_is_refused(case_shop: Path, fix: int) -> None:
    with world.open_shop(case_shop) as bench, pytest.raises(NotFoundError, match="case 1 has"):
        uh.apply_fix(bench, 1, fix, owner="desk")


def test_a_label_patch_waits_for_the_next_build_and_status_says_so(built_shop: Path, own: Own) -> None:
    project = own(built_shop)
    relabel = Change(LABEL, "late", True, col("facts.returned"))
    write_patch(project.parent / ".underhood", patch(relabel, expires="2099-12-31"))

    with world.open_shop(project) as bench:
        assert [p.name for p in uh.waiting(bench)] == ["by-hand"]


def run(project: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--project", str(project), *words], prog_name="underhood")


LATE = "expired: patch by-hand ended on 2024-03-25: parcel desk must renew it"


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("doctor",),
        ("build", "--until", "2024-01-25"),
        ("decide", "--since", "2024-03-08", "--until", "2024-03-09"),
        ("case", "open", "On 20 March you kept quiet about 53 others"),
        ("pins",),
    ],
    ids=" ".join,
)
def test_an_expired_patch_is_told_wherever_somebody_looks(shop: Path, own: Own, words: tuple[str, ...]) -> None:
    project = own(shop)
    write_patch(project.parent / ".underhood", patch())
    said = run(project, *words)

    assert LATE in " ".join(said.stdout.split()), said.output


def test_an_expired_patch_is_told_in_json_too(shop: Path, own: Own) -> None:
    project = own(shop)
    write_patch(project.parent / ".underhood", patch())

    for words in (("status",), ("decide", "--since", "2024-03-08", "--until", "2024-03-09")):
        assert json.loads(run(project, *words, "--json").stdout)["expired_patches"] == ["by-hand"]


def test_a_patch_that_is_in_force_is_not_told_as_expired(shop: Path, own: Own) -> None:
    project = own(shop)
    write_patch(project.parent / ".underhood", patch(expires="2999-12-31"))

    assert "expired" not in run(project, "status").stdout


@pytest.mark.slow
def test_pytest_names_a_patch_that_has_expired_beside_the_pins(fixed_shop: Path, own: Own) -> None:
    project = own(fixed_shop)
    write_patch(project.parent / ".underhood", patch())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "pins"],
        cwd=project.parent,
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"{LATE} or mend the cause" in done.stdout


WRONG: dict[str, tuple[Change, str]] = {
    "a bundle": (Change("bundle", "bundle", "bundle-0"), "a bundle is deployed, not patched"),
    "another moment of learning": (Change("training until", "training", "2024-03-20"), "learned by a build"),
    "a part of drills": (Change("score", "score", 1.0), "no part that a patch can change"),
    "no weight": (Change("training weights", "training", 0.0), "0.0 is no weight"),
    "a calibration upside down": (Change("calibration", "score", (0.0, -1.0)), "slope of a calibration is more than 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_patch_can_do_is_refused_with_what_to_do(name: str) -> None:
    change, what = WRONG[name]
    with pytest.raises(ProjectError, match=what) as caught:
        patch(change)

    assert caught.value.hint
