"""Queues on several servers, of which one is away: the others are served, and nothing is forgotten."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.ipc import board
from taskqd.ipc.messages import Drain, Drained, Ready, StorageLost, StorageRestored
from taskqd.jobs.job import Outcome
from taskqd.storage.memory import MemoryStorage
from taskqd.storage.memory.state.bell import MemoryBell
from taskqd.worker.connection.last_words import LastWords
from taskqd.worker.leasing import reconciliation
from tests.support.rigs.worker_rig import Jobs, WorkerRig, entries
from tests.support.waiting import HANG_S, wait_until

QUEUES = ("a", "b")


class Spread(MemoryStorage):
    """Each queue is on a server of its own; who asks one of `down` fails, after the others were asked."""

    def __init__(self) -> None:
        super().__init__("test", world=uuid.uuid4().hex)
        self.down: set[str] = set()
        self.calls: list[str] = []
        self.asked = 0
        self.silent_s = 0.0
        """Who asks one of `down` waits for so long."""

    def parts(self, queues: Sequence[str]) -> list[list[str]]:
        return [[queue] for queue in queues]

    def turn(
        self,
        worker: str,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        *args: Any,
        **more: Any,
    ) -> Any:
        self._check([*queues, *(outcome.queue for outcome in outcomes)])
        return super().turn(worker, outcomes, queues, *args, **more)

    def settle(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        self._check([outcome.queue for outcome in outcomes])
        return super().settle(worker, outcomes)

    def holdings(self, worker: str, queues: Sequence[str]) -> Any:
        self._check(queues)
        self.calls.append(f"holdings of {', '.join(queues)}")
        return super().holdings(worker, queues)

    def release(self, worker: str, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        self._check([queue for _, queue, _ in leases])
        return super().release(worker, leases)

    def bell(self, worker: str, queues: Sequence[str]) -> MemoryBell:
        self._check(queues)
        return super().bell(worker, queues)

    def next_expiry_s(self, queues: Sequence[str], *, spare: str = "") -> float | None:
        self._check(queues)
        return super().next_expiry_s(queues, spare=spare)

    def _check(self, queues: Sequence[str]) -> None:
        if away := self.down.intersection(queues):
            self.asked += 1
            time.sleep(self.silent_s)
            raise StorageUnavailable(f"the server of {', '.join(away)} is down")


@pytest.fixture
def spread() -> Spread:
    return Spread()


@pytest.mark.parametrize("threads", [0, 3], ids=["process", "thread"])
def test_one_dead_server_stopped_every_queue_of_a_worker(spread: Spread, threads: int) -> None:
    jobs = Jobs()
    gate = jobs.gate("held0000")
    with WorkerRig(spread, jobs=jobs, threads=threads, queues=QUEUES) as rig:
        rig.hear(Ready)
        spread.enqueue(entries(1, "a", "held"))
        wait_until(lambda: "held0000" in jobs.started)
        spread.down = {"a"}
        gate.set()
        rig.hear(StorageLost)
        rig.hear(StorageRestored)
        spread.enqueue(entries(20, "b", "other"))
        spread.enqueue(entries(3, "a", "later"))
        wait_until(lambda: rig.row.get(board.DONE) == 20)
        assert jobs.started.count("held0000") == 1
        assert not any(job.startswith("later") for job in jobs.started)
        spread.down = set()
        wait_until(lambda: rig.row.get(board.DONE) == 24)
        assert sorted(jobs.started) == sorted(set(jobs.started))
        # It is woken by both again.
        for queue in QUEUES:
            spread.enqueue(entries(1, queue, f"new-{queue}"))
        wait_until(lambda: rig.row.get(board.DONE) == 26)


def test_all_servers_away_is_an_outage_as_any_other(spread: Spread) -> None:
    jobs = Jobs()
    with WorkerRig(spread, jobs=jobs, queues=QUEUES) as rig:
        rig.hear(Ready)
        spread.down = {"a", "b"}
        spread.enqueue(entries(2, "b"))
        rig.hear(StorageLost)
        wait_until(lambda: spread.asked > 20)
        rig.master.setblocking(False)
        with pytest.raises(BlockingIOError):  # It is not said to be back while nobody answers.
            rig.hear(StorageRestored)
        rig.master.settimeout(HANG_S)
        spread.down = {"a"}
        rig.hear(StorageRestored)
        wait_until(lambda: rig.row.get(board.DONE) == 2)
        spread.down = {"a", "b"}
        spread.enqueue(entries(1, "b", "more"))
        rig.hear(StorageLost)
        spread.down = {"b"}
        spread.enqueue(entries(1, "a", "other"))
        wait_until(lambda: rig.row.get(board.DONE) == 3)
        spread.down = set()
        wait_until(lambda: rig.row.get(board.DONE) == 4)


def test_what_was_handed_over_while_another_server_came_back_is_not_forgotten(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    disarm = MemoryBell.disarm

    def noted(bell: MemoryBell) -> Any:
        spread.calls.append("disarm")
        return disarm(bell)

    with WorkerRig(spread, jobs=Jobs(), queues=QUEUES) as rig:
        rig.hear(Ready)
        spread.down = {"a"}
        spread.enqueue(entries(1, "b"))
        rig.hear(StorageRestored)
        wait_until(lambda: rig.row.get(board.DONE) == 1)
        wait_until(lambda: rig.loop._wakeup.armed)
        spread.calls.clear()
        monkeypatch.setattr(MemoryBell, "disarm", noted)
        spread.down = set()
        wait_until(lambda: "holdings of a" in spread.calls)
        assert spread.calls[0] == "disarm"


def test_a_worker_does_not_leave_before_it_knows_what_it_holds_at_a_server_that_is_away(
    spread: Spread,
) -> None:
    jobs = Jobs()
    gate = jobs.gate("held0000")
    with WorkerRig(spread, jobs=jobs, queues=QUEUES) as rig:
        rig.hear(Ready)
        spread.enqueue(entries(1, "a", "held"))
        wait_until(lambda: jobs.started)
        spread.down = {"a"}
        gate.set()
        rig.hear(StorageRestored)
        rig.tell(Drain(600))
        spread.enqueue(entries(1, "b"))
        wait_until(lambda: rig.stopping.stopping)
        assert spread.answer("held0000", "a") is None
        spread.down = set()
        rig.hear(Drained)
        assert spread.answer("held0000", "a") is not None


def test_ends_for_a_server_that_is_away_are_shown_and_written_down(
    spread: Spread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an outage of all: a worker that is killed meanwhile does not repeat what has ended."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    jobs = Jobs()
    gate = jobs.gate("held0000")
    with WorkerRig(spread, jobs=jobs, queues=QUEUES) as rig:
        rig.hear(Ready)
        spread.enqueue(entries(1, "a", "held"))
        wait_until(lambda: jobs.started)
        spread.down = {"a"}
        gate.set()
        rig.hear(StorageRestored)
        spread.enqueue(entries(1, "b"))
        wait_until(lambda: rig.row.get(board.DONE) == 1)
        wait_until(lambda: rig.row.behind(board.SETTLING) == 1)
        assert [end.id for end in LastWords().heard(rig.worker_id).ends] == ["held0000"]
        spread.down = set()
        wait_until(lambda: rig.row.behind(board.SETTLING) == 0)
        wait_until(lambda: not list(tmp_path.iterdir()))
        assert rig.row.get(board.DONE) == 2


def test_several_silent_servers_hold_up_a_step_no_longer_than_one(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each made the worker wait, and it was killed as hung."""
    monkeypatch.setattr(reconciliation, "SILENT_S", 0.05)
    names = [f"q{number}" for number in range(8)]
    with WorkerRig(spread, jobs=Jobs(), queues=names) as rig:
        rig.hear(Ready)
        spread.down, spread.silent_s = {*names}, 0.1
        spread.enqueue(entries(1, "q7"))
        rig.hear(StorageLost)
        reached = rig.loop._client.reconciliation
        steps: list[int] = []
        reach = reached._reach

        def counted(parts: Any, *, accepting: bool) -> int:
            before = reached._away._why.copy()
            count = reach(parts, accepting=accepting)
            new = {q: why for q, why in reached._away._why.items() if before.get(q) != why}
            steps.append(sum("is down" in why for why in new.values()))
            return count

        monkeypatch.setattr(reached, "_reach", counted)
        wait_until(lambda: len(steps) > 2)
        assert max(steps) <= 1
        spread.down = set()
        rig.hear(StorageRestored)
        wait_until(lambda: rig.row.get(board.DONE) == 1)
