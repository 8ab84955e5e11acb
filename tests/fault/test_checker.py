"""The checker catches lies: each kind of lie, told in an otherwise honest story."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.chaos.checks.checker import Checker, Judgement
from tests.chaos.ledger import Ended, Evidence, Fault, Final, Ledger, Line, Rules, read_lines

S = 1_000_000_000
MS = 1_000_000
EPOCH_MS = 1_700_000_000_000


class Story:
    """A run that can be told step by step; `at` is in seconds."""

    def __init__(self) -> None:
        self.jobs: list[Line] = []
        self.clients: list[Line] = []
        self.faults: list[Fault] = []
        self.final = Final(rules=Rules(lease_s=5.0))
        self._token = 0

    def line(self, event: str, at: float, **facts: object) -> Line:
        ns = round(at * S)
        return Line(e=event, m=ns, w=EPOCH_MS + ns // MS, **{"pid": 1, **facts})  # type: ignore[arg-type]

    def enqueue(self, job: str, at: float, kind: str = "noop", **facts: object) -> None:
        self.clients.append(self.line("try", at, ids=[job], kind=kind, **facts))
        self.clients.append(self.line("ok", at + 0.01, ids=[job], kind=kind, **facts))

    def run(
        self, job: str, at: float, end: str = "end", *, for_s: float = 0.1, **facts: object
    ) -> int:
        """One attempt; `end` "" is one that neither returned nor raised."""
        self._token += 1
        facts = {"kind": "noop", "attempt": 1, "pid": 10, "token": self._token, **facts}
        self.jobs.append(self.line("begin", at, id=job, **facts))
        if end:
            self.jobs.append(self.line(end, at + for_s, id=job, **facts))
        return self._token

    def ended(self, job: str, state: str = "done", **facts: object) -> None:
        dead = state == "dead"
        facts = {"token": self._token, "dead_letter": dead, **facts}
        self.final.jobs[job] = Ended(state, **facts)  # type: ignore[arg-type]

    def fault(self, kind: str, at: float, for_s: float = 0.01, **facts: object) -> None:
        begin = round(at * S)
        self.faults.append(Fault(kind=kind, begin=begin, end=begin + round(for_s * S), **facts))  # type: ignore[arg-type]

    def judge(self) -> Judgement:
        return Checker(Evidence(self.jobs, self.clients, self.faults, self.final)).judge()

    def laws(self) -> set[str]:
        return {broken.law for broken in self.judge().broken}


def honest() -> Story:
    """One job of each kind of fate, all as they should be."""
    story = Story()
    story.enqueue("plain", 1)
    story.run("plain", 2)
    story.ended("plain")

    story.enqueue("killed", 1)
    story.run("killed", 3, "", pid=11)
    story.fault("kill worker", 3.05, killed=[11])
    story.run("killed", 3.1, attempt=2, crashes=1)
    story.ended("killed")

    story.enqueue("untold", 1)
    story.run("untold", 4, pid=12)
    story.fault("kill worker", 4.11, killed=[12])
    story.run("untold", 4.2)
    story.ended("untold")

    story.enqueue("flaky", 1, "flaky")
    story.run("flaky", 5, "raise", kind="flaky")
    story.run("flaky", 6, kind="flaky", attempt=2, failures=1)
    story.ended("flaky")

    story.enqueue("doomed", 1, "doomed")
    for n in range(3):
        story.run("doomed", 7 + n, "raise", kind="doomed", attempt=n + 1, failures=n)
    story.ended("doomed", "dead", reason="failed")

    story.enqueue("killer", 1, "killer")
    for n in range(3):
        story.run("killer", 11 + n, "crash", kind="killer", attempt=n + 1, crashes=n, pid=20 + n)
    story.ended("killer", "dead", reason="poisoned")

    story.enqueue("stopped", 1, "long")
    story.run("stopped", 20, "stop", kind="long", pid=13)
    story.fault("stop", 20.05, 2.0, drains=True, killed=[13])
    story.run("stopped", 22, kind="long", attempt=2, interruptions=1, pid=14)
    story.ended("stopped")

    story.enqueue("revoked", 1, "delayed", due=EPOCH_MS + 90_000)
    story.clients.append(story.line("revoking", 3, ids=["revoked"]))
    story.clients.append(story.line("revoked", 3.1, ids=["revoked"]))
    story.ended("revoked", "cancelled", token=0)

    story.enqueue("once", 1, "once")
    story.run("once", 23, kind="once")
    story.ended("once")

    story.enqueue("delayed", 1, "delayed", due=EPOCH_MS + 24_000)
    story.run("delayed", 24.001, kind="delayed", due=EPOCH_MS + 24_000)
    story.ended("delayed")

    for second in range(30, 33):
        tick = EPOCH_MS + second * 1000
        story.run(f"tick@{tick}", second + 0.01, kind="tick", tick=tick)
    story.final.ticks_until = EPOCH_MS + 33_000
    return story


def test_an_honest_run_breaks_no_law() -> None:
    judgement = honest().judge()
    assert judgement.broken == []
    assert judgement.counts["repeats"] == 1
    assert judgement.counts["repeats by death"] == 1
    assert judgement.counts["lost"] == 0


def begin_of(story: Story, job: str, number: int = 0) -> Line:
    return [line for line in story.jobs if line.e == "begin" and line.id == job][number]


def change(job: str, number: int = 0, **facts: object) -> Callable[[Story], None]:
    """Change one attempt of a job, begin and finish alike."""

    def lie(story: Story) -> None:
        begin = begin_of(story, job, number)
        for line in [x for x in story.jobs if (x.id, x.token) == (job, begin.token)]:
            for name, value in facts.items():
                setattr(line, name, value)

    return lie


def never_happened(job: str, number: int) -> Callable[[Story], None]:
    """Take one attempt out of the ledger."""

    def lie(story: Story) -> None:
        token = begin_of(story, job, number).token
        story.jobs = [line for line in story.jobs if line.token != token]

    return lie


def drop(job: str, event: str) -> Callable[[Story], None]:
    def lie(story: Story) -> None:
        story.jobs = [x for x in story.jobs if (x.id, x.e) != (job, event)]

    return lie


def final(job: str, **facts: object) -> Callable[[Story], None]:
    def lie(story: Story) -> None:
        for name, value in facts.items():
            setattr(story.final.jobs[job], name, value)

    return lie


def no_fault(kind: str) -> Callable[[Story], None]:
    def lie(story: Story) -> None:
        story.faults = [fault for fault in story.faults if fault.kind != kind]

    return lie


def again(job: str, at: float, **facts: object) -> Callable[[Story], None]:
    """Let a job that has ended run once more."""

    def lie(story: Story) -> None:
        token = story.run(job, at, **facts)  # type: ignore[arg-type]
        if facts.get("settles", True):
            story.final.jobs[job].token = token

    return lie


def forget(job: str) -> Callable[[Story], None]:
    def lie(story: Story) -> None:
        del story.final.jobs[job]
        story.jobs = [line for line in story.jobs if line.id != job]

    return lie


def extend(name: str, value: object) -> Callable[[Story], None]:
    return lambda story: getattr(story.final, name).append(value)


def with_client(event: str, at: float, **facts: object) -> Callable[[Story], None]:
    return lambda story: story.clients.append(story.line(event, at, **facts))


def later_again(story: Story) -> None:
    """It ran again, by a newer lease than the one that ended it."""
    token = story.final.jobs["plain"].token
    story.run("plain", 9)
    story.final.jobs["plain"].token = token


def read_and_run_again(story: Story) -> None:
    with_client("answered", 2.5, ids=["plain"])(story)
    again("plain", 9)(story)


def many_repeats(story: Story) -> None:
    """One dying process cannot have left so many ends untold."""
    for n in range(200):
        story.enqueue(f"n{n}", 1)
        story.run(f"n{n}", 40, pid=77, for_s=0.01)
    story.fault("kill worker", 40.2, killed=[77])
    for n in range(200):
        story.run(f"n{n}", 41)
        story.ended(f"n{n}")


def two_holders(story: Story) -> None:
    for job, event, at in (("a", "lock", 1), ("b", "lock", 2), ("a", "unlock", 3)):
        story.jobs.append(story.line(event, at, id=job, name="door", pid=30))


def two_ids_for_a_tick(story: Story) -> None:
    tick = EPOCH_MS + 30_000
    story.run("another", 30.02, kind="tick", tick=tick)


def twice_beside_a_killer(story: Story) -> None:
    story.enqueue("lamb", 50, "fragile")
    for n, pid in enumerate((91, 92)):
        story.run("lamb", 51 + n, "", kind="fragile", pid=pid, attempt=n + 1, crashes=n)
        story.jobs.append(story.line("crash", 51.5 + n, id="wolf", pid=pid))
    story.run("lamb", 54, kind="fragile", attempt=3, crashes=2)
    story.ended("lamb")


LIES: dict[str, tuple[str, Callable[[Story], None]]] = {
    "a job vanishes": ("lost", forget("plain")),
    "a dead job vanishes": ("lost", forget("doomed")),
    "a job is stuck in its queue": ("stuck", final("plain", state="queued")),
    "a job runs for ever": ("stuck", final("flaky", state="running")),
    "an answer vanishes": ("answer", lambda story: story.final.jobs.pop("plain") and None),
    "a job is cancelled by nobody": ("cancelled", final("plain", state="cancelled")),
    "a job starts that nobody enqueued": ("nowhere", lambda story: story.run("x", 9) and None),
    "a job is done that never ran": ("nowhere", lambda story: story.ended("y")),
    "a job is done by a lease that did not run": ("nowhere", final("plain", token=999)),
    "a job is done by a lease that raised": ("nowhere", change("plain", e="raise")),
    "a lease starts twice": ("token", change("killed", 1, token=2)),
    "a token goes back": ("token", change("untold", 1, token=1)),
    "it runs after its answer was read": ("after end", read_and_run_again),
    "it runs after the lease that ended it": ("after end", later_again),
    "it runs twice for no reason": ("repeat", again("plain", 9)),
    "it runs twice, and the kill came too late": ("repeat", change("untold", pid=11)),
    "it runs twice, and the kill was never": ("repeat", no_fault("kill worker")),
    "it runs twice beside itself": ("repeat", again("plain", 2.05)),
    "one kill repeats more than a batch": ("repeat", many_repeats),
    "an attempt ends without a word": ("cut short", drop("plain", "end")),
    "a process is ended by nobody": ("cut short", no_fault("kill worker")),
    "an interruption is counted as a failure": (
        "counters",
        change("stopped", 1, failures=1, interruptions=0),
    ),
    "an interruption is counted twice": ("counters", change("stopped", 1, attempt=3, interruptions=2)),
    "an interruption is counted for nothing": ("counters", no_fault("stop")),
    "a crash is counted as a failure": ("counters", change("killed", 1, failures=1, crashes=0)),
    "a crash is counted as an interruption": (
        "counters",
        change("killed", 1, interruptions=1, crashes=0),
    ),
    "a crash is not counted": ("counters", change("killed", 1, attempt=1, crashes=0)),
    "a crash is counted twice": ("counters", change("killed", 1, attempt=3, crashes=2)),
    "a failure is not counted": ("counters", change("flaky", 1, attempt=1, failures=0)),
    "a failure is counted twice": ("counters", change("flaky", 1, attempt=3, failures=2)),
    "a start is not counted": ("counters", change("flaky", 1, attempt=1)),
    "a first attempt is not the first": ("counters", change("plain", attempt=2)),
    "a first attempt has crashed before": ("counters", change("plain", attempt=2, crashes=1)),
    "a job starts before its time": ("early", change("delayed", w=EPOCH_MS + 23_000)),
    "a tick fires twice": ("tick", two_ids_for_a_tick),
    "a tick is missed": ("tick", lambda s: [drop(f"tick@{EPOCH_MS + 31_000}", e)(s) for e in ("begin", "end")] and None),
    "the last tick is missed": ("tick", lambda s: setattr(s.final, "ticks_until", EPOCH_MS + 34_000)),
    "a tick fires and never ends": ("tick", drop(f"tick@{EPOCH_MS + 31_000}", "end")),
    "a revoked job runs": ("revoked", lambda story: story.run("revoked", 91) and None),
    "a revoked job is done": ("revoked", final("revoked", state="done")),
    "a revoked job is forgotten": ("revoked", lambda s: s.final.jobs.pop("revoked") and None),
    "a dead letter is missing": ("dead", final("doomed", dead_letter=False)),
    "a good job is buried": ("dead", final("plain", state="dead", reason="failed")),
    "a job is buried for another reason": ("dead", final("doomed", reason="poisoned")),
    "an innocent job is poisoned": ("dead", final("killed", state="dead", reason="poisoned")),
    "a job is given up too early": ("dead", never_happened("doomed", 2)),
    "a killer is poisoned too early": ("dead", never_happened("killer", 2)),
    "a job that always raises is done": ("dead", final("doomed", state="done")),
    "at most once runs twice": ("once", again("once", 60, kind="once")),
    "a lock has two holders": ("lock", two_holders),
    "an answer is another job's": ("answer", final("plain", told="killed")),
    "an innocent job is put beside killers again": ("innocent", twice_beside_a_killer),
    "a key is left": ("left", extend("leftovers", "{chaos}:x")),
    "a node is left": ("left", extend("nodes", "n1")),
    "a process is left": ("left", extend("processes", "99 taskqd: worker 1")),
    "a queue is not empty": ("left", lambda s: s.final.queues.update(q=[0, 1, 0])),
    "a worker dies by itself": ("death", extend("deaths", 555)),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_caught(lie: str) -> None:
    law, tell = LIES[lie]
    story = honest()
    tell(story)
    assert law in story.laws()


def test_a_slow_settlement_in_an_outage_is_excused_by_a_death_in_it() -> None:
    story = Story()
    story.enqueue("job", 1)
    story.run("job", 10, pid=11)
    story.fault("kill storage", 10.05, 3.0, storage=True)
    story.fault("kill worker", 12, killed=[11])
    story.run("job", 14)
    story.ended("job")
    assert not story.laws()


def test_a_job_handed_to_the_dead_before_the_server_knew_may_count_a_crash() -> None:
    for ago_s, laws in ((0.02, set()), (0.5, {"counters"})):
        story = Story()
        story.fault("kill tree", 5 - ago_s, killed=[11])
        story.enqueue("job", 5)
        story.run("job", 6, attempt=2, crashes=1)
        story.ended("job")
        assert story.laws() == laws


def test_a_silence_longer_than_the_lease_excuses_a_repeat_and_an_outage_of_any_length_does_not() -> (
    None
):
    told = [
        ({"scheduler": True}, 6.0, set()),
        ({"scheduler": True}, 1.0, {"repeat"}),
        ({"storage": True}, 1.0, {"repeat"}),
        ({"storage": True}, 6.0, {"repeat"}),
    ]
    for facts, lasts_s, laws in told:
        story = Story()
        story.enqueue("job", 1)
        story.run("job", 10)
        story.fault("freeze", 10.05, lasts_s, **facts)
        story.run("job", 17)
        story.ended("job")
        assert story.laws() == laws, (facts, lasts_s)


@pytest.mark.parametrize(
    ("faults", "laws"),
    [
        ([("kill tree", 0.01, {"killed": [98], "scheduler": True, "drains": True})], set()),
        ([("kill scheduler", 0.01, {"killed": [98], "scheduler": True})], {"dead"}),
        ([("freeze node", 6.0, {"scheduler": True})], set()),
        ([("freeze storage", 6.0, {"storage": True})], {"dead"}),
    ],
)
def test_a_daemon_that_was_lost_or_silent_counts_one_crash_and_a_lost_scheduler_none(
    faults: list[tuple[str, float, dict[str, object]]], laws: set[str]
) -> None:
    story = Story()
    story.enqueue("job", 1, "killer")
    for n in range(2):
        facts = {"kind": "killer", "attempt": n + 1, "crashes": n, "pid": 20 + n}
        story.run("job", 10 + 7 * n, "crash", **facts)
    for kind, lasts_s, facts in faults:
        story.fault(kind, 10.5, lasts_s, **facts)
    story.ended("job", "dead", reason="poisoned")
    assert story.laws() == laws


def test_what_a_storage_may_forget_is_counted_and_not_held_against_it() -> None:
    story = Story()
    story.enqueue("job", 10)
    story.fault("kill storage", 11, forgets_s=2.0, storage=True)
    judgement = story.judge()
    assert (judgement.broken, judgement.counts["forgotten"]) == ([], 1)
    story.faults[0].forgets_s = 0.5
    assert story.laws() == {"lost"}


def test_a_torn_line_spoils_only_itself(tmp_path) -> None:
    ledger = Ledger(tmp_path / "jobs.jsonl")
    ledger.write("begin", id="a")
    whole = msgspec.json.encode(Line(e="begin", m=1, w=1, pid=1, id="b"))
    (tmp_path / "jobs.jsonl").open("ab").write(b"\n" + whole[:20])
    ledger.write("end", id="a")
    lines, torn = read_lines(tmp_path / "jobs.jsonl")
    assert ([line.e for line in lines], torn) == (["begin", "end"], 1)
