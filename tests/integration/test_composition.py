"""Groups, chords and pipelines at size and under trouble, on every storage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from taskqd import App, JobCancelled, JobDead, State, TaskFailed
from taskqd.client.composition import Failed, Skipped
from tests.support.rigs.crew import Crew
from tests.support.servers.storages import NAMES, Backend, backends
from tests.support.waiting import HANG_S

MEMBERS = 10_000


backend = backends(*NAMES)


class Works:
    def __init__(self, backend: Backend) -> None:
        self.app = app = App(backend.namespace(), backend.url, durability="memory")
        self.seen: list[Any] = []
        self.errors: list[str] = []
        task = app.task
        self.double = task(name="double")(lambda n: 2 * n)
        self.fail = task(name="fail")(lambda *_: 1 / 0)
        self.total = task(name="total")(lambda values: sum(v for v in values if type(v) is int))
        self.look = task(name="look")(self.seen.extend)
        self.handle = task(name="handle")(self.errors.append)
        self.kill = task(name="kill", max_crashes=2)(lambda: None)
        self.crew = Crew(app)


@pytest.fixture
def works(backend: Backend) -> Iterator[Works]:
    made = Works(backend)
    yield made
    made.app.close()


def test_chord_of_ten_thousand_has_payloads_that_do_not_grow_by_member(works: Works) -> None:
    result = works.app.enqueue(
        works.app.chord([works.double.s(n) for n in range(MEMBERS)], works.total)
    )
    small = works.app.enqueue(works.app.chord([works.double.s(1)], works.total))
    crew = works.crew
    largest = 0
    callbacks: dict[str, int] = {}
    while leases := crew.lease(1000):
        for lease in leases:
            largest = max(largest, len(lease.record))
            if lease.id in (result.id, small.id):
                callbacks[lease.id] = len(lease.record)
        outcomes = [crew.run(lease) for lease in leases]
        assert all(works.app.storage.settle(crew.worker, outcomes))
    assert result.get(timeout=HANG_S) == sum(2 * n for n in range(MEMBERS))
    assert callbacks[result.id] == callbacks[small.id]
    assert largest < 200


def test_nested_chords_tell_failed_from_skipped_and_reach_every_caller(works: Works) -> None:
    app, double, fail = works.app, works.double, works.fail
    pipeline = fail.s().then(double).then(double).error(works.handle)
    inner = app.chord([double.s(1), fail.s(), double.options(expires=-1).s(5)], works.look)
    outer = app.chord([inner, pipeline, app.chord([], works.total), double.s(4)], works.look)
    result = app.enqueue(outer)
    waited: list[str] = []

    def wait() -> None:
        result.get(timeout=HANG_S)
        waited.append("outer")

    waiter = threading.Thread(target=wait)
    waiter.start()
    works.crew.drain()
    waiter.join(HANG_S)
    assert waited == ["outer"]
    two, failed, skipped, nothing, broken, zero, eight = works.seen
    assert (two, nothing, zero, eight) == (2, None, 0, 8)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.message) == ("failed", "ZeroDivisionError: division by zero")
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "expired"
    assert isinstance(broken, Failed)
    assert works.errors == ["ZeroDivisionError: division by zero"]
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        result.results[1].get(timeout=HANG_S)
    with pytest.raises(JobCancelled, match="expired"):
        result.results[0].results[2].get(timeout=HANG_S)
    assert list(app.storage.leftovers()) == []


def test_member_whose_worker_crashes_does_not_block_the_callback_for_ever(works: Works) -> None:
    app = works.app
    result = app.enqueue(app.chord([works.kill.s(), works.double.s(1)], works.look))
    crew = works.crew
    for _ in range(2):
        [lease] = crew.lease(1)
        assert lease.id == result.results[0].id
        crew.crash([lease])
    crew.drain()
    assert result.get(timeout=HANG_S) is None
    poisoned, two = works.seen
    assert (poisoned.reason, two) == ("poisoned", 2)
    with pytest.raises(JobDead, match="SIGKILL"):
        result.results[0].get(timeout=HANG_S)


def test_revoked_member_or_stage_blocked_what_followed_for_ever(works: Works) -> None:
    app, double = works.app, works.double
    heard: list[tuple[str, str, str]] = []
    app.signal("revoked")(lambda name, job, exc=None: heard.append((name, job.task, job.reason)))
    chord = app.enqueue(app.chord([double.s(1), double.s(2), double.s(3)], works.look))
    chain = app.enqueue(double.s(1).then(double).then(double).error(works.handle))
    running = works.crew.lease(2)
    assert [lease.id for lease in running] == [chord.results[0].id, chord.results[1].id]
    assert chord.results[0].revoke(), "it runs: asked to stop"
    assert chord.results[2].revoke(), "it waits: removed"
    assert chain[0].revoke()
    outcomes = [works.crew.runner.interrupted(running[0])]
    outcomes.append(works.crew.run(running[1]))
    assert app.storage.settle(works.crew.worker, outcomes) == [True, True]
    works.crew.drain()
    assert chord.get(timeout=HANG_S) is None
    first, four, third = works.seen
    assert (first.reason, four, third.reason) == ("revoked", 4, "revoked")
    for stage in chain:
        with pytest.raises(JobCancelled, match="revoked"):
            stage.get(timeout=HANG_S)
    assert works.errors == ["revoked"]
    assert heard == [("revoked", "double", "revoked")] * 3
    assert chord.results[0].state is State.CANCELLED
    assert list(app.storage.leftovers()) == []


def test_callback_that_fails_reaches_who_waits_for_the_chord(works: Works) -> None:
    result = works.app.enqueue(works.app.chord([works.double.s(1)], works.fail))
    works.crew.drain()
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        result.get(timeout=HANG_S)
