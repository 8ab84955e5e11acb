"""The metrics of the daemon can be read by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from taskqd.supervisor.endpoints import metrics
from taskqd.supervisor.state.observation import Observation
from tests.support.rigs.contexts import context_of
from tests.support.rigs.fleets import fleet_of


def test_every_sample_has_a_help_a_type_and_its_value() -> None:
    context = context_of(fleet_of(2))
    context.totals.jobs["done"] = 3
    context.totals.deaths["oom"] = 1
    context.totals.fenced = 2
    first, second = context.fleet.living_workers()
    context.fleet.observations |= {
        first.worker_id: Observation(0.0, [], (), settling=3, fenced=1),
        second.worker_id: Observation(0.0, [], (), settling=1),
    }
    families = {f.name: f for f in text_string_to_metric_families(metrics.text(context))}
    assert all(family.documentation and family.type != "unknown" for family in families.values())
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert found["taskqd_workers_ready",] == 2
    assert found["taskqd_uptime_seconds",] == 60
    assert found["taskqd_jobs_total", "done"] == 3
    assert found["taskqd_children_died_total", "oom"] == 1
    assert found["taskqd_jobs_settling",] == 4
    assert found["taskqd_jobs_fenced_total",] == 3
