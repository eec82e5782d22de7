"""The pages are true: every session in them says what the page says. And the tool that sees to it works."""

import subprocess
import textwrap

import pytest

import make
from underhood.faults import KINDS


def page(text):
    return textwrap.dedent(text).lstrip("\n").replace("'''", "```")


@pytest.fixture
def example(tmp_path):
    folder = tmp_path / "departures"
    folder.mkdir()
    (folder / "flights.csv").write_text("id\n1\n2\n")
    return folder


# --- every page ---


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in make.pages() if make.has_sessions(p)], ids=lambda p: str(p.relative_to(make.ROOT))
)
def test_a_page_says_what_its_sessions_say_today(path):
    changes = make.difference(path, make.fresh(path))

    assert changes == "", f"try: make docs\n{changes}"


def test_the_readme_counts_the_kinds_that_are_looked_for():
    assert f" {len(KINDS)} kinds of fault" in (make.ROOT / "README.md").read_text(encoding="utf-8")


# --- output against what is documented ---


@pytest.mark.parametrize(
    ("documented", "output"),
    [
        (["took … s"], ["took 3.2 s"]),
        (["…"], []),
        (["…"], ["a", "b"]),
        (["a", "…", "z"], ["a", "z"]),
        (["a", "…", "b", "…", "z"], ["a", "b", "x", "b", "y", "z"]),
        (["  …", "z"], ["a", "z"]),
        (["1 … 3"], ["1 … 3"]),
    ],
)
def test_an_ellipsis_stands_for_any_text_or_any_lines(documented, output):
    assert make.holds(documented, output)


@pytest.mark.parametrize(
    ("documented", "output"),
    [
        (["took … s"], ["took 3.2 ms"]),
        (["a.c"], ["abc"]),
        (["a", "…"], ["b"]),
        (["…", "z"], ["z", "a"]),
        ([], ["a"]),
        (["a"], []),
    ],
)
def test_an_ellipsis_stands_for_nothing_else(documented, output):
    assert not make.holds(documented, output)


def test_output_that_still_holds_is_kept_as_it_is_written():
    documented = ["took … s", "…", "done"]

    assert make.settled(documented, ["took 9 s", "a", "b", "done"]) == documented


def test_only_the_line_that_changed_is_rewritten():
    documented = ["took … s", "3 suspects", "", "…", "done"]
    output = ["took 9 s", "4 suspects", "", "a", "b", "done"]

    assert make.settled(documented, output) == ["took … s", "4 suspects", "", "…", "done"]


def test_an_ellipsis_line_keeps_its_place_when_the_lines_around_it_change():
    documented = ["head", "first", "…", "last", "tail"]
    output = ["head", "FIRST", "a", "b", "LAST", "tail"]

    assert make.settled(documented, output) == ["head", "FIRST", "…", "LAST", "tail"]


def test_an_ellipsis_line_goes_when_there_is_nothing_left_for_it_to_hide():
    assert make.settled(["a", "b", "…", "y"], ["a", "z"]) == ["a", "z"]


def test_what_is_rewritten_holds():
    documented = ["…", "b", "x … y", "", "…", "q"]
    output = ["a", "c", "x 1 y", "z", "", "q", "r"]

    assert make.holds(make.settled(documented, output), output)


# --- sessions in bash ---


def test_a_session_is_written_as_it_came_out(example):
    before = page("""
        # Page

        '''console
        $ cat flights.csv
        wrong

        $ mkdir inner && cd inner
        $ pwd
        '''

        '''sh
        rm -rf /not/run
        '''
        """)
    after = before.replace("wrong", "id\n1\n2").replace("$ pwd\n", "$ pwd\n~/departures/inner\n")

    assert make.with_sessions(before, example) == after
    assert make.with_sessions(after, example) == after


def test_a_command_may_go_on_over_several_lines(example):
    text = page("""
        '''console
        $ echo one \\
            two
        one two
        $ cat <<END
        > a complaint
        > END
        a complaint
        '''
        """)

    assert make.with_sessions(text, example) == text


def test_a_session_sees_a_fixed_terminal_and_no_colour(example):
    text = page("""
        '''console
        $ echo $COLUMNS $NO_COLOR $TERM $TZ $HOME
        80 1 dumb UTC ~
        '''
        """)

    assert make.with_sessions(text, example) == text


def test_the_example_itself_is_never_changed(example):
    make.with_sessions(page("""
        '''console
        $ echo 3 >> flights.csv
        '''
        """), example)  # fmt: skip

    assert (example / "flights.csv").read_text() == "id\n1\n2\n"


