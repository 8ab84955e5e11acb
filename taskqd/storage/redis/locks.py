"""Locks: owned by workers' jobs or for a time, fenced, freed with their owner.

A lock and those who wait for it live under the namespace's own tag, the waiting jobs under their
queues'; so a waiter is taken out of the line in one step and called forward in the next.  Should
this process die between the two, the job runs when its own time has come.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from taskqd.errors import ConfigError
from taskqd.storage.features import LockRow
from taskqd.storage.redis.core import Core
from taskqd.storage.redis.keys import checked
from taskqd.storage.rules import node_of, worker_of

GONE_S = 3600
"""As long as recover.lua keeps its mark."""


class Locks(Core):
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
        self._wake(name, waiter)
        return bool(was)

    def locks(self) -> list[LockRow]:
        flat = self.run("list_locks", "", write=False)
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

    def free_locks_of(
        self, workers: Sequence[str], *, gone: bool = False, expired: bool = False
    ) -> None:
        """Free all that workers own.  `gone`: they get nothing more, unlike those of a node that was
        recovered, which may live and register again.  `expired`: and every place whose time is over.
        """
        if workers or expired:
            gone_s = GONE_S if gone else 0
            freed = self.run("free_locks", "", ["1" if expired else "0", gone_s, *workers])
            for name, waiter in zip(freed[::2], freed[1::2], strict=True):
                self._wake(name.decode(), waiter)

    def free_locks_of_nodes(self, nodes: Collection[str]) -> None:
        if nodes:
            self.free_locks_of([name for name in self._owners() if node_of(name) in nodes])

    def free_stale_locks(self) -> None:
        """Free what nobody can own any more: a net below those who free it at once."""
        # law: owners first, nodes after.  A node that is not there then was not there before.
        owners = self._owners()
        alive = self.live_nodes()
        dead = [name for name in owners if node_of(name) not in alive]
        self.free_locks_of(dead, expired=True)

    def live_nodes(self) -> set[str]:
        commands: list[Any] = [
            ("ZRANGE", self.at(queue).nodes, 0, -1) for queue in self.known_queues()
        ]
        replies = self._link.pipeline(commands, write=False) if commands else []
        return {node.decode() for reply in replies for node in reply}

    def _owners(self) -> list[str]:
        owners = self._link.call("SMEMBERS", self.at("")["owners"], write=False)
        return [owner.decode() for owner in owners]

    def _wake(self, name: str, waiter: bytes) -> None:
        """Call the waiter forward; one that is not waiting any more makes room for the next."""
        while waiter:
            queue, job_id = waiter.decode().split(" ", 1)
            if self.run("wake", queue, [job_id]):
                return
            waiter = self.run("next_waiter", "", [name])
