"""Tables in a terminal of 80 columns: what is wrong first, then a line a column with its shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from io import StringIO
from typing import Any

from rich.console import Console
from rich.text import Text

from underhood.ground.findings import Finding
from underhood.plan.operations import FLAG, NUMBER, TEXT, TIME
from underhood.signs.look import Look
from underhood.signs.statistics import Column, Profile, as_value, bars, names_rows

FIRST = 5  # findings on the first screen
MOST_COLUMNS = 40  # on one screen
SHAPE = 12  # characters
BLOCKS = "▁▂▃▄▅▆▇█"
_KINDS = {NUMBER: "num", TEXT: "text", TIME: "time", FLAG: "flag"}


def text_of(show: Callable[[Console], None]) -> str:
    """What a function shows, as text of 80 columns."""
    to = Console(width=80, file=StringIO(), highlight=False)
    show(to)
    file = to.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def show_look(to: Console, look: Look, is_all: bool = False) -> None:
    """The first screen: one table with its columns, or many with what is worst in each."""
    if len(look.tables) == 1:
        table = look.tables[0]
        _headline(to, look, table.name)
        show_findings(to, look.of(table.name), is_all, has_rows=bool(table.rows))
        to.print()
        n = len(table.columns)
        show_columns(to, look.profiles[table.name], n if is_all else MOST_COLUMNS)
        _show_unread(to, look)
        return
    for table in look.tables:
        _headline(to, look, table.name)
        show_findings(to, look.of(table.name), is_all, most=2, has_rows=bool(table.rows))
        if is_all:
            show_columns(to, look.profiles[table.name], len(table.columns))
        to.print()
    to.print(Text("columns and all findings of one table: underhood look FILE --all", "dim"))
    _show_unread(to, look)


def _show_unread(to: Console, look: Look) -> None:
    """What was to be looked at too, and why it could not be."""
    for each in (error for first in look.errors for error in (first, *first.also)):
        to.print(Text.assemble(("✗ ", "bold red"), f"{each.where}: {each.what}"))
        to.print(Text(f"  → {each.hint}", "dim"))


def _headline(to: Console, look: Look, name: str) -> None:
    table, profile = next(t for t in look.tables if t.name == name), look.profiles[name]
    line = Text(name, "bold")
    line.append(f"  {counted_in(table.rows, 'row')} × {counted_in(len(table.columns), 'column')}", "default")
    keys = names_rows(profile)
    if table.rows > 1 and all(c.is_exact for c in profile.columns.values()):
        line.append(f", one row per {' or '.join(keys[:2])}" if keys else ", no single column names the rows", "dim")
    to.print(line, overflow="ellipsis", no_wrap=True)
    if table.rejected:
        waits = "waits" if table.rejected == 1 else "wait"
        told = f'{counted_in(table.rejected, "line")} could not be read and {waits} in "{name} rejected"'
        to.print(Text(f"! {told}", "yellow"))
    for note in table.notes:
        to.print(Text(f"· {note}", "dim"))
    if not table.rows:
        to.print(Text("! it has no rows: nothing can be said about its values", "yellow"))


def show_findings(
    to: Console, findings: Sequence[Finding], is_all: bool = False, most: int = FIRST, has_rows: bool = True
) -> None:
    """Findings, most important first: the sentence, then how many rows and what to do."""
    shown = findings if is_all else findings[:most]
    for finding in shown:
        mark, style = mark_of(finding.severity)
        says = sentence(finding)
        lines = wrapped(says, to.width - 2) if is_all else in_short(says, to.width - 2, 2 if is_grave(finding) else 1)
        for n, line in enumerate(lines):
            to.print(Text.assemble((f"{mark} " if n == 0 else "  ", style), line), no_wrap=True)
        todo = f"{_extent(finding)}→ {finding.hint}"
        for line in wrapped(todo, to.width - 2) if is_all else in_short(todo, to.width - 2, 1):
            to.print(Text(f"  {line}", "dim"), no_wrap=True)
        if is_all and finding.query:
            to.print(Text(f"  {finding.query}", "dim italic"))
    if len(findings) > len(shown):
        to.print(Text(f"… {len(findings) - len(shown)} more: --all", "dim"))
    if not findings and has_rows:
        to.print(Text("✓ nothing found that looks wrong", "green"))


def _extent(finding: Finding) -> str:
    """How much of the table it concerns: rows, and columns if several are told of at once."""
    parts = [counted_in(finding.rows, "row")] if finding.rows else []
    if len(finding.columns) > 1 and "; " in finding.says:
        parts.append(f"{'in ' if parts else ''}{len(finding.columns)} columns")
    return " ".join(parts) + (" " if parts else "")


def in_short(text: str, width: int, lines: int) -> list[str]:
    """A sentence in at most so many lines, up to the last clause that fits."""
    whole = wrapped(text, width)
    if len(whole) <= lines:
        return whole
    kept = " ".join(whole[:lines])
    clauses = [m.start() for m in re.finditer("[:;,] ", kept) if m.start() >= width * (lines - 1) + 20]
    if clauses:
        return wrapped(kept[: clauses[-1]], width)
    return [*whole[: lines - 1], _cut(" ".join(whole[lines - 1 :]), width)]


def sentence(finding: Finding) -> str:
    """What a finding says, with the column that it is about."""
    first = finding.columns[0] if finding.columns else ""
    told = first and first not in finding.says
    return f"{', '.join(finding.columns[:3])}: {finding.says}" if told else finding.says


def mark_of(severity: float) -> tuple[str, str]:
    """A sign and its colour: almost surely wrong, very likely wrong, worth a look."""
    if severity >= 0.9:
        return "✗", "bold red"
    return ("!", "bold yellow") if severity >= 0.7 else ("·", "dim")


def is_grave(finding: Finding) -> bool:
    """Whether it is very likely wrong, and so worth more than a line."""
    return finding.severity >= 0.7


def show_columns(to: Console, profile: Profile, most: int = MOST_COLUMNS) -> None:
    """A line a column: kind, nulls, distinct values, shape, and its values in brief."""
    columns = list(profile.columns.values())[:most]
    nulls = [brief_share((c.nulls + c.not_finite) / c.rows) if c.nulls + c.not_finite else "" for c in columns]
    distinct = [distinct_of(c) for c in columns]
    widths = [
        min(22, max(6, *(len(c.name) for c in columns), 0)),
        max(4, *(len(n) for n in nulls), 0),
        max(8, *(len(n) for n in distinct), 0),
    ]
    rest = to.width - sum(widths) - SHAPE - 12
    head = (
        f"{'column':<{widths[0]}}  kind  {'null':>{widths[1]}}  {'distinct':>{widths[2]}}  {'shape':<{SHAPE}}  values"
    )
    to.print(Text(head, "dim"), no_wrap=True, overflow="ellipsis")
    for column, null, n in zip(columns, nulls, distinct, strict=True):
        is_empty = column.rows and column.filled * 2 < column.rows
        line = Text(f"{_cut(column.name, widths[0]):<{widths[0]}}  ", "bold")
        line.append(f"{_KINDS.get(column.kind, '…'):<4}  ", "dim")
        line.append(f"{null:>{widths[1]}}  ", "yellow" if is_empty else "default")
        line.append(f"{n:>{widths[2]}}  ", "default")
        line.append(f"{sparkline(column, SHAPE):<{SHAPE}}  ", "cyan")
        line.append(_cut(values_of(column, rest), rest), "default")
        to.print(line, no_wrap=True, overflow="ellipsis")
    if len(profile.columns) > most:
        to.print(Text(f"… {len(profile.columns) - most:,} more columns: --all", "dim"))


def distinct_of(column: Column) -> str:
    """How many values differ, with ~ if about; nothing for what is never looked into."""
    if column.kind not in _KINDS:
        return ""
    return f"{'' if column.is_exact else '~'}{column.distinct:,}"


def sparkline(column: Column, width: int) -> str:
    """The shape of a column: its histogram, or its most frequent values in turn."""
    if column.kind in (TEXT, FLAG) or column.histogram is None:
        heights = [float(n) for _, n in column.top[:width]] if column.has_all else []
    elif column.has_all and column.distinct <= width:
        values = sorted(column.top, key=lambda item: item[0])
        heights = [float(n) for _, n in values]
    else:
        heights, _, _ = bars(column, width)
    most = max(heights, default=0.0)
    if not most:
        return ""
    return "".join(BLOCKS[min(7, int(h / most * 7.999))] if h > 0.5 else " " for h in heights)


def values_of(column: Column, width: int = 80) -> str:
    """A column's values in brief: least · middle · most, or the most frequent with their share."""
    if not column.filled:
        return "nothing but nulls"
    if column.has_all and column.distinct == 1:
        return f"always {brief(column.top[0][0])}"
    if column.kind == NUMBER and column.has_all and column.distinct <= 3:
        return ", ".join(f"{_brief_in(column, v)} {brief_share(n / column.filled)}" for v, n in sorted(column.top))
    if column.kind in (NUMBER, TIME):
        ends = [_brief_in(column, column.least), _brief_in(column, column.most)]
        if column.kind == TIME:
            long = " … ".join(ends)
            return long if len(long) <= width else " … ".join(end[:10] for end in ends)
        unit = f" {column.unit}" if column.unit and "calendar" not in column.unit else ""
        return f"{ends[0]} · {_brief_in(column, column.quantiles.get(0.5))} · {ends[1]}{unit}"
    if column.top and column.top[0][1] > 0.02 * column.filled:
        parts = [
            f"{_cut(brief(v), min(24, max(6, width - 5)))} {brief_share(n / column.filled)}" for v, n in column.top[:6]
        ]
        fitting = [p for n, p in enumerate(parts[:3]) if n == 0 or len(", ".join(parts[: n + 1])) <= width]
        return ", ".join(fitting)
    return f"like {column.patterns[0][0]}" if column.patterns else ""


