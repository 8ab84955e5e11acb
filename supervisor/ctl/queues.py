"""The commands `taskqctl queue` and `taskqctl node`, which work on the storage."""

from __future__ import annotations

from collections.abc import Iterable

import click

from taskqd.client.rows import node_row, queue_row
from taskqd.storage.base import NodeRow, Recovered, Storage
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail

from .options import Options, Output, Row, command
from .target import complete_queue, open_target

QUEUE_COLUMNS = ("queue", "queued", "scheduled", "running", "dead", "paused")
NODE_COLUMNS = ("id", "name", "pid", "workers", "held", "expires_in_s")


def add_to(root: click.Group) -> None:
    root.add_command(queue)
    root.add_command(node)


@click.group()
def queue() -> None:
    """Waiting lines."""


@command(queue, "ls")
def queue_ls(options: Options) -> Output:
    """List queues with the number of jobs in each state."""
    with open_target(options) as storage:
        rows = sorted(storage.queues(), key=lambda row: row.name)
    return Output(rows=map(queue_row, rows), columns=QUEUE_COLUMNS)


@command(queue, "pause")
@click.argument("queue_name", metavar="NAME", shell_complete=complete_queue)
def queue_pause(options: Options, queue_name: str) -> Output:
    """Give out no more jobs of a queue, on all daemons, until `queue resume`."""
    with open_target(options) as storage:
        storage.pause(queue_name)
    return Output(facts={"queue": queue_name, "paused": True})


@command(queue, "resume")
@click.argument("queue_name", metavar="NAME", shell_complete=complete_queue)
def queue_resume(options: Options, queue_name: str) -> Output:
    """Give out jobs of a paused queue again."""
    with open_target(options) as storage:
        storage.resume(queue_name)
    return Output(facts={"queue": queue_name, "paused": False})


@command(queue, "purge")
@click.argument("queue_name", metavar="NAME", shell_complete=complete_queue)
def queue_purge(options: Options, queue_name: str) -> Output:
    """Drop all waiting jobs of a queue; running ones go on."""
    with open_target(options) as storage:
        return Output(facts={"queue": queue_name, "purged": storage.purge_queue(queue_name)})


@click.group()
def node() -> None:
    """Daemons that hold leases in the storage."""


@command(node, "ls")
def node_ls(options: Options) -> Output:
    """List nodes; a negative `expires_in_s` means that the lease is over."""
    with open_target(options) as storage:
        return Output(rows=list(map(node_row, storage.nodes())), columns=NODE_COLUMNS)


@command(node, "recover")
@click.argument("which", metavar="[NODE]", required=False)
@click.option("--force", is_flag=True, help="Even while its lease lasts: you know that it is dead.")
def node_recover(options: Options, which: str | None, force: bool) -> Output:
    """Take back the jobs of NODE (id or name), or of all nodes whose lease is over.

    With --force a name may stand for several: all of them are dead.
    """
    with open_target(options) as storage:
        queues = [row.name for row in storage.queues()]
        if which is None:
            found = storage.recover(queues)
        else:
            ids = [row.node.id for row in _find_nodes(storage, which, force)]
            found = [job for node_id in ids for job in storage.recover_node(node_id, queues)]
    return Output(rows=_recovered(found), columns=("id", "queue", "how", "worker"))


def _find_nodes(storage: Storage, name: str, force: bool) -> list[NodeRow]:
    """Return the nodes of this id or name.  Raises Fail where one of them may live."""
    found = [row for row in storage.nodes() if name in (row.node.id, row.node.name)]
    if not found:
        raise Fail(common.FAILED, f"node {name}: not known; see taskqctl node ls")
    if force:
        return found
    if len(found) > 1:
        ids = ", ".join(row.node.id for row in found)
        raise Fail(common.FAILED, f"node {name}: several have that name; say which: {ids}")
    if found[0].expires_in_s > 0:
        text = f"node {name}: its lease lasts {found[0].expires_in_s:.1f} s more"
        raise Fail(common.FAILED, f"{text}; --force takes its jobs from it all the same")
    return found


def _recovered(found: Iterable[Recovered]) -> list[Row]:
    return [
        {
            "id": job.id,
            "queue": job.queue,
            "how": job.how,
            "worker": job.worker,
            "attempts": job.marks.attempts,
            "crashes": job.marks.crashes,
            "interruptions": job.marks.interruptions,
            "suspect": job.suspect,
        }
        for job in found
    ]
