"""Open what a forked process needs of its own: its log and its storages."""

from __future__ import annotations

import random

from taskqd.app import App
from taskqd.clock import monotonic_s
from taskqd.errors import StorageCorrupt, StorageError, StorageRefused
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import StorageRestored, ToChild
from taskqd.logs import setup as log
from taskqd.logs.setup import Log
from taskqd.settings import Settings
from taskqd.storage.base import Storage

from .boot_wait import Antechamber
from .outage import Outage, loss


def open_log(role: str, settings: Settings, **facts: int) -> Log:
    return log.configure(
        role=role,
        level=settings.log.level,
        format=settings.log.format,
        file=settings.log.file,
        **facts,
    )


def reach_storage(app: App, settings: Settings, channel: Channel[ToChild], signals: int) -> Storage:
    """Open the app's storage, waiting as long as it cannot be reached; the master is told.

    Raises ConfigError, StorageRefused or StorageCorrupt: waiting would not help.  Raises
    AskedToEnd.
    """
    antechamber = Antechamber(channel, signals)
    outage = Outage(random.uniform)
    while True:
        try:
            storage = app.open_storage()
            storage.ping()
        except (StorageRefused, StorageCorrupt):
            raise
        except StorageError as error:
            if outage.failed(monotonic_s(), str(error)):
                channel.send(loss(error))
            antechamber.wait(outage.retry_at_s - monotonic_s())
        else:
            if outage.lasts:
                channel.send(StorageRestored(outage.lasted_s(monotonic_s())))
            return _at_home_anywhere(app, settings, storage)


def _at_home_anywhere(app: App, settings: Settings, storage: Storage) -> Storage:
    """Return a storage that another thread may use."""
    if settings.workers.type != "greenlet":
        return storage
    # TLS is gevent's there, and its connections belong to the thread that has opened them.
    storage.close()
    return app.open_storage()
