"""Looks at memory: our control group's once a second, that of workers when it gets short."""

from __future__ import annotations

import math

from taskqd.logs import events
from taskqd.settings import MIB
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.host import cgroup, syscalls
from taskqd.supervisor.state import memory, observation

LOOK_S = 1.0
NEAR_LOOK_S = 0.2
GROUPS_S = 60.0
"""Limits come and go rarely."""
NEAR_PERCENT = 5.0
"""So far below the first mark the workers are measured, to know the largest in time."""


class MemoryMonitor:
    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._groups: list[cgroup.MemoryGroup] = []
        self._groups_s = self._look_s = 0.0
        self._near = False

    def next_s(self) -> float:
        """Return when to look again; with time to spare, whenever the master turns next."""
        return self._look_s if self._near else math.inf

    def look(self) -> None:
        now_s = self._context.clock()
        if now_s < self._look_s:
            return
        if now_s >= self._groups_s:
            self._groups_s = now_s + GROUPS_S
            self._groups = [group for group in cgroup.groups() if group.limit() is not None]
        known, limits = self._context.fleet.memory, self._context.settings.limits
        held = known.held
        memory.note(known, cgroup.pressure(self._groups), limits)
        if known.held is not held:
            self._tell(known)
        first = limits.memory_recycle_percent or limits.memory_stop_percent
        now = known.pressure
        self._near = bool(now and first and now.percent >= first - NEAR_PERCENT)
        self._look_s = now_s + (NEAR_LOOK_S if self._near else LOOK_S)
        if self._near:
            for child in self._context.fleet.living_workers():
                observation.measure(child, now_s, syscalls.pss_bytes)

    def _tell(self, known: memory.MemoryState) -> None:
        now = known.pressure
        facts = {
            "percent": round(now.percent, 1) if now else None,
            "limit_mib": round(now.limit_bytes / MIB) if now else None,
        }
        if known.held:
            self._context.log.emit(events.MEMORY_SHORT, **facts)
        else:
            self._context.log.emit(events.MEMORY_EASED, **facts)
