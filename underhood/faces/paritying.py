"""The command that compares engines: every definition on sampled and on edge rows, and the rows that differ."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from underhood.faces.answers import Face, answer, bench, verb

_NAMES = {"duckdb": "DuckDB", "spark": "Spark"}
_SHOWN_ROWS = 3


@click.command()
@click.option("--engine", "wanted", type=click.Choice(["duckdb", "spark"]), multiple=True, help="Only this one.")
@click.option("--rows", "n_rows", type=click.IntRange(1), default=10_000, help="Rows of the questions; 10,000.")
@click.option("--mixed", "n_mixed", type=click.IntRange(0), default=10_000, help="Rows of edge values; 10,000.")
@verb
def parity(face: Face, wanted: tuple[str, ...], n_rows: int, n_mixed: int) -> None:
    """Compare each definition's values on all engines.

    Features are computed for rows of the questions and for rows made of edge
    values (nulls, zeros, extremes, odd letters, ends of years): by DuckDB as on
    history, by the Python function as for one request, and by Spark if pyspark
    is installed. Numbers may differ by 1e-12 of their size, for the last bit of
    a logarithm; anything else that differs is printed with its row, and the
    command ends with 1. A build does the same with fewer rows.
    """
    from underhood.build.trainset import fitted_plan
    from underhood.tables.parity import compare_plan
    from underhood.tables.spark import is_installed, local_session

    engines = wanted or (("duckdb", "spark") if is_installed() else ("duckdb",))
    with bench(face) as b:
        b.say("reading the questions")
        session = local_session() if "spark" in engines else None
        found = compare_plan(b.engine, fitted_plan(b.engine, b.plan), n_sampled=n_rows, n_mixed=n_mixed, spark=session)
        if session is not None:
            session.stop()
        differing = [d for d in found.differing if d["engine"] in engines]
        body = {
            "definitions": found.n_definitions,
            "rows": found.n_rows,
            "engines": [*engines, "python"],
            "differing_values": len(differing),
            "differing": differing[:100],
        }

        def show(to: Any) -> None:
            to.print(f"{found.n_definitions} features on {found.n_rows:,} rows of questions and edge values")
            for engine in engines:
                _show_engine(to, engine, [d for d in differing if d["engine"] == engine])
            if "spark" not in engines and not wanted:
                to.print("Spark was not asked: pip install 'underhood\\[spark]' and Java", style="dim")

        answer(face, body, show)
    if differing:
        sys.exit(1)


def _show_engine(to: Any, engine: str, differing: list[Mapping[str, Any]]) -> None:
    if not differing:
        to.print(f"[green]✓[/] {_NAMES[engine]} and Python give the same values")
        return
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for each in differing:
        by_name.setdefault(each["definition"], []).append(each)
    to.print(f"[red]✗[/] {_NAMES[engine]} and Python differ in {len(differing):,} values of {len(by_name)} features")
    for name, rows in by_name.items():
        to.print(f"  {name}: {len(rows):,} rows", markup=False)
        for each in rows[:_SHOWN_ROWS]:
            row = ", ".join(f"{column}={value!r}" for column, value in each["reads"].items())
            to.print(f"    {_NAMES[engine]} {each['sql']!r}, Python {each['python']!r}, for {row}", markup=False)
