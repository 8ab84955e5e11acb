"""An outage of the storage: when it begins and ends, and how long the next try waits."""

from __future__ import annotations

from taskqd.errors import StorageRefused, StorageUnavailable
from taskqd.worker.connection.outage import Backoff, Outage, loss


def test_backoff_doubles_up_to_its_cap_within_its_jitter() -> None:
    highest = Backoff(lambda low, high: high, 0.05, 2.0)
    lowest = Backoff(lambda low, high: low, 0.05, 2.0)
    assert [highest.next_s() for _ in range(8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert [lowest.next_s() for _ in range(3)] == [0.025, 0.05, 0.1]
    highest.reset()
    assert highest.next_s() == 0.05


def test_an_outage_begins_once_and_goes_on_backing_off_until_it_is_steady() -> None:
    outage = Outage(lambda low, high: high)
    assert outage.failed(10.0)
    assert not outage.failed(11.0)
    assert outage.retry_at_s == 11.1
    assert outage.lasted_s(15.0) == 5.0
    outage.over()
    assert not outage.lasts
    assert outage.failed(20.0)
    assert outage.retry_at_s == 20.2
    outage.steady()
    outage.failed(30.0)
    assert outage.retry_at_s == 30.05


def test_an_outage_kept_its_first_cause_when_the_password_had_changed() -> None:
    outage = Outage(lambda low, high: high)
    assert outage.failed(10.0, "the connection broke")
    assert outage.failed(11.0, "NOAUTH")
    assert not outage.failed(12.0, "NOAUTH")
    assert outage.lasted_s(15.0) == 5.0
    assert loss(StorageRefused("NOAUTH")).refused
    assert not loss(StorageUnavailable("away")).refused
