"""Queues whose server is away are asked for by a thread, and told of once they serve."""

from __future__ import annotations

import threading
from typing import Any

from taskqd.errors import StorageUnavailable
from taskqd.worker.connection.away_queues import AwayQueues
from tests.support.waiting import wait_until


class Servers:
    def __init__(self) -> None:
        self.down = {"a", "b", "c"}
        self.asked = threading.Event()

    def next_expiry_s(self, queues: tuple[str, ...]) -> None:
        self.asked.set()
        if self.down.intersection(queues):
            raise StorageUnavailable("down")


def test_those_that_are_back_are_told_together_and_forgotten_by_who_takes_them() -> None:
    servers: Any = Servers()
    away = AwayQueues(lambda: servers)
    away.add(["a", "b"], "refused")
    away.add(["c"], "silent")
    assert servers.asked.wait(20)
    assert ("a" in away, len(away), away.why) == (True, 3, "refused")
    assert not away.some_are_back
    servers.down = {"c"}
    wait_until(lambda: away.some_are_back)
    assert away.returned() == [["a", "b"]]
    away.remove(["a", "b"])
    assert ("a" in away, "c" in away) == (False, True)
    servers.down = set()
    wait_until(lambda: away.some_are_back)
    assert away.returned() == [["c"]]


def test_one_that_came_back_another_way_is_not_told_again() -> None:
    servers: Any = Servers()
    away = AwayQueues(lambda: servers)
    away.add(["a"], "refused")
    away.remove(["a"])
    servers.down = set()
    wait_until(lambda: away.some_are_back)
    assert away.returned() == [[]]
