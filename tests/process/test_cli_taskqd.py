"""The `taskqd` command from outside: exit codes, one-line errors, no traceback for bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import HANG_S

ROOT = Path(__file__).parents[2]
APP = """
from taskqd import App
app = App("shop", "sqlite:///shop.db")
other = 3

@app.task(queue="images")
def thumbnail(path: str, width: int = 200) -> str:
    return path
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(APP)
    return tmp_path


def taskqd(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskqd", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def refused(folder: Path, code: int, *words: str, **env: str) -> list[str]:
    """Return the lines of the refusal."""
    done = taskqd(folder, *words, **env)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.stderr.splitlines()


def test_version_and_help_are_no_errors(folder: Path) -> None:
    assert taskqd(folder, "--version").stdout.startswith("taskqd ")
    usage = taskqd(folder, "-h")
    assert usage.returncode == 0
    for flag in (
        "-w, --workers",
        "-k, --worker-type",
        "-c, --concurrency",
        "-q, --queues",
        "-C, --config",
    ):
        assert flag in usage.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tasks:app", "--wrkers", "3"], '--wrkers: unknown flag; did you mean "--workers"?'),
        (["tasks:app", "--workers"], "Option '--workers' requires an argument"),
        (["tasks:app", "more"], "Got unexpected extra argument (more)"),
        (["-z"], "-z: unknown flag"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_a_usage_error(
    folder: Path, words: list[str], line: str
) -> None:
    assert refused(folder, 64, *words) == [f"taskqd: {line} (see taskqd --help)"]


def test_three_errors_of_a_file_are_reported_at_once(folder: Path) -> None:
    (folder / "prod.toml").write_text(
        'app = "tasks:app"\n[workers]\ncuont = 3\ntype = "fibre"\n[storage]\nurl = "redi://db"\n'
    )
    first, second, third = refused(folder, 78, "--config", "prod.toml")
    assert first == 'prod.toml:3: workers.cuont: unknown key; did you mean "count"?'
    assert second.startswith('prod.toml:4: workers.type: "fibre": expected "process", "thread"')
    assert third.startswith('prod.toml:6: storage.url: "redi://db": unknown URL scheme "redi"')


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (
            ["--workers", "0"],
            '--workers: workers.count: "0": expected a whole number from 1 to 512',
        ),
        (["-w", "many"], '--workers: workers.count: "many": expected'),
        (["-k", "fibre"], '--worker-type: workers.type: "fibre": expected'),
        (["-c", "4"], "--concurrency: workers.concurrency: 4: a worker of type process"),
        (["--storage", "ftp://x"], '--storage: storage.url: "ftp://x": unknown URL scheme "ftp"'),
        (["--grace", "-1"], '--grace: shutdown.grace_s: "-1": expected a duration'),
        (["--health", "7430"], '--health: health.bind: "7430": expected HOST:PORT'),
        (["-q", "a b"], '--queues: queues.names: "a b":'),
        (["--log-level", "loud"], '--log-level: log.level: "loud": expected'),
        (["--config", "no.toml"], "no.toml: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_value_is_a_configuration_error(folder: Path, words: list[str], start: str) -> None:
    (line,) = refused(folder, 78, "tasks:app", *words)
    assert line.startswith(start)


def test_no_app_anywhere_says_how_to_give_one(folder: Path) -> None:
    (line,) = refused(folder, 78)
    assert line.startswith("taskqd: no app given; say which to run: `taskqd shop.tasks:app`")


def test_the_environment_gives_the_app(folder: Path) -> None:
    (line,) = refused(folder, 78, TASKQD_APP="tasks:app", TASKQD_WORKERS="x")
    assert line.startswith('TASKQD_WORKERS: workers.count: "x"')


@pytest.mark.parametrize(
    ("app", "line"),
    [
        (
            "nowhere.tasks:app",
            "app 'nowhere.tasks:app': no module named 'nowhere'; tried 'nowhere.tasks' from the working directory and the Python path",
        ),
        ("tasks:ap", "app 'tasks:ap': no attribute 'ap'; it has app"),
        ("tasks:other", "app 'tasks:other': expected a taskqd.App, found int"),
        (
            "broken:app",
            "app 'broken:app': {folder}/broken.py:2: ZeroDivisionError: division by zero",
        ),
        ("syntax:app", "app 'syntax:app': {folder}/syntax.py:1: SyntaxError: '(' was never closed"),
        (
            "needs:app",
            "app 'needs:app': {folder}/needs.py:1: ModuleNotFoundError: No module named 'zzz'",
        ),
        ("leaves:app", "app 'leaves:app': {folder}/leaves.py:1: SystemExit: 3"),
    ],
)
def test_check_tells_once_why_an_app_cannot_be_imported(folder: Path, app: str, line: str) -> None:
    (folder / "broken.py").write_text("x = 1\ny = x / 0\n")
    (folder / "syntax.py").write_text("f(\n")
    (folder / "needs.py").write_text("import zzz\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    assert refused(folder, 78, app, "--check") == [line.format(folder=folder)]


def test_check_of_a_good_app_asks_the_storage_and_sums_up(folder: Path) -> None:
    done = taskqd(folder, "tasks.app", "--check", "-w", "3", "-k", "thread", "-q", "images,wrong")
    assert done.returncode == 0, done.stderr
    assert "tasks.app (shop): 1 tasks, 0 periodic" in done.stdout
    assert "3 of type thread, 10 jobs each" in done.stdout
    assert done.stdout.endswith("ok\n")
    assert "warning: queue 'wrong': no task of the app names it" in done.stderr


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("redis://:hunter2@127.0.0.1:1/0", 69),
        ("unix:///nowhere/redis.sock", 69),
        ("sqlite:////", 69),
        ("sqlite:///tasks.py", 69),
        ("sqlite://host/path.db", 78),
        ("sqlite:///a.db?speed=high", 78),
    ],
)
def test_check_of_a_storage_that_does_not_serve(folder: Path, url: str, code: int) -> None:
    done = taskqd(folder, "tasks:app", "--check", TASKQD_STORAGE=url)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.startswith("storage ")
    assert done.stderr.count("127.0.0.1:1/0") == (1 if "redis:" in url else 0)
    assert (folder / "tasks.py").read_text() == APP


def test_check_passed_with_greenlets_where_gevent_is_missing(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['gevent'] = None\n")
    words = ("tasks:app", "--check", "-k", "greenlet")
    told = refused(folder, 78, *words, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}")
    assert "gevent is not installed; install the extra" in told[0]


@pytest.mark.parametrize("file", ["nowhere/a.log", "."])
def test_a_log_file_that_cannot_be_written_passed_the_check(folder: Path, file: str) -> None:
    for words in (["--check"], ["--health", "off"]):
        told = refused(folder, 78, "tasks:app", *words, TASKQD_LOG__FILE=file)
        assert told[0].startswith(f'log.file: "{file}": cannot be written: ')
        assert "name one in a folder that is there" in told[0]


def test_two_daemons_may_not_share_a_health_port_and_the_error_says_so(folder: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        done = taskqd(folder, "tasks:app", "-w", "1", "--health", bind)
    assert done.returncode == 78
    assert f"cannot listen on {bind}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_closed_standard_streams_are_no_trouble(folder: Path, closed: str) -> None:
    closing = " ".join(f"{number}>&-" for number in closed.split())
    line = f"exec {closing}; {sys.executable} -m taskqd tasks:app --workers 0; exit $?"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, timeout=HANG_S, check=False)
    assert done.returncode == 78


def test_a_reader_that_leaves_early_is_no_error(folder: Path) -> None:
    line = (
        f"{sys.executable} -m taskqd --help | true; {sys.executable} -m taskqd --wrong 2>&1 | true"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=env,
        timeout=HANG_S,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
