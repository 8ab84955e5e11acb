"""Answers of ended jobs on Redis, and sleeping until there is one."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.ids import bucket
from taskqd.storage.redis.keyspace.durable import DurableBase
from taskqd.storage.redis.keyspace.mailbox import ClusterMailbox, Mailbox
from taskqd.storage.redis.link.cluster import Cluster
from taskqd.storage.redis.link.connection import Args

PAGE = 1000


class AnswerCalls(DurableBase):
    """The contract's calls of those who wait for a job."""

    _mailbox: Mailbox | ClusterMailbox | None = None
    """Where this object waits for answers; made at the first wait."""

    def answer(self, job_id: str, queue: str | None = None) -> bytes | None:
        if queue is None:
            return self.answers([(job_id, None)])[0]
        place, field = bucket(job_id)
        reply = self._link.call("HGET", self.at(queue).answers(place), field, write=False)
        return reply if reply is None else bytes(reply)

    def answers(self, jobs: Sequence[tuple[str, str | None]]) -> list[bytes | None]:
        everywhere = self.known_queues() if any(queue is None for _, queue in jobs) else []
        commands: list[Args] = []
        owners: list[int] = []
        for index, (job_id, queue) in enumerate(jobs):
            place, field = bucket(job_id)
            for name in everywhere if queue is None else (queue,):
                commands.append(("HGET", self.at(name).answers(place), field))
                owners.append(index)
        found: list[bytes | None] = [None] * len(jobs)
        for at in range(0, len(commands), PAGE):
            replies = self._link.pipeline(commands[at : at + PAGE], write=False)
            for index, reply in zip(owners[at : at + PAGE], replies, strict=True):
                found[index] = reply if reply is not None else found[index]
        return found

    def wait(self, jobs: Sequence[tuple[str, str | None]], timeout_s: float) -> None:
        """Wait in one blocking read of at most 5 s after another; a job that is not known just takes time."""
        wanted = {
            (name, job_id)
            for job_id, queue in jobs
            for name in ([queue] if queue is not None else self.homes(job_id))
        }
        if self._mailbox is None:
            kind = ClusterMailbox if isinstance(self._link, Cluster) else Mailbox
            self._mailbox = kind(self)
        if wanted:
            self._mailbox.wait(wanted, timeout_s)

    def homes(self, job_id: str) -> list[str]:
        """Return the queues that know the job; all of them if none does."""
        names = self.known_queues()
        replies = self.run_each("find", names, [job_id], write=False)
        known = [name for name, reply in zip(names, replies, strict=True) if reply[0]]
        return known or names

    def conclude(self, job_id: str, queue: str, answer: bytes, ttl_s: int) -> bool:
        self.announce([queue])
        [is_first] = self.run_written([("conclude", queue, [job_id, answer, ttl_s])])
        return bool(is_first)
