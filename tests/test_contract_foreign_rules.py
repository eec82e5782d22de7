"""Rules written for pandera, dbt and Great Expectations are taken over as far as they map; the rest is named."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.contract.foreign_rules import Imported, parse_yaml, read_foreign
from underhood.contract.rules import Holds, Key, OneOf, Order, Pattern, Range, Reference, Required, Type
from underhood.ground.errors import ContractError

DBT = """
version: 2
models:
  - name: orders
    description: "One row per order"   # a comment
    meta: {owner: "sales desk"}
    tests:
      - dbt_utils.unique_combination_of_columns:
          combination_of_columns: [id, country]
      - dbt_utils.expression_is_true:
          expression: "shipped >= ordered"
    columns:
      - name: id
        data_type: bigint
        tests: [unique, not_null]
      - name: country
        data_tests:
          - accepted_values:
              arguments:
                values: ['DE', 'FR', "it's"]
          - relationships:
              to: ref('countries')
              field: code
      - name: amount
        description: |
          Money: with tax
          and all
        tests:
          - dbt_utils.accepted_range:
              min_value: 0
              max_value: 5_000
          - not_null:
              config:
                where: "paid"
          - my_own_test
sources:
  - name: raw
    tables:
      - name: things
        columns:
        - name: x
          tests:
          - not_null
"""
PANDERA = """
schema_type: dataframe
columns:
  id:
    dtype: int64
    unique: true
  amount:
    dtype: float64
    nullable: true
    in_range:
      min_value: 0
      max_value: 5000
      include_min: true
      include_max: true
    greater_than: 0
  country:
    dtype: string[pyarrow]
    isin:
    - DE
    - FR
    checks:
      str_matches: ^[A-Z]{2}$
  odd:
    dtype: complex128
    nullable: true
    unique_values_eq:
      values:
      - 1
unique:
- id
- country
"""
SUITE = {
    "name": "s",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a", "mostly": 0.95}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0, "max_value": 5}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0, "strict_min": True}},
        {
            "expectation_type": "expect_column_pair_values_a_to_be_greater_than_b",
            "kwargs": {"column_A": "b", "column_B": "a", "or_equal": True},
        },
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "c", "regex": "x$"}},
        {"type": "expect_column_value_lengths_to_equal", "kwargs": {"column": "c", "value": 3.0}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "c", "value_set": ["x"]}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "a", "min_value": 1}},
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "b"]}},
    ],
}


def read(folder: Path, name: str, text: str) -> Imported:
    (folder / name).write_text(text)
    return read_foreign(folder / name)


def test_dbt_tests_become_rules_and_the_rest_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, "schema.yml", DBT)
    orders, things = found.contracts

    assert (orders.table, orders.owner, orders.about) == ("orders", "sales desk", "One row per order")
    assert orders.rules == (
        Key(("id", "country")),
        Holds("shipped >= ordered", ("shipped", "ordered")),
        Type("id", "whole number"),
        Key(("id",)),
        Required("id"),
        OneOf("country", ("DE", "FR", "it's")),
        Reference("country", "countries", "code"),
        Range("amount", 0.0, 5000.0),
    )
    assert things.rules == (Required("x"),)
    assert found.unmapped == ("orders.amount: not_null()", "orders.amount: my_own_test()")


def test_a_pandera_schema_becomes_rules_and_the_rest_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, "orders.yaml", PANDERA)

    assert found.contracts[0].rules == (
        Type("id", "whole number"),
        Required("id"),
        Key(("id",)),
        Type("amount", "number"),
        Range("amount", 0.0, 5000.0),
        Holds('"amount" > 0.0', ("amount",)),
        Type("country", "text"),
        Required("country"),
        Pattern("country", "[A-Z]{2}"),
        OneOf("country", ("DE", "FR")),
        Key(("id", "country")),
    )
    assert [line.partition("(")[0] for line in found.unmapped] == [
        "odd: type complex128",
        "odd: check unique_values_eq",
    ]


def test_a_suite_becomes_rules_and_the_rest_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, "s.json", json.dumps(SUITE))

    assert found.contracts[0].rules == (
        Required("a", share=0.05),
        Range("a", 0.0, 5.0),
        Order("a", "b"),
        Pattern("c", ".*x"),
        Pattern("c", "", 3, 3),
        OneOf("c", ("x",)),
        Key(("a", "b")),
    )
    assert len(found.unmapped) == 2


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: 1", "a: [1", "a: *anchor", "a:\n  b: 1\n c: 2"])
def test_a_file_that_is_none_of_them_is_a_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ContractError):
        read(tmp_path, "x.yml", text)


@settings(max_examples=100)
@given(st.text(alphabet="ab:-#'\"[]{}, \n|>&*%1", max_size=40))
def test_any_text_is_read_or_refused_never_a_crash(text: str) -> None:
    with contextlib.suppress(ContractError):
        parse_yaml(text, "here")
