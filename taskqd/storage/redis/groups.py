"""Groups on Redis."""

from __future__ import annotations

from typing import Any

from taskqd.jobs.job import Entry
from taskqd.storage.redis.keyspace.durable import DurableBase, fields

PAGE = 1000


class GroupCalls(DurableBase):
    """The contract's calls for the answers of a group's members, until its callback has them."""

    def group_open(
        self, group: str, queue: str, total: int, callback: Entry | None, ttl_s: int
    ) -> bool:
        self.announce([queue])
        args: list[Any] = [group, total, ttl_s * 1000]
        args += fields([callback._replace(fresh=False)] if callback is not None else [])
        [is_new] = self.run_written([("group_open", queue, args)])
        return bool(is_new)

    def group_put(self, group: str, queue: str, index: int, answer: bytes) -> int:
        [left] = self.run_written([("group_put", queue, [group, index, answer])])
        return int(left)

    def group_answers(self, group: str, queue: str) -> list[bytes | None]:
        key = self.at(queue).group(group)
        total = int(self._link.call("HGET", key, "total", write=False) or 0)
        found: list[bytes | None] = []
        for at in range(0, total, PAGE):
            page = range(at, min(at + PAGE, total))
            found += self._link.call("HMGET", key, *page, write=False)
        return found

    def group_left(self, group: str, queue: str) -> int:
        left = self._link.call("HGET", self.at(queue).group(group), "left", write=False)
        return -1 if left is None else int(left)

    def group_shorten(self, group: str, queue: str, ttl_s: int) -> None:
        self.run("group_shorten", queue, [group, ttl_s * 1000])
