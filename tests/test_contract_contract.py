"""A contract is a file that people read and change; what they write in it stays."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.contract.contract import KINDS, Contract, contract_json, contract_text, freeze, parse_rule, read_contract
from underhood.contract.rhythm import Arrival, Fresh, NeverFalls, Rows, Steps, Unit
from underhood.contract.rules import (
    Determines,
    Holds,
    Key,
    Nulls,
    OneOf,
    Order,
    Pattern,
    Range,
    Reference,
    Required,
    Rule,
    Sum,
    Type,
)
from underhood.ground.errors import ContractError

ONE_OF_EACH: tuple[Rule, ...] = (
    Type("a", "number", evidence="0 of 10 rows break it"),
    Required("a", share=0.02),
    Key(("a", "b")),
    Range("a", 0.0, 80.0, "mph", evidence="min 0, max 42"),
    Range("at", datetime(2013, 1, 1)),
    OneOf("b", ("x", 'with "quotes"', "ünï\\code\n\t")),
    OneOf("n", (1, 2.5, True)),
    Pattern("b", r"[A-Z]{2}\d+", 2, None),
    Unit("a", "°F", (1.0, 2.0, 3.0, 4.0, 5.0)),
    Steps("at", "1h", ("b",), share=0.01),
    Fresh("at", "3h"),
    Arrival("at", "known", "2h", share=0.01),
    NeverFalls("a", "at", ("b",)),
    Order("a", "n"),
    Sum(("a", "n"), "c"),
    Nulls("a", "b", exactly=True),
    Determines(("a",), "b"),
    Reference("b", "them", "id"),
    Rows("at", "day", 60, 72),
    Holds("a > 0 or b = 'x'", ("a", "b")),
)
WHOLE = Contract("weather", ONE_OF_EACH, owner="met feed", about="one row per hour", remarks=("what weather promises",))


def test_a_contract_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    frozen = freeze(WHOLE, tmp_path / "weather.toml")
    read = read_contract(tmp_path / "weather.toml")

    assert read == frozen
    assert [r.evidence for r in read.rules] == [r.evidence for r in WHOLE.rules]
    assert contract_text(read) == (tmp_path / "weather.toml").read_text("utf-8")
    assert {r.kind for r in read.rules} == set(KINDS)


@settings(max_examples=50)
@given(st.text(max_size=8), st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False), st.datetimes())
def test_any_text_number_and_moment_survives_the_file(name: str, value: str, number: float, at: datetime) -> None:
    import tomllib

    rules = (OneOf(name, (value, number)), Range(name, number), Range(name, at))
    text = contract_text(Contract(value, rules))
    body = tomllib.loads(text)

    assert tuple(parse_rule(r, "here") for r in body["rules"]) == rules
    assert body["table"] == value


def test_the_same_rules_keep_their_version_and_others_get_the_next(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    first = freeze(Contract("t", (Required("a"),)), path)
    same = freeze(Contract("t", (Required("a"),)), path)
    next_ = freeze(Contract("t", (Required("a"), Required("b"))), path)

    assert [c.version for c in (first, same, next_)] == [1, 1, 2]
    assert next_.digest == next_.frozen != first.frozen


def test_comments_owner_and_remarks_that_people_wrote_stay_when_it_is_frozen_again(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    freeze(Contract("t", (Required("a"), Range("a", 0.0, 5.0)), owner="ann", remarks=("ask ann",)), path)
    path.write_text(path.read_text().replace('  { kind = "req', '  # never null, says the law\n  { kind = "req'))
    again = freeze(Contract("t", (Required("a"), Range("a", 0.0, 6.0))), path)

    assert "# never null, says the law\n" in path.read_text()
    assert (again.owner, again.remarks, again.version) == ("ann", ("ask ann",), 2)


def test_a_change_by_hand_shows(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    freeze(Contract("t", (Range("a", 0.0, 5.0),)), path)
    path.write_text(path.read_text().replace("5.0", "7.0"))
    read = read_contract(path)

    assert read.digest != read.frozen
    assert freeze(read, path).version == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{ kind = "rang", column = "a" }', "there is no rule of kind 'rang'\ntry: did you mean range"),
        ('{ kind = "range", colum = "a" }', "has no field 'colum'\ntry: did you mean column"),
        ('{ kind = "range" }', "needs column = "),
        ('{ kind = "range", column = 3 }', "column = 3 is not a text"),
        ('{ kind = "range", column = "a", least = "0" }', "is not a number or a moment"),
        ('{ kind = "range", column = "a", share = 2 }', "is not between 0 and 1"),
        ('{ kind = "type", column = "a", type = "int" }', "is not one of number"),
        ('{ kind = "key", of = "a" }', "is not a list of texts"),
        ('{ kind = "key", of = [] }', "is not a list of names"),
        ('{ kind = "rows", clock = "a", period = "day\'); drop" }', "is not one of hour"),
        ('{ kind = "steps", clock = "a", every = "often" }', "is not a span"),
        ('{ kind = "pattern", column = "a", shortest = true }', "is not a whole number"),
        ('"range"', "there is no rule of kind 'range'"),
    ],
)
def test_a_rule_that_does_not_add_up_says_what_and_where(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "t.toml").write_text(f'table = "t"\nrules = [\n  {line},\n]\n')

    with pytest.raises(ContractError) as found:
        read_contract(tmp_path / "t.toml")

    assert says in str(found.value)
    assert "rule 1" in str(found.value)


def test_all_that_is_wrong_with_a_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('table = "t"\ncolour = 1\nrules = [{ kind = "x" }, { kind = "y" }]\n')

    with pytest.raises(ContractError) as found:
        read_contract(tmp_path / "t.toml")

    assert len(found.value.also) == 2


@pytest.mark.parametrize(
    "text", [b"", b"rules = 1", b"table = \xff", b"not toml", b'table = "t"\nversion = 0\nrules=[]']
)
def test_a_file_that_is_no_contract_is_a_clear_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "t.toml").write_bytes(text)

    with pytest.raises(ContractError):
        read_contract(tmp_path / "t.toml")


def test_a_contract_as_json_has_each_rule_with_its_sentence() -> None:
    body = contract_json(Contract("t", (Range("a", 0.0, 80.0, "mph", evidence="why"),)))

    assert body["rules"][0] | {"says": "a is between 0 and 80 mph", "evidence": "why"} == body["rules"][0]
