"""Locks in a user's own code: `with app.lock_task("import")`, or as a decorator.

A lock held by a job lives as its worker does, and is free the moment its worker is known dead.
Held outside a worker (a web process, a script), it has a lifetime that a thread renews.
"""

from __future__ import annotations

import functools
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError, TaskLockedException
from taskqd.execution.current_job import peek_current
from taskqd.execution.gates import LockApp, owner_of, unlock

P = ParamSpec("P")
R = TypeVar("R")

_TTL_S = 60.0
_LOOK_S = (0.01, 0.25)


class TaskLock:
    """One named lock.  Can be entered by several threads: each takes it for itself."""

    def __init__(self, app: LockApp, name: str, ttl: float | None, wait: float) -> None:
        self._app = app
        self.name = name
        self._ttl_s = ttl
        self._wait_s = wait
        self._held: dict[int, _Holding] = {}

    def __repr__(self) -> str:
        return f"<lock {self.name!r}>"

    def __enter__(self) -> int:
        """Take the lock; returns its fencing token.  Raises TaskLockedException if it is held."""
        deadline = monotonic_s() + self._wait_s
        pause_s = _LOOK_S[0]
        while True:
            holding = self._take()
            if holding is not None:
                self._held[threading.get_ident()] = holding
                return holding.token
            if monotonic_s() + pause_s > deadline:
                raise TaskLockedException(
                    f"lock {self.name!r} is held by someone else"
                    + (f"; waited {self._wait_s:g} s" if self._wait_s else "")
                )
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _LOOK_S[1])

    def __exit__(self, *_: object) -> None:
        holding = self._held.pop(threading.get_ident(), None)
        if holding is not None:
            holding.release()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def locked(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return locked

    def _take(self) -> _Holding | None:
        job = peek_current()
        if job is not None and job.worker:
            owner, ttl_s = f"{owner_of(job.worker, job.token)}/{uuid.uuid4().hex[:8]}", self._ttl_s
        else:
            owner, ttl_s = f"client:{uuid.uuid4().hex}", self._ttl_s or _TTL_S
        try:
            token = self._app.features.lock(self.name, owner, ttl_s=ttl_s)
        except StorageError:
            # It may be taken although the reply was lost, and nobody else knows this owner.
            unlock(self._app, self.name, owner)
            raise
        if token is None:
            return None
        renews = ttl_s is not None and self._ttl_s is None
        return _Holding(self._app, self.name, owner, token, ttl_s if renews else None)


class _Holding:
    """A lock that is held; renewed by a thread where it has a lifetime that nobody chose."""

    def __init__(
        self, app: LockApp, name: str, owner: str, token: int, renewed_ttl_s: float | None
    ) -> None:
        self._app = app
        self._name = name
        self._owner = owner
        self.token = token
        self._over = threading.Event()
        if renewed_ttl_s is not None:
            args: tuple[Any, ...] = (renewed_ttl_s,)
            threading.Thread(target=self._renew, args=args, daemon=True).start()

    def release(self) -> None:
        self._over.set()
        unlock(self._app, self._name, self._owner)

    def _renew(self, ttl_s: float) -> None:
        while not self._over.wait(ttl_s / 3):
            try:
                if not self._app.features.renew_lock(self._name, self._owner, ttl_s):
                    return
            except StorageError:
                # Tried again at the next third of the lifetime; the lock may be lost by then.
                continue
