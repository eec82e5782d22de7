"""Names and constants as each engine's SQL writes them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

DUCKDB, SPARK = "duckdb", "spark"
# Whether '' and \ in a text are escapes, and whether ${…} is replaced, depends on the
# settings of a Spark session: a text with more than these is written as its bytes.
_SAME_IN_EVERY_SESSION = re.compile(r"[A-Za-z0-9 _.,:;@/+=()*!%\[\]^-]*")


def quoted(name: str, engine: str = DUCKDB) -> str:
    """A name as SQL writes it."""
    mark = "`" if engine == SPARK else '"'
    return mark + name.replace(mark, mark * 2) + mark


def sql_value(value: Any, engine: str = DUCKDB) -> str:
    """A constant as SQL writes it."""
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        # in parentheses: --1 would be a comment
        return f"({float(value)!r}D)" if engine == SPARK else f"({float(value)!r}::DOUBLE)"
    if isinstance(value, datetime):
        return f"{'TIMESTAMP_NTZ' if engine == SPARK else 'TIMESTAMP'} '{value.isoformat(sep=' ')}'"
    text = str(value)
    if engine == SPARK and not _SAME_IN_EVERY_SESSION.fullmatch(text):
        return f"cast(X'{text.encode().hex()}' as string)"
    return "'" + text.replace("'", "''") + "'"
