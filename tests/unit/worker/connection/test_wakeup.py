"""How a storage wakes: the bell's descriptor is watched once per arming."""

from __future__ import annotations

import os
from collections.abc import Iterator
from select import epoll
from typing import Any

import pytest

from taskqd.jobs.job import Lease
from taskqd.worker.connection.wakeup import Wakeup
from tests.support.waiting import HANG_S


class SharedBell:
    """A bell whose descriptor stays readable, as one that others share."""

    poll_s = 5.0

    def __init__(self) -> None:
        self._fd = os.eventfd(1)
        self.armed = 0

    def arm(self) -> None:
        self.armed += 1

    def fileno(self) -> int:
        return self._fd

    def answer(self) -> list[Lease]:
        return []

    def disarm(self) -> list[Lease]:
        return []

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def bell() -> SharedBell:
    return SharedBell()


@pytest.fixture
def poll() -> Iterator[epoll]:
    with epoll() as made:
        yield made


def test_a_descriptor_that_stays_readable_wakes_once_per_arming(bell: Any, poll: epoll) -> None:
    wakeup = Wakeup(lambda: bell, poll)
    for _ in range(3):
        wakeup.arm()
        [(fd, _events)] = poll.poll(HANG_S)
        assert wakeup.rings(fd)
        assert wakeup.answer() == []
        assert not poll.poll(0), "it is for somebody else now"
    wakeup.close()


def test_a_worker_that_is_armed_is_not_armed_again(bell: Any, poll: epoll) -> None:
    wakeup = Wakeup(lambda: bell, poll)
    wakeup.arm()
    wakeup.arm()
    assert bell.armed == 1
    wakeup.disarm()
    assert not wakeup.armed
    assert not poll.poll(0)
    wakeup.close()
