"""Tells the service manager how we are, by its notification socket (man 3 sd_notify).

Never fatal: a manager that does not listen is no reason to stop.  STOPPING=1 is final, so it is
sent for a real stop only, never for quiet or reload.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

WANTED = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""Variables that are the master's own: no child inherits them."""


class Notifier:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)
        """The manager expects a sign of life this often; None: it does not watch."""
        self._sock: socket.socket | None = None
        self._last_status = ""

    @property
    def active(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show `text` in the manager's list; unchanged text is not sent again."""
        if text != self._last_status:
            self._last_status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def extend(self, seconds: float) -> None:
        """Ask that the current start or stop may take `seconds` more from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._sock.sendto(text.encode(), address)
        except OSError:
            # The manager is gone or busy; the next sign of life tries again.
            return

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000
