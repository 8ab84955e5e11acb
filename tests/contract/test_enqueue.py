"""Writing jobs: once under one id, in order, visible at once."""

from __future__ import annotations

import pytest

from taskqd.clock import now_ms
from taskqd.jobs.job import State
from taskqd.storage.base import Storage
from tests.support.rigs.rig import Rig, ack, entry, ids, outcome, payload
from tests.support.servers.storages import Backend


def test_enqueued_jobs_are_queued_with_their_bytes(rig: Rig) -> None:
    assert rig.put("a", "b") == [True, True]
    assert rig.states() == {"a": "queued", "b": "queued"}
    row = rig.storage.job("a", "q")
    assert row is not None
    assert (row.id, row.queue, row.state, row.record) == ("a", "q", State.QUEUED, payload("a"))


def test_nothing_to_enqueue_is_nothing(rig: Rig) -> None:
    assert rig.storage.enqueue([]) == []


def test_jobs_of_another_namespace_are_not_seen(backend: Backend, rig: Rig) -> None:
    rig.put("a")
    other = backend.open(backend.namespace())
    assert other.queues() == []
    assert other.job("a") is None
    other.close()


def test_another_handle_sees_the_same_jobs(backend: Backend, rig: Rig) -> None:
    rig.put("a")
    other = backend.open(rig.storage.namespace)
    assert other.job("a", "q") == rig.storage.job("a", "q")
    assert other.epoch() == rig.storage.epoch()
    other.close()


def test_an_id_that_waits_is_one_job(rig: Rig) -> None:
    assert rig.put("a", fresh=False) == [True]
    assert rig.put("a", "b", fresh=False) == [False, True]
    assert rig.put("c", "c", fresh=False) == [True, False]
    assert rig.order() == ["a", "b", "c"]


def test_an_id_that_is_delayed_is_one_job(rig: Rig) -> None:
    assert rig.put("a", run_at_ms=now_ms() + 60_000) == [True]
    assert rig.put("a", fresh=False) == [False]
    assert rig.states() == {"a": "scheduled"}


def test_an_id_that_runs_is_one_job(rig: Rig) -> None:
    rig.put("a")
    assert ids(rig.lease()) == ["a"]
    assert rig.put("a", fresh=False) == [False]
    assert rig.states() == {"a": "running"}


def test_an_id_that_has_an_answer_is_one_job(rig: Rig) -> None:
    rig.end("a")
    assert rig.put("a", fresh=False) == [False]
    assert rig.states() == {}


def test_an_id_that_is_dead_is_one_job(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    rig.settle(outcome(lease, "bury", reason="failed"))
    assert rig.put("a", fresh=False) == [False]
    assert rig.states() == {"a": "dead"}


def test_an_id_that_ended_without_an_answer_may_come_again(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    rig.settle(ack(lease, b""))
    assert rig.put("a", fresh=False) == [True]
    assert rig.states() == {"a": "queued"}


def test_jobs_for_several_queues_go_to_theirs(rig2: Rig) -> None:
    jobs = [entry("a", "q"), entry("b", "r"), entry("c", "q")]
    assert rig2.storage.enqueue(jobs) == [True, True, True]
    assert [(row.name, row.queued) for row in rig2.storage.queues()] == [("q", 2), ("r", 1)]
    assert rig2.storage.enqueue([job._replace(fresh=False) for job in jobs]) == [False] * 3


def test_ten_thousand_jobs_go_in_one_call_and_keep_their_order(storage: Storage) -> None:
    rig = Rig(storage)
    names = [f"j{number:05}" for number in range(10_000)]
    assert all(rig.put(*names))
    assert rig.counts() == (10_000, 0, 0, 0)
    leased: list[str] = []
    while leases := rig.lease(1000):
        leased += ids(leases)
        rig.settle(*(ack(lease, b"") for lease in leases))
    assert leased == names


@pytest.mark.parametrize(
    "bytes_", [b"", b"no json", b'["half', b'[1,2\n{"x"', b"{}\n\n\n", bytes(range(256))]
)
def test_a_damaged_record_goes_through_as_it_is(rig: Rig, bytes_: bytes) -> None:
    rig.storage.enqueue([entry("a")._replace(payload=bytes_)])
    [lease] = rig.lease()
    assert lease.record == bytes_
    recovered = rig.storage.recover_worker(
        "n.1", ["q"], running=[lease.token], how="orphaned", verdict="signal 9"
    )
    assert [row.id for row in recovered] == ["a"]
    [again] = rig.lease(worker="n.2")
    assert again.record.endswith(bytes_)
    rig.settle(outcome(again, "bury", reason="undecodable"), worker="n.2")
    row = rig.storage.job("a", "q")
    assert row is not None
    assert row.state is State.DEAD
    assert row.record.endswith(bytes_)


def test_a_large_payload_comes_back_whole(rig: Rig) -> None:
    body = b'{"v":1,"t":"big","a":["' + b"x" * 1_000_000 + b'"]}'
    rig.storage.enqueue([entry("a")._replace(payload=body)])
    [lease] = rig.lease()
    assert lease.record == body
