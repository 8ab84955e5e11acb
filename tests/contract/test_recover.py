"""Nodes and recovery: what a dead worker or an expired node held comes back, counted rightly."""

from __future__ import annotations

import pytest

from taskqd.errors import NodeExpired
from taskqd.jobs.job import Marks, State, join_record, split_record
from taskqd.storage.base import Node, Recovered
from tests.support.rigs.rig import Rig, ack, ids, outcome, payload
from tests.support.waiting import wait_until


def _recover_worker(
    rig: Rig, *running: int, worker: str = "n.1", how: str = "orphaned", **rest: str
) -> list[Recovered]:
    return rig.storage.recover_worker(worker, rig.queues, running=list(running), how=how, **rest)


def test_the_one_running_job_is_blamed_and_goes_to_the_head(rig: Rig) -> None:
    rig.put("a", "b")
    [lease] = rig.lease()
    [row] = _recover_worker(rig, lease.token, verdict="killed by signal 9")
    assert (row.id, row.queue, row.worker, row.how) == ("a", "q", "n.1", "orphaned")
    assert row.marks == Marks(attempts=1, crashes=1, error="killed by signal 9")
    assert not row.suspect
    [again] = rig.lease(worker="n.2")
    assert again.id == "a"
    assert again.record == join_record(row.marks, payload("a"))
    assert not again.alone


