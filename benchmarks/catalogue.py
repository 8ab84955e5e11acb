"""Who is compared, each in the configuration that was measured to be its fastest on two cores."""

from __future__ import annotations

from .contender import Contender
from .side import taskqd_side

AT_LEAST, AT_MOST = "at least once", "at most once"


def taskqd(worker_type: str = "process", concurrency: int = 1, jobs: int = 200_000) -> Contender:
    command = [word.replace("{workers}", "2") for word in taskqd_side(worker_type).command]
    slots = "" if worker_type == "process" else f" of {concurrency} threads"
    if worker_type == "thread":
        command += ["--concurrency", str(concurrency)]
    return Contender(
        label="taskqd" if worker_type == "process" else f"taskqd, {worker_type}s",
        side="taskqd",
        distributions=(),
        command=tuple(command),
        setup=f"2 {worker_type} workers{slots}",
        guarantee=AT_LEAST,
        acknowledgement="after the job, in groups of at most 64 or 5 ms",
        jobs=jobs,
    )


HUEY = Contender(
    label="Huey",
    side="huey",
    distributions=("huey>=3.5", "redis", "hiredis"),
    command=(
        *("{bin}/python", "-m", "huey.bin.huey_consumer", "benchmarks.sides.huey_app.huey"),
        *("-k", "process", "-w", "10", "-q"),
    ),
    setup="10 process workers; results notify only where latency is measured",
    guarantee=AT_MOST,
    acknowledgement="none: a job is removed when it is taken",
    processes=10,
)

DRAMATIQ = Contender(
    label="Dramatiq",
    side="dramatiq",
    distributions=("dramatiq[redis]", "hiredis"),
    command=("{bin}/dramatiq", "benchmarks.sides.dramatiq_app", "-p", "4", "-t", "1"),
    setup="4 processes of 1 thread",
    guarantee=AT_LEAST,
    acknowledgement="after the job, one by one",
    processes=4,
)


def celery(*, late: bool) -> Contender:
    return Contender(
        label=f"Celery, {'acks_late' if late else 'early ack'}",
        side="celery",
        distributions=("celery[redis]", "hiredis"),
        command=(
            *("{bin}/celery", "-A", "benchmarks.sides.celery_app", "worker", "-n", "w{copy}@h"),
            *("-P", "solo", "-c", "1", "-l", "warning"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        setup="2 solo workers",
        guarantee=AT_LEAST if late else AT_MOST,
        acknowledgement="after the job, one by one" if late else "before the job",
        copies=2,
        jobs=10_000,
        environment=(("BENCH_ACKS_LATE", "1"),) if late else (),
    )


RQ = Contender(
    label="RQ",
    side="rq",
    distributions=("rq", "hiredis"),
    command=(
        *("{bin}/rq", "worker-pool", "bench", "-n", "10", "-q"),
        *("-w", "rq.worker.SimpleWorker", "-u", "{url}"),
    ),
    setup="pool of 10 SimpleWorkers (no fork per job)",
    guarantee="a killed worker's job fails",
    acknowledgement="after the job, one by one",
    processes=10,
    jobs=10_000,
)

ARQ = Contender(
    label="arq",
    side="arq",
    distributions=("arq", "hiredis", "uvloop"),
    command=("{bin}/arq", "benchmarks.sides.arq_app.WorkerSettings"),
    setup="2 processes of 10 coroutines, uvloop, polling each 10 ms",
    guarantee=AT_LEAST,
    acknowledgement="after the job, one by one",
    copies=2,
    jobs=10_000,
)

SAQ = Contender(
    label="SAQ",
    side="saq",
    distributions=("saq[redis,hiredis]", "typing-extensions", "uvloop"),
    command=("{bin}/saq", "benchmarks.sides.saq_app.settings", "--quiet"),
    setup="2 processes of 10 coroutines, uvloop",
    guarantee="at least once, on conditions",
    acknowledgement="after the job, one by one",
    copies=2,
)

TASKIQ = Contender(
    label="taskiq, streams",
    side="taskiq",
    distributions=("taskiq", "taskiq-redis", "hiredis", "uvloop"),
    command=(
        *("{bin}/taskiq", "worker", "benchmarks.sides.taskiq_app:broker", "--workers", "2"),
        *("--max-async-tasks", "100", "--log-level", "WARNING"),
    ),
    setup="2 processes of 100 coroutines, uvloop",
    guarantee=AT_LEAST,
    acknowledgement="after the result is stored, one by one",
)


def everyone() -> list[Contender]:
    """Return all contenders, taskqd first."""
    ours = [taskqd(), taskqd("thread", 5)]
    peers = [HUEY, DRAMATIQ, celery(late=False), celery(late=True), RQ, ARQ, SAQ, TASKIQ]
    return [*ours, *peers]
