"""The show-case on a part of the standard library: killed, restarted, and nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers.redis_server import available_servers
from tests.support.waiting import HANG_S

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("storage", ["sqlite", *available_servers()])
def test_atlas_loses_nothing_under_kill_and_restart(storage: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.stdlib_atlas"],
        cwd=ROOT,
        env={**os.environ, "STORAGE": storage, "ATLAS_FILES_MAX": "400", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"^jobs 401, lost 0, ran twice \d, interrupted \d+, crashed 1$", done.stdout, re.MULTILINE
    )
    assert "SIGKILL to worker" in done.stderr
    assert "SIGTERM to the daemon: exit 0" in done.stderr
    assert not list(tmp_path.iterdir()), "it left something behind"


def test_unknown_storage_is_refused_with_the_ones_that_are_known(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.stdlib_atlas"],
        cwd=ROOT,
        env={**os.environ, "STORAGE": "floppy", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 1
    assert "expected sqlite, redis or valkey" in done.stderr
    assert not list(tmp_path.iterdir())
