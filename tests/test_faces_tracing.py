"""Tracing and cleaning at the command line, the graph as SVG, the event for other catalogues."""

from __future__ import annotations

import csv
import json
import re
from itertools import pairwise
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from tests.test_faces_cli import told
from underhood.faces.cli import main
from underhood.faces.graph import around, draw, used
from underhood.faces.openlineage import run_event
from underhood.plan.lineage import find_node, lineage_of
from underhood.repair.workbench import Workbench


@pytest.fixture(scope="module")
def key(bench: Workbench) -> str:
    return str(bench.engine.rows("select key from decided order by hash(key) limit 1")[0][0])


def test_a_column_is_told_with_its_cleaning_its_ways_and_what_it_costs(bench: Workbench) -> None:
    said = told(bench, "trace", "roads.jam").stdout

    assert "roads.jam  number, road office, known published_at" in said
    assert re.search(r"jam: null above 100 +1 of \d[\d,]+ values changed, 1 to null", said)
    assert "874 → null  row 502, OAK|2024-01-28 09:00" in said
    assert "└── feature jam" in said
    assert re.search(r"jam +\d+ of [\d,]+ splits", said)
    assert "cost per 1,000 decisions with a known outcome" in said
    assert "owners on the way: road office" in said


def test_an_influence_is_drawn_differently_from_a_value(bench: Workbench) -> None:
    said = told(bench, "trace", "mean_late").stdout

    assert re.search(r"├── parcels.late_minutes  8h before, parcels", said)
    assert re.search(r"[├└]┄┄ 8h before, parcels  by depot", said)


def test_one_value_of_one_decision_is_opened_down_to_its_rows(bench: Workbench, key: str) -> None:
    said = told(bench, "trace", key, "jam").stdout
    in_one = told(bench, "trace", f"{key} jam").stdout

    assert said == in_one
    assert "history, as known then, gives the same" in said
    assert re.search(r"row [\d,]+ of roads.csv \(road office\)", said)


@pytest.mark.parametrize(
    "words", [("trace", "roads.jam"), ("trace", "KEY", "mean_late"), ("trace", "due"), ("trace",), ("clean",)]
)
def test_nothing_is_wider_than_80_columns_and_json_says_it_too(
    bench: Workbench, key: str, words: tuple[str, ...]
) -> None:
    asked = tuple(key if w == "KEY" else w for w in words)
    said, body = told(bench, *asked).stdout, told(bench, *asked, "--json").stdout

    assert max(len(line) for line in said.splitlines()) <= 80
    assert json.loads(body)


def test_what_is_not_there_is_told_with_the_nearest(bench: Workbench) -> None:
    done = told(bench, "trace", "roads.jamm")

    assert done.exit_code == 1
    assert "roads.jamm: there is no such column, feature, label or action" in done.stderr
    assert "did you mean roads.jam" in done.stderr


def test_each_step_is_shown_with_what_it_changed(bench: Workbench) -> None:
    said = told(bench, "clean", "roads").stdout
    (body,) = json.loads(told(bench, "clean", "--json").stdout)

    assert "874 → null" in said
    assert body["effects"][0]["top"][0]["key"].startswith("OAK|2024-01-28 09:00")
    assert told(bench, "clean", "parcels").stdout.endswith("nothing is cleaned\n")


def test_a_step_is_undone_in_sight_only(bench: Workbench) -> None:
    before = told(bench, "query", "select count(jam) as n from roads", "--json").stdout
    body = json.loads(told(bench, "clean", "--without", "null above 100", "--json").stdout)
    taken = bench.engine.rows(
        'select count(*) from asks a join "raw roads" r on r.__row = a."__roads_1_row" where r.jam > 100'
    )[0][0]

    assert body["differ"] == {"jam": 1}
    assert body["inputs"] == ({"jam": taken} if taken else {})
    assert body["reaches"] == ["jam"]
    assert before == told(bench, "query", "select count(jam) as n from roads", "--json").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("clean", "road"), "road: there is no such source"),
        (("clean", "roads", "--without", "nul above 100"), "there is no cleaning step 'nul above 100'"),
        (("clean", "parcels", "--without", "x"), "whose step is it?"),
    ],
)
def test_a_step_or_source_that_is_not_there_is_told(bench: Workbench, words: tuple[str, ...], says: str) -> None:
    done = told(bench, *words)

    assert done.exit_code == 1
    assert says in done.stderr


# --- the graph ---


