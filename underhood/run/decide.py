"""One row in, one decision out: validate, features, score, policy, record. Imports nothing heavy.

The same function serves a request, a batch, a replay and the bench.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from math import inf
from time import perf_counter_ns
from typing import Any

import msgspec

from underhood.build.bundle import Bundle
from underhood.build.scorer import scorer
from underhood.ground.errors import RequestError, UnderhoodError, nearest, raise_all
from underhood.ground.records import Decision, Row, time_text
from underhood.ground.records import as_time as as_time
from underhood.plan.changes import INPUT
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import to_python
from underhood.run.policy import Patched, actor, holder, settled

Decide = Callable[..., Decision]
Complete = Callable[[Row, datetime, str], Row]

_MOST = sys.float_info.max
_encode = msgspec.json.Encoder(order="sorted").encode
_NEEDS = {
    NUMBER: "a finite number",
    FLAG: "true or false",
    TEXT: "a text",
    TIME: "a time as ISO 8601 text (UTC)",
}


def decider(bundle: Bundle, patches: Sequence[Patched] = (), complete: Complete | None = None) -> Decide:
    """The bundle as one function `decide(row, key=..., asked_at=..., now=...) -> Decision`.

    `complete(row, asked_at, key)` adds to a request what its joins bring, as `State` does;
    the decision records the completed row.

    `row` maps every input to a value or null; `asked_at` and `now` are UTC. The
    decision's id is made of question, row and bundle, so that asking again gives
    the same id. Raises RequestError that names every missing, mistyped and unknown
    field of the row at once; ProjectError if a patch cannot act on this bundle.
    """
    patches = settled(patches, view_columns(bundle))
    features_of, score_of = to_python(bundle.features), scorer(bundle.model)
    act = actor(bundle.policy, patches)
    looks = any(p.change.part != INPUT for p in patches)
    repair = _repairer(patches)
    values_of = _reader(bundle)
    flags_of = _flagger(bundle)
    candidates, name = bundle.policy.actions, bundle.name

    def decide(row: Row, *, key: str = "", asked_at: str = "", now: datetime | None = None) -> Decision:
        began = perf_counter_ns()
        moment = time_text(now or datetime.now(UTC))
        asked = asked_at or moment
        if complete is not None:
            row = complete(row, _asked(asked), key)
        given = values_of(row)
        given["asked_at"] = _asked(asked_at) if asked_at else None
        values, touched = repair(given)
        features = features_of(values)
        score = score_of(features)
        answer = act(score, _view(given, features) if looks else features)
        return Decision(
            id=decision_id(name, key, asked, row),
            key=key,
            asked_at=asked,
            decided_at=moment,
            bundle=name,
            row=row,
            features=features,
            score=score,
            action=answer.action,
            reason=answer.reason,
            flags=flags_of(features),
            patches=tuple(dict.fromkeys(touched + answer.patches)) if answer.patches else touched,
            candidates=candidates,
            latency_us=(perf_counter_ns() - began) / 1000,
        )

    return decide


def _reader(bundle: Bundle) -> Callable[[Row], dict[str, Any]]:
    """From a row as it came to values as definitions read them: floats, flags, texts, times."""
    times = [name for name, kind in bundle.inputs.items() if kind == TIME]
    exact = {name: _EXACT[kind] for name, kind in bundle.inputs.items()}

    def values_of(row: Row) -> dict[str, Any]:
        values: dict[str, Any] = dict(row)
        if len(row) != len(exact) or not _plain(row, exact):
            check_row(bundle, row)
            values = {n: float(v) if exact[n] is float and v is not None else v for n, v in row.items()}
        try:
            for column in times:
                if values[column] is not None:
                    values[column] = as_time(values[column])
        except ValueError:
            check_row(bundle, row)
            raise
        return values

    return values_of


def _repairer(patches: Sequence[Patched]) -> Callable[[dict[str, Any]], tuple[dict[str, Any], tuple[str, ...]]]:
    """Input patches as one function: values in, repaired values and the names of the patches that acted out."""
    repairs = [
        (
            p.name,
            p.change.name,
            to_python({"value": p.change.to}),
            holder(p.change.where),
        )
        for p in patches
        if p.change.part == INPUT
    ]

    def repair(given: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        values, touched = dict(given), []
        view = _view(given, {}) if repairs else {}
        for patch, column, made, holds in repairs:
            if holds(view):
                values[column] = made(view)["value"]
                touched.append(patch)
        return values, tuple(dict.fromkeys(touched))

    return repair


def view_columns(bundle: Bundle) -> dict[str, str]:
    """What the patches of a decision may read, by type."""
    made = {f"row.{n}": t for n, t in bundle.inputs.items()}
    return {**made, **{f"features.{n}": t for n, t in bundle.feature_types.items()}, "asked_at": TIME}


def _flagger(bundle: Bundle) -> Callable[[Mapping[str, Any]], tuple[str, ...]]:
    """What is odd about a row's features: levels and nulls that training never saw."""
    levels = {
        name: frozenset(bundle.usual[name]["levels"])
        for name, kind in bundle.feature_types.items()
        if kind == TEXT and name in bundle.usual
    }
    never_null = [n for n, usual in bundle.usual.items() if n in bundle.features and not usual["nulls"]]

    def flags_of(features: Mapping[str, Any]) -> tuple[str, ...]:
        flags = [
            f"unknown level: {n}" for n, known in levels.items() if features[n] not in known and features[n] is not None
        ]
        flags += [f"never null before: {n}" for n in never_null if features[n] is None]
        return tuple(flags)

    return flags_of