def _brief_in(column: Column, value: Any) -> str:
    """A value of a column; years and times of day are no quantities."""
    if "calendar" in column.unit and isinstance(value, (int, float)):
        return f"{value:.0f}"
    return brief(value)


def show_column(to: Console, column: Column, findings: Sequence[Finding]) -> None:
    """One column in depth: figures, shape, frequent values, patterns, and what was found about it."""
    to.print(Text.assemble((column.name, "bold"), f"  {column.sql_type}", (f"  {column.unit_why}", "dim")))
    nulls = f"{column.nulls:,} null ({brief_share(column.nulls / max(1, column.rows))})" if column.nulls else "no nulls"
    odd = f", {column.not_finite:,} not finite" if column.not_finite else ""
    about = "" if column.is_exact else "about "
    to.print(f"{counted_in(column.rows, 'row')}, {nulls}{odd}, {about}{column.distinct:,} distinct")
    if column.mean is not None and column.kind == NUMBER:
        to.print(f"mean {brief(column.mean)}, sd {brief(column.sd)}{f' {column.unit}' if column.unit else ''}")
    if column.quantiles:
        to.print("  ".join(f"[dim]{q:.0%}[/] {brief(v)}" for q, v in column.quantiles.items()))
    if column.longest is not None:
        to.print(f"{column.shortest} to {column.longest} characters")
    _show_bars(to, column)
    if column.patterns:
        to.print(
            Text(f"\npatterns{'' if column.shaped == column.filled else f', of {column.shaped:,} rows drawn'}", "dim")
        )
        for pattern, n in column.patterns[:8]:
            to.print(f"{n:>12,}  {brief_share(n / max(1, column.shaped)):>5}  ", Text(brief(pattern)), sep="")
    if findings:
        to.print()
        show_findings(to, findings, is_all=True)


