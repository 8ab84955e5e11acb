"""The kinds of workers are those that can be configured."""

from __future__ import annotations

from typing import get_args

from taskqd.settings import WorkerType
from taskqd.worker.slots import kinds


def test_every_type_of_worker_that_can_be_configured_is_there() -> None:
    assert {*get_args(WorkerType)} == {*kinds._KINDS}
