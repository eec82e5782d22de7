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
from underhood.ground.errors import NotFoundError, ProjectError, RecordError, RequestError, SourceError
from underhood.ground.project import read_project
from underhood.plan.joins import Plan, join_columns
from underhood.plan.operations import TIME
from underhood.plan.steps import System
from underhood.run.decide import decider
from underhood.run.events import Events
from underhood.run.state import State
from underhood.tables.local import Engine, read_asks, read_plan, stream_rows

ROOT = Path(__file__).parent.parent
HOTEL = ROOT / "examples" / "hotel" / "hotel.py"
BOOKINGS = ROOT.parent / "shared" / "data" / "hotel_bookings" / "hotel_bookings.parquet"
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


@pytest.mark.slow
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


# --- a raw request ---

MESSY = """late={"due + 3h": ["late_minutes", "returned"]}, derive=[size, due_day]).clean(
    uh.clean.null_above("km", 20), uh.clean.map_levels("district", {"Westend": "Oldtown", "Parkside": None}),
    uh.clean.drop_rows(too_heavy, why="no van takes it"), uh.clean.dedupe(["depot", "parcel"]),
    uh.clean.fill_from("fragile", uh.source("codes.csv", happened="since", known="since"),
                       by={"pieces": "code"}, take="breaks", overwrite=True),
    uh.clean.null_above("late_minutes", 90))

"""
DERIVED = """
def size(km, kg): return km * kg
def due_day(due): return due - uh.days(1)
def too_heavy(kg): return kg > 20


parcels = uh.source("""
CODES = "code,since,breaks\n1,2023-01-01 00:00:00,true\n2,2023-01-01 00:00:00,false\n2,2023-01-01 00:00:00,true\n"


def messy_shop(tmp_path: Path) -> Path:
    """A shop whose parcels are cleaned by steps of every kind, and have derived columns."""
    project = world.write_shop(tmp_path)
    (tmp_path / "codes.csv").write_text(CODES, "utf-8")
    text = project.read_text("utf-8").replace("parcels = uh.source(", DERIVED.lstrip(), 1)
    text = text.replace("""late={"due + 3h": ["late_minutes", "returned"]})\n""", MESSY, 1)
    project.write_text(text.replace('"km", "kg"', '"size", "km", "kg"', 1), "utf-8")
    return project


def unlike_history(bench: Any, past: Path, most: int = 300, where: str = "true") -> tuple[int, list[Any]]:
    """Raw rows as requests: how many cleaning changes, and those that get other inputs or features than in history."""
    from underhood.repair import workbench

    plan, bundle = bench.plan, workbench.build_system(bench, until=None).bundle
    source = plan.sources[plan.system.asks.source.name]
    asks = {ask["key"]: ask for ask in questions(bench.engine, plan, where, most)}
    offline, wrong, changed = decider(bundle), [], 0
    with State(past) as state:
        online = decider(bundle, complete=state.complete)
        for raw in raw_rows(bench.engine, plan, source.source.name):
            ask = asks.pop(raw.pop("__key"), None)
            if ask is None:
                continue
            told = {"key": ask["key"], "asked_at": ask["asked_at"]}
            history = offline({c: ask[c] for c in plan.inputs}, **told)
            made = online({c: v for c, v in raw.items() if c not in source.late}, **told)
            changed += any(raw[c] != ask[c] for c in raw if c in plan.inputs)
            if (
                repr((made.features, made.score)) != repr((history.features, history.score))
                or dict(made.row) != history.row
            ):
                wrong.append((made, history))
    assert asks == {}
    return changed, wrong


@pytest.mark.slow
def test_a_raw_request_is_cleaned_and_derived_as_in_history(tmp_path: Path) -> None:
    with world.open_shop(messy_shop(tmp_path)) as bench:
        with Events(tmp_path / "past.sqlite", bench.plan) as events:
            events.append_history(bench.engine)
        changed, wrong = unlike_history(bench, tmp_path / "past.sqlite")

    assert wrong == []
    assert changed > 100


@pytest.mark.slow
@pytest.mark.skipif(not BOOKINGS.is_file(), reason="the shared data set hotel_bookings is not beside the checkout")
def test_a_raw_hotel_booking_is_cleaned_and_derived_as_in_history(tmp_path: Path) -> None:
    from underhood.repair.workbench import open_workbench

    text = HOTEL.read_text("utf-8").replace("../../../shared/data/hotel_bookings/hotel_bookings.parquet", str(BOOKINGS))
    cleaned = """bookings = bookings.clean(uh.clean.null_above("adr", 150), uh.clean.null_value("agent", 9.0))"""
    text = text.replace("asks = (bookings", f"{cleaned}\n\n\nasks = (bookings", 1)
    (tmp_path / "hotel.py").write_text(text, "utf-8")
    with open_workbench(tmp_path / "hotel.py", record=tmp_path / "record") as bench:
        with Events(tmp_path / "past.sqlite", bench.plan) as events:
            events.append_history(bench.engine)
        changed, wrong = unlike_history(bench, tmp_path / "past.sqlite")
        (absurd,) = raw_rows(bench.engine, bench.plan, "bookings", "adr = 5400")
        with State(tmp_path / "past.sqlite") as state:
            made = state.complete({c: v for c, v in absurd.items() if c != "__key"}, "2016-02-19", absurd["__key"])

    assert wrong == []
    assert changed > 30
    assert made["adr"] is None
    assert made["arrival"] == "2016-03-25T00:00:00.000000"


def parcel(**changed: Any) -> dict[str, Any]:
    row = {"depot": "OAK", "parcel": 1, "due": "2024-03-21T12:00:00", "district": "Westend", "km": 21, "kg": 2.0}
    return {**row, "pieces": 1, "fragile": False, **changed}


def test_a_raw_request_that_cannot_be_cleaned_is_refused_in_raw_words(tmp_path: Path) -> None:
    past = tmp_path / "past.sqlite"
    with world.open_shop(messy_shop(tmp_path)) as bench, Events(past, bench.plan) as events, State(past) as state:
        with pytest.raises(RequestError, match=r"no row of codes is kept[^$]*is_clean"):
            state.complete(parcel(), "2024-03-21T10:30:00")
        events.append("codes", raw_rows(bench.engine, bench.plan, "codes"))

        made = state.complete(parcel(late_minutes=300.0), "2024-03-21T10:30:00")
        assert (made["km"], made["district"], made["size"], made["fragile"]) == (None, "Oldtown", None, True)
        assert "late_minutes" not in made
        with pytest.raises(RequestError, match="'drop too heavy': no van takes it"):
            state.complete(parcel(kg=25.0), "2024-03-21T10:30:00")
        bare = parcel(km="far", colour="red")
        del bare["kg"]
        with pytest.raises(RequestError) as told:
            state.complete(bare, "2024-03-21T10:30:00")
        said = " ".join(str(e) for e in (told.value, *told.value.also))
        assert all(word in said for word in ("kg", "is missing", "'far', needs a finite number", "colour"))
        assert "size" not in said
        clean = {c: v for c, v in made.items() if c in bench.plan.sources["parcels"].schema}
        assert state.complete(clean, "2024-03-21T10:30:00", is_clean=True) == made


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
