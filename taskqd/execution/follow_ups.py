"""Writes what the ends of jobs set off: next stages, error handlers, counts of groups."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.client.delivery import insist, tell_enqueued
from taskqd.jobs.end import ConcludeStage, CountMember, EnqueueNext, FollowUp, ShortenGroup
from taskqd.jobs.job import Entry
from taskqd.listeners import Listeners
from taskqd.storage.base import Storage


def write(storage: Storage, steps: Sequence[FollowUp]) -> list[Entry]:
    """Write these steps; return the jobs that are new by that.

    Raises StorageError, and then some may be written: write them all again.
    """
    entries = [step.entry for step in steps if isinstance(step, EnqueueNext)]
    new = storage.enqueue(entries) if entries else ()
    for step in steps:
        match step:
            case ConcludeStage(job_id, queue, answer, ttl_s):
                storage.conclude(job_id, queue, answer, ttl_s)
            case CountMember(group, queue, index, answer):
                storage.group_put(group, queue, index, answer)
            case ShortenGroup(group, queue, ttl_s):
                storage.group_shorten(group, queue, ttl_s)
            case EnqueueNext():
                pass
    return [entry for entry, is_new in zip(entries, new, strict=True) if is_new]


def deliver(storage: Storage, listeners: Listeners, steps: Sequence[FollowUp]) -> None:
    """Write these steps where no worker's loop does, and tell the handlers here.

    Raises StorageError, StorageUnavailable after 10 s: then write them all again.
    """
    for entry in insist(lambda: write(storage, steps)):
        tell_enqueued(listeners, entry, "")
