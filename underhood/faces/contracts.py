"""The commands of a contract: infer, show, check, diff, import."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from underhood.faces.answers import Face, answer, bench, verb
from underhood.ground.errors import ContractError, ProjectError


@click.group()
def contract() -> None:
    """Say what a table must keep, and hold it to that."""


@contract.command("infer")
@click.argument("table")
@click.option("--out", metavar="FILE", help="Where it is frozen; contracts/TABLE.toml if not given.")
@click.option("--owner", default="", help="Who answers for the table.")
@click.option("--happened", default="", metavar="COLUMN", help="Its clock; found if not given.")
@verb
def contract_infer(face: Face, table: str, out: str | None, owner: str, happened: str) -> None:
    """Freeze what the rows of TABLE support, each rule with its evidence.

    Bounds leave room for what honestly comes next. What a few rows break already
    is not taken into the rule: those rows are listed. Running it again writes the
    next version and keeps your comments.
    """
    from underhood.contract.contract import contract_json, freeze
    from underhood.contract.evidence import infer
    from underhood.faces.show_contracts import show_proposed
    from underhood.ground.findings import finding_json
    from underhood.tables.frames import open_table
    from underhood.tables.local import Engine

    say = face.progress
    with Engine() as engine:
        found = infer(engine, open_table(engine, table), happened=happened, owner=owner, say=say)
    path = Path(out) if out else Path("contracts") / f"{found.contract.table}.toml"
    frozen = freeze(found.contract, path)
    body = {
        "file": str(path),
        "contract": contract_json(frozen),
        "findings": [finding_json(f) for f in found.findings],
    }
    answer(face, body, lambda to: show_proposed(to, frozen, found.findings, str(path)))


@contract.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@verb
def contract_show(face: Face, file: Path) -> None:
    """Show the contract in FILE, column by column."""
    from underhood.contract.contract import contract_json, read_contract
    from underhood.faces.show_contracts import show_contract

    found = read_contract(file)
    answer(face, contract_json(found), lambda to: show_contract(to, found))


@contract.command("check")
@click.argument("table")
@click.option("--against", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The contract.")
@click.option("--with", "others", multiple=True, metavar="TABLE", help="A table that the contract refers to.")
@click.option("--at", metavar="MOMENT", help="The moment (UTC) that freshness is measured at.")
@click.option("--quarantine", metavar="FILE", help="Write the rows that break it, with reasons, to a new Parquet file.")
@verb
def contract_check(
    face: Face, table: str, against: Path, others: tuple[str, ...], at: str | None, quarantine: str | None
) -> None:
    """Hold TABLE to a contract: which rules break, by which rows.

    All rules about rows are checked in one pass. Ends with exit code 1 if a rule
    is broken.
    """
    from underhood.contract.contract import read_contract
    from underhood.faces.show_contracts import show_checked
    from underhood.plan.render import quoted, sql_value
    from underhood.tables.frames import open_table
    from underhood.tables.local import Engine
    from underhood.tables.quarantine import check, checked_json

    held_to = read_contract(against)
    now = _moment(at)
    if quarantine:
        _see_it_is_free(Path(quarantine))
    say = face.progress
    with Engine() as engine:
        opened = open_table(engine, table)
        views = {t.name: t.name for t in (open_table(engine, other) for other in others)}
        say(f"holding {opened.name} to {against.name}")
        checked = check(engine, held_to, opened.name, opened.kinds, others=views, now=now)
        if quarantine:
            engine.run(f"copy (select * from {quoted(checked.view)}) to {sql_value(quarantine)} (format parquet)")
    answer(face, checked_json(checked), lambda to: show_checked(to, checked, quarantine))
    if not checked.is_kept:
        sys.exit(1)


@contract.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--source", default="", metavar="NAME", help="The project's source; the old contract's table by default.")
@verb
def contract_diff(face: Face, old: str, new: str, source: str) -> None:
    """Say what changed from OLD to NEW, and what breaks downstream.

    Each is a contract file, or a table, whose contract is then inferred. In a project,
    every change is followed to the features, training sets and decisions that it
    reaches, with their owners. Ends with exit code 1 if something breaks.
    """
    from underhood.contract.impedance import BREAKS, changes, effect_json, effects
    from underhood.faces.show_contracts import show_effects

    before, now = (_read(what, face.progress) for what in (old, new))
    name = source or before.table
    lineage = _lineage(face)
    found = effects(changes(before, now), lineage, name)
    body = {"source": name, "project": lineage is not None, "changes": [effect_json(e) for e in found]}
    answer(face, body, lambda to: show_effects(to, found, name, lineage is not None))
    if any(e.severity == BREAKS for e in found):
        sys.exit(1)


@contract.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--table", default="", help="The table's name, where the file does not say it.")
@click.option("--out", default="contracts", metavar="FOLDER", help="Where the contracts go.")
@verb
def contract_import(face: Face, file: Path, table: str, out: str) -> None:
    """Take over rules written for pandera, dbt or GX.

    FILE is a pandera schema (YAML or JSON), a dbt schema.yml or a GX suite (JSON).
    What has no counterpart is listed.
    """
    from underhood.contract.contract import contract_json, freeze
    from underhood.contract.foreign_rules import read_foreign
    from underhood.faces.show_contracts import show_imported

    found = read_foreign(file, table)
    written = {str(Path(out) / f"{c.table}.toml"): freeze(c, Path(out) / f"{c.table}.toml") for c in found.contracts}
    body = {
        "from": found.dialect,
        "contracts": {path: contract_json(c) for path, c in written.items()},
        "unmapped": list(found.unmapped),
    }
    answer(face, body, lambda to: show_imported(to, found, written))


def _read(what: str, say: Any) -> Any:
    """The contract in a file, or the one that a table supports."""
    from underhood.contract.contract import read_contract
    from underhood.contract.evidence import infer
    from underhood.tables.frames import open_table
    from underhood.tables.local import Engine

    if what.endswith(".toml"):
        return read_contract(Path(what))
    with Engine() as engine:
        return infer(engine, open_table(engine, what), say=say).contract


def _lineage(face: Face) -> Any:
    """The lineage of the project here, or null if there is none."""
    from underhood.plan.lineage import lineage_of

    try:
        with bench(face) as b:
            return lineage_of(b.plan)
    except ProjectError:
        if face.project:
            raise
        return None


def _see_it_is_free(path: Path) -> None:
    """Raises ContractError if a file for the rows set aside would overwrite something, or has no folder to be in."""
    if path.exists():
        raise ContractError("is there already", str(path), "name a new file with --quarantine, or delete that one")
    if not path.parent.is_dir():
        raise ContractError("there is no such folder", str(path.parent), "make it, or name another file")


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        made = datetime.fromisoformat(text)
    except ValueError as error:
        raise ContractError(
            f"{text!r} is not a moment", "--at", "write it as 2024-03-01 or 2024-03-01T06:00"
        ) from error
    return made.astimezone(UTC).replace(tzinfo=None) if made.tzinfo else made
