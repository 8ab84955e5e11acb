"""The SQLite storage, put together from its parts."""

from __future__ import annotations

from taskqd.storage.sqlite.answers import AnswerCalls
from taskqd.storage.sqlite.control import ControlCalls
from taskqd.storage.sqlite.enqueue import EnqueueCalls
from taskqd.storage.sqlite.groups import GroupCalls
from taskqd.storage.sqlite.leases import LeaseCalls
from taskqd.storage.sqlite.limits import LimitCalls
from taskqd.storage.sqlite.nodes import NodeCalls
from taskqd.storage.sqlite.notes import NoteCalls
from taskqd.storage.sqlite.parked import ParkedCalls
from taskqd.storage.sqlite.revocations import RevocationCalls
from taskqd.storage.sqlite.timers import TimerCalls
from taskqd.storage.sqlite.views import ViewCalls


class SqliteStorage(
    EnqueueCalls,
    LeaseCalls,
    NodeCalls,
    TimerCalls,
    AnswerCalls,
    ControlCalls,
    ViewCalls,
    NoteCalls,
    RevocationCalls,
    LimitCalls,
    GroupCalls,
    ParkedCalls,
):
    """Jobs in the file `path`, which is made where it is missing.

    `synchronous`: "full" survives a power cut; "normal" may lose the last commits in one, never
    more.  `max_mb`: new jobs are refused when the file is so large.  Use it from one thread at a
    time, and a new one after a fork.
    """
