"""The app's storage for jobs in greenlets: calls run in threads of ours, their callers switch away.

So a job that waits for a result, or for a database that is locked, holds no other job back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from gevent import get_hub
from gevent.threadpool import ThreadPool

from taskqd.errors import StorageError
from taskqd.storage.base import Storage
from taskqd.worker.host import native_threads

THREADS_MIN = 10


class PooledStorages:
    """To be made in the thread of the loop.

    `threads`: how many calls run at once; a thread and its storage are made when needed.
    """

    def __init__(self, open_storage: Callable[[], Storage], threads: int) -> None:
        self._open = open_storage
        self._pool = ThreadPool(max(THREADS_MIN, threads), hub=get_hub())
        self._opened: dict[int, Storage] = {}
        self._proxy = cast("Storage", _Proxy(self._call))

    def here(self) -> Storage:
        return self._proxy

    def close(self) -> None:
        opened, self._opened = self._opened, {}
        with native_threads.claimed():
            for storage in opened.values():
                with contextlib.suppress(StorageError):
                    storage.close()

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        if native_threads.get_ident() != self._pool.hub.thread_ident:
            return self._run(name, args, kwargs)  # in a thread that the user has made
        return self._pool.apply(self._run, (name, args, kwargs))

    def _run(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with native_threads.claimed():
            me = native_threads.get_ident()
            storage = self._opened.get(me)
            if storage is None:
                storage = self._opened[me] = self._open()
            value = getattr(storage, name)
            value = value(*args, **kwargs) if callable(value) else value
            return list(value) if isinstance(value, Iterator) else value


class _Proxy:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name)
