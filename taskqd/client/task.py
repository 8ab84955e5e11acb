"""Task: a declared function.  Calling it enqueues a job."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from taskqd.client.result import Result
from taskqd.client.result_group import ResultGroup
from taskqd.errors import ConfigError
from taskqd.jobs import key_templates as templates
from taskqd.jobs.codec import CallCodec
from taskqd.jobs.options import TaskOptions, check_call_options

P = ParamSpec("P")
R = TypeVar("R")


class Signature(Generic[R]):
    """A call that has not been made: a task, its arguments and the options of this call."""

    __slots__ = ("args", "handler", "kwargs", "options", "partial", "stages", "task")

    def __init__(
        self,
        task: Task[Any, R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        partial: bool = False,
    ) -> None:
        self.task = task
        self.partial = partial
        """Its first arguments are not known yet: they come from the stage before."""
        self.stages: tuple[Signature[Any], ...] = ()
        """What follows it in a pipeline."""
        self.handler: Signature[Any] | None = None
        """What is enqueued when the pipeline ends without a value."""
        self.args = args if type(args) is tuple else _tuple_of(task, args)
        self.kwargs = dict(kwargs) if kwargs else {}
        self.options = dict(options) if options else {}
        if self.options:
            check_call_options(self.options)

    def __repr__(self) -> str:
        names = " -> ".join(s.task.name for s in (self, *self.stages))
        return f"<{names} signature>"

    def then(
        self, following: Task[Any, Any] | Signature[Any], *args: Any, **kwargs: Any
    ) -> Signature[Any]:
        """Return a pipeline that goes on with `following`, given this one's value.

        A tuple is spread over the next function's parameters, a dict becomes keyword arguments
        (for those not given here), None adds nothing, any other value is one more argument.
        """
        stage = _stage(following, args, kwargs)
        longer = self._copy()
        longer.stages = (*self.stages, stage, *stage.stages)
        return longer

    def error(
        self, handler: Task[Any, Any] | Signature[Any], *args: Any, **kwargs: Any
    ) -> Signature[R]:
        """Return the pipeline with a job that is enqueued, given the error as text, if it fails."""
        handled = self._copy()
        handled.handler = _stage(handler, args, kwargs)
        return handled

    def _copy(self) -> Signature[R]:
        twin: Signature[R] = Signature(
            self.task, self.args, self.kwargs, self.options, partial=self.partial
        )
        twin.stages, twin.handler = self.stages, self.handler
        return twin


def _stage(
    what: Task[Any, Any] | Signature[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Signature[Any]:
    if isinstance(what, Signature):
        stage = what._copy()
        stage.partial = True
        return stage
    return what.s_late(*args, **kwargs)


class TaskApp(Protocol):
    """What a task needs of its app."""

    def enqueue_signatures(self, signatures: Sequence[Signature[Any]]) -> list[Result[Any]]: ...

    async def aenqueue_signatures(
        self, signatures: Sequence[Signature[Any]]
    ) -> list[Result[Any]]: ...

    def revoke_all(
        self,
        task: Task[Any, Any],
        revoke_until: datetime | float | None = None,
        revoke_once: bool = False,
    ) -> None: ...

    def restore_all(self, task: Task[Any, Any]) -> bool: ...

    def is_revoked(self, task: Task[Any, Any]) -> bool: ...


class Task(Generic[P, R]):
    """A function that runs in the background.  Made by `@app.task`."""

    def __init__(
        self,
        app: TaskApp,
        function: Callable[P, R] | Callable[P, Awaitable[R]],
        name: str,
        options: TaskOptions,
    ) -> None:
        self.app = app
        self.function = function
        self.name = name
        self.settings = options
        self.gated = bool(options.lock or options.max_running or options.rate_limit)
        self.is_async = inspect.iscoroutinefunction(function)
        self.codec = CallCodec(function, name, context=options.context)
        templates.check(name, "lock", options.lock or "", self.codec.parameters)
        templates.check(name, "unique", options.unique or "", self.codec.parameters)
        functools.update_wrapper(cast("Callable[..., Any]", self), function)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Enqueue a job.  Raises BadArguments, EncodeError, PayloadTooLarge, QueueFull, StorageError."""
        return self._enqueue(Signature(self, args, kwargs))

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """Return the call without making it."""
        return Signature(self, args, kwargs)

    def s_late(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return a call whose first arguments come later, from a stage or a group before it."""
        return Signature(self, args, kwargs, partial=True)

    def schedule(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        delay: float | None = None,
        eta: object | None = None,
        **options: Any,
    ) -> Result[R]:
        """Enqueue a job for later: in `delay` seconds, or at `eta` (datetime, or Unix seconds)."""
        return self._enqueue(Signature(self, args, kwargs, {**options, "delay": delay, "eta": eta}))

    def options(self, **options: Any) -> BoundTask[P, R]:
        """Return this task with options for one call: `task.options(delay=5)(1, 2)`."""
        return BoundTask(self, options)

    def map(self, iterable: Iterable[Any]) -> ResultGroup[R]:
        """Enqueue one job for each item (a tuple is spread over the parameters), thousands at a time."""
        calls = [Signature(self, item if isinstance(item, tuple) else (item,)) for item in iterable]
        return ResultGroup(cast("list[Result[R]]", self.app.enqueue_signatures(calls)))

    def revoke(
        self, revoke_until: datetime | float | None = None, revoke_once: bool = False
    ) -> None:
        """Let no job of this task start, until `revoke_until` or `restore`."""
        self.app.revoke_all(self, revoke_until, revoke_once)

    def restore(self) -> bool:
        """Lift the revocation.  False: there is none."""
        return self.app.restore_all(self)

    def is_revoked(self) -> bool:
        return self.app.is_revoked(self)

    def call_local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, as if it were no task."""
        return cast("R", self.function(*args, **kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Enqueue a job without blocking the event loop."""
        results = await self.app.aenqueue_signatures([Signature(self, args, kwargs)])
        return results[0]

    def _enqueue(self, signature: Signature[R]) -> Result[R]:
        return cast("Result[R]", self.app.enqueue_signatures([signature])[0])


class BoundTask(Generic[P, R]):
    """A task with the options of one call, so that none of them can eat a function's parameter."""

    def __init__(self, task: Task[P, R], options: Mapping[str, Any]) -> None:
        self.task = task
        self._options = {k: v for k, v in options.items() if v is not None}
        check_call_options(self._options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        return cast("Result[R]", self.task.app.enqueue_signatures([self.s(*args, **kwargs)])[0])

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        return Signature(self.task, args, kwargs, self._options)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        results = await self.task.app.aenqueue_signatures([self.s(*args, **kwargs)])
        return results[0]


def module_name(function: Callable[..., Any]) -> str:
    """Return the module's importable name: a script that is run and imported has one name."""
    module = sys.modules.get("__main__")
    if function.__module__ != "__main__" or module is None:
        return function.__module__
    if module.__spec__ is not None:
        return module.__spec__.name
    path = getattr(module, "__file__", None)
    return Path(path).stem if path else "__main__"


def _tuple_of(task: Task[Any, Any], args: Any) -> tuple[Any, ...]:
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        raise ConfigError(f"{task.name}: args = {args!r}: expected a tuple, like (1, 2)")
    return tuple(args)
