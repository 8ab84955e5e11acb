"""A job has ended, and what follows it cannot be written: its end is kept, its body never runs again."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from taskqd import App, State, TaskFailed
from taskqd.errors import QueueFull, StorageError
from taskqd.execution.runner import Runner
from taskqd.immediate import run_queued
from taskqd.ipc import board
from taskqd.ipc.messages import Drain, Drained, Interrupt
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage.base import Storage
from taskqd.worker.leasing import settling
from tests.support.rigs.worker_rig import NODE, WorkerRig
from tests.support.servers.full_storage import AWAY, FullStorage, Room
from tests.support.servers.storages import NAMES, Backend, backends
from tests.support.waiting import HANG_S, wait_until

KINDS = {"process": {}, "thread": {"threads": 3}, "asyncio": {"coroutines": 3}}
TRIES = 4
QUEUE = "default"

backend = backends(*NAMES)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.01)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


class Works:
    """An app whose storages can be told to take nothing new, and what its tasks have done."""

    def __init__(self, backend: Backend) -> None:
        self.app = app = App(backend.namespace(), backend.url, durability="memory")
        self.room = Room()
        self.ran: list[str] = []
        self._local = threading.local()
        self._backend = backend
        self.calm = backend.open(app.name)
        app.storages = self
        task = app.task
        self.first = task(name="first")(lambda n: self._run("first", n))
        self.once = task(name="once", at_most_once=True)(lambda n: self._run("once", n))
        self.second = task(name="second")(lambda n: self._run("second", n))
        self.fails = task(name="fails")(self._fail)
        self.handle = task(name="handle")(lambda text: self._run("handle", text))
        self.total = task(name="total")(lambda values: self._run("total", sum(values)))

    def here(self) -> Storage:
        """As an app's storages: one for each thread."""
        if not hasattr(self._local, "storage"):
            self._local.storage = self.open()
        return self._local.storage  # type: ignore[no-any-return]

    def open(self) -> Storage:
        return FullStorage(self._backend.open(self.app.name), self.room)  # type: ignore[return-value]

    def close(self) -> None:
        self.calm.close()

    def rig(self, serial: int = 1, **kind: Any) -> WorkerRig:
        runner = Runner(self.app, LimitSettings(), configure(role="test", level="critical"))
        return WorkerRig(
            self.open(),
            jobs=runner,
            queues=(QUEUE,),
            serial=serial,
            beside=self.open(),
            **kind,
        )

    def refused(self, times: int = TRIES) -> None:
        """Wait until something was refused so often."""
        self.room.refusals = 0
        wait_until(lambda: self.room.refusals >= times)

    def _run(self, name: str, value: Any) -> Any:
        self.ran.append(name)
        return value

    def _fail(self, n: int) -> None:
        self.ran.append("fails")
        raise ValueError(n)


@pytest.fixture
def works(backend: Backend) -> Iterator[Works]:
    made = Works(backend)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["first", "once"])
def test_a_finished_stage_ran_again_each_second_while_what_follows_could_not_be_written(
    works: Works, kind: Any, name: str
) -> None:
    results = works.app.enqueue(getattr(works, name).s(5).then(works.second))
    works.room.fill("enqueue")
    with works.rig(**kind) as rig:
        works.refused()
        assert works.ran == [name]
        assert results[0].state is State.RUNNING
        wait_until(lambda: rig.row.behind(board.SETTLING) == 1)
        works.room.make()
        assert results[1].get(timeout=HANG_S) == 5
        wait_until(lambda: rig.row.behind(board.SETTLING) == 0)
        wait_until(lambda: rig.row.get(board.DONE) == 2)
    assert works.ran == [name, "second"]
    assert (results[0].info()["attempts"], results[1].get(timeout=HANG_S)) == (1, 5)
    assert list(works.calm.leftovers()) == []


@pytest.mark.parametrize("late", [False, True], ids=["away", "reply lost"])
def test_members_of_a_chord_ran_twice_because_of_an_outage_as_they_ended(
    works: Works, kind: Any, late: bool
) -> None:
    members = [works.first.s(1), works.once.s(2), works.first.s(3)]
    result = works.app.enqueue(works.app.chord(members, works.total))
    works.room.late = late
    works.room.fill("group_put", "turn", "settle", error=AWAY)
    with works.rig(**kind) as rig:
        works.room.refuses = {"group_put"}
        works.refused()
        works.room.make()
        assert result.get(timeout=HANG_S) == 6
        wait_until(lambda: rig.row.behind(board.SETTLING) == 0)
    assert sorted(works.ran) == ["first", "first", "once", "total"]


