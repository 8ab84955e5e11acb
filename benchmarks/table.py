"""Markdown tables of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from .side import Side

ROWS: tuple[tuple[str, str, float, str], ...] = (
    ("drain, jobs/s", "jobs_s", 1, ",.0f"),
    ("CPU of the workers, us a job", "worker_cpu_us", 1, ".1f"),
    ("CPU of the server, us a job", "server_cpu_us", 1, ".1f"),
    ("enqueue one by one, jobs/s", "enqueue_rate", 1, ",.0f"),
    ("enqueue in bulk, jobs/s", "bulk_rate", 1, ",.0f"),
    ("idle: enqueue to start, us (p50)", "start_us_p50", 1, ",.0f"),
    ("idle: enqueue to start, us (p99)", "start_us_p99", 1, ",.0f"),
    ("idle: enqueue to result, us (p50)", "done_us_p50", 1, ",.0f"),
    ("idle: enqueue to result, us (p99)", "done_us_p99", 1, ",.0f"),
    ("server memory, bytes a waiting job", "queued_bytes", 1, ".0f"),
    ("server memory, bytes a finished job", "kept_bytes", 1, ".0f"),
    ("8 idle workers: memory (PSS), MB", "idle_pss_bytes", 1e6, ".1f"),
    ("8 idle workers: processes", "idle_processes", 1, ".0f"),
    ("8 idle workers: CPU, %", "idle_cpu_percent", 1, ".2f"),
    ("8 idle workers: CPU of the server, %", "idle_server_percent", 1, ".2f"),
    ("noise: CPU taken by others during the drain", "foreign", 1, ".2f"),
)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """`numbers`: all columns but the first are, so they stand at the right."""
    ruler = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    lines = [head, ruler, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versus(title: str, sides: Sequence[tuple[Side, dict[str, float]]]) -> str:
    """Return the table; its last columns say how often the first side's number is the other's."""
    first = sides[0][1]
    head = ["", *(f"{side.name} {side.version()}" for side, _ in sides)]
    head += [f"ratio to {side.name}" for side, _ in sides[1:]]
    rows = []
    for label, key, unit, form in ROWS:
        row = [label, *(_cell(numbers.get(key), unit, form) for _, numbers in sides)]
        row += [_ratio(first.get(key), numbers.get(key)) for _, numbers in sides[1:]]
        rows.append(row)
    return f"{title}; medians\n\n{markdown(head, rows)}"


def _cell(value: float | None, unit: float, form: str) -> str:
    return "-" if value is None else format(value / unit, form)


def _ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours is not None and theirs else "-"
