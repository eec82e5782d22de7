"""Decisions with their latest outcomes as one table: of large records and small, and if entries come twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests import world
from underhood.ground.errors import CorruptError
from underhood.record.seal import seal, seal_columns
from underhood.repair import decided

Own = Callable[[Path], Path]
LAID = 'select id, place, again, "row.kg", label, known_at from decided order by id'


def sealed(project: Path, kind: str) -> list[Path]:
    return sorted((project.parent / ".underhood" / "sealed" / f"kind={kind}").glob("day=*/*.parquet"))


@pytest.fixture
def record(right_built: Path, own: Own) -> Path:
    """A shop of a few decided days, sealed."""
    project = own(right_built)
    world.decide_shop(project)
    with world.open_shop(project) as opened:
        seal(opened.record)
    assert sealed(project, "decision")
    return project


def laid(project: Path) -> list[tuple[object, ...]]:
    with world.open_shop(project) as opened:
        assert opened.n_decisions
        return opened.engine.rows(LAID)


@pytest.mark.slow
def test_places_are_in_order_of_id_and_only_a_question_that_came_twice_came_again(record: Path) -> None:
    rows = laid(record)

    assert [place for _, place, *_ in rows] == list(range(1, len(rows) + 1))
    assert not any(again for _, _, again, *_ in rows)


@pytest.mark.slow
def test_a_large_record_is_numbered_as_it_lies_and_is_otherwise_the_same(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = laid(record)
    monkeypatch.setattr(decided, "SHARED", 100)
    monkeypatch.setattr(decided, "VERSION", -1)  # another file of the cache
    large = laid(record)

    assert sorted(place for _, place, *_ in large) == list(range(1, len(large) + 1))
    assert [(i, *rest) for i, _, *rest in large] == [(i, *rest) for i, _, *rest in small]


@pytest.mark.slow
def test_an_entry_that_was_sealed_twice_and_a_question_decided_twice_are_laid_out_as_they_would_be_in_order(
    record: Path,
) -> None:
    before = laid(record)
    file = sealed(record, "decision")[0]
    entries = pq.read_table(file, partitioning=None)
    first, other = entries.slice(0, 1), entries.slice(1, 1)
    early = other.set_column(other.column_names.index("id"), "id", pa.array(["0" * 32]))
    day = file.parent.name.removeprefix("day=")
    seal_columns(
        record.parent / ".underhood", "hot-99990101T000000-1-0a", {("decision", day): pa.concat_tables([first, early])}
    )

    rows = laid(record)
    again = {row[0] for row in rows if row[2]}

    assert len(rows) == len(before) + 1  # the entry that was sealed twice is one
    assert [place for _, place, *_ in rows] == list(range(1, len(rows) + 1))
    assert again == {"0" * 32, other["id"][0].as_py()}


@pytest.mark.slow
def test_of_two_outcomes_of_a_question_the_later_known_counts(record: Path) -> None:
    before = {row[0]: row for row in laid(record)}
    file = sealed(record, "outcome")[0]
    entry = pq.read_table(file, partitioning=None).slice(0, 1)
    key = entry["key"][0].as_py()
    later = entry.set_column(entry.column_names.index("id"), "id", pa.array(["f" * 32]))
    later = later.set_column(later.column_names.index("known_at"), "known_at", pa.array(["2034-01-01T00:00:00.000000"]))
    later = later.set_column(later.column_names.index("label"), "label", pc.invert(entry["label"]))
    seal_columns(
        record.parent / ".underhood",
        "hot-99990101T000000-1-0a",
        {("outcome", file.parent.name.removeprefix("day=")): later},
    )

    with world.open_shop(record) as opened:
        assert opened.n_decisions
        rows = opened.engine.rows(LAID.replace("order", f"where key = '{key}' order"))

    assert [row[4] for row in rows] == [not before[row[0]][4] for row in rows]
    assert str(rows[0][5]).startswith("2034-01-01")


@pytest.mark.slow
def test_a_segment_with_other_bytes_than_were_sealed_is_not_laid_out(record: Path) -> None:
    file = sealed(record, "decision")[0]
    held = bytearray(file.read_bytes())
    held[len(held) // 3] ^= 0xFF
    file.write_bytes(held)

    with pytest.raises(CorruptError, match=file.name):
        laid(record)
