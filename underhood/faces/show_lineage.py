"""Lineage and cleaning drawn for a terminal of 80 columns: trees, one value down to its rows, each step's effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from underhood.plan.lineage import ACTION, FEATURE, MONEY, VALUE, Node, Reached
from underhood.repair.trace import Grip, OpenedValue, Origin, SourceRow
from underhood.tables.cleaned import Cleaned, Effect, Without
from underhood.tables.matching import Match

MOST_LINES = 60
MOST_ROWS = 12


def show_opened_value(to: Console, opened: OpenedValue, is_whole: bool = False) -> None:
    """One value of one decision: how it is made, each part with its source rows as they were seen then."""
    to.print(f"[bold]{escape(opened.name)}[/] = [bold]{_value(opened.value)}[/]", end="")
    to.print(f"  {escape(opened.key)} [dim]asked {opened.asked_at[:16].replace('T', ' ')} UTC[/]", soft_wrap=True)
    if opened.made != opened.name:
        to.print(f"  made as {escape(opened.made)}")
    if opened.is_same:
        to.print("  [green]history, as known then, gives the same[/]")
    for origin in opened.origins:
        to.print()
        _origin(to, origin, is_whole)


def _origin(to: Console, origin: Origin, is_whole: bool) -> None:
    _line(to, f"[bold]{escape(origin.name)}[/] = {_value(origin.captured)}", escape(origin.says))
    if origin.captured != origin.again:
        to.print(f"  [red]history, as known then, gives {_value(origin.again)}[/]")
    if origin.how == "window":
        _line(to, " ", _summed(origin))
    elif not origin.rows and origin.how == "as of then":
        to.print("  [yellow]no row fresh enough and known by then[/]")
    shown = origin.rows if is_whole else origin.rows[:MOST_ROWS]
    if len(shown) == 1:
        _one_row(to, shown[0])
    elif shown:
        _many_rows(to, shown)
    if origin.n_rows > len(shown) > 1:
        hint = "; --all lists them" if not is_whole else ""
        to.print(f"  [dim]… and {origin.n_rows - len(shown):,} more rows{hint}[/]")


def _summed(origin: Origin) -> str:
    source = f" of {origin.rows[0].source} ({origin.rows[0].owner})" if origin.rows else ""
    hidden = sum(any(c.hidden_until for c in row.cells) for row in origin.rows)
    said = f"{origin.n_rows:,} rows{source} in the window"
    if hidden:
        of = f"of the first {len(origin.rows):,}, " if origin.n_rows > len(origin.rows) else ""
        said += f"; {of}{hidden:,} with something not known then"
    return f"{said}; {origin.sums}" if origin.sums else said


def _one_row(to: Console, row: SourceRow) -> None:
    to.print(f"  row {row.row:,} of {escape(row.file)} [dim]({escape(row.owner or 'no owner')})[/]  {escape(row.key)}")
    to.print(f"  [dim]happened {_moment(row.happened)}, known {_moment(row.known)} UTC[/]")
    for cell in row.cells:
        read = "" if cell.steps and cell.steps[0].startswith("derived") else _value(cell.read)
        steps = f" [yellow]{escape('; '.join(cell.steps))}[/]" if cell.steps else ""
        arrow = f" → {_value(cell.cleaned)}" if cell.steps else ""
        hidden = f" [red]unknown then, known {_until(cell.hidden_until)}[/]" if cell.hidden_until else ""
        _line(to, f"    {escape(cell.column)}", f"{read}{arrow}{steps}{hidden}".strip())


def _many_rows(to: Console, rows: Sequence[SourceRow]) -> None:
    columns = [c.column for c in rows[0].cells if not c.steps or not c.steps[0].startswith("derived")][:2]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    for name in ("row", "key", "happened", *columns, "part"):
        table.add_column(name, justify="right" if name in ("row", "part") else "left", overflow="fold")
    for row in rows:
        cells = {c.column: c for c in row.cells}
        values = [_seen(cells[c], row.happened) for c in columns]
        table.add_row(f"{row.row}", escape(row.key), _moment(row.happened)[5:], *values, _value(row.part))
    to.print(table)


def _seen(cell: Any, happened: str) -> str:
    if not cell.hidden_until:
        return _value(cell.seen)
    if cell.hidden_until == "never":
        return "[red]unknown[/]"
    return f"[red]unknown until {_moment(cell.hidden_until)[11 if cell.hidden_until[:10] == happened[:10] else 5 :]}[/]"


def show_reach(
    to: Console,
    node: Node,
    up: Sequence[Reached],
    down: Sequence[Reached],
    grip: Grip | None,
    cleaned: Sequence[tuple[str, Effect]],
    is_whole: bool = False,
) -> None:
    """One node with all that it comes from and all that it reaches, as trees; the end in figures."""
    facts = ", ".join(filter(None, [node.type, node.owner, f"known {node.known}" if node.known else ""]))
    to.print(f"[bold]{escape(_named(node))}[/]  [dim]{escape(facts)}[/]", soft_wrap=True)
    if node.made and node.made != node.name:
        to.print(f"  {escape(node.made)}")
    for source, effect in cleaned:
        _effect(to, effect, source)
    if up:
        to.print("\ncomes from  [dim]── value  ┄┄ influence[/]")
        _tree(to, node, up, is_whole, lambda r: r.edge.to)
    if down:
        to.print("\nreaches  [dim]── value  ┄┄ influence[/]")
        _tree(to, node, down, is_whole, lambda r: r.edge.origin)
    if grip is not None:
        _grip(to, node, down, grip)
    told = dict.fromkeys(r.node.owner for r in (*up, *down) if r.node.owner)
    if told:
        to.print(f"\nowners on the way: {escape(', '.join(told))}")


def _tree(to: Console, start: Node, reached: Sequence[Reached], is_whole: bool, parent_of: Any) -> None:
    """Each node once, below the one through which it is nearest."""
    below: dict[str, list[Reached]] = {}
    for each in reached:
        below.setdefault(parent_of(each), []).append(each)
    lines: list[Text] = []
    _branch(lines, below, start.id, "")
    most = len(lines) if is_whole else MOST_LINES
    for line in lines[:most]:
        line.truncate(to.width, overflow="ellipsis")
        to.print(line, no_wrap=True)
    if len(lines) > most:
        to.print(f"… and {len(lines) - most:,} more; --all shows them", style="dim")


def _branch(lines: list[Text], below: Mapping[str, Sequence[Reached]], at: str, indent: str) -> None:
    children = sorted(below.get(at, ()), key=lambda r: r.edge.how != VALUE)
    for n, child in enumerate(children):
        is_last = n == len(children) - 1
        stroke = ("└" if is_last else "├") + ("── " if child.edge.how == VALUE else "┄┄ ")
        line = Text(indent + stroke, "dim")
        line.append(_named(child.node), "bold" if child.node.kind in (FEATURE, ACTION, MONEY) else "")
        line.append(f"  {_said(child)}", "dim")
        lines.append(line)
        _branch(lines, below, child.node.id, indent + ("    " if is_last else "│   "))


def _named(node: Node) -> str:
    if node.kind == "column":
        return node.name
    if node.kind == "raw":
        return f"{node.name} as read"
    if node.kind == "rows":
        return f"rows of {node.name}"
    if node.kind in ("join", "money", "moment"):
        return node.name
    return f"{node.kind} {node.name}"


def _said(reached: Reached) -> str:
    node = reached.node
    how = reached.edge.via if node.kind not in (FEATURE, ACTION, MONEY) and reached.edge.via != node.name else ""
    made = node.made if node.made != node.name and node.kind not in ("rows", MONEY) else ""
    owner = node.owner if node.kind in ("column", "raw") else ""
    known = f"known {node.known}" if node.kind in ("column", "raw", "fact", "label", "join") and node.known else ""
    return ", ".join(filter(None, [how, made, owner, known]))


def _grip(to: Console, node: Node, down: Sequence[Reached], grip: Grip) -> None:
    features = [r.node.name for r in down if r.node.kind == FEATURE and r.how == VALUE]
    features = [node.name] if node.kind == FEATURE else features
    to.print(f"\nin [bold]{escape(grip.bundle)}[/], learned from {grip.training:,} rows")
    for name in features[:MOST_ROWS]:
        to.print(f"  {escape(name):<24} {grip.use.get(name, 'not in this bundle')}")
    if len(features) > MOST_ROWS:
        to.print(f"  [dim]… and {len(features) - MOST_ROWS:,} more features[/]")
    listed = ", ".join(f"{n:,} {a}" for a, n in grip.actions.items())
    to.print(f"  {grip.decisions:,} decisions: {escape(listed)}" if grip.decisions else "  nothing decided yet")
    if grip.money is not None:
        to.print(f"  cost per 1,000 decisions with a known outcome: {grip.money:,.0f}")


# --- cleaning ---


def show_cleaned(to: Console, all_cleaned: Sequence[Cleaned]) -> None:
    """Each source's cleaning, step by step, with what it changed or set aside."""
    for cleaned in all_cleaned:
        gone = cleaned.read - cleaned.kept
        said = f"{cleaned.read:,} rows read, {cleaned.kept:,} kept" + (f", {gone:,} set aside" if gone else "")
        to.print(f"[bold]{escape(cleaned.source)}[/]  [dim]{escape(cleaned.owner)}[/]  {said}")
        for effect in cleaned.effects:
            _effect(to, effect, cleaned.source)
        if not cleaned.effects:
            to.print("  nothing is cleaned")
        if gone:
            to.print(f"  [dim]see them: underhood query 'select * from \"removed {escape(cleaned.source)}\"'[/]")
    if not all_cleaned:
        to.print("no source is cleaned: source.clean(uh.clean.null_above(...), ...)")


