"""Which server has a key: ranges as a cluster tells them, and what it says meanwhile."""

from __future__ import annotations

from taskqd.storage.redis.link.slots import SlotMap, slot_of

ASKED = ("seed", 7000)
A, B = ("10.0.0.1", 7001), ("seed", 7002)
ROWS = [
    [0, 5000, [b"10.0.0.1", 7001, b"id", []], [b"10.0.0.9", 7001, b"replica", []]],
    [6000, 16383, [b"", 7002, b"id", []]],
]


def _key(first: int, last: int) -> str:
    keys = (f"{{shop:{number}}}:jobs" for number in range(100_000))
    return next(key for key in keys if first <= slot_of(key) <= last)


def test_all_keys_of_a_queue_share_a_slot() -> None:
    assert slot_of("{shop:q}:jobs") == slot_of("{shop:q}:nothing") == slot_of("{shop:q}")
    assert slot_of("foo") == 12182


def test_a_key_is_at_the_master_of_its_range_and_a_gap_is_nobodys() -> None:
    slots = SlotMap()
    assert slots.place("x") is None
    assert slots.learn(ASKED, ROWS)
    assert slots.place(_key(0, 5000)) == A
    assert slots.place(_key(5001, 5999)) is None
    assert slots.place(_key(6000, 16383)) == B, "one without a name is where the one asked is"
    assert slots.places() == [A, B]


def test_a_redirection_counts_until_the_cluster_tells_of_its_ranges() -> None:
    slots = SlotMap()
    slots.learn(ASKED, ROWS)
    key = _key(0, 5000)
    slots.moved(slot_of(key), B)
    assert slots.place(key) == B
    assert slots.learn(ASKED, [[0, 16383, [None, 7003, b"id", []]]])
    assert slots.place(key) == ("seed", 7003)


def test_a_slot_that_came_back_to_where_it_was_is_asked_for_there() -> None:
    """A planned failover, told by a redirection, and then the old server takes over again."""
    slots = SlotMap()
    slots.learn(ASKED, ROWS)
    key = _key(0, 5000)
    slots.moved(slot_of(key), B)
    assert slots.learn(("10.0.0.3", 7003), ROWS)
    assert slots.place(key) == A
    assert not slots.learn(("10.0.0.3", 7003), ROWS), "nothing is new"
