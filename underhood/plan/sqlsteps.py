"""SQL steps: a text of SQL as one step of a definition, where the operations do not reach.

    def per_mile(air_time, distance): return air_time / distance

    pace = sql("{a} / {d}", gives="number", reads=("a", "d"), python=per_mile)

An opaque step like a Python function: marked, carried in the definition and in the
bundle as its own text, which is its version. DuckDB and Spark run the text as it
is, one request the Python function; a build compares their values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, Signature
from typing import Any

from underhood.ground.errors import ProjectError, nearest
from underhood.plan.exprs import Expr, wrap
from underhood.plan.kinds import FLAG, NUMBER, TEXT
from underhood.plan.literals import DUCKDB, SPARK
from underhood.plan.opaque import check_gives, is_sql, no_python, source_of

_READ = re.compile(r"\{(\w+)\}")
_TYPES = {
    DUCKDB: {NUMBER: "DOUBLE", FLAG: "BOOLEAN", TEXT: "VARCHAR"},
    SPARK: {NUMBER: "double", FLAG: "boolean", TEXT: "string"},
}


def sql(
    text: str,
    *,
    gives: str,
    reads: Sequence[str] = (),
    spark: str = "",
    python: Callable[..., Any] | None = None,
    name: str = "",
) -> Callable[..., Expr]:
    """Makes a SQL expression over {names} a step of definitions, which is called with as many arguments.

    `text` is DuckDB's, `spark` Spark's where that is another. `reads` names the arguments
    in their order, as they appear in the text if not given. Values come as DOUBLE, BOOLEAN,
    VARCHAR and naive UTC TIMESTAMP. Null in, null out; null too where the value is not
    finite or, on DuckDB, cannot be computed. What it gives must depend on its values alone: no random(), no now().

    `python` is the same as a function on values, for one request; without it the step may only
    stand in what history is made of (derived columns, labels), and a build refuses it in a
    feature. Raises ProjectError if text and `reads` do not agree.
    """
    named = name or getattr(python, "__name__", "sql")
    where = f"sql {named}"
    check_gives(gives, where)
    taken = tuple(reads) or tuple(dict.fromkeys(_READ.findall(text)))
    for each in filter(None, (text, spark)):
        found = dict.fromkeys(_READ.findall(each))
        unknown, unread = [n for n in found if n not in taken], [n for n in taken if n not in found]
        if unknown:
            raise ProjectError(
                f"the text reads {{{unknown[0]}}}", where, nearest(unknown[0], taken) or "add it to reads"
            )
        if unread:
            raise ProjectError(f"the text never reads {{{unread[0]}}}", where, "leave it out of reads")
    function = (python.__name__, source_of(python, where)) if python is not None else ("", "")
    held = (named, gives, (text, spark, taken, *function))

    def step(*arguments: Any) -> Expr:
        if len(arguments) != len(taken):
            raise ProjectError(f"got {len(arguments)} arguments", where, f"it reads {', '.join(taken) or 'none'}")
        return Expr("opaque", (held, *[wrap(a) for a in arguments]))

    step.__name__, step.__doc__ = named, f"The SQL step {text}"
    step.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_ONLY) for n in taken])  # type: ignore[attr-defined]
    return step


def sql_template(step: Expr, engine: str = DUCKDB) -> str:
    """A SQL step as a template over {0}, {1} …: its text, guarded where an argument is null or the value not finite."""
    gives, (text, spark, taken) = step.args[0][1], step.args[0][2][:3]
    chosen = spark or text if engine == SPARK else text
    plain = chosen.replace("{", "{{").replace("}", "}}")
    body = re.sub(r"\{\{(\w+)\}\}", lambda found: f"{{{taken.index(found[1])}}}", plain)
    made = f"cast(({body}) as {_TYPES[engine][gives]})"
    if engine == DUCKDB:
        made = f"try({made})"
    there = " and ".join(f"{{{n}}} is not null" for n in range(len(taken)))
    return f"(case when {there} then {made} end)" if taken else made


def sql_steps(exprs: Iterable[Expr]) -> list[Expr]:
    """The SQL steps in expressions; the same one may come twice."""
    found = []
    for expr in exprs:
        found += sql_steps(a for a in expr.args if isinstance(a, Expr))
        found += [expr] if is_sql(expr) else []
    return found


def check_python(exprs: Iterable[Expr]) -> None:
    """Raises ProjectError for a SQL step that one request could not compute."""
    for step in sql_steps(exprs):
        if not step.args[0][2][4]:
            raise no_python(step)
