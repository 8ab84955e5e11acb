"""A worker's calls to its storage: their order with what is logged, and with what follows a job."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskqd.clock import StorageClock
from taskqd.errors import QueueFull, StorageError, StorageUnavailable
from taskqd.ipc import board
from taskqd.ipc.board import Board, size
from taskqd.jobs.end import End, EnqueueNext
from taskqd.jobs.job import Entry, Lease, Outcome
from taskqd.logs import events
from taskqd.storage.base import Leased
from taskqd.worker.leasing.queue_order import QueueOrder
from taskqd.worker.leasing.settling import Settling
from taskqd.worker.leasing.storage_client import StorageClient
from taskqd.worker.slots.base import Usage
from tests.support.rigs.worker_rig import Jobs


class Recorder:
    """A log and a storage that note the order in which they are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    takes = True
    """The leases are current."""
    refuses: type[StorageError] | None = None
    """Of what follows a job."""

    def enabled(self, _event: str) -> bool:
        return False

    def emit(self, event: str, **_facts: Any) -> None:
        self.calls.append(event)

    def emit_soon(self, event: str, _facts: dict[str, Any]) -> None:
        self.calls.append(event)

    def flush(self) -> None:
        self.calls.append("flush")

    def enqueue(self, jobs: list[Entry]) -> list[bool]:
        self.calls.append("enqueue")
        if self.refuses is not None:
            raise self.refuses("no")
        return [True for _ in jobs]

    def settle_late(self, _worker: str, outcomes: list[Outcome]) -> list[bool]:
        return [False for _ in outcomes]

    def note(self, *_args: Any) -> str:
        return "kept"

    def parts(self, queues: list[str]) -> list[list[str]]:
        return [[*queues]]

    def turn(self, _worker: str, outcomes: list[Outcome], *_args: Any, **_kwargs: Any) -> Leased:
        self.calls.append("turn")
        return Leased([self.takes for _ in outcomes], [], 0, 0)

    def settle(self, _worker: str, outcomes: list[Outcome]) -> list[bool]:
        self.calls.append("settle")
        return [self.takes for _ in outcomes]

    def server_ms(self) -> int:
        return 0

    def holdings(self, _worker: str, _queues: tuple[str, ...]) -> list[Lease]:
        self.calls.append("holdings")
        return [Lease("unseen", "q", 2, b"")]

    def release(self, _worker: str, leases: list[tuple[str, str, int]]) -> list[bool]:
        self.calls.append(f"release {leases[0][0]}")
        return [True for _ in leases]


def ended(number: int, *, follows: bool = False) -> End:
    steps = (EnqueueNext(Entry(f"next{number}", "q", b"{}")),) if follows else ()
    line = (events.JOB_DONE, {"job_id": f"j{number}"})
    return End(f"j{number}", "q", number, "ack", follow_ups=steps, lines=(line,))


def client_of(recorder: Any, *ends: End) -> StorageClient:
    row = Board(memoryview(bytearray(size(1, 1))), 1, 1).row(0)
    slots: Any = SimpleNamespace(
        capacity=1,
        low=0,
        settled=lambda _outcomes: recorder.calls.append("settled"),
        withdraw=list,
        collect=list,
        running=list,
        usage=lambda: Usage(0, 0),
    )
    order = QueueOrder(["q"], {}, lambda: 0.5)
    settling = Settling("n.1", lambda: recorder, lambda _new: None)
    client = StorageClient("n.1", recorder, order, slots, Jobs(), row, recorder, settling)
    made = list(ends) or [ended(1)]
    client.ledger.handed(len(made), 0.0)
    client.ledger.finished([*made], 0.0)
    return client


def test_an_end_is_logged_in_the_breath_in_which_the_storage_has_taken_it() -> None:
    """And before its slot goes on, or another job is handed over."""
    turned, settled = Recorder(), Recorder()
    client_of(turned).turn(1)
    assert turned.calls == ["flush", "turn", "job.done", "flush", "settled"]
    client_of(settled).settle()
    assert settled.calls == ["flush", "settle", "job.done", "flush", "settled"]


def test_a_fenced_end_was_logged_as_done_first() -> None:
    recorder = Recorder()
    recorder.takes = False
    client = client_of(recorder)
    client.settle()
    assert recorder.calls == ["flush", "settle", "job.fenced", "flush", "settled"]
    assert client.finished == 0
    assert client._row.behind(board.FENCED) == 1


def test_what_follows_a_job_is_written_before_its_outcome() -> None:
    recorder = Recorder()
    client_of(recorder, ended(1, follows=True), ended(2), ended(3, follows=True)).turn(0)
    assert recorder.calls[:3] == ["enqueue", "flush", "turn"]
    assert recorder.calls.count("job.done") == 3


def test_an_end_whose_next_stage_finds_no_room_is_kept_and_holds_up_no_other() -> None:
    recorder = Recorder()
    recorder.refuses = QueueFull
    client = client_of(recorder, ended(1, follows=True), ended(2))
    client.settle()
    assert recorder.calls.count("settle") == recorder.calls.count("job.done") == 1
    assert client.pending == 1
    assert [end.id for end in client.unsettled()] == ["j1"]


