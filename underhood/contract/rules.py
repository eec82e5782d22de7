"""What a contract can promise of a table: kinds of rule about rows, each a small record with its SQL and its sentence.

A rule about rows is a predicate that is true where a row breaks it: never null, and the same
text on DuckDB and on Spark but for names, texts and patterns. A rule about the table is a query
whose rows are the breakages. `share` is the share of rows that may break a rule about rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar

from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME

WHOLE, DAY = "whole number", "day"
TYPES = {NUMBER: NUMBER, WHOLE: NUMBER, TEXT: TEXT, FLAG: FLAG, TIME: TIME, DAY: TIME}  # a rule's type → its kind
_SQL_TYPES = {NUMBER: "double", TEXT: "string", FLAG: "boolean", TIME: "timestamp"}


@dataclass(frozen=True)
class Dialect:
    """What two engines write differently: how names and texts are quoted, a full match, a moment as microseconds."""

    name_quote: str
    doubled: str
    matches: str
    microseconds: str

    def quoted(self, name: str) -> str:
        """A name."""
        return self.name_quote + name.replace(self.name_quote, self.name_quote * 2) + self.name_quote

    def value(self, value: Any) -> str:
        """A constant."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (int, float)):
            # whole numbers as such: a decimal literal would cost a cast of each whole number in the column
            text = str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else f"{value!r}e0"
            text = text.removesuffix("e0") if "e" in repr(value) else text
            return f"({text})" if value < 0 else text
        if isinstance(value, datetime):
            return f"timestamp '{value.isoformat(sep=' ')}'"
        text = str(value).replace("\\", "\\\\") if self is SPARK else str(value)
        return "'" + text.replace("'", self.doubled) + "'"


DUCKDB = Dialect('"', "''", "regexp_full_match({0}, {1})", "epoch_us(cast({0} as timestamp))")
SPARK = Dialect("`", "\\'", "({0} rlike concat('^(?:', {1}, ')$'))", "unix_micros(cast({0} as timestamp))")


@dataclass(frozen=True)
class Reader:
    """How rules read one table: `kinds` are the kinds that its columns have, `wanted` those that the contract says.

    `table` is what follows FROM; `others` maps the tables that rules refer to to what follows FROM;
    `now` is the moment of the check (UTC), null if it has none. `repeats` maps the name of a key's join
    to the numbers that are known to repeat: no join is needed then.
    """

    dialect: Dialect
    table: str
    kinds: Mapping[str, str]
    wanted: Mapping[str, str]
    others: Mapping[str, str]
    now: datetime | None = None
    row: str = "t."
    repeats: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def raw(self, column: str) -> str:
        """The column as it is in the table."""
        return f"{self.row}{self.dialect.quoted(column)}"

    def __call__(self, column: str) -> str:
        """The column as the contract's type has it; null where it cannot be read so."""
        has, wants = self.kinds[column], TYPES.get(self.wanted.get(column, ""), self.kinds[column])
        raw = self.raw(column)
        if has == TEXT and wants != TEXT:
            return f"try_cast({raw} as {_SQL_TYPES[wants]})"
        if wants == has or (wants == NUMBER and has == FLAG):
            return f"cast({raw} as int)" if wants != has else raw
        return f"cast({raw} as string)" if wants == TEXT else f"cast(null as {_SQL_TYPES[wants]})"

    def value(self, value: Any) -> str:
        """A constant as this engine writes it."""
        return self.dialect.value(value)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What all rules have: the evidence for it, as a sentence, and the share of rows that may break it.

    `holders` names the fields that hold column names.
    """

    kind: ClassVar[str] = ""
    holders: ClassVar[tuple[str, ...]] = ("column",)
    share: float = 0.0
    evidence: str = field(default="", compare=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that the rule reads."""
        held = [getattr(self, name) for name in self.holders]
        listed = [c for one in held for c in ((one,) if isinstance(one, str) else one) if c]
        return tuple(dict.fromkeys(listed))

    @property
    def is_about_rows(self) -> bool:
        """Whether single rows break it, as against the table as a whole."""
        return type(self)._breaks is not Rule._breaks

    def says(self) -> str:
        """The rule as a person reads it."""
        return self._says()

    def breaks(self, at: Reader, side: str) -> str:
        """The predicate that is true where a row `t` breaks the rule. `side` names what `beside` joins."""
        return f"coalesce({self._breaks(at, side)}, false)"

    def beside(self, at: Reader, side: str) -> str:
        """The join that the predicate needs, if any: it never adds a row."""
        return self._beside(at, side)

    def query(self, at: Reader) -> str:
        """For a rule about the table: a query of (what: text, n: number), a row for each breakage."""
        return self._query(at)

    def _says(self) -> str:
        raise NotImplementedError

    def _breaks(self, at: Reader, side: str) -> str:
        raise NotImplementedError

    def _beside(self, at: Reader, side: str) -> str:
        return ""

    def _query(self, at: Reader) -> str:
        raise NotImplementedError

    def renamed(self, names: Mapping[str, str]) -> Rule:
        """The same rule where columns have other names."""
        new: dict[str, Any] = {}
        for name in self.holders:
            held = getattr(self, name)
            new[name] = names.get(held, held) if isinstance(held, str) else tuple(names.get(c, c) for c in held)
        return replace(self, **new)


