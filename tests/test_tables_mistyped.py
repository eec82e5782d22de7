"""A query with a wrong name is told which name was meant, as it must be typed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from underhood.ground.errors import SourceError
from underhood.tables.local import Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        made.run(
            'create table decisions as select 1 as id, \'web\' as "row.channel", 2 as "features.channel", 3 as score'
        )
        made.run("create table asks as select 1 as sent")
        yield made


@pytest.mark.parametrize(
    ("sql", "what", "hint"),
    [
        (
            "select id from decisions where channel = 'web'",
            "no column 'channel'",
            'did you mean "row.channel" or "features.channel"?',
        ),
        ("select row.channel from decisions", "row.channel is the name of one column", '"row.channel"'),
        ("select row.chanel from decisions", "no column 'row.chanel'", "row.channel"),
        ("select features.Channel from decisions", "no column 'features.Channel'", '"features.channel"'),
        ("select scor from decisions", "no column 'scor'", "did you mean score?"),
        ("select count(* from decisions", "syntax error", "list columns"),
        ("select 1 from decisons", "decisons does not exist", "list columns"),
    ],
)
def test_a_wrong_name_is_told_with_the_one_that_was_meant(engine: Engine, sql: str, what: str, hint: str) -> None:
    with pytest.raises(SourceError) as caught:
        engine.query(sql)

    assert what in caught.value.what
    assert hint in caught.value.hint
    assert "sent" not in caught.value.hint  # a column of a table that the query does not read
