"""Pipelines, groups, chords, locks, limits and notes, run in this thread on the memory storage."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd import (
    App,
    ConfigError,
    JobCancelled,
    JobDead,
    State,
    TaskFailed,
    TaskLockedException,
    current_job,
)
from taskqd.client.composition import Failed, Skipped
from taskqd.execution.gates import parse_rate
from taskqd.ids import new_id
from taskqd.immediate import run_queued
from tests.support.rigs.crew import Crew


@pytest.fixture
def app() -> App:
    """An app whose jobs wait until `run_queued`."""
    return App("shop", f"memory://{new_id()}")


class Tasks:
    def __init__(self, app: App) -> None:
        self.errors: list[str] = []

        @app.task(name="add")
        def add(a: int, b: int) -> int:
            return a + b

        @app.task(name="double")
        def double(n: int) -> int:
            return 2 * n

        @app.task(name="fail")
        def fail(*_: Any) -> int:
            raise ValueError("no such shop")

        @app.task(name="handle")
        def handle(error: str) -> None:
            self.errors.append(error)

        @app.task(name="total")
        def total(values: list[Any]) -> str:
            return " ".join(map(str, values))

        self.add, self.double, self.fail, self.handle, self.total = (
            add,
            double,
            fail,
            handle,
            total,
        )


@pytest.fixture
def tasks(app: App) -> Tasks:
    return Tasks(app)


# -- pipelines ----------------------------------------------------------------------------------


def test_each_stage_of_a_pipeline_gets_the_value_of_the_one_before(app: App, tasks: Tasks) -> None:
    results = app.enqueue(tasks.add.s(1, 2).then(tasks.double).then(tasks.add, b=10))
    assert [r.state for r in results] == [State.QUEUED, State.SCHEDULED, State.SCHEDULED]
    run_queued(app)
    assert results.get(timeout=1) == [3, 6, 16]


def test_tuple_is_spread_and_dict_becomes_keyword_arguments(app: App) -> None:
    @app.task
    def pair() -> tuple[int, int]:
        return 1, 2

    @app.task
    def names() -> dict[str, int]:
        return {"a": 5, "b": 6}

    @app.task
    def add(a: int, b: int) -> int:
        return a * 10 + b

    @app.task
    def nothing() -> None: ...

    @app.task
    def alone() -> str:
        return "alone"

    results = [
        app.enqueue(pair.s().then(add))[-1],
        app.enqueue(names.s().then(add, b=9))[-1],
        app.enqueue(nothing.s().then(alone))[-1],
    ]
    run_queued(app)
    assert [r.get(timeout=1) for r in results] == [12, 59, "alone"]


def test_failure_of_a_stage_reaches_every_caller_after_it(app: App, tasks: Tasks) -> None:
    first, second, third = app.enqueue(
        tasks.add.s(1, 2).then(tasks.fail).then(tasks.double).error(tasks.handle)
    )
    run_queued(app)
    assert first.get(timeout=1) == 3
    for result in (second, third):
        with pytest.raises(TaskFailed, match="no such shop"):
            result.get(timeout=1)
    assert tasks.errors == ["ValueError: no such shop"]


def test_unknown_later_stage_does_not_kill_the_stages_before_it(app: App, tasks: Tasks) -> None:
    gone = app.task(name="gone")(lambda n: n)
    first, second, third = app.enqueue(tasks.add.s(1, 2).then(gone).then(tasks.double))
    del app.registry["gone"]
    run_queued(app)
    assert first.get(timeout=1) == 3
    for result in (second, third):
        with pytest.raises(JobDead, match="unknown"):
            result.get(timeout=1)


def test_retried_stage_goes_on_once(app: App, tasks: Tasks) -> None:
    runs: list[int] = []

    @app.task(retries=1)
    def flaky() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise OSError
        return 4

    results = app.enqueue(flaky.s().then(tasks.double))
    assert run_queued(app) == 3
    assert results.get(timeout=1) == [4, 8]


def test_pipeline_with_a_wrong_stage_enqueues_nothing(app: App, tasks: Tasks) -> None:
    from taskqd import BadArguments

    with pytest.raises(BadArguments):
        app.enqueue(tasks.add.s(1, 2).then(tasks.double, c=3))
    assert app.counts() == {}


# -- groups and chords --------------------------------------------------------------------------


def test_group_is_enqueued_together(app: App, tasks: Tasks) -> None:
    results = app.enqueue(app.group([tasks.add.s(n, n) for n in range(3)]))
    run_queued(app)
    assert results.get(timeout=1) == [0, 2, 4]


def test_callback_of_a_chord_gets_the_values_in_order(app: App, tasks: Tasks) -> None:
    result = app.enqueue(app.chord([tasks.add.s(n, 1) for n in range(3)], tasks.total))
    assert result.callback.state is State.SCHEDULED
    run_queued(app)
    assert result.get(timeout=1) == "1 2 3"
    assert [r.get(timeout=1) for r in result.results] == [1, 2, 3]


def test_failed_and_skipped_members_are_told_apart(app: App) -> None:
    seen: list[Any] = []
    tasks = Tasks(app)

    @app.task
    def look(values: list[Any]) -> int:
        seen.extend(values)
        return len(values)

    late = tasks.double.options(expires=-1)
    result = app.enqueue(app.chord([tasks.double.s(1), tasks.fail.s(), late.s(3)], look))
    run_queued(app)
    assert result.get(timeout=1) == 3
    value, failed, skipped = seen
    assert value == 2
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.message) == ("failed", "ValueError: no such shop")
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "expired"


def test_chords_nest_and_members_may_be_pipelines(app: App, tasks: Tasks) -> None:
    inner = app.chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total)
    pipeline = tasks.add.s(1, 2).then(tasks.double)
    result = app.enqueue(app.chord([inner, pipeline], tasks.total))
    run_queued(app)
    assert result.get(timeout=1) == "2 4 6"


def test_failing_pipeline_counts_once_in_its_chord(app: App, tasks: Tasks) -> None:
    pipeline = tasks.fail.s().then(tasks.double).then(tasks.double)
    result = app.enqueue(app.chord([pipeline, tasks.double.s(4)], tasks.total))
    run_queued(app)
    assert result.get(timeout=1) == "<failed: failed: ValueError: no such shop> 8"


def test_empty_chord_calls_back_at_once(app: App, tasks: Tasks) -> None:
    result = app.enqueue(app.group([]).then(tasks.total))
    run_queued(app)
    assert result.get(timeout=1) == ""


def test_payload_does_not_grow_by_member(app: App, tasks: Tasks) -> None:
    app.enqueue(app.chord([tasks.double.s(n) for n in range(200)], tasks.total))
    assert max(len(row.record) for row in app.jobs()) < 150
    run_queued(app)
    assert list(app.storage.leftovers()) == []


def test_what_is_no_call_cannot_be_composed(app: App, tasks: Tasks) -> None:
    for wrong in ([tasks.double], [3]):
        with pytest.raises(ConfigError, match="expected"):
            app.enqueue(wrong)
        with pytest.raises(ConfigError, match="expected"):
            app.group(wrong)


# -- locks, limits, unique jobs -----------------------------------------------------------------


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


# -- revocation and notes -----------------------------------------------------------------------


def test_revoked_task_runs_no_job_until_it_is_restored(app: App, tasks: Tasks) -> None:
    tasks.double.revoke()
    assert tasks.double.is_revoked()
    result = tasks.double(1)
    run_queued(app)
    with pytest.raises(JobCancelled, match="revoked"):
        result.get(timeout=1)
    assert tasks.double.restore()
    assert not tasks.double.restore()
    result = tasks.double(1)
    run_queued(app)
    assert result.get(timeout=1) == 2


def test_task_revoked_once_skips_one_job(app: App, tasks: Tasks) -> None:
    tasks.double.revoke(revoke_once=True)
    first, second = tasks.double(1), tasks.double(2)
    run_queued(app)
    assert first.state is State.CANCELLED
    assert second.get(timeout=1) == 4
    assert not tasks.double.is_revoked()


def test_id_can_be_revoked_before_it_is_enqueued(app: App, tasks: Tasks) -> None:
    assert app.revoke_by_id("order-1")
    assert app.is_revoked_by_id("order-1")
    result = tasks.double.options(id="order-1")(1)
    run_queued(app)
    assert result.state is State.CANCELLED
    assert app.features.revocations() == {}, "used up"


def test_ended_job_cannot_be_revoked_and_leaves_no_token(app: App, tasks: Tasks) -> None:
    result = tasks.double(1)
    run_queued(app)
    assert not result.revoke()
    assert app.features.revocations() == {}


def test_notes_of_a_job_outlive_its_attempts(app: App) -> None:
    seen: list[Any] = []

    @app.task(retries=1)
    def resume() -> str:
        job = current_job()
        seen.append((job.checkpointed, job.once("mail"), job.once("mail")))
        job.checkpoint({"page": 7})
        job.progress(3, 10)
        if job.attempt == 1:
            raise OSError
        assert job.checkpointed == {"page": 7}
        return "done"

    result = resume()
    run_queued(app)
    assert result.get(timeout=1) == "done"
    assert seen == [(None, True, False), ({"page": 7}, False, False)]
    assert list(app.storage.leftovers()) == []


def test_standing_orders_were_read_from_the_storage_for_each_job(
    app: App, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    read = app.storage.revocations
    monkeypatch.setattr(app.storage, "revocations", lambda: looks.append(1) or read())
    tasks.fail.revoke()
    crew = Crew(app)
    tasks.double.map(range(100))
    assert len(crew.drain(limit=10)) == 100
    assert len(looks) < 10
    tasks.double.revoke()
    results = tasks.double.map(range(10))
    assert {outcome.kind for outcome in crew.drain()} == {"cancel"}, "at once, though it is cached"
    assert {result.state for result in results} == {State.CANCELLED}
    tasks.double.restore()
    tasks.double(1)
    assert [outcome.kind for outcome in crew.drain()] == ["ack"]


def test_a_unique_member_that_was_not_enqueued_does_not_block_its_chord() -> None:
    app = App("twins", f"memory://{new_id()}")

    @app.task(name="once", unique="args")
    def once(n: int) -> int:
        return n

    @app.task(name="shown")
    def shown(values: list[Any]) -> str:
        return repr(values)

    chord = app.enqueue(app.chord([once.s(1), once.s(1), once.s(2)], shown))
    twins = app.enqueue([once.s(1), once.s(3)])
    assert twins[0].id == chord.results[0].id
    run_queued(app)
    assert chord.get(timeout=0) == "[1, <skipped: skipped>, 2]"
    assert [result.get(timeout=0) for result in twins] == [1, 3]
