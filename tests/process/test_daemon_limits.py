"""The whole daemon: jobs that run too long, are interrupted, or revoked while they run."""

from __future__ import annotations

import pytest

from taskqd.client.result import Result
from taskqd.errors import JobCancelled, TaskFailed
from tests.support.apps import stoppable as tasks
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop
from tests.support.waiting import HANG_S

APP = "tests.support.apps.stoppable:app"
KINDS = {
    "process": {"count": 2},
    "thread": {"count": 1, "type": "thread", "concurrency": 3},
    "asyncio": {"count": 1, "type": "asyncio", "concurrency": 3},
}
RAISING = {
    "process": [tasks.softly, tasks.softly_by_check, tasks.softly_async],
    "thread": [tasks.softly_by_check, tasks.softly_async],
    "asyncio": [tasks.softly_by_check, tasks.softly_async],
}
MORE = {"process": {"count": 3}, "thread": {}, "asyncio": {}}
SAVING = {
    "process": [tasks.saves_async, tasks.saves],
    "thread": [tasks.saves_async],
    "asyncio": [tasks.saves_async],
}
on_one_storage = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
each_kind = pytest.mark.parametrize(
    ("shop", "kind"),
    [("redis", "process"), ("sqlite", "thread"), ("redis", "asyncio")],
    indirect=["shop"],
)


def failure(result: Result[object]) -> TaskFailed:
    with pytest.raises(TaskFailed) as raised:
        result.get(timeout=HANG_S)
    return raised.value


@each_kind
def test_soft_timeout_and_revocation_are_raised_in_the_task_and_cost_no_worker(
    shop: Shop, kind: str
) -> None:
    with shop.open(app=APP, workers=KINDS[kind]) as daemon:
        for task in RAISING[kind]:
            result = task()
            error = failure(result)
            assert error.type_name == "taskqd.errors.TaskTimeout"
            assert "ran longer than its soft_timeout of 0.5 s" in str(error)
            name = task.name.rpartition(".")[2]
            assert f"in {name}" in error.traceback, "the stack at that moment"
            dead = shop.info(result)
            assert (dead["reason"], dead["failures"]) == ("timeout", 1)
            assert f"in {name}" in dead["traceback"]
        cleaned = sum(task is not tasks.softly_by_check for task in RAISING[kind])
        assert shop.notes().count("cleaned up") == cleaned
        # The timeout of a coroutine costs its worker nothing either.
        error = failure(tasks.endless_async())
        assert "ran longer than its timeout of 0.5 s" in str(error)
        assert "in endless_async" in error.traceback
        running_jobs_that_are_revoked_stop(shop, kind)
        assert no_worker_has_died(daemon)
        assert daemon.stop() == 0


@each_kind
def test_an_interrupted_job_may_save_where_it_is_and_goes_on_from_there(
    shop: Shop, kind: str
) -> None:
    """One that swallows its interruption is stopped and requeued all the same."""
    jobs = [task() for task in SAVING[kind]]
    swallows = [tasks.stubborn()] if kind == "process" else []
    count = len(jobs) + len(swallows)
    with shop.open(
        app=APP, workers={**KINDS[kind], **MORE[kind]}, shutdown={"grace_s": 2}
    ) as first:
        shop.begun(count)
        assert first.stop() == 0
        assert first.events("master.stopped")[0]["interrupted"] == count
        assert not first.events("worker.killed")
    for result in swallows:
        assert "refused" in shop.notes()
        info = shop.info(result)
        assert (info["state"], info["interruptions"], info["failures"]) == ("queued", 1, 0)
        assert result.revoke()
    with shop.open(app=APP) as second:
        for result, saved in zip(jobs, ["async", "sync"], strict=False):
            assert result.get(timeout=HANG_S) == {
                "attempt": 2,
                "failures": 0,
                "interruptions": 1,
                "crashes": 0,
                "saved": saved,
            }
        assert second.stop() == 0


def revoked(result: Result[object]) -> str:
    with pytest.raises(JobCancelled) as raised:
        result.get(timeout=HANG_S)
    return raised.value.reason


def running_jobs_that_are_revoked_stop(shop: Shop, kind: str) -> None:
    jobs = [task() for task in SAVING[kind]]
    shop.begun(len(jobs))
    for result in jobs:
        assert result.revoke()
        assert revoked(result) == "revoked"
    assert list(shop.app.storage.leftovers()) == []


@on_one_storage
def test_a_revoked_job_is_not_retried_and_one_that_goes_on_is_killed(shop: Shop) -> None:
    with shop.open(app=APP, workers={"count": 3}) as daemon:
        gives_up, stubborn = tasks.gives_up(), tasks.stubborn()
        shop.begun(2)
        assert gives_up.revoke()
        assert stubborn.revoke()
        assert revoked(gives_up) == "revoked"
        assert no_worker_has_died(daemon)
        retried_after_the_delay(tasks.late_once(), shop, daemon)
        assert revoked(stubborn) == "revoked"
        assert daemon.wait("worker.hung", reason=f"revoked: {tasks.stubborn.name} goes on")
        assert shop.notes().count("refused") == 1
        assert list(shop.app.storage.leftovers()) == []
        assert daemon.stop() == 0


def retried_after_the_delay(result: Result[float], shop: Shop, daemon: Daemon) -> None:
    """A retry after a kill at the timeout waits like any other."""
    again_s = result.get(timeout=HANG_S)
    (began,) = [note for note in shop.notes() if note.startswith("at ")]
    # A second until the timeout, half a second of patience, and a second of delay.
    assert again_s - float(began.split()[1]) >= 2.5
    assert daemon.events("job.retried")[0]["delay_s"] == 1.0


def no_worker_has_died(daemon: Daemon) -> bool:
    return not daemon.events("worker.crashed") and not daemon.events("worker.killed")
