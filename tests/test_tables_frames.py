"""Tables as they come: whatever is wrong with the file, a clear error or a line set aside, and nothing is lost."""

from __future__ import annotations

import gzip
import http.server
import json
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.ground.errors import SourceError
from underhood.signs.profile import profile_table
from underhood.tables.downloads import downloaded
from underhood.tables.frames import Table, open_folder, open_table
from underhood.tables.local import Engine

GOOD = "id,name,x\n1,ann,1.5\n2,bob,2.5\n"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as made:
        yield made


def opened(engine: Engine, folder: Path, content: str | bytes, name: str = "t.csv") -> Table:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_table(engine, path)


def rows(engine: Engine, table: Table) -> list[tuple[Any, ...]]:
    return engine.rows(f'select * from "{table.name}"')


def rejected(engine: Engine, table: Table) -> list[tuple[Any, ...]]:
    return engine.rows(f'select line, text, why from "{table.name} rejected" order by line')


def problem(what: Any) -> SourceError:
    with Engine(threads=1) as engine, pytest.raises(SourceError) as found:
        open_table(engine, what)
    assert found.value.what
    assert found.value.where
    assert found.value.hint
    return found.value


# --- CSV ---


def test_a_csv_has_a_name_types_and_its_origin(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, GOOD, "people.csv")

    assert (found.name, found.rows, found.origin) == ("people", 2, str(tmp_path / "people.csv"))
    assert dict(found.kinds) == {"id": "number", "name": "text", "x": "number"}
    assert (found.rejected, found.notes) == (0, ())


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_lines_with_too_many_or_too_few_values_are_set_aside(engine: Engine, tmp_path: Path, separator: str) -> None:
    lines = [*[f"{n},name {n},{n}.5" for n in range(3000)], "7,a,2,more,yet", "9"]

    found = opened(engine, tmp_path, "\n".join(["id,name,x", *lines]).replace(",", separator))

    assert (found.rows, found.rejected) == (3000, 2)
    assert [(n, why) for n, _, why in rejected(engine, found)] == [
        (3002, "too many columns"),
        (3003, "missing columns"),
    ]
    assert rejected(engine, found)[0][1] == "7,a,2,more,yet".replace(",", separator)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_any_encoding_is_read_with_its_letters(engine: Engine, tmp_path: Path, encoding: str) -> None:
    text = "id,name\n" + "".join(f"{n},Müller é\n" for n in range(50))

    found = opened(engine, tmp_path, text.encode(encoding))

    assert list(found.columns) == ["id", "name"]
    assert rows(engine, found)[-1] == (49, "Müller é")
    assert bool(found.notes) == (not encoding.startswith("utf-8"))


def test_a_line_in_another_encoding_than_the_others_is_set_aside(engine: Engine, tmp_path: Path) -> None:
    text = ("id,name\n" + "".join(f"{n},Müller\n" for n in range(50))).encode() + b"50,M\xfcller\n51,x\n"

    found = opened(engine, tmp_path, text)

    assert (found.rows, found.rejected) == (51, 1)
    assert rejected(engine, found)[0][0] == 52


def test_columns_of_the_same_name_are_kept_and_told(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, "a,a,B,b\n1,2,3,4\n")

    assert len(found.columns) == 4
    assert rows(engine, found) == [(1, 2, 3, 4)]
    assert "same name: a, b" in found.notes[0]


def test_quoted_lines_and_quotes_are_values(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, 'id,t\n1,"a\nb"\n2,"c ""q"", d"\n3,\n')

    assert rows(engine, found) == [(1, "a\nb"), (2, 'c "q", d'), (3, None)]


@pytest.mark.parametrize("cell", ["x" * 10_000_000, '"' + ("x" * 99 + "\n") * 100_000 + '"'], ids=["long", "of lines"])
@pytest.mark.slow
def test_a_cell_of_ten_megabytes_is_read_whole(engine: Engine, tmp_path: Path, cell: str) -> None:
    found = opened(engine, tmp_path, f"id,t\n1,{cell}\n2,b\n")

    assert engine.rows("select id, length(t) from t") == [(1, 10_000_000), (2, 1)]
    assert found.rejected == 0


def test_without_a_header_the_columns_have_names(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, "1,a,2.5\n2,b,3.5\n")

    assert (len(found.columns), found.rows) == (3, 2)


