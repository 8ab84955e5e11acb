"""Looking at jobs, queues and the file, on SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taskqd.clock import now_ms
from taskqd.jobs.job import State
from taskqd.storage.base import JobRow, QueueRow
from taskqd.storage.rules import (
    answer_state,
)
from taskqd.storage.sqlite.file import disk
from taskqd.storage.sqlite.file.connection import (
    SAFE_VERSION,
    Database,
    library_version,
)
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.lifetimes import leftovers
from taskqd.storage.sqlite.rows.transaction import DEAD, ENDED, HELD, LATER, READY, SUSPECT, Line

PAGE_ROWS = 500
STATES = {
    State.QUEUED: (SUSPECT, READY),
    State.SCHEDULED: (LATER,),
    State.RUNNING: (HELD,),
    State.DEAD: (DEAD,),
    State.DONE: (ENDED,),
    State.CANCELLED: (ENDED,),
}
_PAGE = "SELECT * FROM job WHERE queue=? AND state=? ORDER BY rank, pos, n LIMIT ?"
_NEXT_PAGE = """
SELECT * FROM job WHERE queue=? AND state=? AND (rank, pos, n) > (?, ?, ?)
ORDER BY rank, pos, n LIMIT ?"""
_COUNT = "SELECT count(*) FROM job WHERE queue=? AND state=?"


class ViewCalls(Base):
    """The contract's calls that change nothing."""

    def job(self, job_id: str, queue: str | None = None) -> JobRow | None:
        for name, queue_id in self._queue_ids().items():
            if queue is None or name == queue:
                row = self._db.row("SELECT * FROM job WHERE queue=? AND id=?", (queue_id, job_id))
                if row is not None and not (row[3] == ENDED and row[4] <= now_ms()):
                    return _job_row(name, row)
        return None

    def jobs(self, state: State, queue: str | None = None) -> Iterator[JobRow]:
        for name, queue_id in self._queue_ids().items():
            if queue is None or name == queue:
                for place in STATES[state]:
                    rows = (_job_row(name, row) for row in self._pages(queue_id, place))
                    yield from (row for row in rows if row.state is state)

    def _pages(self, queue_id: int, state: int) -> Iterator[tuple[Any, ...]]:
        page = self._db.rows(_PAGE, (queue_id, state, PAGE_ROWS))
        while page:
            now = now_ms()
            yield from (row for row in page if not (row[3] == ENDED and row[4] <= now))
            n, _, _, _, rank, pos, *_ = page[-1]
            page = self._db.rows(_NEXT_PAGE, (queue_id, state, rank, pos, n, PAGE_ROWS))

    def queues(self) -> list[QueueRow]:
        rows = [self._queue_row(line) for line in self._reader().every()]
        return [row for row in rows if any(row[1:])]

    def _queue_row(self, line: Line) -> QueueRow:
        later, held, dead = (
            self._only(_COUNT, (line.id, state))[0] for state in (LATER, HELD, DEAD)
        )
        return QueueRow(line.name, line.ready + line.suspects, later, held, dead, line.paused)

    def parts(self, queues: Sequence[str]) -> list[list[str]]:
        return [list(queues)]

    def epoch(self) -> str:
        epoch: str = self._only("SELECT epoch FROM store")[0]
        return epoch

    def ping(self) -> None:
        """Raise where the file cannot be written now."""
        self._write(lambda unit: None)

    def server_ms(self) -> int:
        return now_ms()

    def leftovers(self) -> Iterator[str]:
        yield from leftovers(self._reader())
        yield from self._wake.unread(self._space)

    def warnings(self) -> list[str]:
        found = [disk.doubt(self.path)]
        if library_version() < SAFE_VERSION:
            version, safe = (".".join(map(str, v)) for v in (library_version(), SAFE_VERSION))
            found.append(
                f"SQLite {version} can damage the file when it resets its write-ahead log; "
                f"install an apsw with {safe} or newer"
            )
        if self._reserve.is_spent():
            found.append(
                f"sqlite storage {self.path}: no room for its reserve; new jobs may be refused"
            )
        if self._synchronous == "normal":
            found.append("sqlite: synchronous=normal: a power cut may lose the last jobs enqueued")
        return [text for text in found if text]


def namespaces(path: str) -> list[str]:
    """Return the namespaces that have a queue, sorted."""
    connection = Database(path, synchronous="full")
    try:
        rows = connection.rows(
            "SELECT name FROM space"
            " WHERE EXISTS (SELECT 1 FROM queue WHERE queue.space = space.id) ORDER BY name"
        )
    finally:
        connection.close()
    return [name for (name,) in rows]


def _job_row(queue: str, row: tuple[Any, ...]) -> JobRow:
    _, _, job_id, state, rank, _, _, _, reason, answer, record, _ = row
    return JobRow(
        job_id,
        queue,
        answer_state(answer) if state == ENDED else _SHOWN[state],
        record,
        rank if state in (LATER, DEAD) else 0,
        rank if state == HELD else "",
        reason,
        answer,
    )


_SHOWN = {
    READY: State.QUEUED,
    SUSPECT: State.QUEUED,
    LATER: State.SCHEDULED,
    HELD: State.RUNNING,
    DEAD: State.DEAD,
}
