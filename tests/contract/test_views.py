"""What can be seen from outside: states, counts, pages, and that nothing is left over."""

from __future__ import annotations

import pytest

from taskqd.clock import now_ms
from taskqd.jobs.job import State
from taskqd.storage.base import Storage
from tests.support.rigs.rig import Rig, ack, ids, outcome


def test_counts_and_states_are_exact_at_each_step(rig: Rig) -> None:
    assert rig.storage.queues() == []
    rig.put("a", "b", "c", "d")
    rig.put("e", run_at_ms=now_ms() + 60_000)
    assert rig.counts() == (4, 1, 0, 0)
    first, second, third = rig.lease(3)
    assert rig.counts() == (1, 1, 3, 0)
    rig.settle(ack(first))
    assert rig.counts() == (1, 1, 2, 0)
    rig.settle(outcome(second, "bury", reason="failed"))
    assert rig.counts() == (1, 1, 1, 1)
    rig.settle(outcome(third, "retry", delay_ms=60_000))
    assert rig.counts() == (1, 2, 0, 1)
    assert rig.states() == {"b": "dead", "c": "scheduled", "d": "queued", "e": "scheduled"}


def test_ended_jobs_without_waiting_ones_leave_no_queue(rig: Rig) -> None:
    rig.end("a")
    assert rig.counts() == (0, 0, 0, 0)


def test_queues_are_sorted_by_name(storage: Storage) -> None:
    rig = Rig(storage, ("z", "a", "m"))
    for name in ("z", "a", "m"):
        rig.put(f"job-{name}", queue=name)
    assert [row.name for row in storage.queues()] == ["a", "m", "z"]


@pytest.mark.parametrize("queue", ["q", None])
def test_jobs_are_listed_page_by_page(rig: Rig, queue: str | None) -> None:
    names = [f"j{number:04}" for number in range(2500)]
    rig.put(*names)
    assert sorted(row.id for row in rig.storage.jobs(State.QUEUED, queue)) == names
    leases = rig.lease(2500)
    assert sorted(row.id for row in rig.storage.jobs(State.RUNNING, queue)) == names
    assert list(rig.storage.jobs(State.QUEUED, queue)) == []
    assert all(rig.settle(*(outcome(lease, "retry", delay_ms=60_000) for lease in leases)))
    assert sorted(row.id for row in rig.storage.jobs(State.SCHEDULED, queue)) == names


def test_listing_one_queue_leaves_out_the_others(rig2: Rig) -> None:
    rig2.put("a")
    rig2.put("b", queue="r")
    assert [row.id for row in rig2.storage.jobs(State.QUEUED, "r")] == ["b"]
    assert [row.id for row in rig2.storage.jobs(State.QUEUED, "never-used")] == []


def test_listing_may_go_on_while_jobs_move(rig: Rig) -> None:
    names = [f"j{number:04}" for number in range(3000)]
    rig.put(*names)
    rows = rig.storage.jobs(State.QUEUED, "q")
    seen = {next(rows).id}
    rig.lease(1500)
    seen |= {row.id for row in rows}
    assert seen <= set(names)


def test_each_state_of_one_job_is_found_by_id(rig: Rig) -> None:
    rig.put("a", run_at_ms=now_ms() + 60_000)
    seen = [_state(rig)]
    rig.storage.reschedule("a", "q", 0)
    seen.append(_state(rig))
    [lease] = rig.lease()
    seen.append(_state(rig))
    rig.settle(outcome(lease, "bury", reason="failed"))
    seen.append(_state(rig))
    rig.storage.revive(["a"])
    seen.append(_state(rig))
    [lease] = rig.lease()
    rig.settle(ack(lease))
    seen.append(_state(rig))
    assert seen == ["scheduled", "queued", "running", "dead", "queued", "done"]


def _state(rig: Rig) -> str:
    row = rig.storage.job("a", "q")
    assert row is not None
    assert row == rig.storage.job("a")
    return row.state.value


def test_after_a_drain_nothing_is_left_over(rig: Rig) -> None:
    rig.end(*(f"j{number}" for number in range(50)))
    rig.put("again", "crash", "crash2", "dead", "later")
    leases = {lease.id: lease for lease in rig.lease(5)}
    rig.settle(
        outcome(leases["again"], "requeue"),
        outcome(leases["later"], "retry", delay_ms=60_000),
        outcome(leases["dead"], "bury", reason="failed"),
    )
    rig.storage.recover_worker(
        "n.1", ["q"], running=[leases["crash"].token, leases["crash2"].token], how="orphaned"
    )
    rig.storage.reschedule("later", "q", 0)
    while leases_now := rig.lease(5, worker="n.2", alone=True):
        rig.settle(*(ack(lease, b"") for lease in leases_now), worker="n.2")
    rig.storage.purge_dead()
    rig.storage.purge(["q"], dead_ttl_s=86400, dead_max=100)
    assert rig.states() == {}
    assert list(rig.storage.leftovers()) == []
    rig.storage.retire("n", ["q"])
    rig.storage.purge(["q"], dead_ttl_s=86400, dead_max=100)
    assert list(rig.storage.leftovers()) == []


def test_the_epoch_is_lasting_and_the_storage_answers(rig: Rig) -> None:
    epoch = rig.storage.epoch()
    assert epoch == rig.storage.epoch()
    assert epoch
    rig.storage.ping()
    assert all(isinstance(text, str) for text in rig.storage.warnings())


def test_odd_names_are_names_like_others(storage: Storage) -> None:
    rig = Rig(storage, ("q.with-all_signs.9", "Q"))
    job_ids = ["A.b_c:d@e/f+g-h", "x" * 64, "-", "0", "..", "a%2fb".replace("%", "+")]
    for queue in rig.queues:
        rig.put(*(f"{job_id}"[:64] for job_id in job_ids), queue=queue)
        leases = rig.storage.lease("n.1", [queue], 10).leases
        assert ids(leases) == job_ids
        assert all(rig.settle(*map(ack, leases)))
        storage.wait([(job_id, queue) for job_id in job_ids], 5)
        assert None not in storage.answers([(job_id, queue) for job_id in job_ids])
