"""What is written when a system is adopted: its project file, its history, its training set and its log.

The history holds what is known of the inputs besides the log: rows of a table of raw inputs, by key. Without
that table it is empty, so that nobody can take the log for a proof of itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from underhood.build.bundle import Bundle
from underhood.ground.errors import ProjectError
from underhood.plan.joins import Plan
from underhood.plan.operations import TIME
from underhood.plan.render import quoted, sql_value
from underhood.plan.steps import Costs, Policy
from underhood.record.hot import hot_name
from underhood.record.objects import put_file
from underhood.record.seal import seal_columns
from underhood.repair.adopted_log import SQL_TYPE, AdoptedLog, label_sql
from underhood.repair.roles import Roles
from underhood.run.decide import decision_id
from underhood.tables.frames import Table
from underhood.tables.local import Engine, stream_rows

DAY = "strftime({}, '%Y-%m-%d')"
BY_LOG, NOT_LOGGED = "as logged", "not logged: what the policy makes of the score"


def project_text(
    name: str, log: AdoptedLog, policy: Policy, costs: Costs, goal: str, zone: str, origin: str, imports: str
) -> str:
    """The project file of an adopted system: an ordinary one, which people may correct."""
    known = log.known if log.roles.outcome_at else log.at
    late = [log.outcome, *([log.known] if log.roles.outcome_at else [])]
    features, renamed = [], []
    for column in log.roles.inputs:
        own = log.names[column]
        if own != column:
            renamed.append(f"def {column}({own}): return {own}")
        features.append(column if own != column else repr(column))
    cuts = ", ".join(f"{action!r}: {cut!r}" for action, cut in policy.cuts)
    prices = ", ".join(f"{action!r}: {pair!r}" for action, pair in costs.of.items())
    lines = [
        f'"""{name}, adopted from {Path(origin).name}: what was made elsewhere, as far as its log tells of it."""',
        "",
        "import underhood as uh",
        *([f"import {imports}  # what scores"] if imports else []),
        "",
        f"{name}_history = uh.source(",
        f'    "{name}_history.parquet", about="inputs as they were, from elsewhere than the log",',
        f"    key=[{log.key!r}], happened={log.at!r}, known={log.at!r},",
        f"    late={{{known!r}: {late!r}}})",
        "",
        f"asks = {name}_history.asks(at={log.at!r})",
        "",
        "",
        *renamed,
        f"def {log.outcome}({log.outcome}): return {log.outcome}",
        "",
        "",
        f"{name} = uh.system(",
        f'    "{name}", asks=asks, zone={zone!r},',
        f"    features=[{', '.join(features)}],",
        f"    label=uh.label({log.outcome}, known={known!r}),",
        f"    goal=uh.goal({goal!r}, costs=uh.costs(**{{{prices}}})),",
        f"    policy=uh.threshold(otherwise={policy.otherwise!r}, **{{{cuts}}}))",
    ]
    return "\n".join(lines) + "\n"


def write_history(engine: Engine, log: AdoptedLog, inputs: Table | None, path: Path) -> tuple[int, list[str]]:
    """The table of raw inputs as the adopted system's source; how many decisions it knows, and which inputs it lacks.

    A column that the table lacks, or whose values do not read as the log's, is null: nothing is said of it.
    Raises ProjectError if the table has not the log's key, or holds a key twice.
    """
    own = {new: old for old, new in log.names.items()}
    lacking: list[str] = []
    columns = [f'a."@key" as {quoted(log.key)}', f'a."@asked" as {quoted(log.at)}']
    for new, kind in log.types.items():
        has = inputs is not None and own[new] in inputs.columns
        value = f"try_cast(r.{quoted(own[new])} as {SQL_TYPE[kind]})" if has else f"NULL::{SQL_TYPE[kind]}"
        if not has and own[new] not in log.roles.inputs:
            value = f"a.{quoted(new)}"  # it says whom a decision is about; nothing is scored from it
        columns.append(f"{value} as {quoted(new)}")
    columns.append(f'a."@label" as {quoted(log.outcome)}')
    if log.roles.outcome_at:
        columns.append(f'a."@known" as {quoted(log.known)}')
    rows = "adopted a where false"
    if inputs is not None:
        key = _see_key(engine, log, inputs)
        rows = f'adopted a join {quoted(inputs.name)} r on a."@key" = r.{quoted(key)}::VARCHAR'
        given = [own[n] for n in log.types if own[n] in log.roles.inputs]
        lacking = [c for c in given if c not in inputs.columns]
    first = 'qualify row_number() over (partition by a."@key" order by a."@at", a."@row") = 1'
    engine.run(f"copy (select {', '.join(columns)} from {rows} {first}) to {sql_value(str(path))} (format parquet)")
    n = engine.rows(f"select count(*) from read_parquet({sql_value(str(path))})")[0][0]
    if inputs is not None and not n:
        raise ProjectError("none of its keys is one of the log's", inputs.origin, f"it is joined by {log.roles.key}")
    return int(n), lacking


def _see_key(engine: Engine, log: AdoptedLog, inputs: Table) -> str:
    key = log.roles.key
    if not key or key not in inputs.columns:
        hint = "give it the log's key, by the same name, and name that with --key"
        raise ProjectError(f"has no key of the log ({key or 'the log has none'})", inputs.origin, hint)
    twice = engine.rows(f"select count(*) - count(distinct {quoted(key)}) from {quoted(inputs.name)}")[0][0]
    if twice:
        hint = "keep the row that was current when it was asked"
        raise ProjectError(f"{twice:,} rows repeat the key of another", f"{inputs.origin}.{key}", hint)
    return key


def keep_training(engine: Engine, plan: Plan, log: AdoptedLog, training: Table | None, record: Path) -> str:
    """The training table as a training set of the record, named by its content; one without rows if none was given.

    A table without the log's moment is taken to be known when the first decision was asked.
    Raises ProjectError if it lacks a feature.
    """
    first = '(select min("@at") from adopted)'
    own = {new: old for old, new in log.names.items()}
    has = set(training.columns) if training is not None else set()
    if training is not None:
        missing = [c for c in log.roles.inputs if c not in has]
        if missing:
            raise ProjectError(f"lacks {', '.join(missing)}", training.origin, "it must hold what the scorer reads")
    at = quoted(log.roles.at) + "::TIMESTAMP" if log.roles.at in has else first
    known = quoted(log.roles.outcome_at) + "::TIMESTAMP" if log.roles.outcome_at in has else at
    label = "NULL::BOOLEAN"
    if training is not None and log.roles.outcome in has:
        label = label_sql(engine, training, log.roles)
    key = f"{quoted(log.roles.key)}::VARCHAR" if log.roles.key in has else "'row-' || row_number() over ()"
    columns = [f"{key} as key", f"{at} as asked_at", f"{known} as known_at", f"{label} as label"]
    special = {log.key: key, log.at: at}
    for column, kind in plan.inputs.items():
        old = own.get(column, "")
        value = special.get(column) or (f"try_cast({quoted(old)} as {SQL_TYPE[kind]})" if old in has else "NULL")
        columns.append(f"({value})::{SQL_TYPE[kind]} as {quoted('row.' + column)}")
    for feature in plan.features:
        kind = plan.feature_types[feature]
        value = f"try_cast({quoted(feature)} as {SQL_TYPE[kind]})" if feature in has else "NULL"
        columns.append(f"({value})::{SQL_TYPE[kind]} as {quoted('features.' + feature)}")
    for fact, kind in plan.facts.items():
        value = label if fact == log.outcome else known
        columns.append(f"({value})::{SQL_TYPE[kind]} as {quoted('facts.' + fact)}")
    rows = quoted(training.name) if training is not None else "(select 1) where false"
    with tempfile.TemporaryDirectory(prefix="underhood-") as scratch:
        made = Path(scratch) / "training.parquet"
        sql = f"select {', '.join(columns)} from {rows}"
        engine.run(f"copy (select * from ({sql}) order by asked_at, key) to {sql_value(str(made))} (format parquet)")
        return put_file(record, "training", made, ".parquet")


def training_roles(engine: Engine, roles: Roles, training: Table) -> str:
    """Why the training table's outcome cannot be read; empty if it can."""
    if not roles.outcome:
        return "the log names no outcome, so nobody knows which column it is"
    return "" if roles.outcome in training.columns else f"{training.origin} has no {roles.outcome}"


