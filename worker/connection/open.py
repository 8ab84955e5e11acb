"""Open what a forked process needs of its own: its log and its storages."""

from __future__ import annotations

import random
from select import select

from taskqd.app import App
from taskqd.clock import monotonic_s
from taskqd.errors import StorageCorrupt, StorageError, StorageRefused
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Drain, Interrupt, Retire, StorageRestored, ToChild
from taskqd.logs import setup as log
from taskqd.logs.setup import Log
from taskqd.settings import Settings
from taskqd.storage.base import Storage
from taskqd.worker.host.signals import TERM, signals_caught

from .outage import Outage, loss


class AskedToEnd(Exception):
    """The child shall end although it has not booted."""


class BootWait:
    """Waits while a child boots.  Its loop does not run yet, and it may be told to end already."""

    def __init__(self, channel: Channel[ToChild], signals: int) -> None:
        self._channel = channel
        self._signals = signals

    def wait(self, seconds: float) -> None:
        """Sleep.  Raises AskedToEnd; what else comes in is kept for the child's loop."""
        deadline_s = monotonic_s() + seconds
        while (left_s := deadline_s - monotonic_s()) > 0:
            channel = self._channel.fileno()
            ready, _, _ = select([channel, self._signals], [], [], left_s)
            if self._signals in ready and TERM in signals_caught(self._signals):
                raise AskedToEnd
            if channel in ready:
                self._listen()

    def _listen(self) -> None:
        heard = self._channel.receive_all()
        ends = any(isinstance(message, Drain | Interrupt | Retire) for message in heard)
        if ends or not self._channel.open:
            raise AskedToEnd
        self._channel.hold(heard)


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
    boot_wait = BootWait(channel, signals)
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
            boot_wait.wait(outage.retry_at_s - monotonic_s())
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
