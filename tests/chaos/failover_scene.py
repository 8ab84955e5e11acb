"""One daemon and its clients on a storage whose masters die; see failovers.py."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from taskqd.errors import ResultMissing, StorageError, TaskqdError
from tests.chaos.apps import failover_workload as workload
from tests.chaos.apps.failover_workload import NAMESPACE, app
from tests.chaos.apps.workload import LEDGER_ENV
from tests.chaos.failover_report import PART_AWAY, Event, longest_gap_s
from tests.chaos.faults.replicated import Replicated, opened_replicated
from tests.chaos.ledger import JOBS, Line, read_lines
from tests.chaos.world import wait_for
from tests.support.rigs.daemon import Daemon

PACE_S, COMPOSED_PACE_S = 0.03, 0.3
"""Between two calls of one client."""
LEASE_S = 10.0
READY_S = 120.0
AGAIN_S = 60.0
"""A queue that begins nothing for so long is taken for dead."""
DRAIN_S = 240.0
FORGETS_S = {"memory": 2.0, "local": 2.0, "replica": 0.0}
"""What was acknowledged so shortly before its server died may be lost with it: it was not waited for."""
SLOTS = {"process": (8, 1), "thread": (2, 4), "greenlet": (2, 4), "asyncio": (2, 4)}


Owed = dict[str, str]
"""Id of a job -> its queue."""


def shorts(queue: str, _others: Sequence[str], number: int) -> Owed:
    return {app.enqueue(workload.short.options(queue=queue).s(queue, number)).id: queue}


def composed(queue: str, others: Sequence[str], number: int) -> Owed:
    """A pipeline of this queue, or a chord over all of them."""
    if number % 2:
        first, second = app.enqueue(
            workload.short.options(queue=queue)
            .s(queue, number)
            .then(workload.then.options(queue=queue).s(queue=queue))
        )
        return {first.id: queue, second.id: queue}
    places = (queue, *others)
    members = [workload.short.options(queue=place).s(place, number) for place in places]
    after = workload.total.options(queue=queue).s(queue=queue)
    chord = app.enqueue(app.chord(members, after))
    owed = {one.id: place for one, place in zip(chord.results, places, strict=True)}
    return {**owed, chord.id: queue}


class Client:
    """Enqueues to one queue again and again, and notes what was acknowledged."""

    def __init__(self, enqueue: Callable[[int], Owed], pace_s: float) -> None:
        self._enqueue, self._pace_s = enqueue, pace_s
        self.owed: dict[str, tuple[str, int]] = {}
        """Id of an acknowledged job -> its queue, and when that was, in CLOCK_MONOTONIC ns."""
        self.refused = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(READY_S)

    def _run(self) -> None:
        for number in count():
            try:
                told = self._enqueue(number)
            except StorageError:
                self.refused += 1
            else:
                now_ns = time.monotonic_ns()
                self.owed.update({job: (queue, now_ns) for job, queue in told.items()})
            if self._over.wait(self._pace_s):
                return


def state_of(job: str, queue: str | None = None) -> str:
    """Return what the storage says of a job, "" where it does not know it."""
    try:
        return str(app.result(job, queue=queue).state)
    except ResultMissing:
        return ""


class FailoverScene:
    """Use as a context manager.  Each kind of event is a method that yields what was seen of it."""

    def __init__(
        self, folder: Path, storage: str, durability: str, kind: str, lease_s: float = LEASE_S
    ) -> None:
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True)
        self._storage_kind, self._durability, self._kind = storage, durability, kind
        self._lease_s = lease_s
        self._open = contextlib.ExitStack()
        self._storage: Replicated
        self._clients: list[Client] = []
        self._turn = count()
        self._deaths_ns: list[int] = []
        """When masters were killed."""

    def __enter__(self) -> FailoverScene:
        with contextlib.ExitStack() as stack:
            self._storage = stack.enter_context(opened_replicated(self._storage_kind, NAMESPACE))
            stack.callback(app.close)
            app.close()
            app._url, app.durability = self._storage.url, self._durability  # type: ignore[assignment]
            self._daemon = self._made_daemon()
            stack.callback(self._end)
            self._daemon.start()
            self._daemon.wait("worker.ready", count=SLOTS[self._kind][0], timeout_s=READY_S)
            self._pids = {process.pid for process in self._daemon.alive()}
            queues = self._storage.queues
            for queue in queues:
                others = [other for other in queues if other != queue]
                # A call that waits for a server that is away holds up no other kind of call.
                self._clients += [
                    Client(partial(shorts, queue, others), PACE_S),
                    Client(partial(composed, queue, others), COMPOSED_PACE_S),
                ]
            stack.callback(self._stop_clients)
            self._open = stack.pop_all()
        for queue in queues:
            self._wait_begun(queue, 0)
        return self

    def _made_daemon(self) -> Daemon:
        workers, places = SLOTS[self._kind]
        argv = [sys.executable, "-m", "taskqd", "tests.chaos.apps.failover_workload:app"]
        argv += ["--workers", str(workers), "--worker-type", self._kind, "--name", "over"]
        argv += ["--queues", ",".join(self._storage.queues), "--health", "off"]
        argv += ["--log-format", "json", "--log-level", "info"]
        argv += ["--concurrency", str(places)] if self._kind != "process" else []
        env = {
            "TASKQD_STORAGE": self._storage.url,
            "TASKQD_STORAGE__DURABILITY": self._durability,
            "TASKQD_STORAGE__NODE_LEASE_S": str(self._lease_s),
            "TASKQD_ADMIN__SOCKET": str(self._folder / "admin.sock"),
            LEDGER_ENV: str(self._folder / JOBS),
        }
        return Daemon(self._folder / "daemon", argv, env=env)

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _stop_clients(self) -> None:
        for client in self._clients:
            client.stop()

    def _end(self) -> None:
        for process in self._daemon.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._daemon.process:
            self._daemon.process.wait()

    # -- events --------------------------------------------------------------------------------

    def kill(self) -> Iterator[Event]:
        """The master of a queue dies, and is not started before its replica serves in its place."""
        queue = self._next_queue()
        yield self._killed("master killed", queue)
        self._storage.wait_settled()

    def kill_twice(self) -> Iterator[Event]:
        """The one that has taken its place dies as soon as it has a replica itself."""
        queue = self._next_queue()
        yield self._killed("killed twice", queue)
        self._storage.wait_settled()
        yield self._killed("killed twice", queue)
        self._storage.wait_settled()

    def fail_back(self) -> Iterator[Event]:
        """The master of a queue dies, comes back as a replica, and is given its place again."""
        queue = self._next_queue()
        self._killed("master killed", queue)
        self._storage.wait_settled()
        others, begun_ns = self._elsewhere(queue), time.monotonic_ns()
        self._storage.hand_over(queue)
        yield self._seen("handed back", queue, begun_ns, others)
        self._storage.wait_settled()

    def lose_part(self) -> Iterator[Event]:
        """A master and its replica are away together: the queues of the other servers go on."""
        queue = self._next_queue()
        others, begun_ns = self._elsewhere(queue), time.monotonic_ns()
        self._storage.kill_with_replica(queue)  # type: ignore[union-attr]
        time.sleep(1.5 * self._lease_s)
        self._storage.wait_settled()
        yield self._seen(PART_AWAY, queue, begun_ns, others)

    def move(self) -> Iterator[Event]:
        """The slot of a queue goes to another server."""
        queue = self._next_queue()
        others, begun_ns = self._elsewhere(queue), time.monotonic_ns()
        self._storage.move(queue)  # type: ignore[union-attr]
        yield self._seen("slot moved", queue, begun_ns, others)

    def _next_queue(self) -> str:
        return self._storage.queues[next(self._turn) % len(self._storage.queues)]

    def _killed(self, name: str, queue: str) -> Event:
        others, begun_ns = self._elsewhere(queue), time.monotonic_ns()
        self._storage.master(queue).kill()
        self._deaths_ns.append(begun_ns)
        self._storage.wait_serving()
        return self._seen(name, queue, begun_ns, others)

    def _elsewhere(self, queue: str) -> list[str]:
        """Return the queues that another server has."""
        master = self._storage.master(queue)
        return [q for q in self._storage.queues if self._storage.master(q) is not master]

    def _seen(self, name: str, queue: str, begun_ns: int, others: list[str]) -> Event:
        """Return what became of the queues since `begun_ns`, now that all are served again."""
        served_ns = time.monotonic_ns()
        again_ns = self._wait_begun(queue, served_ns)
        gap_s = longest_gap_s(self._lines(), others, begun_ns, again_ns)
        return Event(name, (served_ns - begun_ns) / 1e9, (again_ns - served_ns) / 1e9, gap_s)

    def _wait_begun(self, queue: str, since_ns: int) -> int:
        """Return when the first job of this queue began since then."""
        found: list[int] = []

        def begun() -> bool:
            lines = (x.m for x in self._lines() if x.name == queue and x.m > since_ns)
            found.extend([first] if (first := min(lines, default=0)) else [])
            return bool(found)

        wait_for(begun, f"a job of queue {queue} begins", AGAIN_S)
        return found[0]

    def _lines(self) -> list[Line]:
        return read_lines(self._folder / JOBS)[0]

    # -- what came of it -----------------------------------------------------------------------

    def judge(self) -> tuple[int, int, list[str]]:
        """Let the queues drain and stop the daemon; return jobs, second starts and broken laws."""
        self._stop_clients()
        wait_for(self._is_drained, "the jobs end", DRAIN_S)
        owed = {job: told for client in self._clients for job, told in client.owed.items()}
        broken = [*self._lost(owed), *self._ended()]
        begun = [line.id for line in self._lines() if line.e == "begin"]
        if code := self._daemon.stop():
            broken.append(f"the daemon exited with {code}")
        if self._durability == "replica":
            broken += [f"left over: {row}" for row in app.storage.leftovers()]
        return len(owed), len(begun) - len(set(begun)), broken

    def _is_drained(self) -> bool:
        try:
            rows = app.storage.queues()
        except TaskqdError:
            return False
        return not any(row.queued + row.scheduled + row.running for row in rows)

    def _lost(self, owed: dict[str, tuple[str, int]]) -> Iterator[str]:
        forgets_ns = FORGETS_S[self._durability] * 1e9
        for job, (queue, told_ns) in owed.items():
            state = state_of(job, queue)
            excused = any(0 <= died - told_ns <= forgets_ns for died in self._deaths_ns)
            if state != "done" and not excused:
                yield f"{job} of {queue} is {state or 'not known'}"

    def _ended(self) -> Iterator[str]:
        gone = self._pids - {process.pid for process in self._daemon.alive()}
        facts: list[dict[str, Any]] = self._daemon.events("worker.crashed")
        yield from (f"process {pid} of the daemon ended" for pid in gone)
        yield from (f"worker crashed: {fact.get('verdict')}" for fact in facts)
