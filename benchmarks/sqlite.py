"""SQLite: taskqd beside SqliteHuey, both in WAL and at the same `synchronous`, and beside FlexiQ."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from . import catalogue, observe
from .contender import Contender
from .meter import Meter
from .side import environment
from .table import markdown
from .timing import timed
from .versus import Numbers, median_of

ONE_BY_ONE = 2_000
HUEY_WORKERS = 2


def huey(synchronous: str) -> Contender:
    consumer = "benchmarks.sides.huey_sqlite_app.huey"
    return catalogue.HUEY._replace(
        label=f"SqliteHuey, {synchronous}",
        side="huey_sqlite",
        command=(
            *("{bin}/python", "-m", "huey.bin.huey_consumer", consumer),
            *("-k", "process", "-w", str(HUEY_WORKERS), "-q"),
        ),
        processes=HUEY_WORKERS,
        jobs=4_000,
        environment=(("BENCH_SYNCHRONOUS", synchronous),),
    )


FLEXIQ = Contender(
    label="FlexiQ, its own",
    side="flexiq",
    distributions=("flexiq",),
    command=("{bin}/flexiq", "worker", "--app", "benchmarks.sides.flexiq_app:queue"),
    setup="a process of 16 threads, batches of 1,000",
    guarantee=catalogue.AT_LEAST,
    acknowledgement="after the job",
    processes=1,
    jobs=4_000,
)
"""Threads were measured to be its fastest pool for jobs that do nothing, ahead of its processes."""


def taskqd(synchronous: str) -> Contender:
    return catalogue.taskqd(jobs=60_000)._replace(label=f"taskqd, {synchronous}")


def compare(rounds: int, calm_s: float) -> str:
    """Return the Markdown report."""
    levels = ("full", "normal")
    pairs = [(make(level), level) for level in levels for make in (taskqd, huey)]
    pairs.append((FLEXIQ, "full"))
    found: dict[str, list[Numbers]] = {contender.label: [] for contender, _ in pairs}
    for number in range(rounds):
        for contender, level in pairs:
            contender.install()
            observe.wait_for_calm(calm_s)
            numbers = _measure(contender, level)
            found[contender.label].append(numbers)
            print(f"round {number + 1}: {contender.label}: {numbers}", file=sys.stderr, flush=True)
    return _table({label: median_of(rows) for label, rows in found.items()})


def _measure(contender: Contender, synchronous: str) -> Numbers:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        meter = Meter(Path(folder, "meter"))
        url = f"sqlite:///{folder}/bench.db?synchronous={synchronous}"
        env = environment(url, meter.folder, **dict(contender.environment))
        producer = contender.producer()
        first = contender.jobs if contender.side == "huey_sqlite" else ONE_BY_ONE
        numbers: Numbers = dict(producer.produce(env, "enqueue", first))
        if first < contender.jobs:
            numbers |= producer.produce(env, "bulk", contender.jobs - first - 1)
        size = sum(file.stat().st_size for file in Path(folder).glob("bench.db*") if file.is_file())
        return (
            numbers
            | {"queued_bytes": size / contender.jobs}
            | timed(contender, env, meter, contender.jobs)
        )


def _table(medians: dict[str, Numbers]) -> str:
    head = ["", "drain, jobs/s", "workers' CPU, us/job", "one by one, jobs/s", "bulk, jobs/s"]
    head += ["bytes on disk a waiting job", "noise"]
    rows = [
        [
            label,
            f"{n['jobs_s']:,.0f}",
            f"{n['worker_cpu_us']:.1f}",
            f"{n['enqueue_rate']:,.0f}",
            f"{n['bulk_rate']:,.0f}" if "bulk_rate" in n else "none",
            f"{n['queued_bytes']:.0f}",
            f"{n['foreign']:.0%}",
        ]
        for label, n in medians.items()
    ]
    ratios = [
        f"at `{level}` drain {medians[f'taskqd, {level}']['jobs_s'] / medians[f'SqliteHuey, {level}']['jobs_s']:.1f} times"
        for level in ("full", "normal")
    ]
    against = medians["taskqd, normal"]["jobs_s"] / medians[FLEXIQ.label]["jobs_s"]
    return (
        f"{markdown(head, rows)}\n\ntaskqd is to SqliteHuey: {', '.join(ratios)}; to FlexiQ"
        f" ({FLEXIQ.setup}): at `normal` drain {against:.1f} times."
    )
