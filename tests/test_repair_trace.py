"""A value opened down to the rows it was made of, as they were known then; a row followed up to the decisions."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from math import isclose

import pytest

from underhood.ground.errors import NotFoundError
from underhood.ground.records import Decision
from underhood.plan.exprs import col
from underhood.plan.steps import Aggregate
from underhood.repair import workbench as uh
from underhood.repair.decided import mean
from underhood.repair.trace import OpenedValue, figure_of, grip, model_use, open_value, opened_value_json, trace_row
from underhood.repair.workbench import Workbench


def decisions(bench: Workbench, n: int) -> list[Decision]:
    keys = bench.engine.rows(f"select key from decided order by hash(key) limit {n}")
    return [uh.find_decision(bench, key) for (key,) in keys]


def opened(bench: Workbench, decision: Decision, name: str) -> OpenedValue:
    return open_value(bench.engine, bench.plan, decision, name)


def test_every_value_of_a_decision_opens_to_what_was_captured(bench: Workbench) -> None:
    for decision in decisions(bench, 3):
        for name in bench.plan.features:
            made = opened(bench, decision, name)

            assert made.is_same, (decision.key, name, made.origins)
            assert made.value == decision.features[name]


def test_a_window_lists_the_rows_that_happened_before_with_what_each_contributes(bench: Workbench) -> None:
    decision = next(d for d in decisions(bench, 20) if d.features["mean_late"] is not None)
    made = opened(bench, decision, "mean_late")
    (window,) = made.origins
    asked = datetime.fromisoformat(decision.asked_at)
    parts = [r.part for r in window.rows if r.part is not None]

    assert window.how == "window"
    assert window.n_rows == len(window.rows) > 0
    assert isclose(decision.features["mean_late"], sum(parts) / len(parts))
    for row in window.rows:
        assert timedelta() < asked - datetime.fromisoformat(row.happened) <= timedelta(hours=8)
        assert row.key != decision.key


def test_what_was_not_known_then_is_shown_as_unknown_until_its_clock(bench: Workbench) -> None:
    hidden = 0
    for decision in decisions(bench, 4):
        (window,) = opened(bench, decision, "mean_late").origins
        for row in window.rows:
            (cell,) = [c for c in row.cells if c.column == "late_minutes"]
            is_late = datetime.fromisoformat(row.happened) + timedelta(hours=3) > datetime.fromisoformat(
                decision.asked_at
            )
            assert (cell.hidden_until is not None) == is_late
            assert not is_late or (cell.seen is None and row.part is None)
            hidden += is_late

    assert hidden


def test_an_as_of_value_opens_to_its_row_with_both_clocks(bench: Workbench) -> None:
    (decision,) = decisions(bench, 1)
    (origin,) = opened(bench, decision, "jam").origins
    (row,) = origin.rows

    assert (origin.how, row.source, row.owner, row.file) == ("as of then", "roads", "road office", "roads.csv")
    assert row.happened <= row.known <= decision.asked_at
    assert row.cells[0].cleaned == decision.features["jam"]


def test_a_derived_feature_opens_each_column_that_it_is_made_of(bench: Workbench) -> None:
    (decision,) = decisions(bench, 1)
    made = opened(bench, decision, "weight_each")

    assert [o.name for o in made.origins] == ["kg", "pieces"]
    assert made.made == "kg / pieces"
    assert {o.rows[0].row for o in made.origins} == {int(decision.key.split("|")[1]) - 40000 + 1}


def test_a_value_that_cleaning_changed_shows_before_and_after_and_the_step(bench: Workbench) -> None:
    ((row, key),) = bench.engine.rows('select __row, __key from "raw roads" where jam > 800')
    asks = bench.engine.dicts(f'select key, asked_at from asks where "__roads_1_row" = {row} order by key limit 1')
    decision = Decision(
        "d", asks[0]["key"], str(asks[0]["asked_at"]), "", "", {"jam": None}, {"jam": None}, None, "", ""
    )
    (origin,) = opened(bench, decision, "jam").origins
    (cell,) = origin.rows[0].cells

    assert (cell.read, cell.cleaned, cell.steps) == (874.0, None, ("null above 100",))
    assert origin.rows[0].key == key


def test_an_unknown_feature_is_told_with_the_nearest(bench: Workbench) -> None:
    (decision,) = decisions(bench, 1)

    with pytest.raises(NotFoundError, match="mean_lat: there is no such feature or input"):
        opened(bench, decision, "mean_lat")


def test_an_opened_value_is_plain_json(bench: Workbench) -> None:
    (decision,) = decisions(bench, 1)
    body = opened_value_json(opened(bench, decision, "mean_late"))

    assert json.loads(json.dumps(body)) == json.loads(json.dumps(body, default=str))
    assert body["same"] is True


@pytest.mark.parametrize(
    ("kind", "parts", "expected"),
    [
        ("count", [1, 1], 2.0),
        ("count", [], 0.0),
        ("mean", [1.0, None, 3.0], 2.0),
        ("share", [True, False, None, True], 2 / 3),
        ("total", [1.5, 2.5], 4.0),
        ("smallest", [3.0, 1.0], 1.0),
        ("largest", [3.0, 1.0], 3.0),
        ("mean", [None], None),
    ],
)
def test_a_figure_is_made_of_what_each_row_contributes(kind: str, parts: list[object], expected: float | None) -> None:
    assert figure_of(Aggregate(kind, None if kind == "count" else col("x")), parts) == expected


# --- one row up ---


def test_a_row_is_followed_into_every_window_that_saw_its_value(bench: Workbench) -> None:
    """By hand: the questions that list the row among their window's rows, with the value known."""
    training = uh.deployed(bench).made_from["training"]
    mean(bench.engine, ())
    ((row, key, value),) = bench.engine.rows(
        "select __row, __key, late_minutes from parcels where late_minutes is not null order by hash(__key) limit 1"
    )
    made = trace_row(bench.engine, bench.plan, bench.record, training, "parcels", "late_minutes", row, key, value)
    by_hand = bench.engine.rows(
        f"select a.key from asks a, parcels p where p.__row = {row} and a.depot = p.depot and a.key <> p.__key "
        "and p.due < a.asked_at and p.due >= a.asked_at - interval 8 hour and p.due + interval 3 hour <= a.asked_at"
    )

    assert made.windows == len(by_hand)
    assert made.questions == len(by_hand) + 1  # its own question
    assert made.cleaned == ""


