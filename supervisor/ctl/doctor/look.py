"""Gathers what the checks of `taskqctl doctor` need of this host: /proc, control groups, systemd.

`root` holds ``proc`` and ``sys``.  What cannot be read is left out, never guessed.

Sources: man 5 proc; kernel Documentation/admin-guide/cgroup-v2.rst and cgroup-v1.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from .facts import ControlGroup, Daemon, Manager, Parent

ROOT = Path("/")
SYSTEMCTL_S = 5.0
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d|w)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
V1_UNLIMITED = 1 << 60


def daemon(status: dict[str, Any], socket: str, root: Path = ROOT) -> Daemon:
    """Return what the daemon says of itself, and what the kernel says of it."""
    pid = status["pid"]
    running = [job["ran_s"] for row in status["workers"] for job in row.get("running", ())]
    place, folder = os.stat(socket), os.stat(os.path.dirname(os.path.abspath(socket)))
    return Daemon(
        pid=_own_pid(root, pid),
        grace_s=status["grace_s"],
        workers=status["wanted"],
        slots=status["slots"],
        longest_run_s=max(running, default=0.0),
        parent=_parent(root, pid),
        unsafe=tuple(status["unsafe"]),
        nofile=_nofile(_read(root / f"proc/{pid}/limits")),
        socket_mode=stat.S_IMODE(place.st_mode),
        folder_mode=stat.S_IMODE(folder.st_mode),
    )


def _own_pid(root: Path, pid: int) -> int:
    """Return the pid as the innermost namespace of the process counts."""
    found = re.search(r"^NSpid:.*\s(\d+)$", _read(root / f"proc/{pid}/status"), re.MULTILINE)
    return int(found[1]) if found else pid


def _parent(root: Path, pid: int) -> Parent | None:
    fields = _read(root / f"proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 5:
        return None
    parent, terminal = int(fields[1]), fields[4] != "0"
    words = _read(root / f"proc/{parent}/cmdline").rstrip("\0").split("\0")
    name = _read(root / f"proc/{parent}/comm").strip()
    return Parent(_own_pid(root, parent), name, len(words), terminal)


def _nofile(limits: str) -> float:
    found = re.search(r"^Max open files\s+(\S+)", limits, re.MULTILINE)
    return float(found[1]) if found and found[1].isdecimal() else math.inf


# -- control groups --------------------------------------------------------------------------------


def group(pid: int, root: Path = ROOT) -> ControlGroup | None:
    """Return the tightest limits on the way up from the process's groups; None: there are none."""
    text = _read(root / f"proc/{pid}/cgroup")
    if not text:
        return None
    return ControlGroup(
        *_tightest(text, root, "memory", (("memory.max", "memory.current"), _V1_MEMORY)),
        *_tightest(text, root, "pids", (("pids.max", "pids.current"),)),
        cpus=min(map(_quota, _folders(text, root, "cpu")), default=math.inf),
    )


_V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _tightest(
    text: str, root: Path, controller: str, names: tuple[tuple[str, str], ...]
) -> tuple[float, int]:
    """Return the least maximum and what is used of it."""
    best: tuple[float, int] = (math.inf, 0)
    for folder in _folders(text, root, controller):
        for maximum, used in names:
            limit, current = _read(folder / maximum).strip(), _read(folder / used).strip()
            if (
                limit.isdecimal()
                and current.isdecimal()
                and int(limit) < min(best[0], V1_UNLIMITED)
            ):
                best = (int(limit), int(current))
    return best


def _folders(text: str, root: Path, controller: str) -> list[Path]:
    """Return the group's folder for a controller and all above it, in both versions."""
    found: list[Path] = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for top in (controllers, controller, "unified") if controllers else ("", "unified"):
            folder = root / "sys/fs/cgroup" / top / path.strip("/")
            found += [folder, *list(folder.parents)[: len(Path(path.strip("/")).parts)]]
    return found


def _quota(folder: Path) -> float:
    words = _read(folder / "cpu.max").split()
    if len(words) != 2:
        words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return math.inf
    return int(words[0]) / int(words[1])


# -- who stops it ----------------------------------------------------------------------------------


def manager(pid: int, pod_grace_s: float | None, root: Path = ROOT) -> Manager:
    unit = _unit(_read(root / f"proc/{pid}/cgroup"))
    if unit and (shown := _systemctl(unit)):
        patience = span_s(shown.get("TimeoutStopUSec", ""))
        return Manager(unit, patience, notify=shown.get("Type", "").startswith("notify"))
    pod = pod_grace_s is not None or "KUBERNETES_SERVICE_HOST" in os.environ
    return Manager(pod=pod, pod_grace_s=pod_grace_s)


def _unit(groups: str) -> str:
    """Return the service that a process belongs to, "" for none."""
    for line in groups.splitlines():
        services = [part for part in line.split(":", 2)[2].split("/") if part.endswith(".service")]
        # A user's session is a service too; what runs in it is not stopped by it.
        if services and not services[-1].startswith("user@"):
            return services[-1]
    return ""


def _systemctl(unit: str) -> dict[str, str]:
    program = shutil.which("systemctl")
    if program is None:
        return {}
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, "show", "--property=TimeoutStopUSec,Type", "--", unit],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SYSTEMCTL_S,
            check=True,
        )
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {}


def span_s(text: str) -> float | None:
    """Return the seconds of a time span as systemctl writes it: "1min 30s", "infinity"."""
    if text.strip() == "infinity":
        return math.inf
    parts = _SPAN.findall(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        # Gone, hidden from this user, or another kernel: then there is nothing to check.
        return ""
