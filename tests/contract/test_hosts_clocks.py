"""Hosts whose clocks are off, or are set while they work: what counts is the storage's clock; see
`docs/internals/clocks.md`.

On the storages that have a clock of their own; the others go by the clock of the host that they are on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from taskqd.app import App
from taskqd.client.result import Result
from taskqd.errors import JobCancelled
from taskqd.jobs.job import State
from taskqd.periodic.cron import every
from taskqd.storage.base import Storage
from taskqd.testing import run_pending
from taskqd.worker.scheduler.ticker import Ticker
from tests.contract.clocks import HOUR_MS
from tests.support.rigs.timetable_rig import MINUTE, NOON, Daemon, Told, fired
from tests.support.servers.storages import Backend, backends
from tests.support.waiting import wait_until

backend = backends("redis", "valkey", "cluster", scope="module")

OFF_MS = (HOUR_MS, -HOUR_MS, 24 * HOUR_MS, -24 * HOUR_MS)
SLACK_MS = HOUR_MS // 4
"""More than any test takes, and less than any of its clocks is off by."""

off = pytest.mark.parametrize("off_ms", OFF_MS, ids=["+1h", "-1h", "+1d", "-1d"])


class HostClock:
    """The clock of this process' host."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._time_ns = time.time_ns

    def off_by(self, ms: int) -> None:
        self._patch.setattr(time, "time_ns", lambda: self._time_ns() + ms * 1_000_000)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostClock:
    return HostClock(monkeypatch)


def app_of(backend: Backend, storage: Storage) -> App:
    app = App(storage.namespace, backend.url, durability="memory")

    @app.task(name="add", queue="q", result_ttl=600)
    def add(a: int, b: int) -> int:
        return a + b

    return app


@pytest.fixture
def app(backend: Backend, storage: Storage) -> Iterator[App]:
    app = app_of(backend, storage)
    yield app
    app.close()


def added(app: App, **options: Any) -> Result[int]:
    result: Result[int] = app.find_task("add").options(**options)(1, 2)
    return result


@off
@pytest.mark.parametrize("in_use", [False, True], ids=["from the start", "set while in use"])
def test_a_caller_whose_clock_is_off_delays_and_expires_by_the_storages(
    app: App, storage: Storage, host: HostClock, off_ms: int, in_use: bool
) -> None:
    if in_use:
        added(app, delay=1)
    host.off_by(off_ms)
    entry = app.entry(app.find_task("add").options(delay=6000, expires=12_000).s(1, 2))
    true_ms = storage.server_ms()
    assert abs(entry.run_at_ms - true_ms - 6_000_000) < SLACK_MS
    assert abs(msgspec.json.decode(entry.payload)["x"] - true_ms - 12_000_000) < SLACK_MS


@off
def test_a_job_expires_by_neither_the_callers_nor_the_workers_clock(
    backend: Backend, storage: Storage, app: App, host: HostClock, off_ms: int
) -> None:
    host.off_by(off_ms)
    fresh, stale = added(app, expires=600), added(app, expires=0.001)
    host.off_by(-off_ms)
    worker = app_of(backend, storage)
    over_ms = storage.server_ms() + 50
    wait_until(lambda: storage.server_ms() > over_ms, "the short one is over")
    run_pending(worker)
    assert fresh.get(timeout=20) == 3
    with pytest.raises(JobCancelled, match="expired"):
        stale.get(timeout=20)
    worker.close()


@off
def test_an_answer_lasts_as_long_whatever_the_clocks_of_who_wrote_and_who_reads_it(
    backend: Backend, storage: Storage, app: App, host: HostClock, off_ms: int
) -> None:
    result = added(app)
    host.off_by(-off_ms)
    run_pending(app)
    host.off_by(off_ms)
    reader = app_of(backend, storage)
    assert reader.result(result.id, "q").get(timeout=20) == 3
    reader.close()


@off
def test_a_revocation_for_a_time_holds_whatever_the_clocks_of_who_gave_and_who_heeds_it(
    backend: Backend, storage: Storage, app: App, host: HostClock, off_ms: int
) -> None:
    host.off_by(off_ms)
    app.revoke_all(app.find_task("add"), revoke_until=600)
    result = added(app)
    host.off_by(-off_ms)
    worker = app_of(backend, storage)
    run_pending(worker)
    with pytest.raises(JobCancelled, match="revoked"):
        result.get(timeout=20)
    worker.close()


@off
def test_a_scheduler_whose_clock_is_off_ticks_by_the_storages(
    app: App, storage: Storage, host: HostClock, off_ms: int
) -> None:
    @app.periodic_task(every(seconds=0.2), name="tick", queue="q")
    def tick() -> None: ...

    table, log, began_ms = Ticker(app.periodic.read, "skip"), Told(), storage.server_ms()

    def ticks() -> list[int]:
        table.fire(storage, log)  # type: ignore[arg-type]
        return [int(row.id.rpartition("@")[2]) for row in storage.jobs(State.QUEUED, "q")]

    wait_until(lambda: len(ticks()) >= 2, "it ticks")
    host.off_by(off_ms)
    wait_until(lambda: len(ticks()) >= 4, "it ticks on")
    host.off_by(0)
    wait_until(lambda: len(ticks()) >= 6, "and on")
    assert all(began_ms - 1000 < ms <= storage.server_ms() + 1000 for ms in ticks())
    assert not log.named("tick.missed")


def test_a_clock_that_was_ahead_and_came_back_misses_no_tick(app: App, storage: Storage) -> None:
    @app.periodic_task(every(minutes=1), name="minute", queue="q")
    def minute() -> None: ...

    one = Daemon(storage, app)
    one.at(NOON)
    one.at(NOON + 60 * MINUTE)
    one.at(NOON + MINUTE // 2)
    # This one knows of the hour ahead what the storage does.
    two = Daemon(storage, app)
    for half in range(1, 2 * 65 + 1):
        for daemon in (one, two):
            daemon.at(NOON + half * MINUTE // 2)
    assert fired(storage) == list(range(1, 66))
    told = Counter(e["tick"] for d in (one, two) for e in d.log.named("tick.fired"))
    assert set(told.values()) == {1}
