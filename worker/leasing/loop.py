"""The pump: the thread of a worker that talks to storage and master while the slots run jobs.

One loop: look at what has happened, act, sleep until something happens.  It never runs a user's
code.
"""

from __future__ import annotations

import math
import random
from select import EPOLLET, EPOLLIN, epoll

from taskqd.clock import monotonic_s
from taskqd.errors import NodeExpired, StorageError
from taskqd.ipc import board, messages
from taskqd.storage.base import Storage
from taskqd.worker.connection.outage import Outage, loss
from taskqd.worker.connection.wakeup import Doorbell
from taskqd.worker.host import syscalls as process
from taskqd.worker.host.signals import TERM, signals_caught
from taskqd.worker.slots.base import JobRunner, Slots

from . import interruption as parting
from .context import Orders, Post
from .heartbeat import Shown
from .storage_client import Desk

HEAR_S = 1.0
PATIENCE_S = 0.5
BURST_LOOK_S = 0.2


class Pump:
    def __init__(
        self, post: Post, orders: Orders, storage: Storage, slots: Slots, runner: JobRunner
    ) -> None:
        self._post = post
        self._orders = orders
        self._slots = slots
        self._runner = runner
        self._desk = Desk(post.worker_id, storage, orders.order, slots, runner, post.row, post.log)
        self._stock = self._desk.stock
        self._outage = Outage(random.uniform)
        self._poll = epoll()
        self._doorbell = Doorbell(lambda: storage.bell(post.worker_id, orders.queues), self._poll)
        self._shown = Shown(post)
        self._ready = False
        self._quiet = False
        self._interrupt_at_s = math.inf
        self._patience_s: float | None = PATIENCE_S
        """From JobInterrupted to the end of who ignores it; None: it was raised."""
        self._told_lost = False
        self._look_at_s = 0.0
        self.over = False
        self.exit_code = 0
        self.interrupted = False
        """Jobs were requeued while they ran: the slots may never become free."""

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the worker is drained or interrupted."""
        self._poll.register(self._post.channel.fileno(), EPOLLIN)
        self._poll.register(self._post.signals, EPOLLIN)
        self._poll.register(self._slots.fileno(), EPOLLIN | EPOLLET)
        self._listen()  # what came while the worker booted
        while not self.over:
            now_s = monotonic_s()
            self._shown.beat(now_s, self._slots, self._desk)
            self._desk.collect(now_s)
            self._act(now_s)
            if not self.over:
                self._sleep()
        self._doorbell.close()
        self._poll.close()

    def _act(self, now_s: float) -> None:
        if now_s >= self._interrupt_at_s and not self._raises_interrupt(now_s):
            self._interrupt()
            return
        if self._outage.lasts and now_s < self._outage.retry_at_s:
            return
        try:
            if self._outage.lasts:
                self._desk.reconcile(accepting=self._accepting(now_s))
                self._restored()
            self._trade(now_s)
        except StorageError as error:
            self._lost(error)

    def _accepting(self, now_s: float) -> bool:
        """Return whether the worker may lease jobs."""
        if self._quiet or self._post.stopping.stopping:
            return False
        return not self._stock.in_slots or not self._desk.quarantine.running_empty(now_s)

    def _trade(self, now_s: float) -> None:
        """Settle, lease and release what is due."""
        accepting = self._accepting(now_s)
        waiting = self._slots.waiting()
        if waiting and (not accepting or self._stock.stalled(waiting, now_s)):
            self._stock.ahead.stalled()
            self._desk.give_back()
        if accepting:
            self._lease()
        elif self._doorbell.armed:
            self._desk.release(self._doorbell.disarm())
        if now_s >= self._hear_at_s():
            self._desk.turn(0)
        elif self._stock.flush_due(monotonic_s()) or self._slots.urgent():
            self._desk.settle()
        self._finish_if_done()

    def _hear_at_s(self) -> float:
        """Return when to ask what the storage has to say of a long job: it may have to stop."""
        return self._desk.heard_s + HEAR_S if self._stock.in_slots else math.inf

    def _lease(self) -> None:
        """Take turns until the slots are served or the queues are empty."""
        # law: a worker with a free slot asks, or is armed to be woken; it never does neither.
        if self._stock.free and not self._doorbell.armed:
            self._stock.dry = False
        while limit := self._stock.limit():
            # Where the last turn found empty queues, the next one probably does: being idle
            # before it saves the second turn that must follow the arming.
            if not self._desk.ready and self._stock.free:
                self._doorbell.arm()
            if not self._desk.turn(limit, idle=self._doorbell.armed) and not self._wait_idle():
                break
            self._served()
        if self._doorbell.armed and self._stock.lone:
            self._desk.release(self._doorbell.disarm())
        elif self._doorbell.armed and not self._stock.free:
            self._desk.accept(self._doorbell.disarm(), monotonic_s())

    def _wait_idle(self) -> bool:
        """After a turn that gave nothing, be ready to be woken; return whether to ask once more."""
        self._served()
        if self._doorbell.armed or not self._stock.free:
            return False
        self._doorbell.arm()
        self._stock.dry = False
        return True

    def _served(self) -> None:
        """A turn was answered: the worker serves."""
        self._outage.steady()
        if not self._ready:
            self._ready = True
            self._post.row.set(board.READY, 1)
            self._post.channel.send(messages.Ready(self._slots.loop))

    # -- outages -----------------------------------------------------------------------------

    def _lost(self, error: StorageError) -> None:
        is_news = self._outage.failed(monotonic_s(), str(error))
        self._doorbell.close()
        # A node that is not registered (yet, or any more) is the scheduler's business: wait.
        if is_news and not isinstance(error, NodeExpired):
            self._told_lost = True
            self._post.channel.send(loss(error))

    def _restored(self) -> None:
        if self._told_lost:
            self._told_lost = False
            self._post.channel.send(messages.StorageRestored(self._outage.lasted_s(monotonic_s())))
        self._outage.over()
        self._stock.dry = False

    # -- what comes in -----------------------------------------------------------------------

    def _sleep(self) -> None:
        now_s = monotonic_s()
        wake_s = min(self._shown.beat_at_s, self._interrupt_at_s, self._next_look_s(now_s))
        for fd, _ in self._poll.poll(max(0.0, wake_s - now_s)):
            if fd == self._post.channel.fileno():
                self._listen()
            elif fd == self._post.signals:
                self._caught(signals_caught(fd))
            elif self._doorbell.rings(fd):
                self._answer_bell()

    def _next_look_s(self, now_s: float) -> float:
        if self._outage.lasts:
            return self._outage.retry_at_s
        if self._doorbell.armed and now_s >= self._doorbell.poll_at_s:
            self._doorbell.polled()
            self._stock.dry = False
            return now_s
        look_s = min(
            self._stock.next_s(self._slots.waiting()),
            self._doorbell.poll_at_s,
            self._hear_at_s(),
        )
        return min(look_s, self._look_at_s) if self._may_be_over() else look_s

    def _answer_bell(self) -> None:
        try:
            leases = self._doorbell.answer()
        except StorageError as error:
            self._lost(error)
            return
        self._desk.accept(leases, monotonic_s())
        # A job was handed over because the queues had been empty, so with no slot left there is
        # nothing to read ahead; one slot that is free may serve a job that came with it.
        self._stock.dry = bool(leases) and not self._stock.free

    def _caught(self, numbers: set[int]) -> None:
        if TERM in numbers:
            self._stop_alone()

    def _listen(self) -> None:
        for message in self._post.channel.receive_all():
            self._hear(message)
        if not self._post.channel.open:
            # The master is gone: end by ourselves.
            self._poll.unregister(self._post.channel.fileno())
            self._stop_alone()

    def _hear(self, message: messages.ToChild) -> None:
        match message:
            case messages.Drain(grace_s):
                self._stop(grace_s)
            case messages.Interrupt(patience_s):
                self._patience_s = patience_s
                self._interrupt_at_s = 0.0
            case messages.Quiet():
                self._quiet = True
            case messages.Resume():
                self._quiet = False
                self._stock.dry = False
            case messages.Reopen():
                self._post.log.reopen()
            case _:
                pass

    # -- the end -----------------------------------------------------------------------------

    def _stop(self, grace_s: float) -> None:
        if not self._post.stopping.stopping:
            self._desk.handed_back = 0
        self._post.stopping.begin(grace_s)

    def _stop_alone(self) -> None:
        """No master ends the grace: the pump does."""
        self._stop(self._orders.grace_s)
        self._interrupt_at_s = min(self._interrupt_at_s, self._post.stopping.deadline_s)

    def _finish_if_done(self) -> None:
        if self._post.stopping.stopping and not self._stock.in_slots and not self._stock.unsettled:
            self._end()
        elif self._may_be_over() and monotonic_s() >= self._look_at_s:
            self._look_at_s = monotonic_s() + BURST_LOOK_S
            if self._desk.burst_is_over(self._post.node_id, self._orders.queues):
                self._post.channel.send(messages.Empty())

    def _may_be_over(self) -> bool:
        """Burst: this worker found nothing to do; are all workers of this node done?"""
        return self._orders.burst and self._stock.dry and not self._stock.in_slots

    def _raises_interrupt(self, now_s: float) -> bool:
        """Ask jobs by an exception to end; True: some may do so now, and are waited for."""
        patience_s, self._patience_s = self._patience_s, None
        if patience_s is None:
            return False
        self._post.stopping.begin(0.0)
        self._interrupt_at_s = now_s + patience_s
        return bool(self._slots.interrupt()) and patience_s > 0

    def _interrupt(self) -> None:
        """Requeue what runs, settle what is finished, and end at once."""
        self.interrupted = True
        try:
            self._desk.give_back_all(after_outage=self._outage.lasts)
            running = self._desk.running()
            self._desk.interrupt(parting.outcomes(running, self._post.row, self._runner))
            self._end()
        except StorageError as error:
            # Without a last word the master has this worker's jobs taken back.
            self._lost(error)
            self.over = True
            self.exit_code = process.EXIT_UNSETTLED

    def _end(self) -> None:
        self.over = True
        # Those that the pump requeued, and those that saw that the worker stops and went back.
        interrupted = self._post.row.get(board.INTERRUPTED)
        self._post.channel.send(
            messages.Drained(self._desk.finished, self._desk.handed_back, interrupted)
        )
