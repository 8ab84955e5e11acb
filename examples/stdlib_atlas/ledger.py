"""The outside ledger: what really ran, written by the jobs themselves and not by the queue.

One line of JSON for each start and each end, appended with one write, so a SIGKILL at any moment
loses at most the line that was never written.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from taskqd import CurrentJob

LEDGER_ENV = "ATLAS_LEDGER"
"""Names the file; without it nothing is written."""


class Line(msgspec.Struct, frozen=True):
    job: str
    pid: int
    ended: bool
    interruptions: int
    crashes: int


class Account(msgspec.Struct, frozen=True):
    """What the ledger says of a set of jobs."""

    jobs: int
    lost: int
    """Jobs that never ended."""
    ran_twice: int
    """Jobs that ended more than once."""
    interrupted: int
    """Attempts that were stopped with their worker."""
    crashed: int
    """Attempts whose worker died."""


@contextmanager
def witness(job: CurrentJob) -> Iterator[None]:
    """Write down that the job starts and, if the block does not raise, that it has ended."""
    _write(job, ended=False)
    yield
    _write(job, ended=True)


def _write(job: CurrentJob, *, ended: bool) -> None:
    path = os.environ.get(LEDGER_ENV)
    if not path:
        return
    line = Line(job.id, os.getpid(), ended, job.interruptions, job.crashes)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(fd)


class Ledger:
    """Reads the ledger while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._tail = b""
        self._lines: list[Line] = []
        path.touch()

    def read(self) -> list[Line]:
        """Return all lines so far."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        *whole, self._tail = (self._tail + new).split(b"\n")
        self._lines += [msgspec.json.decode(line, type=Line) for line in whole]
        return self._lines

    def ended(self) -> int:
        return len({line.job for line in self.read() if line.ended})

    def busy(self) -> list[int]:
        """Return the pids that are in the middle of a job, those that started last first."""
        last = {line.pid: line for line in self.read()}
        return [pid for pid, line in reversed(last.items()) if not line.ended]

    def account(self, jobs: list[str]) -> Account:
        lines = self.read()
        ends = Counter(line.job for line in lines if line.ended)
        interruptions = {line.job: line.interruptions for line in lines}
        crashes = {line.job: line.crashes for line in lines}
        return Account(
            jobs=len(jobs),
            lost=sum(job not in ends for job in jobs),
            ran_twice=sum(ends[job] > 1 for job in jobs),
            interrupted=sum(interruptions.values()),
            crashed=sum(crashes.values()),
        )
