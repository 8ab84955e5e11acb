"""taskqd runs Python functions in the background and does not lose them."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
"""True for type checkers: `typing` itself would be a fifth of what a probe costs."""

if TYPE_CHECKING:
    from typing import Any

    from taskqd.app import App
    from taskqd.client.result import Result
    from taskqd.client.result_group import ResultGroup
    from taskqd.client.task import Signature, Task
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
    from taskqd.execution.current_job import CurrentJob, current_job
    from taskqd.jobs.job import State
    from taskqd.periodic.cron import crontab, every
    from taskqd.periodic.manager import Agenda, PeriodicRow

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
    "Agenda": "taskqd.periodic.manager",
    "App": "taskqd.app",
    "BadArguments": "taskqd.errors",
    "CancelExecution": "taskqd.errors",
    "ConfigError": "taskqd.errors",
    "CurrentJob": "taskqd.execution.current_job",
    "DecodeError": "taskqd.errors",
    "EncodeError": "taskqd.errors",
    "JobCancelled": "taskqd.errors",
    "JobDead": "taskqd.errors",
    "JobInterrupted": "taskqd.errors",
    "OutcomeUnknown": "taskqd.errors",
    "PayloadTooLarge": "taskqd.errors",
    "PeriodicRow": "taskqd.periodic.manager",
    "QueueFull": "taskqd.errors",
    "Result": "taskqd.client.result",
    "ResultGroup": "taskqd.client.result_group",
    "ResultMissing": "taskqd.errors",
    "ResultTimeout": "taskqd.errors",
    "RetryTask": "taskqd.errors",
    "Signature": "taskqd.client.task",
    "State": "taskqd.jobs.job",
    "StorageError": "taskqd.errors",
    "StorageRefused": "taskqd.errors",
    "StorageUnavailable": "taskqd.errors",
    "Task": "taskqd.client.task",
    "TaskFailed": "taskqd.errors",
    "TaskLockedException": "taskqd.errors",
    "TaskTimeout": "taskqd.errors",
    "TaskqdError": "taskqd.errors",
    "crontab": "taskqd.periodic.cron",
    "current_job": "taskqd.execution.current_job",
    "every": "taskqd.periodic.cron",
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
