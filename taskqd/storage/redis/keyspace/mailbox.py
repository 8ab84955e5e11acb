"""Waiting for answers without asking again and again."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterable
from typing import Any

from redis.exceptions import RedisError

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.ids import new_id
from taskqd.storage.redis.keyspace.base import Base
from taskqd.storage.redis.keyspace.scripts import script
from taskqd.storage.redis.link.blocking_reads import BlockingReads
from taskqd.storage.redis.link.connection import BLOCK_S, SILENT_S, Args, Link
from taskqd.storage.redis.link.faults import translate

PAGE = 1000
Place = tuple[str, str]
"""Queue, job id."""


class Mailbox:
    """A connection that sleeps until a watched job has ended.

    Jobs stay watched from one wait to the next, so that waiting for many costs little for each.
    """

    def __init__(self, core: Base) -> None:
        self._core = core
        self._link = Link(core._url, timeout_s=BLOCK_S + SILENT_S)
        self._name = new_id()
        self._watched: set[Place] = set()
        self._unknown: set[Place] = set()
        """Watched, but not known when last asked: the server forgets after a while who waits."""
        self._connects = 0

    def wait(self, wanted: set[Place], timeout_s: float) -> None:
        """Return when one of `wanted` has ended, at `timeout_s`, or early."""
        deadline_s = monotonic_s() + timeout_s
        watched = self._watched - self._unknown
        unwatched = wanted - watched if self._connects == self._link.connects else wanted
        while (left_s := deadline_s - monotonic_s()) > 0:
            ended, known = self._sleep(unwatched, {queue for queue, _ in wanted}, left_s)
            if ended & wanted or not (known or wanted - unwatched):
                return
            unwatched = wanted  # asked anew: the server may have forgotten who waits

    def _sleep(
        self, unwatched: Iterable[Place], queues: set[str], left_s: float
    ) -> tuple[set[Place], int]:
        """Watch more jobs and sleep for one blocking read.

        Returns which have ended, and how many of `unwatched` are known at all.
        """
        boxes = {self._core.at(queue).mail(self._name): queue for queue in queues}
        watches = list(self._watch_commands(unwatched))
        block_s = max(0.001, min(left_s, BLOCK_S))
        sleep = ("BLPOP", *boxes, f"{block_s:.3f}")
        self._link.send([*(command for _, command in watches), sleep])
        replies = [self._link.read(write=False) for _ in range(len(watches) + 1)]
        self._connects = self._link.connects
        for reply in replies:
            if isinstance(reply, RedisError):
                # A server that was demoted answers for ever; its name may lead to another one now.
                self._link.close()
                raise translate(reply, self._link.where, unknown=False)
        *counts, first = replies
        known = sum(ended + waiting for ended, waiting, *_ in counts)
        self._watched.update(unwatched)
        self._unknown.difference_update(unwatched)
        for (queue, _), (_, _, *unknown) in zip(watches, counts, strict=True):
            self._unknown.update((queue, job_id.decode()) for job_id in unknown)
        if first is None:
            return set(), known
        ended = {(boxes[first[0].decode()], first[1].decode())}
        if len(self._watched) > 1:
            ended |= self._rest(boxes)
        self._watched -= ended
        self._unknown -= ended
        return ended, known

    def _watch_commands(self, jobs: Iterable[Place]) -> Iterable[tuple[str, Args]]:
        """Iterate over (queue, command)."""
        # EVAL, not EVALSHA: a script that the server forgot would leave the read behind it waiting.
        text = script("watch").text
        for queue, ids in _by_queue(jobs).items():
            for at in range(0, len(ids), PAGE):
                key = self._core.at(queue).jobs
                yield queue, ("EVAL", text, 1, key, self._name, *ids[at : at + PAGE])

    def _rest(self, boxes: dict[str, str]) -> set[Place]:
        """Return what else has ended."""
        replies = self._link.pipeline([("LPOP", box, PAGE) for box in boxes], write=False)
        return {
            (queue, job_id.decode())
            for queue, reply in zip(boxes.values(), replies, strict=True)
            for job_id in reply or ()
        }

    def close(self) -> None:
        self._link.close()
        _unwatch(self._core, self._name, self._watched)
        self._watched.clear()
        self._unknown.clear()


class ClusterMailbox:
    """As `Mailbox`, with a blocking read for each queue; jobs are watched by other connections, so
    that a read which is under way can serve one wait after another.
    """

    def __init__(self, core: Base) -> None:
        self._core = core
        self._name = new_id()
        self._reads: dict[str, BlockingReads] = {}
        """By queue."""
        self._watched: set[Place] = set()
        self._unknown: set[Place] = set()
        self._connects = 0

    def wait(self, wanted: set[Place], timeout_s: float) -> None:
        """Return when one of `wanted` has ended, at `timeout_s`, or early."""
        deadline_s = monotonic_s() + timeout_s
        queues = {queue for queue, _ in wanted}
        asked = False
        while (left_s := deadline_s - monotonic_s()) > 0:
            known = self._watch(wanted, again=asked)
            self._sleep(queues, min(left_s, BLOCK_S))
            if self._ended(queues) & wanted or not known:
                return
            asked = True

    def _watch(self, wanted: set[Place], *, again: bool) -> bool:
        """Watch the jobs, `again` though they are watched; returns whether any of them is known."""
        if self._connects != self._core._link.connects:
            self._watched.clear()
        unwatched = wanted if again else wanted - (self._watched - self._unknown)
        calls = [
            ("watch", queue, [self._name, *ids[at : at + PAGE]])
            for queue, ids in _by_queue(unwatched).items()
            for at in range(0, len(ids), PAGE)
        ]
        known = len(wanted) - len(unwatched)
        self._unknown.difference_update(unwatched)
        for (_, queue, _), reply in zip(calls, self._core.run_all(calls), strict=True):
            ended, waiting, *unknown = reply
            known += ended + waiting
            self._unknown.update((queue, job_id.decode()) for job_id in unknown)
        self._watched.update(unwatched)
        self._connects = self._core._link.connects
        return known > 0

    def _sleep(self, queues: set[str], timeout_s: float) -> None:
        poll = select.poll()
        for queue in queues:
            read = self._reads.get(queue)
            if read is None:
                box = self._core.at(queue).mail(self._name)
                read = self._reads[queue] = BlockingReads(self._core._link, [box])
            read.listen()
            poll.register(read.fileno(), select.POLLIN)
        poll.poll(max(1.0, timeout_s * 1000))

    def _ended(self, queues: set[str]) -> set[Place]:
        """Return what the reads tell that have ended, and what else has come by then."""
        ended = set[Place]()
        for queue in queues:
            if not self._reads[queue].is_rung():
                continue
            found = [job_id for _, job_id in self._reads[queue].take()]
            if found:
                box = self._core.at(queue).mail(self._name)
                found += self._core._link.call("LPOP", box, PAGE) or ()
            ended.update((queue, job_id.decode()) for job_id in found)
        self._watched -= ended
        self._unknown -= ended
        return ended

    def close(self) -> None:
        for read in self._reads.values():
            read.end()
        _unwatch(self._core, self._name, self._watched)
        self._watched.clear()
        self._unknown.clear()


def _unwatch(core: Base, name: str, watched: Iterable[Place]) -> None:
    """Take a waiter off what it still waits for; a registration that stays goes with its job."""
    with contextlib.suppress(StorageError):
        for queue, ids in _by_queue(watched if core._link.is_connected else ()).items():
            core.run("unwatch", queue, [name, *ids])


def _by_queue(jobs: Iterable[Place]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for queue, job_id in jobs:
        grouped.setdefault(queue, []).append(job_id)
    return grouped
