"""One transaction: the queues that it uses, and whom it wakes once it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from taskqd.storage.sqlite.file.connection import Database
from taskqd.storage.sqlite.file.wake import Wake, queue_place, timer_place

_EVERYBODY = 10_000
READY, SUSPECT, LATER, HELD, DEAD, ENDED = range(1, 7)
"""`job.state`; schema.sql tells what `rank` and `pos` are in each."""

_LINE = """
SELECT q.id, q.paused, q.head, q.tail, q.ready, q.suspects, m.node IS NOT NULL, EXISTS (
  SELECT 1 FROM knower k JOIN parked p ON p.queue = k.queue AND p.label = k.label
  WHERE k.queue = q.id AND k.node = ?1)
FROM queue q LEFT JOIN member m ON m.queue = q.id AND m.node = ?1
WHERE q.space = ?2 AND q.name = ?3"""
_KEEP = "UPDATE queue SET paused=?, head=?, tail=?, ready=?, suspects=? WHERE id=?"
_TO_PLACE = """
UPDATE job SET state=?, rank=?, pos=?, suspect=?, record=coalesce(?, record), extras=extras&1
WHERE n=?"""


class Line:
    """A queue's row, changed in memory and written back at the end of the transaction."""

    __slots__ = (
        "_kept", "has_letters", "head", "id", "is_served", "name", "paused", "ready", "suspects",
        "tail",
    )  # fmt: skip

    def __init__(self, name: str, row: Sequence[Any]) -> None:
        self.name = name
        self.id: int = row[0]
        self.paused = bool(row[1])
        self.head: int = row[2]
        self.tail: int = row[3]
        self.ready: int = row[4]
        self.suspects: int = row[5]
        self.is_served = bool(row[6])
        """The node given to `Transaction` is registered for it."""
        self.has_letters = bool(row[7])
        """There are letters under labels that this node knows."""
        self._kept = self.values()

    def values(self) -> tuple[int, ...]:
        return (int(self.paused), self.head, self.tail, self.ready, self.suspects)

    def is_changed(self) -> bool:
        return self._kept != self.values()

    def waiting(self) -> int:
        """Return how many jobs could be leased now; letters of its own count as one."""
        return 0 if self.paused else self.ready + self.suspects + self.has_letters


class Transaction:
    """What one call does.  Nobody is woken before the commit."""

    def __init__(self, db: Database, space: int, node: str = "") -> None:
        self.db = db
        self.space = space
        self._node = node
        self._lines: dict[str, Line] = {}
        self.ended: list[str] = []
        """Ids of jobs that got their answer."""
        self.wakes_timers = False
        self._rings: dict[str, int] = {}
        self._passed: set[str] = set()

    def line(self, name: str) -> Line | None:
        """Return the queue's row, None if it was never used."""
        line = self._lines.get(name)
        if line is None:
            row = self.db.row(_LINE, (self._node, self.space, name))
            if row is None:
                return None
            line = self._lines[name] = Line(name, row)
        return line

    def made_line(self, name: str) -> Line:
        """Return the queue's row, made now if it was never used."""
        line = self.line(name)
        if line is None:
            self.db.rows("INSERT INTO queue (space, name) VALUES (?, ?)", (self.space, name))
            line = self.line(name)
            assert line is not None
        return line

    def some(self, names: Iterable[str]) -> list[Line]:
        """Return those of the queues that were ever used."""
        lines = (self.line(name) for name in dict.fromkeys(names))
        return [line for line in lines if line is not None]

    def every(self) -> list[Line]:
        """Return all queues of this namespace."""
        names = self.db.rows("SELECT name FROM queue WHERE space=? ORDER BY name", (self.space,))
        return self.some(name for (name,) in names)

    # -- moves -------------------------------------------------------------------------------

    def to_tail(self, line: Line, n: int, priority: int, record: bytes | None = None) -> None:
        line.tail += 1
        line.ready += 1
        self.db.rows(_TO_PLACE, (READY, 9 - priority, line.tail, 0, record, n))
        self.ring(line)

    def to_head(
        self, line: Line, n: int, priority: int, record: bytes | None, *, suspect: bool = False
    ) -> None:
        line.head -= 1
        if suspect:
            line.suspects += 1
            self.db.rows(_TO_PLACE, (SUSPECT, 0, line.head, 1, record, n))
        else:
            line.ready += 1
            self.db.rows(_TO_PLACE, (READY, 9 - priority, line.head, 0, record, n))
        self.ring(line)

    def to_later(self, line: Line, n: int, run_at_ms: int, record: bytes | None = None) -> None:
        self.look_earlier(line, run_at_ms)
        line.tail += 1
        self.db.rows(_TO_PLACE, (LATER, run_at_ms, line.tail, 0, record, n))

    def look_earlier(self, line: Line, run_at_ms: int) -> None:
        """Wake schedulers if no delayed job of the queue is due before `run_at_ms`."""
        first = self.db.row(
            "SELECT rank FROM job WHERE queue=? AND state=? ORDER BY rank LIMIT 1", (line.id, LATER)
        )
        if first is None or run_at_ms < first[0]:
            self.wakes_timers = True

    def forget_place(self, line: Line, state: int) -> None:
        """Count a job out that leaves the place where it waits."""
        if state == READY:
            line.ready -= 1
        elif state == SUSPECT:
            line.suspects -= 1

    # -- the end -----------------------------------------------------------------------------

    def ring(self, line: Line, count: int = 1) -> None:
        if not line.paused:
            place = queue_place(line.id)
            self._rings[place] = self._rings.get(place, 0) + count

    def ring_everybody(self, line: Line) -> None:
        """Wake all idle workers: only some of them know what has come."""
        self.ring(line, _EVERYBODY)

    def pass_on(self, line: Line) -> None:
        """Wake one more worker where jobs remain: the ring for them may have been spent here."""
        if line.waiting():
            self._passed.add(queue_place(line.id))

    def write_back(self) -> None:
        """Write the rows of the queues that changed; last step of the transaction."""
        changed = [line for line in self._lines.values() if line.is_changed()]
        if changed:
            self.db.many(_KEEP, [(*line.values(), line.id) for line in changed])

    def wake(self, wake: Wake) -> None:
        """Wake whom this transaction concerns; called after the commit."""
        for place, count in self._rings.items():
            wake.ring(place, count)
        for place in self._passed.difference(self._rings):
            wake.ring(place, 1, others=True)
        if self.wakes_timers:
            wake.ring_all(timer_place(self.space))
        if self.ended:
            wake.ring_waiters(self.space, self.ended)
