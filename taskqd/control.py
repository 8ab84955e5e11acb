"""The part of an app that looks at jobs and acts on them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol

from taskqd.client.result import Result, ResultApp
from taskqd.client.rows import open_record, task_of
from taskqd.client.task import Task
from taskqd.clock import moment_ms
from taskqd.execution import follow_ups
from taskqd.execution.continuations import after_failure, follows
from taskqd.execution.protocols import AppLike, JobView
from taskqd.execution.task_lock import TaskLock
from taskqd.jobs.codec import decode_plain
from taskqd.jobs.job import Answer, Reason, State, encode_answer
from taskqd.storage.base import JobRow, NodeRow, QueueRow
from taskqd.storage.features import LockRow, Revocation

_ORDER_TTL_S = 7 * 86400
"""A standing order without an end of its own is forgotten after a week: it must not stay for ever."""


class ControlApp(AppLike, ResultApp, Protocol):
    """What these methods need of the app that they belong to."""


class Controlling:
    """Results, revocation, queues, locks and introspection."""

    # -- results -----------------------------------------------------------------------------

    def result(self: ControlApp, job_id: str, queue: str | None = None) -> Result[Any]:
        """Return a handle on the job's result, by its id."""
        return Result(self, job_id, queue, decode_plain)

    def reschedule_by_id(
        self: ControlApp,
        job_id: str,
        *,
        queue: str | None = None,
        delay: float | None = None,
        eta: object | None = None,
    ) -> bool:
        """Give a waiting job a new time; neither `delay` nor `eta`: now.  False: it is not waiting."""
        now = self.clock.now_ms()
        run_at_ms = 0
        if delay is not None:
            run_at_ms = moment_ms(delay, now, self.zone)
        elif eta is not None:
            run_at_ms = moment_ms(eta, now, self.zone, absolute=True)
        return self.storage.reschedule(job_id, queue, run_at_ms)

    # -- revocation --------------------------------------------------------------------------

    def revoke_by_id(
        self: ControlApp,
        job_id: str,
        *,
        queue: str | None = None,
        revoke_once: bool = True,
        revoke_until: datetime | float | None = None,
    ) -> bool:
        """Keep a job from running; returns whether that can still be done.

        A waiting job is removed at once, a running one is asked to stop (and not retried), an id
        that is not known yet is held back when it comes.  With `revoke_until` it may run later.
        What follows the job is told now that it was revoked.
        """
        if revoke_until is None:
            row = self.storage.job(job_id, queue)
            now = self.clock.now_ms()
            answer = Answer("cancelled", 0, now, self.result_ttl, 0, reason=Reason.REVOKED)
            call = (job_id, queue, encode_answer(answer), self.result_ttl)
            if self.storage.cancel(*call) or self.features.stop(*call):
                if row is not None:
                    _tell_revoked(self, row, answer)
                return True
            if self.storage.job(job_id, queue) is not None:
                return False
        _order(self, f"id:{job_id}", revoke_once, revoke_until)
        return True

    def restore_by_id(self: ControlApp, job_id: str) -> bool:
        """Lift a standing order on an id.  False: there is none; a removed job does not come back."""
        return self.features.restore(f"id:{job_id}")

    def is_revoked_by_id(self: ControlApp, job_id: str, queue: str | None = None) -> bool:
        if f"id:{job_id}" in self.features.revocations():
            return True
        row = self.storage.job(job_id, queue)
        return row is not None and row.state is State.CANCELLED and row.reason == Reason.REVOKED

    def revoke_all(
        self: ControlApp,
        task: Task[Any, Any],
        revoke_until: datetime | float | None = None,
        revoke_once: bool = False,
    ) -> None:
        """Let no job of the task start, until `revoke_until` or `restore_all`."""
        _order(self, f"task:{task.name}", revoke_once, revoke_until)

    def restore_all(self: ControlApp, task: Task[Any, Any]) -> bool:
        return self.features.restore(f"task:{task.name}")

    def is_revoked(self: ControlApp, task: Task[Any, Any]) -> bool:
        return f"task:{task.name}" in self.features.revocations()

    # -- locks -------------------------------------------------------------------------------

    def lock_task(
        self: ControlApp, name: str, ttl: float | None = None, wait: float = 0
    ) -> TaskLock:
        """Return a lock for `with` or as a decorator.

        `wait`: seconds to wait for it before TaskLockedException.  `ttl`: it is free after so many
        seconds, whatever happens; without it, it lives as long as the worker that holds it.
        """
        return TaskLock(self, name, ttl, wait)

    def is_locked(self: ControlApp, name: str) -> bool:
        return any(row.name == name for row in self.features.locks())

    def flush_locks(self: ControlApp, *names: str) -> int:
        """Free these locks (none given: all of this app), whoever holds them; returns how many."""
        return self.features.flush_locks(names or None)

    def locks(self: ControlApp) -> list[LockRow]:
        return self.features.locks()

    # -- queues ------------------------------------------------------------------------------

    def pause(self: ControlApp, queue: str) -> None:
        """Give out no more jobs of this queue, on all daemons, until `resume`."""
        self.storage.pause(queue)

    def resume(self: ControlApp, queue: str) -> None:
        self.storage.resume(queue)

    def purge(self: ControlApp, queue: str) -> int:
        """Drop all waiting jobs of a queue; returns how many."""
        return self.storage.purge_queue(queue)

    # -- introspection -----------------------------------------------------------------------

    def counts(self: ControlApp) -> dict[str, QueueRow]:
        """Return the counts of each queue."""
        return {row.name: row for row in self.storage.queues()}

    def jobs(
        self: ControlApp,
        state: State | str = State.QUEUED,
        queue: str | None = None,
        task: str | None = None,
    ) -> Iterator[JobRow]:
        """Iterate lazily over jobs in one state."""
        rows = self.storage.jobs(State(state), queue)
        return (row for row in rows if task is None or task_of(row) == task)

    @property
    def dead(self: ControlApp) -> Iterator[JobRow]:
        """The dead letters."""
        return self.storage.jobs(State.DEAD)

    def nodes(self: ControlApp) -> list[NodeRow]:
        return self.storage.nodes()


def _tell_revoked(app: ControlApp, row: JobRow, answer: Answer) -> None:
    """Tell the handlers, and set off what follows a job that will not run any more."""
    known = open_record(row.record)
    envelope = known.envelope
    name, headers = (envelope.t, envelope.h or {}) if envelope else ("", {})
    view = JobView(row.id, name, row.queue, known.marks, Reason.REVOKED, headers)
    app.listeners.tell("revoked", view)
    if envelope is not None and follows(envelope):
        follow_ups.deliver(app.storage, app.listeners, after_failure(app, envelope, answer))


def _order(app: ControlApp, subject: str, once: bool, until: datetime | float | None) -> None:
    """Set a standing order that ends by itself."""
    now = app.clock.now_ms()
    until_ms = 0 if until is None else moment_ms(until, now, app.zone)
    ttl_s = _ORDER_TTL_S if until is None else max(1, (until_ms - now) // 1000 + 1)
    app.features.revoke(subject, Revocation(until_ms, once), ttl_s)
