"""The commands of a complaint: case, diagnose, fixes, patch, pin, and looking at one decision."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from underhood.faces.answers import Face, answer, bench, verb


@click.group()
def case() -> None:
    """Open complaints, and look at cases."""


@case.command("open")
@click.argument("complaint")
@click.option("--where", default="", metavar="SQL", help="Which decisions are meant: a predicate over `decisions`.")
@click.option("--happened", default="", metavar="FLAG", help="What happened to them: a late flag, or the label.")
@click.option("--told", default="", metavar="ACTION", help="The action that is complained about.")
@verb
def case_open(face: Face, complaint: str, where: str, happened: str, told: str) -> None:
    """Open a case for COMPLAINT: an e-mail file, a text file, or the words.

    Finds the decisions meant, and says what each word was taken for; the
    options say it better where words do not.
    """
    from underhood.faces.show import show_case, show_replays
    from underhood.ground.errors import NotCapturedError
    from underhood.repair.cases import case_json
    from underhood.repair.workbench import open_case, replay_case

    with bench(face) as b:
        opened = open_case(b, complaint, where=where, happened=happened, told=told)
        replays, unseen = [], ""
        try:
            replays = replay_case(b, opened.number)
        except NotCapturedError as why:
            unseen = why.what
        same = sum(r.is_identical for r in replays)
        body = {**case_json(opened), "replayed": len(replays), "identical": same}

        def show(to: Any) -> None:
            show_case(to, opened)
            if replays:
                show_replays(to, replays)
            if unseen:
                to.print(f"not replayed: {unseen}")

        answer(face, body, show, b)


@case.command("list")
@verb
def case_list(face: Face) -> None:
    """List all cases."""
    from underhood.faces.show import show_rows

    with bench(face) as b:
        rows = [
            {
                "case": c.number,
                "state": c.state,
                "subject": _subject(c.body),
                "decisions": len(c.body["meaning"]["ids"]),
            }
            for c in b.database.cases()
        ]
        answer(face, rows, lambda to: show_rows(to, rows))


def _subject(body: Any) -> str:
    complaint = body["complaint"]
    return str(complaint["subject"] or complaint["text"][:50])


@case.command("show")
@click.argument("number", type=int, required=False)
@verb
def case_show(face: Face, number: int | None) -> None:
    """Show one case, the latest if no NUMBER is given."""
    from underhood.faces.show import show_case
    from underhood.repair.cases import case_json, read_case

    with bench(face) as b:
        found = read_case(b.database, number)
        answer(face, case_json(found), lambda to: show_case(to, found))


@click.command()
@click.argument("number", type=int, required=False)
@click.option("--all", "is_all", is_flag=True, help="All causes, and all that was ruled out, each with its reason.")
@verb
def diagnose(face: Face, number: int | None, is_all: bool) -> None:
    """Find the cause of case NUMBER, or say why nothing is broken.

    Every kind of fault looks; every suspect is undone on the bench.
    """
    from underhood.faces.show import show_diagnosis
    from underhood.repair.cases import read_case
    from underhood.repair.diagnosis import diagnosis_json
    from underhood.repair.workbench import diagnose_case

    with bench(face) as b:
        found = diagnose_case(b, number)
        case = read_case(b.database, number)
        body = {"case": case.number, **diagnosis_json(found)}
        answer(face, body, lambda to: show_diagnosis(to, found, case, is_all), b)


@click.command()
@click.argument("number", type=int, required=False)
@verb
def fixes(face: Face, number: int | None) -> None:
    """Try candidate fixes of case NUMBER on history, best first."""
    from underhood.faces.show import show_fixes
    from underhood.repair.trials import fix_json
    from underhood.repair.workbench import fix_case

    with bench(face) as b:
        tried = fix_case(b, number)
        answer(face, [fix_json(f) for f in tried], lambda to: show_fixes(to, tried))


@click.group()
def patch() -> None:
    """Apply, list and undo patches."""


@patch.command("apply")
@click.argument("fix", type=int)
@click.option("--case", "number", type=int, help="The case; the latest if not given.")
@click.option("--owner", required=True, help="Who answers for the patch.")
@click.option("--expires", default="", metavar="DAY", help="The last day it acts; in 90 days if not given.")
@verb
def patch_apply(face: Face, fix: int, number: int | None, owner: str, expires: str) -> None:
    """Make fix number FIX of a case a patch, with an owner and an expiry.

    A patch of the training side acts in the next build, others at once.
    """
    from underhood.faces.show import show_patch
    from underhood.repair.cases import read_case
    from underhood.repair.patches import for_good
    from underhood.repair.trials import saves
    from underhood.repair.workbench import apply_fix

    with bench(face) as b:
        made = apply_fix(b, number, fix, owner=owner, expires=expires)
        dear = not saves(read_case(b.database, number).fixes[fix - 1])
        lines = for_good(b.plan, made)

        def show(to: Any) -> None:
            show_patch(to, made, lines)
            if dear:
                to.print(f"[yellow]![/] on history it cost more than it saved; underhood patch undo {made.name}")

        answer(face, {**_patch(made), "for_good": lines, "costs_more": dear}, show)


@patch.command("list")
@verb
def patch_list(face: Face) -> None:
    """List patches; those that have expired are marked."""
    from underhood.faces.show import show_patch
    from underhood.repair.patches import read_patches
    from underhood.repair.workbench import expired

    with bench(face) as b:
        late = {p.name for p in expired(b)}
        found = read_patches(b.record)

        def show(to: Any) -> None:
            for one in found:
                show_patch(to, one)
                if one.name in late:
                    to.print("  [red]expired:[/] it no longer acts; renew it or mend the cause")
            if not found:
                to.print("no patches")

        answer(face, [{**_patch(p), "expired": p.name in late} for p in found], show)


@patch.command("undo")
@click.argument("name")
@verb
def patch_undo(face: Face, name: str) -> None:
    """Take patch NAME out of force from now on."""
    from underhood.repair.patches import remove_patch

    with bench(face) as b:
        remove_patch(b.record, name)
        answer(
            face,
            {"undone": name},
            lambda to: to.print(f"{name} no longer acts; build again if it changed training"),
        )


@click.command()
@click.argument("bundle", required=False, default="")
@verb
def deploy(face: Face, bundle: str) -> None:
    """Let BUNDLE of the record decide; by default the one deployed before.

    This is how to go back; what decided until now can be deployed again.
    """
    from underhood.repair.rollback import deploy_bundle

    with bench(face) as b:
        made = deploy_bundle(b, bundle)
        learned = str(made.made_from.get("recipe", {}).get("until", ""))[:16]
        said = f"{made.name} decides from now on; it learned until {learned or 'an unknown moment'} UTC"
        answer(face, {"deployed": made.name, "learned_until": learned}, lambda to: to.print(said))


def _patch(made: Any) -> dict[str, Any]:
    from underhood.plan.changes import change_json

    body = {
        "name": made.name,
        "owner": made.owner,
        "expires": made.expires,
        "case": made.case,
        "why": made.why,
    }
    return {**body, "changes": [change_json(c) for c in made.changes]}


@click.command()
@click.argument("number", type=int, required=False)
@verb
def pin(face: Face, number: int | None) -> None:
    """Turn case NUMBER into a test beside the project: pytest runs it."""
    from underhood.repair.workbench import pin_case

    with bench(face) as b:
        path = pin_case(b, number)
        shown = path.relative_to(b.project.folder)
        answer(
            face,
            {"pin": str(shown)},
            lambda to: to.print(f"pinned as {shown}; run it with `underhood pins` or pytest"),
        )


@click.command()
@verb
def pins(face: Face) -> None:
    """Decide all pinned cases again; exit code 1 if one is broken."""
    from underhood.faces.show import show_pins
    from underhood.repair.workbench import check_pins

    with bench(face) as b:
        found = check_pins(b)
        body = [
            {"pin": p.pin.name, "holds": p.holds, "again": p.again, "of": p.n, "allowed": p.pin.allowed} for p in found
        ]
        answer(face, body, lambda to: show_pins(to, found), b)
    if not all(p.holds for p in found):
        sys.exit(1)


@click.command()
@click.argument("decision")
@verb
def replay(face: Face, decision: str) -> None:
    """Make DECISION (an id or a key) again from what was captured."""
    from underhood.faces.show import show_replays
    from underhood.repair.workbench import replay_decision

    with bench(face) as b:
        again = replay_decision(b, decision)
        body = {**asdict(again), "identical": again.is_identical}
        answer(face, body, lambda to: show_replays(to, [again]))


@click.command()
@click.argument("decision")
@verb
def layers(face: Face, decision: str) -> None:
    """Open DECISION (an id or a key) layer by layer.

    Each value stands beside its usual range; beside the score, the training
    rows most alike to the model, and what they taught it.
    """
    from underhood.faces.show import show_opened
    from underhood.repair.layers import opened_json
    from underhood.repair.workbench import open_decision

    with bench(face) as b:
        opened = open_decision(b, decision)
        answer(face, opened_json(opened), lambda to: show_opened(to, opened, b.system.policy.cuts))


@click.command()
@click.argument("number", type=int, required=False)
@click.option("--out", default="", metavar="FILE", help="Where to write it; case-N.html beside the project by default.")
@click.option("--markdown", is_flag=True, help="Write Markdown instead, for a ticket or a wiki; case-N.md by default.")
@verb
def report(face: Face, number: int | None, out: str, markdown: bool) -> None:
    """Write case NUMBER as a post-mortem: one self-contained HTML file.

    What happened, since when, whom it touched, the cause with its proof, what
    else it could have been, the fix, what would have caught it earlier.
    """
    from underhood.faces.report import write_report
    from underhood.repair.postmortem import document

    with bench(face) as b:
        body = document(b, number)
        ending = "md" if markdown else "html"
        path = write_report(body, Path(out) if out else b.project.folder / f"case-{body['number']}.{ending}", markdown)
        answer(face, {"report": str(path)}, lambda to: to.print(f"report written: {path}", soft_wrap=True))
