"""Parked dead letters on Redis."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.storage.features import Letter, Parked
from taskqd.storage.redis.keyspace.durable import DurableBase

PAGE = 300
"""Letters in one call of a script: each takes some commands."""


class ParkedCalls(DurableBase):
    """The contract's calls for letters that wait under a label."""

    def parked(self, queues: Sequence[str]) -> list[Parked]:
        replies = self.run_each("parked", queues, write=False)
        return [
            Parked(queue, label.decode(), count, ms / 1000)
            for queue, reply in zip(queues, replies, strict=True)
            for label, count, ms in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    def parked_letters(self, queue: str, label: str, limit: int) -> list[Letter]:
        reply = self.run("letters", queue, [label, limit], write=False)
        return [
            Letter(job_id.decode(), record, ms / 1000)
            for job_id, record, ms in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    def know(self, node: str, queue: str, label: str) -> bool:
        return bool(self.run("know", queue, [node, label]))

    def relabel(self, queue: str, job_ids: Sequence[str], label: str) -> list[str]:
        found: list[bytes] = []
        for at in range(0, len(job_ids), PAGE):
            page = job_ids[at : at + PAGE]
            [ids] = self.run_written([("relabel", queue, [label, *page])])
            found += ids
        return [job_id.decode() for job_id in found]
