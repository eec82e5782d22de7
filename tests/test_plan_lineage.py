"""Lineage: each value's way up and down the plan, told apart from what only influences it, without reading data."""

from __future__ import annotations

from typing import Any

import pytest

import underhood as uh
from underhood.ground.errors import NotFoundError
from underhood.plan.exprs import col
from underhood.plan.joins import Plan, settle
from underhood.plan.lineage import (
    INFLUENCE,
    VALUE,
    Reached,
    downstream,
    find_node,
    lineage_json,
    lineage_of,
    owners,
    roles,
    upstream,
    uses,
)

ORDERS = {
    "id": "text",
    "shop": "text",
    "at": "time",
    "total": "number",
    "currency": "text",
    "paid_at": "time",
    "refund": "number",
    "note": "text",
    "rate": "text",
}
RATES = {"shop": "text", "day": "time", "fee": "number", "spare": "number"}
CODES = {"currency": "text", "name": "text"}


def refunded(refund: Any) -> Any:
    return (refund > 0).fill(False)


def net(total: Any, fee: Any) -> Any:
    return total - fee


def is_dear(total: Any, shop: Any) -> Any:
    return uh.when(shop == "main", total, 0) > 100


def lost(refund: Any, total: Any) -> Any:
    return refund / total


def plan() -> Plan:
    codes = uh.source("codes.csv", owner="bank")
    orders = uh.source("orders.csv", key="id", happened="at", late={"paid_at": ["refund"]}, owner="shop desk").clean(
        uh.clean.null_above("total", 1e6),
        uh.clean.fix_units("total", 0.01, where=col("currency") == "cent"),
        uh.clean.fill_from("currency_name", codes, by="currency", take="name"),
        uh.clean.drop_rows(col("note") == "test"),
    )
    rates = uh.source("rates.csv", happened="day", known="day + 1h", owner="bank desk")
    asks = (
        orders.asks("at")
        .asof(rates, by="shop", take=["fee"])
        .recent(orders, by="shop", over="30d", lost_share=uh.mean(lost), n=uh.count())
    )
    system = uh.system(
        "refunds",
        asks=asks,
        features=["total", net, is_dear, "lost_share", "n", "currency_name"],
        label=uh.label(refunded, known="paid_at"),
        goal=uh.goal("refund early", costs=uh.costs(call=(1, 2), wait=(0, 9))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )
    return settle(system, {"orders": ORDERS, "rates": RATES, "codes": CODES})


LINEAGE = lineage_of(plan())


def found(reached: tuple[Reached, ...], how: str = "") -> set[str]:
    return {r.node.id for r in reached if not how or r.how == how}


def test_a_condition_influences_and_what_it_chooses_is_the_value() -> None:
    made = roles(uh.when(col("a") > 0, col("b"), col("c").fill(col("a"))))

    assert made == {"a": VALUE, "b": VALUE, "c": VALUE}
    assert roles(uh.when(col("a") > 0, col("b"), 0)) == {"a": INFLUENCE, "b": VALUE}


def test_a_feature_is_traced_up_to_the_columns_as_they_were_read() -> None:
    up = upstream(LINEAGE, "net")

    assert {"raw orders.total", "column rates.fee", "column orders.total"} <= found(up, VALUE)
    assert {"column orders.currency", "column orders.shop", "column rates.shop", "column rates.day"} <= found(
        up, INFLUENCE
    )
    assert "column rates.spare" not in found(up)
    assert owners(up) == ("shop desk", "bank desk")


def test_a_cleaning_step_is_named_on_the_way() -> None:
    (edge,) = [e for e in LINEAGE.into["column orders.total"] if e.origin == "raw orders.total"]

    assert (edge.how, edge.via) == (VALUE, "null above 1e+06, times 0.01 where currency = 'cent'")


def test_a_reference_is_a_value_and_its_key_an_influence() -> None:
    up = upstream(LINEAGE, "currency_name")

    assert "column codes.name" in found(up, VALUE)
    assert {"column orders.currency", "column codes.currency"} <= found(up, INFLUENCE)


def test_what_sets_rows_aside_influences_every_window_over_them_and_the_training_set() -> None:
    down = downstream(LINEAGE, "orders.note")

    assert {"feature n", "feature lost_share", "training set refunds", "score refunds"} <= found(down, INFLUENCE)
    assert found(down, VALUE) == {"input note"}


def test_the_clock_of_a_late_column_influences_where_it_is_seen() -> None:
    assert "column orders.paid_at" in found(upstream(LINEAGE, "lost_share"), INFLUENCE)
    assert "column orders.refund" in found(upstream(LINEAGE, "lost_share"), VALUE)
    assert "fact refund" not in found(upstream(LINEAGE, "lost_share"))


def test_a_column_is_traced_to_features_label_actions_and_money() -> None:
    made = uses(LINEAGE, "orders", "refund")

    assert [r.node.id for r in made if r.how == VALUE] == [
        "feature lost_share",
        "label refunded",
        "training set refunds",
        "score refunds",
        "action call",
        "action wait",
        "money cost per 1,000 decisions",
    ]


def test_a_column_that_nobody_reads_reaches_nothing() -> None:
    assert uses(LINEAGE, "rates", "spare") == ()


def test_uses_starts_at_the_column_as_it_was_read() -> None:
    assert {"feature total", "feature net", "feature is_dear"} <= found(uses(plan(), "orders", "total"), VALUE)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("orders.total", "column orders.total"),
        ("raw orders.total", "raw orders.total"),
        ("total", "feature total"),
        ("input total", "input total"),
        ("refunded", "label refunded"),
        ("call", "action call"),
        ("note", "input note"),
    ],
)
def test_a_bare_name_means_the_feature_before_the_input(wanted: str, expected: str) -> None:
    assert expected == find_node(LINEAGE, wanted).id


def test_an_unknown_name_is_told_with_the_nearest_ones() -> None:
    with pytest.raises(NotFoundError) as error:
        upstream(LINEAGE, "orders.totl")

    assert "orders.totl: there is no such column, feature, label or action" in str(error.value)
    assert "orders.total" in error.value.hint


def test_every_edge_joins_two_nodes_that_are_there_and_the_graph_has_no_circle() -> None:
    names = set(LINEAGE.nodes)

    assert all({e.origin, e.to} <= names for edges in LINEAGE.into.values() for e in edges)
    for name in names:
        assert name not in found(downstream(LINEAGE, name))


def test_the_lineage_is_plain_json() -> None:
    import json

    body = lineage_json(LINEAGE)

    assert json.loads(json.dumps(body)) == body
    assert len(body["nodes"]) == len(LINEAGE.nodes)  # type: ignore[arg-type]


def test_a_source_without_clocks_is_joined_as_what_always_holds() -> None:
    codes = uh.source("codes.csv")
    asks = uh.source("orders.csv", happened="at").asks("at").asof(codes, by="currency", take=["name"])
    system = uh.system(
        "plain",
        asks=asks,
        features=["name"],
        label=uh.label(refunded, known="at"),
        goal=uh.goal("x", costs=uh.costs(call=(1, 2), wait=(0, 9))),
        policy=uh.threshold(call=0.5, otherwise="wait"),
    )
    made = lineage_of(settle(system, {"orders": ORDERS, "codes": CODES}))

    assert found(upstream(made, "name"), VALUE) == {"input name", "column codes.name"}
