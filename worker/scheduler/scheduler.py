"""The scheduler: one process of each daemon that keeps its node alive and its queues in order.

Three threads: this one talks to the master and posts the beat, `NodeHeartbeat` renews the lease, `Chores`
does the rest.  So neither a slow storage nor a user's code (rules, arguments of ticks) can stop
the heartbeat.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from select import EPOLLET, EPOLLIN, epoll

from taskqd.clock import monotonic_ns, monotonic_s
from taskqd.errors import StorageError
from taskqd.execution.runner import Runner
from taskqd.ipc import board
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import (
    Count,
    Drain,
    Drained,
    Message,
    Ready,
    RecoverWorker,
    Reopen,
    Retire,
    Serve,
    ToChild,
)
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.periodic.compile import Reading
from taskqd.storage.base import Node, Storage
from taskqd.worker.child import NewChild
from taskqd.worker.connection.open import open_log, reach_storage
from taskqd.worker.host import native_threads, procfs, syscalls
from taskqd.worker.host.event_queue import EventQueue
from taskqd.worker.host.setup import Title
from taskqd.worker.host.signals import TERM, signals_caught

from . import predecessors
from .chores import Chores
from .duty import Duty
from .heartbeat import NodeHeartbeat
from .inherited_ends import InheritedEnds
from .parked_jobs import ParkedJobs
from .ticker import Ticker

BEAT_S = 1.0
LINGER_LOOK_S = 0.1
LINGER_MORE_S = 5.0
"""Beyond the grace, for workers whose master is gone, to interrupt what they run."""
HEARTBEAT_SILENT_S = 20.0
CHORES_SILENT_S = 120.0
"""A thread that has not turned for so long is stuck: the beat stops, and the master replaces us."""
RETIRE_WAIT_S = 5.0
LAST_WORDS_S = 0.5
"""For handlers of signals that are still to be told."""


def boot(child: NewChild, channel: Channel[ToChild], signals: int) -> Callable[[], int]:
    """Return what runs the scheduler until its end and gives its exit code."""
    loaded = child.loaded
    native_threads.claim()
    Title("scheduler")
    log = open_log("scheduler", loaded.settings, generation=loaded.context.generation)
    loaded.app.run_vital_hooks("after_fork")
    storage = reach_storage(loaded.app, loaded.settings, channel, signals)
    duty = duty_of(child, log)
    outbox: EventQueue[Message] = EventQueue()
    heartbeat = NodeHeartbeat(duty.node, duty.queues, duty.lease_s, storage, outbox, log)
    chores = Chores(duty, loaded.app.open_storage, outbox, log)
    return Scheduler(child, duty, heartbeat, chores, outbox, channel, signals, log).run


def duty_of(child: NewChild, log: Log) -> Duty:
    context, settings, app, _ = child.loaded
    pid = os.getpid()
    node = Node(
        id=context.node_id,
        # An instance without a name of its own is called by its app's.
        name=f"{'' if context.node_name[0] != '@' else app.name}{context.node_name}",
        host=procfs.host_id(),
        pid=context.master_pid,
        pid_started=procfs.start_time(context.master_pid),
        info={predecessors.SCHEDULER: predecessors.identity(pid, procfs.start_time(pid))},
    )
    # gevent would make a greenlet of the thread aside, and this thread never lets one run.
    greenlets = settings.workers.type == "greenlet"
    tell = app.listeners.tell if greenlets else app.listeners.tell_aside
    read = app.periodic.read if settings.scheduler.enabled else _read_nothing
    return Duty(
        node,
        settings.queues.names or app.queues,
        settings.storage.node_lease_s,
        settings.limits,
        Ticker(read, settings.scheduler.missed),
        Runner(app, settings.limits, log).interrupted,
        tell,
        ParkedJobs(app, settings.limits.unknown_patience_s, tell),
    )


def _read_nothing(stored: Mapping[str, bytes]) -> Reading:
    return Reading([], {})


class Scheduler:
    """The main thread."""

    def __init__(
        self,
        child: NewChild,
        duty: Duty,
        heartbeat: NodeHeartbeat,
        chores: Chores,
        outbox: EventQueue[Message],
        channel: Channel[ToChild],
        signals: int,
        log: Log,
    ) -> None:
        self._keep_only_own = child
        self._log = log
        self._duty = duty
        self._heartbeat = heartbeat
        self._chores = chores
        self._inherited = InheritedEnds(duty.interrupted, log)
        self._outbox = outbox
        self._channel = channel
        self._signals = signals
        self._row = child.loaded.board.row(child.loaded.context.scheduler_row)
        self._row.set(board.PID, os.getpid())
        self._poll = epoll()
        self._linger_until_s = math.inf
        self._over = False
        self._retired = False

    def run(self) -> int:
        threads = [
            native_threads.Thread(partial(syscalls.vital, part.run))
            for part in (self._heartbeat, self._chores)
        ]
        for thread in threads:
            thread.start()
        self._poll.register(self._channel.fileno(), EPOLLIN)
        self._poll.register(self._signals, EPOLLIN)
        self._poll.register(self._outbox.fileno(), EPOLLIN | EPOLLET)
        self._listen()
        while not self._over:
            self._beat()
            self._wait()
            self._report()
        return self._end(threads)

    def _wait(self) -> None:
        lingers = self._linger_until_s < math.inf
        for fd, _ in self._poll.poll(LINGER_LOOK_S if lingers else BEAT_S):
            if fd == self._channel.fileno():
                self._listen()
            elif fd == self._signals:
                self._caught(signals_caught(fd))
        if lingers and self._crew_is_gone():
            self._retire()

    def _beat(self) -> None:
        """Post the beat, unless one of the threads is stuck."""
        now_s = monotonic_s()
        stuck = (
            now_s - self._heartbeat.progress_s > HEARTBEAT_SILENT_S
            or now_s - self._chores.progress_s > CHORES_SILENT_S
        )
        if not stuck:
            self._row.set(board.BEAT, monotonic_ns())
            self._row.set(board.HEARD, round(self._chores.heard_s * 1e9))

    def _report(self) -> None:
        for message in self._outbox.take():
            if isinstance(message, Ready):
                self._row.set(board.READY, 1)
            self._channel.send(message)
        self._channel.flush()

    # -- what comes in -----------------------------------------------------------------------

    def _listen(self) -> None:
        for message in self._channel.receive_all():
            self._hear(message)
        if not self._channel.open:
            self._poll.unregister(self._channel.fileno())
            self._linger()

    def _hear(self, message: ToChild) -> None:
        match message:
            case RecoverWorker():
                self._inherited.order(message)
                self._chores.recover_worker(message)
            case Count():
                self._chores.count()
            case Drain():
                self._chores.stop_ticking()
            case Reopen():
                self._log.reopen()
            case Serve(queues):
                self._duty = self._duty._replace(queues=queues)
                self._heartbeat.serve(queues)
                self._chores.serve(queues)
            case Retire():
                self._retire()
            case _:
                self._log.emit(events.MESSAGE_IGNORED, kind=type(message).__name__)

    def _caught(self, numbers: set[int]) -> None:
        if TERM not in numbers:
            return
        if os.getppid() == self._keep_only_own.loaded.context.master_pid:
            # Asked to end while the master lives: it starts another, the node lives on.
            self._over = True
        else:
            self._linger()

    # -- the end -----------------------------------------------------------------------------

    def _linger(self) -> None:
        """The master is gone: keep the lease while its workers drain."""
        self._chores.stop_ticking()
        grace_s = self._keep_only_own.loaded.settings.shutdown.grace_s
        self._linger_until_s = min(self._linger_until_s, monotonic_s() + grace_s + LINGER_MORE_S)

    def _crew_is_gone(self) -> bool:
        if monotonic_s() > self._linger_until_s:
            return True
        rows = range(self._keep_only_own.loaded.context.scheduler_row)
        pids = [self._keep_only_own.loaded.board.row(number).get(board.PID) for number in rows]
        return not any(pid and procfs.alive(pid) for pid in pids)

    def _retire(self) -> None:
        self._retired = self._over = True

    def _end(self, threads: Sequence[native_threads.Thread]) -> int:
        self._heartbeat.stop()
        self._chores.retire()
        for thread in threads:
            thread.join(RETIRE_WAIT_S)
        self._keep_only_own.loaded.app.listeners.flush(LAST_WORDS_S)
        self._report()
        if self._retired:
            self._forget_node()
            self._channel.send(Drained())
        return 0

    def _forget_node(self) -> None:
        """Retire the node."""
        loaded = self._keep_only_own.loaded
        try:
            storage = loaded.app.open_storage()
            self._recover_all(storage)
            storage.retire(self._duty.node.id, self._duty.queues)
            storage.close()
        except StorageError as error:
            # The lease will run out, and another node recovers what is left.
            self._log.emit(events.STORAGE_LOST, error=str(error))

    def _recover_all(self, storage: Storage) -> None:
        """What this node's workers still hold was left by ones that died with nobody to report it."""
        loaded = self._keep_only_own.loaded
        rows = range(loaded.context.scheduler_row)
        running = tuple(view.token for row in rows for view in loaded.board.row(row).busy())
        for node in storage.nodes():
            if node.node.id == self._duty.node.id:
                for worker in [worker for worker, held in node.workers.items() if held]:
                    order = self._inherited.ordered(worker) or RecoverWorker(
                        worker, running, "orphaned", "it and its master died"
                    )
                    self._inherited.carry_out(storage, order, self._duty.queues)
                    self._inherited.forget(worker)
