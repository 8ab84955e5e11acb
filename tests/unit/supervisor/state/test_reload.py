"""What a reload may change."""

from __future__ import annotations

import msgspec

from taskqd.settings import Settings, WorkerSettings
from taskqd.supervisor.state.reload import fixed_changes


def test_what_only_a_restart_can_change_is_named() -> None:
    old = Settings(workers=WorkerSettings(count=2))
    changed = WorkerSettings(count=3, type="thread", memory_limit_bytes=2**30)
    new = msgspec.structs.replace(old, workers=changed)
    keys = ["workers.type", "workers.memory_limit", "workers.concurrency"]
    assert fixed_changes(old, new) == keys
    same = msgspec.structs.replace(old, workers=WorkerSettings(count=3, max_jobs=9))
    assert fixed_changes(old, same) == []
