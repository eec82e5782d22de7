"""The report of the bench from its lines: figures against goals, by kind, severity and system, and every failure."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import mean, median
from typing import Any

Line = Mapping[str, Any]
NO_FAULT, REAL_EVENT, TWO = "no fault", "world event", "two faults"
OTHERS = (NO_FAULT, REAL_EVENT, TWO)  # what is told in sections of its own
GOALS: Mapping[str, tuple[str, float]] = {
    "top1": (">=", 0.90),
    "top3": (">=", 0.97),
    "parameters_right": (">=", 0.85),
    "jaccard": (">=", 0.80),
    "restored": (">=", 0.95),
    "collateral": ("<=", 0.01),
    "findings": ("<=", 0.05),
}
TITLES = {
    "top1": "kind top-1",
    "top3": "kind top-3",
    "locus": "locus top-1",
    "locus3": "locus top-3",
    "parameters_right": "parameters",
    "jaccard": "cohort Jaccard",
    "onset": "onset",
    "grounded": "grounded",
    "restored": "restored",
    "collateral": "collateral",
    "findings": "findings per no-fault cell",
}
LISTED = 400  # failures told one by one


@dataclass(frozen=True)
class Report:
    """What a report is made of: the lines of cells, the systems run, seconds that this run took, notes by hand."""

    lines: Sequence[Line]
    systems: tuple[str, ...]
    seconds: float
    notes: str = ""

    @property
    def faults(self) -> list[Line]:
        """Scored cells with a fault."""
        return [li for li in self.lines if li["state"] == "scored" and li["kind"] not in OTHERS]

    def of(self, kind: str) -> list[Line]:
        """Scored cells of "no fault" or "world event"."""
        return [li for li in self.lines if li["state"] == "scored" and li["kind"] == kind]


def figures(lines: Sequence[Line]) -> dict[str, float | None]:
    """Means of every figure over cells in which it applies; null if there are none."""
    found: dict[str, float | None] = {}
    for name in TITLES:
        values = [float(li[name]) for li in lines if li.get(name) is not None]
        found[name] = round(mean(values), 4) if values else None
    return found


def verdict_of(report: Report) -> dict[str, Any]:
    """The last line: figures, goals, and whether they all hold. A goal without a cell to measure it does not hold."""
    all_of = figures(report.faults) | {"findings": figures(report.of(NO_FAULT))["findings"]}
    missed = [n for n in GOALS if not is_met(n, all_of[n])]
    stopped = sum(li["state"] == "stopped" for li in report.lines)
    return {
        "bench": "faults",
        "cells": len(report.faults),
        "no_fault_cells": len(report.of(NO_FAULT)),
        **{n: all_of[n] for n in GOALS},
        "goal": ", ".join(f"{n} {sign} {at:g}" for n, (sign, at) in GOALS.items()),
        "missed": missed,
        "stopped": stopped,
        "holds": not missed and not stopped,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("duckdb", "lightgbm", "numpy")}},
    }


def is_met(name: str, value: float | None) -> bool:
    """Whether a figure reaches its goal."""
    sign, at = GOALS[name]
    return value is not None and (value >= at if sign == ">=" else value <= at)


def write_report(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [
        "# The bench of faults",
        "",
        "Made by `python bench/faults/run.py`; how it works is told in `bench/faults/README.md`. "
        f"{_cells(report)} Systems: {', '.join(report.systems)}.",
        "",
        *_trust(report),
        *_headline(report),
        *_grouped("By severity", report.faults, "severity"),
        *_grouped("By system", report.faults, "system"),
        *_grouped("By kind", report.faults, "kind"),
        *_quiet(report),
        *_two(report),
        *_poor(report),
        *_untold(report),
        *_baselines(report),
        *_left_out(report),
        *_failures(report),
    ]
    return "\n".join(parts) + "\n"


def _cells(report: Report) -> str:
    states = Counter(li["state"] for li in report.lines if li["kind"] not in OTHERS)
    kinds = len({li["kind"] for li in report.faults})
    return (
        f"{len(report.faults):,} cells with a fault of {kinds} kinds, {len(report.of(NO_FAULT)):,} without one, "
        f"{len(report.of(REAL_EVENT)):,} of real events. Not scored: {states['cannot']:,} in which the system cannot "
        f"break like that, {states['no impact']:,} without an impact in three draws, {states['abstain']:,} that "
        f"nothing in the record tells apart, {states['stopped']:,} that an error ended."
    )


def _trust(report: Report) -> list[str]:
    """How far to trust it: what ran where, with which seeds and which code, and what somebody adds in words."""
    rows = ["## How far to trust it", "", *([report.notes.strip(), ""] if report.notes.strip() else [])]
    scored = [li for li in report.lines if li["state"] == "scored"]
    if not scored:
        return [*rows, "No cell was scored.", ""]
    severities = list(dict.fromkeys(str(li["severity"]) for li in report.faults))
    rows += ["| system | " + " | ".join([*severities, "no fault", "seeds", "code"]) + " |"]
    rows += ["|---|" + "---|" * (len(severities) + 3)]
    for system in report.systems:
        of = [li for li in scored if li["system"] == system]
        counts = [sum(li["severity"] == s and li in report.faults for li in of) for s in severities]
        counts.append(sum(li["kind"] == NO_FAULT for li in of))
        seeds = sorted({int(li["seed"]) for li in of if li["kind"] != NO_FAULT and li["kind"] != REAL_EVENT})
        codes = Counter(str(li.get("code", "unknown")) for li in of)
        told = ", ".join(f"{c} ({n})" if len(codes) > 1 else c for c, n in codes.most_common())
        rows.append(f"| {system} | {' | '.join(map(str, counts))} | {', '.join(map(str, seeds))} | {told} |")
    rows += ["", "Cells that were scored, by severity. Even seeds are for tuning, odd ones were unseen when they ran. "]
    rows[-1] += "Restored counts a cell whose cause was missed as nothing restored."
    n_codes = len({str(li.get("code", "unknown")) for li in scored})
    rows[-1] += f" The lines are of {n_codes} versions of the code." if n_codes > 1 else ""
    return [*rows, ""]


TWO_TITLES = {
    "first": "first cause is one of them",
    "either": "one of two told",
    "both": "both told",
    "as_two": "told as two at once",
    "located": "located, of 2",
    "restored": "restored",
    "collateral": "collateral",
}


def _two(report: Report) -> list[str]:
    """Two faults at once: whether both kinds are among the first three causes, and told as two with their shares."""
    lines = [{**li, "either": li["recall"] > 0, "both": li["recall"] == 1} for li in report.of(TWO)]
    if not lines:
        return []
    rows = [
        "## Two faults at once",
        "",
        "Told: among the kinds of the first three causes. The complaint names decisions ",
    ]
    rows[-1] += "that either turned."
    rows += [
        "",
        f"| system | cells | {' | '.join(TWO_TITLES.values())} | seconds |",
        "|---|---|" + "---|" * (len(TWO_TITLES) + 1),
    ]
    for system in [*sorted({li["system"] for li in lines}), "all"]:
        of = [li for li in lines if system in ("all", li["system"])]
        values = [[float(li[n]) for li in of if li[n] is not None] for n in TWO_TITLES]
        told = " | ".join(_shown(mean(v) if v else None) for v in values)
        rows.append(f"| {system} | {len(of)} | {told} | {median(li['seconds'] for li in of):.1f} |")
    rows.append("")
    for li in lines:
        told = ", ".join(
            f"{k} {'–' if s is None else f'{s:.0%}'}" for k, s in zip(li["struck"], li["shares"], strict=True)
        )
        beside = f"; others with a share: {', '.join(li['others'])}" if li["others"] else ""
        mark = "both" if li["both"] else "one" if li["either"] else "**none**"
        rows.append(f"- `{li['cell']}`: {mark} of {told}. Answer: {', '.join(li['answer'][:3]) or 'nothing'}{beside}")
    return [*rows, ""]


def _poor(report: Report) -> list[str]:
    """What each part of the record is worth: the same cells, diagnosed without it."""
    lines = [li for li in report.faults if li.get("poor")]
    if not lines:
        return []
    told = ", ".join(sorted({str(li["system"]) for li in lines}))
    rows = [
        "## A poorer record",
        "",
        f"{len(lines)} cells ({told}), diagnosed again as if they were a log made elsewhere.",
    ]
    rows += ["", "| record | kind top-1 | locus top-1 | no cause told |", "|---|---|---|---|"]
    here = [{"top1": li["top1"], "locus": li["locus"], "silent": not li["answer"]} for li in lines]
    for level, of in {"made here": here, **{n: [li["poor"][n] for li in lines] for n in lines[0]["poor"]}}.items():
        top1, locus = (mean(float(o[n]) for o in of) for n in ("top1", "locus"))
        rows.append(f"| {level} | {top1:.3f} | {locus:.3f} | {sum(o['silent'] for o in of)} |")
    rows += ["", "Kinds that came first in the full record and do not any more:", ""]
    for level in lines[0]["poor"]:
        lost = sorted({str(li["kind"]) for li in lines if li["top1"] and not li["poor"][level]["top1"]})
        rows.append(f"- {level}: {', '.join(lost) or 'none'}")
    return [*rows, ""]


def _untold(report: Report) -> list[str]:
    """Cells that nothing in the record tells from a sound one: right is no cause, or the right one by luck."""
    of = [li for li in report.lines if li["state"] == "abstain" and "answer" in li]
    if not of:
        return []
    rows = ["## What nothing in the record tells", ""]
    rows += [
        f"{len(of)} cells count in no figure; a wrong cause was named in {sum(li['alarm'] for li in of)} of them.",
        "",
    ]
    return [
        *rows,
        *(f"- `{li['cell']}`: {li['says'][:160]}. {li['verdict']}: {li['verdict_says'][:200]}" for li in of),
        "",
    ]


def _headline(report: Report) -> list[str]:
    halves = {
        "all": report.lines,
        "tuning seeds": [li for li in report.lines if li["seen"]],
        "unseen seeds": [li for li in report.lines if not li["seen"]],
    }
    made = {n: Report(lines, report.systems, 0) for n, lines in halves.items()}
    rows = ["## Figures", "", "| figure | goal | " + " | ".join(made) + " | |", "|---|---|" + "---|" * (len(made) + 1)]
    for name, title in TITLES.items():
        values = [figures(r.of(NO_FAULT) if name == "findings" else r.faults)[name] for r in made.values()]
        goal = f"{'≥' if GOALS[name][0] == '>=' else '≤'} {GOALS[name][1]:.2f}" if name in GOALS else ""
        mark = ("holds" if is_met(name, values[0]) else "**missed**") if name in GOALS else ""
        rows.append(f"| {title} | {goal} | " + " | ".join(map(_shown, values)) + f" | {mark} |")
    seconds = sorted(li["seconds"] for li in report.faults)
    if seconds:
        late = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
        rows += [
            "",
            f"A diagnosis takes {median(seconds):.1f} s (median; 95 % within {late:.1f} s, the slowest "
            f"{seconds[-1]:.1f} s); peak memory of a process is {max(li['peak_gb'] for li in report.faults):.2f} GB.",
        ]
    alarms = [li["alarm"] for li in report.of(NO_FAULT)]
    if alarms:
        rows += ["", f"A cause was named in {sum(alarms)} of {len(alarms)} cells without a fault."]
    return [*rows, ""]


def _grouped(title: str, lines: Sequence[Line], by: str) -> list[str]:
    names = [n for n in TITLES if n != "findings"]
    head = f"| {by} | cells | " + " | ".join(TITLES[n] for n in names) + " | seconds |"
    rows = [f"## {title}", "", head, "|---|" + "---|" * (len(names) + 2)]
    for level in sorted({str(li[by]) for li in lines}):
        of = [li for li in lines if str(li[by]) == level]
        got = figures(of)
        shown = " | ".join(_shown(got[n]) for n in names)
        rows.append(f"| {level} | {len(of)} | {shown} | {median(li['seconds'] for li in of):.1f} |")
    return [*rows, ""]


def _quiet(report: Report) -> list[str]:
    rows = [
        "## Nothing is broken",
        "",
        "| cells | system | n | findings per cell | a cause named |",
        "|---|---|---|---|---|",
    ]
    for kind in (NO_FAULT, REAL_EVENT):
        for system in sorted({li["system"] for li in report.of(kind)}):
            of = [li for li in report.of(kind) if li["system"] == system]
            found, named = mean(li["findings"] for li in of), sum(li["alarm"] for li in of)
            rows.append(f"| {kind} | {system} | {len(of)} | {found:.3f} | {named} |")
    told = [
        f"- `{li['cell']}`: {li['verdict']}; " + "; ".join(li["suspects"][:3])
        for kind in (NO_FAULT, REAL_EVENT)
        for li in report.of(kind)
        if li["findings"]
    ]
    return [*rows, "", *told[:LISTED], ""]


def _baselines(report: Report) -> list[str]:
    """Locus of the baselines beside ours in the same cells."""
    lines = [li for li in report.faults if li.get("baselines")]
    if not lines:
        return ["## Beside others", "", "The baselines were not run.", ""]
    names = list(dict.fromkeys(n for li in lines for n in li["baselines"]))
    rows = [
        "## Beside others",
        "",
        "Locus only: none of them names a kind, a parameter or a cohort. They are told the onset, ours is not.",
        "",
        "| who | cells | locus top-1 | locus top-3 | seconds |",
        "|---|---|---|---|---|",
        f"| Underhood | {len(lines)} | {_shown(figures(lines)['locus'])} | "
        f"{_shown(figures(lines)['locus3'])} | {median(li['seconds'] for li in lines):.2f} |",
    ]
    for name in names:
        of = [li["baselines"][name] for li in lines if name in li["baselines"]]
        one, three = (mean(float(b[t]) for b in of) for t in ("top1", "top3"))
        rows.append(f"| {name} | {len(of)} | {one:.3f} | {three:.3f} | {median(b['seconds'] for b in of):.2f} |")
    if "Evidently" not in names:
        rows += ["", "Evidently was not installed, so its report is not among them (`pip install evidently`)."]
    else:
        rows += ["", f"Evidently is version {_version('evidently')}, its DataDriftPreset as it comes."]
    return [*rows, ""]


def _left_out(report: Report) -> list[str]:
    """Which kinds could not be scored where, and cells that an error ended."""
    rows = ["## Not scored", ""]
    for state in ("cannot", "no impact", "abstain"):
        of: dict[str, set[str]] = {}
        for li in report.lines:
            if li["state"] == state:
                of.setdefault(li["kind"], set()).add(f"{li['system']} ({li['severity']})")
        rows += [f"- {state}: {kind}: {', '.join(sorted(where))}" for kind, where in sorted(of.items())]
    rows += [f"- **stopped**: `{li['cell']}`: {li['error']}" for li in report.lines if li["state"] == "stopped"]
    return [*(rows if len(rows) > 2 else [*rows, "Every cell was scored."]), ""]


def _failures(report: Report) -> list[str]:
    tests: Mapping[str, Callable[[Line], bool]] = {
        "another kind": lambda li: not li["top1"],
        "other parameters": lambda li: li["top1"] and li["parameters_right"] is False,
        "another cohort": lambda li: li["top1"] and li["jaccard"] < 0.8,
        "restores too little": lambda li: li["top1"] and li["restored"] is not None and li["restored"] < 0.95,
        "harms others": lambda li: li["top1"] and li["collateral"] is not None and li["collateral"] > 0.01,
    }
    rows = ["## Failures", ""]
    for title, test in tests.items():
        of = [li for li in report.faults if test(li)]
        rows += [f"### {title[0].upper()}{title[1:]}: {len(of)} of {len(report.faults)}", ""]
        rows += [f"- {_why(li, title)}" for li in of[:LISTED]]
        rows += [f"- and {len(of) - LISTED} more"] if len(of) > LISTED else []
        rows.append("")
    return rows


def _why(li: Line, title: str) -> str:
    struck = f"`{li['cell']}`: {li['says'][:160]}" + (f" for {li['cohort']}" if li["cohort"] else "")
    if title == "another kind":
        said = ", ".join(li["answer"][:3]) or "nothing"
        out = next((li["ruled_out"][k] for k in li["right"] if k in li["ruled_out"]), "")
        return f"{struck}. Answer: {said} ({li['verdict']})" + (f"; ruled out: {out}" if out else "")
    if title == "other parameters":
        return f"{struck}. Struck {li['parameters']}, named {li.get('named_parameters')}"
    if title == "another cohort":
        return f"{struck}. Jaccard {li['jaccard']:.2f}: {li.get('suspect', '')}"
    shown = f"Restored {_shown(li['restored'])}, others changed {_shown(li['collateral'])}"
    return f"{struck}. {shown}: {li.get('suspect', '')}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
