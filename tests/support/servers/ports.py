"""Ports of loopback for servers of tests."""

from __future__ import annotations

import contextlib
import random
import socket

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections."""
_taken: list[socket.socket] = []


def free_port() -> int:
    """Return a port that is free, and is given to no other test on this machine while this process lives."""
    dice = random.SystemRandom()
    while True:
        port = dice.choice(PORTS)
        mark = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as tried:
            mark.bind(f"\0taskqd-tests-port-{port}")
            tried.bind(("127.0.0.1", port))
            _taken.append(mark)
            return port
        mark.close()
