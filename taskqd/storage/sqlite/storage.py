"""The SQLite storage, put together from its parts."""

from __future__ import annotations

from taskqd.storage.sqlite.answers import Answers
from taskqd.storage.sqlite.features import Kept
from taskqd.storage.sqlite.groups import Groups
from taskqd.storage.sqlite.nodes import Nodes
from taskqd.storage.sqlite.parking import Parking
from taskqd.storage.sqlite.times import Times
from taskqd.storage.sqlite.view import View
from taskqd.storage.sqlite.work import Work


class SqliteStorage(Work, Nodes, Times, Answers, View, Kept, Groups, Parking):
    """Jobs in the file `path`, which is made where it is missing.

    `synchronous`: "full" survives a power cut; "normal" may lose the last commits in one, never
    more.  `max_mb`: new jobs are refused when the file is so large.  Use it from one thread at a
    time, and a new one after a fork.
    """
