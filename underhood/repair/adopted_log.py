"""A log of decisions made elsewhere, read into one table of known columns: the view `adopted`.

One row per decision that has a key and a moment, in order of asking. Columns: `@key`, `@at`
(UTC), `@asked` (the first moment of its key), `@score`, `@action`, `@version`, `@label`, `@known`,
null where the log has none; and every other column of the log under the name that it has in the
project, of a kernel type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from underhood.ground.errors import ProjectError
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted, sql_value
from underhood.plan.steps import RESERVED
from underhood.repair.roles import Roles
from underhood.tables.frames import Table
from underhood.tables.local import Engine

SQL_TYPE = {NUMBER: "DOUBLE", FLAG: "BOOLEAN", TEXT: "VARCHAR", TIME: "TIMESTAMP"}
MOST = 2**53  # above it a float no longer tells two whole numbers apart
FIRST_MOMENT = "2000-01-01"  # the moment of the first row of a log that has none


@dataclass(frozen=True)
class AdoptedLog:
    """What was read. `names` maps each kept column of the log to its name in the project, `types` that to its type.

    `key`, `at`, `outcome` and `known` are the project's names of those columns; `n` decisions, `notes` what
    had to be taken for granted.
    """

    roles: Roles
    names: Mapping[str, str]
    types: Mapping[str, str]
    key: str
    at: str
    outcome: str
    known: str
    n: int
    notes: tuple[str, ...]

    @property
    def features(self) -> dict[str, str]:
        """What the scorer reads, by its own names, in its order, with kernel types."""
        return {c: self.types[self.names[c]] for c in self.roles.inputs}


def read_log(engine: Engine, log: Table, roles: Roles) -> AdoptedLog:
    """Makes the view `adopted` of a log whose roles are known. Raises ProjectError if no row can be used."""
    notes: list[str] = []
    played = {roles.score, roles.action, roles.version, roles.outcome, roles.outcome_at, roles.key, roles.at}
    kept = {c: k for c, k in log.kinds.items() if c not in played and k in SQL_TYPE}
    own = (roles.key or "row", roles.at or "moment", _flag_name(roles), roles.outcome_at or "outcome_known")
    key, at, outcome, known, *rest = _new_names([*own, *kept])
    names = dict(zip(kept, rest, strict=True))
    columns = ", ".join(f"{_typed(engine, log, c, k)} as {quoted(names[c])}" for c, k in kept.items())
    types = {names[c]: _kind(engine, log, c, k) for c, k in kept.items()}
    made = [
        f'{_key(roles)} as "@key"',
        f'{_moment(roles)} as "@at"',
        f'{_or_null(roles.score, "DOUBLE")} as "@score"',
        f'{_or_null(roles.action, "VARCHAR")} as "@action"',
        f'{_or_null(roles.version, "VARCHAR")} as "@version"',
        f'{label_sql(engine, log, roles)} as "@label"',
        f'{_or_null(roles.outcome_at, "TIMESTAMP")} as "@known"',
        *([columns] if columns else []),
    ]
    numbered = f'select row_number() over () as "@row", * from {quoted(log.name)}'
    engine.run(f'create or replace table "adopted rows" as select "@row", {", ".join(made)} from ({numbered})')
    notes += _without_moment(engine, roles)
    named, said = _named(engine)
    notes += said
    engine.run(
        f'create or replace table adopted as select *, min("@at") over (partition by "@key") as "@asked" from ('
        f'select * replace ({named} as "@key") from "adopted rows" where "@key" is not null and "@at" is not null) '
        'order by "@at", "@row"'
    )
    n = engine.rows("select count(*) from adopted")[0][0]
    if not n:
        raise ProjectError("no row has a key and a moment", log.origin, "name others with --key and --at")
    if n < log.rows:
        notes.append(f"{log.rows - n:,} rows are left out: no key or no moment")
    return AdoptedLog(roles, names, types, key, at, outcome, known, n, tuple(notes))


def _named(engine: Engine) -> tuple[str, list[str]]:
    """SQL of what names a decision's question: the key, with the moment where one key had several outcomes."""
    repeats, several = engine.rows(
        "select sum(n - 1), count(*) filter (where outcomes > 1) from (select count(*) as n, "
        'count(distinct "@label") as outcomes from "adopted rows" where "@key" is not null group by "@key")'
    )[0]
    if not repeats:
        return '"@key"', []
    if several:
        note = f"{several:,} keys had more than one outcome: a question is named by key and moment"
        return "\"@key\" || '|' || strftime(\"@at\", '%Y-%m-%dT%H:%M:%S.%f')", [note]
    return '"@key"', [f"{repeats:,} rows repeat the key of another: they are taken for its question, decided again"]


