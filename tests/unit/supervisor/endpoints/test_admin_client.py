"""The client of the admin socket finds the daemon, and needs the standard library only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd.supervisor.endpoints import admin, admin_client
from tests.support.rigs.daemon import ROOT
from tests.support.rigs.serving_loop import ServingLoop, echo, serving_loop


@pytest.fixture
def loop() -> Iterator[ServingLoop]:
    with serving_loop() as loop:
        yield loop


def test_the_only_daemon_is_found_by_itself_and_a_dead_one_does_not_count(
    loop: ServingLoop,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(
        admin_client,
        "socket_paths",
        lambda instance: [f"{tmp_path}/{instance}.sock"],
    )
    with pytest.raises(FileNotFoundError, match="no daemon runs here"):
        admin_client.only_instance()
    admin.listen(f"{tmp_path}/dead.sock").close()
    loop.serve(admin.listen(f"{tmp_path}/shop.sock"), admin.converse(echo))
    assert admin_client.only_instance() == "shop"


def test_a_daemon_that_runs_as_a_service_was_not_found_without_its_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(admin_client, "RUN", str(tmp_path))
    monkeypatch.setattr(admin_client, "socket_paths", lambda name: [f"{tmp_path}/own/{name}.sock"])
    with admin.listen(f"{tmp_path}/taskqd-shop/shop.sock"):
        assert admin_client.only_instance() == "shop"
        with admin.listen(f"{tmp_path}/own/mine.sock"):
            with pytest.raises(OSError, match="several daemons run here: mine, shop; say --name"):
                admin_client.only_instance()
            # Inside of its unit or pod, the daemon beside us is meant.
            monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/taskqd-shop")
            assert admin_client.only_instance() == "shop"


def test_the_client_takes_only_the_standard_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import taskqd.supervisor.endpoints.admin_client; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names) - {'taskqd'}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert ran.stdout.strip() == "[]", ran.stderr