def test_a_header_without_rows_is_a_table_without_rows(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, "a,b\n")

    assert (list(found.columns), found.rows) == (["a", "b"], 0)


def test_a_number_that_is_once_a_word_makes_a_column_of_texts(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, "a,b\n" + "".join(f"{n},{n}\n" for n in range(30_000)) + "x,1\n")

    assert (found.rows, found.rejected) == (30_001, 0)
    assert dict(found.kinds) == {"a": "text", "b": "number"}


def test_codes_with_leading_zeros_keep_them(engine: Engine, tmp_path: Path) -> None:
    assert rows(engine, opened(engine, tmp_path, "zip,n\n00501,1\n10001,2\n"))[0] == ("00501", 1)


@pytest.mark.parametrize("value", [2**53 + 1, 2**64 + 1, 10**40 + 1])
def test_whole_numbers_stay_exact(engine: Engine, tmp_path: Path, value: int) -> None:
    found = opened(engine, tmp_path, f"id,n\n{value},1\n{value + 2},2\n")

    assert [int(row[0]) for row in rows(engine, found)] == [value, value + 2]


def test_decimal_commas_are_numbers_where_the_separator_is_another(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, "id;x\n1;2,5\n2;-3,25\n")

    assert rows(engine, found) == [(1, 2.5), (2, -3.25)]
    assert found.notes == ("numbers with a decimal comma",)


def test_numbers_in_a_format_of_their_own_stay_texts(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, 'id,price,rate\n1,"1,200.50 $",12%\n2,"3.00 $",7%\n')

    assert [found.kinds[c] for c in ("price", "rate")] == ["text", "text"]


def test_lines_before_the_header_are_left_out_and_told(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, "# made by x\nid,n\n1,2\n3,4\n")

    assert rows(engine, found) == [(1, 2), (3, 4)]
    assert found.notes == ("1 line before the header left out",)


def test_times_with_a_zone_are_moments_across_a_change_of_the_clock(engine: Engine, tmp_path: Path) -> None:
    opened(engine, tmp_path, "t\n2021-03-28T01:30:00+01:00\n2021-03-28T03:30:00+02:00\n2021-10-31T02:30:00+02:00\n")

    assert [r[0] for r in engine.rows("select epoch(t) - min(epoch(t)) over () from t order by t")] == [
        0,
        3600,
        3600 * 24 * 217,
    ]


def test_dates_beyond_the_calendar_are_read(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, "d\n2021-01-01\n9999-12-31\n0001-01-01\n30000-01-01\n")

    assert profile_table(engine, found).columns["d"].most == "+30000"


@pytest.mark.slow
def test_ten_thousand_columns_are_read(engine: Engine, tmp_path: Path) -> None:
    lines = [",".join(f"c{n}" for n in range(10_000)), ",".join(map(str, range(10_000)))]

    assert len(opened(engine, tmp_path, "\n".join(lines) + "\n").columns) == 10_000


@pytest.mark.slow
@settings(max_examples=150)
@given(st.binary(max_size=400) | st.text(st.sampled_from('ab1,;\t|"\n\r\0é.-:'), max_size=200).map(str.encode))
def test_no_bytes_whatever_break_it(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with Engine(threads=1) as engine:
        try:
            found = opened(engine, tmp_path_factory.mktemp("any"), content)
        except SourceError:
            return
        assert profile_table(engine, found).rows == found.rows


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(), st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12)),
        min_size=1,
        max_size=30,
    )
)
def test_what_a_csv_writer_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[int, str]]
) -> None:
    path = tmp_path_factory.mktemp("written") / "t.csv"
    quoted = ['"' + text.replace('"', '""') + '"' for _, text in values]
    path.write_text("n,t\n" + "".join(f"{n},{q}\n" for (n, _), q in zip(values, quoted, strict=True)), "utf-8")

    with Engine(threads=1) as engine:
        found = open_table(engine, path)

        assert found.rows + found.rejected == len(values)
        if not found.rejected and [*found.columns] == ["n", "t"]:
            assert [int(row[0]) for row in rows(engine, found)] == [n for n, _ in values]


# --- other files ---


