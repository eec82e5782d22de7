"""A bundle: everything that decides, as one content-named JSON file, readable by a person, never pickled.

It holds the inputs with their types, the features as expressions, the model, the
policy, and where it came from: training set, definition, ladder. Light to
import: the serving path reads bundles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from underhood.ground.errors import CorruptError
from underhood.plan.exprs import Expr, as_json, from_json
from underhood.plan.steps import Costs, Policy
from underhood.record.objects import get, put

FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """What decides. `inputs` and `feature_types` map names to kernel types; `usual` holds what training saw.

    `usual` of a number: {"low", "middle", "high", "nulls"} (5 %, 50 %, 95 %
    quantiles, share of nulls); of a text or flag: {"levels": {level: share}, "nulls"}.
    """

    name: str
    system: str
    zone: str
    inputs: Mapping[str, str]
    features: Mapping[str, Expr]
    feature_types: Mapping[str, str]
    model: Mapping[str, Any]
    policy: Policy
    costs: Costs
    usual: Mapping[str, Mapping[str, Any]]
    made_from: Mapping[str, Any]


def pack(record: Path, bundle: Bundle) -> Bundle:
    """Keeps a bundle among the objects; returns it with its name, which is its digest."""
    body = {
        "format": FORMAT,
        "system": bundle.system,
        "zone": bundle.zone,
        "inputs": dict(bundle.inputs),
        "features": {n: {"reads": str(e), "expr": as_json(e)} for n, e in bundle.features.items()},
        "feature_types": dict(bundle.feature_types),
        "policy": asdict(bundle.policy),
        "costs": asdict(bundle.costs),
        "usual": bundle.usual,
        "made_from": bundle.made_from,
        "model": bundle.model,
    }
    name = put(record, "bundle", json.dumps(body, separators=(",", ":")).encode(), ".json")
    return load(record, name)


def load(record: Path, name: str) -> Bundle:
    """The bundle of that name. Raises CorruptError if its bytes are not what the name says, NotFoundError if none."""
    data = get(record, name)
    try:
        return unpack(name, json.loads(data))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(
            f"is not a bundle of format {FORMAT}: {error!r}", name, "build it again: underhood build"
        ) from error


def unpack(name: str, body: Mapping[str, Any]) -> Bundle:
    """A bundle from its JSON body."""
    if body["format"] != FORMAT:
        raise ValueError(f"format {body['format']}")
    policy = Policy(tuple((a, float(c)) for a, c in body["policy"]["cuts"]), body["policy"]["otherwise"])
    return Bundle(
        name,
        body["system"],
        body["zone"],
        body["inputs"],
        {n: from_json(f["expr"]) for n, f in body["features"].items()},
        body["feature_types"],
        body["model"],
        policy,
        Costs({a: (no, yes) for a, (no, yes) in body["costs"]["of"].items()}),
        body["usual"],
        body["made_from"],
    )
