"""The commands that look: at tables, and at two of them side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from underhood.faces.answers import Face, answer, verb
from underhood.ground.errors import SourceError, nearest


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE…")
@click.option("--label", metavar="COLUMN", help="What a model is to foretell: columns that give it away are found.")
@click.option("--all", "is_all", is_flag=True, help="All findings, in full, with the query that shows each.")
@click.option("--column", metavar="NAME", help="One column in depth.")
@click.option("--html", "page", metavar="FILE", help="Write a page that stands alone: light, dark, printable.")
@verb
def look(
    face: Face, tables: tuple[str, ...], label: str | None, is_all: bool, column: str | None, page: str | None
) -> None:
    """Say what is in tables, and what is wrong with them.

    A TABLE is a file (CSV, Parquet, JSON lines, Arrow; zipped or not), a folder
    of them, a URL, or a table of a database: sqlite:///file.db#table. The most
    important finding comes first, each with its rows and what to do; then a line
    a column: kind, nulls, distinct values, shape, values (least · middle · most).

    \b
      underhood look bookings.parquet
      underhood look bookings.parquet --column adr
      underhood look data/ --all --html look.html
      underhood look bookings.parquet --label is_canceled --json
    """
    from underhood.faces import show_tables
    from underhood.faces.look_page import write_page
    from underhood.faces.reading import looked_at
    from underhood.ground.findings import finding_json
    from underhood.signs.statistics import profile_json

    seen = looked_at(tables, label=label, say=face.progress)
    if page:
        write_page(seen, Path(page))
    body: dict[str, Any] = {
        "tables": [
            {**profile_json(seen.profiles[t.name]), "origin": t.origin, "rejected": t.rejected} for t in seen.tables
        ],
        "findings": [finding_json(f) for f in seen.findings],
        "errors": [e.as_json() for e in seen.errors],
    }
    if column is None:
        answer(face, body, lambda to: show_tables.show_look(to, seen, is_all))
        _end(seen)
        return
    chosen = [(name, profile.columns[column]) for name, profile in seen.profiles.items() if column in profile.columns]
    if not chosen:
        known = {c for profile in seen.profiles.values() for c in profile.columns}
        raise SourceError(f"there is no column {column!r}", ", ".join(seen.profiles), nearest(column, known))
    body["tables"] = [{**t, "columns": [c for c in t["columns"] if c["name"] == column]} for t in body["tables"]]
    body["findings"] = [f for f in body["findings"] if column in f["columns"]]

    def show(to: Any) -> None:
        for name, each in chosen:
            show_tables.show_column(to, each, [f for f in seen.of(name) if column in f.columns])

    answer(face, body, show)
    _end(seen)


def _end(seen: Any) -> None:
    """Ends with exit code 1 if something could not be read."""
    if seen.errors:
        sys.exit(1)


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="ONE OTHER")
@click.option(
    "--by", multiple=True, metavar="COLUMN", help="A column that names the same row in both; may be repeated."
)
@click.option("--time", metavar="COLUMN", help="The column of time: what only follows it is not told as drift.")
@click.option("--at", metavar="MOMENT", help="With one table: its rows before this day or time beside the others.")
@click.option("--all", "is_all", is_flag=True, help="All moves, in full, with the query that shows each.")
@verb
def compare(
    face: Face, tables: tuple[str, ...], by: tuple[str, ...], time: str | None, at: str | None, is_all: bool
) -> None:
    """Say what moved from table ONE to table OTHER.

    Not only that a column moved, but how: by a factor or a shift, one value
    that stands for missing, a level under a new name, columns that were swapped,
    digits that were lost, a feed that is late, or a mixture in one cohort. Silent
    on two draws of the same. The most important comes first, with both shapes.

    
      underhood compare january.parquet february.parquet
      underhood compare train.csv test.csv --time asked_at
      underhood compare orders.parquet --time placed_at --at 2024-03-01
    """
    from underhood.faces.reading import compared_at, compared_with
    from underhood.faces.show_compare import comparison_json, show_comparison

    if at and time and len(tables) == 1:
        found = compared_at(tables[0], time, at, face.progress)
    elif len(tables) == 2 and not at:
        found = compared_with(*tables, by=by, time=time, say=face.progress)
    else:
        raise SourceError(
            "two tables are compared, or one at a moment", "compare", "give ONE OTHER, or ONE --time --at"
        )
    answer(face, comparison_json(found.comparison), lambda to: show_comparison(to, found, is_all))
