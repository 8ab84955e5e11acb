"""Signals and hooks: where a user's code listens to what happens to jobs and processes.

A handler or hook that raises is reported and harms nobody, except that a `pre_execute` hook may
raise CancelExecution, and that a process does not boot whose `before_fork`, `after_fork` or
`on_startup` hook raises.

Handlers run in the thread that the event happens in, so they may run at the same time in several
threads; registering is safe from any thread, and an event under way does not notice it.  What
happens in a thread that must not wait (a stopping worker, the scheduler) is told by a thread of its
own, in order.  A handler that takes long delays its own job only, and is reported.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from queue import Empty, Full, Queue
from typing import Any, Protocol, TypeVar

from taskqd.clock import monotonic_s
from taskqd.errors import CancelExecution, ConfigError, HookFailed
from taskqd.jobs.exception_text import describe

SIGNALS = (
    "enqueued scheduled executing complete error retrying locked rate-limited timeout canceled"
    " revoked expired interrupted dead orphaned requeued"
).split()
HOOKS = "on_startup on_shutdown pre_execute post_execute before_fork after_fork".split()

F = TypeVar("F", bound=Callable[..., Any])
Report = Callable[[str, str, BaseException], None]
"""(kind of callable, its name, what it raised)"""


SLOW_S = 1.0
"""A handler or hook that takes longer is reported."""
ASIDE_MAX = 10_000
"""Events that wait to be told aside; more are dropped, and that is reported."""
_IDLE_S = 10.0


def _print_report(kind: str, name: str, error: BaseException) -> None:
    """Where no log is set up (in the application), a failing handler shows on standard error."""
    traceback.print_exception(error)


class TellsAside(Protocol):
    """Makes calls in order, in some thread that may wait."""

    def put(self, call: Callable[[], None]) -> bool:
        """False: too many wait already."""
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait until all are made, or the time is over."""
        ...


class Aside:
    """A thread that runs calls in order; it comes with the first one and goes when idle.

    After a fork the child begins with a new one: a thread does not live through it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Queue[Callable[[], None]] = Queue(ASIDE_MAX)
        self._thread: threading.Thread | None = None

    def put(self, call: Callable[[], None]) -> bool:
        """False: too many wait already."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._calls = Queue(ASIDE_MAX)
                args = (self._calls,)
                self._thread = threading.Thread(
                    target=self._run, args=args, name="listeners", daemon=True
                )
                self._thread.start()
            try:
                self._calls.put_nowait(call)
            except Full:
                return False
            return True

    def _run(self, calls: Queue[Callable[[], None]]) -> None:
        while True:
            try:
                call = calls.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if calls.empty():
                        self._thread = None
                        return
                continue
            call()
            calls.task_done()

    def flush(self, timeout_s: float) -> None:
        """Wait until all is told, or the time is over."""
        calls, deadline = self._calls, monotonic_s() + timeout_s
        with calls.all_tasks_done:
            while calls.unfinished_tasks and (left := deadline - monotonic_s()) > 0:
                calls.all_tasks_done.wait(left)


