"""What takes long says what it does, also while nothing new is said, and is gone before the answer comes."""

from __future__ import annotations

import time
from io import StringIO
from typing import Any

from rich.console import Console

from underhood.faces.answers import Face, answer
from underhood.faces.progress import EVERY_S, Progress

CURSOR_BACK = "\x1b[?25h"  # what a terminal is told when the line of progress has been taken away


def waited_for(heard: StringIO, words: str, most_s: float = 10.0) -> bool:
    began = time.monotonic()
    while words not in heard.getvalue() and time.monotonic() < began + most_s:
        time.sleep(0.05)
    return words in heard.getvalue()


def test_a_long_step_that_says_nothing_more_is_told_in_time() -> None:
    heard, now = StringIO(), [0.0]
    progress = Progress(Console(file=heard, width=80), lambda: now[0])
    progress("joining as of then")

    assert heard.getvalue() == ""
    now[0] = 3.0
    assert waited_for(heard, "… joining as of then (3 s)")
    now[0] += EVERY_S
    assert waited_for(heard, "… joining as of then (8 s)")
    progress.close()


def test_a_long_step_is_told_in_time_on_a_terminal_too() -> None:
    heard, now = StringIO(), [0.0]
    progress = Progress(Console(file=heard, width=80, force_terminal=True), lambda: now[0])
    progress("joining as of then")
    now[0] = 3.0

    assert waited_for(heard, "joining as of then")
    progress.close()


def test_nothing_is_said_after_the_end() -> None:
    heard, now = StringIO(), [0.0]
    progress = Progress(Console(file=heard, width=80), lambda: now[0])
    progress("joining as of then")
    progress.close()
    now[0] = 60.0

    assert not waited_for(heard, "joining", most_s=1.5)


def test_the_line_of_progress_is_gone_before_the_answer_comes() -> None:
    heard, now, seen = StringIO(), [0.0], []
    progress = Progress(Console(file=heard, width=80, force_terminal=True), lambda: now[0])
    now[0] = 3.0
    progress("looking for: what leads to it has changed")
    assert CURSOR_BACK not in heard.getvalue()

    def show(to: Any) -> None:
        seen.append(CURSOR_BACK in heard.getvalue())

    answer(Face(None, None, False, progress=progress), {}, show)

    assert seen == [True]
