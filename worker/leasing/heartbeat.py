"""What others see of a worker: its beat on the board, its title, and what is still to be sent to the master."""

from __future__ import annotations

from taskqd.clock import monotonic_ns
from taskqd.ipc import board
from taskqd.worker.slots.base import Slots

from .context import WorkerContext
from .storage_client import StorageClient

BEAT_S = 1.0


class Heartbeat:
    """Posted by the worker's loop at each turn; the costlier part each `BEAT_S`."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self.beat_at_s = 0.0
        """When the rest is due again."""

    def beat(self, now_s: float, slots: Slots, client: StorageClient) -> None:
        """Say that the worker's loop turns, and now and then more."""
        self._context.row.set(board.BEAT, monotonic_ns())
        if now_s < self.beat_at_s:
            return
        self.beat_at_s = now_s + BEAT_S
        client.share = 2 * max(1, self._serving())
        self._context.channel.flush()
        slots.turn()
        task = slots.task()
        self._context.title.show(f"[busy] {task}" if task else "[idle]")

    def _serving(self) -> int:
        """Return how many workers of this node serve."""
        rows = range(self._context.workers_max)
        return sum(self._context.board.row(number).get(board.READY) for number in rows)
