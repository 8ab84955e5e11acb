"""Answers of ended jobs, and waiting for them without asking again and again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import RedisError

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.ids import bucket, new_id
from taskqd.storage.redis.bell import BLOCK_S
from taskqd.storage.redis.connection import CALL_S, Args, Link
from taskqd.storage.redis.core import Core
from taskqd.storage.redis.faults import translate
from taskqd.storage.redis.scripts import script

PAGE = 1000
Place = tuple[str, str]
"""Queue, job id."""


class Mailbox:
    """A connection that sleeps until a watched job has ended.

    Jobs stay watched from one wait to the next, so that waiting for many costs little for each.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._link = Link(core._url, timeout_s=BLOCK_S + CALL_S)
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
        # A registration that stays behind goes with its job.
        with contextlib.suppress(StorageError):
            watched = self._watched if self._core._link.is_connected else set()
            for queue, ids in _by_queue(watched).items():
                self._core.run("unwatch", queue, [self._name, *ids])
        self._watched.clear()
        self._unknown.clear()


class Answers(Core):
    """What a caller asks who has enqueued a job."""

    _mailbox: Mailbox | None = None

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
        """One blocking read of at most 5 s after another; a job that is not known just takes time."""
        wanted = {
            (name, job_id)
            for job_id, queue in jobs
            for name in ([queue] if queue is not None else self.homes(job_id))
        }
        if self._mailbox is None:
            self._mailbox = Mailbox(self)
        if wanted:
            self._mailbox.wait(wanted, timeout_s)

    def homes(self, job_id: str) -> list[str]:
        """Return the queues that know the job; all of them if none does."""
        names = self.known_queues()
        replies = self.run_each("find", names, [job_id], write=False)
        known = [name for name, reply in zip(names, replies, strict=True) if reply[0]]
        return known or names


def _by_queue(jobs: Iterable[Place]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for queue, job_id in jobs:
        grouped.setdefault(queue, []).append(job_id)
    return grouped
