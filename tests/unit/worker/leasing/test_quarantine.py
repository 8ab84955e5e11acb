"""When a worker runs empty for a job that may have killed another one."""

from __future__ import annotations

from taskqd.worker.leasing.quarantine import PATIENCE_S, Quarantine


def test_a_worker_runs_empty_for_a_suspect_and_gives_up_for_a_while_if_it_cannot() -> None:
    quarantine = Quarantine()
    quarantine.seen(1, 100.0)
    assert quarantine.running_empty(100.0 + PATIENCE_S / 2)
    assert not quarantine.running_empty(100.0 + PATIENCE_S)
    quarantine.seen(1, 100.0 + PATIENCE_S * 1.5)
    assert not quarantine.running_empty(100.0 + PATIENCE_S * 1.5)
    quarantine.seen(1, 100.0 + PATIENCE_S * 2)
    assert quarantine.running_empty(100.0 + PATIENCE_S * 3.9)


def test_without_suspects_leasing_goes_on() -> None:
    quarantine = Quarantine()
    quarantine.seen(2, 5.0)
    quarantine.seen(0, 5.1)
    assert not quarantine.running_empty(5.2)
