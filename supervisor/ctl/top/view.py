"""Makes the contents of `taskqctl top` from two samples of the daemon's facts.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from taskqd.supervisor.cli.text import cell, plain, span

Facts = Mapping[str, Any]
BAD = ("dying", "waiting", "booting", "spawning")
"""States of a worker that does not serve."""


class Sample(NamedTuple):
    at_s: float
    facts: Facts


class Column(NamedTuple):
    name: str
    worth: int
    """Rank of the column: in a narrow terminal those of the least worth are left out first."""
    right: bool = False


class Table(NamedTuple):
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    loud: frozenset[int] = frozenset()
    """Numbers of the rows that are shown in red."""


class TopView(NamedTuple):
    head: list[str]
    workers: Table
    queues: Table


WORKERS = (
    Column("WORKER", 9),
    Column("STATE", 8),
    Column("GEN", 2, right=True),
    Column("PID", 3, right=True),
    Column("CPU%", 5, right=True),
    Column("PSS MB", 4, right=True),
    Column("DONE/S", 6, right=True),
    Column("RUN", 7, right=True),
    Column("JOB", 7),
)
QUEUES = (
    Column("QUEUE", 9),
    Column("QUEUED", 8, right=True),
    Column("SCHEDULED", 5, right=True),
    Column("RUNNING", 6, right=True),
    Column("DEAD", 7, right=True),
    Column("", 4),
)


def rates(before: Sample | None, now: Sample) -> dict[str, float | None]:
    """Return jobs per second by outcome since the sample before; None: not known."""
    jobs: Mapping[str, int] = now.facts["jobs"]
    return {name: _rate(before, now, ("jobs", name)) for name in jobs}


def view(before: Sample | None, now: Sample) -> TopView:
    facts = now.facts
    olds = {row.get("id"): row for row in before.facts["workers"]} if before else {}
    passed_s = now.at_s - before.at_s if before else 0.0
    rows = [_worker(row, olds.get(row.get("id")), passed_s) for row in facts["workers"]]
    rows.append(_worker({**facts["scheduler"], "worker": "scheduler"}, None, 0.0))
    every = [*facts["workers"], facts["scheduler"]]
    loud = frozenset(i for i, row in enumerate(every) if row["state"] in BAD or _away(row))
    return TopView(_head(facts, rates(before, now)), Table(WORKERS, rows, loud), _queues(facts))


def _head(facts: Facts, per_s: Mapping[str, float | None]) -> list[str]:
    storage = facts["storage"]
    trouble = f", storage: {storage['error']}" if storage["error"] else ""
    left = facts["seconds_left"]
    stopping = "" if left is None else f", {span(max(0.0, left))} left"
    counts = ", ".join(
        f"{name} {count}" + ("" if per_s[name] is None else f" ({per_s[name]:.1f}/s)")
        for name, count in facts["jobs"].items()
    )
    return [
        plain(
            f"{facts['instance']}: {facts['state']}{stopping}, up {span(facts['uptime_s'])},"
            f" generation {facts['generation']}{trouble}"
        ),
        f"workers {facts['ready']} of {facts['wanted']} ready, {facts['busy']} busy",
        f"jobs {counts}",
        *([_machine(facts["machine"])] if "machine" in facts else []),
    ]


def _machine(facts: Facts) -> str:
    used, total = facts["memory_used_bytes"] / 1e9, facts["memory_bytes"] / 1e9
    load = " ".join(f"{part:.2f}" for part in facts["load"])
    return (
        f"machine {facts['cpu_percent']:.0f} % of {facts['cpus']} CPUs,"
        f" {used:.1f} of {total:.1f} GB used, load {load}"
    )


def _worker(row: Facts, old: Facts | None, passed_s: float) -> list[str]:
    name = str(row["worker"])
    if row["state"] == "waiting":
        return [name, "waiting", *[""] * 5, f"in {span(row['respawn_in_s'])}", cell(row["error"])]
    state = "storage?" if _away(row) else row["state"]
    running = row.get("running") or []
    longest = max(running, key=lambda job: job["ran_s"], default=None)
    others = f" (+{len(running) - 1})" if len(running) > 1 else ""
    return [
        name,
        state,
        str(row["generation"]),
        str(row["pid"] or ""),
        _number(_share(row, old, passed_s), "{:.0f}"),
        _number(row.get("pss_bytes"), "{:.1f}", 1e-6),
        _number(_done_per_s(row, old, passed_s), "{:.1f}"),
        span(longest["ran_s"]) if longest else "",
        f"{cell(longest['task'])}{others}" if longest else "",
    ]


def _away(row: Facts) -> bool:
    return bool(row.get("storage_error"))


def _share(row: Facts, old: Facts | None, passed_s: float) -> float | None:
    """Return the share of one core that the worker used between the samples, in percent."""
    if not old or not passed_s or row.get("cpu_s") is None or old.get("cpu_s") is None:
        return None
    return max(0.0, float(row["cpu_s"] - old["cpu_s"])) / passed_s * 100


def _done_per_s(row: Facts, old: Facts | None, passed_s: float) -> float | None:
    if not old or not passed_s or "jobs" not in row or "jobs" not in old:
        return None
    return float(row["jobs"]["done"] - old["jobs"]["done"]) / passed_s


def _queues(facts: Facts) -> Table:
    rows = [
        [
            cell(depth["queue"]),
            *(str(depth[name]) for name in ("queued", "scheduled", "running", "dead")),
            "paused" if depth["paused"] else "",
        ]
        for depth in facts["depths"] or ()
    ]
    return Table(QUEUES, rows)


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "" if value is None else form.format(value * factor)


def _rate(before: Sample | None, now: Sample, path: tuple[str, str]) -> float | None:
    if before is None or now.at_s <= before.at_s:
        return None
    new, old = now.facts[path[0]][path[1]], before.facts[path[0]][path[1]]
    # A daemon that was started anew meanwhile has counted less.
    return max(0.0, float(new - old)) / (now.at_s - before.at_s)


# -- as lines ----------------------------------------------------------------------------------


def fit(table: Table, width: int) -> Table:
    """Leave out columns, those of least worth first, until a line fits; one always stays."""
    chosen = list(range(len(table.columns)))
    while len(chosen) > 1 and sum(_widths(table, chosen)) + 2 * (len(chosen) - 1) > width:
        chosen.remove(min(chosen, key=lambda i: (table.columns[i].worth, -i)))
    columns = [table.columns[i] for i in chosen]
    return Table(columns, [[row[i] for i in chosen] for row in table.rows], table.loud)


def _widths(table: Table, chosen: Sequence[int]) -> list[int]:
    return [
        max(len(table.columns[i].name), *(len(row[i]) for row in table.rows), 0) for i in chosen
    ]


def lines(table: Table, width: int) -> list[str]:
    """Return the heading and the rows, none longer than `width`."""
    table = fit(table, width)
    widths = _widths(table, range(len(table.columns)))
    found = []
    for row in ([column.name for column in table.columns], *table.rows):
        cells = (
            f"{text:>{size}}" if column.right else f"{text:<{size}}"
            for text, size, column in zip(row, widths, table.columns, strict=True)
        )
        found.append(cut("  ".join(cells).rstrip(), width))
    return found


def cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
