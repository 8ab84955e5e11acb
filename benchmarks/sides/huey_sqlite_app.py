"""The jobs for Huey on SQLite: `huey_consumer benchmarks.sides.huey_sqlite_app.huey`."""

from __future__ import annotations

import os
from typing import Any

from huey import SqliteHuey
from huey.storage import SqliteStorage

from benchmarks import meter

PATH = os.environ["BENCH_REDIS"].removeprefix("sqlite:///").partition("?")[0]
SYNCHRONOUS = os.environ["BENCH_SYNCHRONOUS"]


class Storage(SqliteStorage):  # type: ignore[misc]
    """Huey's own knows FULL and OFF; the comparison is also made at NORMAL."""

    def _create_connection(self) -> Any:
        connection = super()._create_connection()
        connection.execute(f"pragma synchronous={SYNCHRONOUS}")
        return connection


huey = SqliteHuey("bench", filename=PATH, storage_class=Storage)


@huey.task()
def noop() -> int:
    meter.count()
    return 1


def one() -> None:
    noop()
