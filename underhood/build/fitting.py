"""Fitted parts on training rows: what each becomes, and what each training row would have seen of it when it was asked.

`rows` is everywhere SQL in the shape of a training set: one row a question with key,
asked_at, known_at, label (never null), `row.…`, `features.…`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import fsum, sqrt
from typing import Any

from underhood.ground.errors import ProjectError
from underhood.plan.exprs import Expr, col, columns_of, substitute
from underhood.plan.fitted import (
    DEVIATION,
    LEVELS_OF,
    MEAN_OF,
    SCALED,
    fitted_parts,
    levels_expr,
    mean_expr,
    name_of,
    needs_label,
    option,
    replaced,
    scaled_expr,
)
from underhood.plan.joins import Plan
from underhood.plan.operations import NUMBER
from underhood.plan.render import quoted, sql_value, to_sql
from underhood.plan.steps import ASKED_AT
from underhood.tables.local import Engine

MOST_LEVELS = 5000  # each is a line of every engine's SQL

State = Mapping[str, Expr]


def open_features(plan: Plan) -> set[str]:
    """The features that hold a part which is not fitted yet."""
    return {name for name, expr in plan.features.items() if list(fitted_parts([expr]))}


def fit_parts(engine: Engine, plan: Plan, rows: str) -> State:
    """What each fitted part of the features becomes on these rows: its key → an expression that every engine renders.

    The same rows give the same state to the last bit, in any order. Raises
    ProjectError if a mean has more than 5,000 levels.
    """
    state: dict[str, Expr] = {}
    for part in fitted_parts(plan.features.values()):
        if part.key() not in state:
            of = with_state(part.args[1], state)
            state[part.key()] = _FITS[name_of(part)](engine, part, of, rows)
    return state


def with_state(expr: Expr, state: State) -> Expr:
    """The expression with its fitted parts replaced by what they became."""
    return replaced(expr, lambda part: state[part.key()])


def _value(of: Expr, is_number: bool = False) -> str:
    """An expression over inputs as SQL over training rows; zero has no sign."""
    text = to_sql(substitute(of, {c: col(f"row.{c}") for c in columns_of(of) - {ASKED_AT}}))
    return f"({text} + 0.0)" if is_number else text


def _fit_mean(engine: Engine, part: Expr, of: Expr, rows: str) -> Expr:
    value, prior = _value(of, part.args[0][3][0] == NUMBER), option(part, "prior")
    counted = f"select {value} as level, count(*) as n, count(*) filter (where label) as p from ({rows}) group by 1"
    found = engine.rows(f"select * from ({counted}) order by n desc, level")
    if len(found) > MOST_LEVELS:
        hint = 'take fewer: by=levels_of("…", least=50), .bucket([...]), .hashed(1000)'
        raise ProjectError(f"has {len(found):,} levels, more than {MOST_LEVELS:,}", str(part), hint)
    total, positive = sum(n for _, n, _ in found), sum(p for _, _, p in found)
    overall = positive / total if total else 0.0
    means = {level: (p + prior * overall) / (n + prior) for level, n, p in found if level is not None}
    return mean_expr(of, means, overall)


def _fit_levels(engine: Engine, part: Expr, of: Expr, rows: str) -> Expr:
    least = int(option(part, "least"))
    grouped = f"select {_value(of)} as level from ({rows}) group by 1 having count(*) >= {least} and level is not null"
    return levels_expr(of, [level for (level,) in engine.rows(grouped)], option(part, "other"))


def _fit_scale(engine: Engine, part: Expr, of: Expr, rows: str) -> Expr:
    value = f"select {_value(of)} as v from ({rows})"
    if option(part, "by") == DEVIATION:
        return scaled_expr(of, *_mean_and_deviation(engine.arrays(f"select v from ({value}) where v is not null")["v"]))
    low, middle, high = engine.rows(
        f"select quantile_cont(v, 0.25), quantile_cont(v, 0.5), quantile_cont(v, 0.75) from ({value})"
    )[0]
    return scaled_expr(of, 0.0, 0.0) if middle is None else scaled_expr(of, middle, high - low)


def _mean_and_deviation(values: Iterable[float]) -> tuple[float, float]:
    """Exact sums, so that the order of the rows does not matter; scaled, so that squares are finite."""
    listed = [float(v) for v in values]
    most = max(map(abs, listed), default=0.0)
    if not most:
        return 0.0, 0.0
    parts = [v / most for v in listed]
    mean = fsum(parts) / len(parts)
    return most * mean, most * sqrt(fsum((p - mean) ** 2 for p in parts) / len(parts))


_FITS: Mapping[str, Any] = {MEAN_OF: _fit_mean, LEVELS_OF: _fit_levels, SCALED: _fit_scale}


def as_known(plan: Plan, state: State, rows: str) -> str:
    """The rows with their open features as each row would have had them when it was asked.

    What is made of inputs alone is as in the state. A mean of the label is made, for each
    row, of the labels known strictly before it was asked, without its own; null where there
    were none.
    """
    means: dict[str, Expr] = {}
    for part in fitted_parts(plan.features.values()):
        if needs_label(part):
            means[part.key()] = part
    columns = {key: Expr("sql", (f"m{n}.value",)) for n, key in enumerate(means)}
    made = []
    for name in sorted(open_features(plan)):
        expr = replaced(plan.features[name], lambda part: columns.get(part.key(), state[part.key()]))
        made.append(f"{_value(expr)} as {quoted('features.' + name)}")
    steps = [f"d as ({rows})"]
    for n, part in enumerate(means.values()):
        of = with_state(part.args[1], state)
        steps.append(f"m{n} as ({_mean_then(_value(of), option(part, 'prior'))})")
    joined = " ".join(f"left join m{n} on m{n}.__of = d.key" for n in range(len(means)))
    return f"with {', '.join(steps)} select d.* replace ({', '.join(made)}) from d {joined}"


def _mean_then(level: str, prior: float) -> str:
    """For each row of `d`, the mean of its level as known when it was asked: `__of` (its key), `value`.

    Asked rows and labels that become known are put in one order of time, the asked
    rows first where both are at one moment: sums up to a row hold what was known strictly
    before it. A row's own label, should it be known that early, is taken out.
    """
    asked = "key as __of, asked_at as moment, true as is_asked, 0 as n, 0 as p, (known_at < asked_at)::INT as own"
    known = "null as __of, known_at as moment, false as is_asked, 1 as n, label::INT as p, 0 as own"
    events = (
        f"select {level} as level, label::INT as y, {asked} from d where asked_at is not null "
        f"union all select {level} as level, 0 as y, {known} from d"
    )
    order = "order by moment, is_asked desc rows between unbounded preceding and current row"
    sums = (
        f"(sum(n) over (partition by level {order}) - own)::DOUBLE as n, "
        f"(sum(p) over (partition by level {order}) - own * y)::DOUBLE as p, "
        f"(sum(n) over ({order}) - own)::DOUBLE as n_all, (sum(p) over ({order}) - own * y)::DOUBLE as p_all"
    )
    weight = sql_value(prior)
    value = (
        f"case when n_all > 0 then case when level is null or n + {weight} <= 0 then p_all / n_all "
        f"else (p + {weight} * (p_all / n_all)) / (n + {weight}) end end"
    )
    return f"select __of, {value} as value from (select __of, level, is_asked, {sums} from ({events})) where is_asked"
