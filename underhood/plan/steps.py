"""What a project is made of: sources, cleaning, joins in time, features, label, goal, policy: frozen steps.

Nothing here reads data. A step is a record that can be printed, hashed, compared and
rendered; the functions of a project file are turned into expressions at once, so
a circle or a function without `return` is found when the file is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from underhood.ground.errors import ProjectError, nearest
from underhood.plan.cleaning import Filling, Step
from underhood.plan.exprs import Expr, as_json, col, columns_of, define, digest, lit, shown, shown_span
from underhood.plan.fitted import fitted_parts

ASKED_AT = "asked_at"
ALWAYS = datetime(1, 1, 1)  # the moment of what holds at all times
ON_BREAK = ("quarantine", "stop", "warn")
RESERVED = ("key", "label", ASKED_AT, "score", "action")
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d)\s*")
_CLOCK = re.compile(r"\s*(\w+)\s*(?:([+-])\s*(.+))?")

Function = Callable[..., Any]


@dataclass(frozen=True)
class Source:
    """One table with its key, its two clocks and its owner.

    `happened` is when a row's event took place, `known` when it could be read.
    `late` columns are known later than their row: column → clock. Before that
    moment they are null, in windows as in questions. All clocks are UTC. `contract`
    is the file of what its rows must keep, `on_break` what happens to rows that do not.
    """

    name: str
    path: str
    key: tuple[str, ...]
    happened: Expr
    known: Expr
    late: Mapping[str, Expr]
    derived: Mapping[str, Expr]
    cleaning: tuple[Step, ...] = ()
    nulls: tuple[str, ...] = ()
    owner: str = ""
    about: str = ""
    contract: str = ""
    on_break: str = "quarantine"

    def clean(self, *steps: Step) -> Source:
        """The source with these cleaning steps (`uh.clean`) after the ones it has, in this order."""
        return replace(self, cleaning=(*self.cleaning, *steps))

    def asks(self, at: str) -> Base:
        """Each row as a question, asked at the moment `at`: a clock such as "sched_dep - 60min"."""
        return Base(self, clock(at, f"{self.name}.asks"))


@dataclass(frozen=True)
class Asof:
    """The latest row of `source` that was known when the question was asked; null if none, or too old.

    `take` maps each column made to the source's column. Strict: happened and known
    before the question, not at its moment. Of rows that happened together, the one
    with the largest `tie` wins. A question's own row is never its answer.
    """

    source: Source
    by: tuple[str, ...]
    take: Mapping[str, str]
    max_age_s: float | None = None
    is_strict: bool = False
    tie: str = ""


@dataclass(frozen=True)
class Aggregate:
    """One figure over the rows of a window: count, mean, total, share, smallest, largest of `value`."""

    kind: str
    value: Expr | None = None


@dataclass(frozen=True)
class Recent:
    """Figures over the rows of `source` that happened in the last `over_s` seconds, as known when asked."""

    source: Source
    by: tuple[str, ...]
    over_s: float
    figures: Mapping[str, Aggregate]


@dataclass(frozen=True)
class Base:
    """The table of questions: one row for each row of its source, never fewer, with what was joined to it."""

    source: Source
    at: Expr
    joins: tuple[Asof | Recent, ...] = ()

    def asof(
        self,
        source: Source,
        *,
        by: str | Sequence[str],
        take: Sequence[str] | Mapping[str, str],
        max_age: str | None = None,
        strict: bool = False,
        tie: str = "",
    ) -> Base:
        """Joins the latest row known when asked; `take` names the columns wanted, or maps new names to them.

        `strict`: it must have happened and been known before the question, not at its
        moment. `tie`: of rows that happened together, the largest value of this column
        wins, before the row that was known last. The asked row itself never answers.
        """
        age = None if max_age is None else span(max_age, f"asof {source.name}")
        taken = dict(take) if isinstance(take, Mapping) else {c: c for c in names(take)}
        return replace(self, joins=(*self.joins, Asof(source, names(by), taken, age, strict, tie)))

    def recent(self, source: Source, *, by: str | Sequence[str] = (), over: str, **figures: Aggregate) -> Base:
        """Joins figures over what happened within `over` before the question, strictly before it.

        Rows are those with the same `by`; without it, all rows of the source.
        """
        step = Recent(source, names(by), span(over, f"recent {source.name}"), dict(figures))
        return replace(self, joins=(*self.joins, step))


@dataclass(frozen=True)
class Label:
    """What the model learns to foresee: a flag over the asked row's columns, known at its own clock."""

    name: str
    value: Expr
    known: Expr


