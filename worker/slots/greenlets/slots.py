"""The greenlet kind: each slot is a greenlet of one event loop, in the main thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any

import gevent
from gevent.hub import Waiter

from taskqd.app import App
from taskqd.clock import monotonic_ns
from taskqd.errors import JobInterrupted, TaskTimeout
from taskqd.ipc.board import Row
from taskqd.jobs.job import Lease
from taskqd.worker.host import syscalls
from taskqd.worker.slots.base import JobRunner, Slot
from taskqd.worker.slots.multi_slots import LoopSlots
from taskqd.worker.slots.stop_state import StopState

from .hub import HubAside, HubEventFlag, HubTimer, LoopGreenlet
from .storages import PooledStorages

TURN_NS = 5_000_000
"""A slot whose jobs never wait lets the others run so often."""


def settle_in(app: App, slots: int) -> None:
    """Make a forked process one in which greenlets can run."""
    gevent.reinit()
    app.storages = PooledStorages(app.open_storage, slots)
    app.listeners.aside = HubAside(gevent.get_hub())


class GreenletSlot(Slot):
    """A slot whose job can be stopped wherever its own code waits."""

    stops_plain_code = True

    def __init__(self, row: Row, number: int, stop_state: StopState) -> None:
        super().__init__(row, number, stop_state)
        self.greenlet: Any = None
        self.loop: LoopGreenlet | None = None
        self.interrupts.wake = self._deliver

    def _deliver(self) -> None:
        """On the loop, so that the job stands where it waits."""
        try:
            self.interrupts.deliver(self.greenlet.gr_frame)
        except (JobInterrupted, TaskTimeout) as wanted:
            error = wanted.with_traceback(None)
        else:
            return
        self.greenlet.throw(error)

    @property
    def async_runner(self) -> Any:
        assert self.loop is not None
        return self.loop


class GreenletSlots(LoopSlots):
    """`capacity` jobs at once on gevent's loop; one that does not wait holds the others back."""

    loop = "gevent"
    make_slot = GreenletSlot

    def __init__(self, row: Row, capacity: int, stop_state: StopState, runner: JobRunner) -> None:
        """To be made in the thread that runs it, whose loop it takes."""
        self._hub = gevent.get_hub()
        stop_state.timer = HubTimer(self._hub)
        super().__init__(row, capacity, stop_state, runner)
        self._greens = [slot for slot in self._slots if isinstance(slot, GreenletSlot)]
        self._turned_ns = 0

    def run(self) -> None:
        # Else gevent takes a loop in which every slot rests for one that waits for nothing.
        awake = self._hub.loop.async_()
        awake.start(int)
        loop = LoopGreenlet()
        for slot in self._greens:
            slot.loop = loop
            slot.greenlet = gevent.spawn(syscalls.vital, partial(self._serve, slot))
        gevent.joinall([slot.greenlet for slot in self._greens])
        awake.close()

    def _serve(self, slot: Slot) -> None:
        while True:
            try:
                lease = self._jobs.get_nowait()
            except Empty:
                self._rest()
                continue
            if lease is None:
                return
            self._run_one(lease, slot)

    def _rest(self) -> None:
        waiter = Waiter()
        self._idle.append(partial(waiter.switch, None))
        waiter.get()

    def _run_one(self, lease: Lease, slot: Slot) -> None:
        slot.take(lease)
        started_ns = monotonic_ns()
        outcome = self._runner.run(lease, slot)
        now_ns = monotonic_ns()
        slot.ran_ns += now_ns - started_ns
        slot.jobs += 1
        if self._runner.acks_each(lease):
            self._finish_and_wait(outcome, slot)
            return
        self._finish(outcome, slot)
        if now_ns - self._turned_ns > TURN_NS:
            self._turned_ns = now_ns
            gevent.sleep(0)

    def _new_event(self) -> Any:
        return HubEventFlag(self._hub)

    def _on_loop(self, call: Callable[[], object]) -> None:
        self._hub.loop.run_callback_threadsafe(call)
