"""Locks, rates and unique keys, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.errors import ConfigError
from taskqd.jobs.job import State
from taskqd.storage.features import LockRow
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.line import Line
from taskqd.storage.memory.state.space import Lock, Rate, Space
from taskqd.storage.rules import (
    lock_decision,
    rate_decision,
    rate_window_ms,
    worker_of,
)


class LimitCalls(Base):
    """The contract's calls that let only so many jobs run."""

    def lock(
        self,
        name: str,
        owner: str,
        *,
        slots: int = 1,
        ttl_s: float | None = None,
        waiter: tuple[str, str] | None = None,
    ) -> int | None:
        if ttl_s is None and not worker_of(owner):
            raise ConfigError(f"lock {name!r}: owner {owner!r} is no worker's job; give it a ttl_s")
        space = self._space
        with space.lock:
            lock = space.locks.setdefault(name, Lock())
            now = space.lease_ms()
            _free_expired(lock, now)
            is_gone = worker_of(owner) in space.gone
            decision = lock_decision(lock.holders, owner, slots, is_gone=is_gone)
            if decision in ("gone", "full"):
                if decision == "full" and waiter is not None:
                    lock.waiters.setdefault(waiter)
                return None
            if decision == "free":
                space.token += 1
                until = None if ttl_s is None else now + int(ttl_s * 1000)
                lock.holders[owner] = (space.token, until)
            if waiter is not None:
                lock.waiters.pop(waiter, None)
            return lock.holders[owner][0]

    def renew_lock(self, name: str, owner: str, ttl_s: float) -> bool:
        space = self._space
        with space.lock:
            lock = space.locks.get(name, Lock())
            _free_expired(lock, space.lease_ms())
            if owner not in lock.holders:
                return False
            token = lock.holders[owner][0]
            lock.holders[owner] = (token, space.lease_ms() + int(ttl_s * 1000))
            return True

    def unlock(self, name: str, owner: str) -> bool:
        with self._space.lock:
            return _unlock(self._space, name, owner)

    def locks(self) -> list[LockRow]:
        space = self._space
        with space.lock:
            now = space.lease_ms()
            return [
                LockRow(name, owner, token, None if until is None else (until - now) / 1000)
                for name, lock in space.locks.items()
                for owner, (token, until) in lock.holders.items()
                if until is None or until > now
            ]

    def flush_locks(self, names: Sequence[str] | None = None) -> int:
        space = self._space
        with space.lock:
            held = [row for row in self.locks() if names is None or row.name in names]
            for row in held:
                _unlock(space, row.name, row.owner)
            return len(held)

    def take(self, key: str, limit: int, period_ms: int, who: str) -> int:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            rate = space.rates.setdefault(key, Rate())
            rate.forget_time_ahead(now)
            window_ms = rate_window_ms(period_ms)
            rate.starts = [at for at in rate.starts if at > now - window_ms]
            rate.told = {name: at for name, at in rate.told.items() if at > now and name != who}
            rate.until_ms = max(rate.until_ms, now + window_ms)
            refused = rate_decision(rate.starts, rate.told.values(), limit, period_ms, now)
            if refused is None:
                rate.starts.append(now)
                return 0
            rate.told[who] = rate.until_ms = refused.until_ms
            return refused.wait_ms

    def unique_holder(self, queue: str, key: str) -> str | None:
        with self._space.lock:
            line = self._space.lines.get(queue)
            return line.unique.get(key) if line else None


def lock_owners(space: Space) -> set[str]:
    """Return the ids of the workers that own locks."""
    owners = {worker_of(owner) for lock in space.locks.values() for owner in lock.holders}
    return owners - {""}


def free_locks_of(space: Space, worker: str) -> None:
    for name, lock in list(space.locks.items()):
        for owner in [owner for owner in lock.holders if worker_of(owner) == worker]:
            _unlock(space, name, owner)


def free_expired_places(space: Space) -> None:
    """Free the places of locks whose time is over, and wake who waits for a free one."""
    for name, lock in list(space.locks.items()):
        _free_expired(lock, space.lease_ms())
        _wake(space, lock)
        if not lock.holders and not lock.waiters:
            del space.locks[name]


def _unlock(space: Space, name: str, owner: str) -> bool:
    lock = space.locks.get(name)
    if lock is None or owner not in lock.holders:
        return False
    del lock.holders[owner]
    _wake(space, lock)
    if not lock.holders and not lock.waiters:
        del space.locks[name]
    return True


def _wake(space: Space, lock: Lock) -> None:
    """Call the first waiter forward; one that is not waiting any more makes room for the next."""
    while lock.waiters:
        queue, job_id = next(iter(lock.waiters))
        del lock.waiters[queue, job_id]
        line: Line | None = space.lines.get(queue)
        job = line.jobs.get(job_id) if line else None
        if line is not None and job is not None and job.state is State.SCHEDULED:
            line.to_tail(job)
            space.ring(queue, 1)
            return
        if job is not None and job.state is State.RUNNING:
            job.called = True
            return


def _free_expired(lock: Lock, now_ms: int) -> None:
    lock.holders = {
        owner: (token, until)
        for owner, (token, until) in lock.holders.items()
        if until is None or until > now_ms
    }
