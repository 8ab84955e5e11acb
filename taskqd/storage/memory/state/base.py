"""What every part of the memory storage stands on."""

from __future__ import annotations

from taskqd.storage.memory.state.space import Space


class Base:
    """One opened storage: its namespace, what that holds, and how many jobs it may hold."""

    def __init__(self, namespace: str, space: Space, max_jobs: int | None) -> None:
        self.namespace = namespace
        self._space = space
        self._max_jobs = max_jobs