@pytest.mark.parametrize("error", [AWAY, StorageError])
def test_an_error_handler_waits_for_room_and_its_job_does_not_fail_again(
    works: Works, error: type[StorageError]
) -> None:
    result = works.app.enqueue(works.fails.s(1).then(works.second).error(works.handle))[0]
    works.room.fill("enqueue", "conclude", error=error)
    with works.rig():
        works.refused()
        works.room.make()
        with pytest.raises(TaskFailed):
            result.get(timeout=HANG_S)
        wait_until(lambda: "handle" in works.ran)
    assert works.ran == ["fails", "handle"]


def test_jobs_with_nothing_behind_them_go_on_beside_an_end_that_is_kept(
    works: Works, kind: Any
) -> None:
    works.app.enqueue(works.first.s(0).then(works.second))
    alone = works.app.enqueue([works.first.s(number) for number in range(20)])
    works.room.fill("enqueue")
    with works.rig(**kind) as rig:
        assert [result.get(timeout=HANG_S) for result in alone] == [*range(20)]
        assert rig.row.behind(board.SETTLING) == 1
        works.room.make()
        wait_until(lambda: "second" in works.ran)


def test_a_worker_with_many_unwritten_ends_leases_no_more(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "KEPT_MAX", 3)
    for number in range(10):
        works.app.enqueue(works.first.s(number).then(works.second))
    works.room.fill("enqueue")
    with works.rig() as rig:
        wait_until(lambda: rig.row.behind(board.SETTLING) >= 3)
        works.refused()
        most = len(works.ran)
        assert most < 10
        assert rig.counts(QUEUE)[0] == 10 - most
        works.room.make()
        wait_until(lambda: works.ran.count("second") == 10)
        wait_until(lambda: rig.row.behind(board.SETTLING) == 0)
    assert works.ran.count("first") == 10


@pytest.mark.parametrize("name", ["first", "once"])
def test_an_end_that_was_kept_with_its_job_outlives_its_worker(
    works: Works, kind: Any, name: str
) -> None:
    """At the end of the grace the job goes back with it, and who leases it next writes it."""
    results = works.app.enqueue(getattr(works, name).s(5).then(works.second))
    works.room.fill("enqueue")
    with works.rig(**kind) as rig:
        works.refused()
        rig.tell(Drain(60))
        rig.tell(Interrupt())
        rig.hear(Drained)
        rig.ended()
    assert results[0].state is State.QUEUED
    with works.rig(serial=2, **kind):
        works.refused()
        works.room.make()
        assert results[1].get(timeout=HANG_S) == 5
        assert results[0].get(timeout=HANG_S) == 5
    assert works.ran == [name, "second"]
    assert list(works.calm.leftovers()) == []


def test_a_job_that_is_to_run_once_is_done_although_its_worker_died_before_it_could_say_so(
    works: Works,
) -> None:
    results = works.app.enqueue(works.once.s(5).then(works.second))
    works.room.fill("enqueue")
    with ExitStack() as dead:
        rig = dead.enter_context(works.rig())
        works.refused()
        tokens = [view.token for view in rig.row.busy()]
        assert tokens, "it counts as running until it is settled"
        works.calm.recover_worker(
            f"{NODE}.1", (QUEUE,), running=tokens, how="orphaned", verdict="SIGKILL"
        )
        with works.rig(serial=2):
            works.room.make()
            assert results[1].get(timeout=HANG_S) == 5
            assert results[0].get(timeout=HANG_S) == 5
    assert works.ran == ["once", "second"]


def test_an_end_that_waits_for_room_is_not_killed_at_the_timeout_of_its_job(works: Works) -> None:
    """The board showed its deadline for as long as its slot waited."""
    timed = works.app.task(name="timed", ack="each", timeout=0.2)(lambda n: works._run("timed", n))
    results = works.app.enqueue(timed.s(5).then(works.second))
    works.room.fill("enqueue")
    with works.rig() as rig:
        works.refused()
        [view] = rig.row.busy()
        assert view.deadline_ns == 0
        works.room.make()
        assert results[1].get(timeout=HANG_S) == 5


@pytest.mark.parametrize("name", ["first", "once"])
def test_a_caller_that_runs_its_queued_jobs_itself_runs_none_twice(works: Works, name: str) -> None:
    results = works.app.enqueue(getattr(works, name).s(5).then(works.second))
    works.room.fill("enqueue")
    for _ in range(TRIES):
        with pytest.raises(QueueFull):
            run_queued(works.app)
    works.room.make()
    run_queued(works.app)
    assert [result.get(timeout=HANG_S) for result in results] == [5, 5]
    assert works.ran == [name, "second"]
    assert list(works.calm.leftovers()) == []
