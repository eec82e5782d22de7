"""What a contract can promise of a table along its clocks and as a whole: unit, steps, arrival, freshness, counts."""

from __future__ import annotations

from dataclasses import dataclass

from underhood.contract.rules import Reader, Rule, but, figure, listed, share_of
from underhood.plan.steps import span

PERIODS = ("hour", "day", "week", "month", "quarter", "year")


@dataclass(frozen=True)
class Unit(Rule):
    """The numbers are in `unit` (may be unknown: ""); `typical` are their quantiles at 5, 25, 50, 75 and 95 %.

    It breaks when the table's quantiles are those of the contract in another unit, see `other_unit`.
    """

    kind = "unit"
    column: str
    unit: str = ""
    typical: tuple[float, ...] = ()

    def _says(self) -> str:
        low, high = figure(self.typical[0]), figure(self.typical[-1])
        return f"{self.column} is in {self.unit or 'one unit'}, mostly {low} to {high}"

    def _query(self, at: Reader) -> str:
        column = at(self.column)
        marks = ", ".join(
            f"percentile_cont({q}) within group (order by cast({column} as double)) as {name}"
            for q, name in zip((0.05, 0.25, 0.5, 0.75, 0.95), "abcde", strict=True)
        )
        options = " ".join(
            f"when {self._fits(factor, shift)} then {at.value(says)}"
            for unit, says, factor, shift in CONVERSIONS
            if unit in ("", self.unit)
        )
        return (
            f"select what, n from (select case when {self._fits(1.0, 0.0, wide=True)} then null {options} end as what, "
            f"n from (select {marks}, count({column}) as n from {at.table} t)) where what is not null and n >= 50"
        )

    def _fits(self, factor: float, shift: float, wide: bool = False) -> str:
        """Whether the quantiles are those of the contract × factor + shift, within their spread."""
        was = [v * factor + shift for v in self.typical]
        width = abs(was[3] - was[1]) * (0.75 if wide else 0.25) + abs(was[2]) * 1e-9
        tests = [f"abs({name} - ({was[n]!r})) <= {width!r}" for n, name in ((1, "b"), (2, "c"), (3, "d"))]
        return " and ".join(tests)


# The unit that the contract says ("": any), what is said, factor, shift: the new value is the old × factor + shift.
CONVERSIONS: tuple[tuple[str, str, float, float], ...] = tuple(
    (old, f"looks like {new} instead of {old}", factor, shift)
    for old, new, factor, shift in (
        ("°F", "°C", 5 / 9, -160 / 9),
        ("°C", "°F", 1.8, 32.0),
        ("°C", "K", 1.0, 273.15),
        ("mph", "km/h", 1.609344, 0.0),
        ("km/h", "mph", 1 / 1.609344, 0.0),
        ("mph", "m/s", 0.44704, 0.0),
        ("km/h", "m/s", 1 / 3.6, 0.0),
        ("km", "miles", 1 / 1.609344, 0.0),
        ("miles", "km", 1.609344, 0.0),
        ("lb", "kg", 0.45359237, 0.0),
        ("kg", "lb", 1 / 0.45359237, 0.0),
        ("ft", "m", 0.3048, 0.0),
        ("m", "ft", 1 / 0.3048, 0.0),
        ("inches", "cm", 2.54, 0.0),
        ("inches", "mm", 25.4, 0.0),
    )
) + tuple(
    ("", f"looks like {says} of what it was", factor, 0.0)
    for says, factor in (
        *((f"{f:g} ×" if f > 1 else f"1/{round(1 / f):,}", f) for f in (10.0, 0.1, 100.0, 0.01, 1e3, 1e-3, 1e6, 1e-6)),
        *((f"{f} ×" if f > 1 else f"1/{round(1 / f):,}", f) for f in (60, 1 / 60, 3600, 1 / 3600)),
    )
)