def decision_id(bundle: str, key: str, asked_at: str, row: Row) -> str:
    """32 hexadecimal digits: the asking moment in seconds first, so that ids sort by time, then a digest."""
    seconds = int((as_time(asked_at) - datetime(1, 1, 1)).total_seconds())
    body = _encode([bundle, key, asked_at, row])
    return f"{seconds:010x}" + blake2b(body, digest_size=11).hexdigest()


def check_row(bundle: Bundle, row: Row) -> None:
    """Raises RequestError naming every missing, mistyped and unknown field; nothing if the row is sound."""
    check_fields(bundle.inputs, row)


def check_fields(inputs: Mapping[str, str], row: Row) -> None:
    """As `check_row`, of the inputs by type: of a bundle, or of a request as its table's file would have it."""
    errors: list[UnderhoodError] = []
    for name, kind in inputs.items():
        if name not in row:
            errors.append(RequestError("is missing", name, "send null if there is no value"))
        elif row[name] is not None and not _sound(row[name], kind):
            errors.append(RequestError(f"is {_short(row[name])}, needs {_NEEDS[kind]}", name))
    for name in row:
        if name not in inputs:
            errors.append(RequestError("is not an input", str(name), nearest(str(name), inputs)))
    raise_all(errors)


_EXACT: Mapping[str, type] = {NUMBER: float, FLAG: bool, TEXT: str, TIME: str}


def _plain(row: Row, exact: Mapping[str, type]) -> bool:
    """The quick way through for the usual row; anything else gets the full check."""
    try:
        for name, kind in exact.items():
            value = row[name]
            if value is not None and type(value) is not kind:
                return False
            if kind is float and value is not None and not -inf < value < inf:  # type: ignore[operator]
                return False
    except KeyError:
        return False
    return True


def _sound(value: Any, kind: str) -> bool:
    if kind == NUMBER:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MOST <= value <= _MOST
    if kind == FLAG:
        return isinstance(value, bool)
    if kind == TEXT:
        return isinstance(value, str)
    try:
        return bool(as_time(value))
    except (ValueError, TypeError):
        return False


def _asked(text: str) -> datetime:
    try:
        return as_time(text)
    except (ValueError, TypeError) as error:
        raise RequestError(f"is {_short(text)}, needs {_NEEDS[TIME]}", "asked_at") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _view(row: Row, features: Mapping[str, Any]) -> dict[str, Any]:
    view = {f"row.{n}": v for n, v in row.items()}
    return {**view, **{f"features.{n}": v for n, v in features.items()}, "asked_at": row["asked_at"]}
