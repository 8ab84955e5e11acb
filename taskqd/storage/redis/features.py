"""The second half of the contract: notes, standing orders, rates, groups, schedules.

What belongs to a job or a queue is kept under the queue's tag; standing orders, locks, rates and
schedules under the namespace's own.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from taskqd.jobs.job import Entry
from taskqd.storage.features import Hold, Noted, Revocation
from taskqd.storage.redis.core import Core
from taskqd.storage.redis.produce import fields
from taskqd.storage.rules import rate_window_ms

_decode_order = msgspec.json.Decoder(Revocation).decode


class Kept(Core):
    """Everything but locks."""

    # -- notes -------------------------------------------------------------------------------

    def note(self, hold: Hold, key: str, value: bytes, *, once: bool = False) -> Noted:
        args = [hold.worker, hold.job_id, hold.token, key, value, "1" if once else "0"]
        return cast("Noted", self.run("note", hold.queue, args).decode())

    def notes(self, job_id: str, queue: str | None = None) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name in self.some_queues(queue):
            flat = self._link.call("HGETALL", self.at(name).notes(job_id), write=False)
            found |= {k.decode(): v for k, v in zip(flat[::2], flat[1::2], strict=True)}
        return found

    # -- revocation --------------------------------------------------------------------------

    def stop(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        return any(self.run_each("stop", self.some_queues(queue), [job_id, answer, ttl_s]))

    def revoke(self, subject: str, revocation: Revocation, ttl_s: int) -> None:
        told = self.run("revoke", "", [subject, ttl_s * 1000, msgspec.json.encode(revocation)])
        self.run_each("flag", self.known_queues(), told)

    def restore(self, subject: str) -> bool:
        was_kept, *told = self.run("restore", "", [subject])
        if told:
            self.run_each("flag", self.known_queues(), told)
        return bool(was_kept)

    def revocations(self) -> dict[str, Revocation]:
        flat = self.run("revocations", "", write=False)
        return {k.decode(): _decode_order(v) for k, v in zip(flat[::2], flat[1::2], strict=True)}

    # -- rates and unique jobs ---------------------------------------------------------------

    def take(self, key: str, limit: int, period_ms: int, who: str) -> int:
        args = [key, limit, period_ms, rate_window_ms(period_ms), who]
        return int(self.run("take_rate", "", args))

    def unique_holder(self, queue: str, key: str) -> str | None:
        holder = self._link.call("HGET", self.at(queue)["unique"], key, write=False)
        return None if holder is None else str(holder.decode())

    # -- groups ------------------------------------------------------------------------------

    def group_open(
        self, group: str, queue: str, total: int, callback: Entry | None, ttl_s: int
    ) -> bool:
        self.announce([queue])
        args: list[Any] = [group, total, ttl_s * 1000]
        args += fields([callback._replace(fresh=False)] if callback is not None else [])
        return bool(self.run("group_open", queue, args))

    def group_put(self, group: str, queue: str, index: int, answer: bytes) -> int:
        return int(self.run("group_put", queue, [group, index, answer]))

    def group_answers(self, group: str, queue: str) -> list[bytes | None]:
        flat = self._link.call("HGETALL", self.at(queue).group(group), write=False)
        known = dict(zip(flat[::2], flat[1::2], strict=True))
        return [known.get(b"%d" % index) for index in range(int(known.get(b"total", 0)))]

    def group_left(self, group: str, queue: str) -> int:
        left = self._link.call("HGET", self.at(queue).group(group), "left", write=False)
        return -1 if left is None else int(left)

    def group_shorten(self, group: str, queue: str, ttl_s: int) -> None:
        self.run("group_shorten", queue, [group, ttl_s * 1000])

    def conclude(self, job_id: str, queue: str, answer: bytes, ttl_s: int) -> bool:
        self.announce([queue])
        return bool(self.run("conclude", queue, [job_id, answer, ttl_s]))

    # -- schedules ---------------------------------------------------------------------------

    def schedule_put(self, name: str, data: bytes) -> None:
        self.run("put_schedule", "", [name, data])
        self.run_each("ring_timers", self.known_queues())

    def schedule_drop(self, name: str) -> bool:
        found = bool(self._link.call("HDEL", self.at("")["schedules"], name))
        self.run_each("ring_timers", self.known_queues())
        return found

    def schedules(self) -> dict[str, bytes]:
        flat = self._link.call("HGETALL", self.at("")["schedules"], write=False)
        return {k.decode(): v for k, v in zip(flat[::2], flat[1::2], strict=True)}
