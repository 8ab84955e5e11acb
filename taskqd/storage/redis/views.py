"""Looking at jobs, queues and servers: page by page, so that a million jobs are no burden for the server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from taskqd.jobs.job import State
from taskqd.storage.base import JobRow, QueueRow
from taskqd.storage.redis.keyspace import keys
from taskqd.storage.redis.keyspace.base import Base
from taskqd.storage.redis.keyspace.keys import Keys
from taskqd.storage.redis.link.cluster import open_link
from taskqd.storage.redis.link.connection import Link
from taskqd.storage.rules import (
    answer_state,
)

PAGE = 500
_OWN = re.compile(re.escape(keys.queues("NAME")).replace("NAME", "(.+)"))


class ViewCalls(Base):
    """The contract's calls that change nothing."""

    def job(self, job_id: str, queue: str | None = None) -> JobRow | None:
        names = self.some_queues(queue)
        replies = self.run_each("find", names, [job_id], write=False)
        rows = (_found(job_id, name, *reply) for name, reply in zip(names, replies, strict=True))
        return next(filter(None, rows), None)

    def jobs(self, state: State, queue: str | None = None) -> Iterator[JobRow]:
        for name in self.some_queues(queue):
            keys = self.at(name)
            if state is State.QUEUED:
                yield from self._queued(keys)
            elif state is State.SCHEDULED:
                yield from self._scheduled(keys)
            elif state is State.RUNNING:
                yield from self._running(keys)
            elif state is State.DEAD:
                yield from self._dead(keys)
            else:
                yield from (row for row in self._ended(keys) if row.state is state)

    def parts(self, queues: Sequence[str]) -> list[list[str]]:
        return self.apart(queues)

    def queues(self) -> list[QueueRow]:
        names = self.known_queues()
        rows = (
            QueueRow(name, queued, scheduled, running, dead, bool(paused))
            for name, (queued, scheduled, running, dead, paused) in zip(
                names, self.run_each("count", names, write=False), strict=True
            )
        )
        return [row for row in rows if any(row[1:])]

    def _queued(self, keys: Keys) -> Iterator[JobRow]:
        skip: set[bytes] = set()
        for place in [keys.suspects, *keys.ready_lists()]:
            for ids in self._list_pages(place):
                ghosts = self._read("SMISMEMBER", keys["ghosts"], *ids)
                real = []
                for job_id, ghost in zip(ids, ghosts, strict=True):
                    # The first entry of a ghost in lease order is the stale one.
                    if ghost and place != keys.suspects and job_id not in skip:
                        skip.add(job_id)
                    else:
                        real.append(job_id)
                for name, record in self._records(keys, real):
                    yield JobRow(name, keys.queue, State.QUEUED, record)

    def _scheduled(self, keys: Keys) -> Iterator[JobRow]:
        for rows in self._sorted_pages(keys.later):
            due = {job_id.decode(): int(float(ms)) for job_id, ms in rows}
            for name, record in self._records(keys, [row[0] for row in rows]):
                yield JobRow(name, keys.queue, State.SCHEDULED, record, due[name])

    def _running(self, keys: Keys) -> Iterator[JobRow]:
        for worker in self._workers(keys):
            held = self._read("HKEYS", keys.held(worker))
            for at in range(0, len(held), PAGE):
                for job_id, record in self._records(keys, held[at : at + PAGE]):
                    yield JobRow(job_id, keys.queue, State.RUNNING, record, worker=worker)

    def _workers(self, keys: Keys) -> list[str]:
        nodes = self._read("ZRANGE", keys.nodes, 0, -1)
        crews = [self._read("SMEMBERS", keys.crew(node.decode())) for node in nodes]
        return sorted(worker.decode() for crew in crews for worker in crew)

    def _dead(self, keys: Keys) -> Iterator[JobRow]:
        for rows in self._sorted_pages(keys.dead):
            finds = [("find", keys.queue, [job_id.decode()]) for job_id, _ in rows]
            for (job_id, _), reply in zip(rows, self.run_all(finds, write=False), strict=True):
                row = _found(job_id.decode(), keys.queue, *reply)
                if row is not None and row.state is State.DEAD:
                    yield row

    def _ended(self, keys: Keys) -> Iterator[JobRow]:
        """Ended jobs are known by their answers only; finding them reads the names of all keys."""
        prefix = keys.answers("")
        for key in self.scan(prefix + "*"):
            place = key.removeprefix(prefix)
            fields = self._read("HGETALL", key)
            for field, answer in zip(fields[::2], fields[1::2], strict=True):
                job_id = place + field.decode()
                if not self._read("HEXISTS", keys["tomb"], job_id):
                    yield JobRow(job_id, keys.queue, answer_state(answer), b"", answer=answer)

    def _read(self, *command: Any) -> Any:
        return self._link.call(*command, write=False)

    def _records(self, keys: Keys, ids: Sequence[bytes]) -> Iterable[tuple[str, bytes]]:
        """Yield (id, record) of those that have a record."""
        if not ids:
            return
        for job_id, record in zip(ids, self._read("HMGET", keys.jobs, *ids), strict=True):
            if record is not None:
                yield job_id.decode(), record

    def _list_pages(self, key: str) -> Iterator[list[bytes]]:
        start = 0
        while page := self._read("LRANGE", key, start, start + PAGE - 1):
            yield page
            start += PAGE

    def _sorted_pages(self, key: str) -> Iterator[list[tuple[bytes, bytes]]]:
        start = 0
        while page := self._read("ZRANGE", key, start, start + PAGE - 1, "WITHSCORES"):
            yield list(zip(page[::2], page[1::2], strict=True))
            start += PAGE

    def scan(self, pattern: str) -> Iterator[str]:
        """Iterate over the names of keys; each once."""
        seen = set[bytes]()
        for server in self._link.servers():
            for page in scan_pages(server, pattern):
                yield from (key.decode() for key in page if key not in seen)
                seen.update(page)


def scan_pages(server: Link, pattern: str) -> Iterator[list[bytes]]:
    """Iterate over the names of one server's keys; some may come twice."""
    cursor = b"0"
    while True:
        cursor, page = server.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, write=False)
        yield page
        if cursor == b"0":
            return


def namespaces(url: str) -> list[str]:
    """Return the namespaces that have announced a queue, sorted; reads the names of all keys."""
    link, found = open_link(url), set[str]()
    try:
        for server in link.servers():
            for page in scan_pages(server, keys.queues("*")):
                names = (_OWN.fullmatch(key.decode(errors="replace")) for key in page)
                found.update(match[1] for match in names if match)
        return sorted(found)
    finally:
        link.close()


def _found(
    job_id: str, queue: str, state: bytes, record: bytes, ms: bytes, worker: bytes, answer: bytes
) -> JobRow | None:
    """Turn a reply of find.lua into a row; None: not known here."""
    name = state.decode()
    if not name:
        return None
    if name == "ended":
        return JobRow(job_id, queue, answer_state(answer), b"", answer=answer)
    at_ms = int(float(ms))
    if name == "dead":
        reason, _, buried = record.partition(b"\n")
        return JobRow(job_id, queue, State.DEAD, buried, at_ms, "", reason.decode(), answer)
    return JobRow(job_id, queue, State(name), record, at_ms, worker.decode())
