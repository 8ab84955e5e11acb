"""Writing jobs so that a lost reply neither loses nor doubles them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import msgspec

from taskqd.clock import monotonic_s
from taskqd.errors import StorageUnavailable
from taskqd.jobs.job import Entry, Envelope
from taskqd.listeners import Listeners
from taskqd.storage.base import Storage

_BATCH = 2000
_TRY_FOR_S = 10.0
_PAUSE_S, _PAUSE_S_MAX = 0.02, 1.0
T = TypeVar("T")
_decode_envelope = msgspec.json.Decoder(Envelope).decode


class EnqueuedJob(NamedTuple):
    """What the handlers of "enqueued" get."""

    id: str
    task: str
    queue: str
    run_at_ms: int
    """0: now."""
    priority: int
    enqueued_ms: int = 0
    headers: Mapping[str, str] = MappingProxyType({})


def tell_enqueued(
    listeners: Listeners,
    entry: Entry,
    task: str,
    tell: Callable[[str, EnqueuedJob], None] | None = None,
) -> None:
    """Tell the handlers of "enqueued", and of "scheduled", of a job that is in the storage now.

    `tell`: how; default at once, in this thread.
    """
    tell = tell or listeners.tell
    if listeners.handlers.keys().isdisjoint(("enqueued", "scheduled")):
        return
    envelope = _decode_envelope(entry.payload.partition(b"\n")[0])
    job = EnqueuedJob(
        entry.id,
        task or envelope.t,
        entry.queue,
        entry.run_at_ms,
        entry.priority,
        envelope.e,
        envelope.h or {},
    )
    tell("enqueued", job)
    if entry.run_at_ms:
        tell("scheduled", job)


def deliver(storage: Storage, entries: Sequence[Entry]) -> list[bool]:
    """Enqueue, thousands in one round trip.  False in the answer: that id was known already.

    While the storage is away, or a write's outcome is unknown, the same ids are tried again for up
    to 10 s; then StorageUnavailable passes to the caller, who may repeat with ids of its own.
    """
    known: list[bool] = []
    for start in range(0, len(entries), _BATCH):
        known += _persist(storage, entries[start : start + _BATCH])
    return known


def insist(call: Callable[[], T]) -> T:
    """Make a call that can be repeated, again and again while the storage is away, for up to 10 s.

    Raises StorageError.
    """
    deadline = monotonic_s() + _TRY_FOR_S
    pause_s = _PAUSE_S
    while True:
        try:
            return call()
        except StorageUnavailable:
            if monotonic_s() + pause_s > deadline:
                raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _PAUSE_S_MAX)


def _persist(storage: Storage, batch: Sequence[Entry]) -> list[bool]:
    asked: list[Sequence[Entry]] = []

    def write() -> list[bool]:
        asked.append([entry._replace(fresh=False) for entry in batch] if asked else batch)
        return storage.enqueue(asked[-1])

    new = insist(write)
    if len(asked) == 1:
        return new
    # A fresh id that a repeat finds in the storage was put there by our own first write.
    # Of a unique job that cannot be told; who asks for its key's holder learns it.
    pairs = zip(new, batch, strict=True)
    return [is_new or (entry.fresh and not entry.unique) for is_new, entry in pairs]
