"""What the parts of a worker share: who it is, what it talks through, what the settings tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskqd.ipc.board import Board, Row
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import ToChild
from taskqd.logs.setup import Log
from taskqd.worker.host.setup import Title
from taskqd.worker.slots.stop_state import StopState

from .queue_order import QueueOrder


class WorkerContext(NamedTuple):
    """Where a worker stands: who it is and what it talks through."""

    worker_id: str
    node_id: str
    row: Row
    board: Board
    workers_max: int
    """Rows 0 to `workers_max` - 1 of the board are workers'."""
    channel: Channel[ToChild]
    signals: int
    """Reading end of `signals.catch_term`."""
    stop_state: StopState
    title: Title
    log: Log


class WorkerOrders(NamedTuple):
    """What a worker is told by the settings."""

    queues: Sequence[str]
    order: QueueOrder
    grace_s: float
    """For a stop that nobody leads: the master is gone, or TERM came from elsewhere."""
    burst: bool
