"""The operations on times and spans. Times are UTC; the day of the week counts from Monday = 0."""

from __future__ import annotations

from collections.abc import Mapping

from underhood.plan.kinds import NUMBER, SPAN, TIME, Operation, alike

SPARK_ZERO = "TIMESTAMP_NTZ '1970-01-01 00:00:00'"
SPARK_TICK = "INTERVAL '0.000001' SECOND"
_SPARK_US = f"(({{0}} - {SPARK_ZERO}) div {SPARK_TICK})"
_LEAST_US, _MOST_US = -62135596800000000, 253402300799999999  # years 1 to 9999


def _field(name: str, duckdb: str, spark: str, python: str, about: str) -> Operation:
    """A number read from a time."""
    return Operation((TIME,), NUMBER, f"{duckdb}::DOUBLE", f"cast({spark} as double)", python, f"{name}({{0}})", about)


def _start(unit: str, spark: str, python: str) -> Operation:
    return Operation(
        (TIME,),
        TIME,
        f"date_trunc('{unit}', {{0}})::TIMESTAMP",
        spark,
        python,
        f"start of {unit}({{0}})",
        f"the first moment of the {unit} (UTC)" + (", from Monday" if unit == "week" else ""),
    )


def _spark_start(unit: str) -> str:
    return f"cast(trunc(cast({{0}} as date), '{unit}') as timestamp_ntz)"


TIMES: Mapping[str, Operation] = {
    "second": _field("second", "second({0})", "second({0})", "float({0}.second)", "the second of the minute"),
    "minute": _field("minute", "minute({0})", "minute({0})", "float({0}.minute)", "the minute of the hour"),
    "hour": _field("hour", "hour({0})", "hour({0})", "float({0}.hour)", "the hour of the day"),
    "weekday": _field(
        "weekday", "(isodow({0}) - 1)", "weekday(cast({0} as date))", "float({0}.weekday())", "0 is Monday, 6 Sunday"
    ),
    "day": _field("day", "day({0})", "day(cast({0} as date))", "float({0}.day)", "the day of the month"),
    "week": _field(
        "week", "week({0})", "weekofyear(cast({0} as date))", "float({0}.isocalendar()[1])", "the week by ISO 8601"
    ),
    "month": _field("month", "month({0})", "month(cast({0} as date))", "float({0}.month)", "the month, from 1"),
    "quarter": _field(
        "quarter", "quarter({0})", "quarter(cast({0} as date))", "float(({0}.month + 2) // 3)", "the quarter, from 1"
    ),
    "year": _field("year", "year({0})", "year(cast({0} as date))", "float({0}.year)", "the year"),
    "day_of_year": _field(
        "day_of_year",
        "dayofyear({0})",
        "dayofyear(cast({0} as date))",
        "float({0}.timetuple()[7])",
        "the day of the year, from 1",
    ),
    "start_of_hour": _start(
        "hour",
        f"({SPARK_ZERO} + ({_SPARK_US} - pmod({_SPARK_US}, 3600000000)) * {SPARK_TICK})",
        "{0}.replace(minute=0, second=0, microsecond=0)",
    ),
    "start_of_day": _start("day", "cast(cast({0} as date) as timestamp_ntz)", "start_of_day({0})"),
    "start_of_week": _start("week", _spark_start("WEEK"), "start_of_week({0})"),
    "start_of_month": _start("month", _spark_start("MONTH"), "start_of_day({0}).replace(day=1)"),
    "start_of_quarter": _start(
        "quarter",
        _spark_start("QUARTER"),
        "start_of_day({0}).replace(day=1, month=({0}.month - 1) // 3 * 3 + 1)",
    ),
    "start_of_year": _start("year", _spark_start("YEAR"), "start_of_day({0}).replace(day=1, month=1)"),
    "date": Operation(
        (NUMBER, NUMBER, NUMBER),
        TIME,
        "(case when {0} between 1 and 9999 and {1} between 1 and 12 and {2} between 1 and 31 "
        "and floor({0}) = {0} and floor({1}) = {1} and floor({2}) = {2} then try_cast("
        "printf('%04d-%02d-%02d', {0}::BIGINT, {1}::BIGINT, {2}::BIGINT) as TIMESTAMP) end)",
        "(case when {0} >= 1 and {0} <= 9999 and {1} >= 1 and {1} <= 12 and {2} >= 1 and {2} <= 31 "
        "and {0} % 1D = 0D and {1} % 1D = 0D and {2} % 1D = 0D then cast(try_cast("
        "format_string('%04d-%02d-%02d', cast({0} as int), cast({1} as int), cast({2} as int)) as date) "
        "as timestamp_ntz) end)",
        "date({0}, {1}, {2})",
        "date({0}, {1}, {2})",
        "midnight UTC of a day given as three numbers; null if there is no such day",
    ),
    "add_months": Operation(
        (TIME, NUMBER),
        TIME,
        "(case when abs({1}) < 120000 and floor({1}) = {1} "
        "and year({0}) * 12 + month({0}) - 1 + {1} between 12 and 119999 then {0} + to_months({1}::INT) end)",
        "(case when abs({1}) < 120000 and {1} % 1D = 0D then case "
        "when year(cast({0} as date)) * 12 + month(cast({0} as date)) - 1 + {1} >= 12 "
        "and year(cast({0} as date)) * 12 + month(cast({0} as date)) - 1 + {1} <= 119999 "
        "then {0} + make_ym_interval(0, cast({1} as int)) end end)",
        "add_months({0}, {1})",
        "add_months({0}, {1})",
        "the same day and time so many months later, or the last day of a shorter month",
    ),
    "later": Operation(
        (TIME, SPAN),
        TIME,
        "(case when abs({1}) < 4e11 and epoch_us({0}) + round({1} * 1e6)::BIGINT "
        f"between {_LEAST_US} and {_MOST_US} "
        "then make_timestamp(epoch_us({0}) + round({1} * 1e6)::BIGINT) end)",
        f"(case when abs({{1}}) < 4e11D then case when {_SPARK_US} + cast(round({{1}} * 1e6D) as bigint) "
        f">= {_LEAST_US} and {_SPARK_US} + cast(round({{1}} * 1e6D) as bigint) <= {_MOST_US} "
        f"then {{0}} + cast(round({{1}} * 1e6D) as bigint) * {SPARK_TICK} end end)",
        "later({0}, {1})",
        "{0} + {1}",
        "a time and a span, rounded to microseconds; null outside the years 1 to 9999",
    ),
    "between": Operation(
        (TIME, TIME),
        SPAN,
        "((epoch_us({0}) - epoch_us({1})) / 1e6)",
        f"(cast(({{0}} - {{1}}) div {SPARK_TICK} as double) / 1e6D)",
        "(({0} - {1}) // MICROSECOND / 1e6)",
        "{0} - {1}",
        "the span from the second time to the first",
    ),
    "seconds": alike((NUMBER,), SPAN, "{0}", "{0}", "seconds({0})", "a span of so many seconds"),
    "in_seconds": alike((SPAN,), NUMBER, "{0}", "{0}", "seconds({0})", "a span in seconds"),
}
