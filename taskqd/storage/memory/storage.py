"""The memory storage: one `Space` for each world and namespace of this process."""

from __future__ import annotations

import threading

from taskqd.storage.memory.answers import AnswerCalls
from taskqd.storage.memory.control import ControlCalls
from taskqd.storage.memory.enqueue import EnqueueCalls
from taskqd.storage.memory.groups import GroupCalls
from taskqd.storage.memory.leases import LeaseCalls
from taskqd.storage.memory.limits import LimitCalls
from taskqd.storage.memory.nodes import NodeCalls
from taskqd.storage.memory.notes import NoteCalls
from taskqd.storage.memory.parked import ParkedCalls
from taskqd.storage.memory.revocations import RevocationCalls
from taskqd.storage.memory.state.space import Space
from taskqd.storage.memory.timers import TimerCalls
from taskqd.storage.memory.views import ViewCalls

_spaces: dict[tuple[str, str], Space] = {}
_guard = threading.Lock()


class MemoryStorage(
    EnqueueCalls,
    LeaseCalls,
    NodeCalls,
    TimerCalls,
    AnswerCalls,
    ControlCalls,
    ViewCalls,
    NoteCalls,
    RevocationCalls,
    LimitCalls,
    GroupCalls,
    ParkedCalls,
):
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
        with _guard:
            shared = space or _spaces.setdefault((world, namespace), Space())
        super().__init__(namespace, shared, max_jobs)

    def close(self) -> None:
        """Jobs stay for other handles of this process."""
