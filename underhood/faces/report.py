"""A case as one self-contained file: HTML, light and dark, printable, nothing fetched, nothing run; or Markdown.

The page is a template over the document's plain values; everything that came from
outside is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from underhood.faces.report_text import number, percent, render_text
from underhood.ground.errors import RecordError
from underhood.plan.changes import in_words

WIDE, HIGH = 860, 120


def write_report(document: Mapping[str, Any], path: Path, markdown: bool = False) -> Path:
    """Writes the report and returns where it is. Raises RecordError if it cannot be written."""
    part = path.with_suffix(".part")
    try:
        part.write_text(render_text(document) if markdown else render(document), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise RecordError(f"cannot be written: {error.strerror}", str(path), "give another place with --out") from error
    return path


def render(document: Mapping[str, Any]) -> str:
    """The report as HTML text."""
    environment = Environment(
        loader=PackageLoader("underhood.faces"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, in_words=in_words)
    environment.globals |= {"gauge": gauge, "bar": bar, "line": line}
    return environment.get_template("report.html").render(document)


def bar(share: float, kind: str = "data") -> Markup:
    """A bar for a share from 0 to 1."""
    width = max(0.0, min(1.0, share)) * 100
    box = 'class="b" viewBox="0 0 100 8" preserveAspectRatio="none" role="img"'
    return Markup(
        f'<svg {box} aria-label="{{}}"><rect class="ghost" width="100" height="8"/>'
        '<rect class="{}" width="{:.1f}" height="8"/></svg>'
    ).format(f"{share:.0%}", kind, width)


def gauge(low: float | None, high: float | None, value: Any) -> Markup:
    """Where a number lies: the usual range as a band, the value as a pointer, red if outside."""
    if low is None or high is None or not isinstance(value, (int, float)):
        return Markup("")
    width = (high - low) or 1.0
    at = max(-0.2, min(1.2, (value - low) / width))
    outside = not low <= value <= high
    return Markup(
        '<svg class="g" viewBox="-24 0 148 12" role="img" aria-label="{}"><rect class="ghost" x="0" y="3" width="100" '
        'height="6" rx="1"/><rect class="{}" x="{:.1f}" y="0" width="3" height="12"/></svg>'
    ).format(f"usual {low:.4g} to {high:.4g}, here {value:.4g}", "bad" if outside else "data", at * 100 - 1.5)


def _runs(marked: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """The first and last place of each run of marked ones: days in a row are one band."""
    for is_marked, run in groupby(range(len(marked)), key=lambda i: marked[i]):
        places = list(run)
        if is_marked:
            yield places[0], places[-1]


def line(days: Sequence[Sequence[Any]]) -> Markup:
    """Mean score and true share by day, with the days of the complaint marked."""
    if len(days) < 2:
        return Markup("")
    most = max([0.05] + [v for d in days for v in (d[2], d[3]) if v is not None])
    step = WIDE / (len(days) - 1)
    half = max(3.0, step / 2)

    def path(column: int) -> str:
        points = [
            f"{i * step:.1f},{HIGH - 14 - (HIGH - 24) * d[column] / most:.1f}"
            for i, d in enumerate(days)
            if d[column] is not None
        ]
        return "M" + "L".join(points) if points else ""

    parts = [
        Markup('<rect class="mark" x="{:.1f}" y="0" width="{:.1f}" height="{}"/>').format(
            max(0, first * step - half), (last - first) * step + 2 * half, HIGH - 14
        )
        for first, last in _runs([bool(d[4]) for d in days])
    ]
    parts.append(Markup('<path class="top" d="M0,10H{}"/><text x="0" y="8">{}</text>').format(WIDE, percent(most)))
    parts += [Markup('<path class="told" d="{}"/><path class="happened" d="{}"/>').format(path(2), path(3))]
    parts += [
        Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(i * step, HIGH - 2, anchor, days[i][0])
        for i, anchor in ((0, "start"), (len(days) - 1, "end"))
    ]
    return Markup(
        '<svg class="line" viewBox="0 0 {} {}" role="img" aria-label="mean score and true share by day">{}</svg>'
    ).format(WIDE, HIGH, Markup("").join(parts))
