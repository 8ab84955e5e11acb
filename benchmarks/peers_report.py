"""The comparison as Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .contender import Contender
from .plot import Bar, bars
from .table import markdown
from .versus import Numbers


class Column(NamedTuple):
    head: str
    key: str
    form: str
    unit: float = 1


SPEED = (
    Column("drain, jobs/s", "jobs_s", ",.0f"),
    Column("workers' CPU, us/job", "worker_cpu_us", ".1f"),
    Column("Redis CPU, us/job", "server_cpu_us", ".1f"),
    Column("CPU s per 1,000 jobs", "cpu_s_per_1000", ".3f"),
    Column("enqueue one by one, jobs/s", "enqueue_rate", ",.0f"),
    Column("enqueue in bulk, jobs/s", "bulk_rate", ",.0f"),
    Column("noise", "foreign", ".0%"),
)
CALM = (
    Column("to start, p50 us", "start_us_p50", ",.0f"),
    Column("to start, p99 us", "start_us_p99", ",.0f"),
    Column("to result, p50 us", "done_us_p50", ",.0f"),
    Column("to result, p99 us", "done_us_p99", ",.0f"),
    Column("idle tree, MB (PSS)", "idle_pss_bytes", ".0f", 1e6),
    Column("processes", "idle_processes", ".0f"),
    Column("idle CPU, %", "idle_cpu_percent", ".1f"),
    Column("bytes a waiting job", "queued_bytes", ".0f"),
    Column("bytes a finished job", "kept_bytes", ".0f"),
)


def tables(
    contenders: Sequence[Contender], versions: dict[str, str], medians: dict[str, Numbers]
) -> str:
    """Return four tables: who, speed, calm, and what taskqd is to each."""
    return "\n\n".join(
        [
            _who(contenders, versions),
            _numbers(SPEED, contenders, medians),
            _numbers(CALM, contenders, medians),
            _ratios(contenders, medians),
        ]
    )


def _who(contenders: Sequence[Contender], versions: dict[str, str]) -> str:
    head = ["queue", "version", "configuration", "guarantee", "acknowledgement", "jobs"]
    rows = [
        [c.label, versions[c.label], c.setup, c.guarantee, c.acknowledgement, f"{c.jobs:,}"]
        for c in contenders
    ]
    return markdown(head, rows, numbers=False)


def _numbers(
    columns: Sequence[Column], contenders: Sequence[Contender], medians: dict[str, Numbers]
) -> str:
    rows = [[c.label, *(_cell(column, medians[c.label]) for column in columns)] for c in contenders]
    return markdown(["queue", *(column.head for column in columns)], rows)


def _cell(column: Column, numbers: Numbers) -> str:
    value = numbers.get(column.key)
    return "none" if value is None else format(value / column.unit, column.form)


def _ratios(contenders: Sequence[Contender], medians: dict[str, Numbers]) -> str:
    """How many times faster, cheaper or smaller the first contender is than each of the others."""
    ours = medians[contenders[0].label]
    head = [f"{contenders[0].label} against", "drain", "workers' CPU", "Redis CPU"]
    head += ["one by one", "bulk", "to start p50", "to result p50", "idle memory", "bytes waiting"]
    more = ("jobs_s", "enqueue_rate", "bulk_rate")
    keys = [*("jobs_s", "worker_cpu_us", "server_cpu_us", "enqueue_rate", "bulk_rate")]
    keys += ["start_us_p50", "done_us_p50", "idle_pss_bytes", "queued_bytes"]
    rows = []
    for contender in contenders[1:]:
        theirs = medians[contender.label]
        cells = [_ratio(ours, theirs, key, more=key in more) for key in keys]
        rows.append([contender.label, *cells])
    return markdown(head, rows)


def _ratio(ours: Numbers, theirs: Numbers, key: str, *, more: bool) -> str:
    mine, other = ours.get(key), theirs.get(key)
    if not mine or not other:
        return "-"
    return f"{mine / other if more else other / mine:.1f}x"


def plot(contenders: Sequence[Contender], medians: dict[str, Numbers]) -> str:
    """Return an SVG: jobs a second, CPU a job, latency."""
    charts = (
        ("drain: jobs a second (more is better)", "jobs_s"),
        ("CPU of workers and Redis: s per 1,000 jobs (less is better)", "cpu_s_per_1000"),
        ("idle: enqueue to result, p50 in us (less is better)", "done_us_p50"),
    )
    return bars([(title, _bars(contenders, medians, key)) for title, key in charts])


def _bars(contenders: Sequence[Contender], medians: dict[str, Numbers], key: str) -> list[Bar]:
    return [Bar(c.label, medians[c.label].get(key, 0.0), c.side == "taskqd") for c in contenders]
