"""How often the same look cries wolf: complaints made up about the quiet time before a suspect's onset (A/A).

Whoever looks closely at any few decisions finds something. So the look that told of a suspect is
made again over decisions that nobody complained about: as many, of the same action, as close together in
time, with the record as it was then. What is told of those as well is how this system always is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from underhood.build.trainset import settle_predicate
from underhood.faults.kinds import BESIDE, CLOSELY, RECORD, Kind, Scene, Suspect
from underhood.faults.moved import moved_values
from underhood.faults.values import served_otherwise
from underhood.faults.vectors import lay_again
from underhood.plan.render import sql_value, to_sql
from underhood.repair.decided import view_sql

TIMES = 8  # complaints made up at most
# questions looked at in all, each complaint's anew: a case stays a matter of seconds
ROWS, ROWS_OF_A_FACT = 60_000, 30_000
# what was found of training is so whenever one looks: it is not looked for again
OF_TRAINING = ("taught otherwise", "relabelled", "lost cohort", "cohort columns", "later witness")
LEAST = 200  # decisions before an onset; with fewer there was no quiet time
FIRST = 0.4  # of the quiet decisions lie before the first complaint, so that each look has a past to compare with
USUAL = 0.25  # told of so many made-up complaints, a suspect is nothing out of the ordinary


@dataclass(frozen=True)
class Quiet:
    """Of `tried` complaints made up about the quiet time, the same kind of suspect was told of `told`."""

    tried: int
    told: int

    @property
    def is_usual(self) -> bool:
        """Whether any complaint would have made the look tell of it; one in eight may be chance."""
        return self.told >= max(2.0, USUAL * self.tried)

    @property
    def says(self) -> str:
        """The rate in words; empty if there was no quiet time to measure it in."""
        if not self.tried:
            return ""
        many = "one complaint" if self.tried == 1 else f"{self.tried} complaints"
        return f"of {many} made up about the quiet time before, the same look tells of it in {self.told}"


def quiet_times(scene: Scene, kind: Kind, suspect: Suspect, is_fact: bool = False) -> Quiet:
    """How often `kind` tells of anything before the onset of its suspect, where nobody complained.

    Without an onset there is no time before it, and what was taught wrong was so for all decisions: nothing is tried.
    """
    if not suspect.since or not scene.n_bad:
        return Quiet(0, 0)
    times = _times(scene, is_fact)
    depth = _depth(scene, suspect, is_fact)
    tried = told = 0
    with _before(scene, suspect.since) as cuts:
        for n in range(1, times + 1) if cuts else ():
            cut = cuts[round((FIRST + (1 - FIRST) * n / times) * (len(cuts) - 1))]
            meant = _complain(scene, cut)
            if 2 * meant >= scene.n_bad:
                tried += 1
                kept = {name: scene.kept[name] for name in OF_TRAINING if name in scene.kept}
                found = kind.suspect(replace(scene, n_bad=meant, depth=depth, kept=kept)).suspects
                told += any(s.since for s in found)
    return Quiet(tried, told)


def _depth(scene: Scene, suspect: Suspect, is_fact: bool) -> int:
    """Quiet times are looked at no more closely than it took to find the suspect."""
    columns = set(map(str, suspect.parameters.get("columns", ())))
    if is_fact and columns and columns <= set(served_otherwise(scene).differing):
        return RECORD
    return CLOSELY if moved_values(scene).is_dear else BESIDE


def _times(scene: Scene, is_fact: bool) -> int:
    rows = max(1, int(scene.engine.rows("select count(*) from asks")[0][0]))
    return max(1, min(TIMES, ROWS_OF_A_FACT // rows)) if is_fact else max(2, min(TIMES, ROWS // rows))


@contextmanager
def _before(scene: Scene, since: str) -> Iterator[list[datetime]]:
    """The moments before `since` (UTC) at which decisions were made, if they are enough; the views are put back."""
    engine = scene.engine
    was = {name: sql for name in ("decisions", "asks") if (sql := view_sql(engine, name))}
    early = f"asked_at < {sql_value(datetime.fromisoformat(since))}"
    try:
        for name in was:
            engine.run(f"create or replace temp table quiet_{name} as select * from {name} where {early}")
        # how long after the last question outcomes were still read, then as now
        engine.run(
            "create or replace temp table quiet_complaint as select max(asked_at) filter (where bad) - min(asked_at) "
            "filter (where bad) as span, greatest(max(known_at), max(asked_at)) - max(asked_at) as late from decisions"
        )
        rows = engine.rows("select asked_at from quiet_decisions where status = 'ok' order by asked_at")
        yield [at for (at,) in rows] if len(rows) >= LEAST else []
    finally:
        for name, sql in was.items():
            engine.run(sql)
            engine.run(f"drop table if exists quiet_{name}")
        # the evidence of a score lists what was scored again, and looks of quiet times score again too
        if (scored := scene.kept.get("replayed")) is not None:
            lay_again(scene, scored)


def _complain(scene: Scene, cut: datetime) -> int:
    """Makes up a complaint about decisions up to `cut`, later ones and what was known later left out; how many."""
    engine, at = scene.engine, sql_value(cut)
    like = "status = 'ok'" + (f" and action = {sql_value(scene.told)}" if scene.told is not None else "")
    like += f" and {to_sql(settle_predicate(scene.plan, scene.harm))}" if scene.harm is not None else ""
    meant = engine.rows(
        f"select id from quiet_decisions, quiet_complaint where asked_at <= {at} and {like} "
        f"order by greatest(0, epoch({at} - asked_at) - epoch(span)), hash(id) limit {scene.n_bad}"
    )
    engine.texts("quiet_meant", "id", [i for (i,) in meant])
    known = f"coalesce(known_at <= {at} + (select late from quiet_complaint), true)"
    engine.view(
        "decisions",
        f"select * replace (id in (select id from quiet_meant) as bad, case when {known} then label end as label, "
        f"case when {known} then known_at end as known_at) from quiet_decisions where asked_at <= {at}",
    )
    if view_sql(engine, "asks"):
        engine.view("asks", f"select * from quiet_asks where asked_at <= {at}")
    return len(meant)
