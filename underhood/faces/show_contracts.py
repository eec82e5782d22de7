"""Contracts in a terminal of 80 columns: the sentence of each rule, what breaks it, what a change reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from underhood.contract.contract import Contract
from underhood.contract.foreign_rules import Imported
from underhood.contract.impedance import BREAKS, CHANGES, HARMLESS, Effect
from underhood.contract.rules import Type
from underhood.ground.findings import Finding
from underhood.tables.quarantine import Checked, Held

MOST_FINDINGS, MOST_REACHED = 8, 6
_STYLE = {BREAKS: ("✗", "red"), CHANGES: ("!", "yellow"), HARMLESS: ("·", "dim")}


def show_contract(to: Console, contract: Contract) -> None:
    """Its head, then each column with its rules as sentences and their evidence, then the rules of the table."""
    edited = " [yellow](changed by hand since)[/]" if contract.frozen not in ("", contract.digest) else ""
    owner = f", owner {escape(contract.owner)}" if contract.owner else ", no owner yet"
    to.print(
        f"[bold]{escape(contract.table)}[/] version {contract.version}{owner}, {len(contract.rules)} rules{edited}"
    )
    if contract.about:
        to.print(escape(contract.about), style="dim")
    told: set[int] = set()
    for column in contract.columns:
        own = [(n, r) for n, r in enumerate(contract.rules) if r.columns == (column,)]
        told |= {n for n, _ in own}
        kind = next((r.type for _, r in own if isinstance(r, Type)), "")
        to.print(f"[bold]{escape(column)}[/] [dim]{kind}[/]")
        for _, rule in own:
            if not isinstance(rule, Type):
                _rule(to, rule.says().removeprefix(column).strip(), rule.evidence)
    rest = [r for n, r in enumerate(contract.rules) if n not in told]
    if rest:
        to.print("[bold]the table[/]")
    for rule in rest:
        _rule(to, rule.says(), rule.evidence)


def _rule(to: Console, says: str, evidence: str) -> None:
    line = Text(says)
    if evidence:
        line.append(f"  {evidence.splitlines()[0]}", "dim")
    to.print(Padding(line, (0, 0, 0, 2)))


def show_proposed(to: Console, contract: Contract, findings: Sequence[Finding], path: str) -> None:
    """The contract, what breaks it already, and where it was written."""
    show_contract(to, contract)
    to.print()
    for finding in findings[:MOST_FINDINGS]:
        _hanging(to, "[red]✗[/]" if finding.severity >= 0.7 else "[yellow]![/]", escape(finding.says))
    more = len(findings) - MOST_FINDINGS
    if more > 0:
        to.print(f"  [dim]and {more} more; --json has all[/]")
    kept = "none of its rows breaks it" if not findings else "the rows above are not taken into its rules"
    to.print(f"frozen as version {contract.version} in [bold]{escape(path)}[/]; {kept}")


def show_checked(to: Console, checked: Checked, quarantine: str | None) -> None:
    """Each broken rule with its first rows, then what held and what could not be checked."""
    for held in checked.broken:
        n = f" [dim]{_many(held)}[/]" if held.broken is not None else ""
        _hanging(to, "[red]✗[/]", f"{escape(held.rule.says())}{n}")
        for first in held.first:
            to.print(Padding(Text(first, "dim"), (0, 0, 0, 4)))
    for held in checked.held:
        if held.skipped:
            _hanging(to, "[yellow]·[/]", f"{escape(held.rule.says())} [dim]not checked: {escape(held.skipped)}[/]")
    for column in checked.new:
        _hanging(to, "[dim]+[/]", f"{escape(column)} is not in the contract")
    good = sum(h.holds for h in checked.held)
    to.print(f"{good} of {len(checked.held)} rules hold in {checked.rows:,} rows", end="")
    to.print(f"; {checked.aside:,} rows break one" + (f", written to {escape(quarantine)}" if quarantine else ""))


def _many(held: Held) -> str:
    what = "row" if held.rule.is_about_rows else "time"
    return f"{held.broken:,} {what}{'' if held.broken == 1 else 's'}"


def show_effects(to: Console, effects: Sequence[Effect], source: str, has_project: bool) -> None:
    """Each change, the worst first, with what it reaches and whom to tell."""
    for effect in effects:
        mark, style = _STYLE[effect.severity]
        why = f" [dim]({escape(effect.change.evidence)})[/]" if effect.change.evidence else ""
        _hanging(to, f"[{style}]{mark}[/]", f"[{style}]{effect.severity}[/] {escape(effect.change.says)}{why}")
        reached = [f"{r.node.kind} {r.node.name}" for r in effect.reaches]
        if reached:
            more = f" and {len(reached) - MOST_REACHED} more" if len(reached) > MOST_REACHED else ""
            whom = f"; tell {', '.join(effect.owners)}" if effect.owners else ""
            to.print(Padding(Text(f"reaches {', '.join(reached[:MOST_REACHED])}{more}{whom}", "dim"), (0, 0, 0, 4)))
        elif has_project and effect.change.severity != HARMLESS:
            to.print(Padding(Text("nothing uses it", "dim"), (0, 0, 0, 4)))
    if not effects:
        to.print(f"[green]✓[/] {escape(source)} promises the same")
    elif not has_project:
        to.print("[dim]no project here: what uses the columns is not known; give it with underhood -p FILE[/]")


def show_imported(to: Console, found: Imported, written: Mapping[str, Contract]) -> None:
    """What was taken over, and what was not."""
    for path, contract in written.items():
        to.print(f"[bold]{escape(contract.table)}[/]: {len(contract.rules)} rules in {escape(path)}")
        for rule in contract.rules:
            to.print(Padding(Text(rule.says()), (0, 0, 0, 2)))
    for line in found.unmapped:
        _hanging(to, "[yellow]![/]", f"not taken over: {escape(line)}")
    to.print(f"read as {found.dialect}")


def _hanging(to: Console, mark: str, text: str) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_row(mark, text)
    to.print(grid)
