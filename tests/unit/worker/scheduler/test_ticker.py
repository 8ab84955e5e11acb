"""Periodic tasks on a clock of the test's: what fires, what is told as missed, what stops nobody else."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from taskqd.app import App
from taskqd.errors import QueueFull, StorageUnavailable
from taskqd.jobs.job import Entry, State
from taskqd.logs import setup as log
from taskqd.periodic.cron import every
from taskqd.storage.memory import MemoryStorage
from taskqd.worker.scheduler.ticker import Ticker

SILENT = log.configure(role="test", level="critical")


class Broken(MemoryStorage):
    error: Exception | None = None

    def fire(self, *args: Any, **kwargs: Any) -> bool:
        if self.error is not None:
            raise self.error
        return super().fire(*args, **kwargs)


@pytest.fixture
def storage() -> Broken:
    return Broken("shop", world=uuid.uuid4().hex)


class Clock:
    """Unix ms, moved by the test."""

    def __init__(self) -> None:
        self.ms = now_ms()

    def __call__(self) -> int:
        return self.ms


def ticking(rule: Any, missed: str = "skip", clock: Callable[[], int] | None = None) -> Ticker:
    app = App("shop", "memory://")

    @app.periodic_task(rule, name="tick")
    def tick() -> None: ...

    return Ticker(app.periodic.read, missed, clock or now_ms)


def fired(storage: MemoryStorage) -> list[str]:
    return [row.id for row in storage.jobs(State.QUEUED, "default")]


class At:
    """A rule with one tick."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def next_after(self, ms: int, zone: object) -> int | None:
        return self.ms if ms < self.ms else None


def now_ms() -> int:
    return int(time.time() * 1000)


def test_a_tick_whose_fire_was_lost_fires_at_the_next_look_and_once(storage: Broken) -> None:
    clock = Clock()
    tick = clock.ms + 50
    table = ticking(At(tick), clock=clock)
    assert table.fire(storage, SILENT) <= 0.05
    clock.ms += 60
    storage.error = StorageUnavailable("it is down")
    with pytest.raises(StorageUnavailable):
        table.fire(storage, SILENT)
    storage.error = None
    table.fire(storage, SILENT)
    table.fire(storage, SILENT)
    assert fired(storage) == [f"tick@{tick}"]


def test_a_full_storage_is_no_outage(storage: Broken) -> None:
    clock = Clock()
    table = ticking(At(clock.ms + 20), clock=clock)
    table.fire(storage, SILENT)
    clock.ms += 30
    storage.error = QueueFull("no room")
    assert 0 < table.fire(storage, SILENT) <= 5


def test_a_rule_that_raises_does_not_stop_the_other_tasks(storage: Broken) -> None:
    class Bad:
        def next_after(self, ms: int, zone: object) -> int | None:
            raise ZeroDivisionError

    app = App("shop", "memory://")
    clock = Clock()
    tick = clock.ms + 20

    @app.periodic_task(Bad(), name="bad")
    def bad() -> None: ...

    @app.periodic_task(At(tick), name="good")
    def good() -> None: ...

    table = Ticker(app.periodic.read, "skip", clock)
    table.fire(storage, SILENT)
    clock.ms += 30
    table.fire(storage, SILENT)
    assert fired(storage) == [f"good@{tick}"]


def test_a_daemon_that_starts_goes_on_after_the_last_tick_that_anybody_fired(
    storage: Broken,
) -> None:
    now = now_ms()
    second = now // 1000 * 1000
    storage.fire(f"tick@{second - 3000}", [])
    ticking(every(seconds=1)).fire(storage, SILENT)
    ids = fired(storage)
    assert ids[:3] == [f"tick@{second - 2000}", f"tick@{second - 1000}", f"tick@{second}"]


def test_a_daemon_that_knows_no_tick_fires_none_of_the_past(storage: Broken) -> None:
    assert ticking(every(hours=1)).fire(storage, SILENT) <= 5
    assert fired(storage) == []


def test_a_tick_is_a_job_with_its_time(storage: Broken) -> None:
    clock = Clock()
    table = ticking(At(clock.ms + 10), clock=clock)
    table.fire(storage, SILENT)
    clock.ms += 20
    table.fire(storage, SILENT)
    (row,) = storage.jobs(State.QUEUED, "default")
    assert isinstance(Entry(row.id, row.queue, row.record), Entry)
    assert b'"s":' in row.record


def test_ten_thousand_tasks_that_are_not_due_are_not_looked_at_again(storage: Broken) -> None:
    """Each look went through all of them: a core was busy with 200 ticks a second."""
    app = App("shop", "memory://")
    asked: list[int] = []

    class Far:
        def next_after(self, ms: int, zone: object) -> int | None:
            asked.append(ms)
            return now_ms() + 3_600_000

    for number in range(50):
        app.periodic_task(Far(), name=f"far-{number}")(lambda: None)
    table = Ticker(app.periodic.read, "skip")
    table.fire(storage, SILENT)
    begun = len(asked)
    assert begun >= 50
    for _ in range(20):
        table.fire(storage, SILENT)
    assert len(asked) == begun


def test_a_task_that_is_paused_before_its_first_look_is_no_error(storage: Broken) -> None:
    app = App("shop", "memory://")

    @app.periodic_task(every(seconds=1), name="tick")
    def tick() -> None: ...

    paused = False

    def read(stored: Any) -> Any:
        reading = app.periodic.read(stored)
        for task in reading.tasks:
            task.paused = paused
        return reading

    table = Ticker(read, "skip")
    storage.error = StorageUnavailable("it is down")
    with pytest.raises(StorageUnavailable):
        table.fire(storage, SILENT)
    storage.error, paused = None, True
    storage.schedule_put("other", b"{}")
    table.fire(storage, SILENT, look=True)
    assert fired(storage) == []
