"""One daemon's worker and scheduler without their processes: what a test lets them do, they do now."""

from __future__ import annotations

from typing import Any

import msgspec

from taskqd import App
from taskqd.execution import follow_ups
from taskqd.execution.protocols import JobView
from taskqd.execution.runner import Runner
from taskqd.immediate import CallersSlot
from taskqd.jobs.end import follow_ups_of
from taskqd.jobs.job import Lease, Outcome
from taskqd.logs.setup import Log, configure
from taskqd.storage.base import Node
from taskqd.worker.scheduler.parked_jobs import ParkedJobs


class Crew:
    def __init__(self, app: App, node: str = "n", **limits: Any) -> None:
        self.app = app
        self.node = node
        self.limits = msgspec.structs.replace(app.limits, **limits)
        self.told: list[tuple[str, JobView]] = []
        log = configure(role="test", level="critical")
        self._log: Log = log
        self.runner = Runner(app, self.limits, log)
        self._returns = ParkedJobs(
            app, self.limits.unknown_patience_s, lambda *what: self.told.append(what)
        )
        self._serial = 1
        self.place = CallersSlot()
        self.place.worker = self.worker
        self.queues: tuple[str, ...] = ("default",)

    @property
    def worker(self) -> str:
        return f"{self.node}.{self._serial}"

    def crash(self, running: list[Lease]) -> None:
        """Let the worker die over these jobs; a successor takes its place."""
        tokens = [lease.token for lease in running]
        self.app.storage.recover_worker(
            self.worker, self.queues, running=tokens, how="orphaned", verdict="SIGKILL"
        )
        self._serial += 1
        self.place.worker = self.worker

    def lease(self, limit: int = 100) -> list[Lease]:
        storage = self.app.storage
        storage.register(Node(self.node), self.queues, 600)
        leased = storage.lease(self.worker, self.queues, limit)
        self.runner.heed(leased.revocations)
        return leased.leases

    def drain(self, limit: int = 100) -> list[Outcome]:
        """Run all that is queued, in batches; return the outcomes."""
        ended: list[Outcome] = []
        while leases := self.lease(limit):
            outcomes = [self.run(lease) for lease in leases]
            assert all(self.app.storage.settle(self.worker, outcomes))
            ended += outcomes
        return ended

    def run(self, lease: Lease) -> Outcome:
        """Run one job; what follows it is written, and it is not settled."""
        end = self.runner.run(lease, self.place)
        follow_ups.deliver(self.app.storage, self.app.listeners, follow_ups_of(end))
        return end

    def look(self) -> None:
        """Do what the scheduler does for parked letters every few seconds."""
        self.app.storage.register(Node(self.node), self.queues, 600)
        self._returns.look(self.app.storage, self.node, self.queues, self._log)
