"""The two commands together, as a user has them: a real daemon on SQLite, found and steered."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.rigs.ctl import taskqctl
from tests.support.rigs.daemon import Daemon
from tests.support.waiting import wait_until

APP = """
from taskqd import App
app = App("shop")

@app.task(queue="sums")
def add(a: int, b: int) -> int:
    return a + b

@app.task()
def fail() -> None:
    raise ValueError("no")
"""
CONFIG = """
app = "tasks:app"
name = "prod"
[storage]
url = "sqlite:///shop.db"
[workers]
count = 1
[shutdown]
grace_s = "6s"
[health]
bind = "off"
[log]
format = "json"
"""
ENV = {"XDG_RUNTIME_DIR": "", "RUNTIME_DIRECTORY": "{folder}/run", "TASKQD_CONFIG": "prod.toml"}


def shop(folder: Path, *words: str) -> tuple[Daemon, dict[str, str]]:
    (folder / "tasks.py").write_text(APP)
    (folder / "prod.toml").write_text(CONFIG)
    (folder / "run").mkdir(mode=0o700)
    env = {name: value.format(folder=folder) for name, value in ENV.items()}
    return Daemon(folder, [sys.executable, "-m", "taskqd", *words], env=env), env


def test_a_daemon_of_a_file_runs_jobs_that_taskqctl_enqueues_shows_and_retries(
    tmp_path: Path,
) -> None:
    daemon, env = shop(tmp_path)
    with daemon:
        daemon.wait("master.ready")

        def ctl(*words: str) -> object:
            return taskqctl(tmp_path, *words, "--json", **env).json()

        added = ctl("enqueue", "tasks.add", "--args", "[40, 2]")
        failed = ctl("enqueue", "tasks.fail")
        assert isinstance(added, dict)
        assert isinstance(failed, dict)
        assert added["queue"] == "sums"
        daemon.wait("job.done", job_id=added["id"])
        wait_until(lambda: ctl("dead", "ls"))
        shown = ctl("job", "show", added["id"])
        assert isinstance(shown, dict)
        assert (shown["state"], shown["result"]) == ("done", 42)
        dead = ctl("dead", "show", failed["id"])
        assert isinstance(dead, dict)
        assert (dead["reason"], dead["error"]) == ("failed", "ValueError: no")
        assert "in fail" in dead["traceback"]
        assert ctl("dead", "retry", "--all") == {"retried": 1, "missing": 0}
        daemon.wait("job.failed", count=2)
        ctl("enqueue", "tasks.add", "--args", "[1, 1]", "--delay", "600")
        wait_until(lambda: scheduled_as_top_has_it(ctl("top", "--interval", "0.2")) == {"sums": 1})
        assert ctl("drain", "--wait")
        assert daemon.exit_code() == 0


def scheduled_as_top_has_it(facts: object) -> dict[str, int]:
    assert isinstance(facts, dict)
    depths = facts["depths"] or ()
    return {depth["queue"]: depth["scheduled"] for depth in depths if depth["scheduled"]}


def test_flags_win_over_the_file_and_a_burst_ends_by_itself(tmp_path: Path) -> None:
    daemon, env = shop(tmp_path, "--burst", "-w", "2", "-k", "thread", "-c", "3", "--name", "flag")
    done = taskqctl(
        tmp_path, "enqueue", "tasks.add", "--app", "tasks:app", "--args", "[1, 2]", **env
    )
    assert done.code == 0, done.err
    with daemon:
        assert daemon.exit_code() == 0
        (started,) = daemon.events("master.started")
        assert (started["workers"], started["worker_type"]) == (2, "thread")
        assert len(daemon.events("job.done")) == 1


def test_a_warning_about_the_configuration_is_a_line_of_the_log(tmp_path: Path) -> None:
    daemon, _ = shop(tmp_path, "--burst")
    daemon._env["TASKQD_WORKES"] = "3"
    with daemon:
        assert daemon.exit_code() == 0
        texts = [event["text"] for event in daemon.events("config.warned")]
        assert 'TASKQD_WORKES: unknown variable, ignored; did you mean "TASKQD_WORKERS"?' in texts


def test_an_app_that_cannot_be_imported_is_reported_once_with_78(tmp_path: Path) -> None:
    daemon, _ = shop(tmp_path, "nowhere.tasks:app")
    with daemon:
        assert daemon.exit_code() == 78
        (rejected,) = daemon.events("app.rejected")
        assert "nowhere.tasks" in rejected["error"]
