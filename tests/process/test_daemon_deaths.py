"""The whole daemon on real storages: whoever is killed, every job completes and nobody is left."""

from __future__ import annotations

import os
import signal

import pytest

from taskqd.errors import JobDead, TaskFailed
from tests.support.apps import shop as tasks
from tests.support.apps.changing import constant
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop
from tests.support.waiting import HANG_S, wait_until

NEVER = {"node_lease_s": 600}
"""Whoever waits for the end of the node's lease waits for ever."""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("shop", ["sqlite", "redis", "cluster"], indirect=True)
def test_the_job_of_a_killed_worker_runs_again_at_once(shop: Shop) -> None:
    with shop.open(storage=NEVER) as daemon:
        results = [tasks.hold(n) for n in range(2)]
        for pid in shop.begun(2):
            kill(pid)
        ended = [result.get(timeout=HANG_S) for result in results]
        for history in ended:
            assert history == {"attempt": 2, "failures": 0, "interruptions": 0, "crashes": 1}
        assert daemon.stop() == 0


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_kills_in_a_row_of_a_worker_that_serves_did_add_up_to_a_long_wait(shop: Shop) -> None:
    # Who would wait at all, waits for minutes.
    waits = [constant(f"policy.respawn.{name}", 6e3) for name in ("FIRST_S", "LONGEST_S")]
    with shop.open(*waits, workers={"count": 1}) as daemon:
        for number in range(6):
            assert tasks.quick(number).get(timeout=HANG_S) == number
            # The answer comes before the worker counts the job, by which it has proven itself.
            wait_until(lambda: daemon.ask("top")["workers"][0]["jobs"]["done"], "the count")
            kill(daemon.worker_pids()[0])
            daemon.wait("worker.crashed", count=number + 1)
        assert daemon.stop() == 0


def test_jobs_beside_a_killer_in_one_worker_lose_no_retry(shop: Shop) -> None:
    workers = {"count": 1, "type": "thread", "concurrency": 4}
    with shop.open(workers=workers) as daemon:
        innocent = [tasks.hold(n) for n in range(3)]
        shop.begun(3)
        killer = tasks.die()
        for result in innocent:
            assert result.get(timeout=HANG_S)["failures"] == 0
        with pytest.raises(JobDead, match="poisoned"):
            killer.get(timeout=HANG_S)
        # Once for all of them together, then alone until the budget is spent.
        assert shop.notes().count("die") == 3
        assert daemon.stop() == 0


def test_a_job_that_kills_its_worker_each_time_is_buried_with_the_signal(shop: Shop) -> None:
    with shop.open() as daemon:
        killer, others = tasks.die(), [tasks.quick(n) for n in range(20)]
        with pytest.raises(JobDead, match=r"poisoned.*SIGKILL"):
            killer.get(timeout=HANG_S)
        assert [result.get(timeout=HANG_S) for result in others] == list(range(20))
        assert shop.notes().count("die") == 3
        dead = shop.info(killer)
        assert (dead["state"], dead["reason"], dead["attempts"]) == ("dead", "poisoned", 3)
        assert len(daemon.events("worker.crashed", signal="SIGKILL")) == 3
        assert daemon.stop() == 0


def test_a_killer_that_waits_at_the_first_start_does_not_end_the_daemon(shop: Shop) -> None:
    killers = [tasks.die() for _ in range(2)]
    with shop.daemon(workers={"count": 1}) as daemon:
        for killer in killers:
            with pytest.raises(JobDead, match="poisoned"):
                killer.get(timeout=HANG_S)
        assert tasks.quick(1).get(timeout=HANG_S) == 1
        assert daemon.stop() == 0


def test_a_job_past_its_timeout_is_killed_and_its_stack_is_in_the_log(shop: Shop) -> None:
    with shop.open() as daemon:
        result = tasks.endless()
        with pytest.raises(TaskFailed, match="TaskTimeout: ran longer than 1 s") as raised:
            result.get(timeout=HANG_S)
        assert raised.value.type_name == "TaskTimeout"
        assert str(raised.value) == "TaskTimeout: ran longer than 1 s"
        dead = shop.info(result)
        for stack in (raised.value.traceback, dead["traceback"]):
            assert "in endless" in stack
            assert "worker/leasing/loop.py" not in stack
        assert (dead["reason"], dead["attempts"], dead["crashes"]) == ("timeout", 1, 0)
        hung = daemon.wait("worker.hung")
        assert hung["task"].endswith("endless")
        assert "shop.py" in daemon.wait_stack(hung)
        assert daemon.stop() == 0


def test_a_timeout_counts_as_a_failure_and_is_retried(shop: Shop) -> None:
    with shop.open() as daemon:
        assert tasks.slow_at_first().get(timeout=HANG_S) == {
            "attempt": 2,
            "failures": 1,
            "interruptions": 0,
            "crashes": 0,
        }
        assert daemon.stop() == 0


