"""Locks, limits, rates and unique jobs, run in this thread on the memory storage."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd import (
    App,
    ConfigError,
    JobCancelled,
    State,
    TaskFailed,
    TaskLockedException,
)
from taskqd.execution.gates import parse_rate
from taskqd.ids import new_id
from taskqd.immediate import run_queued


@pytest.fixture
def app() -> App:
    """An app whose jobs wait until `run_queued`."""
    return App("shop", f"memory://{new_id()}")


def test_job_of_a_held_lock_is_skipped_without_an_error(app: App) -> None:
    ran: list[int] = []
    heard: list[str] = []

    @app.task(lock="user:{user_id}")
    def charge(user_id: int, amount: int = 1) -> None:
        ran.append(user_id)

    @app.signal("locked", "error")
    def listen(signal: str, job: Any, exc: Any = None) -> None:
        heard.append(signal)

    with app.lock_task("user:7"):
        results = [charge(7), charge(8)]
        run_queued(app)
    assert ran == [8]
    with pytest.raises(JobCancelled, match="skipped"):
        results[0].get(timeout=1)
    assert heard == ["locked"]
    assert list(app.dead) == []


def test_job_that_waits_for_a_lock_is_woken_by_its_release(app: App) -> None:
    ran: list[int] = []

    @app.task(lock="import", on_locked="requeue")
    def load() -> None:
        ran.append(1)

    with app.lock_task("import"):
        result = load()
        run_queued(app)
        assert (ran, result.state) == ([], State.SCHEDULED)
    assert result.state is State.QUEUED
    run_queued(app)
    assert result.get(timeout=1) is None
    assert result.info()["attempts"] == 1
    assert app.locks() == []


def test_held_lock_may_be_a_failure(app: App) -> None:
    @app.task(lock="import", on_locked="fail")
    def load() -> None: ...

    with app.lock_task("import"):
        result = load()
        run_queued(app)
    with pytest.raises(TaskFailed, match="lock 'import' is held"):
        result.get(timeout=1)


def test_lock_template_that_asks_what_the_argument_has_not_is_a_clear_failure(app: App) -> None:
    @app.task(lock="user:{user_id.number}")
    def charge(user_id: int) -> None: ...

    result = charge(1)
    run_queued(app)
    with pytest.raises(TaskFailed, match="the parameters are user_id"):
        result.get(timeout=1)


def test_lock_as_context_manager_and_decorator(app: App) -> None:
    @app.lock_task("once")
    def guarded() -> str:
        assert app.is_locked("once")
        with pytest.raises(TaskLockedException, match="'once' is held"), app.lock_task("once"):
            pass
        return "done"

    assert guarded() == "done"
    assert not app.is_locked("once")
    with app.lock_task("a"), app.lock_task("b"):
        assert app.flush_locks("a") == 1
        assert not app.is_locked("a")
        assert app.is_locked("b")


def test_no_more_jobs_run_at_once_than_max_running(app: App) -> None:
    @app.task(max_running=1)
    def single() -> None:
        assert [row.name for row in app.locks()] == [f"max_running:{single.name}"]

    results = [single(), single()]
    run_queued(app)
    assert [r.get(timeout=1) for r in results] == [None, None]
    assert app.locks() == []


def test_job_over_its_rate_comes_back_later_and_burns_nothing(app: App) -> None:
    heard: list[str] = []

    @app.task(rate_limit="2/m")
    def call() -> None: ...

    @app.signal("rate-limited")
    def listen(signal: str, job: Any, exc: Any = None) -> None:
        heard.append(job.id)

    results = [call() for _ in range(3)]
    run_queued(app)
    assert [r.state for r in results] == [State.DONE, State.DONE, State.SCHEDULED]
    assert heard == [results[2].id]
    info = results[2].info()
    assert (info["attempts"], info["failures"]) == (0, 0)


@pytest.mark.parametrize("text", ["", "5", "0/s", "5/0s", "5/y", "-1/s", "x/s"])
def test_rate_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="rate_limit"):
        parse_rate(text)


def test_rate_is_read_with_its_period() -> None:
    assert parse_rate("10/m") == (10, 60_000)
    assert parse_rate("100 / 2h") == (100, 7_200_000)


@pytest.mark.parametrize(
    ("unique", "same"),
    [("task", [True, True]), ("args", [True, False]), ("user:{user_id}", [True, False])],
)
def test_call_of_a_unique_task_gives_the_result_of_its_twin(
    app: App, unique: str, same: list[bool]
) -> None:
    @app.task(unique=unique)
    def sync(user_id: int) -> int:
        return user_id

    first = sync(1)
    again, other = sync(1), sync(2)
    assert [again.id == first.id, other.id == first.id] == same
    run_queued(app)
    assert again.get(timeout=1) == 1
    assert sync(1).id != first.id, "the job is done: its key is free"


def test_unique_until_start_lets_the_next_one_in_while_it_runs(app: App) -> None:
    ids: list[str] = []

    @app.task(unique="task until start")
    def rebuild() -> None:
        if not ids:
            ids.append(rebuild().id)

    first = rebuild()
    assert rebuild().id == first.id
    run_queued(app)
    assert ids != [first.id]
    assert app.result(ids[0]).get(timeout=1) is None
