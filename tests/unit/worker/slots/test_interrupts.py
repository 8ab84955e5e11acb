"""Exceptions raised in running jobs: only in the users' own code, and only in the job they are for."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqd import App, JobInterrupted, TaskTimeout, current_job
from taskqd.execution.runner import Runner
from taskqd.ipc.board import Board, size
from taskqd.jobs.job import Lease, Outcome, decode_answer
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node
from taskqd.worker.slots import process_slots
from taskqd.worker.slots.slot import Slot
from taskqd.worker.slots.stop_state import StopState


class Bench:
    """A slot in this thread, the process's main one, and an app whose jobs it runs."""

    def __init__(self) -> None:
        self.app = App("halts", f"memory://{time.monotonic_ns()}")
        self.app.storage.register(Node("n"), ["default"], 600)
        row = Board(memoryview(bytearray(size(1, 1))), 1, 1).row(0)
        self.place = Slot(row, 0, StopState("n.1"))
        interrupts = self.place.interrupts
        assert process_slots.on_signal_to_main(lambda _number, frame: interrupts.deliver(frame))
        interrupts.wake = process_slots.signal_main_thread
        self.reached: list[str] = []

    def run(self, function: Callable[..., Any], **options: Any) -> Outcome:
        self.app.task(name=f"task{len(self.app.registry)}", **options)(function)()
        (lease,) = self.app.storage.lease("n.1", ["default"], 1).leases
        return self.run_lease(lease)

    def run_lease(self, lease: Lease) -> Outcome:
        runner = Runner(self.app, LimitSettings(), configure(role="test", level="critical"))
        self.place.take(lease)
        outcome = runner.run(lease, self.place)
        self.place.lease = None
        self.app.storage.settle("n.1", [outcome])
        return outcome

    def strike(self, error: BaseException | None = None) -> None:
        """Have the running job interrupted, at the very bytecode where this is called from."""
        assert self.place.lease is not None
        self.place.interrupts.request(self.place.lease.token, error or JobInterrupted("now"))
        process_slots.signal_main_thread()

    def hang(self) -> None:
        self.reached.append("own code")
        time.sleep(20)
        self.reached.append("the end")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.place.interrupts.wake = None
    process_slots.on_signal_to_main(lambda _number, _frame: None)


def reason(outcome: Outcome) -> tuple[str, str]:
    return outcome.kind, outcome.reason


def test_a_job_is_interrupted_where_it_blocks(bench: Bench) -> None:
    def job() -> None:
        bench.strike()
        bench.hang()

    assert reason(bench.run(job)) == ("requeue", "interrupted")
    assert "the end" not in bench.reached


