"""What a scheduler does for its queues, of which some server may be away."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from taskqd import App
from taskqd.errors import StorageUnavailable
from taskqd.logs import setup as log
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node
from taskqd.storage.memory import MemoryStorage
from taskqd.worker.host.event_queue import EventQueue
from taskqd.worker.scheduler.chores import Chores
from taskqd.worker.scheduler.duty import Duty
from taskqd.worker.scheduler.ticker import Ticker


class Failing(MemoryStorage):
    """One server of `servers` is away: what concerns delayed jobs fails."""

    servers = 2

    def __init__(self) -> None:
        super().__init__("test", world=uuid.uuid4().hex)
        self.done: list[str] = []

    def parts(self, queues: Sequence[str]) -> list[list[str]]:
        return [[str(number)] for number in range(self.servers)]

    def promote(self, *_: Any) -> Any:
        raise StorageUnavailable("one server is away")

    def recover(self, *args: Any, **more: Any) -> Any:
        self.done.append("recover")
        return super().recover(*args, **more)

    def purge(self, *args: Any, **more: Any) -> int:
        self.done.append("purge")
        return super().purge(*args, **more)


@pytest.mark.parametrize(("servers", "done"), [(2, ["recover", "purge"]), (1, [])])
def test_what_fails_at_one_server_does_not_keep_the_rest_from_being_done(
    servers: int, done: list[str]
) -> None:
    """With one server, the rest would only wait for it too."""
    storage = Failing()
    storage.servers = servers
    duty = Duty(
        Node("n"),
        ["a", "b"],
        600,
        LimitSettings(),
        Ticker(App("test", "memory://").periodic.read, "skip"),
        lambda _: None,  # type: ignore[arg-type,return-value]
    )
    silent = log.configure(role="test", level="critical")
    chores = Chores(duty, lambda: storage, EventQueue(), silent)
    chores._round()
    assert storage.done == done
    assert chores._outage.lasts
