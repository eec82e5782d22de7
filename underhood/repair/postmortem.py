"""A case as a document: what happened, since when, whom it touched, the cause with its proof, the fix, the pin.

One dictionary of plain values, from which the page, the report and JSON are all drawn.
"""

from __future__ import annotations

from typing import Any

from underhood.build.bundle import load
from underhood.plan.render import quoted
from underhood.repair.cases import read_case
from underhood.repair.layers import Opened
from underhood.repair.workbench import Workbench, open_decision, scene_of

NAMED = 1  # decisions whose hood is opened in the document


def document(bench: Workbench, number: int | None = None) -> dict[str, Any]:
    """The document of a case, as far as it has come. Raises NotFoundError if there is no such case."""
    case = read_case(bench.database, number)
    scene_of(bench, case)
    shown = (case.meaning.named or case.meaning.ids)[:NAMED]
    opened = [_opened(open_decision(bench, i)) for i in shown]
    scene_of(bench, case)
    bundle = load(bench.record, case.bundle)
    return {
        "number": case.number,
        "state": case.state,
        "system": bench.system.name,
        "goal": bench.system.goal.about,
        "complaint": {
            "text": case.complaint.text,
            "subject": case.complaint.subject,
            "sender": case.complaint.sender,
            "sent_at": str(case.complaint.sent_at or ""),
        },
        "understood": [[m.words, m.meant] for m in case.meaning.mentions],
        "cohort": "" if case.meaning.cohort is None else str(case.meaning.cohort),
        "told": case.meaning.told or "",
        "n_decisions": len(case.meaning.ids),
        "claimed": case.meaning.claimed,
        "groups": _groups(bench),
        "days": _days(bench),
        "opened": opened,
        "found": case.found,
        "fixes": list(case.fixes),
        "patch": case.patch,
        "pin": case.pin,
        "bundle": {"name": bundle.name, **bundle.made_from},
    }


def _opened(opened: Opened) -> dict[str, Any]:
    d = opened.decision
    return {
        "key": d.key,
        "id": d.id,
        "asked_at": d.asked_at,
        "score": d.score,
        "action": d.action,
        "reason": d.reason,
        "flags": list(d.flags),
        "identical": opened.replay.is_identical,
        "recomputed": None if opened.recomputed is None else len(opened.recomputed),
        "sources": [list(s) for s in opened.sources],
        "features": [
            {
                "name": r.name,
                "value": r.value,
                "usual": r.usual,
                "unusual": r.is_unusual,
                "low": r.low,
                "high": r.high,
                "swap": opened.swaps.get(r.name),
            }
            for r in opened.features
        ],
        "neighbours": {
            "n": opened.neighbours.n,
            "positive": opened.neighbours.positive,
            "alike": opened.neighbours.alike,
            "shared": list(opened.neighbours.shared),
            "rows": [
                {k: (str(v) if v is not None else None) for k, v in row.items()} for row in opened.neighbours.rows[:8]
            ],
        },
    }


def _groups(bench: Workbench) -> dict[str, list[list[Any]]]:
    """How many of the decisions meant fall on each level of the watched columns, largest first."""
    found: dict[str, list[list[Any]]] = {}
    for name in bench.system.goal.watch:
        rows = bench.engine.rows(
            f"select {quoted('row.' + name)}::VARCHAR, count(*) from decisions where bad group by 1 order by 2 desc, 1"
        )
        found[name] = [[level, n] for level, n in rows]
    return found


def _days(bench: Workbench) -> list[list[Any]]:
    """By day: how many decisions, their mean score, and the share to which it happened by the label."""
    return [
        [day, n, score, share, bad]
        for day, n, score, share, bad in bench.engine.rows(
            "select day, count(*), avg(score), avg(label::INT), count(*) filter (where bad) from decisions "
            "where status = 'ok' group by day order by day"
        )
    ]
