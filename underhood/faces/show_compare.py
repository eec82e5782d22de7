"""Two tables side by side in a terminal of 80 columns: what moved, most important first, with both shapes."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from underhood.faces.show_tables import BLOCKS, counted_in, in_short, mark_of, text_of, wrapped
from underhood.moves.moves import KINDS, Comparison, Move
from underhood.signs.statistics import Column, Profile, bars, bars_between

FIRST = 8  # moves on the first screen
WIDE = 24  # characters of a shape


@dataclass(frozen=True)
class Compared:
    """A comparison with the profiles of both tables; it prints as text."""

    comparison: Comparison
    before: Profile
    now: Profile

    def __str__(self) -> str:
        return text_of(lambda to: show_comparison(to, self))

    __repr__ = __str__


def show_comparison(to: Console, compared: Compared, is_all: bool = False) -> None:
    """What moved from one table to the other, how much, and what to do."""
    found = compared.comparison
    head = Text.assemble((found.one, "bold"), " → ", (found.other, "bold"))
    head.append(f"  {found.one_rows:,} → {counted_in(found.other_rows, 'row')}")
    to.print(head, overflow="ellipsis", no_wrap=True)
    if found.key:
        to.print(Text(f"{counted_in(found.aligned, 'row')} in both, by {', '.join(found.key)}", "dim"))
    for names, what in ((found.gained, "gained"), (found.lost, "lost")):
        if names:
            to.print(f"{what}: ", Text(", ".join(names)), sep="")
    for move in found.moves if is_all else found.moves[:FIRST]:
        _show_move(to, compared, move, is_all)
    if len(found.moves) > FIRST and not is_all:
        to.print(Text(f"… {len(found.moves) - FIRST} more: --all", "dim"))
    if not found.moves:
        n = len(found.quiet)
        to.print(Text(f"✓ nothing moved in {counted_in(n, 'column')}, beyond what two draws differ by", "green"))
    elif found.quiet:
        listed = wrapped(f"no move in {counted_in(len(found.quiet), 'column')}: {', '.join(found.quiet)}", to.width)
        for line in listed if is_all else in_short(" ".join(listed), to.width, 1):
            to.print(Text(line, "dim"))


def _show_move(to: Console, compared: Compared, move: Move, is_all: bool) -> None:
    mark, style = mark_of(move.severity)
    says = move.says if not move.columns or move.columns[0] in move.says else f"{', '.join(move.columns)}: {move.says}"
    lines = wrapped(says, to.width - 2) if is_all else in_short(says, to.width - 2, 2)
    for n, line in enumerate(lines):
        to.print(Text.assemble((f"{mark} " if n == 0 else "  ", style), line), no_wrap=True)
    if len(move.columns) == 1 and move.columns[0] in compared.before.columns:
        shapes = _shapes(compared.before.columns[move.columns[0]], compared.now.columns.get(move.columns[0]))
        if shapes:
            to.print(Text.assemble("  ", (shapes[0], "dim cyan"), (" → ", "dim"), (shapes[1], "cyan")), no_wrap=True)
    rows = f"{counted_in(move.rows, 'row')} " if move.rows else ""
    todo = f"{rows}→ {KINDS[move.kind][2]}"
    for line in wrapped(todo, to.width - 2) if is_all else in_short(todo, to.width - 2, 1):
        to.print(Text(f"  {line}", "dim"), no_wrap=True)
    if is_all and move.query:
        to.print(Text(f"  {move.query}", "dim italic"))


def _shapes(before: Column, now: Column | None) -> tuple[str, str] | None:
    """The same bins, or the same levels, of a column before and now."""
    if now is None or before.kind != now.kind or not before.filled or not now.filled:
        return None
    if before.histogram is not None and now.histogram is not None:
        _, low, high = bars(before, WIDE)
        _, low_now, high_now = bars(now, WIDE)
        span = min(low, low_now), max(high, high_now)
        heights = [bars_between(column, *span, WIDE) for column in (before, now)]
    elif before.has_all and now.has_all:
        a, b = dict(before.top), dict(now.top)
        levels = sorted({**a, **b}, key=lambda v: -(a.get(v, 0) / before.filled + b.get(v, 0) / now.filled))[:WIDE]
        heights = [[float(counts.get(v, 0)) for v in levels] for counts in (a, b)]
    else:
        return None
    most = max(max(h) / sum(h) for h in heights if sum(h)) if all(sum(h) for h in heights) else 0
    if not most:
        return None
    one, other = ("".join(_block(n / sum(h) / most) for n in h) for h in heights)
    return one, other


def _block(share: float) -> str:
    return BLOCKS[min(7, int(share * 7.999))] if share > 0 else " "


def comparison_json(found: Comparison) -> dict[str, object]:
    """A comparison as `--json` has it: the moves with their parameters, most important first."""
    moves = [
        {
            "columns": list(m.columns),
            "kind": m.kind,
            "says": m.says,
            "amount": dict(m.amount),
            "share": m.share,
            "where": m.where,
            "rows": m.rows,
            "p": m.p,
            "severity": m.severity,
            "query": m.query,
        }
        for m in found.moves
    ]
    return {
        "one": found.one,
        "other": found.other,
        "rows": [found.one_rows, found.other_rows],
        "gained": list(found.gained),
        "lost": list(found.lost),
        "retyped": [list(each) for each in found.retyped],
        "key": list(found.key),
        "aligned": found.aligned,
        "moves": moves,
        "quiet": list(found.quiet),
    }
