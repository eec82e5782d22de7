"""A case as a document: what happened, since when, whom it touched, the cause with its proof, what else it could
have been, the fix, what would have caught it earlier.

One dictionary of plain values, from which the page, the report and JSON are all drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from underhood.build.bundle import load
from underhood.faults.kinds import Scene
from underhood.ground.errors import NotCapturedError
from underhood.plan.render import quoted, sql_value
from underhood.repair.cases import Case, read_case
from underhood.repair.diagnosis import CAUSE, NO_HARM, NOTHING, OPEN, UNTOUCHED, WORLD
from underhood.repair.earlier import Sign, earlier_signs
from underhood.repair.fixes import blame_of
from underhood.repair.layers import Opened, moving
from underhood.repair.patches import read_patches
from underhood.repair.trials import telling
from underhood.repair.workbench import Workbench, expired, open_decision, scene_of

_UNSAID = {"size": "", "acts": "", "how": "", "why": "", "hurts": [], "tell": ""}  # by the version that tried the fix
NAMED = 1  # decisions whose hood is opened in the document


def document(bench: Workbench, number: int | None = None) -> dict[str, Any]:
    """The document of a case, as far as it has come. Raises NotFoundError if there is no such case."""
    case = read_case(bench.database, number)
    scene_of(bench, case)
    shown = (case.meaning.named or case.meaning.ids)[:NAMED]
    opened, unopened = _under_the_hood(bench, shown)
    scene = scene_of(bench, case)
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
        "short": _short(scene, case, _state(bench, case.patch)),
        "timeline": _timeline(bench, case),
        "earlier": [asdict(s) for s in _earlier(bench, scene, case)],
        "evidence": _evidence(case, scene),
        "opened": opened,
        "unopened": unopened,
        "found": case.found,
        "fixes": [{**_UNSAID, **f} for f in case.fixes],
        "patch": case.patch,
        "pin": case.pin,
        "bundle": {"name": bundle.name, **bundle.made_from},
    }


def recommended(first: Mapping[str, Any], is_proven: bool) -> str:
    """The first fix of a case in words, if it repairs something and is the undo of the cause or costs no more than
    it saves; else that none is recommended, and why."""
    trial = first["trial"]
    if trial["repaired"] and (is_proven or trial["money_after"] <= trial["money_before"]):
        return f"Recommended: {first['title']}."
    why = "costs more than it saves" if trial["repaired"] else "repairs none of the decisions complained about"
    return f"No fix that was tried is recommended: the first, {first['title']}, {why}."


def _under_the_hood(bench: Workbench, shown: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Decisions layer by layer; none, and why, if what they would be made again with is not there."""
    try:
        return [_opened(open_decision(bench, i)) for i in shown], ""
    except NotCapturedError as error:
        return [], error.what


def _short(scene: Scene, case: Case, patched: str) -> list[str]:
    """The case in a few sentences for somebody who reads nothing else."""
    said = [telling(scene)]
    if case.found is None:
        return [*filter(None, said), "The cause is not known yet."]
    causes = case.found["causes"]
    said.append(f"{_VERDICTS[case.found['verdict']]}: {_says(case.found)}.")
    if case.found["verdict"] == CAUSE and causes and causes[0]["trial"]:
        trial = causes[0]["trial"]
        cost = (trial["money_before"] - trial["money_after"]) * (trial["n_bad"] + trial["n_healthy"]) / 1000
        if cost > 0:
            said.append(f"It cost about {cost:,.0f}, by the goal's prices, over the decisions of the record.")
    if case.patch:
        said.append(f"Patch {case.patch} {patched}.")
    elif case.fixes:
        said.append(recommended(case.fixes[0], case.found["verdict"] == CAUSE))
    if case.pin:
        said.append(f"It cannot come back unseen: {case.pin} is tested before each rollout.")
    return [s for s in said if s]


