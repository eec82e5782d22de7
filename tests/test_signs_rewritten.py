"""What was given beside what was asked for: a leak where only one outcome ever changes it, and silence elsewhere."""

from collections.abc import Iterator

import pytest

from underhood.signs.profile import profile_table
from underhood.signs.targets import target_findings
from underhood.tables.frames import described
from underhood.tables.local import Engine

ROOMS = """
select id, reserved, case when {apart} then other else reserved end as assigned, hash(i * 31) % 100 as price,
(hash(i * 17) % 10 < 4)::INT as cancelled from (select i, i as id,
substr('ABCDE', 1 + (hash(i) % 5)::INT, 1) as reserved,
substr('ABCDE', 1 + (hash(i + 7) % 5)::INT, 1) as other from range(6000) t(i))
"""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def leaking(engine: Engine, apart: str) -> list[tuple[str, ...]]:
    engine.run(f"create or replace table stays as {ROOMS.format(apart=apart)}")
    table = described(engine, "stays")
    found = target_findings(engine, [table], {"stays": profile_table(engine, table)}, "cancelled")
    return [f.columns for f in found if f.about == "leak"]


def test_a_choice_that_changes_only_on_the_way_to_one_outcome_is_a_leak(engine: Engine) -> None:
    assert leaking(engine, "hash(i * 17) % 10 >= 4 and hash(i * 5) % 4 = 0") == [("assigned",)]


def test_choices_that_part_at_random_are_no_leak(engine: Engine) -> None:
    assert leaking(engine, "hash(i * 5) % 4 = 0") == []


def test_choices_that_seldom_agree_are_two_columns_of_their_own(engine: Engine) -> None:
    assert leaking(engine, "hash(i * 17) % 10 >= 4 and hash(i * 5) % 20 < 19") == []
