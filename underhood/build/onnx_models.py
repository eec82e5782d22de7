"""An ONNX model as a function from columns to what it answers; the only file that names onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from underhood.ground.errors import NotCapturedError, ProjectError, nearest

Array = np.ndarray[Any, Any]
_TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


def open_onnx(data: bytes, features: Sequence[str]) -> Callable[[Mapping[str, Array]], Any]:
    """The model in these bytes as one function of columns: floats with NaN for null, texts as objects.

    A model with one input of several columns gets `features` side by side, in that order;
    one with an input per column gets each by its name. Raises NotCapturedError if
    onnxruntime is not installed, ProjectError if the bytes are no model or it wants other columns.
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf
    except ImportError as error:
        hint = "pip install 'underhood[onnx]'"
        raise NotCapturedError("the scorer is an ONNX model, and onnxruntime is not installed", "", hint) from error
    refusals = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the same sums in the same order, whatever else runs
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise ProjectError(f"is no ONNX model that can be run: {_first(error)}", "ONNX model") from error
    wanted = [(i.name, _TYPES.get(i.type), i.shape) for i in session.get_inputs()]
    side_by_side = len(wanted) == 1 and wanted[0][0] not in features
    if not side_by_side and (missing := [n for n, _, _ in wanted if n not in features]):
        hint = nearest(missing[0], features)
        raise ProjectError(f"wants {', '.join(missing)}, which is no feature", "ONNX model", hint)

    def answers(frame: Mapping[str, Array]) -> Any:
        if side_by_side:
            name, kind, _ = wanted[0]
            given = {name: np.column_stack([frame[f] for f in features]).astype(kind)}
        else:
            given = {n: frame[n].astype(kind).reshape((-1, 1) if len(shape) == 2 else -1) for n, kind, shape in wanted}
        try:
            last = session.run(None, given)[-1]
        except refusals as error:
            hint = "a model of one input gets all features side by side: name them in its order with --features"
            raise ProjectError(f"does not take these columns: {_first(error)}", "ONNX model", hint) from error
        # a classifier of skl2onnx answers one mapping of class to probability a row
        return [row[max(row)] for row in last] if isinstance(last, list) else last

    return answers


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
