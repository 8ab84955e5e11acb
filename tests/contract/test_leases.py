"""Leasing: in order, each job once, no more than a fair share."""

from __future__ import annotations

import pytest

from taskqd.errors import NodeExpired
from taskqd.jobs.job import State
from taskqd.storage.base import Storage
from tests.support.rigs.rig import Rig, ack, entry, ids, outcome


def test_first_in_is_first_out(rig: Rig) -> None:
    rig.put("a", "b")
    rig.put("c")
    assert ids(rig.lease(2)) == ["a", "b"]
    assert ids(rig.lease(2)) == ["c"]
    assert ids(rig.lease(2)) == []


def test_higher_priority_is_first_then_first_in(rig: Rig) -> None:
    for job_id, priority in [("a", 0), ("b", 5), ("c", 9), ("d", 5), ("e", 0), ("f", 9)]:
        rig.put(job_id, priority=priority)
    assert ids(rig.lease(4)) == ["c", "f", "b", "d"]
    assert ids(rig.lease(4)) == ["a", "e"]


def test_queues_are_asked_in_the_order_given(rig2: Rig) -> None:
    rig2.storage.enqueue([entry("a", "r"), entry("b", "q"), entry("c", "r", priority=9)])
    turn = rig2.storage.turn("n.1", (), ["r", "q"], 2)
    assert ids(turn) == ["c", "a"]
    assert ids(rig2.storage.turn("n.1", (), ["r", "q"], 2)) == ["b"]


def test_a_leased_job_is_nobody_elses(rig: Rig) -> None:
    rig.put("a")
    assert ids(rig.lease(worker="n.1")) == ["a"]
    assert ids(rig.lease(worker="n.2")) == []
    running = list(rig.storage.jobs(State.RUNNING, "q"))
    assert [(row.id, row.worker) for row in running] == [("a", "n.1")]


def test_tokens_grow_with_every_lease_of_a_job(rig: Rig) -> None:
    rig.put("a", "b")
    last: dict[str, int] = {}
    for _ in range(4):
        leases = rig.lease(2)
        assert len({lease.token for lease in leases}) == 2
        for lease in leases:
            assert lease.token > last.get(lease.id, 0)
            last[lease.id] = lease.token
        rig.storage.release("n.1", [(job.id, job.queue, job.token) for job in leases])


def test_a_turn_settles_and_leases(rig: Rig) -> None:
    rig.put("a", "b", "c")
    [first] = rig.lease()
    turn = rig.storage.turn("n.1", [ack(first)], ["q"], 1)
    assert turn.settled == [True]
    assert ids(turn) == ["b"]
    assert turn.ready == 1
    assert turn.suspects == 0
    assert rig.states() == {"b": "running", "c": "queued"}


@pytest.mark.parametrize(
    ("waiting", "limit", "share", "given"),
    [(10, 64, 1, 10), (10, 4, 1, 4), (10, 64, 4, 3), (8, 64, 4, 2), (1, 64, 16, 1), (0, 5, 4, 0)],
)
def test_a_share_leaves_jobs_for_others(
    rig: Rig, waiting: int, limit: int, share: int, given: int
) -> None:
    rig.put(*(f"j{number}" for number in range(waiting)))
    turn = rig.storage.turn("n.1", (), ["q"], limit, share=share)
    assert len(turn.leases) == given
    assert turn.ready == waiting - given


def test_limit_zero_leases_nothing(rig: Rig) -> None:
    rig.put("a")
    assert ids(rig.storage.turn("n.1", (), ["q"], 0)) == []


def test_a_paused_queue_gives_nothing_and_a_resumed_one_does(rig2: Rig) -> None:
    rig2.put("a")
    rig2.put("b", queue="r")
    rig2.storage.pause("q")
    rig2.storage.pause("q")
    assert ids(rig2.lease(5)) == ["b"]
    assert [row.paused for row in rig2.storage.queues()] == [True, False]
    rig2.storage.resume("q")
    assert ids(rig2.lease(5)) == ["a"]


