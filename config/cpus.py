"""The number of processors that this process may use: its affinity, bounded by its CPU quota.

Source: kernel Documentation/admin-guide/cgroup-v2.rst (cpu.max) and cgroup-v1/cgroups.rst with
scheduler/sched-bwc.rst (cpu.cfs_quota_us); man 5 proc for /proc/self/cgroup.
"""

from __future__ import annotations

import math
import os
from pathlib import Path


def worker_count(root: Path = Path("/"), allowed: int | None = None) -> int:
    """Return what "auto" stands for: at least 1.

    `root` holds ``proc`` and ``sys``; `allowed` is the number of processors of the affinity mask.
    """
    allowed = allowed or len(os.sched_getaffinity(0))
    quota = quota_cpus(root)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def quota_cpus(root: Path) -> float | None:
    """Return the least CPU quota of this process's cgroups, in processors; None: unlimited."""
    quotas = [quota for group in _groups(root) if (quota := _quota(group)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> list[Path]:
    """Return the folders that may hold a quota: the process's own cgroup and all above it."""
    mounts = root / "sys/fs/cgroup"
    folders: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            folders += _upward(mounts, path)
        elif "cpu" in controllers.split(","):
            for name in (controllers, "cpu", "cpu,cpuacct"):
                folders += _upward(mounts / name, path)
    return folders


def _upward(mount: Path, path: str) -> list[Path]:
    # In a cgroup namespace a path may lead outside ("/.."): what is there is not visible anyway.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:length]) for length in range(len(parts) + 1)]


def _quota(group: Path) -> float | None:
    maximum = _read(group / "cpu.max").split()
    if len(maximum) == 2:
        return _ratio(*maximum)
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """Return quota / period; None for "max", "-1" and whatever is no pair of numbers."""
    try:
        quota_us, period_us = int(quota), int(period)
    except ValueError:
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        # No such controller, or hidden from us: then it sets no bound that we could know.
        return ""
