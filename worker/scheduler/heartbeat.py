"""Keeps the node's lease: registers it and renews it, in a thread with nothing else to do."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.ipc.messages import Message, Ready
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Node, Storage
from taskqd.worker.connection.outage import Backoff
from taskqd.worker.host import native_threads
from taskqd.worker.host.event_queue import EventQueue

BEATS_IN_A_LEASE = 5


class NodeHeartbeat:
    """The heartbeat.  It owns `storage`; nothing that a user wrote runs in its thread."""

    def __init__(
        self,
        node: Node,
        queues: Sequence[str],
        lease_s: float,
        storage: Storage,
        outbox: EventQueue[Message],
        log: Log,
    ) -> None:
        self._node = node
        self._queues = queues
        self._lease_s = lease_s
        self._storage = storage
        self._outbox = outbox
        self._log = log
        self._backoff = Backoff(random.uniform)
        self._over = native_threads.NativeEvent()
        self._more = False
        self._epoch: str | None = None
        self.progress_s = monotonic_s()
        """When the loop last turned."""

    def run(self) -> None:
        step: Callable[[], None] = self._register
        while not self._over.is_set():
            self.progress_s = monotonic_s()
            if self._more:
                self._more, step = False, self._register
            try:
                step()
            except StorageError:
                # The chores tell of the outage; here it only has to be outlived.
                self._over.wait(self._backoff.next_s())
            else:
                step = self._renew
                self._backoff.reset()
                self._over.wait(self._lease_s / BEATS_IN_A_LEASE)
        self._storage.close()

    def serve(self, queues: Sequence[str]) -> None:
        """Keep the lease on these queues from now on; may be called by another thread."""
        self._queues = queues
        self._more = True

    def stop(self) -> None:
        self._over.set()

    def _register(self) -> None:
        crashes = self._storage.register(self._node, self._queues, self._lease_s)
        if crashes:
            self._log.emit(events.NODE_RETURNED, node=self._node.id, crashes=crashes)
        known, self._epoch = self._epoch, self._storage.epoch()
        if known is None:
            self._outbox.put(Ready())
        elif known != self._epoch:
            self._log.emit(events.STORAGE_RESET, epoch=self._epoch)

    def _renew(self) -> None:
        if not self._storage.heartbeat(self._node.id, self._queues, self._lease_s):
            self._log.emit(events.NODE_EXPIRED, node=self._node.id)
            self._register()
