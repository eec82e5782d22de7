"""The roles of a log's columns that no name tells but the values do, once the log is read and scored again.

Whose scores are those that the scorer gives is the score; what follows from the score by its cuts is the action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from underhood.build.scorer import Array
from underhood.plan.operations import NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.repair.adopted_log import AdoptedLog, read_log
from underhood.repair.adopted_scorer import ALIKE, Scored, score_sample
from underhood.repair.implied import implied_policy
from underhood.repair.roles import Guess, Roles, can_be, find_roles, see_inputs
from underhood.signs.time_texts import text_form
from underhood.tables.frames import Table
from underhood.tables.local import Engine

SAMPLE = 5000  # decisions that are scored again when a system is adopted
TOLD_BY = 200  # texts of a column by which the way is found that all are read
SCORES_A_LEVEL = 10  # with fewer, a level may be what the score was made of, not what was made of the score


@dataclass(frozen=True)
class Read:
    """A log with its roles, a sample of it by the scorer's names, and what the scorer says to that."""

    log: AdoptedLog
    sampled: Mapping[str, Array]
    scored: Scored
    guesses: tuple[Guess, ...]


def read_roles(engine: Engine, table: Table, said: Roles, scorer: object, name: str) -> Read:
    """The log read with the roles that were said, that names tell, or that the values show.

    Raises ProjectError as `find_roles`, `see_inputs` and `read_log` do.
    """
    wanted = [str(c) for c in getattr(scorer, "feature_names_in_", ())]
    given = replace(said, inputs=said.inputs or tuple(wanted))
    shown: tuple[Guess, ...] = ()
    read = held = _read(engine, table, given, scorer, name)
    if not said.score and scorer is not None and given.inputs and read.scored.share < ALIKE:
        for column in _free(engine, table, read.log.roles, given, "score"):
            held = _read(engine, table, replace(given, score=column), scorer, name)
            if held.scored.share > read.scored.share:
                read, shown = held, (Guess("score", column, "the scorer gives it"),)
        given = replace(given, score=shown[0].column if shown else "")
    if not read.log.roles.action and read.log.roles.score:
        for column in _free(engine, table, read.log.roles, given, "action"):
            held = _read(engine, table, replace(given, action=column), None, name)
            if _follows(held):
                given = replace(given, action=column)
                shown = (*shown, Guess("action", column, "cuts of the score give it"))
                break
    # the engine holds what was read last
    read = read if held is read else _read(engine, table, given, scorer, name)
    return replace(read, guesses=(*read.guesses, *shown))


def read_times(engine: Engine, table: Table, said: Roles) -> Table:
    """The table with texts that all tell a moment in one way (31.12.2024 18:30) as times, and a note for each."""
    made: dict[str, str] = {}
    notes: list[str] = []
    for column, kind in table.kinds.items():
        if kind != TEXT or column in said.inputs or column in (said.key, said.action, said.version, said.outcome):
            continue
        name = quoted(column)
        some = engine.rows(
            f"select distinct {name}::VARCHAR from {quoted(table.name)} where {name} is not null limit {TOLD_BY}"
        )
        form = text_form([v for (v,) in some])
        if form is None:
            continue
        unread = f"select count(*) from {quoted(table.name)} where {name} is not null and {form.sql(column)} is null"
        if not engine.rows(unread)[0][0]:
            made[column] = f"{form.sql(column)} as {name}"
            notes.append(f"{column} is read as a time, {form.format}: {form.example}")
    if not made:
        return table
    name = f"{table.name} with times"
    engine.view(name, f"select * replace ({', '.join(made.values())}) from {quoted(table.name)}")
    columns, kinds = dict.fromkeys(made, "TIMESTAMP"), dict.fromkeys(made, TIME)
    return replace(
        table,
        name=name,
        columns={**table.columns, **columns},
        kinds={**table.kinds, **kinds},
        notes=(*table.notes, *notes),
    )


def _read(engine: Engine, table: Table, given: Roles, scorer: object, name: str) -> Read:
    found, guesses = find_roles(engine, table, given)
    log = read_log(engine, table, replace(found, inputs=see_inputs(table, found)))
    sampled = _sampled(engine, log)
    return Read(log, sampled, score_sample(scorer, name, log, sampled), tuple(guesses))


def _free(engine: Engine, table: Table, roles: Roles, given: Roles, role: str) -> Iterator[str]:
    """The columns that play no other part, that nobody said the scorer reads, and whose values could be this one."""
    wanted = NUMBER if role == "score" else TEXT
    taken = {*given.inputs, *(c for c, r in roles.taken.items() if r != role)}
    for column, kind in table.kinds.items():
        if kind == wanted and column not in taken and can_be(engine, table, column, role):
            yield column


def _follows(read: Read) -> bool:
    """Whether the actions follow from the score, of which there are too many for them to be what it was made of."""
    score, action = read.sampled["@score"], read.sampled["@action"]
    levels = len(set(action.tolist()) - {""})
    implied = implied_policy(score, action)
    scores = len(np.unique(score[~np.isnan(score)]))
    return implied is not None and implied.is_clear and levels > 1 and scores >= SCORES_A_LEVEL * levels


def _sampled(engine: Engine, log: AdoptedLog) -> dict[str, Array]:
    """Up to SAMPLE decisions evenly over the log, in order of asking: features by the scorer's names, and `@…`."""
    features = [f"{quoted(log.names[c])} as {quoted(c)}" for c in log.roles.inputs]
    own = ['"@score"', 'coalesce("@action", \'\') as "@action"', 'coalesce("@version", \'\') as "@version"', '"@label"']
    every = max(1, log.n // SAMPLE)
    numbered = 'select *, row_number() over (order by "@at") as "@n" from adopted'
    return dict(
        engine.frame(f'select {", ".join([*own, *features])} from ({numbered}) where "@n" % {every} = 0 order by "@n"')
    )
