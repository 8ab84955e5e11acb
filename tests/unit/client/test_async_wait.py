"""The asynchronous interface: the loop's thread never asks the storage."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from taskqd import App, JobCancelled, ResultMissing, ResultTimeout, StorageUnavailable, TaskFailed
from taskqd.client.async_wait import WAITERS_MAX
from taskqd.execution import follow_ups
from taskqd.execution.runner import Runner
from taskqd.immediate import CallersSlot
from taskqd.jobs.end import follow_ups_of
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node, Storage
from taskqd.testing import BackgroundWorker, run_pending

T = TypeVar("T")


class Watched:
    """An app whose storage may not be used by the thread of the event loop."""

    def __init__(self) -> None:
        self.app = App("async", f"memory://{uuid.uuid4().hex}")
        self.app.task(name="double")(double)
        self.app.task(name="total")(total)
        self.app.task(name="fail")(fail)
        self.loop_thread = 0
        self._here = self.app.storages.here
        self.app.storages.here = self.here  # type: ignore[method-assign]

    def here(self) -> Storage:
        assert threading.get_ident() != self.loop_thread, "the storage is used on the event loop"
        return self._here()

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        async def watched() -> T:
            self.loop_thread = threading.get_ident()
            try:
                return await asyncio.wait_for(main(), 30)
            finally:
                self.loop_thread = 0

        return asyncio.run(watched())

    @property
    def tasks(self) -> Any:
        return type("Tasks", (), self.app.registry)


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def total(values: list[int]) -> int:
    return sum(values)


def fail() -> None:
    raise ValueError("as asked")


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_enqueueing_composing_and_waiting_leave_the_loop_alone(watched: Watched) -> None:
    app, tasks = watched.app, watched.tasks

    async def main() -> None:
        one = await tasks.double.aenqueue(1)
        two = await tasks.double.options(priority=3).aenqueue(2)
        group = await app.aenqueue(app.group([tasks.double.s(n) for n in range(100)]))
        stages = await app.aenqueue(tasks.double.s(1).then(tasks.double).then(tasks.double))
        chord = await app.aenqueue(app.chord([tasks.double.s(n) for n in range(3)], tasks.total))
        failed = await tasks.fail.aenqueue()
        assert await asyncio.gather(one.aget(20), two.aget(20)) == [2, 4]
        assert await group.aget(timeout=20) == [2 * n for n in range(100)]
        assert await stages.aget(timeout=20) == [2, 4, 8]
        assert await chord.aget(timeout=20) == 6
        with pytest.raises(TaskFailed, match="as asked"):
            await failed.aget(timeout=20)
        assert await one.aget() == 2, "an answer that is known is not asked for again"

    with BackgroundWorker(app):
        watched.run(main)


def waiters() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "taskqd-wait"}


def test_many_that_wait_keep_nobody_from_enqueueing(watched: Watched) -> None:
    """Waiting used to take the loop's few threads, and the jobs waited for were never enqueued."""
    app, tasks = watched.app, watched.tasks
    before = waiters()

    async def main() -> None:
        results = [await tasks.double.options(id=f"j{n}").aenqueue(n) for n in range(200)]
        waiting = [asyncio.create_task(result.aget(timeout=25)) for result in results]
        await asyncio.sleep(0)
        last = await asyncio.wait_for(tasks.double.aenqueue(1000), 20)
        assert 0 < len(waiters() - before) <= WAITERS_MAX
        with BackgroundWorker(app):
            assert await asyncio.gather(*waiting) == [2 * n for n in range(200)]
            assert await last.aget(timeout=20) == 2000

    watched.run(main)


def test_a_wait_that_is_given_up_does_not_keep_the_loop_from_ending(watched: Watched) -> None:
    async def main() -> None:
        result = await watched.tasks.double.aenqueue(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(result.aget(), 0.05)
        with pytest.raises(ResultTimeout, match=r"not ended within 0.05 s"):
            await result.aget(timeout=0.05)

    began_s = time.monotonic()
    watched.run(main)
    assert time.monotonic() - began_s < 15, "it waits for a job that nobody runs"


def test_waiting_ends_with_what_has_become_of_the_job(watched: Watched) -> None:
    app = watched.app
    waiting = watched.tasks.double(1)
    assert waiting.revoke()

    async def main() -> None:
        with pytest.raises(JobCancelled, match="revoked"):
            await waiting.aget(timeout=20)
        with pytest.raises(ResultMissing):
            await app.result("nobody").aget(timeout=20)

    watched.run(main)


def test_a_defect_in_a_waiting_thread_left_its_coroutines_waiting_for_ever(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_jobs: object) -> None:
        raise ZeroDivisionError("a defect of ours")

    async def main() -> None:
        result = await watched.tasks.double.aenqueue(1)
        with monkeypatch.context() as patch:
            patch.setattr(type(watched._here()), "answers", lambda _self, jobs: broken(jobs))
            for _ in range(WAITERS_MAX + 1):
                with pytest.raises(ZeroDivisionError):
                    await result.aget()
        await asyncio.to_thread(run_pending, watched.app)
        assert await result.aget(timeout=20) == 2

    watched.run(main)


def test_a_storage_that_stays_away_is_told_at_the_end_and_one_that_returns_is_not(
    watched: Watched,
) -> None:
    app = watched.app
    ended = watched.tasks.double(1)
    run_pending(app)
    away = threading.Event()
    here = app.storages.here

    def sometimes() -> Storage:
        if away.is_set():
            raise StorageUnavailable("it is away")
        return here()

    app.storages.here = sometimes  # type: ignore[method-assign]

    async def main() -> None:
        away.set()
        with pytest.raises(StorageUnavailable, match="it is away"):
            await ended.aget(timeout=0.3)
        waiting = asyncio.create_task(ended.aget(timeout=20))
        await asyncio.sleep(0)
        away.clear()
        assert await waiting == 2

    watched.run(main)


def test_a_loop_of_jobs_is_not_held_up_by_what_they_ask_of_the_storage(watched: Watched) -> None:
    """A lock, the next stage, a chord's values, standing orders: all of it is asked in threads."""
    app, tasks = watched.app, watched.tasks
    locked = app.task(name="locked", lock="one")(double)
    app.enqueue(tasks.double.s(1).then(tasks.double))
    app.enqueue(app.chord([tasks.double.s(n) for n in range(3)], tasks.total))
    app.enqueue([locked.s(5), tasks.fail.s().error(tasks.total)])
    app.revoke_by_id("not here yet")
    storage = app.storage
    storage.register(Node("n"), ["default"], 600)
    runner = Runner(app, LimitSettings(), configure(role="test", level="critical"))
    kinds: list[str] = []

    async def main(leases: list[Any]) -> list[Any]:
        return [await runner.arun(lease, CallersSlot("n.1")) for lease in leases]

    while (leased := storage.lease("n.1", ["default"], 10)).leases:
        runner.heed(leased.revocations)
        outcomes = watched.run(lambda leased=leased: main(leased.leases))
        for outcome in outcomes:
            follow_ups.write(storage, follow_ups_of(outcome))
        storage.settle("n.1", outcomes)
        kinds += [outcome.kind for outcome in outcomes]
    assert sorted(kinds) == ["ack"] * 7 + ["bury"] * 2
