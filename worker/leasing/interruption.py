"""Outcomes of the jobs that a worker leaves running when its time is over."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from taskqd.clock import monotonic_ns
from taskqd.ipc.board import Row
from taskqd.jobs.job import Lease, Outcome
from taskqd.worker.slots import safepoints
from taskqd.worker.slots.base import JobRunner

_CHARS_MAX = 3000


def outcomes(running: Sequence[Lease], row: Row, runner: JobRunner) -> list[Outcome]:
    """Return how they end: interrupted; one past its timeout has had its time, and has failed.

    A worker of several slots that lets the siblings of a late job finish may have to give up both.
    """
    now_ns = monotonic_ns()
    late = {
        view.token: f"ran longer than {(view.deadline_ns - view.started_ns) / 1e9:g} s"
        for view in row.busy()
        if view.deadline_ns and now_ns > view.deadline_ns
    }
    told = f"\n{_stacks()}" if late else ""
    return [
        runner.interrupted(lease, late[lease.token] + told if lease.token in late else "")
        for lease in running
    ]


def _stacks() -> str:
    """Return where the jobs of this process stand."""
    found = []
    for frame in sys._current_frames().values():
        stack = safepoints.users_part(frame)
        if stack:
            lines = traceback.format_list(traceback.StackSummary.extract(iter(stack)))
            found.append("".join(lines).rstrip())
    return "\n\n".join(found)[:_CHARS_MAX]
