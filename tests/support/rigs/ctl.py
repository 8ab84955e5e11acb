"""taskqctl as a user runs it: a process, its exit code, and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.waiting import HANG_S

ROOT = Path(__file__).parents[3]
MAIN = "from taskqd.supervisor.ctl.main import main; main()"


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def taskqctl(folder: Path, *words: str, **env: str) -> Done:
    """Run `taskqctl WORDS` in `folder`; no run may end in a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)
