"""What is wrong with a query that a person typed, in words, and the column that was meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from underhood.ground.errors import SourceError, nearest

# what the engine says of a name that it does not know: a column, or `a` of `a.b` written without quotes
_UNKNOWN = re.compile(r'Referenced (?:column|table) "(.+?)" not found|does not have a column named "(.+?)"')
_COLUMNS = "select table_name, column_name from duckdb_columns() where not internal"
_LIST = "list columns: select * from decisions limit 1"


def mistyped(said: str, sql: str, rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> SourceError:
    """The error for a query that the engine refused with `said`; `rows` answers a query that lists columns."""
    unknown = _UNKNOWN.search(said)
    if not unknown:
        return SourceError(said.strip().splitlines()[0], "query", _LIST)
    name = unknown[1] or unknown[2]
    columns = {column for table, column in rows(_COLUMNS) if re.search(rf"\b{re.escape(table)}\b", sql)}
    dotted = next((f"{name}.{part}" for part in re.findall(rf"\b{re.escape(name)}\.(\w+)", sql)), "")
    if dotted in columns:
        what = f"{dotted} is the name of one column, and is written without quotes"
        return SourceError(what, "query", f'write names with a dot in double quotes: "{dotted}"')
    return SourceError(f"there is no column {dotted or name!r}", "query", _meant(dotted or name, columns))


def _meant(name: str, columns: Iterable[str]) -> str:
    """The columns that end in the name, as they must be typed; else those most like it."""
    last = name.rpartition(".")[2].casefold()
    own = sorted(c for c in columns if c.rpartition(".")[2].casefold() == last)
    own.sort(key=lambda c: c.startswith("features."))  # what was asked before what was made of it
    if own:
        return "did you mean " + " or ".join(f'"{c}"' if "." in c else c for c in own[:3]) + "?"
    return nearest(name, columns)
