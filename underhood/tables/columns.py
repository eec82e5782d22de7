"""Columns between numpy and Arrow by their buffers: Arrow's own conversions load pandas, a quarter of a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, Any]


def numpy_of(column: pa.ChunkedArray) -> Array:
    """Numbers and flags as floats (null is NaN), texts and all else as objects (null is None)."""
    if pa.types.is_string(column.type) and len(column):
        coded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        levels = np.array(coded.dictionary.to_pylist(), dtype=object)
        return np.asarray(levels[_held(coded.indices)])
    if pa.types.is_decimal(column.type):  # sums of whole numbers
        column = column.cast(pa.float64())
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.concatenate([_floats(chunk) for chunk in column.chunks] or [np.empty(0)])
    return np.array(column.to_pylist(), dtype=object)


def _floats(array: pa.Array) -> Array:
    values = _held(array).astype(float)
    if array.null_count:
        values[~_bits(array.buffers()[0], array.offset, len(array))] = np.nan
    return values


def _held(array: pa.Array) -> Array:
    """What lies in the buffer of numbers or flags; anything where they are null."""
    data = array.buffers()[1]
    if not len(array) or data is None:
        return np.zeros(len(array))
    if pa.types.is_boolean(array.type):
        return _bits(data, array.offset, len(array))
    kind = {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(array.type), str(array.type))
    return np.frombuffer(data, kind, len(array), array.offset * np.dtype(kind).itemsize)


def _bits(data: pa.Buffer, first: int, n: int) -> Array:
    held = np.unpackbits(np.frombuffer(data, np.uint8), count=first + n, bitorder="little")
    return held[first:].astype(bool)


def arrow_of(values: Any) -> Any:
    """An array of floats, whole numbers, flags or texts (null is None) as Arrow; anything else as it is.

    NaN stays NaN.
    """
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        return values
    if values.dtype in (np.float64, np.int64):
        held = pa.py_buffer(np.ascontiguousarray(values))
        return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, held])
    if values.dtype == bool:
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, _packed(values)])
    each = values.tolist()
    if (
        values.dtype.kind not in "OU"
        or (values.dtype == object and not each)
        or not all(v is None or type(v) is str for v in each)
    ):
        return values
    words = [b"" if v is None else v.encode() for v in each]
    ends = np.concatenate([[0], np.cumsum([len(w) for w in words])])
    if ends[-1] > np.iinfo(np.int32).max:
        return values
    missing = np.array([v is None for v in each])
    parts = [_packed(~missing) if missing.any() else None, pa.py_buffer(ends.astype(np.int32))]
    return pa.Array.from_buffers(pa.string(), len(each), [*parts, pa.py_buffer(b"".join(words))])


def _packed(flags: Array) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))
