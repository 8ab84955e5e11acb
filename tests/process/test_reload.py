"""Reload over real processes: the new generation proves itself, or the old one stays."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import reloads
from tests.support.apps.changing import Changing, constant, in_settings, workers, zygotes
from tests.support.rigs.daemon import Daemon
from tests.support.servers.storages import open_backend
from tests.support.waiting import HANG_S, wait_until


@pytest.fixture(params=["sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Changing]:
    with open_backend(request.param, tmp_path) as backend:
        changing = Changing(tmp_path, backend.url)
        yield changing
        changing.close()


def ready(daemon: Daemon) -> Daemon:
    daemon.wait("master.ready")
    return daemon


def test_new_code_and_new_workers_serve_after_a_reload(app: Changing) -> None:
    with app.daemon() as daemon:
        ready(daemon)
        assert app.runs() == 1
        before, scheduler = daemon.worker_pids(), daemon.ask("status")["scheduler"]["pid"]
        app.write_source(2)
        daemon.send("SIGHUP")
        assert daemon.wait("master.reloaded")["generation"] == 2
        assert app.runs() == 2
        wait_until(lambda: not {*before} & {*daemon.worker_pids()}, what="old workers to leave")
        assert [row["generation"] for row in workers(daemon)] == [2, 2]
        now = daemon.ask("status")
        assert now["scheduler"]["pid"] != scheduler
        assert (now["wanted"], now["generation"]) == (2, 2)
        assert len(zygotes(daemon)) <= 1
        assert not daemon.events("worker.crashed")
        assert daemon.stop() == 0


IMPORT_S = 10.0
BROKEN = {
    "syntax": ("def (:", "import", "SyntaxError"),
    "hang": ("time.sleep(600)", "import", f"not imported within {IMPORT_S:g} s"),
    "death": ("os.kill(os.getpid(), signal.SIGSEGV)", "import", "killed by SIGSEGV"),
    "boot": (
        "@app.on_startup()\ndef crash() -> None:\n    os.kill(os.getpid(), signal.SIGSEGV)",
        "boot",
        "the canary killed by SIGSEGV",
    ),
    "name": ('app = App("other")', "import", "'other'"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_generation_is_given_up_and_the_old_one_stays(app: Changing, fault: str) -> None:
    extra, step, error = BROKEN[fault]
    with app.daemon(constant("policy.reload.IMPORT_S", IMPORT_S)) as daemon:
        ready(daemon)
        before = daemon.worker_pids()
        app.write_source(2, extra)
        daemon.send("SIGHUP")
        aborted = daemon.wait("reload.aborted")
        assert aborted["step"] == step
        assert error in aborted["error"]
        assert app.runs() == 1
        wait_until(lambda: len(zygotes(daemon)) <= 1, what="the new zygote to be gone")
        assert daemon.worker_pids() == before
        assert daemon.ask("probe", probe="ready")["up"]
        app.write_source(3)
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        assert app.runs() == 3
        assert daemon.stop() == 0


DIES_LATE = """
@app.on_startup()
def crash() -> None:
    fd = os.open("boots", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b".")
    if os.fstat(fd).st_size >= 3:
        os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_a_generation_whose_third_worker_dies_is_rolled_back(app: Changing) -> None:
    with app.daemon(workers={"count": 4}) as daemon:
        ready(daemon)
        results = [app.write(n, 0.05) for n in range(100)]
        app.write_source(2, DIES_LATE)
        in_settings(daemon, workers={"max_jobs": 7})
        daemon.send("SIGHUP")
        assert daemon.wait("reload.rolled_back")["step"] == "boot"
        aborted = daemon.wait("reload.aborted")
        assert (aborted["step"], aborted["generation"]) == ("boot", 2)
        assert "of the new generation killed by SIGSEGV" in aborted["error"]
        wait_until(lambda: [row["generation"] for row in workers(daemon)] == [1] * 4)
        assert app.runs() == 1
        assert {result.get(timeout=HANG_S) for result in results} <= {1, 2}
        assert sorted(app.written()) == list(range(100))
        assert not daemon.events("worker.recycled", reason="max_jobs: 7 jobs")
        now = daemon.ask("status")
        assert (now["wanted"], now["generation"]) == (4, 1)
        app.write_source(3)
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        assert app.runs() == 3
        assert daemon.stop() == 0


def test_term_on_the_way_back_is_a_stop(app: Changing) -> None:
    with app.daemon(workers={"count": 3}) as daemon:
        ready(daemon)
        app.write_source(2, DIES_LATE)
        daemon.send("SIGHUP")
        daemon.wait("reload.rolled_back")
        assert daemon.stop() == 0
        assert daemon.no_process_is_left()
        (aborted,) = daemon.events("reload.aborted")
        assert aborted["error"] == "the daemon stops"