def _flag_name(roles: Roles) -> str:
    if not roles.outcome:
        return "outcome"
    return f"{roles.outcome}_{roles.happened}" if roles.happened else roles.outcome


def _new_names(wanted: list[str]) -> list[str]:
    """Names that a project file can say: words, none reserved, none like another; inputs keep theirs if they can."""
    taken: set[str] = set()
    made = []
    for i, name in enumerate(wanted):
        new = re.sub(r"\W+", "_", name).strip("_") or "column" if i < 4 else name
        new = f"_{new}" if i < 4 and new[0].isdigit() else new
        while new.casefold() in taken or new.casefold() in RESERVED or new.startswith("__"):
            new = f"{new.lstrip('_')}_"
        taken.add(new.casefold())
        made.append(new)
    return made


def _kind(engine: Engine, log: Table, column: str, kind: str) -> str:
    """The kernel type: whole numbers that a float cannot hold are texts, as in every source."""
    if kind == NUMBER and log.columns[column].removeprefix("U") in ("BIGINT", "HUGEINT"):
        most = engine.rows(f"select max(abs({quoted(column)}::HUGEINT)) from {quoted(log.name)}")[0][0]
        return TEXT if (most or 0) > MOST else NUMBER
    return kind


def _typed(engine: Engine, log: Table, column: str, kind: str) -> str:
    name = quoted(column)
    if log.columns[column] == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {name})"
    if _kind(engine, log, column, kind) == NUMBER:
        return f"case when isfinite({name}::DOUBLE) then {name}::DOUBLE end"
    return f"{name}::{SQL_TYPE[_kind(engine, log, column, kind)]}"


def _key(roles: Roles) -> str:
    return f"{quoted(roles.key)}::VARCHAR" if roles.key else "'row-' || \"@row\""


def _moment(roles: Roles) -> str:
    if roles.at:
        return f"({quoted(roles.at)})::TIMESTAMP"
    return f"TIMESTAMP '{FIRST_MOMENT}' + to_seconds(\"@row\")"


def _or_null(column: str, kind: str) -> str:
    return f"{quoted(column)}::{kind}" if column else f"NULL::{kind}"


def _without_moment(engine: Engine, roles: Roles) -> list[str]:
    return [] if roles.at else [f"no moment is logged: row n stands at second n of {FIRST_MOMENT}"]


def label_sql(engine: Engine, table: Table, roles: Roles) -> str:
    """SQL of the outcome as a flag; null where it is not known. Raises ProjectError if its values say neither."""
    if not roles.outcome:
        return "NULL::BOOLEAN"
    name, kind = quoted(roles.outcome), table.kinds[roles.outcome]
    where = f"{table.name}.{roles.outcome}"
    levels = [
        str(v)
        for (v,) in engine.rows(
            f"select distinct {name}::VARCHAR from {quoted(table.name)} where {name} is not null order by 1 limit 9"
        )
    ]
    if roles.happened:
        if roles.happened not in levels and len(levels) < 9:
            raise ProjectError(f"is never {roles.happened!r}", where, f"it is {', '.join(levels)}")
        return f"({name}::VARCHAR = {sql_value(roles.happened)})"
    if kind == FLAG:
        return name
    if kind == NUMBER and {float(v) for v in levels} <= {0.0, 1.0}:
        return f"({name} = 1)"
    hint = f"say which value means that it happened: --outcome {roles.outcome}={levels[0] if levels else 'VALUE'}"
    raise ProjectError(f"is neither a flag nor 0 and 1, but {', '.join(levels[:4])}", where, hint)
