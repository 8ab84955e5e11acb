"""What the board says of each child: its beat, its jobs, and which of them are over time.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from taskqd.ipc import board
from taskqd.ipc.board import Board, SlotView

from .child import Child

OVERDUE_S = 0.5
"""A job past its deadline is its worker's own business for so long."""
BLOCKED_S = 3.0
"""A worker that has not beaten, or let another job run, for so long is held up by one job."""
LATE_S = 3.0
"""A beat that old makes the master look at the processor time."""
COMPUTING_SHARE = 0.02
"""What is stuck uses nothing; what computes on a crowded machine may get little."""
WEIGH_S = 2.0
UNRESPONSIVE_S = 30.0
"""A worker that runs a job asks its storage every second, an idle one at least every 10 s."""
PSS_S = 5.0
"""To add up its pages costs the kernel a few milliseconds a worker."""
_S = 1_000_000_000


@dataclass(slots=True)
class Observation:
    """What the board says of one child."""

    beat_age_s: float | None
    """None: no beat yet."""
    busy: list[SlotView]
    counters: tuple[int, ...]
    """jobs done, failed, retried, interrupted"""
    late: SlotView | None = None
    """A job past its deadline in this look."""
    overdue: SlotView | None = None
    """A job past its deadline in two looks."""
    revoked: SlotView | None = None
    """A job that was asked to stop and runs."""
    revoked_ns: int = 0
    """When that was first seen."""
    over: tuple[SlotView, ...] = ()
    """All jobs past their deadlines."""
    blocked: bool = False
    """One of its jobs keeps the others from running."""
    heard_age_s: float | None = None
    """Since the storage last answered it; None: it has not yet."""
    heard_from_ns: int = 0
    """Since when it has been answered without a longer gap."""
    steady_s: float = 0.0
    """For how long it has been answered so, up to the last answer."""
    settling: int = 0
    """How many jobs have ended there whose ends cannot be written yet."""
    fenced: int = 0
    """How many ends came too late."""


def look(
    children: Iterable[Child], before: Mapping[str, Observation], rows: Board, now_ns: int
) -> dict[str, Observation]:
    """Return what is seen of each child, by worker id; `before` is the last look.

    A job counts as overdue when two looks in a row say so: a slot is not written in one go, so one
    look may see a new job with the deadline of the one before.
    """
    return {c.worker_id: _see(c, rows, now_ns, before.get(c.worker_id)) for c in children}


def _see(child: Child, rows: Board, now_ns: int, before: Observation | None) -> Observation:
    row = rows.row(child.number)
    busy = row.busy()
    over = [v for v in busy if v.deadline_ns and now_ns > v.deadline_ns + OVERDUE_S * _S]
    late = over[0] if over else None
    beat_ns, turned_ns = row.get(board.BEAT), row.get(board.TURNED)
    silent_ns = [now_ns - at_ns for at_ns in (beat_ns, turned_ns) if at_ns]
    asked = row.get(board.REVOKED)
    revoked = next((v for v in busy if v.token == asked), None)
    known = before is not None and before.revoked is not None and before.revoked.token == asked
    heard_ns = row.get(board.HEARD)
    from_ns = _heard_from_ns(heard_ns, before)
    return Observation(
        beat_age_s=_age_s(now_ns, beat_ns),
        heard_age_s=_age_s(now_ns, heard_ns),
        heard_from_ns=from_ns,
        steady_s=(heard_ns - from_ns) / _S,
        busy=busy,
        settling=row.behind(board.SETTLING),
        fenced=row.behind(board.FENCED),
        counters=counters(rows, child.number),
        late=late,
        overdue=late if before is not None and late is not None and late == before.late else None,
        revoked=revoked,
        revoked_ns=before.revoked_ns if known and before is not None else now_ns,
        over=tuple(over),
        blocked=max(silent_ns, default=0) > BLOCKED_S * _S,
    )


def gap_s() -> float:
    """Return for how long even an idle worker that is well may go without an answer."""
    return UNRESPONSIVE_S / 2


def _age_s(now_ns: int, then_ns: int) -> float | None:
    return max(0, now_ns - then_ns) / _S if then_ns else None


def _heard_from_ns(heard_ns: int, before: Observation | None) -> int:
    """Return since when the answers have come without a gap."""
    if before is None or before.heard_age_s is None:
        return heard_ns
    last_ns = before.heard_from_ns + round(before.steady_s * _S)
    return before.heard_from_ns if heard_ns - last_ns < gap_s() * _S else heard_ns


def counters(rows: Board, number: int) -> tuple[int, ...]:
    """Return jobs done, failed, retried and interrupted by this row's worker."""
    row = rows.row(number)
    return tuple(row.get(field) for field in range(board.DONE, board.INTERRUPTED + 1))


def running(rows: Board, number: int) -> list[SlotView]:
    """Return the jobs that had started in this row."""
    return rows.row(number).busy()


class Remains(NamedTuple):
    """What the row of a dead child says of it."""

    running: list[SlotView]
    """The jobs that had started."""
    blamed: list[SlotView]
    """The jobs that a crash counts against."""
    counters: tuple[int, ...]
    fenced: int
    served: bool
    """It was ready, or ran a job, whatever it could still say."""


def remains(rows: Board, number: int) -> Remains:
    """Read the row of a dead child, once.

    Where no job runs, its crash is blamed on what ran last: a job may close its worker's files, or
    leave a thread that ends the process.  Its lease is still held if its outcome was not written;
    if it was, this counts against nothing.
    """
    row = rows.row(number)
    busy = row.busy()
    served = bool(busy) or bool(row.get(board.READY))
    fenced = row.behind(board.FENCED)
    return Remains(busy, busy or row.ended(), counters(rows, number), fenced, served)


def weigh(
    child: Child, seen: Observation, now_s: float, cpu_s: Callable[[int], float | None]
) -> None:
    """Judge from its processor time whether a worker with a late beat computes or is stuck."""
    if seen.beat_age_s is None or seen.beat_age_s < LATE_S or child.role != "worker":
        child.load.cpu_s, child.load.computes = None, False
        return
    if child.load.cpu_s is not None and now_s < child.load.cpu_at_s + WEIGH_S:
        return
    before_s, before_at_s = child.load.cpu_s, child.load.cpu_at_s
    child.load.cpu_s, child.load.cpu_at_s = cpu_s(child.pid), now_s
    if before_s is not None and child.load.cpu_s is not None:
        child.load.computes = child.load.cpu_s - before_s > COMPUTING_SHARE * (now_s - before_at_s)


def measure(child: Child, now_s: float, pss_bytes: Callable[[int], int | None]) -> None:
    """Note a worker's memory, now and then."""
    if child.pid and now_s >= child.load.pss_at_s + PSS_S:
        child.load.pss_bytes, child.load.pss_at_s = pss_bytes(child.pid) or 0, now_s


def excuse(observations: Iterable[Observation]) -> None:
    """Judge nobody by what was seen: the clock went on while nobody ran."""
    for seen in observations:
        seen.beat_age_s = seen.late = seen.overdue = seen.revoked = None
        seen.over, seen.blocked = (), False
        seen.heard_age_s = None