def _says(found: Mapping[str, Any]) -> str:
    """The verdict in words; of one proven cause only that, not what shows beside it."""
    first = found["causes"][0] if found["causes"] else None
    if found["verdict"] != CAUSE or not first or not first["trial"] or found.get("together") is not None:
        return str(found["says"])
    trial = first["trial"]
    told = f"{trial['repaired']:,} of {trial['n_bad']:,} are decided better"
    if trial["repaired"] < 0.5 * trial["n_bad"]:
        told = f"{trial['turned']:,} of {trial['n_bad']:,} are decided otherwise"
    return f"{first['says']}. Undone on the bench, {told}"


_VERDICTS = {
    CAUSE: "The cause was found and proven",
    NO_HARM: "Something is wrong, but it harmed nobody",
    NOTHING: "Nothing is broken",
    WORLD: "Nothing is broken, but the world has changed",
    UNTOUCHED: "No decision was touched",
    OPEN: "The cause is not proven",
}


def _timeline(bench: Workbench, case: Case) -> list[list[str]]:
    """What happened when: [moment as UTC text to the minute, words], in order of time."""
    first, last, n = bench.engine.rows("select min(asked_at), max(asked_at), count(*) from decisions where bad")[0]
    seen = [(d.since, f"{d.bundle} deployed by {d.by}") for d in bench.database.deployments(bench.system.name)]
    told = case.found["causes"][0] if case.found and case.found["causes"] else None
    if told and told["since"]:
        seen.append((told["since"], f"{told['part']} goes wrong"))
    if n:
        seen += [(str(first), "the first of the decisions in question"), (str(last), "the last of them")]
    if case.complaint.sent_at:
        seen.append((str(case.complaint.sent_at), f"{case.complaint.sender or 'somebody'} complains"))
    seen.append((bench.database.case(case.number).at, f"case {case.number} opened"))
    made = [p for p in bench.database.patches() if p.body["case"] == case.number]
    seen += [(p.at, f"{p.name} made; it {_state(bench, p.name)}") for p in made]
    seen += [(p.at, f"pinned as {p.body['file']}") for p in bench.database.pins() if p.number == case.number]
    return [[_minute(at), words] for at, words in sorted(seen, key=lambda s: s[0].replace(" ", "T"))]


def _state(bench: Workbench, patch: str) -> str:
    """What became of a patch, in words."""
    ends = {p.name: p.expires for p in read_patches(bench.record)}
    if patch not in ends:
        return "was undone"
    late = patch in {p.name for p in expired(bench)}
    return f"ended on {ends[patch]}" if late else f"is in force until {ends[patch]}"


def _minute(at: str) -> str:
    return at.replace("T", " ")[:16]


def _earlier(bench: Workbench, scene: Scene, case: Case) -> list[Sign]:
    if case.found is None or not case.found["causes"]:
        return []
    part = str(case.found["causes"][0]["part"])
    return earlier_signs(scene, blame_of(case.found), part, bench.database.builds())


def _evidence(case: Case, scene: Scene) -> list[dict[str, str]]:
    """Queries that anybody can run again, each with what it shows."""
    ids = ", ".join(sql_value(i) for i in case.meaning.ids[:NAMED])
    found = [{"shows": "the first decision in question", "query": f"select * from decisions where id in ({ids})"}]
    causes = case.found["causes"] if case.found else []
    found += [{"shows": c["says"], "query": c["evidence"]} for c in causes if c["evidence"]]
    return found if scene.n_bad else found[1:]


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
        "compared": opened.replay.compared,
        "recomputed": None if opened.recomputed is None else [d.name for d in opened.recomputed],
        "sources": [list(s) for s in opened.sources],
        "features": [
            {
                "name": r.name,
                "value": r.value,
                "usual": r.usual,
                "unusual": r.is_unusual,
                "low": r.low,
                "high": r.high,
                "swap": moving(opened, r.name),
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
