"""The latest row known when asked, as SQL: DuckDB's own as-of join, and two rewrites that run everywhere.

Of the rows known when asked, the one that happened last wins; of those that happened
together the one with the largest tie-break, then the one known last, then the later
row. This order is each row's *rank* within its key, so a later row never loses to an
earlier one, whichever clock brought it.

- native: rows that a better one already outran when they became known never win and
  are dropped; the rest have one clock, and DuckDB's as-of join is exact. DuckDB only.
- interval: the same rows, each valid until the next; an equality join with a range.
  Cheap unless one key has many rows: then every pair of that key is compared.
- carry: questions and rows in one order of time, the highest rank so far is carried
  along. Costs the same however the rows are spread over keys, needs no range join, and
  can leave out the asked row itself (the second highest rank is carried as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from underhood.plan.exprs import Expr
from underhood.plan.literals import DUCKDB, quoted
from underhood.plan.moments import SPARK_TICK, SPARK_ZERO
from underhood.plan.render import to_sql
from underhood.plan.sources import Typed
from underhood.plan.steps import ASKED_AT, Asof

NATIVE, INTERVAL, CARRY = "native", "interval", "carry"
FEW = 32  # rows of one key up to which looking through them costs less than DuckDB's as-of join (bench/asof)
HOT = 1000  # rows of one key from which comparing every pair costs more than a sort


@dataclass(frozen=True)
class Words:
    """What engines spell differently in a join: quotes, microseconds, whole numbers, sums that cannot overflow."""

    engine: str = DUCKDB

    def name(self, column: str) -> str:
        """A name in this engine's quotes."""
        return quoted(column, self.engine)

    def sql(self, expr: Expr) -> str:
        """A typed expression as this engine's SQL."""
        return to_sql(expr, self.engine)

    def micros(self, time: str) -> str:
        """Microseconds since 1970 of a time."""
        return f"epoch_us({time})" if self.engine == DUCKDB else f"(({time} - {SPARK_ZERO}) div {SPARK_TICK})"

    def whole(self, number: str) -> str:
        """A float without what is behind its point, as a whole number of 64 bits."""
        return f"cast(trunc({number}) as bigint)" if self.engine == DUCKDB else f"cast({number} as bigint)"

    def wide(self, number: str) -> str:
        """A whole number that can be summed a billion times."""
        return number if self.engine == DUCKDB else f"cast({number} as decimal(20, 0))"

    def same(self, by: Sequence[str], one: str = "l", other: str = "r") -> str:
        """Whether two rows belong together; all do, if there is nothing to join by."""
        return " and ".join(f"{one}.{self.name(b)} = {other}.{self.name(b)}" for b in by) or "true"

    def told(self, by: Sequence[str]) -> str:
        """Whether a row can answer at all: it has both clocks and all that it is joined by."""
        return " and ".join(f"{c} is not null" for c in ("__happened", "__known", *map(self.name, by)))

    def parted(self, by: Sequence[str]) -> str:
        """The part of a window's clause that keeps the rows of each key to themselves."""
        return f"partition by {', '.join(map(self.name, by))} " if by else ""

    def quotient(self, number: str, by: int) -> str:
        """A whole number divided, without its rest, towards zero."""
        return f"({number} {'//' if self.engine == DUCKDB else 'div'} {by})"


@dataclass(frozen=True)
class Side:
    """Where one join is made: the questions `left`, what to `keep` of them, the engine, and whether it asks itself.

    `keep` is "l.*" or the columns of `l` wanted. `is_own`: the rows are those of the
    asked source, so a question's own row must not answer it.
    """

    left: str
    keep: str = "l.*"
    words: Words = Words()
    is_own: bool = False


def method_of(engine: str, is_own: bool, most: int | None) -> str:
    """Which of the three ways fits; `most` is the largest number of rows of one key, null if nobody counted."""
    if is_own:
        return CARRY
    if engine == DUCKDB:
        return INTERVAL if most is not None and most <= FEW else NATIVE
    return INTERVAL if most is not None and most <= HOT else CARRY


def asof_sql(join: Asof, other: Typed, n: int, side: Side, method: str) -> str:
    """The questions with the columns that the `n`th join takes, and the number of the row they come from."""
    return _carried(join, other, n, side) if method == CARRY or side.is_own else _ranged(join, other, n, side, method)


def masked(name: str, other: Typed, row: str, asked: str, words: Words) -> str:
    """A column of the alias `row`, null until its own clock."""
    column = f"{row}.{words.name(name)}"
    if name not in other.late:
        return column
    return f"(case when {row}.{words.name('__late_' + name)} <= {asked} then {column} end)"