@dataclass(frozen=True)
class Steps(Rule):
    """Moments follow each other by `every`, for each value of `by`; `share` of the steps may be missing."""

    kind = "steps"
    holders = ("clock", "by")
    clock: str
    every: str
    by: tuple[str, ...] = ()

    def _says(self) -> str:
        per = f"per {listed(self.by)} and " if self.by else "per "
        few = f", {share_of(self.share)} of the steps may be missing" if self.share else ", no step missing"
        return f"one moment {per}{self.every} of {self.clock}{few}"

    def _query(self, at: Reader) -> str:
        step = round(span(self.every, f"steps {self.clock}") * 1e6)
        moment = at.dialect.microseconds.format(at(self.clock))
        by = ", ".join(at.raw(c) for c in self.by)
        window = f"partition by {by} order by {at(self.clock)}" if by else f"order by {at(self.clock)}"
        gaps = (
            f"select {at(self.clock)} as until, {moment} as now_us, lag({moment}) over ({window}) as then_us "
            f"from {at.table} t where {at(self.clock)} is not null"
        )
        return (
            f"select concat('none in the ', cast(cast(floor((now_us - then_us) / {step}) - 1 as bigint) as string), "
            f"' steps before ', cast(until as string)) as what, cast(floor((now_us - then_us) / {step}) - 1 as bigint) "
            f"as n from (select *, sum(greatest(floor((now_us - then_us) / {step}) - 1, 0)) over () as missing, "
            f"count(*) over () as there from ({gaps})) where now_us - then_us >= 2 * {step} "
            f"and missing > {self.share!r} * (missing + there)"
        )


@dataclass(frozen=True)
class Fresh(Rule):
    """The newest moment of `clock` lies at most `within` before the check."""

    kind = "fresh"
    holders = ("clock",)
    clock: str
    within: str

    def _says(self) -> str:
        return f"the newest {self.clock} is at most {self.within} old"

    def _query(self, at: Reader) -> str:
        late = f"{at.dialect.microseconds.format(at.value(at.now))} - {at.dialect.microseconds.format('newest')}"
        most = round(span(self.within, f"fresh {self.clock}") * 1e6)
        return (
            f"select concat('the newest is ', cast(newest as string)) as what, 1 as n from "
            f"(select max({at(self.clock)}) as newest from {at.table} t) where newest is null or {late} > {most}"
        )


@dataclass(frozen=True)
class Arrival(Rule):
    """A row is known within `within` of when it happened, in all but `share` of the rows."""

    kind = "arrival"
    holders = ("happened", "known")
    happened: str
    known: str
    within: str

    def _says(self) -> str:
        return f"{self.known} is at most {self.within} after {self.happened}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        us = at.dialect.microseconds
        most = round(span(self.within, f"arrival {self.known}") * 1e6)
        return f"{us.format(at(self.known))} - {us.format(at(self.happened))} > {most}"


@dataclass(frozen=True)
class NeverFalls(Rule):
    """The number never falls from one row to the next along `along`, for each value of `by`: a running total."""

    kind = "never falls"
    holders = ("column", "along", "by")
    column: str
    along: str
    by: tuple[str, ...] = ()

    def _says(self) -> str:
        per = f" within {listed(self.by)}" if self.by else ""
        return f"{self.column} never falls along {self.along}{per}{but(self.share)}"

    def _breaks(self, at: Reader, side: str) -> str:
        by = f"partition by {', '.join(at.raw(c) for c in self.by)} " if self.by else ""
        return f"{at(self.column)} < lag({at(self.column)}) over ({by}order by {at(self.along)})"


@dataclass(frozen=True)
class Rows(Rule):
    """Each whole `period` of `clock` has `least` to `most` rows; the first and the last period may be cut off."""

    kind = "rows"
    holders = ("clock",)
    clock: str
    period: str
    least: int | None = None
    most: int | None = None

    def _says(self) -> str:
        if self.least is None or self.most is None:
            some = f"at most {figure(self.most)}" if self.least is None else f"{figure(self.least)} or more"
        else:
            some = f"{figure(self.least)} to {figure(self.most)}"
        return f"each {self.period} of {self.clock} has {some} rows{but(self.share).replace('rows', f'{self.period}s')}"

    def _query(self, at: Reader) -> str:
        moment = f"date_trunc('{self.period}', {at(self.clock)})"
        counted = f"select {moment} as period, count(*) as n from {at.table} t where {moment} is not null group by 1"
        tests = [f"n < {self.least}"] if self.least is not None else []
        tests += [f"n > {self.most}"] if self.most is not None else []
        inner = "select *, min(period) over () as first, max(period) over () as last, count(*) over () as periods"
        odd = f"select * from ({inner} from ({counted})) where period > first and period < last"
        return (
            f"select what, n from (select concat(cast(n as string), ' rows in the {self.period} of ', "
            f"substr(cast(period as string), 1, 16)) as what, n, count(*) over () as odd, periods from ({odd}) "
            f"where {' or '.join(tests) or 'false'}) where odd > {self.share!r} * periods order by what"
        )