def test_nothing_is_raised_while_the_storage_keeps_a_note(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = bench.app.storage
    note = storage.note

    def noting(*args: Any, **kwargs: Any) -> Any:
        bench.strike()
        bench.reached.append("noting")
        time.sleep(0.01)
        noted = note(*args, **kwargs)
        bench.reached.append("noted")
        return noted

    def job() -> None:
        current_job().checkpoint(7)
        bench.hang()

    monkeypatch.setattr(storage, "note", noting)
    # The stub is a test's, so it stands for a driver below: what called it is ours.
    assert reason(bench.run(job)) == ("requeue", "interrupted")
    assert bench.reached[:2] == ["noting", "noted"]
    assert "the end" not in bench.reached


def test_nothing_is_raised_while_a_module_is_imported_or_a_line_is_logged(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halfway.py").write_text("import time\nSTRIKE()\ntime.sleep(0.01)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.STRIKE", bench.strike, raising=False)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bench.strike()
            time.sleep(0.01)
            bench.reached.append("logged")

    log = logging.getLogger("halts")
    log.addHandler(Handler())

    def imports() -> None:
        import halfway  # type: ignore[import-not-found]

        del halfway
        bench.hang()

    def logs() -> None:
        log.error("x")
        bench.hang()

    assert reason(bench.run(imports)) == ("requeue", "interrupted")
    assert sys.modules.pop("halfway").whole
    bench.app.purge("default")
    assert reason(bench.run(logs)) == ("requeue", "interrupted")
    assert "logged" in bench.reached
    assert "the end" not in bench.reached


def test_what_is_over_cannot_be_interrupted(bench: Bench) -> None:
    """Hooks and the settlement of a job are ours, whatever they call."""

    @bench.app.post_execute()
    def late(*_: Any) -> None:
        bench.strike()
        time.sleep(0.01)

    assert bench.run(lambda: None).kind == "ack"


def test_an_exception_for_one_job_never_hits_the_next(bench: Bench) -> None:
    tokens: list[int] = []
    bench.run(lambda: tokens.append(current_job().token))

    def next_job() -> str:
        bench.place.interrupts.request(tokens[0], JobInterrupted("of the job before"))
        process_slots.signal_main_thread()
        time.sleep(0.02)
        return "unharmed"

    outcome = bench.run(next_job)
    assert bytes(decode_answer(outcome.answer).value) == b'"unharmed"'


def test_a_task_may_clean_up_and_end_well_after_its_soft_timeout(bench: Bench) -> None:
    def job() -> str:
        try:
            bench.hang()
        except TaskTimeout as error:
            return str(error)
        return "never"

    outcome = bench.run(job, soft_timeout=0.1)
    value = bytes(decode_answer(outcome.answer).value)
    assert value == b'"ran longer than its soft_timeout of 0.1 s"'


def test_a_lock_as_a_decorator_and_a_local_call_do_not_shield_the_job(bench: Bench) -> None:
    @bench.app.task(name="inner")
    @bench.app.lock_task("halts")
    def inner() -> None:
        bench.strike()
        bench.hang()

    assert reason(bench.run(inner.call_local)) == ("requeue", "interrupted")
    assert not bench.app.is_locked("halts")


def test_a_finaliser_does_not_swallow_the_interruption(bench: Bench) -> None:
    class Finalised:
        def __del__(self) -> None:
            bench.strike()
            time.sleep(0.01)
            bench.reached.append("finalised")

    def job() -> None:
        Finalised()
        bench.hang()

    assert reason(bench.run(job)) == ("requeue", "interrupted")
    assert bench.reached[0] == "finalised"
    assert "the end" not in bench.reached


def test_a_revoked_job_that_fails_is_cancelled_and_not_retried(bench: Bench) -> None:
    def job() -> None:
        assert bench.place.lease is not None
        bench.place.stop([bench.place.lease.id])
        assert current_job().revoked
        try:
            bench.hang()
        except JobInterrupted:
            raise ValueError("cleaning up failed") from None

    assert reason(bench.run(job, retries=3)) == ("cancel", "revoked")


def test_a_coroutine_that_is_asked_to_stop_before_it_runs_stops_at_its_first_await(
    bench: Bench,
) -> None:
    async def job() -> None:
        assert bench.place.lease is not None
        bench.place.stop([bench.place.lease.id])
        await asyncio.sleep(20)
        bench.reached.append("the end")

    assert reason(bench.run(job)) == ("cancel", "revoked")
    assert not bench.reached


def test_a_coroutine_cancelled_by_others_is_not_taken_for_stopped(bench: Bench) -> None:
    async def job() -> None:
        raise asyncio.CancelledError

    outcome = bench.run(job)
    assert reason(outcome) == ("bury", "failed")


def test_in_a_storm_of_strikes_each_hits_the_job_that_it_is_for(bench: Bench) -> None:
    """Jobs of no time with limits that run out, while another thread strikes whatever runs."""
    hits: list[tuple[int, int]] = []
    over = threading.Event()

    def job() -> int:
        token = current_job().token
        try:
            for _ in range(5000):
                pass
        except JobInterrupted as error:
            hits.append((error.args[0], token))
            raise
        return token

    def strike() -> None:
        while not over.is_set():
            lease = bench.place.lease
            if lease is not None:
                bench.place.interrupts.request(lease.token, JobInterrupted(lease.token))
            time.sleep(0.001)

    task = bench.app.task(name="storm", soft_timeout=0.0015)(job)
    striker = threading.Thread(target=strike)
    striker.start()
    switched_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for n in range(1500):
            task.options(id=f"s{n}")()
        kinds = []
        while leases := bench.app.storage.lease("n.1", ["default"], 50).leases:
            for lease in leases:
                outcome = bench.run_lease(lease)
                kinds.append(reason(outcome))
    finally:
        sys.setswitchinterval(switched_s)
        over.set()
        striker.join()
    assert hits
    assert all(meant == hit for meant, hit in hits)
    assert {kind for kind, _ in kinds} <= {"ack", "requeue", "bury"}
    assert {why for _, why in kinds} <= {"", "interrupted", "timeout"}
