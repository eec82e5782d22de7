"""What is in tables as one page that stands alone: light and dark, printable, nothing fetched, nothing run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from underhood.faces.show_tables import brief, brief_share, counted_in, distinct_of, mark_of, sentence, values_of
from underhood.ground.errors import RecordError
from underhood.ground.findings import Finding
from underhood.signs.look import Look
from underhood.signs.statistics import Column, as_value, bars, names_rows

WIDE, HIGH, BINS = 240, 44, 40
_NAMES = {"✗": "bad", "!": "warn", "·": "dim"}


def write_page(look: Look, path: Path) -> Path:
    """Writes the page and returns where it is. Raises RecordError if it cannot be written."""
    part = path.with_suffix(".part")
    try:
        part.write_text(page(look), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise RecordError(
            f"cannot be written: {error.strerror}", str(path), "give another place with --html"
        ) from error
    return path


def page(look: Look) -> str:
    """The look as HTML text."""
    return _rendered(look, "look.html")


def fragment(look: Look) -> str:
    """The same to be shown inside another page, such as a notebook: in a frame of its own."""
    inside = Markup.escape(page(look))
    rows = sum(len(t.columns) for t in look.tables)
    height = min(900, 260 + 90 * len(look.findings[:5]) + 30 * rows)
    return f'<iframe srcdoc="{inside}" style="width:100%;height:{height}px;border:0" sandbox></iframe>'


def _rendered(look: Look, template: str) -> str:
    environment = Environment(
        loader=PackageLoader("underhood.faces"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["contains"] = lambda columns, name: name in columns
    environment.filters |= {"brief": brief, "share": brief_share, "values": values_of}
    environment.globals |= {"picture": picture, "count": counted_in, "kind_of_mark": kind_of_mark}
    environment.globals |= {"sentence": sentence, "breakable": breakable, "distinct_of": distinct_of}
    tables = [
        {
            "table": table,
            "profile": look.profiles[table.name],
            "columns": list(look.profiles[table.name].columns.values()),
            "findings": look.of(table.name),
            "keys": names_rows(look.profiles[table.name]),
        }
        for table in look.tables
    ]
    title = ", ".join(t.name for t in look.tables[:4]) + (" …" if len(look.tables) > 4 else "")
    told = {"n_findings": len(look.findings), "errors": [str(e) for e in look.errors]}
    return environment.get_template(template).render(title=title, tables=tables, **told)


def kind_of_mark(finding: Finding) -> str:
    """How severe a finding is: bad, warn or dim."""
    return _NAMES[mark_of(finding.severity)[0]]


def breakable(name: str) -> Markup:
    """A name that may go on in the next line after a separator, nowhere else if that can be helped."""
    return Markup("<wbr>").join(re.split(r"(?<=[_.\- ])", name))


def picture(column: Column) -> Markup:
    """The shape of a column: a histogram of numbers and times, bars of the most frequent values."""
    values = (
        sorted(column.top, key=lambda item: item[0]) if column.has_all and column.kind not in ("text", "flag") else []
    )
    if column.histogram is not None and not 0 < len(values) <= BINS:
        counts, low, high = bars(column, BINS)
        step = (high - low) / BINS
        told = [
            f"{brief(as_value(low + n * step, column))} … {brief(as_value(low + (n + 1) * step, column))}: {count:,.0f}"
            for n, count in enumerate(counts)
        ]
        return _bars(counts, told, f"histogram of {column.name}")
    top: Sequence[tuple[Any, int]] = values or (column.top[:24] if column.has_all else ())
    return _bars([float(n) for _, n in top], [f"{brief(v)}: {n:,}" for v, n in top], f"values of {column.name}")


def _bars(counts: Sequence[float], told: Sequence[str], label: str) -> Markup:
    most = max(counts, default=0.0)
    if not most:
        return Markup("")
    step = min(24.0, WIDE / len(counts))
    rects = [
        Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>').format(
            n * step, HIGH - max(1.0, count / most * HIGH), max(1.0, step - 1), max(1.0, count / most * HIGH), told[n]
        )
        for n, count in enumerate(counts)
        if count
    ]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDE, HIGH, label, Markup("").join(rects)
    )
