"""A child's ear while it boots: its loop does not run yet, and it may be told to end already."""

from __future__ import annotations

from select import select

from taskqd.clock import monotonic_s
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Drain, Interrupt, Retire, ToChild
from taskqd.worker.host.signals import TERM, signals_caught


class AskedToEnd(Exception):
    """The child shall end although it has not booted."""


class Antechamber:
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
