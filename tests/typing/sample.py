"""What type checkers must infer and reject.  Checked by tests/unit/test_typing.py, never run."""

from typing import assert_type

from taskqd import App, Result, ResultGroup, Signature, current_job, every

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


def right() -> None:
    assert_type(plain("a"), Result[str])
    assert_type(plain("a", width=3).get(timeout=1), str)
    assert_type(with_options(3).get(), float)
    assert_type(coroutine(3).get(), bytes)
    assert_type(coroutine_with_options(3), Result[bytes])
    assert_type(plain.s("a"), Signature[str])
    assert_type(plain.options(delay=3)("a", 4), Result[str])
    assert_type(plain.schedule(("a",), delay=3), Result[str])
    assert_type(with_options.map([1, 2]), ResultGroup[float])
    assert_type(plain.call_local("a"), str)
    assert_type(sweep(), Result[None])


async def right_on_a_loop() -> None:
    assert_type(await plain.aenqueue("a"), Result[str])
    assert_type(await plain("a").aget(timeout=1), str)


def wrong() -> None:
    plain(1)  # error
    plain("a", height=3)  # error
    plain()  # error
    with_options("3")  # error
    coroutine("x")  # error
    plain.s("a", "b")  # error
    plain.options(delay=1)(2)  # error
    app.task(retires=3)  # error
    app.task(retries="3")  # error
