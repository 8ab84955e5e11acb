"""A memory control group of our own for a test, where this machine and user allow one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskqd.supervisor.host import cgroup
from taskqd.supervisor.host.cgroup import V2, MemoryGroup
from tests.support.waiting import wait_until


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make a group with a limit; skips the test, with the reason, where there can be none."""
    group = _make(limit_bytes)
    try:
        yield group
    finally:
        wait_until(lambda: _removed(group.folder), f"nobody to be in {group.folder}")


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def _make(limit_bytes: int) -> MemoryGroup:
    found = cgroup.groups()
    if os.geteuid() != 0 or not found:
        pytest.skip("only root can make a memory control group")
    # Of version 2 only groups without processes can be shared out: the topmost one is.
    above = found[-1] if found[0].names is V2 else found[0]
    group = MemoryGroup(above.folder / f"taskqd-test-{os.getpid()}", above.names)
    try:
        group.folder.mkdir()
        (group.folder / group.names.limits[0]).write_text(str(limit_bytes))
    except OSError as error:
        if group.folder.exists():
            group.folder.rmdir()
        pytest.skip(f"no memory control group can be made here: {error}")
    return group


def inside(group: MemoryGroup, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in the group."""
    script = f'echo $$ > "{group.folder}/cgroup.procs" && exec "$@"'
    return ["sh", "-c", script, "sh", *argv]


def subgroups(group: MemoryGroup) -> list[Path]:
    return [path for path in group.folder.iterdir() if path.is_dir()]
