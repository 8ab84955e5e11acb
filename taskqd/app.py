"""App: the one object that users hold.  It declares tasks and enqueues jobs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import tzinfo
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from taskqd.client.async_wait import Waiters
from taskqd.client.enqueue import Enqueueing
from taskqd.client.packing import Packer
from taskqd.client.task import Signature, Task, module_name
from taskqd.clock import StorageClock
from taskqd.control import Controlling
from taskqd.crypto.sealing import make_sealer
from taskqd.crypto.signing import Signer
from taskqd.errors import ConfigError, UnknownTask
from taskqd.jobs.job import NAME_PATTERN, Entry
from taskqd.jobs.options import TaskKwargs, TaskOptions, task_options
from taskqd.listeners import Listeners, Listening
from taskqd.periodic.cron import Rule, zone_of
from taskqd.periodic.manager import Agenda
from taskqd.periodic.task import Missed, Overlap, PeriodicTask
from taskqd.settings import (
    CryptoSettings,
    Durability,
    LimitSettings,
    SchedulerSettings,
    StorageSettings,
)
from taskqd.storage import mask_url, open_storage
from taskqd.storage.base import Storage
from taskqd.storage.features import Features
from taskqd.storage.per_thread import StoragePerThread, Storages

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_URL = "sqlite:///taskqd.db"
_OWN_KEYS = CryptoSettings()


class TaskDecorator(Protocol):
    """What `@app.task(...)` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class App(Enqueueing, Controlling, Listening):
    """A namespace of tasks and the storage that keeps their jobs."""

    def __init__(
        self,
        name: str = "taskqd",
        storage: str | None = None,
        *,
        serializer: str = "json",
        signing_keys: Sequence[str | bytes] | None = None,
        encryption_keys: Sequence[str | bytes] | None = None,
        result_ttl: int = 86400,
        timezone: str = "UTC",
        durability: Durability | None = None,
        immediate: bool = False,
    ) -> None:
        """`storage`: a URL; else $TASKQD_STORAGE, else `sqlite:///taskqd.db`.

        `serializer`: "json", or "pickle" together with `signing_keys`.  Of keys the first signs or
        encrypts, all verify or decrypt.  Raises ConfigError for what is not valid.
        """
        if not NAME_PATTERN.fullmatch(name):
            raise ConfigError(f"App name {name!r}: expected 1 to 64 letters, digits, '_', '.', '-'")
        self.name = name
        self._url = storage
        self._serializer = serializer
        self.result_ttl = result_ttl
        self.zone: tzinfo = zone_of(timezone)
        self.tick_zone = self.zone
        self.tick_missed: Missed = "skip"
        self.durability = durability
        self.immediate = immediate
        self.allow_eviction = False
        self.limits = LimitSettings()
        self.registry: dict[str, Task[Any, Any]] = {}
        self.periodic_tasks: list[PeriodicTask] = []
        self.periodic = Agenda(self)
        self.listeners = Listeners()
        self.clock = StorageClock(self._storage_ms)
        self._take_keys(signing_keys, encryption_keys)
        self.storages: Storages = StoragePerThread(self.open_storage)
        """Where `storage` comes from; a kind of worker may put its own in place."""
        self.waiters = Waiters(lambda: self.storage, self.close)
        self._immediate_lock = threading.RLock()
        self._memory: Storage | None = None

    def __repr__(self) -> str:
        return f"<App {self.name} on {mask_url(self.storage_url)}>"

    # -- declaring ---------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, /, **options: Unpack[TaskKwargs]) -> TaskDecorator: ...

    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Declare a function as a task: `@app.task` or `@app.task(retries=3, ...)`.

        Raises ConfigError for an unknown option or a name that is taken.
        """
        settings = task_options(options)
        if function is None:
            return lambda decorated: self._declare(decorated, settings)
        return self._declare(function, settings)

    def _declare(self, function: Callable[..., Any], settings: TaskOptions) -> Task[Any, Any]:
        if isinstance(function, Task):
            function = function.function
        if not callable(function):
            raise ConfigError(
                f"app.task({function!r}): expected a function; options go by name, like"
                ' @app.task(name="shop.send")'
            )
        name = settings.name or f"{module_name(function)}.{function.__qualname__}"
        if name in self.registry:
            raise ConfigError(
                f"task {name!r} is declared twice; give one of them another name with name=..."
            )
        task: Task[Any, Any] = Task(self, function, name, settings)
        self.registry[name] = task
        return task

    def periodic_task(
        self,
        rule: Rule,
        *,
        timezone: str | None = None,
        missed: Missed | None = None,
        overlap: Overlap | None = None,
        **options: Unpack[TaskKwargs],
    ) -> Callable[[Callable[[], R]], Task[[], R]]:
        """Declare a function that runs by the calendar: `@app.periodic_task(crontab(minute="*/5"))`.

        `timezone`: default the app's.  `missed`: "skip", "once" or "all" after downtime; default
        the daemon's `scheduler.missed`.  `overlap`: "skip" fires no tick while the job of the last
        one is queued or runs; default "allow".
        """
        settings = task_options(dict(options))
        zone = None if timezone is None else zone_of(timezone)

        def declare(function: Callable[[], R]) -> Task[[], R]:
            task = cast("Task[[], R]", self._declare(function, settings))
            self.periodic_tasks.append(
                PeriodicTask(task.name, task, rule, self, zone=zone, missed=missed, overlap=overlap)
            )
            return task

        return declare

    @property
    def queues(self) -> tuple[str, ...]:
        """Every queue that the app's tasks name, in order of declaration."""
        return tuple(dict.fromkeys(t.settings.queue for t in self.registry.values())) or (
            "default",
        )

    # -- storage -----------------------------------------------------------------------------

    @property
    def storage_url(self) -> str:
        return self._url or os.environ.get("TASKQD_STORAGE") or DEFAULT_URL

    @property
    def storage(self) -> Storage:
        """This thread's storage object, opened at first use and again after a fork."""
        if self.immediate:
            return self._immediate_storage()
        return self.storages.here()

    def _storage_ms(self) -> int:
        return self.storage.server_ms()

    def _take_keys(
        self,
        signing_keys: Sequence[str | bytes] | None,
        encryption_keys: Sequence[str | bytes] | None,
    ) -> None:
        self._keys = signing_keys, encryption_keys
        self.signer = Signer(signing_keys) if signing_keys is not None else None
        self.sealer = make_sealer(self.name, self._serializer, self.signer, encryption_keys)
        self._packer = Packer(self.name, self.signer, self.zone, self.clock, self.sealer)

    def adopt(
        self,
        storage: StorageSettings,
        limits: LimitSettings,
        scheduler: SchedulerSettings,
        crypto: CryptoSettings = _OWN_KEYS,
    ) -> None:
        """Take what the daemon was told over what the app says: its processes call this once."""
        self._url = storage.url or self._url
        self.durability = storage.durability or self.durability
        self.allow_eviction = storage.allow_eviction
        self.limits = limits
        if crypto != _OWN_KEYS:
            signing, encryption = self._keys
            self._take_keys(crypto.signing_keys or signing, crypto.encryption_keys or encryption)
        self.tick_missed = scheduler.missed
        if scheduler.timezone is not None:
            self.tick_zone = zone_of(scheduler.timezone)

    def open_storage(self, url: str | None = None, **options: Any) -> Storage:
        """Open a storage object of its own for the caller, who closes it."""
        options.setdefault("durability", self.durability)
        options.setdefault("allow_eviction", self.allow_eviction)
        return open_storage(url or self.storage_url, self.name, **options)

    @property
    def features(self) -> Features:
        """This thread's storage, as the second half of its contract."""
        return self.storage

    def _immediate_storage(self) -> Storage:
        if self._memory is None:
            self._memory = open_storage("memory://", self.name)
        return self._memory

    def close(self) -> None:
        """Close this thread's storage object."""
        self.storages.close()

    # -- enqueueing --------------------------------------------------------------------------

    def entry(self, signature: Signature[Any], tick_ms: int | None = None) -> Entry:
        """Encode a call without enqueueing it."""
        return self.packer.pack(signature, tick_ms=tick_ms)

    @property
    def packer(self) -> Packer:
        self._packer.payload_bytes_max = self.limits.payload_bytes_max
        return self._packer

    def run_immediately(self) -> None:
        from taskqd.immediate import run_queued

        with self._immediate_lock:
            run_queued(self)

    # -- looking up ---------------------------------------------------------------------------

    def find_task(self, name: str) -> Task[Any, Any]:
        """Raises UnknownTask, with the names that are known."""
        task = self.registry.get(name)
        if task is None:
            known = ", ".join(sorted(self.registry)) or "none"
            raise UnknownTask(f"no task named {name!r} in app {self.name!r}; declared: {known}")
        return task
