"""Groups and their callbacks, in memory."""

from __future__ import annotations

from taskqd.jobs.job import Entry
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.space import OpenGroup


class GroupCalls(Base):
    """The contract's calls for the answers of a group's members, until its callback has them."""

    def group_open(
        self, group: str, queue: str, total: int, callback: Entry | None, ttl_s: int
    ) -> bool:
        space = self._space
        with space.lock:
            if self._group(group) is not None:
                return False
            until = space.wall_ms() + ttl_s * 1000
            space.groups[group] = OpenGroup(queue, total, callback, until)
            if not total:
                self._call_back(space.groups[group])
            return True

    def group_put(self, group: str, queue: str, index: int, answer: bytes) -> int:
        with self._space.lock:
            found = self._group(group)
            if found is None:
                return -1
            if index in found.answers:
                return found.total - len(found.answers)
            found.answers[index] = answer
            left = found.total - len(found.answers)
            if not left:
                self._call_back(found)
            return left

    def _call_back(self, group: OpenGroup) -> None:
        if group.callback is not None:
            self._space.add(group.callback)
            self._space.ring(group.callback.queue, 1)

    def group_answers(self, group: str, queue: str) -> list[bytes | None]:
        with self._space.lock:
            found = self._group(group)
            return [found.answers.get(i) for i in range(found.total)] if found else []

    def group_left(self, group: str, queue: str) -> int:
        with self._space.lock:
            found = self._group(group)
            return found.total - len(found.answers) if found else -1

    def group_shorten(self, group: str, queue: str, ttl_s: int) -> None:
        with self._space.lock:
            found = self._group(group)
            if found is not None:
                found.until_ms = min(found.until_ms, self._space.wall_ms() + ttl_s * 1000)

    def _group(self, group: str) -> OpenGroup | None:
        found = self._space.groups.get(group)
        return found if found is not None and found.until_ms > self._space.wall_ms() else None
