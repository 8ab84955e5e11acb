"""A chord under kills, in small.  `make chord-chaos` runs it with 10,000 members."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.chord_chaos import ChordChaos, markdown
from tests.support.servers.redis_server import available_servers


@pytest.mark.parametrize("storage", ["sqlite", "redis"])
def test_chord_completes_though_a_worker_is_killed_again_and_again(
    tmp_path: Path, storage: str
) -> None:
    if storage == "redis" and storage not in available_servers():
        pytest.fail("no server") if os.environ.get("CI") else pytest.skip("no redis server")
    report = ChordChaos(tmp_path, storage).run(600, every_s=0.3, workers=2, work_ms=4.0)
    print(markdown(report))
    assert report.broken == []
    assert report.kills >= 2
    assert report.gathered >= 1
    assert report.payload_bytes_max < 200
