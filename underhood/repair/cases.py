"""A case: one complaint with what it means, what was found, and what was done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from underhood.build.bundle import load
from underhood.build.trainset import open_training
from underhood.faults.kinds import Scene
from underhood.ground.errors import NotFoundError
from underhood.plan.joins import Plan
from underhood.plan.render import sql_value
from underhood.record.database import Database
from underhood.record.objects import put
from underhood.repair.complaint import Complaint
from underhood.repair.decided import corrected_labels, mean
from underhood.repair.meaning import Meaning, meaning_from, meaning_json
from underhood.tables.local import Engine


@dataclass(frozen=True)
class Case:
    """One case. `state` is "open", "diagnosed", "patched" or "pinned"; `number` is how people name it."""

    number: int
    complaint: Complaint
    meaning: Meaning
    bundle: str
    state: str = "open"
    found: Mapping[str, Any] | None = None
    fixes: tuple[Mapping[str, Any], ...] = ()
    patch: str = ""
    pin: str = ""


def set_scene(engine: Engine, plan: Plan, record: Path, case: Case) -> Scene:
    """The scene of a case: its decisions marked, its bundle and training set opened. Needs `lay_out`."""
    bundle = load(record, case.bundle)
    mean(engine, case.meaning.ids, case.bundle, labels=corrected_labels(plan, bundle))
    open_training(engine, record, bundle.made_from["training"])
    n_bad = engine.rows("select count(*) from decisions where bad")[0][0]
    m = case.meaning
    return Scene(engine, record, plan, bundle, int(n_bad), m.harm, m.told, m.parts)


def bundle_of(engine: Engine, ids: Sequence[str], deployed: str) -> str:
    """The bundle that made most of these decisions; the deployed one if there are none."""
    listed = ", ".join(sql_value(i) for i in ids) or "NULL"
    rows = engine.rows(
        f"select bundle from decided where id in ({listed}) group by bundle order by count(*) desc, bundle limit 1"
    )
    return str(rows[0][0]) if rows else deployed


def open_case(database: Database, record: Path, complaint: Complaint, meaning: Meaning, bundle: str, at: str) -> Case:
    """Opens a case at the moment `at` (UTC); the complaint's text is kept among the objects."""
    put(record, "complaint", complaint.words.encode(), ".txt")
    case = Case(0, complaint, meaning, bundle)
    number = database.add_case(at, case.state, case_json(case))
    case = replace(case, number=number)
    save(database, case)
    return case


def save(database: Database, case: Case) -> None:
    """Keeps the case as it stands."""
    database.save_case(case.number, case.state, case_json(case))


def read_case(database: Database, number: int | None) -> Case:
    """The case of that number; the latest if none is given. Raises NotFoundError."""
    if number is None:
        rows = database.cases()
        if not rows:
            raise NotFoundError("there is no case yet", "cases", "underhood case open complaint.eml")
        number = rows[0].number
    return case_from(number, database.case(number).body)


def case_json(case: Case) -> dict[str, Any]:
    """The case as the database keeps it."""
    c = case.complaint
    return {
        "number": case.number,
        "state": case.state,
        "complaint": {
            "text": c.text,
            "sender": c.sender,
            "subject": c.subject,
            "sent_at": c.sent_at.isoformat() if c.sent_at else None,
        },
        "meaning": meaning_json(case.meaning),
        "bundle": case.bundle,
        "found": case.found,
        "fixes": list(case.fixes),
        "patch": case.patch,
        "pin": case.pin,
    }


def case_from(number: int, body: Mapping[str, Any]) -> Case:
    """The case that case_json wrote."""
    c = body["complaint"]
    sent = datetime.fromisoformat(c["sent_at"]) if c["sent_at"] else None
    complaint = Complaint(c["text"], c["sender"], c["subject"], sent)
    return Case(
        number,
        complaint,
        meaning_from(body["meaning"]),
        body["bundle"],
        body["state"],
        body["found"],
        tuple(body["fixes"]),
        body["patch"],
        body["pin"],
    )
