"""The figures of the machine that taskqctl top shows."""

from __future__ import annotations

from taskqd.supervisor.ctl.top import machine


def test_the_machine_is_looked_at() -> None:
    seen = machine.look()
    assert 0 <= seen["cpu_percent"] <= 100
    assert 0 < seen["memory_used_bytes"] < seen["memory_bytes"]
    assert len(seen["load"]) == 3
