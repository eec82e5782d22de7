"""What the columns of a log of decisions are: key, moment, score, action, version, outcome, inputs.

A role is what its user says, or a guess from the column's values and name; each guess
comes with what it rests on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from underhood.ground.errors import ProjectError, UnderhoodError, nearest, raise_all
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.plan.render import quoted
from underhood.tables.frames import Table
from underhood.tables.local import Engine

MOST_ACTIONS = 8  # levels; a column of more says something else than what was done


@dataclass(frozen=True)
class Roles:
    """Which column of a log plays which part; empty if none does.

    `at` is when it was decided, `outcome_at` when the outcome was known. `happened`
    is the value of the outcome's column that means yes; empty for a flag or 0 and 1.
    `inputs` are the columns that the scorer reads, in its order; the rest is kept beside them.
    """

    key: str = ""
    at: str = ""
    score: str = ""
    action: str = ""
    version: str = ""
    outcome: str = ""
    outcome_at: str = ""
    happened: str = ""
    inputs: tuple[str, ...] = ()

    @property
    def taken(self) -> dict[str, str]:
        """Column → its role, for every role but that of an input."""
        pairs = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("inputs", "happened")}
        return {column: role for role, column in pairs.items() if column}


@dataclass(frozen=True)
class Guess:
    """A role that nobody named, and what the guess rests on."""

    role: str
    column: str
    why: str


# The words of the field for each role, as whole words of a column's name; whoever calls it otherwise says so.
_WORDS: Mapping[str, Collection[str]] = {
    "score": ("score", "probability", "proba", "prob", "prediction", "predicted", "pd"),
    "action": ("action", "decision", "decided"),
    "version": ("version",),
    "outcome": ("outcome", "label", "target", "y"),
}


def find_roles(engine: Engine, log: Table, said: Roles) -> tuple[Roles, list[Guess]]:
    """The roles of a log's columns: those that were said, and for the others the guesses that its values allow.

    Raises ProjectError for every column that was named and is not there, or cannot be what it was named for.
    """
    _check(log, said)
    guesses: list[Guess] = []
    roles = said
    for role, find in (("key", _key), ("at", _moment)):
        if not getattr(roles, role) and (guess := find(engine, log, roles)):
            roles, guesses = _with(roles, guess), [*guesses, guess]
    for role in _WORDS:
        if not getattr(roles, role) and (guess := _named(engine, log, role, roles)):
            roles, guesses = _with(roles, guess), [*guesses, guess]
    return roles, guesses


def see_inputs(log: Table, roles: Roles, wanted: Collection[str] = ()) -> tuple[str, ...]:
    """The columns that the scorer reads: those said, else those it wants, else all that have no other role.

    Raises ProjectError if one of them is not in the log, or is a time.
    """
    rest = [c for c in log.columns if c not in roles.taken and log.kinds[c] in (NUMBER, FLAG, TEXT)]
    chosen = roles.inputs or tuple(wanted)
    hint = "the log must hold what the scorer was given, by the same names"
    errors: list[UnderhoodError] = [
        ProjectError(f"the log has no column {c!r}", "inputs", f"{nearest(c, rest)}; {hint}")
        for c in chosen
        if c not in log.columns
    ]
    errors += [
        ProjectError(f"is a {log.kinds[c]}", f"inputs.{c}", "a scorer reads numbers, flags and texts")
        for c in chosen
        if c in log.columns and log.kinds[c] not in (NUMBER, FLAG, TEXT)
    ]
    raise_all(errors)
    return tuple(chosen) or tuple(rest)


def maybe_outcomes(engine: Engine, log: Table, roles: Roles) -> Iterator[str]:
    """What may be the outcome, as sentences: inputs that are yes or no, if no outcome is named. Nobody named them."""
    for column in roles.inputs if not roles.outcome else ():
        if can_be(engine, log, column, "outcome"):
            yield (
                f"{column} is yes or no, and is taken for an input: if it is what happened later, adopt again with "
                f"--outcome {column}"
            )


def _with(roles: Roles, guess: Guess) -> Roles:
    made: Roles = replace(roles, **{guess.role: guess.column})  # type: ignore[arg-type]
    return made


def _check(log: Table, said: Roles) -> None:
    errors: list[UnderhoodError] = []
    for column, role in said.taken.items():
        if column not in log.columns:
            errors.append(ProjectError(f"the log has no column {column!r}", role, nearest(column, log.columns)))
        elif role in ("at", "outcome_at") and log.kinds[column] != TIME:
            times = ", ".join(c for c, kind in log.kinds.items() if kind == TIME) or "none of its columns"
            hint = f"read as a time: {times}"
            errors.append(ProjectError(f"{column} is a {log.kinds[column]}, not a time", role, hint))
        elif role == "score" and log.kinds[column] != NUMBER:
            errors.append(ProjectError(f"{column} is a {log.kinds[column]}, not a number", role))
    named = [getattr(said, f.name) for f in fields(said) if f.name not in ("inputs", "happened")]
    for column in sorted({c for c in named if c and named.count(c) > 1}):
        errors.append(ProjectError(f"{column} is named for two roles", "roles", "each column plays one part"))
    raise_all(errors)


def _key(engine: Engine, log: Table, roles: Roles) -> Guess | None:
    """The first column of whole numbers or texts without a gap or a repeated value."""
    for column, kind in log.columns.items():
        is_whole = "INT" in kind or kind in ("VARCHAR", "UUID")
        if is_whole and column not in roles.taken and column not in roles.inputs and log.rows > 1:
            name = quoted(column)
            n = engine.rows(f"select count(distinct {name}) from {quoted(log.name)}")[0][0]
            if n == log.rows:
                return Guess("key", column, f"{n:,} values, each in one row")
    return None


def _moment(engine: Engine, log: Table, roles: Roles) -> Guess | None:
    """The only column of times that is nowhere empty."""
    times = [c for c, kind in log.kinds.items() if kind == TIME and c not in roles.taken]
    full = [
        c
        for c in times
        if engine.rows(f"select count({quoted(c)}) = count(*) from {quoted(log.name)}")[0][0] and log.rows
    ]
    return Guess("at", full[0], "the only time that every row has") if len(full) == 1 else None


def _named(engine: Engine, log: Table, role: str, roles: Roles) -> Guess | None:
    """The only column with a name of that role whose values can be it."""
    free = [c for c in log.columns if c not in roles.taken and c not in roles.inputs]
    fit = [c for c in free if _is_called(c, role) and can_be(engine, log, c, role)]
    if len(fit) != 1:
        return None
    return Guess(role, fit[0], f"by its name, and its values allow it ({_range(engine, log, fit[0])})")


def _is_called(column: str, role: str) -> bool:
    words = column.casefold().replace("-", "_").replace(" ", "_").split("_")
    return any(w in _WORDS[role] for w in words)


def can_be(engine: Engine, log: Table, column: str, role: str) -> bool:
    """Whether a column's values allow it to be a score, an action, a version or an outcome."""
    name, kind = quoted(column), log.kinds[column]
    low, high, levels = engine.rows(
        f"select min({name})::VARCHAR, max({name})::VARCHAR, approx_count_distinct({name}) from {quoted(log.name)}"
    )[0]
    if low is None or kind not in (NUMBER, FLAG, TEXT):
        return False
    if role == "score":
        return bool(kind == NUMBER and levels > 2 and float(low) >= 0 and float(high) <= 1)
    if role == "outcome":
        return kind == FLAG or (kind == NUMBER and levels <= 2 and {float(low), float(high)} <= {0.0, 1.0})
    return bool(levels <= MOST_ACTIONS if role == "action" else levels <= 100 * MOST_ACTIONS)


def _range(engine: Engine, log: Table, column: str) -> str:
    name = quoted(column)
    low, high = engine.rows(f"select min({name})::VARCHAR, max({name})::VARCHAR from {quoted(log.name)}")[0]
    return f"{low} … {high}"


def spoken(guesses: Collection[Guess]) -> Iterator[str]:
    """The guesses as sentences."""
    for guess in guesses:
        yield f"{guess.column} is taken for the {TITLES[guess.role]}: {guess.why}"


TITLES: Mapping[str, str] = {
    "key": "key",
    "at": "moment of asking",
    "score": "score",
    "action": "action",
    "version": "version of what decided",
    "outcome": "outcome",
    "outcome_at": "moment when the outcome was known",
}
