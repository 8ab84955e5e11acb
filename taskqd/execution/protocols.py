"""What running a job needs of an app, of a task and of the job, so that `execute` does not know `App`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from taskqd.client.packing import Packer
from taskqd.clock import StorageClock
from taskqd.crypto.sealing import Sealer
from taskqd.crypto.signing import Signer
from taskqd.jobs.codec import CallCodec
from taskqd.jobs.job import Marks
from taskqd.jobs.options import TaskOptions
from taskqd.listeners import Listeners
from taskqd.storage.base import Storage
from taskqd.storage.features import Features


class TaskLike(Protocol):
    @property
    def function(self) -> Callable[..., Any]: ...

    @property
    def settings(self) -> TaskOptions: ...

    @property
    def is_async(self) -> bool: ...

    @property
    def gated(self) -> bool:
        """It has a lock, a limit or a rate: its jobs pass `taskqd.execution.gates` first."""
        ...

    @property
    def codec(self) -> CallCodec: ...


class AppLike(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def signer(self) -> Signer | None: ...

    @property
    def sealer(self) -> Sealer | None:
        """How values are kept that are not plain JSON; None: they all are."""
        ...

    @property
    def registry(self) -> Mapping[str, TaskLike]: ...

    @property
    def listeners(self) -> Listeners: ...

    @property
    def result_ttl(self) -> int: ...

    @property
    def zone(self) -> tzinfo: ...

    @property
    def packer(self) -> Packer: ...

    @property
    def clock(self) -> StorageClock:
        """The storage's clock; running a job only estimates it, its worker keeps it fresh."""
        ...

    @property
    def storage(self) -> Storage:
        """The calling thread's storage."""
        ...

    @property
    def features(self) -> Features:
        """The calling thread's storage."""
        ...


class JobView(NamedTuple):
    """What signal handlers get of a job that is not running here."""

    id: str
    task: str
    """"" where only its record tells (a job taken back from a dead worker)."""
    queue: str
    marks: Marks
    reason: str = ""
    """Of "requeued" and "scheduled": why."""
    headers: Mapping[str, str] = MappingProxyType({})
    """{} where only its record tells."""