def test_a_running_job_of_a_paused_queue_can_end(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    rig.storage.pause("q")
    assert rig.settle(ack(lease)) == [True]


def test_a_worker_of_an_unknown_node_gets_nothing(rig: Rig) -> None:
    rig.put("a")
    with pytest.raises(NodeExpired):
        rig.lease(worker="stranger.1")
    assert rig.states() == {"a": "queued"}


def test_a_node_must_be_registered_for_the_queue_it_asks(rig: Rig) -> None:
    rig.put("a", queue="other")
    with pytest.raises(NodeExpired):
        rig.storage.lease("n.1", ["other"], 1)


def test_released_jobs_go_back_to_the_head_in_their_order(rig: Rig) -> None:
    rig.put("a", "b", "c", "d")
    leases = rig.lease(3)
    given_back = [(job.id, job.queue, job.token) for job in leases[1:]]
    assert rig.storage.release("n.1", given_back) == [True, True]
    assert rig.order() == ["b", "c", "d"]
    assert rig.states()["a"] == "running"


def test_release_changes_nothing_in_the_record_and_can_be_repeated(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    given_back = [(lease.id, lease.queue, lease.token)]
    assert rig.storage.release("n.1", given_back) == [True]
    assert rig.storage.release("n.1", given_back) == [True]
    [again] = rig.lease(worker="n.2")
    assert again.record == lease.record
    assert rig.storage.release("n.3", given_back) == [False]
    assert rig.states() == {"a": "running"}


def test_an_outcome_of_a_released_job_changes_nothing(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    given_back = [(lease.id, lease.queue, lease.token)]
    assert rig.storage.release("n.1", given_back) == [True]
    assert rig.settle(ack(lease)) == [False]
    assert rig.states() == {"a": "queued"}


def test_released_jobs_keep_their_priority(rig: Rig) -> None:
    rig.put("low", "low2")
    rig.put("high", "high2", priority=3)
    leases = rig.lease(3)
    assert rig.storage.release("n.1", [(job.id, job.queue, job.token) for job in leases])
    assert rig.order() == ["high", "high2", "low", "low2"]


def test_holdings_tell_what_a_lost_reply_leased(rig2: Rig) -> None:
    rig2.put("a", "b")
    rig2.put("c", queue="r")
    leases = rig2.lease(3)
    assert rig2.lease(3, worker="n.2") == []
    key = lambda lease: lease.id
    assert sorted(rig2.storage.holdings("n.1", ["q", "r"]), key=key) == sorted(leases, key=key)
    assert rig2.storage.holdings("n.2", ["q", "r"]) == []
    rig2.settle(*map(ack, leases))
    assert rig2.storage.holdings("n.1", ["q", "r"]) == []


def _two_suspects(rig: Rig) -> None:
    """Leave the suspects a and b, and c queued behind."""
    rig.put("a", "b", "c")
    leases = rig.lease(2, worker="n.9")
    recovered = rig.storage.recover_worker(
        "n.9", ["q"], running=[lease.token for lease in leases], how="orphaned"
    )
    assert [row.suspect for row in recovered] == [True, True]


def test_suspects_are_leased_one_at_a_time_by_a_lone_worker(rig: Rig) -> None:
    _two_suspects(rig)
    turn = rig.storage.turn("n.1", (), ["q"], 10)
    assert ids(turn) == ["c"]
    assert turn.suspects == 2
    alone = rig.storage.turn("n.2", (), ["q"], 10, alone=True)
    assert [(lease.id, lease.alone) for lease in alone.leases] == [("a", True)]
    assert alone.suspects == 1
    third = rig.storage.lease("n.3", ["q"], 10, alone=True)
    assert [(lease.id, lease.alone) for lease in third.leases] == [("b", True)]


def test_a_lone_worker_without_suspects_gets_ordinary_jobs(rig: Rig) -> None:
    rig.put("a", "b")
    leases = rig.lease(10, alone=True)
    assert [(lease.id, lease.alone) for lease in leases] == [("a", False), ("b", False)]


def test_a_suspect_of_a_later_queue_comes_only_to_empty_hands(rig2: Rig) -> None:
    for job_id in ("a", "b"):
        rig2.put(job_id, queue="r")
    leases = rig2.lease(2, worker="n.9")
    rig2.storage.recover_worker(
        "n.9", ["r"], running=[lease.token for lease in leases], how="orphaned"
    )
    rig2.put("c")
    assert ids(rig2.lease(5, alone=True)) == ["c"]
    assert ids(rig2.lease(5, worker="n.2", alone=True)) == ["a"]


def test_an_unstarted_suspect_is_a_suspect_still(rig: Rig) -> None:
    _two_suspects(rig)
    [lease] = rig.lease(alone=True)
    rig.storage.release("n.1", [(lease.id, lease.queue, lease.token)])
    assert ids(rig.lease(5)) == ["c"]
    [again] = rig.lease(alone=True, worker="n.2")
    rig.storage.recover_worker("n.2", ["q"], running=[], how="orphaned")
    assert again.alone
    assert ids(rig.lease(5, worker="n.3")) == []
    assert len(rig.lease(5, worker="n.3", alone=True)) == 1


def test_a_suspect_that_was_started_is_none_any_more(rig: Rig) -> None:
    _two_suspects(rig)
    [first] = rig.lease(alone=True)
    rig.settle(outcome(first, "requeue", reason="interrupted"))
    [second] = rig.lease(alone=True, worker="n.2")
    assert second.id == "b"
    rig.settle(outcome(second, "retry"), worker="n.2")
    assert ids(rig.lease(5)) == ["a", "c", "b"]


def test_suspects_count_as_queued(rig: Rig) -> None:
    _two_suspects(rig)
    assert rig.counts() == (3, 0, 0, 0)
    assert rig.states() == {"a": "queued", "b": "queued", "c": "queued"}


def test_an_idle_turn_with_nothing_to_lease_is_repeatable(storage: Storage) -> None:
    rig = Rig(storage)
    bell = storage.bell("n.1", ["q"])
    bell.arm()
    for _ in range(3):
        assert ids(storage.turn("n.1", (), ["q"], 4, idle=True)) == []
    bell.disarm()
    bell.close()
    rig.put("a")
    assert ids(rig.lease(4)) == ["a"]
