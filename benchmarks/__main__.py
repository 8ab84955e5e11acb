"""The command line of the benchmarks."""

from __future__ import annotations

import os
from pathlib import Path

import click

from . import body as body_of_jobs
from . import catalogue, curves, depth, observe, peers_report, report
from . import deploy as deploying
from . import drain as draining
from . import idle as idling
from . import kills as killing
from . import memory as weighing
from . import peers as comparing
from . import recovery as recovering
from . import sqlite as on_sqlite
from .side import ROOT, huey_side, taskqd_side
from .versus import compare

_write = click.option("--write", is_flag=True, help="Rewrite docs/benchmarks.md.")
_rounds = click.option("--rounds", default=3, show_default=True)
_calm = click.option(
    "--calm-s", default=20.0, show_default=True, help="Wait so long for others to rest."
)


def _tell(section: str, text: str, write: bool) -> None:
    """Print a report; `write`: into its section of docs/benchmarks.md too."""
    click.echo(text)
    if write:
        report.write_section(section, text)


@click.group()
@click.option("--nice", default=0, help="Priority of all that is measured; below 0 for root only.")
def main(nice: int) -> None:
    """Measure taskqd, alone or side by side with others, on a private server."""
    os.nice(nice)


@main.command()
@click.option("--jobs", default=20_000, show_default=True)
@_rounds
@click.option("--idle-s", default=20.0, show_default=True)
@click.option("--venv", type=click.Path(path_type=Path), default=ROOT / "var/bench-huey")
def huey(jobs: int, rounds: int, idle_s: float, venv: Path) -> None:
    """Side by side with Huey on one Redis, in interleaved rounds."""
    sides = [taskqd_side(), huey_side(venv)]
    click.echo(compare(sides, jobs=jobs, rounds=rounds, idle_s=idle_s))


