"""Health over HTTP: pages, kept connections, and addresses that cannot be had."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from taskqd.errors import ConfigError
from taskqd.supervisor.endpoints import health
from tests.support.rigs.serving_loop import ServingLoop, serving_loop


@pytest.fixture
def loop() -> Iterator[ServingLoop]:
    with serving_loop() as loop:
        yield loop


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


def test_health_answers_over_a_real_connection(loop: ServingLoop) -> None:
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
