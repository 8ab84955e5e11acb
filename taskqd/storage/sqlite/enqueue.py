"""Writing jobs on SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.jobs.job import Entry
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.entries import add

JOBS_AT_ONCE = 500
"""Jobs written by one transaction, so that a large `enqueue` does not lock others out."""


class EnqueueCalls(Base):
    """The contract's calls of producers."""

    def enqueue(self, jobs: Sequence[Entry]) -> list[bool]:
        added: list[bool] = []
        for start in range(0, len(jobs), JOBS_AT_ONCE):
            part = jobs[start : start + JOBS_AT_ONCE]
            added += self._write(lambda unit, part=part: add(unit, part), grows=True)  # type: ignore[misc]
        return added
