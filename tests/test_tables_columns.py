"""Columns go between numpy and Arrow unchanged, and nothing heavy is loaded for it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underhood.tables.columns import arrow_of, numpy_of
from underhood.tables.local import Engine

WORDS = st.lists(st.none() | st.text(max_size=5), min_size=1)


@given(values=WORDS, cut=st.integers(0, 9))
@settings(deadline=None)
def test_texts_come_back_as_they_were_whatever_was_cut_off_before(values: list[str | None], cut: int) -> None:
    made = arrow_of(np.array(values, dtype=object))

    assert made.equals(pa.array(values, pa.string()))
    assert numpy_of(pa.chunked_array([made.slice(cut), made])).tolist() == [*values[cut:], *values]


@given(values=st.lists(st.none() | st.integers(-9, 9)), cut=st.integers(0, 9))
@settings(deadline=None)
@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.decimal128(38, 0)])
def test_numbers_and_flags_come_as_floats_and_a_null_as_nan(kind: Any, values: list[int | None], cut: int) -> None:
    given = [None if v is None else v > 0 for v in values] if kind == pa.bool_() else values
    column = pa.chunked_array([pa.array(given, kind).slice(cut), pa.array(given, kind)])
    expected = [np.nan if v is None else float(v) for v in [*given[cut:], *given]]

    assert np.array_equal(numpy_of(column), np.array(expected), equal_nan=True)


def test_numbers_and_flags_are_told_to_the_engine_as_they_are() -> None:
    with Engine() as engine:
        engine.adopt("t", {"x": np.array([1.5, np.nan]), "n": np.array([3, 4]), "f": np.array([True, False])})

        assert str(engine.rows("select * from t")) == "[(1.5, 3, True), (nan, 4, False)]"


@pytest.mark.skipif(int(duckdb.__version__.split(".")[0]) < 2, reason="DuckDB 1 loads pandas itself")
def test_a_query_and_a_frame_load_no_pandas() -> None:
    script = """
import sys
import duckdb
import numpy as np
from underhood.tables.local import Engine
with Engine() as engine:
    engine.texts("ids", "id", ["a", "b"])
    engine.adopt("t", {"id": np.array(["a", None], dtype=object), "x": np.array([1.0, 2.0])})
    found = engine.frame("select id, x, rank, x > 1 as f, NULL::BIGINT as n from t left join ids using (id) order by x")
assert found["id"].tolist() == ["a", None] and found["f"].tolist() == [0.0, 1.0], found
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "False"
