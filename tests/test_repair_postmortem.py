"""A case as a document: a manager can read it, its evidence runs again, and it says what would have told earlier."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import world
from underhood.faces.report import render, write_report
from underhood.faces.report_text import code, plain, render_text
from underhood.plan.changes import INPUT, Change
from underhood.plan.exprs import col
from underhood.repair import workbench as uh
from underhood.repair.complaint import Complaint
from underhood.repair.earlier import earlier_signs
from underhood.repair.fixes import Blame
from underhood.repair.postmortem import document, recommended

Own = Callable[[Path], Path]
HOSTILE = "<script>alert(1)</script> [x](http://evil) `code` *bold* # head | cell ~~~ &lt;"


@pytest.fixture(scope="module")
def body(fixed_shop: Path) -> dict[str, Any]:
    with world.open_shop(fixed_shop) as bench:
        return document(bench, 1)


@pytest.fixture(scope="module")
def text(body: dict[str, Any]) -> str:
    return render_text(body)


def test_the_short_version_says_what_happened_why_what_it_cost_and_what_was_done(body: dict[str, Any]) -> None:
    happened, cause, cost, patch, pin = body["short"]

    assert happened.startswith("On 20 March 2024, 54 of our answers were 'quiet'")
    assert cause.startswith("The cause was found and proven: the label `late` takes facts.returned")
    assert re.fullmatch(r"It cost about [\d,]+, by the goal's prices, over the decisions of the record\.", cost)
    assert patch == f"Patch {body['patch']} is in force until 2024-06-30."
    assert "case-1.pin.json" in pin


def test_a_fix_is_recommended_only_if_it_repairs_something_and_pays_or_undoes_the_cause() -> None:
    def fix(repaired: int, after: float) -> dict[str, Any]:
        return {"title": "call", "trial": {"repaired": repaired, "money_before": 100.0, "money_after": after}}

    assert recommended(fix(3, 90.0), is_proven=False) == "Recommended: call."
    assert recommended(fix(3, 101.0), is_proven=True) == "Recommended: call."
    assert "costs more than it saves" in recommended(fix(3, 101.0), is_proven=False)
    assert "repairs none" in recommended(fix(0, 100.0), is_proven=True)


def test_the_cost_is_what_the_undo_of_the_cause_saves_on_history(body: dict[str, Any]) -> None:
    trial = body["found"]["causes"][0]["trial"]
    cost = int(re.sub(r"\D", "", body["short"][2]))

    saved = (trial["money_before"] - trial["money_after"]) * (trial["n_bad"] + trial["n_healthy"]) / 1000
    assert cost == round(saved)


def test_the_timeline_is_in_order_and_holds_complaint_case_patch_and_pin(body: dict[str, Any]) -> None:
    moments, words = [at for at, _ in body["timeline"]], " / ".join(what for _, what in body["timeline"])

    assert moments == sorted(moments)
    for one in ("deployed by", "the first of the decisions", "complains", "case 1 opened", "in force until", "pinned"):
        assert one in words


def test_every_query_of_the_evidence_runs_again(fixed_shop: Path, body: dict[str, Any]) -> None:
    with world.open_shop(fixed_shop) as bench:
        for one in body["evidence"]:
            assert uh.query(bench, one["query"], 1), one["query"]


def test_what_the_build_had_noticed_is_what_would_have_told_first(body: dict[str, Any]) -> None:
    first = body["earlier"][0]

    assert "have no late_minutes; their label is false only because the definition fills it in" in first["what"]
    assert first["at"] <= "2024-03-08"
    assert first["line"]


def drilled(right_built: Path, own: Own, changes: list[Change]) -> Any:
    project = own(right_built)
    world.drill(project, changes)
    return world.open_shop(project)


@pytest.mark.slow
def test_a_value_that_training_never_held_would_have_broken_a_contract(right_built: Path, own: Own) -> None:
    with drilled(right_built, own, [Change(INPUT, "km", col("row.km") * 1000.0)]) as bench:
        assert bench.n_decisions
        case = uh.open_case(bench, "On 20 March all was wrong", where=f"day = '{world.EVENT}'")
        signs = earlier_signs(uh.scene_of(bench, case), Blame((), None, ("km",)), "input km", [])

    (sign,) = [s for s in signs if "training never held" in s.what]
    assert sign.at.startswith("2024-03-20")
    assert sign.line.startswith("km in the contract of its source: ")


def test_a_flag_that_most_decisions_carried_would_have_told(right_built: Path, own: Own) -> None:
    with drilled(right_built, own, [Change(INPUT, "depot", "MOON")]) as bench:
        assert bench.n_decisions
        case = uh.open_case(bench, "On 20 March all was wrong", where=f"day = '{world.EVENT}'")
        signs = earlier_signs(uh.scene_of(bench, case), Blame((), None, ("depot",)), "input depot", [])

    assert [s.what for s in signs if "flag" in s.what] == [
        "67 of the 67 decisions carried the flag 'unknown level: depot', the first of them"
    ]


def test_a_sound_column_would_have_told_nothing(right_built: Path, own: Own) -> None:
    with drilled(right_built, own, []) as bench:
        assert bench.n_decisions
        case = uh.open_case(bench, "On 20 March all was wrong", where=f"day = '{world.EVENT}'")
        blame = Blame((), col("row.depot") == "OAK", ("km", "depot"))

        assert earlier_signs(uh.scene_of(bench, case), blame, "input km", bench.database.builds()) == []


# --- Markdown ---


def test_markdown_has_the_sections_of_a_post_mortem_in_order(text: str) -> None:
    assert re.findall(r"^## (.*)$", text, re.M) == [
        "In short",
        "What happened when (UTC)",
        "Whom it touched",
        "The cause, and its proof",
        "What else it could have been, and why it is not",
        "Fixes, each tried on history",
        "What would have caught it earlier",
        "What was done",
        "Evidence, to run again",
    ]


def test_markdown_holds_what_the_page_holds(text: str, body: dict[str, Any]) -> None:
    for fix in body["fixes"]:
        assert plain(fix["title"]) in text
        assert f"{fix['trial']['repaired']}/{fix['trial']['n_bad']}" in text
    for ruling in body["found"]["ruled_out"]:
        assert plain(ruling["says"]) in text
    for one in body["evidence"]:
        assert one["query"] in text
    assert plain(body["fixes"][0]["tell"]) in text


def test_the_page_says_in_short_and_what_would_have_told_earlier(body: dict[str, Any]) -> None:
    page = render(body)

    for title in ("In short", "What happened when", "What would have caught it earlier", "by week"):
        assert title in page


@pytest.mark.parametrize("line", HOSTILE.split())
def test_hostile_words_become_no_markup(line: str) -> None:
    said = plain(f"{line}\n# {line}")

    assert "\n" not in said
    assert re.findall(r"(?<!\\)[<>`*\[\]#|~]", said) == []


@pytest.mark.parametrize("query", ["select 1", "select '```' as x", "select '`````'"])
def test_no_query_can_end_its_block(query: str) -> None:
    first, *middle, last = code(query)

    assert (middle, first) == ([query], f"{last}sql")
    assert last not in query


def test_a_hostile_complaint_stays_a_quotation(shop: Path, own: Own) -> None:
    with world.open_shop(own(shop)) as bench:
        case = uh.open_case(bench, Complaint(f"{HOSTILE}\n# On 21 March you kept quiet.\n{HOSTILE}", "x@y", HOSTILE))
        text = render_text(document(bench))

    quoted = [line for line in text.splitlines() if "evil" in line]
    assert quoted
    assert [line for line in quoted if not line.startswith(("> ", f"# Case {case.number}: "))] == []
    assert f"Not diagnosed yet: `underhood diagnose {case.number}`." in text
    assert "<script>" not in text


def test_markdown_is_written_as_one_file(body: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = write_report(body, tmp_path / "case-1.md", markdown=True)

    assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["case-1.md"]