def test_a_packed_table_is_unpacked(engine: Engine, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.csv", GOOD)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(GOOD.encode()))

    found = open_folder(engine, tmp_path)

    assert [(t.name, t.rows) for t in found] == [("a", 2), ("b", 2)]


def test_a_parquet_file_is_read_where_it_is(engine: Engine, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "t.parquet")

    assert rows(engine, open_table(engine, tmp_path / "t.parquet")) == [(1,), (2,)]


@pytest.mark.parametrize("pattern", ["", "/*.parquet"])
def test_a_folder_or_pattern_of_parquet_is_one_table(engine: Engine, tmp_path: Path, pattern: str) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for n in range(3):
        pq.write_table(pa.table({"x": [n], **({"late": [1]} if n == 2 else {})}), folder / f"{n}.parquet")

    found = open_table(engine, f"{folder}{pattern}")

    assert (found.name, found.rows, list(found.columns)) == ("parts", 3, ["x", "late"])


def test_json_lines_are_read_and_a_line_that_is_none_is_set_aside(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, '{"a": 1, "b": "x"}\n{"a": 2}\nnot json\n[1]\n', "t.jsonl")

    assert sorted(rows(engine, found), key=str) == [(1, "x"), (2, None)]
    assert [row[0] for row in rejected(engine, found)] == [3, 4]


def test_a_list_of_objects_is_a_table(engine: Engine, tmp_path: Path) -> None:
    assert opened(engine, tmp_path, json.dumps([{"a": 1}, {"a": 2}]), "t.json").rows == 2


def test_an_object_of_objects_is_a_table_with_their_names(engine: Engine, tmp_path: Path) -> None:
    found = opened(engine, tmp_path, json.dumps({"a": {"x": 1}, "b": {"x": 2}}), "t.json")

    assert rows(engine, found) == [("a", 1), ("b", 2)]


def test_json_lines_are_known_by_their_first_bytes(engine: Engine, tmp_path: Path) -> None:
    assert rows(engine, opened(engine, tmp_path, '{"x": 1}\n{"x": 2}\n', "t.dsjson")) == [(1,), (2,)]


def test_an_arrow_file_is_read(engine: Engine, tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2]})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)

    assert rows(engine, open_table(engine, tmp_path / "t.arrow")) == [(1,), (2,)]


# --- frames ---


def test_frames_of_any_library_are_read_by_their_arrow_stream(engine: Engine) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.5, None], "t": ["a", None], "day": pandas.to_datetime(["2024-01-01", None])})

    found = open_table(engine, frame[::-1], "f")

    assert list(found.columns) == ["x", "t", "day"]
    assert (found.rows, found.kinds["day"]) == (2, "time")


def test_polars_frames_are_read(engine: Engine) -> None:
    polars = pytest.importorskip("polars")

    found = open_table(
        engine, polars.DataFrame({"x": [1, 2], "c": polars.Series(["a", "b"], dtype=polars.Categorical)})
    )

    assert dict(found.kinds) == {"x": "number", "c": "text"}


def test_batches_mappings_and_rows_are_tables(engine: Engine) -> None:
    table = pa.table({"x": [1, 2]})

    assert [
        open_table(engine, what, f"t{n}").rows for n, what in enumerate((table, table.to_reader(), {"x": [1, 2]}))
    ] == [
        2,
        2,
        2,
    ]
    assert open_table(engine, [{"x": 1}, {"x": 2}], "rows").rows == 2


def test_a_frame_with_names_twice_keeps_both_columns(engine: Engine) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a", "A"])

    assert rows(engine, open_table(engine, table)) == [(1, 2, 3)]


@pytest.mark.parametrize("what", [5, {"x": [1, "a"]}, object()])
def test_what_is_no_table_is_told(what: Any) -> None:
    problem(what)


# --- databases ---


