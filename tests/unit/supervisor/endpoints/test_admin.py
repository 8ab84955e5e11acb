"""The admin socket: who may ask, what a request is, and whose socket it is."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqd.errors import ConfigError
from taskqd.supervisor.endpoints import admin, admin_client
from tests.support.rigs.serving_loop import ServingLoop, echo, serving_loop


@pytest.fixture
def loop() -> Iterator[ServingLoop]:
    with serving_loop() as loop:
        yield loop


def test_a_request_gets_its_answer(loop: ServingLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "folder" / "a.sock")
    loop.serve(admin.listen(path), admin.converse(echo))
    assert admin_client.ask(path, {"cmd": "x"})["asked"] == {"cmd": "x"}


def test_only_its_user_can_reach_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.sock"
    with admin.listen(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become someone else")
def test_a_caller_of_another_user_is_turned_away(loop: ServingLoop, tmp_path: Path) -> None:
    path = f"/tmp/taskqd-test-{os.getpid()}.sock"
    sock = admin.listen(path)
    os.chmod(path, 0o777)
    loop.serve(sock, admin.converse(echo))
    script = (
        f"import os, socket\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n"
        f's.connect({path!r})\ns.sendall(b\'{{"cmd": "x"}}\\n\')\nprint(s.recv(100))'
    )
    try:
        asked = subprocess.run(
            [sys.executable, "-S", "-c", script],
            capture_output=True,
            check=False,
            text=True,
            timeout=20,
        )
    finally:
        os.unlink(path)
    assert "4711" not in asked.stdout


def test_a_second_daemon_is_refused_the_socket_of_a_living_one(
    loop: ServingLoop, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.sock")
    loop.serve(admin.listen(path), admin.converse(echo))
    with pytest.raises(ConfigError, match=r"another daemon \(pid 4711\) answers"):
        admin.listen(path)
    assert admin_client.ask(path, {"cmd": "x"})["ok"]


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    admin.listen(path).close()
    assert os.path.exists(path)
    admin.listen(path).close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"):
        admin.listen(str(path))
    assert path.read_text() == "precious"


def test_a_path_too_long_for_the_kernel_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"admin\.socket: cannot listen"):
        admin.listen(str(tmp_path / ("x" * 120)))


def test_a_request_that_never_ends_is_cut_off(loop: ServingLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    loop.serve(admin.listen(path), admin.converse(echo))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(b"x" * (admin_client.REQUEST_BYTES_MAX + 1))
        assert b"longer than 64 KiB" in sock.recv(1000)
        assert sock.recv(1000) == b""


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense\n", "not JSON"),
        (b"[" * 60_000 + b"\n", "not JSON: nested too deeply"),
        (b"[1]\n", "expected an object"),
        (b'{"cmd": 7}\n', "expected an object"),
    ],
)
def test_what_is_no_request_gets_a_clear_answer(line: bytes, error: str) -> None:
    answer = json.loads(admin.AdminConversation(echo).receive(line).data)
    assert not answer["ok"]
    assert error in answer["error"]


def test_many_requests_at_once_are_refused_before_they_cost_anything() -> None:
    asked: list[dict[str, Any]] = []
    talk = admin.AdminConversation(lambda ask: asked.append(ask) or {"ok": True})
    answer = talk.receive(b'{"cmd": "x"}\n' * 100)
    assert answer.close
    assert "requests at once" in json.loads(answer.data)["error"]
    assert asked == []


def test_the_place_of_the_socket_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/run:{tmp_path}/other")
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{tmp_path}/xdg")
    assert admin.choose_path(None, "shop") == f"{tmp_path}/run/shop.sock"
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert admin.choose_path(None, "shop") == f"{tmp_path}/xdg/taskqd/shop.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/nowhere")
    assert admin.choose_path(None, "shop") == f"/tmp/taskqd-{os.getuid()}/shop.sock"
    assert admin.choose_path("/x/y.sock", "shop") == "/x/y.sock"


def test_a_folder_for_the_socket_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"admin\.socket: .*; set it, or RUNTIME_DIRECTORY"):
        admin.listen(f"{tmp_path}/file/x/shop.sock")
