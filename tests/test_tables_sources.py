"""Any file becomes a sound table or a clear error: never a table that is quietly wrong."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import underhood as uh
from underhood.ground.errors import ProjectError, SourceError, UnderhoodError
from underhood.plan.steps import Source, System
from underhood.tables.local import Engine, read_plan

GOOD = "id,at,x\na,2024-02-29 12:00:00,1\nb,2024-03-01,2.5\n"
NOON = datetime(2024, 2, 29, 12)


def bad(x: Any) -> Any:
    return x > 0


def asked(path: str = "t.csv", **changed: Any) -> Source:
    return uh.source(path, **{"happened": "at", "name": "t"} | changed)


def system(source: Source, *others: Source) -> System:
    asks = source.asks("at")
    for other in others:
        asks = asks.asof(other, by="id", take=[])
    return uh.system(
        "s",
        asks=asks,
        features=["x"],
        label=uh.label(bad, known="at"),
        goal=uh.goal("call", costs=uh.costs(call=(1, 1), wait=(0, 2))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )


def table(folder: Path, made: Source) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The types and the rows of a source as it is read."""
    with Engine(threads=1) as engine:
        plan = read_plan(engine, system(made), folder, folder / "record")
        rows = engine.dicts("select * from t order by __row")
        schema = dict(plan.sources["t"].schema)
    return schema, [{name: row[name] for name in schema} for row in rows]


def problem(folder: Path, made: Source, *others: Source, kind: type[UnderhoodError] = SourceError) -> UnderhoodError:
    """The error that a source's file gives."""
    with Engine(threads=1) as engine, pytest.raises(kind) as found:
        read_plan(engine, system(made, *others), folder, folder / "record")
    assert found.value.what
    assert found.value.where
    return found.value


