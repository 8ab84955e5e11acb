"""Which server of a cluster has which slots, as far as it is known.  No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot

Place = tuple[str, int]
"""Host and port."""


def slot_of(key: str) -> int:
    return int(key_slot(key.encode()))


class SlotMap:
    def __init__(self) -> None:
        self._starts: list[int] = []
        """First slots of the ranges."""
        self._ranges: list[tuple[int, Place]] = []
        """Last slot and server."""
        self._moved: dict[int, Place] = {}
        """Slots of which a server has said since that another one has them."""

    def place(self, key: str) -> Place | None:
        """Return the server that has a key, None where nobody has."""
        slot = slot_of(key)
        if slot in self._moved:
            return self._moved[slot]
        at = bisect_right(self._starts, slot) - 1
        return self._ranges[at][1] if at >= 0 and slot <= self._ranges[at][0] else None

    def places(self) -> list[Place]:
        """Return all servers that have slots."""
        return sorted({place for _, place in self._ranges} | set(self._moved.values()))

    def moved(self, slot: int, place: Place) -> None:
        self._moved[slot] = place

    def learn(self, told_by: Place, rows: Sequence[Any]) -> bool:
        """Take the reply to CLUSTER SLOTS; returns whether anything is new in it.

        What single redirections have said is older than it, also where the ranges are the same as the
        last time: a slot may have gone to another server and come back.
        """
        found = sorted((first, last, _place(told_by, *master)) for first, last, master, *_ in rows)
        ranges = [(last, place) for _, last, place in found]
        if ranges == self._ranges and not self._moved:
            return False
        self._starts, self._ranges = [first for first, *_ in found], ranges
        self._moved.clear()
        return True


def _place(told_by: Place, host: bytes | None, port: int, *_: Any) -> Place:
    """Return a server's place; one without a name is where the one is that told of it."""
    name = (host or b"").decode()
    return (told_by[0] if name in ("", "?") else name), int(port)
