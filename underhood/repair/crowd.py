"""Traffic struck into a clone: questions that never came, were doubled, sent again, or asked by nobody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from underhood.faults.kinds import Scene
from underhood.ground.errors import ProjectError, nearest
from underhood.plan.changes import Change
from underhood.plan.render import quoted, sql_value
from underhood.repair.decided import halvings_sql
from underhood.run.policy import action_sql

# The name of a change of traffic, and what it is changed to.
WAYS: Mapping[str, str] = {
    "dropped": "null",
    "fewer": "a share",
    "doubled": "how often more",
    "retried": "(how often more, seconds, jitter of the score)",
    "bot": "(how many, key, hours)",
}


def strike_traffic(scene: Scene, change: Change, where: str, since: datetime | None) -> None:
    """One change of traffic to the clone's decisions, those that `where` (SQL over them) holds of.

    `dropped`: they are gone. `fewer`: a share `to` of the questions never came, so history has
    none of them either. `doubled`: they are there `to` times more. `retried`: (times, seconds,
    jitter), each is there again that often, so much later, its score moved by up to the jitter.
    `bot`: (n, key, hours), n questions nobody asked, with the row of that key, in so many hours from `since`.
    """
    engine = scene.engine
    if change.name not in WAYS:
        hint = f"{nearest(change.name, WAYS)}; `to` is {', '.join(f'{to} for {name!r}' for name, to in WAYS.items())}"
        raise ProjectError(f"there is no traffic {change.name!r}", "change.name", hint)
    if change.name == "fewer":
        where = f"{where} and hash(key || 'fewer') % 100000 < {round(change.to * 100000)}"
        asks = f"select * from asks where key not in (select key from decided where {where})"
        engine.run(f'create or replace table "fewer asks" as {asks}')
        engine.view("asks", 'select * from "fewer asks"')
    if change.name in ("dropped", "fewer"):
        engine.run(f"delete from decided where {where}")
    elif change.name == "doubled":
        engine.run(f"update decided set again = true where {where}")
        engine.run(
            "insert into decided select * exclude (copy) replace (id || '-' || copy as id) from "
            f"(select *, unnest(range(1, {int(change.to) + 1})) as copy from decided where {where})"
        )
    elif change.name == "retried":
        _retry(scene, change, where)
    else:
        _send_robot(scene, change, since)


def _retry(scene: Scene, change: Change, where: str) -> None:
    times, seconds, jitter = change.to
    # a score between 0 and 1 stays there
    moved = f"least(1, greatest(0, score + {float(jitter)!r} * (hash(id || copy) % 2001 / 1000.0 - 1)))"
    about = "(0.9 + hash(id || copy || 's') % 201 / 1000.0)"
    later = f"to_milliseconds(round({float(seconds) * 1000!r} * copy * {about})::BIGINT)"
    scene.engine.run(f"update decided set again = true where {where} and status = 'ok'")
    scene.engine.run(
        f"insert into decided select * exclude (copy) replace ({action_sql(scene.bundle.policy)} as action) from "
        f"(select * replace (id || '-' || copy as id, asked_at + {later} as asked_at, decided_at + {later} as "
        f"decided_at, {moved} as score) from (select *, unnest(range(1, {int(times) + 1})) as copy from decided "
        f"where {where} and status = 'ok'))"
    )


def _send_robot(scene: Scene, change: Change, since: datetime | None) -> None:
    n, named, hours = change.to
    first = sql_value(since) if since is not None else "(select min(asked_at) from decided)"
    at = f"{first} + to_milliseconds((hash('robot' || copy) % 1000000 / 1e6 * {float(hours) * 3.6e6!r})::BIGINT)"
    key, halvings = "'robot-' || copy", halvings_sql("('robot-' || copy)")
    unknown = ["known_at", "label", *(f"facts.{f}" for f in scene.plan.facts)]
    nulls = ", ".join(f"NULL as {quoted(c)}" for c in unknown)
    scene.engine.run(
        f"insert into decided select * exclude (copy) replace (id || '-robot-' || copy as id, {key} as key, "
        f"false as again, {halvings} as halvings, "
        f"{at} as asked_at, {at} as decided_at, strftime({at}, '%Y-%m-%d') as day, {nulls}) "
        f"from (select *, unnest(range(1, {int(n) + 1})) as copy from (select * from decided where key = "
        f"{sql_value(named)} limit 1))"
    )
