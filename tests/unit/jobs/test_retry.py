from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.jobs.options import TaskOptions
from taskqd.jobs.retry import may_retry, retry_delay_s


def test_delay_grows_by_the_backoff_and_stops_at_its_cap() -> None:
    options = TaskOptions(
        retries=9, retry_delay=2, retry_backoff=3, retry_max_delay=50, retry_jitter=False
    )
    assert [retry_delay_s(options, n, 0.5) for n in range(1, 5)] == [2, 6, 18, 50]


def test_jitter_takes_away_up_to_half() -> None:
    options = TaskOptions(retry_delay=10)
    assert retry_delay_s(options, 1, 0.0) == 10
    assert retry_delay_s(options, 1, 1.0) == 5


def test_delay_above_the_cap_is_kept_where_the_user_asked_for_it() -> None:
    options = TaskOptions(retry_delay=7200, retry_jitter=False)
    assert retry_delay_s(options, 1, 0) == 7200


@given(
    st.floats(0, 1e9),
    st.floats(0.01, 1e6),
    st.floats(0, 1e9),
    st.integers(1, 10_000),
    st.floats(0, 1),
)
def test_delay_is_never_negative_nor_endless(
    delay: float, backoff: float, cap: float, failures: int, random: float
) -> None:
    options = TaskOptions(retry_delay=delay, retry_backoff=backoff, retry_max_delay=cap)
    assert 0 <= retry_delay_s(options, failures, random) <= 365 * 86400


@pytest.mark.parametrize(("failures", "expected"), [(1, True), (2, True), (3, False)])
def test_retries_count_failures_beyond_the_first_run(failures: int, expected: bool) -> None:
    assert may_retry(TaskOptions(retries=2), failures, ValueError()) is expected


def test_only_the_exceptions_of_retry_on_are_retried() -> None:
    options = TaskOptions(retries=5, retry_on=(OSError, KeyError))
    assert may_retry(options, 1, FileNotFoundError())
    assert not may_retry(options, 1, ValueError())
    assert not may_retry(TaskOptions(retries=5), 1, SystemExit())
