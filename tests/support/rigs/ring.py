"""Waiting for a bell, as a worker's loop does."""

from __future__ import annotations

import select
import time

from taskqd.jobs.job import Lease
from taskqd.storage.base import Bell
from tests.support.waiting import HANG_S


def rung(bell: Bell) -> list[Lease]:
    """Wait until it rings and return what comes with it."""
    deadline_s = time.monotonic() + HANG_S
    while True:
        left_s = deadline_s - time.monotonic()
        assert left_s > 0, "the bell did not ring"
        assert select.select([bell.fileno()], [], [], left_s)[0], "the bell did not ring"
        leases = bell.answer()
        if leases is not None:
            return leases
