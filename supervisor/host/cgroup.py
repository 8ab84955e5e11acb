"""Memory control groups of version 1 and 2: limits, use, kills, and a group for each worker.

Source: kernel Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.high, memory.current,
memory.stat, memory.events: `oom_kill`, delegation) and cgroup-v1/memory.rst (memory.oom_control).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from taskqd.supervisor.state.memory import Pressure

NO_LIMIT = 1 << 60
_SYSTEMDS = re.compile(r"\.(service|scope|slice)(/|$)")
_DELEGATED = ("user.delegate", "trusted.delegate")
_OURS = re.compile(r"taskqd-(\d+)-\d+")


class FileNames(NamedTuple):
    """How the files of one version are called."""

    limits: tuple[str, ...]
    used: str
    cache: str
    """The field of memory.stat with what can be dropped at once."""
    kills: str


V1 = FileNames(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    "total_inactive_file",
    "memory.oom_control",
)
V2 = FileNames(("memory.max", "memory.high"), "memory.current", "inactive_file", "memory.events")


class MemoryGroup(NamedTuple):
    folder: Path
    names: FileNames

    def limit(self) -> int | None:
        """Return the bytes that the group may use, None for as many as there are."""
        found = [_number(_read(self.folder / name)) for name in self.names.limits]
        return min((n for n in found if n is not None and n < NO_LIMIT), default=None)

    def pressure(self) -> Pressure | None:
        limit, used = self.limit(), _number(_read(self.folder / self.names.used))
        if not limit or used is None:
            return None
        cache = _field(_read(self.folder / "memory.stat"), self.names.cache)
        return Pressure(max(0, used - cache), limit)

    def kills(self) -> int:
        """Return how often the kernel has killed in it for want of memory; 0 where it does not tell."""
        return _field(_read(self.folder / self.names.kills), "oom_kill")


def groups(root: Path = Path("/")) -> list[MemoryGroup]:
    """Return our own memory group and those above it that can be seen, the own first."""
    text = _read(root / "proc/self/cgroup")
    for version, names, top in ((1, V1, "memory"), (2, V2, "")):
        path = _path_of(text, version)
        mount = root / "sys/fs/cgroup" / top
        if path is None or (version == 2 and not (mount / "cgroup.controllers").is_file()):
            continue
        # Inside a container the path may be the host's, and the mount is our own group's.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        folders = [mount.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]
        found = [MemoryGroup(one, names) for one in folders if (one / names.used).is_file()]
        if found:
            return found
    return []


def _path_of(text: str, version: int) -> str | None:
    """Return our memory group's path from the text of /proc/self/cgroup, None if there is none."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if (version == 2 and not controllers) or (
            version == 1 and "memory" in controllers.split(",")
        ):
            return path
    return None


class OomCounter:
    """Counts the kernel's kills in our own group since the last look."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._group = next(iter(groups(root)), None)
        self._last = self._kills()

    def take(self) -> int:
        """Return the kills since the last call; 0 where the kernel does not tell."""
        before, self._last = self._last, self._kills()
        return max(0, self._last - before)

    def _kills(self) -> int:
        return self._group.kills() if self._group is not None else 0


def pressure(found: list[MemoryGroup]) -> Pressure | None:
    """Return the pressure where it is highest, None where there is no limit."""
    all_of_them = [now for group in found if (now := group.pressure()) is not None]
    return max(all_of_them, key=lambda one: one.percent, default=None)


class WorkerGroups:
    """A control group for each worker, below our own.  Raises OSError while it is built."""

    def __init__(self, base: MemoryGroup, limit_bytes: int) -> None:
        self._base = base
        self.limit_bytes = limit_bytes
        self._before: dict[int, int] = {}
        """By worker: kills in its group before it came."""
        if base.names is V2:
            self._make_room()
        self._sweep()

    def enter(self, number: int, pid: int) -> None:
        """Put a process into the group of worker `number`."""
        group = self._group(number)
        group.folder.mkdir(exist_ok=True)
        (group.folder / group.names.limits[0]).write_text(f"{self.limit_bytes}\n")
        self._before[number] = group.kills()
        (group.folder / "cgroup.procs").write_text(f"{pid}\n")

    def kills(self, number: int) -> int:
        """Return how often the kernel killed in the group since the present worker came."""
        before = self._before.get(number)
        return 0 if before is None else max(0, self._group(number).kills() - before)

    def close(self) -> None:
        for number in self._before:
            # A process that no signal ends keeps its group.
            with suppress(OSError):
                self._group(number).folder.rmdir()

    def _group(self, number: int) -> MemoryGroup:
        return MemoryGroup(self._base.folder / f"taskqd-{os.getpid()}-{number}", self._base.names)

    def _make_room(self) -> None:
        """A group with groups below it that share out memory may hold no process itself."""
        own = self._base.folder / "taskqd"
        own.mkdir(exist_ok=True)
        for pid in _read(self._base.folder / "cgroup.procs").split():
            with suppress(ProcessLookupError):
                (own / "cgroup.procs").write_text(pid)
        (self._base.folder / "cgroup.subtree_control").write_text("+memory")

    def _sweep(self) -> None:
        """Remove the groups of daemons that are gone."""
        for folder in self._base.folder.iterdir():
            match = _OURS.fullmatch(folder.name)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                with suppress(OSError):
                    folder.rmdir()


def worker_groups(limit_bytes: int, found: list[MemoryGroup]) -> WorkerGroups | str:
    """Return groups of workers below our own group, or why there can be none."""
    base = _base(found)
    if isinstance(base, str):
        return base
    try:
        return WorkerGroups(base, limit_bytes)
    except OSError as error:
        return f"{base.folder}: {error.strerror}"


def _base(found: list[MemoryGroup]) -> MemoryGroup | str:
    """Return the group below which we may make others, or why there is none."""
    if not found:
        return "no memory control group is in sight"
    own = found[0]
    # With DelegateSubgroup= the unit's group is the one above ours.
    marked = [group for group in found[:2] if _is_marked(group.folder)]
    if _SYSTEMDS.search(str(own.folder)) and not marked:
        return f"{own.folder} belongs to systemd; set Delegate=yes in the unit"
    base = marked[0] if marked else own
    if not os.access(base.folder, os.W_OK) or not os.access(base.folder / "cgroup.procs", os.W_OK):
        return f"{base.folder} cannot be written to"
    if base.names is V2 and "memory" not in _read(base.folder / "cgroup.controllers").split():
        return f"{base.folder} has no memory controller"
    return base


def _is_marked(folder: Path) -> bool:
    """Return whether systemd has marked the group as delegated."""
    for name in _DELEGATED:
        with suppress(OSError):
            return os.getxattr(folder, name) == b"1"
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        # Not there, or not ours to read: then it says nothing.
        return ""


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() else None


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value) or 0
    return 0