def test_a_command_that_fails_is_not_written_into_the_page(example):
    text = page("""
        '''console
        $ cat nowhere.csv
        '''
        """)

    with pytest.raises(make.PageError, match=r"line 2: `cat nowhere.csv` exits 1, the page says 0"):
        make.with_sessions(text, example)


def test_a_command_that_fails_says_so_in_the_page(example):
    text = page("""
        '''console
        $ echo broken; false  # exits 1
        broken
        '''
        """)

    assert make.with_sessions(text, example) == text


def test_a_command_that_succeeds_though_the_page_promises_failure_is_reported(example):
    with pytest.raises(make.PageError, match="exits 0, the page says 1"):
        make.with_sessions("```console\n$ true  # exits 1\n```\n", example)


def test_what_a_session_leaves_running_ends_with_it(example):
    text = page("""
        '''console
        $ sleep 60 & echo $! > pid; echo started
        started
        $ kill -0 $(cat pid) && echo lives
        lives
        '''
        """)

    with make.Scratch(example) as scratch:
        scratch.shell("sleep 60 & echo $! > pid")
        pid = int((scratch.folder / "pid").read_text())
        assert is_running(pid)

    assert make.with_sessions(text, example) == text
    assert ends(pid)


def ends(pid):
    """Whether a process goes away; a signal takes a moment to arrive."""
    return any(not is_running(pid) for _ in range(200))


def is_running(pid):
    """Whether a process does anything still; one that has ended and was not yet fetched does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() != "" and not shown.stdout.strip().startswith("Z")


def test_output_that_would_be_read_as_a_command_is_refused(example):
    with pytest.raises(make.PageError, match="read as a command"):
        make.with_sessions("```console\n$ printf '$ %s\\n' true\n```\n", example)


def test_a_console_block_that_does_not_start_with_a_command_is_refused(example):
    with pytest.raises(make.PageError, match="line 2"):
        make.with_sessions("```console\nmake setup\n```\n", example)


def test_a_block_that_does_not_end_is_refused(example):
    with pytest.raises(make.PageError, match="does not end"):
        make.with_sessions("```console\n$ true\n", example)


def test_a_block_inside_a_longer_fence_is_text(example):
    text = "````markdown\n```console\n$ false\n```\n````\n"

    assert make.with_sessions(text, example) == text


# --- sessions in Python ---


def test_blocks_share_one_namespace_and_the_folder_of_the_commands(example):
    before = page("""
        <!-- run -->
        '''python
        n = 2
        print("printed")
        n + 1
        '''

        '''console
        $ mkdir inner && cd inner && echo x > here
        '''

        <!-- run -->
        '''python
        from pathlib import Path
        Path("here").read_text() * n
        '''

        '''output
        old
        '''

        '''python
        never.run
        '''
        """)
    first, second = "```\n\n```output\nprinted\n3\n```\n", "'x\\nx\\n'"
    after = before.replace("n + 1\n```\n", "n + 1\n" + first).replace("old", second)

    assert make.with_sessions(before, example) == after
    assert make.with_sessions(after, example) == after


def test_what_child_processes_print_is_output_too(example):
    text = page("""
        <!-- run -->
        '''python
        import subprocess
        _ = subprocess.run(["echo", "from the child"])
        '''

        '''output
        from the child
        '''
        """)

    assert make.with_sessions(text, example) == text


def test_output_goes_when_a_block_no_longer_says_anything(example):
    before = "<!-- run -->\n```python\nn = 1\n```\n\n```output\nold\n```\n\nmore\n"

    assert make.with_sessions(before, example) == "<!-- run -->\n```python\nn = 1\n```\n\nmore\n"


def test_an_error_is_shown_only_where_the_page_announces_it(example):
    code = "```python\n{}['late']\n```\n\n```output\nKeyError: 'late'\n```\n"

    assert make.with_sessions(f"<!-- run: raises -->\n{code}", example) == f"<!-- run: raises -->\n{code}"
    with pytest.raises(make.PageError, match="raises though the page does not say so"):
        make.with_sessions(f"<!-- run -->\n{code}", example)
    with pytest.raises(make.PageError, match="does not raise as the page says"):
        make.with_sessions("<!-- run: raises -->\n```python\n1\n```\n", example)


def test_a_block_that_ends_python_is_reported(example):
    with pytest.raises(make.PageError, match="Python ended"):
        make.with_sessions("<!-- run -->\n```python\nraise SystemExit(3)\n```\n", example)
