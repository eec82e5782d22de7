"""The commands that look at tables: what a person reads on 80 columns, what --json gives, what the page holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from underhood.faces.cli import main
from underhood.faces.reading import compare, look
from underhood.faces.show_tables import brief, in_short, sparkline, values_of
from underhood.ground.findings import CLASSES

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in arguments], prog_name="underhood")
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """5,000 orders: a sentinel in the price, a blank city, one price far out, and a column that is the label."""
    random = np.random.default_rng(1)
    price = random.lognormal(3, 0.5, 5000).round(2)
    price[7], price[20:60] = 99_000.0, -999.0
    returned = random.random(5000) < 0.3
    pq.write_table(
        pa.table(
            {
                "order_id": np.arange(5000),
                "price": price,
                "city": [["Bonn", "Köln", "?"][n % 3] for n in range(5000)],
                "returned": returned,
                "refund": np.where(returned, price, 0.0),
            }
        ),
        tmp_path / "orders.parquet",
    )
    return tmp_path / "orders.parquet"


def test_the_first_screen_has_what_it_is_what_is_wrong_and_a_line_a_column(run: Run, shop: Path) -> None:
    lines = run("look", shop).stdout.splitlines()

    assert lines[0] == "orders  5,000 rows × 5 columns, one row per order_id"
    assert any(re.match(r"[✗!·] .*999", line) for line in lines)
    assert [line.split()[0] for line in lines[-5:]] == ["order_id", "price", "city", "returned", "refund"]
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) <= 24


def test_json_has_tables_and_findings_most_important_first(run: Run, shop: Path) -> None:
    body = json.loads(run("look", shop, "--json").stdout)

    (table,) = body["tables"]
    assert (table["table"], table["rows"], table["rejected"]) == ("orders", 5000, 0)
    assert [c["name"] for c in table["columns"]] == ["order_id", "price", "city", "returned", "refund"]
    severities = [f["severity"] for f in body["findings"]]
    assert severities == sorted(severities, reverse=True)
    assert {"table", "columns", "about", "says", "where", "query", "hint", "back_to"} <= body["findings"][0].keys()
    assert all(f["about"] in CLASSES for f in body["findings"])


def test_a_label_brings_the_columns_that_tell_it(run: Run, shop: Path) -> None:
    body = json.loads(run("look", shop, "--label", "returned", "--json").stdout)

    assert any(f["about"] == "leak" and "refund" in f["columns"] for f in body["findings"])


def test_every_query_and_predicate_that_is_printed_runs(run: Run, shop: Path) -> None:
    from underhood.tables.frames import open_table
    from underhood.tables.local import Engine

    findings = json.loads(run("look", shop, "--json").stdout)["findings"]
    with Engine() as engine:
        open_table(engine, shop)
        for found in findings:
            engine.rows(found["query"])
            if found["where"]:
                assert engine.rows(f'select count(*) from "orders" where {found["where"]}')[0][0] == found["rows"]


def test_one_column_in_depth_has_its_figures_bars_and_findings(run: Run, shop: Path) -> None:
    told = run("look", shop, "--column", "price").stdout

    assert told.startswith("price  DOUBLE")
    assert "5,000 rows, no nulls" in told
    assert "50%" in told
    assert "█" in told
    assert "-999" in told
    assert all(len(line) <= 80 for line in told.splitlines() if "select" not in line)


def test_a_column_that_is_not_there_is_told_with_the_names_that_are_near(run: Run, shop: Path) -> None:
    told = run("look", shop, "--column", "prise", code=1).output

    assert "there is no column 'prise'" in told
    assert "did you mean price?" in told


def test_a_folder_is_told_table_by_table(run: Run, shop: Path) -> None:
    (shop.parent / "people.csv").write_text("id,name\n1,ann\n2,bob\n")

    told = run("look", shop.parent).stdout

    assert "orders  5,000 rows" in told
    assert "people  2 rows × 2 columns" in told


def test_lines_that_could_not_be_read_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,name\n" + "".join(f"{n},x{n}\n" for n in range(300)) + "1,2,3,4\n")

    assert '1 line could not be read and waits in "t rejected"' in run("look", tmp_path / "t.csv").stdout


def test_a_file_that_cannot_be_read_is_one_error_in_text_and_json(run: Run, tmp_path: Path) -> None:
    assert "no such file" in run("look", tmp_path / "no.csv", code=1).output
    assert json.loads(run("look", tmp_path / "no.csv", "--json", code=1).stdout)["error"] == "there is no such file"


@pytest.mark.parametrize("content", ["a,b\n", "a\n1\n", "a,b\n,\n,\n"])
def test_a_table_with_hardly_anything_in_it_is_shown(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "t.csv").write_text(content)

    assert run("look", tmp_path / "t.csv", "--html", tmp_path / "t.html").stdout.startswith("t  ")


# --- the page ---


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_stands_alone(run: Run, shop: Path, tmp_path: Path) -> None:
    run("look", shop, "--html", tmp_path / "look.html")
    text = (tmp_path / "look.html").read_text("utf-8")

    page = Page(text)

    assert not [
        tag for tag, attrs in page.tags if tag in ("script", "link", "img") or "src" in attrs or "href" in attrs
    ]
    assert "//" not in text
    assert sum(tag == "svg" for tag, _ in page.tags) == 5
    assert "light-dark(" in text
    assert "@media print" in text


def test_the_page_shows_hostile_names_and_values_as_text(run: Run, tmp_path: Path) -> None:
    pq.write_table(pa.table({"<b>x</b>": ["<script>alert(1)</script>", "b"] * 20}), tmp_path / "t.parquet")

    run("look", tmp_path / "t.parquet", "--html", tmp_path / "t.html")

    assert not [tag for tag, _ in Page((tmp_path / "t.html").read_text("utf-8")).tags if tag in ("script", "b")]


def test_a_page_that_cannot_be_written_is_told(run: Run, shop: Path) -> None:
    assert "cannot be written" in run("look", shop, "--html", shop.parent / "no" / "look.html", code=1).output


# --- from Python ---


def test_a_look_shows_itself_as_text_and_in_a_notebook(shop: Path) -> None:
    seen = look(shop)

    assert str(seen).startswith("orders  5,000 rows × 5 columns")
    assert repr(seen) == str(seen)
    assert seen._repr_html_().startswith("<iframe srcdoc=")
    assert seen.profiles["orders"].columns["price"].rows == 5000
    assert seen.findings


def test_a_comparison_shows_itself() -> None:
    random = np.random.default_rng(1)
    before = pa.table({"x": random.lognormal(0, 1, 4000), "y": random.normal(0, 1, 4000)})
    now = pa.table({"x": random.lognormal(0, 1, 4000) * 100, "y": random.normal(0, 1, 4000)})

    told = str(compare(before, now))

    assert "factor" in told or "100" in told
    assert "no move in 1 column: y" in told


# --- compare ---


def test_two_tables_are_compared_with_the_shape_of_both(run: Run, shop: Path, tmp_path: Path) -> None:
    table = pq.read_table(shop)
    cents = pa.array(np.asarray(table["price"]) * 100)
    pq.write_table(table.set_column(1, "price", cents), tmp_path / "now.parquet")

    told = run("compare", shop, tmp_path / "now.parquet").stdout
    body = json.loads(run("compare", shop, tmp_path / "now.parquet", "--json").stdout)

    assert told.startswith("orders → now  5,000 → 5,000 rows")
    assert re.search(r"[▁-█] ?→ ? *[▁-█]", told)
    assert body["moves"][0]["columns"] == ["price"]
    assert body["moves"][0]["kind"] == "factor"
    assert all(len(line) <= 80 for line in told.splitlines())


def test_a_table_is_silent_beside_itself(run: Run, shop: Path) -> None:
    assert "✓ nothing moved in 5 columns" in run("compare", shop, shop).stdout


def test_a_table_is_compared_with_itself_at_a_moment(run: Run, tmp_path: Path) -> None:
    days = "".join(f"2024-{1 + n // 28:02}-{1 + n % 28:02},{10 if n < 84 else 1000}\n" for n in range(168))
    (tmp_path / "t.csv").write_text("day,x\n" + days)

    told = run("compare", tmp_path / "t.csv", "--time", "day", "--at", "2024-04-01").stdout

    assert told.startswith("before 2024-04-01 → from 2024-04-01  84 → 84 rows")
    assert "x" in told


def test_one_table_alone_is_not_compared(run: Run, shop: Path) -> None:
    assert "give ONE OTHER" in run("compare", shop, code=1).output


# --- values in a few characters ---


def test_values_are_brief() -> None:
    from datetime import datetime

    values = [None, True, 1234567, 10**15, 0.000012345, 3.14159, 250000.5, datetime(2024, 1, 1), " a\n"]

    assert [brief(v) for v in values] == [
        "null", "true", "1,234,567", "1.000e+15", "1.23e-05", "3.142", "250,000", "2024-01-01", "' a␤'",
    ]  # fmt: skip


def test_a_sentence_in_short_ends_with_a_clause() -> None:
    text = "5,400 lies far above all else: the next value is 510, half of all are below 94.59 and so on and on"

    assert in_short(text, 60, 1) == ["5,400 lies far above all else: the next value is 510"]
    assert all(len(line) <= 60 for line in in_short(text, 60, 2))


def test_shapes_and_values_of_every_kind_of_column() -> None:
    found = look(
        {"n": [1, 2, 2, 3], "f": [True, False, True, True], "t": ["a", "b", "a", "a"], "z": [None] * 4}
    ).profiles

    columns = found["table"].columns.values()
    assert [sparkline(c, 12) for c in columns] == ["▄█▄", "█▃", "█▃", ""]
    assert [values_of(c) for c in columns] == [
        "1 25%, 2 50%, 3 25%",
        "true 75%, false 25%",
        "a 75%, b 25%",
        "nothing but nulls",
    ]


@pytest.mark.parametrize(
    ("time", "at", "says"),
    [
        ("day", "2012-13-01", "'2012-13-01' is not a moment"),
        ("cnt", "2012-01-01", "cnt is number, not a time"),
    ],
)
def test_a_moment_to_compare_at_that_is_none_is_told(run: Run, tmp_path: Path, time: str, at: str, says: str) -> None:
    (tmp_path / "t.csv").write_text("day,cnt\n" + "".join(f"2012-01-{d:02},{d}\n" for d in range(1, 29)))
    done = run("compare", tmp_path / "t.csv", "--time", time, "--at", at, code=1)

    assert says in " ".join(done.output.split())


def test_a_label_that_no_table_has_is_told(run: Run, shop: Path) -> None:
    done = run("look", shop, "--label", "retuned", code=1)

    assert "did you mean returned" in " ".join(done.output.split())


def test_a_table_without_rows_is_not_called_fine(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,price\n")
    done = run("look", tmp_path / "t.csv", "--html", tmp_path / "t.html")

    assert "nothing found" not in done.output + (tmp_path / "t.html").read_text()
    assert "it has no rows" in done.output


def test_a_damaged_file_does_not_hide_the_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("id,price\n1,2\n2,3\n")
    (tmp_path / "odd.parquet").write_bytes(b"PAR1")
    done = run("look", tmp_path, "--html", tmp_path / "page.html", code=1)
    body = json.loads(run("look", tmp_path, "--json", code=1).stdout)

    assert "good" in done.output
    assert "odd.parquet" in done.output.replace("\n", "")  # a long path goes on in the next line
    assert [t["table"] for t in body["tables"]] == ["good"]
    assert "odd.parquet" in (tmp_path / "page.html").read_text()
    assert "odd.parquet" in body["errors"][0]["where"]
