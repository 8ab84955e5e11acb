"""What `ps` shows."""

from __future__ import annotations

import setproctitle


class Title:
    """The process's title, written only when it changes."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._shown: str | None = None
        self.show("")

    def show(self, state: str) -> None:
        if state != self._shown:
            self._shown = state
            setproctitle.setproctitle(f"taskqd: {self._role} {state}".rstrip())
