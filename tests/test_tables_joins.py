"""What a question gets to see: joins as of then against a slow reference that is obviously right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import underhood as uh
from underhood.ground.errors import ProjectError
from underhood.plan.exprs import col
from underhood.plan.steps import Base, Source, System
from underhood.tables.local import Engine, read_asks, read_plan

Row = dict[str, Any]
START = datetime(2020, 1, 1)
TIME, NUMBER, TEXT = pa.timestamp("us"), pa.float64(), pa.string()
ASKED = {"shop": TEXT, "at": TIME, "size": NUMBER, "y": NUMBER, "y_at": TIME}
SEEN = {"shop": TEXT, "done": TIME, "read": TIME, "v": NUMBER, "w": NUMBER, "w_at": TIME}


def at(minutes: float | None) -> datetime | None:
    """A moment, in minutes after the start; null stays null."""
    return None if minutes is None else START + timedelta(minutes=minutes)


def bad(y: Any) -> Any:
    return y > 0


def asked(**changed: Any) -> Source:
    return uh.source("asked.parquet", **{"happened": "at", "late": {"y_at": ["y"]}} | changed)


def seen(**changed: Any) -> Source:
    return uh.source("seen.parquet", **{"happened": "done", "known": "read", "late": {"w_at": ["w"]}} | changed)


def system(asks: Base, features: Sequence[str] = ("size",), label_known: str = "at + 30min") -> System:
    return uh.system(
        "shops",
        asks=asks,
        features=features,
        label=uh.label(bad, known=label_known),
        goal=uh.goal("call", costs=uh.costs(call=(1, 1), wait=(0, 2))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )


def answers(folder: Path, made: System, questions: Sequence[Row], events: Sequence[Row] = ()) -> list[Row]:
    """The table of questions, in the order of the asked rows."""
    for name, schema, rows in (("asked", ASKED, questions), ("seen", SEEN, events)):
        full = [{**dict.fromkeys(schema), **row} for row in rows]
        pq.write_table(pa.Table.from_pylist(full, schema=pa.schema(list(schema.items()))), folder / f"{name}.parquet")
    with Engine(threads=2) as engine:
        read_asks(engine, read_plan(engine, made, folder, folder / "record"), folder / "record")
        return engine.dicts("select * from asks order by __row")


def column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


# --- as of then ---

LATEST = asked().asks("at").asof(seen(), by="shop", take=["v", "w"])


def latest(tmp_path: Path, events: Sequence[Row], *moments: float) -> list[Any]:
    """What as-of joins at each moment; every event is of shop a."""
    questions = [{"shop": "a", "at": at(m)} for m in moments]
    return column(answers(tmp_path, system(LATEST), questions, [{"shop": "a", **e} for e in events]), "v")


def test_a_row_counts_from_the_moment_when_it_is_known(tmp_path: Path) -> None:
    events = [{"done": at(0), "read": at(10), "v": 1.0}]

    assert latest(tmp_path, events, 0, 9.999, 10, 11) == [None, None, 1.0, 1.0]


def test_of_the_known_rows_the_one_that_happened_last_wins_whenever_it_was_known(tmp_path: Path) -> None:
    events = [
        {"done": at(5), "read": at(6), "v": 5.0},
        {"done": at(3), "read": at(20), "v": 3.0},
        {"done": at(8), "read": at(15), "v": 8.0},
    ]

    assert latest(tmp_path, events, 6, 14, 15, 30) == [5.0, 5.0, 8.0, 8.0]


def test_a_later_correction_wins_once_it_is_known(tmp_path: Path) -> None:
    events = [{"done": at(5), "read": at(20), "v": 2.0}, {"done": at(5), "read": at(6), "v": 1.0}]

    assert latest(tmp_path, events, 6, 19, 20) == [1.0, 1.0, 2.0]


def test_of_two_forecasts_the_one_that_was_known_later_wins(tmp_path: Path) -> None:
    events = [{"done": at(60), "read": at(50), "v": 2.0}, {"done": at(60), "read": at(10), "v": 1.0}]

    assert latest(tmp_path, events, 59, 60) == [None, 2.0]


def test_of_two_rows_with_the_same_clocks_the_later_row_wins(tmp_path: Path) -> None:
    events = [{"done": at(5), "read": at(6), "v": 1.0}, {"done": at(5), "read": at(6), "v": 2.0}]

    assert latest(tmp_path, events, 7) == [2.0]


def test_a_row_is_too_old_right_after_its_age(tmp_path: Path) -> None:
    asks = asked().asks("at").asof(seen(), by="shop", take=["v"], max_age="1h")
    questions = [{"shop": "a", "at": at(m)} for m in (60, 60.001)]
    events = [{"shop": "a", "done": at(0), "read": at(50), "v": 1.0}]

    assert column(answers(tmp_path, system(asks), questions, events), "v") == [1.0, None]


def test_an_older_row_does_not_step_in_for_one_that_is_too_old(tmp_path: Path) -> None:
    asks = asked().asks("at").asof(seen(), by="shop", take=["v"], max_age="1min")
    events = [{"shop": "a", "done": at(m), "read": at(m), "v": m} for m in (0.0, 1.0)]

    assert column(answers(tmp_path, system(asks), [{"shop": "a", "at": at(5)}], events), "v") == [None]


def test_a_late_column_is_null_until_its_own_clock(tmp_path: Path) -> None:
    events = [{"shop": "a", "done": at(0), "read": at(1), "v": 1.0, "w": 2.0, "w_at": at(30)}]
    questions = [{"shop": "a", "at": at(m)} for m in (1, 29, 30)]

    made = answers(tmp_path, system(LATEST), questions, events)

    assert [(row["v"], row["w"]) for row in made] == [(1.0, None), (1.0, None), (1.0, 2.0)]


def test_a_late_column_with_a_null_clock_never_becomes_known(tmp_path: Path) -> None:
    events = [{"shop": "a", "done": at(0), "read": at(1), "w": 2.0}]

    assert column(answers(tmp_path, system(LATEST), [{"shop": "a", "at": at(999)}], events), "w") == [None]


def test_rows_without_key_or_clock_find_nobody_and_are_kept(tmp_path: Path) -> None:
    events = [
        {"shop": None, "done": at(0), "read": at(0), "v": 1.0},
        {"shop": "a", "done": None, "read": at(0), "v": 2.0},
        {"shop": "a", "done": at(0), "read": None, "v": 3.0},
    ]
    questions = [{"shop": None, "at": at(5)}, {"shop": "a", "at": None}, {"shop": "a", "at": at(5)}]
    asks = LATEST.recent(seen(), by="shop", over="1h", n=uh.count())

    made = answers(tmp_path, system(asks), questions, events)

    assert [(row["v"], row["n"]) for row in made] == [(None, 0.0)] * 3


def test_among_many_questions_one_without_a_moment_finds_nobody(tmp_path: Path) -> None:
    random = Random(1)
    questions = [{"shop": random.choice("abc"), "at": at(n) if n % 3 else None} for n in range(300)]
    events = [{"shop": shop, "done": at(0), "read": at(0), "v": 1.0} for shop in "abc"]

    made = answers(tmp_path, system(LATEST), questions, events)

    assert [1.0 if n % 3 else None for n in range(300)] == column(made, "v")


# --- windows ---


def test_a_window_is_strictly_before_the_question_and_ends_at_its_width(tmp_path: Path) -> None:
    asks = asked().asks("at").recent(seen(), by="shop", over="10min", total=uh.total("v"))
    moments = {1: 49.999, 2: 50, 4: 59.999, 8: 60, 16: 60.001}
    events = [{"shop": "a", "done": at(m), "read": at(0), "v": float(v)} for v, m in moments.items()]

    assert column(answers(tmp_path, system(asks), [{"shop": "a", "at": at(60)}], events), "total") == [6.0]


def test_a_window_around_1970_holds_what_it_should(tmp_path: Path) -> None:
    asks = asked().asks("at").recent(seen(), by="shop", over="1h", n=uh.count())
    moon = datetime(1970, 1, 1)
    events = [
        {"shop": "a", "done": moon + timedelta(minutes=m), "read": moon - timedelta(days=9)} for m in range(-200, 200)
    ]
    questions = [{"shop": "a", "at": moon + timedelta(minutes=m)} for m in (-61, -60, -1, 0, 1, 60)]

    assert column(answers(tmp_path, system(asks), questions, events), "n") == [60.0] * 6


def test_a_row_enters_a_window_only_when_it_is_known(tmp_path: Path) -> None:
    asks = asked().asks("at").recent(seen(), by="shop", over="1h", n=uh.count())
    questions = [{"shop": "a", "at": at(m)} for m in (10, 20, 21)]
    events = [{"shop": "a", "done": at(5), "read": at(20)}]

    assert column(answers(tmp_path, system(asks), questions, events), "n") == [0.0, 1.0, 1.0]


def test_a_window_without_a_key_holds_the_rows_of_all_keys(tmp_path: Path) -> None:
    asks = asked().asks("at").recent(seen(), over="1h", n=uh.count())
    events = [{"shop": shop, "done": at(1), "read": at(1)} for shop in ("a", "b", None)]

    assert column(answers(tmp_path, system(asks), [{"shop": None, "at": at(30)}], events), "n") == [3.0]


def test_the_asked_row_never_sees_itself(tmp_path: Path) -> None:
    asks = asked().asks("at + 5min").recent(asked(), by="shop", over="1h", n=uh.count(), total=uh.total("size"))
    questions = [{"shop": "a", "at": at(0), "size": 1.0}, {"shop": "a", "at": at(1), "size": 2.0}]

    made = answers(tmp_path, system(asks), questions)

    assert [(row["n"], row["total"]) for row in made] == [(1.0, 2.0), (1.0, 1.0)]


def test_a_late_column_is_null_in_a_window_until_its_own_clock(tmp_path: Path) -> None:
    def open_for(y: Any, at: Any, asked_at: Any) -> Any:
        return y.fill((asked_at - at).minutes())

    asks = asked().asks("at").recent(asked(), by="shop", over="1h", known=uh.mean("y"), guess=uh.mean(open_for))
    questions = [{"shop": "a", "at": at(0), "y": 7.0, "y_at": at(20)}]
    questions += [{"shop": "a", "at": at(m)} for m in (19, 60)]

    made = answers(tmp_path, system(asks), questions)

    assert [(row["known"], row["guess"]) for row in made] == [(None, None), (None, 19.0), (7.0, (7.0 + 41.0) / 2)]


def test_a_share_is_taken_among_the_rows_that_have_a_flag(tmp_path: Path) -> None:
    asks = asked().asks("at").recent(seen(), by="shop", over="1h", high=uh.share(col("v") > 1), all=uh.count())
    events = [{"shop": "a", "done": at(1), "read": at(1), "v": v} for v in (0.0, 2.0, None, 3.0)]
    questions = [{"shop": "a", "at": at(30)}, {"shop": "b", "at": at(30)}]

    made = answers(tmp_path, system(asks), questions, events)

    assert [(row["high"], row["all"]) for row in made] == [(2 / 3, 4.0), (None, 0.0)]


def test_a_sum_is_exact_in_whatever_order_its_rows_come(tmp_path: Path) -> None:
    asks = asked().asks("at").recent(seen(), by="shop", over="1h", total=uh.total("v"), mean=uh.mean("v"))
    values = [0.1] * 10 + [1e16, 1.0, -1e16, 2.0**-60]
    events = [{"shop": "a", "done": at(m), "read": at(m), "v": v} for m, v in enumerate(values)]

    made = answers(tmp_path, system(asks), [{"shop": "a", "at": at(30)}], events)

    assert [(row["total"], row["mean"]) for row in made] == [(2.0, 2.0 / 14)]


def test_a_sum_of_what_is_too_large_to_sum_is_null_while_it_is_in_the_window(tmp_path: Path) -> None:
    asks = asked().asks("at").recent(seen(), by="shop", over="10min", total=uh.total("v"), n=uh.count())
    events = [{"shop": "a", "done": at(m), "read": at(m), "v": v} for m, v in ((0, 1.5), (1, 1e300), (2, 4.0))]
    events += [{"shop": "b", "done": at(m), "read": at(m), "v": 4e18} for m in range(3)]
    questions = [{"shop": "a", "at": at(m)} for m in (1, 2, 11, 12)] + [{"shop": "b", "at": at(m)} for m in (1, 3)]

    made = answers(tmp_path, system(asks), questions, events)

    assert column(made, "total") == [1.5, None, None, 4.0, 4e18, None]
    assert column(made, "n") == [1.0, 2.0, 2.0, 1.0, 1.0, 3.0]


# --- what is made anew ---


def test_a_changed_join_is_made_anew_and_the_others_are_not(tmp_path: Path) -> None:
    asks = LATEST.recent(seen(), by="shop", over="1h", n=uh.count())
    questions, events = [{"shop": "a", "at": at(5)}], [{"shop": "a", "done": at(1), "read": at(1), "v": 1.0}]

    def kept(made: System) -> set[str]:
        answers(tmp_path, made, questions, events)
        return {path.name for path in (tmp_path / "record" / "cache").glob("join-*")}

    first = kept(system(asks))
    wider = kept(system(LATEST.recent(seen(), by="shop", over="2h", n=uh.count())))

    assert [len(first), len(wider)] == [2, 3]
    assert kept(system(asks, label_known="at + 60min")) == wider
    assert kept(system(asks, features=["size", "v"])) == wider


def test_a_join_by_what_an_earlier_one_brought_follows_it(tmp_path: Path) -> None:
    events = [
        {"shop": "a", "done": at(1), "read": at(1), "v": 7.0},
        {"shop": "b", "done": at(2), "read": at(2), "v": 7.0},
    ]
    asks = asked().asks("at").asof(seen(), by="shop", take=["v"]).recent(seen(), by="v", over="1h", n=uh.count())

    def also(v: float) -> list[Any]:
        changed = [{**event, "v": v} if event["shop"] == "a" else event for event in events]
        return column(answers(tmp_path, system(asks), [{"shop": "a", "at": at(5)}], changed), "n")

    assert [also(7.0), also(6.0)] == [[2.0], [1.0]]


# --- keys ---


def test_two_keys_of_several_columns_are_never_taken_for_one(tmp_path: Path) -> None:
    parts = [("a|b", "c"), ("a", "b|c"), ("a\\", "b"), ("a", "\\b"), ("a\\|b", ""), ("a|b", "")]
    questions = [{"shop": shop, "note": note, "at": at(n)} for n, (shop, note) in enumerate(parts)]
    schema = pa.schema([*ASKED.items(), ("note", TEXT)])
    pq.write_table(
        pa.Table.from_pylist([{**dict.fromkeys(ASKED), **q} for q in questions], schema=schema),
        tmp_path / "asked.parquet",
    )
    with Engine() as engine:
        made = system(asked(key=["shop", "note"]).asks("at"))
        read_asks(engine, read_plan(engine, made, tmp_path, tmp_path / "record"), tmp_path / "record")

        keys = column(engine.dicts("select * from asks order by __row"), "key")

    assert len(set(keys)) == 6
    assert keys[0] == "a\\|b|c"


# --- facts and label ---


def test_facts_and_label_are_masked_by_what_is_known_with_the_label(tmp_path: Path) -> None:
    questions = [{"shop": "a", "at": at(0), "y": 1.0, "y_at": at(m)} for m in (30, 31, None)]

    made = answers(tmp_path, system(asked().asks("at")), questions)

    assert column(made, "y") == [1.0, None, None]
    assert column(made, "label") == [True, None, None]
    assert [at(30)] * 3 == column(made, "__label_known")


def test_a_late_value_never_reaches_a_feature(tmp_path: Path) -> None:
    def hidden(size: Any, y: Any) -> Any:
        return size + y

    made = uh.system(
        "shops",
        asks=asked().asks("at"),
        features=["y", hidden],
        label=uh.label(bad, known="at"),
        goal=uh.goal("call", costs=uh.costs(call=(1, 1), wait=(0, 2))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )

    with pytest.raises(ProjectError) as found:
        answers(tmp_path, made, [])

    assert "features.y: looks at y, which is known only at y_at" in str(found.value)
    assert "features.hidden: looks at y, which is known only at y_at" in str(found.value)


def test_a_column_that_is_called_happened_stays_what_it_was(tmp_path: Path) -> None:
    table = pa.table({"happened": ["yes"], "at": pa.array([START], TIME), "y": [1.0], "y_at": pa.array([START], TIME)})
    pq.write_table(table, tmp_path / "asked.parquet")
    with Engine() as engine:
        plan = read_plan(engine, system(asked().asks("at"), ["happened"]), tmp_path, tmp_path / "record")
        read_asks(engine, plan, tmp_path / "record")

        assert column(engine.dicts("select * from asks"), "happened") == ["yes"]


# --- any tables ---


def worlds(seed: int) -> tuple[list[Row], list[Row]]:
    """Random questions and events with ties, nulls, corrections, forecasts and one hot shop."""
    random = Random(seed)
    span = random.choice([6, 40, 400])

    def moment(after: Any = None, most: int = 12) -> Any:
        if random.random() < 0.05:
            return None
        if after is None:
            return at(random.randrange(span))
        return after + timedelta(minutes=random.choice([-3, 0, 0, 1, random.randrange(most)]))

    def shop() -> str | None:
        return random.choice(["a", "a", "a", "a", "b", "c", "", None])

    events = []
    for _ in range(random.choice([0, 3, 60, 150])):
        done = moment()
        read = moment(done or START)
        w_at = moment(read or START, 60)
        numbers = {"v": random.choice([None, 0.1, 0.2, 1e15, -3.7]), "w": random.choice([None, 1.0, 2.0])}
        events.append({"shop": shop(), "done": done, "read": read, "w_at": w_at, **numbers})
    questions = []
    for _ in range(random.choice([1, 40, 120])):
        asking = moment()
        y_at = moment(asking or START, 90)
        questions.append(
            {"shop": shop(), "at": asking, "size": random.choice([None, 0.3, 5.0]), "y": 1.0, "y_at": y_at}
        )
    return questions, events


def expected_latest(question: Row, events: list[Row], now: datetime | None, most: timedelta | None) -> Row:
    found = [
        (e["done"], e["read"], n)
        for n, e in enumerate(events)
        if now and e["done"] and e["read"] and e["shop"] is not None and e["shop"] == question["shop"]
        if e["done"] <= now and e["read"] <= now
    ]
    if not found or (most is not None and now and now - max(found)[0] > most):
        return {"v": None, "w": None}
    event = events[max(found)[2]]
    return {"v": event["v"], "w": event["w"] if event["w_at"] and event["w_at"] <= now else None}


def exact_sum(values: Sequence[float]) -> float:
    """The sum as pinned: exact, then what is before the point and what is behind it, each made a float, added."""
    total = sum(map(Fraction, values), Fraction(0))
    whole = int(total)
    return float(whole) + float(total - whole)


def expected_window(n: int, rows: list[Row], question: Row, now: datetime | None, names: Sequence[str]) -> Row:
    """Count and figures over an hour; `n` is the place of the asked row among `rows`, or -1."""
    happened, known, value, late, late_at = names
    found = sorted(
        (row[happened], place)
        for place, row in enumerate(rows)
        if now and row[happened] and row[known] and row["shop"] is not None and row["shop"] == question["shop"]
        if place != n and now - timedelta(hours=1) <= row[happened] < now and row[known] <= now
    )
    values = [rows[place][value] for _, place in found if rows[place][value] is not None]
    flags = [rows[p][late] for _, p in found if rows[p][late_at] and rows[p][late_at] <= now]
    flags = [flag > 1 for flag in flags if flag is not None]
    total = exact_sum(values)
    return {
        "n": float(len(found)),
        "total": total if values else None,
        "mean": total / len(values) if values else None,
        "share": sum(flags) / len(flags) if flags else None,
    }


def when_asked(v: Any, asked_at: Any) -> Any:
    """`v`, in a way that needs each question beside each row of its window."""
    return uh.when(asked_at.is_null(), 0, v)


def when_asked_size(size: Any, asked_at: Any) -> Any:
    return uh.when(asked_at.is_null(), 0, size)


@pytest.mark.parametrize("seed", range(14))
def test_joins_on_any_tables_give_what_the_slow_reference_gives(tmp_path: Path, seed: int) -> None:
    questions, events = worlds(seed)
    most = timedelta(minutes=30) if seed % 2 else None
    figures = {"n": uh.count(), "total": uh.total("v"), "mean": uh.mean("v"), "share": uh.share(col("w") > 1)}
    own = {"own_n": uh.count(), "own_total": uh.total("size"), "own_share": uh.share(col("y") > 1)}
    paired = {f"paired_{n}": a for n, a in {**figures, "mean": uh.mean(when_asked)}.items()}
    paired_own = {"paired_own_n": uh.count(), "paired_own_total": uh.total(when_asked_size)}
    asks = (
        asked()
        .asks("at + 2min")
        .asof(seen(), by="shop", take=["v", "w"], max_age="30min" if most else None)
        .recent(seen(), by="shop", over="1h", **figures)
        .recent(asked(), by="shop", over="1h", **own)
        .recent(seen(), by="shop", over="1h", **paired)
        .recent(asked(), by="shop", over="1h", **paired_own)
    )

    made = answers(tmp_path, system(asks, label_known="at + 40min"), questions, events)

    assert len(questions) == len(made)
    for n, (question, row) in enumerate(zip(questions, made, strict=True)):
        now = question["at"] and question["at"] + timedelta(minutes=2)
        window = expected_window(-1, events, question, now, ("done", "read", "v", "w", "w_at"))
        among = expected_window(n, questions, question, now, ("at", "at", "size", "y", "y_at"))
        expected = {
            **expected_latest(question, events, now, most),
            **window,
            **{f"paired_{name}": value for name, value in window.items()},
            "paired_own_n": among["n"],
            "paired_own_total": among["total"],
            "own_n": among["n"],
            "own_total": among["total"],
            "own_share": among["share"],
            "y": 1.0
            if now and question["y_at"] and question["y_at"] <= question["at"] + timedelta(minutes=40)
            else None,
        }
        assert expected == {name: row[name] for name in expected}, (n, question)


def test_a_hot_key_loses_and_doubles_no_row(tmp_path: Path) -> None:
    random = Random(3)
    questions = [{"shop": "hot", "at": at(random.randrange(3000)), "size": 1.0} for _ in range(3000)]
    events = [{"shop": "hot", "done": at(m), "read": at(m + 1), "v": float(m)} for m in range(3000)]
    asks = LATEST.recent(seen(), by="shop", over="30min", n=uh.count())

    made = answers(tmp_path, system(asks), questions, events)

    minutes = [(q["at"] - START).total_seconds() / 60 for q in questions]
    assert [m - 1 if m else None for m in minutes] == column(made, "v")
    assert [float(min(m, 30)) for m in minutes] == column(made, "n")
