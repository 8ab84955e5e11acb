"""Running jobs that are asked to stop, and standing orders."""

from __future__ import annotations

import random

from taskqd.jobs.job import Lease, Marks, State
from taskqd.storage.features import Features, Revocation
from tests.support.rigs.rig import Rig, ack, done, ids, outcome
from tests.support.rigs.ring import rung
from tests.support.waiting import wait_until


def test_a_running_job_is_asked_to_stop_through_its_worker(rig: Rig, features: Features) -> None:
    rig.put("a", "b")
    a, b = rig.lease(2)
    assert rig.storage.turn("n.1", (), ["q"], 1).stops == ()
    assert features.stop("a", "q", done(0, "cancelled"), 300)
    assert features.stop("a", None, done(0, "cancelled"), 300), "asking twice is no trouble"
    assert rig.storage.turn("n.1", (), ["q"], 1).stops == ("a",)
    assert rig.storage.turn("n.1", (), ["q"], 0).stops == ("a",)
    assert rig.storage.turn("n.2", (), ["q"], 1).stops == ()
    assert rig.settle(ack(a), ack(b)) == [True, True]
    assert rig.storage.turn("n.1", (), ["q"], 1).stops == ()
    assert list(rig.storage.leftovers()) == []


def test_only_a_running_job_can_be_asked_to_stop(rig: Rig, features: Features) -> None:
    rig.put("a")
    assert not features.stop("a", "q", done(0, "cancelled"), 300)
    assert not features.stop("nobody", None, done(0, "cancelled"), 300)
    rig.end("b")
    assert not features.stop("b", "q", done(0, "cancelled"), 300)


def test_a_job_that_was_asked_to_stop_is_not_retried(rig: Rig, features: Features) -> None:
    rig.put("retry", "requeue", "done")
    retry, requeue, finished = rig.lease(3)
    for lease in (retry, requeue, finished):
        assert features.stop(lease.id, "q", done(0, "cancelled"), 300)
    answer = done(finished.token)
    settled = rig.settle(
        outcome(retry, "retry", marks=Marks(1, 1)),
        outcome(requeue, "requeue", marks=Marks(1), reason="interrupted"),
        ack(finished, answer),
    )
    assert settled == [True, True, True]
    assert rig.states() == {}
    for job_id in ("retry", "requeue"):
        row = rig.storage.job(job_id, "q")
        assert row is not None
        assert row.state is State.CANCELLED
    assert rig.storage.answer("done", "q") == answer, "it was done before it could stop"
    assert list(rig.storage.leftovers()) == []


def test_a_stopping_job_whose_worker_dies_ends_as_cancelled(rig: Rig, features: Features) -> None:
    rig.put("a")
    [lease] = rig.lease()
    features.stop("a", "q", done(0, "cancelled"), 300)
    rig.storage.recover_worker("n.1", ["q"], running=[lease.token], how="orphaned")
    assert rig.states() == {}
    row = rig.storage.job("a", "q")
    assert row is not None
    assert row.state is State.CANCELLED


def test_a_stopping_job_that_is_given_back_unstarted_ends_as_cancelled(
    rig: Rig, features: Features
) -> None:
    rig.put("a", "b")
    a, b = rig.lease(2)
    features.stop("a", "q", done(0, "cancelled"), 300)
    released = rig.storage.release("n.1", [(x.id, x.queue, x.token) for x in (a, b)])
    assert released == [True, True]
    assert rig.states() == {"b": "queued"}
    row = rig.storage.job("a", "q")
    assert row is not None
    assert row.state is State.CANCELLED
    assert list(rig.storage.leftovers()) == []


def test_standing_orders_are_seen_by_every_turn_until_they_are_lifted(
    rig: Rig, features: Features
) -> None:
    assert not rig.storage.turn("n.1", (), ["q"], 1).revocations
    features.revoke("task:shop.add", Revocation(until_ms=5), 300)
    features.revoke("id:order-1", Revocation(once=True), 300)
    assert rig.storage.turn("n.1", (), ["q"], 1).revocations
    assert features.revocations() == {
        "task:shop.add": Revocation(until_ms=5),
        "id:order-1": Revocation(once=True),
    }
    assert features.restore("id:order-1")
    assert not features.restore("id:order-1")
    assert features.restore("task:shop.add")
    assert features.revocations() == {}
    assert not rig.storage.turn("n.1", (), ["q"], 1).revocations
    assert list(rig.storage.leftovers()) == []


def test_an_idle_worker_hears_of_an_order_before_it_gets_a_job(
    rig: Rig, features: Features
) -> None:
    bell = rig.storage.bell("n.1", ["q"])
    bell.arm()
    assert rig.storage.turn("n.1", (), ["q"], 1, idle=True).leases == []
    features.revoke("task:x", Revocation(), 300)
    rig.put("a")
    assert rung(bell) == [], "what comes with the ring comes without the orders"
    turn = rig.storage.turn("n.1", (), ["q"], 1)
    assert (ids(turn), turn.revocations > 0) == (["a"], True)
    bell.close()


