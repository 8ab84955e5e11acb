"""Jobs of every kind that keeps something in the storage beside itself."""

from __future__ import annotations

import random
from collections import Counter, deque

from taskqd import App
from tests.chaos.apps import contention_workload


class Mixture:
    def __init__(self, app: App, dice: random.Random) -> None:
        self._app = app
        self._dice = dice
        self._sent: deque[str] = deque(maxlen=200)
        self.counts: Counter[str] = Counter()

    def enqueue(self, count: int) -> None:
        while count > 0:
            kind = self._dice.choice(
                "plain fails brisk notes sole few locked expires later chain chord slow".split()
            )
            count -= getattr(self, f"_{kind}")()
            self.counts[kind] += 1

    def revoke_some(self) -> None:
        for _ in range(self._dice.randrange(5)):
            if self._sent:
                job = self._sent[self._dice.randrange(len(self._sent))]
                self.counts["revoked"] += self._app.revoke_by_id(job, queue="default")

    def _send(self, signature: object) -> int:
        result = self._app.enqueue(signature)  # type: ignore[call-overload]
        self._sent.append(result.id)
        return 1

    def _number(self) -> int:
        return self._dice.randrange(100)

    def _plain(self) -> int:
        return self._send(contention_workload.plain.s(self._number()))

    def _fails(self) -> int:
        return self._send(contention_workload.fails.s(self._number()))

    def _brisk(self) -> int:
        return self._send(contention_workload.brisk.s())

    def _notes(self) -> int:
        return self._send(contention_workload.notes.s(self._number()))

    def _sole(self) -> int:
        return self._send(contention_workload.sole.s(self._number() % 20))

    def _few(self) -> int:
        return self._send(contention_workload.few.s())

    def _locked(self) -> int:
        return self._send(contention_workload.by_option.s(f"l{self._number() % 10}", 0.002))

    def _expires(self) -> int:
        options = {"expires": self._dice.uniform(0.001, 0.5), "delay": self._dice.uniform(0.0, 0.3)}
        self._sent.append(contention_workload.plain.options(**options)(1).id)
        return 1

    def _later(self) -> int:
        self._sent.append(
            contention_workload.plain.options(delay=self._dice.uniform(0.05, 3.0))(1).id
        )
        return 1

    def _chain(self) -> int:
        last = contention_workload.plain if self._dice.random() < 0.5 else contention_workload.fails
        self._app.enqueue(contention_workload.plain.s(1).then(contention_workload.plain).then(last))
        return 3

    def _chord(self) -> int:
        tasks = [
            self._dice.choice(
                [contention_workload.plain, contention_workload.fails, contention_workload.notes]
            )
            for _ in range(5)
        ]
        self._app.enqueue(
            self._app.chord([t.s(self._number()) for t in tasks], contention_workload.total)
        )
        return 6

    def _slow(self) -> int:
        return self._send(contention_workload.slow.s(self._dice.uniform(0.0, 0.2)))
