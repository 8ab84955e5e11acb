"""Bells of the SQLite storage: one descriptor to select on, silent unless armed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from select import EPOLLIN, POLLIN, epoll, poll

from taskqd.jobs.job import Lease
from taskqd.storage.sqlite.file.wake import POLL_S, POLL_WITHOUT_FIFO_S, Fifo, Wake


class SqliteBell:
    """`arm` opens the FIFO that rings it, `disarm` closes it; `fileno` stays the same."""

    def __init__(
        self, wake: Wake, places: Callable[[], Collection[str]], missed: Callable[[], None]
    ) -> None:
        """`missed` is called after disarming: it rings somebody else if there is work."""
        self._places = places
        self._missed = missed
        self._fifo = Fifo(wake)
        self._epoll = epoll()
        self._without_fifo = False

    def fileno(self) -> int:
        return -1 if self._without_fifo else self._epoll.fileno()

    @property
    def poll_s(self) -> float:
        return POLL_WITHOUT_FIFO_S if self._without_fifo else POLL_S

    def arm(self) -> None:
        self._without_fifo = not self._fifo.listen(self._places())
        if not self._without_fifo:
            self._epoll.register(self._fifo.fd, EPOLLIN)

    def answer(self) -> list[Lease]:
        self._fifo.drain()
        return []

    def disarm(self) -> list[Lease]:
        """A ring that comes between the last turn and this call is passed on, not lost."""
        if self._fifo.fd >= 0:
            self._fifo.ignore()
            self._missed()
        return []

    def close(self) -> None:
        if not self._epoll.closed:
            self.disarm()
            self._fifo.remove()
            self._epoll.close()


def wait_fd(fd: int, timeout_s: float) -> bool:
    """Sleep until `fd` is readable; False at the timeout."""
    fifo = poll()
    fifo.register(fd, POLLIN)
    return bool(fifo.poll(max(0, timeout_s) * 1000))