def figure(value: Any) -> str:
    """A number, a moment or a text as sentences have it: 336,776, 0.25, 2013-12-30 18:00."""
    if isinstance(value, bool) or value is None:
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, datetime):
        return str(value.date()) if (value.hour, value.minute, value.second) == (0, 0, 0) else f"{value:%Y-%m-%d %H:%M}"
    return repr(value)


@dataclass(frozen=True)
class Type(Rule):
    """The column can be read as a number, whole number, text, flag, time or day."""

    kind = "type"
    column: str
    type: str

    def _says(self) -> str:
        return f"{self.column} is a {self.type}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        has, read = at.kinds[self.column], at(self.column)
        unread = f"{at.raw(self.column)} is not null and {read} is null"
        if self.type == WHOLE:
            return f"{unread} or {read} <> floor({read})"
        if self.type == DAY:
            return f"{unread} or {read} <> date_trunc('day', {read})"
        return "false" if has == self.type or self.type == TEXT else unread


@dataclass(frozen=True)
class Required(Rule):
    """The column is null in no more than `share` of the rows."""

    kind = "required"
    column: str

    def _says(self) -> str:
        most = f"null in at most {share_of(self.share)} of the rows" if self.share else "never null"
        return f"{self.column} is {most}"

    def _breaks(self, at: Reader, side: str) -> str:
        return f"{at.raw(self.column)} is null"


@dataclass(frozen=True)
class Key(Rule):
    """There is one row for each value of these columns. All rows that share a value break it; null is no value."""

    kind = "key"
    holders = ("of",)
    of: tuple[str, ...]

    def _says(self) -> str:
        return f"one row per {listed(self.columns)}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        if side in at.repeats:
            listed = ", ".join(map(str, at.repeats[side]))
            return f"{at.raw(self.of[0])} in ({listed})" if listed else "false"
        return f"{side}.__n is not null"

    def _beside(self, at: Reader, side: str) -> str:
        if side in at.repeats:
            return ""
        names = [at.dialect.quoted(c) for c in self.columns]
        filled = " and ".join(f"{n} is not null" for n in names)
        made = ", ".join(f"{n} as __k{i}" for i, n in enumerate(names))
        same = " and ".join(f"t.{n} = {side}.__k{i}" for i, n in enumerate(names))
        return (
            f"left join (select {made}, count(*) as __n from {at.table} where {filled} "
            f"group by {', '.join(names)} having count(*) > 1) {side} on {same}"
        )


