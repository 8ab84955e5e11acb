"""Type checkers see a task as its function: right calls are inferred, wrong ones are rejected."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests/typing/sample.py"


def lines_marked_wrong() -> set[int]:
    lines = SAMPLE.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


def lines_reported(command: list[str]) -> set[int]:
    run = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    output = run.stdout + run.stderr
    found = {int(n) for n in re.findall(r"sample\.py:(\d+):.*?error", output)}
    assert found, output
    return found


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_checker_rejects_the_wrong_calls_and_no_others(checker: str) -> None:
    module = {"mypy": ["mypy", "--strict"], "pyright": ["basedpyright", "--level", "error"]}
    name, *options = module[checker]
    pytest.importorskip(name)
    command = [sys.executable, "-m", name, *options, str(SAMPLE)]
    assert lines_reported(command) == lines_marked_wrong()