def test_a_dependency_that_has_changed_is_imported_again(app: Changing) -> None:
    (app.folder / "dependency.py").write_text("VALUE = 1\n")
    uses = "import dependency\n\n@app.task(name='value')\ndef value() -> int:\n    return dependency.VALUE"
    app.write_source(1, uses)
    value = app.app.task(name="value")(lambda: 0)
    with app.daemon() as daemon:
        ready(daemon)
        assert value().get(timeout=HANG_S) == 1
        (app.folder / "dependency.py").write_text("VALUE = 2\n")
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        assert value().get(timeout=HANG_S) == 2
        assert daemon.stop() == 0


def test_a_configuration_that_is_wrong_or_needs_a_restart_is_refused(app: Changing) -> None:
    with app.daemon() as daemon:
        ready(daemon)
        good = (daemon.folder / "settings.json").read_text()
        (daemon.folder / "settings.json").write_text("{")
        daemon.send("SIGHUP")
        assert daemon.wait("reload.aborted")["step"] == "config"
        (daemon.folder / "settings.json").write_text(good)
        in_settings(daemon, workers={"type": "thread"})
        daemon.send("SIGHUP")
        assert "workers.type" in daemon.wait("reload.aborted", count=2)["error"]
        assert not daemon.events("zygote.spawned", generation=2)
        in_settings(daemon, workers={"type": "process", "count": 3})
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        wait_until(lambda: len(workers(daemon)) == 3, what="three workers")
        assert daemon.stop() == 0


def test_a_queue_that_is_new_is_served_by_the_new_generation(app: Changing) -> None:
    aside = app.app.task(name="aside", queue="fresh")(lambda: 0)
    with app.daemon() as daemon:
        ready(daemon)
        result = aside()
        app.write_source(2, queue="fresh")
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        assert result.get(timeout=HANG_S) == 2
        assert not daemon.events("node.expired")
        assert daemon.stop() == 0


@pytest.mark.parametrize("moment", ["zygote.spawned", "zygote.loaded", "worker.ready"])
def test_term_in_the_middle_of_a_reload_is_a_stop(app: Changing, moment: str) -> None:
    with app.daemon() as daemon:
        ready(daemon)
        app.write_source(2, "time.sleep(600)" if moment == "zygote.spawned" else "")
        daemon.send("SIGHUP")
        daemon.wait(moment, generation=2)
        assert daemon.stop() == 0
        assert daemon.events("reload.aborted")[0]["error"] == "the daemon stops"
        assert daemon.no_process_is_left()


WAITS = "while not os.path.exists('go'):\n    time.sleep(0.01)"


def test_a_storm_of_hups_is_few_reloads(app: Changing) -> None:
    with app.daemon() as daemon:
        ready(daemon)
        app.write_source(2, WAITS)
        daemon.send("SIGHUP")
        daemon.wait("zygote.spawned", generation=2)
        for count in range(2, 21):
            daemon.send("SIGHUP")
            daemon.wait("signal.received", signal="SIGHUP", count=count)
        (daemon.folder / "go").touch()
        daemon.wait("master.reloaded", count=2)
        assert app.runs() == 2
        assert daemon.stop() == 0
        assert len(daemon.events("master.reloaded")) == 2


def test_jobs_that_run_longer_than_the_grace_come_back_after_a_reload(app: Changing) -> None:
    with app.daemon(shutdown={"grace_s": 2}) as daemon:
        ready(daemon)
        results = [app.write(n, 40.0) for n in range(2)]
        wait_until(lambda: daemon.ask("status")["busy"] == 2)
        app.write_source(2)
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        assert [result.get(timeout=HANG_S) for result in results] == [2, 2]
        assert sorted(app.written()) == [0, 1]
        assert daemon.stop() == 0


@pytest.mark.parametrize("storage", ["sqlite", "redis"])
def test_reloads_under_load_lose_nothing_and_repeat_nothing(storage: str, tmp_path: Path) -> None:
    with open_backend(storage, tmp_path) as backend:
        report = reloads.run(tmp_path, backend.url, 2)
    assert report.clean, report
    # A second is promised; a machine that runs other tests beside this one is given more.
    assert report.gap_s < 10, report


def ctl(daemon: Daemon, *argv: str) -> subprocess.CompletedProcess[str]:
    code = "from taskqd.supervisor.ctl.main import main; main()"
    command = [sys.executable, "-c", code, *argv, "--socket", daemon.socket]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=HANG_S, cwd=os.getcwd()
    )


