"""The heavy app's jobs: `taskqd benchmarks.sides.heavy_app:app`."""

from __future__ import annotations

from benchmarks.sides import heavy
from taskqd import App

app = App("heavy")


@app.task()
def touch() -> int:
    return heavy.touch()
