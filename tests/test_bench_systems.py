"""The systems of the bench: their form is documented, each is complete, and one is prepared and used again."""

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from bench.faults.systems import (
    SPANS,
    STATE,
    SYSTEMS,
    Spans,
    Words,
    auc_of,
    digest_of,
    find_systems,
    prepare,
    read_spans,
    write_tables,
)
from tests.world import write_shop
from underhood.ground.errors import NotFoundError, ProjectError
from underhood.ground.project import find_project
from underhood.repair.workbench import open_workbench

DATA = SYSTEMS.parents[3] / "shared" / "data"
README = (SYSTEMS / "README.md").read_text("utf-8")
SHOP_SPANS = """
learn_until = "2024-03-08"
decide_since = 2024-03-08
decide_until = "2024-03-16"

[complaint]
happened = "returned"
missed = "quiet"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def write_spans(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPANS).write_text(text, "utf-8")
    return folder / SPANS


@pytest.mark.parametrize("folder", find_systems(), ids=lambda p: p.name)
def test_a_system_of_the_bench_is_in_the_documented_form(folder):
    spans = read_spans(folder / SPANS)
    code = (folder / "tables.py").read_text("utf-8")

    assert find_project(None, folder).name == f"{folder.name}.py"
    assert spans.about
    assert "def write(data: Path, folder: Path) -> None:" in code
    assert f"**{folder.name}**" in README or f"| {folder.name} |" in README


def test_there_are_five_systems_or_more_and_one_is_held_out():
    held_out = [f.name for f in find_systems() if read_spans(f / SPANS).held_out]

    assert len(find_systems()) >= 5
    assert len(held_out) == 1


def test_the_form_that_the_readme_shows_is_the_form_that_is_read(tmp_path):
    (shown,) = blocks("toml")

    spans = read_spans(write_spans(tmp_path, shown))

    assert set(tomllib.loads(shown)) == {f.name for f in fields(Spans)}
    assert set(tomllib.loads(shown)["complaint"]) == {f.name for f in fields(Words)}
    assert (spans.learn_until, spans.complaint.missed) == ("2024-01-01", "grant")


def test_the_tables_that_the_readme_shows_can_be_written(tmp_path):
    (shown,) = blocks("python")
    (tmp_path / "loans").mkdir()
    (tmp_path / "loans" / "all.csv").write_text("loan,asked_on\n1,2024-01-02\n2,2024-01-01\n3,2024-01-03\n", "utf-8")
    names: dict = {}

    exec(shown, names)
    names["write"](tmp_path, tmp_path)

    assert (tmp_path / "loans.csv").read_text("utf-8") == "loan,asked_on\n2,2024-01-01\n"


def test_all_that_is_wrong_with_the_spans_is_told_at_once(tmp_path):
    path = write_spans(tmp_path, 'learn_untl = "2024-01-01"\ndecide_since = "soon"\n[complaint]\nhappened = 3\n')

    with pytest.raises(ProjectError) as told:
        read_spans(path)

    text = str(told.value)
    for wrong in (
        "lacks learn_until",
        "lacks decide_until",
        "there is no 'learn_untl'",
        "did you mean learn_until",
        "'soon' is not a day",
        "lacks missed",
        "is 3, not a text",
    ):
        assert wrong in text


def test_what_is_decided_must_come_after_what_was_learned(tmp_path):
    text = SHOP_SPANS.replace("decide_since = 2024-03-08", 'decide_since = "2024-03-01"')

    with pytest.raises(ProjectError, match="learn_until 2024-03-08 is not before decide_since 2024-03-01"):
        read_spans(write_spans(tmp_path, text))


def test_an_event_lies_in_the_span_that_is_decided(tmp_path):
    text = SHOP_SPANS + '[[events]]\nname = "fair"\nsince = "2024-03-14"\nuntil = "2024-03-20"\n'

    with pytest.raises(ProjectError, match="fair: 2024-03-14 to 2024-03-20 is not in it"):
        read_spans(write_spans(tmp_path, text))
    with pytest.raises(ProjectError, match="write each as"):
        read_spans(write_spans(tmp_path, text.replace("[[events]]", "[events]")))


def test_a_folder_without_systems_says_where_the_form_is_told(tmp_path):
    with pytest.raises(NotFoundError, match=r"README\.md tells the form"):
        find_systems(tmp_path)


def test_tables_that_must_be_written_need_the_folder_of_data_sets(tmp_path):
    folder = find_systems()[0]

    with pytest.raises(ProjectError, match="needs the folder of data sets"):
        prepare(folder, None, tmp_path)


def test_what_was_made_ready_stays_if_there_is_no_folder_of_data_sets(tmp_path):
    folder = find_systems()[0]
    (tmp_path / folder.name).mkdir()
    (tmp_path / folder.name / STATE).write_text("{}", "utf-8")
    (tmp_path / folder.name / "table.csv").write_text("id\n1\n", "utf-8")

    with pytest.raises(NotFoundError, match="--data"):
        prepare(folder, tmp_path / "nowhere", tmp_path)

    assert (tmp_path / folder.name / "table.csv").exists()


def test_what_was_not_made_here_is_never_thrown_away(tmp_path):
    folder = find_systems()[0]
    (tmp_path / folder.name).mkdir()
    (tmp_path / folder.name / "thesis.txt").write_text("years of work", "utf-8")

    with pytest.raises(ProjectError, match="was not made here"):
        prepare(folder, tmp_path, tmp_path)

    assert (tmp_path / folder.name / "thesis.txt").read_text("utf-8") == "years of work"


def test_the_chance_that_a_positive_scores_above_a_negative_counts_ties_half():
    label, score = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.1, 0.3, 0.5, 0.2])

    above = [(1.0 if p > q else 0.5 if p == q else 0.0) for p in score[label == 1] for q in score[label == 0]]

    assert auc_of(label, score) == pytest.approx(np.mean(above))
    assert auc_of(np.ones(3), np.arange(3.0)) == 0.5


def test_a_change_of_one_byte_in_the_folder_or_of_the_data_is_seen(tmp_path):
    folder, data = tmp_path / "system", tmp_path / "data"
    path = write_spans(folder, SHOP_SPANS)
    data.mkdir()
    first = digest_of(folder, data)

    path.write_text(SHOP_SPANS.replace("quiet", "quieT"), "utf-8")
    changed = digest_of(folder, data)
    (data / "more.csv").write_text("a\n", "utf-8")

    assert len({first, changed, digest_of(folder, data)}) == 3


@pytest.mark.slow
def test_a_system_whose_tables_lie_in_its_folder_is_prepared_once_and_used_again(tmp_path):
    folder = tmp_path / "theirs" / "shop"
    write_shop(folder)
    write_spans(folder, SHOP_SPANS)

    ready = prepare(folder, None, tmp_path / "prepared")
    made = (ready.project.parent / STATE).stat().st_mtime_ns
    again = prepare(folder, None, tmp_path / "prepared")
    with open_workbench(ready.project) as bench:
        n = bench.n_decisions

    assert again == ready
    assert (ready.project.parent / STATE).stat().st_mtime_ns == made
    assert n == ready.measured.n_decisions == 8 * 67
    assert 0.5 < ready.measured.auc < 1
    assert ready.measured.loss < ready.measured.base_loss
    assert sum(ready.measured.shares.values()) == pytest.approx(1, abs=1e-3)
    assert not (folder / ".underhood").exists()

    write_spans(folder, SHOP_SPANS.replace("2024-03-16", "2024-03-12"))
    assert prepare(folder, None, tmp_path / "prepared").measured.n_decisions == 4 * 67


@pytest.mark.slow
def test_words_of_a_complaint_that_the_system_does_not_know_are_told(tmp_path):
    folder = tmp_path / "shop"
    write_shop(folder)
    write_spans(folder, SHOP_SPANS.replace('"returned"', '"retuned"').replace('"quiet"', '"silent"'))

    with pytest.raises(ProjectError) as told:
        prepare(folder, None, tmp_path / "prepared")

    assert "there is no 'retuned' in this system" in str(told.value)
    assert "did you mean returned" in str(told.value)
    assert "there is no 'silent' in this system" in str(told.value)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not beside the checkout")
def test_a_system_of_the_bench_is_prepared_from_the_data_sets(tmp_path):
    ready = prepare(SYSTEMS / "retail", DATA, tmp_path)

    kept = json.loads((ready.project.parent / STATE).read_text("utf-8"))
    assert kept["measured"]["n_decisions"] == ready.measured.n_decisions >= 5000
    assert ready.measured.n_refused == 0
    assert ready.measured.auc > 0.7
    assert ready.measured.loss < ready.measured.base_loss
    assert min(ready.measured.shares.values()) >= 0.05


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not beside the checkout")
@pytest.mark.parametrize("folder", find_systems(), ids=lambda p: p.name)
def test_the_tables_of_a_system_are_the_same_each_time(folder, tmp_path):
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_tables(folder, DATA, tmp_path / name)
        made.append(digest_of(tmp_path / name, None))

    assert made[0] == made[1]
    assert list((tmp_path / "one").iterdir())
