"""A scorer made elsewhere, as a model: a Python object or function, an ONNX model, an HTTP endpoint; or none at all.

  {"kind": "outside", "how": "python", "where": "module:name", "types": {feature: type}, "digits": 6}
  {"kind": "outside", "how": "onnx", "where": file name, "data": base64, …}
  {"kind": "outside", "how": "http", "where": URL, …}
  {"kind": "outside", "how": "none", "where": why there is none, …}

`types` are the features with their kernel types in the scorer's order; scores are rounded to `digits`
decimals, so that one row alone, a batch and a log on paper agree to the last bit. Nothing is ever unpickled.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from underhood.build.onnx_models import open_onnx
from underhood.ground.errors import NotCapturedError, ProjectError, UnderhoodError
from underhood.plan.operations import FLAG, NUMBER, TEXT

Array = np.ndarray[Any, Any]
Frame = Mapping[str, Array]
ScoreFrame = Callable[[Frame], Array]

OUTSIDE = "outside"
A_CALL = 1000  # rows to an endpoint at once
DIGITS = 10  # beyond it a scorer itself differs between one row and many
PATIENCE_S = 30.0  # for each call of an endpoint
MOST_BYTES = 64 << 20  # of an ONNX model: it is kept in the bundle
_HANDED = "handed_over_"
_ANSWERS = ("predictions", "scores", "probabilities", "outputs")
_FAILURES = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, OSError)


def digits_of(model: Mapping[str, Any]) -> int | None:
    """The decimals to which a model's scores are rounded; null for our own, which are not."""
    return int(model["digits"]) if model.get("kind") == OUTSIDE else None


def no_scorer(types: Mapping[str, str], why: str) -> dict[str, Any]:
    """The model of a system whose scorer was not given: whoever wants a score gets NotCapturedError."""
    return _model("none", why, types)


def python_scorer(where: str, types: Mapping[str, str]) -> dict[str, Any]:
    """The model that calls `module:name`: an object with `predict_proba`, or a function of rows.

    A function gets a list of mappings from feature to value (null is None) and gives one
    probability a row. Raises ProjectError if `where` is not of that form.
    """
    if where.count(":") != 1 or not all(where.split(":")):
        raise ProjectError(f"{where!r} names no scorer", "--python", "write module:function, as in scoring:score")
    return _model("python", where, types)


def handed_scorer(name: str, scorer: object, types: Mapping[str, str]) -> dict[str, Any]:
    """The model that calls an object of this very process. Another process must hand it over again."""
    return python_scorer(hand_over(name, scorer), types)


def hand_over(name: str, scorer: object) -> str:
    """Puts an object where Python keeps what a process has imported; returns it as `module:name`."""
    module = ModuleType(_HANDED + name)
    module.__dict__["scorer"] = scorer
    sys.modules[module.__name__] = module
    return f"{module.__name__}:scorer"


