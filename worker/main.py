"""A forked child becomes a worker or the scheduler: `live` is its whole life."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable
from functools import partial

from taskqd.client.delivery import EnqueuedJob
from taskqd.errors import ConfigError, HookFailed, StorageCorrupt, StorageRefused
from taskqd.execution.runner import Runner
from taskqd.ipc import board
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Booted, BootFailed, Drained, ToChild, decode_to_child
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Storage
from taskqd.worker.connection.boot_wait import AskedToEnd
from taskqd.worker.connection.open import open_log, reach_storage
from taskqd.worker.host.signals import catch_term, dump_stacks_on_request, reset_signals
from taskqd.worker.host.title import Title
from taskqd.worker.leasing.context import Orders, Post
from taskqd.worker.leasing.loop import Pump
from taskqd.worker.leasing.queue_order import QueueOrder
from taskqd.worker.slots.base import Slots
from taskqd.worker.slots.kinds import make_slots, settle_in
from taskqd.worker.slots.stop_state import Stopping

from .child import Newborn
from .host import native_threads as native
from .host import setup as manners
from .host import syscalls as process
from .scheduler import scheduler
from .slots import job_forks as forks

LEAVE_WAIT_S = 0.3
"""After an interruption: how long a job that looks at `stopping` may take to return."""


def live(born: Newborn) -> int:
    """Return the exit code."""
    context, spawn = born.family.context, born.spawn
    process.own_session()
    reset_signals()
    signals = catch_term()
    process.become_child_of(context.master_pid)
    dump_stacks_on_request(born.stacks_fd)
    manners.reseed()
    gc.enable()
    channel = Channel(born.channel, decode_to_child)
    channel.send(Booted(os.getpid()))
    boot = scheduler.boot if spawn.role == "scheduler" else _boot_worker
    try:
        run = boot(born, channel, signals)
    except AskedToEnd:
        channel.send(Drained())
        return 0
    except (ConfigError, StorageRefused, StorageCorrupt) as error:
        channel.send(BootFailed("storage", str(error)))
        return process.EXIT_BOOT
    except HookFailed as error:
        channel.send(BootFailed(error.hook, str(error)))
        return process.EXIT_BOOT
    except OSError as error:
        channel.send(BootFailed("process", f"{type(error).__name__}: {error}"))
        return process.EXIT_BOOT
    return run()


def _boot_worker(born: Newborn, channel: Channel[ToChild], signals: int) -> Callable[[], int]:
    manners.die_before_the_master()
    forks.end_with_their_jobs()
    manners.renice(born.family.settings.workers.nice)
    return Worker(born, channel, signals).serve


class Worker:
    """Boots when it is made; then runs the slots in this thread and the pump beside it."""

    def __init__(self, born: Newborn, channel: Channel[ToChild], signals: int) -> None:
        context, self._settings, self._app, shared = born.family
        log = open_log(
            "worker", self._settings, worker=born.spawn.number, generation=context.generation
        )
        log.holds = True
        row = shared.row(born.spawn.number)
        row.set(board.PID, os.getpid())
        self._post = Post(
            worker_id=born.spawn.worker_id,
            node_id=context.node_id,
            row=row,
            board=shared,
            workers_max=context.scheduler_row,
            channel=channel,
            signals=signals,
            stopping=Stopping(born.spawn.worker_id),
            title=Title(f"worker {born.spawn.number}"),
            log=log,
        )
        if log.enabled(events.JOB_ENQUEUED):
            self._app.listeners.connect(partial(_log_enqueued, log), ("enqueued",))
        self._runner = Runner(self._app, self._settings.limits, log)
        settle_in(self._settings.workers, self._app)
        self._app.run_vital_hooks("after_fork")
        with native.claimed():
            self._storage = reach_storage(self._app, self._settings, channel, signals)
        self._app.run_vital_hooks("on_startup")

    def serve(self) -> int:
        """Return the exit code."""
        post = self._post
        slots = make_slots(self._settings.workers, post.row, post.stopping, self._runner)
        pump = Pump(post, self._orders(), self._storage, slots, self._runner)
        native.Thread(partial(_pump, pump, slots, self._storage, post.log)).start()
        slots.run()
        return self._end(pump)

    def _orders(self) -> Orders:
        queues = self._settings.queues
        names = queues.names or self._app.queues
        return Orders(
            queues=names,
            order=QueueOrder(names, queues.weights, random.random),
            grace_s=self._settings.shutdown.grace_s,
            burst=self._settings.burst,
        )

    def _end(self, pump: Pump) -> int:
        self._post.log.flush()
        if pump.interrupted:
            return pump.exit_code
        self._app.run_hooks("on_shutdown")
        self._app.listeners.flush(LEAVE_WAIT_S)
        self._app.close()
        return pump.exit_code


def _log_enqueued(log: Log, _signal: str, job: EnqueuedJob, _exc: object = None) -> None:
    """A job of this worker has enqueued another one."""
    log.emit(
        events.JOB_ENQUEUED,
        job_id=job.id,
        task=job.task,
        queue=job.queue,
        run_at_ms=job.run_at_ms,
    )


def _pump(pump: Pump, slots: Slots, storage: Storage, log: Log) -> None:
    """The pump's thread.  Its end is the worker's: either the slots return, or they are left."""
    process.vital(pump.run)
    if not pump.interrupted:
        process.vital(storage.close)
    slots.close()
    if pump.interrupted:
        native.sleep(LEAVE_WAIT_S)
        log.flush()
        process.leave(pump.exit_code)
