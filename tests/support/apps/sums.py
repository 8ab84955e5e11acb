"""Five small tasks of an app: sums, a failure, and what handles it."""

from __future__ import annotations

from typing import Any

from taskqd import App


class Tasks:
    def __init__(self, app: App) -> None:
        self.errors: list[str] = []

        @app.task(name="add")
        def add(a: int, b: int) -> int:
            return a + b

        @app.task(name="double")
        def double(n: int) -> int:
            return 2 * n

        @app.task(name="fail")
        def fail(*_: Any) -> int:
            raise ValueError("no such shop")

        @app.task(name="handle")
        def handle(error: str) -> None:
            self.errors.append(error)

        @app.task(name="total")
        def total(values: list[Any]) -> str:
            return " ".join(map(str, values))

        self.add, self.double, self.fail, self.handle, self.total = (
            add,
            double,
            fail,
            handle,
            total,
        )