def written(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def zipped(folder: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(folder / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "t.zip"


def parquet(folder: Path, **columns: Any) -> Source:
    """A Parquet source with the columns at and x, unless given."""
    first = len(next(iter(columns.values())))
    usual = {"at": pa.array([NOON] * first, pa.timestamp("us")), "x": pa.array([1.0] * first)}
    pq.write_table(pa.table(usual | columns), folder / "t.parquet")
    return asked("t.parquet")


# --- files ---


def test_a_plain_table_is_read_with_its_types(tmp_path: Path) -> None:
    written(tmp_path, GOOD)

    schema, rows = table(tmp_path, asked(key="id"))

    assert schema == {"id": "text", "at": "time", "x": "number"}
    assert [{"id": "a", "at": NOON, "x": 1.0}, {"id": "b", "at": datetime(2024, 3, 1), "x": 2.5}] == rows


def test_a_missing_file_is_told_with_the_names_that_are_near(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "orders.csv")

    error = problem(tmp_path, asked("order.csv"))

    assert ("there is no such file", str(tmp_path / "order.csv")) == (error.what, error.where)
    assert error.hint == "did you mean orders.csv?"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(("line", "n"), [("c,2024-01-01,1,2", 4), ("c,2024-01-01", 2)])
def test_a_ragged_line_is_named(tmp_path: Path, line: str, n: int, separator: str) -> None:
    written(tmp_path, (GOOD + f"{line}\n" + "d,2024-01-01,3\n" * 50).replace(",", separator))

    error = problem(tmp_path, asked())

    assert f"line 4 has {n} values, the header names 3 columns" == error.what
    assert str(tmp_path / "t.csv") == error.where
    assert "needs quotes" in error.hint


def test_a_table_of_one_column_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    written(tmp_path, '"at,x"\n2024-02-29\n')

    assert "there is no column 'at'" in problem(tmp_path, asked(), kind=ProjectError).what


def test_a_text_with_separators_quotes_and_lines_stays_one_text(tmp_path: Path) -> None:
    written(tmp_path, GOOD + '"x ""y"",\nz",2024-03-01,3\n')

    assert table(tmp_path, asked())[1][2]["id"] == 'x "y",\nz'


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_that_is_not_utf8_is_read_with_its_letters(tmp_path: Path, encoding: str) -> None:
    written(tmp_path, (GOOD + "é,2024-03-01,3\n").encode(encoding))

    _, rows = table(tmp_path, asked(key="id"))

    assert [row["id"] for row in rows] == ["a", "b", "é"]


def test_bytes_that_are_no_table_are_told(tmp_path: Path) -> None:
    written(tmp_path, bytes(range(256)) * 20)
    assert "cannot be read" in problem(tmp_path, asked()).what

    written(tmp_path, b"not parquet", "t.parquet")
    assert "cannot be read" in problem(tmp_path, asked("t.parquet")).what


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    written(tmp_path, "\ufeff" + GOOD)

    assert list(table(tmp_path, asked())[0]) == ["id", "at", "x"]


@pytest.mark.parametrize("content", ["", "id,at,x\n", "id,at,x"])
def test_a_file_without_rows_is_told(tmp_path: Path, content: str) -> None:
    written(tmp_path, content)

    error = problem(tmp_path, asked())

    assert ("has no rows", str(tmp_path / "t.csv")) == (error.what, error.where)


def test_an_empty_parquet_file_that_says_its_types_is_sound(tmp_path: Path) -> None:
    made = parquet(tmp_path, x=pa.array([], pa.float64()))

    assert table(tmp_path, made) == ({"at": "time", "x": "number"}, [])


def test_a_column_that_is_all_null_is_a_text_that_is_always_null(tmp_path: Path) -> None:
    written(tmp_path, "id,at,x,y\na,2024-03-01,1,\nb,2024-03-01,2,NA\n")

    schema, rows = table(tmp_path, asked(nulls=["NA"]))

    assert (schema["y"], [row["y"] for row in rows]) == ("text", [None, None])


def test_columns_with_the_same_name_are_numbered(tmp_path: Path) -> None:
    written(tmp_path, "at,x,x,X\n2024-03-01,1,2,3\n")

    assert [{"at": datetime(2024, 3, 1), "x": 1.0, "x_1": 2.0, "X_2": 3.0}] == table(tmp_path, asked())[1]


def test_a_column_named_like_our_own_is_told(tmp_path: Path) -> None:
    written(tmp_path, "__row,at,x\n1,2024-03-01,1\n")

    assert (problem(tmp_path, asked()).what, problem(tmp_path, asked()).where) == ("the name is taken", "t.__row")


# --- zip ---


def test_a_zipped_table_is_read_whatever_macos_adds(tmp_path: Path) -> None:
    zipped(tmp_path, {"t.csv": GOOD, "__MACOSX/._t.csv": b"\0\5\x16\7", "readme.txt": "hi"})

    assert len(table(tmp_path, asked("t.zip"))[1]) == 2


@pytest.mark.parametrize(("members", "n"), [({"a.csv": GOOD, "b.csv": GOOD}, 2), ({"readme.txt": "hi"}, 0)])
def test_a_zip_without_exactly_one_table_is_told(tmp_path: Path, members: dict[str, str], n: int) -> None:
    zipped(tmp_path, members)

    error = problem(tmp_path, asked("t.zip"))

    assert f"holds {n} tables, not one" == error.what
    assert error.hint == "unzip it and name the file"


def test_what_is_no_zip_or_a_damaged_one_is_told(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "t.zip")
    assert problem(tmp_path, asked("t.zip")).what == "is not a zip file, or is damaged"

    path = zipped(tmp_path, {"t.csv": GOOD * 200})
    content = bytearray(path.read_bytes())
    content[45:60] = b"\xff" * 15
    path.write_bytes(content)
    assert problem(tmp_path, asked("t.zip")).what == "is not a zip file, or is damaged"


def test_a_zip_that_needs_a_password_is_told(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"t.csv": GOOD})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)

    assert "password required" in problem(tmp_path, asked("t.zip")).what


@pytest.mark.parametrize("name", ["../../escaped.csv", "/tmp/underhood-escaped.csv", "..\\escaped.csv"])
def test_a_member_that_points_outside_is_read_and_written_nowhere_else(tmp_path: Path, name: str) -> None:
    home = tmp_path / "deep" / "project"
    home.mkdir(parents=True)
    zipped(home, {name: GOOD})

    assert len(table(home, asked("t.zip"))[1]) == 2
    assert [p for p in [*tmp_path.rglob("*escaped*"), Path("/tmp/underhood-escaped.csv")] if p.exists()] == []


# --- keys ---


def test_a_key_that_repeats_is_told_with_its_first_value(tmp_path: Path) -> None:
    written(tmp_path, GOOD + "b,2024-03-02,3\nb,2024-03-03,3\n")

    error = problem(tmp_path, asked(key="id"))

    assert (error.what, error.where) == ("3 rows share their key with another (first: b)", "t.id")


def test_a_key_column_that_is_missing_is_told_with_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, GOOD)

    error = problem(tmp_path, asked(key=["idd", "at"]))

    assert (error.what, error.where, error.hint) == ("has no key column 'idd'", "t", "did you mean id?")


