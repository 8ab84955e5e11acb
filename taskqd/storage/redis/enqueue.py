"""Writing jobs on Redis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskqd.jobs.job import Entry
from taskqd.storage.redis.keyspace.durable import DurableBase


class EnqueueCalls(DurableBase):
    """The contract's calls of producers."""

    def enqueue(self, jobs: Sequence[Entry]) -> list[bool]:
        if len(jobs) == 1:
            self.announce((jobs[0].queue,))
            return self.write_jobs(jobs[0].queue, jobs)
        queues = list(dict.fromkeys(job.queue for job in jobs))
        self.announce(queues)
        if len(queues) <= 1:
            return self.write_jobs(queues[0], jobs) if jobs else []
        results: dict[str, Iterator[bool]] = {}
        for queue in queues:
            results[queue] = iter(self.write_jobs(queue, [j for j in jobs if j.queue == queue]))
        return [next(results[job.queue]) for job in jobs]