def test_an_end_that_is_kept_is_not_taken_for_a_job_that_never_arrived() -> None:
    """Its lease is still this worker's: after an outage it was handed to a slot, and ran again."""
    recorder = Recorder()
    recorder.refuses = StorageUnavailable
    client = client_of(recorder, ended(2, follows=True))
    with pytest.raises(StorageUnavailable):
        client.settle()
    recorder.holdings = lambda _worker, _queues: [Lease("j2", "q", 2, b"")]  # type: ignore[method-assign]
    client.reconciliation.reconcile(accepting=False)
    assert not [call for call in recorder.calls if call.startswith("release")]
    assert client.ledger.in_slots == 0


def test_a_job_that_ended_while_its_worker_looked_what_it_holds_ran_again() -> None:
    """What follows it was still to be written, so it was neither running nor settled."""
    recorder = Recorder()
    client = client_of(recorder)
    client.ledger.handed(1, 0.0)
    ends: list[list[End]] = [[ended(2, follows=True)]]
    client._slots.collect = lambda: ends.pop() if ends else []  # type: ignore[method-assign]
    recorder.holdings = lambda _worker, _queues: [Lease("j2", "q", 2, b"")]  # type: ignore[method-assign]
    client.reconciliation.reconcile(accepting=False)
    assert not [call for call in recorder.calls if call.startswith("release")]
    assert client.ledger.ends


def test_after_an_outage_outcomes_are_settled_before_a_lease_is_released() -> None:
    """A storage that has them already, and lost its reply, would refuse them after the release."""
    recorder = Recorder()
    client_of(recorder).reconciliation.reconcile(accepting=False)
    told = [call for call in recorder.calls if not call.startswith("job")]
    assert told == ["flush", "settle", "flush", "settled", "holdings", "release unseen"]


class Fencing(Recorder):
    """A storage that refuses an end, is lost when it is offered late, and takes it then."""

    def __init__(self, *, taken: bool) -> None:
        super().__init__()
        self._taken = taken
        self._lost = False
        self.fenced: list[str] = []

    def settle(self, _worker: str, outcomes: list[Outcome]) -> list[bool]:
        self.calls.append("settle")
        return [False for _ in outcomes]

    def settle_late(self, _worker: str, outcomes: list[Outcome]) -> list[bool]:
        self.calls.append("settle_late")
        if not self._lost:
            self._lost = True
            raise StorageUnavailable("away")
        return [self._taken for _ in outcomes]

    def emit(self, event: str, **facts: Any) -> None:
        self.fenced.append(f"{event} {facts['job_id']}")


@pytest.mark.parametrize("taken", [True, False])
def test_an_end_was_forgotten_when_the_storage_was_lost_between_its_two_offers(
    taken: bool,
) -> None:
    storage = Fencing(taken=taken)
    client = client_of(storage)
    with pytest.raises(StorageUnavailable):
        client.settle()
    assert client.ledger.unsettled
    client.settle()
    called = [call for call in storage.calls if call.startswith("settle_") or call == "settle"]
    assert called == ["settle", "settle_late"] * 2
    assert storage.calls.count("job.done") == taken
    assert not client.ledger.unsettled
    assert client.finished == taken
    assert storage.fenced == ([] if taken else ["job.fenced j1"])


@pytest.mark.parametrize("follows", [True, False])
def test_a_job_that_ended_while_holdings_were_asked_for_was_started_again(follows: bool) -> None:
    end = ended(7, follows=follows)

    class Holding(Recorder):
        def holdings(self, _worker: str, _queues: tuple[str, ...]) -> list[Lease]:
            self.calls.append("holdings")
            return [Lease(end.id, "q", end.token, b"")]

    client = client_of(storage := Holding())
    client.ledger.handed(1, 0.0)
    offered: list[Lease] = []
    slots: Any = client._slots
    slots.collect = lambda: [end] if "holdings" in storage.calls and client.ledger.in_slots else []
    slots.usage = lambda: Usage(1, 1)
    slots.offer = offered.extend
    client.reconciliation.reconcile(accepting=True)
    assert client.pending == 1
    assert offered == []


def test_a_silent_storage_is_waited_for_once_in_a_step() -> None:
    """The time and the turn together took as long as a worker may be silent: it was killed as hung."""

    class Silent(Recorder):
        def server_ms(self) -> int:
            self.calls.append("time")
            raise StorageUnavailable("silent")

        def turn(self, *_args: Any, **_kwargs: Any) -> Leased:
            self.calls.append("turn")
            raise StorageUnavailable("silent")

    class Falls(Silent):
        def turn(self, worker: str, outcomes: list[Outcome], *args: Any, **kwargs: Any) -> Leased:
            return Recorder.turn(self, worker, outcomes, *args, **kwargs)

    for recorder, waits in ((Silent(), ["turn"]), (Falls(), ["turn", "time"])):
        client = client_of(recorder)
        client._runner = cast("Any", Timed())
        with pytest.raises(StorageUnavailable):
            client.turn(1)
        assert [call for call in recorder.calls if call in ("turn", "time")] == waits


class Timed(Jobs):
    """Reads the time of the storage, as the runner does."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = StorageClock(lambda: 0)

    def keep_time(self, read: Callable[[], int]) -> None:
        self.clock.refresh(read)