def _effect(to: Console, effect: Effect, source: str) -> None:
    if effect.column:
        parts = [f"{effect.changed:,} of {effect.rows:,} values changed"]
        parts += [f"{effect.nulled:,} to null"] if effect.nulled else []
        parts += [f"{effect.filled:,} from null"] if effect.filled else []
        parts += [f"{effect.old_type or 'new'} → {effect.new_type}"] if effect.old_type != effect.new_type else []
    else:
        parts = [f"{effect.removed:,} of {effect.rows:,} rows set aside"]
    style = "yellow" if effect.changed or effect.removed else "green"
    _line(to, f"  [{style}]●[/] {escape(effect.step)}", ", ".join(parts))
    if effect.why:
        to.print(f"      [dim]{escape(effect.why)}[/]")
    for e in effect.top:
        what = f"{_value(e.before)} → {_value(e.after)}" if effect.column else _value(e.before)
        times = f"{e.rows:,} × " if e.rows > 1 else ""
        line = Text(f"      {times}{what}")
        line.append(f"  row {e.row:,}{', ' + e.key if e.key != str(e.row) else ''}", "dim")
        line.truncate(to.width, overflow="ellipsis")
        to.print(line, no_wrap=True)


def show_without(to: Console, source: str, without: Without, reached: Sequence[Reached]) -> None:
    """What would be without one step."""
    to.print(f"without [bold]{escape(without.step)}[/]: {without.kept:,} rows of {escape(source)}")
    for column, n in without.differ.items():
        to.print(f"  {n:>9,} values of {escape(column)} differ")
    for name, n in without.inputs.items():
        to.print(f"  {n:>9,} questions have another {escape(name)}")
    if without.questions is not None and not without.inputs:
        to.print("  no question would be put otherwise")
    features = [r.node.name for r in reached if r.node.kind == FEATURE]
    if features:
        _line(to, "  it reaches", escape(", ".join(features)))
    to.print("  [dim]nothing was changed; take the step out of the project file to undo it[/]")


