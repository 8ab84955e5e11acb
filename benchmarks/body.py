"""Jobs of 1 ms: how much of the time that the slots have goes to the jobs themselves."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.servers.redis_server import RedisServer

from . import catalogue, observe
from .meter import Meter
from .side import environment
from .table import markdown
from .timing import timed
from .versus import Numbers, median_of

JOBS = 6_000
MICROSECONDS = 1_000


def run(rounds: int, calm_s: float) -> str:
    """Return the Markdown report."""
    cases = [
        ("computing, 2 processes", "computing", catalogue.taskqd(jobs=JOBS), 2),
        ("sleeping, 2 processes", "sleeping", catalogue.taskqd(jobs=JOBS), 2),
        ("sleeping, 2 x 5 threads", "sleeping", catalogue.taskqd("thread", 5, JOBS), 10),
    ]
    found: dict[str, list[Numbers]] = {label: [] for label, *_ in cases}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, RedisServer() as server:
        for number in range(rounds):
            for label, body, contender, slots in cases:
                observe.wait_for_calm(calm_s)
                meter = Meter(Path(folder, f"{label}-{number}".replace(" ", "")))
                env = environment(server.url, meter.folder)
                contender.producer().produce(env, body, JOBS, MICROSECONDS)
                numbers = timed(contender, env, meter, JOBS, server)
                numbers["worked_share"] /= slots
                found[label].append(numbers)
    rows = []
    for label, _body, _contender, slots in cases:
        n = median_of(found[label])
        share = f"{n['worked_share']:.1%}"
        rows.append([label, str(slots), f"{n['jobs_s']:,.0f}", share, f"{n['foreign']:.0%}"])
    head = ["jobs of 1 ms", "slots", "jobs/s", "time in the jobs, of what the slots have", "noise"]
    return markdown(head, rows)
