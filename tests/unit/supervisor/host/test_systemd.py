"""Notifications to the service manager."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd.supervisor.host import systemd


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = f"{tmp_path}/n" if request.param == "file" else f"@taskqd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        yield sock, name


def test_the_manager_hears_everything_once(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    notifier = systemd.Notifier({"NOTIFY_SOCKET": name})
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
    silent = systemd.Notifier({})
    silent.ready()
    assert not silent.active
    dead = systemd.Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"})
    dead.ready()
    dead.close()


def test_the_watchdog_is_fed_only_where_it_is_ours() -> None:
    ours = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert systemd.Notifier(ours).watchdog_s == 30.0
    assert systemd.Notifier({**ours, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert systemd.Notifier({"WATCHDOG_USEC": "soon"}).watchdog_s is None
