"""Shells complete taskqctl and taskqd: by the protocol of each, and in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from taskqd.storage import open_storage
from tests.support.rigs.ctl import MAIN, ROOT, taskqctl
from tests.support.rigs.rig import entry
from tests.support.waiting import HANG_S

APP = """
from taskqd import App
app = App("shop")
@app.task()
def pay(): ...
@app.task()
def pack(): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(APP)
    (tmp_path / "shop.toml").write_text('app = "tasks:app"\n[storage]\nurl = "sqlite:///shop.db"\n')
    storage = open_storage(f"sqlite:///{tmp_path}/shop.db", "shop")
    storage.enqueue([entry("1", "mails"), entry("2", "movies"), entry("3", "sums")])
    storage.close()
    return tmp_path


def completed(folder: Path, line: str, shell: str = "zsh") -> list[str]:
    words = line.split(" ")
    env = {"_TASKQCTL_COMPLETE": f"{shell}_complete", "COMP_WORDS": line}
    env["COMP_CWORD"] = words[-1] if shell == "fish" else str(len(words) - 1)
    done = taskqctl(folder, TASKQD_CONFIG="shop.toml", **env)
    assert done.code == 0
    assert done.err == ""
    if shell == "zsh":  # three lines each: kind, word, help
        return done.out.splitlines()[1::3]
    return [text.partition(",")[2].partition("\t")[0] for text in done.out.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_s_protocol_is_spoken(folder: Path, shell: str) -> None:
    assert completed(folder, "taskqctl queue pause m", shell) == ["mails", "movies"]


def test_commands_options_and_tasks_are_completed(folder: Path) -> None:
    assert completed(folder, "taskqctl qu") == ["queue", "quiet"]
    assert completed(folder, "taskqctl enqueue tasks.pa") == ["tasks.pack", "tasks.pay"]
    assert completed(folder, "taskqctl doctor --p") == ["--pod-grace"]


def test_what_cannot_be_found_completes_to_nothing(tmp_path: Path) -> None:
    env = {"_TASKQCTL_COMPLETE": "zsh_complete", "COMP_WORDS": "taskqctl queue pause m"}
    done = taskqctl(tmp_path, TASKQD_CONFIG="none.toml", COMP_CWORD="3", **env)
    assert (done.code, done.out.strip(), done.err) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_name_both_commands(tmp_path: Path, shell: str) -> None:
    done = taskqctl(tmp_path, "completion", shell)
    assert done.code == 0
    for variable in ("_TASKQD_COMPLETE", "_TASKQCTL_COMPLETE"):
        assert f"{variable}={shell}_complete" in done.out


def test_a_real_bash_completes_both_commands(folder: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    mains = {"taskqctl": MAIN, "taskqd": "from taskqd.supervisor.cli.main import main; main()"}
    for name, main in mains.items():
        shim = folder / "bin" / name
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{main}" "$@"\n')
        shim.chmod(0o755)
    script = """
eval "$(taskqctl completion bash)"
COMP_WORDS=(taskqctl queue pause mo); COMP_CWORD=3; _taskqctl_completion taskqctl; echo "${COMPREPLY[@]}"
COMPREPLY=(); COMP_WORDS=(taskqd --work); COMP_CWORD=1; _taskqd_completion taskqd; echo "${COMPREPLY[@]}"
"""
    env = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TASKQD_CONFIG": "shop.toml",
    }
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.stdout.splitlines() == ["movies", "--workers --worker-type"], done
