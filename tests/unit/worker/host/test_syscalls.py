"""Processes that the worker's wing makes."""

from __future__ import annotations

import os

import pytest

from taskqd.worker.host import syscalls


def test_a_fork_that_the_kernel_refuses_is_an_error_and_no_second_zygote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(syscalls, "fork", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(syscalls.ForkError, match="temporarily unavailable"):
        syscalls.double_fork()
    assert len(os.listdir("/proc/self/fd")) == descriptors
