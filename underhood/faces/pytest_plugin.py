"""Pinned cases as tests: `pytest pins/` decides each pinned question again with the deployed bundle.

A pin file belongs to the project file in the folder above it; `--underhood-project`
names another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SUFFIX = ".pin.json"
EXPIRED = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --underhood-project."""
    parser.addoption(
        "--underhood-project",
        default=None,
        help="the project file whose deployed bundle pinned cases are checked with",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Collects files that end in .pin.json."""
    if not file_path.name.endswith(SUFFIX):
        return None
    made: pytest.File = PinFile.from_parent(parent, path=file_path)
    return made


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Names the patches that have expired: a pin that holds may have held only because of one."""
    for name, words in config.stash.get(EXPIRED, {}).items():
        terminalreporter.write_line(f"expired: patch {name} {words}", red=True)


class PinFile(pytest.File):
    """One pin file: one test."""

    def collect(self) -> Iterator[pytest.Item]:
        """The one test of the file, named as the case is."""
        yield PinItem.from_parent(self, name=self.path.name.removesuffix(SUFFIX))


class PinFailure(AssertionError):
    """A pinned case is broken again."""


class PinItem(pytest.Item):
    """One pinned case."""

    def runtest(self) -> None:
        """Decides the pinned questions again; fails if more than allowed are told what they must not be."""
        from underhood.repair.pin import read_pin, said
        from underhood.repair.workbench import check_one_pin, expired, open_workbench

        project = self.config.getoption("--underhood-project") or self.path.parent.parent
        with open_workbench(project) as bench:
            pinned = check_one_pin(bench, read_pin(self.path))
            late = {p.name: f"ended on {p.expires}: {p.owner} must renew it or mend the cause" for p in expired(bench)}
        self.config.stash.setdefault(EXPIRED, {}).update(late)
        if not pinned.holds:
            raise PinFailure(
                f"{said(pinned)}\nfirst: {', '.join(pinned.keys)}\ntry: underhood diagnose {pinned.pin.case}"
            )

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """Only the words for a broken pin or a known error; the traceback for anything else."""
        from underhood.ground.errors import UnderhoodError

        if isinstance(excinfo.value, (PinFailure, UnderhoodError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the test stands."""
        return self.path, 0, f"pinned case {self.name}"
