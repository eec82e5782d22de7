"""The lineage of a system as an OpenLineage run event, for catalogues that read it.

One job, its sources as input, and one output with every feature and the label:
`columnLineage` names each source column, value as DIRECT, influence as INDIRECT.
After the specification 2-0-2 and its facets: columnLineage 1-2-0, schema 1-1-1,
ownership 1-0-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from underhood.plan.joins import Plan
from underhood.plan.lineage import (
    COLUMN,
    FEATURE,
    JOIN,
    LABEL,
    RAW,
    ROWS,
    VALUE,
    Lineage,
    Reached,
    lineage_of,
    upstream,
)
from underhood.plan.steps import fingerprint

PRODUCER = "urn:underhood"
_SPEC = "https://openlineage.io/spec"


def run_event(plan: Plan, at: str) -> dict[str, Any]:
    """A RunEvent (COMPLETE) as plain JSON; `at` is the moment in UTC. Equal definitions give equal run ids."""
    lineage, name = lineage_of(plan), plan.system.name
    made = fingerprint(plan.system)
    return {
        "eventType": "COMPLETE",
        "eventTime": at if at.endswith("Z") else f"{at}Z",
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(uuid5(NAMESPACE_URL, f"{PRODUCER}:{name}:{made}:{at}"))},
        "job": {
            "namespace": "underhood",
            "name": name,
            "facets": {"documentation": _facet("DocumentationJobFacet", "1-1-0", description=plan.system.goal.about)},
        },
        "inputs": [_source(plan, source) for source in plan.sources],
        "outputs": [_output(plan, lineage)],
    }


def _source(plan: Plan, name: str) -> dict[str, Any]:
    settled = plan.sources[name]
    facets = {"schema": _schema(settled.raw)}
    if settled.source.owner:
        owned = [{"name": settled.source.owner, "type": "OWNER"}]
        facets["ownership"] = _facet("OwnershipDatasetFacet", "1-0-1", owners=owned)
    if settled.source.about:
        facets["documentation"] = _facet("DocumentationDatasetFacet", "1-1-0", description=settled.source.about)
    return {"namespace": "file", "name": settled.source.path, "facets": facets}


def _output(plan: Plan, lineage: Lineage) -> dict[str, Any]:
    types = {**plan.feature_types, plan.system.label.name: "flag"}
    ends = [f"{FEATURE} {n}" for n in plan.features] + [f"{LABEL} {plan.system.label.name}"]
    fields = {lineage.nodes[end].name: {"inputFields": _fields(plan, lineage, end)} for end in ends}
    lines = _facet("ColumnLineageDatasetFacet", "1-2-0", fields=fields)
    return {
        "namespace": "underhood",
        "name": f"{plan.system.name}.features",
        "facets": {"schema": _schema(types), "columnLineage": lines},
    }


def _fields(plan: Plan, lineage: Lineage, end: str) -> list[dict[str, Any]]:
    """The columns of files that a feature or the label comes from; what only joins columns of a file is left out."""
    found = []
    for reached in upstream(lineage, end):
        node = reached.node
        if node.kind not in (COLUMN, RAW):
            continue
        source, column = node.name.split(".", 1)
        is_read = node.kind == RAW or not lineage.into[node.id]
        if is_read and column in plan.sources[source].raw:
            path = plan.sources[source].source.path
            what = {"namespace": "file", "name": path, "field": column}
            found.append({**what, "transformations": [_transformation(lineage, reached, end)]})
    return found


def _transformation(lineage: Lineage, reached: Reached, end: str) -> dict[str, Any]:
    via, to = reached.edge.via, reached.edge.to
    if reached.how == VALUE:
        made = lineage.nodes[end].made
        is_same = made == lineage.nodes[end].name == reached.node.name.split(".", 1)[1] and reached.node.kind != RAW
        kind = "IDENTITY" if is_same else "AGGREGATION" if _is_summed(lineage, reached) else "TRANSFORMATION"
        return {"type": "DIRECT", "subtype": kind, "description": via, "masking": False}
    kind = "JOIN" if to.startswith(f"{JOIN} ") else "FILTER" if to.startswith(f"{ROWS} ") else "CONDITIONAL"
    return {"type": "INDIRECT", "subtype": kind, "description": via, "masking": False}


def _is_summed(lineage: Lineage, reached: Reached) -> bool:
    """Whether the value goes through a figure over a window."""
    return " before, " in reached.edge.via and lineage.nodes[reached.edge.to].kind == "input"


def _schema(types: Mapping[str, str]) -> dict[str, Any]:
    return _facet("SchemaDatasetFacet", "1-1-1", fields=[{"name": n, "type": t} for n, t in types.items()])


def _facet(name: str, version: str, **body: Any) -> dict[str, Any]:
    url = f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": url, **body}
