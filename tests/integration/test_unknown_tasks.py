"""A rolling deploy: the old code and the new one side by side, on every storage."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from taskqd import App, JobDead, ResultTimeout, State, TaskFailed
from taskqd.client import result as client_result
from taskqd.client.composition import Failed
from tests.support.rigs.crew import Crew
from tests.support.servers.storages import NAMES, Backend, backends
from tests.support.waiting import HANG_S, wait_until

backend = backends(*NAMES)


class Deploy:
    """The app of the callers, the old daemon's and the new one's; `new` is known to two of them."""

    def __init__(self, backend: Backend) -> None:
        name = backend.namespace()
        self.errors: list[str] = []
        self.caller, self.old, self.new = (App(name, backend.url) for _ in range(3))
        for app in (self.caller, self.old, self.new):
            app.task(name="add")(lambda a, b: a + b)
            app.task(name="total")(lambda values: [str(value) for value in values])
            app.task(name="handle")(self.errors.append)
        for app in (self.caller, self.new):
            app.task(name="new", retries=1)(lambda n=1: 10 * n)
        self.task: Any = self.caller.registry

    def close(self) -> None:
        for app in (self.caller, self.old, self.new):
            app.close()


@pytest.fixture
def deploy(backend: Backend) -> Iterator[Deploy]:
    made = Deploy(backend)
    yield made
    made.close()


def test_job_of_an_unknown_task_waits_for_the_daemon_that_knows_it(deploy: Deploy) -> None:
    result = deploy.task["new"](4)
    Crew(deploy.old, "old").drain()
    [letter] = deploy.caller.dead
    assert (letter.reason, letter.state) == ("unknown", State.DEAD)
    assert b'"a":[4]' in letter.record
    with pytest.raises(ResultTimeout):
        result.get(timeout=0.05)
    assert result.state is State.DEAD
    new = Crew(deploy.new, "new")
    new.look()
    [outcome] = new.drain()
    assert new.told == [], "nobody was told that it is dead"
    assert (result.get(timeout=5), outcome.marks.failures) == (40, 0)
    assert result.info()["attempts"] == 1, "being parked is no attempt"
    assert list(deploy.caller.storage.leftovers()) == []


def test_caller_that_waits_while_the_job_is_parked_gets_its_value(deploy: Deploy) -> None:
    result, others = deploy.task["new"](2), deploy.task["new"].map([3, 4])
    Crew(deploy.old, "old").drain()
    got: list[Any] = []
    waiters = [
        threading.Thread(target=lambda: got.append(result.get(timeout=HANG_S))),
        threading.Thread(target=lambda: got.extend(r.get() for r in others.as_completed(20))),
    ]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: result._parked and all(r._parked for r in others))
    new = Crew(deploy.new, "new")
    new.look()
    new.drain()
    for waiter in waiters:
        waiter.join(HANG_S)
    assert sorted(got) == [20, 30, 40]


def test_job_that_an_old_daemon_meets_goes_to_the_new_one_and_never_back(deploy: Deploy) -> None:
    old, new = Crew(deploy.old, "old"), Crew(deploy.new, "new")
    for round_ in range(3):
        result = deploy.task["new"](round_)
        [parked] = old.drain()
        assert (parked.marks.attempts, parked.marks.failures) == (0, 0)
        if not round_:
            new.look()
        old.look()
        assert old.drain() == [], "who does not know the name leaves it where it is"
        [ended] = new.drain()
        assert (ended.kind, result.get(timeout=5)) == ("ack", 10 * round_)
    assert old.told == new.told == []


def test_task_that_was_removed_in_the_new_code_is_run_by_the_old_one(deploy: Deploy) -> None:
    """The reverse: the new daemon meets a job first that only the old one knows."""
    result = deploy.task["new"](3)
    rolled_back = Crew(deploy.old, "rolled-back")
    [parked] = rolled_back.drain()
    assert parked.parked == "=new"
    still_there = Crew(deploy.new, "still-there")
    still_there.look()
    assert rolled_back.drain() == []
    still_there.drain()
    assert result.get(timeout=5) == 30


def test_retry_of_a_job_that_an_old_daemon_meets_keeps_what_is_counted(deploy: Deploy) -> None:
    deploy.new.registry["new"].function = lambda n: 1 / 0
    result = deploy.task["new"](1)
    old, new = Crew(deploy.old, "old"), Crew(deploy.new, "new")
    old.drain()
    new.look()
    [lease] = new.lease()
    assert deploy.new.storage.settle(new.worker, [new.run(lease)]) == [True]
    [parked] = old.drain()
    assert (parked.marks.attempts, parked.marks.failures) == (1, 1)
    [ended] = new.drain()
    assert (ended.kind, ended.marks.failures) == ("bury", 2)
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        result.get(timeout=5)


def test_job_that_nobody_knows_is_told_dead_once_its_patience_is_over(deploy: Deploy) -> None:
    result = deploy.task["new"](1)
    olds = [Crew(deploy.old, name, unknown_patience_s=0.05) for name in ("a", "b")]
    olds[0].drain()
    wait_until(lambda: [old.look() for old in olds] and any(old.told for old in olds))
    for old in olds * 2:
        old.look()
    told = [(what, view.id, view.reason) for old in olds for what, view in old.told]
    assert told == [("dead", result.id, "unknown")]


def test_chord_with_an_unknown_member_waits_for_the_daemon_that_knows_it(deploy: Deploy) -> None:
    new, add = deploy.task["new"], deploy.task["add"]
    chord = deploy.caller.enqueue(
        deploy.caller.chord([new.s(1), add.s(1, 1)], deploy.task["total"])
    )
    old, crew = Crew(deploy.old, "old"), Crew(deploy.new, "new")
    old.drain()
    old.look()
    assert chord.callback.state is State.SCHEDULED, "it waits for its member"
    crew.look()
    crew.drain()
    assert chord.get(timeout=5) == ["10", "2"]
    assert old.told == crew.told == []


def test_patience_has_an_end_and_the_job_comes_back_after_it_all_the_same(deploy: Deploy) -> None:
    result = deploy.task["new"](1)
    Crew(deploy.old, "old", unknown_patience_s=0.05).drain()
    with pytest.raises(JobDead, match="no task named 'new'"):
        result.get(timeout=HANG_S)
    new = Crew(deploy.new, "new")
    new.look()
    new.drain()
    assert asyncio.run(result.aget(timeout=5)) == 10
    assert result.get(timeout=5) == 10


def test_unknown_later_stage_waits_and_the_stage_before_it_lives(deploy: Deploy) -> None:
    add, new = deploy.task["add"], deploy.task["new"]
    results = deploy.caller.enqueue(add.s(1, 2).then(new).then(add, 5).error(deploy.task["handle"]))
    Crew(deploy.old, "old").drain()
    assert results[0].get(timeout=5) == 3
    for later in results[1:]:
        with pytest.raises(ResultTimeout):
            later.get(timeout=0.05)
    crew = Crew(deploy.new, "new")
    crew.look()
    crew.drain()
    assert (results.get(timeout=5), deploy.errors) == ([3, 30, 35], [])


def test_chain_that_nobody_came_for_is_given_up_once_and_for_all(deploy: Deploy) -> None:
    add, new = deploy.task["add"], deploy.task["new"]
    results = deploy.caller.enqueue(add.s(1, 2).then(new).then(add, 5).error(deploy.task["handle"]))
    chord = deploy.caller.enqueue(
        deploy.caller.chord([new.s(1), add.s(1, 1)], deploy.task["total"])
    )
    old = Crew(deploy.old, "old", unknown_patience_s=0.05)
    old.drain()
    assert chord.callback.state is State.SCHEDULED, "it waits for its member"
    wait_until(lambda: old.look() or not deploy.caller.storage.parked(["default"]))
    old.drain()
    for later in results[1:]:
        with pytest.raises(JobDead, match="unknown"):
            later.get(timeout=HANG_S)
    assert deploy.errors == ["no task named 'new' is declared in app " + repr(deploy.old.name)]
    failed = str(Failed("unknown", ""))[:16]
    assert chord.get(timeout=5)[0].startswith(failed)
    late = Crew(deploy.new, "new")
    late.look()
    assert late.drain() == [], "what followed it has been told: it does not run any more"
    assert len(list(deploy.caller.dead)) == 2


def test_caller_of_a_dead_letter_whose_answer_is_gone_waited_for_ever(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_result, "_LOOK_S_MAX", 0.1)
    result = deploy.task["new"].options(result_ttl=1, retries=0)("no number")
    deploy.new.registry["new"].function = lambda n: 1 / 0
    Crew(deploy.new, "new").drain()
    wait_until(lambda: deploy.caller.storage.answer(result.id, "default") is None)
    with pytest.raises(TaskFailed, match="ZeroDivisionError: division by zero"):
        result.get(timeout=HANG_S)
