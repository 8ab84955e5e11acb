"""The protocol of leases holds its laws in every interleaving, and the storages follow it."""

from __future__ import annotations

import pytest

from tests.property.explore import explore, traces
from tests.property.protocol import Faults, Rules
from tests.property.replay import Replay
from tests.support.servers.storages import Backend

PATHS = 125
SMALL = [
    Faults(1, 0, 0, 1),
    Faults(0, 1, 0, 0, 1),
    Faults(0, 0, 1, 0, 0),
    Faults(1, 0, 0, 0, 1),
]
"""`make model` looks at more faults at a time."""
NOTICED = {
    "fences": Faults(0, 1, 1, 0),
    "receipts": Faults(1, 1, 0, 0),
    "reconciles": Faults(1, 0, 0, 1),
    "recovers_unheard": Faults(0, 1, 0, 0),
    "buries_the_dead": Faults(0, 1, 0, 0),
    "known_ids": Faults(1, 0, 0, 0),
    "outlasts_outages": Faults(0, 0, 0, 0, 1),
    "takes_back": Faults(0, 0, 1, 0),
    "late_ends": Faults(0, 0, 1, 0),
}
"""Each rule, and the faults under which it is needed."""


@pytest.mark.parametrize("once", [(), (1,)], ids=str)
@pytest.mark.parametrize("faults", SMALL, ids=str)
def test_no_interleaving_of_these_faults_breaks_a_law(
    faults: Faults, once: tuple[int, ...]
) -> None:
    found = explore(Rules(), faults, once)
    assert found.broken == "", found.path
    assert found.states > 1000


@pytest.mark.parametrize("rule", Rules._fields)
def test_a_protocol_without_one_of_its_rules_breaks_a_law(rule: str) -> None:
    assert explore(Rules()._replace(**{rule: False}), NOTICED[rule]).broken


def test_a_storage_answers_as_the_protocol_predicts(backend: Backend) -> None:
    storage = backend.open(backend.namespace())
    paths = [
        *traces(Rules(), Faults(2, 1, 1, 2, 1), PATHS, seed=1),
        *traces(Rules(), Faults(2, 1, 1, 2, 1), PATHS, seed=2, once=(1,)),
    ]
    for path in paths:
        Replay(storage).run(path)
    assert {move.call for path in paths for move in path} >= CALLS
    storage.close()


CALLS = {
    "put", "lease", "settle", "settle_late", "interrupt", "release", "reconcile", "recover_worker",
    "expire", "outage", "recover", "heartbeat", "register",
}  # fmt: skip