@dataclass(frozen=True)
class Costs:
    """What each action costs, in the goal's money for one decision: (if it does not happen, if it does)."""

    of: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Goal:
    """What the system is for, and the limits it must keep."""

    about: str
    costs: Costs
    metric: str = "log_loss"
    p99_us: float = 1000.0
    watch: tuple[str, ...] = ()
    meant_for: str = ""


@dataclass(frozen=True)
class Policy:
    """The action with the highest cut that the score reaches, else `otherwise`."""

    cuts: tuple[tuple[str, float], ...]
    otherwise: str

    @property
    def actions(self) -> tuple[str, ...]:
        """All actions, from the highest cut down."""
        return (*[action for action, _ in self.cuts], self.otherwise)


@dataclass(frozen=True)
class System:
    """One decision system: questions, features, label, goal and policy.

    `zone` is the time zone that people mean when they name a day or an hour.
    """

    name: str
    asks: Base
    features: Mapping[str, Expr]
    label: Label
    goal: Goal
    policy: Policy
    zone: str = "UTC"


def source(
    path: str | Path,
    *,
    happened: str = "",
    known: str = "",
    key: str | Sequence[str] = (),
    late: Mapping[str, Sequence[str]] | None = None,
    derive: Sequence[Function] = (),
    nulls: Sequence[str] = (),
    name: str = "",
    owner: str = "",
    about: str = "",
    contract: str | Path = "",
    on_break: str = "quarantine",
) -> Source:
    """A table in a file (CSV, zipped CSV or Parquet; relative to the project file).

    `happened` and `known` are clocks: a time column, plus or minus a span, as in
    "hour + 1h"; `known` is `happened` if not given, and a table without `happened`
    holds at all times. `late` maps a clock to the columns that become known only
    then. Without `key`, rows are numbered. `contract` is a file that `underhood contract infer`
    wrote: rows that break it are set aside with their reasons ("quarantine"), or
    kept and told ("warn"), or nothing is read ("stop").
    """
    text = str(path)
    named = name or Path(text).name.split(".")[0]
    if not re.fullmatch(r"[A-Za-z_]\w*", named):
        raise ProjectError(f"{named!r} cannot name a source", text, "give a plain word with name=")
    if on_break not in ON_BREAK:
        raise ProjectError(f"there is no on_break={on_break!r}", named, nearest(on_break, ON_BREAK))
    columns = {c: clock(at, f"{named}.late") for at, listed in (late or {}).items() for c in listed}
    when_happened = clock(happened, f"{named}.happened") if happened else lit(ALWAYS)
    return Source(
        named,
        text,
        names(key),
        when_happened,
        clock(known, f"{named}.known") if known else when_happened,
        columns,
        define(derive, named),
        nulls=tuple(nulls),
        owner=owner,
        about=about,
        contract=str(contract),
        on_break=on_break,
    )


def count() -> Aggregate:
    """How many rows; 0 if there are none."""
    return Aggregate("count")


def mean(value: str | Function | Expr) -> Aggregate:
    """The mean of a number over the rows that have one; null if none has."""
    return Aggregate("mean", _value(value))


def total(value: str | Function | Expr) -> Aggregate:
    """The sum of a number over the rows that have one; null if none has."""
    return Aggregate("total", _value(value))


