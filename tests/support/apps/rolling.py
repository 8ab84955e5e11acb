"""One app in two versions: which of its tasks a daemon's code has is told by the environment."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from taskqd import App
from taskqd.execution.protocols import JobView

TASKS = ("add", "total", "fresh", "removed")
OLD, NEW = ("add", "total", "removed"), ("add", "total", "fresh")


def _note(text: str) -> None:
    """Append a line to the ledger, as a whole."""
    file = os.open(os.environ["ROLLING_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{os.environ['ROLLING_NAME']} {text}\n".encode())
    os.close(file)


def _add(a: int, b: int) -> int:
    return a + b


def _total(values: list[Any]) -> list[Any]:
    return values


def _fresh(n: int) -> int:
    _note(f"fresh {n}")
    return 10 * n


def _removed(n: int) -> int:
    _note(f"removed {n}")
    return 100 * n


def make(name: str, url: str, tasks: Collection[str]) -> App:
    made = App(name, url)
    for task, function in zip(TASKS, (_add, _total, _fresh, _removed), strict=True):
        if task in tasks:
            made.task(name=task)(function)

    @made.signal("dead")
    def _dead(_signal: str, job: JobView, _exc: BaseException | None = None) -> None:
        _note(f"dead {job.id}")

    return made


app = make(
    os.environ.get("ROLLING_APP", "rolling"),
    os.environ.get("TASKQD_STORAGE", "memory://rolling"),
    os.environ.get("ROLLING_TASKS", "").split(),
)
