"""App, Task and Result as a user meets them, in immediate mode and on the memory storage."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskqd import (
    App,
    BadArguments,
    ConfigError,
    EncodeError,
    JobCancelled,
    PayloadTooLarge,
    ResultMissing,
    ResultTimeout,
    RetryTask,
    State,
    TaskFailed,
    crontab,
    every,
)
from taskqd.errors import OutcomeUnknown, StorageUnavailable
from taskqd.immediate import run_queued
from taskqd.jobs.job import Entry


@dataclasses.dataclass
class Size:
    width: int


@pytest.fixture
def now() -> App:
    """An app in immediate mode."""
    return App("shop", immediate=True)


@pytest.fixture
def app(request: pytest.FixtureRequest) -> App:
    """An app whose jobs wait until `run_queued`."""
    return App("shop", f"memory://{request.node.name}")


def test_call_enqueues_and_result_is_typed_by_the_annotation(now: App) -> None:
    @now.task
    def grow(size: Size, by: int = 1) -> Size:
        return Size(size.width + by)

    assert grow(Size(1)).get(timeout=1) == Size(2)
    assert grow(Size(1), by=5).get(timeout=1) == Size(6)


def test_none_is_a_value_like_any_other(now: App) -> None:
    @now.task
    def nothing() -> None: ...

    result = nothing()
    assert result.is_ready()
    assert result.get(timeout=1) is None


def test_reading_a_result_does_not_destroy_it(now: App) -> None:
    @now.task
    def one() -> int:
        return 1

    result = one()
    assert [result.get(1), result.get(1), now.result(result.id).get(1)] == [1, 1, 1]


def test_failure_arrives_with_type_message_and_remote_traceback(now: App) -> None:
    @now.task
    def fail() -> None:
        raise ValueError("no such shop")

    with pytest.raises(TaskFailed, match="ValueError: no such shop") as caught:
        fail().get(timeout=1)
    assert caught.value.type_name == "ValueError"
    lines = caught.value.traceback.splitlines()
    assert "test_app.py" in lines[1], "the traceback begins with the user's own frame"


def test_job_is_retried_until_its_task_succeeds(now: App) -> None:
    runs: list[int] = []

    @now.task(retries=2)
    def flaky() -> int:
        runs.append(1)
        if len(runs) < 3:
            raise OSError
        return len(runs)

    assert flaky().get(timeout=1) == 3


def test_wrong_calls_raise_where_they_are_made_and_enqueue_nothing(app: App) -> None:
    @app.task
    def add(a: int, b: int = 2) -> int:
        return a + b

    wrong: list[Any] = [add, lambda: add("x"), lambda: add(1, c=2)]  # type: ignore[call-arg, arg-type]
    for call in wrong:
        with pytest.raises(BadArguments):
            call()
    with pytest.raises(BadArguments):
        add.map([1, 2, "three"])
    assert app.counts() == {}


def test_values_without_a_json_form_and_large_payloads_are_refused(app: App) -> None:
    @app.task
    def take(value: Any) -> None: ...

    with pytest.raises(EncodeError):
        take(object())
    with pytest.raises(PayloadTooLarge, match="payload_bytes_max"):
        take("x" * 2_000_000)
    assert app.counts() == {}


def test_parameters_named_like_options_belong_to_the_function(now: App) -> None:
    @now.task
    def plan(id: str, delay: int, priority: str, queue: str) -> list[Any]:
        return [id, delay, priority, queue]

    assert plan("a", delay=3, priority="high", queue="q").get(1) == ["a", 3, "high", "q"]


def test_options_of_a_call_are_checked_by_name_and_value(app: App) -> None:
    @app.task
    def add(a: int) -> int:
        return a

    with pytest.raises(ConfigError, match="did you mean 'priority'"):
        add.options(prioritty=1)
    with pytest.raises(ConfigError, match="priority = 12"):
        add.options(priority=12)
    with pytest.raises(ConfigError, match="one of them, not both"):
        add.options(delay=1, eta=datetime.now(UTC))


@pytest.mark.parametrize(
    ("option", "value"),
    [("retries", -1), ("timeout", 0), ("queue", "a b"), ("on_locked", "wait"), ("retry_on", "all")],
)
def test_options_of_a_task_are_checked_where_it_is_declared(
    app: App, option: str, value: Any
) -> None:
    with pytest.raises(ConfigError, match=f"{option} = {value!r}"):
        app.task(**{option: value})(lambda: None)


def test_unknown_option_of_a_task_is_refused_with_a_suggestion(app: App) -> None:
    with pytest.raises(ConfigError, match="did you mean 'retries'"):
        app.task(retires=3)  # type: ignore[call-overload]


def test_same_name_twice_is_refused(app: App) -> None:
    app.task(name="add")(lambda: None)
    with pytest.raises(ConfigError, match="declared twice"):
        app.task(name="add")(lambda: None)


def test_same_id_twice_is_one_job(app: App) -> None:
    @app.task
    def add(a: int) -> int:
        return a

    first = add.options(id="order-1")(1)
    second = add.options(id="order-1")(2)
    assert first.id == second.id
    assert app.counts()["default"].queued == 1
    assert run_queued(app) == 1
    add.options(id="order-1")(3)
    assert app.counts().get("default") is None, "a job that has ended is not enqueued again"
    assert second.get(timeout=1) == 1


def test_priority_goes_first_then_first_in_first_out(app: App) -> None:
    ran: list[int] = []

    @app.task
    def note(n: int) -> None:
        ran.append(n)

    for number, priority in enumerate([0, 5, 0, 9, 5]):
        note.options(priority=priority)(number)
    run_queued(app)
    assert ran == [3, 1, 4, 0, 2]


def test_delayed_job_is_scheduled_and_can_be_called_forward(app: App) -> None:
    @app.task
    def later() -> int:
        return 1

    result = later.schedule(delay=3600)
    by_datetime = later.schedule(eta=datetime.now(UTC) + timedelta(hours=1))
    past = later.schedule(eta=datetime(2020, 1, 1, tzinfo=UTC))
    assert [result.state, by_datetime.state, past.state] == ["scheduled", "scheduled", "queued"]
    assert result.reschedule()
    assert run_queued(app) == 2
    assert result.get(timeout=1) == 1
    assert not result.reschedule(delay=5)


def test_waiting_longer_than_the_timeout_says_that_the_job_goes_on(app: App) -> None:
    @app.task
    def add() -> None: ...

    with pytest.raises(ResultTimeout, match="it goes on"):
        add().get(timeout=0.01)


def test_waiting_for_an_unknown_job_ends_at_once(app: App) -> None:
    with pytest.raises(ResultMissing, match="never was"):
        app.result("nobody").get(timeout=30)


def test_revoked_job_does_not_run_and_its_caller_learns_it(app: App) -> None:
    ran: list[int] = []

    @app.task
    def sell() -> None:
        ran.append(1)

    result = sell()
    assert result.revoke()
    assert run_queued(app) == 0
    assert ran == []
    with pytest.raises(JobCancelled, match="revoked"):
        result.get(timeout=1)


def test_map_spreads_tuples_and_keeps_the_order(now: App) -> None:
    @now.task
    def add(a: int, b: int = 10) -> int:
        return a + b

    group = add.map([(1, 2), 3, (4,)])
    assert group.get(timeout=1) == [3, 13, 14]
    assert [r.get(1) for r in group.as_completed(timeout=1)] == [3, 13, 14]
    assert group.ready() == 3
    assert len(group[1:]) == 2


def test_counts_and_jobs_tell_where_everything_is(app: App) -> None:
    @app.task(queue="mail")
    def send(n: int) -> None:
        raise RetryTask(delay=60)

    @app.task
    def fail() -> None:
        raise ValueError

    send(1)
    fail()
    send.schedule((2,), delay=60)
    assert {name: row.queued for name, row in app.counts().items()} == {"mail": 1, "default": 1}
    assert [row.id for row in app.jobs(queue="mail", task=send.name)]
    run_queued(app)
    assert app.counts()["mail"].scheduled == 2
    assert [row.reason for row in app.dead] == ["failed"]
    assert {row.state for row in app.jobs("scheduled")} == {State.SCHEDULED}


def test_info_tells_all_that_is_known(now: App) -> None:
    @now.task
    def fail() -> None:
        raise ValueError("boom")

    info = fail().info()
    assert info["state"] == "dead"
    assert info["reason"] == "failed"
    assert info["attempts"] == 1
    assert "boom" in info["error"]


def test_enqueued_is_told_after_the_write_and_only_for_new_jobs(app: App) -> None:
    heard: list[tuple[str, int]] = []

    @app.signal("enqueued")
    def listen(signal: str, job: Any, exc: Any = None) -> None:
        heard.append((job.id, app.counts()["default"].queued))

    @app.task
    def add() -> None: ...

    add.options(id="a")()
    add.options(id="a")()
    assert heard == [("a", 1)]


class Flaky:
    """A storage whose first replies are lost after the write has happened."""

    def __init__(self, app: App, lost: int) -> None:
        self.inner = app.storage
        self.lost = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def enqueue(self, jobs: list[Entry]) -> list[bool]:
        known = self.inner.enqueue(jobs)
        if self.lost:
            self.lost -= 1
            raise OutcomeUnknown("the connection broke")
        return known


def test_lost_reply_to_an_enqueue_does_not_double_the_job(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def add() -> int:
        return 1

    flaky = Flaky(app, lost=2)
    monkeypatch.setattr(App, "storage", property(lambda _: flaky))
    result = add()
    assert app.counts()["default"].queued == 1
    assert result.state == "queued"


def test_storage_that_stays_away_is_an_error_of_the_caller(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def add() -> None: ...

    class Away:
        def enqueue(self, jobs: list[Entry]) -> list[bool]:
            raise StorageUnavailable("no route to redis")

    monkeypatch.setattr(App, "storage", property(lambda _: Away()))
    monkeypatch.setattr("taskqd.client.delivery._TRY_FOR_S", 0.1)
    with pytest.raises(StorageUnavailable, match="no route"):
        add()


def test_tick_of_a_periodic_task_is_the_same_job_for_all_daemons(app: App) -> None:
    @app.periodic_task(crontab(minute="*/5"), timezone="Europe/Rome", name="sweep", queue="cron")
    def sweep() -> None: ...

    @app.periodic_task(every(seconds=30), missed="once")
    def beat() -> None: ...

    periodic, beating = app.periodic_tasks
    tick = periodic.next_after(1_000_000)
    assert tick == 1_200_000
    assert (periodic.entry(tick).id, periodic.entry(tick).queue) == ("sweep@1200000", "cron")
    assert not periodic.entry(tick).fresh
    assert len(beating.entry(1_200_000).id) <= 64


@pytest.mark.parametrize("options", [{"missed": "never"}, {"timezone": "Mars"}])
def test_periodic_task_with_a_wrong_option_is_refused(app: App, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        app.periodic_task(every(seconds=1), **options)(lambda: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a b"},
        {"serializer": "yaml"},
        {"timezone": "Mars"},
        {"signing_keys": ["short"]},
        {"signing_keys": []},
    ],
)
def test_app_with_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        App(**options)


def test_unknown_storage_scheme_lists_what_is_known() -> None:
    with pytest.raises(ConfigError, match="redis"):
        _ = App("shop", "mysql://x").storage