# --- values ---


@pytest.mark.parametrize("first", [2**53 + 1, 2**63 - 1, 2**63 + 7, 10**25, -(2**53) - 5])
def test_whole_numbers_that_a_float_would_round_are_kept_as_texts(tmp_path: Path, first: int) -> None:
    written(tmp_path, f"at,x,id\n2024-03-01,1,{first}\n2024-03-01,2,{first - 1}\n2024-03-01,2,\n")

    schema, rows = table(tmp_path, asked())

    assert ("text", [str(first), str(first - 1), None]) == (schema["id"], [row["id"] for row in rows])


def test_whole_numbers_up_to_two_to_the_53_are_numbers(tmp_path: Path) -> None:
    written(tmp_path, f"at,x\n2024-03-01,{2**53}\n2024-03-01,{-(2**53)}\n")

    schema, rows = table(tmp_path, asked())

    assert ("number", {2.0**53, -(2.0**53)}) == (schema["x"], {row["x"] for row in rows})


def test_a_large_measurement_stays_a_number(tmp_path: Path) -> None:
    written(tmp_path, "at,x\n2024-03-01,1e300\n2024-03-01,0.5\n")

    assert [row["x"] for row in table(tmp_path, asked())[1]] == [1e300, 0.5]


def test_exact_numbers_of_parquet_are_kept_exact_or_as_texts(tmp_path: Path) -> None:
    big = Decimal(2**60)
    made = parquet(
        tmp_path,
        id=pa.array([big, big + 1], pa.decimal128(38, 0)),
        n=pa.array([2**60, 2**60 + 1]),
        u=pa.array([2**64 - 1, 0], pa.uint64()),
        price=pa.array([Decimal("1.10"), None], pa.decimal128(10, 2)),
        x=pa.array([1, 2], pa.int8()),
    )

    schema, rows = table(tmp_path, made)

    assert [schema[c] for c in ("id", "n", "u", "price", "x")] == ["text", "text", "text", "number", "number"]
    assert [(str(2**60), str(2**60), str(2**64 - 1), 1.1), (str(2**60 + 1), str(2**60 + 1), "0", None)] == [
        (row["id"], row["n"], row["u"], row["price"]) for row in rows
    ]


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_what_is_not_finite_in_parquet_is_null(tmp_path: Path, kind: Any) -> None:
    made = parquet(tmp_path, x=pa.array([0.5, float("nan"), float("inf"), float("-inf"), None], kind))

    assert [row["x"] for row in table(tmp_path, made)[1]] == [0.5, None, None, None, None]