def _show_bars(to: Console, column: Column) -> None:
    """The histogram in ten lines, and the frequent values, each with its bar."""
    heights, low, high = bars(column, 10)
    lines: list[tuple[str, float]] = []
    if heights and not (column.has_all and column.distinct <= 12):
        step = (high - low) / len(heights)
        ends = [brief(as_value(low + step * (n + 1), column)) for n in range(len(heights))]
        to.print(Text("\nvalues up to", "dim"))
        lines = list(zip([*ends[:-1], brief(column.most)], heights, strict=True))
        _show_lines(to, lines, column.filled)
    frequent = column.top[:12]
    if frequent and frequent[0][1] > 1:
        to.print(Text("\nmost frequent values" if not column.has_all or column.distinct > 12 else "\nvalues", "dim"))
        _show_lines(to, [(brief(v), float(n)) for v, n in frequent], column.filled)


def _show_lines(to: Console, lines: Sequence[tuple[str, float]], total: int) -> None:
    width = min(34, max(len(name) for name, _ in lines))
    most = max(n for _, n in lines) or 1
    for name, n in lines:
        bar = "█" * round(n / most * 24) or ("▏" if n else "")
        line = Text(f"{_cut(name, width):>{width}}  ")
        line.append(f"{bar:<24}", "cyan")
        line.append(f" {n:>11,.0f}  {brief_share(n / max(1, total)):>5}", "dim")
        to.print(line, no_wrap=True)


def brief(value: Any) -> str:
    """A value in a few characters: times without what is zero, numbers to four digits, texts on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return str(value.date()) if value.hour == value.minute == value.second == 0 else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**12 else f"{value:.3e}"
    if isinstance(value, float):
        if value and not 1e-4 <= abs(value) < 1e12:
            return f"{value:.3g}"
        return f"{value + 0.0:,.0f}" if abs(value) >= 10_000 or value == int(value) else f"{value:.4g}"
    text = str(value)
    cleaned = "".join(c if c.isprintable() else "␤" if c == "\n" else "·" for c in text)
    return f"'{cleaned}'" if cleaned != cleaned.strip() or not cleaned else cleaned


def brief_share(share: float) -> str:
    """A share in per cent, in at most four characters."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def counted_in(n: int, noun: str) -> str:
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def wrapped(text: str, width: int) -> list[str]:
    """A sentence in lines of at most `width` characters."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines
