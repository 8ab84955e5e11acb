"""How long recovery took, read from the ledger: from the fault to the job's next start.  Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from tests.chaos.ledger import Evidence, Fault, Line

MS = 1_000_000
CALM_MS = 2000
LIGHT = ("kill worker", "freeze worker", "kill zygote", "freeze zygote", "kill client")


class Times(msgspec.Struct, frozen=True):
    """Milliseconds."""

    count: int
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


def times(samples: Sequence[float]) -> Times:
    if not samples:
        return Times(0)
    ordered = sorted(samples)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    return Times(len(ordered), at(0.5), at(0.99), round(ordered[-1], 1))


def recovery(evidence: Evidence) -> dict[str, Times]:
    """Return for each kind of recovery how long it took.

    Faults during which, or soon after which, the daemon or the storage was also away for another
    reason are left out.
    """
    begins = sorted((x for x in evidence.jobs if x.e == "begin"), key=lambda line: line.m)
    heavy = [fault for fault in evidence.faults if not fault.kind.startswith(LIGHT)]
    alone = [fault for fault in evidence.faults if _is_alone(fault, heavy)]
    dead = [fault for fault in alone if fault.kind == "kill worker"]
    down = [fault for fault in alone if fault.kind in ("kill master", "kill tree")]
    away = [fault for fault in alone if fault.kind == "kill storage"]
    back = _moments(evidence)
    return {
        "worker killed -> its job is back in its queue": times(
            [*_taken_back(_victims(evidence, begins, dead), back)]
        ),
        "worker killed -> its job starts again": times([*_cut_short(evidence, begins, dead)]),
        "daemon restarted -> a job starts": times([*_resumed(begins, down)]),
        "daemon restarted -> a job that it ran starts again": times(
            [*_cut_short(evidence, begins, down)]
        ),
        "storage restarted -> a job starts": times([*_resumed(begins, away)]),
    }


def _is_alone(fault: Fault, faults: Sequence[Fault]) -> bool:
    def touches(other: Fault) -> bool:
        return (
            other.begin <= max(fault.end, fault.healed) + CALM_MS * MS and other.end >= fault.begin
        )

    return not any(other is not fault and touches(other) for other in faults)


def _victims(
    evidence: Evidence, begins: Sequence[Line], faults: Sequence[Fault]
) -> Iterator[tuple[Line, Fault]]:
    """Yield each attempt that such a fault cut short."""
    finished = {(x.id, x.token) for x in evidence.jobs if x.e != "begin"}
    by_pid: dict[int, list[Line]] = {}
    for line in begins:
        by_pid.setdefault(line.pid, []).append(line)
    for fault in sorted(faults, key=lambda fault: fault.begin):
        for pid in fault.killed:
            lines = by_pid.pop(pid, [])
            # Numbers are used again: what began after this death is another process's.
            by_pid[pid] = [line for line in lines if line.m > fault.end]
            for line in lines:
                if line.m <= fault.end and (line.id, line.token) not in finished:
                    yield line, fault


def _cut_short(
    evidence: Evidence, begins: Sequence[Line], faults: Sequence[Fault]
) -> Iterator[float]:
    """Yield for each attempt that was cut short how long the next one took to start."""
    starts: dict[str, list[int]] = {}
    for line in begins:
        starts.setdefault(line.id, []).append(line.m)
    for line, fault in _victims(evidence, begins, faults):
        later = [at for at in starts[line.id] if at > line.m]
        if later:
            yield max(0.0, (later[0] - (fault.healed or fault.begin)) / MS)


def _moments(evidence: Evidence) -> dict[str, list[float]]:
    """Return for each job when it was taken back, in ms of the monotonic clock."""
    behind_ms = min((line.w - line.m / MS for line in evidence.jobs), default=0.0)
    found: dict[str, list[float]] = {}
    for job, wall_ms in evidence.final.recovered:
        found.setdefault(job, []).append(wall_ms - behind_ms)
    return found


def _taken_back(
    victims: Iterator[tuple[Line, Fault]], back: dict[str, list[float]]
) -> Iterator[float]:
    for line, fault in victims:
        later = [at for at in back.get(line.id, ()) if at >= fault.begin / MS]
        if later:
            yield min(later) - fault.begin / MS


def _resumed(begins: Sequence[Line], faults: Sequence[Fault]) -> Iterator[float]:
    """Yield how long it took after each fault until a process that it left alive started a job."""
    moments = [line.m for line in begins]
    for fault in faults:
        for line in begins[bisect_right(moments, fault.healed) :]:
            if line.pid not in fault.killed:
                yield (line.m - fault.healed) / MS
                break