def test_what_is_not_finite_in_a_csv_is_null(tmp_path: Path) -> None:
    written(tmp_path, "at,x\n2024-03-01,0.5\n2024-03-01,nan\n2024-03-01,inf\n")

    assert [row["x"] for row in table(tmp_path, asked())[1]] == [0.5, None, None]


def test_times_with_a_zone_become_utc(tmp_path: Path) -> None:
    written(tmp_path, "at,x\n2024-02-29T14:00:00+02:00,1\n2024-02-29T12:00:00Z,2\n2024-02-29T06:30:00-05:30,3\n")

    assert [row["at"] for row in table(tmp_path, asked())[1]] == [NOON] * 3


def test_times_with_a_zone_in_parquet_become_utc(tmp_path: Path) -> None:
    noon = datetime(2024, 2, 29, 14, tzinfo=timezone(timedelta(hours=2)))
    moments = pa.array([noon.astimezone(UTC)], pa.timestamp("us", "America/New_York"))

    assert [row["at"] for row in table(tmp_path, parquet(tmp_path, at=moments))[1]] == [NOON]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_are_read(tmp_path: Path, unit: str) -> None:
    at = pa.array([NOON, None], pa.timestamp(unit))

    assert [row["at"] for row in table(tmp_path, parquet(tmp_path, at=at))[1]] == [NOON, None]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_an_infinite_time_is_null(tmp_path: Path, zone: str | None) -> None:
    at = pa.array([0, 2**63 - 1, -(2**63) + 1], pa.int64()).cast(pa.timestamp("us", zone))

    assert [datetime(1970, 1, 1), None, None] == [row["at"] for row in table(tmp_path, parquet(tmp_path, at=at))[1]]


def test_days_become_their_midnight(tmp_path: Path) -> None:
    made = parquet(tmp_path, at=pa.array([date(2024, 2, 29), date(1, 1, 1), None], pa.date32()))

    assert [datetime(2024, 2, 29), datetime(1, 1, 1), None] == [row["at"] for row in table(tmp_path, made)[1]]


def test_nested_and_strange_columns_are_texts(tmp_path: Path) -> None:
    made = parquet(
        tmp_path,
        s=pa.array([{"a": 1}, None]),
        items=pa.array([[1, 2], []]),
        none=pa.nulls(2),
        level=pa.array(["a", "b"]).dictionary_encode(),
        raw=pa.array([b"ab", None]),
        flag=pa.array([True, None]),
    )

    schema, rows = table(tmp_path, made)

    assert [schema[c] for c in ("s", "items", "level", "raw", "flag")] == ["text", "text", "text", "text", "flag"]
    assert [(row["items"], row["none"], row["level"], row["flag"]) for row in rows] == [
        ("[1, 2]", None, "a", True),
        ("[]", None, "b", None),
    ]


# --- all at once, and once only ---


def test_the_breakages_of_several_sources_are_told_in_one_go(tmp_path: Path) -> None:
    written(tmp_path, GOOD + "b,2024-03-02,3\n")
    written(tmp_path, "id,at\n", "empty.csv")
    others = [uh.source(name, happened="at") for name in ("empty.csv", "gone.csv")]

    error = problem(tmp_path, asked(key="id"), *others)

    told = [error.where, *[each.where for each in error.also]]
    assert ["t.id", str(tmp_path / "empty.csv"), str(tmp_path / "gone.csv")] == told


def test_a_source_that_failed_leaves_nothing_behind(tmp_path: Path) -> None:
    written(tmp_path, GOOD + "b,2024-03-02,3\n")
    problem(tmp_path, asked(key="id"))

    assert list((tmp_path / "record" / "cache").iterdir()) == []


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    before = table(tmp_path, asked())[1]
    written(tmp_path, GOOD.replace("2.5", "3.5"))

    assert tuple([row["x"] for row in rows] for rows in (before, table(tmp_path, asked())[1])) == (
        [1.0, 2.5],
        [1.0, 3.5],
    )
