"""Delayed jobs, ticks, and lifetimes that end."""

from __future__ import annotations

import threading

from taskqd.clock import now_ms
from taskqd.jobs.job import State
from taskqd.storage.base import Fired
from tests.support.rigs.rig import Rig, ack, done, entry, ids, outcome
from tests.support.servers.storages import Backend
from tests.support.waiting import wait_until

LONG = {"dead_ttl_s": 86400, "dead_max": 1000}


def test_a_delayed_job_waits_and_an_old_time_means_now(rig: Rig) -> None:
    rig.put("later", run_at_ms=now_ms() + 60_000)
    rig.put("past", run_at_ms=now_ms() - 60_000)
    assert rig.states() == {"later": "scheduled", "past": "queued"}
    assert ids(rig.lease(5)) == ["past"]
    [row] = rig.storage.jobs(State.SCHEDULED, "q")
    assert abs(row.run_at_ms - now_ms() - 60_000) < 30_000


def test_promote_tells_when_the_next_is_due(rig: Rig) -> None:
    assert rig.storage.promote(["q"]).next_in_s is None
    rig.put("a", run_at_ms=now_ms() + 100_000)
    rig.put("b", run_at_ms=now_ms() + 50_000)
    due = rig.storage.promote(["q"])
    assert due.promoted == 0
    assert due.next_in_s is not None
    assert 20 < due.next_in_s <= 51


def test_due_jobs_are_queued_in_the_order_of_their_time(rig: Rig) -> None:
    base = now_ms() + 120
    offsets = [("c", 30), ("a", 10), ("d", 40), ("b", 20)]
    rig.storage.enqueue([entry(job_id, run_at_ms=base + offset) for job_id, offset in offsets])
    rig.put("now")
    rig.promote(5)
    assert rig.order() == ["now", "a", "b", "c", "d"]
    assert rig.counts() == (5, 0, 0, 0)
    assert rig.storage.promote(["q"]).next_in_s is None


def test_jobs_of_one_time_keep_their_order(rig: Rig) -> None:
    at = now_ms() + 50
    rig.put("a", "b", "c", "d", run_at_ms=at)
    rig.promote(4)
    assert rig.order() == ["a", "b", "c", "d"]


def test_what_is_enqueued_after_a_promotion_comes_after_it(rig: Rig) -> None:
    rig.put("a", "b", "c", run_at_ms=now_ms() + 20)
    rig.promote(3)
    rig.put("d", "e")
    assert rig.order() == ["a", "b", "c", "d", "e"]


def test_a_due_job_keeps_its_priority(rig: Rig) -> None:
    rig.put("plain")
    rig.put("urgent", priority=9, run_at_ms=now_ms() + 20)
    rig.promote(2)
    assert rig.order() == ["urgent", "plain"]


def test_promotion_is_bounded_and_says_that_more_are_due(rig: Rig) -> None:
    at = rig.storage.server_ms() + 1000  # On a slow machine, less is over before they are in.
    rig.put("a", "b", "c", run_at_ms=at)
    wait_until(lambda: rig.storage.server_ms() > at + 20)
    first = rig.storage.promote(["q"], 2)
    assert (first.promoted, first.next_in_s) == (2, 0)
    assert rig.storage.promote(["q"], 2).promoted == 1
    assert rig.order() == ["a", "b", "c"]


