"""What a type checker makes of the public interface.  `make type` reads this file; it is never run.

Each `ignore` below is a claim too: the checkers complain where it is not needed.
"""

from __future__ import annotations

from typing import assert_type

from taskqd import App, Result, ResultGroup, crontab, current_job, every

app = App("typed", storage="memory://")


@app.task
def double(number: int) -> int:
    return 2 * number


@app.task(retries=3, retry_delay=2, queue="labels")
def label(name: str, *, loud: bool = False) -> str:
    assert_type(current_job().attempt, int)
    return name.upper() if loud else name


@app.task()
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task
async def count(url: str) -> int:
    return len(url)


@app.periodic_task(crontab(minute="*/5"), timezone="Europe/Rome")
def sweep() -> None: ...


@app.periodic_task(every(seconds=10))
def beat() -> int:
    return 1


assert_type(double(2), Result[int])
assert_type(double(2).get(timeout=1), int)
assert_type(label("a", loud=True), Result[str])
assert_type(fetch("http://"), Result[bytes])
assert_type(count("http://"), Result[int])
assert_type(double.map([1, 2, 3]), ResultGroup[int])
assert_type(double.map([1, 2, 3]).get(), list[int])
assert_type(double.call_local(3), int)
assert_type(double.options(delay=5)(1), Result[int])
assert_type(beat(), Result[int])

double("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
double()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
label("a", quiet=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
sweep(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
