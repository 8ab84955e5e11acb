"""The memory storage: one `Space` for each world and namespace of this process."""

from __future__ import annotations

import threading

from taskqd.storage.memory.features import Kept
from taskqd.storage.memory.groups import Groups
from taskqd.storage.memory.keep import Keep
from taskqd.storage.memory.parking import Parking
from taskqd.storage.memory.space import Space
from taskqd.storage.memory.view import View
from taskqd.storage.memory.work import Work

_spaces: dict[tuple[str, str], Space] = {}
_guard = threading.Lock()


class MemoryStorage(Work, Keep, View, Kept, Groups, Parking):
    """The readable reference of the contract.  May be used by several threads at once.

    `world`: handles of one world and namespace share their jobs (``memory://world``).  `space`
    is given by tests that bring their own clocks.
    """

    def __init__(
        self,
        namespace: str,
        *,
        world: str = "",
        max_jobs: int | None = None,
        space: Space | None = None,
    ) -> None:
        self.namespace = namespace
        self._max_jobs = max_jobs
        with _guard:
            self._space = space or _spaces.setdefault((world, namespace), Space())
