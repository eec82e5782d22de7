"""What is wrong with a table, or worth knowing: one shape wherever it is found, the most important first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

# What a finding can be about, and the step to go back to when it is true.
CLASSES: Mapping[str, str] = {
    "sentinel": "clean",
    "out_of_range": "clean",
    "unit_or_scale": "clean",
    "duplicate_rows": "clean",
    "near_duplicate": "clean",
    "missing_period": "source",
    "missing_disguised": "clean",
    "missing_informative": "features",
    "constant_or_copy": "features",
    "key_violation": "contract",
    "join_gap": "join",
    "join_fanout": "join",
    "label_definition": "label",
    "label_censoring": "label",
    "label_error": "label",
    "leak": "features",
    "timezone_or_clock": "source",
    "category_variant": "clean",
    "type_or_format": "clean",
    "swapped_or_misaligned": "source",
    "rounding_or_topcode": "contract",
    "sampling_or_coverage": "source",
    "drift_or_definition_change": "source",
    "aggregate_mismatch": "source",
    "sensitive_or_proxy": "features",
    "real_event": "none",
    "other": "source",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a table, or worth knowing, with its evidence.

    `about` is one of CLASSES; `columns` are all in `table`, empty for what
    concerns the table as a whole. `severity` is between 0 and 1: what it would
    cost not to know it, times how sure it is. `says` is one sentence with a
    number. `where` is a DuckDB predicate over the table that selects the rows
    (null when it is not about particular rows), `rows` how many there are
    (null with `where`). `query` prints the evidence; tables go by their names.
    `hint` says what to do, `back_to` which earlier step to go back to, `also`
    the other tables that it takes to see it.
    """

    table: str
    columns: tuple[str, ...]
    about: str
    severity: float
    says: str
    where: str | None = None
    rows: int | None = None
    query: str = ""
    hint: str = ""
    also: tuple[str, ...] = ()

    @property
    def back_to(self) -> str:
        """The step to go back to: source, contract, clean, join, features, label; "none" for a real event."""
        return CLASSES[self.about]


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The most important first; equal ones in the order of table, class and columns."""
    return tuple(sorted(findings, key=lambda f: (-f.severity, f.table, f.about, f.columns)))


def finding_json(finding: Finding) -> dict[str, object]:
    """A finding as `--json` and the page have it."""
    return {**asdict(finding), "columns": list(finding.columns), "also": list(finding.also), "back_to": finding.back_to}