def test_a_retried_job_comes_back_after_its_delay(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    rig.settle(outcome(lease, "retry", delay_ms=30))
    rig.promote(1)
    assert ids(rig.lease()) == ["a"]


def test_promote_asks_several_queues(rig2: Rig) -> None:
    rig2.put("a", queue="r", run_at_ms=now_ms() + 40_000)
    rig2.put("b", queue="q", run_at_ms=now_ms() + 80_000)
    due = rig2.storage.promote(["q", "r"])
    assert due.next_in_s is not None
    assert due.next_in_s <= 41
    only_q = rig2.storage.promote(["q"]).next_in_s
    assert only_q is not None
    assert only_q > 41


def test_a_tick_fires_once_whoever_calls(rig: Rig) -> None:
    assert rig.storage.fire("sweep@1000", [entry("tick-1", fresh=False)]) is Fired.NOW
    assert rig.storage.fire("sweep@1000", [entry("tick-1", fresh=False)]) is Fired.BEFORE
    assert rig.storage.fire("sweep@1000", [entry("tick-2", fresh=False)]) is Fired.BEFORE
    assert rig.states() == {"tick-1": "queued"}


def test_a_tick_whose_key_is_held_says_so_and_is_over(rig: Rig) -> None:
    def tick(number: int) -> Fired:
        job = entry(f"tick-{number}", fresh=False, unique="sweep")
        return rig.storage.fire(f"sweep@{number}000", [job])

    assert tick(1) is Fired.NOW
    assert tick(2) is Fired.HELD
    [lease] = rig.lease()
    assert tick(3) is Fired.HELD
    rig.settle(ack(lease))
    assert tick(2) is Fired.BEFORE
    assert tick(3) is Fired.BEFORE
    assert tick(4) is Fired.NOW
    assert rig.states() == {"tick-4": "queued"}
    assert rig.storage.last_tick("sweep") == 4000


def test_the_newest_tick_is_known_by_name(rig: Rig) -> None:
    assert rig.storage.last_tick("sweep") is None
    for ms in (3000, 1000, 2000):
        assert rig.storage.fire(f"sweep@{ms}", [])
    rig.storage.fire("sweeper@9000", [])
    assert rig.storage.last_tick("sweep") == 3000
    assert rig.storage.last_tick("sweeper") == 9000


def test_a_name_with_a_sign_in_it_is_one_name(rig: Rig) -> None:
    rig.storage.fire("a@b@5000", [])
    assert rig.storage.last_tick("a@b") == 5000
    assert rig.storage.last_tick("a") is None


def test_a_tick_fires_once_from_several_threads(backend: Backend, rig: Rig) -> None:
    barrier = threading.Barrier(4)
    fired: list[str] = []

    def fire() -> None:
        handle = backend.open(rig.storage.namespace)
        barrier.wait(20)
        for number in range(1, 9):
            tick = f"sweep@{number}000"
            if handle.fire(tick, [entry(tick, fresh=False)]):
                fired.append(tick)
        handle.close()

    threads = [threading.Thread(target=fire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(fired) == [f"sweep@{number}000" for number in range(1, 9)]
    assert rig.counts() == (8, 0, 0, 0)


def test_what_is_past_its_lifetime_is_purged(rig: Rig) -> None:
    rig.put("a", "b")
    first, second = rig.lease(2)
    rig.settle(
        ack(first, done(first.token, ttl_s=1), answer_ttl_s=1),
        outcome(second, "bury", answer=done(second.token, "dead", 1), answer_ttl_s=1, reason="x"),
    )
    rig.storage.fire("sweep@1000", [], ttl_s=1)
    assert rig.storage.answer("a", "q") is not None

    def gone() -> bool:
        rig.storage.purge(["q"], dead_ttl_s=1, dead_max=100)
        return (
            rig.storage.answer("a", "q") is None
            and rig.storage.job("b", "q") is None
            and rig.storage.last_tick("sweep") is None
        )

    wait_until(gone, "end of all lifetimes")
    # The last of them may have ended after the purge that the last look began with.
    rig.storage.purge(["q"], dead_ttl_s=1, dead_max=100)
    assert list(rig.storage.leftovers()) == []
    assert rig.put("a", fresh=False) == [True]


def test_young_things_survive_a_purge(rig: Rig) -> None:
    rig.end("a")
    rig.put("b", "c")
    rig.put("d", run_at_ms=now_ms() + 60_000)
    [lease] = rig.lease()
    rig.settle(outcome(lease, "bury", answer=done(1, "dead"), reason="failed"))
    rig.storage.fire("sweep@1000", [])
    assert rig.storage.purge(["q"], **LONG) == 0
    assert rig.states() == {"b": "dead", "c": "queued", "d": "scheduled"}
    assert rig.storage.answer("a", "q") is not None
    assert rig.storage.last_tick("sweep") == 1000


def test_only_the_newest_dead_letters_over_the_bound_stay(rig: Rig) -> None:
    names = [f"d{number}" for number in range(6)]
    rig.put(*names)
    for lease in rig.lease(6):
        rig.settle(outcome(lease, "bury", reason="failed"))
        at = now_ms()
        wait_until(lambda at=at: now_ms() > at + 1)
    assert rig.storage.purge(["q"], dead_ttl_s=86400, dead_max=2) == 4
    assert rig.states() == {"d4": "dead", "d5": "dead"}
