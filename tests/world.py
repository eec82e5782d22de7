"""A small shop in a synthetic world: parcels go out from four depots, and we call ahead when one will be late.

6,000 parcels over 90 days (Finnish time), with feeds of roads and weather that have two clocks.
On icy days most vans turn round: `returned` holds and `late_minutes` is null, which the
naive label takes for "was not late". 20 March is such a day. On 27 March the weather feed
stopped, which harms nobody: parcels do not mind the rain.
Randomness is seeded, nothing comes from outside.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from underhood.build.builds import build
from underhood.build.bundle import Bundle, load
from underhood.ground.records import Decision, Row
from underhood.plan.changes import BUNDLE, INPUT, LABEL, THRESHOLD, Change
from underhood.plan.exprs import wrap
from underhood.plan.render import to_python
from underhood.record.log import Log
from underhood.repair import workbench as uh
from underhood.repair.complaint import Complaint, parse_email
from underhood.repair.workbench import Workbench, open_workbench
from underhood.run.batch import Span, decide_span
from underhood.run.decide import Decide, decider, decision_id
from underhood.run.policy import Patched

FIRST = datetime(2024, 1, 8)
N_DAYS, A_DAY = 90, 67
LEARN_UNTIL, SINCE, UNTIL = "2024-03-08", "2024-03-08", "2024-04-06"
EVENT, STOPPED = "2024-03-20", "2024-03-27"
ICY = ("2024-01-17", "2024-01-30", "2024-02-06", "2024-02-14", "2024-02-23", "2024-03-01", EVENT)
NOW = datetime(2024, 4, 8, 9, 0, tzinfo=UTC)
DEPOTS = ("OAK", "MILL", "QUAY", "FELL")
DISTRICTS = ("Harbour", "Northgate", "Oldtown", "Parkside", "Riverside", "Westend")

NAIVE = "def late(late_minutes): return (late_minutes > 30).fill(False)"
RIGHT = "def late(late_minutes, returned): return uh.when(returned, True, late_minutes > 30)"
PROJECT = '''"""The parcel desk: ninety minutes before a parcel is due, call ahead or keep quiet."""

import underhood as uh


parcels = uh.source(
    "parcels.csv", owner="parcel desk", about="one row per parcel", key=["depot", "parcel"],
    happened="due", known="due - 1d",
    late={"due + 3h": ["late_minutes", "returned"]})

roads = uh.source(
    "roads.csv", owner="road office", about="one row per depot and hour", key=["depot", "measured_at"],
    happened="measured_at", known="published_at")

weather = uh.source("weather.csv", owner="met feed", key=["depot", "hour"], happened="hour", known="hour + 10min")

asks = (parcels.asks(at="due - 90min")
        .asof(roads.clean(uh.clean.null_above("jam", 100)), by="depot", max_age="6h", take=["jam", "ice"])
        .asof(weather, by="depot", max_age="6h", take=["rain", "wind"])
        .recent(parcels, by="depot", over="8h", parcels_out=uh.count(), mean_late=uh.mean("late_minutes")))


def due_hour(due): return due.hour()
def weight_each(kg, pieces): return kg / pieces


LABEL


parcels_desk = uh.system(
    "parcels", asks=asks, zone="Europe/Helsinki",
    features=["depot", "district", "km", "kg", "pieces", "fragile", due_hour, weight_each,
              "jam", "ice", "rain", "wind", "parcels_out", "mean_late"],
    label=uh.label(late, known="due + 1d"),
    goal=uh.goal("call ahead when a parcel will not come in time", watch=["depot", "district"],
                 costs=uh.costs(call=(3, 10), text=(1, 16), quiet=(0, 20), desk=(4, 9))),
    policy=uh.threshold(call=0.30, text=0.15, otherwise="quiet"))
'''

EVENT_MAIL = """\
From: Aino Salmi <aino@shop.example>
Subject: You kept quiet on 20 March
Date: Thu, 21 Mar 2024 09:12:44 +0200
Content-Type: text/plain; charset="utf-8"

