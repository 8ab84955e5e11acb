"""The worker's loop: the thread of a worker that talks to storage and master while the slots run jobs.

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
from taskqd.logs import events
from taskqd.storage.base import Storage
from taskqd.worker.connection.outage import Outage, loss
from taskqd.worker.connection.wakeup import Wakeup
from taskqd.worker.host.signals import TERM, signals_caught
from taskqd.worker.slots.base import JobRunner, Slots

from .context import WorkerContext, WorkerOrders
from .ending import Ending
from .heartbeat import Heartbeat
from .settling import Settling
from .shown_settling import ShownSettling
from .storage_client import StorageClient

HEAR_S = 1.0


class WorkerLoop:
    def __init__(
        self,
        context: WorkerContext,
        orders: WorkerOrders,
        storage: Storage,
        slots: Slots,
        runner: JobRunner,
        settling: Settling,
    ) -> None:
        self._context = context
        self._orders = orders
        self._slots = slots
        self._runner = runner
        self._settling = settling
        self._client = client = StorageClient(
            *(context.worker_id, storage, orders.order, slots),
            *(runner, context.row, context.log, settling),
        )
        self._shown = ShownSettling(context.row, context.log)
        self._ledger = self._client.ledger
        self._outage = Outage(random.uniform)
        self._poll = epoll()
        self._wakeup = Wakeup(lambda: storage.bell(context.worker_id, client.queues()), self._poll)
        self._heartbeat = Heartbeat(context)
        self._ready = False
        self._quiet = False
        self._told_lost = False
        self.ending = Ending(context, orders, self._client, slots, runner)

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the worker is drained or interrupted."""
        self._poll.register(self._context.channel.fileno(), EPOLLIN)
        self._poll.register(self._context.signals, EPOLLIN)
        self._poll.register(self._slots.fileno(), EPOLLIN | EPOLLET)
        self._poll.register(self._settling.fileno(), EPOLLIN | EPOLLET)
        self._poll.register(self._client.away.fileno(), EPOLLIN | EPOLLET)
        self._listen()  # what came while the worker booted
        while not self.ending.over:
            now_s = monotonic_s()
            self._heartbeat.beat(now_s, self._slots, self._client)
            self._client.collect(now_s)
            self._act(now_s)
            self._show_settling()
            if not self.ending.over:
                self._sleep()
        self._wakeup.close()
        self._poll.close()

    def _show_settling(self) -> None:
        """Show how many ends wait for the storage: in an outage all, else those that are stuck."""
        lost, aside = self._outage.lasts, self._ledger.set_aside
        ended = self._client.unsettled() if lost else aside
        if ended:
            self.ending.write_down(ended)
        elif not lost:
            self.ending.strike_out()
        count = len(ended) if lost else len(self._settling) + len(aside)
        why = self._outage.why if lost else self._settling.error or self._client.away.why
        self._shown.show(count, why)

    def _act(self, now_s: float) -> None:
        ending = self.ending
        if now_s >= ending.interrupt_at_s and not ending.raises_interrupt(now_s):
            self._interrupt()
            return
        if self._outage.lasts and now_s < self._outage.retry_at_s:
            return
        try:
            if self._outage.lasts:
                self._client.reconciliation.reconcile(accepting=self._accepting(now_s))
                self._restored()
            elif self._client.away.some_are_back:
                self._rejoin(now_s)
            self._trade(now_s)
        except StorageError as error:
            self._lost(error)

    def _accepting(self, now_s: float) -> bool:
        """Return whether the worker may lease jobs."""
        if self._quiet or self._context.stop_state.stopping or self._settling.full:
            return False
        return not self._ledger.in_slots or not self._client.quarantine.running_empty(now_s)

    def _trade(self, now_s: float) -> None:
        """Settle, lease and release what is due."""
        accepting = self._accepting(now_s)
        waiting = self._slots.waiting()
        if waiting and (not accepting or self._ledger.stalled(waiting, now_s)):
            self._ledger.prefetch.stalled()
            self._client.release_unstarted()
        if accepting:
            self._lease()
        elif self._wakeup.armed:
            self._client.release(self._wakeup.disarm())
        if now_s >= self._hear_at_s() or (self._quiet and not self._ready):
            self._client.turn(0)
            # law: one that was told to rest before it had asked for a job serves all the same: it is not
            # held to be stuck in its start (test_a_worker_that_is_quiet_from_its_start_is_ready).
            self._served()
        elif self._ledger.flush_due(monotonic_s()) or self._slots.urgent():
            self._client.settle()
        self.ending.finish_if_done()

    def _hear_at_s(self) -> float:
        """Return when to ask what the storage has to say of a long job: it may have to stop."""
        return self._client.heard_s + HEAR_S if self._ledger.in_slots else math.inf

    def _lease(self) -> None:
        """Take turns until the slots are served or the queues are empty."""
        # law: a worker with a free slot asks, or is armed to be woken; it never does neither
        # (test_a_worker_with_a_free_slot_asks_again_after_it_has_run_empty_in_vain).
        if self._ledger.free and not self._wakeup.armed:
            self._ledger.dry = False
        while limit := self._ledger.limit():
            # Where the last turn found empty queues, the next one probably does: being idle
            # before it saves the second turn that must follow the arming.
            if not self._client.ready and self._ledger.free:
                self._wakeup.arm()
            if not self._client.turn(limit, idle=self._wakeup.armed) and not self._wait_idle():
                break
            self._served()
        if self._wakeup.armed and self._ledger.lone:
            self._client.release(self._wakeup.disarm())
        elif self._wakeup.armed and not self._ledger.free:
            self._client.accept(self._wakeup.disarm(), monotonic_s())

    def _wait_idle(self) -> bool:
        """After a turn that gave nothing, be ready to be woken; return whether to ask once more."""
        self._served()
        if self._wakeup.armed or not self._ledger.free:
            return False
        self._wakeup.arm()
        self._ledger.dry = False
        return True

    def _served(self) -> None:
        """A turn was answered: the worker serves."""
        self._outage.steady()
        if not self._ready:
            self._ready = True
            self._context.row.set(board.READY, 1)
            self._context.channel.send(messages.Ready(self._slots.loop))

    def _interrupt(self) -> None:
        try:
            self.ending.interrupt(after_outage=self._outage.lasts)
        except StorageError as error:
            self._lost(error)
            self.ending.leave_unsettled()

    # -- outages -----------------------------------------------------------------------------

    def _lost(self, error: StorageError) -> None:
        is_news = self._outage.failed(monotonic_s(), str(error))
        # A node that is not registered (yet, or any more) is the scheduler's business: wait.
        if is_news and not isinstance(error, NodeExpired):
            self._told_lost = True
            # law: told before anything else waits for a silent server: the master is patient with
            # who has said so (test_the_master_is_told_of_a_loss_before_the_bell_is_let_go_of).
            self._context.channel.send(loss(error))
        self._wakeup.close()

    def _restored(self) -> None:
        if self._told_lost:
            self._told_lost = False
            self._context.channel.send(
                messages.StorageRestored(self._outage.lasted_s(monotonic_s()))
            )
        self._outage.over()
        self._ledger.dry = False

    def _rejoin(self, now_s: float) -> None:
        """Take up queues whose server is back; the bell is to ring for them too."""
        # law: what the bell has to give is taken first: to ask for what is held in some queues
        # forgets it (test_what_was_handed_over_while_another_server_came_back_is_not_forgotten).
        if self._wakeup.armed:
            self._client.accept(self._wakeup.disarm(), now_s)
        self._wakeup.close()
        self._client.reconciliation.rejoin(accepting=self._accepting(now_s))
        self._ledger.dry = False

    # -- what comes in -----------------------------------------------------------------------

    def _sleep(self) -> None:
        now_s = monotonic_s()
        wake_s = min(
            self._heartbeat.beat_at_s, self.ending.interrupt_at_s, self._next_look_s(now_s)
        )
        for fd, _ in self._poll.poll(max(0.0, wake_s - now_s)):
            if fd == self._context.channel.fileno():
                self._listen()
            elif fd == self._context.signals:
                self._caught(signals_caught(fd))
            elif self._wakeup.rings(fd):
                self._answer_bell()

    def _next_look_s(self, now_s: float) -> float:
        if self._outage.lasts:
            return self._outage.retry_at_s
        if self._wakeup.armed and now_s >= self._wakeup.poll_at_s:
            self._wakeup.polled()
            self._ledger.dry = False
            return now_s
        return min(
            self._ledger.next_s(self._slots.waiting()),
            self._wakeup.poll_at_s,
            self._hear_at_s(),
            self.ending.look_at_s(),
        )

    def _answer_bell(self) -> None:
        try:
            leases = self._wakeup.answer()
        except StorageError as error:
            self._lost(error)
            return
        if leases is None:
            return
        self._client.accept(leases, monotonic_s())
        # A job was handed over because the queues had been empty, so with no slot left there is
        # nothing to read ahead; one slot that is free may serve a job that came with it.
        self._ledger.dry = bool(leases) and not self._ledger.free

    def _caught(self, numbers: set[int]) -> None:
        if TERM in numbers:
            self.ending.stop_alone()

    def _listen(self) -> None:
        for message in self._context.channel.receive_all():
            self._hear(message)
        if not self._context.channel.open:
            # The master is gone: end by ourselves.
            self._poll.unregister(self._context.channel.fileno())
            self.ending.stop_alone()

    def _hear(self, message: messages.ToChild) -> None:
        match message:
            case messages.Drain(grace_s):
                self.ending.stop(grace_s)
            case messages.Interrupt(patience_s):
                self.ending.interrupt_now(patience_s)
            case messages.Quiet():
                self._quiet = True
            case messages.Resume():
                self._quiet = False
                self._ledger.dry = False
            case messages.Reopen():
                self._context.log.reopen()
            case _:
                self._context.log.emit(events.MESSAGE_IGNORED, kind=type(message).__name__)
