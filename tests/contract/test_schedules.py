"""`app.periodic` on every storage: what is made, changed and paused at run time, under a simulated
clock, by several daemons."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from taskqd.app import App
from taskqd.clock import StorageClock, now_ms
from taskqd.errors import BadArguments, ConfigError, UnknownTask
from taskqd.execution.runner import Runner
from taskqd.jobs.job import State
from taskqd.logs import setup as log
from taskqd.periodic.cron import crontab, every
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node, Storage
from taskqd.worker.host.event_queue import EventQueue
from taskqd.worker.scheduler import ticker as timetable
from taskqd.worker.scheduler.chores import Chores
from taskqd.worker.scheduler.duty import Duty
from taskqd.worker.scheduler.ticker import Ticker
from tests.support.rigs.rig import Rig, ack
from tests.support.rigs.timetable_rig import MINUTE, NOON, Daemon, fired
from tests.support.servers.storages import Backend
from tests.support.waiting import wait_until


class Clock:
    """Unix ms of callers."""

    ms = NOON

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(StorageClock, "now_ms", lambda _self: clock())
    return clock


def app_of(backend: Backend, storage: Storage, **options: Any) -> App:
    app = App(storage.namespace, backend.url, **options)

    @app.task(name="note", queue="q")
    def note(word: str, times: int = 1) -> None: ...

    @app.periodic_task(every(minutes=1), name="declared", queue="q")
    def declared() -> None: ...

    return app


@pytest.fixture
def app(backend: Backend, storage: Storage, clock: Clock) -> Iterator[App]:
    app = app_of(backend, storage)
    app.periodic.pause("declared")
    yield app
    app.close()


@pytest.fixture
def daemons(storage: Storage, app: App) -> tuple[Daemon, Daemon]:
    return Daemon(storage, app), Daemon(storage, app)


def let_run(clock: Clock, daemons: tuple[Daemon, ...], first: int, last: int) -> None:
    """Let the minutes after NOON pass in steps of 30 s; each daemon hears of changes."""
    for half in range(first * 2, last * 2 + 1):
        clock.ms = NOON + half * MINUTE // 2
        for daemon in daemons:
            daemon.at(clock.ms, rung=True)


def test_what_is_added_ticks_once_over_all_daemons(
    storage: Storage, app: App, clock: Clock, daemons: tuple[Daemon, Daemon]
) -> None:
    let_run(clock, daemons, 0, 2)
    assert app.periodic.add("greet", "note", every(minutes=2), ["hello"], {"times": 3}) is True
    let_run(clock, daemons, 2, 8)
    assert fired(storage) == [4, 6, 8]
    for row in storage.jobs(State.QUEUED):
        assert b'"a":["hello"],"k":{"times":3}' in row.record


@pytest.mark.parametrize("name", ["remind me, 7", "Zürich/наночь", "x" * 200, "a@b", "<é>"])
def test_a_name_may_be_any_text(
    storage: Storage, app: App, clock: Clock, daemons: tuple[Daemon, Daemon], name: str
) -> None:
    app.periodic.add(name, "note", every(minutes=1), ["hello"], overlap="skip")
    let_run(clock, daemons, 0, 1)
    assert fired(storage) == [1]
    assert app.periodic.pause(name)
    assert app.periodic.remove(name)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\udc80"])
def test_a_name_that_cannot_be_shown_is_refused(app: App, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name of 1 to 200"):
        app.periodic.add(name, "note", every(minutes=1), ["hello"])


def test_the_very_same_can_be_added_again_and_another_cannot(app: App) -> None:
    assert app.periodic.add("greet", "note", every(minutes=2), ["hello"], missed="once")
    assert not app.periodic.add("greet", "note", every(seconds=120), ["hello"], missed="once")
    with pytest.raises(ConfigError, match=r"differs; use app\.periodic\.change"):
        app.periodic.add("greet", "note", every(minutes=3), ["hello"], missed="once")


def test_it_outlives_every_daemon_and_its_missed_ticks_count_from_when_it_was_added(
    storage: Storage, app: App, clock: Clock
) -> None:
    app.periodic.add("greet", "note", every(minutes=2), ["hello"], missed="all")
    clock.ms = NOON + 9 * MINUTE
    Daemon(storage, app).at(clock.ms)
    assert fired(storage) == [2, 4, 6, 8]


def test_a_change_counts_from_now_and_fires_no_tick_twice(
    storage: Storage, app: App, clock: Clock, daemons: tuple[Daemon, Daemon]
) -> None:
    app.periodic.add("greet", "note", every(minutes=2), ["hello"])
    let_run(clock, daemons, 0, 4)
    app.periodic.change("greet", when=every(minutes=1))
    let_run(clock, daemons[:1], 4, 6)
    app.periodic.change("greet", when=every(minutes=2), args=["bye"])
    let_run(clock, daemons, 6, 8)
    assert fired(storage) == [2, 4, 5, 6, 8]
    records = [row.record for row in storage.jobs(State.QUEUED)]
    assert [b"bye" in record for record in records] == [False] * 4 + [True]


def test_ticks_of_a_pause_do_not_come_later(
    storage: Storage, app: App, clock: Clock, daemons: tuple[Daemon, Daemon]
) -> None:
    app.periodic.add("greet", "note", every(minutes=1), ["hello"], missed="all")
    let_run(clock, daemons, 0, 2)
    assert app.periodic.pause("greet") is True
    assert app.periodic.pause("greet") is False
    let_run(clock, daemons, 2, 10)
    assert app.periodic.resume("greet") is True
    assert app.periodic.resume("greet") is False
    restarted = Daemon(storage, app)
    let_run(clock, (*daemons, restarted), 10, 12)
    assert fired(storage) == [1, 2, 11, 12]


def test_a_declared_task_is_paused_and_resumed_for_all_daemons(
    backend: Backend, storage: Storage, clock: Clock
) -> None:
    app, other = app_of(backend, storage), app_of(backend, storage)
    daemons = Daemon(storage, app, "all"), Daemon(storage, other, "all")
    let_run(clock, daemons, 0, 2)
    other.periodic.pause("declared")
    let_run(clock, daemons, 2, 5)
    assert app.periodic()[0].paused
    app.periodic.resume("declared")
    let_run(clock, (Daemon(storage, other, "all"),), 5, 6)
    assert fired(storage) == [1, 2, 6]
    app.close()
    other.close()


def test_a_declared_task_is_neither_changed_nor_removed_nor_added(app: App) -> None:
    with pytest.raises(ConfigError, match="is declared in the app: change it there"):
        app.periodic.change("declared", when=every(minutes=2))
    with pytest.raises(ConfigError, match="remove it there, or pause it"):
        app.periodic.remove("declared")
    with pytest.raises(ConfigError, match="of that name is declared"):
        app.periodic.add("declared", "note", every(minutes=2), ["x"])


def test_what_is_removed_ticks_no_more_and_leaves_nothing(
    storage: Storage, app: App, clock: Clock, daemons: tuple[Daemon, Daemon]
) -> None:
    app.periodic.add("greet", "note", every(minutes=1), ["hello"])
    let_run(clock, daemons, 0, 2)
    assert app.periodic.remove("greet") is True
    assert app.periodic.remove("greet") is False
    let_run(clock, daemons, 2, 5)
    assert fired(storage) == [1, 2]
    app.periodic.add("greet", "note", every(minutes=2), ["again"])
    let_run(clock, daemons, 5, 8)
    assert fired(storage) == [1, 2, 6, 8]
    assert sorted(storage.schedules()) == ["declared", "greet"]
    assert storage.locks() == []


@pytest.mark.parametrize(
    "data", [b'{"task":"gone","every_ms":60000}', b'{"task":"note","v":99}', b"\xff", b'{"task":3}']
)
def test_a_schedule_that_cannot_tick_is_told_and_harms_no_other(
    storage: Storage, app: App, clock: Clock, data: bytes
) -> None:
    app.periodic.add("greet", "note", every(minutes=1), ["hello"])
    storage.schedule_put("bad", data)
    daemon = Daemon(storage, app)
    let_run(clock, (daemon,), 0, 3)
    assert fired(storage) == [1, 2, 3]
    [told] = daemon.log.named("schedule.rejected")
    assert told["schedule"] == "bad"
    row = next(row for row in app.periodic() if row.name == "bad")
    assert row.error == told["error"]
    assert app.periodic.remove("bad")


def test_an_unknown_task_ticks_with_a_daemon_that_knows_it(
    backend: Backend, storage: Storage, app: App, clock: Clock
) -> None:
    newer = app_of(backend, storage)

    @newer.task(name="new", queue="q")
    def new() -> None: ...

    newer.periodic.add("fresh", new, every(minutes=1))
    let_run(clock, (Daemon(storage, app), Daemon(storage, newer)), 0, 2)
    assert fired(storage) == [1, 2]
    newer.close()


def test_arguments_that_no_longer_fit_the_function_are_told(
    storage: Storage, app: App, clock: Clock
) -> None:
    storage.schedule_put(
        "bad", b'{"task":"note","every_ms":60000,"call":[[],{"word":"a","nobody":1}]}'
    )
    daemon = Daemon(storage, app)
    daemon.at(NOON)
    [told] = daemon.log.named("schedule.rejected")
    assert "nobody" in told["error"]


def test_an_app_that_signs_fires_nothing_that_it_did_not_sign(
    backend: Backend, storage: Storage, clock: Clock
) -> None:
    plain = app_of(backend, storage)
    plain.periodic.add("forged", "note", every(minutes=1), ["evil"])
    signing = app_of(backend, storage, signing_keys=["a key of many bytes"])
    signing.periodic.add("greet", "note", every(minutes=1), ["hello"])
    stored = storage.schedules()
    storage.schedule_put("moved", stored["greet"])
    storage.schedule_put("bent", stored["greet"].replace(b"60000", b"10000"))
    daemon = Daemon(storage, signing)
    let_run(clock, (daemon,), 0, 2)
    ids = {row.id.partition("@")[0] for row in storage.jobs(State.QUEUED)}
    assert ids == {"greet", "declared"}
    assert {e["schedule"] for e in daemon.log.named("schedule.rejected")} == {
        "forged", "moved", "bent",
    }  # fmt: skip
    plain.close()
    signing.close()


def test_arguments_are_kept_in_the_apps_own_way(
    backend: Backend, storage: Storage, clock: Clock
) -> None:
    keys = {"signing_keys": ["a key of many bytes"], "encryption_keys": ["another of many bytes"]}
    for way in ({"serializer": "pickle", **keys}, {"encryption_keys": keys["encryption_keys"]}):
        app = app_of(backend, storage, **way)
        app.periodic.add("greet", "note", every(minutes=1), ["secret"], {"times": 2})
        assert not app.periodic.add("greet", "note", every(minutes=1), ["secret"], {"times": 2})
        assert b"secret" not in storage.schedules()["greet"]
        task = app.periodic.find("greet")
        assert (task.args, task.kwargs) == (("secret",), {"times": 2})
        app.periodic.change("greet", kwargs={"times": 3})
        assert app.periodic.find("greet").args == ("secret",)
        with pytest.raises(BadArguments):
            app.periodic.change("greet", args=["a", "b", "c"])
        plain = app_of(backend, storage)
        assert "greet" in plain.periodic.read(storage.schedules()).broken
        app.periodic.remove("greet")
        app.close()


def test_all_are_listed_with_their_ticks(
    storage: Storage, app: App, clock: Clock, daemons: tuple[Daemon, Daemon]
) -> None:
    rule = crontab("0 3 * * *")
    app.periodic.add("nightly", "note", rule, ["x"], timezone="Europe/Rome", overlap="skip")
    app.periodic.add("greet", "note", every(minutes=1), ["hello"])
    app.periodic.pause("greet")
    declared, greet, nightly = app.periodic()
    assert (declared.declared, declared.paused, declared.next_at) == (True, True, None)
    assert (greet.declared, greet.paused, greet.task) == (False, True, "note")
    assert (nightly.timezone, nightly.overlap, nightly.missed) == ("Europe/Rome", "skip", "skip")
    assert nightly.last_at is None
    assert nightly.next_at is not None
    assert nightly.next_at.astimezone(app.periodic.find("nightly").zone).hour == 3
    clock.ms = round(nightly.next_at.timestamp() * 1000)
    daemons[0].at(NOON)
    daemons[0].at(clock.ms)
    assert app.periodic()[2].last_at == datetime.fromtimestamp(clock.ms / 1000, UTC)


def test_run_enqueues_beside_the_ticks(rig: Rig, app: App, clock: Clock) -> None:
    app.periodic.add("greet", "note", every(minutes=1), ["hello"], overlap="skip")
    result = app.periodic.run("greet")
    assert result is not None
    assert app.periodic.run("greet") is None, "it does not overlap"
    [lease] = rig.lease()
    assert lease.id == result.id
    assert b'"s":' not in lease.record, "it is no tick"
    assert rig.settle(ack(lease)) == [True]
    assert app.periodic.run("greet") is not None
    assert rig.storage.last_tick("greet") is None


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"task": "nobody"}, UnknownTask),
        ({"args": [1]}, BadArguments),
        ({"args": ["a", 2, 3]}, BadArguments),
        ({"timezone": "Mars"}, ConfigError),
        ({"missed": "never"}, ConfigError),
        ({"overlap": "perhaps"}, ConfigError),
        ({"when": "daily"}, ConfigError),
    ],
)
def test_what_is_wrong_is_refused_where_it_is_written(
    storage: Storage, app: App, wrong: dict[str, Any], error: type[Exception]
) -> None:
    right: dict[str, Any] = {"task": "note", "when": every(minutes=1), "args": ["hello"]}
    with pytest.raises(error):
        app.periodic.add("greet", **(right | wrong))
    app.periodic.add("greet", **right)
    with pytest.raises(error):
        app.periodic.change("greet", **wrong)  # type: ignore[typeddict-item]
    with pytest.raises(ConfigError, match="unknown change 'wen'; known: task, when"):
        app.periodic.change("greet", wen=every(minutes=1))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="no periodic task 'nobody'"):
        app.periodic.pause("nobody")


def test_a_running_scheduler_hears_of_changes_by_the_bell_alone(
    backend: Backend, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timetable, "LOOK_MAX_S", 1e6)
    app = App(rig.storage.namespace, backend.url)

    @app.task(name="note", queue="q")
    def note(word: str) -> None: ...

    silent = log.configure(role="test", level="critical")
    table = Ticker(app.periodic.read, "skip")
    duty = Duty(
        Node("n"),
        ["q"],
        600,
        LimitSettings(),
        table,
        Runner(app, LimitSettings(), silent).interrupted,
    )
    chores = Chores(duty, lambda: backend.open(rig.storage.namespace), EventQueue(), silent)
    thread = threading.Thread(target=chores.run, daemon=True)
    thread.start()

    def said(word: bytes) -> bool:
        return any(word in row.record for row in rig.storage.jobs(State.QUEUED, "q"))

    try:
        rig.put("later", run_at_ms=now_ms() + 60_000)
        app.periodic.add("greet", note, every(seconds=0.1), ["hello"])
        wait_until(lambda: said(b"hello"), "the added one ticks")
        app.periodic.change("greet", args=["bye"])
        wait_until(lambda: said(b"bye"), "the changed one ticks")
        app.periodic.remove("greet")
        app.periodic.add("other", note, every(seconds=0.1), ["again"])
        wait_until(lambda: said(b"again"), "another one ticks")
    finally:
        chores.retire()
        thread.join(20)
        app.close()
