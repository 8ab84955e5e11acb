"""Standing orders, and wishes to stop a running job, on Redis."""

from __future__ import annotations

import msgspec

from taskqd.storage.features import Revocation
from taskqd.storage.redis.keyspace.durable import DurableBase

_decode_order = msgspec.json.Decoder(Revocation).decode


class RevocationCalls(DurableBase):
    """The contract's calls that keep jobs from running."""

    def stop(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        return any(self.run_each_written("stop", self.some_queues(queue), [job_id, answer, ttl_s]))

    def revoke(self, subject: str, revocation: Revocation, ttl_s: int) -> None:
        order = [subject, ttl_s * 1000, msgspec.json.encode(revocation)]
        [told] = self.run_written([("revoke", "", order)])
        self.run_each("flag", self.known_queues(), told)

    def restore(self, subject: str) -> bool:
        [[was_kept, *told]] = self.run_written([("restore", "", [subject])])
        if told:
            self.run_each("flag", self.known_queues(), told)
        return bool(was_kept)

    def revocations(self) -> dict[str, Revocation]:
        flat = self.run("revocations", "", write=False)
        return {k.decode(): _decode_order(v) for k, v in zip(flat[::2], flat[1::2], strict=True)}
