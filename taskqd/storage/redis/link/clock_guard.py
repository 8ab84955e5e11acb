"""Watching the clock of a server."""

from __future__ import annotations

JUMP_MS = 1000


class ClockGuard:
    """Notices when the server's clock jumps against this process's monotonic clock.

    After a jump forward every lease looks expired; so nothing is recovered until each node has had
    the time of one lease to renew its own.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None
        """Server's time, own time, how far that may be off; all ms."""
        self._held_until_s = 0.0

    def note(self, server_ms: int, before_s: float, after_s: float, lease_s: float) -> bool:
        """Take a reading made between two moments; returns whether recovery may go on."""
        own_ms, off_ms = (before_s + after_s) * 500, (after_s - before_s) * 500
        if self._last is not None:
            last_server_ms, last_own_ms, last_off_ms = self._last
            drift_ms = abs((server_ms - last_server_ms) - (own_ms - last_own_ms))
            if drift_ms > JUMP_MS + off_ms + last_off_ms:
                self._held_until_s = after_s + lease_s
        self._last = (server_ms, own_ms, off_ms)
        return after_s >= self._held_until_s
