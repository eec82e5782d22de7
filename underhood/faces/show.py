"""What the verbs found, drawn for a terminal of 80 columns: a sentence and a number first, a picture where it helps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from underhood.build.builds import Build
from underhood.faults import KINDS
from underhood.faults.kinds import Ruling
from underhood.ground.errors import UnderhoodError
from underhood.plan.changes import in_words
from underhood.repair.cases import Case
from underhood.repair.diagnosis import Diagnosis
from underhood.repair.layers import Opened, Reading, moving
from underhood.repair.patches import Patch
from underhood.repair.pin import Pinned
from underhood.repair.pin import said as pin_said
from underhood.repair.replay import Difference, Replay
from underhood.repair.trials import NOW, Fix
from underhood.repair.unseen import COULD_NOT
from underhood.run.batch import Span, by_action

WIDTH = 80
GAUGE = "low … high"
TICKS = 12
_LEVEL = {"checked": ("✓", "green"), "noticed": ("!", "yellow"), "refused": ("✗", "red")}


def console(stderr: bool = False) -> Console:
    """A console no wider than 80 columns, so that output reads the same in a mail or a page."""
    made = Console(stderr=stderr, highlight=False)
    made.width = min(made.width, WIDTH)
    return made


CAUSES, NEAREST = 3, 6  # causes, and lines of what was ruled out, that are shown unasked


def show_error(to: Console, error: UnderhoodError) -> None:
    """The error and all that came with it, in the words that --json has too."""
    for each in (error, *error.also):
        where = f"[bold]{escape(each.where)}[/]: " if each.where else ""
        to.print(f"[red]✗[/] {where}{escape(each.what)}", soft_wrap=False)
        if each.hint:
            to.print(Padding(f"[dim]try:[/] {escape(each.hint)}", (0, 0, 0, 2)))


def show_build(to: Console, build: Build, system: Sequence[str]) -> None:
    """The system as it was read, the ladder, the findings, the bundle."""
    for line in system:
        to.print(escape(line), style="dim")
    to.print()
    table = _table("rung", "log loss", "gain on the simpler", "")
    for rung in build.climb.rungs:
        gain = f"{rung.gain:+.4f} ± {rung.gain_se:.4f}" if rung.gain_se else ""
        table.add_row(rung.kind, f"{rung.loss:.4f}", gain, Text("← taken", "green") if rung.taken else "")
    to.print(table)
    to.print()
    for finding in build.findings:
        mark, style = _LEVEL[finding.level]
        where = f" [dim]({escape(finding.where)})[/]" if finding.where else ""
        _hanging(to, f"[{style}]{mark}[/]", f"{escape(finding.what)}{where}")
        if finding.hint and finding.level != "checked":
            _hanging(to, " ", f"[dim]{escape(finding.hint)}[/]")
    recipe = build.bundle.made_from["recipe"]
    to.print(f"\nbundle [bold]{build.bundle.name}[/] deployed; learned from {recipe['rows']:,} rows")
    for change in build.bundle.made_from["changes"]:
        _hanging(to, "+", f"patched: {escape(change['reads'])}")


def show_span(to: Console, span: Span, order: Sequence[str]) -> None:
    """How a span was decided."""
    total = sum(span.actions.values())
    for action, n in by_action(span, order):
        to.print(f"{n:>9,}  {action:<10} {_bar(n / max(1, total), 30)} {n / max(1, total):.1%}")
    to.print(
        f"{total:,} decisions captured at {span.latency_us:.0f} µs each, {span.refused:,} refused, "
        f"{span.outcomes:,} outcomes delivered when they became known"
    )


def show_case(to: Console, case: Case) -> None:
    """The complaint, what was understood of it, and what became of the case."""
    m = case.meaning
    _hanging(to, f"[bold]case {case.number}:[/]", escape(_headed(case)))
    to.print(Padding(Text(case.complaint.text, "italic"), (0, 0, 0, 2)))
    for mention in m.mentions:
        to.print(Padding(f"[dim]“{escape(mention.words)}”[/] → {escape(mention.meant)}", (0, 0, 0, 2)))
    if m.named:
        named = "decision" if len(m.named) == 1 else "decisions"
        to.print(f"  {len(m.named):,} {named} named: {', '.join(i[:14] for i in m.named[:3])}")
    if m.cohort is not None:
        claimed = f", the complaint says {m.claimed:,}" if m.claimed else ""
        to.print(Padding(f"[bold]{len(m.ids):,}[/] decisions where {escape(str(m.cohort))}{claimed}", (0, 0, 0, 2)))
    for source, column, _, key, value in m.source_rows:
        to.print(f"  {source}.{column} = {value:g} at {escape(key)}")
    to.print(f"  state: {case.state}" + (f", patch {case.patch}" if case.patch else ""))


def _headed(case: Case) -> str:
    """What stands over a case: its subject, and who sent it; nothing is said twice."""
    subject, sender = case.complaint.subject, case.complaint.sender
    return f"{subject or 'no subject'}, from {sender}" if sender else subject or "a complaint"


def show_replays(to: Console, replays: Sequence[Replay]) -> None:
    """How many came out the same, and the first that did not."""
    same = sum(r.is_identical for r in replays)
    style = "green" if same == len(replays) else "red"
    to.print(f"[{style}]{same:,} of {len(replays):,}[/] decided again identically, {replays[0].compared}")
    for one in [r for r in replays if not r.is_identical][:5]:
        first = one.differences[0]
        to.print(f"  {one.id[:14]} differs first in {one.first}: {first.name} {first.served!r} → {first.again!r}")


def show_opened(to: Console, opened: Opened, actions: Sequence[tuple[str, float]]) -> None:
    """One decision layer by layer, each value beside its usual range."""
    d = opened.decision
    to.print(f"[bold]{escape(d.key)}[/] asked {d.asked_at[:16]} UTC, id {d.id}")
    state = (
        f"[green]identical {opened.replay.compared}[/]"
        if opened.replay.is_identical
        else f"[red]differs in {opened.replay.first}[/]"
    )
    again = (
        "not in the sources any more"
        if opened.recomputed is None
        else (f"[red]otherwise: {_named(opened.recomputed)}[/]" if opened.recomputed else "[green]same as captured[/]")
    )
    to.print(f"replay {state}; recomputed from history {again}")
    for source, used in opened.sources:
        to.print(f"[dim]as of then[/] {source}: {escape(used)}")
    table = _table("feature", "value", "usual in training", GAUGE, "score if usual")
    for r in opened.features:
        swapped = moving(opened, r.name)
        moved = "" if swapped is None else f"{swapped:.3f}"
        style = "bold red" if r.is_unusual else ""
        table.add_row(Text(r.name, style), Text(_value(r.value), style), r.usual, _gauge(r), moved)
    to.print(table)
    if d.score is not None:
        cuts = ", ".join(f"{a} from {c:g}" for a, c in actions)
        to.print(f"score [bold]{d.score:.3f}[/] → [bold]{d.action}[/] ({escape(d.reason)}; {cuts})")
    for flag in d.flags:
        to.print(f"  [yellow]![/] {escape(flag)}")
    n = opened.neighbours
    to.print(
        f"the {n.n} training rows most alike to the model ({n.alike:.0%} alike): "
        f"[bold]{n.positive}[/] were labelled as happened"
    )
    for shared in n.shared:
        to.print(f"  [yellow]{escape(shared)}[/]")


def _named(differ: Sequence[Difference]) -> str:
    return escape(", ".join(dict.fromkeys(d.name for d in differ)))


def show_diagnosis(to: Console, found: Diagnosis, case: Case, is_all: bool = False) -> None:
    """The verdict, the causes with their trials, and what it is not: what is nearest to the cause, or `is_all`."""
    to.print(f"[dim]case {case.number}:[/] {escape(case.complaint.subject or case.complaint.text[:60])}")
    colour = {"cause": "red", "open": "yellow"}.get(found.verdict, "green")
    _hanging(to, f"[bold {colour}]{found.verdict}[/]:", escape(found.says))
    tried = [c for c in found.causes if c.trial is not None]
    for cause in tried if is_all else tried[:CAUSES]:
        t = cause.trial
        assert t is not None
        to.print()
        to.print(f"  [bold]{escape(cause.suspect.part)}[/] ({escape(cause.suspect.kind)})")
        _hanging(to, "    undo     ", escape(in_words([str(change) for change in cause.suspect.undo])))
        to.print(f"    repaired  {t.repaired:,} of {t.n_bad:,} {_bar(t.repaired / max(1, t.n_bad), 24)}")
        to.print(f"    others    {t.broken:,} dearer, {t.bettered:,} cheaper, of {t.n_healthy:,}")
        to.print(f"    money     {t.money_before:,.0f} → {t.money_after:,.0f} per 1,000 decisions")
        _hanging(to, "    evidence ", f"[dim]{escape(cause.suspect.evidence)}[/]")
    ruled: dict[str, list[str]] = {}
    for ruling in _nearest_first(found):
        ruled.setdefault(ruling.says, []).append(ruling.kind)
    blind = {says: kinds for says, kinds in ruled.items() if says.startswith(COULD_NOT)}
    looked = {says: kinds for says, kinds in ruled.items() if says not in blind}
    for title, said in (
        ("what else it could have been, and why it is not:", looked),
        ("what could not be seen:", blind),
    ):
        if said:
            to.print(f"\n  {title}")
        shown = list(said.items()) if is_all or said is blind else list(said.items())[:NEAREST]
        for says, kinds in shown:
            _hanging(to, "    ", f"[dim]{', '.join(kinds)}[/]: {escape(says.removeprefix(COULD_NOT))}")
        if rest := sum(len(kinds) for kinds in said.values()) - sum(len(kinds) for _, kinds in shown):
            to.print(f"    [dim]and {rest} other kinds:[/] underhood diagnose --all")
    if found.neighbourhood:
        n = found.neighbourhood
        to.print()
        told = f"told {n.told:.1%}, happened {n.happened:.1%} ({n.low:.1%} … {n.high:.1%})"
        _hanging(to, " ", f"{n.n:,} decisions with scores like these: {told}")


def _nearest_first(found: Diagnosis) -> list[Ruling]:
    """What was ruled out, kinds of the cause's own stage first: they are most easily mistaken for it."""
    stages = {kind.name: kind.stage for kind in KINDS}
    own = found.causes[0].stage if found.causes else 1
    out = [r for r in found.rulings if not r.suspects]
    return sorted(out, key=lambda r: abs(stages.get(r.kind, own) - own))