def _line(to: Console, first: str, rest: str) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(first, rest)
    to.print(grid)


def _moment(text: str | None) -> str:
    return "never" if not text or text == "never" else text[:16].replace("T", " ")


def _until(text: str | None) -> str:
    return "never" if text in (None, "never") else f"from {_moment(text)}"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.6g}"
    return escape(repr(value) if isinstance(value, str) and value != value.strip() else str(value))


def show_matches(to: Console, matches: Sequence[Match], path: str) -> None:
    """How many names were matched, those to look at first, and where the table lies."""
    same = sum(m.likeness == 1 for m in matches)
    like = sum(bool(m.means) for m in matches) - same
    none = len(matches) - same - like
    to.print(f"{len(matches):,} names: {same:,} the same letters, {like:,} alike, {none:,} like none")
    doubtful = [m for m in matches if m.is_doubtful]
    rest = sorted((m for m in matches if m.means and m.likeness < 1), key=lambda m: m.likeness)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    for name in ("rows", "value", "means", "likeness", "or"):
        table.add_column(name, justify="right" if name in ("rows", "likeness") else "left", overflow="fold")
    for m in [*doubtful, *(m for m in rest if not m.is_doubtful)][:MOST_ROWS]:
        other = f"{m.runner_up} ({m.next:.2f})" if m.is_doubtful else ""
        table.add_row(f"{m.rows:,}", escape(m.value), escape(m.means), f"{m.likeness:.2f}", escape(other))
    if table.row_count:
        to.print("least sure first:", style="dim")
        to.print(table)
    to.print(f"written: {escape(path)}; read it, correct `means`, and use it: uh.clean.match(...)", soft_wrap=True)
