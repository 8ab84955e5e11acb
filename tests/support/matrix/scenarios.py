"""What can happen to a daemon, and how it must end: one function for each scenario."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from taskqd.errors import JobDead, TaskFailed
from tests.support.matrix.yard import DOUBLES_MAX, GRACE_S, IMPORT_S, KINDS, Yard
from tests.support.rigs.daemon import Daemon
from tests.support.waiting import HANG_S, wait_until

HUPS = 50


def worker_pid(daemon: Daemon) -> int:
    """Return a worker that runs something."""
    for row in daemon.ask("status")["workers"]:
        if row.get("running"):
            return int(row["pid"])
    raise AssertionError("no worker is busy")


# -- workers -----------------------------------------------------------------------------------


def worker_killed(yard: Yard) -> None:
    with yard.open() as daemon:
        held = yard.hold(2)
        yard.send(20, 0.05)
        os.kill(worker_pid(daemon), signal.SIGKILL)
        daemon.wait("worker.crashed", signal="SIGKILL")
        for pid in daemon.worker_pids():
            # The other one, should it still hold what will not end by itself.
            if pid in {row["pid"] for row in daemon.ask("status")["workers"] if row.get("running")}:
                os.kill(pid, signal.SIGKILL)
        yard.all_done(DOUBLES_MAX)
        assert yard.attempts(held) == {2}


def _dies(yard: Yard, how: str, why: str) -> None:
    with yard.open() as daemon:
        yard.send(8, 0.1)
        culprit = yard.culprit(how)
        yard.send(8, 0.1)
        with pytest.raises(JobDead, match="poisoned") as raised:
            culprit.get(timeout=HANG_S)
        assert why in str(raised.value)
        assert daemon.events("worker.crashed")
        yard.all_done(DOUBLES_MAX)


def out_of_memory(yard: Yard) -> None:
    _dies(yard, "starve", "SIGKILL")


def segfaults(yard: Yard) -> None:
    _dies(yard, "segfault", "SIGSEGV")


def exits(yard: Yard) -> None:
    _dies(yard, "os._exit", "exited with 3")
    # What only one thread, greenlet or coroutine asks for ends its job and nothing else.
    with yard.open() as daemon:
        with pytest.raises(TaskFailed, match="SystemExit: 3"):
            yard.culprit("sys.exit").get(timeout=HANG_S)
        yard.send(8)
        yard.all_done(DOUBLES_MAX)
        assert not daemon.events("worker.crashed")


def _hangs(yard: Yard, how: str) -> None:
    with yard.open() as daemon:
        yard.send(8, 0.1)
        culprit = yard.culprit(how)
        yard.send(8, 0.1)
        with pytest.raises(TaskFailed, match="TaskTimeout: ran longer than"):
            culprit.get(timeout=HANG_S)
        info = culprit.info()
        assert (info["reason"], info["crashes"]) == ("timeout", 0)
        hung = daemon.wait("worker.hung")
        assert hung["task"].endswith("culprit")
        assert "matrix_app.py" in daemon.wait_stack(hung)
        yard.all_done(DOUBLES_MAX)


def hangs_in_python(yard: Yard) -> None:
    _hangs(yard, "spin")


def hangs_in_c(yard: Yard) -> None:
    _hangs(yard, "spin in C")


def ignores_signals(yard: Yard) -> None:
    _hangs(yard, "spin deaf")


def leaks(yard: Yard) -> None:
    limit = 120 * 1024 * 1024
    with yard.open(workers={**KINDS[yard.kind], "max_memory_bytes": limit}) as daemon:
        for _ in range(12):
            yard.culprit("leak").get(timeout=HANG_S)
        yard.send(8, 0.05)
        daemon.wait("worker.recycled")
        yard.all_done()
        assert not daemon.events("worker.crashed")


def forks_children(yard: Yard) -> None:
    with yard.open() as daemon:
        yard.culprit("fork").get(timeout=HANG_S)
        child = yard.child()
        held = yard.hold(2)
        for pid in daemon.worker_pids():
            os.kill(pid, signal.SIGKILL)
        daemon.wait("worker.crashed", signal="SIGKILL", count=2)
        wait_until(lambda: not os.path.exists(f"/proc/{child}"), what="the child to be gone")
        yard.all_done(DOUBLES_MAX)
        assert yard.attempts(held) == {2}
    # A stop leaves none behind either.
    with yard.open():
        yard.culprit("fork").get(timeout=HANG_S)


# -- master and zygote -------------------------------------------------------------------------


def master_killed(yard: Yard) -> None:
    with yard.open() as first:
        held = yard.hold(2)
        yard.send(20, 0.05)
        first.send("SIGKILL")
        assert first.exit_code() == -signal.SIGKILL
        assert first.no_process_is_left(), first.alive()
    with yard.open():
        yard.all_done()
        assert yard.attempts(held) == {2}


def zygote_killed(yard: Yard) -> None:
    with yard.open() as daemon, yard.load():
        os.kill(daemon.wait("zygote.spawned")["child_pid"], signal.SIGKILL)
        daemon.wait("zygote.loaded", count=2)
        os.kill(daemon.worker_pids()[0], signal.SIGKILL)
        daemon.wait("worker.ready", count=3)
    yard_is_done(yard, DOUBLES_MAX)


def yard_is_done(yard: Yard, doubles_max: int = 0) -> None:
    """Let another daemon run what the last one has handed back."""
    with yard.open():
        yard.all_done(doubles_max)


# -- stops -------------------------------------------------------------------------------------


def term_idle(yard: Yard) -> None:
    with yard.open() as daemon:
        yard.stop(daemon, "SIGTERM", in_s=GRACE_S)


def term_busy(yard: Yard) -> None:
    with yard.open() as daemon:
        held = yard.hold(2)
        yard.send(20, 0.05)
        yard.stop(daemon, "SIGTERM")
        assert daemon.events("master.stopped")[0]["interrupted"] == 2
    yard_is_done(yard)
    assert yard.attempts(held) == {2}


def term_twice(yard: Yard) -> None:
    with yard.open(shutdown={"grace_s": 600}) as daemon:
        held = yard.hold(2)
        yard.stop(daemon, "SIGTERM", "SIGTERM")
    yard_is_done(yard)
    assert yard.attempts(held) == {2}


def term_during_boot(yard: Yard) -> None:
    yard.send(8)
    for moment in ("master.started", "zygote.spawned", "worker.spawned"):
        with yard.daemon(env={"SLOW_IMPORT_S": "0.3"}) as daemon:
            daemon.wait(moment)
            yard.stop(daemon, "SIGTERM")
    yard_is_done(yard)


def term_during_reload(yard: Yard) -> None:
    for moment in ("zygote.spawned", "worker.ready"):
        with yard.open() as daemon:
            held = yard.send(20, 0.05)
            daemon.send("SIGHUP")
            daemon.wait(moment, generation=2)
            yard.stop(daemon, "SIGTERM")
            assert held
    yard_is_done(yard)


# -- reloads -----------------------------------------------------------------------------------


def hup_good(yard: Yard) -> None:
    with yard.open() as daemon:
        with yard.load():
            assert yard.version() == 1
            yard.write_source(2)
            daemon.send("SIGHUP")
            daemon.wait("master.reloaded")
            assert yard.version() == 2
        yard.all_done()
        assert not daemon.events("worker.crashed")


def _hup_fails(yard: Yard, extra: str, error: str) -> None:
    with yard.open() as daemon:
        with yard.load():
            yard.write_source(2, extra)
            daemon.send("SIGHUP")
            aborted = daemon.wait("reload.aborted")
            assert aborted["step"] == "import"
            assert error in aborted["error"]
            assert yard.version() == 1
        yard.all_done()


def hup_broken(yard: Yard) -> None:
    _hup_fails(yard, "def (:", "SyntaxError")


def hup_hanging(yard: Yard) -> None:
    _hup_fails(yard, "time.sleep(600)", f"not imported within {IMPORT_S:g} s")


def hup_many(yard: Yard) -> None:
    with yard.open() as daemon:
        with yard.load():
            for number in range(1, HUPS + 1):
                yard.write_source(number + 1)
                daemon.send("SIGHUP")
                daemon.wait("master.reloaded", count=number)
            assert yard.version() == HUPS + 1
        yard.all_done()
        assert not daemon.events("reload.aborted")
        assert not daemon.events("worker.crashed")


# -- quiet and scale ---------------------------------------------------------------------------


def quiet_and_resumed(yard: Yard) -> None:
    with yard.open() as daemon:
        with yard.load():
            for count in (1, 2):
                daemon.send("SIGTSTP")
                daemon.wait("master.quieted", count=count)
                daemon.send("SIGCONT")
                daemon.wait("master.resumed", count=count)
            daemon.send("SIGTSTP")
            daemon.wait("master.quieted", count=3)
            wait_until(lambda: daemon.ask("status")["busy"] == 0, what="all slots to be idle")
            before = len(yard.ledger.count("begin"))
            assert daemon.ask("probe", probe="ready")["up"] is False
            yard.send(4)
            assert len(yard.ledger.count("begin")) == before
            daemon.send("SIGCONT")
        yard.all_done()


def scaled(yard: Yard) -> None:
    with yard.open() as daemon:
        with yard.load():
            for number in (3, 4):
                daemon.send("SIGTTIN")
                wait_until(lambda n=number: daemon.ask("status")["ready"] == n, what="one more")
            for number in (3, 2, 1):
                daemon.send("SIGTTOU")
                wait_until(lambda n=number: daemon.ask("status")["wanted"] == n, what="one fewer")
            assert daemon.ask("scale", count=4)["ok"]
            wait_until(lambda: daemon.ask("status")["ready"] == 4, what="four workers")
            assert daemon.ask("scale", count=2)["ok"]
            wait_until(lambda: len(daemon.worker_pids()) == 2, what="two workers")
        yard.all_done()
        assert not daemon.events("worker.crashed")


SCENARIOS: dict[str, Callable[[Yard], None]] = {
    "worker killed": worker_killed,
    "hung in Python": hangs_in_python,
    "hung in C": hangs_in_c,
    "out of memory": out_of_memory,
    "leaks": leaks,
    "exits": exits,
    "segfaults": segfaults,
    "forks children": forks_children,
    "ignores signals": ignores_signals,
    "master killed": master_killed,
    "zygote killed": zygote_killed,
    "TERM idle": term_idle,
    "TERM busy": term_busy,
    "TERM twice": term_twice,
    "TERM during boot": term_during_boot,
    "TERM during reload": term_during_reload,
    "HUP good": hup_good,
    "HUP broken": hup_broken,
    "HUP hanging": hup_hanging,
    "HUP 50 times": hup_many,
    "TSTP and CONT": quiet_and_resumed,
    "scaled up and down": scaled,
}
