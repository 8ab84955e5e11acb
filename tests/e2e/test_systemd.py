"""The shipped units under a real systemd: start, readiness, stop, watchdog, recovery, reload."""

from __future__ import annotations

import time

import pytest

from tests.support.machines.machine import Machine
from tests.support.waiting import HANG_S, wait_until

from .conftest import Shop

LONG_LEASE = {"TASKQD_STORAGE__NODE_LEASE_S": 300}
"""What comes back sooner than its lease ends was put back by the unit's own recovery."""
CTL = "/opt/taskqd/bin/taskqctl"
NAME = "--name=taskqd"


def start(machine: Machine, unit: str = "taskqd") -> None:
    machine.run("systemctl", "start", unit)


def status_text(machine: Machine) -> str:
    return machine.show("taskqd", "StatusText")["StatusText"]


def restarts(machine: Machine, unit: str = "taskqd") -> int:
    return int(machine.show(unit, "NRestarts")["NRestarts"])


def is_active(machine: Machine, unit: str = "taskqd") -> bool:
    return machine.state(unit) == "active"


# -- the files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["taskqd.service", "taskqd@.service"])
def test_systemd_finds_no_fault_in_the_unit(machine: Machine, unit: str) -> None:
    done = machine.try_("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sandbox_is_the_one_that_was_rated(machine: Machine) -> None:
    start(machine)
    pid = machine.main_pid("taskqd")
    status = machine.run("cat", f"/proc/{pid}/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "Seccomp:\t2" in status
    assert "Uid:\t0" not in status


# -- start -----------------------------------------------------------------------------------------


def test_start_returns_when_a_worker_serves_and_may_take_longer_than_its_timeout(
    machine: Machine,
) -> None:
    # Long enough for an interpreter to start on a machine that others load.
    machine.drop_in("taskqd", "TimeoutStartSec=15")
    with machine.redis.frozen():
        starting = machine.begin("systemctl", "start", "taskqd")
        wait_until(lambda: "starting" in status_text(machine), "a status while it starts")
        time.sleep(17)  # longer than that
        assert machine.state("taskqd") == "activating"
        assert starting.poll() is None
    assert starting.wait(HANG_S) == 0
    assert machine.events("taskqd", "worker.ready")
    assert restarts(machine) == 0


def test_status_tells_how_many_workers_serve(machine: Machine, shop: Shop) -> None:
    start(machine)
    wait_until(lambda: status_text(machine) == "ready: 2 of 2 workers ready, 0 busy", "all idle")
    shop.order("a", seconds=3)
    wait_until(lambda: status_text(machine) == "ready: 2 of 2 workers ready, 1 busy", "one busy")


def test_a_bad_configuration_fails_with_its_line_and_is_not_tried_again(machine: Machine) -> None:
    done = machine.try_("systemctl", "start", "taskqd@broken")
    assert done.returncode != 0
    assert machine.show("taskqd@broken", "ActiveState", "ExecMainStatus", "NRestarts") == {
        "ActiveState": "failed",
        "ExecMainStatus": "78",
        "NRestarts": "0",
    }
    error = 'broken.toml:3: workers.cuont: unknown key; did you mean "count"?'
    assert machine.text("taskqd@broken").count(error) == 1


def test_sqlite_in_the_state_directory_works_in_the_sandbox(machine: Machine) -> None:
    url = "sqlite:////var/lib/taskqd/taskqd.db"
    machine.write("/run/sqlite.env", f"TASKQD_STORAGE={url}\n")
    machine.drop_in("taskqd", "EnvironmentFile=/run/sqlite.env")
    start(machine)
    order = (CTL, "enqueue", "work", "--args", '["a"]', "--queue", "default")
    machine.run(*order, "--namespace", "shop", "--storage", url)
    machine.ledger.wait_done(["a"])
    machine.run("systemctl", "stop", "taskqd")
    assert machine.show("taskqd", "Result")["Result"] == "success"


def test_two_instances_of_the_template_run_side_by_side(machine: Machine, shop: Shop) -> None:
    start(machine, "taskqd@one")
    start(machine, "taskqd@two")  # its storage is told by a credential
    nodes = {row.node.name for row in shop.app.nodes()}
    assert nodes == {"one@machine", "two@machine"}
    for name in ("one", "two"):
        assert machine.run(CTL, "probe", "ready", "--name", name) == "ready\n"
    machine.run("systemctl", "stop", "taskqd@one")
    assert is_active(machine, "taskqd@two")
    machine.ledger.wait_done(shop.order("a"))


# -- stop ------------------------------------------------------------------------------------------


def test_stop_is_clean_and_leaves_nothing(machine: Machine, shop: Shop) -> None:
    start(machine)
    machine.ledger.wait_done(shop.order("a", "b"))
    machine.run("systemctl", "stop", "taskqd")
    assert machine.show("taskqd", "Result", "ExecMainStatus") == {
        "Result": "success",
        "ExecMainStatus": "0",
    }
    assert shop.app.nodes() == []
    assert machine.try_("test", "-e", "/run/taskqd").returncode == 1
    assert "recover" not in machine.text("taskqd")


def test_stop_ends_in_time_and_requeues_what_would_take_longer(
    machine: Machine, shop: Shop
) -> None:
    start(machine)
    machine.ledger.wait_begun(shop.order("long-1", "long-2", seconds=300))
    shop.order("waiting")
    begun = time.monotonic()
    machine.run("systemctl", "stop", "taskqd")
    assert time.monotonic() - begun < 25  # grace 6 s, TimeoutStopSec 30
    assert machine.show("taskqd", "Result")["Result"] == "success"
    assert (shop.waiting(), shop.running()) == (3, 0)
    assert machine.ledger.count("end") == {}


def test_a_drain_longer_than_the_timeout_is_extended(machine: Machine, shop: Shop) -> None:
    machine.drop_in("taskqd", "TimeoutStopSec=2")
    machine.configure(TASKQD_SHUTDOWN__GRACE_S=20)
    start(machine)
    keys = shop.order("a", "b", seconds=6)
    machine.ledger.wait_begun(keys)
    machine.run("systemctl", "stop", "taskqd")
    assert machine.show("taskqd", "Result")["Result"] == "success"
    assert machine.ledger.count("end") == {"a": 1, "b": 1}
    assert machine.ledger.count("begin") == {"a": 1, "b": 1}


def test_a_stop_by_taskqctl_is_a_stop_for_systemd_too(machine: Machine, shop: Shop) -> None:
    machine.configure(TASKQD_SHUTDOWN__GRACE_S=20)
    start(machine)
    # Long enough for a loaded machine to look once while it stops.
    machine.ledger.wait_begun(shop.order("a", seconds=10))
    machine.run(CTL, "drain", NAME)
    wait_until(lambda: machine.state("taskqd") == "deactivating", "STOPPING=1 is heard")
    wait_until(lambda: machine.state("taskqd") == "inactive", "the drain is over")
    assert restarts(machine) == 0
    assert machine.ledger.count("end") == {"a": 1}


def test_quiet_is_no_stop(machine: Machine, shop: Shop) -> None:
    machine.drop_in("taskqd", "WatchdogSec=2")
    start(machine)
    machine.run(CTL, "quiet", NAME)
    wait_until(lambda: status_text(machine).startswith("quiet"), "a quiet status")
    shop.order("a")
    time.sleep(3)  # more than the watchdog's time: the loop feeds it all the same
    assert is_active(machine)
    assert machine.ledger.count("begin") == {}
    machine.run(CTL, "resume", NAME)
    machine.ledger.wait_done(["a"])
    assert restarts(machine) == 0


def test_the_journal_knows_the_priority_of_each_event(machine: Machine, shop: Shop) -> None:
    machine.configure(TASKQD_SHUTDOWN__GRACE_S=2)
    start(machine)
    machine.ledger.wait_begun(shop.order("a", seconds=300))
    machine.run("systemctl", "stop", "taskqd")
    by_priority = {event["event"]: event["priority"] for event in machine.events("taskqd")}
    assert by_priority["master.started"] == "6"
    assert by_priority["job.interrupted"] == "4"


# -- reload ----------------------------------------------------------------------------------------


def test_reload_returns_when_it_has_happened_and_loses_nothing(
    machine: Machine, shop: Shop
) -> None:
    start(machine)
    pid = machine.main_pid("taskqd")
    keys = shop.order(*(f"job-{n}" for n in range(30)), seconds=0.1)
    machine.ledger.wait_begun(keys[:2])
    machine.release('note("end", key', 'note("end", "new-" + key')
    machine.run("systemctl", "reload", "taskqd")
    (done,) = machine.events("taskqd", "master.reloaded")
    assert done["generation"] == 2
    machine.ledger.wait_done(f"new-{key}" for key in shop.order("after"))
    wait_until(lambda: not shop.waiting() + shop.running(), "all jobs are done")
    ended = machine.ledger.count("end")
    assert {key.removeprefix("new-") for key in ended} == {*keys, "after"}
    assert set(ended.values()) == {1}
    assert machine.main_pid("taskqd") == pid
    assert machine.state("taskqd") == "active"


def test_reload_to_broken_code_fails_with_its_step_and_the_old_code_serves(
    machine: Machine, shop: Shop
) -> None:
    start(machine)
    machine.release("def work", "def work(")
    assert machine.try_("systemctl", "reload", "taskqd").returncode != 0
    assert machine.events("taskqd", "reload.aborted")[0]["step"] == "import"
    assert machine.state("taskqd") == "active"
    machine.ledger.wait_done(shop.order("after"))
    assert restarts(machine) == 0


def test_systemd_253_reloads_by_itself_and_waits_for_the_end(machine: Machine, shop: Shop) -> None:
    if machine.version < 253:
        pytest.skip(f"Type=notify-reload needs systemd 253; this is {machine.version}")
    machine.drop_in("taskqd", "Type=notify-reload\nExecReload=")
    start(machine)
    machine.release('note("end", key', 'note("end", "new-" + key')
    machine.run("systemctl", "reload", "taskqd")
    assert len(machine.events("taskqd", "master.reloaded")) == 1
    machine.ledger.wait_done(f"new-{key}" for key in shop.order("after"))


# -- crashes ---------------------------------------------------------------------------------------


def test_a_killed_worker_is_the_masters_business(machine: Machine, shop: Shop) -> None:
    start(machine)
    machine.ledger.wait_begun(shop.order("a", seconds=8))

    def busy() -> list[int]:
        status = machine.json(CTL, "status", NAME, "--json")
        return [row["pid"] for row in status["workers"] if row.get("running")]

    (pid,) = wait_until(busy, "the master sees the job")
    machine.run("kill", "-KILL", str(pid))
    machine.ledger.wait_done(["a"])
    assert restarts(machine) == 0
    assert machine.events("taskqd", "worker.crashed")[0]["signal"] == "SIGKILL"


def test_a_killed_master_comes_back_and_its_jobs_at_once(machine: Machine, shop: Shop) -> None:
    machine.configure(**LONG_LEASE)
    start(machine)
    keys = shop.order("a", "b", seconds=1.5)
    machine.ledger.wait_begun(keys)
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "taskqd")
    machine.ledger.wait_done(keys)
    assert restarts(machine) == 1
    assert len(shop.app.nodes()) == 1


def test_a_stuck_master_is_aborted_and_nothing_is_lost(machine: Machine, shop: Shop) -> None:
    machine.drop_in("taskqd", "WatchdogSec=2")
    machine.configure(**LONG_LEASE)
    start(machine)
    keys = shop.order(*(f"job-{n}" for n in range(20)), seconds=0.5)
    machine.ledger.wait_begun(keys[:2])
    machine.run("kill", "-STOP", str(machine.main_pid("taskqd")))
    wait_until(lambda: restarts(machine) == 1, "the watchdog has ended it")
    wait_until(lambda: is_active(machine), "it is back")
    machine.ledger.wait_done(keys)
    text = machine.text("taskqd")
    assert "Watchdog timeout" in text
    assert "Fatal Python error: Aborted" in text, "where it was stuck stands in the journal"


def test_a_cgroup_that_is_killed_whole_loses_nothing(machine: Machine, shop: Shop) -> None:
    machine.configure(**LONG_LEASE)
    start(machine)
    keys = shop.order(*(f"job-{n}" for n in range(10)), seconds=0.3)
    machine.ledger.wait_begun(keys[:2])
    machine.run("systemctl", "kill", "--signal=KILL", "taskqd")
    machine.ledger.wait_done(keys)
    assert restarts(machine) == 1
    assert (shop.waiting(), shop.running()) == (0, 0)


def test_a_crash_puts_the_jobs_back_also_where_no_daemon_comes_back(
    machine: Machine, shop: Shop
) -> None:
    machine.drop_in("taskqd", "Restart=no")
    machine.configure(**LONG_LEASE)
    start(machine)
    machine.ledger.wait_begun(shop.order("a", "b", seconds=300))
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "taskqd")
    wait_until(lambda: machine.state("taskqd") == "failed", "the unit has failed")
    assert (shop.waiting(), shop.running()) == (2, 0)
    assert shop.app.nodes() == []


