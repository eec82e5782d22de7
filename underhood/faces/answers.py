"""How a command answers: as text or JSON, with progress on stderr, every known error in its own words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import click

from underhood.ground.errors import UnderhoodError


@dataclass(frozen=True)
class Face:
    """How this call wants to be answered, and for which project.

    `opened` is a workbench that is open already; `progress` says on stderr what is being done.
    """

    project: str | None
    record: str | None
    as_json: bool
    opened: Any = None
    progress: Any = None


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --json, and turns every known error into its text and exit code 1."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
    @click.pass_context
    @wraps(function)
    def run(context: click.Context, /, as_json: bool, **options: Any) -> None:
        face: Face = context.obj
        progress = _progress(face)
        try:
            function(replace(face, as_json=as_json, progress=progress), **options)
        except UnderhoodError as error:
            progress.close()
            fail(error, as_json)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            progress.close()

    return run


def _progress(face: Face) -> Any:
    """Where this call says what it does: a workbench that is open already has its own."""
    from underhood.faces.progress import Progress
    from underhood.faces.show import console

    own = face.opened.say if face.opened is not None else None
    return own if isinstance(own, Progress) else Progress(console(stderr=True))


def fail(error: UnderhoodError, as_json: bool) -> None:
    """Prints the error and ends with exit code 1."""
    from underhood.faces.show import console, show_error

    if as_json:
        click.echo(json.dumps(error.as_json(), indent=2))
    else:
        show_error(console(stderr=True), error)
    sys.exit(1)


@contextmanager
def bench(face: Face) -> Iterator[Any]:
    """The workbench of this call, with progress on stderr."""
    from underhood.repair.workbench import open_workbench

    if face.opened is not None:
        yield face.opened
        return
    with open_workbench(face.project, record=face.record, say=face.progress) as opened:
        yield opened


def answer(face: Face, body: Any, show: Callable[[Any], None], opened: Any = None) -> None:
    """Prints the answer as JSON, or shows it, once the line of progress is gone.

    Patches that have expired are told after it if a workbench is given: they are never
    silent. In JSON, an answer that is an object gets `expired_patches`.
    """
    late = _expired(opened) if opened is not None else []
    face.progress.close()
    if face.as_json:
        if late and isinstance(body, dict):
            body = {**body, "expired_patches": [p.name for p in late]}
        click.echo(json.dumps(body, indent=2, default=str))
    else:
        from underhood.faces.show import console, show_expired

        to = console()
        show(to)
        show_expired(to, late)


def _expired(opened: Any) -> Any:
    from underhood.repair.workbench import expired

    return expired(opened)
