"""The path of one job, without storage and process."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from taskqd import (
    App,
    CancelExecution,
    JobInterrupted,
    RetryTask,
    TaskLockedException,
    TaskTimeout,
    current_job,
)
from taskqd.execution.runner import Runner
from taskqd.jobs.job import Entry, Lease, Marks, Outcome, decode_answer, join_record
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from tests.support.rigs.plain_place import PlainPlace

_tokens = itertools.count(1)


class Bench:
    """One app, its runner and a place."""

    def __init__(self, **options: Any) -> None:
        self.app = App("bench", "memory://", **options)
        self.place = PlainPlace()

    def runner(self, **limits: Any) -> Runner:
        log = configure(role="test", level="critical")
        return Runner(self.app, LimitSettings(**limits), log)

    def lease(self, entry: Entry, marks: Marks | None = None) -> Lease:
        record = join_record(marks or Marks(), entry.payload)
        return Lease(entry.id, entry.queue, next(_tokens), record)

    def run(self, signature: Any, marks: Marks | None = None, **limits: Any) -> Outcome:
        entry = self.app.entry(signature)
        return self.runner(**limits).run(self.lease(entry, marks), self.place)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_value_becomes_an_ack_with_its_answer(bench: Bench) -> None:
    @bench.app.task
    def add(a: int, b: int) -> int:
        return a + b

    outcome = bench.run(add.s(1, b=2))
    answer = decode_answer(outcome.answer)
    assert outcome.kind == "ack"
    assert (answer.state, bytes(answer.value), answer.attempts) == ("done", b"3", 1)
    assert outcome.answer_ttl_s == 86400
    assert bench.place.began == [add.name]
    assert bench.place.ended == 1


def test_coroutine_function_is_awaited_in_a_kind_without_a_loop(bench: Bench) -> None:
    @bench.app.task
    async def slow() -> str:
        await asyncio.sleep(0)
        return current_job().task

    assert bytes(decode_answer(bench.run(slow.s()).answer).value).decode() == f'"{slow.name}"'


def test_exception_is_retried_while_retries_are_left_then_buried(bench: Bench) -> None:
    @bench.app.task(retries=1, retry_delay=4, retry_jitter=False)
    def fail() -> None:
        raise ValueError("no such shop")

    first = bench.run(fail.s())
    assert (first.kind, first.delay_ms) == ("retry", 4000)
    assert first.marks == Marks(1, 1, 0, 0, "ValueError: no such shop")
    last = bench.run(fail.s(), first.marks)
    answer = decode_answer(last.answer)
    assert (last.kind, last.reason, last.marks.failures) == ("bury", "failed", 2)
    assert answer.failure is not None
    assert answer.failure.message == "no such shop"
    assert 'raise ValueError("no such shop")' in answer.failure.traceback


def test_options_of_a_call_override_those_of_the_task(bench: Bench) -> None:
    @bench.app.task
    def fail() -> None:
        raise ValueError

    assert bench.run(fail.options(retries=2).s()).kind == "retry"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_exit_of_a_task_is_a_failure_of_the_attempt(bench: Bench, error: BaseException) -> None:
    @bench.app.task
    def leave() -> None:
        raise error

    assert bench.run(leave.s()).reason == "failed"


def test_retry_task_waits_as_asked_and_costs_no_failure(bench: Bench) -> None:
    @bench.app.task
    def later() -> None:
        raise RetryTask(delay=7)

    outcome = bench.run(later.s())
    assert (outcome.kind, outcome.delay_ms) == ("retry", 7000)
    assert (outcome.marks.attempts, outcome.marks.failures) == (1, 0)


def test_cancel_execution_ends_the_job_as_cancelled(bench: Bench) -> None:
    @bench.app.task(retries=5)
    def stop() -> None:
        raise CancelExecution("not needed")

    outcome = bench.run(stop.s())
    assert (outcome.kind, outcome.reason) == ("cancel", "not needed")


def test_interrupted_job_goes_back_and_counts_no_failure(bench: Bench) -> None:
    @bench.app.task(retries=2)
    def stop() -> None:
        raise JobInterrupted

    outcome = bench.run(stop.s(), Marks(attempts=2, failures=2))
    assert (outcome.kind, outcome.reason) == ("requeue", "interrupted")
    assert outcome.marks == Marks(attempts=3, failures=2, interruptions=1)


def test_check_raises_only_while_the_worker_stops(bench: Bench) -> None:
    @bench.app.task
    def careful() -> float:
        job = current_job()
        job.check()
        bench.place.stopping = True
        left = job.seconds_left
        job.check()
        return left

    assert bench.run(careful.s()).reason == "interrupted"


@pytest.mark.parametrize(
    ("policy", "kind"), [("skip", "cancel"), ("requeue", "retry"), ("fail", "bury")]
)
def test_held_lock_is_handled_by_policy_and_burns_no_retry(
    bench: Bench, policy: Any, kind: str
) -> None:
    @bench.app.task(on_locked=policy)
    def locked() -> None:
        raise TaskLockedException("user:1")

    outcome = bench.run(locked.s())
    assert outcome.kind == kind
    assert outcome.marks.failures == (1 if policy == "fail" else 0)


def test_job_that_goes_back_for_a_while_was_not_in_the_log(bench: Bench, tmp_path: Path) -> None:
    @bench.app.task(on_locked="requeue")
    def locked() -> None:
        raise TaskLockedException("user:1")

    file = tmp_path / "log"
    log = configure(role="test", level="debug", format="json", file=str(file))
    lease = bench.lease(bench.app.entry(locked.s()))
    outcome = Runner(bench.app, LimitSettings(), log).run(lease, bench.place)
    lines = map(json.loads, file.read_text().splitlines())
    [told] = [line for line in lines if line["event"] == "job.requeued"]
    assert (told["job_id"], told["reason"]) == (lease.id, "locked")
    assert told["delay_s"] == outcome.delay_ms / 1000


def test_timeout_is_a_failure_with_its_own_reason(bench: Bench) -> None:
    @bench.app.task
    def slow() -> None:
        raise TaskTimeout("5 s")

    assert bench.run(slow.s()).reason == "timeout"


def test_unknown_task_is_buried_with_its_name(bench: Bench) -> None:
    @bench.app.task(name="gone")
    def gone() -> None: ...

    signature = gone.s()
    del bench.app.registry["gone"]
    outcome = bench.run(signature)
    assert (outcome.kind, outcome.reason) == ("bury", "unknown")
    assert "'gone'" in outcome.marks.error


@pytest.mark.parametrize(
    "record", [b"", b"\x00", b"{}", b'{"t":1}', b'{"t":"x"', b"[]", b'{"v":9,"t":"x"}', b"[1]\n[2]"]
)
def test_damaged_record_is_buried_as_undecodable(bench: Bench, record: bytes) -> None:
    outcome = bench.runner().run(Lease("i", "default", 1, record), bench.place)
    assert (outcome.kind, outcome.reason) == ("bury", "undecodable")
    assert bench.place.began == []


def test_job_of_a_changed_signature_is_buried_as_rejected(bench: Bench) -> None:
    old = App("bench", "memory://")

    @old.task(name="resize")
    def resize(path: str, width: int) -> None: ...

    @bench.app.task(name="resize")
    def resize_now(path: str) -> None: ...

    lease = bench.lease(old.entry(resize.s("a", 3)))
    outcome = bench.runner().run(lease, bench.place)
    assert (outcome.kind, outcome.reason) == ("bury", "rejected")
    assert bench.place.began == []


def test_result_without_a_json_form_is_buried_and_not_run_again(bench: Bench) -> None:
    @bench.app.task(retries=3)
    def strange() -> Any:
        return object()

    outcome = bench.run(strange.s())
    assert (outcome.kind, outcome.reason) == ("bury", "failed")
    assert "cannot encode" in outcome.marks.error


def test_result_over_its_limit_is_buried_with_both_sizes(bench: Bench) -> None:
    @bench.app.task
    def large() -> str:
        return "x" * 100

    outcome = bench.run(large.s(), result_bytes_max=50)
    assert "102 bytes; at most 50" in outcome.marks.error


def test_expired_job_does_not_run(bench: Bench) -> None:
    @bench.app.task
    def late() -> None: ...

    outcome = bench.run(late.options(expires=-1).s())
    assert (outcome.kind, outcome.reason) == ("cancel", "expired")
    assert bench.place.began == []


def test_job_that_killed_its_workers_is_buried_with_the_verdict(bench: Bench) -> None:
    @bench.app.task(max_crashes=2)
    def killer() -> None: ...

    assert bench.run(killer.s(), Marks(attempts=1, crashes=1)).kind == "ack"
    outcome = bench.run(killer.s(), Marks(2, 0, 0, 2, "SIGSEGV"))
    assert (outcome.reason, outcome.marks.error) == ("poisoned", "SIGSEGV")


def test_interruptions_have_a_budget_of_their_own(bench: Bench) -> None:
    @bench.app.task(max_interruptions=1)
    def slow() -> None: ...

    assert bench.run(slow.s(), Marks(interruptions=1)).kind == "ack"
    assert bench.run(slow.s(), Marks(interruptions=2)).reason == "interruptions"


def test_job_killed_at_its_timeout_too_often_is_buried_as_timeout(bench: Bench) -> None:
    @bench.app.task(retries=1)
    def slow() -> None: ...

    error = "TaskTimeout: ran longer than 5 s"
    assert bench.run(slow.s(), Marks(attempts=1, failures=1, error=error)).kind == "ack"
    outcome = bench.run(slow.s(), Marks(attempts=2, failures=2, error=error))
    assert (outcome.kind, outcome.reason) == ("bury", "timeout")
    failure = decode_answer(outcome.answer).failure
    assert failure is not None
    assert (failure.type_name, failure.message) == ("TaskTimeout", "ran longer than 5 s")


def test_failures_beyond_the_budget_of_another_kind_are_buried_as_failed(bench: Bench) -> None:
    @bench.app.task
    def slow() -> None: ...

    outcome = bench.run(slow.s(), Marks(attempts=1, failures=1, error="ValueError: 3"))
    assert (outcome.kind, outcome.reason) == ("bury", "failed")


def test_at_most_once_job_is_not_run_after_a_crash(bench: Bench) -> None:
    @bench.app.task(at_most_once=True)
    def pay() -> None: ...

    assert bench.run(pay.s(), Marks(attempts=1, crashes=1)).reason == "lost"
    assert bench.place.began == []


def test_unsigned_and_tampered_payloads_are_buried() -> None:
    bench = Bench(signing_keys=["k" * 16])

    @bench.app.task(name="pay")
    def pay(amount: int) -> int:
        return amount

    entry = bench.app.entry(pay.s(5))
    runner = bench.runner()
    assert runner.run(bench.lease(entry), bench.place).kind == "ack"
    tampered = entry._replace(payload=entry.payload.replace(b"[5]", b"[6]"))
    unsigned = entry._replace(payload=entry.payload.split(b"\n")[0])
    replayed = entry._replace(id="other")
    for bad in (tampered, unsigned, replayed):
        assert runner.run(bench.lease(bad), bench.place).reason == "unsigned"


def test_rotated_key_still_verifies() -> None:
    old = Bench(signing_keys=["old" * 8])
    new = Bench(signing_keys=["new" * 8, "old" * 8])
    for bench in (old, new):
        bench.app.task(name="pay")(lambda: None)
    lease = old.lease(old.app.entry(old.app.registry["pay"].s()))
    assert new.runner().run(lease, new.place).kind == "ack"


def test_exception_with_a_broken_str_is_still_reported(bench: Bench) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @bench.app.task
    def fail() -> None:
        raise Broken

    assert "its __str__ raised RuntimeError" in bench.run(fail.s()).marks.error


def test_signals_tell_the_story_and_a_raising_handler_harms_nobody(bench: Bench) -> None:
    heard: list[str] = []

    @bench.app.signal()
    def listen(signal: str, job: Any, exc: BaseException | None = None) -> None:
        heard.append(signal)
        raise RuntimeError("handler")

    @bench.app.task
    def add() -> None: ...

    assert bench.run(add.s()).kind == "ack"
    assert heard == ["executing", "complete"]


def test_each_way_back_to_the_queue_is_told_with_its_reason(bench: Bench) -> None:
    heard: list[tuple[str, str]] = []

    @bench.app.signal("interrupted", "requeued", "scheduled", "retrying")
    def listen(signal: str, job: Any, exc: Any = None) -> None:
        heard.append((signal, getattr(job, "reason", "")))

    @bench.app.task
    def stop() -> None:
        raise JobInterrupted

    @bench.app.task(retries=1, retry_delay=5)
    def fail() -> None:
        raise ValueError

    bench.run(stop.s())
    bench.app.listeners.flush(20)
    bench.run(fail.s())
    assert heard == [
        ("interrupted", "interrupted"),
        ("requeued", "interrupted"),
        ("retrying", ""),
        ("scheduled", "retry"),
    ]


def test_pre_execute_hook_may_cancel_and_post_execute_sees_the_end(bench: Bench) -> None:
    seen: list[Any] = []

    @bench.app.pre_execute()
    def veto(job: Any) -> None:
        raise CancelExecution("closed")

    @bench.app.post_execute()
    def after(job: Any, value: Any, exc: BaseException | None) -> None:
        seen.append(type(exc))

    @bench.app.task
    def sell() -> None: ...

    assert bench.run(sell.s()).kind == "cancel"
    assert seen == [CancelExecution]


def test_context_parameter_gets_the_current_job(bench: Bench) -> None:
    @bench.app.task(context=True)
    def who(job: Any = None) -> str:
        assert job is current_job()
        return str(job.attempt)

    assert bytes(decode_answer(bench.run(who.s()).answer).value) == b'"1"'


def test_current_job_outside_a_task_is_an_error() -> None:
    with pytest.raises(LookupError, match="inside a task"):
        current_job()


def test_ack_each_is_told_before_the_job_runs(bench: Bench) -> None:
    @bench.app.task(ack="each")
    def pay() -> None: ...

    @bench.app.task
    def look() -> None: ...

    runner = bench.runner()
    assert runner.acks_each(bench.lease(bench.app.entry(pay.s())))
    assert not runner.acks_each(bench.lease(bench.app.entry(look.s())))


def test_job_runs_on_an_event_loop_too(bench: Bench) -> None:
    @bench.app.task
    async def wait() -> int:
        await asyncio.sleep(0)
        return current_job().attempt

    lease = bench.lease(bench.app.entry(wait.s()))
    outcome = asyncio.run(bench.runner().arun(lease, bench.place))
    assert outcome.kind == "ack"


def test_a_dead_letter_tells_what_happened_without_its_answer(bench: Bench) -> None:
    @bench.app.task
    def fail() -> None:
        raise ValueError("x")

    outcome = bench.run(fail.s())
    first, _, stack = outcome.marks.error.partition("\n")
    assert first == "ValueError: x"
    assert "in fail" in stack
