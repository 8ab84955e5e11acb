"""Descriptors of a process that lives, and closes some of them meanwhile."""

from __future__ import annotations

import contextlib
import os


def links_of(pid: int) -> dict[int, str]:
    """Return descriptor -> what it leads to."""
    links = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return links
