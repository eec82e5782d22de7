"""What a command is doing while it takes long: one line on stderr, gone before the answer comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, RLock, Thread
from typing import Any

from rich.console import Console

LINE = 64  # of a line of progress, so that it stays one line
AFTER_S, EVERY_S = 2.0, 5.0
LOOK_S = 0.5  # how often a thread looks whether a line is due
MAY_BE = "it may be: "  # how a diagnosis says a suspect before it is proven


class Progress:
    """One line on stderr that says what is being done, once something takes longer than two seconds.

    On a terminal the line is replaced in place; elsewhere there is a line every five seconds. It comes in time
    even while nothing new is said: a thread of its own looks, from the first line said until `close`.
    """

    def __init__(self, to: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._to, self._clock = to, clock
        self._began = self._next = clock()
        self._next += AFTER_S
        self._line = ""
        self._status: Any = None
        self._one_at_a_time = RLock()
        self._closed: Event | None = None

    def __call__(self, line: str) -> None:
        """Says what is being done, if it has taken long enough to be worth a line; what may be the cause, at once."""
        with self._one_at_a_time:
            if self._to.is_terminal and line.startswith(MAY_BE):
                self._to.print(line, style="dim", markup=False)
            self._line = line
            self._show()
            if self._closed is None:
                self._closed = Event()
                Thread(target=self._look, args=(self._closed,), daemon=True).start()

    def _look(self, closed: Event) -> None:
        while not closed.wait(LOOK_S):
            with self._one_at_a_time:
                if not closed.is_set():
                    self._show()

    def _show(self) -> None:
        now = self._clock()
        if self._to.is_terminal and now >= self._began + AFTER_S:
            if self._status is None:
                self._status = self._to.status(self._line)
                self._status.start()
            self._status.update(self._line)
        elif not self._to.is_terminal and now >= self._next:
            told = self._line if len(self._line) <= LINE else f"{self._line[: LINE - 1]}…"
            self._to.print(f"… {told} ({now - self._began:.0f} s)", style="dim", markup=False)
            self._next = now + EVERY_S

    def close(self) -> None:
        """Takes the line away; what comes next is timed anew."""
        with self._one_at_a_time:
            if self._closed is not None:
                self._closed.set()
                self._closed = None
            if self._status is not None:
                self._status.stop()
                self._status = None
            self._began = self._clock()
            self._next = self._began + AFTER_S
