"""For what a scheduler is responsible: its node, its queues, and who is told of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from taskqd.execution.protocols import JobView
from taskqd.jobs.job import Lease, Outcome
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node

from .parked_jobs import ParkedJobs
from .ticker import Ticker

NEVER_S = 1e9
"""What is due after so many seconds is not due again."""


class Duty(NamedTuple):
    """What the threads of a scheduler work for."""

    node: Node
    queues: Sequence[str]
    lease_s: float
    limits: LimitSettings
    ticker: Ticker
    interrupted: Callable[[Lease], Outcome]
    """Makes the outcome of a job that is stopped with its worker."""
    tell: Callable[[str, JobView], None] = lambda signal, job: None
    """The handlers of "orphaned", "requeued" and "dead"."""
    parked_jobs: ParkedJobs | None = None