def write_log(
    engine: Engine,
    plan: Plan,
    log: AdoptedLog,
    bundles: Mapping[str, Bundle],
    record: Path,
    scores: Sequence[float] | None,
    now: datetime,
) -> tuple[int, int]:
    """Every decision and every known outcome as a line of the record's log, sealed; how many of each.

    `bundles` maps a version to the bundle that stands for it; `scores` stand in where
    none was logged (NaN is none), in order of `@at`, `@row`. `now` only names the files.
    """
    engine.adopt("adopted lines", _lines(engine, log, bundles, scores), "the log's decisions")
    # the same row twice is one decision
    once = 'qualify row_number() over (partition by "@id" order by "@n") = 1 order by "@n"'
    numbered = 'select *, row_number() over (order by "@at", "@row") as "@n" from adopted'
    rows = f'(select * from ({numbered}) join "adopted lines" using ("@n") {once})'
    decisions = engine.table(f"select {_decision_columns(plan, log, bundles)} from {rows}")
    known = f'from {rows} where "@label" is not null order by coalesce("@known", "@at"), "@n"'
    outcomes = engine.table(f"select {_outcome_columns(log)} {known}")
    shares: dict[tuple[str, str], Any] = {}
    for kind, table in (("decision", decisions), ("outcome", outcomes)):
        start = 0
        for day, same in groupby(table["day"].to_pylist()):
            n = len(list(same))
            shares[kind, day] = table.slice(start, n).drop_columns(["day"])
            start += n
    seal_columns(record, hot_name(now), shares)
    return decisions.num_rows, outcomes.num_rows


