"""The command that adopts a system that was made elsewhere: from a log of its decisions to a project with a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from underhood.faces.answers import Face, answer, verb


@click.command()
@click.argument("log")
@click.option("--key", default="", metavar="COLUMN", help="What names a decision.")
@click.option("--at", default="", metavar="COLUMN", help="When it was decided; without a zone it is UTC.")
@click.option("--score", default="", metavar="COLUMN", help="The probability that the model gave.")
@click.option("--action", default="", metavar="COLUMN", help="What was done.")
@click.option("--version", default="", metavar="COLUMN", help="Which model decided, if there were several.")
@click.option("--outcome", default="", metavar="COLUMN[=VALUE]", help="What happened later; VALUE means that it did.")
@click.option("--outcome-at", default="", metavar="COLUMN", help="When the outcome was known.")
@click.option("--features", default="", metavar="A,B,…", help="What the model reads, in its order.")
@click.option("--inputs", default="", metavar="TABLE", help="The inputs as they were, by the same key.")
@click.option("--training", default="", metavar="TABLE", help="What the model learned from.")
@click.option("--python", "module", default="", metavar="MODULE:NAME", help="The scorer: an object or a function.")
@click.option("--onnx", default="", metavar="FILE", help="The scorer: an ONNX model.")
@click.option("--http", default="", metavar="URL", help="The scorer: an endpoint.")
@click.option("--cut", "cuts", multiple=True, metavar="ACTION=SCORE", help="The action from that score up; repeat it.")
@click.option("--otherwise", default="", metavar="ACTION", help="The action below all cuts.")
@click.option("--goal", default="", metavar="TEXT", help="What the system is for, in a sentence.")
@click.option("--zone", default="UTC", show_default=True, metavar="ZONE", help="The time zone of people's days.")
@click.option("--name", default="", metavar="NAME", help="What to call it; the name of the log if not given.")
@click.option("--out", default=".", show_default=True, metavar="FOLDER", help="Where to write project and record.")
@click.option("--force", is_flag=True, help="Write over a project file that is there; its record is added to.")
@verb
def adopt(face: Face, log: str, **said: Any) -> None:
    """Adopt a system made elsewhere from LOG, a table of its decisions.

    Any subset of fields will do. Roles that you do not name are guessed, and
    each guess is told with why; what the log lacks is told with what cannot be
    seen for it. After that, all commands of a case work in the folder.

    \b
      underhood adopt log.csv --outcome defaulted --python scoring:model
      underhood adopt log.csv --inputs raw.csv --training rows.csv
      underhood case open "…" && underhood diagnose
    """
    from underhood.faces.show_adopting import show_adopted
    from underhood.repair.adopt import adopt_system, adopted_json
    from underhood.repair.roles import Roles

    scorer = _scorer(said["module"], said["onnx"], said["http"])
    column, _, happened = said["outcome"].partition("=")
    own = ("key", "at", "score", "action", "version", "outcome_at")
    features = tuple(f.strip() for f in said["features"].split(",") if f.strip())
    roles = Roles(**{r: said[r] for r in own}, outcome=column, happened=happened, inputs=features)
    made = adopt_system(
        log,
        said["out"],
        name=said["name"],
        roles=roles,
        scorer=scorer,
        training=said["training"] or None,
        inputs=said["inputs"] or None,
        cuts=_cuts(said["cuts"]),
        otherwise=said["otherwise"],
        goal=said["goal"],
        zone=said["zone"],
        force=said["force"],
        say=face.progress,
    )
    answer(face, adopted_json(made), lambda to: show_adopted(to, made))


def _scorer(module: str, onnx: str, http: str) -> Any:
    """The one scorer that was named, in the form of its option; null if none was."""
    from underhood.build.outside import http_scorer, python_scorer
    from underhood.ground.errors import ProjectError

    if sum(map(bool, (module, onnx, http))) > 1:
        raise ProjectError("names more than one scorer", "--python, --onnx, --http", "give one of them")
    if module:
        python_scorer(module, {})
    if http:
        http_scorer(http, {})
    return Path(onnx) if onnx else module or http or None


def _cuts(said: tuple[str, ...]) -> dict[str, float]:
    from underhood.ground.errors import ProjectError

    made: dict[str, float] = {}
    for text in said:
        action, _, number = text.rpartition("=")
        try:
            made[action] = float(number)
        except ValueError as error:
            raise ProjectError(f"{text!r} is not an action and its score", "--cut", "--cut decline=0.35") from error
    return made
