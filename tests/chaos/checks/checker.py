"""The checker: judges a run by its ledger, never by what the queue says of itself alone.

In the manner of Jepsen's total-queue, by identities and not by counts.  Each law is one method that
yields what breaks it.  `python -m tests.chaos.checks.checker FOLDER` judges the run kept there.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.chaos.checks.allowed_ends import DEATHS, DOOMED_FAILURES, FATAL, MAX_CRASHES
from tests.chaos.checks.attempt_counters import Attempt, miscounted
from tests.chaos.checks.excuses import Excuses
from tests.chaos.ledger import Ended, Evidence, Line, read_evidence

TICK_MS = 1000
FOR_EVER = 1 << 62
FINISHES = {"end", "raise", "stop", "crash"}


class Broken(NamedTuple):
    """One violation."""

    law: str
    id: str
    what: str


class Judgement(NamedTuple):
    broken: list[Broken]
    counts: dict[str, int]


class Checker:
    def __init__(self, evidence: Evidence) -> None:
        self.final, self.rules = evidence.final, evidence.final.rules
        self.excuses = Excuses(evidence.faults, evidence.jobs, self.rules)
        self.counts = Counter(torn=evidence.torn)
        finishes = {(x.id, x.token, x.pid): x for x in evidence.jobs if x.e in FINISHES}
        self.attempts: dict[str, list[Attempt]] = {}
        for line in sorted(evidence.jobs, key=lambda line: (line.token, line.m)):
            if line.e == "begin":
                finish = finishes.get((line.id, line.token, line.pid))
                self.attempts.setdefault(line.id, []).append(Attempt(line, finish))
        self.crashes = [line for line in evidence.jobs if line.e == "crash"]
        self.locks = [line for line in evidence.jobs if line.e in ("lock", "unlock")]
        self.tried: dict[str, Line] = {}
        self.owed: dict[str, Line] = {}
        self.revoked: dict[str, Line] = {}
        self.revoking: dict[str, Line] = {}
        self.answered: dict[str, Line] = {}
        books = {"try": self.tried, "ok": self.owed, "revoking": self.revoking}
        books |= {"revoked": self.revoked, "answered": self.answered}
        for line in evidence.clients:
            book = books.get(line.e, {})
            for job in line.ids or [line.id]:
                book.setdefault(job, line)

    def judge(self) -> Judgement:
        laws = (
            self.nothing_is_lost, self.nothing_comes_from_nowhere, self.a_lease_starts_once,
            self.nothing_runs_after_its_answer, self.repeats_have_a_reason, self.attempts_end,
            self.counters_add_up, self.nothing_starts_early, self.ticks_fire_once,
            self.revoked_jobs_stay_away, self.the_dead_are_accounted_for,
            self.at_most_once_is_kept, self.locks_have_one_holder, self.nothing_is_left,
            self.answers_are_their_own, self.the_innocent_are_spared,
        )  # fmt: skip
        broken = [found for law in laws for found in law()]
        begins = [attempt for attempts in self.attempts.values() for attempt in attempts]
        self.counts |= Counter(jobs=len(self.owed), starts=len(begins))
        self.counts["ran"] = sum(bool(a.finish and a.finish.e == "end") for a in begins)
        self.counts["lost"] = sum(found.law == "lost" for found in broken)
        return Judgement(broken, dict(self.counts))

    def _ended(self, job: str) -> Ended:
        return self.final.jobs.get(job) or Ended("")

    def _ends(self, job: str) -> list[Attempt]:
        return [
            a for a in self.attempts.get(job, ()) if a.finish is not None and a.finish.e == "end"
        ]

    def nothing_is_lost(self) -> Iterator[Broken]:
        for job, ok in self.owed.items():
            ended = self._ended(job)
            if ended.state in ("queued", "scheduled", "running"):
                yield Broken("stuck", job, f"{ok.kind}: still {ended.state} after the quiet period")
            elif ended.state == "" and self.excuses.forgotten(ok.m):
                self.counts["forgotten"] += 1
            elif ended.state == "":
                ran = any(not self.excuses.forgotten(a.finish.m) for a in self._ends(job))  # type: ignore[union-attr]
                yield Broken("answer" if ran else "lost", job, f"{ok.kind}: not known any more")
            elif ended.state == "cancelled" and job not in self.revoking:
                yield Broken("cancelled", job, f"{ok.kind}: nobody revoked it")

    def nothing_comes_from_nowhere(self) -> Iterator[Broken]:
        for job, attempts in self.attempts.items():
            first = attempts[0].begin
            if job not in self.tried and not first.tick:
                yield Broken("nowhere", job, f"{first.kind}: started, and nobody enqueued it")
            done, ended = [a.begin.token for a in self._ends(job)], self._ended(job)
            if ended.state == "done" and ended.token not in done:
                yield Broken("nowhere", job, f"done by token {ended.token}; it ran with {done}")
        for job, ended in self.final.jobs.items():
            if ended.state == "done" and job not in self.attempts:
                yield Broken("nowhere", job, "done, and it never started")

    def a_lease_starts_once(self) -> Iterator[Broken]:
        for job, attempts in self.attempts.items():
            for a, b in pairwise(attempts):
                if b.begin.token == a.begin.token:
                    yield Broken("token", job, f"{a.begin.kind}: {b.begin.token} started twice")
                elif b.begin.m < a.begin.m and not self._woke_late(b.begin.m, a.begin):
                    tokens = f"{b.begin.token} and then {a.begin.token}"
                    yield Broken("token", job, f"{a.begin.kind}: started with token {tokens}")

    def _woke_late(self, since: int, late: Line) -> bool:
        """It was leased before its node was taken for dead, and starts without knowing that."""
        return self.excuses.expired(since, late.m) or bool(self.excuses.forgotten(late.m))

    def nothing_runs_after_its_answer(self) -> Iterator[Broken]:
        for job, attempts in self.attempts.items():
            last, ended = attempts[-1].begin, self._ended(job)
            told = self.answered.get(job)
            late = [a.begin for a in attempts if told and a.begin.m > told.m]
            if told and any(not self._woke_late(told.m, begin) for begin in late):
                if not self.excuses.forgotten(told.m):
                    yield Broken("after end", job, f"{last.kind}: started after its answer")
            elif ended.state == "done" and last.token > ended.token:
                by = f"token {ended.token} ended it, token {last.token} started"
                yield Broken("after end", job, f"{last.kind}: {by}")

    def repeats_have_a_reason(self) -> Iterator[Broken]:
        by_death: Counter[int] = Counter()
        for job, attempts in self.attempts.items():
            for attempt in self._ends(job):
                if attempt is attempts[-1] or attempt.finish is None:
                    continue
                self.counts["repeats"] += 1
                why = self.excuses.untold(attempt.begin, attempt.finish.m)
                self.counts[f"repeats by {why}"] += 1
                by_death[attempt.begin.pid if why == "death" else 0] += 1
                if not why:
                    yield Broken("repeat", job, f"{_seen(attempt)} and ran again without a fault")
        del by_death[0]
        for pid, count in by_death.items():
            if count > self.rules.batch:
                yield Broken("repeat", "", f"{count} repeats by the death of {pid}")

    def attempts_end(self) -> Iterator[Broken]:
        for job, attempts in self.attempts.items():
            for a in attempts:
                if a.finish is None:
                    self.counts["cut short"] += 1
                    if not self.excuses.died(a.begin.pid, a.begin.m, FOR_EVER):
                        yield Broken("cut short", job, f"{_seen(a)}: nobody ended its process")

    def counters_add_up(self) -> Iterator[Broken]:
        for job, attempts in self.attempts.items():
            before: Attempt | None = None
            for a in attempts:
                b = a.begin
                if b.attempt - 1 != b.failures + b.interruptions + b.crashes:
                    yield Broken("counters", job, f"{_seen(a)}: the sum is not the starts before")
                if wrong := miscounted(self.excuses, self._before(before, b), before, b):
                    yield Broken("counters", job, f"{_seen(a)}: {wrong}")
                before = a

    def _before(self, before: Attempt | None, now: Line) -> Line:
        """Return the begin before `now`; of a first one, when its job came to be."""
        if before is not None:
            return before.begin
        tried = self.tried.get(now.id)
        since = tried.m if tried else now.m - max(0, now.w - now.tick + TICK_MS) * 1_000_000
        return Line(e="", m=since, w=0, pid=0)

    def nothing_starts_early(self) -> Iterator[Broken]:
        for job, attempts in self.attempts.items():
            b = attempts[0].begin
            if b.w < b.due - 1:
                yield Broken("early", job, f"{b.kind}: {b.due - b.w} ms before its time")

    def ticks_fire_once(self) -> Iterator[Broken]:
        ids, done = defaultdict[tuple[str, int], set[str]](set), defaultdict[str, set[int]](set)
        for job, attempts in self.attempts.items():
            if b := attempts[0].begin if attempts[0].begin.tick else None:
                ids[b.kind, b.tick].add(job)
                if self._ends(job):
                    done[b.kind].add(b.tick)
        self.counts["ticks"] = len(ids)
        for (kind, tick), jobs in ids.items():
            if len(jobs) > 1:
                yield Broken("tick", min(jobs), f"{kind} at {tick} fired {len(jobs)} times")
        for kind, ticks in done.items():
            for tick in range(min(ticks), self.final.ticks_until, TICK_MS):
                if tick not in ticks and not self.rules.loss:
                    yield Broken("tick", "", f"{kind} at {tick} was missed")

    def revoked_jobs_stay_away(self) -> Iterator[Broken]:
        for job, revoked in self.revoked.items():
            self.counts["revoked"] += 1
            if self.excuses.forgotten(revoked.m):
                continue
            late = [a.begin for a in self.attempts.get(job, ()) if a.begin.m > revoked.m]
            if any(not self._woke_late(revoked.m, begin) for begin in late):
                yield Broken("revoked", job, "started after revoke had returned True")
            elif self._ended(job).state != "cancelled" and job not in self.attempts:
                yield Broken("revoked", job, f"revoked, and then {self._ended(job).state}")

    def the_dead_are_accounted_for(self) -> Iterator[Broken]:
        for job, ok in self.owed.items():
            ended = self._ended(job)
            if ended.state == "dead":
                self.counts[f"dead: {ended.reason}"] += 1
                if not ended.dead_letter:
                    yield Broken("dead", job, f"{ok.kind}: dead, and not among the dead letters")
                if wrong := self._wrongly_dead(job, ok.kind, ended.reason):
                    yield Broken("dead", job, f"{ok.kind}: {wrong}")
            elif ended.state == "done" and ok.kind in FATAL:
                yield Broken("dead", job, f"{ok.kind}: cannot have ended well")

    def _wrongly_dead(self, job: str, kind: str, reason: str) -> str:
        attempts = self.attempts.get(job, [])
        if reason not in DEATHS.get(kind, ()):
            return f"buried as {reason}"
        raised = sum(a.finish is not None and a.finish.e == "raise" for a in attempts)
        if kind == "doomed" and raised < DOOMED_FAILURES:
            return f"given up after {raised} failures of {DOOMED_FAILURES}"
        died = sum(self.excuses.killed(a.begin.pid) for a in attempts)
        spent = (attempts[0].begin.m, attempts[-1].begin.m) if attempts else (0, 0)
        died += self.excuses.nodes_lost(*spent) + self.excuses.silences(*spent)
        if kind in ("killer", "fragile") and died < MAX_CRASHES:
            return f"poisoned after {died} crashes of {MAX_CRASHES}"
        return ""

    def at_most_once_is_kept(self) -> Iterator[Broken]:
        for job, attempts in self.attempts.items():
            if attempts[0].begin.kind == "once" and len(attempts) > 1 and not self.rules.loss:
                yield Broken("once", job, f"started {len(attempts)} times")

    def answers_are_their_own(self) -> Iterator[Broken]:
        for job, ended in self.final.jobs.items():
            if ended.told and ended.told != job:
                yield Broken("answer", job, f"it has the answer of {ended.told}")

    def the_innocent_are_spared(self) -> Iterator[Broken]:
        """Who was beside a killer once runs alone from then on."""
        killers = {line.pid: line.id for line in self.crashes}
        for job, attempts in self.attempts.items():
            if attempts[0].begin.kind != "fragile":
                continue
            beside = [a for a in attempts if not a.finish and killers.get(a.begin.pid, job) != job]
            if len(beside) > 1:
                yield Broken("innocent", job, f"{len(beside)} times beside a job that kills")

    def locks_have_one_holder(self) -> Iterator[Broken]:
        holder: dict[str, Line] = {}
        for line in sorted(self.locks, key=lambda line: line.m):
            held = holder.pop(line.name, None)
            if line.e == "lock":
                holder[line.name] = line
                if held and not self._lock_is_free(held, line):
                    yield Broken("lock", line.id, f"{line.name} is held by {held.id} too")

    def _lock_is_free(self, held: Line, now: Line) -> bool:
        """Its holder died, or is fenced because its node was taken for dead."""
        if self.excuses.died(held.pid, held.m, now.m) or self.excuses.expired(held.m, now.m):
            return True
        return bool(self.excuses.stops(held.pid, held.m, now.m) or self.excuses.forgotten(held.m))

    def nothing_is_left(self) -> Iterator[Broken]:
        for name, what in (
            ("leftovers", "key or row"),
            ("nodes", "node"),
            ("processes", "process"),
        ):
            yield from (Broken("left", "", f"{what} {x}") for x in getattr(self.final, name))
        yield from (Broken("left", "", f"queue {q}: {n}") for q, n in self.final.queues.items())
        for pid in self.final.deaths:
            if not self.excuses.killed(pid):
                yield Broken("death", "", f"worker {pid} died, and nobody killed it")


def _seen(attempt: Attempt) -> str:
    b = attempt.begin
    counters = f"f{b.failures} i{b.interruptions} c{b.crashes}"
    how = attempt.finish.e if attempt.finish else "no end"
    return f"{b.kind} attempt {b.attempt} ({counters}, token {b.token}, pid {b.pid}, {how})"


if __name__ == "__main__":
    found = Checker(read_evidence(Path(sys.argv[1]))).judge()
    for one in found.broken:
        print(f"{one.law}: {one.id}: {one.what}")
    print(found.counts)
    sys.exit(bool(found.broken))
