"""The shop, made once: built, decided, with a case. Tests that change anything take a copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import world
from underhood.repair import workbench as uh
from underhood.repair.cases import read_case
from underhood.repair.workbench import Workbench

os.environ["COLUMNS"] = "80"
# how long an example takes says something of the machine, not of the code
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def built_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The naive shop with its bundle deployed, nothing decided yet. Read only: take a copy."""
    project = world.write_shop(tmp_path_factory.mktemp("built"))
    world.build_shop(project)
    return project


@pytest.fixture(scope="session")
def shop(built_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The naive shop with all of its days decided. Read only: take a copy."""
    project = world.copy_shop(built_shop, tmp_path_factory.mktemp("decided"))
    world.decide_shop(project)
    return project


@pytest.fixture(scope="session")
def bench(shop: Path) -> Iterator[Workbench]:
    """The decided shop, opened, for looking only."""
    with world.open_shop(shop) as opened:
        assert opened.n_decisions
        yield opened


@pytest.fixture(scope="session")
def case_shop(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decided shop with case 1 about 20 March: diagnosed, fixes tried. Read only: take a copy."""
    project = world.copy_shop(shop, tmp_path_factory.mktemp("case"))
    with world.open_shop(project) as opened:
        assert opened.n_decisions
        uh.open_case(opened, world.event_mail(opened))
        uh.diagnose_case(opened)
        uh.fix_case(opened)
    return project


@pytest.fixture(scope="session")
def fixed_shop(case_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with case 1 patched and pinned, not built again yet. Read only: take a copy."""
    project = world.copy_shop(case_shop, tmp_path_factory.mktemp("fixed"))
    with world.open_shop(project) as opened:
        titles = [fix["title"] for fix in read_case(opened.database, 1).fixes]
        relabel = titles.index("label late = true where facts.returned") + 1
        uh.apply_fix(opened, 1, relabel, owner="parcel desk", expires="2024-06-30")
        uh.pin_case(opened, 1)
    return project


@pytest.fixture(scope="session")
def right_built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with its label correctly written; an old bundle from before any ice, and the deployed one."""
    project = world.write_shop(tmp_path_factory.mktemp("right_built"), world.RIGHT)
    world.build_shop(project, "2024-01-16")
    world.build_shop(project)
    return project


@pytest.fixture(scope="session")
def right_bench(right_built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """The shop with its label correctly written and all of its days decided, opened."""
    project = world.copy_shop(right_built, tmp_path_factory.mktemp("right"))
    world.decide_shop(project)
    with world.open_shop(project) as opened:
        assert opened.n_decisions
        yield opened


@pytest.fixture
def own(tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a shop into the test's own folder; returns its project file."""
    return lambda project: world.copy_shop(project, tmp_path / "own")
