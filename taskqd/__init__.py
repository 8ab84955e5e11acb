"""taskqd runs Python functions in the background and does not lose them."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
"""True for type checkers: `typing` itself would be a fifth of what a probe costs."""

if TYPE_CHECKING:
    from typing import Any

    from taskqd.agenda import Agenda, PeriodicRow
    from taskqd.app import App
    from taskqd.cron import crontab, every
    from taskqd.current import CurrentJob, current_job
    from taskqd.errors import (
        BadArguments,
        CancelExecution,
        ConfigError,
        DecodeError,
        EncodeError,
        JobCancelled,
        JobDead,
        JobInterrupted,
        OutcomeUnknown,
        PayloadTooLarge,
        QueueFull,
        ResultMissing,
        ResultTimeout,
        RetryTask,
        StorageError,
        StorageRefused,
        StorageUnavailable,
        TaskFailed,
        TaskLockedException,
        TaskqdError,
        TaskTimeout,
    )
    from taskqd.job import State
    from taskqd.result import Result
    from taskqd.results import ResultGroup
    from taskqd.task import Signature, Task

__version__ = "0.1.0"

__all__ = [
    "Agenda",
    "App",
    "BadArguments",
    "CancelExecution",
    "ConfigError",
    "CurrentJob",
    "DecodeError",
    "EncodeError",
    "JobCancelled",
    "JobDead",
    "JobInterrupted",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PeriodicRow",
    "QueueFull",
    "Result",
    "ResultGroup",
    "ResultMissing",
    "ResultTimeout",
    "RetryTask",
    "Signature",
    "State",
    "StorageError",
    "StorageRefused",
    "StorageUnavailable",
    "Task",
    "TaskFailed",
    "TaskLockedException",
    "TaskTimeout",
    "TaskqdError",
    "crontab",
    "current_job",
    "every",
]

# The names are loaded at first use: the master imports parts of this package, and must stay small.
_HOMES = {
    "Agenda": "taskqd.agenda",
    "App": "taskqd.app",
    "BadArguments": "taskqd.errors",
    "CancelExecution": "taskqd.errors",
    "ConfigError": "taskqd.errors",
    "CurrentJob": "taskqd.current",
    "DecodeError": "taskqd.errors",
    "EncodeError": "taskqd.errors",
    "JobCancelled": "taskqd.errors",
    "JobDead": "taskqd.errors",
    "JobInterrupted": "taskqd.errors",
    "OutcomeUnknown": "taskqd.errors",
    "PayloadTooLarge": "taskqd.errors",
    "PeriodicRow": "taskqd.agenda",
    "QueueFull": "taskqd.errors",
    "Result": "taskqd.result",
    "ResultGroup": "taskqd.results",
    "ResultMissing": "taskqd.errors",
    "ResultTimeout": "taskqd.errors",
    "RetryTask": "taskqd.errors",
    "Signature": "taskqd.task",
    "State": "taskqd.job",
    "StorageError": "taskqd.errors",
    "StorageRefused": "taskqd.errors",
    "StorageUnavailable": "taskqd.errors",
    "Task": "taskqd.task",
    "TaskFailed": "taskqd.errors",
    "TaskLockedException": "taskqd.errors",
    "TaskTimeout": "taskqd.errors",
    "TaskqdError": "taskqd.errors",
    "crontab": "taskqd.cron",
    "current_job": "taskqd.current",
    "every": "taskqd.cron",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
