"""A case as Markdown, for a ticket, a wiki or a mail: the same document as the HTML report, in words and tables.

What came from outside cannot become a heading, a link, a table cell too many or HTML: it is escaped or quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from underhood.plan.changes import in_words

MOST_LEVELS = 8
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_text(document: Mapping[str, Any]) -> str:
    """The report as Markdown (CommonMark with pipe tables)."""
    d = document
    lines = [
        f"# Case {d['number']}: {plain(d['complaint']['subject'] or 'a complaint')}",
        "",
        f"{plain(d['system'])} · {d['state']} · {plain(d['complaint']['sender'] or 'sender unknown')}"
        + (f" · {d['complaint']['sent_at']} UTC" if d["complaint"]["sent_at"] else ""),
        "",
        *(f"> {plain(line)}" for line in d["complaint"]["text"].splitlines()),
        "",
    ]
    for title, part in (
        ("In short", _short(d)),
        ("What happened when (UTC)", _table(("moment", "what"), d["timeline"])),
        ("Whom it touched", _touched(d)),
        ("The cause, and its proof", _causes(d)),
        ("What else it could have been, and why it is not", _ruled_out(d)),
        ("Fixes, each tried on history", _fixes(d)),
        ("What would have caught it earlier", _earlier(d)),
        ("What was done", _done(d)),
        ("Evidence, to run again", _evidence(d)),
    ):
        body = list(part)
        if body:
            lines += [f"## {title}", "", *body, ""]
    return "\n".join(lines).rstrip() + "\n"


def number(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(value: float | None) -> str:
    """A share in per cent."""
    return "" if value is None else f"{value:.1%}"


def plain(value: Any) -> str:
    """A text on one line that Markdown takes for nothing else."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def code(text: str) -> list[str]:
    """A block of code that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sql", text, fence]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    if not rows:
        return []
    made = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return made + [f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows]


def _short(d: Mapping[str, Any]) -> Iterator[str]:
    for sentence in d["short"]:
        yield f"- {plain(sentence)}"


def _touched(d: Mapping[str, Any]) -> Iterator[str]:
    cohort = f" where {plain(d['cohort'])}" if d["cohort"] else ""
    claimed = f"; the complaint speaks of {number(d['claimed'])}" if d["claimed"] else ""
    yield f"{number(d['n_decisions'])} decisions{cohort}{claimed}."
    for name, levels in d["groups"].items():
        if levels:
            more = f", and {len(levels) - MOST_LEVELS} more" if len(levels) > MOST_LEVELS else ""
            told = ", ".join(f"{plain(level)} {number(n)}" for level, n in levels[:MOST_LEVELS])
            yield f"- by {plain(name)}: {told}{more}"


def _causes(d: Mapping[str, Any]) -> Iterator[str]:
    if not d["found"]:
        yield f"Not diagnosed yet: `underhood diagnose {d['number']}`."
        return
    proven = [c for c in d["found"]["causes"] if c["trial"]]
    if not proven:
        yield f"**{d['found']['verdict']}**: {plain(d['found']['says'])}."
    for cause in proven:
        t = cause["trial"]
        yield f"- {plain(cause['part'])} ({plain(cause['kind'])}): {plain(cause['says'])}."
        yield f"  - undone on the bench: {plain(in_words([c['reads'] for c in cause['undo']]))}"
        yield (
            f"  - {number(t['repaired'])} of {number(t['n_bad'])} decided better; of {number(t['n_healthy'])} others "
            f"{number(t['broken'])} dearer, {number(t['bettered'])} cheaper; {t['money_before']:,.0f} → "
            f"{t['money_after']:,.0f} per 1,000 decisions"
        )
    near = d["found"]["neighbourhood"]
    if near:
        yield ""
        yield (
            f"{number(near['n'])} decisions with scores like these were told {percent(near['told'])}; it happened in "
            f"{percent(near['happened'])} ({percent(near['low'])} to {percent(near['high'])})."
        )


def _ruled_out(d: Mapping[str, Any]) -> Iterator[str]:
    ruled = sorted(d["found"]["ruled_out"], key=lambda r: r["says"]) if d["found"] else []
    for says, alike in groupby(ruled, key=lambda r: r["says"]):
        yield f"- {plain(', '.join(r['kind'] for r in alike))}: {plain(says)}"


def _fixes(d: Mapping[str, Any]) -> Iterator[str]:
    if not d["fixes"]:
        return
    rows = [
        (
            n,
            f["title"],
            f.get("acts", ""),
            f"{f['trial']['repaired']}/{f['trial']['n_bad']}",
            number(f["trial"]["broken"]),
            number(f["trial"]["bettered"]),
            f"{f['trial']['money_after'] - f['trial']['money_before']:+,.0f}",
            "{:,.0f} … {:,.0f}".format(*f["trial"]["money_gain_interval"]),
        )
        for n, f in enumerate(d["fixes"], 1)
    ]
    head = ("", "fix", "acts", "repaired", "others dearer", "others cheaper", "cost per 1,000", "95 % of the gain")
    yield from _table(head, rows)
    first = d["fixes"][0]
    yield ""
    yield f"Fix 1 {plain(first['why'])}."
    hurts = first["hurts"]
    yield "" if hurts else "No group and no week gets dearer beyond chance (95 %)."
    yield from (f"- dearer for {plain(h)}" for h in hurts)
    if first["tell"]:
        yield ""
        yield f"For the users: {plain(first['tell'])}"


def _earlier(d: Mapping[str, Any]) -> Iterator[str]:
    for sign in d["earlier"]:
        at = f"{sign['at'][:16].replace('T', ' ')} UTC: " if sign["at"] else ""
        yield f"- {at}{plain(sign['what'])}. {plain(sign['line'])}"
    if d["found"] and d["found"]["causes"] and not d["earlier"]:
        yield "Nothing that the record holds would have told of it before the complaint."


def _done(d: Mapping[str, Any]) -> Iterator[str]:
    patch = f"Patched by `{d['patch']}`." if d["patch"] else "No patch yet."
    pin = f"Pinned as `{d['pin']}`: pytest runs it." if d["pin"] else "Not pinned yet."
    yield f"{patch} {pin}"


def _evidence(d: Mapping[str, Any]) -> Iterator[str]:
    if d["evidence"]:
        yield "Each with `underhood query`:"
    for one in d["evidence"]:
        yield ""
        yield f"{plain(one['shows'])}:"
        yield ""
        yield from code(one["query"])
