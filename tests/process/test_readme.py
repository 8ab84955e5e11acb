"""The quick start of the README, as a user would type it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import HANG_S

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DAEMON = [sys.executable, "-c", "from taskqd.supervisor.cli.main import main; main()"]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _command(program: str) -> list[str]:
    """Return the README's words after `bin/<program>`."""
    lines = [line for block in _blocks("sh") for line in block.splitlines()]
    (line,) = [line for line in lines if line.startswith(f"bin/{program} ")]
    return shlex.split(line)[1:]


def test_quick_start_file_is_the_one_in_the_examples() -> None:
    assert _blocks("python") == [(ROOT / "examples/quickstart/tasks.py").read_text()]


def test_quick_start_prints_what_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(_blocks("python")[0])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TASKQD_")},
        "PYTHONPATH": str(ROOT),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "TASKQD_HEALTH__BIND": "off",
    }
    log = tmp_path / "daemon.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [*DAEMON, *_command("taskqd")],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        answer = subprocess.run(
            [sys.executable, *_command("python")],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        assert answer.stdout == "a.png at 300 px\n", answer.stderr + log.read_text()
        assert "prints `a.png at 300 px`" in README
    finally:
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(HANG_S) == 0, log.read_text()