def test_taskqctl_reload_waits_and_tells_how_it_ended(app: Changing) -> None:
    with app.daemon() as daemon:
        ready(daemon)
        app.write_source(2)
        done = ctl(daemon, "reload", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert (facts["reloaded"], facts["generation"]) == (True, 2)
        app.write_source(3, "def (:")
        failed = ctl(daemon, "reload", "--wait")
        assert failed.returncode == 1
        assert "reload aborted at import: SyntaxError" in failed.stderr
        assert daemon.stop() == 0


def test_the_service_manager_is_told_when_a_reload_begins_and_ends(
    app: Changing, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(HANG_S)
        with app.daemon(env={"NOTIFY_SOCKET": path}) as daemon:
            ready(daemon)
            asked_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            daemon.send("SIGHUP")
            told = words_until(manager, "RELOADING=1")[-1].splitlines()
            assert int(told[1].removeprefix("MONOTONIC_USEC=")) >= asked_usec
            words_until(manager, "READY=1")
            assert daemon.events("master.reloaded")
            assert daemon.stop() == 0


def words_until(manager: socket.socket, word: str) -> list[str]:
    heard = [manager.recv(4096).decode()]
    while not heard[-1].startswith(word):
        heard.append(manager.recv(4096).decode())
    return heard


def test_a_quiet_daemon_does_not_reload(app: Changing) -> None:
    with app.daemon() as daemon:
        ready(daemon)
        daemon.ask("quiet")
        daemon.send("SIGHUP")
        assert daemon.wait("reload.aborted")["step"] == "quiet"
        daemon.ask("resume")
        assert app.runs() == 1
        assert daemon.stop() == 0


def test_the_command_reads_its_file_again(app: Changing) -> None:
    file = app.folder / "prod.toml"
    text = (
        'app = "changing:app"\nname = "test"\n'
        f'[storage]\nurl = "{app.url}"\n[health]\nbind = "off"\n'
        f'[admin]\nsocket = "{app.folder}/admin.sock"\n[log]\nformat = "json"\n'
        "[workers]\ncount = "
    )
    file.write_text(f"{text}1\n")
    code = "from taskqd.supervisor.cli.main import main; main()"
    daemon = app.daemon()
    daemon._argv = [sys.executable, "-c", code, "--config", str(file)]
    with daemon:
        ready(daemon)
        file.write_text(f"{text}2\n")
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        wait_until(lambda: len(workers(daemon)) == 2, what="two workers")
        file.write_text(f"{text}-1\n")
        daemon.send("SIGHUP")
        aborted = daemon.wait("reload.aborted")
        assert aborted["step"] == "config"
        assert "prod.toml:" in aborted["error"]
        assert app.runs() == 1
        assert daemon.stop() == 0


def test_files_are_watched_and_every_change_of_them_is_a_reload(app: Changing) -> None:
    file, helper = app.folder / "dev.toml", app.folder / "helper.py"
    text = (
        f'app = "changing:app"\nname = "test"\nreload = true\n[storage]\nurl = "{app.url}"\n'
        f'[health]\nbind = "off"\n[admin]\nsocket = "{app.folder}/admin.sock"\n'
        '[log]\nformat = "json"\n[workers]\ncount = '
    )
    file.write_text(f"{text}1\n")
    helper.write_text("VALUE = 1\n")
    uses = "import helper\n\n@app.task(name='value')\ndef value() -> int:\n    return helper.VALUE"
    app.write_source(1, uses)
    value = app.app.task(name="value")(lambda: 0)
    code = (
        "from taskqd.supervisor.policy import reload; reload.TRIAL_S = 0.1\n"
        "from taskqd.supervisor.cli.main import main; main()"
    )
    daemon = app.daemon()
    daemon._argv = [sys.executable, "-c", code, "--config", str(file)]
    del daemon._env["PYTHONDONTWRITEBYTECODE"]
    with daemon:
        ready(daemon)
        for number in (2, 3):  # of one size, within a second
            replace_file(helper, f"VALUE = {number}\n")
            daemon.wait("master.reloaded", count=number - 1, by=str(helper))
            assert value().get(timeout=HANG_S) == number
        app.write_source(4, f"{uses}\nimport later")
        assert daemon.wait("reload.aborted")["step"] == "import"
        (app.folder / "later.py").write_text("def (:")
        app.write_source(5, f"{uses}\nimport later")
        assert "SyntaxError" in daemon.wait("reload.aborted", count=2)["error"]
        replace_file(app.folder / "later.py", "")
        daemon.wait("master.reloaded", by=str(app.folder / "later.py"))
        assert app.runs() == 5
        file.write_text(f"{text}2\n")
        daemon.wait("master.reloaded", by=str(file))
        wait_until(lambda: len(workers(daemon)) == 2, what="two workers")
        assert daemon.stop() == 0


def replace_file(path: Path, text: str) -> None:
    """Write as careful editors do: the old file goes away, and another takes its place."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text)
    path.unlink()
    os.rename(fresh, path)
