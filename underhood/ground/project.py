"""Find and read the user's project: one plain Python file, run once, whose names are what it defines."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underhood.ground.errors import ProjectError, UnderhoodError, nearest

RECORD = ".underhood"


@dataclass(frozen=True)
class Project:
    """A project file that was read: where it is, what it defines, and where its record is kept."""

    path: Path
    names: Mapping[str, Any]
    record: Path

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.parent


def find_project(given: str | Path | None, folder: Path) -> Path:
    """The project file meant: the one given, or the only Python file in `folder` that imports underhood.

    Raises ProjectError if there is none, or more than one.
    """
    if given is not None:
        path = Path(given)
        path = path if path.is_absolute() else folder / path
        if path.is_file():
            return path.resolve()
        if not path.is_dir():
            near = [p.name for p in folder.glob("*.py")]
            raise ProjectError("there is no such project file", str(given), nearest(str(given), near))
        folder = path
    found = [p for p in sorted(folder.glob("*.py")) if _defines_system(p)]
    if len(found) == 1:
        return found[0].resolve()
    if not found:
        raise ProjectError(
            "no project file here",
            str(folder),
            "go to the folder of one, or name it with --project; docs/first_hour.md writes one",
        )
    raise ProjectError(
        f"{len(found)} project files here: {', '.join(p.name for p in found)}",
        str(folder),
        "name one with --project",
    )


def read_project(path: Path, record: Path | None = None) -> Project:
    """Runs a project file once. Raises ProjectError that names the line of a mistake in it."""
    sys.path.insert(0, str(path.parent))
    try:
        names = runpy.run_path(str(path), run_name=path.stem)
    except UnderhoodError as error:
        line = _line(error, path)
        raise type(error)(
            error.what, f"{line}, {error.where}" if error.where else line, error.hint, error.also
        ) from error
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}" if error.filename else path.name
        raise ProjectError(f"{error.msg}: {(error.text or '').strip()}".rstrip(": "), where) from error
    except _MISTAKES as error:
        raise ProjectError(f"{type(error).__name__}: {error}", _line(error, path), _hint(error)) from error
    finally:
        sys.path.remove(str(path.parent))
    return Project(path, names, record or path.parent / RECORD)


# What a line of plain Python can raise; the rest (memory, an interrupt) is not a mistake in the file.
_MISTAKES = (
    NameError,
    TypeError,
    AttributeError,
    ImportError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    OSError,
)


def _defines_system(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return "import underhood" in text and ".system(" in text


def _line(error: BaseException, path: Path) -> str:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path.name}:{lines[-1]}" if lines else path.name


def _hint(error: BaseException) -> str:
    if isinstance(error, AttributeError) and error.name and error.obj is not None:
        return nearest(error.name, [n for n in dir(error.obj) if not n.startswith("_")])
    if isinstance(error, ImportError) and error.name:
        return f"install {error.name}, or correct the name"
    return ""
