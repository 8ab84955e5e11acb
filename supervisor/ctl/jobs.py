"""The commands `taskqctl job` and `taskqctl dead`, which work on the storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import click

from taskqd.client.rows import describe, job_row
from taskqd.jobs.job import Answer, Reason, State, encode_answer
from taskqd.storage.base import JobRow, Storage
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail

from .options import Options, Output, Row, command
from .target import complete_queue, complete_task, open_target

JOB_COLUMNS = ("id", "task", "queue", "state", "attempts", "run_at", "error")
DEAD_COLUMNS = ("id", "task", "queue", "reason", "attempts", "finished_at", "error")
WAITING = (State.RUNNING, State.QUEUED, State.SCHEDULED)
BATCH = 500
REVOKED_TTL_S = 86400


def add_to(root: click.Group) -> None:
    root.add_command(job)
    root.add_command(dead)


def _filters(function: Any) -> Any:
    for option in (
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Show at most N."),
        click.option(
            "--task",
            metavar="NAME",
            shell_complete=complete_task,
            help="Only jobs of this task.",
        ),
        click.option(
            "--queue",
            metavar="NAME",
            shell_complete=complete_queue,
            help="Only jobs of this queue.",
        ),
    ):
        function = option(function)
    return function


@click.group()
def job() -> None:
    """Jobs that wait, run or have ended."""


@command(job, "ls")
@_filters
@click.option(
    "--state",
    type=click.Choice([str(state) for state in State]),
    help="Default: running, queued, scheduled.",
)
def job_ls(
    options: Options, queue: str | None, task: str | None, limit: int | None, state: str | None
) -> Output:
    """List jobs."""
    states = (State(state),) if state else WAITING
    return _list(options, states, queue, task, limit, JOB_COLUMNS)


@command(job, "show")
@click.argument("job_id", metavar="ID")
def job_show(options: Options, job_id: str) -> Output:
    """Show all that is known of one job."""
    with open_target(options) as storage:
        row = storage.job(job_id)
        if row is None:
            raise Fail(common.FAILED, f"job {job_id}: not known, or its result's lifetime is over")
        return Output(facts=describe(row, storage.answer(job_id, row.queue or None)))


@command(job, "revoke")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def job_revoke(options: Options, job_ids: tuple[str, ...]) -> Output:
    """Cancel waiting jobs, at once."""
    with open_target(options) as storage:
        return _each(job_ids, "revoked", storage, lambda row: _revoke(storage, row))


@command(job, "retry")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def job_retry(options: Options, job_ids: tuple[str, ...]) -> Output:
    """Run dead jobs again, and scheduled ones now."""
    with open_target(options) as storage:
        return _each(job_ids, "retried", storage, lambda row: _retry(storage, row))


@click.group()
def dead() -> None:
    """Dead letters: jobs that were given up, kept with their reason."""


@command(dead, "ls")
@_filters
@click.option("--reason", metavar="WORD", help="Only those given up for this reason.")
def dead_ls(
    options: Options, queue: str | None, task: str | None, limit: int | None, reason: str | None
) -> Output:
    """List dead letters."""
    return _list(options, (State.DEAD,), queue, task, limit, DEAD_COLUMNS, reason)


@command(dead, "show")
@click.argument("job_id", metavar="ID")
def dead_show(options: Options, job_id: str) -> Output:
    """Show one dead letter with its traceback and raw payload."""
    with open_target(options) as storage:
        row = storage.job(job_id)
        if row is None or row.state is not State.DEAD:
            raise Fail(common.FAILED, f"job {job_id}: not among the dead letters")
        return Output(facts=describe(row, storage.answer(job_id, row.queue or None)))


def _chosen(function: Any) -> Any:
    """Add to a command the argument ID... and the filters that choose dead letters; it is a usage error
    to choose none."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="All of them."),
        click.option("--reason", metavar="WORD", help="Those given up for this reason."),
        click.option(
            "--task", metavar="NAME", shell_complete=complete_task, help="Those of this task."
        ),
        click.option(
            "--queue", metavar="NAME", shell_complete=complete_queue, help="Those of this queue."
        ),
        click.argument("job_ids", metavar="[ID...]", nargs=-1),
    ):
        function = option(function)
    return function


@command(dead, "retry")
@_chosen
def dead_retry(options: Options, **chosen: Any) -> Output:
    """Put dead letters back into their queues, their counters at zero."""
    with open_target(options) as storage:
        count = sum(storage.revive(batch) for batch in _batches(storage, **chosen))
    return _counted("retried", count, chosen["job_ids"])


@command(dead, "purge")
@_chosen
def dead_purge(options: Options, **chosen: Any) -> Output:
    """Drop dead letters for good."""
    with open_target(options) as storage:
        count = sum(storage.purge_dead(batch) for batch in _batches(storage, **chosen))
    return _counted("purged", count, chosen["job_ids"])


def _list(
    options: Options,
    states: Sequence[State],
    queue: str | None,
    task: str | None,
    limit: int | None,
    columns: tuple[str, ...],
    reason: str | None = None,
) -> Output:
    def rows() -> Iterator[Row]:
        with open_target(options) as storage:
            yield from islice(_rows(storage, states, queue, task, reason), limit)

    return Output(rows=rows(), columns=columns)


def _rows(
    storage: Storage,
    states: Sequence[State],
    queue: str | None,
    task: str | None,
    reason: str | None,
) -> Iterator[Row]:
    for state in states:
        for found in storage.jobs(state, queue):
            row = job_row(found)
            if task in (None, row["task"]) and reason in (None, row["reason"]):
                yield row


def _batches(
    storage: Storage,
    job_ids: tuple[str, ...],
    queue: str | None,
    task: str | None,
    reason: str | None,
    everything: bool,
) -> Iterator[list[str]]:
    """Yield the ids of the chosen dead letters in pages of some hundred."""
    if not (job_ids or queue or task or reason or everything):
        raise Fail(common.USAGE, "taskqctl: say which: ID..., --queue, --task, --reason or --all")
    # The ids are gathered first: the letters move while they are retried or purged.
    ids = list(job_ids) or [row["id"] for row in _rows(storage, (State.DEAD,), queue, task, reason)]
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def _counted(word: str, count: int, job_ids: Sequence[str]) -> Output:
    missing = max(0, len(set(job_ids)) - count)
    return Output(facts={word: count, "missing": missing}, code=common.FAILED if missing else 0)


def _each(job_ids: Sequence[str], word: str, storage: Storage, act: Any) -> Output:
    """Apply the action to each job; each row says whether it worked and in which state the job was."""
    rows = []
    for job_id in dict.fromkeys(job_ids):
        found = storage.job(job_id)
        done = found is not None and act(found)
        rows.append({"id": job_id, word: done, "state": str(found.state) if found else "unknown"})
    code = 0 if all(row[word] for row in rows) else common.FAILED
    return Output(rows=rows, columns=("id", word, "state"), code=code)


def _revoke(storage: Storage, row: JobRow) -> bool:
    answer = Answer(
        State.CANCELLED, 0, storage.server_ms(), REVOKED_TTL_S, attempts=0, reason=Reason.REVOKED
    )
    return storage.cancel(row.id, row.queue, encode_answer(answer), REVOKED_TTL_S)


def _retry(storage: Storage, row: JobRow) -> bool:
    if row.state is State.DEAD:
        return storage.revive([row.id]) == 1
    return row.state is State.SCHEDULED and storage.reschedule(row.id, row.queue, 0)
