"""The command line of a probe, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqd.supervisor.ctl.probe import probe
from taskqd.supervisor.endpoints import admin
from tests.support.rigs.serving_loop import ServingLoop, serving_loop


@pytest.fixture
def loop() -> Iterator[ServingLoop]:
    with serving_loop() as loop:
        yield loop


@pytest.mark.parametrize(
    "argv", [[], ["alive"], ["live", "ready"], ["live", "--socket"], ["live", "--timeout=x"]]
)
def test_a_command_line_that_cannot_be_read_ends_with_64(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(argv, {}) == 64
    assert "usage: taskqctl probe" in capsys.readouterr().err


def test_without_a_daemon_a_probe_ends_with_69(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(["live", f"--socket={tmp_path}/none.sock"], {}) == 69
    assert "no daemon answers" in capsys.readouterr().err


def test_the_answer_of_the_daemon_is_the_exit_code(
    loop: ServingLoop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def handle(request: dict[str, Any]) -> dict[str, Any]:
        up = request["probe"] == "live"
        return {"ok": True, "up": up, "state": "quiet", "reasons": [] if up else ["quiet"]}

    path = str(tmp_path / "a.sock")
    loop.serve(admin.listen(path), admin.converse(handle))
    env = {"TASKQD_ADMIN__SOCKET": path}
    assert probe(["live"], env) == 0
    assert probe(["ready"], env) == 1
    assert capsys.readouterr().out.splitlines() == ["quiet", "not ready: quiet"]
    assert probe(["startup", "--json"], env) == 1
    assert json.loads(capsys.readouterr().out)["reasons"] == ["quiet"]
