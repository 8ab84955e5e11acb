"""Last words of a dead worker become settlements, where it still holds the jobs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqd.errors import QueueFull
from taskqd.ipc.messages import RecoverWorker
from taskqd.jobs.end import END_NOTE, End, EnqueueNext
from taskqd.jobs.job import Answer, Entry, Lease, Marks, Outcome, State, encode_answer
from taskqd.logs.setup import configure
from taskqd.storage.base import Node
from taskqd.storage.memory import MemoryStorage
from taskqd.worker.connection.last_words import LastWords
from taskqd.worker.scheduler.inherited_ends import InheritedEnds


class Full(MemoryStorage):
    full = False

    def enqueue(self, jobs: Any) -> list[bool]:
        if self.full:
            raise QueueFull("no room")
        return super().enqueue(jobs)


@pytest.fixture
def storage() -> Iterator[Full]:
    made = Full("test", world=uuid.uuid4().hex)
    made.register(Node("n"), ["q"], 600)
    made.enqueue([Entry(name, "q", b'{"t":"x"}') for name in ("ended", "running", "unstarted")])
    yield made
    made.close()


def interrupted(lease: Lease) -> Outcome:
    marks = Marks(attempts=1, interruptions=1)
    return Outcome(lease.id, lease.queue, lease.token, "requeue", marks=marks, reason="interrupted")


def left_by(storage: Full, folder: Path, *, left: bool = True) -> InheritedEnds:
    """Let a worker die that has ended one job, left one running, and not started the third."""
    ended, running, _ = storage.lease("n.1", ["q"], 3).leases
    answer = encode_answer(Answer("done", ended.token, 0, 60))
    follows = (EnqueueNext(Entry("next", "q", b'{"t":"y"}', fresh=False)),)
    end = End(ended.id, "q", ended.token, "ack", answer, 60, follow_ups=follows)
    words = LastWords([str(folder)])
    words.say("n.1", [end, interrupted(running)], left=left)
    return InheritedEnds(interrupted, configure(role="test", level="critical"), words)


def test_what_had_ended_is_settled_and_what_ran_goes_back(storage: Full, tmp_path: Path) -> None:
    inherited = left_by(storage, tmp_path)
    assert inherited.workers_of("n") == ["n.1"]
    assert inherited.settle(storage, "n.1", ["q"]) == 1
    assert inherited.settle(storage, "n.1", ["q"]) == 0, "a repeat finds nothing to do"
    states = {name: storage.job(name) for name in ("ended", "running", "unstarted", "next")}
    assert {name: row and row.state for name, row in states.items()} == {
        "ended": State.DONE,
        "running": State.QUEUED,
        "unstarted": State.RUNNING,
        "next": State.QUEUED,
    }
    inherited.forget("n.1")
    assert inherited.workers_of("n") == []


def test_where_there_is_no_room_a_job_goes_back_with_its_end(storage: Full, tmp_path: Path) -> None:
    inherited = left_by(storage, tmp_path)
    storage.full = True
    assert inherited.settle(storage, "n.1", ["q"]) == 2
    assert END_NOTE in storage.notes("ended", "q")
    row = storage.job("ended")
    assert row is not None
    assert row.state is State.QUEUED


def test_what_somebody_else_has_recovered_is_left_alone(storage: Full, tmp_path: Path) -> None:
    inherited = left_by(storage, tmp_path)
    storage.recover_worker("n.1", ["q"], running=(), how="interrupted")
    assert inherited.settle(storage, "n.1", ["q"]) == 0
    assert storage.job("next") is None


def test_what_a_killed_worker_ran_is_not_released(storage: Full, tmp_path: Path) -> None:
    """It had written down what had ended; of what it ran later nobody knows but its master."""
    inherited = left_by(storage, tmp_path, left=False)
    assert inherited.ordered("n.1") is None
    order = RecoverWorker("n.1", (5,), "orphaned", "SIGKILL")
    inherited.order(order)
    assert inherited.ordered("n.1") == order
    inherited.forget("n.1")
    assert inherited.ordered("n.1") is None


def test_one_that_has_left_has_nothing_running(storage: Full, tmp_path: Path) -> None:
    order = left_by(storage, tmp_path).ordered("n.1")
    assert order is not None
    assert (order.running, order.how) == ((), "interrupted")