def _ranged(join: Asof, other: Typed, n: int, side: Side, method: str) -> str:
    words = side.words
    before = "<" if join.is_strict else "<="
    # DuckDB 1.5 sometimes finds a partner for a question without a moment
    taken = _taken(join, other, n, side, f"r.__from {before} l.{ASKED_AT}")
    on = words.same(join.by)
    chain = _chain(join, other, words, method)
    if method == NATIVE:
        after = ">" if join.is_strict else ">="
        return (
            f"select {side.keep}, {taken} from {side.left} l "
            f"asof left join ({chain}) r on {on} and l.{ASKED_AT} {after} r.__from"
        )
    ends = "<=" if join.is_strict else "<"
    return (
        f"select {side.keep}, {taken} from {side.left} l left join ({chain}) r on {on} and r.__from {before} "
        f"l.{ASKED_AT} and (r.__until is null or l.{ASKED_AT} {ends} r.__until)"
    )


def _taken(join: Asof, other: Typed, n: int, side: Side, fresh: str) -> str:
    words = side.words
    if join.max_age_s is not None:
        age = f"{words.micros(f'l.{ASKED_AT}')} - {words.micros('r.__happened')}"
        fresh += f" and {age} <= {round(join.max_age_s * 1e6)}"
    made = [
        f"case when {fresh} then {masked(c, other, 'r', f'l.{ASKED_AT}', words)} end as {words.name(to)}"
        for to, c in join.take.items()
    ]
    made.append(f"case when {fresh} then r.__row end as {words.name(f'__{other.source.name}_{n}_row')}")
    return ", ".join(made)


def has_one_clock(other: Typed) -> bool:
    """Whether every row is known when it happens."""
    return other.known.key() == other.happened.key()


def _best(join: Asof, words: Words) -> str:
    tie = f"{words.name(join.tie)} asc nulls first, " if join.tie else ""
    return f"__happened, {tie}__known, __row"


def _ranked(join: Asof, other: Typed, words: Words) -> str:
    """The rows that can answer, each with its rank within its key and the moment from which it can answer."""
    return (
        f"select *, case when __known > __happened then __known else __happened end as __from, "
        f"row_number() over ({words.parted(join.by)}order by {_best(join, words)}) as __rank "
        f"from {words.name(other.source.name)} where {words.told(join.by)}"
    )


def _chain(join: Asof, other: Typed, words: Words, method: str) -> str:
    """The rows that ever win, one for each key and moment: `__from` when each begins to, `__until` when it ends."""
    parted = words.parted(join.by)
    if has_one_clock(other):
        following = (
            f"select *, __happened as __from, lead(__happened) over ({parted}order by {_best(join, words)}) as __until "
            f"from {words.name(other.source.name)} where {words.told(join.by)}"
        )
        return f"select * from ({following}) c where __until is null or __until <> __from"
    order = f"{parted}order by __from, __rank"
    highest = (
        f"select *, max(__rank) over ({order} rows between unbounded preceding and current row) as __highest, "
        f"lead(__from) over ({order}) as __next from ({_ranked(join, other, words)}) a"
    )
    winning = f"select * from ({highest}) b where __rank = __highest and (__next is null or __next <> __from)"
    if method == NATIVE:
        return winning
    return f"select *, lead(__from) over ({parted}order by __from) as __until from ({winning}) c"


def _carried(join: Asof, other: Typed, n: int, side: Side) -> str:
    words = side.words
    by = "".join(f"{words.name(b)}, " for b in join.by)
    # at one moment, rows come before the questions that may see them
    mine = -1 if join.is_strict else 1
    far = f"({words.parted(join.by)}order by __t, __kind, __rank rows between unbounded preceding and"
    ranked = _ranked(join, other, words)
    rows = f"select {by}{words.micros('__from')} as __t, 0 as __kind, __rank, null as __question from ({ranked}) a"
    asked = (
        f"select {by}{words.micros(ASKED_AT)} as __t, {mine} as __kind, null as __rank, __row as __question "
        f"from {side.left} where {ASKED_AT} is not null"
    )
    both = f"select *, max(__rank) over {far} current row) as __pick from ({rows} union all {asked}) u"
    if side.is_own:
        # when a row comes, the lower of it and the highest before it may become the second highest
        both = f"select *, max(__rank) over {far} 1 preceding) as __before from ({both}) v"
        lower = "case when __before < __rank then __before when __rank <= __before then __rank end"
        both = f"select *, max({lower}) over {far} current row) as __second from ({both}) w"
    picks = f"select * from ({both}) x where __question is not null"
    if side.is_own:
        picks = (
            f"select p.__question, case when o.__rank is null then p.__pick else p.__second end as __pick "
            f"from ({picks}) p left join ({ranked}) o on o.__row = p.__question and o.__rank = p.__pick "
            f"and {words.same(join.by, 'p', 'o')}"
        )
    return (
        f"select {side.keep}, {_taken(join, other, n, side, 'r.__row is not null')} from {side.left} l "
        f"left join ({picks}) p on p.__question = l.__row "
        f"left join ({ranked}) r on r.__rank = p.__pick and {words.same(join.by)}"
    )
