"""What one writes after the dot: the methods of an expression, each an operation or a few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

from underhood.ground.errors import ProjectError
from underhood.plan.forms import parse_number, parse_time
from underhood.plan.operations import OPERATIONS


class Verbs:
    """Methods that make one expression of another; see docs/definitions.md for the whole list."""

    __slots__ = ()

    def then(self, op: str, *others: Any) -> Self:
        """The operation `op` on this and on others, which may be plain values."""
        raise NotImplementedError

    def form(self, op: str, *held: Any) -> Self:
        """The form `op` on this, with plain constants."""
        raise NotImplementedError

    # nulls, levels, ranges
    def is_null(self) -> Self:
        """True where there is no value; never null itself."""
        return self.then("is_null")

    def fill(self, *others: Any) -> Self:
        """The value, or the first of `others` that there is."""
        made = self
        for other in others:
            made = made.then("fill", other)
        return made

    def null_if(self, value: Any) -> Self:
        """The value, or null where it is this one."""
        return self.then("null_if", value)

    def isin(self, values: Iterable[Any]) -> Self:
        """Whether the value is one of `values`; null stays null."""
        return self.form("isin", tuple(values))

    def map(self, levels: Mapping[Any, Any]) -> Self:
        """The value that `levels` gives for this one; null where it gives none."""
        return self.form("map", tuple(levels.items()))

    def group(self, levels: Iterable[Any], other: Any) -> Self:
        """The value if it is one of `levels`, else `other`; null stays null."""
        return self.form("group", tuple(levels), other)

    def within(self, low: Any, high: Any) -> Self:
        """Whether from `low` to `high`, both included."""
        return self.then("within", low, high)

    def bucket(self, edges: Sequence[float]) -> Self:
        """The number of the bucket between ascending `edges`: 0 below the first, an edge belongs to the upper one."""
        if not edges or any(a >= b for a, b in pairwise(edges)):
            raise ProjectError(
                "bucket needs edges that ascend", str(self), "write them from the smallest up, each once"
            )
        return self.form("bucket", tuple(edges))

    # numbers
    def clip(self, low: float, high: float) -> Self:
        """The nearest value from `low` to `high`."""
        return self.then("greatest", low).then("least", high)

    def round(self, digits: int = 0) -> Self:
        """The nearest number with so many digits after the point; halves away from zero.

        Multiplied, rounded and divided: 1.005 is a little less than it looks and becomes 1.
        """
        if digits != int(digits) or not -15 <= digits <= 15:
            raise ProjectError(f"cannot round to {digits} digits", str(self), "a whole number from -15 to 15")
        scale = 10.0 ** abs(int(digits))
        if digits > 0:
            return self.then("mul", scale).then("round").then("div", scale)
        return self.then("div", scale).then("round").then("mul", scale) if digits else self.then("round")

    def power(self, exponent: Any) -> Self:
        """To this power; null outside the domain of real numbers."""
        return self.then("power", exponent)

    # text
    def contains(self, text: str) -> Self:
        """Whether `text` occurs in it."""
        return self.then("contains", text)

    def starts_with(self, text: str) -> Self:
        """Whether it begins with `text`."""
        return self.then("starts_with", text)

    def ends_with(self, text: str) -> Self:
        """Whether it ends with `text`."""
        return self.then("ends_with", text)

    def matches(self, pattern: str) -> Self:
        """Whether the whole text is like `pattern`, where * is any text and ? is one code point."""
        return self.form("matches", pattern)

    def replace(self, text: str, by: str) -> Self:
        """With `by` for each occurrence of `text`."""
        return self.then("replace", self._some(text, "replace"), by)

    def part(self, separator: str, index: int) -> Self:
        """The piece number `index`, from 0, between separators; null if there are fewer."""
        if not separator or index < 0 or index != int(index):
            raise ProjectError("part needs a separator and a whole index of 0 or more", str(self))
        return self.then("part", separator, index)

    def slice(self, start: int, length: int) -> Self:
        """`length` code points from number `start`, which counts from 0; fewer at the end."""
        return self.then("slice", self._whole(start, "slice"), self._whole(length, "slice"))

    def left(self, length: int) -> Self:
        """The first `length` code points, or all if there are fewer."""
        return self.slice(0, length)

    def right(self, length: int) -> Self:
        """The last `length` code points, or all if there are fewer."""
        if not length:
            raise ProjectError("right needs a length of 1 or more", str(self))
        return self.then("right", self._whole(length, "right"))

    def pad(self, length: int, mark: str = "0") -> Self:
        """Filled up on the left with `mark` to `length` code points; never cut."""
        if len(mark) != 1:
            raise ProjectError(f"{mark!r} is not one letter", str(self), 'pad(5, "0")')
        return self.then("pad", self._whole(length, "pad"), mark)

    def position(self, text: str) -> Self:
        """Where `text` first occurs, from 0; null if it does not."""
        return self.then("position", self._some(text, "position"))

    def count_of(self, text: str) -> Self:
        """How often `text` occurs, without overlaps."""
        return self.then("count_of", self._some(text, "count_of"))

    def parse_number(self, decimal: str = ".", thousands: str = "") -> Self:
        """The number that it writes with these separators, as in 1.234,50; null if it is none."""
        parse_number(decimal, thousands)
        return self.form("parse_number", decimal, thousands)

    def parse_time(self, form: str) -> Self:
        """The time (UTC) that it writes in a format such as "%d.%m.%Y %H:%M"; null if it does not."""
        parse_time(form)
        return self.form("parse_time", form)

    def hashed(self, buckets: int) -> Self:
        """A number from 0 to `buckets` - 1 made of its MD5, for levels without end."""
        if buckets != int(buckets) or not 1 <= buckets <= 2**31:
            raise ProjectError(f"cannot make {buckets} buckets", str(self), "a whole number from 1 to 2**31")
        return self.form("hashed", int(buckets))

    # times and spans
    def is_weekend(self) -> Self:
        """Whether Saturday or Sunday (UTC)."""
        return self.then("weekday").then("ge", 5)

    def start_of(self, unit: str) -> Self:
        """The first moment (UTC) of its hour, day, week (from Monday), month, quarter or year."""
        if f"start_of_{unit}" not in OPERATIONS:
            raise ProjectError(f"there is no start of {unit!r}", str(self), "hour, day, week, month, quarter or year")
        return self.then(f"start_of_{unit}")

    def add_months(self, months: Any) -> Self:
        """So many whole months later, at the last day of a shorter month."""
        return self.then("add_months", months)

    def days_since(self, other: Self) -> Self:
        """How many midnights (UTC) lie between another time and this one."""
        return self.start_of("day").then("minus", other.start_of("day")).days()

    def minutes(self) -> Self:
        """A span in minutes."""
        return self.then("in_seconds").then("div", 60)

    def hours(self) -> Self:
        """A span in hours."""
        return self.then("in_seconds").then("div", 3600)

    def days(self) -> Self:
        """A span in days."""
        return self.then("in_seconds").then("div", 86400)

    def _some(self, text: str, op: str) -> str:
        if not text:
            raise ProjectError(f"{op} needs a text of one letter or more", str(self))
        return text

    def _whole(self, number: int, op: str) -> int:
        if number != int(number) or not 0 <= number <= 10_000:
            raise ProjectError(f"{op} needs whole numbers from 0 to 10,000", str(self))
        return int(number)


def _unary(name: str) -> Callable[[Verbs], Verbs]:
    def method(self: Verbs) -> Verbs:
        return self.then(name)

    method.__name__, method.__doc__ = name, f"{OPERATIONS[name].about[:1].upper()}{OPERATIONS[name].about[1:]}."
    return method


_PLAIN = (
    "ln log10 exp sqrt sin cos floor ceil abs sign as_number lower upper strip collapse length is_digits to_number "
    "to_text second minute hour weekday day week month quarter year day_of_year"
)
for _name in _PLAIN.split():
    setattr(Verbs, _name, _unary(_name))
