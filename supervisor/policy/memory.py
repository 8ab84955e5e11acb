"""Decides what is done before the kernel kills for want of memory.  Pure.

At the first mark the largest idle worker is replaced, at the second no job is leased but by one
worker, at the third the largest worker is killed, with a reason that its jobs keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskqd.settings import MIB
from taskqd.supervisor.state.actions import Action, ShedWorker
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.memory import MemoryMark, Pressure

SERVED_S = 10.0
"""A worker so young has not had the time to grow: what it holds it holds from the start."""
RECYCLE_PAUSE_S = 10.0
STOP_PAUSE_S = 2.0
"""Until the next measure is taken: the last one has to show."""


def must_rest(fleet: Fleet, child: Child) -> bool:
    """Return whether a worker shall lease nothing.

    When memory is short jobs are still run, one after the other, by one worker: what fills it may
    not be ours, and the daemon must not stand still for it.
    """
    if fleet.quiet or not fleet.memory.held:
        return fleet.quiet
    ready = [one for one in fleet.living_workers() if one.state is ChildState.READY]
    return child is not ready[0] if ready and not _any_busy(fleet, ready) else True


def _any_busy(fleet: Fleet, workers: Sequence[Child]) -> bool:
    return any(_busy(fleet, child) for child in workers)


def _busy(fleet: Fleet, child: Child) -> bool:
    seen = fleet.observations.get(child.worker_id)
    return seen is None or bool(seen.busy)


def shed(fleet: Fleet, now_s: float) -> Iterator[Action]:
    """Return what frees memory now."""
    memory = fleet.memory
    if not memory.mark or memory.pressure is None or fleet.stop is not None:
        return
    if memory.mark >= MemoryMark.STOP and now_s >= memory.stop_at_s:
        alive = [
            child
            for child in fleet.living_workers()
            if child.pid and child.state is not ChildState.DYING
        ]
        yield from _free(alive, memory.pressure, kill=True)
    elif memory.mark < MemoryMark.STOP and now_s >= memory.recycle_at_s:
        yield from _free(_worth_recycling(fleet, now_s), memory.pressure, kill=False)


def _worth_recycling(fleet: Fleet, now_s: float) -> list[Child]:
    """Return idle workers that have done something, and so may have grown; one leaves at a time."""
    workers = fleet.living_workers()
    if any(child.recycled for child in workers) or fleet.reload is not None:
        return []
    return [
        child
        for child in workers
        if child.state is ChildState.READY
        and child.drain.timeline is None
        and child.ready_s is not None
        and now_s >= child.ready_s + SERVED_S
        and not _busy(fleet, child)
        and sum(fleet.observations[child.worker_id].counters) > 0
    ]


def _free(children: Sequence[Child], pressure: Pressure, *, kill: bool) -> Iterator[Action]:
    largest = max(children, key=lambda child: child.load.pss_bytes, default=None)
    if largest is not None:
        text = (
            f"memory: {pressure.percent:.0f} % of {pressure.limit_bytes / MIB:.0f} MiB used, "
            f"{largest.load.pss_bytes / MIB:.0f} MiB by this worker"
        )
        yield ShedWorker(largest.worker_id, text, kill)
