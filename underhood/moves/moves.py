"""What moved between two tables: its kind, its parameters, whom it concerns, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from underhood.ground.findings import Finding, ranked
from underhood.plan.render import quoted

ALPHA = 0.01  # of comparisons of two draws of one population that may report anything at all

# A move's kind: the class of its finding, how severe it is at full effect, what to do.
KINDS: Mapping[str, tuple[str, float, str]] = {
    "factor": ("unit_or_scale", 0.9, "divide by the factor where it applies, and put the unit into the contract"),
    "unit": ("unit_or_scale", 0.9, "convert to one unit, and put it into the contract"),
    "shift": ("unit_or_scale", 0.85, "take the shift off where it applies; ask what was recalibrated"),
    "sign": ("out_of_range", 0.85, "restore the sign, and put the range into the contract"),
    "clock": ("timezone_or_clock", 0.85, "convert to one time zone at the boundary"),
    "lag": ("timezone_or_clock", 0.85, "shift the feed back before joining it"),
    "value": ("sentinel", 0.85, "map the value to null, and ask what writes it"),
    "constant": ("constant_or_copy", 0.6, "see whether the value is stuck, or a rule replaced what varied"),
    "filled": ("missing_disguised", 0.85, "map the value back to null"),
    "emptied": ("drift_or_definition_change", 0.5, "see whether the value stood for missing"),
    "missing": ("drift_or_definition_change", 0.8, "ask the source why the values are gone"),
    "variant": ("category_variant", 0.85, "map the spellings to one level"),
    "renamed": ("category_variant", 0.8, "map the new level to the old one"),
    "new_level": ("drift_or_definition_change", 0.45, "decide what an unseen level means to the model"),
    "vanished_level": ("sampling_or_coverage", 0.85, "ask which rows were left out; rebuild from the source"),
    "swapped": ("swapped_or_misaligned", 0.9, "swap the columns back, and check them against each other"),
    "rounded": ("rounding_or_topcode", 0.6, "restore the type with the digits"),
    "clipped": ("rounding_or_topcode", 0.7, "find the limit's origin; values at it are only bounds"),
    "cut": ("sampling_or_coverage", 0.7, "ask which rows were left out"),
    "duplicates": ("duplicate_rows", 0.85, "dedupe, and look for a join that multiplies"),
    "format": ("type_or_format", 0.75, "parse both formats, or ask for one"),
    "retyped": ("type_or_format", 0.75, "find the values that do not parse"),
    "relation": ("swapped_or_misaligned", 0.7, "see whether the rows of one of them were put in another order"),
    "cells": ("drift_or_definition_change", 0.5, "read the cells; take the later version"),
    "lost_rows": ("sampling_or_coverage", 0.5, "ask by what rule the rows were chosen"),
    "renamed_column": ("type_or_format", 0.4, "map the name"),
    "span": ("drift_or_definition_change", 0.1, "nothing: the tables are of different times or ids"),
    "drift": ("drift_or_definition_change", 0.5, "no error by itself: reweight, retrain, or move the threshold"),
}


@dataclass(frozen=True)
class Move:
    """One thing that changed from `one` to `other`.

    `kind` is one of KINDS, `amount` its parameters by name (factor, shift, value,
    levels …). `share`: of the other table's rows (or of the cohort's) that it
    concerns. `where`: the cohort or the rows, a DuckDB predicate over the other
    table; None for all. `p`: chance of as much between two draws of one
    population, before correction (a move is told below ALPHA divided by the
    number of tests). `effect`: share of rows that would have to move, 0 to 1,
    above noise. `query` prints the evidence.
    """

    columns: tuple[str, ...]
    kind: str
    says: str
    amount: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    where: str | None = None
    rows: int | None = None
    p: float = 0.0
    effect: float = 1.0
    severity: float = 0.5
    query: str = ""


def severity_of(kind: str, effect: float) -> float:
    """How much it matters: the kind's own weight, less what a small effect takes off it."""
    most = KINDS[kind][1]
    return round(most * min(1.0, 0.75 + effect) if kind != "drift" else most * min(1.0, 0.3 + effect), 3)


@dataclass(frozen=True)
class Comparison:
    """Two tables side by side: `moves` from `one` to `other`, the most important first.

    `quiet`: shared columns without a move. `retyped`: (column, type in one, type
    in other). `key`: what aligned the rows, `aligned` how many; empty and 0 when
    the tables were compared as populations only. `told_below`: p below which a
    move is told, so that ALPHA holds for the whole comparison.
    """

    one: str
    other: str
    one_rows: int
    other_rows: int
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    moves: tuple[Move, ...] = ()
    quiet: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    aligned: int = 0
    told_below: float = ALPHA

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The moves as findings about the other table."""
        return ranked(
            Finding(
                self.other,
                move.columns,
                KINDS[move.kind][0],
                move.severity,
                move.says,
                move.where,
                move.rows,
                move.query,
                KINDS[move.kind][2],
                (self.one,),
            )
            for move in self.moves
        )


def number(value: float) -> str:
    """A number as people read it: 1,200, 0.0416, 1.15."""
    if value != value:
        return "nothing"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.6g}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(share: float) -> str:
    """A share in per cent, with a decimal below 10 %."""
    return f"{share:.0%}" if share >= 0.0995 or not share else f"{100 * share:.2g} %".replace(" %", "%")


def beside(one: str, other: str, figures: str, by: str = "", where: str = "") -> str:
    """A query that prints the same figures of both tables: one row each, or one for each value of `by`."""
    listed = f"{by}, " if by else ""
    kept = f" where {where}" if where else ""
    ending = f" group by {by}" if by else ""
    parts = [
        f"select {text(name)} as which, {listed}{figures} from {quoted(name)}{kept}{ending}" for name in (one, other)
    ]
    return " union all ".join(parts) + (" order by 2, 1" if by else "")


def text(value: str) -> str:
    """A text as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"
