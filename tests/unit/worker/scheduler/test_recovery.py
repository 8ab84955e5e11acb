"""When the scheduler looks for silent nodes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, cast

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.ipc.messages import Message, RecoverWorker, WorkerRecovered
from taskqd.jobs.job import State
from taskqd.logs import setup as log
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node, Recovered, Storage
from taskqd.storage.memory import MemoryStorage
from taskqd.worker.host.event_queue import EventQueue
from taskqd.worker.scheduler import recovery as module
from taskqd.worker.scheduler.duty import Duty
from taskqd.worker.scheduler.recovery import Recovery, next_look_s
from tests.support.rigs.rig import Rig

LEASE_S = 10.0


def _middle(least: float, most: float) -> float:
    return (least + most) / 2


@pytest.mark.parametrize(
    ("first_end_s", "look_s"),
    [(None, 2.5), (9.0, 2.5), (2.0, 2.02), (0.0, 0.25), (-30.0, 0.25)],
)
def test_the_next_look_is_at_the_end_of_a_lease_and_often_once_it_has_ended(
    first_end_s: float | None, look_s: float
) -> None:
    assert next_look_s(LEASE_S, first_end_s, _middle) == pytest.approx(look_s)


class Spread(MemoryStorage):
    """Each queue is on a server of its own."""

    def __init__(self) -> None:
        super().__init__("test", world=uuid.uuid4().hex)
        self.down = {"b"}

    def parts(self, queues: Sequence[str]) -> list[list[str]]:
        return [[queue] for queue in queues]

    def recover_worker(self, worker: str, queues: Sequence[str], **more: Any) -> list[Recovered]:
        if away := self.down.intersection(queues):
            raise StorageUnavailable(f"the server of {', '.join(away)} is down")
        return super().recover_worker(worker, queues, **more)

    def recover(self, queues: Sequence[str], **more: Any) -> list[Recovered]:
        if away := self.down.intersection(queues):
            raise StorageUnavailable(f"the server of {', '.join(away)} is down")
        return super().recover(queues, **more)


def recovery_of(storage: Storage, outbox: EventQueue[Message]) -> Recovery:
    duty = Duty(
        Node("n"), ["a", "b", "c"], 600, LimitSettings(), cast("Any", None), cast("Any", None)
    )
    silent = log.configure(role="test", level="critical")
    return Recovery(duty, lambda: storage, outbox, silent)


def test_what_other_servers_hold_is_recovered_while_one_is_away() -> None:
    storage, outbox = Spread(), EventQueue[Message]()
    rig = Rig(storage, ["a", "b", "c"])
    rig.register("n")
    for queue in rig.queues:
        rig.put(f"job-{queue}", queue=queue)
    running = tuple(lease.token for lease in rig.lease(3, worker="n.1"))
    recovery = recovery_of(storage, outbox)
    recovery.requests.put(RecoverWorker("n.1", running, "orphaned", "killed"))
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            recovery.requested()
        assert {row.id for row in storage.jobs(State.QUEUED)} == {"job-a", "job-c"}
    with pytest.raises(StorageUnavailable):
        recovery.silent_nodes()
    assert outbox.take() == []
    storage.down = set()
    recovery.requested()
    assert outbox.take() == [WorkerRecovered("n.1", orphaned=3, released=0, interrupted=0)]
    assert {row.id for row in storage.jobs(State.QUEUED)} == {"job-a", "job-b", "job-c"}


def test_many_orders_wait_for_a_silent_server_once_and_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They waited for it one after the other, and the scheduler was taken for stuck."""
    clock = {"now_s": 0.0}
    monkeypatch.setattr(module, "monotonic_s", lambda: clock["now_s"])
    asked: list[str] = []

    class Silent(Spread):
        def recover_worker(
            self, worker: str, queues: Sequence[str], **more: Any
        ) -> list[Recovered]:
            asked.append(f"{worker} {','.join(queues)}")
            clock["now_s"] += 5.0 if self.down.intersection(queues) else 0.0
            return super().recover_worker(worker, queues, **more)

    storage = Silent()
    recovery = recovery_of(storage, EventQueue[Message]())
    for number in range(4):
        recovery.requests.put(RecoverWorker(f"n.{number}", (), "orphaned"))
    for number in range(4):
        asked.clear()
        before_s = clock["now_s"]
        with pytest.raises(StorageUnavailable):
            recovery.requested()
        assert clock["now_s"] == before_s + 10.0
        assert asked == [f"n.{number} a,b,c", f"n.{number} a", f"n.{number} b"]


def test_looks_without_a_cause_are_spread() -> None:
    assert next_look_s(LEASE_S, None, min) < next_look_s(LEASE_S, None, max)
