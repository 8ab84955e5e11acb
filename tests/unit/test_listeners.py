"""Handlers and hooks: told of everything, by any number of threads, and harming nobody."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from taskqd import App, ConfigError, CurrentJob, current_job
from taskqd import listeners as signals_of
from taskqd.ids import new_id
from taskqd.listeners import Listeners
from tests.support.rigs.crew import Crew

TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


@pytest.fixture
def app() -> App:
    return App("shop", f"memory://{new_id()}")


# -- headers ------------------------------------------------------------------------------------


def test_headers_travel_through_retries_stages_error_handlers_and_chords(app: App) -> None:
    seen: dict[str, Any] = {}

    def note(name: str) -> None:
        seen[f"{name} {current_job().attempt}"] = current_job().headers

    @app.task(retries=1)
    def first() -> int:
        note("first")
        if current_job().attempt == 1:
            raise OSError
        return 1

    @app.task
    def second(n: int) -> int:
        note("second")
        return n

    @app.task
    def third(n: int) -> None:
        note("third")
        raise ValueError(n)

    app.task(name="handle")(lambda error: note("handler"))
    app.task(name="total")(lambda values: note("total"))
    task = app.registry
    own = second.options(headers={"own": "1"})
    app.enqueue(
        first.options(headers=TRACE)
        .s()
        .then(second)
        .then(own.s())
        .then(third)
        .error(task["handle"])
    )
    inner = app.chord([second.s(1), second.options(headers=TRACE).s(2)], task["total"])
    app.enqueue(app.chord([inner], task["total"]))
    Crew(app).drain()
    assert seen.pop("second 1") in ({}, TRACE, {"own": "1"})
    assert seen == {
        "first 1": TRACE,
        "first 2": TRACE,
        "third 1": {"own": "1"},
        "handler 1": {"own": "1"},
        "total 1": TRACE,
    }


def test_job_without_headers_carries_none(app: App) -> None:
    @app.task
    def plain() -> None:
        assert current_job().headers == {}

    assert b'"h"' not in app.entry(plain.s()).payload
    assert b'"h"' not in app.entry(plain.options(priority=1, headers={}).s()).payload


@pytest.mark.parametrize(
    "wrong", ["x", {"a": 1}, {1: "a"}, {"a": "x" * 8192}, {str(n): "" for n in range(65)}]
)
def test_headers_that_are_no_short_strings_are_refused(app: App, wrong: Any) -> None:
    task = app.task(name="plain")(lambda: None)
    with pytest.raises(ConfigError, match="headers = .*at most 64 strings"):
        task.options(headers=wrong)


def test_handlers_see_the_headers_and_when_the_job_was_enqueued(app: App) -> None:
    heard: list[tuple[str, dict[str, str]]] = []
    times: list[int] = []

    @app.signal()
    def listen(signal: str, job: Any, exc: BaseException | None = None) -> None:
        heard.append((signal, dict(job.headers)))
        if signal in ("enqueued", "executing"):
            times.append(job.enqueued_ms)

    @app.task
    def fail() -> None:
        raise ValueError

    fail.options(headers=TRACE)()
    fail.options(headers=TRACE, expires=-1)()
    Crew(app).drain()
    assert [signal for signal, _ in heard] == [
        "enqueued", "enqueued", "executing", "error", "dead", "expired",
    ]  # fmt: skip
    assert all(headers == TRACE for _, headers in heard)
    assert times[0] == times[2] > 0


def test_each_stage_of_a_pipeline_is_told_as_enqueued_when_it_is(app: App) -> None:
    order: list[str] = []
    app.signal("enqueued")(lambda signal, job, exc=None: order.append(f"enqueued {job.task}"))
    one = app.task(name="one")(lambda: order.append("ran one"))
    two = app.task(name="two")(lambda: order.append("ran two"))
    app.enqueue(one.s().then(two))
    Crew(app).drain()
    assert order == ["enqueued one", "ran one", "enqueued two", "ran two"]


def test_enqueued_is_told_after_the_durable_write(app: App) -> None:
    states: list[str] = []

    @app.signal("enqueued")
    def listen(signal: str, job: Any, exc: BaseException | None = None) -> None:
        states.append(app.result(job.id).state.value)

    app.task(name="plain")(lambda: None)()
    assert states == ["queued"]


# -- containment --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_handler_that_raises_is_reported_and_the_others_are_told(
    app: App, error: BaseException
) -> None:
    told: list[str] = []
    reports: list[tuple[str, str, BaseException]] = []

    @app.signal("complete")
    def broken(signal: str, job: Any, exc: BaseException | None = None) -> None:
        raise error

    app.signal("complete")(lambda signal, job, exc=None: told.append(job.id))
    task = app.task(name="plain")(lambda: 1)
    result, crew = task(), Crew(app)
    app.listeners.report = lambda *what: reports.append(what)
    crew.drain()
    assert (result.get(timeout=1), told) == (1, [result.id])
    [(kind, name, raised)] = reports
    assert (kind, raised) == ("signal handler", error)
    assert name.endswith("broken")


def test_slow_handler_is_reported_by_its_name(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals_of, "SLOW_S", 0.0)
    slow: list[str] = []

    @app.signal("complete")
    def dawdle(signal: str, job: Any, exc: BaseException | None = None) -> None: ...

    @app.pre_execute()
    def look(job: CurrentJob) -> None: ...

    app.task(name="plain")(lambda: 1)()
    crew = Crew(app)
    app.listeners.report_slow = lambda kind, name, took_s: slow.append(f"{kind} {name}")
    crew.drain()
    assert [text.rpartition(".")[2] for text in slow] == ["look", "dawdle"]


def test_stopping_worker_does_not_wait_for_a_handler(app: App) -> None:
    go, told = threading.Event(), threading.Event()

    @app.signal("interrupted")
    def wait(signal: str, job: Any, exc: BaseException | None = None) -> None:
        assert go.wait(20)
        told.set()

    app.task(name="plain")(lambda: None)()
    crew = Crew(app)
    [lease] = crew.lease()
    outcome = crew.runner.interrupted(lease)
    assert (outcome.kind, told.is_set()) == ("requeue", False), "it is requeued first"
    go.set()
    app.listeners.flush(20)
    assert told.is_set()


def test_what_is_told_aside_keeps_its_order_and_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals_of, "ASIDE_MAX", 5)
    listeners, go = Listeners(), threading.Event()
    told: list[int] = []
    dropped: list[str] = []
    listeners.report = lambda kind, name, error: dropped.append(str(error))
    listeners.connect(lambda signal, job, exc=None: go.wait(20) and told.append(job), ("dead",))
    for number in range(20):
        listeners.tell_aside("dead", number)
        listeners.tell_aside("complete", number)
    go.set()
    listeners.flush(20)
    assert told == list(range(len(told)))
    assert 5 <= len(told) <= 6
    assert len(dropped) == 20 - len(told)
    assert all("'dead' was dropped" in text for text in dropped)


def test_forked_child_tells_aside_by_a_thread_of_its_own() -> None:
    listeners = Listeners()
    told: list[int] = []
    listeners.connect(lambda signal, job, exc=None: told.append(job), ("dead",))
    listeners.tell_aside("dead", 1)
    listeners.flush(20)
    pid = os.fork()
    if pid == 0:
        listeners.tell_aside("dead", 2)
        listeners.flush(10)
        os._exit(0 if told == [1, 2] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_handlers_that_came_and_went_in_several_threads_at_once_were_lost() -> None:
    listeners = Listeners()
    count, threads_n = 300, 4

    def come_and_go(kept: list[Any]) -> None:
        for _ in range(count):
            guest, resident = (lambda *_: None), (lambda *_: None)
            listeners.connect(guest, ())
            listeners.connect(resident, ("dead",))
            listeners.tell("dead", None)
            listeners.disconnect(guest)
            kept.append(resident)

    stop = threading.Event()
    tellers = threading.Thread(
        target=lambda: [listeners.tell("x", 0) for _ in iter(stop.is_set, 1)]
    )
    tellers.start()
    kept: list[list[Any]] = [[] for _ in range(threads_n)]
    workers = [threading.Thread(target=come_and_go, args=(mine,)) for mine in kept]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    stop.set()
    tellers.join(20)
    assert set(listeners.handlers) == {"dead"}
    assert len(listeners.handlers["dead"]) == count * threads_n
    assert set(listeners.handlers["dead"]) == {one for mine in kept for one in mine}
