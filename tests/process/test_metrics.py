"""/metrics of a real daemon, read by Prometheus' own parser."""

from __future__ import annotations

import os
import signal
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.support.apps import shop as tasks
from tests.support.rigs.shop_daemon import Shop
from tests.support.waiting import HANG_S, wait_until


def _read(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANG_S) as page:
        text = page.read().decode()
    return {
        "".join([sample.name, *(f" {value}" for value in sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_read_by_prometheus_own_parser(shop: Shop) -> None:
    with shop.open(health={"bind": "127.0.0.1:0"}) as daemon:
        port = daemon.health_port()
        before = _read(port)
        assert (before["taskqd_workers_wanted"], before["taskqd_workers_ready"]) == (2, 2)
        assert before["taskqd_storage_up"] == 1
        tasks.hold(1)
        os.kill(shop.begun(1)[0], signal.SIGKILL)
        assert [tasks.quick(n).get(timeout=HANG_S) for n in range(5)] == list(range(5))
        wait_until(lambda: _read(port)["taskqd_jobs_orphaned_total"] == 1, what="the orphan")
        after = _read(port)
        assert sum(n for name, n in after.items() if name.startswith("taskqd_children_died")) == 1
        assert after["taskqd_children_spawned_total"] == before["taskqd_children_spawned_total"] + 1
        assert daemon.stop() == 0
