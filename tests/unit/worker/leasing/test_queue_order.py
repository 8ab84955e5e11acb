"""In which order the queues are asked."""

from __future__ import annotations

import random

from taskqd.worker.leasing.queue_order import QueueOrder


def test_queues_without_weights_are_asked_in_their_order() -> None:
    order = QueueOrder(("b", "a"), {}, random.random)
    assert {order.next() for _ in range(10)} == {("b", "a")}


def test_weighted_queues_go_first_in_proportion_and_none_is_left_out() -> None:
    order = QueueOrder(("heavy", "light"), {"heavy": 4}, random.Random(1).random)
    draws = [order.next() for _ in range(5000)]
    assert all(sorted(draw) == ["heavy", "light"] for draw in draws)
    first = sum(draw[0] == "heavy" for draw in draws) / len(draws)
    assert 0.77 < first < 0.83
