"""LightGBM by its C library alone: rows in, boosted trees out, the same to the last bit as by its Python package.

That package loads pandas, scikit-learn and scipy.stats for its wrappers: a second, ten times what most fits here take.
The functions called are those of LightGBM's documented C API, the same in all of its versions 4.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from underhood.ground.errors import ProjectError

Array = np.ndarray[Any, Any]

_FLOAT, _DOUBLE = 0, 1  # types of values, as c_api.h numbers them
_CHANCE, _RAW = 0, 1  # types of predictions: through the objective, or the bare sums


class Booster:
    """Trees that learn from rows, or were read from LightGBM's text form. Use as a context manager."""

    def __init__(self) -> None:
        self._library = library()
        self._rows, self._trees = ctypes.c_void_p(), ctypes.c_void_p()

    def __enter__(self) -> Booster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._trees:
            self._call("BoosterFree", self._trees)
        if self._rows:
            self._call("DatasetFree", self._rows)

    def learn(
        self,
        columns: Array,
        label: Array,
        texts: Sequence[int],
        parameters: Mapping[str, object],
        weight: Array | None = None,
    ) -> None:
        """Lays out one row a row of doubles (null is NaN, texts are codes) with labels; no tree has grown yet."""
        given = " ".join(f"{name}={value}" for name, value in parameters.items())
        if texts:
            given += f" categorical_column={','.join(map(str, texts))}"
        rows, by = np.ascontiguousarray(columns, dtype=np.float64), given.encode()
        matrix = (_address(rows), _DOUBLE, *map(ctypes.c_int, rows.shape), 1, by)
        self._call("DatasetCreateFromMat", *matrix, None, ctypes.byref(self._rows))
        for name, values in (("label", label), ("weight", weight)):
            if values is not None:
                held = np.ascontiguousarray(values, dtype=np.float32)
                self._call("DatasetSetField", self._rows, name.encode(), _address(held), len(held), _FLOAT)
        self._call("BoosterCreate", self._rows, by, ctypes.byref(self._trees))

    def read(self, text: str) -> None:
        """Takes trees in LightGBM's text form (v4)."""
        self._call("BoosterLoadModelFromString", text.encode(), ctypes.byref(ctypes.c_int()), ctypes.byref(self._trees))

    def grow(self, rounds: int) -> None:
        """Adds trees, one a round; fewer if no split is worth it any more."""
        is_done = ctypes.c_int()
        for _ in range(rounds):
            self._call("BoosterUpdateOneIter", self._trees, ctypes.byref(is_done))
            if is_done:
                return

    def sums(self, columns: Array, *, is_raw: bool = False, threads: int = 0) -> Array:
        """What the trees say of each row: through the objective, or bare. `threads`: of how many cores, 0 for all."""
        rows = np.ascontiguousarray(columns, dtype=np.float64)
        made, n = np.empty(len(rows)), ctypes.c_int64()
        by = f"num_threads={threads}".encode()
        matrix = (_address(rows), _DOUBLE, *map(ctypes.c_int, rows.shape), 1)
        told = (_RAW if is_raw else _CHANCE, 0, -1, by, ctypes.byref(n), _address(made))
        self._call("BoosterPredictForMat", self._trees, *matrix, *told)
        return made

    def dumped(self) -> list[dict[str, Any]]:
        """The trees as LightGBM dumps them to JSON."""
        size, room = ctypes.c_int64(1 << 20), 0
        while size.value > room:  # the first call may only say how much room it takes
            room = size.value
            text = ctypes.create_string_buffer(room)
            held = (ctypes.c_int64(room), ctypes.byref(size), text)
            self._call("BoosterDumpModel", self._trees, 0, -1, 0, *held)
        made: list[dict[str, Any]] = json.loads(text.value)["tree_info"]
        return made

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, f"LGBM_{name}")(*arguments) != 0:
            why = self._library.LGBM_GetLastError().decode(errors="replace")
            raise ProjectError(f"LightGBM cannot: {why}", name, "see what the columns hold: underhood look")


@cache
def library() -> ctypes.CDLL:
    """LightGBM's library where its package keeps it. Raises ProjectError if it is not installed."""
    package = find_spec("lightgbm")
    if package is None or package.origin is None:
        raise ProjectError("LightGBM is not installed", "boosted trees", "pip install lightgbm")
    folder = Path(package.origin).parent
    found = next((p for p in sorted(folder.glob("lib/lib_lightgbm.*")) if p.suffix in (".so", ".dylib")), None)
    if found is not None:
        made = ctypes.CDLL(str(found))
    else:  # it was packed in another way: then the package itself knows
        from lightgbm.libpath import _LIB

        made = _LIB
    made.LGBM_GetLastError.restype = ctypes.c_char_p
    return made


def _address(values: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)