class Listeners:
    """The handlers and hooks of one app."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.aside: TellsAside = Aside()
        """A kind of worker may put its own in place."""
        self.handlers: dict[str, tuple[Callable[..., Any], ...]] = {}
        self._hooks: dict[str, dict[str, Callable[..., Any]]] = {name: {} for name in HOOKS}
        self.report: Report = _print_report
        self.report_slow: Callable[[str, str, float], None] = lambda kind, name, took_s: None

    def connect(self, receiver: Callable[..., Any], names: tuple[str, ...]) -> None:
        """`names` empty: all signals."""
        for name in names:
            if name not in SIGNALS:
                raise ConfigError(f"unknown signal {name!r}; known: {', '.join(SIGNALS)}")
        with self._lock:
            for name in names or SIGNALS:
                self.handlers[name] = (*self.handlers.get(name, ()), receiver)

    def disconnect(self, receiver: Callable[..., Any], names: tuple[str, ...] = ()) -> None:
        with self._lock:
            for name in names or SIGNALS:
                kept = tuple(h for h in self.handlers.get(name, ()) if h is not receiver)
                if kept:
                    self.handlers[name] = kept
                else:
                    self.handlers.pop(name, None)

    def tell(self, signal: str, job: Any, exc: BaseException | None = None) -> None:
        """Call every handler of `signal`.  One that raises is reported, even a SystemExit."""
        for handler in self.handlers.get(signal, ()):
            started_s = monotonic_s()
            try:
                handler(signal, job, exc)
            except (Exception, SystemExit) as error:
                self.report("signal handler", _name(handler), error)
            self._timed("signal handler", _name(handler), started_s)

    def tell_aside(self, signal: str, job: Any) -> None:
        """As `tell`, without waiting for the handlers."""
        if signal in self.handlers and not self.aside.put(lambda: self.tell(signal, job)):
            error = RuntimeError(f"{ASIDE_MAX} events wait to be told; {signal!r} was dropped")
            self.report("signal handler", "aside", error)

    def flush(self, timeout_s: float) -> None:
        """Wait until what is told aside has been told, or the time is over."""
        self.aside.flush(timeout_s)

    def _timed(self, kind: str, name: str, started_s: float) -> None:
        took_s = monotonic_s() - started_s
        if took_s > SLOW_S:
            self.report_slow(kind, name, took_s)

    def add_hook(self, hook: str, function: Callable[..., Any], name: str | None = None) -> None:
        self._hooks[hook][name or _name(function)] = function

    def hooks(self, hook: str) -> Mapping[str, Callable[..., Any]]:
        """Return the hooks by name: a view that later ones appear in."""
        return self._hooks[hook]

    def run_hooks(self, hook: str, *args: Any) -> None:
        """Run the hooks in the order they were added.  CancelExecution of `pre_execute` passes."""
        hooks = self._hooks[hook]
        if not hooks:
            return
        for name, function in list(hooks.items()):
            started_s = monotonic_s()
            try:
                function(*args)
            except CancelExecution:
                if hook == "pre_execute":
                    raise
                self.report("hook", f"{hook}:{name}", CancelExecution(f"raised in {hook}"))
            except Exception as error:
                self.report("hook", f"{hook}:{name}", error)
            self._timed("hook", f"{hook}:{name}", started_s)

    def run_vital_hooks(self, hook: str) -> None:
        """Run hooks without which the process must not go on.  Raises HookFailed."""
        for name, function in list(self._hooks[hook].items()):
            try:
                function()
            except (Exception, SystemExit) as error:
                self.report("hook", f"{hook}:{name}", error)
                raise HookFailed(hook, f"{name} raised {describe(error)}") from error


class Listening:
    """The part of an app that registers handlers and hooks."""

    listeners: Listeners

    def signal(self, *names: str) -> Callable[[F], F]:
        """Register a handler `(signal, job, exc=None)` for these signals (none given: for all)."""

        def connect(receiver: F) -> F:
            self.listeners.connect(receiver, names)
            return receiver

        return connect

    def disconnect_signal(self, receiver: Callable[..., Any], *names: str) -> None:
        self.listeners.disconnect(receiver, names)

    def _hook(self, hook: str, name: str | None) -> Callable[[F], F]:
        def add(function: F) -> F:
            self.listeners.add_hook(hook, function, name)
            return function

        return add

    def on_startup(self, name: str | None = None) -> Callable[[F], F]:
        """Run the function in each worker once it has booted, before its first job.

        Where it raises, the worker does not boot.
        """
        return self._hook("on_startup", name)

    def on_shutdown(self, name: str | None = None) -> Callable[[F], F]:
        """Run the function in each worker after its last job."""
        return self._hook("on_shutdown", name)

    def pre_execute(self, name: str | None = None) -> Callable[[F], F]:
        """Run the function before each job; it may raise CancelExecution."""
        return self._hook("pre_execute", name)

    def post_execute(self, name: str | None = None) -> Callable[[F], F]:
        """Run the function after each job with (job, value, exception)."""
        return self._hook("post_execute", name)

    def before_fork(self, name: str | None = None) -> Callable[[F], F]:
        """Run the function in the zygote once, before it forks: close what a fork would break."""
        return self._hook("before_fork", name)

    def after_fork(self, name: str | None = None) -> Callable[[F], F]:
        """Run the function in each new worker: open connections here."""
        return self._hook("after_fork", name)

    def run_hooks(self, hook: str, *args: Any) -> None:
        self.listeners.run_hooks(hook, *args)

    def run_vital_hooks(self, hook: str) -> None:
        self.listeners.run_vital_hooks(hook)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
