"""The five kinds of values, and what an operation is: one pinned meaning, one template an engine."""

from __future__ import annotations

from dataclasses import dataclass

NUMBER, FLAG, TEXT, TIME, SPAN, ANY, SAME = "number", "flag", "text", "time", "span", "any", "same"
TYPES = (NUMBER, FLAG, TEXT, TIME, SPAN)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: argument types, result type, a template for each engine, how it reads, what it means.

    `python` templates see arguments that are not null; what they call stands in
    meanings.py. `finite` results that overflow become null. On Spark a number is
    a DOUBLE, a time a TIMESTAMP_NTZ in UTC. {0}, {1} … are the arguments, then
    what is `held`: constants that only the Python template sees.
    """

    takes: tuple[str, ...]
    gives: str
    duckdb: str
    spark: str
    python: str
    shown: str
    about: str = ""
    finite: bool = False
    held: tuple[object, ...] = ()


def binary(symbol: str, takes: str, gives: str, about: str, python: str = "", finite: bool = False) -> Operation:
    """An operation that stands between its two arguments."""
    sql = f"({{0}} {symbol} {{1}})"
    read = f"({{0}} {python or symbol} {{1}})"
    return Operation((takes, takes), gives, sql, sql, read, f"{{0}} {symbol} {{1}}", about, finite)


def alike(takes: tuple[str, ...], gives: str, sql: str, python: str, shown: str, about: str) -> Operation:
    """An operation that both engines write alike."""
    return Operation(takes, gives, sql, sql, python, shown, about)
