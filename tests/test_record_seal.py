"""Hot and sealed are one table: wherever a seal is killed, nothing is lost and nothing doubled."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from underhood.ground.errors import CorruptError, RecordError, UnderhoodError
from underhood.ground.records import Entry
from underhood.record.hot import hot_files
from underhood.record.log import Log
from underhood.record.seal import manifests, seal, table


class Killed(BaseException):
    """Stands for `kill -9`: no handler of errors sees it."""


def test_a_sealed_log_reads_as_the_hot_one_did(tmp_path: Path) -> None:
    write(tmp_path, decisions(60))
    before = table(tmp_path, "decision")
    (manifest,) = seal(tmp_path)

    assert before.equals(table(tmp_path, "decision"))
    assert hot_files(tmp_path) == []
    assert list((tmp_path / "log").iterdir()) == []
    assert [manifest] == manifests(tmp_path)
    day = tmp_path / "sealed" / "kind=decision" / "day=2013-03-02"
    assert [f"{manifest.stem}.parquet"] == [path.name for path in day.iterdir()]
    assert seal(tmp_path) == []


def test_columns_are_flat_typed_and_named_with_dots(tmp_path: Path) -> None:
    write(tmp_path, decisions(2))
    read = table(tmp_path, "decision")

    assert {
        "id": pa.string(),
        "at": pa.string(),
        "key": pa.string(),
        "row.origin": pa.string(),
        "row.wind": pa.float64(),
        "features.hour": pa.int64(),
        "features.late": pa.bool_(),
        "score": pa.float64(),
        "flags": pa.list_(pa.string()),
        "reason": pa.null(),
    } == dict(zip(read.column_names, read.schema.types, strict=True))
    assert read["flags"].to_pylist() == [["odd", "3"], []]


@pytest.mark.parametrize("sealed", [False, True])
def test_files_with_other_columns_and_types_are_merged(tmp_path: Path, sealed: bool) -> None:
    bodies: list[dict[str, object]] = [
        {"n": 1, "m": 1, "t": None, "l": []},
        {"n": 2.5, "m": "x", "t": "text", "l": ["a"], "new": True},
        {"n": None, "m": 2.0, "t": 3.0, "l": None, "row": {"deep": {"er": 1}}},
        {"n": 3, "m": False, "t": [1], "l": None, "row": {}},
    ]
    for n, body in enumerate(bodies):
        write(tmp_path, [Entry("outcome", f"o{n}", f"2013-03-0{n + 1}T00:00:00", body)])
    if sealed:
        assert len(seal(tmp_path)) == 4
    read = table(tmp_path, "outcome")

    assert read["n"].to_pylist() == [1.0, 2.5, None, 3.0]
    assert read["m"].to_pylist() == ["1", "x", "2", "false"]
    assert read["t"].to_pylist() == [None, "text", "3", '["1"]']
    assert read["l"].to_pylist() == [[], ["a"], None, None]
    assert read["new"].to_pylist() == [None, True, None, None]
    assert read["row.deep.er"].to_pylist() == [None, None, 1, None]


def test_any_values_read_the_same_before_and_after_sealing(tmp_path: Path) -> None:
    random.seed(3)
    values = [None, True, 0, 7, 2**40, 0.5, 3.0, "", "text", [], ["a", None, 1.0], {}, {"in": 1}]
    for n in range(8):
        bodies = [{name: random.choice(values) for name in random.sample("abcd", 3)} for _ in range(6)]
        days = [f"2013-03-{random.randrange(1, 4):02}T00:00:00" for _ in bodies]
        lines = [Entry("decision", f"d{n}-{m}", days[m], body) for m, body in enumerate(bodies)]
        write(tmp_path, lines)
    before = table(tmp_path, "decision")
    seal(tmp_path)
    after = table(tmp_path, "decision")

    assert sorted(before.column_names) == sorted(after.column_names)
    assert before.equals(after.select(before.column_names))


def test_a_retried_append_appears_once(tmp_path: Path) -> None:
    write(tmp_path, decisions(3))
    seal(tmp_path)
    write(tmp_path, [*decisions(4), *decisions(2)])

    assert table(tmp_path, "decision")["id"].to_pylist() == ["d0", "d1", "d2", "d3"]


def test_nothing_written_is_a_table_without_rows_and_an_empty_file_is_removed(tmp_path: Path) -> None:
    Log(tmp_path).close()

    assert seal(tmp_path) == []
    assert hot_files(tmp_path) == []
    assert (table(tmp_path, "decision").num_rows, table(tmp_path, "decision").column_names) == (
        0,
        ["id", "at"],
    )


def test_a_file_that_is_written_or_to_be_kept_open_is_not_sealed(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.append(decisions(1))
        assert seal(tmp_path) == []
        log.append(decisions(2))
    kept = frozenset(hot_files(tmp_path))

    assert seal(tmp_path, keep_open=kept) == []
    assert len(seal(tmp_path)) == 1
    assert table(tmp_path, "decision").num_rows == 2


@pytest.mark.slow
@pytest.mark.parametrize("call", ["replace", "unlink", "fsync"])
def test_a_seal_killed_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def killed_at(step: int, before: bool) -> bool:
        record = tmp_path / f"{step}{before}"
        write(record, decisions(3))
        write(record, [Entry("outcome", "o", "2013-03-09T00:00:00", {"label": True})])
        expected = table(record, "decision")
        with monkeypatch.context() as patched:
            patched.setattr(os, call, kill_at(step, getattr(os, call), before))
            try:
                seal(record)
                killed = False
            except Killed:
                killed = True

        assert expected.equals(table(record, "decision"))
        seal(record)
        assert expected.equals(table(record, "decision"))
        assert table(record, "outcome").num_rows == 1
        assert list((record / "log").iterdir()) == []
        return killed

    for before in (True, False):
        n_steps = next(step for step in count() if not killed_at(step, before))
        assert n_steps >= 4


@pytest.mark.parametrize("call", ["replace", "unlink", "fsync"])
def test_a_disk_that_fails_while_sealing_is_reported_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*args: object) -> None:
        raise OSError(28, "No space left on device", str(args[0]))

    write(tmp_path, decisions(3))
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        with pytest.raises(RecordError, match="No space left"):
            seal(tmp_path)

    assert table(tmp_path, "decision").num_rows == 3
    seal(tmp_path)
    assert table(tmp_path, "decision").num_rows == 3


def test_a_file_sealed_while_the_table_is_read_is_neither_lost_nor_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, decisions(3))
    listed = hot_files

    def listed_then_sealed(record: Path) -> list[Path]:
        found = listed(record)
        seal(record)
        return found

    monkeypatch.setattr("underhood.record.seal.hot_files", Once(listed_then_sealed, listed))

    assert table(tmp_path, "decision").num_rows == 3


def test_a_damaged_segment_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path, decisions(6))
    seal(tmp_path)
    segment = sorted(tmp_path.glob("sealed/*/*/*.parquet"))[0]
    lost = pq.ParquetFile(segment).metadata.num_rows
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)

    with pytest.raises(CorruptError) as caught:
        table(tmp_path, "decision")
    assert caught.value.where == str(segment)
    bad: list[UnderhoodError] = []
    assert table(tmp_path, "decision", bad).num_rows == 6 - lost
    assert len(bad) == 1


def test_a_file_that_cannot_be_read_in_full_stays_hot_while_others_are_sealed(tmp_path: Path) -> None:
    write(tmp_path, decisions(2))
    hot = hot_files(tmp_path)[0]
    hot.write_bytes(hot.read_bytes().replace(b'"key":"k1"', b'"key":"k9"'))
    write(tmp_path, [Entry("outcome", "o", "2013-03-09T00:00:00", {"label": True})])

    with pytest.raises(CorruptError, match="not what was written"):
        seal(tmp_path)
    assert [hot] == hot_files(tmp_path)
    assert len(manifests(tmp_path)) == 1


class Once:
    """The first call goes to one function, later ones to another."""

    def __init__(self, first: Callable[[Path], list[Path]], then: Callable[..., list[Path]]) -> None:
        self.calls = [first]
        self.then = then

    def __call__(self, record: Path, sealed: bool = False) -> list[Path]:
        return self.calls.pop()(record) if self.calls else self.then(record, sealed)


def kill_at(step: int, act: Callable[..., object], before: bool) -> Callable[..., object]:
    """As `act`, but the call number `step` ends in a kill, before or after it is done."""
    calls = count()

    def acts(*args: object, **named: object) -> object:
        dies = next(calls) == step
        if dies and before:
            raise Killed
        done = act(*args, **named)
        if dies:
            raise Killed
        return done

    return acts


def decisions(n: int) -> list[Entry]:
    """Over three days."""
    return [
        Entry(
            "decision",
            f"d{i}",
            f"2013-03-{i * 3 // n + 1:02}T19:00:00.{i:06}",
            {
                "key": f"k{i}",
                "row": {"origin": "EWR", "wind": None if i % 2 else i / 4},
                "features": {"hour": i % 24, "late": i % 3 == 0},
                "score": i / 10,
                "flags": [] if i % 2 else ("odd", 3),
                "reason": None,
            },
        )
        for i in range(n)
    ]


def write(record: Path, entries: list[Entry]) -> None:
    with Log(record) as log:
        log.append(entries)
