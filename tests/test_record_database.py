"""What changes is kept, with its history, by threads, processes and forked children alike."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from underhood.ground.errors import CorruptError, NotFoundError, RecordError
from underhood.record.database import Database

AT = "2013-03-08T19:00:00.000000"
LATER = "2013-03-09T19:00:00.000000"


def test_the_newest_deployment_is_current_and_the_history_stays(tmp_path: Path) -> None:
    with Database(tmp_path) as db:
        db.deploy("departures", "bundle-1", LATER, "ada")
        db.deploy("departures", "bundle-2", AT, "bob")
        db.deploy("departures", "bundle-1", AT, "rollback")

        assert (db.deployed("departures").bundle, db.deployed("departures").by) == ("bundle-1", "rollback")
        assert [row.bundle for row in db.deployments("departures")] == ["bundle-1", "bundle-2", "bundle-1"]
        with pytest.raises(NotFoundError, match="did you mean departures"):
            db.deployed("departure")


def test_builds_are_kept_newest_first_and_an_id_means_one_build(tmp_path: Path) -> None:
    with Database(tmp_path) as db:
        db.add_build("b1", LATER, {"loss": 0.5})
        db.add_build("b2", AT, {"loss": 0.4})
        db.add_build("b1", AT, {"loss": 0.5})

        assert [build.id for build in db.builds()] == ["b2", "b1"]
        assert db.build("b1").at == LATER
        with pytest.raises(RecordError, match="is there already and differs"):
            db.add_build("b1", AT, {"loss": 0.6})
        with pytest.raises(NotFoundError, match="did you mean b"):
            db.build("b3")


def test_cases_are_numbered_and_saved_in_their_new_state(tmp_path: Path) -> None:
    with Database(tmp_path) as db:
        first, second = db.add_case(AT, "open", {"text": "tür"}), db.add_case(LATER, "open", {})
        db.save_case(first, "closed", {"text": "tür", "cause": None})

        assert (first, second) == (1, 2)
        assert db.case(1).body == {"text": "tür", "cause": None}
        assert [case.number for case in db.cases()] == [2, 1]
        assert [case.number for case in db.cases("open")] == [2]
        with pytest.raises(NotFoundError, match="there is no case 7"):
            db.save_case(7, "open", {})


def test_patches_and_pins_are_replaced_by_name(tmp_path: Path) -> None:
    with Database(tmp_path) as db:
        db.save_patch("cap-wind", AT, None, "proposed", {"part": "wind"})
        db.save_patch("cap-wind", AT, LATER, "live", {"part": "wind"})
        db.save_pin("case-1", AT, 1, {"action": "warn"})

        assert (db.patch("cap-wind").expires, db.patch("cap-wind").state) == (LATER, "live")
        assert [patch.name for patch in db.patches("live")] == ["cap-wind"]
        assert db.patches("proposed") == []
        assert [db.pin("case-1")] == db.pins()
        with pytest.raises(NotFoundError, match="cap-wind"):
            db.patch("cap-wnd")
        with pytest.raises(NotFoundError):
            db.pin("case-2")


def test_a_body_that_is_not_json_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    with Database(tmp_path) as db:
        for body in ({"x": object()}, {"x": float("nan")}):
            with pytest.raises(RecordError, match="cannot be written as JSON"):
                db.add_case(AT, "open", body)

        assert db.cases() == []


def test_what_was_written_is_there_when_opened_again(tmp_path: Path) -> None:
    with Database(tmp_path / "deep" / "record") as db:
        db.deploy("departures", "bundle-1", AT, "ada")

    with Database(tmp_path / "deep" / "record") as again:
        assert again.deployed("departures").bundle == "bundle-1"
    with pytest.raises(RecordError, match="it is closed"):
        again.deployed("departures")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_writes_through_its_own_connection(tmp_path: Path) -> None:
    with Database(tmp_path) as db:
        db.add_case(AT, "parent", {})
        child = os.fork()
        if not child:
            os._exit(0 if db.add_case(AT, "child", {}) == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        db.add_case(AT, "parent", {})

        assert [case.state for case in db.cases()] == ["parent", "child", "parent"]


def test_a_file_that_is_no_database_or_too_new_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "underhood.db").write_bytes(b"hello" * 1000)
    (tmp_path / "b").mkdir()
    db = sqlite3.connect(tmp_path / "b" / "underhood.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    (tmp_path / "c").write_text("a file where the folder should be")

    with pytest.raises(CorruptError, match="not a record's file"):
        Database(tmp_path / "a")
    with pytest.raises(RecordError, match="format 99"):
        Database(tmp_path / "b")
    with pytest.raises(RecordError, match="cannot be made"):
        Database(tmp_path / "c")
