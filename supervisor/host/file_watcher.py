"""Notices that files have changed, by looking at them now and then (`--reload`, development)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

LOOK_S = 0.4
SETTLE_S = 0.3
"""An editor or a checkout may be at it still: so long nothing more has to change."""
GONE_S = 2.0
"""An editor that replaces a file takes it away for a moment."""


class Mark(NamedTuple):
    """What tells one version of a file from another."""

    inode: int
    size: int
    mtime_ns: int


def mark_of(path: str) -> Mark | None:
    """Return the mark of a file, None if there is none now."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return Mark(info.st_ino, info.st_size, info.st_mtime_ns)


class FileWatcher:
    def __init__(self, look: Callable[[str], Mark | None] = mark_of) -> None:
        self._look_at = look
        self._known: dict[str, Mark | None] = {}
        self._gone_s: dict[str, float] = {}
        """Since when a file is away."""
        self._changed: list[str] = []
        self._settled_s = 0.0
        self._look_s = 0.0

    def add(self, paths: Iterable[str]) -> None:
        """Watch these files too, from their present version on."""
        for path in paths:
            if path not in self._known:
                self._known[path] = self._look_at(path)

    def next_s(self) -> float:
        """Return when to look again."""
        return self._look_s if self._known else math.inf

    def changed(self, now_s: float) -> list[str]:
        """Return the files that have changed since the last answer, once they change no more."""
        if now_s < self._look_s:
            return []
        self._look_s = now_s + LOOK_S
        for path, known in list(self._known.items()):
            self._compare(path, known, self._look_at(path), now_s)
        if not self._changed or now_s < self._settled_s:
            return []
        found, self._changed = list(dict.fromkeys(self._changed)), []
        return found

    def _compare(self, path: str, known: Mark | None, now: Mark | None, now_s: float) -> None:
        if now is not None:
            self._gone_s.pop(path, None)
        elif now_s < self._gone_s.setdefault(path, now_s) + GONE_S:
            return
        if now != known:
            self._known[path] = now
            self._changed.append(path)
            self._settled_s = now_s + SETTLE_S
