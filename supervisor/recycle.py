"""Decides which worker has served long enough.  Pure."""

from __future__ import annotations

from taskqd.settings import MIB

from .fleet import Child, Limits, Seen
from .lives import State

JITTER = 0.1
"""A share: workers that have started together shall not leave together."""
FAT_AFTER_S = 10.0
"""An app that is over its limit from the start must not have its workers replaced all the time."""


def overdue(child: Child, seen: Seen | None, limits: Limits, now_s: float) -> str:
    """Return why a worker shall be recycled, "" if it shall not."""
    if child.state is not State.READY or child.ready_s is None or seen is None:
        return ""
    jobs, age_s = sum(seen.counters), now_s - child.ready_s
    if limits.jobs is not None and jobs >= max(1.0, limits.jobs * child.jitter):
        return f"max_jobs: {jobs} jobs"
    if limits.age_s is not None and age_s >= limits.age_s * child.jitter:
        return f"max_age_s: {age_s:.0f} s"
    fat = limits.memory_bytes is not None and child.pss_bytes >= limits.memory_bytes
    if fat and age_s >= FAT_AFTER_S:
        return f"max_memory: {child.pss_bytes / MIB:.0f} MiB"
    return ""


def jitter(chance: float) -> float:
    """Return a factor around 1; `chance` is uniform in 0..1."""
    return 1.0 + JITTER * (2.0 * chance - 1.0)
