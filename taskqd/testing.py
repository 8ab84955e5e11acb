"""Running an app's jobs inside a test: deterministically, or in a background thread.

The pytest plugin is a thin layer over this.  Jobs take the same path as in a worker; nothing is
patched, and what a test does not ask for does not run.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import NamedTuple, Self

from taskqd.app import App
from taskqd.clock import monotonic_s
from taskqd.errors import ConfigError, TaskqdError
from taskqd.immediate import CallersWorker
from taskqd.jobs.job import State
from taskqd.storage.per_thread import StoragePerThread

_POLL_S = 0.01
_JOBS_MAX = 10_000


class NeverEnds(TaskqdError):
    """Jobs go on enqueueing jobs, or do not end."""


@contextmanager
def isolated(app: App, url: str = "memory://") -> Iterator[App]:
    """Give an app a storage of its own for a while; ``memory://``: an empty one that nobody shares."""
    before = app._url, app.immediate, app.storages
    if url == "memory://":
        url = f"memory://{uuid.uuid4().hex}"
    app._url, app.immediate = url, False
    app.storages = StoragePerThread(app.open_storage)
    try:
        yield app
    finally:
        app.close()
        app._url, app.immediate, app.storages = before


def _must_have_tasks(app: App) -> None:
    """What the test enqueues belongs to another app, whose jobs go to its real storage."""
    if not app.registry:
        raise ConfigError(
            f"the app under test ({app.name!r}) has no task; name yours in pytest's ini option,"
            ' taskqd_app = "shop.tasks:app", or override the fixture taskqd_app'
        )


def run_pending(app: App, within: float | timedelta = 0.0, *, jobs_max: int = _JOBS_MAX) -> int:
    """Run all jobs that wait, and those that they enqueue, in this thread; returns how many ran.

    `within`: travel so many seconds ahead as well.  Delayed jobs run in the order of their times,
    each as if its time had come; a retry's delay begins at the time that its job has travelled to.
    What jobs read from the clock is the present, and periodic tasks do not tick.  Raises NeverEnds
    once `jobs_max` jobs have run, ConfigError for an app without a task.
    """
    _must_have_tasks(app)
    end_ms = 1000 * (within.total_seconds() if isinstance(within, timedelta) else within)
    worker = CallersWorker(app)
    voyage = _Voyage(app)
    count = 0
    try:
        while True:
            while worker.run_one():
                count += 1
                if count >= jobs_max:
                    raise NeverEnds(
                        f"run_pending: {count} jobs have run, and more wait (jobs_max={jobs_max})"
                    )
                voyage.look()
            if not voyage.bring(end_ms):
                return count
    finally:
        worker.close()


class _Due(NamedTuple):
    at_ms: float
    """Since the voyage began."""
    serial: int
    job_id: str
    queue: str


class _Voyage:
    """Brings delayed jobs to the present, one after the other, in the order of their times."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._at_ms = 0.0
        self._known: dict[tuple[str, int], _Due] = {}
        self._serial = 0
        self.look()

    def look(self) -> None:
        """Note the jobs that are delayed, with their times as seen from where the voyage is."""
        rows = {(row.id, row.run_at_ms): row for row in self._app.storage.jobs(State.SCHEDULED)}
        self._known = {key: due for key, due in self._known.items() if key in rows}
        now = self._app.clock.now_ms()
        for key in sorted(rows.keys() - self._known.keys(), key=lambda key: (key[1], key[0])):
            self._serial += 1
            at_ms = self._at_ms + max(0, key[1] - now)
            self._known[key] = _Due(at_ms, self._serial, key[0], rows[key].queue)

    def bring(self, end_ms: float) -> bool:
        """Make the earliest job that is due by then a waiting one.  False: there is none."""
        self.look()
        due, key = min(((due, key) for key, due in self._known.items()), default=(None, None))
        if due is None or key is None or due.at_ms > end_ms:
            return False
        # Its next time may look the same: the same millisecond of the present, later in the voyage.
        del self._known[key]
        self._at_ms = max(self._at_ms, due.at_ms)
        self._app.storage.reschedule(due.job_id, due.queue, 0)
        return True


class BackgroundWorker:
    """Runs an app's jobs in a thread of this process, delayed ones at their time."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.jobs = 0
        """How many have run."""
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="taskqd-worker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread after the job that it runs.  Raises what it died of, and NeverEnds."""
        self._over.set()
        self._thread.join(timeout)
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise NeverEnds(f"the worker still runs a job {timeout:g} s after it was to stop")

    def wait_idle(self, timeout: float = 10.0) -> None:
        """Wait until no job is queued or runs (delayed ones may wait).

        Raises NeverEnds, and ConfigError for an app without a task.
        """
        _must_have_tasks(self.app)
        deadline_s = monotonic_s() + timeout
        while any(row.queued or row.running for row in self.app.storage.queues()):
            if monotonic_s() > deadline_s or not self._thread.is_alive():
                raise NeverEnds(f"jobs still wait or run after {timeout:g} s")
            self._over.wait(_POLL_S)

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._failure = error
        finally:
            self.app.close()

    def _serve(self) -> None:
        worker = CallersWorker(self.app)
        try:
            while not self._over.is_set():
                if worker.run_one():
                    self.jobs += 1
                    continue
                storage = self.app.storage
                storage.promote([row.name for row in storage.queues()])
                self._over.wait(_POLL_S)
        finally:
            worker.close()