def test_a_row_that_cleaning_nulls_is_traced_to_the_questions_that_took_it(bench: Workbench) -> None:
    training = uh.deployed(bench).made_from["training"]
    mean(bench.engine, ())
    ((row, key),) = bench.engine.rows('select __row, __key from "raw roads" where jam > 800')
    made = trace_row(bench.engine, bench.plan, bench.record, training, "roads", "jam", row, key, 874.0)
    taken = bench.engine.rows(f'select count(*) from asks where "__roads_1_row" = {row}')[0][0]

    assert (made.questions, made.windows, made.cleaned) == (taken, 0, "cleaning made it null")


# --- the end of the way ---


def test_the_grip_of_a_bundle_counts_its_decisions_and_their_money(bench: Workbench) -> None:
    bundle = uh.deployed(bench)
    mean(bench.engine, [], bundle.name)
    made = grip(bench.engine, bench.plan, bundle)
    rows = bench.engine.rows("select action, label from decisions where label is not null")
    costs = bench.system.goal.costs.of
    spent = sum(costs[a][1] if label else costs[a][0] for a, label in rows)

    assert made.decisions == sum(made.actions.values()) == bench.n_decisions
    assert made.money == pytest.approx(1000 * spent / len(rows))
    assert set(made.use) == set(bundle.features)


def test_how_the_model_uses_each_feature_adds_up(bench: Workbench) -> None:
    use = model_use(uh.deployed(bench))

    used = [u.split() for u in use.values() if u != "not used"]
    assert uh.deployed(bench).model["kind"] == "trees"
    assert sum(int(u[0].replace(",", "")) for u in used) == int(used[0][2].replace(",", ""))
