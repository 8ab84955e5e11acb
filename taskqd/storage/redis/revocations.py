"""Standing orders, and wishes to stop a running job, on Redis."""

from __future__ import annotations

import msgspec

from taskqd.storage.features import Revocation
from taskqd.storage.redis.keyspace.base import Base

_decode_order = msgspec.json.Decoder(Revocation).decode


class RevocationCalls(Base):
    """The contract's calls that keep jobs from running."""

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
