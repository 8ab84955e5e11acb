"""The timer of one worker: calls the slots when a limit of a job is due, in a thread of its own."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from taskqd.clock import monotonic_s
from taskqd.worker.host import syscalls

Due = Callable[[float], float]
"""Do what is due at this time; return when to be called again (inf: not by itself)."""


class Timer:
    """Made by each worker for itself; `add` before the first `set`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_s = math.inf
        self._dues: list[Due] = []
        self._runs = False

    def add(self, due: Due) -> None:
        self._dues.append(due)

    def set(self, at_s: float) -> None:
        """Call all that were added at `at_s` on the monotonic clock, or sooner."""
        with self._changed:
            if at_s < self._at_s:
                self._at_s = at_s
                self._changed.notify()
            if not self._runs and at_s < math.inf:
                self._runs = True
                run = threading.Thread(
                    target=syscalls.vital, args=(self._run,), name="timer", daemon=True
                )
                run.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (left_s := self._at_s - monotonic_s()) > 0:
                    self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
                self._at_s = math.inf
            now_s = monotonic_s()
            self.set(min((due(now_s) for due in self._dues), default=math.inf))
