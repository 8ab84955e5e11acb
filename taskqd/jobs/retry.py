"""When a failed job runs again.  Pure."""

from __future__ import annotations

from taskqd.jobs.options import TaskOptions

_DELAY_S_MAX = 365 * 86400.0


def retry_delay_s(options: TaskOptions, failures: int, random: float) -> float:
    """Return the seconds to wait after failure number `failures` (1 is the first).

    The delay grows by `retry_backoff` with each failure up to `retry_max_delay`.  Jitter takes
    up to half of it away (`random` in 0..1), so that jobs which failed together come back apart.
    """
    ceiling = min(max(options.retry_max_delay, options.retry_delay), _DELAY_S_MAX)
    try:
        delay = options.retry_delay * options.retry_backoff ** (failures - 1)
    except OverflowError:
        delay = ceiling
    delay = min(delay, ceiling)
    return delay * (1 - random / 2) if options.retry_jitter else delay


def may_retry(options: TaskOptions, failures: int, error: BaseException) -> bool:
    """Return whether a job that has failed `failures` times, this one included, runs again."""
    return failures <= options.retries and isinstance(error, options.retry_on)
