"""The tables that a project is to be made of, opened as it will read them: nulls as nulls, taken names renamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from underhood.ground.errors import UnderhoodError, raise_all
from underhood.plan.operations import TEXT
from underhood.plan.render import quoted, sql_value
from underhood.plan.steps import RESERVED
from underhood.tables.databases import is_database
from underhood.tables.frames import Table, described, open_folder, open_table
from underhood.tables.local import Engine

READ = (".csv", ".parquet", ".zip")  # what a project's source may be; anything else is copied
NO_VALUE = ("NA", "N/A", "n/a", "NULL", "null", "None", "NaN", "nan", "?", "-", "#N/A", "\\N", ".")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Opened:
    """Tables as a project will read them. `nulls` lists by table the texts that stand for no value.

    `copies` says of tables that a project cannot read as they are, what their copy in Parquet is.
    """

    tables: tuple[Table, ...]
    nulls: Mapping[str, tuple[str, ...]]
    copies: Mapping[str, str]


def open_all(engine: Engine, what: Sequence[str | Path], copies: Path, say: Say = lambda line: None) -> Opened:
    """Opens files, folders of files and databases. Raises SourceError with all that cannot be read.

    A table of a database, and one with a column named label, key, score, action or asked_at,
    names that Underhood adds itself, is to be read from a copy in the folder `copies`.
    """
    found: list[Table] = []
    errors: list[UnderhoodError] = []
    for each in map(str, what):
        try:
            if is_database(each) or Path(each).is_dir():
                found += open_folder(engine, each, say)
            else:
                found.append(open_table(engine, each))
        except UnderhoodError as error:
            errors.append(error)
    raise_all(errors)
    tables: list[Table] = []
    nulls: dict[str, tuple[str, ...]] = {}
    copied: dict[str, str] = {}
    for table in found:
        words = _words_for_nothing(engine, table) if table.origin.endswith((".csv", ".zip")) else {}
        if words:
            table = _with_nulls(engine, table, words)
            nulls[table.name] = tuple(sorted({w for listed in words.values() for w in listed[0]}))
        taken = [c for c in table.columns if c.casefold() in RESERVED]
        if taken or not (table.origin.endswith(READ) and Path(table.origin).is_file()):
            nulls.pop(table.name, None)
            origin, table = table.origin, _renamed(engine, table, taken, copies)
            called = f" with other names: {', '.join(f'{c} is {c}_' for c in taken)}" if taken else ""
            copied[table.name] = f"{table.origin} is a copy of {origin}{called}"
        tables.append(table)
    return Opened(tuple(tables), nulls, copied)


def write_copy(engine: Engine, table: Table) -> None:
    """Writes a table as Parquet to where its `origin` says."""
    Path(table.origin).parent.mkdir(parents=True, exist_ok=True)
    engine.run(f"copy {quoted(table.name)} to {sql_value(table.origin)} (format parquet)")


def _words_for_nothing(engine: Engine, table: Table) -> dict[str, tuple[list[str], str]]:
    """By text column: the words for "no value" that keep it from being numbers or times, and the type without them."""
    found: dict[str, tuple[list[str], str]] = {}
    listed = ", ".join(sql_value(w) for w in NO_VALUE)
    for name in [c for c, kind in table.kinds.items() if kind == TEXT]:
        column = quoted(name)
        is_word = f"{column} in ({listed})"
        words, others, numbers, moments = engine.rows(
            f"select list(distinct {column}) filter ({is_word}), count(*) filter (not {is_word}), "
            f"count(*) filter (not {is_word} and try_cast({column} as DOUBLE) is not null), "
            f"count(*) filter (not {is_word} and try_cast({column} as TIMESTAMP) is not null) "
            f"from {quoted(table.name)}"
        )[0]
        if words and others and max(numbers, moments) == others:
            found[name] = (words, "DOUBLE" if numbers == others else "TIMESTAMP")
    return found


def _with_nulls(engine: Engine, table: Table, words: Mapping[str, tuple[list[str], str]]) -> Table:
    made = ", ".join(f"try_cast({quoted(c)} as {kind}) as {quoted(c)}" for c, (_, kind) in words.items())
    return _over(engine, table, f"select * replace ({made})", "as text")


def _renamed(engine: Engine, table: Table, taken: Sequence[str], copies: Path) -> Table:
    renames = ", ".join(f"{quoted(c)} as {quoted(c + '_')}" for c in taken)
    made = _over(engine, table, f"select * rename ({renames})", "as named there") if taken else table
    return replace(made, origin=str(copies / f"{table.name}.parquet"))


def _over(engine: Engine, table: Table, select: str, before: str) -> Table:
    """The table behind another view of it, under the same name."""
    inner = f"{table.name} {before}"
    engine.run(f"alter view {quoted(table.name)} rename to {quoted(inner)}")
    engine.view(table.name, f"{select} from {quoted(inner)}")
    return replace(described(engine, table.name, table.origin), rejected=table.rejected, notes=table.notes)
