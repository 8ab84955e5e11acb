"""A queue whose reader sleeps until something is put."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from select import EPOLLET, EPOLLIN, epoll

import pytest

from taskqd.worker.host.event_queue import EventQueue
from tests.support.waiting import HANG_S


@pytest.fixture
def queue() -> EventQueue[int]:
    return EventQueue()


@pytest.fixture
def poll(queue: EventQueue[int]) -> Iterator[epoll]:
    with epoll() as made:
        made.register(queue.fileno(), EPOLLIN | EPOLLET)
        yield made


def test_what_is_put_comes_out_in_order_and_once(queue: EventQueue[int]) -> None:
    for number in range(3):
        queue.put(number)
    assert queue.take() == [0, 1, 2]
    assert queue.take() == []


def test_each_put_after_a_take_wakes_the_reader_again(queue: EventQueue[int], poll: epoll) -> None:
    for number in range(3):
        queue.put(number)
        queue.put(number)
        assert poll.poll(HANG_S)
        assert queue.take() == [number, number]
        assert not poll.poll(0)


def test_what_is_appended_waits_for_a_ring(queue: EventQueue[int], poll: epoll) -> None:
    queue.append(1)
    assert not poll.poll(0)
    queue.ring()
    assert poll.poll(HANG_S)
    assert queue.take() == [1]


def test_what_is_put_while_the_reader_takes_rings_again() -> None:
    """Were the flag to fall after the items, an item put in between would wait for the next one."""
    queue: EventQueue[int] = EventQueue()
    late: list[int] = []

    class Items(list[int]):
        def popleft(self) -> int:
            if not late:
                late.append(2)
                queue.put(2)
            return self.pop(0)

    items = Items([1])
    queue._items, queue.append = items, items.append  # type: ignore[assignment]
    with epoll() as poll:
        poll.register(queue.fileno(), EPOLLIN | EPOLLET)
        queue.rung = True
        assert queue.take() == [1]
        assert poll.poll(HANG_S)
        assert queue.take() == [2]


def test_nothing_is_lost_between_threads(queue: EventQueue[int], poll: epoll) -> None:
    count = 2000

    def put() -> None:
        for number in range(count):
            queue.put(number)

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    taken: list[int] = []
    while len(taken) < 3 * count:
        assert poll.poll(HANG_S), "a put did not wake the reader"
        taken += queue.take()
    for thread in threads:
        thread.join(HANG_S)
    assert sorted(taken) == sorted(list(range(count)) * 3)
