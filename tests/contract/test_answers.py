"""Answers: kept for their lifetime, read without destroying, awaited without polling."""

from __future__ import annotations

import threading
import time

import pytest

from taskqd.jobs.job import Outcome
from tests.support.rigs.rig import Rig, ack, done, outcome
from tests.support.servers.storages import Backend
from tests.support.waiting import HANG_S


def test_a_job_that_has_not_ended_has_no_answer(rig: Rig) -> None:
    assert rig.storage.answer("a", "q") is None
    rig.put("a")
    assert rig.storage.answer("a", "q") is None
    rig.lease()
    assert rig.storage.answer("a", "q") is None


def test_reading_does_not_destroy(rig: Rig) -> None:
    rig.end("a")
    assert rig.storage.answer("a", "q") == rig.storage.answer("a", "q") is not None


def test_answers_come_in_the_order_asked(rig2: Rig) -> None:
    names = [f"j{number}" for number in range(40)]
    rig2.put(*names[:20])
    rig2.put(*names[20:], queue="r")
    told = {}
    for lease in rig2.lease(40):
        told[lease.id] = done(lease.token)
        rig2.settle(ack(lease, told[lease.id]))
    asked = [(name, "q" if number < 20 else "r") for number, name in enumerate(names)]
    asked.insert(7, ("unknown", "q"))
    asked.append((names[0], None))
    expected = [told.get(name) for name, _ in asked]
    assert rig2.storage.answers(asked) == expected
    assert rig2.storage.answers([]) == []


def test_an_answer_of_another_queue_is_not_this_jobs(rig2: Rig) -> None:
    rig2.end("a")
    assert rig2.storage.answer("a", "r") is None
    assert rig2.storage.answer("a", None) is not None


def test_a_large_answer_comes_back_whole(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    large = done(lease.token)[:-1] + b',"' + b"y" * 1_000_000 + b'"]'
    rig.settle(ack(lease, large))
    assert rig.storage.answer("a", "q") == large


def test_waiting_for_what_has_ended_returns_at_once(rig: Rig) -> None:
    rig.end("a")
    started = time.monotonic()
    rig.storage.wait([("a", "q")], HANG_S)
    assert time.monotonic() - started < HANG_S / 2


def test_waiting_ends_at_its_timeout(rig: Rig) -> None:
    rig.put("a")
    started = time.monotonic()
    rig.storage.wait([("a", "q")], 0.1)
    assert time.monotonic() - started < HANG_S / 2


@pytest.mark.parametrize("kind", ["ack", "bury", "cancel"])
@pytest.mark.parametrize("others", [0, 3, 100])
def test_a_waiter_is_woken_by_the_answer(
    backend: Backend, rig: Rig, kind: str, others: int
) -> None:
    rig.put("a")
    jobs = [(f"other{number}", "q") for number in range(others)] + [("a", "q")]
    seen = _waiting(backend, rig, jobs, lambda handle: handle.answer("a", "q"))
    [lease] = rig.lease()
    rig.settle(outcome(lease, kind, answer=done(lease.token), reason="failed"))
    assert seen() == done_of(rig)


def done_of(rig: Rig) -> bytes | None:
    answer = rig.storage.answer("a", "q")
    assert answer is not None
    return answer


def test_a_waiter_is_woken_when_the_job_is_cancelled_while_it_waits(
    backend: Backend, rig: Rig
) -> None:
    rig.put("a")
    seen = _waiting(backend, rig, [("a", "q")], lambda handle: handle.answer("a", "q"))
    assert rig.storage.cancel("a", "q", done(0, "cancelled"), 60)
    assert seen() == done_of(rig)


def test_a_waiter_that_does_not_know_the_queue_is_woken(backend: Backend, rig: Rig) -> None:
    rig.put("a")
    seen = _waiting(backend, rig, [("a", None)], lambda handle: handle.answer("a"))
    [lease] = rig.lease()
    rig.settle(ack(lease))
    assert seen() is not None


def test_two_waiters_of_one_job_are_both_woken(backend: Backend, rig: Rig) -> None:
    rig.put("a")
    look = lambda handle: handle.answer("a", "q")
    first = _waiting(backend, rig, [("a", "q")], look)
    second = _waiting(backend, rig, [("a", "q")], look)
    [lease] = rig.lease()
    rig.settle(ack(lease))
    assert first() is not None
    assert second() is not None


def test_waiting_leaves_nothing_behind(backend: Backend, rig: Rig) -> None:
    rig.put("a")
    seen = _waiting(backend, rig, [("a", "q")], lambda handle: handle.answer("a", "q"))
    rig.storage.wait([("never", "q")], 0.05)
    [lease] = rig.lease()
    rig.settle(Outcome(lease.id, "q", lease.token, "ack", answer=done(lease.token)))
    assert seen() is not None
    rig.storage.purge(["q"], dead_ttl_s=86400, dead_max=100)
    assert list(rig.storage.leftovers()) == []


def _waiting(backend: Backend, rig: Rig, jobs, look):
    """Wait in another thread until `look` finds something; returns a function that joins it.

    Whether the waiter sleeps already or not when the answer comes, it must find it, so no test
    needs to know when it has fallen asleep.  Its calls are few: a storage that polls fails.
    """
    found: list[object] = []
    calls = 0

    def run() -> None:
        nonlocal calls
        handle = backend.open(rig.storage.namespace)
        deadline = time.monotonic() + HANG_S
        while not (answer := look(handle)) and time.monotonic() < deadline:
            calls += 1
            handle.wait(jobs, deadline - time.monotonic())
        found.append(answer)
        handle.close()

    thread = threading.Thread(target=run)
    thread.start()

    def joined():
        thread.join(HANG_S * 2)
        assert calls < 20
        return found[0]

    return joined
