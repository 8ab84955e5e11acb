"""The metrics of the daemon in Prometheus' text format 0.0.4; reads the context, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from taskqd.supervisor.context import MasterContext

from . import status


def text(context: MasterContext) -> str:
    return "\n".join([*_lines(context), ""])


def _lines(context: MasterContext) -> Iterator[str]:
    fleet, totals = context.fleet, context.totals
    yield from _gauge("taskqd_workers_wanted", "Workers that shall run.", fleet.wanted())
    yield from _gauge("taskqd_workers_ready", "Workers that serve.", fleet.ready())
    yield from _gauge("taskqd_workers_busy", "Workers that run a job.", status.busy(fleet))
    yield from _gauge(
        "taskqd_jobs_settling",
        "Jobs that have ended and whose ends cannot be written yet.",
        status.settling(fleet),
    )
    yield from _gauge("taskqd_generation", "Generation that serves.", status.generation(fleet))
    yield from _gauge(
        "taskqd_uptime_seconds",
        "Age of the master.",
        context.clock() - context.started_s,
    )
    yield from _gauge(
        "taskqd_storage_up",
        "1 if the storage is reached.",
        not status.storage_error(fleet),
    )
    yield from _counter("taskqd_jobs_total", "Jobs by outcome.", "outcome", status.jobs(context))
    yield from _counter(
        "taskqd_jobs_fenced_total",
        "Ends of jobs that came too late and were refused.",
        "",
        {"": status.fenced(context)},
    )
    yield from _counter(
        "taskqd_children_died_total",
        "Deaths of children by cause.",
        "cause",
        totals.deaths,
    )
    yield from _counter(
        "taskqd_children_spawned_total",
        "Children spawned.",
        "",
        {"": totals.spawned},
    )
    yield from _counter(
        "taskqd_jobs_orphaned_total",
        "Jobs whose worker died.",
        "",
        {"": totals.orphaned},
    )


def _gauge(name: str, help_text: str, value: float) -> Iterator[str]:
    yield from (f"# HELP {name} {help_text}", f"# TYPE {name} gauge", f"{name} {float(value):g}")


def _counter(name: str, help_text: str, label: str, values: Mapping[str, int]) -> Iterator[str]:
    yield from (f"# HELP {name} {help_text}", f"# TYPE {name} counter")
    for key, value in sorted(values.items()):
        yield f'{name}{{{label}="{key}"}} {value}' if label else f"{name} {value}"
