"""A project is read once: what does not add up is told at once, with its place, before any data are touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import underhood as uh
from underhood.ground.errors import ProjectError
from underhood.plan.exprs import col, shown
from underhood.plan.joins import settle
from underhood.plan.steps import (
    Base,
    Policy,
    Source,
    System,
    clock,
    described,
    fingerprint,
    late_columns,
    sources_of,
    span,
)

ORDERS = {"id": "text", "shop": "text", "at": "time", "total": "number", "paid_at": "time", "refund": "number"}
RATES = {"shop": "text", "day": "time", "rate": "number"}
COSTS = uh.costs(call=(1, 2), wait=(0, 9))


def refunded(refund: Any) -> Any:
    return (refund > 0).fill(False)


def orders(**changed: Any) -> Source:
    late = {"at + 7d": ["refund"]}
    return uh.source("orders.csv", **{"key": "id", "happened": "at", "late": late} | changed)


def rates(**changed: Any) -> Source:
    return uh.source("rates.csv", **{"happened": "day", "known": "day + 1h"} | changed)


def system(asks: Base | None = None, features: list[Any] | None = None, **changed: Any) -> System:
    usual = {
        "label": uh.label(refunded, known="at + 7d"),
        "goal": uh.goal("refund early", costs=COSTS),
        "policy": uh.threshold(call=0.5, otherwise="wait"),
    }
    return uh.system("refunds", asks=asks or orders().asks("at"), features=features or ["total"], **usual | changed)


def problem(act: Any) -> str:
    with pytest.raises(ProjectError) as found:
        act()
    return str(found.value)


# --- clocks and spans ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90.0), ("60min", 3600.0), (" 1.5 h ", 5400.0), ("7d", 604800.0), ("0s", 0.0), ("0.001s", 0.001)],
)
def test_a_span_is_a_number_and_a_unit(text: str, expected: float) -> None:
    assert expected == span(text, "here")


@pytest.mark.parametrize("text", ["", "60", "min", "60 minutes", "-5min", "1e3s", "5m", "1h30min", ".5h", "٣h"])
def test_what_is_not_a_span_is_told_with_an_example(text: str) -> None:
    expected = f'here: {text!r} is not a span\ntry: write a number and s, min, h or d: "60min"'

    assert expected == problem(lambda: span(text, "here"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("at", "at"), ("at - 60min", "at - 60min"), ("at+7d", "at + 7d"), (" at ", "at")],
)
def test_a_clock_is_a_column_and_perhaps_a_span(text: str, expected: str) -> None:
    assert expected == shown(clock(text, "here"))


@pytest.mark.parametrize("text", ["", "at 60min", "at * 2", "at - ", "60min - at", "a.b"])
def test_what_is_not_a_clock_is_told(text: str) -> None:
    assert problem(lambda: clock(text, "orders.happened")).startswith("orders.happened: ")


# --- while the file is read ---


def test_a_source_is_named_after_its_file_and_known_when_it_happened() -> None:
    made = uh.source("data/orders.csv.zip", happened="at")

    assert (made.name, made.key, shown(made.happened), shown(made.known)) == ("orders", (), "at", "at")


def test_a_file_name_that_is_no_word_needs_a_name() -> None:
    expected = "2024-orders.csv: '2024-orders' cannot name a source\ntry: give a plain word with name="

    assert expected == problem(lambda: uh.source("2024-orders.csv", happened="at"))
    assert uh.source("2024-orders.csv", happened="at", name="orders").name == "orders"


@pytest.mark.parametrize("cut", [-0.1, 1.1, float("nan")])
def test_a_cut_that_no_score_can_reach_is_refused(cut: float) -> None:
    assert f"policy: cuts lie between 0 and 1, got call={cut}" == problem(
        lambda: uh.threshold(call=cut, otherwise="wait")
    )


def test_a_policy_without_cuts_is_refused() -> None:
    assert problem(lambda: uh.threshold(otherwise="wait")) == "policy: cuts lie between 0 and 1, got none"


def test_the_cuts_of_a_policy_stand_from_the_highest_down() -> None:
    made = uh.threshold(mail=0.2, call=0.8, otherwise="wait")

    assert Policy((("call", 0.8), ("mail", 0.2)), "wait") == made
    assert made.actions == ("call", "mail", "wait")


def test_an_action_without_a_cost_is_told_with_the_nearest_priced_one() -> None:
    made = problem(lambda: system(policy=uh.threshold(cal=0.5, otherwise="wait")))

    assert made == "goal.costs: action cal has no cost\ntry: did you mean call?"


def test_a_metric_that_does_not_exist_is_told() -> None:
    assert (
        problem(lambda: uh.goal("x", costs=COSTS, metric="auc"))
        == "goal.metric: there is no metric 'auc'\ntry: use log_loss"
    )


def test_two_different_sources_cannot_share_a_name() -> None:
    asks = orders().asks("at").asof(orders(happened="paid_at"), by="shop", take=["total"])

    assert (
        problem(lambda: sources_of(asks)) == "orders: two different sources share a name\ntry: give one of them name="
    )


def test_the_fingerprint_of_a_step_tells_any_two_different_ones_apart() -> None:
    base = orders().asks("at")
    windows = [base.recent(rates(), by="shop", over=over, n=uh.count()) for over in ("1h", "60min", "2h")]
    cleaned = orders().clean(uh.clean.null_above("total", 5)).asks("at")

    assert fingerprint(windows[0]) == fingerprint(windows[1])
    assert len({fingerprint(step) for step in (base, *windows, cleaned)}) == 4


def test_a_system_is_described_in_lines_that_a_person_reads() -> None:
    asks = orders().asks("at - 60min").asof(rates(), by="shop", take=["rate"], max_age="2d")
    made = described(system(asks.recent(orders(), by="shop", over="90min", n=uh.count())))

    assert made == [
        "refunds: refund early",
        "asks orders at at - 60min",
        "as of then, rates by shop: rate",
        "90min before, orders by shop: n",
        "label refunded = fill(refund > 0, false), known at at + 7d",
        "acts call from 0.5, else wait",
    ]


# --- late columns ---


def net(total: Any, refund: Any) -> Any:
    return total - refund.fill(0)


def worth(net: Any) -> Any:
    return net * 2


def test_a_column_derived_from_late_ones_must_say_when_it_is_known() -> None:
    expected = (
        'orders.net: is made of refund, which is known late\ntry: say when it is known: late={"clock": [..., "net"]}'
    )

    assert expected == problem(lambda: late_columns(orders(derive=[net])))


def test_a_column_derived_from_a_derived_late_one_must_say_so_too() -> None:
    late = {"at + 7d": ["refund", "net"]}

    assert "orders.worth: is made of refund" in problem(lambda: late_columns(orders(derive=[net, worth], late=late)))


def test_a_column_that_says_when_it_is_known_is_late_by_that_clock() -> None:
    late = {"at + 7d": ["refund"], "at + 8d": ["net"]}

    made = late_columns(orders(derive=[net], late=late))

    assert {c: shown(e) for c, e in made.items()} == {"refund": "at + 7d", "net": "at + 8d"}


# --- settled against the columns that are there ---


def settled(made: System) -> Any:
    return settle(made, {"orders": ORDERS, "rates": RATES})


def test_a_settled_plan_says_what_a_question_holds_and_what_becomes_known_later() -> None:
    plan = settled(system(orders().asks("at").asof(rates(), by="shop", take=["rate"])))

    assert list(plan.inputs) == ["id", "shop", "at", "total", "paid_at", "rate"]
    assert plan.facts == {"refund": "number"}
    assert plan.feature_types == {"total": "number"}


def test_a_feature_that_looks_at_a_late_column_is_refused_with_its_clock() -> None:
    made = problem(lambda: settled(system(features=["refund"])))

    assert "features.refund: looks at refund, which is known only at at + 7d, after the question" in made


@pytest.mark.parametrize(
    ("asks", "expected"),
    [
        (orders().asks("shop"), "orders.asks: `shop` is a text, not a time"),
        (orders(happened="total").asks("at"), "orders.happened: `total` is a number, not a time"),
        (orders(key="nr").asks("at"), "orders: there is no column 'nr'"),
        (orders(late={"at": ["refnd"]}).asks("at"), "orders: there is no column 'refnd'\ntry: did you mean refund?"),
        (
            orders().clean(uh.clean.null_above("totl", 1)).asks("at"),
            "orders.totl: there is no column to clean (null above 1)",
        ),
        (orders().asks("at").asof(rates(), by="id", take=["rate"]), "asof rates: both sides need the column 'id'"),
        (orders().asks("at").asof(rates(), by="shop", take=["rte"]), "asof rates: there is no column 'rte'"),
        (orders().asks("at").asof(rates(), by="shop", take=["shop"]), "asof rates: 'shop' is there already"),
        (orders().asks("at").recent(rates(), by="shop", over="1h", Total=uh.count()), "'Total' is there already"),
        (orders().asks("at").recent(rates(), by="shop", over="1h", score=uh.count()), "'score' is there already"),
        (
            orders().asks("at").recent(rates(), by="shop", over="1h", m=uh.mean("shop")),
            "recent rates: mean needs a number, `shop` is a text",
        ),
        (
            orders().asks("at").recent(rates(), by="shop", over="1h", m=uh.share("rate")),
            "recent rates: share needs a flag, `rate` is a number",
        ),
        (
            orders().asks("at").asof(rates(late={"day + 2h": ["shop"]}), by="shop", take=["rate"]),
            "asof rates: shop is known late in rates",
        ),
    ],
)
def test_a_join_or_a_clock_that_does_not_add_up_is_told_with_its_place(asks: Base, expected: str) -> None:
    assert expected in problem(lambda: settled(system(asks)))


def test_two_columns_that_differ_only_by_capitals_are_refused() -> None:
    def Total(at: Any) -> Any:
        return at.hour()

    made = problem(lambda: settled(system(orders(derive=[Total]).asks("at"))))

    assert made == "orders.Total: differs from 'total' only by capitals\ntry: rename one"


def test_two_features_that_differ_only_by_capitals_are_refused() -> None:
    def Total(total: Any) -> Any:
        return total * 2

    made = problem(lambda: settled(system(features=["total", Total])))

    assert "features.Total: differs from 'total' only by capitals" in made


@pytest.mark.parametrize("name", ["label", "Label", "key", "asked_at"])
def test_a_column_named_like_what_is_added_is_refused(name: str) -> None:
    made = problem(lambda: settle(system(), {"orders": {**ORDERS, name: "number"}}))

    assert f"orders.{name}: the name {name!r} is taken" in made


def test_a_label_that_is_no_flag_is_refused() -> None:
    def refunded(refund: Any) -> Any:
        return refund

    made = problem(lambda: settled(system(label=uh.label(refunded, known="at"))))

    assert made == "label refunded: is a number, not a flag\ntry: compare: arr_delay > 30"


def test_all_breakages_are_told_at_once() -> None:
    def when(at: Any) -> Any:
        return at

    asks = orders().asks("att").asof(rates(), by="shop", take=["rte"])
    goal = replace(uh.goal("x", costs=COSTS), watch=("shp",))

    made = problem(lambda: settled(system(asks, ["refund", "totl", when], goal=goal)))

    places = [line.split(": ")[0] for line in made.splitlines() if not line.startswith("try")]
    assert places == ["orders.asks", "asof rates", "features.refund", "features.totl", "features.when", "goal.watch"]


def test_the_breakages_of_several_sources_are_told_at_once() -> None:
    asks = orders(happened="shop").asks("at").asof(rates(key="nr"), by="shop", take=["rate"])

    made = problem(lambda: settled(system(asks)))

    assert "orders.happened: `shop` is a text" in made
    assert "rates: there is no column 'nr'" in made


def test_a_window_may_look_at_late_columns_of_earlier_rows() -> None:
    asks = orders().asks("at").recent(orders(), by="shop", over="30d", lost=uh.mean(col("refund") / col("total")))

    assert settled(system(asks)).inputs["lost"] == "number"


def test_a_definition_has_the_same_fingerprint_wherever_its_files_lie() -> None:
    here, there = uh.source("/here/orders.csv", happened="at"), uh.source("/there/orders.csv", happened="at")

    assert fingerprint(here) == fingerprint(there)
    assert fingerprint(here) != fingerprint(uh.source("/here/orders.csv", happened="placed"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: uh.clean.null_above("a", "x"),
        lambda: uh.clean.null_below("a", None),
        lambda: uh.clean.fix_units("a", "x"),
        lambda: uh.clean.fix_units("a", 2, plus="x"),
        lambda: uh.clean.map_levels("a", ["x"]),
        lambda: uh.source("x.csv", key=3),
        lambda: uh.source("x.csv", key=["a", 3]),
        lambda: uh.costs(act=1),
        lambda: uh.costs(act=(1, "x")),
        lambda: uh.label("x", known="t"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_told_with_its_place_and_what_to_write(wrong: Any) -> None:
    with pytest.raises(ProjectError) as found:
        wrong()

    assert found.value.where
    assert found.value.hint
