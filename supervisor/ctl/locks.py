"""The command `taskqctl lock`, which works on the storage."""

from __future__ import annotations

import click

from taskqd.client.rows import lock_row
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail

from .options import Options, Output, command
from .target import open_target


def add_to(root: click.Group) -> None:
    root.add_command(lock)


@click.group()
def lock() -> None:
    """Locks, and the places of `max_running`."""


@command(lock, "ls")
def lock_ls(options: Options) -> Output:
    """List held locks; without `expires_in_s` one lives as long as the worker that owns it."""
    with open_target(options) as storage:
        rows = sorted(storage.locks())
    return Output(rows=map(lock_row, rows), columns=("name", "owner", "token", "expires_in_s"))


@command(lock, "release")
@click.argument("which", metavar="NAME")
def lock_release(options: Options, which: str) -> Output:
    """Free a lock, whoever holds it; whoever waits for it comes next.

    The job that holds it goes on and does not know: its fencing token tells it from the next one.
    """
    with open_target(options) as storage:
        released = storage.flush_locks([which])
    if not released:
        raise Fail(common.FAILED, f"lock {which}: not held; see taskqctl lock ls")
    return Output(facts={"lock": which, "released": released})
