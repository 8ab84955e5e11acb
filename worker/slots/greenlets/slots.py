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
from taskqd.worker.host import syscalls as process
from taskqd.worker.slots.base import JobRunner, SlotPlace
from taskqd.worker.slots.multi_slots import LoopSlots
from taskqd.worker.slots.stop_state import Stopping

from .hub import HubAlarm, HubFlag, LoopGreenlet
from .storages import PooledStorages

TURN_NS = 5_000_000
"""A slot whose jobs never wait lets the others run so often."""


def settle_in(app: App, slots: int) -> None:
    """Make a forked process one in which greenlets can run."""
    gevent.reinit()
    app.storages = PooledStorages(app.open_storage, slots)


class GreenletPlace(SlotPlace):
    """A slot whose job can be stopped wherever its own code waits."""

    stops_plain_code = True

    def __init__(self, row: Row, number: int, stopping: Stopping) -> None:
        super().__init__(row, number, stopping)
        self.greenlet: Any = None
        self.loop: LoopGreenlet | None = None
        self.halts.poke = self._poke

    def _poke(self) -> None:
        """On the loop, so that the job stands where it waits."""
        try:
            self.halts.deliver(self.greenlet.gr_frame)
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
    make_place = GreenletPlace

    def __init__(self, row: Row, capacity: int, stopping: Stopping, runner: JobRunner) -> None:
        """To be made in the thread that runs it, whose loop it takes."""
        self._hub = gevent.get_hub()
        stopping.alarm = HubAlarm(self._hub)
        super().__init__(row, capacity, stopping, runner)
        self._greens = [place for place in self._places if isinstance(place, GreenletPlace)]
        self._turned_ns = 0

    def run(self) -> None:
        # Else gevent takes a loop in which every slot rests for one that waits for nothing.
        awake = self._hub.loop.async_()
        awake.start(int)
        loop = LoopGreenlet()
        for place in self._greens:
            place.loop = loop
            place.greenlet = gevent.spawn(process.vital, partial(self._serve, place))
        gevent.joinall([place.greenlet for place in self._greens])
        awake.close()

    def _serve(self, place: SlotPlace) -> None:
        while True:
            try:
                lease = self._jobs.get_nowait()
            except Empty:
                self._rest()
                continue
            if lease is None:
                return
            self._run_one(lease, place)

    def _rest(self) -> None:
        waiter = Waiter()
        self._idle.append(partial(waiter.switch, None))
        waiter.get()

    def _run_one(self, lease: Lease, place: SlotPlace) -> None:
        place.take(lease)
        started_ns = monotonic_ns()
        outcome = self._runner.run(lease, place)
        now_ns = monotonic_ns()
        place.ran_ns += now_ns - started_ns
        place.jobs += 1
        if self._runner.acks_each(lease):
            self._finish_and_wait(outcome, place)
            return
        self._finish(outcome, place)
        if now_ns - self._turned_ns > TURN_NS:
            self._turned_ns = now_ns
            gevent.sleep(0)

    def _new_event(self) -> Any:
        return HubFlag(self._hub)

    def _on_loop(self, call: Callable[[], object]) -> None:
        self._hub.loop.run_callback_threadsafe(call)