On Wednesday 20 March you kept quiet about parcel {parcel} from {depot}. It was returned.
So were {others} others that you kept quiet about.

Aino
"""
STOPPED_MAIL = """\
From: Night shift <night@shop.example>
Subject: No weather on 27 March
Date: Thu, 28 Mar 2024 08:30:00 +0200

The weather feed stopped: on 27 March all 67 parcels were decided without it. Was anybody harmed?
"""


def write_shop(folder: Path, label: str = NAIVE) -> Path:
    """Writes the tables and shop.py into a folder; returns the project file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _tables().items():
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "shop.py"
    path.write_text(PROJECT.replace("LABEL", label), encoding="utf-8")
    return path


@cache
def _tables() -> dict[str, str]:
    random = np.random.default_rng(20240108)
    roads = _roads(random)
    weather = _weather(random)
    parcels = _parcels(random, {(r["depot"], r["measured_at"]): r for r in roads})
    return {"roads.csv": _csv(roads), "weather.csv": _csv(weather), "parcels.csv": _csv(parcels)}


def _roads(random: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for depot in DEPOTS:
        jam = 30.0
        for hour in range(-12, 24 * N_DAYS):
            at = FIRST + timedelta(hours=hour)
            jam = min(95.0, max(2.0, 0.85 * jam + 5 + 8 * (at.hour in (6, 7, 14, 15)) + random.normal(0, 9)))
            icy = f"{at:%Y-%m-%d}" in ICY
            late = int(random.choice([10, 25, 40, 180], p=[0.4, 0.4, 0.15, 0.05]))
            rows.append(
                {
                    "depot": depot,
                    "measured_at": at,
                    "published_at": at + timedelta(minutes=late),
                    "jam": round(0.3 * jam if icy else jam, 1),
                    "ice": round(float(random.uniform(5, 9) if icy else random.exponential(0.5)), 2),
                }
            )
    # an instrument fault at OAK on 28 January at 9:00, six weeks before anything was decided
    rows[12 + 24 * 20 + 9]["jam"] = 874.0
    return rows


def _weather(random: np.random.Generator) -> list[dict[str, Any]]:
    """It stops the evening before 27 March, and comes back in the night after it."""
    stop = datetime.fromisoformat(STOPPED) - timedelta(hours=5)
    hours = [FIRST + timedelta(hours=hour) for hour in range(-12, 24 * N_DAYS)]
    return [
        {"depot": depot, "hour": hour, "rain": round(float(rain), 1), "wind": round(float(wind), 1)}
        for depot in DEPOTS
        for hour, rain, wind in zip(
            hours, random.exponential(1, len(hours)), random.gamma(4, 2, len(hours)), strict=True
        )
        if not stop <= hour < stop + timedelta(hours=25)
    ]


def _parcels(
    random: np.random.Generator, roads: Mapping[tuple[str, datetime], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    rows = []
    for n in range(N_DAYS * A_DAY):
        depot = DEPOTS[int(random.integers(len(DEPOTS)))]
        due = FIRST + timedelta(days=n // A_DAY, hours=7, minutes=5 * int(random.integers(0, 126)))
        km, kg = round(float(random.gamma(2.5, 5)), 1), round(float(random.gamma(2, 4)), 1)
        pieces = int(random.integers(1, 5))
        road = roads[depot, (due - timedelta(hours=2)).replace(minute=0)]
        icy = road["ice"] > 4
        z = 2.2 if (road["jam"] > 45 and 7 < km < 14) or (kg > 9 and pieces == 1) else -3.2
        returned = random.random() < (0.8 if icy else 0.012)
        late = random.random() < (0.04 if icy else 1 / (1 + np.exp(-z)))
        minutes = 31 + random.exponential(40) if late else min(30.0, random.normal(0, 12))
        rows.append(
            {
                "depot": depot,
                "parcel": 40000 + n,
                "due": due,
                "district": DISTRICTS[int(random.integers(len(DISTRICTS)))],
                "km": km,
                "kg": kg,
                "pieces": pieces,
                "fragile": bool(random.random() < 0.2),
                "late_minutes": "" if returned else round(float(minutes)),
                "returned": returned,
            }
        )
    return rows


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def build_shop(project: Path, until: str = LEARN_UNTIL, since: str = "", changes: Sequence[Change] = ()) -> str:
    """Builds and deploys a bundle of what was asked since one day and known by another; returns its name."""
    with open_shop(project) as bench:
        if not changes:
            return uh.build_system(bench, until=until, since=since).bundle.name
        start, end = uh.moment(bench, since), uh.moment(bench, until)
        name = build(bench.engine, bench.plan, bench.record, until=end, since=start, changes=changes).bundle.name
        bench.database.deploy(bench.system.name, name, bench.now, "a drill")
        return name


def decide_shop(project: Path, since: str = SINCE, until: str = UNTIL) -> None:
    """Decides a span of days with what is deployed."""
    with open_shop(project) as bench:
        uh.decide_history(bench, since=since, until=until)


def open_shop(project: Path) -> Workbench:
    """The workbench of a shop, on 8 April 2024."""
    return open_workbench(project, clock=lambda: NOW)


def copy_shop(project: Path, folder: Path) -> Path:
    """A copy of a shop with its record; returns its project file."""
    shutil.copytree(project.parent, folder, dirs_exist_ok=True)
    return folder / project.name


def decide_with(bench: Workbench, decide: Decide, since: str, until: str) -> Span:
    """Decides a span with any function, logged under the deployed bundle."""
    name, first, last = uh.deployed(bench).name, uh.moment(bench, since), uh.moment(bench, until)
    with Log(bench.record, durability="process") as log:
        return decide_span(bench.engine, bench.plan, decide, name, log, since=first, until=last)


def drill(project: Path, changes: Sequence[Change], day: str = EVENT) -> None:
    """Decides all days, one of them with a fault of the serving side, logged as if nothing were wrong."""
    after = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    with open_shop(project) as bench:
        bundle = uh.deployed(bench)
        sound, faulty = decider(bundle), _faulty(bench, bundle, changes)
        decide_with(bench, sound, SINCE, day)
        decide_with(bench, faulty, day, after)
        decide_with(bench, sound, after, UNTIL)


def _faulty(bench: Workbench, bundle: Bundle, changes: Sequence[Change]) -> Decide:
    other = [str(c.to) for c in changes if c.part == BUNDLE]
    moved = [Patched("drill", c) for c in changes if c.part == THRESHOLD]
    served = [(c, to_python({"to": wrap(c.to)})) for c in changes if c.part == INPUT]
    decide = decider(load(bench.record, other[0]) if other else bundle, moved)

    def faulty(row: Row, *, key: str, asked_at: str, now: datetime) -> Decision:
        view = {f"row.{name}": value for name, value in row.items()}
        given = {**row, **{c.name: to(view)["to"] for c, to in served}}
        made = decide(given, key=key, asked_at=asked_at, now=now)
        return replace(made, id=decision_id(bundle.name, key, asked_at, given), bundle=bundle.name, patches=())

    return faulty


def mistaken(label: str, changes: Sequence[Change]) -> str:
    """The label of a project file, made to take some outcomes for another by a label fault."""
    for change in changes:
        assert change.part == LABEL
        assert change.where is not None
        where = str(change.where).replace("facts.", "")
        head, body = label.split(": return ")
        label = f"{head}: return uh.when({where}, {change.to}, {body})"
    return label


def event_mail(bench: Workbench) -> Complaint:
    """What is written about 20 March: one parcel by name, and how many others were kept quiet about."""
    rows = bench.engine.rows(
        f'select "row.parcel"::INT, "row.depot" from decisions where day = \'{EVENT}\' '
        f"and action = 'quiet' and \"facts.returned\" order by id"
    )
    parcel, depot = rows[0]
    return parse_email(EVENT_MAIL.format(parcel=parcel, depot=depot, others=len(rows) - 1).encode())