def share(value: str | Function | Expr) -> Aggregate:
    """The share of rows where a flag holds, among rows where it is not null; null if there are none."""
    return Aggregate("share", _value(value))


def _value(value: str | Function | Expr) -> Expr:
    if isinstance(value, Expr):
        return value
    return col(value) if isinstance(value, str) else define([value], "recent")[value.__name__]


def label(function: Function, *, known: str) -> Label:
    """The label that `function` makes of the asked row's columns, known at the clock `known`."""
    name = getattr(function, "__name__", "")
    if not name:
        hint = "def late(delay): return delay > 15; then uh.label(late, known=…)"
        raise ProjectError(f"{function!r} is not a function", "label", hint)
    return Label(name, define([function], "label")[name], clock(known, f"label {name}"))


def costs(**of: tuple[float, float]) -> Costs:
    """What each action costs for one decision: action=(if it does not happen, if it does)."""
    for action, pair in of.items():
        is_pair = isinstance(pair, Sequence) and len(pair) == 2
        if not is_pair or not all(isinstance(c, (int, float)) for c in pair):
            hint = f"{action}=(cost if it does not happen, cost if it does), as in {action}=(2, 10)"
            raise ProjectError(f"{pair!r} is not two costs", f"costs.{action}", hint)
    return Costs({action: (float(no), float(yes)) for action, (no, yes) in of.items()})


def goal(
    about: str,
    *,
    costs: Costs,
    metric: str = "log_loss",
    p99_us: float = 1000.0,
    watch: Sequence[str] = (),
    meant_for: str = "",
) -> Goal:
    """What the system is for; `watch` names the columns whose groups each check looks at."""
    if metric != "log_loss":
        raise ProjectError(f"there is no metric {metric!r}", "goal.metric", "use log_loss")
    return Goal(about, costs, metric, p99_us, tuple(watch), meant_for)


def threshold(*, otherwise: str, **cuts: float) -> Policy:
    """The action with the highest cut that the score reaches: threshold(warn=0.3, otherwise="fine")."""
    wrong = [f"{a}={c!r}" for a, c in cuts.items() if not 0 <= c <= 1]
    if wrong or not cuts:
        raise ProjectError(f"cuts lie between 0 and 1, got {', '.join(wrong) or 'none'}", "policy")
    return Policy(tuple(sorted(cuts.items(), key=lambda item: -item[1])), otherwise)


def system(
    name: str,
    *,
    asks: Base,
    features: Sequence[str | Function],
    label: Label,
    goal: Goal,
    policy: Policy,
    zone: str = "UTC",
) -> System:
    """A decision system. A feature is a column's name, or a function over columns and other features."""
    functions = [f for f in features if callable(f)]
    made = define(functions, "features")
    unpriced = sorted(set(policy.actions) - set(goal.costs.of))
    if unpriced:
        raise ProjectError(
            f"action {', '.join(unpriced)} has no cost", "goal.costs", nearest(unpriced[0], goal.costs.of)
        )
    ordered = {f if isinstance(f, str) else f.__name__: f for f in features}
    resolved = {n: col(n) if isinstance(f, str) else made[n] for n, f in ordered.items()}
    return System(name, asks, resolved, label, goal, policy, zone)


def clock(text: str, where: str) -> Expr:
    """A time column plus or minus a span, as in "sched_dep - 60min"."""
    match = _CLOCK.fullmatch(text)
    if not match:
        raise ProjectError(f"{text!r} is not a clock", where, 'write a column and a span: "sched_dep - 60min"')
    column, sign, amount = match.groups()
    if sign is None:
        return col(column)
    shift = Expr("seconds", (Expr("lit", (span(amount, where),)),))
    return col(column) + shift if sign == "+" else col(column) - shift


def span(text: str, where: str) -> float:
    """Seconds of a span such as "90s", "60min", "3h" or "7d"."""
    match = _SPAN.fullmatch(text)
    if not match:
        raise ProjectError(f"{text!r} is not a span", where, 'write a number and s, min, h or d: "60min"')
    return float(match[1]) * _UNITS[match[2]]


