"""Locks, rates and unique keys, on Redis.

A lock and those who wait for it live under the namespace's own tag, the waiting jobs under their
queues'; so a waiter is taken out of the line in one step and called forward in the next.  Should
this process die between the two, the job runs when its own time has come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from taskqd.errors import ConfigError
from taskqd.storage.features import LockRow
from taskqd.storage.redis.keyspace.base import Base
from taskqd.storage.redis.keyspace.keys import checked
from taskqd.storage.rules import (
    GONE_MS,
    node_of,
    rate_window_ms,
    worker_of,
)

PAGE = 500


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
        worker = worker_of(owner)
        if ttl_s is None and not worker:
            raise ConfigError(f"lock {name!r}: owner {owner!r} is no worker's job; give it a ttl_s")
        ttl_ms = 0 if ttl_s is None else max(1, int(ttl_s * 1000))
        place = "" if waiter is None else f"{checked('queue', waiter[0])} {waiter[1]}"
        token = self.run("lock", "", [name, owner, worker, slots, ttl_ms, place])
        return None if token is None else int(token)

    def renew_lock(self, name: str, owner: str, ttl_s: float) -> bool:
        return bool(self.run("renew_lock", "", [name, owner, max(1, int(ttl_s * 1000))]))

    def unlock(self, name: str, owner: str) -> bool:
        was, waiter = self.run("unlock", "", [name, owner])
        _wake(self, name, waiter)
        return bool(was)

    def locks(self) -> list[LockRow]:
        names = sorted(set(self._lock_names()))
        pages = (names[at : at + PAGE] for at in range(0, len(names), PAGE))
        return [row for page in pages for row in self._locks(page)]

    def _lock_names(self) -> Iterator[bytes]:
        cursor, key = b"0", self.at("")["locks"]
        while True:
            cursor, page = self.call("ZSCAN", key, cursor, "COUNT", PAGE, write=False)
            yield from page[::2]
            if cursor == b"0":
                return

    def _locks(self, names: Sequence[bytes]) -> list[LockRow]:
        flat = self.run("list_locks", "", names, write=False)
        return [
            LockRow(
                flat[at].decode(),
                flat[at + 1].decode(),
                int(flat[at + 2]),
                None if flat[at + 3] < 0 else flat[at + 3] / 1000,
            )
            for at in range(0, len(flat), 4)
        ]

    def flush_locks(self, names: Sequence[str] | None = None) -> int:
        held = [row for row in self.locks() if names is None or row.name in names]
        return sum(self.unlock(row.name, row.owner) for row in held)

    def take(self, key: str, limit: int, period_ms: int, who: str) -> int:
        args = [key, limit, period_ms, rate_window_ms(period_ms), who]
        return int(self.run("take_rate", "", args))

    def unique_holder(self, queue: str, key: str) -> str | None:
        holder = self._link.call("HGET", self.at(queue)["unique"], key, write=False)
        return None if holder is None else str(holder.decode())


def free_locks_of(
    space: Base, workers: Sequence[str], *, gone: bool = False, expired: bool = False
) -> None:
    """Free all that workers own.  `gone`: they get nothing more, unlike those of a node that was
    recovered, which may live and register again.  `expired`: and every place whose time is over.
    """
    if workers or expired:
        gone_s = GONE_MS // 1000 if gone else 0
        freed = space.run("free_locks", "", ["1" if expired else "0", gone_s, *workers])
        for name, waiter in zip(freed[::2], freed[1::2], strict=True):
            _wake(space, name.decode(), waiter)


def free_locks_of_nodes(space: Base, nodes: Collection[str]) -> None:
    """Free all that workers of these nodes own."""
    if nodes:
        free_locks_of(space, [name for name in _owners(space) if node_of(name) in nodes])


def free_stale_locks(space: Base) -> None:
    """Free what nobody can own any more: a net below those who free it at once."""
    # law: owners first, nodes after.  A node that is not there then was not there before
    # (test_the_owners_of_locks_are_read_before_the_nodes).
    owners = _owners(space)
    alive = space.live_nodes()
    dead = [name for name in owners if node_of(name) not in alive]
    free_locks_of(space, dead, expired=True)


def _owners(space: Base) -> list[str]:
    owners = space.call("SMEMBERS", space.at("")["owners"], write=False)
    return [owner.decode() for owner in owners]


def _wake(space: Base, name: str, waiter: bytes) -> None:
    """Call the waiter forward; one that is not waiting any more makes room for the next."""
    while waiter:
        queue, job_id = waiter.decode().split(" ", 1)
        if space.run("wake", queue, [job_id]):
            return
        waiter = space.run("next_waiter", "", [name])
