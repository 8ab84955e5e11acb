"""Why a child died, and how what it held is recovered."""

from __future__ import annotations

import importlib

import pytest

from taskqd.ipc.board import SlotView
from taskqd.supervisor.policy import verdict


def view(token: int) -> SlotView:
    return SlotView(0, token, 1_000_000_000, 3_500_000_000, f"job-{token}", "shop.slow")


KILLED = verdict.judge(-9, killed_for="timeout of shop.slow")


def test_the_job_that_was_late_counts_a_timeout_and_one_that_came_after_it_does_not() -> None:
    late = (view(7),)
    assert verdict.recovery_of(KILLED, [*late], late, interrupted=False) == (
        "timeout",
        "TaskTimeout: ran longer than 2.5 s",
        (),
    )
    assert verdict.recovery_of(KILLED, [view(6), *late], late, interrupted=False) == (
        "interrupted",
        "TaskTimeout: ran longer than 2.5 s",
        (7,),
    )
    assert verdict.recovery_of(KILLED, [view(8)], late, interrupted=False)[0] == "interrupted"


def test_jobs_of_a_worker_that_died_by_itself_are_orphaned() -> None:
    assert verdict.recovery_of(KILLED, [view(7)], (), interrupted=False)[0] == "orphaned"
    assert verdict.recovery_of(KILLED, [view(7)], (), interrupted=True)[0] == "interrupted"


def test_a_signal_is_named() -> None:
    found = verdict.judge(-11)
    assert (found.cause, found.signal, found.exit_code) == ("signal", "SIGSEGV", None)
    assert found.crashed


def test_sigkill_is_out_of_memory_only_where_the_kernel_says_so() -> None:
    assert verdict.judge(-9).cause == "signal"
    assert verdict.judge(-9, oom_kills=1).cause == "oom"
    assert verdict.judge(-15, oom_kills=1).cause == "signal"


def test_an_exit_that_nobody_asked_for_is_a_crash_even_with_0() -> None:
    found = verdict.judge(0)
    assert found.crashed
    assert "without having been told" in found.text


def test_a_worker_that_had_to_end_without_its_storage_was_said_to_have_ended_unasked() -> None:
    found = verdict.judge(verdict.UNSETTLED, stopping=True)
    assert found.text == "exited with 75: the storage was lost when it had to end"
    assert (found.cause, found.crashed) == ("unsettled", False)
    assert not verdict.judge(verdict.UNSETTLED, storage_lost=True).crashed
    unasked = verdict.judge(verdict.UNSETTLED)
    assert unasked.crashed
    assert "without having been told" in unasked.text


def test_a_drained_child_is_no_crash() -> None:
    assert not verdict.judge(0, drained=True).crashed


def test_a_killed_child_says_why_and_is_no_crash_during_a_stop() -> None:
    found = verdict.judge(-9, killed_for="hung: no beat for 11 s")
    assert found.text == "hung: no beat for 11 s: killed by SIGKILL"
    assert found.crashed
    assert not verdict.judge(-9, killed_for="stop: its grace is over", stopping=True).crashed


def test_a_failed_boot_keeps_its_reason() -> None:
    assert "no such table" in verdict.judge(70, boot_error="no such table").text


def test_the_verdict_on_jobs_says_how_many_ran_beside() -> None:
    views = [SlotView(n, n, 0, 0, f"j{n}", "t") for n in (1, 2, 3)]
    assert verdict.on_jobs(verdict.judge(-9), views[:1]) == "worker killed by SIGKILL"
    assert verdict.on_jobs(verdict.judge(-9), views).endswith("with 3 jobs running")


@pytest.mark.parametrize("name", verdict.OWN_THREADS)
def test_the_stacks_of_the_workers_own_threads_are_left_out(name: str) -> None:
    file = importlib.import_module(name).__file__
    own = f'Thread 0x1 (most recent call first):\n  File "{file}", line 3 in run'
    job = 'Thread 0x2 (most recent call first):\n  File "/app/shop.py", line 7 in slow'
    assert verdict.with_stack("late", f"{own}\n\n{job}\n") == f"late\n{job}"
