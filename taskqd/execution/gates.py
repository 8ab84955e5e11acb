"""What a job must pass between its lease and its start: its lock, its share of places, its rate.

law: a gate that is closed is a state, not a failure.  The job goes back without a count, and
comes again when there is room: a lock wakes who waits for it, a rate says when to ask
(test_job_over_its_rate_comes_back_later_and_burns_nothing).
"""

from __future__ import annotations

import random
import re
import threading
import time
from typing import NamedTuple, Protocol

from taskqd.errors import ConfigError, StorageError
from taskqd.execution.attempt import Attempt
from taskqd.execution.protocols import AppLike
from taskqd.jobs.job import Reason
from taskqd.storage.features import Features

_RATE = re.compile(r"\s*(\d+)\s*/\s*(\d*)\s*(s|m|h|d)\s*")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NET_MS = (4000, 6000)
"""A job that waits for a lock is woken by its release; this is the net below."""
_AWAY_MS = (500, 1500)
_UNLOCK_S = (0.1, 2.0)
_OUTSIDE_TTL_S = 3600.0


class RateLimit(NamedTuple):
    limit: int
    period_ms: int


class Closed(NamedTuple):
    """A gate that is closed to the job, and when to come again."""

    reason: Reason
    delay_ms: int
    what: str


class Passed(NamedTuple):
    """The locks that a job has taken at its gates; it frees them when it ends."""

    app: AppLike
    owner: str
    names: tuple[str, ...]

    def leave(self) -> None:
        """Free the locks."""
        for name in self.names:
            unlock(self.app, name, self.owner)


class LockApp(Protocol):
    @property
    def features(self) -> Features: ...


def unlock(app: LockApp, name: str, owner: str) -> None:
    """Free a lock, now or as soon as the storage is back: its owner has no other chance."""
    try:
        app.features.unlock(name, owner)
    except StorageError:
        args = (app, name, owner)
        threading.Thread(target=_unlock_later, args=args, name="unlock", daemon=True).start()


def _unlock_later(app: LockApp, name: str, owner: str) -> None:
    pause_s = _UNLOCK_S[0]
    while True:
        time.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(pause_s * 2, _UNLOCK_S[1])
        try:
            app.features.unlock(name, owner)
        except StorageError:
            continue
        return


def parse_rate(text: str) -> RateLimit:
    """Read "10/m", "5/s", "100/2h".  Raises ConfigError."""
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]) or found[2] == "0":
        raise ConfigError(
            f"rate_limit = {text!r}: expected a number of starts and a period, like '10/m', '5/s', '100/2h'"
        )
    return RateLimit(int(found[1]), int(found[2] or 1) * _UNIT_MS[found[3]])


def enter(app: AppLike, attempt: Attempt, worker: str) -> Passed | Closed:
    """Pass all gates of a job, or none."""
    try:
        return _enter(app, attempt, worker)
    except StorageError as error:
        return Closed(Reason.INTERRUPTED, round(random.uniform(*_AWAY_MS)), str(error))


def _enter(app: AppLike, attempt: Attempt, worker: str) -> Passed | Closed:
    lease, options = attempt.lease, attempt.options
    name, slots = _lock_of(attempt)
    held = Passed(app, owner_of(worker, lease.token), () if name is None else (name,))
    try:
        if name is not None:
            waits = options.on_locked == "requeue" or options.lock is None
            ttl_s = None if worker else _OUTSIDE_TTL_S
            waiter = (lease.queue, lease.id) if waits else None
            if app.features.lock(name, held.owner, slots=slots, ttl_s=ttl_s, waiter=waiter) is None:
                return Closed(Reason.LOCKED, round(random.uniform(*_NET_MS)), name)
        if options.rate_limit is not None:
            rate = parse_rate(options.rate_limit)
            wait_ms = app.features.take(attempt.envelope.t, rate.limit, rate.period_ms, lease.id)
            if wait_ms:
                held.leave()
                return Closed(Reason.RATE_LIMITED, wait_ms, options.rate_limit)
    except StorageError:
        # The place may be taken although the reply was lost, and this attempt will not start.
        held.leave()
        raise
    return held


def _lock_of(attempt: Attempt) -> tuple[str | None, int]:
    """Return the name and the size of the lock that the task asks for."""
    options = attempt.options
    if options.lock is not None:
        name = attempt.task.codec.fill(options.lock, attempt.args, attempt.kwargs)
        return name, options.max_running or 1
    if options.max_running is not None:
        return f"max_running:{attempt.envelope.t}", options.max_running
    return None, 0


def owner_of(worker: str, token: int) -> str:
    """Return the name by which a job owns its locks; outside a worker it owns them for a time."""
    return f"{worker}#{token}" if worker else f"job#{token}"
