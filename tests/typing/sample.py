"""What type checkers must infer and reject.  Checked by tests/unit/test_typing.py, never run."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, assert_type

from taskqd import App, JobInterrupted, Result, ResultGroup, Signature, State, current_job, every
from taskqd.client.composition import Chord, ChordResult, Group
from taskqd.storage.base import JobRow, QueueRow
from taskqd.testing import BackgroundWorker, isolated, run_pending

app = App("typing")


@app.task
def plain(path: str, width: int = 200) -> str:
    return path


@app.task(retries=3, retry_delay=2, queue="mail")
def with_options(count: int) -> float:
    return count / 2


@app.task
async def coroutine(n: int) -> bytes:
    return bytes(n)


@app.task(timeout=5)
async def coroutine_with_options(n: int) -> bytes:
    return bytes(n)


@app.periodic_task(every(minutes=1), retries=1)
def sweep() -> None:
    assert_type(current_job().attempt, int)


@app.task(soft_timeout=5, timeout=9)
def stoppable(pages: int) -> int:
    job = current_job()
    assert_type(job.stopping, bool)
    assert_type(job.revoked, bool)
    assert_type(job.seconds_left, float)
    assert_type(job.once("mail"), bool)
    try:
        job.check()
    except JobInterrupted:
        job.checkpoint({"page": pages})
        raise
    return pages


@app.lock_task("import")
def locked(n: int) -> str:
    return str(n)


@app.signal("complete", "error")
def listen(signal: str, job: object, exc: BaseException | None = None) -> None: ...


def right() -> None:
    assert_type(plain("a"), Result[str])
    assert_type(plain("a", width=3).get(timeout=1), str)
    assert_type(with_options(3).get(), float)
    assert_type(coroutine(3).get(), bytes)
    assert_type(coroutine_with_options(3), Result[bytes])
    assert_type(plain.s("a"), Signature[str])
    assert_type(plain.options(delay=3)("a", 4), Result[str])
    assert_type(plain.options(delay=3).s("a", 4), Signature[str])
    assert_type(plain.schedule(("a",), delay=3), Result[str])
    assert_type(with_options.map([1, 2]), ResultGroup[float])
    assert_type(plain.call_local("a"), str)
    assert_type(sweep(), Result[None])
    assert_type(app.periodic.add("daily", plain, every(hours=24), ["a"]), bool)
    assert_type(app.periodic()[0].paused, bool)
    assert_type(locked(3), str)


def right_composed() -> None:
    members = app.group([plain.s("a"), plain.s("b")])
    assert_type(members, Group[str])
    assert_type(app.enqueue(members), ResultGroup[str])
    assert_type(app.enqueue([with_options.s(1)]), ResultGroup[float])
    assert_type(app.enqueue([with_options.s(1)]).get(timeout=1), list[float])
    assert_type(members.then(plain, width=3), Chord)
    assert_type(app.enqueue(app.chord([plain.s("a")], plain)), ChordResult)
    assert_type(plain.s("a").then(with_options), Signature[Any])
    assert_type(plain.s("a").error(listen_to_error), Signature[str])


@app.task
def listen_to_error(text: str) -> None: ...


def right_control(result: Result[str], group: ResultGroup[int]) -> None:
    assert_type(result.state, State)
    assert_type(result.revoke(), bool)
    assert_type(result.reschedule(delay=3), bool)
    assert_type(group[0], Result[int])
    assert_type(group[1:], ResultGroup[int])
    assert_type(group.as_completed(), Iterator[Result[int]])
    assert_type(app.jobs("dead"), Iterator[JobRow])
    assert_type(app.counts(), dict[str, QueueRow])
    assert_type(plain.is_revoked(), bool)
    with app.lock_task("import", wait=3) as token:
        assert_type(token, int)


def right_in_tests(run: Callable[..., int]) -> None:
    with isolated(app) as mine, BackgroundWorker(mine) as worker:
        assert_type(mine, App)
        assert_type(run_pending(mine, within=timedelta(hours=1)), int)
        assert_type(worker.jobs, int)


async def right_on_a_loop() -> None:
    assert_type(await plain.aenqueue("a"), Result[str])
    assert_type(await plain.options(priority=3).aenqueue("a"), Result[str])
    assert_type(await plain("a").aget(timeout=1), str)
    assert_type(await app.aenqueue([plain.s("a")]), ResultGroup[str])
    assert_type(await (await app.aenqueue([plain.s("a")])).aget(timeout=1), list[str])


def wrong() -> None:
    plain(1)  # error
    plain("a", height=3)  # error
    plain()  # error
    with_options("3")  # error
    coroutine("x")  # error
    plain.s("a", "b")  # error
    plain.options(delay=1)(2)  # error
    plain.options(delay=1).s(2)  # error
    plain.call_local(3)  # error
    locked("3")  # error
    sweep(1)  # error
    app.task(retires=3)  # error
    app.periodic_task(every(minutes=1), overlap="perhaps")  # error
    app.periodic.add("daily", plain, "every day")  # error
    app.periodic.change("daily", wen=every(hours=1))  # error
    app.task(retries="3")  # error
    app.group([plain])  # error
    app.chord([plain.s("a")], 3)  # error
    plain("a").get(timeout="1")  # error
    plain("a").reschedule(eta=3, soon=True)  # error
    current_job().check(1)  # error
    current_job().once(3)  # error
    run_pending(app, within="1 h")  # error


async def wrong_on_a_loop() -> None:
    await plain.aenqueue(1)  # error
    await plain.options(delay=1).aenqueue()  # error
    text: int = await plain("a").aget()  # error
    del text
