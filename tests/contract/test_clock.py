"""What a storage keeps for a time, after the wall clock was set."""

from __future__ import annotations

import pytest

from taskqd.storage.base import Storage
from taskqd.storage.features import Features
from taskqd.storage.memory import MemoryStorage
from tests.contract.clocks import HOUR_MS, WallClock
from tests.support.rigs.rig import Rig

MINUTE_MS = 60_000


@pytest.fixture
def clock(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(storage, monkeypatch)


def test_a_rate_goes_on_after_the_clock_was_set_back(
    features: Features, rig: Rig, clock: WallClock
) -> None:
    assert [features.take("k", 2, MINUTE_MS, name) for name in "ab"] == [0, 0]
    assert features.take("k", 2, MINUTE_MS, "c") > 0
    clock.set(-HOUR_MS)
    assert 0 < features.take("k", 2, MINUTE_MS, "d") <= 63_020
    assert features.take("other", 2, MINUTE_MS, "d") == 0


def test_a_rate_counts_what_it_counted_before_the_clock_was_set_back(
    features: Features, rig: Rig, clock: WallClock
) -> None:
    assert features.take("k", 2, MINUTE_MS, "a") == 0
    clock.set(-HOUR_MS)
    assert features.take("k", 2, MINUTE_MS, "b") == 0
    assert features.take("k", 2, MINUTE_MS, "c") > 0


def test_a_rate_is_free_after_the_clock_was_set_forward(
    features: Features, rig: Rig, clock: WallClock
) -> None:
    assert features.take("k", 1, MINUTE_MS, "a") == 0
    assert features.take("k", 1, MINUTE_MS, "b") > 0
    clock.set(HOUR_MS)
    assert features.take("k", 1, MINUTE_MS, "b") == 0
    assert 0 < features.take("k", 1, MINUTE_MS, "a") <= 63_020


def test_a_lock_lasts_no_longer_than_its_length_after_the_clock_was_set_back(
    features: Features, rig: Rig, clock: WallClock
) -> None:
    assert features.lock("a", "client:1", ttl_s=60) is not None
    assert features.lock("b", "client:1", ttl_s=30) is not None
    clock.set(-HOUR_MS)
    assert {row.name: _left_s(row.expires_in_s) for row in features.locks()} == {"a": 60, "b": 30}
    for name in "ab":
        assert features.lock(name, "client:2", ttl_s=600) is None
    assert {row.name: _left_s(row.expires_in_s) for row in features.locks()} == {"a": 60, "b": 30}
    clock.set(MINUTE_MS)
    # In memory a lock goes by the monotonic clock: no minute has passed.
    is_over = not isinstance(features, MemoryStorage)
    for name in "ab":
        assert (features.lock(name, "client:2", ttl_s=600) is not None) == is_over


def test_a_purge_cuts_what_lasts_too_long_after_the_clock_was_set_back(
    features: Features, rig: Rig, clock: WallClock
) -> None:
    assert features.lock("a", "client:1", ttl_s=60) is not None
    clock.set(-HOUR_MS)
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    [row] = features.locks()
    assert _left_s(row.expires_in_s) == 60


def test_an_owner_renews_its_lock_whatever_the_clock_is(
    features: Features, rig: Rig, clock: WallClock
) -> None:
    token = features.lock("a", "client:1", ttl_s=60)
    clock.set(-HOUR_MS)
    assert features.renew_lock("a", "client:1", 120)
    [row] = features.locks()
    assert (_left_s(row.expires_in_s), row.token) == (120, token)
    assert features.lock("a", "client:2", ttl_s=60) is None


def test_a_lock_that_lives_with_its_worker_knows_no_clock(
    features: Features, rig: Rig, clock: WallClock
) -> None:
    assert features.lock("a", "n.1#1") is not None
    for by_ms in (-HOUR_MS, 2 * HOUR_MS):
        clock.set(by_ms)
        assert features.lock("a", "n.2#1") is None
        rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
        assert _held_by(features, "a") == ["n.1#1"]


def _left_s(left_s: float | None) -> int:
    """Return what is left to a lock, in full halves of a minute: a slow test is no failure."""
    assert left_s is not None
    return -int(-left_s // 30) * 30


def _held_by(features: Features, name: str) -> list[str]:
    return [row.owner for row in features.locks() if row.name == name]
