"""A client: enqueues a seeded mix all the time, revokes some jobs, reads some answers.

It writes down what it is about to do before it does it, and what it was told after; so it may be
killed at any moment.  SIGTERM: tell the storage what it has not heard yet, and end.
"""

from __future__ import annotations

import argparse
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence

from taskqd.client.delivery import deliver
from taskqd.client.task import Signature
from taskqd.errors import ResultMissing, StorageError
from taskqd.ids import new_id
from taskqd.jobs.job import Entry, decode_answer
from tests.chaos.apps import workload
from tests.chaos.apps.workload import app
from tests.chaos.ledger import Ledger

LAST_WORDS_S = 30.0
Make = Callable[[random.Random], Signature[object]]


def _sig(task: object, *args: object, **options: object) -> Signature[object]:
    return Signature(task, args, options=options)  # type: ignore[arg-type]


def _delayed(dice: random.Random) -> Signature[object]:
    due_ms = round((time.time() + dice.uniform(0.1, 5.0)) * 1000)
    return _sig(workload.delayed, due_ms, eta=due_ms / 1000)


MIX: dict[str, tuple[float, Make]] = {
    "noop": (500, lambda _: _sig(workload.noop)),
    "work": (150, lambda dice: _sig(workload.work, min(0.5, dice.expovariate(40)))),
    "delayed": (90, _delayed),
    "flaky": (60, lambda _: _sig(workload.flaky)),
    "side": (60, lambda dice: _sig(workload.side, "x" * dice.randrange(1000))),
    "urgent": (30, lambda dice: _sig(workload.urgent, priority=dice.randrange(1, 10))),
    "doomed": (15, lambda _: _sig(workload.doomed)),
    "each": (15, lambda _: _sig(workload.each)),
    "once": (15, lambda _: _sig(workload.once)),
    "rude": (5, lambda dice: _sig(workload.rude, dice.choice(list(workload.RUDE)))),
    "locked": (4, lambda dice: _sig(workload.locked, dice.uniform(0.005, 0.1))),
    "fragile": (60, lambda _: _sig(workload.fragile)),
    "coro": (15, lambda _: _sig(workload.coro)),
    "overdue": (0.3, lambda _: _sig(workload.overdue)),
    "long": (1, lambda dice: _sig(workload.long, dice.uniform(1.0, 6.0))),
    "stubborn": (0.5, lambda dice: _sig(workload.stubborn, dice.uniform(1.0, 4.0))),
    "killer": (
        0.5,
        lambda dice: _sig(workload.killer, dice.choice(["segfault", "exit", "abort", "kill"])),
    ),
}  # fmt: skip


class Client:
    def __init__(self, seed: int, rate: float, ledger: Ledger) -> None:
        self._dice = random.Random(seed)
        self._rate = rate
        self._ledger = ledger
        self._unsure: deque[tuple[str, list[Entry]]] = deque()
        self._revocable: deque[str] = deque(maxlen=50)
        self._sent: deque[tuple[str, str]] = deque(maxlen=2000)
        self.over = False

    def run(self) -> None:
        due_s = time.monotonic()
        while not self.over:
            due_s = max(due_s, time.monotonic() - 1.0) + self._round() / self._rate
            time.sleep(max(0.0, due_s - time.monotonic()))
        until_s = time.monotonic() + LAST_WORDS_S
        while self._unsure and time.monotonic() < until_s:
            self._repeat()

    def _round(self) -> int:
        """Do something; return how many jobs were enqueued."""
        if self._unsure:
            self._repeat()
        roll = self._dice.random()
        if roll < 0.02:
            self._revoke()
        elif roll < 0.06:
            self._read()
        kind = self._dice.choices(list(MIX), [weight for weight, _ in MIX.values()])[0]
        count = self._dice.randrange(5, 60) if self._dice.random() < 0.03 else 1
        return self.enqueue(kind, count if MIX[kind][0] > 10 else 1)

    def enqueue(self, kind: str, count: int) -> int:
        signatures = [MIX[kind][1](self._dice) for _ in range(count)]
        given = self._dice.random() < 0.1
        if given:
            for signature in signatures:
                signature.options["id"] = f"{kind}-{new_id()}"
        entries = [app.entry(signature) for signature in signatures]
        self._ledger.write("try", ids=[entry.id for entry in entries], kind=kind)
        self._deliver(kind, entries)
        if given and self._dice.random() < 0.3:
            # One who is not sure asks again: an id used twice is one job.
            self._deliver(kind, entries)
        return count

    def _deliver(self, kind: str, entries: Sequence[Entry]) -> None:
        try:
            deliver(app.storage, entries)
        except StorageError as error:
            ids = [entry.id for entry in entries]
            self._ledger.write("unsure", ids=ids, kind=kind, name=type(error).__name__)
            self._unsure.append((kind, [entry._replace(fresh=False) for entry in entries]))
            return
        self._ledger.write("ok", ids=[entry.id for entry in entries], kind=kind)
        self._sent.extend((entry.id, entry.queue) for entry in entries)
        if kind == "delayed":
            self._revocable.extend(entry.id for entry in entries)

    def _repeat(self) -> None:
        self._deliver(*self._unsure.popleft())

    def _revoke(self) -> None:
        if not self._revocable:
            return
        job = self._revocable.pop()
        self._ledger.write("revoking", ids=[job])
        try:
            revoked = app.revoke_by_id(job, queue="default")
        except StorageError:
            # Whether it was revoked is not known: it was, if its answer says so.
            self._ledger.write("unsure", ids=[job], name="revoke")
            return
        if revoked:
            # A job that a worker has is asked to stop, and may start before the worker hears it.
            if _state(job) == "cancelled":
                self._ledger.write("revoked", ids=[job])
            else:
                self._ledger.write("unsure", ids=[job], name="revoke")

    def _read(self) -> None:
        """Look at the answers of some jobs that were enqueued a while ago."""
        some = [self._sent[self._dice.randrange(len(self._sent))] for _ in range(8) if self._sent]
        try:
            answers = app.storage.answers(some)
        except StorageError:
            return
        for (job, _), data in zip(some, answers, strict=True):
            if data is not None:
                answer = decode_answer(data)
                self._ledger.write("answered", ids=[job], token=answer.token, name=answer.state)


def _state(job: str) -> str:
    """Return the job's state, "" while it cannot be told."""
    try:
        return app.result(job, queue="default").state.value
    except (StorageError, ResultMissing):
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--ledger", required=True)
    given = parser.parse_args()
    client = Client(given.seed, given.rate, Ledger(given.ledger))

    def stop(_number: int, _frame: object) -> None:
        client.over = True

    signal.signal(signal.SIGTERM, stop)
    client.run()


if __name__ == "__main__":
    main()