def show_fixes(to: Console, fixes: Sequence[Fix]) -> None:
    """Fixes side by side, each simulated on history."""
    if not fixes:
        to.print("no fix to try: no part is at fault, or no decision is meant")
        return
    table = _table("", "fix", "repaired", "still told", "dearer", "cheaper", "cost/1,000")
    for i, fix in enumerate(fixes, 1):
        t = fix.trial
        table.add_row(
            str(i),
            fix.title,
            f"{t.repaired}/{t.n_bad}",
            str(t.still_told),
            f"{t.broken:,}",
            f"{t.bettered:,}",
            f"{t.money_after - t.money_before:+,.0f}",
        )
    to.print(table)
    to.print()
    first = fixes[0]
    _hanging(to, "[bold]1[/]", escape(first.why))
    hurts = "; ".join(first.hurts[:3]) + (f"; and {len(first.hurts) - 3} more" if len(first.hurts) > 3 else "")
    told = "whom it would hurt: " + (hurts or "no group and no week gets dearer beyond chance (95 %)")
    _hanging(to, " ", escape(told))
    if first.tell:
        _hanging(to, " ", f"[dim]for the users:[/] {escape(first.tell)}")
    for i, fix in enumerate(fixes, 1):
        if i == 1 or fix.acts != NOW:
            _hanging(to, " " if i == 1 else f"[bold]{i}[/]", f"[dim]{fix.acts}:[/] {escape(fix.how)}")
    for i, fix in enumerate(fixes, 1):
        if fix.trial.money_after > fix.trial.money_before:
            to.print(f"[yellow]![/] fix {i} costs more than it saves")
        elif not fix.trial.repaired and fix.size != "collect":
            to.print(f"[yellow]![/] fix {i} repairs none of the decisions complained about")