@dataclass(frozen=True)
class Range(Rule):
    """The value is neither below `least` nor above `most`; either may be missing."""

    kind = "range"
    column: str
    least: float | datetime | None = None
    most: float | datetime | None = None
    unit: str = ""

    def _says(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.least is None:
            between = f"at most {figure(self.most)}"
        else:
            between = f"{figure(self.least)} or more" if self.most is None else _between(self.least, self.most)
        return f"{self.column} is {between}{unit}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        column = at(self.column)
        tests = [f"{column} < {at.value(self.least)}"] if self.least is not None else []
        tests += [f"{column} > {at.value(self.most)}"] if self.most is not None else []
        return " or ".join(tests) or "false"


def _between(least: Any, most: Any) -> str:
    return f"between {figure(least)} and {figure(most)}"


@dataclass(frozen=True)
class OneOf(Rule):
    """The value is one of `values`; null is allowed. `share` is the allowed share of unseen values."""

    kind = "one of"
    column: str
    values: tuple[Any, ...]

    def _says(self) -> str:
        shown = ", ".join(map(str, self.values[:6])) + (", …" if len(self.values) > 6 else "")
        return f"{self.column} is one of {len(self.values)}: {shown}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        listed = ", ".join(at.value(v) for v in self.values)
        return f"{at(self.column)} not in ({listed})" if listed else f"{at.raw(self.column)} is not null"


@dataclass(frozen=True)
class Pattern(Rule):
    """The text matches the regular expression as a whole, and has `shortest` to `longest` characters."""

    kind = "pattern"
    column: str
    pattern: str = ""
    shortest: int | None = None
    longest: int | None = None

    def _says(self) -> str:
        parts = [f"looks like {self.pattern}"] if self.pattern else []
        if self.longest is not None:
            parts.append(f"has {self.shortest or 0} to {self.longest} characters")
        elif self.shortest is not None:
            parts.append(f"has {self.shortest} characters or more")
        return f"{self.column} {' and '.join(parts)}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        raw = at.raw(self.column)
        text = raw if at.kinds[self.column] == TEXT else f"cast({raw} as string)"
        tests = [f"not {at.dialect.matches.format(text, at.value(self.pattern))}"] if self.pattern else []
        tests += [f"length({text}) < {self.shortest}"] if self.shortest is not None else []
        tests += [f"length({text}) > {self.longest}"] if self.longest is not None else []
        return " or ".join(tests) or "false"


@dataclass(frozen=True)
class Order(Rule):
    """One column is at most as large as another, in every row that has both."""

    kind = "order"
    holders = ("low", "high")
    low: str
    high: str

    def _says(self) -> str:
        return f"{self.low} is at most {self.high}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        return f"{at(self.low)} > {at(self.high)}"


@dataclass(frozen=True)
class Sum(Rule):
    """The parts add up to the whole, within `within`, in every row that has them all."""

    kind = "sum"
    holders = ("parts", "whole")
    parts: tuple[str, ...]
    whole: str
    within: float = 1e-6

    def _says(self) -> str:
        return f"{' + '.join(self.parts)} = {self.whole}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        return f"abs({' + '.join(at(c) for c in self.parts)} - {at(self.whole)}) > {self.within!r}"


@dataclass(frozen=True)
class Nulls(Rule):
    """The column is null wherever `other` is; and nowhere else, if `exactly`."""

    kind = "nulls"
    holders = ("column", "other")
    column: str
    other: str
    exactly: bool = False

    def _says(self) -> str:
        return (
            f"{self.column} is null {'exactly when' if self.exactly else 'whenever'} {self.other} is{but(self.share)}"
        )

    def _breaks(self, at: Reader, side: str) -> str:
        column, other = at.raw(self.column), at.raw(self.other)
        if self.exactly:
            return f"({column} is null) <> ({other} is null)"
        return f"{column} is not null and {other} is null"


@dataclass(frozen=True)
class Determines(Rule):
    """Rows with the same `by` have the same value; a row breaks it whose value is not that of most of them."""

    kind = "determines"
    holders = ("by", "column")
    by: tuple[str, ...]
    column: str

    def _says(self) -> str:
        return f"{listed(self.by)} says what {self.column} is{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        return f"{side}.__n is not null"

    def _beside(self, at: Reader, side: str) -> str:
        names = [at.dialect.quoted(c) for c in (*self.by, self.column)]
        made = ", ".join(f"{n} as __k{i}" for i, n in enumerate(names))
        filled = " and ".join(f"{n} is not null" for n in names)
        counted = (
            f"select {made}, count(*) as __n, sum(count(*)) over (partition by {', '.join(names[:-1])}) as __of "
            f"from {at.table} where {filled} group by {', '.join(names)}"
        )
        same = " and ".join(f"t.{n} = {side}.__k{i}" for i, n in enumerate(names))
        return f"left join (select * from ({counted}) where 2 * __n <= __of) {side} on {same}"


@dataclass(frozen=True)
class Reference(Rule):
    """Each value exists in column `other` of table `table`; null refers to nothing."""

    kind = "reference"
    column: str
    table: str
    other: str

    def _says(self) -> str:
        return f"each {self.column} is in {self.table}.{self.other}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        return f"{at.raw(self.column)} is not null and {side}.__known is null"

    def _beside(self, at: Reader, side: str) -> str:
        other = at.dialect.quoted(self.other)
        return (
            f"left join (select distinct {other} as __known from {at.others[self.table]}) {side} "
            f"on {at.raw(self.column)} = {side}.__known"
        )


@dataclass(frozen=True)
class Holds(Rule):
    """A condition in SQL, over the columns of `reads`, that is not false in any row; null counts as held."""

    kind = "holds"
    holders = ("reads",)
    condition: str
    reads: tuple[str, ...]

    def _says(self) -> str:
        return f"{self.condition}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        return f"not ({self.condition})"


def but(share: float) -> str:
    """What a rule that allows a share adds to its sentence."""
    return f", in all but {share_of(share)} of the rows" if share else ""


def share_of(share: float) -> str:
    """A share as sentences have it: 3.6 %."""
    return f"{share * 100:.3g} %"


def listed(columns: Sequence[str]) -> str:
    """Names as sentences have them: "a, b and c"."""
    *first, last = columns
    return f"{', '.join(first)} and {last}" if first else last
