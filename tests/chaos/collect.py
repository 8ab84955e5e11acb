"""What the storage and the processes say after the run: the material for `Final`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import datetime

import msgspec

from taskqd.jobs.job import State, decode_answer
from taskqd.storage import open_storage as open_url
from taskqd.storage.base import Storage
from tests.chaos.apps.workload import NAMESPACE, TELLS_ITS_ID, app
from tests.chaos.ledger import CLIENTS, JOBS, Ended, Final, Rules, read_lines
from tests.chaos.world import Broke, World, alive

LOOK_S = 0.25
FEW = 2
"""Ticks go on, so the queues are never quite empty; but none of them is delayed."""
PAGE = 1000
SHOWN = 10


def open_storage(world: World) -> Storage:
    return open_url(world.url, NAMESPACE)


def wait_drained(storage: Storage, timeout_s: float) -> None:
    """Wait until nothing is left to do.  Raises Broke when it takes too long."""
    until_s = time.monotonic() + timeout_s
    while (left := _left(storage)) > FEW or _scheduled(storage):
        if time.monotonic() > until_s:
            what = "; ".join(_unfinished(storage))
            raise Broke(f"not drained {timeout_s:g} s after the last fault: {left} left: {what}")
        time.sleep(LOOK_S)


def _left(storage: Storage) -> int:
    return sum(row.queued + row.scheduled + row.running for row in storage.queues())


def _scheduled(storage: Storage) -> int:
    return sum(row.scheduled for row in storage.queues())


def _unfinished(storage: Storage) -> Iterator[str]:
    """Say where the jobs are that do not end, and who is there to run them."""
    for state in (State.QUEUED, State.SCHEDULED, State.RUNNING):
        for row in itertools.islice(storage.jobs(state), SHOWN):
            yield f"{row.id} {row.queue} {state} {row.worker} {row.record[:40]!r}"
    for node in storage.nodes():
        yield f"node {node.node.id} {node.node.name} {node.expires_in_s:.1f} s {node.workers}"


def final(world: World, storage: Storage, rules: Rules, ticks_until: int) -> Final:
    jobs, _ = read_lines(world.folder / JOBS)
    clients, _ = read_lines(world.folder / CLIENTS)
    kinds = {job: line.kind for line in clients if line.kind for job in line.ids}
    kinds |= {line.id: line.kind for line in jobs if line.e == "begin"}
    ended = dict(_answers(storage, kinds))
    for state in (State.QUEUED, State.SCHEDULED, State.RUNNING):
        for row in storage.jobs(state):
            ended[row.id] = Ended(state.value)
    for row in storage.jobs(State.DEAD):
        dead = ended.setdefault(row.id, Ended("dead", reason=row.reason))
        dead.dead_letter = bool(row.record) and row.reason == dead.reason
    return Final(
        jobs=ended,
        queues={
            row.name: [row.queued, row.scheduled, row.running]
            for row in storage.queues()
            if row.queued or row.scheduled or row.running
        },
        nodes=[row.node.id for row in storage.nodes()],
        leftovers=list(storage.leftovers()),
        processes=[f"{pid}" for pid in [*world.pids(), *world.neighbours()] if alive(pid)],
        # Pid 0: it died before anybody knew its pid, and never held a job.
        deaths=[x["child_pid"] for x in world.events("worker.crashed") if x["child_pid"]],
        recovered=[
            (event["job_id"], round(datetime.fromisoformat(event["timestamp"]).timestamp() * 1000))
            for event in world.events("job.recovered")
        ],
        ticks_until=ticks_until // 1000 * 1000,
        rules=rules,
    )


def _answers(storage: Storage, kinds: dict[str, str]) -> Iterator[tuple[str, Ended]]:
    asked = [(job, app.registry[kind].settings.queue) for job, kind in kinds.items()]
    for start in range(0, len(asked), PAGE):
        part = asked[start : start + PAGE]
        for (job, _), data in zip(part, storage.answers(part), strict=True):
            if data is not None:
                answer = decode_answer(data)
                ended = Ended(answer.state, answer.token, answer.attempts, answer.reason)
                if answer.state == State.DONE and kinds[job] in TELLS_ITS_ID:
                    ended.told = str(msgspec.json.decode(answer.value))
                yield job, ended


__all__ = ["final", "open_storage", "wait_drained"]