def show_expired(to: Console, patches: Sequence[Patch]) -> None:
    """Patches that no longer act: somebody must renew them, or mend the cause."""
    for patch in patches:
        words = f"patch {patch.name} ended on {patch.expires}: {patch.owner} must renew it or mend the cause"
        _hanging(to, "[red]expired:[/]", escape(words))


def show_patch(to: Console, patch: Patch, for_good: Sequence[str] = ()) -> None:
    """One patch, and what to write into the project so that it is no longer needed."""
    to.print(f"[bold]{patch.name}[/] owner {escape(patch.owner)}, until {patch.expires}, for case {patch.case}")
    for change in patch.changes:
        _hanging(to, "  →", escape(str(change)))
    for line in for_good:
        _hanging(to, "  for good, in the project file:", escape(line))


def show_pins(to: Console, pins: Iterable[Pinned]) -> None:
    """How the pinned cases went."""
    for pinned in pins:
        mark = "[green]✓[/]" if pinned.holds else "[red]✗[/]"
        _hanging(to, mark, escape(pin_said(pinned)))
        if not pinned.holds:
            to.print(f"  first: {escape(', '.join(pinned.keys))}")


def show_rows(to: Console, rows: Sequence[Mapping[str, Any]], most: int = 40) -> None:
    """Rows of a query as a table."""
    if not rows:
        to.print("no rows")
        return
    widths = [max(len(name), *(len(_value(r[name])) for r in rows[:most])) + 1 for name in rows[0]]
    if sum(widths) > to.width and len(rows[0]) > 3:
        _show_records(to, rows[:most])
    else:
        table = _table(*rows[0])
        for row in rows[:most]:
            table.add_row(*[_value(v) for v in row.values()])
        to.print(table)
    if len(rows) > most:
        to.print(f"… and {len(rows) - most:,} more rows", style="dim")