def test_a_crash_with_a_credential_is_recovered_by_the_next_start(
    machine: Machine, shop: Shop
) -> None:
    """It is systemd that keeps credentials from ExecStopPost (252 and 257)."""
    machine.drop_in("taskqd@two", "Environment=TASKQD_STORAGE__NODE_LEASE_S=300")
    start(machine, "taskqd@two")
    keys = shop.order("a", "b", seconds=1.5)
    machine.ledger.wait_begun(keys)
    machine.run("systemctl", "kill", "--signal=KILL", "taskqd@two")
    machine.ledger.wait_done(keys)
    assert restarts(machine, "taskqd@two") == 1


def test_a_second_crash_while_the_storage_was_away_loses_nothing(
    machine: Machine, shop: Shop
) -> None:
    machine.configure(**LONG_LEASE)
    start(machine)
    keys = shop.order("a", "b", seconds=1.0)
    machine.ledger.wait_begun(keys)
    with machine.redis.frozen():
        machine.run("systemctl", "kill", "--signal=KILL", "taskqd")
        wait_until(lambda: restarts(machine) == 1, "it starts again")
    wait_until(lambda: is_active(machine), "it serves again")
    machine.run("systemctl", "kill", "--signal=KILL", "taskqd")
    machine.ledger.wait_done(keys)
    wait_until(lambda: len(shop.app.nodes()) == 1, "no dead node is left")


def test_other_users_cannot_reach_the_socket(machine: Machine) -> None:
    start(machine)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = machine.try_(*nobody, CTL, "stop", NAME)
    assert done.returncode == 69
    assert is_active(machine)
