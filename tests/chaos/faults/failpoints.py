"""Failpoints: a named step before and after every call that a process makes to its storage.

They belong to the tests: an app whose class is `AppUnderFire` hands out its storages wrapped where
the environment says so, and plain ones otherwise.  No other app can be told to fail.

A step is named ``<who>.<call>.<before|after>``, where "after" is when the storage has done it and
the caller has not heard.  Who: ``desk`` (a worker's pump), ``worker`` (its slots: locks, rates,
notes), ``keeper``, ``chores`` and ``scheduler`` (the scheduler's parts), ``client`` (anybody else).  A turn is called by what it is for: ``lease``, ``exchange`` (outcomes and
a lease in one), ``hear``; either is ``requeue`` where it gives something back.  A bell's calls ``arm``, ``answer``, ``disarm``.

CHAOS_FAILPOINTS is either a list, ``desk.settle.before=kill:0.01,chores.*=error``, each rule with a
chance (1 if none is given), or the absolute path of a folder.  In the folder a file named as a step
holds an action; the first process that comes to the step renames it to ``<step>@<pid>`` and does it,
so it is done once.  A file ``seen`` there, if it exists, gets the name of each step when a process
first comes to it.

Actions: ``kill`` and ``stop`` (SIGKILL and SIGSTOP to itself), ``sleep=<seconds>``, ``error`` (the
storage is unavailable: before, nothing was done; after, the reply is lost).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from setproctitle import getproctitle

from taskqd import App
from taskqd.errors import OutcomeUnknown, StorageUnavailable
from taskqd.storage.base import Storage

ENV = "CHAOS_FAILPOINTS"
SEEN = "seen"
PLACES = {
    "worker": {"desk": "turn settle release holdings bell arm answer disarm queues nodes".split()},
    "scheduler": {"keeper": ["register", "heartbeat", "epoch"], "scheduler": ["ping", "retire"]},
}
"""Process -> who in it makes which calls."""
OTHERS = {"worker": "worker", "scheduler": "chores"}
"""... and who makes all others."""
BACK = {"requeue", "retry"}
UNWRAPPED = {"close", "jobs", "leftovers"}
"""They end a process's use of its storage, or are read page by page by people."""


class AppUnderFire(App):
    """An app whose storages fail as $CHAOS_FAILPOINTS says."""

    def open_storage(self, url: str | None = None, **options: Any) -> Storage:
        storage = super().open_storage(url, **options)
        spec = os.environ.get(ENV)
        return Faulty(storage, Failpoints(spec)) if spec else storage  # type: ignore[return-value]


class Failpoints:
    def __init__(self, spec: str) -> None:
        self._folder = Path(spec) if spec.startswith("/") else None
        self._rules = [] if self._folder else [_rule(text) for text in spec.split(",")]
        self._seen: set[str] = set()

    def hit(self, step: str) -> None:
        """Do what is asked for at this step."""
        if self._folder is not None:
            self._tell(step)
            _do(_claim(self._folder, step), step)
        for pattern, action, chance in self._rules:
            if fnmatchcase(step, pattern) and random.random() < chance:
                _do(action, step)

    def _tell(self, step: str) -> None:
        if step in self._seen:
            return
        self._seen.add(step)
        assert self._folder is not None
        try:
            fd = os.open(self._folder / SEEN, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return
        os.write(fd, f"{step}\n".encode())
        os.close(fd)


def _rule(text: str) -> tuple[str, str, float]:
    step, equals, what = text.strip().partition("=")
    action, _, chance = what.partition(":")
    if not equals or not _is_action(action):
        raise ValueError(f"{ENV}: {text!r}: expected STEP=ACTION or STEP=ACTION:CHANCE")
    return step, action, float(chance or 1)


def _is_action(action: str) -> bool:
    return action in ("kill", "stop", "error") or action.startswith("sleep=")


def _claim(folder: Path, step: str) -> str:
    """Return the action that waits at this step, "" if none does (any more)."""
    path = folder / step
    try:
        action = path.read_text()
        path.rename(folder / f"{step}@{os.getpid()}")
    except FileNotFoundError:
        return ""
    return action


def _do(action: str, step: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "error" and step.endswith(".enqueue.after"):
        raise OutcomeUnknown(f"failpoint {step}")
    elif action == "error":
        raise StorageUnavailable(f"failpoint {step}")
    elif action:
        time.sleep(float(action.removeprefix("sleep=")))


def who(method: str) -> str:
    """Return who makes this call, by the title of the process."""
    title = getproctitle()
    for process, places in PLACES.items():
        if title.startswith(f"taskqd: {process}"):
            found = (place for place, methods in places.items() if method in methods)
            return next(found, OTHERS[process])
    return "client"


def call_name(method: str, args: tuple[Any, ...]) -> str:
    """Return what a call is for."""
    if method not in ("turn", "settle"):
        return method
    if any(outcome.kind in BACK for outcome in args[1]):
        return "requeue"
    if method == "settle":
        return method
    return "exchange" if args[1] else "lease" if args[3] else "hear"


class Faulty:
    """A storage, or a bell, with a step before and after each call."""

    def __init__(self, inner: Any, points: Failpoints) -> None:
        self._inner = inner
        self._points = points

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name.startswith("_") or name in UNWRAPPED:
            return found
        if name == "fileno":
            return found
        if name in ("bell", "timer_bell"):
            return lambda *args: Faulty(found(*args), self._points)
        return self._stepping(name, found)

    def _stepping(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            at = f"{who(name)}.{call_name(name, args)}"
            self._points.hit(f"{at}.before")
            result = call(*args, **options)
            self._points.hit(f"{at}.after")
            return result

        return step


__all__ = ["ENV", "SEEN", "AppUnderFire", "Failpoints", "Faulty"]
