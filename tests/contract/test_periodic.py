"""Periodic tasks on every storage, by a simulated clock: missed ticks, overlap, several daemons."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd.app import App
from taskqd.periodic.cron import crontab, every
from taskqd.storage.base import Storage
from taskqd.worker.scheduler import due_ticks as ticks
from tests.support.rigs.rig import Rig, ack, outcome
from tests.support.rigs.timetable_rig import MINUTE, NOON, Daemon, fired


def app_of(storage: Storage, rule: Any = None, **options: Any) -> App:
    app = App(storage.namespace, "memory://")

    @app.periodic_task(rule or every(minutes=1), name="tick", queue="q", **options)
    def tick() -> None: ...

    return app


@pytest.mark.parametrize(
    ("missed", "expected"), [("skip", [1, 30]), ("once", [1, 29, 30]), ("all", [*range(1, 31)])]
)
@pytest.mark.parametrize("where", ["task", "settings"])
def test_ticks_missed_while_no_daemon_ran_follow_the_policy(
    storage: Storage, missed: str, expected: list[int], where: str
) -> None:
    app = app_of(storage, **({"missed": missed} if where == "task" else {}))
    settings = missed if where == "settings" else "skip"
    first = Daemon(storage, app, settings)
    first.at(NOON + 1)
    first.at(NOON + MINUTE)
    daemons = [Daemon(storage, app, settings) for _ in range(2)]
    for daemon in daemons:
        daemon.at(NOON + 30 * MINUTE)
    assert fired(storage) == expected
    late = daemons[0].log.named("tick.missed")
    assert [(e["count"], e["reason"]) for e in late] == (
        [] if missed == "all" else [(30 - len(expected), "late")]
    )


def test_all_fires_no_more_than_its_bound(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "ALL_MAX", 120)
    app = app_of(storage, missed="all")
    Daemon(storage, app).at(NOON)
    daemon = Daemon(storage, app)
    daemon.at(NOON + 300 * MINUTE)
    assert fired(storage) == [*range(180, 301)]
    [told] = daemon.log.named("tick.missed")
    assert (told["count"], told["tick"]) == (179, NOON + MINUTE)


def test_a_tick_that_nobody_fired_since_the_task_was_first_known_is_missed(
    storage: Storage,
) -> None:
    app = app_of(storage, every(hours=1), missed="once")
    Daemon(storage, app).at(NOON + MINUTE)
    Daemon(storage, app).at(NOON + 24 * 60 * MINUTE + MINUTE)
    newest = (NOON + 24 * 60 * MINUTE) // 3_600_000 * 3_600_000
    assert fired(storage) == [(newest - NOON) // MINUTE]


def spied(storage: Storage) -> list[tuple[str, int]]:
    """Return a list that gets each tick that the storage is asked for, and for how long."""
    asked: list[tuple[str, int]] = []
    fire = storage.fire

    def spy(tick: str, jobs: Any, ttl_s: int = 0) -> Any:
        asked.append((tick, ttl_s))
        return fire(tick, jobs, ttl_s)

    storage.fire = spy  # type: ignore[method-assign]
    return asked


def test_a_daemon_that_was_frozen_asks_for_nothing_that_others_have_dealt_with(
    storage: Storage,
) -> None:
    app = app_of(storage, missed="all")
    frozen, other = Daemon(storage, app), Daemon(storage, app)
    for daemon in (frozen, other):
        daemon.at(NOON)
    for minute in range(1, 30):
        other.at(NOON + minute * MINUTE)
    asked = spied(storage)
    frozen.at(NOON + 29 * MINUTE)
    assert [tick for tick, _ in asked] == []
    frozen.at(NOON + 30 * MINUTE)
    assert fired(storage) == [*range(1, 31)]


@pytest.mark.parametrize(
    ("rule", "known_s"), [(every(seconds=1), 100_001), (every(minutes=1), 7 * 86400 + 60)]
)
def test_the_storage_does_not_fill_with_the_ticks_of_a_task(
    storage: Storage, rule: every, known_s: int
) -> None:
    daemon = Daemon(storage, app_of(storage, rule))
    daemon.at(NOON)
    asked = spied(storage)
    daemon.at(NOON + MINUTE)
    assert {ttl_s for _, ttl_s in asked} == {known_s}


def test_a_monthly_tick_is_known_until_the_next_one(rig: Rig) -> None:
    app = app_of(rig.storage, crontab("@monthly"))
    asked = spied(rig.storage)
    daemon = Daemon(rig.storage, app)
    daemon.at(NOON)
    first = app.periodic_tasks[0].next_after(NOON)
    assert first is not None
    daemon.at(first)
    [ttl_s] = [ttl_s for tick, ttl_s in asked if tick == f"tick@{first}"]
    assert ttl_s > 31 * 86400


def test_overlap_skip_fires_nothing_while_the_last_job_is_queued_or_runs(rig: Rig) -> None:
    app = app_of(rig.storage, overlap="skip")
    one, two = Daemon(rig.storage, app), Daemon(rig.storage, app)

    def both(minute: int) -> None:
        one.at(NOON + minute * MINUTE)
        two.at(NOON + minute * MINUTE)

    both(0)
    both(1)
    both(2)
    assert fired(rig.storage) == [1]
    [lease] = rig.lease(5)
    both(3)
    assert rig.settle(ack(lease)) == [True]
    both(4)
    assert fired(rig.storage) == [4]
    told = [*one.log.named("tick.missed"), *two.log.named("tick.missed")]
    assert [(e["tick"] - NOON) // MINUTE for e in told] == [2, 3]
    assert {(e["reason"], e["count"]) for e in told} == {("overlap", 1)}


def test_overlap_skip_counts_a_job_that_is_recovered_from_a_crash(rig: Rig) -> None:
    app = app_of(rig.storage, overlap="skip")
    daemon = Daemon(rig.storage, app)
    daemon.at(NOON)
    daemon.at(NOON + MINUTE)
    [lease] = rig.lease()
    rig.storage.recover_worker(
        "n.1", ["q"], running=[lease.token], how="orphaned", verdict="killed"
    )
    daemon.at(NOON + 2 * MINUTE)
    assert fired(rig.storage) == [1]
    assert daemon.log.named("tick.missed")[0]["reason"] == "overlap"


def test_overlap_skip_counts_a_job_that_waits_for_its_retry_and_not_one_that_is_dead(
    rig: Rig,
) -> None:
    daemon = Daemon(rig.storage, app_of(rig.storage, overlap="skip"))
    daemon.at(NOON)
    daemon.at(NOON + MINUTE)
    [lease] = rig.lease()
    rig.settle(outcome(lease, "retry", delay_ms=60_000))
    daemon.at(NOON + 2 * MINUTE)
    assert fired(rig.storage) == []
    assert rig.storage.reschedule(lease.id, "q", 0)
    [lease] = rig.lease()
    rig.settle(outcome(lease, "bury", reason="failed"))
    daemon.at(NOON + 3 * MINUTE)
    assert fired(rig.storage) == [3]


def test_overlap_is_allowed_by_default(storage: Storage) -> None:
    daemon = Daemon(storage, app_of(storage))
    for minute in range(4):
        daemon.at(NOON + minute * MINUTE)
    assert fired(storage) == [1, 2, 3]
