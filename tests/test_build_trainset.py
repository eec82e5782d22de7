"""What is learned from: rows whose label was known by then, named by what they were drawn from; and the bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import underhood as uh
from underhood.build.bundle import Bundle, load, pack, unpack
from underhood.build.ladder import fit
from underhood.build.trainset import TrainingSet, draw, training_sql
from underhood.ground.errors import CorruptError, NotFoundError, ProjectError
from underhood.plan.changes import LABEL, ROUTE, ROWS, Change
from underhood.plan.exprs import col
from underhood.plan.joins import Plan
from underhood.record.objects import folder, get, put
from underhood.run.decide import decider
from underhood.tables.local import Engine, read_asks, read_plan

START = datetime(2024, 1, 1)
N = 400
UNTIL = "2024-01-08T00:00:00"


def late(delay: Any) -> Any:
    return delay > 30


def doubled(size: Any) -> Any:
    return size * 2


@dataclass
class Drawing:
    """One small world: flights every half hour, delays known up to two days later, some never."""

    engine: Engine
    plan: Plan
    record: Path
    rows: list[dict[str, Any]]

    def draw(self, *changes: Change, until: str = UNTIL, since: str = "") -> TrainingSet:
        return draw(self.engine, self.plan, self.record, until=until, since=since, changes=changes)

    def training(self) -> list[dict[str, Any]]:
        """The rows of the training set that was drawn last."""
        return self.engine.dicts("select * from training")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawing]:
    home = tmp_path_factory.mktemp("world")
    random = Random(1)
    rows = []
    for n in range(N):
        at = START + timedelta(minutes=30 * n)
        landed = at + timedelta(minutes=random.randrange(1, 2880))
        city, delay = random.choice(["EWR", "JFK"]), random.choice([None, 0.0, 20.0, 40.0, 99.0])
        rows.append({"id": f"f{n}", "at": at, "city": city, "size": float(n % 7), "delay": delay, "landed": landed})
    rows[3]["at"] = None
    rows[5]["landed"] = None
    pq.write_table(pa.Table.from_pylist(rows), home / "flights.parquet")
    flights = uh.source("flights.parquet", key="id", happened="at", late={"landed": ["delay"]})
    system = uh.system(
        "flights",
        asks=flights.asks("at"),
        features=["city", doubled],
        label=uh.label(late, known="landed"),
        goal=uh.goal("warn", costs=uh.costs(warn=(1, 2), fine=(0, 9))),
        policy=uh.threshold(warn=0.5, otherwise="fine"),
    )
    with Engine(threads=1) as engine:
        plan = read_plan(engine, system, home, home / "record")
        read_asks(engine, plan, home / "record")
        yield Drawing(engine, plan, home / "record", rows)


def known_by(world: Drawing, until: datetime) -> list[dict[str, Any]]:
    return [r for r in world.rows if r["at"] and r["landed"] and r["landed"] < until and r["delay"] is not None]


def test_a_late_label_never_reaches_a_training_row(world: Drawing) -> None:
    until = datetime(2024, 1, 8)

    world.draw()

    assert [r["id"] for r in known_by(world, until)] == [row["key"] for row in world.training()]
    assert all(row["known_at"] < until for row in world.training())


def test_a_label_known_at_the_very_moment_is_still_too_late(world: Drawing) -> None:
    landed = max(r["landed"] for r in known_by(world, datetime(2024, 1, 8)))

    at, after = (world.draw(until=(landed + timedelta(microseconds=m)).isoformat()) for m in (0, 1))

    assert len(after.label) - len(at.label) == 1


def test_a_training_set_says_how_many_rows_it_left_out_and_why(world: Drawing) -> None:
    drawn = world.draw()

    until = datetime(2024, 1, 8)
    waiting = [r for r in world.rows if r["at"] and r["landed"] and r["at"] < until <= r["landed"]]
    nulls = [r for r in world.rows if r["landed"] and r["landed"] < until and r["delay"] is None]
    expected = {
        "no moment of asking or knowing": 2,
        f"label not yet known at {UNTIL[:16]} UTC": len(waiting),
        "label is null": len(nulls),
    }
    assert expected == drawn.left_out


def test_a_training_set_holds_inputs_features_facts_and_label_under_the_names_of_the_record(world: Drawing) -> None:
    world.draw()

    row = world.training()[0]

    names = ["key", "asked_at", "known_at", "label", "row.id", "row.at", "row.city", "row.size", "row.landed"]
    assert [*names, "features.city", "features.doubled", "facts.delay"] == list(row)
    assert row["features.doubled"] == row["row.size"] * 2
    assert row["label"] == (row["facts.delay"] > 30)


def test_features_and_clocks_come_as_columns_in_order_of_asking(world: Drawing) -> None:
    drawn = world.draw()
    rows = known_by(world, datetime(2024, 1, 8))

    assert [r["city"] for r in rows] == drawn.frame["city"].tolist()
    assert [r["size"] * 2 for r in rows] == drawn.frame["doubled"].tolist()
    assert [float(r["delay"] > 30) for r in rows] == drawn.label.tolist()
    assert [(r["at"] - datetime(1970, 1, 1)) / timedelta(microseconds=1) for r in rows] == drawn.asked.tolist()
    assert (drawn.known > drawn.asked).all()


def test_the_same_recipe_gives_the_same_object_twice_and_another_gives_another(world: Drawing) -> None:
    names = [
        world.draw().name,
        world.draw().name,
        world.draw(until="2024-01-09").name,
        world.draw(since=UNTIL[:8] + "02").name,
    ]

    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_a_recipe_names_all_that_it_depends_on(world: Drawing) -> None:
    drawn = world.draw(Change(ROWS, "", None, col("row.city") == "EWR"), since="2024-01-02")

    assert tuple(drawn.recipe[k] for k in ("system", "until", "since")) == ("flights", UNTIL, "2024-01-02")
    assert [c["reads"] for c in drawn.recipe["changes"]] == ["leave out training rows where row.city = 'EWR'"]
    assert (len(drawn.label), drawn.label.sum()) == (drawn.recipe["rows"], drawn.recipe["positive"])


def test_a_label_patch_sets_the_label_where_its_predicate_holds(world: Drawing) -> None:
    before = world.draw()
    change = Change(LABEL, "late", True, (col("row.city") == "EWR") & col("facts.delay").is_null())

    after = world.draw(change)

    added = [row for row in world.training() if row["facts.delay"] is None]
    assert {("EWR", True)} == {(row["row.city"], row["label"]) for row in added}
    assert len(after.label) == len(before.label) + len(added)
    assert all(row["known_at"] < datetime(2024, 1, 8) for row in added)


def test_a_row_patch_leaves_out_the_rows_where_its_predicate_holds(world: Drawing) -> None:
    world.draw(Change(ROWS, "", None, (col("row.size") > 3) | (col("facts.delay") > 50)))

    assert {True} == {row["row.size"] <= 3 and row["facts.delay"] <= 50 for row in world.training()}


def test_a_row_patch_keeps_the_rows_where_its_predicate_is_null(world: Drawing) -> None:
    labelled = Change(LABEL, "late", False, col("facts.delay").is_null())

    world.draw(labelled, Change(ROWS, "", None, col("facts.delay") > 50))

    assert any(row["facts.delay"] is None for row in world.training())


def test_patches_apply_in_order(world: Drawing) -> None:
    first = Change(LABEL, "late", True, None)
    then = Change(LABEL, "late", False, col("row.city") == "JFK")

    assert 0 < world.draw(first, then).label.mean() < 1
    assert world.draw(then, first).label.mean() == 1


def test_a_change_of_a_decision_is_no_change_of_training(world: Drawing) -> None:
    with pytest.raises(ProjectError, match="route is not a part of the training side"):
        training_sql(world.plan, [Change(ROUTE, "", "fine", None)])


def test_a_patch_that_reads_what_is_not_there_is_told(world: Drawing) -> None:
    with pytest.raises(ProjectError) as found:
        world.draw(Change(ROWS, "", None, col("row.citty") == "JFK"))

    assert "where: there is no column 'row.citty'\ntry: did you mean row.city" in str(found.value)


def test_nothing_known_by_then_is_told(world: Drawing) -> None:
    with pytest.raises(ProjectError) as found:
        world.draw(until="2023-01-01")

    expected = (
        "training set until 2023-01-01: no row has a label known by then\ntry: choose a later moment with --until"
    )
    assert expected == str(found.value)


# --- the bundle ---


def bundled(world: Drawing, kind: str = "trees") -> Bundle:
    drawn, plan = world.draw(), world.plan
    usual = {"city": {"levels": {"EWR": 0.5, "JFK": 0.5}, "nulls": 0.0}, "doubled": {"low": 0.0, "nulls": 0.0}}
    made = Bundle(
        name="",
        system=plan.system.name,
        zone=plan.system.zone,
        inputs=plan.inputs,
        features=plan.features,
        feature_types=plan.feature_types,
        model=fit(kind, drawn.frame, drawn.label, plan.feature_types),
        policy=plan.system.policy,
        costs=plan.system.goal.costs,
        usual=usual,
        made_from={"training": drawn.name},
    )
    return pack(world.record, made)


@pytest.mark.parametrize("kind", ["constant", "logistic", "trees"])
def test_an_unpacked_bundle_makes_the_same_decisions(world: Drawing, kind: str) -> None:
    packed = bundled(world, kind)
    again = unpack(packed.name, json.loads(get(world.record, packed.name)))
    moment = datetime(2024, 2, 1)

    for city in ("EWR", "JFK", "nowhere", None):
        for size in (None, 0, 2.5, 1e300):
            row = {"id": "x", "at": "2024-01-01T00:00:00", "city": city, "size": size, "landed": None}
            first, second = (decider(b)(row, key="x", now=moment) for b in (packed, again))

            assert (first.id, first.score, first.action, first.flags) == (
                second.id,
                second.score,
                second.action,
                second.flags,
            )


def test_a_packed_bundle_is_what_was_given_under_the_name_of_its_bytes(world: Drawing) -> None:
    packed = bundled(world)

    assert packed.name == bundled(world).name
    again = load(world.record, packed.name)
    assert {name: str(expr) for name, expr in again.features.items()} == {"city": "city", "doubled": "size * 2"}
    assert (packed.model, packed.policy, packed.costs) == (again.model, again.policy, again.costs)


def test_a_damaged_bundle_is_not_loaded(world: Drawing, tmp_path: Path) -> None:
    name = pack(tmp_path, bundled(world)).name
    path = folder(tmp_path) / name
    os.chmod(path, 0o644)
    path.write_bytes(path.read_bytes().replace(b'"fine"', b'"warn"'))

    with pytest.raises(CorruptError, match="the digest differs from the name"):
        load(tmp_path, name)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"format": 2}', b"\xff\xfe", b'{"format": 1}', b"3"])
def test_an_object_that_is_no_bundle_is_told(tmp_path: Path, body: bytes) -> None:
    name = put(tmp_path, "bundle", body, ".json")

    with pytest.raises(CorruptError, match="is not a bundle of format 1"):
        load(tmp_path, name)


def test_a_bundle_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no object bundle-"):
        load(tmp_path, "bundle-0123456789abcdef0123.json")
