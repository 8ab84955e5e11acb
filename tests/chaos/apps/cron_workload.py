"""The periodic tasks under fire: one that is declared, and one that is made at run time."""

from __future__ import annotations

import time

from taskqd import App, every
from tests.chaos.apps.workload import PATIENT, witness

NAMESPACE = "cron"
RUN_S = 0.05
"""A job takes so long, so that some are killed in the middle."""

app = App(NAMESPACE)


@app.periodic_task(
    every(seconds=1), name="tick", missed="all", max_crashes=PATIENT, store_result=False
)
def tick() -> None:
    with witness():
        time.sleep(RUN_S)


@app.task(name="mark", max_crashes=PATIENT, store_result=False)
def mark(change: int) -> None:
    with witness():
        time.sleep(RUN_S)
