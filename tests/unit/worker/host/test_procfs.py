"""What the kernel tells of processes."""

from __future__ import annotations

import os

from taskqd.worker.host import procfs


def test_a_process_is_known_by_its_pid_and_start() -> None:
    me = os.getpid()
    started = procfs.start_time(me)
    assert procfs.runs(me, started)
    assert not procfs.runs(me, started + 1)
    assert not procfs.runs(2**22 - 3, 1)
    assert procfs.host_id()
