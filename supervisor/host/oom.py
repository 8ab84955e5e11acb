"""How often the kernel has killed for want of memory in our control group.

Source: Documentation/admin-guide/cgroup-v2.rst (memory.events, `oom_kill`) and
cgroup-v1/memory.rst (memory.oom_control, `oom_kill`).
"""

from __future__ import annotations

from pathlib import Path


class OomCounter:
    """Counts kills since the last look; always 0 where the kernel does not tell."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._file = _counter_file(root)
        self._last = self._read()

    def take(self) -> int:
        """Return the kills since the last call."""
        before, self._last = self._last, self._read()
        return max(0, self._last - before)

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            return oom_kills(self._file.read_text())
        except OSError:
            # A group that is gone or not ours to read tells nothing; a verdict does without.
            return 0


def oom_kills(text: str) -> int:
    """Return the count in the text of memory.events or memory.oom_control."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return 0


def group_of(text: str, *, version: int) -> str | None:
    """Return our memory group's path from the text of /proc/self/cgroup, None if there is none."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if (version == 2 and not controllers) or (
            version == 1 and "memory" in controllers.split(",")
        ):
            return path
    return None


def _counter_file(root: Path) -> Path | None:
    try:
        text = (root / "proc/self/cgroup").read_text()
    except OSError:
        return None
    for version, top, name in (
        (1, "sys/fs/cgroup/memory", "memory.oom_control"),
        (2, "sys/fs/cgroup", "memory.events"),
    ):
        path = group_of(text, version=version)
        if path is None:
            continue
        # Inside a container the path may be the host's, and the mount is our own group's.
        for file in (root / top / path.strip("/") / name, root / top / name):
            if file.is_file():
                return file
    return None