@main.command()
@click.option("--quick", is_flag=True, help="One round of a quarter of the jobs.")
@_rounds
@click.option("--only", multiple=True, help="Part of a label; may be given several times.")
@_calm
@click.option("--write", is_flag=True, help="Rewrite docs/benchmarks.md and its plot.")
def peers(quick: bool, rounds: int, only: tuple[str, ...], calm_s: float, write: bool) -> None:
    """Side by side with all peers on one server, each in an environment of its own."""
    rounds, divide = (1, 4) if quick else (rounds, 1)
    chosen = [
        contender._replace(jobs=contender.jobs // divide)
        for contender in catalogue.everyone()
        if not only or any(part.lower() in contender.label.lower() for part in only)
    ]
    server, medians = comparing.compare(chosen, rounds=rounds, calm_s=calm_s)
    versions = {contender.label: contender.version() for contender in chosen}
    head = (
        f"{report.machine()}; taskqd {report.revision()}; {server} on a unix socket, no persistence"
        f" (fsync: none, for every row); results stored; medians of {rounds} interleaved rounds."
    )
    text = f"{head}\n\n{peers_report.tables(chosen, versions, medians)}"
    _tell("peers", text, write)
    if write:
        report.write_plot("benchmarks-peers", peers_report.plot(chosen, medians))


@main.command()
@_rounds
@_calm
@_write
def sqlite(rounds: int, calm_s: float, write: bool) -> None:
    """Taskqd beside SqliteHuey, at the same `synchronous`."""
    text = f"{report.machine()}; taskqd {report.revision()}; WAL, 2 process workers each; medians of {rounds} interleaved rounds.\n\n{on_sqlite.compare(rounds, calm_s)}"
    _tell("sqlite", text, write)


@main.command()
@_rounds
@_calm
@_write
def body(rounds: int, calm_s: float, write: bool) -> None:
    """Jobs of 1 ms: what of the slots' time goes to the jobs."""
    head = f"{report.machine()}; taskqd {report.revision()}; {body_of_jobs.JOBS:,} jobs; medians of {rounds} rounds."
    text = f"{head}\n\n{body_of_jobs.run(rounds, calm_s)}"
    _tell("body", text, write)


@main.command()
@click.option("--only", multiple=True, help="Part of a label; may be given several times.")
@click.option("--quick", is_flag=True, help="A quarter of the jobs.")
@_calm
@_write
def kills(only: tuple[str, ...], quick: bool, calm_s: float, write: bool) -> None:
    """Drain while a process that runs jobs is killed each second: taskqd beside its peers."""
    head = (
        f"{report.machine()}; taskqd {report.revision()}; SIGKILL each {killing.KILL_EVERY_S:g} s."
    )
    text = f"{head}\n\n{killing.run(calm_s, only, 4 if quick else 1)}"
    _tell("kills", text, write)


@main.command()
@_calm
@click.option("--depth-max", default=1_000_000, show_default=True)
@_write
def scaling(calm_s: float, depth_max: int, write: bool) -> None:
    """Cost of a job by how many wait or are delayed, workers, payload, queues, periodic tasks."""
    parts = [f"{report.machine()}; taskqd {report.revision()}."]
    depths = tuple(n for n in depth.DEPTHS if n <= depth_max)
    for storage in ("redis", "sqlite"):
        for delayed in (False, True):
            observe.wait_for_calm(calm_s)
            parts.append(depth.run(storage, delayed, depths))
    parts.append(curves.run(calm_s))
    text = "\n\n".join(parts)
    _tell("scaling", text, write)


@main.command()
@click.option("--jobs", default=200_000, show_default=True)
@click.option("--storage", type=click.Choice(["redis", "sqlite"]), default="redis")
@click.option("--worker-type", type=click.Choice(["process", "thread"]), default="process")
@click.option(
    "--log-level", default="warning", show_default=True, help="info: a line for each job."
)
def drain(jobs: int, storage: str, worker_type: str, log_level: str) -> None:
    """Drain many jobs: the cost of each slice of 10,000, the memory, and what is left."""
    click.echo(draining.run(jobs, storage, worker_type, log_level))


@main.command()
@click.option("--workers", default=8, show_default=True)
@click.option("--storage", type=click.Choice(["redis", "sqlite"]), default="sqlite")
@click.option("--worker-type", type=click.Choice(["process", "thread"]), default="process")
@click.option("--seconds", default=20.0, show_default=True)
def idle(workers: int, storage: str, worker_type: str, seconds: float) -> None:
    """Measure a daemon with nothing to do: latency of a job that comes, CPU, memory."""
    click.echo(idling.run(storage, workers, worker_type, seconds))


@main.command()
@_write
def memory(write: bool) -> None:
    """Memory of 8 workers with an app of 100 MB, beside gunicorn's."""
    text = f"{report.machine()}; taskqd {report.revision()}.\n\n{weighing.run()}"
    _tell("memory", text, write)


@main.command()
@click.option("--times", default=20, show_default=True)
@click.option("--storage", type=click.Choice(["redis", "sqlite"]), default="sqlite")
@click.option("--worker-type", type=click.Choice(["process", "thread"]), default="process")
@click.option("--host", is_flag=True, help="Kill whole daemons instead, while another one lives.")
def recovery(times: int, storage: str, worker_type: str, host: bool) -> None:
    """Kill busy workers: milliseconds until the job that each held runs again."""
    run = recovering.run_host if host else recovering.run
    click.echo(run(storage, worker_type, times))


@main.command()
@click.option("--jobs", default=400, show_default=True)
@click.option("--per-s", default=20.0, show_default=True)
@click.option("--storage", type=click.Choice(["redis", "sqlite"]), default="redis")
@click.option("--worker-type", type=click.Choice(["process", "thread"]), default="process")
def deploy(jobs: int, per_s: float, storage: str, worker_type: str) -> None:
    """Old code and new code side by side: milliseconds until a job that only the new knows starts."""
    click.echo(deploying.run(storage, worker_type, jobs, per_s))


if __name__ == "__main__":
    main()
