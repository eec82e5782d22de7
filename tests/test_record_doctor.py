"""The doctor finds each planted damage, says where it is, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from underhood.ground.records import Entry
from underhood.record.database import Database
from underhood.record.doctor import audit
from underhood.record.hot import hot_files
from underhood.record.log import Log
from underhood.record.objects import folder, put
from underhood.record.seal import manifests, seal

AT = "2013-03-08T19:00:00.000000"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A sound record with one of each: object, sealed and hot file, database."""
    put(tmp_path, "bundle", b"weights")
    Database(tmp_path).close()
    for name in ("sealed", "hot"):
        with Log(tmp_path) as log:
            log.append([Entry("decision", name, AT, {"text": name})])
        if name == "sealed":
            seal(tmp_path)
    return tmp_path


def test_a_sound_record_has_no_findings_also_while_it_is_written(record: Path) -> None:
    with Log(record) as log:
        log.append([Entry("decision", "live", AT, {})])

        assert audit(record) == []


def test_a_record_that_is_not_there_has_no_findings(tmp_path: Path) -> None:
    assert audit(tmp_path / "nothing") == []


def test_a_changed_object_is_found(record: Path) -> None:
    (where,) = folder(record).iterdir()
    where.chmod(0o644)
    where.write_bytes(b"weightz")

    assert found(record) == [(str(where), "the bytes are not the ones that were put")]


def test_what_is_not_ours_or_unfinished_is_found(record: Path) -> None:
    (folder(record) / "notes.txt").write_text("hello")
    (folder(record) / ".tmp-1-abc").write_text("half")
    (record / "log" / "hot-20130308T190000-1-ab.lock").touch()

    assert [what for _, what in found(record)] == [
        "is not an object: its name is not a content name",
        "was left unfinished by a writer that was stopped",
        "belongs to a file that is not there",
    ]


def test_a_torn_hot_file_is_found(record: Path) -> None:
    (hot,) = hot_files(record)
    os.truncate(hot, 5000)

    assert {where for where, _ in found(record)} == {str(hot)}


def test_a_changed_entry_is_found(record: Path) -> None:
    (hot,) = hot_files(record)
    hot.write_bytes(hot.read_bytes().replace(b'"text":"hot"', b'"text":"hat"'))

    assert found(record) == [(str(hot), "entry 1 is not what was written")]


def test_missing_miscounted_and_unnamed_segments_are_found(record: Path) -> None:
    (manifest,) = manifests(record)
    (segment,) = record.glob("sealed/*/*/*.parquet")
    text = manifest.read_text()
    manifest.write_text(text.replace('.parquet": 1', '.parquet": 2'))
    assert found(record) == [(str(segment), "has 1 rows, its manifest says 2")]
    manifest.write_text(text)
    other = segment.rename(segment.with_name("other.parquet"))
    assert [where for where, _ in found(record)] == [str(segment), str(other)]
    manifest.write_text(text[:20])
    assert [where for where, _ in found(record)] == [str(manifest), str(other)]


def test_a_manifest_that_names_a_file_elsewhere_is_refused(record: Path) -> None:
    (manifest,) = manifests(record)
    manifest.write_text('{"format": 1, "rows": 1, "files": {"../../../etc/passwd": 1}}')

    assert (str(manifest), "is not a manifest of format 1") in found(record)


def test_each_finding_says_what_where_and_what_to_try(record: Path) -> None:
    (record / "underhood.db").write_bytes(b"not a database " * 300)
    (finding,) = audit(record)

    assert str(finding).startswith(f"{record / 'underhood.db'}: cannot be checked")
    assert "\ntry: restore it from a copy" in str(finding)


def found(record: Path) -> list[tuple[str, str]]:
    return [(finding.where, finding.what.split(": the digest")[0]) for finding in audit(record)]
