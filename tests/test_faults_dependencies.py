"""A row that contradicts itself tells which of its columns is wrong, and how, however few such rows there are."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from underhood.build.scorer import Array
from underhood.faults.dependencies import borne_out, dependencies
from underhood.faults.moved import looked
from underhood.faults.moved_shown import Moved
from underhood.faults.sides import Sides, side_by_side
from underhood.plan.operations import NUMBER, TEXT, TIME

N, KEPT, ONSET = 9_000, 6_000, 7_500
KINDS = {"days": NUMBER, "price": NUMBER, "arrival": TIME, "room": TEXT, "beds": NUMBER, "floor": NUMBER}
FEW = (np.arange(N) >= ONSET) & (np.random.default_rng(5).random(N) < 0.03)


def bookings() -> dict[str, Array]:
    """Arrivals as many days off as the lead time says; rooms A to F that have 1 to 6 beds; a price; a floor."""
    random = np.random.default_rng(6)
    days = np.floor(random.gamma(1.5, 40, N))
    beds = random.choice(6, N, p=(0.3, 0.25, 0.2, 0.15, 0.06, 0.04)) + 1.0
    room = np.array(list("ABCDEF"), dtype=object)[beds.astype(int) - 1]
    price = np.round(random.gamma(4, 20, N))
    return {
        "days": days,
        "price": price,
        "arrival": days * 86_400.0,
        "room": room,
        "beds": beds,
        "floor": random.integers(0, 9, N) + 0.0,
    }


def sides_of(changes: Mapping[str, Array]) -> Sides:
    own = bookings()
    joined = {c: np.where(FEW, changes[c], v) if c in changes else v for c, v in own.items()}
    touched = np.logical_or.reduce([joined[c] != own[c] for c in own]) if changes else FEW
    bad = np.isin(np.arange(N - KEPT), np.flatnonzero(touched)[2:12:2] - KEPT)
    return side_by_side(np.arange(N) * 60.0, KEPT, bad, KINDS, joined, set(KINDS))


def told(make: str) -> list[Moved]:
    own = bookings()
    changes = {
        "later": {"days": own["days"] + 30},
        "weeks": {"days": own["days"] * 7},
        "stopped": {"days": np.full(N, 12.0)},
        "crossed": {"days": own["price"], "price": own["days"]},
        "zone": {"arrival": own["arrival"] - 3_600},
        "merged": {"room": np.where(own["room"] == "A", "B", own["room"])},
        "named": {"room": np.where(own["room"] == "B", "New", own["room"])},
        "beds": {"beds": own["beds"] + 2},
        "sound": {},
    }
    return list(looked(sides_of(changes[make])).moves)


@pytest.mark.parametrize(
    ("make", "kind", "columns", "parameter"),
    [
        ("later", "shift", ("days",), 30.0),
        ("weeks", "unit change", ("days",), 7.0),
        ("stopped", "frozen column", ("days",), 12.0),
        ("crossed", "column swap", ("days", "price"), ["days", "price"]),
        ("zone", "time zone", ("arrival",), -3_600.0),
        ("merged", "category merge", ("room",), {"A": "B"}),
        ("named", "category rename", ("room",), {"B": "New"}),
        ("beds", "shift", ("beds",), 2.0),
    ],
)
def test_a_few_rows_that_contradict_themselves_tell_which_column_is_wrong_and_how(
    make: str, kind: str, columns: tuple[str, ...], parameter: object
) -> None:
    (moved,) = told(make)

    assert (moved.form.kind, moved.columns) == (kind, columns)
    assert parameter in moved.form.parameters.values()
    assert moved.n >= 0.2 * FEW.sum()


def test_an_hour_is_told_by_the_moment_of_asking_in_the_zone_in_which_people_name_it() -> None:
    # a minute apart, over the night to 31 March 2024, when clocks go forward
    at = np.datetime64("2024-03-29T12:00").astype("datetime64[s]").astype(float) + np.arange(N) * 60.0
    turn = np.datetime64("2024-03-31T01:00").astype("datetime64[s]").astype(float)
    hour = np.floor(at / 3_600 + np.where(at < turn, 1, 2)) % 24
    joined = {"hour": np.where(FEW, (hour + 6) % 24, hour), "price": bookings()["price"]}
    bad = np.isin(np.arange(N - KEPT), np.flatnonzero(FEW)[2:12:2] - KEPT)
    sides = side_by_side(at, KEPT, bad, {"hour": NUMBER, "price": NUMBER}, joined, {"hour", "price"})
    (moved,) = looked(replace(sides, zone="Europe/Berlin")).moves

    assert (moved.form.kind, moved.columns, moved.n) == ("time zone", ("hour",), FEW.sum())
    assert {d.by for d in dependencies(replace(sides, zone="Europe/Berlin"))} == {"the hour of asking"}
    assert not dependencies(sides)


def test_an_hour_that_the_moment_of_asking_bears_out_is_not_wrong_for_those_who_now_ask_at_another() -> None:
    at = np.datetime64("2024-03-01").astype("datetime64[s]").astype(float) + np.arange(N) * 600.0
    hour = np.floor(at / 3_600) % 24
    warm_at = np.where(np.arange(N) < KEPT, 11, 17)  # it is warm later in the day once the decisions begin
    joined = {"hour": hour, "warm": np.where(np.abs(hour - warm_at) <= 2, "warm", "cold")}
    bad = np.isin(np.arange(N - KEPT), np.flatnonzero((joined["warm"] == "warm")[KEPT:])[:5])
    sides = side_by_side(at, KEPT, bad, {"hour": NUMBER, "warm": TEXT}, joined, {"hour", "warm"})

    assert borne_out(sides, dependencies(sides)) == {"hour"}
    assert all("hour" not in moved.columns for moved in looked(sides).moves)


def test_sound_rows_contradict_nothing() -> None:
    assert told("sound") == []


def test_what_hardly_varies_or_only_mostly_agrees_is_no_dependency() -> None:
    sides = sides_of({})

    assert {frozenset((d.column, d.by)) for d in dependencies(sides)} == {
        frozenset(("days", "arrival")),
        frozenset(("room", "beds")),
    }