def onnx_scorer(path: Path, types: Mapping[str, str]) -> dict[str, Any]:
    """The model that runs an ONNX file; its bytes are in it. Raises ProjectError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProjectError(f"cannot be read: {error.strerror}", str(path)) from error
    if len(data) > MOST_BYTES:
        hint = "serve it, and give --http URL"
        raise ProjectError(f"has {len(data) >> 20} MB, more than the {MOST_BYTES >> 20} kept", str(path), hint)
    return {**_model("onnx", path.name, types), "data": b64encode(data).decode()}


def http_scorer(url: str, types: Mapping[str, str]) -> dict[str, Any]:
    """The model that posts rows to an endpoint: {"instances": [row, …]} → {"predictions": [probability, …]}.

    Raises ProjectError if `url` is not of http or https.
    """
    if not url.startswith(("http://", "https://")):
        raise ProjectError("is not the address of an endpoint", url, "write http://host:port/path")
    return _model("http", url, types)


def _model(how: str, where: str, types: Mapping[str, str]) -> dict[str, Any]:
    return {"kind": OUTSIDE, "how": how, "where": where, "types": dict(types), "digits": DIGITS}


def score_outside(model: Mapping[str, Any], frame: Frame) -> Array:
    """The scorer's probabilities; all NaN if there is no scorer, or it is not in reach: nothing is known of them.

    Raises what the scorer raises, see `open_outside`.
    """
    if out_of_reach(model):
        return np.full(len(next(iter(frame.values()), ())), np.nan)
    return open_outside(model)(frame)


def out_of_reach(model: Mapping[str, Any], row: Frame | None = None) -> str:
    """Why the model gives no score; empty if it does. With a `row`, of one or more, it is asked for theirs."""
    if model["kind"] != OUTSIDE:
        return ""
    try:
        score = open_outside(model)
        if row is not None:
            score(row)
    except NotCapturedError as why:
        return why.what
    return ""


def open_outside(model: Mapping[str, Any]) -> ScoreFrame:
    """The scorer as one function from columns to probabilities, NaN where it has none.

    A scorer that fails over rows with a null scores the others; those have no score.
    Columns are floats with NaN for null, texts objects with None. Raises NotCapturedError if
    there is no scorer or it is not in reach; the function raises ProjectError if the
    scorer fails, or answers what is no probability, NotCapturedError if an endpoint does not answer.
    """
    how, where, types = model["how"], model["where"], model["types"]
    if how == "none":
        hint = "adopt again with a scorer: --python module:function, --onnx FILE or --http URL"
        raise NotCapturedError(where, "scorer", hint)
    if how == "onnx":
        answers: Callable[[Frame], Any] = open_onnx(b64decode(model["data"]), list(types))
    elif how == "http":
        answers = _posting(where, types)
    else:
        answers = _calling(_imported(where), types)

    def score(frame: Frame) -> Array:
        n = len(next(iter(frame.values())))
        if not n:
            return np.empty(0)
        given = {name: frame[name] for name in types}
        try:
            return asked(given, n)
        except ProjectError:
            whole = ~np.any([[v is None or v != v for v in column] for column in given.values()], axis=0)
            if whole.all():
                raise
        made = np.full(n, np.nan)
        if whole.any():
            made[whole] = asked({name: column[whole] for name, column in given.items()}, int(whole.sum()))
        return made

    def asked(given: Frame, n: int) -> Array:
        try:
            return rounded(_checked(answers(given), n, where), model["digits"])
        except UnderhoodError:
            raise
        except _FAILURES as error:
            first = next(iter(str(error).strip().splitlines()), "")
            raise ProjectError(f"the scorer failed: {type(error).__name__}: {first}"[:300], where) from error

    return score


def rounded(score: Array, digits: int) -> Array:
    """Scores as the record keeps those of a scorer made elsewhere."""
    return np.asarray(np.round(score, digits))


def one_row(model: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], float]:
    """The same for one row: features by name, nulls as None."""
    score, types = open_outside(model), model["types"]

    def alone(features: Mapping[str, Any]) -> float:
        return float(score({name: _column([features[name]], kind) for name, kind in types.items()})[0])

    return alone


def _column(values: Sequence[Any], kind: str) -> Array:
    if kind == TEXT:
        made = np.empty(len(values), dtype=object)
        made[:] = values
        return made
    return np.array([np.nan if v is None else float(v) for v in values])


def _checked(given: Any, n: int, where: str) -> Array:
    """Probabilities from an answer: one number a row, or one column for each of two classes."""
    made = np.asarray(given, dtype=float)
    if made.ndim == 2 and made.shape[1] in (1, 2):
        made = made[:, -1]
    if made.shape != (n,):
        hint = "it must give one probability a row, or one for each of two classes"
        raise ProjectError(f"answers {made.shape} for {n:,} rows", where, hint)
    odd = made[(made < -1e-6) | (made > 1 + 1e-6)]
    if len(odd):
        hint = "a score is the probability that it happens; see predict_proba"
        raise ProjectError(f"answers {odd[0]:g}, which is no probability", where, hint)
    return np.asarray(np.clip(made, 0.0, 1.0))


def _imported(where: str) -> object:
    module, _, name = where.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, *_FAILURES) as error:
        if module.startswith(_HANDED):
            what = "the scorer is an object of another Python process"
            hint = "hand it over again: underhood.repair.adopt.open_adopted(folder, scorer)"
            raise NotCapturedError(what, "scorer", hint) from error
        hint = "keep its module beside the project file, and all that it reads"
        raise NotCapturedError(f"the scorer cannot be imported: {error}", where, hint) from error


def _calling(scorer: Any, types: Mapping[str, str]) -> Callable[[Frame], Any]:
    if hasattr(scorer, "predict_proba"):
        names = [str(n) for n in getattr(scorer, "feature_names_in_", ())]
        return lambda frame: scorer.predict_proba(_table(frame, names, types))
    if not callable(scorer):
        hint = "give an object with predict_proba, or a function of rows"
        raise ProjectError(f"a {type(scorer).__name__} scores nothing", "scorer", hint)
    return lambda frame: scorer(list(_rows(frame, types)))


def _table(frame: Frame, names: Sequence[str], types: Mapping[str, str]) -> Any:
    """What `predict_proba` was fitted on: a frame of named columns, or a plain matrix."""
    pandas = sys.modules.get("pandas")  # whoever fitted on named columns has it; nobody else needs it
    if names and pandas is None:
        hint = "import pandas where the scorer is made"
        raise ProjectError("the scorer was fitted on named columns, and pandas is not loaded", "scorer", hint)
    if not names:
        return np.column_stack([frame[n] for n in types])
    return pandas.DataFrame({n: _plain(frame[n], types[n]) for n in names})  # type: ignore[union-attr]


def _plain(values: Array, kind: str) -> Array:
    """A column as a reader of CSV would have it: flags as flags, no text as NaN."""
    if kind == TEXT:
        made = values.copy()
        made[[v is None for v in values]] = np.nan
        return made
    is_whole = kind == FLAG and not np.isnan(values.astype(float)).any()
    return values.astype(bool) if is_whole else values.astype(float)


def _rows(frame: Frame, types: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    columns = [_values(frame[name], kind) for name, kind in types.items()]
    for values in zip(*columns, strict=True):
        yield dict(zip(types, values, strict=True))


def _values(values: Array, kind: str) -> list[Any]:
    if kind not in (NUMBER, FLAG):
        return list(values)
    listed = [None if v != v else v for v in values.astype(float).tolist()]
    return [None if v is None else bool(v) for v in listed] if kind == FLAG else listed


def _posting(url: str, types: Mapping[str, str]) -> Callable[[Frame], list[Any]]:
    def answers(frame: Frame) -> list[Any]:
        rows = list(_rows(frame, types))
        return [p for i in range(0, len(rows), A_CALL) for p in _post(url, rows[i : i + A_CALL])]

    return answers


def _post(url: str, rows: list[dict[str, Any]]) -> list[Any]:
    import json
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    body = json.dumps({"instances": rows}).encode()
    request = Request(url, body, {"Content-Type": "application/json", "Accept": "application/json"})
    try:
        with urlopen(request, timeout=PATIENCE_S) as answer:
            said = json.loads(answer.read())
    except HTTPError as error:
        text = error.read(200).decode("utf-8", "replace").strip()
        raise NotCapturedError(f"the scorer answers {error.code} {error.reason}: {text}".strip(": "), url) from error
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", error)
        hint = "start the endpoint, or adopt without it"
        raise NotCapturedError(f"the scorer does not answer: {why}", url, hint) from error
    except ValueError as error:
        raise ProjectError(f"the scorer answers no JSON: {error}", url, 'answer {"predictions": […]}') from error
    found = next((said[k] for k in _ANSWERS if k in said), None) if isinstance(said, dict) else said
    if not isinstance(found, list) or len(found) != len(rows):
        n = len(found) if isinstance(found, list) else "no list of"
        raise ProjectError(f"the scorer answers {n} scores for {len(rows)} rows", url, 'answer {"predictions": […]}')
    return found
