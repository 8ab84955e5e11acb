"""The asyncio kind: the slots are coroutines on one event loop, in the main thread.

`async def` tasks run beside each other; a plain function is run in a thread, so that it does not
hold the others back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from queue import Empty

from taskqd.clock import monotonic_ns
from taskqd.ipc.board import Row
from taskqd.jobs.job import Lease
from taskqd.worker.host import syscalls
from taskqd.worker.host.native_threads import NativeEvent

from .base import JobRunner, Slot
from .multi_slots import LoopSlots
from .stop_state import StopState


class AsyncioSlots(LoopSlots):
    """`capacity` jobs at once on one loop (uvloop's, where it is installed)."""

    def __init__(self, row: Row, capacity: int, stop_state: StopState, runner: JobRunner) -> None:
        super().__init__(row, capacity, stop_state, runner)
        self._factory = _uvloop()
        self.loop = "uvloop" if self._factory is not None else "asyncio"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = NativeEvent()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=self._factory) as runner:
            try:
                runner.run(self._serve_all())
            except BaseException:
                # A job has stopped the loop.  To close it would wait for slots that go on.
                syscalls.report_and_leave(syscalls.EXIT_VITAL)

    async def _serve_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        # As many plain functions as there are slots, and what they and we ask of the storage.
        self._loop.set_default_executor(ThreadPoolExecutor(2 * self.capacity, "job"))
        self._started.set()
        await asyncio.gather(*(self._serve(slot) for slot in self._slots))

    async def _serve(self, slot: Slot) -> None:
        while True:
            try:
                lease = self._jobs.get_nowait()
            except Empty:
                await self._rest()
                continue
            if lease is None:
                return
            await self._run_one(lease, slot)

    async def _rest(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._idle.append(partial(_rouse, waiter))
        await waiter

    async def _run_one(self, lease: Lease, slot: Slot) -> None:
        slot.take(lease)
        started_ns = monotonic_ns()
        outcome = await asyncio.create_task(self._runner.arun(lease, slot))
        slot.ran_ns += monotonic_ns() - started_ns
        slot.jobs += 1
        if self._runner.acks_each(lease):
            await asyncio.to_thread(self._finish_and_wait, outcome, slot)
            return
        self._finish(outcome, slot)

    def _on_loop(self, call: Callable[[], object]) -> None:
        self._started.wait()
        assert self._loop is not None
        # A loop that has ended has no slot left that could be woken.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _rouse(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes its loops, None where it is not installed (or not for this Python)."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory
