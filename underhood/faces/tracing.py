"""The commands of lineage and cleaning: trace, clean."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from underhood.faces.answers import Face, answer, bench, verb


@click.command()
@click.argument("what", nargs=-1, metavar="[WHAT]...")
@click.option("--all", "is_whole", is_flag=True, help="All rows and all branches, however many.")
@click.option("--svg", default="", metavar="FILE", help="Draw the graph of WHAT (or of all) into a file.")
@click.option("--openlineage", default="", metavar="FILE", help="Write all of the lineage as an OpenLineage event.")
@verb
def trace(face: Face, what: tuple[str, ...], is_whole: bool, svg: str, openlineage: str) -> None:
    """Trace WHAT: where a value comes from, and what it reaches.

    \b
    One value of one decision, down to its source rows as they were known then:
      underhood trace "2013|3|8|US|2132|LGA" overdue_share
    One column, feature, label or action, both ways, up to the money:
      underhood trace weather.wind_speed
      underhood trace overdue_share
    """
    with bench(face) as b:
        wrote = _files(b, " ".join(what), svg, openlineage)
        decided = _decision(b, what)
        if decided is not None:
            _one_value(face, b, *decided, is_whole)
        elif what:
            _one_node(face, b, " ".join(what), is_whole)
        elif not wrote:
            _whole(face, b)
        if wrote and not face.as_json:
            click.echo("\n".join(f"written: {path}" for path in wrote), err=bool(what))


def _decision(b: Any, what: tuple[str, ...]) -> tuple[str, str] | None:
    """A decision and what of it is meant, if the last word names a feature or an input."""
    words = " ".join(what).rsplit(" ", 1)
    if len(words) < 2 or words[1] not in {**b.plan.features, **b.plan.inputs}:
        return None
    kinds = ("column", "feature", "input", "label", "action", "score", "fact", "join", "rows", "raw", "money", "moment")
    return None if words[0] in kinds else (words[0], words[1])


def _one_value(face: Face, b: Any, wanted: str, name: str, is_whole: bool) -> None:
    from underhood.faces.show_lineage import show_opened_value
    from underhood.repair.trace import open_value, opened_value_json
    from underhood.repair.workbench import find_decision

    opened = open_value(b.engine, b.plan, find_decision(b, wanted), name)
    answer(face, opened_value_json(opened), lambda to: show_opened_value(to, opened, is_whole))


def _one_node(face: Face, b: Any, wanted: str, is_whole: bool) -> None:
    from underhood.faces.show_lineage import show_reach
    from underhood.plan.lineage import downstream, find_node, lineage_of, upstream

    lineage = lineage_of(b.plan)
    node = find_node(lineage, wanted)
    up, down = upstream(lineage, node.id), downstream(lineage, node.id)
    held = _grip(b)
    cleaned = _cleaned(b, node)
    body = {
        "node": {"id": node.id, **asdict(node)},
        "upstream": [_reached(r) for r in up],
        "downstream": [_reached(r) for r in down],
        "cleaning": [{"source": s, **asdict(e)} for s, e in cleaned],
        "bundle": None if held is None else asdict(held),
    }
    answer(face, body, lambda to: show_reach(to, node, up, down, held, cleaned, is_whole))


def _reached(reached: Any) -> dict[str, Any]:
    return {**asdict(reached), "node": {"id": reached.node.id, **asdict(reached.node)}}


def _grip(b: Any) -> Any:
    """What the deployed bundle makes of it; null if none is deployed."""
    from underhood.repair.decided import mean
    from underhood.repair.trace import grip
    from underhood.repair.workbench import deployed

    if not b.database.deployments(b.system.name):
        return None
    bundle = deployed(b)
    assert b.n_decisions is not None
    mean(b.engine, [], bundle.name)
    return grip(b.engine, b.plan, bundle)


def _cleaned(b: Any, node: Any) -> list[tuple[str, Any]]:
    """What cleaning did to a source's column."""
    from underhood.tables.cleaned import effects_of

    if node.kind not in ("column", "raw"):
        return []
    source, column = node.name.split(".", 1)
    found = effects_of(b.engine, b.plan.sources[source]).effects
    return [(source, effect) for effect in found if effect.column in ("", column)]


def _whole(face: Face, b: Any) -> None:
    from underhood.plan.lineage import lineage_json, lineage_of

    lineage = lineage_of(b.plan)
    kinds: dict[str, int] = {}
    for node in lineage.nodes.values():
        kinds[node.kind] = kinds.get(node.kind, 0) + 1

    def show(to: Any) -> None:
        to.print(f"{b.system.name}: " + ", ".join(f"{n} {k}{'s' * (n != 1)}" for k, n in kinds.items()))
        to.print("name one of them, or draw all: underhood trace --svg lineage.svg", style="dim")

    answer(face, lineage_json(lineage), show)