def test_crashes_add_up_and_other_marks_stay(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    rig.settle(outcome(lease, "retry", marks=Marks(3, 2, 1, 0, "boom")))
    [lease] = rig.lease()
    [row] = _recover_worker(rig, lease.token, verdict="signal 11")
    assert row.marks == Marks(4, 2, 1, 1, "signal 11")
    [lease] = rig.lease(worker="n.2")
    [row] = _recover_worker(rig, lease.token, worker="n.2")
    assert (row.marks.attempts, row.marks.crashes) == (5, 2)


def test_unstarted_jobs_are_released_uncounted_in_their_order(rig: Rig) -> None:
    rig.put("a", "b", "c", "d")
    leases = rig.lease(3)
    rows = {row.id: row for row in _recover_worker(rig, leases[0].token)}
    assert {job_id: row.how for job_id, row in rows.items()} == {
        "a": "orphaned",
        "b": "released",
        "c": "released",
    }
    assert rows["b"].marks == Marks()
    assert not any(row.suspect for row in rows.values())
    assert rig.order() == ["a", "b", "c", "d"]


def test_several_running_jobs_become_suspects(rig: Rig) -> None:
    rig.put("a", "b", "c")
    leases = rig.lease(3)
    rows = _recover_worker(rig, leases[0].token, leases[1].token, verdict="signal 9")
    assert {row.id: (row.how, row.suspect, row.marks.crashes) for row in rows} == {
        "a": ("orphaned", True, 1),
        "b": ("orphaned", True, 1),
        "c": ("released", False, 0),
    }


def test_interrupted_jobs_are_counted_as_such_and_never_suspect(rig: Rig) -> None:
    rig.put("a", "b", "c")
    leases = rig.lease(3)
    rows = _recover_worker(rig, leases[0].token, leases[1].token, how="interrupted")
    assert {row.id: (row.how, row.suspect) for row in rows} == {
        "a": ("interrupted", False),
        "b": ("interrupted", False),
        "c": ("released", False),
    }
    assert rows[0].marks == Marks(attempts=1, interruptions=1)
    assert rig.order() == ["a", "b", "c"]


def test_released_counts_nothing(rig: Rig) -> None:
    rig.put("a", "b")
    leases = rig.lease(2)
    rows = _recover_worker(rig, *(lease.token for lease in leases), how="released")
    assert [(row.id, row.how, row.marks) for row in rows] == [
        ("a", "released", Marks()),
        ("b", "released", Marks()),
    ]
    assert rig.order() == ["a", "b"]


def test_recovering_a_worker_twice_finds_nothing_the_second_time(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    assert len(_recover_worker(rig, lease.token)) == 1
    assert _recover_worker(rig, lease.token) == []
    assert rig.counts() == (1, 0, 0, 0)


def test_other_workers_keep_what_they_hold(rig: Rig) -> None:
    rig.put("a", "b")
    [mine] = rig.lease(worker="n.1")
    [other] = rig.lease(worker="n.11")
    assert [row.id for row in _recover_worker(rig, mine.token)] == ["a"]
    assert rig.settle(ack(other), worker="n.11") == [True]


def test_a_worker_of_several_queues_is_recovered_in_all(rig2: Rig) -> None:
    rig2.put("a")
    rig2.put("b", queue="r")
    leases = rig2.lease(2)
    rows = rig2.storage.recover_worker(
        "n.1", ["q", "r"], running=[lease.token for lease in leases], how="interrupted"
    )
    assert sorted((row.id, row.queue) for row in rows) == [("a", "q"), ("b", "r")]
    assert rig2.storage.holdings("n.1", ["q", "r"]) == []


def test_a_live_node_is_left_alone(rig: Rig) -> None:
    rig.put("a")
    rig.lease()
    assert rig.storage.recover(["q"]) == []
    assert rig.states() == {"a": "running"}


def test_an_expired_node_is_recovered_and_refused(rig: Rig) -> None:
    rig.register("gone", lease_s=0.05)
    rig.put("a", "b", "c")
    leases = rig.lease(2, worker="gone.1")
    [single] = rig.lease(1, worker="gone.2")
    rows = {row.id: row for row in wait_until(lambda: rig.storage.recover(["q"]), "recovery")}
    assert {job_id: row.suspect for job_id, row in rows.items()} == {
        "a": True,
        "b": True,
        "c": False,
    }
    assert {row.how for row in rows.values()} == {"orphaned"}
    assert {row.marks.crashes for row in rows.values()} == {1}
    assert rows["c"].worker == "gone.2"
    assert rig.states() == {"a": "queued", "b": "queued", "c": "queued"}
    assert rig.storage.recover(["q"]) == []
    assert rig.storage.heartbeat("gone", ["q"], 10) is False
    assert rig.settle(ack(single), worker="gone.2") == [False]
    assert rig.settle(*map(ack, leases), worker="gone.1") == [False, False]
    with pytest.raises(NodeExpired):
        rig.lease(worker="gone.1")
    assert ids(rig.lease(worker="n.1")) == ["c"]


def test_a_node_that_registers_again_may_lease_again(rig: Rig) -> None:
    rig.storage.recover_node("n", ["q"])
    with pytest.raises(NodeExpired):
        rig.lease()
    rig.register("n")
    rig.put("a")
    assert ids(rig.lease()) == ["a"]


def test_heartbeats_keep_a_node_alive(rig: Rig) -> None:
    rig.register("beating", lease_s=0.05)
    rig.register("silent", lease_s=0.05)
    assert rig.storage.heartbeat("beating", ["q"], 600) is True
    rig.put("a", "b")
    rig.lease(worker="beating.1")
    rig.lease(worker="silent.1")
    rows = wait_until(lambda: rig.storage.recover(["q"]), "recovery of the silent node")
    assert [row.worker for row in rows] == ["silent.1"]
    assert rig.storage.heartbeat("beating", ["q"], 600) is True


def test_heartbeat_of_an_unknown_node_is_refused(rig: Rig) -> None:
    assert rig.storage.heartbeat("nobody", ["q"], 10) is False


def test_registering_is_repeatable(rig: Rig) -> None:
    rig.put("a")
    rig.lease()
    rig.register("n")
    assert rig.states() == {"a": "running"}
    assert len(rig.storage.nodes()) == 1


def test_a_node_known_to_be_dead_is_recovered_at_once(rig: Rig) -> None:
    rig.put("a", "b")
    rig.lease(2)
    rows = rig.storage.recover_node("n", ["q"])
    assert [(row.id, row.suspect) for row in rows] == [("a", True), ("b", True)]
    assert rig.storage.nodes() == []
    assert rig.storage.recover_node("n", ["q"]) == []


def test_a_node_whose_name_begins_another_is_not_confused(rig: Rig) -> None:
    rig.register("n.n")
    rig.register("nn")
    rig.put("a", "b", "c")
    for worker in ("n.1", "n.n.1", "nn.1"):
        rig.lease(worker=worker)
    assert [row.worker for row in rig.storage.recover_node("n", ["q"])] == ["n.1"]
    assert rig.counts() == (1, 0, 2, 0)


def test_a_retired_node_is_forgotten_and_its_jobs_released(rig: Rig) -> None:
    rig.put("a", "b")
    leases = rig.lease(2)
    rig.storage.retire("n", ["q"])
    assert rig.storage.nodes() == []
    assert rig.storage.heartbeat("n", ["q"], 10) is False
    assert rig.settle(ack(leases[0])) == [False]
    rig.register("m")
    again = rig.lease(2, worker="m.1")
    assert ids(again) == ["a", "b"]
    assert [split_record(lease.record).marks for lease in again] == [Marks(), Marks()]
    assert not any(lease.alone for lease in again)
    rig.storage.retire("nobody", ["q"])


def test_nodes_are_listed_with_what_their_workers_hold(rig: Rig) -> None:
    node = Node("m", name="shop@here", host="boot-7", pid=12, pid_started=99, info={"version": "1"})
    rig.storage.register(node, ["q"], 30)
    rig.put("a", "b", "c")
    rig.lease(2, worker="m.1")
    rig.lease(1, worker="m.2")
    rows = {row.node.id: row for row in rig.storage.nodes()}
    assert rows["m"].node == node
    assert 20 < rows["m"].expires_in_s <= 30
    assert {name: count for name, count in rows["m"].workers.items() if count} == {
        "m.1": 2,
        "m.2": 1,
    }
    assert rows["n"].workers == {} or set(rows["n"].workers.values()) == {0}


def test_recovery_of_one_queue_leaves_the_other(rig2: Rig) -> None:
    rig2.register("gone", lease_s=0.05)
    rig2.put("a")
    rig2.put("b", queue="r")
    assert len(rig2.lease(2, worker="gone.1")) == 2
    rows = wait_until(lambda: rig2.storage.recover(["q"]), "recovery")
    assert [row.id for row in rows] == ["a"]
    assert rig2.states() == {"a": "queued", "b": "running"}
    assert [row.id for row in rig2.storage.recover(["r"])] == ["b"]


def test_a_job_recovered_while_others_wait_is_running_nowhere(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    _recover_worker(rig, lease.token)
    assert list(rig.storage.jobs(State.RUNNING, "q")) == []
    row = rig.storage.job("a", "q")
    assert row is not None
    assert (row.state, row.worker) == (State.QUEUED, "")


def test_a_verdict_of_several_lines_is_kept_as_it_is(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    verdict = 'TaskTimeout: ran longer than 1 s\nThread 1:\n  File "/a/b.py", line 1 in é'
    [row] = rig.storage.recover_worker(
        "n.1", ["q"], running=[lease.token], how="timeout", verdict=verdict
    )
    assert row.marks.error == verdict
    [again] = rig.lease(worker="n.2")
    assert split_record(again.record).marks.error == verdict