def _show_records(to: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows too wide for a table: one below the other, a line a column."""
    for n, row in enumerate(rows, 1):
        to.print(f"[dim]row {n}[/]")
        table = _table("column", "value")
        for name, value in row.items():
            table.add_row(name, _value(value))
        to.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", collapse_padding=True)
    for column in columns:
        right = column in (
            "log loss",
            "repaired",
            "still told",
            "dearer",
            "cheaper",
            "cost/1,000",
            "score if usual",
        )
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=column == GAUGE)
    return table


def _hanging(to: Console, mark: str, text: str) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(mark, text)
    to.print(grid)


def _bar(share: float, width: int) -> str:
    full = round(share * width)
    return "█" * full + "·" * (width - full)


def _gauge(reading: Reading) -> Text:
    """Where a number lies within its usual range: ├──●───┤, or beyond it."""
    if reading.low is None or reading.high is None or not isinstance(reading.value, (int, float)):
        return Text("")
    width = reading.high - reading.low or 1.0
    at = (reading.value - reading.low) / width
    if at < 0:
        return Text("●├" + "─" * TICKS + "┤", "red")
    if at > 1:
        return Text("├" + "─" * TICKS + "┤●", "red")
    place = min(TICKS - 1, int(at * TICKS))
    return Text("├" + "─" * place + "●" + "─" * (TICKS - 1 - place) + "┤")


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