def test_a_table_of_sqlite_is_read_with_one_type_a_column(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("create table orders (id integer, price, mixed, placed timestamp, note text)")
        made.execute("insert into orders values (9007199254740993, 1, 1, '2024-01-01 10:00:00', null)")
        made.execute("insert into orders values (2, 2.5, 'x', '2024-01-02 10:00:00', 'é')")
        made.commit()

    found = open_table(engine, f"sqlite:///{path}#orders")

    assert dict(found.kinds) == {"id": "number", "price": "number", "mixed": "text", "placed": "time", "note": "text"}
    assert [row[:3] for row in rows(engine, found)] == [(9007199254740993, 1.0, "1"), (2, 2.5, "x")]
    assert open_table(engine, path).name == "orders"


def test_a_database_of_several_tables_is_opened_whole_or_by_name(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as made:
        made.executescript("create table a (x); create table b (x); insert into b values (1);")

    assert [(t.name, t.rows) for t in open_folder(engine, path)] == [("a", 0), ("b", 1)]
    assert "holds 2 tables" in problem(path).what
    assert "did you mean" in problem(f"{path}#aa").hint or "known are" in problem(f"{path}#aa").hint


def test_a_table_of_a_duckdb_file_is_read(engine: Engine, tmp_path: Path) -> None:
    with Engine() as other:
        other.run(f"attach '{tmp_path / 'd.duckdb'}' as d")
        other.run("create table d.t as select 1 as x")
        other.run("detach d")

    assert rows(engine, open_table(engine, f"duckdb:///{tmp_path / 'd.duckdb'}#t")) == [(1,)]


def test_postgresql_without_its_library_says_what_to_install() -> None:
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        assert "underhood[postgres]" in problem("postgresql://localhost/shop#orders").hint


def test_a_sqlite_file_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("create table a (x)")
        made.executemany("insert into a values (?)", [("y" * 3000,)] * 300)
        made.commit()
    path.write_bytes(path.read_bytes()[:50_000])

    problem(f"sqlite:///{path}#a")


# --- URLs ---


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/short.csv":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"id\n1\n")
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_is_fetched(engine: Engine, tmp_path: Path, served: str) -> None:
    (tmp_path / "people.csv").write_text(GOOD)

    found = open_table(engine, f"{served}/people.csv?v=1")

    assert (found.name, found.rows, found.origin) == ("people", 2, f"{served}/people.csv?v=1")


@pytest.mark.parametrize(
    ("name", "what"), [("missing.csv", "404"), ("short.csv", "of 1,000 bytes"), ("page.html", "web page")]
)
def test_a_url_that_gives_no_table_is_told(tmp_path: Path, served: str, name: str, what: str) -> None:
    (tmp_path / "page.html").write_text("<html>")

    assert what in problem(f"{served}/{name}").what


def test_a_url_with_more_than_was_allowed_is_told(tmp_path: Path, served: str) -> None:
    (tmp_path / "people.csv").write_text(GOOD)

    with pytest.raises(SourceError, match="more than 10"):
        downloaded(f"{served}/people.csv", tmp_path, most=10)


def test_a_server_that_is_not_there_is_told() -> None:
    assert "cannot be fetched" in problem("http://127.0.0.1:9/t.csv").what


# --- what cannot be read ---


def test_a_missing_file_is_told_with_the_names_that_are_near(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)

    assert problem(tmp_path / "order.csv").hint == "did you mean orders.csv?"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.parquet", b"PAR1 and no more"),
        ("a.parquet", b"PAR1" + b"\0" * 100),
        ("a.zip", b"PK\3\4 no zip"),
        ("a.csv.gz", b"\x1f\x8b no gz"),
        ("a.json", b"no json"),
        ("a.arrow", b"ARROW1 and no more"),
        ("a.csv", b"%PDF-1.4"),
        ("a.db", b"SQLite format 3\0 and no more"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    assert str(tmp_path / name) in problem(tmp_path / name).where


def test_a_workbook_is_told_to_be_saved_as_csv(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "")

    assert "save the sheet as CSV" in problem(tmp_path / "a.xlsx").hint


def test_a_source_that_disappears_while_it_is_read_is_told(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": [1, 2]}), path)
    table = open_table(engine, path)
    path.unlink()

    with pytest.raises(SourceError, match="cannot be read any more"):
        profile_table(engine, table)


def test_a_folder_tells_all_of_its_damaged_files_at_once(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "c.csv").write_text(GOOD)

    with pytest.raises(SourceError) as found:
        open_folder(engine, tmp_path)

    assert len(found.value.also) == 1


def test_a_folder_without_tables_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("hi")

    with pytest.raises(SourceError, match="no table in it"):
        open_folder(engine, tmp_path)


def test_two_files_of_one_name_are_two_tables(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")

    assert [(t.name, t.rows) for t in open_folder(engine, tmp_path)] == [("a", 2), ("a.parquet", 1)]
