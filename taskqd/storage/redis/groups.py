"""Groups on Redis."""

from __future__ import annotations

from typing import Any

from taskqd.jobs.job import Entry
from taskqd.storage.redis.keyspace.durable import DurableBase, fields


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
        flat = self._link.call("HGETALL", self.at(queue).group(group), write=False)
        known = dict(zip(flat[::2], flat[1::2], strict=True))
        return [known.get(b"%d" % index) for index in range(int(known.get(b"total", 0)))]

    def group_left(self, group: str, queue: str) -> int:
        left = self._link.call("HGET", self.at(queue).group(group), "left", write=False)
        return -1 if left is None else int(left)

    def group_shorten(self, group: str, queue: str, ttl_s: int) -> None:
        self.run("group_shorten", queue, [group, ttl_s * 1000])
