"""Admin socket, health endpoint, service manager: real sockets, no daemon."""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqd.clock import monotonic_s
from taskqd.errors import ConfigError
from taskqd.supervisor.endpoints import admin, admin_client, health, listener
from taskqd.supervisor.endpoints.listener import EndpointListener
from taskqd.supervisor.host import systemd as notify
from tests.support.rigs.daemon import ROOT
from tests.support.waiting import wait_until

# -- a loop to serve on ----------------------------------------------------------------------------


class Loop:
    """A selector in a thread, as the master would turn it."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.over = False
        self.listeners: list[EndpointListener] = []
        self.errors: list[Exception] = []
        self._thread = threading.Thread(target=self._run)

    def serve(self, sock: socket.socket, begin: Callable[[socket.socket], Any]) -> EndpointListener:
        self.listeners.append(
            EndpointListener(self.selector, sock, begin, monotonic_s, self.errors.append)
        )
        self._thread.start()
        return self.listeners[-1]

    def _run(self) -> None:
        while not self.over:
            for key, _ in self.selector.select(0.02):
                key.data()
            for served in self.listeners:
                served.drop_slow()

    def close(self) -> None:
        self.over = True
        self._thread.join()
        for served in self.listeners:
            served.close()
        self.selector.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


# -- the admin socket ------------------------------------------------------------------------------


def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "pid": 4711, "asked": request}


def test_a_request_gets_its_answer(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "folder" / "a.sock")
    loop.serve(admin.listen(path), admin.converse(echo))
    assert admin_client.ask(path, {"cmd": "x"})["asked"] == {"cmd": "x"}


def test_only_its_user_can_reach_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.sock"
    with admin.listen(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become someone else")
def test_a_caller_of_another_user_is_turned_away(loop: Loop, tmp_path: Path) -> None:
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


def test_a_second_daemon_is_refused_the_socket_of_a_living_one(loop: Loop, tmp_path: Path) -> None:
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


def test_a_request_that_never_ends_is_cut_off(loop: Loop, tmp_path: Path) -> None:
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
        (b"[1]\n", "expected an object"),
        (b'{"cmd": 7}\n', "expected an object"),
    ],
)
def test_what_is_no_request_gets_a_clear_answer(line: bytes, error: str) -> None:
    answer = json.loads(admin.AdminConversation(echo).receive(line).data)
    assert not answer["ok"]
    assert error in answer["error"]


def test_a_slow_caller_is_dropped_and_others_are_served(
    loop: Loop,
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


def test_many_requests_at_once_are_refused_before_they_cost_anything() -> None:
    asked: list[dict[str, Any]] = []
    talk = admin.AdminConversation(lambda ask: asked.append(ask) or {"ok": True})
    answer = talk.receive(b'{"cmd": "x"}\n' * 100)
    assert answer.close
    assert "requests at once" in json.loads(answer.data)["error"]
    assert asked == []


def test_a_caller_who_asks_on_and_reads_no_answer_is_dropped(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_more_callers_than_allowed_are_turned_away(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    loop.serve(admin.listen(path), admin.converse(echo))
    callers = []
    for _ in range(listener.CALLERS_MAX + 1):
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(path)
        caller.settimeout(10)
        callers.append(caller)
    assert callers[-1].recv(10) == b""
    for caller in callers:
        caller.close()
    wait_until(lambda: answers(path))


def answers(path: str) -> bool:
    try:
        return bool(admin_client.ask(path, {"cmd": "x"})["ok"])
    except ConnectionResetError:
        return False


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


def test_the_only_daemon_is_found_by_itself_and_a_dead_one_does_not_count(
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(
        admin_client,
        "socket_paths",
        lambda instance: [f"{tmp_path}/{instance}.sock"],
    )
    with pytest.raises(FileNotFoundError, match="no daemon runs here"):
        admin_client.only_instance()
    admin.listen(f"{tmp_path}/dead.sock").close()
    loop.serve(admin.listen(f"{tmp_path}/shop.sock"), admin.converse(echo))
    assert admin_client.only_instance() == "shop"


def test_a_daemon_that_runs_as_a_service_was_not_found_without_its_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(admin_client, "RUN", str(tmp_path))
    monkeypatch.setattr(admin_client, "socket_paths", lambda name: [f"{tmp_path}/own/{name}.sock"])
    with admin.listen(f"{tmp_path}/taskqd-shop/shop.sock"):
        assert admin_client.only_instance() == "shop"
        with admin.listen(f"{tmp_path}/own/mine.sock"):
            with pytest.raises(OSError, match="several daemons run here: mine, shop; say --name"):
                admin_client.only_instance()
            # Inside of its unit or pod, the daemon beside us is meant.
            monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/taskqd-shop")
            assert admin_client.only_instance() == "shop"


def test_a_folder_for_the_socket_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"admin\.socket: .*; set it, or RUNTIME_DIRECTORY"):
        admin.listen(f"{tmp_path}/file/x/shop.sock")


def test_the_client_takes_only_the_standard_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import taskqd.supervisor.endpoints.admin_client; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names) - {'taskqd'}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_defect_in_an_answer_costs_only_that_answer(loop: Loop, tmp_path: Path) -> None:
    def handle(request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "ratio": 1 / request["by"]}

    path = str(tmp_path / "a.sock")
    loop.serve(admin.listen(path), admin.converse(handle))
    with pytest.raises(ConnectionResetError):
        admin_client.ask(path, {"cmd": "x", "by": 0})
    assert isinstance(loop.errors[0], ZeroDivisionError)
    assert admin_client.ask(path, {"cmd": "x", "by": 2})["ratio"] == 0.5


# -- health ----------------------------------------------------------------------------------------

PAGES = {
    "/livez": lambda: health.probe_page({"ok": True, "state": "ready", "reasons": []}),
    "/readyz": lambda: health.probe_page({"ok": False, "state": "quiet", "reasons": ["quiet"]}),
}


def get(request: bytes) -> tuple[bytes, bool]:
    answer = health.HttpConversation(PAGES).receive(request)
    return answer.data, answer.close


def test_a_probe_says_200_or_503_and_why() -> None:
    data, _ = get(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200 ")
    data, _ = get(b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 503 ")
    assert json.loads(data.partition(b"\r\n\r\n")[2])["reasons"] == ["quiet"]


def test_a_connection_may_be_kept_and_requests_sent_behind_each_other() -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    data, close = get(request * 3)
    assert data.count(b"HTTP/1.1 200") == 3
    assert not close
    _, close = get(b"GET /livez HTTP/1.0\r\n\r\n")
    assert close


def test_head_has_no_body() -> None:
    data, _ = get(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET /nowhere", b"404"), (b"POST /livez", b"405")],
)
def test_what_is_not_there_is_said_so(request_line: bytes, status: bytes) -> None:
    data, _ = get(request_line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert data.split()[1] == status


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x16\x03\x01 nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20_000],
)
def test_what_is_no_http_is_refused_and_hung_up_on(request_bytes: bytes) -> None:
    data, close = get(request_bytes)
    assert data.startswith(b"HTTP/1.1 4")
    assert close


def test_a_request_may_come_in_pieces() -> None:
    talk = health.HttpConversation(PAGES)
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    data = b"".join(talk.receive(request[i : i + 1]).data for i in range(len(request)))
    assert data.startswith(b"HTTP/1.1 200 ")


def test_health_answers_over_a_real_connection(loop: Loop) -> None:
    sock = health.listen("127.0.0.1:0")
    port = sock.getsockname()[1]
    loop.serve(sock, lambda _sock: health.HttpConversation(PAGES))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        caller.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("bind", ["127.0.0.1:http", "127.0.0.1:99999", "203.0.113.7:80", "nohost"])
def test_an_address_that_cannot_be_had_is_a_clear_error(bind: str) -> None:
    with pytest.raises(ConfigError, match=r"health\.bind: cannot listen on"):
        health.listen(bind)


def test_a_port_in_use_is_a_clear_error() -> None:
    with health.listen("127.0.0.1:0") as first, pytest.raises(ConfigError, match="in use"):
        health.listen(f"127.0.0.1:{first.getsockname()[1]}")


# -- the service manager ---------------------------------------------------------------------------


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = f"{tmp_path}/n" if request.param == "file" else f"@taskqd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        yield sock, name


def test_the_manager_hears_everything_once(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    notifier = notify.Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.status("ready: 2 of 2")
    notifier.status("ready: 2 of 2")
    notifier.extend(1.5)
    notifier.stopping()
    heard = [sock.recv(100) for _ in range(4)]
    assert heard == [
        b"READY=1",
        b"STATUS=ready: 2 of 2",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"STOPPING=1",
    ]
    notifier.close()


def test_without_a_manager_and_with_a_dead_one_nothing_happens() -> None:
    silent = notify.Notifier({})
    silent.ready()
    assert not silent.active
    dead = notify.Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"})
    dead.ready()
    dead.close()


def test_the_watchdog_is_fed_only_where_it_is_ours() -> None:
    ours = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert notify.Notifier(ours).watchdog_s == 30.0
    assert notify.Notifier({**ours, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert notify.Notifier({"WATCHDOG_USEC": "soon"}).watchdog_s is None
