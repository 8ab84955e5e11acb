"""Jobs that cannot run: each alone, never its batch, on every storage."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from taskqd import App, JobDead, State
from taskqd.jobs.job import Entry
from tests.support.rigs.crew import Crew
from tests.support.servers.storages import NAMES, Backend, backends
from tests.support.waiting import HANG_S

KEYS = ["k" * 16]
RAW = {
    "undecodable": b'{"t":"add","a":[1,',
    "unreadable options": b'{"t":"add","a":[1,2],"o":{"retries":"many","max_crashes":[]}}',
    "unknown": b'{"t":"nobody","a":[1,2]}',
    "rejected": b'{"t":"add","a":[1]}',
    "not of the type": b'{"t":"add","a":["x",{}]}',
    "oversized": b'{"t":"add","a":[1,2],"h":{"x":"' + b"x" * 40_000 + b'"}}',
}
REASONS = {"unreadable options": "undecodable", "not of the type": "rejected"}


backend = backends(*NAMES)


def app_on(backend: Backend, **options: Any) -> App:
    app = App(backend.namespace(), backend.url, **options)

    @app.task(name="add", retries=5)
    def add(a: int, b: int) -> int:
        return a + b

    return app


def test_jobs_that_cannot_run_become_dead_letters_and_cost_their_batch_nothing(
    backend: Backend,
) -> None:
    app = app_on(backend)
    heard: dict[str, str] = {}
    app.signal("dead")(lambda signal, job, exc=None: heard.update({job.id: job.marks.error}))
    add = app.registry["add"]
    results = {name: app.result(name.replace(" ", "-")) for name in RAW}
    first = add(1, 1)
    app.storage.enqueue([Entry(results[n].id, "default", raw) for n, raw in RAW.items()])
    last = add(2, 2)
    told: dict[str, str] = {}

    def ask(name: str) -> None:
        with pytest.raises(JobDead) as caught:
            results[name].get(timeout=HANG_S)
        told[name] = caught.value.reason

    waiters = [threading.Thread(target=ask, args=(name,)) for name in RAW]
    for waiter in waiters:
        waiter.start()
    # All in one batch, as a worker leases them.
    crew = Crew(app, payload_bytes_max=2048, unknown_patience_s=0)
    kinds = [outcome.kind for outcome in crew.drain()]
    for waiter in waiters:
        waiter.join(HANG_S)
    assert kinds == ["ack"] + ["bury"] * len(RAW) + ["ack"]
    assert (first.get(timeout=5), last.get(timeout=5)) == (2, 4)
    assert told == {name: REASONS.get(name, name) for name in RAW}
    assert heard.keys() == {result.id for result in results.values()}
    assert all(heard.values()), "each says what is wrong with it"
    letters = {row.id: row for row in app.storage.jobs(State.DEAD)}
    for name, raw in RAW.items():
        letter = letters[results[name].id]
        assert letter.record.endswith(raw), "as it came"
        assert b'"failures"' not in letter.record
        assert results[name].info()["failures"] == 0, "no retry was burnt"
    app.close()


def test_unsigned_job_is_buried_alone(backend: Backend) -> None:
    app = app_on(backend, signing_keys=KEYS)
    add = app.registry["add"]
    signed = add(1, 1)
    app.storage.enqueue([Entry("forged", "default", b'{"t":"add","a":[1,2]}')])
    assert [outcome.reason for outcome in Crew(app).drain()] == ["", "unsigned"]
    assert signed.get(timeout=5) == 2
    with pytest.raises(JobDead, match="unsigned"):
        app.result("forged").get(timeout=5)
    app.close()


@pytest.mark.parametrize("what", ["oversized", "rejected"])
def test_value_that_fits_no_next_stage_ended_the_thread_of_its_worker(
    backend: Backend, what: str
) -> None:
    app = app_on(backend)
    errors: list[str] = []

    @app.task(store_result=False)
    def odd() -> Any:
        return "x" * 3000 if what == "oversized" else object()

    total = app.task(name="total")(lambda values: [str(value) for value in values])
    handle = app.task(name="handle")(errors.append)
    add = app.registry["add"]
    chain = odd.s().then(add, 1).then(add, 2).error(handle)
    chord = app.enqueue(app.chord([chain, add.s(1, 1)], total))
    stages = app.enqueue(odd.s().then(add, 1).then(add, 2))
    app.limits = type(app.limits)(payload_bytes_max=2048)
    Crew(app).drain()
    assert stages[0].get(timeout=5) is None, "the stage before has done its work"
    for later in stages[1:]:
        with pytest.raises(JobDead, match=what):
            later.get(timeout=5)
    failed, two = chord.get(timeout=5)
    assert (failed[: len(what) + 10], two) == (f"<failed: {what}:", "2")
    assert len(errors) == 1
    assert list(app.storage.leftovers()) == []
    app.close()
