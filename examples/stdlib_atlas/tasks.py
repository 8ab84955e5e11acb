"""The two tasks: `taskqd examples.stdlib_atlas.tasks:app` runs them."""

from __future__ import annotations

from taskqd import App, current_job

from . import ledger
from .measure import Atlas, FileFacts, fold, measure_file

app = App("atlas")


@app.task()
def measure(path: str) -> FileFacts:
    with ledger.witness(current_job()):
        return measure_file(path)


@app.task()
def report(facts: list[FileFacts]) -> Atlas:
    with ledger.witness(current_job()):
        return fold(facts)
