"""Ids are made without a server."""

from __future__ import annotations

from taskqd.ids import bucket, new_id
from taskqd.jobs.job import (
    ID_PATTERN,
)


def test_ids_are_unique_and_neighbours_share_a_bucket() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(ID_PATTERN.fullmatch(i) for i in ids)
    assert len({bucket(i)[0] for i in ids}) <= 64
