"""A worker's loop and its slots in this process: everything of a worker but the fork.

The slots' main thread is a thread here; master and board are the test's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from taskqd.execution.current_job import SlotLike
from taskqd.ipc.board import Board, size
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import FromChild, Message, decode_from_child, decode_to_child, encode
from taskqd.jobs.job import Answer, Entry, Lease, Marks, Outcome, encode_answer
from taskqd.logs import setup as log
from taskqd.storage.base import Node, Storage
from taskqd.worker.host.setup import Title
from taskqd.worker.leasing.context import WorkerContext, WorkerOrders
from taskqd.worker.leasing.loop import WorkerLoop
from taskqd.worker.leasing.queue_order import QueueOrder
from taskqd.worker.leasing.settling import Settling
from taskqd.worker.slots.asyncio_slots import AsyncioSlots
from taskqd.worker.slots.base import JobRunner, Slots
from taskqd.worker.slots.process_slots import ProcessSlots
from taskqd.worker.slots.stop_state import StopState
from taskqd.worker.slots.thread_slots import ThreadSlots
from tests.support.waiting import HANG_S

NODE = "node"


class Silent(Title):
    """The tests' own process keeps its title."""

    def show(self, state: str) -> None:
        self._shown = state


class Jobs:
    """A runner whose jobs the test steers: those named in `gates` wait until they are opened."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.each: set[str] = set()
        self.places: list[SlotLike] = []
        self.orders_stand = 0

    def gate(self, job_id: str) -> threading.Event:
        return self.gates.setdefault(job_id, threading.Event())

    def run(self, lease: Lease, place: SlotLike) -> Outcome:
        place.begin(lease.token, lease.id, "test", None)
        self.started.append(lease.id)
        self.places.append(place)
        if lease.id in self.gates:
            assert self.gates[lease.id].wait(HANG_S)
        place.end()
        return ack(lease)

    async def arun(self, lease: Lease, place: SlotLike) -> Outcome:
        return await asyncio.to_thread(self.run, lease, place)

    def interrupted(self, lease: Lease, late: str = "") -> Outcome:
        return Outcome(
            lease.id,
            lease.queue,
            lease.token,
            "requeue",
            marks=Marks(attempts=1, interruptions=1),
            reason="interrupted",
        )

    def acks_each(self, lease: Lease) -> bool:
        return lease.id in self.each

    def keep_time(self, read: object) -> None:
        pass

    def heed(self, orders: int) -> None:
        self.orders_stand = orders


def ack(lease: Lease) -> Outcome:
    answer = encode_answer(Answer("done", lease.token, int(time.time() * 1000), 60))
    return Outcome(lease.id, lease.queue, lease.token, "ack", answer, 60)


def entries(count: int, queue: str = "q", prefix: str = "job") -> list[Entry]:
    return [Entry(f"{prefix}{number:04}", queue, b'{"t":"test"}') for number in range(count)]


class WorkerRig:
    """One worker.  As a context manager it starts, and stops however the test ends."""

    def __init__(
        self,
        storage: Storage,
        *,
        jobs: JobRunner | None = None,
        threads: int = 0,
        coroutines: int = 0,
        queues: Sequence[str] = ("q",),
        burst: bool = False,
        serial: int = 1,
        register: bool = True,
        out: log.Log | None = None,
        beside: Storage | None = None,
    ) -> None:
        """`beside`: the connection of the thread that writes what follows the kept ends."""
        self.storage = storage
        self.jobs = jobs if jobs is not None else Jobs()
        self.worker_id = f"{NODE}.{serial}"
        if register:
            storage.register(Node(NODE), queues, 600)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(HANG_S)
        self.master = ours
        self.said: list[FromChild] = []
        self.enqueued: list[Entry] = []
        """The follow-ups that were new."""
        self._signals, self.term_fd = os.pipe2(os.O_NONBLOCK)
        capacity = threads or coroutines or 1
        self.board = Board(memoryview(bytearray(size(2, capacity))), 2, capacity)
        self.row = self.board.row(0)
        self.stopping = StopState(self.worker_id)
        kind = ThreadSlots if threads else AsyncioSlots if coroutines else ProcessSlots
        self.slots: Slots = kind(self.row, capacity, self.stopping, self.jobs)
        post = WorkerContext(
            self.worker_id,
            NODE,
            self.row,
            self.board,
            1,
            Channel(theirs, decode_to_child),
            self._signals,
            self.stopping,
            Silent("test"),
            out or log.configure(role="test", level="critical"),
        )
        orders = WorkerOrders(queues, QueueOrder(queues, {}, lambda: 0.5), 20.0, burst)
        # One storage serves both threads: those of the tests can be called by several.
        self.settling = Settling(self.worker_id, lambda: beside or storage, self.enqueued.extend)
        self.loop = WorkerLoop(post, orders, storage, self.slots, self.jobs, self.settling)
        self._threads = [
            threading.Thread(target=self._run_loop, daemon=True),
            threading.Thread(target=self.slots.run, daemon=True),
        ]
        self.failure: BaseException | None = None

    def _run_loop(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.slots.close()

    def __enter__(self) -> WorkerRig:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for gate in getattr(self.jobs, "gates", {}).values():
            gate.set()
        self.master.close()
        for thread in self._threads:
            thread.join(HANG_S)
        if kind is None:
            assert self.failure is None, self.failure
            assert not any(thread.is_alive() for thread in self._threads), "the loop hangs"

    # -- the master's part -------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        self.master.send(encode(message))

    def hear(self, kind: type[FromChild]) -> FromChild:
        """Return the next message of this kind; earlier others are kept in `said`."""
        while True:
            message = decode_from_child(self.master.recv(65536))
            self.said.append(message)
            if isinstance(message, kind):
                return message

    def ended(self) -> None:
        """Wait until the loop has ended."""
        self._threads[0].join(HANG_S)
        assert not self._threads[0].is_alive(), "the loop goes on"

    # -- what the storage says ---------------------------------------------------------------

    def counts(self, queue: str = "q") -> tuple[int, int]:
        """Return (queued, running) of a queue."""
        for row in self.storage.queues():
            if row.name == queue:
                return row.queued, row.running
        return 0, 0