def _files(b: Any, what: str, svg: str, openlineage: str) -> list[str]:
    """Writes the files asked for; returns their names."""
    from underhood.faces.graph import around, draw, used
    from underhood.faces.openlineage import run_event
    from underhood.plan.lineage import find_node, lineage_of

    wrote = []
    if svg:
        lineage = lineage_of(b.plan)
        meant = find_node(lineage, what).id if what else ""
        part = around(lineage, lineage.nodes[meant]) if meant else used(lineage)
        Path(svg).write_text(draw(part, meant), encoding="utf-8")
        wrote.append(svg)
    if openlineage:
        Path(openlineage).write_text(json.dumps(run_event(b.plan, b.now), indent=2), encoding="utf-8")
        wrote.append(openlineage)
    return wrote


@click.command()
@click.argument("source", required=False, default="")
@click.option("--without", default="", metavar="STEP", help="Show what would be if this step were left out.")
@verb
def clean(face: Face, source: str, without: str) -> None:
    """Show each cleaning step of SOURCE: what it changed or set aside.

    Without SOURCE, of all sources that are cleaned. With --without, what would
    differ without one step, up to the questions; nothing is changed by looking.
    """
    from underhood.faces.show_lineage import show_cleaned, show_without
    from underhood.ground.errors import NotFoundError, ProjectError, nearest
    from underhood.plan.lineage import downstream
    from underhood.tables.cleaned import cleaned_json, effects_of, without_step

    with bench(face) as b:
        sources = b.plan.sources
        if source and source not in sources:
            raise NotFoundError("there is no such source", source, nearest(source, sources))
        if without:
            holders = [n for n, s in sources.items() if s.stages and source in ("", n)]
            if len(holders) != 1:
                raise ProjectError(
                    "whose step is it?", without, f"name the source: {', '.join(holders) or 'none is cleaned'}"
                )
            b.say(f"asking all questions without {without}")
            made = without_step(b.engine, b.plan, holders[0], without)
            reached = [r for c in made.differ for r in downstream(b.plan, f"{holders[0]}.{c}")]
            body = {**asdict(made), "reaches": sorted({r.node.name for r in reached if r.node.kind == "feature"})}
            answer(face, body, lambda to: show_without(to, holders[0], made, reached))
            return
        wanted = [s for n, s in sources.items() if n == source or (not source and s.stages)]
        found = [effects_of(b.engine, s) for s in wanted]
        answer(face, [cleaned_json(f) for f in found], lambda to: show_cleaned(to, found))


@click.command()
@click.argument("messy", metavar="FILE:COLUMN")
@click.argument("known", metavar="FILE:COLUMN")
@click.option("--out", required=True, metavar="FILE", help="The CSV to write; it must not be there yet.")
@click.option(
    "--least",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="How like two names must be, from 0 to 1.",
)
@verb
def match(face: Face, messy: str, known: str, out: str, least: float) -> None:
    """Match messy names to known ones, as a table that you correct.

    Reads the first column's names and finds for each the most like one of the
    second. Read the file, correct `means`, empty it where nothing is meant; then
    it is a source, and uh.clean.match(column, source) a cleaning step.
    """
    from underhood.faces.show_lineage import show_matches
    from underhood.ground.errors import SourceError
    from underhood.tables.frames import open_table
    from underhood.tables.local import Engine
    from underhood.tables.matching import match_names, write_matches

    if Path(out).exists():
        raise SourceError("is there already", out, "it may hold corrections: name another file, or delete it")
    with Engine() as engine:
        views = []
        for side, named in (("messy", messy), ("known", known)):
            path, _, column = named.rpartition(":")
            table = open_table(engine, path or named, side)
            if column not in table.columns or not path:
                raise SourceError(
                    "there is no such column", named, f"say FILE:COLUMN; {_nearest_column(column, table)}"
                )
            views.append((side, column))
        found = match_names(engine, views[0], views[1], least=least, say=face.progress)
    write_matches(found, Path(out))
    body = {"written": out, "matches": [{**asdict(m), "doubtful": m.is_doubtful} for m in found]}
    answer(face, body, lambda to: show_matches(to, found, out))


def _nearest_column(column: str, table: Any) -> str:
    """The names most like a column's in a table."""
    from underhood.ground.errors import nearest

    return nearest(column, table.columns)