def test_a_plain_function_past_its_timeout_in_an_asyncio_worker_leaves_its_stack(
    shop: Shop,
) -> None:
    with shop.open(workers={"count": 1, "type": "asyncio", "concurrency": 2}) as daemon:
        late = tasks.endless()
        with pytest.raises(TaskFailed, match="TaskTimeout: ran longer than 1 s") as raised:
            late.get(timeout=30)
        assert "in endless" in raised.value.traceback
        assert "in endless" in shop.info(late)["traceback"]
        assert daemon.stop() == 0


def test_a_timeout_in_a_thread_costs_its_siblings_nothing(shop: Shop) -> None:
    workers = {"count": 1, "type": "thread", "concurrency": 4}
    with shop.open(workers=workers) as daemon:
        siblings = [tasks.nap(n, 2.5) for n in range(2)]
        late, again = tasks.endless(), tasks.slow_at_first()
        for result in siblings:
            assert result.get(timeout=HANG_S) == {
                "attempt": 1,
                "failures": 0,
                "interruptions": 0,
                "crashes": 0,
            }
        with pytest.raises(TaskFailed, match="TaskTimeout: ran longer than 1 s") as raised:
            late.get(timeout=HANG_S)
        assert "in endless" in raised.value.traceback
        assert again.get(timeout=HANG_S)["failures"] == 1
        assert "endless" in daemon.wait_stack(daemon.wait("worker.hung"))
        assert daemon.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_a_job_that_lets_no_other_thread_run_is_left_alone_and_a_frozen_worker_is_not(
    shop: Shop,
) -> None:
    with shop.open() as daemon:
        hog, frozen = tasks.hog(13.0), tasks.freeze()
        assert frozen.get(timeout=HANG_S)["crashes"] == 1
        assert hog.get(timeout=HANG_S)["attempt"] == 1
        hung = daemon.events("worker.hung")
        assert [event["task"].rpartition(".")[2] for event in hung] == ["freeze"]
        assert daemon.stop() == 0


def test_a_program_that_a_killed_job_has_started_does_not_go_on(shop: Shop) -> None:
    with shop.open() as daemon:
        result = tasks.parent_of_orphans()
        (program,) = shop.begun(1)
        kill(worker_of(daemon, result.id))
        assert result.get(timeout=HANG_S)["attempt"] == 2
        wait_until(lambda: not os.path.exists(f"/proc/{program}"))
        assert daemon.stop() == 0


def worker_of(daemon: Daemon, job_id: str) -> int:
    for row in daemon.ask("status")["workers"]:
        if any(job["job_id"] == job_id for job in row.get("running", ())):
            return int(row["pid"])
    raise AssertionError(f"nobody runs {job_id}")


@pytest.mark.parametrize("who", ["zygote", "scheduler"])
def test_running_jobs_do_not_notice_that_the_zygote_or_the_scheduler_dies(
    shop: Shop,
    who: str,
) -> None:
    with shop.open() as daemon:
        running = tasks.nap(1, 2.0)
        shop.begun(1)
        if who == "zygote":
            kill(daemon.events("zygote.spawned")[0]["child_pid"])
            daemon.wait("zygote.loaded", count=2)
        else:
            kill(daemon.ask("status")["scheduler"]["pid"])
            daemon.wait("scheduler.ready", count=2)
        assert running.get(timeout=HANG_S)["attempt"] == 1
        held = tasks.hold(2)
        kill(shop.begun(2)[1])
        assert held.get(timeout=HANG_S)["crashes"] == 1
        assert daemon.stop() == 0


def test_a_frozen_scheduler_is_replaced_and_jobs_go_on(shop: Shop) -> None:
    with shop.open() as daemon:
        os.kill(daemon.ask("status")["scheduler"]["pid"], signal.SIGSTOP)
        daemon.wait("scheduler.ready", count=2)
        assert tasks.quick(1).get(timeout=HANG_S) == 1
        assert daemon.stop() == 0


def test_a_killed_master_leaves_no_process_and_its_successor_finishes_the_jobs(
    shop: Shop,
) -> None:
    with shop.open(shutdown={"grace_s": 2}) as first:
        results = [tasks.hold(n) for n in range(2)]
        shop.begun(2)
        results += [tasks.nap(n, 0.0) for n in range(4)]
        first.send("SIGKILL")
        assert first.exit_code() == -signal.SIGKILL
        with shop.open() as second:
            for result in results:
                assert result.get(timeout=HANG_S)["failures"] == 0
            assert second.stop() == 0
        assert first.no_process_is_left()


def test_after_everything_was_killed_at_once_a_fresh_start_loses_nothing(shop: Shop) -> None:
    with shop.open(storage=NEVER) as first:
        results = [tasks.hold(n) for n in range(2)]
        shop.begun(2)
        results += [tasks.nap(n, 0.0) for n in range(4)]
        for process in first.alive():
            process.kill()
        first.exit_code()
        with shop.open() as second:
            for result in results:
                assert result.get(timeout=HANG_S)["failures"] == 0
            assert second.stop() == 0


def test_workers_that_cannot_boot_end_the_daemon_with_the_reason(shop: Shop) -> None:
    with shop.daemon(env={"SHOP_HOOK": "1"}) as daemon:
        assert daemon.exit_code() == 70
        assert "SIGSEGV" in daemon.events("master.failed")[0]["error"]
