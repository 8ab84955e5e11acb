"""What a worker keeps of ends that cannot be written: how much, in which order it is tried, what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from taskqd.errors import QueueFull, StorageUnavailable
from taskqd.jobs.end import CountMember, End, EnqueueNext
from taskqd.jobs.job import Entry
from taskqd.storage.features import LeaseKey
from taskqd.worker.leasing import settling
from taskqd.worker.leasing.settling import Settling, Writer
from tests.support.waiting import wait_until


class Queues:
    """A storage of which some queues cannot be written to."""

    namespace = "test"

    def __init__(self, *away: str) -> None:
        self.away = set(away)
        self.calls: list[str] = []
        self.noted: list[str] = []

    def enqueue(self, jobs: Sequence[Entry]) -> list[bool]:
        for job in jobs:
            self.calls.append(job.queue)
            if job.queue in self.away:
                raise StorageUnavailable(job.queue)
        return [True for _ in jobs]

    def group_put(self, group: str, queue: str, index: int, answer: bytes) -> int:
        self.calls.append(queue)
        if queue in self.away:
            raise QueueFull(queue)
        return 0

    def note(self, hold: LeaseKey, key: str, value: bytes, *, once: bool = False) -> str:
        self.noted.append(hold.job_id)
        return "kept"


def ended(number: int, *queues: str) -> End:
    steps = [EnqueueNext(Entry(f"{queue}-{number}", queue, b"{}")) for queue in queues]
    return End(f"j{number}", "own", number, "ack", follow_ups=tuple(steps))


def kept_by(queues: Queues, *ends: End) -> Settling:
    made = Settling("n.1", lambda: queues, lambda _new: None)  # type: ignore[arg-type,return-value]
    made.keep(ends)
    return made


def test_a_queue_that_is_away_is_asked_once_in_a_round_and_holds_up_no_other() -> None:
    queues = Queues("far")
    written: list[End] = []
    writer = Writer("n.1", lambda: queues, lambda _new: None)  # type: ignore[arg-type,return-value]
    ends = [ended(1, "far"), ended(2, "far"), ended(3, "near"), ended(4, "near", "far")]
    left = writer.round(ends, written.append)
    assert [end.token for end in left] == [1, 2, 4]
    assert [end.token for end in written] == [3]
    assert queues.calls == ["far", "near"]


def test_an_end_is_noted_with_its_job_once() -> None:
    queues = Queues("far")
    writer = Writer("n.1", lambda: queues, lambda _new: None)  # type: ignore[arg-type,return-value]
    left = writer.round([ended(1, "far"), ended(2, "far")], list)
    writer.round(left, list)
    assert queues.noted == ["j1", "j2"]


def test_what_waits_for_a_queue_blocks_what_would_be_written_to_it_and_nothing_else() -> None:
    kept = kept_by(Queues("far"), ended(1, "far"))
    assert kept.blocks(ended(2, "near", "far"))
    assert not kept.blocks(ended(3, "near"))
    assert [end.token for end in kept.give_up()] == [1]
    assert not kept.blocks(ended(4, "far"))


def test_ends_are_written_in_time_and_handed_back_once() -> None:
    queues = Queues("far")
    group = CountMember("g", "far", 0, b"[]")
    kept = kept_by(queues, ended(1, "far"), End("j2", "own", 2, "ack", follow_ups=(group,)))
    wait_until(lambda: len(queues.calls) >= 2)
    assert kept.take() == []
    queues.away.clear()
    taken: list[int] = []
    wait_until(lambda: taken.extend(end.token for end in kept.take()) or len(taken) == 2)  # type: ignore[func-returns-value]
    assert sorted(taken) == [1, 2]
    assert (len(kept), kept.take()) == (0, [])


def test_its_memory_is_bounded_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_by(Queues("far"), ended(1, "far"))
    assert not kept.full
    monkeypatch.setattr(settling, "KEPT_MAX", 1)
    assert kept.full
    monkeypatch.setattr(settling, "KEPT_MAX", 1000)
    monkeypatch.setattr(settling, "KEPT_BYTES_MAX", 50)
    assert kept.full
