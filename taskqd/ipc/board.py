"""The board: shared memory in which workers post what they are doing and the master reads it.

One fixed-size row for each worker, on an mmap that master, zygote, workers and scheduler share.
Each field has one writer.  law: a word that others watch is written as a whole, by assignment to a
memoryview of words; `struct.pack_into` clears the bytes first, and a reader would see the zeros
(test_no_reader_ever_sees_a_word_or_a_slot_half_written).  A slot posts its token last before it runs a job and clears it first after, so the master can tell,
after any kind of death, which leases had started.

Behind the rows stand two words for each: how many ends its worker keeps that cannot be settled, and
how many came too late.  Who has mapped the board of an older master finds no such words, and posts nothing.

This module makes no system call; whoever owns the mmap passes it in.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct("<QQQQ")
"""layout version, rows, slots in a row, unused"""
ROW = struct.Struct("<QQQQQQQQQQ")
"""beat_ns, pid, jobs done, jobs failed, jobs retried, jobs interrupted, ready,
token of a job that was asked to stop (0: none), turned_ns, heard_ns"""
SLOT = struct.Struct("<QQQ40s64sQ")
"""token (0: idle), started_ns, deadline_ns (0: none), job id, task (both clipped), latest token"""
FACTS = struct.Struct("<QQ40s64sQ")
"""The same without the token."""
WORD_BYTES = 8
SLOT_WORDS = SLOT.size // WORD_BYTES
VERSION = 1

BEAT, PID, DONE, FAILED, RETRIED, INTERRUPTED, READY, REVOKED, TURNED, HEARD = range(10)
"""TURNED: when the event loop of the slots last let another job run; 0: they have none.
HEARD: when the storage last answered."""


SETTLING, FENCED = range(2)
"""The words behind the rows, two for each."""
_BEHIND = 2


class SlotView(NamedTuple):
    """What one slot is doing.  Times are CLOCK_MONOTONIC nanoseconds, the same for all processes."""

    slot: int
    token: int
    started_ns: int
    deadline_ns: int
    job_id: str
    task: str


def size(rows: int, slots: int) -> int:
    """Return the bytes that a board needs."""
    return size_of_rows(rows, slots) + rows * _BEHIND * WORD_BYTES


def size_of_rows(rows: int, slots: int) -> int:
    """Return the bytes of a board without the words behind its rows."""
    return HEADER.size + rows * (ROW.size + slots * SLOT.size)


class Board:
    """`rows` rows of `slots` slots over `memory` (an mmap or bytearray of `size(rows, slots)`)."""

    def __init__(self, memory: memoryview, rows: int, slots: int) -> None:
        self._memory = memory
        self._words = memory.cast("Q")
        self.rows = rows
        self.slots = slots
        self._stride = ROW.size + slots * SLOT.size
        self._behind = size_of_rows(rows, slots) // WORD_BYTES
        self._has_behind = len(memory) >= size(rows, slots)

    def row(self, number: int) -> Row:
        if not 0 <= number < self.rows:
            raise IndexError(f"board has rows 0..{self.rows - 1}, not {number}")
        offset = HEADER.size + number * self._stride
        behind = self._behind + number * _BEHIND if self._has_behind else None
        return Row(self._memory, self._words, offset, self.slots, behind)

    def close(self) -> None:
        """Let go of the memory, so that its owner can unmap it."""
        self._words.release()


class Row:
    """One worker's row."""

    def __init__(
        self,
        memory: memoryview,
        words: memoryview,
        offset: int,
        slots: int,
        behind: int | None = None,
    ) -> None:
        """`behind`: the first word behind the rows that is this one's; None: there are none."""
        self._behind = behind
        self._memory = memory
        self._words = words
        self._offset = offset
        self._first = offset // WORD_BYTES
        self._slots = offset + ROW.size
        self._tokens = self._slots // WORD_BYTES
        self.slots = slots

    def clear(self) -> None:
        end = self._slots + self.slots * SLOT.size
        self._memory[self._offset : end] = bytes(end - self._offset)
        for word in range(_BEHIND):
            self.set_behind(word, 0)

    def set_behind(self, word: int, value: int) -> None:
        """Write a word behind the rows, where the board has them."""
        if self._behind is not None:
            self._words[self._behind + word] = value

    def behind(self, word: int) -> int:
        """Return a word behind the rows; 0 where the board has none."""
        if self._behind is None:
            return 0
        value: int = self._words[self._behind + word]
        return value

    def set(self, field: int, value: int) -> None:
        self._words[self._first + field] = value

    def get(self, field: int) -> int:
        value: int = self._words[self._first + field]
        return value

    def begin(
        self, slot: int, token: int, started_ns: int, deadline_ns: int, job_id: str, task: str
    ) -> None:
        """Post that `slot` starts a job, or more of what is known of the one it has.

        Called by the slot's own thread.  The token comes last and is never taken away between.
        """
        FACTS.pack_into(
            self._memory,
            self._slots + slot * SLOT.size + WORD_BYTES,
            started_ns,
            deadline_ns,
            job_id.encode(),  # longer ones are cut by struct
            task.encode(),
            token,
        )
        self._words[self._tokens + slot * SLOT_WORDS] = token

    def end(self, slot: int) -> None:
        """Post that `slot` is idle."""
        self._words[self._tokens + slot * SLOT_WORDS] = 0

    def slot(self, number: int) -> SlotView | None:
        """Return what slot `number` runs, None if idle."""
        while True:
            token, started, deadline, job_id, task, _ = SLOT.unpack_from(
                self._memory, self._slots + number * SLOT.size
            )
            if not token:
                return None
            # The slot may have gone on to another job while its facts were read.
            if self._words[self._tokens + number * SLOT_WORDS] == token:
                return SlotView(number, token, started, deadline, _text(job_id), _text(task))

    def ended(self) -> list[SlotView]:
        """Return the latest job of each idle slot: its outcome may not have been written yet."""
        views = []
        for number in range(self.slots):
            token, started, deadline, job_id, task, latest = SLOT.unpack_from(
                self._memory, self._slots + number * SLOT.size
            )
            if latest and not token:
                views.append(
                    SlotView(number, latest, started, deadline, _text(job_id), _text(task))
                )
        return views

    def busy(self) -> list[SlotView]:
        views = (self.slot(number) for number in range(self.slots))
        return [view for view in views if view is not None]


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="replace")
