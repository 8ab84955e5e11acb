"""What a process knows of its storage's clock."""

from __future__ import annotations

import pytest

from taskqd import clock as clocks
from taskqd.clock import StorageClock
from taskqd.errors import StorageUnavailable

NOON = 1_800_000_000_000


class Times:
    """A storage's clock, a host's, and the time since boot."""

    theirs, wall, boot = NOON, 5_000, 0.0
    asked = 0
    away = False

    def read(self) -> int:
        self.asked += 1
        if self.away:
            raise StorageUnavailable("away")
        return self.theirs

    def passes(self, ms: int) -> None:
        self.theirs, self.wall, self.boot = self.theirs + ms, self.wall + ms, self.boot + ms


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr(clocks, "now_ms", lambda: times.wall)
    monkeypatch.setattr(clocks, "_boot_ms", lambda: times.boot)
    return times


def test_it_is_asked_now_and_then_and_carried_on_in_between(times: Times) -> None:
    clock = StorageClock(times.read)
    for _ in range(3):
        assert clock.now_ms() == times.theirs
        times.passes(2000)
    assert (clock.now_ms(), times.asked) == (times.theirs, 2)


def test_a_host_whose_clock_was_set_asks_at_once_and_estimates_as_before(times: Times) -> None:
    clock = StorageClock(times.read)
    clock.now_ms()
    times.wall += 3_600_000
    assert clock.estimate_ms() == NOON
    assert (clock.now_ms(), times.asked) == (NOON, 2)


def test_a_storage_that_is_away_is_known_by_its_last_reading(times: Times) -> None:
    clock = StorageClock(times.read)
    clock.now_ms()
    times.away = True
    times.passes(60_000)
    with pytest.raises(StorageUnavailable):
        clock.refresh(times.read)
    for _ in range(3):
        assert clock.now_ms() == NOON + 60_000
    assert times.asked == 2, "a silent one is not waited for at each call"
    times.passes(60_000)
    times.theirs, times.away = NOON, False
    assert clock.now_ms() == NOON


def test_a_clock_that_was_never_read_is_no_guess_for_who_can_ask(times: Times) -> None:
    clock = StorageClock(times.read)
    times.away = True
    with pytest.raises(StorageUnavailable):
        clock.now_ms()
    assert clock.estimate_ms() == times.wall
