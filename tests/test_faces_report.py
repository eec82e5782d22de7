"""The report of a case is one file for anybody: nothing is fetched, nothing is run, nothing hostile gets through."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests import world
from underhood.faces.report import line, render, write_report
from underhood.ground.errors import RecordError
from underhood.plan.changes import in_words
from underhood.repair import workbench as uh
from underhood.repair.complaint import Complaint
from underhood.repair.layers import moving
from underhood.repair.postmortem import document

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt; javascript:alert(3) {{ 7 * 7 }} {% raw %} ${x}"


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def body(fixed_shop: Path) -> dict[str, Any]:
    with world.open_shop(fixed_shop) as bench:
        return document(bench, 1)


@pytest.fixture(scope="module")
def page(body: dict[str, Any]) -> str:
    return render(body)


@pytest.fixture(scope="module")
def hostile(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    project = world.copy_shop(shop, tmp_path_factory.mktemp("hostile"))
    with world.open_shop(project) as bench:
        told = Complaint(f"{HOSTILE} On 21 March you kept quiet. {HOSTILE}", f"{HOSTILE}@x", HOSTILE)
        uh.open_case(bench, told)
        return render(document(bench))


@pytest.fixture(params=["page", "hostile"])
def any_page(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_a_report_refers_to_nothing_outside(any_page: str) -> None:
    outward = ("src", "href", "srcset", "action", "data")
    refers = [(t, a) for t, attrs in Tags(any_page).seen for a in attrs if a in outward]

    assert refers == []
    assert re.findall(r"url\(|@import|https?://", any_page) == []


def test_a_report_runs_nothing(any_page: str) -> None:
    seen = Tags(any_page).seen

    assert {t for t, _ in seen} & {"script", "iframe", "object", "embed", "form", "img", "link", "base"} == set()
    assert [a for _, attrs in seen for a in attrs if a.startswith("on")] == []
    assert "default-src 'none'" in any_page


def test_hostile_words_are_shown_as_they_were_written(hostile: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile
    assert "{{ 7 * 7 }}" in hostile


def test_a_report_is_light_and_dark(page: str) -> None:
    assert "color-scheme:light dark" in page
    assert "light-dark(" in page


def test_a_report_holds_the_complaint_the_verdict_the_cause_and_every_fix(page: str, body: dict[str, Any]) -> None:
    words = " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())

    assert "You kept quiet on 20 March" in words
    assert "takes facts.returned for" in words
    assert body["fixes"]
    for fix in body["fixes"]:
        assert fix["title"] in words
        assert f"{fix['trial']['repaired']}/{fix['trial']['n_bad']}" in words
    for ruling in body["found"]["ruled_out"]:
        assert ruling["says"] in words
    assert "case-1.pin.json" in words
    assert body["patch"] in words


def test_a_case_that_is_only_open_makes_a_report_too(hostile: str) -> None:
    assert "not diagnosed yet" in hostile
    assert "No patch yet." in hostile


def test_a_report_is_one_small_file(page: str, body: dict[str, Any], tmp_path: Path) -> None:
    path = write_report(body, tmp_path / "case-1.html")

    assert path.read_text(encoding="utf-8") == page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case-1.html"]
    assert path.stat().st_size < 300_000


def test_a_place_that_cannot_be_written_is_told(body: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be written") as caught:
        write_report(body, tmp_path / "nowhere" / "case-1.html")

    assert "--out" in caught.value.hint


def test_changes_that_belong_together_read_as_the_first_and_how_many_more() -> None:
    reads = ["temp = 42.08 where row.temp is null", "dewp = 26.96 where row.temp is null"]

    assert in_words(reads[:1]) == reads[0]
    assert in_words(reads) == f"{reads[0]}, and 1 more like it"


def test_the_page_says_the_short_version_once_and_the_score_as_the_terminal_does(
    page: str, body: dict[str, Any], fixed_shop: Path
) -> None:
    words = " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())
    one = body["opened"][0]
    with world.open_shop(fixed_shop) as bench:
        opened = uh.open_decision(bench, one["id"])
    moved = {f["name"]: f["swap"] for f in one["features"]}

    assert words.count(body["short"][1]) == 1
    assert f"Score {one['score']:.3f} , told" in words
    assert moved == {r.name: moving(opened, r.name) for r in opened.features}


def test_days_of_the_complaint_that_follow_each_other_are_one_band() -> None:
    days = [[f"2024-03-{i:02}", 100, 0.1, 0.2, i in (3, 4, 5, 9)] for i in range(1, 11)]
    bands = re.findall(r'class="mark" x="([\d.]+)" y="0" width="([\d.]+)"', line(days))

    assert len(bands) == 2
    assert float(bands[0][1]) == pytest.approx(3 * float(bands[1][1]), rel=0.01)
    assert "20.0%" in line(days)
