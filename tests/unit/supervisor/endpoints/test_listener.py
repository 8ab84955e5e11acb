"""Callers of the master: slow ones, greedy ones, too many, and answers that fail."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqd.supervisor.endpoints import admin, admin_client, listener
from tests.support.rigs.serving_loop import ServingLoop, echo, serving_loop
from tests.support.waiting import wait_until


@pytest.fixture
def loop() -> Iterator[ServingLoop]:
    with serving_loop() as loop:
        yield loop


def test_a_slow_caller_is_dropped_and_others_are_served(
    loop: ServingLoop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "CALL_S", 0.2)
    path = str(tmp_path / "a.sock")
    served = loop.serve(admin.listen(path), admin.converse(echo))
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(10)
        slow.connect(path)
        slow.sendall(b'{"cmd":')
        assert admin_client.ask(path, {"cmd": "x"})["ok"]
        assert slow.recv(10) == b""
    wait_until(lambda: not served.busy)


def test_a_caller_who_asks_on_and_reads_no_answer_is_dropped(
    loop: ServingLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "CALL_S", 0.2)
    path = str(tmp_path / "a.sock")
    served = loop.serve(
        admin.listen(path), admin.converse(lambda _ask: {"ok": True, "text": "x" * 60_000})
    )
    with socket.socket(socket.AF_UNIX) as greedy:
        greedy.connect(path)
        greedy.settimeout(10)
        with pytest.raises(OSError, match="Broken pipe|reset"):
            while True:
                greedy.sendall(b'{"cmd": "x"}\n')
        wait_until(lambda: not served.busy)
    assert answers(path)


def test_slow_callers_closed_the_address_to_all_others(loop: ServingLoop, tmp_path: Path) -> None:
    """The oldest of those that say nothing goes for the one that comes."""
    path = str(tmp_path / "a.sock")
    loop.serve(admin.listen(path), admin.converse(echo))
    callers = []
    for _ in range(listener.CALLERS_MAX + 1):
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(path)
        caller.settimeout(10)
        callers.append(caller)
    for _ in range(100):
        assert answers(path)
    assert callers[0].recv(10) == b""
    for caller in callers:
        caller.close()
    assert answers(path)


def answers(path: str) -> bool:
    try:
        return bool(admin_client.ask(path, {"cmd": "x"})["ok"])
    except ConnectionResetError:
        return False


def test_a_defect_in_an_answer_costs_only_that_answer(loop: ServingLoop, tmp_path: Path) -> None:
    def handle(request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "ratio": 1 / request["by"]}

    path = str(tmp_path / "a.sock")
    loop.serve(admin.listen(path), admin.converse(handle))
    with pytest.raises(ConnectionResetError):
        admin_client.ask(path, {"cmd": "x", "by": 0})
    assert isinstance(loop.errors[0], ZeroDivisionError)
    assert admin_client.ask(path, {"cmd": "x", "by": 2})["ratio"] == 0.5