def test_the_graph_is_one_sound_svg_that_fetches_and_runs_nothing(bench: Workbench, tmp_path: Path) -> None:
    done = told(bench, "trace", "jam", "--svg", str(tmp_path / "jam.svg"))
    text = (tmp_path / "jam.svg").read_text("utf-8")
    tree = ElementTree.fromstring(text)
    drawn = {t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")}

    assert done.exit_code == 0
    assert {"jam", "roads.jam as read", "call", "cost per 1,000 decisions"} <= drawn
    assert not re.search(r"<script|href|url\(|@import", text)


def test_no_box_lies_on_another_and_every_value_flows_to_the_right(bench: Workbench) -> None:
    tree = ElementTree.fromstring(draw(used(lineage_of(bench.plan))))
    places = [g.get("transform") or "" for g in tree.iter("{http://www.w3.org/2000/svg}g")]
    at = sorted(tuple(map(int, re.findall(r"-?\d+", p))) for p in places)

    assert len(set(at)) == len(at)
    assert all(b[1] - a[1] >= 34 for a, b in pairwise(at) if a[0] == b[0])


def test_the_graph_of_one_thing_holds_its_ways_only(bench: Workbench) -> None:
    whole = lineage_of(bench.plan)
    part = around(whole, find_node(whole, "roads.jam"))

    assert "feature jam" in part.nodes
    assert "feature kg" not in part.nodes


def test_a_hostile_name_is_text_in_the_graph(bench: Workbench) -> None:
    whole = lineage_of(bench.plan)
    evil = {n: type(node)(node.kind, "<script>&", *list(node.__dict__.values())[2:]) for n, node in whole.nodes.items()}

    assert "<script>" not in draw(type(whole)(evil, whole.into, whole.out_of))


# --- other catalogues ---


def test_the_event_names_every_feature_with_its_columns_value_direct_influence_indirect(bench: Workbench) -> None:
    event = run_event(bench.plan, "2024-04-08T09:00:00")
    (output,) = event["outputs"]
    fields = output["facets"]["columnLineage"]["fields"]
    jam = {(f["name"].rsplit("/")[-1], f["field"]): f["transformations"][0] for f in fields["jam"]["inputFields"]}

    assert set(fields) == {*bench.plan.features, "late"}
    assert jam["roads.csv", "jam"]["type"] == "DIRECT"
    assert jam["roads.csv", "depot"]["type"] == "INDIRECT"
    assert jam["roads.csv", "depot"]["subtype"] == "JOIN"
    (kg,) = fields["kg"]["inputFields"]
    assert (kg["field"], kg["transformations"][0]["subtype"]) == ("kg", "IDENTITY")
    late = [f for f in fields["mean_late"]["inputFields"] if f["field"] == "late_minutes"]
    assert late[0]["transformations"][0]["subtype"] == "AGGREGATION"


def test_the_event_has_what_the_specification_requires(bench: Workbench) -> None:
    event = run_event(bench.plan, "2024-04-08T09:00:00")
    facets = [f for d in (*event["inputs"], *event["outputs"]) for f in d["facets"].values()]
    named = {(d["namespace"], d["name"]) for d in event["inputs"]}
    lines = event["outputs"][0]["facets"]["columnLineage"]["fields"].values()

    assert {"eventTime", "producer", "schemaURL", "run", "job"} <= set(event)
    assert UUID(event["run"]["runId"])
    assert all({"_producer", "_schemaURL"} <= set(f) for f in facets)
    assert all({(f["namespace"], f["name"]) for f in line["inputFields"]} <= named for line in lines)
    assert {o["name"] for d in event["inputs"] for o in d["facets"].get("ownership", {}).get("owners", [])} == {
        "parcel desk",
        "road office",
        "met feed",
    }
    assert event == run_event(bench.plan, "2024-04-08T09:00:00")


# --- matches ---


def test_messy_names_are_matched_to_a_file_that_is_never_overwritten(bench: Workbench, tmp_path: Path) -> None:
    messy, known, out = (tmp_path / n for n in ("messy.csv", "known.csv", "matches.csv"))
    messy.write_text('firm\nAcme GmbH\nACME Gmbh.\nBolt Incc\n"Café Rouge"\nzzz\nzzz\n', "utf-8")
    known.write_text("name\nAcme GmbH\nBolt Inc\nCafe Rouge\n", "utf-8")
    words = ("match", f"{messy}:firm", f"{known}:name", "--out", str(out))
    said = told(bench, *words)
    with out.open(encoding="utf-8", newline="") as file:
        rows = {r["value"]: r["means"] for r in csv.DictReader(file)}

    assert "5 names: 3 the same letters, 1 alike, 1 like none" in said.stdout
    assert rows == {
        "zzz": "",
        "Acme GmbH": "Acme GmbH",
        "ACME Gmbh.": "Acme GmbH",
        "Bolt Incc": "Bolt Inc",
        "Café Rouge": "Cafe Rouge",
    }
    assert "already" in told(bench, *words).stderr
    assert "did you mean firm" in told(bench, "match", f"{messy}:frm", f"{known}:name", "--out", f"{out}2").stderr


def test_how_like_names_must_be_lies_between_0_and_1(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["match", "a.csv:a", "b.csv:b", "--out", str(tmp_path / "m.csv"), "--least", "7"])

    assert done.exit_code == 2
    assert "0<=x<=1" in done.output
