"""One request sees of the past what the table of questions says that it saw, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import underhood as uh
from tests import world
from tests.test_plan_asof import any_asks, planned
from tests.test_tables_joins import Row, asked, at, seen, worlds
from underhood.ground.errors import NotFoundError, ProjectError, RecordError, SourceError
from underhood.ground.project import read_project
from underhood.plan.joins import Plan, join_columns
from underhood.plan.operations import TIME
from underhood.plan.steps import System
from underhood.run.decide import decider
from underhood.run.events import Events
from underhood.run.state import State
from underhood.tables.local import Engine, read_asks, read_plan, stream_rows

DEPARTURES = Path(__file__).parent.parent / "examples" / "departures" / "departures.py"


def raw_rows(engine: Engine, plan: Plan, source: str, where: str = "true") -> Iterator[Row]:
    """The rows of a source as its file has them, in the order of the file."""
    raw = plan.sources[source].raw
    times = [c for c, kind in raw.items() if kind == TIME]
    return stream_rows(engine, f'select * from "raw {source}" where {where} order by __row', ["__key", *raw], times)


def added(plan: Plan) -> list[str]:
    """The inputs that joins add."""
    joins = range(1, len(plan.system.asks.joins) + 1)
    return [c for n in joins for c in join_columns(plan, n) if c in plan.inputs]


def questions(engine: Engine, plan: Plan, where: str = "true", most: int = 3000) -> list[Row]:
    """Questions of the view `asks`, spread over all of them: their inputs, key and moment of asking."""
    times = ["asked_at", *[c for c, kind in plan.inputs.items() if kind == TIME]]
    sql = f"select * from asks where asked_at is not null and {where} order by hash(__row) limit {most}"
    return list(stream_rows(engine, sql, ["key", "asked_at", *plan.inputs], times))


def differing(state: State, plan: Plan, asks: Sequence[Row]) -> list[tuple[Row, Row]]:
    """What the state says beside what history says, where they are not the same bits."""
    joined = added(plan)
    wrong = []
    for ask in asks:
        given = {c: v for c, v in ask.items() if c in plan.inputs and c not in joined}
        made = state.row(given, ask["asked_at"], ask["key"])
        expected = {c: ask[c] for c in joined}
        if repr(made) != repr(expected):
            wrong.append((made, expected))
    return wrong


def planned_system(engine: Engine, project: Path, record: Path) -> Plan:
    (system,) = [v for v in read_project(project).names.values() if isinstance(v, System)]
    plan = read_plan(engine, system, project.parent, record)
    read_asks(engine, plan, record)
    return plan


# --- equal to history ---


def test_the_parcel_shop_asks_its_past_and_gets_what_history_says(tmp_path: Path) -> None:
    project = world.write_shop(tmp_path)
    with Engine() as engine:
        plan = planned_system(engine, project, tmp_path / "record")
        asks = questions(engine, plan)
        with Events(tmp_path / "past.sqlite", plan) as events:
            kept = {name: events.append(name, raw_rows(engine, plan, name)) for name in plan.sources}

        with State(tmp_path / "past.sqlite") as state:
            assert differing(state, plan, asks) == []
    assert len(asks) == 3000
    assert kept["parcels"] == 6030


@pytest.mark.slow
def test_the_departures_desk_asks_its_past_and_gets_what_history_says(tmp_path: Path) -> None:
    with Engine() as engine:
        plan = planned_system(engine, DEPARTURES, tmp_path / "record")
        asks = questions(engine, plan, "month <= 3")
        with Events(tmp_path / "past.sqlite", plan) as events:
            for name in plan.sources:
                events.append(name, raw_rows(engine, plan, name, "month <= 3"))

        with State(tmp_path / "past.sqlite") as state:
            assert differing(state, plan, asks) == []
    assert len(asks) == 3000


@pytest.mark.parametrize("seed", range(12))
def test_any_past_gives_what_history_says(tmp_path: Path, seed: int) -> None:
    asks, _ = any_asks(seed)
    asks = asks.recent(
        seen(), by="shop", over="40min", paired_share=uh.share(is_high), mean_w=uh.mean("w"), n2=uh.count()
    )
    with Engine(threads=2) as engine:
        plan = planned(engine, tmp_path, asks, *worlds(seed))
        read_asks(engine, plan, tmp_path / "record")
        with Events(tmp_path / "past.sqlite", plan) as events:
            for name in plan.sources:
                events.append(name, raw_rows(engine, plan, name))

        with State(tmp_path / "past.sqlite") as state:
            assert differing(state, plan, questions(engine, plan)) == []


def is_high(w: Any, asked_at: Any, done: Any) -> Any:
    return uh.when((asked_at - done).minutes() > 5, w > 1, None)


# --- rows that come ---


def shop(tmp_path: Path, engine: Engine, **changed: Any) -> Plan:
    """Questions of a shop, joined to what was seen there: the latest value, and figures over an hour."""
    source = seen(**changed)
    asks = asked().asks("at").asof(source, by="shop", take=["v", "w"])
    return planned(engine, tmp_path, asks.recent(source, by="shop", over="1h", n=uh.count(), mean=uh.mean("w")), [])


def test_a_row_answers_once_it_is_appended_and_known(tmp_path: Path) -> None:
    path = tmp_path / "past.sqlite"
    with Engine() as engine, Events(path, shop(tmp_path, engine)) as events, State(path) as state:
        before = state.row({"shop": "a"}, at(10))
        events.append("seen", [{"shop": "a", "done": at(1), "read": at(9), "v": 2, "w": None, "w_at": None}])
        moments = [state.row({"shop": "a"}, at(m)) for m in (8, 9)]

    nothing = {"v": None, "w": None, "n": 0.0, "mean": None}
    assert [before, *moments] == [nothing, nothing, {**nothing, "v": 2.0, "n": 1.0}]


def test_a_row_that_comes_again_by_its_key_brings_its_late_columns(tmp_path: Path) -> None:
    path = tmp_path / "past.sqlite"
    early = {"shop": "a", "done": at(1), "read": at(2), "v": 2.0}
    late = {**early, "w": 5.0, "w_at": at(20)}
    with Engine() as engine, Events(path, shop(tmp_path, engine, key=["shop", "done"])) as events:
        events.append("seen", [{**late, "w": None, "w_at": None}])
        events.append("seen", [late])
        with State(path) as state:
            made = [state.row({"shop": "a"}, at(m).isoformat()) for m in (19, 20)]

    assert made == [{"v": 2.0, "w": None, "n": 1.0, "mean": None}, {"v": 2.0, "w": 5.0, "n": 1.0, "mean": 5.0}]


def test_of_rows_that_cannot_all_be_kept_none_is(tmp_path: Path) -> None:
    path = tmp_path / "past.sqlite"
    row = {"shop": "a", "done": at(1), "read": at(2), "v": 2.0, "w": None, "w_at": None}
    with Engine() as engine, Events(path, shop(tmp_path, engine)) as events:
        with pytest.raises(SourceError, match="'soon', not a time"):
            events.append("seen", [row, {**row, "done": "soon"}])
        with State(path) as state:
            assert state.row({"shop": "a"}, at(10))["n"] == 0.0


def test_a_request_is_completed_and_decided_as_in_history(tmp_path: Path) -> None:
    with world.open_shop(world.write_shop(tmp_path)) as bench:
        from underhood.repair import workbench

        bundle = workbench.build_system(bench, until=world.LEARN_UNTIL).bundle
        (ask,) = questions(bench.engine, bench.plan, "asked_at > '2024-03-25'", most=1)
        with Events(tmp_path / "past.sqlite", bench.plan) as events:
            for name in bench.plan.sources:
                events.append(name, raw_rows(bench.engine, bench.plan, name))
        whole = {c: ask[c] for c in bench.plan.inputs}
        bare = {c: v for c, v in whole.items() if c not in added(bench.plan)}
        told = {"key": ask["key"], "asked_at": ask["asked_at"]}
        with State(tmp_path / "past.sqlite") as state:
            made = decider(bundle, complete=state.complete)(bare, **told)

        assert made.row == whole
        assert made.id == decider(bundle)(whole, **told).id


# --- what goes wrong ---


def test_a_past_of_other_joins_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "past.sqlite"
    with Engine() as engine:
        Events(path, shop(tmp_path, engine)).close()
        other = planned(engine, tmp_path, asked().asks("at").asof(seen(), by="shop", take=["v"]), [])

        with pytest.raises(RecordError, match="was made for other joins"):
            Events(path, other)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no rows have been kept"):
        State(tmp_path / "none.sqlite")
    with (
        Engine() as engine,
        Events(tmp_path / "past.sqlite", shop(tmp_path, engine)) as events,
        pytest.raises(ProjectError, match="is joined to no question"),
    ):
        events.append("asked", [])


def test_a_question_with_an_odd_value_to_join_by_finds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "past.sqlite"
    with Engine() as engine, Events(path, shop(tmp_path, engine)) as events, State(path) as state:
        events.append("seen", [{"shop": "a", "done": at(1), "read": at(1), "v": 2.0, "w": None, "w_at": None}])
        for odd in (None, ["a"], {}, 3.5):
            assert state.row({"shop": odd}, at(10))["v"] is None
        assert state.row({}, at(10))["n"] == 0.0
