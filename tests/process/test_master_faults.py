"""A real master, and children that break every rule: tests/support/rigs/fake_zygote.py."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.rigs.daemon import Daemon, fake_daemon, heard
from tests.support.waiting import wait_until


def kill(pid: int, name: str = "SIGKILL") -> None:
    os.kill(pid, signal.Signals[name])


def ready(daemon: Daemon) -> Daemon:
    daemon.wait("master.ready")
    return daemon


# -- life ------------------------------------------------------------------------------------------


def test_it_gets_ready_and_stops_with_0_and_leaves_nothing(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        assert daemon.stop() == 0
        assert daemon.no_process_is_left()
        assert not Path(daemon.socket).exists()
        assert len(daemon.events("worker.drained")) == 2


def test_an_app_that_does_not_import_is_reported_once_and_exits_78(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"zygote": "fail"}) as daemon:
        assert daemon.exit_code() == 78
        rejected = daemon.events("app.rejected")
        assert len(rejected) == 1
        assert rejected[0]["error"] == "No module named 'shop'"


def test_an_import_that_kills_its_process_is_tried_three_times_and_exits_78(
    tmp_path: Path,
) -> None:
    with fake_daemon(tmp_path, {"zygote": "crash"}) as daemon:
        assert daemon.exit_code() == 78
        exits = daemon.events("zygote.exited")
        assert [e["signal"] for e in exits] == ["SIGSEGV"] * 3


def test_term_while_the_app_is_still_importing_stops_at_once(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"zygote": "hang"}) as daemon:
        daemon.wait("zygote.spawned")
        assert daemon.stop() == 0


def test_a_zygote_that_talks_nonsense_is_killed_and_replaced(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"zygote": "garbage", "zygote_once": True}) as daemon:
        ready(daemon)
        assert "no message" in daemon.events("zygote.killed")[0]["reason"]
        assert daemon.stop() == 0


def test_workers_that_never_boot_end_the_daemon_with_70(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["boot_fail"]}) as daemon:
        assert daemon.exit_code() == 70
        assert "on_startup raised" in daemon.events("master.failed")[0]["error"]


def test_workers_that_are_killed_at_boot_end_the_daemon_with_70(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["boot_crash"]}) as daemon:
        assert daemon.exit_code() == 70
        assert "SIGKILL" in daemon.events("master.failed")[0]["error"]


def test_a_storage_that_is_never_reached_ends_the_daemon_with_69(tmp_path: Path) -> None:
    lost = {"scheduler": ["lost"]}
    with fake_daemon(tmp_path, lost, storage={"connect_wait_s": 1.0}) as daemon:
        assert daemon.exit_code() == 69
        assert "connection refused" in daemon.events("master.failed")[0]["error"]


def test_one_worker_that_cannot_boot_leaves_the_others_serving(tmp_path: Path) -> None:
    fake = {"worker": ["boot_fail"], "first_only": True}
    with fake_daemon(tmp_path, fake) as daemon:
        ready(daemon)
        assert len(daemon.events("worker.boot_failed")) == 1
        assert daemon.stop() == 0


# -- deaths ----------------------------------------------------------------------------------------


def test_the_jobs_of_a_killed_worker_are_ordered_back_and_it_is_replaced(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy"]}) as daemon:
        ready(daemon)
        kill(daemon.worker_pids()[0])
        crashed = daemon.wait("worker.crashed")
        assert (crashed["signal"], crashed["jobs_held"]) == ("SIGKILL", ["job-7"])
        daemon.wait("worker.ready", count=3)
        orders = wait_until(lambda: heard(tmp_path, "scheduler", "takeback"), "an order")
        assert [(o["how"], o["running"]) for o in orders] == [("orphaned", [7])]
        assert "SIGKILL" in orders[0]["verdict"]
        wait_until(lambda: daemon.ask("status")["debts"] == 0, "the jobs to be back")


def test_a_killed_zygote_costs_no_worker(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        before = daemon.worker_pids()
        kill(daemon.events("zygote.spawned")[0]["child_pid"])
        daemon.wait("zygote.loaded", generation=2)
        assert daemon.worker_pids() == before
        kill(before[0])
        daemon.wait("worker.ready", generation=2)
        assert daemon.stop() == 0


def test_a_killed_scheduler_is_replaced(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        kill(daemon.ask("status")["scheduler"]["pid"])
        daemon.wait("scheduler.ready", count=2)
        assert daemon.events("scheduler.replaced")
        assert daemon.stop() == 0


def test_a_scheduler_that_stops_beating_is_replaced(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        kill(daemon.ask("status")["scheduler"]["pid"], "SIGSTOP")
        daemon.wait("scheduler.ready", count=2)
        assert "no beat" in daemon.events("scheduler.replaced")[0]["reason"]
        assert daemon.stop() == 0


def test_a_crash_while_the_scheduler_is_away_is_paid_by_the_next_one(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy"]}) as daemon:
        ready(daemon)
        status = daemon.ask("status")
        kill(status["scheduler"]["pid"])
        kill(status["workers"][0]["pid"])
        wait_until(lambda: heard(tmp_path, "scheduler", "takeback"))
        wait_until(lambda: daemon.ask("status")["debts"] == 0)


def test_everything_killed_but_the_master_comes_back(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        for process in daemon.alive():
            if process.pid != daemon.pid:
                process.kill()
        daemon.wait("zygote.loaded", count=2)
        daemon.wait("worker.ready", count=4)
        assert daemon.stop() == 0


def test_nothing_survives_a_killed_master(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        daemon.send("SIGKILL")
        assert daemon.exit_code() == -signal.SIGKILL
        assert daemon.no_process_is_left()


@pytest.mark.parametrize(
    ("habit", "reason"),
    [("garbage", "no message"), ("leave", "channel is broken")],
)
def test_a_worker_that_breaks_the_protocol_is_replaced(
    tmp_path: Path,
    habit: str,
    reason: str,
) -> None:
    fake = {"worker": [habit], "first_only": True}
    with fake_daemon(tmp_path, fake) as daemon:
        daemon.wait("worker.ready", count=3)
        # It may exit by itself, before the signal, when its channel is closed.
        assert reason in daemon.events("worker.crashed")[0]["verdict"]
        assert daemon.stop() == 0


def test_a_job_past_its_deadline_costs_its_worker_and_shows_the_stack(tmp_path: Path) -> None:
    fake = {"worker": ["overdue"], "first_only": True}
    with fake_daemon(tmp_path, fake) as daemon:
        hung = daemon.wait("worker.hung")
        assert (hung["job_id"], hung["task"]) == ("job-8", "shop.endless")
        assert "fake_zygote.py" in daemon.wait_stack(hung)
        wait_until(lambda: heard(tmp_path, "scheduler", "takeback"))
        order = heard(tmp_path, "scheduler", "takeback")[0]
        assert (order["how"], order["running"]) == ("timeout", [8])
        assert order["verdict"].startswith("TaskTimeout: ran longer than 1 s\n")
        assert daemon.stop() == 0


def test_status_and_log_kept_the_broken_connection_when_the_password_was_the_cause(
    tmp_path: Path,
) -> None:
    with fake_daemon(tmp_path, {"worker": ["refused"]}) as daemon:
        daemon.wait("storage.lost", count=2)
        wait_until(lambda: daemon.ask("status")["workers"][0]["storage_error"] == "NOAUTH")
        told = [event["error"] for event in daemon.events("storage.lost")]
        assert told == ["the connection broke", "NOAUTH"]
        assert daemon.stop() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_an_outage_never_ended_in_the_log_when_who_had_met_it_was_replaced(
    tmp_path: Path, count: int
) -> None:
    fake = {"worker": ["refused"], "first_only": True}
    with fake_daemon(tmp_path, fake, workers={"count": count}) as daemon:
        daemon.wait("storage.lost", count=2)
        rows = daemon.ask("status")["workers"]
        (pid,) = [row["pid"] for row in rows if row["storage_error"]]
        assert not daemon.events("storage.restored")
        os.kill(pid, signal.SIGKILL)
        assert daemon.wait("storage.restored")["down_s"] > 0
        assert daemon.stop() == 0
        assert len(daemon.events("storage.restored")) == 1


# -- stop ------------------------------------------------------------------------------------------


def test_a_busy_worker_is_interrupted_when_half_of_a_short_grace_is_over(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy"]}, shutdown={"grace_s": 2}) as daemon:
        ready(daemon)
        assert daemon.stop() == 0
        stopped = daemon.events("master.stopped")[0]
        assert stopped["interrupted"] == 2
        assert stopped["took_s"] < 10
        assert len(daemon.events("worker.stacks")) == 2


def test_a_second_term_ends_the_drain(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy"]}, shutdown={"grace_s": 600}) as daemon:
        ready(daemon)
        daemon.send("SIGTERM")
        daemon.wait("master.draining")
        assert daemon.stop() == 0
        assert daemon.events("master.stopped")[0]["interrupted"] == 2


def test_quit_interrupts_at_once(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy"]}, shutdown={"grace_s": 600}) as daemon:
        ready(daemon)
        daemon.send("SIGQUIT")
        assert daemon.exit_code() == 0
        assert daemon.events("master.stopped")[0]["interrupted"] == 2


def test_a_third_term_kills_now_and_what_was_held_is_still_given_back(tmp_path: Path) -> None:
    fake = {"worker": ["busy", "deaf", "stubborn"]}
    with fake_daemon(tmp_path, fake, shutdown={"grace_s": 600}) as daemon:
        ready(daemon)
        for count in (1, 2, 3):
            daemon.send("SIGTERM")
            daemon.wait("signal.received", signal="SIGTERM", count=count)
        assert daemon.exit_code() == 0
        orders = heard(tmp_path, "scheduler", "takeback")
        assert [(o["how"], o["running"]) for o in orders] == [("interrupted", [7])] * 2
        assert daemon.events("master.stopped")[0]["owed"] == 0


def test_workers_that_hear_nothing_and_ignore_term_are_killed_within_the_grace(
    tmp_path: Path,
) -> None:
    fake = {"worker": ["busy", "deaf", "stubborn"]}
    with fake_daemon(tmp_path, fake, shutdown={"grace_s": 3}) as daemon:
        ready(daemon)
        assert daemon.stop() == 0
        assert daemon.events("master.stopped")[0]["took_s"] < 10
        orders = heard(tmp_path, "scheduler", "takeback")
        assert [o["how"] for o in orders] == ["interrupted"] * 2
        assert {e["signal"] for e in daemon.events("worker.killed")} == {"SIGTERM", "SIGKILL"}


def test_a_stop_ends_in_time_when_everybody_is_frozen(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, shutdown={"grace_s": 3}) as daemon:
        ready(daemon)
        for process in daemon.alive():
            if process.pid != daemon.pid:
                process.suspend()
        assert daemon.stop() == 0
        assert daemon.events("master.stopped")[0]["took_s"] < 10
        assert daemon.no_process_is_left()


def test_the_scheduler_is_replaced_during_a_drain(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy"]}, shutdown={"grace_s": 600}) as daemon:
        ready(daemon)
        scheduler = daemon.ask("status")["scheduler"]["pid"]
        daemon.send("SIGTERM")
        daemon.wait("master.draining")
        kill(scheduler)
        daemon.wait("scheduler.ready", count=2)
        assert daemon.stop() == 0


def test_the_scheduler_retires_after_the_last_worker(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        assert daemon.stop() == 0
        assert len(heard(tmp_path, "scheduler", "drain")) == 1
        assert len(heard(tmp_path, "scheduler", "retire")) == 1
        exits = [e["worker"] for e in daemon.events("worker.exited")]
        assert exits[-1] == "scheduler"


def test_burst_ends_when_every_worker_says_empty(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["empty"]}, burst=True) as daemon:
        assert daemon.exit_code() == 0
        assert daemon.events("master.draining")[0]["signal"] == "burst"


def test_term_to_the_whole_family_at_once_is_a_stop_like_any_other(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy", "stubborn"]}, shutdown={"grace_s": 3}) as daemon:
        ready(daemon)
        for process in daemon.alive():
            process.terminate()
        assert daemon.exit_code() == 0
        stopped = daemon.events("master.stopped")[0]
        assert (stopped["interrupted"], stopped["owed"]) == (2, 0)
        assert daemon.no_process_is_left()


@pytest.mark.parametrize("after_ms", [0, 10, 20, 40, 60, 100])
def test_term_at_any_moment_of_the_start_is_a_stop(tmp_path: Path, after_ms: int) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.wait("master.started")
        time.sleep(after_ms / 1000)  # the fault itself
        assert daemon.stop() == 0
        assert daemon.no_process_is_left()


# -- guards ----------------------------------------------------------------------------------------


def test_a_frozen_family_is_not_blamed_when_it_wakes_up(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        family = [p for p in daemon.alive() if p.pid != daemon.pid]
        daemon.send("SIGSTOP")
        for process in family:
            process.suspend()
        time.sleep(5)  # the fault itself: nobody runs for longer than a scheduler's patience
        daemon.send("SIGCONT")
        for process in family:
            process.resume()
        daemon.wait("master.slept")
        assert daemon.ask("status")["state"] == "ready"
        assert not daemon.events("scheduler.replaced")
        assert daemon.stop() == 0


def test_an_orphan_left_to_the_master_is_reaped(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, {"worker": ["litter"]}) as daemon:
        ready(daemon)
        daemon.wait("process.reaped", exit_code=3)
        assert daemon.stop() == 0


def test_without_free_descriptors_it_tries_again_and_leaks_none(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        ready(daemon)
        master = psutil.Process(daemon.pid)
        open_before = master.num_fds()
        limits = master.rlimit(psutil.RLIMIT_NOFILE)
        # What the dead worker frees is not enough for a new one.
        victim = daemon.worker_pids()[0]
        wait_until(lambda: master.num_fds() == open_before)
        master.rlimit(psutil.RLIMIT_NOFILE, (open_before - 2, limits[1]))
        kill(victim)
        daemon.wait("spawn.failed", count=2)
        assert "LimitNOFILE" in daemon.events("spawn.failed")[0]["error"]
        master.rlimit(psutil.RLIMIT_NOFILE, limits)
        daemon.wait("worker.ready", count=3)
        wait_until(lambda: master.num_fds() == open_before)
        assert daemon.stop() == 0


def test_signals_that_were_ignored_by_who_started_us_work(tmp_path: Path) -> None:
    daemon = fake_daemon(tmp_path)
    daemon._argv = ["sh", "-c", 'trap "" TERM INT HUP CHLD USR1; exec "$@"', "sh", *daemon._argv]
    with daemon:
        ready(daemon)
        kill(daemon.worker_pids()[0])
        daemon.wait("worker.ready", count=3)
        assert daemon.stop() == 0


def test_it_works_with_every_standard_file_closed(tmp_path: Path) -> None:
    daemon = fake_daemon(tmp_path, log={"file": str(tmp_path / "log.jsonl")})
    daemon._argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *daemon._argv]
    with daemon:
        ready(daemon)
        assert daemon.stop() == 0
