"""The connection to one server of a cluster, which tells the cluster of all that fails there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from taskqd.errors import StorageError
from taskqd.storage.redis.link.connection import Args, Link
from taskqd.storage.redis.link.faults import WAIT, code_of
from taskqd.storage.redis.link.slots import Place


class ServerLink(Link):
    """The connection to one server of a cluster.

    law: whatever fails there, and whoever called it, the map of the slots is asked for again
    (test_a_server_that_is_killed_and_not_restarted_is_left_for_its_replica).
    """

    def __init__(self, url: str, place: Place, suspect: Callable[[Place], None]) -> None:
        super().__init__(url, seek=lambda: place)
        self.where = f"{self.where} at {place[0]}:{place[1]}"
        self._fails = partial(suspect, place)

    def send(self, commands: Sequence[Args]) -> None:
        try:
            super().send(commands)
        except StorageError:
            self._fails()
            raise

    def read(self, *, write: bool = True) -> Any:
        try:
            return super().read(write=write)
        except StorageError:
            self._fails()
            raise

    def failure(self, error: RedisError) -> StorageError:
        if code_of(error) in WAIT:
            self._fails()
        return super().failure(error)
