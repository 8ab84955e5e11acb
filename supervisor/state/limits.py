"""How long a worker serves.  Pure."""

from __future__ import annotations

from typing import NamedTuple

from taskqd.settings import Settings


class WorkerLimits(NamedTuple):
    """How long a worker serves; None: for ever."""

    jobs: int | None = None
    age_s: float | None = None
    memory_bytes: int | None = None


UNLIMITED = WorkerLimits()


def limits_of(settings: Settings) -> WorkerLimits:
    workers = settings.workers
    return WorkerLimits(workers.max_jobs, workers.max_age_s, workers.max_memory_bytes)
