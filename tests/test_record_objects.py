"""A name says which bytes were meant, and whoever changes them is found out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from underhood.ground.errors import CorruptError, NotFoundError, RecordError
from underhood.record import objects
from underhood.record.objects import find, folder, get, names, path, put, put_file


def test_what_was_put_is_got_under_a_name_that_its_bytes_make(tmp_path: Path) -> None:
    name = put(tmp_path, "report", b"all is well", ".json")

    assert name == f"report-{hashlib.sha256(b'all is well').hexdigest()[:20]}.json"
    assert get(tmp_path, name) == b"all is well"
    assert names(tmp_path, "report") == [name]
    assert names(tmp_path, "bundle") == []


def test_the_same_bytes_twice_are_one_object(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"bytes" * 500_000)

    name = put_file(tmp_path, "training", source, ".parquet")

    assert name == put(tmp_path, "training", source.read_bytes(), ".parquet")
    assert [name] == names(tmp_path)
    assert source.read_bytes() == path(tmp_path, name, verify=True).read_bytes()


def test_a_changed_object_is_detected_and_putting_it_again_heals_it(tmp_path: Path) -> None:
    name = put(tmp_path, "bundle", b"weights")
    damage(folder(tmp_path) / name)

    for read in (lambda: get(tmp_path, name), lambda: path(tmp_path, name, verify=True)):
        with pytest.raises(CorruptError) as caught:
            read()
        assert str(folder(tmp_path) / name) == caught.value.where
        assert "again" in caught.value.hint
    assert name == put(tmp_path, "bundle", b"weights")
    assert get(tmp_path, name) == b"weights"


@pytest.mark.parametrize("name", ["../secret", "a-0123/../../secret", "/etc/passwd", "", "bundle-XYZ", "a\x00b"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("not yours")

    with pytest.raises(NotFoundError):
        get(tmp_path, name)
    with pytest.raises(NotFoundError):
        path(tmp_path, name)


@pytest.mark.parametrize(("kind", "suffix"), [("../x", ""), ("Bundle", ""), ("x", "/../y"), ("x", ".json\n")])
def test_a_kind_or_suffix_that_is_no_part_of_a_name_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    with pytest.raises(RecordError):
        put(tmp_path, kind, b"", suffix)

    assert not folder(tmp_path).exists()


def test_an_unknown_name_is_answered_with_the_nearest_ones(tmp_path: Path) -> None:
    name = put(tmp_path, "bundle", b"weights", ".json")

    with pytest.raises(NotFoundError) as caught:
        get(tmp_path, name.replace("bundle", "bundles"))

    assert name in caught.value.hint


def test_a_prefix_finds_its_object_only_if_it_is_the_only_one(tmp_path: Path) -> None:
    one, other = put(tmp_path, "bundle", b"1"), put(tmp_path, "bundle", b"2")

    assert one == find(tmp_path, one[:14])
    assert other == find(tmp_path, other)
    with pytest.raises(NotFoundError, match="2 objects begin with 'bundle'"):
        find(tmp_path, "bundle")
    with pytest.raises(NotFoundError, match="no object begins with 'report'"):
        find(tmp_path, "report")


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"before")
    monkeypatch.setattr(objects, "_pieces", lambda where: iter([b"after"]))

    with pytest.raises(RecordError, match="changed while it was read"):
        put_file(tmp_path, "report", source)

    assert list(folder(tmp_path).iterdir()) == []


def damage(where: Path) -> None:
    data = bytearray(where.read_bytes())
    data[len(data) // 2] ^= 1
    where.chmod(0o644)
    where.write_bytes(data)
