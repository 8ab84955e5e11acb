"""Signals and hooks: where a user's code listens to what happens to jobs and processes.

A handler or hook that raises is reported and harms nobody, except that a `pre_execute` hook may
raise CancelExecution.  Handlers run in the thread that the event happens in, so they may run at
the same time in several threads; registering is safe from any thread.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from taskqd.errors import CancelExecution, ConfigError

SIGNALS = (
    "enqueued scheduled executing complete error retrying locked rate-limited timeout canceled"
    " revoked expired interrupted dead orphaned requeued"
).split()
HOOKS = "on_startup on_shutdown pre_execute post_execute before_fork after_fork".split()

F = TypeVar("F", bound=Callable[..., Any])
Report = Callable[[str, str, BaseException], None]
"""(kind of callable, its name, what it raised)"""


def _print_report(kind: str, name: str, error: BaseException) -> None:
    """Where no log is set up (in the application), a failing handler shows on standard error."""
    traceback.print_exception(error)


class Listeners:
    """The handlers and hooks of one app."""

    def __init__(self) -> None:
        self.handlers: dict[str, tuple[Callable[..., Any], ...]] = {}
        self._hooks: dict[str, dict[str, Callable[..., Any]]] = {name: {} for name in HOOKS}
        self.report: Report = _print_report

    def connect(self, receiver: Callable[..., Any], names: tuple[str, ...]) -> None:
        """`names` empty: all signals."""
        for name in names or tuple(SIGNALS):
            if name not in SIGNALS:
                raise ConfigError(f"unknown signal {name!r}; known: {', '.join(SIGNALS)}")
            self.handlers[name] = (*self.handlers.get(name, ()), receiver)

    def disconnect(self, receiver: Callable[..., Any], names: tuple[str, ...] = ()) -> None:
        for name in names or tuple(SIGNALS):
            kept = tuple(h for h in self.handlers.get(name, ()) if h is not receiver)
            if kept:
                self.handlers[name] = kept
            else:
                self.handlers.pop(name, None)

    def tell(self, signal: str, job: Any, exc: BaseException | None = None) -> None:
        """Tell every handler of `signal`.  Never raises (but lets SystemExit of nobody pass)."""
        for handler in self.handlers.get(signal, ()):
            try:
                handler(signal, job, exc)
            except (Exception, SystemExit) as error:
                self.report("signal handler", _name(handler), error)

    def add_hook(self, hook: str, function: Callable[..., Any], name: str | None = None) -> None:
        self._hooks[hook][name or _name(function)] = function

    def remove_hook(self, hook: str, name_or_function: Any) -> bool:
        name = name_or_function if isinstance(name_or_function, str) else _name(name_or_function)
        return self._hooks[hook].pop(name, None) is not None

    def has_hooks(self, hook: str) -> bool:
        return bool(self._hooks[hook])

    def run_hooks(self, hook: str, *args: Any) -> None:
        """Run the hooks in the order they were added.  CancelExecution of `pre_execute` passes."""
        hooks = self._hooks[hook]
        if not hooks:
            return
        for name, function in list(hooks.items()):
            try:
                function(*args)
            except CancelExecution:
                if hook == "pre_execute":
                    raise
                self.report("hook", f"{hook}:{name}", CancelExecution(f"raised in {hook}"))
            except Exception as error:
                self.report("hook", f"{hook}:{name}", error)


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
        """Run the function in each worker once it has booted, before its first job."""
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


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