def _lines(
    engine: Engine, log: AdoptedLog, bundles: Mapping[str, Bundle], scores: Sequence[float] | None
) -> dict[str, list[Any]]:
    """What the engine cannot make of a row, in order of asking: its number, id, bundle, score and action."""
    plain = list(dict.fromkeys(log.names.values()))
    times = ["@at", "@asked", *[c for c in plain if log.types[c] == TIME]]
    columns = ["@key", "@at", "@asked", "@score", "@action", "@version", *plain]
    made: dict[str, list[Any]] = {name: [] for name in ("@n", "@id", "@bundle", "@scored", "@acted", "@reason")}
    rows = stream_rows(engine, 'select * from adopted order by "@at", "@row"', columns, times)
    for n, each in enumerate(rows):
        bundle = bundles[each["@version"] or ""]
        captured = {log.key: each["@key"], log.at: each["@asked"], **{c: each[c] for c in plain}}
        score = each["@score"] if scores is None or scores[n] != scores[n] else scores[n]
        made["@n"].append(n + 1)
        made["@id"].append(decision_id(bundle.name, each["@key"], each["@at"], captured))
        made["@bundle"].append(bundle.name)
        made["@scored"].append(None if score is None or score != score else round(score, bundle.model["digits"]))
        made["@acted"].append(each["@action"] or _ruled(bundle.policy, score))
        made["@reason"].append(BY_LOG if each["@action"] else NOT_LOGGED)
    return made


def _decision_columns(plan: Plan, log: AdoptedLog, bundles: Mapping[str, Bundle]) -> str:
    """SQL of the columns that a sealed decision has, and `day`."""
    candidates = next(iter(bundles.values())).policy.actions
    row = {log.key: '"@key"', log.at: _text('"@asked"')}
    row |= {c: _text(quoted(c)) if log.types[c] == TIME else quoted(c) for c in dict.fromkeys(log.names.values())}
    made = {
        "id": '"@id"',
        "at": _text('"@at"'),
        "key": '"@key"',
        "asked_at": _text('"@at"'),
        "decided_at": _text('"@at"'),
    }
    made |= {"bundle": '"@bundle"', **{f"row.{c}": value for c, value in row.items()}}
    made |= {f"features.{f}": row[log.names[f]] for f in plan.features}
    made |= {"score": '"@scored"::DOUBLE', "action": '"@acted"', "reason": '"@reason"', "status": "'ok'"}
    made |= {"flags": "[]::VARCHAR[]", "patches": "[]::VARCHAR[]"}
    made |= {"candidates": f"[{', '.join(map(sql_value, candidates))}]::VARCHAR[]"}
    made |= {"propensity": "1.0::DOUBLE", "latency_us": "0.0::DOUBLE", "day": DAY.format('"@at"')}
    return ", ".join(f"{value} as {quoted(name)}" for name, value in made.items())


def _outcome_columns(log: AdoptedLog) -> str:
    """SQL of the columns that a sealed outcome has, and `day`."""
    at = 'coalesce("@known", "@at")'
    known = _text(at)
    made = {"id": f"\"@key\" || '@' || {known}", "at": known, "key": '"@key"', "known_at": known, "label": '"@label"'}
    made |= {f"facts.{log.outcome}": '"@label"', **({f"facts.{log.known}": known} if log.roles.outcome_at else {})}
    made |= {"day": DAY.format(at)}
    return ", ".join(f"{value} as {quoted(name)}" for name, value in made.items())


def _text(moment: str) -> str:
    return f"strftime({moment}, '%Y-%m-%dT%H:%M:%S.%f')"


def _ruled(policy: Policy, score: float | None) -> str:
    """The policy's action for a score; empty if there is none."""
    if score is None:
        return ""
    return next((action for action, cut in policy.cuts if score >= cut), policy.otherwise)
