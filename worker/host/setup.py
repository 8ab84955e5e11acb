"""Set-up of a forked process: its title in `ps`, nice value, random seed, and score for the OOM killer."""

from __future__ import annotations

import contextlib
import os
import random
import sys

import setproctitle

OOM_SCORE = 500
"""Added to the score by which the kernel chooses whom to kill for want of memory: of the daemon's
processes a worker, which is replaced, rather than the master or the zygote."""


def renice(value: int) -> None:
    if value:
        os.nice(value)


def reseed() -> None:
    """Give this process its own random numbers: forked siblings share the parent's state."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def die_before_the_master() -> None:
    """Let the kernel choose this process, and what it starts, when memory runs out."""
    # Where /proc is hidden or read-only the kernel goes by size alone, as it would without us.
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+") as file:
        score = min(1000, int(file.read()) + OOM_SCORE)
        file.seek(0)
        file.write(str(score))


class Title:
    """The process's title in `ps`, written only when it changes."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._shown: str | None = None
        self.show("")

    def show(self, state: str) -> None:
        if state != self._shown:
            self._shown = state
            setproctitle.setproctitle(f"taskqd: {self._role} {state}".rstrip())
