"""What others see of a worker: its beat on the board, its title, what it owes the master."""

from __future__ import annotations

from taskqd.clock import monotonic_ns
from taskqd.ipc import board
from taskqd.worker.slots.base import Slots

from .context import Post
from .storage_client import Desk

BEAT_S = 1.0


class Shown:
    def __init__(self, post: Post) -> None:
        self._post = post
        self.beat_at_s = 0.0
        """When the rest is due again."""

    def beat(self, now_s: float, slots: Slots, desk: Desk) -> None:
        """Say that the pump turns, and now and then more."""
        self._post.row.set(board.BEAT, monotonic_ns())
        if now_s < self.beat_at_s:
            return
        self.beat_at_s = now_s + BEAT_S
        desk.share = 2 * max(1, self._serving())
        self._post.channel.flush()
        slots.turn()
        task = slots.task()
        self._post.title.show(f"[busy] {task}" if task else "[idle]")

    def _serving(self) -> int:
        """Return how many workers of this node serve."""
        rows = range(self._post.workers_max)
        return sum(self._post.board.row(number).get(board.READY) for number in rows)
