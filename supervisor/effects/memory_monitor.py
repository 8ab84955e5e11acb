"""Looks at memory: our control group's once a second, that of workers when it gets short."""

from __future__ import annotations

import math

from taskqd.logs import events
from taskqd.settings import MIB
from taskqd.supervisor.context import House
from taskqd.supervisor.host import cgroup
from taskqd.supervisor.host import syscalls as process
from taskqd.supervisor.state import memory
from taskqd.supervisor.state import observation as watch

LOOK_S = 1.0
NEAR_LOOK_S = 0.2
GROUPS_S = 60.0
"""Limits come and go rarely."""
NEAR_PERCENT = 5.0
"""So far below the first mark the workers are measured, to know the largest in time."""


class MemoryWatch:
    def __init__(self, house: House) -> None:
        self._house = house
        self._groups: list[cgroup.Group] = []
        self._groups_s = self._look_s = 0.0
        self._near = False

    def next_s(self) -> float:
        """Return when to look again; with time to spare, whenever the master turns next."""
        return self._look_s if self._near else math.inf

    def look(self) -> None:
        now_s = self._house.clock()
        if now_s < self._look_s:
            return
        if now_s >= self._groups_s:
            self._groups_s = now_s + GROUPS_S
            self._groups = [group for group in cgroup.groups() if group.limit() is not None]
        known, limits = self._house.fleet.memory, self._house.settings.limits
        held = known.held
        memory.note(known, cgroup.pressure(self._groups), limits)
        if known.held is not held:
            self._tell(known)
        first = limits.memory_recycle_percent or limits.memory_stop_percent
        now = known.pressure
        self._near = bool(now and first and now.percent >= first - NEAR_PERCENT)
        self._look_s = now_s + (NEAR_LOOK_S if self._near else LOOK_S)
        if self._near:
            for child in self._house.fleet.crew():
                watch.measure(child, now_s, process.pss_bytes)

    def _tell(self, known: memory.Memory) -> None:
        now = known.pressure
        facts = {
            "percent": round(now.percent, 1) if now else None,
            "limit_mib": round(now.limit_bytes / MIB) if now else None,
        }
        if known.held:
            self._house.log.emit(events.MEMORY_SHORT, **facts)
        else:
            self._house.log.emit(events.MEMORY_EASED, **facts)
