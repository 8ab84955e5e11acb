"""The endpoints of the master: opened as configured, moved where they may, gone at the end."""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd.errors import ConfigError
from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.endpoints import health
from taskqd.supervisor.endpoints.server import Endpoints
from tests.support.rigs.contexts import context_of
from tests.support.rigs.fleets import fleet_of
from tests.support.rigs.serving_loop import echo


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


def endpoints_of(
    context: MasterContext, selector: selectors.BaseSelector, *, may_move: bool
) -> Endpoints:
    return Endpoints(context, selector, echo, may_move=may_move)


def test_without_an_address_there_is_no_health_endpoint(selector: selectors.BaseSelector) -> None:
    context = context_of(fleet_of())
    endpoints_of(context, selector, may_move=True).open_health()
    assert context.health_address == ""
    assert not selector.get_map()


def test_health_moves_from_a_port_in_use_only_where_nobody_chose_it(
    selector: selectors.BaseSelector,
) -> None:
    with health.listen("127.0.0.1:0") as taken:
        bind = health.address_of(taken)
        context = context_of(fleet_of(), bind)
        with pytest.raises(ConfigError, match="in use"):
            endpoints_of(context, selector, may_move=False).open_health()
        endpoints = endpoints_of(context, selector, may_move=True)
        endpoints.open_health()
        assert context.health_address not in ("", bind)
        assert context.log.events == [
            (events.HEALTH_MOVED, {"wanted": bind, "address": context.health_address})
        ]
        endpoints.close()


def test_the_admin_socket_is_opened_once_and_gone_at_the_end(
    selector: selectors.BaseSelector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    context = context_of(fleet_of())
    endpoints = endpoints_of(context, selector, may_move=True)
    endpoints.open_admin()
    endpoints.open_admin()
    assert context.admin_path == f"{tmp_path}/shop.sock"
    assert len(selector.get_map()) == 1
    endpoints.close()
    assert list(tmp_path.iterdir()) == []
    assert not selector.get_map()