def names(one_or_more: str | Sequence[str]) -> tuple[str, ...]:
    """A tuple of names, also of a single one. Raises ProjectError if they are no texts."""
    found = (one_or_more,) if isinstance(one_or_more, str) or not isinstance(one_or_more, Iterable) else one_or_more
    made = tuple(found)
    wrong = [n for n in made if not isinstance(n, str)]
    if wrong:
        raise ProjectError(f"{wrong[0]!r} is no name of a column", "key, by or take", 'write it as "id", or ["a", "b"]')
    return made


def sources_of(base: Base) -> dict[str, Source]:
    """Every source that the questions are made of, by name, each after those that it is filled from.

    Raises ProjectError if two share a name.
    """
    found: dict[str, Source] = {}
    for each in _with_references([base.source, *[join.source for join in base.joins]]):
        if each.name in found and not _same(found[each.name], each):
            raise ProjectError("two different sources share a name", each.name, "give one of them name=")
        found[each.name] = each
    return found


def _with_references(sources: Sequence[Source]) -> list[Source]:
    found: list[Source] = []
    for each in sources:
        found += _with_references([step.reference for step in each.cleaning if isinstance(step, Filling)])
        found.append(each)
    return found


def _same(one: Source, other: Source) -> bool:
    return one.path == other.path and fingerprint(one) == fingerprint(other)


def late_columns(of: Source) -> dict[str, Expr]:
    """Late columns and their clocks, derived ones included.

    Raises ProjectError for a derived column that is made of late ones and is not
    declared late itself: only its author knows when it can be known.
    """
    for name, value in of.derived.items():
        needs = sorted(columns_of(value) & set(of.late))
        if needs and name not in of.late:
            raise ProjectError(
                f"is made of {', '.join(needs)}, which is known late",
                f"{of.name}.{name}",
                f'say when it is known: late={{"clock": [..., "{name}"]}}',
            )
    return dict(of.late)


def fingerprint(step: Any) -> str:
    """Twelve hexadecimal digits that are equal exactly when two steps do the same."""
    return digest(plain(step))


def plain(step: Any) -> Any:
    """A step as plain JSON."""
    if isinstance(step, Expr):
        return {"expr": as_json(step)}
    if isinstance(step, Mapping):
        return {name: plain(value) for name, value in step.items()}
    if isinstance(step, (tuple, list)):
        return [plain(value) for value in step]
    if isinstance(step, Source):
        # the same definition has the same name on every machine; what was read is named by its content
        step = replace(step, path=Path(step.path).name, contract=Path(step.contract).name)
    if hasattr(step, "__dataclass_fields__"):
        return {
            "step": type(step).__name__,
            **{f: plain(getattr(step, f)) for f in step.__dataclass_fields__},
        }
    return step


def described(step: System) -> list[str]:
    """A system in a few lines that a person reads before it runs."""
    base = step.asks
    lines = [f"{step.name}: {step.goal.about}", f"asks {base.source.name} at {shown(base.at)}"]
    for join in base.joins:
        by = ", ".join(join.by)
        if isinstance(join, Asof):
            lines.append(f"as of then, {join.source.name} by {by}: {', '.join(join.take)}")
        else:
            lines.append(
                f"{shown_span(join.over_s)} before, {join.source.name} by {by or 'all'}: {', '.join(join.figures)}"
            )
    open_ = [f"{name} = {shown(expr)}" for name, expr in step.features.items() if list(fitted_parts([expr]))]
    lines += [f"fitted at build: {', '.join(open_)}"] if open_ else []
    lines.append(f"label {step.label.name} = {shown(step.label.value)}, known at {shown(step.label.known)}")
    lines.append(
        "acts " + ", ".join(f"{a} from {c:g}" for a, c in step.policy.cuts) + f", else {step.policy.otherwise}"
    )
    return lines
