"""Every error that taskqd raises, in one tree.

The sentence under each class is what happened; the message of an instance adds where, the value,
what was expected and the remedy.
"""

from __future__ import annotations

NO_GEVENT = (
    'workers.type = "greenlet": gevent is not installed; install the extra: '
    "pip install 'taskqd[gevent]'"
)


class TaskqdError(Exception):
    """Base of all errors raised by taskqd."""


# -- declaring and calling ---------------------------------------------------------------------


class ConfigError(TaskqdError):
    """The configuration, a URL or an option is not valid."""


class BadArguments(TaskqdError, TypeError):
    """The arguments do not fit the task's signature or annotations; nothing was enqueued."""


class EncodeError(TaskqdError, TypeError):
    """A value cannot be encoded."""


class DecodeError(TaskqdError, ValueError):
    """Bytes from the storage are not what was written there."""


class SignatureError(DecodeError):
    """A payload is unsigned, or signed with a key that is not among the app's keys."""


class SealError(DecodeError):
    """An encrypted or pickled value was changed, is of an unknown key, or is not kept in this way."""


class PayloadTooLarge(TaskqdError, ValueError):
    """An encoded job or result is over its limit."""


class UnknownTask(TaskqdError, LookupError):
    """No task of that name is declared."""


# -- storages ----------------------------------------------------------------------------------


class StorageError(TaskqdError):
    """The storage could not do what was asked."""


class StorageUnavailable(StorageError):
    """The storage cannot be reached or is not serving now; trying again may help."""


class StorageRefused(StorageError):
    """The storage answers, and refuses (password, permissions, version, evicting policy)."""


class StorageCorrupt(StorageError):
    """The storage is not a taskqd storage, or is damaged; it was left untouched."""


class OutcomeUnknown(StorageUnavailable):
    """The connection broke after a write was sent; repeating it under the same id is safe."""


class QueueFull(StorageError):
    """The storage has no room for new jobs; those it holds can still run."""


class NodeExpired(StorageError):
    """The node's lease ran out; its jobs were recovered and its late answers are refused."""


# -- waiting for a result ----------------------------------------------------------------------


class ResultTimeout(TaskqdError, TimeoutError):
    """The job has not ended within the time given; it goes on."""


class ResultMissing(TaskqdError, LookupError):
    """No job of that id is known: it never was, or its result's lifetime is over."""


class JobEnded(TaskqdError):
    """The job ended without a value."""


class TaskFailed(JobEnded):
    """The task raised, and no retry is left."""

    def __init__(self, message: str, *, type_name: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        """Qualified name of the exception's class, as text: it is never imported."""
        self.traceback = traceback
        """The traceback of the worker, as text."""


class JobDead(JobEnded):
    """The job was given up without its task having raised (poisoned, unknown, undecodable, ...)."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason


class JobCancelled(JobEnded):
    """The job was cancelled, revoked or skipped."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "cancelled")
        self.reason = reason


# -- raised inside a task ----------------------------------------------------------------------


class RetryTask(TaskqdError):
    """Raise inside a task to run it again later; costs no failure."""

    def __init__(
        self, message: str = "", *, delay: float | None = None, eta: object | None = None
    ) -> None:
        super().__init__(message)
        self.delay = delay
        """Seconds from now."""
        self.eta = eta
        """A datetime (aware, or naive in the app's time zone) or a Unix time in seconds."""


class CancelExecution(TaskqdError):
    """Raise inside a task, or a `pre_execute` hook, to end the job as cancelled."""


class TaskLockedException(TaskqdError):
    """The lock is held by someone else."""


class TaskTimeout(TaskqdError):
    """The task ran longer than its `soft_timeout` or `timeout`."""


class HookFailed(TaskqdError):
    """A hook raised without which its process must not go on."""

    def __init__(self, hook: str, message: str) -> None:
        super().__init__(message)
        self.hook = hook


class JobInterrupted(BaseException):
    """The job's worker is stopping; the job goes back to its queue.

    A BaseException, so that `except Exception` in a task does not swallow it.
    """
