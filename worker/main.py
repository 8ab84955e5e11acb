"""A forked child becomes a worker or the scheduler: `run_child` is its whole life."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Sequence
from functools import partial

from taskqd.client.delivery import EnqueuedJob, tell_enqueued
from taskqd.errors import ConfigError, HookFailed, StorageCorrupt, StorageRefused
from taskqd.execution.runner import Runner
from taskqd.ipc import board
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Booted, BootFailed, Drained, ToChild, decode_to_child
from taskqd.jobs.job import Entry
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Storage
from taskqd.worker.connection.open import AskedToEnd, open_log, reach_storage
from taskqd.worker.host.setup import Title
from taskqd.worker.host.signals import catch_term, dump_stacks_on_request, reset_signals
from taskqd.worker.leasing.context import WorkerContext, WorkerOrders
from taskqd.worker.leasing.loop import WorkerLoop
from taskqd.worker.leasing.queue_order import QueueOrder
from taskqd.worker.leasing.settling import Settling
from taskqd.worker.slots.base import Slots
from taskqd.worker.slots.kinds import make_slots, settle_in
from taskqd.worker.slots.stop_state import StopState

from .child import NewChild
from .host import native_threads, setup, syscalls
from .scheduler import scheduler
from .slots import job_forks

LEAVE_WAIT_S = 0.3
"""After an interruption: how long a job that looks at `stopping` may take to return."""


def run_child(child: NewChild) -> int:
    """Return the exit code."""
    context, spawn = child.loaded.context, child.spawn
    syscalls.own_session()
    reset_signals()
    signals = catch_term()
    syscalls.become_child_of(context.master_pid)
    dump_stacks_on_request(child.stacks_fd)
    setup.reseed()
    gc.enable()
    channel = Channel(child.channel, decode_to_child)
    channel.send(Booted(os.getpid()))
    boot = scheduler.boot if spawn.role == "scheduler" else _boot_worker
    try:
        run = boot(child, channel, signals)
    except AskedToEnd:
        channel.send(Drained())
        return 0
    except (ConfigError, StorageRefused, StorageCorrupt) as error:
        channel.send(BootFailed("storage", str(error)))
        return syscalls.EXIT_BOOT
    except HookFailed as error:
        channel.send(BootFailed(error.hook, str(error)))
        return syscalls.EXIT_BOOT
    except OSError as error:
        channel.send(BootFailed("process", f"{type(error).__name__}: {error}"))
        return syscalls.EXIT_BOOT
    return run()


def _boot_worker(child: NewChild, channel: Channel[ToChild], signals: int) -> Callable[[], int]:
    setup.die_before_the_master()
    job_forks.end_with_their_jobs()
    setup.renice(child.loaded.settings.workers.nice)
    return Worker(child, channel, signals).serve


class Worker:
    """Boots when it is made; then runs the slots in this thread and the worker's loop beside it."""

    def __init__(self, child: NewChild, channel: Channel[ToChild], signals: int) -> None:
        context, self._settings, self._app, shared = child.loaded
        log = open_log(
            "worker", self._settings, worker=child.spawn.number, generation=context.generation
        )
        log.holds = True
        row = shared.row(child.spawn.number)
        row.set(board.PID, os.getpid())
        self._context = WorkerContext(
            worker_id=child.spawn.worker_id,
            node_id=context.node_id,
            row=row,
            board=shared,
            workers_max=context.scheduler_row,
            channel=channel,
            signals=signals,
            stop_state=StopState(child.spawn.worker_id),
            title=Title(f"worker {child.spawn.number}"),
            log=log,
        )
        if log.enabled(events.JOB_ENQUEUED):
            self._app.listeners.connect(partial(_log_enqueued, log), ("enqueued",))
        self._runner = Runner(self._app, self._settings.limits, log)
        settle_in(self._settings.workers, self._app)
        self._app.run_vital_hooks("after_fork")
        with native_threads.claimed():
            self._storage = reach_storage(self._app, self._settings, channel, signals)
        self._app.run_vital_hooks("on_startup")

    def serve(self) -> int:
        """Return the exit code."""
        context = self._context
        slots = make_slots(self._settings.workers, context.row, context.stop_state, self._runner)
        settling = Settling(context.worker_id, self._app.open_storage, self._tell_enqueued)
        loop = WorkerLoop(context, self._orders(), self._storage, slots, self._runner, settling)
        native_threads.Thread(partial(_run_loop, loop, slots, self._storage, context.log)).start()
        slots.run()
        return self._end(loop)

    def _tell_enqueued(self, entries: Sequence[Entry]) -> None:
        """Tell of jobs that others have set off; no handler may hold up who has written them."""
        listeners = self._app.listeners
        for entry in entries:
            tell_enqueued(listeners, entry, "", tell=listeners.tell_aside)

    def _orders(self) -> WorkerOrders:
        queues = self._settings.queues
        names = queues.names or self._app.queues
        return WorkerOrders(
            queues=names,
            order=QueueOrder(names, queues.weights, random.random),
            grace_s=self._settings.shutdown.grace_s,
            burst=self._settings.burst,
        )

    def _end(self, loop: WorkerLoop) -> int:
        self._context.log.flush()
        if loop.ending.interrupted:
            return loop.ending.exit_code
        self._app.run_hooks("on_shutdown")
        self._app.listeners.flush(LEAVE_WAIT_S)
        self._app.close()
        return loop.ending.exit_code


def _log_enqueued(log: Log, _signal: str, job: EnqueuedJob, _exc: object = None) -> None:
    """A job of this worker has enqueued another one."""
    log.emit(
        events.JOB_ENQUEUED,
        job_id=job.id,
        task=job.task,
        queue=job.queue,
        run_at_ms=job.run_at_ms,
    )


def _run_loop(loop: WorkerLoop, slots: Slots, storage: Storage, log: Log) -> None:
    """The worker's loop's thread.  Its end is the worker's: either the slots return, or they are left."""
    syscalls.vital(loop.run)
    if not loop.ending.interrupted:
        syscalls.vital(storage.close)
    slots.close()
    if loop.ending.interrupted:
        native_threads.sleep(LEAVE_WAIT_S)
        log.flush()
        syscalls.leave(loop.ending.exit_code)