def test_each_change_of_the_orders_is_told_by_the_next_turn(rig: Rig, features: Features) -> None:
    def told() -> int:
        return rig.storage.turn("n.1", (), ["q"], 1).revocations

    features.revoke("task:a", Revocation(), 300)
    numbers = [told(), told()]
    assert numbers[0] == numbers[1]
    features.revoke("task:b", Revocation(), 300)
    numbers.append(told())
    features.restore("task:a")
    numbers.append(told())
    assert numbers[1:] == sorted(set(numbers)), "each is another, and greater"


def test_an_idle_worker_hears_of_another_order_before_it_gets_a_job(
    rig: Rig, features: Features
) -> None:
    features.revoke("task:a", Revocation(), 300)
    bell = rig.storage.bell("n.1", ["q"])
    bell.arm()
    first = rig.storage.turn("n.1", (), ["q"], 1, idle=True).revocations
    features.revoke("task:b", Revocation(), 300)
    rig.put("a")
    assert rung(bell) == []
    assert rig.storage.turn("n.1", (), ["q"], 1).revocations > first
    bell.close()


def test_an_order_past_its_lifetime_goes_though_others_stand(rig: Rig, features: Features) -> None:
    features.revoke("id:short", Revocation(), 1)
    features.revoke("task:long", Revocation(), 300)
    wait_until(lambda: list(features.revocations()) == ["task:long"])
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert list(rig.storage.leftovers()) == []
    assert features.restore("task:long")
    assert not rig.storage.turn("n.1", (), ["q"], 1).revocations


def test_a_queue_that_is_used_later_sees_a_standing_order_too(rig: Rig, features: Features) -> None:
    features.revoke("task:x", Revocation(), 300)
    Rig(rig.storage, ("later",))
    assert rig.storage.turn("n.1", (), ["later"], 1).revocations


def test_a_standing_order_ends_with_its_lifetime(rig: Rig, features: Features) -> None:
    features.revoke("task:x", Revocation(), 1)
    wait_until(lambda: features.revocations() == {})
    assert not rig.storage.turn("n.1", (), ["q"], 1).revocations
    assert not features.restore("task:x")
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert list(rig.storage.leftovers()) == []


def test_no_mix_of_revocations_and_ends_leaves_a_token(rig: Rig, features: Features) -> None:
    """Jobs are revoked before they come, while they wait, run or are given back, and after."""
    chance = random.Random(1)
    jobs = [f"j{number}" for number in range(150)]
    answer = done(0, "cancelled", ttl_s=300)

    def revoke() -> None:
        job_id = chance.choice(jobs)
        if not rig.storage.cancel(job_id, "q", answer, 300):
            features.stop(job_id, "q", answer, 300)
        if chance.random() < 0.2:
            features.revoke(f"id:{job_id}", Revocation(once=chance.random() < 0.5), 1)

    def end(lease: Lease, worker: str) -> None:
        how = chance.choice(["ack", "cancel", "bury", "retry", "later", "requeue", "release"])
        marks = Marks(1)
        if how == "release":
            rig.storage.release(worker, [(lease.id, lease.queue, lease.token)])
        elif how in ("ack", "cancel"):
            rig.settle(outcome(lease, how, answer=done(lease.token)), worker=worker)
        elif how == "bury":
            rig.settle(outcome(lease, "bury", answer=done(lease.token, "dead")), worker=worker)
        else:
            delay_ms = 1 if how == "later" else 0
            kind = "requeue" if how == "requeue" else "retry"
            rig.settle(outcome(lease, kind, marks=marks, delay_ms=delay_ms), worker=worker)

    for serial, job_id in enumerate(jobs):
        worker = f"n.{serial}"
        rig.put(job_id, run_at_ms=1 if chance.random() < 0.1 else 0)
        revoke()
        leases = rig.lease(chance.randint(0, 3), worker=worker)
        revoke()
        for lease in leases:
            if chance.random() < 0.8:
                end(lease, worker)
        rig.storage.promote(["q"])
        running = [lease.token for lease in leases if chance.random() < 0.5]
        how = chance.choice(["orphaned", "interrupted", "timeout", "released"])
        rig.storage.recover_worker(worker, ["q"], running=running, how=how)
    while rows := [*rig.storage.jobs(State.QUEUED), *rig.storage.jobs(State.SCHEDULED)]:
        assert rows[0].id in jobs
        rig.storage.promote(["q"])
        for lease in rig.lease(60, worker="n.last", alone=True):
            rig.settle(ack(lease), worker="n.last")
    rig.storage.purge_dead()
    wait_until(lambda: features.revocations() == {})
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert rig.states() == {}
    assert list(rig.storage.leftovers()) == []
